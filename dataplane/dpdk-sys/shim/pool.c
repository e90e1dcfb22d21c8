/* A mempool whose objects are the mbufs of an arena's chunks: the device's share of the arena. */
#include "inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPS "gvm_chunks"

static int chunks_alloc(struct rte_mempool *mp)
{
	mp->pool_data = mp->pool_config;
	return 0;
}

static void chunks_free(struct rte_mempool *mp)
{
	mp->pool_data = NULL;
}

static int chunks_enqueue(struct rte_mempool *mp, void *const *objects, unsigned int n)
{
	struct shim_queue *queue = mp->pool_data;
	int result = 0;

	rte_spinlock_lock(&queue->lock);
	if (likely(n <= queue->chunks - queue->top)) {
		memcpy(&queue->stack[queue->top], objects, n * sizeof(*objects));
		__atomic_store_n(&queue->top, queue->top + n, __ATOMIC_RELAXED);
	} else {
		result = -ENOBUFS;
	}
	rte_spinlock_unlock(&queue->lock);
	return result;
}

static int chunks_dequeue(struct rte_mempool *mp, void **objects, unsigned int n)
{
	struct shim_queue *queue = mp->pool_data;
	int result = 0;

	rte_spinlock_lock(&queue->lock);
	if (likely(n <= queue->top)) {
		memcpy(objects, &queue->stack[queue->top - n], n * sizeof(*objects));
		__atomic_store_n(&queue->top, queue->top - n, __ATOMIC_RELAXED);
	} else {
		queue->counts.rx_starved++;
		result = -ENOBUFS;
	}
	rte_spinlock_unlock(&queue->lock);
	return result;
}

static unsigned int chunks_count(const struct rte_mempool *mp)
{
	const struct shim_queue *queue = mp->pool_data;

	return __atomic_load_n(&queue->top, __ATOMIC_RELAXED);
}

static const struct rte_mempool_ops chunks_ops = {
	.name = OPS,
	.alloc = chunks_alloc,
	.free = chunks_free,
	.enqueue = chunks_enqueue,
	.dequeue = chunks_dequeue,
	.get_count = chunks_count,
};

/* When the plugin is loaded, by one thread: lcores make their mempools at the same time. */
RTE_MEMPOOL_REGISTER_OPS(chunks_ops);

static void init_mbuf(struct rte_mempool *mp, void *opaque, void *object, unsigned int index)
{
	struct shim_queue *queue = opaque;
	struct rte_mbuf *mbuf = object;

	rte_pktmbuf_init(mp, NULL, object, index);
	mbuf->buf_addr = queue->base + (size_t)index * queue->chunk;
	/* Devices use the process's own addresses: EAL runs with --iova-mode=va. */
	mbuf->buf_iova = (rte_iova_t)(uintptr_t)mbuf->buf_addr;
	mbuf->buf_len = (uint16_t)queue->chunk;
	queue->mbufs[index] = mbuf;
}

/* Maps the arena for devices with DMA. Returns 0 or a negative error. */
static int map_arena(uint16_t port, const struct shim_arena *arena)
{
	struct rte_eth_dev_info info;
	unsigned int pages = arena->len / arena->page;
	rte_iova_t *iovas = calloc(pages, sizeof(*iovas));
	int error;

	if (iovas == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < pages; i++)
		iovas[i] = (rte_iova_t)(uintptr_t)arena->base + i * arena->page;
	forget_error();
	error = rte_extmem_register(arena->base, arena->len, iovas, pages, arena->page) == 0 ? 0 : last_error();
	free(iovas);
	/* Another port of the same lcore has registered it already. */
	if (error != 0 && error != EEXIST)
		return -error;
	if (rte_eth_dev_info_get(port, &info) != 0 || info.device == NULL)
		return 0;
	forget_error();
	error = rte_dev_dma_map(info.device, arena->base, (uintptr_t)arena->base, arena->len) == 0 ? 0 : last_error();
	/* A bus without such devices needs no mapping. */
	return error == ENOTSUP || error == EEXIST ? 0 : -error;
}

static void queue_discard(struct shim_queue *queue)
{
	/* The first port of an arena has removed it already. */
	if (queue->registered)
		rte_extmem_unregister(queue->base, queue->arena_len);
	rte_mempool_free(queue->theirs);
	rte_mempool_free(queue->pool);
	free(queue->stack);
	free(queue->mbufs);
	free(queue);
}

