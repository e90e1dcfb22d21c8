//! A master process: an lcore with a master for each id, and a thread that takes applications.

use super::{Polling, Start, board, epoch, secret};
use crate::assemble::cores::Lcores;
use crate::assemble::ports::Ports;
use crate::assemble::{LcoreLinks, Started, StartedApart, announce, start_apart};
use crate::lease_secrets::StartSeed;
use crate::supervise::changes::port_mtus;
use crate::supervise::{MasterControl, RoleControl, Served};
use api::stats::{CONNECT_KEY_FINGERPRINT, KEY_FINGERPRINT};
use applications::{ApplicationLimits, ApplicationServer, ApplicationSocket, LcoreEnds};
use common::exit::Failure;
use frame::{Peer, PortId};
use host::privilege::Thread;
use lcore::RxMode;
use lcore::bells::Bells;
use lcore::together::{Company, Together};
use link::{ChallengeSecret, NodeConfig};
use master::{ADAPTIVE_QUEUE_TARGET, Master, MasterConfig, MasterServer, MasterStats, ServingCommand};
use port::Port;
use rustix::thread::CapabilitySet;
use serve::board::{DeviceView as _, RoleCounters, ServedMaster};
use settings::RunningSettings;
use settings::domain::speed_of;
use settings::keyfile;
use settings::master::MasterSettings;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use wire::ShardSet;
use wire::link::SpeedClass;

/// The most requests of one application that may be under way.
const CAPACITY: u32 = 4096;

