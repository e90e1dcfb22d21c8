//! The gateways of a run with their registrars, and where everybody is.

use crate::rng::Rng;
use frame::pool::chunk_for_data;
use frame::time::{MICROSECOND, MILLISECOND};
use frame::{Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use lease::LeaseSecrets;
use link::{Registrar, RegistrarConfig, Route, RouteChange, Sink};
use records::PathEnds;
use wire::{Scale, ShardSet};

pub(super) const MASTERS: [u16; 2] = [1, 2];
/// A registered master that breaks every rule.
pub(super) const HOSTILE: u16 = 3;
/// All nodes are behind both.
pub(super) const GATEWAYS: usize = 2;
pub(super) const INTERVAL: Time = 100 * MILLISECOND;

/// A gateway with its registrar.
pub(super) struct LeaseGateway {
    pub(super) gateway: Gateway,
    pub(super) out: Outbox,
    pub(super) registrar: Registrar,
    /// Until then it is not there.
    pub(super) down_until: Time,
}

pub(super) fn pool(frames: u32, mtu: u16) -> Result<Pool, String> {
    let chunk = chunk_for_data(u32::from(mtu));
    let config = PoolConfig { frames, chunk, hugepages: Hugepages::Never, reserve: 0 };
    Pool::new(config).map_err(|error| error.to_string())
}

pub(super) fn peer(port: u8, host: u8) -> Peer {
    Peer::ipv4(PortId(port), [10, port, 0, host], 9999, Vlan::UNTAGGED, [2, port, 0, 0, 0, host])
}

pub(super) fn at_port(mut peer: Peer, port: u8) -> Peer {
    peer.port = PortId(port);
    peer
}

/// A node, as the gateway sees it: masters on port 0, the farm on port 1.
pub(super) fn master_peer(master: u16) -> Peer {
    peer(0, master as u8)
}

pub(super) fn farm_peer() -> Peer {
    peer(1, 1)
}

/// A gateway, as nodes on this port of it see it.
pub(super) fn gateway_peer(gateway: usize, port: u8) -> Peer {
    at_port(peer(port, 254 - gateway as u8), 0)
}

/// The gateways, as masters see them.
pub(super) fn ways() -> [Peer; GATEWAYS] {
    [gateway_peer(0, 0), gateway_peer(1, 0)]
}

/// The secrets of a master at a slave, which are those of earlier starts, too.
pub(super) fn secrets(ends: PathEnds, start: u64) -> LeaseSecrets {
    LeaseSecrets::new(&[ends.slave as u8 ^ ends.master as u8; 32], start)
}

/// What the registrar wants to send, and the routes that it changes.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) replies: Vec<(Peer, Vec<u8>)>,
    pub(super) routes: Vec<RouteChange>,
}

impl Sink for Wanted {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _: u16) {
        self.replies.push((*to, datagram.to_vec()));
    }

    fn route(&mut self, change: RouteChange) {
        self.routes.push(change);
    }
}

pub(super) fn make_gateway(rng: &mut Rng, mtu: u16, now: Time) -> Result<LeaseGateway, String> {
    let frames = pool(1024, mtu)?;
    let config = GatewayConfig {
        hold: rng.pick(&[0, 50, 300]) * MICROSECOND,
        masters: 8,
        interval: INTERVAL,
        ..GatewayConfig::new(ShardSet::all(Scale::default()))
    };
    let hold = config.hold;
    let mut gateway = Gateway::new(config, &frames).map_err(|error| error.to_string())?;
    let mut out = Outbox::new(frames, 2);
    for id in MASTERS.into_iter().chain([HOSTILE]) {
        let route = Some(Route { peer: master_peer(id), mtu, fixed_port: false });
        gateway.command(now, GatewayCommand::Route(RouteChange::Master { id, route }), &mut out);
    }
    let config = RegistrarConfig {
        epoch: rng.bits() | 1,
        secret: rng.secret(),
        interval: INTERVAL,
        hold_ns: u32::try_from(hold).unwrap_or(u32::MAX),
        mtu,
        ..RegistrarConfig::default()
    };
    let registrar = Registrar::new(config, now).map_err(|error| error.to_string())?;
    Ok(LeaseGateway { gateway, out, registrar, down_until: now })
}
