//! A slave process: one lcore with a farm of one or more ids.

use super::{Polling, Start, board, epoch, secret};
use crate::assemble::cores::Lcores;
use crate::assemble::ports::Ports;
use crate::assemble::{LcoreLinks, announce, start_lcores};
use crate::lend::{self, Lending, Mapped};
use crate::supervise::changes::port_mtus;
use crate::supervise::{FarmControl, RoleControl};
use api::stats::{CONNECT_KEY_FINGERPRINT, KEY_FINGERPRINT};
use common::exit::Failure;
use frame::{Peer, PortId};
use host::placement;
use link::{ChallengeSecret, NodeConfig};
use port::Port;
use serve::board::{DeviceView as _, FarmView, RoleCounters};
use settings::RunningSettings;
use settings::config;
use settings::domain::speed_of;
use settings::keyfile;
use settings::lending::LendingSettings;
use slave::{Farm, FarmConfig, FarmError, LendingError};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use wire::ShardSet;
use wire::link::SpeedClass;

/// How many reports of a farm may wait to be printed. A farm combines them, so that there are few.
const EVENTS: usize = 256;

/// Runs a slave until it has drained.
///
/// # Errors
/// Before it runs it fails as [`ControlSocket::claim`](serve::socket::ControlSocket::claim),
/// [`MetricsListener::bind`](serve::metrics::MetricsListener::bind), [`Ports::prepare`] and [`start_lcores`] do. Then
/// it fails as [`supervise::run`](crate::supervise::run) does.
pub fn run(mut config: config::SlaveSettings, settings: RunningSettings) -> Result<(), Failure> {
    let start = Start::new(&config.common)?;
    let clock = start.clock;
    let fingerprints = keyfile::fingerprints(&config.credential.fingerprints());
    match &fingerprints {
        Some(fingerprints) => tracing::info!("key with fingerprint {fingerprints}"),
        None => tracing::warn!(
            "NO KEY: this node cannot tell its gateway from an impostor. Give it --key-file (gvm-dp key derive)"
        ),
    }
    let shards = ShardSet::all(config.common.scale);
    lend::announce(config.lending.as_ref());
    let ports = Ports::prepare(&config.common, &ebpf::Config::new(&shards), &[], Lcores::UpTo(1))?;
    let node_of_memory = placement::arena_node(ports.nics().map(|nic| nic.name()));
    let map = |lending: &LendingSettings| Mapped::new(lending, node_of_memory, &ports.confinement);
    let mapped = config.lending.as_ref().map(map).transpose()?;
    let pages = config.lending.as_ref().map_or(0, |lending| u64::from(lending.units_per_slave) * lend::UNIT_PAGES);
    let domain = config.domain.number();
    let mbits = ports.devices().next().map(|device| device.stats(clock.now()).link_mbits);
    let speed_class = config.common.ports.first().map_or(SpeedClass::UNKNOWN, |port| speed_of(port, mbits));
    let node = NodeConfig {
        scale: config.common.scale,
        interval: config.common.interval,
        boot_epoch: epoch()?,
        challenges: ChallengeSecret::new(secret()?),
        pages_total: pages,
        // The control thread says how many of them could be leased.
        pages_free: 0,
        domain,
        speed_class,
        // Answers go to the port from which a socket sends.
        fixed_port: true,
        ..NodeConfig::default()
    };
    let (events, reports) = mpsc::channel(EVENTS);
    let (ends, ended) = mpsc::unbounded_channel();
    // Only the farm has the keys, so that they are erased when it gets others.
    let (ids, credential) = (config.ids.clone(), std::mem::take(&mut config.credential));
    let gateways: Vec<Peer> = config.gateways.iter().map(|&gateway| Peer::socket(PortId(0), gateway)).collect();
    let common = config.common.clone();
    let lends = match (&config.lending, &mapped) {
        (Some(lending), Some(mapped)) => Some(mapped.config(lending, secret()?)),
        _ => None,
    };
    // A slave has one lcore, so that its farm is built once.
    let lends = Arc::new(Mutex::new(lends));
    let make = move |_: u16, _: &frame::Pool, ports: &[port::any::AnyPort]| {
        let mtus = ports.iter().map(|port| common.mtu_of(port.id(), port.mtu()));
        let mtu = mtus.min().unwrap_or_else(|| common.mtu_of_frames());
        let farm = FarmConfig {
            node: NodeConfig { max_ip_packet: mtu, ..node.clone() },
            credential: credential.clone(),
            slaves: vec![(gateways.clone(), ids.clone())],
            answer_any: false,
            streams: slave::farm::DEFAULT_STREAMS,
            lending: lends.lock().ok().and_then(|mut lends| lends.take()),
        };
        let events = events.clone();
        // If printing is too slow, a report is lost; the counters are not.
        let farm =
            Farm::new(farm, clock.now(), move |event| drop(events.try_send(event))).map_err(|error| match error {
                FarmError::Lending(LendingError::Table(error)) => Failure::Table(error),
                error => Failure::Usage(error.to_string()),
            })?;
        let view = FarmView { farm: Arc::clone(farm.counters()), lending: farm.lending() };
        let counters = RoleCounters::Farm(view);
        Ok((farm, counters))
    };
    let links = LcoreLinks { registrar: None, bells: None, ended: &ends };
    let lcores = start_lcores(&ports, config.common.rx_mode, clock, links, make)?;
    announce(&lcores, &ports);
    let views = lcores.iter().map(|lcore| lcore.running.view());
    let port_mtus = port_mtus(&config.common, views);
    let first = config.ids.id(0).map_or(0, |id| id.get());
    let who = match config.ids.len() {
        1 => format!("slave {first}"),
        count => format!("slaves {first} to {}", first + count - 1),
    };
    let addresses: Vec<String> = config.gateways.iter().map(SocketAddr::to_string).collect();
    let gateways = match &addresses[..] {
        [one] => format!("gateway {one}"),
        all => format!("gateways {}, the first live one in this order", all.join(", ")),
    };
    tracing::info!("\"{}\": {who}, {gateways}, control socket {}", config.common.name, start.socket.path().display());
    let mut board = board("slave", &config.common, clock, &lcores);
    board.settings.insert("gateway", addresses.join(" "));
    board.settings.insert("ids", who);
    board.settings.insert("domain", domain.to_string());
    board.settings.insert("link_speed", speed_class.to_string());
    if let Some(fingerprints) = fingerprints {
        board.settings.insert(KEY_FINGERPRINT, fingerprints);
    }
    board.members = u64::from(config.ids.len());
    if let (Some(traffic), Some(lcore)) = (config.traffic, lcores.first()) {
        // The mailbox is new and empty, so there is room.
        let _ = lcore.commands.try_send(slave::FarmCommand::StartTraffic(traffic));
    }
    let senders = lcores.iter().map(|lcore| lcore.commands.clone()).collect();
    let of_farm = lcores.first().and_then(|lcore| match &lcore.counters {
        RoleCounters::Farm(FarmView { lending: Some(view), .. }) => Some((Arc::clone(view), lcore.commands.clone())),
        _ => None,
    });
    let lending = match (&config.lending, &mapped, of_farm) {
        (Some(settings), Some(mapped), Some((leases, farm))) => Some(Lending::new(settings, mapped, leases, farm)?),
        _ => None,
    };
    // Only the farm has the connect keys from now on, so that they are erased when it gets others.
    let connect_keys = config.lending.as_mut().map(|lending| std::mem::take(&mut lending.keys)).unwrap_or_default();
    if let Some(fingerprints) = keyfile::fingerprints(&connect_keys.fingerprints()) {
        board.settings.insert(CONNECT_KEY_FINGERPRINT, fingerprints);
    }
    drop(connect_keys);
    board.lending = lending.as_ref().map(Lending::view);
    let role = RoleControl::Slave(Box::new(FarmControl::new(senders, config.ids.len(), lending)));
    let polling = Polling { start, ports, lcores, ended, board, role, reports, port_mtus };
    polling.supervise(&config.common, settings)
}
