//! A gateway process: lcores with their gateways, and the registrar's desk on the control thread.

use super::{Polling, Start, board, epoch, secret};
use crate::assemble::cores::Lcores;
use crate::assemble::ports::Ports;
use crate::assemble::{LcoreLinks, announce, start_lcores};
use crate::supervise::RoleControl;
use crate::supervise::changes::port_mtus;
use crate::supervise::desk::{Inbox, RegistrarDesk};
use api::routes::StaticRoute;
use api::stats::{KEY_FINGERPRINT, STATIC_ROUTES};
use common::exit::Failure;
use common::units::Duration;
use gateway::{Gateway, GatewayConfig};
use link::{Registrar, RegistrarConfig};
use serve::board::RoleCounters;
use settings::RunningSettings;
use settings::config;
use settings::flags::{PUSH_RATES, Switch};
use settings::keyfile;
use settings::neighbor::NeighborSpec;
use settings::plan::PortPlan;
use settings::static_routes::{PortFacts, Shown};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many link control datagrams may wait for the registrar.
const REGISTRAR_MAILBOX: usize = 1024;

// `settings` does not know the role whose settings it reads.
const _: () = assert!(PUSH_RATES.0 == gateway::config::PUSH_RATE && PUSH_RATES.1 == gateway::push::MOST);

/// Runs a gateway until it has drained.
///
/// # Errors
/// Before it runs it fails as [`ControlSocket::claim`](serve::socket::ControlSocket::claim),
/// [`MetricsListener::bind`](serve::metrics::MetricsListener::bind), [`NeighborSpec::resolve`], [`Ports::prepare`] and
/// [`start_lcores`] do, or because a static route does not fit its ports. Then it fails as
/// [`supervise::run`](crate::supervise::run) does.
pub fn run(mut config: config::GatewaySettings, settings: RunningSettings) -> Result<(), Failure> {
    let start = Start::new(&config.common)?;
    let clock = start.clock;
    let fingerprints = keyfile::fingerprints(&config.keys.fingerprints());
    match &fingerprints {
        Some(fingerprints) => tracing::info!("cluster key with fingerprint {fingerprints}"),
        None => tracing::warn!(
            "NO KEY: whoever reaches this gateway can register as any slave or master. Make a key with \
             `gvm-dp key new --out FILE` and start every gateway with --key-file FILE"
        ),
    }
    if config.accept_v1 {
        tracing::warn!(
            "--accept-v1: nodes of version 1 of link control are let in; recorded answers can deceive them. Update \
             them, and \
             leave --accept-v1 out when members_v1 in `gvm-dp stats` is 0"
        );
    }
    let neighbors = config.neighbors.iter().map(NeighborSpec::resolve).collect::<Result<_, _>>()?;
    let steering = ebpf::Config { neighbors, ..ebpf::Config::new(&config.shards) };
    let ports = Ports::prepare(&config.common, &steering, &config.neighbors, Lcores::UpTo(usize::MAX))?;
    let (to_registrar, inbox) = Inbox::new(REGISTRAR_MAILBOX);
    let (ends, ended) = mpsc::unbounded_channel();
    let roles = GatewayConfig {
        hold: config.hold,
        early: config.early,
        masters: config.max_masters,
        push_rate: config.push_rate,
        interval: config.common.interval,
        ..GatewayConfig::new(config.shards.clone())
    };
    let masters = usize::from(roles.masters);
    let make = move |lcore: u16, pool: &frame::Pool, _: &[port::any::AnyPort]| {
        let gateway = Gateway::new(GatewayConfig { lane: lcore, ..roles.clone() }, pool).map_err(Failure::Table)?;
        let counters = RoleCounters::Gateway(Arc::clone(gateway.counters()));
        Ok((gateway, counters))
    };
    let links = LcoreLinks { registrar: Some(&to_registrar), bells: None, ended: &ends };
    let lcores = start_lcores(&ports, config.common.rx_mode, clock, links, make)?;
    let port_mtus = port_mtus(&config.common, lcores.iter().map(|lcore| lcore.running.view()));
    let mtu = port_mtus.iter().copied().min().unwrap_or_else(|| config.common.mtu_of_frames());
    let registrar = RegistrarConfig {
        scale: config.common.scale,
        shards: config.announced.clone(),
        // Only the registrar has the keys, so that they are erased when it gets others.
        keys: std::mem::take(&mut config.keys),
        secret: secret()?,
        epoch: epoch()?,
        interval: config.common.interval,
        hold_ns: u32::try_from(config.hold).unwrap_or(u32::MAX),
        mtu,
        port_mtus: port_mtus.clone(),
        two_port: config.common.ports.len() > 1,
        max_masters: masters,
        accept_v1: config.accept_v1,
    };
    let registrar = Registrar::new(registrar, clock.now()).map_err(Failure::Registrar)?;
    announce(&lcores, &ports);
    let early = if config.early { "early flush on" } else { "early flush off" };
    tracing::info!(
        "gateway \"{}\": shards {} ({} slave ids), hold {}, {early}, MTU {}, {} waiting, control socket {}",
        config.common.name,
        config.shards,
        config.shards.slaves(),
        Duration(config.hold),
        mtus_text(&port_mtus),
        config.common.rx_mode,
        start.socket.path().display(),
    );
    let mut board = board("gateway", &config.common, clock, &lcores);
    board.settings.insert("hold", Duration(config.hold).to_string());
    board.settings.insert("early", if config.early { Switch::On } else { Switch::Off }.to_string());
    board.settings.insert("shards", config.shards.to_string());
    if !config.neighbors.is_empty() {
        let neighbors: Vec<String> = config.neighbors.iter().map(NeighborSpec::to_string).collect();
        board.settings.insert("neighbors", neighbors.join(" "));
    }
    if let Some(fingerprints) = fingerprints {
        board.settings.insert(KEY_FINGERPRINT, fingerprints);
    }
    board.link = Some(Arc::clone(registrar.counters()));
    let senders = lcores.iter().map(|lcore| lcore.commands.clone()).collect();
    let mut desk = RegistrarDesk::new(registrar, inbox, senders);
    if let Some(routes) = &config.static_routes {
        let facts = |(plan, mtu): (&PortPlan, &u16)| PortFacts::new(plan, *mtu);
        let facts: Vec<PortFacts> = config.common.ports.iter().zip(&port_mtus).map(facts).collect();
        tracing::warn!(
            "STATIC ROUTES: {routes}: whoever sends from those addresses is taken for these nodes, and what is for \
             them leaves \
             whether anybody is there or not. For tests alone"
        );
        board.settings.insert(STATIC_ROUTES, routes.to_string());
        desk.fix(
            routes.changes(&facts, config.common.scale)?,
            routes.shown(facts.len()).into_iter().map(shown).collect(),
        );
    }
    let role = RoleControl::Gateway(Box::new(desk));
    let reports = mpsc::channel(1).1;
    let polling = Polling { start, ports, lcores, ended, board, role, reports, port_mtus };
    polling.supervise(&config.common, settings)
}

/// A static route in the form of the control API.
fn shown(line: Shown) -> StaticRoute {
    let Shown { role, first, last, address, counts, port, vlan, mtu } = line;
    StaticRoute { role: role.to_owned(), first, last, address: address.to_string(), counts, port, vlan, mtu }
}

/// `9000`, or `9000 and 1500` if ports differ.
fn mtus_text(mtus: &[u16]) -> String {
    match mtus {
        [first, others @ ..] if others.iter().all(|other| other == first) => first.to_string(),
        _ => mtus.iter().map(u16::to_string).collect::<Vec<_>>().join(" and "),
    }
}
