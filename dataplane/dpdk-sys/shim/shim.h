/* The functions for the plugin: DPDK's inline functions, bit fields and macros behind plain structs. This file uses
 * nothing of DPDK, so that bindings are made from it alone. Functions return 0 or a negative errno if nothing else
 * is stated. */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>
#include <stdint.h>

/* Frames of one burst at most. */
#define SHIM_BURST 64
/* Bytes of a name, with the zero at its end. */
#define SHIM_NAME 64

/* Received: the NIC verified the IP and UDP checksums. */
#define SHIM_CHECKSUM_GOOD 1u
/* Received: the NIC found a wrong one. */
#define SHIM_CHECKSUM_BAD 2u
/* To send: the NIC fills in the UDP checksum; the field has that of the pseudo header. */
#define SHIM_CHECKSUM_FILL 4u
/* To send: there is an 802.1Q tag. */
#define SHIM_TAGGED 8u

/* A frame in a chunk of an arena. */
struct shim_frame {
	uint32_t chunk;
	uint16_t offset;
	uint16_t len;
	uint32_t flags;
};

/* The counters of a queue. */
struct shim_counts {
	/* Received in memory of another owner, or in several pieces: copied into a chunk. */
	uint64_t rx_copied;
	/* Received, and longer than a chunk. */
	uint64_t rx_too_long;
	/* Received, to be copied, and no chunk was left. */
	uint64_t rx_no_chunk;
	/* Times that the driver asked for chunks and there were too few. */
	uint64_t rx_starved;
};

/* What a device is and can do. */
struct shim_device {
	uint16_t port;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t min_rx_descriptors;
	uint16_t max_rx_descriptors;
	uint16_t min_tx_descriptors;
	uint16_t max_tx_descriptors;
	uint16_t mtu;
	uint16_t min_mtu;
	uint16_t max_mtu;
	/* Its NUMA node, or -1. */
	int32_t node;
	uint8_t mac[6];
	/* Whether it verifies, and whether it fills in, UDP checksums. */
	uint8_t rx_checksums;
	uint8_t tx_checksums;
	/* Whether its RSS uses UDP ports. */
	uint8_t rss;
	/* Whether its driver chooses where packets go: they are then copied into our chunks. */
	uint8_t copies;
	char driver[SHIM_NAME];
};

/* How a device is set up. */
struct shim_setup {
	uint16_t queues;
	uint16_t mtu;
	uint8_t rx_checksums;
	uint8_t tx_checksums;
	uint8_t rss;
};

/* An arena: `chunks` chunks of `chunk` bytes each, from `base` on, on pages of `page` bytes. */
struct shim_arena {
	void *base;
	size_t len;
	size_t page;
	uint32_t chunk;
	uint32_t chunks;
};

/* The counters of a device. */
struct shim_stats {
	uint64_t imissed;
	uint64_t ierrors;
	uint64_t oerrors;
	uint64_t rx_nombuf;
};

struct shim_queue;

typedef void (*shim_log_fn)(uint32_t level, const char *text, size_t len);
typedef void (*shim_visit_fn)(void *context, const char *name, uint64_t value);
typedef void (*shim_call_fn)(void *context);

/* log.c */
int shim_log_to(shim_log_fn sink);
const char *shim_error(int error);
const char *shim_version(void);

/* device.c */
int shim_init(int argc, char **argv);
int shim_thread_register(void);
void shim_thread_unregister(void);
/* Calls a function on the interrupt thread. */
int shim_on_interrupt_thread(shim_call_fn call, void *context);
int shim_probe(const char *devargs, const char *name, uint16_t *port);
int shim_look(uint16_t port, struct shim_device *device);
int shim_configure(uint16_t port, const struct shim_setup *setup);
int shim_start(uint16_t port);
/* Of a started device: packets of this VLAN pass its own filter, if it has one that cannot be turned off. */
int shim_take_vlan(uint16_t port, uint16_t vlan);
/* Stops the device first. */
int shim_close(uint16_t port);
int shim_link(uint16_t port, uint32_t *mbits);
int shim_stats(uint16_t port, struct shim_stats *stats);
int shim_xstats(uint16_t port, shim_visit_fn visit, void *context);

/* flow.c: `values` rules (a power of two) on the low bits of the UDP source port, each to its queue. */
int shim_steer_lanes(uint16_t port, uint16_t udp_port, uint16_t values, uint16_t queues);
int shim_steer_ports(uint16_t port, uint16_t first, uint16_t queues);

/* pool.c */
struct shim_queue *shim_queue_new(uint16_t port, uint16_t queue, const struct shim_arena *arena, uint32_t cache,
				  int32_t node, uint8_t copies, int *error);
int shim_queue_setup(struct shim_queue *queue, uint16_t rx_descriptors, uint16_t tx_descriptors, int32_t node);
/* Takes `given` chunks; gives back at most `room` of those above `keep`. Returns how many. */
uint32_t shim_exchange(struct shim_queue *queue, uint32_t *chunks, uint32_t given, uint32_t room, uint32_t keep);
uint32_t shim_level(const struct shim_queue *queue);
void shim_queue_counts(const struct shim_queue *queue, struct shim_counts *counts);
/* Call it only after the device was closed and its chunks were taken back. */
void shim_queue_free(struct shim_queue *queue);

/* burst.c */
uint16_t shim_rx(struct shim_queue *queue, struct shim_frame *frames, uint16_t room);
uint16_t shim_tx(struct shim_queue *queue, const struct shim_frame *frames, uint16_t count);
/* Has the driver free the sent mbufs. */
void shim_tidy(struct shim_queue *queue);
/* Empties the mempool cache: that of this thread, or all of them if nobody uses the queue. */
void shim_flush(struct shim_queue *queue, uint8_t all);

#endif
