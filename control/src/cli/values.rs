//! The values that shells offer, where a flag's type does not say them.

use crate::machine;
use crate::serve::socket;
use crate::settings::RoleName;
use crate::settings::catalog::Catalog;
use crate::supervise::live;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use shell::complete::{list, lookup, values};
use std::path::Path;

/// Names of running processes of this user.
pub(super) fn processes() -> ArgValueCompleter {
    let running = || socket::trusted_directory().map(socket::running).unwrap_or_default();
    lookup(move || running().into_iter().map(|(name, _)| name).collect())
}

/// How an lcore waits.
pub(super) fn rx_modes() -> ArgValueCandidates {
    values(&RX_MODES)
}

/// Levels of the log. A level by target needs the target, which nobody can guess.
pub(super) fn log_levels() -> ArgValueCandidates {
    values(&LOG_LEVELS)
}

/// Path MTUs of RoCEv2.
pub(super) fn path_mtus() -> ArgValueCandidates {
    values(&["256", "512", "1024", "2048", "4096"])
}

/// Cores that this process may use, and what may stand behind a comma.
pub(super) fn cores() -> ArgValueCompleter {
    list(|| {
        let cores = lcore::CoreList::of_this_process();
        cores.map(|cores| cores.iter().map(|core| core.to_string()).collect()).unwrap_or_default()
    })
}

/// Ports: the kinds, with the interfaces and addresses of this machine, and PCI network devices.
pub(super) fn ports() -> ArgValueCompleter {
    lookup(|| {
        let interfaces = machine::interfaces();
        let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        let sockets =
            addresses.map(|address| format!("udp:{}", std::net::SocketAddr::new(*address, wire::GATEWAY_PORT)));
        let queues = interfaces.iter().map(|interface| format!("xdp:{}", interface.name));
        let every = ["udp:0.0.0.0:0".to_owned()].into_iter().chain(sockets).chain(queues);
        every.chain(network_devices()).chain(["dpdk:".to_owned()]).collect()
    })
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

/// Settings that can change while a process runs.
pub(super) fn settings() -> ArgValueCompleter {
    lookup(|| {
        let every = RoleName::ALL.into_iter().flat_map(|role| Catalog::of(role).settings);
        let mut names: Vec<String> = every.map(|setting| setting.name).filter(|name| live::is_live(name)).collect();
        names.sort();
        names.dedup();
        names
    })
}

/// Values of the setting that stands before them on the command line.
pub(super) fn setting_values() -> ArgValueCompleter {
    lookup(|| {
        // A completer is asked for the word alone; the line is this process's own arguments.
        let words: Vec<String> = std::env::args().collect();
        let known: &[&str] = match words.iter().rev().find_map(|word| setting_with_values(word)) {
            Some(values) => values,
            None => &[],
        };
        known.iter().map(|&value| value.to_owned()).collect()
    })
}

fn setting_with_values(word: &str) -> Option<&'static [&'static str]> {
    match word {
        "early" => Some(&["on", "off"]),
        "rx-mode" => Some(&RX_MODES),
        "log" => Some(&LOG_LEVELS),
        _ => None,
    }
}

const RX_MODES: [&str; 2] = ["adaptive", "polling"];
const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
