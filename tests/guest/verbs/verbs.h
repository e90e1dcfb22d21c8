/* One queue pair of the guest, and its memory. */
#ifndef VERBS_H
#define VERBS_H

#include <infiniband/verbs.h>
#include <stddef.h>
#include <stdint.h>

enum {
  /* Bytes of memory that the peer may use. */
  MEMORY = 4 << 20,
  /* Requests and receives that a queue holds. */
  QUEUE = 256,
};

struct end {
  struct ibv_context *device;
  struct ibv_pd *domain;
  struct ibv_mr *region;
  /* A second, narrower region; NULL if nobody asked for one. */
  struct ibv_mr *window;
  struct ibv_comp_channel *channel;
  struct ibv_cq *completions;
  /* NULL while closed. */
  struct ibv_qp *pair;
  unsigned char *memory;
  int gid;
};

/* What to do: the arguments of `end_post`. */
struct request {
  enum ibv_wr_opcode opcode;
  uint64_t id;
  /* Offset and bytes of local memory. */
  uint64_t local, len;
  /* Address and key of the peer's memory. */
  uint64_t remote, rkey;
  /* Immediate data or what to add; or compare and swap. */
  uint64_t a, b;
};

/* How to reach the peer and how long to try: the arguments of `end_connect`, in the units of `ibv_modify_qp`. */
struct path {
  uint64_t mtu, qpn, psn, own_psn, address, timeout, retries, rnr_retries, rnr_timer, depth;
};

/* All return NULL, or what failed; `errno` says why. */
const char *end_prepare(struct end *end, uint32_t address);
const char *end_open(struct end *end);
const char *end_connect(struct end *end, const struct path *path);
const char *end_window(struct end *end, uint64_t offset, uint64_t len, int access);
const char *end_post(struct end *end, const struct request *request);
const char *end_receive(struct end *end, uint64_t id, uint64_t local, uint64_t len);
/* Waits for `wanted` completions or so many milliseconds, and writes them as words into `text`. */
const char *end_poll(struct end *end, unsigned wanted, int milliseconds, char *text, size_t size);
void end_close(struct end *end);

/* Content that both sides can make: byte `i` of a seed. */
void content_fill(unsigned char *at, size_t len, uint64_t seed);
/* Of the words of the content, in their order. */
uint64_t content_hash(const unsigned char *at, size_t len);

#endif
