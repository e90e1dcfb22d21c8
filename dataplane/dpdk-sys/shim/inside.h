/* Declarations that the shim's files share. */
#ifndef INSIDE_H
#define INSIDE_H

#include "shim.h"

#include <rte_branch_prediction.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_spinlock.h>

#include <errno.h>
#include <string.h>

/* Call it before a call of DPDK whose error `last_error` reads: rte_errno may still have the error of an earlier
 * call. */
static inline void forget_error(void)
{
	rte_errno = 0;
}

/* The error of the last call, as a positive number: rte_errno, or a general error if the call did not set it. */
static inline int last_error(void)
{
	return rte_errno != 0 ? rte_errno : EIO;
}

/* Whether a device's driver is one of these. */
static inline int is_one_of(const struct rte_eth_dev_info *info, const char *const *drivers, size_t count)
{
	for (size_t i = 0; info->driver_name != NULL && i < count; i++)
		if (strcmp(info->driver_name, drivers[i]) == 0)
			return 1;
	return 0;
}

/* A queue pair and the arena of the lcore that polls it.
 *
 * Each chunk of the arena permanently has one mbuf, whose buffer is the chunk. The mempool of the mbufs is a stack
 * of the chunks that the device may receive into; a driver takes chunks from it, and frees sent ones into it. All
 * other chunks belong to the arena's owner, and their mbufs wait in `mbufs`. */
struct shim_queue {
	uint16_t port;
	uint16_t queue;
	/* A division by a power of two is a shift. */
	uint8_t shift;
	uint8_t registered;
	/* Its driver changes queues on EAL's interrupt thread. */
	uint8_t gated;
	uint32_t chunk;
	uint32_t chunks;
	char *base;
	struct rte_mempool *pool;
	/* Indexed by chunk. */
	struct rte_mbuf **mbufs;
	/* The memory of a driver that chooses where packets go; otherwise NULL. */
	struct rte_mempool *theirs;
	struct shim_counts counts;
	size_t arena_len;

	/* A mbuf may be freed by the thread of another queue, which received it through a ring. */
	rte_spinlock_t lock __rte_cache_aligned;
	uint32_t top;
	struct rte_mbuf **stack;
};

/* gate.c: while EAL's interrupt thread serves interrupts, no lcore is inside the gate. */
int gate_is_needed(uint16_t port);
/* Call it before the first such device is started; the gate never ends. Called by one thread. */
int gate_begin(void);
/* 1 when the caller is inside and will leave, 0 when the gate is shut. */
int gate_enter(void);
/* The same for calls about a device, which wait until the gate opens. */
void gate_wait(void);
void gate_leave(void);

/* The chunk whose buffer a mbuf of ours has. */
static inline uint32_t chunk_of(const struct shim_queue *queue, const struct rte_mbuf *mbuf)
{
	size_t offset = (size_t)((char *)mbuf->buf_addr - queue->base);

	return (uint32_t)(queue->shift ? offset >> queue->shift : offset / queue->chunk);
}

#endif
