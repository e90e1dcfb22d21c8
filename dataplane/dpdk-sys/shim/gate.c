/* A gate between the bursts of lcores and EAL's interrupt thread, for drivers that change their queues there.
 *
 * When the process at the other end of a net_memif device ends, the driver unmaps the shared memory on the interrupt
 * thread, and does not wait for bursts. So that thread serves interrupts only while no lcore is inside the gate: it
 * sleeps in an alarm of ours, shuts the gate, serves the pending interrupts, and sleeps again when the next alarm is
 * due. No lcore waits for it: while the gate is shut a burst moves nothing. */
#include "inside.h"

#include <rte_alarm.h>

#include <string.h>
#include <unistd.h>

/* The longest wait of interrupts, and the shortest time to serve them, in microseconds. An alarm that is due at once
 * would be called before them. */
#define REST 5000
#define SERVE 20

/* The drivers whose interrupts unmap memory that bursts use. */
static const char *const gated[] = { "net_memif" };

static uint32_t shut;
static uint32_t inside;

int gate_is_needed(uint16_t port)
{
	struct rte_eth_dev_info info;

	return rte_eth_dev_info_get(port, &info) == 0 && is_one_of(&info, gated, RTE_DIM(gated));
}

/* Each side first sets its own flag, and then reads the other one's: at least one of them sees the other. */
int gate_enter(void)
{
	__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
	if (likely(!__atomic_load_n(&shut, __ATOMIC_SEQ_CST)))
		return 1;
	gate_leave();
	return 0;
}

void gate_leave(void)
{
	__atomic_fetch_sub(&inside, 1, __ATOMIC_RELEASE);
}

void gate_wait(void)
{
	while (!gate_enter())
		usleep(SERVE);
}

static void gate_shut(void)
{
	__atomic_store_n(&shut, 1, __ATOMIC_SEQ_CST);
	/* An lcore may have been preempted in a burst, even by this thread. */
	while (__atomic_load_n(&inside, __ATOMIC_SEQ_CST) != 0)
		usleep(SERVE);
}

/* On the interrupt thread, with the gate shut. */
static void rest(void *unused)
{
	(void)unused;
	do {
		__atomic_store_n(&shut, 0, __ATOMIC_RELEASE);
		usleep(REST);
		gate_shut();
		/* Without another alarm nothing would open the gate again. */
	} while (rte_eal_alarm_set(SERVE, rest, NULL) != 0);
}

int gate_begin(void)
{
	static int begun;
	int result;

	if (begun)
		return 0;
	gate_shut();
	result = rte_eal_alarm_set(SERVE, rest, NULL);
	begun = result == 0;
	if (!begun)
		__atomic_store_n(&shut, 0, __ATOMIC_RELEASE);
	return result;
}
