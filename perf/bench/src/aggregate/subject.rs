//! A gateway lcore on memory ports with its input, ready to be polled.

use crate::account::{self, Passed};
use crate::input::{self, GATEWAY, MASTER, MASTER_AT, SLAVE_SIDE, Shape};
use crate::stopwatch::Stopwatch;
use frame::time::FOREVER;
use frame::{Peer, PortId, Role, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use lcore::Lcore;
use lcore::mailbox::mailbox_without_doorbell;
use link::{Route, RouteChange};
use port::replay::ReplayPort;
use wire::{Scale, ShardSet};

/// MTU of all ports, unless a benchmark says another one.
pub(super) const MTU: u16 = 1500;

/// A gateway lcore with its input, ready to be polled.
pub struct Bench {
    lcore: Lcore<Gateway, ReplayPort>,
    now: u64,
    shape: Shape,
    received: u64,
}

/// An lcore with a gateway that serves all shards, with the shape's slaves and one master registered. It has an arena
/// of its own, and another one for its input.
///
/// # Errors
/// The machine has no memory for the arena of the lcore or for the one of its input.
pub fn lcore(
    index: u16,
    shape: &Shape,
    packets: &[Vec<u8>],
    burst: usize,
) -> anyhow::Result<Lcore<Gateway, ReplayPort>> {
    lcore_with(index, shape, packets, burst, MTU, [input::chunk(packets), 2048])
}

/// The same with another MTU, and frames of so many bytes for the input and for buffers.
fn lcore_with(
    index: u16,
    shape: &Shape,
    packets: &[Vec<u8>],
    burst: usize,
    mtu: u16,
    chunks: [u32; 2],
) -> anyhow::Result<Lcore<Gateway, ReplayPort>> {
    let scale = Scale::default();
    let input = input::pool(packets.len() as u32, chunks[0])?;
    input::arrange(&input, shape.scattered);
    // A buffer for each slave, the transmit ring, and what two bursts open.
    let pool = input::pool((shape.slaves + 2048).next_power_of_two(), chunks[1])?;
    let mut config = GatewayConfig::new(ShardSet::all(scale));
    config.hold = FOREVER;
    config.low_water = 0;
    let mut gateway = Gateway::new(config, &pool)?;
    let nothing = input::pool(64, 512)?;
    let port =
        |number, local, pool, packets: &[Vec<u8>]| ReplayPort::new(PortId(number), local, mtu, pool, packets, burst);
    let ports = if shape.up {
        vec![port(0, GATEWAY, nothing, &[]), port(1, SLAVE_SIDE, input, packets)]
    } else {
        vec![port(0, GATEWAY, input, packets), port(1, SLAVE_SIDE, nothing, &[])]
    };
    let mut out = frame::Outbox::new(pool.clone(), 2);
    for id in 0..shape.slaves {
        let at = input::slave_at(id);
        let peer = Peer::ipv4(PortId(1), at.ip, at.udp_port, Vlan::UNTAGGED, at.mac);
        let route = Some(Route { peer, mtu, fixed_port: false });
        if let Some(id) = scale.slave_id(id) {
            gateway.command(0, GatewayCommand::Route(RouteChange::Slave { id, route }), &mut out);
        }
    }
    let peer = Peer::ipv4(PortId(0), MASTER_AT.ip, MASTER_AT.udp_port, Vlan::UNTAGGED, MASTER_AT.mac);
    let route = Some(Route { peer, mtu, fixed_port: false });
    gateway.command(0, GatewayCommand::Route(RouteChange::Master { id: MASTER, route }), &mut out);
    let (_sender, receiver) = mailbox_without_doorbell(16);
    Ok(Lcore::new(index, gateway, ports, pool, receiver, None))
}

impl Bench {
    /// A gateway that is polled by hand.
    ///
    /// # Errors
    /// The machine has no memory for the arena of the lcore or for the one of its input.
    pub fn new(shape: Shape, packets: &[Vec<u8>], burst: usize) -> anyhow::Result<Self> {
        Ok(Self { lcore: lcore(0, &shape, packets, burst)?, now: 0, shape, received: 0 })
    }

    /// The same with another MTU, and frames of so many bytes for the input and for buffers.
    ///
    /// # Errors
    /// The machine has no memory for the arenas, or `input` or `buffers` is not a size that a frame can have.
    pub fn with(
        shape: Shape,
        packets: &[Vec<u8>],
        burst: usize,
        mtu: u16,
        input: u32,
        buffers: u32,
    ) -> anyhow::Result<Self> {
        Ok(Self { lcore: lcore_with(0, &shape, packets, burst, mtu, [input, buffers])?, now: 0, shape, received: 0 })
    }

    /// Polls until this many packets went through. Returns their number.
    fn poll(&mut self, packets: usize) -> usize {
        let mut received = 0;
        while received < packets {
            self.now += 1_000;
            received += self.lcore.poll_once(self.now).received;
        }
        self.received += received as u64;
        received
    }

    /// Polls until every packet of the input went through once.
    pub fn warm(&mut self) {
        self.poll(self.shape.packets);
    }

    /// Polls until this many packets went through. Returns nanoseconds per record.
    #[inline(never)]
    pub fn run(&mut self, packets: usize) -> f64 {
        let start = Stopwatch::start();
        let received = self.poll(packets);
        start.nanoseconds() / (received * self.shape.records) as f64
    }

    /// What went through since the start.
    ///
    /// # Errors
    /// Something is missing or wrong: see [`account::check`].
    pub fn check(&self) -> anyhow::Result<Passed> {
        account::check(&self.lcore, &self.shape, self.received)
    }
}
