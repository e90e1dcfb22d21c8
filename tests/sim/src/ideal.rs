//! How close aggregation comes to an ideal buffer with the same hold, on the same arrivals.
//!
//! The ideal buffer knows the future of its clock: it sends a datagram exactly when its first record reaches its hold,
//! or when the next record does not fit. The gateway is polled as a poll loop polls, between bursts.

use crate::core::{Core, Sizes};
use crate::packet;
use crate::place::{Place, Who};
use crate::rng::Rng;
use frame::time::SECOND;
use frame::{Time, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use link::{Route, RouteChange};
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType, Scale, ShardSet, echo};

/// A uniform load on one gateway lcore.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Slaves, all equally busy.
    pub slaves: u32,
    /// Records a second of all together.
    pub rate: u64,
    /// Bytes of payload of each record.
    pub payload: usize,
    /// The hold, in nanoseconds.
    pub hold: u64,
    /// Records that are sent.
    pub records: u64,
    /// Time between two polls, in nanoseconds.
    pub poll: u64,
}

/// Records per datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Of the gateway.
    pub gateway: f64,
    /// Of the ideal buffer.
    pub ideal: f64,
}

impl Comparison {
    /// The gateway's part of what is possible.
    pub fn ratio(&self) -> f64 {
        self.gateway / self.ideal
    }
}

const MTU: u16 = 1500;

/// Sends the same arrivals, at random times to random slaves, through a gateway lcore and through the ideal buffer.
pub fn compare(load: Load, seed: u64) -> Comparison {
    let mut rng = Rng::new(seed);
    let mean = SECOND / load.rate;
    let mut at = 0;
    let arrivals: Vec<(Time, u32)> = (0..load.records)
        .map(|_| {
            at += rng.between(0, 2 * mean);
            (at, rng.below(u64::from(load.slaves)) as u32)
        })
        .collect();
    let gateway = load.records as f64 / datagrams_of_gateway(load, &arrivals) as f64;
    Comparison { gateway, ideal: load.records as f64 / datagrams_of_ideal(load, &arrivals) as f64 }
}

fn datagrams_of_ideal(load: Load, arrivals: &[(Time, u32)]) -> u64 {
    let fits = (usize::from(MTU) - 28) / (HEADER_LEN + load.payload);
    let mut buffers = vec![(0, 0); load.slaves as usize];
    let mut datagrams = 0;
    for &(now, slave) in arrivals {
        let (opened, records) = &mut buffers[slave as usize];
        if *records == fits || *records == 0 || now > *opened + load.hold {
            datagrams += 1;
            (*opened, *records) = (now, 0);
        }
        *records += 1;
    }
    datagrams
}

fn datagrams_of_gateway(load: Load, arrivals: &[(Time, u32)]) -> u64 {
    let scale = Scale::default();
    let (master, farm) = (Place::first(Who::Master(0)), Place::first(Who::Farm(0)));
    let here = Place::first(Who::Gateway(0));
    let sizes = Sizes { frames: 16_384, chunk: 2048, mtus: [MTU; 2], rx_ring: 4096, tx_ring: 4096, mailbox: 16_384 };
    let config = GatewayConfig { hold: load.hold, ..GatewayConfig::new(ShardSet::all(scale)) };
    let mut core = Core::new(0, &[here], sizes, None, |pool| Gateway::new(config, pool).expect("memory"));
    let route = |place: Place| Some(Route { peer: place.peer(Vlan::UNTAGGED), mtu: MTU, fixed_port: false });
    let slaves = (0..load.slaves).filter_map(|id| scale.slave_id(id));
    let slaves = slaves.map(|id| RouteChange::Slave { id, route: route(farm) });
    for change in std::iter::once(RouteChange::Master { id: 1, route: route(master) }).chain(slaves) {
        assert!(core.commands.try_send(GatewayCommand::Route(change)).is_ok(), "there is room for all routes");
    }
    let (mut now, mut next, mut sent) = (0, 0, 0);
    while !core.lcore.mailbox().is_empty() {
        core.lcore.poll_once(0);
    }
    let mut bytes = vec![0; HEADER_LEN + load.payload];
    while next < arrivals.len() || core.lcore.conservation().role > 0 {
        now += load.poll;
        while let Some(&(_, slave)) = arrivals.get(next).filter(|arrival| arrival.0 <= now) {
            let header = RecordHeader::new(MsgType::PATTERN, slave, req_id(1, 1), load.payload as u32);
            echo::emit(&header, &echo::EchoHeader::new(now, next as u64), &mut bytes);
            let frame = packet::build(master, here, None, wire::GATEWAY_PORT, &bytes);
            assert!(core.lcore.ports_mut()[0].inject(&frame), "the ring has room");
            next += 1;
        }
        core.lcore.poll_once(now);
        while core.collect().is_some() {
            sent += 1;
        }
    }
    sent
}
