//! The values that shells offer for settings whose type does not list them.

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use host::machine;
use shell::complete::{list, values, with_options};
use std::path::Path;

/// The ways in which lcores wait.
pub const RX_MODES: [&str; 2] = ["adaptive", "polling"];
/// Levels of the log.
pub const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The ways in which lcores wait.
pub fn rx_modes() -> ArgValueCandidates {
    values(&RX_MODES)
}

/// Levels of the log. A level by target needs the name of a target, which cannot be completed.
pub fn log_levels() -> ArgValueCandidates {
    values(&LOG_LEVELS)
}

/// Cores that this process may use, and what may follow after a comma.
pub fn cores() -> ArgValueCompleter {
    list(|| {
        let cores = lcore::CoreList::of_this_process();
        cores.map(|cores| cores.iter().map(|core| core.to_string()).collect()).unwrap_or_default()
    })
}

/// Ports: the kinds, with the interfaces and addresses of this machine, and PCI network devices; then their options.
pub fn ports() -> ArgValueCompleter {
    let named = || {
        let interfaces = machine::interfaces();
        let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        let sockets =
            addresses.map(|address| format!("udp:{}", std::net::SocketAddr::new(*address, wire::GATEWAY_PORT)));
        let queues = interfaces.iter().map(|interface| format!("xdp:{}", interface.name));
        let every = ["udp:0.0.0.0:0".to_owned()].into_iter().chain(sockets).chain(queues);
        every.chain(network_devices()).chain(["dpdk:".to_owned()]).collect()
    };
    with_options(named, port_options)
}

/// The options of a port.
fn port_options(port: &str) -> &'static [&'static str] {
    if port.starts_with("udp:") {
        &["rate="]
    } else if port.starts_with("xdp:") {
        &["queues=", "mode=auto", "mode=zc", "mode=copy", "mode=skb", "vlans=", "rate="]
    } else if port.contains(':') {
        &["ip=", "gw=", "mtu=", "vlans=", "rate="]
    } else {
        &[]
    }
}

/// Addresses of PCI network devices (class 02).
fn network_devices() -> Vec<String> {
    let is_network = |path: &Path| {
        let class = std::fs::read_to_string(path.join("class")).unwrap_or_default();
        class.starts_with("0x02")
    };
    let entries = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let devices = entries.filter(|entry| is_network(&entry.path()));
    let mut addresses: Vec<String> = devices.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    addresses.sort();
    addresses
}
