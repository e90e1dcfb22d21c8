//! `tap`: the cost of a tap in use, for an lcore and per record, on memory ports.
//!
//! The same lcore is measured in turns without a tap, with a tap whose filter picks nothing, and with one that copies
//! everything in both directions. The watcher's work on the copies is not timed: another thread does it.

use crate::account;
use crate::aggregate;
use crate::input::{self, Shape};
use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::stopwatch::Stopwatch;
use gateway::Gateway;
use lcore::Lcore;
use lcore::tap::{TapConfig, TapSlot, Wants, Watch, tap};
use port::replay::ReplayPort;
use std::sync::Arc;

/// Polls that are timed at once; their copies fit into the slots.
const POLLS: usize = 32;
/// Slots of the tap: for all datagrams that these polls receive, and as many sent ones.
const SLOTS: usize = 8192;
/// 64 slaves, one record in a datagram: the datagrams in are the records.
const SHAPE: Shape = Shape { slaves: 64, payload: 64, records: 1, packets: 65_536, up: false, scattered: false };

/// Nanoseconds per record: medians over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Without a tap.
    pub bare: f64,
    /// With a tap that picks nothing.
    pub picky: f64,
    /// With a tap that copies every datagram, received and sent.
    pub greedy: f64,
    /// `greedy / bare`, of rounds that measured both.
    pub ratios: Ratios,
}

/// Records that went through in a round, and what each cost.
struct Round {
    received: u64,
    nanoseconds: f64,
}

/// Lets every packet of the input through once.
fn run(lcore: &mut Lcore<Gateway, ReplayPort>, now: &mut u64, watch: &mut Option<Watch>) -> Round {
    let (mut received, mut nanoseconds) = (0, 0.0);
    while received < SHAPE.packets {
        let watch_time = Stopwatch::start();
        for _ in 0..POLLS {
            *now += 1_000;
            received += lcore.poll_once(*now).received;
        }
        nanoseconds += watch_time.nanoseconds();
        while let Some(watch) = watch
            && let Some(slot) = watch.take()
        {
            watch.give_back(slot);
        }
    }
    Round { received: received as u64, nanoseconds: nanoseconds / received as f64 }
}

/// Starts to use a tap.
fn attach(tap_slot: &TapSlot, ports: usize, wants: Wants) -> Watch {
    let config = TapConfig { slots: SLOTS, snaplen: 2048, rx: true, tx: true, port: None };
    let (tap, watch) = tap(config, ports, wants);
    tap_slot.put(tap);
    watch
}

/// Measures all three in turns.
///
/// # Errors
/// The machine has no memory for the arenas, a copy finds no slot, or a record is lost or changed.
pub fn measure(rounds: usize) -> anyhow::Result<Row> {
    let packets = input::packets(&SHAPE);
    let mut lcore = aggregate::lcore(0, &SHAPE, &packets, frame::BURST)?;
    let (tap_slot, ports) = (Arc::clone(lcore.tap_slot()), lcore.ports().len());
    let mut now = 0;
    let mut received = run(&mut lcore, &mut now, &mut None).received;
    let mut round = |watch: &mut Option<Watch>| {
        let round = run(&mut lcore, &mut now, watch);
        received += round.received;
        round.nanoseconds
    };
    let (mut bare, mut picky, mut greedy, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let none = round(&mut None);
        let mut nothing = Some(attach(&tap_slot, ports, Box::new(|_, _| false)));
        picky.push(round(&mut nothing));
        drop(nothing);
        let mut all = Some(attach(&tap_slot, ports, Box::new(|_, _| true)));
        let copied = round(&mut all);
        let dropped: u64 = all.iter().flat_map(Watch::ports).map(|port| port.dropped.get()).sum();
        anyhow::ensure!(dropped == 0, "{dropped} copies found no slot: nothing was measured");
        bare.push(none);
        greedy.push(copied);
        ratios.push(copied / none);
    }
    account::check(&lcore, &SHAPE, received)?;
    let row = Row { bare: median(bare), picky: median(picky), greedy: median(greedy), ratios: Ratios::of(ratios) };
    println!("tap: 64 slaves, 64-byte payloads, one record per datagram, MTU 1500, ns per record of one lcore");
    println!("{:>10} {:>10} {:>14}", "no tap", "picks none", "copies all");
    println!("{:>10.1} {:>10.1} {:>14.1}", row.bare, row.picky, row.greedy);
    Ok(row)
}

/// The benchmark.
///
/// # Errors
/// A copy found no slot, or something is missing: see [`account::check`].
pub fn report(rounds: Option<usize>, quick: bool) -> anyhow::Result<Report> {
    let row = measure(rounds.unwrap_or(if quick { 2 } else { 9 }))?;
    let details = serde_json::json!({
        "bare_ns_per_record": row.bare, "picky_ns_per_record": row.picky, "greedy_ns_per_record": row.greedy
    });
    Ok(Report { name: "tap", value: row.greedy, unit: "ns/record", ratios: row.ratios, details })
}