/// Runs a master until it has drained.
///
/// # Errors
/// Before it runs it fails as [`ControlSocket::claim`](serve::socket::ControlSocket::claim),
/// [`MetricsListener::bind`](serve::metrics::MetricsListener::bind), [`ApplicationSocket::bind`], [`Ports::prepare`],
/// [`StartSeed::of_file`] and [`start_apart`] do. Then it fails as [`supervise::run`](crate::supervise::run) does.
pub fn run(mut config: MasterSettings, settings: RunningSettings) -> Result<(), Failure> {
    let start = Start::new(&config.common)?;
    let clock = start.clock;
    let fingerprints = keyfile::fingerprints(&config.credential.fingerprints());
    match &fingerprints {
        Some(fingerprints) => tracing::info!("key with fingerprint {fingerprints}"),
        None => tracing::warn!(
            "NO KEY: this master cannot tell its gateways and slaves from impostors, who could read its memory. Give \
             it --key-file and --connect-key-file (gvm-dp key derive)"
        ),
    }
    let shards = ShardSet::all(config.common.scale);
    let count = config.lcores();
    let ports = Ports::prepare(&config.common, &ebpf::Config::new(&shards), &[], Lcores::Each(count))?;
    let path = config.common.applications.clone().unwrap_or_default();
    let socket = ApplicationSocket::bind(&path, config.socket_group.as_deref())?;
    let limits = ApplicationLimits {
        clients: config.clients,
        capacity: CAPACITY,
        buffers: config.client_memory,
        extents: u32::try_from(config.quota).unwrap_or(u32::MAX),
    };
    let failed = |error: std::io::Error| Failure::Machine(format!("cannot take applications: {error}"));
    let (server, handles) = ApplicationServer::new(&socket, limits, clock, count).map_err(failed)?;
    let bells = (0..count).map(|_| Bells::new()).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mbits = ports.devices().next().map(|device| device.stats(clock.now()).link_mbits);
    let speed_class = config.common.ports.first().map_or(SpeedClass::UNKNOWN, |port| speed_of(port, mbits));
    let node = NodeConfig {
        scale: config.common.scale,
        interval: config.common.interval,
        speed_class,
        // Answers go to the port from which a socket sends.
        fixed_port: true,
        ..NodeConfig::default()
    };
    let (ends, ended) = mpsc::unbounded_channel();
    let gateways: Vec<Peer> = config.gateways.iter().map(|&gateway| Peer::socket(PortId(0), gateway)).collect();
    let common = config.common.clone();
    // Only the lcores have the keys, so that they are erased when it gets others.
    let connect_fingerprints = keyfile::fingerprints(&config.connect_keys.fingerprints());
    let (credential, connect_keys) = (std::mem::take(&mut config.credential), std::mem::take(&mut config.connect_keys));
    // An application goes to the lcore with the fewest: none gets more than its share of them.
    let (ids, clients) = (config.ids, config.clients.div_ceil(u16::try_from(count).unwrap_or(1)));
    // Each lcore is a node and a master of its own.
    let starts = (0..count).map(|_| Ok((epoch()?, secret()?, secret()?))).collect::<Result<Vec<_>, Failure>>()?;
    let (starts, handles) = (Arc::new(starts), Arc::new(handles));
    // All that can be refused before was not: a start that does nothing is not counted. The file is locked until the
    // process ends.
    let lease_seed =
        Arc::new(config.lease_secrets.as_deref().map_or_else(StartSeed::of_one_start, StartSeed::of_file)?);
    if let Some(path) = &config.lease_secrets {
        let before = lease_seed.starts_before();
        tracing::info!("secrets of leases from {}, which had {before} starts before this one", path.display());
    }
    let for_lcores = Arc::clone(&lease_seed);
    let company = Company::new(count);
    // They share the link.
    let speed_mbit = speed_class.least_mbit().unwrap_or(0) / u32::try_from(count).unwrap_or(1);
    let make = move |lcore: u16, _: &frame::Pool, ports: &[port::any::AnyPort]| {
        let place = usize::from(lcore);
        let (Some((boot_epoch, challenges, seed)), Some(handle)) = (starts.get(place), handles.get(place)) else {
            return Err(Failure::Internal(format!("lcore {lcore} has no master")));
        };
        // The settings were checked: all ids are below 65,536.
        let id = u16::try_from(ids.first()).unwrap_or(u16::MAX).saturating_add(lcore);
        let mtus = ports.iter().map(|port| common.mtu_of(port.id(), port.mtu()));
        let mtu = mtus.min().unwrap_or_else(|| common.mtu_of_frames());
        let config = MasterConfig {
            node: NodeConfig {
                max_ip_packet: mtu,
                boot_epoch: *boot_epoch,
                challenges: ChallengeSecret::new(*challenges),
                ..node.clone()
            },
            credential: credential.clone(),
            connect_keys: connect_keys.clone(),
            seed: *seed,
            lease_secrets: for_lcores.secrets(),
            clients,
            requests: u32::from(clients) * CAPACITY,
            buffers: clients.into(),
            extents: EXTENTS,
            speed_mbit,
            ..MasterConfig::new(id, gateways.clone())
        };
        let config = match common.rx_mode {
            RxMode::Polling => config,
            RxMode::Adaptive => MasterConfig { queue_target: ADAPTIVE_QUEUE_TARGET, ..config },
        };
        let master = Master::new(config, clock.now(), handle.master_events())
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let view = master.stats();
        let server = MasterServer::new(master, clients, handle.serving_events());
        Ok((Together::new(server, company.clone()), view))
    };
    let links = LcoreLinks { registrar: None, bells: Some(&bells), ended: &ends };
    let lcores = start_apart(&ports, config.common.rx_mode, clock, links, make)?;
    let views: Vec<MasterStats> = lcores.iter().map(|lcore| lcore.counters.0.clone()).collect();
    let with_counters = |lcore: StartedApart<ServingCommand, MasterStats>| {
        let (master, handed) = lcore.counters;
        let counters = RoleCounters::Master(ServedMaster { master, handed });
        Started { running: lcore.running, commands: lcore.commands, counters }
    };
    let lcores: Vec<_> = lcores.into_iter().map(with_counters).collect();
    announce(&lcores, &ports);
    let port_mtus = port_mtus(&config.common, lcores.iter().map(|lcore| lcore.running.view()));
    let addresses: Vec<String> = config.gateways.iter().map(SocketAddr::to_string).collect();
    tracing::info!(
        "\"{}\": {}, gateways {}, applications at {}, control socket {}",
        config.common.name,
        if count == 1 { format!("master {ids}") } else { format!("masters {ids}, an lcore each") },
        addresses.join(", "),
        path.display(),
        start.socket.path().display()
    );
    let mut board = board("master", &config.common, clock, &lcores);
    board.settings.insert("gateway", addresses.join(" "));
    board.settings.insert("id", ids.to_string());
    board.settings.insert("socket", path.display().to_string());
    board.settings.insert("link_speed", speed_class.to_string());
    if let Some(fingerprints) = fingerprints {
        board.settings.insert(KEY_FINGERPRINT, fingerprints);
    }
    if let Some(fingerprints) = connect_fingerprints {
        board.settings.insert(CONNECT_KEY_FINGERPRINT, fingerprints);
    }
    let commands: Vec<_> = lcores.iter().map(|lcore| lcore.commands.clone()).collect();
    let (register, stopper) = (server.register().clone(), server.stopper());
    board.serving = Some(Arc::new(Served(register.clone())));
    let confinement = ports.confinement.clone();
    let served: Vec<LcoreEnds> =
        bells.into_iter().zip(&commands).map(|(bells, to)| LcoreEnds { bells, commands: to.clone() }).collect();
    let serve = move || {
        if let Err(failure) = confinement.enter(Thread::Applications, CapabilitySet::empty()) {
            return tracing::error!("no application is served: {failure}");
        }
        server.run(&served);
    };
    let thread = std::thread::Builder::new().name("applications".to_owned()).spawn(serve).map_err(failed)?;
    let role = RoleControl::Master(Box::new(MasterControl::new(commands, (stopper, thread), register, views)));
    let reports = mpsc::channel(1).1;
    let polling = Polling { start, ports, lcores, ended, board, role, reports, port_mtus };
    polling.supervise(&config.common, settings)
}

/// The most extents of all applications of an lcore: 2 TiB.
const EXTENTS: u32 = 1 << 20;
