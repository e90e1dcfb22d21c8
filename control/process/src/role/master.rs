//! A master process: one lcore with its queue pairs, and a thread that takes applications.

use super::{Polling, Start, board, epoch, secret};
use crate::assemble::ports::Ports;
use crate::assemble::{LcoreLinks, announce, start_lcores};
use crate::supervise::changes::port_mtus;
use crate::supervise::{MasterControl, RoleControl};
use api::stats::KEY_FINGERPRINT;
use applications::{ApplicationLimits, ApplicationServer, ApplicationSocket, LcoreEnds};
use common::exit::Failure;
use frame::{Peer, PortId};
use host::privilege::Thread;
use lcore::bells::Bells;
use link::{ChallengeSecret, NodeConfig};
use master::{Master, MasterConfig, MasterServer};
use port::Port;
use rustix::thread::CapabilitySet;
use serve::board::{DeviceView as _, RoleCounters};
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
/// [`MetricsListener::bind`](serve::metrics::MetricsListener::bind), [`ApplicationSocket::bind`], [`Ports::prepare`]
/// and [`start_lcores`] do. Then it fails as [`supervise::run`](crate::supervise::run) does.
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
    let ports = Ports::prepare(&config.common, &ebpf::Config::new(&shards), &[], 1)?;
    let path = config.common.applications.clone().unwrap_or_default();
    let socket = ApplicationSocket::bind(&path, config.socket_group.as_deref())?;
    let limits = ApplicationLimits {
        clients: config.clients,
        capacity: CAPACITY,
        buffers: config.client_memory,
        extents: u32::try_from(config.quota).unwrap_or(u32::MAX),
    };
    let failed = |error: std::io::Error| Failure::Machine(format!("cannot take applications: {error}"));
    let (server, mut handles) = ApplicationServer::new(&socket, limits, clock, 1).map_err(failed)?;
    let Some(handle) = handles.pop() else {
        return Err(Failure::Internal("no lcore is served".to_owned()));
    };
    let bells = Bells::new().map_err(failed)?;
    let mbits = ports.devices().next().map(|device| device.stats(clock.now()).link_mbits);
    let speed_class = config.common.ports.first().map_or(SpeedClass::UNKNOWN, |port| speed_of(port, mbits));
    let node = NodeConfig {
        scale: config.common.scale,
        interval: config.common.interval,
        boot_epoch: epoch()?,
        challenges: ChallengeSecret::new(secret()?),
        speed_class,
        // Answers go to the port from which a socket sends.
        fixed_port: true,
        ..NodeConfig::default()
    };
    let (ends, ended) = mpsc::unbounded_channel();
    let gateways: Vec<Peer> = config.gateways.iter().map(|&gateway| Peer::socket(PortId(0), gateway)).collect();
    let common = config.common.clone();
    // Only the lcore has the keys, so that they are erased when it gets others.
    let (credential, connect_key) = (std::mem::take(&mut config.credential), config.connect_key.take());
    let (id, clients) = (config.id, config.clients);
    let seed = secret()?;
    let handle = Arc::new(handle);
    let (views, view) = std::sync::mpsc::channel();
    let make = move |_: u16, _: &frame::Pool, ports: &[port::any::AnyPort]| {
        let mtus = ports.iter().map(|port| common.mtu_of(port.id(), port.mtu()));
        let mtu = mtus.min().unwrap_or_else(|| common.mtu_of_frames());
        let config = MasterConfig {
            node: NodeConfig { max_ip_packet: mtu, ..node.clone() },
            credential: credential.clone(),
            connect_key: connect_key.clone(),
            seed,
            clients,
            requests: u32::from(clients) * CAPACITY,
            buffers: clients.into(),
            extents: EXTENTS,
            speed_mbit: speed_class.least_mbit().unwrap_or(0),
            ..MasterConfig::new(id, gateways.clone())
        };
        let master = Master::new(config, clock.now(), handle.master_events())
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let view = master.stats();
        // The receiver waits for it.
        let _ = views.send(view.clone());
        Ok((MasterServer::new(master, clients, handle.serving_events()), RoleCounters::Master(view)))
    };
    let links = LcoreLinks { registrar: None, bells: Some(&bells), ended: &ends };
    let lcores = start_lcores(&ports, config.common.rx_mode, clock, links, make)?;
    let view = view.recv().map_err(|_| Failure::Internal("the lcore has no view of its master".to_owned()))?;
    announce(&lcores, &ports);
    let port_mtus = port_mtus(&config.common, lcores.iter().map(|lcore| lcore.running.view()));
    let addresses: Vec<String> = config.gateways.iter().map(SocketAddr::to_string).collect();
    tracing::info!(
        "\"{}\": master {id}, gateways {}, applications at {}, control socket {}",
        config.common.name,
        addresses.join(", "),
        path.display(),
        start.socket.path().display()
    );
    let board = board("master", &config.common, clock, &lcores);
    board.settings.insert("gateway", addresses.join(" "));
    board.settings.insert("id", id.to_string());
    board.settings.insert("socket", path.display().to_string());
    board.settings.insert("link_speed", speed_class.to_string());
    if let Some(fingerprints) = fingerprints {
        board.settings.insert(KEY_FINGERPRINT, fingerprints);
    }
    let Some(commands) = lcores.first().map(|lcore| lcore.commands.clone()) else {
        return Err(Failure::Internal("a master has no lcore".to_owned()));
    };
    let (register, stopper) = (server.register().clone(), server.stopper());
    let (confinement, to_lcore) = (ports.confinement.clone(), commands.clone());
    let serve = move || {
        if let Err(failure) = confinement.enter(Thread::Applications, CapabilitySet::empty()) {
            return tracing::error!("no application is served: {failure}");
        }
        server.run(&[LcoreEnds { bells, commands: to_lcore }]);
    };
    let thread = std::thread::Builder::new().name("applications".to_owned()).spawn(serve).map_err(failed)?;
    let role = RoleControl::Master(Box::new(MasterControl::new(commands, (stopper, thread), register, view)));
    let reports = mpsc::channel(1).1;
    let polling = Polling { start, ports, lcores, ended, board, role, reports, port_mtus };
    polling.supervise(&config.common, settings)
}

/// The most extents of all applications: 2 TiB.
const EXTENTS: u32 = 1 << 20;
