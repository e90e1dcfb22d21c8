/* One queue pair of the guest over libibverbs. */
#include "verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const statuses[] = {
    "SUCCESS",         "LOC_LEN_ERR",       "LOC_QP_OP_ERR",      "LOC_EEC_OP_ERR",   "LOC_PROT_ERR",
    "WR_FLUSH_ERR",    "MW_BIND_ERR",       "BAD_RESP_ERR",       "LOC_ACCESS_ERR",   "REM_INV_REQ_ERR",
    "REM_ACCESS_ERR",  "REM_OP_ERR",        "RETRY_EXC_ERR",      "RNR_RETRY_EXC_ERR", "LOC_RDD_VIOL_ERR",
    "REM_INV_RD_REQ_ERR", "REM_ABORT_ERR",  "INV_EECN_ERR",       "INV_EEC_STATE_ERR", "FATAL_ERR",
    "RESP_TIMEOUT_ERR", "GENERAL_ERR",
};

/* The kind is known only for a successful completion. */
static const char *kind(const struct ibv_wc *completion) {
  if (completion->status != IBV_WC_SUCCESS)
    return "-";
  switch (completion->opcode) {
  case IBV_WC_SEND: return "SEND";
  case IBV_WC_RDMA_WRITE: return "WRITE";
  case IBV_WC_RDMA_READ: return "READ";
  case IBV_WC_COMP_SWAP: return "CMP_SWAP";
  case IBV_WC_FETCH_ADD: return "FETCH_ADD";
  case IBV_WC_RECV: return "RECV";
  case IBV_WC_RECV_RDMA_WITH_IMM: return "RECV_WRITE_IMM";
  default: return "OTHER";
  }
}

static void mapped(union ibv_gid *gid, uint32_t address) {
  uint32_t network = htonl(address);
  memset(gid, 0, sizeof *gid);
  gid->raw[10] = gid->raw[11] = 0xff;
  memcpy(gid->raw + 12, &network, 4);
}

const char *end_prepare(struct end *end, uint32_t address) {
  struct ibv_device **devices = ibv_get_device_list(NULL);
  if (!devices || !devices[0])
    return "no device";
  end->device = ibv_open_device(devices[0]);
  ibv_free_device_list(devices);
  if (!end->device)
    return "the device does not open";
  struct ibv_port_attr port;
  if (ibv_query_port(end->device, 1, &port))
    return "no port";
  union ibv_gid wanted, gid;
  mapped(&wanted, address);
  for (end->gid = 0; end->gid < port.gid_tbl_len; end->gid++)
    if (!ibv_query_gid(end->device, 1, end->gid, &gid) && !memcmp(&gid, &wanted, sizeof gid))
      break;
  if (end->gid == port.gid_tbl_len)
    return "the address has no GID";
  end->memory = aligned_alloc(4096, MEMORY);
  if (!end->memory)
    return "no memory";
  memset(end->memory, 0, MEMORY);
  end->domain = ibv_alloc_pd(end->device);
  if (!end->domain)
    return "no protection domain";
  end->region = ibv_reg_mr(end->domain, end->memory, MEMORY,
                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                               IBV_ACCESS_REMOTE_ATOMIC);
  return end->region ? NULL : "no region";
}

