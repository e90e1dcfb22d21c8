//! What a record costs a gateway on a socket that always finds input, with trains and without.
//!
//! Master, gateway and slaves take turns on one thread: the master fills the gateway's socket, the gateway works until
//! all of it is gone, the slaves check what came. Only the gateway's turn is measured, in CPU time. So it never waits
//! for input, however slow the others are, and other programs change nothing.

use super::world::{Farm, Master, Nodes, dropped, gateway, pool, socket};
use crate::ratios::{Ratios, median};
use crate::stopwatch::Stopwatch;
use anyhow::ensure;
use frame::Time;
use frame::time::SECOND;
use gateway::Gateway;
use lcore::mailbox::mailbox_without_doorbell;
use lcore::{Clock, Lcore};
use port::Port;
use port::udp::{UdpOptions, UdpPort};

/// Records of a turn: as many as a receive buffer of the usual size has room for in any case, one to a datagram.
const TURN: u64 = 4096;

/// A turn that takes longer than this has lost something.
const PATIENCE: Time = 10 * SECOND;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// How many slaves.
    pub slaves: u32,
    /// The gateway's hold, in nanoseconds.
    pub hold: Time,
}

/// The figures of one load, medians over the rounds.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The load.
    pub load: Load,
    /// Nanoseconds of a record with trains received, as the product does, and without them.
    pub ns: [f64; 2],
    /// Nanoseconds of a record with trains received and sent.
    pub sent_too: f64,
    /// Records in a datagram that left, with and without.
    pub records_per_datagram: [f64; 2],
    /// Records per CPU second with trains over those without, of the rounds.
    pub ratios: Ratios,
}

/// A gateway with its master and slaves.
struct Subject {
    lcore: Lcore<Gateway, UdpPort>,
    master: Master,
    farm: Farm,
    clock: Clock,
}

impl Subject {
    fn new(load: Load, coalesce: bool, segment: bool) -> anyhow::Result<Self> {
        // What the master sends is always a train.
        let (mut master, farm) = (Master::new(load.slaves, true)?, Farm::new(load.slaves)?);
        let pool = pool(16_384)?;
        let port = socket(&pool, UdpOptions { coalesce, segment, ..UdpOptions::default() })?;
        master.send_to(port.local_addr());
        let nodes = Nodes { slaves: load.slaves, master: master.address(), farm: farm.address() };
        let role = gateway(&pool, nodes, load.hold)?;
        let (_, mailbox) = mailbox_without_doorbell(1);
        let lcore = Lcore::new(0, role, vec![port], pool, mailbox, None);
        Ok(Self { lcore, master, farm, clock: Clock::start() })
    }

    /// One turn of all three; returns the nanoseconds of a record.
    fn turn(&mut self) -> anyhow::Result<f64> {
        let (from, before) = (self.master.sent(), self.records());
        while self.master.sent() < from + TURN {
            self.master.send(self.clock.now(), 64)?;
        }
        let sent = self.master.sent() - from;
        let watch = Stopwatch::start();
        let began = self.clock.now();
        // The last records leave when their hold is over, or early.
        while self.records() < before + sent {
            let now = self.clock.now();
            self.lcore.poll_once(now);
            if now > began + PATIENCE {
                let mut counts = Vec::new();
                for port in self.lcore.ports() {
                    port.counters().visit(&mut |name, _, count| counts.push((name.to_owned(), count)));
                }
                counts.retain(|(_, count)| *count > 0);
                anyhow::bail!("{} of {sent} records left in {PATIENCE} ns; {counts:?}", self.records() - before);
            }
        }
        let spent = watch.nanoseconds();
        while self.farm.hear(self.clock)? > 0 {}
        let (sent, came) = (self.master.sent(), self.farm.records);
        ensure!(sent == came && self.farm.missing == 0, "{sent} records were sent, and {came} came");
        Ok(spent / (sent - from) as f64)
    }

    /// Records that have left the gateway.
    fn records(&self) -> u64 {
        self.lcore.outbox().counters().down.records_out.get()
    }

    fn end(self) -> anyhow::Result<f64> {
        let lost = dropped(self.lcore.role().counters(), self.lcore.outbox().counters())?;
        ensure!(lost == 0 && self.lcore.conservation().holds(), "the gateway dropped {lost} records");
        Ok(self.farm.records as f64 / self.farm.datagrams as f64)
    }
}

/// Measures a load in `rounds` rounds of `turns` turns each, with trains and without in turn.
///
/// # Errors
/// There is no memory or no socket, or a record is missing.
pub(super) fn row(load: Load, rounds: usize, turns: usize) -> anyhow::Result<Row> {
    let mut all =
        [Subject::new(load, true, false)?, Subject::new(load, false, false)?, Subject::new(load, true, true)?];
    let mut figures = [const { Vec::new() }; 3];
    for subject in &mut all {
        subject.turn()?;
    }
    for _ in 0..rounds.max(1) {
        for (subject, figures) in all.iter_mut().zip(&mut figures) {
            let turns = (0..turns.max(1)).map(|_| subject.turn()).collect::<anyhow::Result<Vec<_>>>()?;
            figures.push(median(turns));
        }
    }
    let [with, without, both] = figures;
    let ratios = Ratios::of(without.iter().zip(&with).map(|(without, with)| without / with).collect());
    let [of_with, of_without, _] = all.map(Subject::end);
    Ok(Row {
        load,
        ns: [median(with), median(without)],
        sent_too: median(both),
        records_per_datagram: [of_with?, of_without?],
        ratios,
    })
}
