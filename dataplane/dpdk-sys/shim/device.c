/* The environment, and devices as a whole. */
#include "inside.h"

#include <rte_alarm.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_lcore.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Drivers whose receive buffers are not the application's. */
static const char *const copying[] = { "net_af_xdp" };

/* Drivers of devices that drop packets of every VLAN that they were not told, whether asked to filter or not. */
static const char *const filtering[] = { "net_virtio" };

int shim_init(int argc, char **argv)
{
	forget_error();
	return rte_eal_init(argc, argv) < 0 ? -last_error() : 0;
}

int shim_thread_register(void)
{
	forget_error();
	return rte_thread_register() == 0 ? 0 : -last_error();
}

void shim_thread_unregister(void)
{
	rte_thread_unregister();
}

int shim_on_interrupt_thread(shim_call_fn call, void *context)
{
	return rte_eal_alarm_set(1, call, context);
}

int shim_probe(const char *devargs, const char *name, uint16_t *port)
{
	int result = rte_eth_dev_get_port_by_name(name, port);

	if (result == 0)
		return 0;
	result = rte_dev_probe(devargs);
	if (result != 0)
		return result;
	return rte_eth_dev_get_port_by_name(name, port);
}

/* The largest MTU that DPDK accepts for the device: drivers limit their packets, their frames, or both. */
static uint16_t max_mtu(const struct rte_eth_dev_info *info)
{
	uint32_t headers = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN, most;

	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		headers = info->max_rx_pktlen - info->max_mtu;
	most = info->max_rx_pktlen > headers ? info->max_rx_pktlen - headers : 0;
	/* A driver with less than the minimum of Ethernet has not counted the headers. */
	return most < RTE_ETHER_MTU ? info->max_mtu : RTE_MIN(info->max_mtu, most);
}

int shim_look(uint16_t port, struct shim_device *device)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	const uint64_t rx = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	int result = rte_eth_dev_info_get(port, &info);

	if (result == 0)
		result = rte_eth_macaddr_get(port, &mac);
	if (result != 0)
		return result;
	memset(device, 0, sizeof(*device));
	device->port = port;
	device->max_rx_queues = info.max_rx_queues;
	device->max_tx_queues = info.max_tx_queues;
	device->min_rx_descriptors = info.rx_desc_lim.nb_min;
	device->max_rx_descriptors = info.rx_desc_lim.nb_max;
	device->min_tx_descriptors = info.tx_desc_lim.nb_min;
	device->max_tx_descriptors = info.tx_desc_lim.nb_max;
	device->min_mtu = info.min_mtu;
	device->max_mtu = max_mtu(&info);
	device->node = rte_eth_dev_socket_id(port);
	memcpy(device->mac, mac.addr_bytes, sizeof(device->mac));
	device->rx_checksums = (info.rx_offload_capa & rx) == rx;
	device->tx_checksums = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
	device->rss = (info.flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV4_UDP) != 0;
	if (info.driver_name != NULL)
		strncpy(device->driver, info.driver_name, SHIM_NAME - 1);
	device->copies = is_one_of(&info, copying, RTE_DIM(copying));
	return rte_eth_dev_get_mtu(port, &device->mtu);
}

int shim_configure(uint16_t port, const struct shim_setup *setup)
{
	struct rte_eth_conf conf;
	struct rte_eth_dev_info info;
	int result = rte_eth_dev_info_get(port, &info);

	if (result != 0)
		return result;
	memset(&conf, 0, sizeof(conf));
	if (setup->mtu != 0)
		conf.rxmode.mtu = setup->mtu;
	if (setup->rx_checksums)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	if (setup->tx_checksums)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	/* All mbufs that one queue sends are from one mempool, and nobody else refers to them. */
	conf.txmode.offloads |= info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	/* Without it DPDK takes no VLAN for the filter. */
	if (is_one_of(&info, filtering, RTE_DIM(filtering)))
		conf.rxmode.offloads |= info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
	if (setup->rss && setup->queues > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info.flow_type_rss_offloads & (RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_IPV4);
	}
	return rte_eth_dev_configure(port, setup->queues, setup->queues, &conf);
}

int shim_start(uint16_t port)
{
	int result;

	if (!gate_is_needed(port))
		return rte_eth_dev_start(port);
	result = gate_begin();
	if (result != 0)
		return result;
	gate_wait();
	result = rte_eth_dev_start(port);
	gate_leave();
	return result;
}

int shim_take_vlan(uint16_t port, uint16_t vlan)
{
	int offloads = rte_eth_dev_get_vlan_offload(port);

	if (offloads < 0)
		return offloads;
	return offloads & RTE_ETH_VLAN_FILTER_OFFLOAD ? rte_eth_dev_vlan_filter(port, vlan, 1) : 0;
}

int shim_close(uint16_t port)
{
	struct rte_eth_dev_info info;
	struct rte_device *device = rte_eth_dev_info_get(port, &info) == 0 ? info.device : NULL;
	int gated = gate_is_needed(port), result;

	if (gated)
		gate_wait();
	/* A device that was never started refuses to stop; it is closed nevertheless. */
	(void)rte_eth_dev_stop(port);
	result = rte_eth_dev_close(port);
	/* So that a device of the same name can be made again. */
	if (result == 0 && device != NULL)
		(void)rte_dev_remove(device);
	if (gated)
		gate_leave();
	return result;
}

int shim_link(uint16_t port, uint32_t *mbits)
{
	struct rte_eth_link link;
	int result = rte_eth_link_get_nowait(port, &link);

	if (result != 0)
		return result;
	*mbits = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return link.link_status == RTE_ETH_LINK_UP;
}

int shim_stats(uint16_t port, struct shim_stats *stats)
{
	struct rte_eth_stats all;
	int result = rte_eth_stats_get(port, &all);

	if (result == 0)
		*stats = (struct shim_stats){ all.imissed, all.ierrors, all.oerrors, all.rx_nombuf };
	return result;
}

int shim_xstats(uint16_t port, shim_visit_fn visit, void *context)
{
	int count = rte_eth_xstats_get(port, NULL, 0);
	struct rte_eth_xstat *values = NULL;
	struct rte_eth_xstat_name *names = NULL;
	int result = count;

	if (count <= 0)
		return count;
	values = calloc(count, sizeof(*values));
	names = calloc(count, sizeof(*names));
	if (values == NULL || names == NULL)
		result = -ENOMEM;
	else if (rte_eth_xstats_get_names(port, names, count) != count || rte_eth_xstats_get(port, values, count) != count)
		result = -EAGAIN;
	for (int i = 0; i < result; i++)
		if (values[i].id < (uint64_t)count)
			visit(context, names[values[i].id].name, values[i].value);
	free(values);
	free(names);
	return result;
}
