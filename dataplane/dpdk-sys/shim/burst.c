/* Bursts: converts mbufs to descriptions of frames, and back. */
#include "inside.h"

static inline uint32_t checksums_of(uint64_t flags)
{
	const uint64_t good = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	const uint64_t bad = RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD;

	/* Good and bad together mean that the NIC does not know. */
	if ((flags & (good | bad)) == good)
		return SHIM_CHECKSUM_GOOD;
	return (flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD ||
			       (flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD ?
		       SHIM_CHECKSUM_BAD : 0;
}

/* Copies a packet in another owner's memory, or in several pieces, into one of our chunks. */
static __rte_noinline uint16_t copy_in(struct shim_queue *queue, struct rte_mbuf *mbuf, struct shim_frame *frame)
{
	uint32_t len = rte_pktmbuf_pkt_len(mbuf);
	struct rte_mbuf *ours;
	uint16_t taken = 0;

	if (len > queue->chunk - RTE_PKTMBUF_HEADROOM) {
		queue->counts.rx_too_long++;
	} else if (rte_mempool_get(queue->pool, (void **)&ours) != 0) {
		queue->counts.rx_no_chunk++;
	} else {
		char *to = (char *)ours->buf_addr + RTE_PKTMBUF_HEADROOM;
		const char *from = rte_pktmbuf_read(mbuf, 0, len, to);

		/* A packet in one piece was not copied yet. */
		if (from != to)
			rte_memcpy(to, from, len);
		frame->chunk = chunk_of(queue, ours);
		frame->offset = RTE_PKTMBUF_HEADROOM;
		frame->len = (uint16_t)len;
		frame->flags = checksums_of(mbuf->ol_flags);
		queue->counts.rx_copied++;
		taken = 1;
	}
	rte_pktmbuf_free(mbuf);
	return taken;
}

/* Whether an lcore may now make a call that uses memory which a driver shares with another process. */
static inline int begin(const struct shim_queue *queue)
{
	return likely(!queue->gated) || gate_enter();
}

static inline void end(const struct shim_queue *queue)
{
	if (unlikely(queue->gated))
		gate_leave();
}

uint16_t shim_rx(struct shim_queue *queue, struct shim_frame *frames, uint16_t room)
{
	struct rte_mbuf *mbufs[SHIM_BURST];
	uint16_t received, count = 0;

	if (!begin(queue))
		return 0;
	received = rte_eth_rx_burst(queue->port, queue->queue, mbufs, RTE_MIN(room, SHIM_BURST));
	end(queue);
	for (uint16_t i = 0; i < received; i++) {
		struct rte_mbuf *mbuf = mbufs[i];

		if (i + 4 < received)
			rte_prefetch0(mbufs[i + 4]);
		if (likely(mbuf->pool == queue->pool && mbuf->nb_segs == 1)) {
			struct shim_frame *frame = &frames[count++];

			frame->chunk = chunk_of(queue, mbuf);
			frame->offset = mbuf->data_off;
			frame->len = mbuf->data_len;
			frame->flags = checksums_of(mbuf->ol_flags);
		} else {
			count += copy_in(queue, mbuf, &frames[count]);
		}
	}
	return count;
}

uint16_t shim_tx(struct shim_queue *queue, const struct shim_frame *frames, uint16_t count)
{
	struct rte_mbuf *mbufs[SHIM_BURST];
	uint16_t taken;

	count = RTE_MIN(count, SHIM_BURST);
	for (uint16_t i = 0; i < count; i++)
		rte_prefetch0(queue->mbufs[frames[i].chunk]);
	for (uint16_t i = 0; i < count; i++) {
		const struct shim_frame *frame = &frames[i];
		struct rte_mbuf *mbuf = queue->mbufs[frame->chunk];

		mbuf->data_off = frame->offset;
		mbuf->data_len = frame->len;
		mbuf->pkt_len = frame->len;
		mbuf->ol_flags = 0;
		if (frame->flags & SHIM_CHECKSUM_FILL) {
			mbuf->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
			mbuf->tx_offload = 0;
			mbuf->l2_len = frame->flags & SHIM_TAGGED ? 18 : 14;
			mbuf->l3_len = 20;
		}
		mbufs[i] = mbuf;
	}
	if (!begin(queue))
		return 0;
	taken = rte_eth_tx_burst(queue->port, queue->queue, mbufs, count);
	end(queue);
	return taken;
}

void shim_tidy(struct shim_queue *queue)
{
	if (!begin(queue))
		return;
	/* Some drivers do not support this; they free when they need room. */
	(void)rte_eth_tx_done_cleanup(queue->port, queue->queue, 0);
	end(queue);
}

void shim_flush(struct shim_queue *queue, uint8_t all)
{
	unsigned int first = all ? 0 : rte_lcore_id(), last = all ? RTE_MAX_LCORE - 1 : first;

	for (unsigned int lcore = first; lcore <= last && lcore < RTE_MAX_LCORE; lcore++) {
		struct rte_mempool_cache *cache = rte_mempool_default_cache(queue->pool, lcore);

		if (cache != NULL && cache->len > 0)
			rte_mempool_cache_flush(cache, queue->pool);
	}
}