struct shim_queue *shim_queue_new(uint16_t port, uint16_t number, const struct shim_arena *arena, uint32_t cache,
				  int32_t node, uint8_t copies, int *error)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = (uint16_t)arena->chunk };
	struct shim_queue *queue = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN(sizeof(*queue), RTE_CACHE_LINE_SIZE));
	static uint32_t made;
	uint32_t mark;
	char name[RTE_MEMPOOL_NAMESIZE];

	*error = ENOMEM;
	if (queue == NULL)
		return NULL;
	memset(queue, 0, sizeof(*queue));
	rte_spinlock_init(&queue->lock);
	queue->port = port;
	queue->queue = number;
	queue->gated = (uint8_t)gate_is_needed(port);
	queue->base = arena->base;
	queue->chunk = arena->chunk;
	queue->chunks = arena->chunks;
	queue->arena_len = arena->len;
	if ((arena->chunk & (arena->chunk - 1)) == 0)
		queue->shift = (uint8_t)__builtin_ctz(arena->chunk);
	queue->mbufs = calloc(arena->chunks, sizeof(*queue->mbufs));
	queue->stack = calloc(arena->chunks, sizeof(*queue->stack));
	if (queue->mbufs == NULL || queue->stack == NULL)
		goto failed;
	*error = -map_arena(port, arena);
	if (*error != 0)
		goto failed;
	queue->registered = 1;
	/* Not the device's number: DPDK gives it to the next device when this one is closed, before its queues are freed. */
	mark = __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
	snprintf(name, sizeof(name), "gvm_%u", mark);
	forget_error();
	queue->pool = rte_mempool_create_empty(name, arena->chunks, sizeof(struct rte_mbuf), cache, sizeof(private), node, 0);
	if (queue->pool == NULL) {
		*error = last_error();
		goto failed;
	}
	*error = -rte_mempool_set_ops_byname(queue->pool, OPS, queue);
	if (*error != 0)
		goto failed;
	rte_pktmbuf_pool_init(queue->pool, &private);
	if (rte_mempool_populate_default(queue->pool) < (int)arena->chunks) {
		*error = ENOMEM;
		goto failed;
	}
	rte_mempool_obj_iter(queue->pool, init_mbuf, queue);
	/* Populating put all chunks there; the device has none until it is given some. */
	queue->top = 0;
	if (copies) {
		snprintf(name, sizeof(name), "gvm_%u_own", mark);
		forget_error();
		queue->theirs = rte_pktmbuf_pool_create(name, 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, node);
		if (queue->theirs == NULL) {
			*error = last_error();
			goto failed;
		}
	}
	*error = 0;
	return queue;
failed:
	queue_discard(queue);
	return NULL;
}

int shim_queue_setup(struct shim_queue *queue, uint16_t rx_descriptors, uint16_t tx_descriptors, int32_t node)
{
	struct rte_mempool *pool = queue->theirs != NULL ? queue->theirs : queue->pool;
	int result = rte_eth_rx_queue_setup(queue->port, queue->queue, rx_descriptors, node, NULL, pool);

	return result != 0 ? result : rte_eth_tx_queue_setup(queue->port, queue->queue, tx_descriptors, node, NULL);
}

uint32_t shim_exchange(struct shim_queue *queue, uint32_t *chunks, uint32_t given, uint32_t room, uint32_t keep)
{
	uint32_t top, back = 0;

	rte_spinlock_lock(&queue->lock);
	top = queue->top;
	for (uint32_t i = 0; i < given && top < queue->chunks; i++)
		queue->stack[top++] = queue->mbufs[chunks[i]];
	while (top > keep && back < room)
		chunks[back++] = chunk_of(queue, queue->stack[--top]);
	__atomic_store_n(&queue->top, top, __ATOMIC_RELAXED);
	rte_spinlock_unlock(&queue->lock);
	return back;
}

uint32_t shim_level(const struct shim_queue *queue)
{
	return __atomic_load_n(&queue->top, __ATOMIC_RELAXED);
}

void shim_queue_counts(const struct shim_queue *queue, struct shim_counts *counts)
{
	*counts = queue->counts;
}

void shim_queue_free(struct shim_queue *queue)
{
	queue_discard(queue);
}
