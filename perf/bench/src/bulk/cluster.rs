//! A master, a gateway with its registrar, and slaves that lend, on a virtual clock and one wire.

use anyhow::{Context as _, ensure};
use frame::time::{MICROSECOND, SECOND};
use frame::{
    Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Precedence, Role, Time, UnitMemory,
};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use link::registrar::Health;
use link::{ChallengeSecret, NodeConfig, Registrar, RegistrarConfig, RouteChange, ShardRanges};
use master::{Master, MasterConfig, MasterEvent};
use slave::{Farm, FarmConfig, Ids, LendingConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use wire::lease::UNIT_SHIFT;
use wire::{Scale, ShardSet};

/// Slaves of a farm. Each has one unit of 64 MiB, which is mapped and not touched.
const EACH: u32 = 55;

/// How long a datagram is on its way, beside the time that a slow link takes.
const LATENCY: Time = 5 * MICROSECOND;

/// The largest IP packet of everybody.
const MTU: u16 = 1500;

/// The speed of the master's link that the master believes in, in Mbit/s: it decides the bytes in flight.
pub(super) const SPEED: u32 = 10_000;

/// A role with its frames.
struct Host<R> {
    role: R,
    out: Outbox,
    at: Peer,
}

impl<R: Role> Host<R> {
    fn new(at: &str, frames: u32, make: impl FnOnce(&Pool) -> anyhow::Result<R>) -> anyhow::Result<Self> {
        let config = PoolConfig { frames, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let pool = Pool::new(config)?;
        let at = Peer::socket(PortId(0), at.parse()?);
        Ok(Self { role: make(&pool)?, out: Outbox::new(pool, 1), at })
    }

    /// Takes what has come, a burst at a time.
    fn receive(&mut self, now: Time, came: &[(Peer, Vec<u8>)]) -> anyhow::Result<()> {
        for burst_of in came.chunks(frame::BURST) {
            let mut burst = Burst::new();
            for (from, bytes) in burst_of {
                let mut frame = self.out.alloc_link().context("a frame for what came")?;
                ensure!(frame.append(bytes), "a datagram that fits");
                ensure!(burst.push(Datagram::new(frame, *from, Class::Up, 0)).is_ok(), "a burst has room");
            }
            self.role.receive(now, PortId(0), &mut burst, &mut self.out);
        }
        Ok(())
    }

    fn sent(&mut self) -> Vec<(Peer, Vec<u8>)> {
        let Some(queue) = self.out.queue(PortId(0)) else { return Vec::new() };
        let sent = std::iter::from_fn(|| queue.take());
        let sent = sent.map(|datagram| (datagram.peer, datagram.frame.data().to_vec())).collect();
        queue.rewind();
        sent
    }
}

/// What the registrar wants of the gateway.
#[derive(Default)]
struct Wishes(Vec<GatewayCommand>);

impl link::Sink for Wishes {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _: u16) {
        self.0.push(GatewayCommand::Reply { peer: *to, bytes: datagram.into() });
    }

    fn route(&mut self, change: RouteChange) {
        self.0.push(GatewayCommand::Route(change));
    }
}

/// Datagrams on their way: where they go, where they came from, what they are.
type OnTheWay = BTreeMap<(Time, u64), (Peer, Peer, Vec<u8>)>;

/// All of them.
pub(super) struct BulkCluster {
    /// The time.
    pub(super) now: Time,
    master: Host<Master<Vec<u8>>>,
    /// What the master tells.
    pub(super) events: Receiver<MasterEvent>,
    gateway: Host<Gateway>,
    registrar: Registrar,
    farms: Vec<Host<Farm>>,
    wire: OnTheWay,
    sent: u64,
    /// Picoseconds of a byte on the master's link, inwards; 0 for a link that takes no time.
    pub(super) ps_per_byte: u64,
    link_free: Time,
}

impl BulkCluster {
    /// A cluster with so many slaves, a multiple of 55, that has just started.
    ///
    /// # Errors
    /// A role cannot be made.
    pub(super) fn new(slaves: u32, requests: u32) -> anyhow::Result<Self> {
        let scale = Scale::default();
        let node = |number: u64| NodeConfig {
            boot_epoch: 1 + number,
            challenges: ChallengeSecret::new([number as u8; 32]),
            max_ip_packet: MTU,
            ..NodeConfig::default()
        };
        let gateway = Host::new("10.0.0.1:9999", 65_536, |pool| {
            Ok(Gateway::new(GatewayConfig::new(ShardSet::all(scale)), pool)?)
        })?;
        let config = RegistrarConfig { shards: ShardRanges::all(scale), ..RegistrarConfig::default() };
        let registrar = Registrar::new(config, SECOND)?;
        let (tell, events) = channel();
        let config = MasterConfig {
            node: node(1),
            seed: [7; 32],
            slaves: slaves + 24,
            requests,
            speed_mbit: SPEED,
            ..MasterConfig::new(1, vec![gateway.at])
        };
        let master = Host::new("10.1.0.1:7000", 65_536, |_| {
            Ok(Master::new(config, SECOND, move |event| drop(tell.send(event)))?)
        })?;
        let mut farms = Vec::new();
        for number in 0..slaves / EACH {
            let memory = Arc::new(UnitMemory::new(EACH, Hugepages::Never, None)?);
            let pages = 1 << (UNIT_SHIFT - 12);
            let ids = Ids::range(scale, number * EACH, EACH)?;
            let config = FarmConfig {
                node: NodeConfig { pages_total: pages, pages_free: pages, ..node(100 + u64::from(number)) },
                lending: Some(LendingConfig {
                    memory,
                    units_per_slave: 1,
                    keys: Default::default(),
                    quota: 1,
                    leases: 1,
                    leave_within: SECOND,
                    secret: [number as u8; 32],
                    scrub: Box::new(|_| {}),
                }),
                ..FarmConfig::new(gateway.at, ids)
            };
            let farm = |_: &Pool| Ok(Farm::new(config, SECOND, |_| {})?);
            farms.push(Host::new(&format!("10.2.0.{}:7000", 1 + number), 16_384, farm)?);
        }
        let (wire, sent, ps_per_byte, link_free) = (OnTheWay::new(), 0, 0, 0);
        Ok(Self { now: SECOND, master, events, gateway, registrar, farms, wire, sent, ps_per_byte, link_free })
    }

    /// The master.
    pub(super) fn master(&mut self) -> &mut Master<Vec<u8>> {
        &mut self.master.role
    }

    /// Datagrams and records that the gateway got on their way down.
    pub(super) fn gateway_in(&self) -> (u64, u64) {
        let down = &self.gateway.role.counters().down;
        (down.datagrams_in.get(), down.records_in.get())
    }

    /// Sends it all; what is for the master passes its link one after the other.
    fn send(&mut self, from: Peer, sent: Vec<(Peer, Vec<u8>)>) {
        for (to, bytes) in sent {
            let mut at = self.now + LATENCY;
            if to.is_same_origin(&self.master.at, true) {
                // Ethernet, IP and UDP headers, preamble and gap.
                let takes = (bytes.len() as u64 + 66) * self.ps_per_byte / 1000;
                self.link_free = self.link_free.max(at) + takes;
                at = self.link_free;
            }
            self.sent += 1;
            self.wire.insert((at, self.sent), (to, from, bytes));
        }
    }

    /// Delivers what has arrived, and polls everybody once. Then `step` has passed.
    ///
    /// # Errors
    /// There is no frame for what came.
    pub(super) fn poll(&mut self, step: Time) -> anyhow::Result<()> {
        let now = self.now;
        let later = self.wire.split_off(&(now + 1, 0));
        let mut came: Vec<Vec<(Peer, Vec<u8>)>> = vec![Vec::new(); 2 + self.farms.len()];
        for (to, from, bytes) in std::mem::replace(&mut self.wire, later).into_values() {
            let all = [self.master.at, self.gateway.at].into_iter().chain(self.farms.iter().map(|farm| farm.at));
            if let Some(place) = all.into_iter().position(|at| at.is_same_origin(&to, true))
                && let Some(place) = came.get_mut(place)
            {
                place.push((from, bytes));
            }
        }
        self.master.receive(now, &came[0])?;
        self.master.role.advance(now, &mut self.master.out);
        let sent = self.master.sent();
        self.send(self.master.at, sent);
        self.gateway.receive(now, &came[1])?;
        let mut wishes = Wishes::default();
        for precedence in Precedence::ALL {
            while let Some(datagram) = self.gateway.out.next_control(precedence) {
                self.registrar.receive(now, &datagram.peer, datagram.frame.data(), &mut wishes);
            }
        }
        self.registrar.advance(now, Health::GOOD, &mut wishes);
        for wish in wishes.0 {
            self.gateway.role.command(now, wish, &mut self.gateway.out);
        }
        self.gateway.role.advance(now, &mut self.gateway.out);
        let sent = self.gateway.sent();
        self.send(self.gateway.at, sent);
        for number in 0..self.farms.len() {
            let Some(farm) = self.farms.get_mut(number) else { continue };
            farm.receive(now, &came[2 + number])?;
            farm.role.advance(now, &mut farm.out);
            let (at, sent) = (farm.at, farm.sent());
            self.send(at, sent);
        }
        self.now += step;
        Ok(())
    }
}
