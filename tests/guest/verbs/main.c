/*
 * The guest's side of the tests: a line of words comes in on a virtio port, one line goes out, which begins with `ok` or
 * with `error`. All arguments are numbers. When nobody is at the other end any more, the machine is switched off.
 *
 *   mtu BYTES                                         of the interface
 *   open                                              ok QPN RKEY ADDRESS BYTES
 *   connect MTU QPN PSN OWN_PSN ADDRESS TIMEOUT RETRIES RNR_RETRIES RNR_TIMER DEPTH
 *   window OFFSET LEN ACCESS                          ok RKEY, of a second region over the same memory
 *   fill OFFSET LEN SEED, hash OFFSET LEN             of the memory; ok HASH
 *   read|write|write_imm|send|send_imm|fetch_add|cmp_swap ID OFFSET LEN ADDRESS RKEY A B
 *   receive ID OFFSET LEN
 *   poll COUNT MILLISECONDS                           ok ID:KIND:STATUS:BYTES:IMMEDIATE...
 *   close
 */
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORDS = 12, LINE = 64 << 10 };

static const char *interface;

/* Asks the kernel about the interface, or tells it something. */
static int interface_control(unsigned long what, struct ifreq *request) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  snprintf(request->ifr_name, sizeof request->ifr_name, "%s", interface);
  int result = ioctl(fd, what, request);
  close(fd);
  return result;
}

static const struct {
  const char *name;
  enum ibv_wr_opcode opcode;
} requests[] = {
    {"read", IBV_WR_RDMA_READ},
    {"write", IBV_WR_RDMA_WRITE},
    {"write_imm", IBV_WR_RDMA_WRITE_WITH_IMM},
    {"send", IBV_WR_SEND},
    {"send_imm", IBV_WR_SEND_WITH_IMM},
    {"fetch_add", IBV_WR_ATOMIC_FETCH_AND_ADD},
    {"cmp_swap", IBV_WR_ATOMIC_CMP_AND_SWP},
};

/* Does what a line says. Returns NULL and what to answer in `text`, or what failed. */
static const char *obey(struct end *end, const char *name, const uint64_t *n, int count, char *text, size_t size) {
#define IS(word, arguments) (!strcmp(name, word) && count == (arguments))
  text[0] = 0;
  for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
    if (IS(requests[i].name, 7))
      return end_post(end, &(struct request){requests[i].opcode, n[0], n[1], n[2], n[3], n[4], n[5], n[6]});
  if (IS("receive", 3))
    return end_receive(end, n[0], n[1], n[2]);
  if (IS("poll", 2))
    return end_poll(end, n[0], n[1], text, size);
  if (IS("fill", 3) || IS("hash", 2)) {
    if (n[0] > MEMORY || n[1] > MEMORY - n[0])
      return "outside the memory";
    if (count == 3)
      content_fill(end->memory + n[0], n[1], n[2]);
    else
      snprintf(text, size, " %llu", (unsigned long long)content_hash(end->memory + n[0], n[1]));
    return NULL;
  }
  if (IS("open", 0)) {
    const char *failed = end_open(end);
    if (!failed)
      snprintf(text, size, " %u %u %llu %u", end->pair->qp_num, end->region->rkey,
               (unsigned long long)(uintptr_t)end->memory, (unsigned)MEMORY);
    return failed;
  }
  if (IS("connect", 10))
    return end_connect(end, &(struct path){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9]});
  if (IS("window", 3)) {
    const char *failed = end_window(end, n[0], n[1], n[2]);
    if (!failed)
      snprintf(text, size, " %u", end->window->rkey);
    return failed;
  }
  if (IS("mtu", 1)) {
    struct ifreq request = {.ifr_mtu = n[0]};
    return interface_control(SIOCSIFMTU, &request) ? "the MTU is refused" : NULL;
  }
  if (IS("close", 0)) {
    end_close(end);
    return NULL;
  }
  return "no such command, or other arguments";
#undef IS
}

static void answer(int port, const char *head, const char *text) {
  char line[LINE + 256];
  int len = snprintf(line, sizeof line, "%s%s\n", head, text);
  for (int at = 0; at < len;) {
    int written = write(port, line + at, len - at);
    if (written <= 0)
      return;
    at += written;
  }
}

static void handle(struct end *end, int port, char *line) {
  static char text[LINE];
  uint64_t numbers[WORDS];
  int count = 0;
  char *rest, *name = strtok_r(line, " ", &rest);
  if (!name)
    return;
  for (char *word; count < WORDS && (word = strtok_r(NULL, " ", &rest)); count++)
    numbers[count] = strtoull(word, NULL, 0);
  errno = 0;
  const char *failed = obey(end, name, numbers, count, text, sizeof text);
  if (!failed) {
    answer(port, "ok", text);
    return;
  }
  snprintf(text, sizeof text, " %s: %s: %s", name, failed, strerror(errno));
  answer(port, "error", text);
}

static void serve(struct end *end, int port) {
  static char line[4096];
  size_t have = 0;
  for (;;) {
    ssize_t got = read(port, line + have, sizeof line - 1 - have);
    if (got <= 0)
      return;
    have += got;
    line[have] = 0;
    for (char *stop; (stop = strchr(line, '\n'));) {
      *stop = 0;
      size_t used = stop + 1 - line;
      handle(end, port, line);
      have -= used;
      memmove(line, line + used, have + 1);
    }
    if (have == sizeof line - 1)
      return;
  }
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  interface = argv[2];
  int port = open(argv[1], O_RDWR | O_CLOEXEC);
  struct ifreq request = {0};
  static struct end end;
  const char *failed = port < 0 ? "no port" : NULL;
  if (!failed && interface_control(SIOCGIFADDR, &request))
    failed = "no address";
  if (!failed)
    failed = end_prepare(&end, ntohl(((struct sockaddr_in *)&request.ifr_addr)->sin_addr.s_addr));
  if (failed) {
    printf("verbs: %s: %s\n", failed, strerror(errno));
    fflush(stdout);
  } else {
    answer(port, "ok", " ready");
    serve(&end, port);
  }
  reboot(RB_POWER_OFF);
  return 1;
}
