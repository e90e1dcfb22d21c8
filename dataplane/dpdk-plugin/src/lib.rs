//! Ports over the distribution's DPDK, as a plugin that gvm-dp loads at run time. Without DPDK on the machine, the main
//! program builds, starts and serves everything else.
//!
//! The plugin's interface is the table of `port_abi`; the host is `port::dpdk`. Each chunk of an lcore's arena
//! permanently has one mbuf, so that a frame passes between DPDK and other ports without a copy; see `shim/inside.h` of
//! `gvm-dpdk-sys`.
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(dpdk)]
mod device;
#[cfg(dpdk)]
mod library;
#[cfg(dpdk)]
mod queue;

use port_abi::Plugin;

/// The table; null if this was built without DPDK.
#[unsafe(no_mangle)]
pub extern "C" fn gvm_dp_port_plugin() -> *const Plugin {
    #[cfg(dpdk)]
    return &raw const TABLE;
    #[cfg(not(dpdk))]
    return std::ptr::null();
}

#[cfg(dpdk)]
static TABLE: Plugin = Plugin {
    magic: port_abi::MAGIC,
    version: port_abi::VERSION,
    layout: port_abi::layout(),
    library: library::version,
    start: library::start,
    register_thread: library::register_thread,
    unregister_thread: library::unregister_thread,
    on_library_thread: library::on_library_thread,
    open: device::open,
    configure: device::configure,
    steer_lanes: device::steer_lanes,
    steer_ports: device::steer_ports,
    device_start: device::start,
    take_vlan: device::take_vlan,
    device_close: device::close,
    link: device::link,
    device_counts: device::counts,
    each_counter: device::each_counter,
    queue_open: queue::open,
    rx_burst: queue::rx_burst,
    tx_burst: queue::tx_burst,
    exchange: queue::exchange,
    tidy: queue::tidy,
    flush: queue::flush,
    queue_counts: queue::counts,
    queue_close: queue::close,
    rehearse: queue::rehearse,
};
