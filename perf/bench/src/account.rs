//! Checks that a measured run really happened: every benchmark on memory ports checks its gateway lcore afterwards.
//!
//! Every record that came in left, or waits in a buffer. Nothing was dropped or refused. The input that is received
//! again and again was not changed. The last packets that were sent are whole, correct, and for the right receiver.

use crate::input::{self, GATEWAY, HEADERS, MASTER, MASTER_AT, SLAVE_SIDE, Shape, slave_at};
use anyhow::{Context as _, ensure};
use frame::counter::CounterSet;
use frame::outbox::OutboxCounters;
use gateway::{Gateway, GatewayCounters};
use lcore::Lcore;
use port::replay::ReplayPort;
use wire::net::{parse_udp4, verify_udp4};
use wire::{Scale, Walk};

/// What went through in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Records that came in.
    pub came: u64,
    /// Records that left.
    pub left: u64,
    /// Datagrams that they left in.
    pub datagrams: u64,
    /// Buffers that left because the next record did not fit, and all buffers that left.
    pub full: (u64, u64),
}

impl Passed {
    /// Records in a datagram that left.
    pub fn records_per_datagram(&self) -> f64 {
        self.left as f64 / self.datagrams.max(1) as f64
    }

    /// The share of buffers that left full, from 0 to 1.
    pub fn full_share(&self) -> f64 {
        self.full.0 as f64 / self.full.1.max(1) as f64
    }
}

/// The records that went through a gateway that is at rest, or that this thread polls.
///
/// # Errors
/// A record is missing, or was dropped; a port refused something.
pub fn counters(
    up: bool,
    gateway: &GatewayCounters,
    out: &OutboxCounters,
    ports: impl IntoIterator<Item = std::sync::Arc<dyn CounterSet>>,
) -> anyhow::Result<Passed> {
    let (direction, cargo) = if up { (&gateway.up, &out.up) } else { (&gateway.down, &out.down) };
    let mut lost = Vec::new();
    for direction in [&gateway.down, &gateway.up] {
        direction.visit_drops(&mut |name, _, count| lost.push((name.to_owned(), count)));
    }
    for set in ports {
        set.visit(&mut |name, _, count| {
            if name.ends_with("_refused") || name.ends_with("_unsendable") {
                lost.push((name.to_owned(), count));
            }
        });
    }
    lost.retain(|(_, count)| *count > 0);
    ensure!(lost.is_empty(), "something was dropped or refused: {lost:?}");
    let (came, left) = (direction.records_in.get(), cargo.records_out.get());
    let (held, queued) = (direction.held.get(), cargo.records_queued.get());
    ensure!(came > 0, "nothing came in");
    ensure!(came == left + held + queued, "{came} records came in, {left} left, {held} and {queued} wait");
    let flush = &gateway.flush;
    let full = flush.flush_full.get();
    let others = [&flush.flush_hold, &flush.flush_early, &flush.flush_room, &flush.flush_order, &flush.flush_push];
    let all = full + others.iter().map(|counter| counter.get()).sum::<u64>() + flush.flush_drain.get();
    Ok(Passed { came, left, datagrams: cargo.datagrams_out.get(), full: (full, all) })
}

/// The whole account of an lcore whose input has this shape, after `received` datagrams.
///
/// # Errors
/// See [`counters`]; an input packet was changed, or a packet that was sent is not what it should be.
pub fn check(lcore: &Lcore<Gateway, ReplayPort>, shape: &Shape, received: u64) -> anyhow::Result<Passed> {
    let ports = lcore.ports();
    let sets = ports.iter().map(port::Port::counters);
    let passed = counters(shape.up, lcore.role().counters(), lcore.outbox().counters(), sets)?;
    let came = received * shape.records as u64;
    ensure!(passed.came == came, "{came} records were received, and the gateway saw {}", passed.came);
    let spoilt: usize = ports.iter().map(ReplayPort::spoilt).sum();
    ensure!(spoilt == 0, "the gateway wrote into {spoilt} packets of its input");
    let order = input::order(shape);
    let packets = ports.iter().flat_map(ReplayPort::sent);
    for packet in packets {
        sent(packet, shape, &order).context("a packet that was sent is wrong")?;
    }
    Ok(passed)
}

/// Whether a packet is one that should be sent.
fn sent(packet: &[u8], shape: &Shape, order: &[u32]) -> anyhow::Result<()> {
    let head = parse_udp4(packet).map_err(|error| anyhow::anyhow!("its headers: {error}"))?;
    ensure!(verify_udp4(packet, &head), "its checksum");
    let datagram = packet.get(head.payload.clone()).context("its payload")?;
    let mut slaves = Vec::new();
    for record in Walk::new(datagram, Scale::default()) {
        let (_, record) = record.map_err(|bad| anyhow::anyhow!("a record: {bad}"))?;
        let header = record.header();
        // The low 48 bits are the number that it was given.
        let number = (header.req_id() & 0xffff_ffff_ffff) as usize;
        ensure!(header.master_id() == MASTER, "a record of another master");
        ensure!(order.get(number) == Some(&header.slave_id()), "record {number} names slave {}", header.slave_id());
        ensure!(record.payload() == vec![number as u8; shape.payload], "the payload of record {number}");
        slaves.push(header.slave_id());
    }
    let first = *slaves.first().context("it has no record")?;
    let (from, to) = if shape.up { (GATEWAY, MASTER_AT) } else { (SLAVE_SIDE, slave_at(first)) };
    ensure!((head.src_mac, head.src_ip) == (from.mac, from.ip), "its source {:?}", head.src_ip);
    let destination = (head.dst_mac, head.dst_ip, head.dst_port);
    ensure!(destination == (to.mac, to.ip, to.udp_port), "its destination {:?}", head.dst_ip);
    ensure!(shape.up || slaves.iter().all(|slave| *slave == first), "it has records of several slaves: {slaves:?}");
    ensure!(packet.len() >= HEADERS + slaves.len() * (wire::HEADER_LEN + shape.payload), "it is too short");
    Ok(())
}