const char *end_open(struct end *end) {
  end_close(end);
  end->channel = ibv_create_comp_channel(end->device);
  if (!end->channel)
    return "no completion channel";
  end->completions = ibv_create_cq(end->device, 4 * QUEUE, NULL, end->channel, 0);
  if (!end->completions)
    return "no completion queue";
  struct ibv_qp_init_attr wanted = {
      .send_cq = end->completions,
      .recv_cq = end->completions,
      .cap = {.max_send_wr = QUEUE, .max_recv_wr = QUEUE, .max_send_sge = 1, .max_recv_sge = 1},
      .qp_type = IBV_QPT_RC,
      .sq_sig_all = 1,
  };
  end->pair = ibv_create_qp(end->domain, &wanted);
  if (!end->pair)
    return "no queue pair";
  struct ibv_qp_attr init = {
      .qp_state = IBV_QPS_INIT,
      .port_num = 1,
      .qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
  };
  errno = ibv_modify_qp(end->pair, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  return errno ? "INIT" : NULL;
}

const char *end_connect(struct end *end, const struct path *path) {
  if (!end->pair)
    return "closed";
  enum ibv_mtu mtu = IBV_MTU_256;
  for (uint64_t bytes = 256; bytes < path->mtu; bytes *= 2)
    mtu++;
  struct ibv_qp_attr receive = {
      .qp_state = IBV_QPS_RTR,
      .path_mtu = mtu,
      .dest_qp_num = path->qpn,
      .rq_psn = path->psn,
      .max_dest_rd_atomic = path->depth,
      .min_rnr_timer = path->rnr_timer,
      .ah_attr = {.is_global = 1, .port_num = 1, .grh = {.sgid_index = end->gid, .hop_limit = 64}},
  };
  mapped(&receive.ah_attr.grh.dgid, path->address);
  errno = ibv_modify_qp(end->pair, &receive,
                        IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                            IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (errno)
    return "RTR";
  struct ibv_qp_attr send = {
      .qp_state = IBV_QPS_RTS,
      .timeout = path->timeout,
      .retry_cnt = path->retries,
      .rnr_retry = path->rnr_retries,
      .sq_psn = path->own_psn,
      .max_rd_atomic = path->depth,
  };
  errno = ibv_modify_qp(end->pair, &send,
                        IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                            IBV_QP_MAX_QP_RD_ATOMIC);
  return errno ? "RTS" : NULL;
}

static int is_outside(uint64_t offset, uint64_t len) { return offset > MEMORY || len > MEMORY - offset; }

const char *end_window(struct end *end, uint64_t offset, uint64_t len, int access) {
  if (is_outside(offset, len))
    return "outside the memory";
  if (end->window)
    ibv_dereg_mr(end->window);
  end->window = ibv_reg_mr(end->domain, end->memory + offset, len, access);
  return end->window ? NULL : "no region";
}

const char *end_post(struct end *end, const struct request *request) {
  if (!end->pair)
    return "closed";
  if (is_outside(request->local, request->len))
    return "outside the memory";
  struct ibv_sge piece = {(uintptr_t)end->memory + request->local, request->len, end->region->lkey};
  struct ibv_send_wr work = {
      .wr_id = request->id, .sg_list = &piece, .num_sge = request->len ? 1 : 0, .opcode = request->opcode};
  if (request->opcode == IBV_WR_ATOMIC_CMP_AND_SWP || request->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
    work.wr.atomic.remote_addr = request->remote;
    work.wr.atomic.rkey = request->rkey;
    work.wr.atomic.compare_add = request->a;
    work.wr.atomic.swap = request->b;
  } else {
    work.wr.rdma.remote_addr = request->remote;
    work.wr.rdma.rkey = request->rkey;
    work.imm_data = htonl(request->a);
  }
  struct ibv_send_wr *refused;
  errno = ibv_post_send(end->pair, &work, &refused);
  return errno ? "the request is refused" : NULL;
}

const char *end_receive(struct end *end, uint64_t id, uint64_t local, uint64_t len) {
  if (!end->pair)
    return "closed";
  if (is_outside(local, len))
    return "outside the memory";
  struct ibv_sge piece = {(uintptr_t)end->memory + local, len, end->region->lkey};
  struct ibv_recv_wr work = {.wr_id = id, .sg_list = &piece, .num_sge = 1}, *refused;
  errno = ibv_post_recv(end->pair, &work, &refused);
  return errno ? "the receive is refused" : NULL;
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Sleeps until there may be a completion. */
static const char *wait(struct end *end, int milliseconds) {
  struct pollfd ready = {.fd = end->channel->fd, .events = POLLIN};
  if (poll(&ready, 1, milliseconds) <= 0)
    return NULL;
  struct ibv_cq *queue;
  void *context;
  if (ibv_get_cq_event(end->channel, &queue, &context))
    return "no event";
  ibv_ack_cq_events(queue, 1);
  return NULL;
}

const char *end_poll(struct end *end, unsigned wanted, int milliseconds, char *text, size_t size) {
  if (!end->pair)
    return "closed";
  int64_t until = now() + milliseconds;
  size_t at = 0;
  text[0] = 0;
  for (unsigned got = 0, armed = 0; got < wanted;) {
    struct ibv_wc done;
    int count = ibv_poll_cq(end->completions, 1, &done);
    if (count < 0)
      return "the completion queue fails";
    if (count > 0) {
      const char *status =
          (size_t)done.status < sizeof statuses / sizeof *statuses ? statuses[done.status] : "UNKNOWN";
      uint32_t immediate = done.status == IBV_WC_SUCCESS && (done.wc_flags & IBV_WC_WITH_IMM) ? ntohl(done.imm_data) : 0;
      at += snprintf(text + at, size - at, " %llu:%s:%s:%u:%u", (unsigned long long)done.wr_id, kind(&done), status,
                     done.status == IBV_WC_SUCCESS ? done.byte_len : 0, immediate);
      if (at >= size)
        return "too many completions for one line";
      got++;
    } else if (!armed) {
      /* An earlier completion raises no event, so check once more. */
      errno = ibv_req_notify_cq(end->completions, 0);
      if (errno)
        return "no notification";
      armed = 1;
    } else {
      int64_t left = until - now();
      if (left <= 0)
        break;
      const char *failed = wait(end, left);
      if (failed)
        return failed;
      armed = 0;
    }
  }
  return NULL;
}

void end_close(struct end *end) {
  if (end->pair)
    ibv_destroy_qp(end->pair);
  if (end->completions)
    ibv_destroy_cq(end->completions);
  if (end->channel)
    ibv_destroy_comp_channel(end->channel);
  end->pair = NULL;
  end->completions = NULL;
  end->channel = NULL;
}
