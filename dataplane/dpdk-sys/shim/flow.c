/*
 * Steers lanes to lcores: rules on the low bits of the UDP source port, which give the lane. Or the UDP ports of lcores:
 * rules on the destination port alone.
 */
#include "inside.h"

#include <rte_flow.h>

static int steer(uint16_t port, uint16_t udp_port, uint16_t value, uint16_t mask, uint16_t queue, int only_ask)
{
	const struct rte_flow_attr attr = { .ingress = 1 };
	const struct rte_flow_item_udp spec = {
		.hdr = { .src_port = rte_cpu_to_be_16(value), .dst_port = rte_cpu_to_be_16(udp_port) },
	};
	const struct rte_flow_item_udp bits = {
		.hdr = { .src_port = rte_cpu_to_be_16(mask), .dst_port = RTE_BE16(0xffff) },
	};
	const struct rte_flow_item pattern[] = {
		{ .type = RTE_FLOW_ITEM_TYPE_ETH },
		{ .type = RTE_FLOW_ITEM_TYPE_IPV4 },
		{ .type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &spec, .mask = &bits },
		{ .type = RTE_FLOW_ITEM_TYPE_END },
	};
	const struct rte_flow_action_queue to = { .index = queue };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &to },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_error error;

	if (only_ask)
		return rte_flow_validate(port, &attr, pattern, actions, &error);
	forget_error();
	return rte_flow_create(port, &attr, pattern, actions, &error) != NULL ? 0 : -last_error();
}

int shim_steer_ports(uint16_t port, uint16_t first, uint16_t queues)
{
	struct rte_flow_error error;
	int result = steer(port, first, 0, 0, 0, 1);

	for (uint16_t queue = 0; result == 0 && queue < queues; queue++)
		result = steer(port, first + queue, 0, 0, queue, 0);
	if (result != 0)
		(void)rte_flow_flush(port, &error);
	return result;
}

int shim_steer_lanes(uint16_t port, uint16_t udp_port, uint16_t values, uint16_t queues)
{
	struct rte_flow_error error;
	int result = steer(port, udp_port, 0, values - 1, 0, 1);

	for (uint16_t value = 0; result == 0 && value < values; value++)
		result = steer(port, udp_port, value, values - 1, value % queues, 0);
	/* All or none: with only some rules, lanes would mix. */
	if (result != 0)
		(void)rte_flow_flush(port, &error);
	return result;
}
