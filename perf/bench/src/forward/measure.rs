//! One slice of time: who used how much of the processor, and what went through meanwhile.

use crate::conditions::process_ticks;
use crate::forward::input::Input;
use crate::forward::machine::Machine;
use anyhow::Context as _;
use ebpf::generate::{Received, Sink};
use frame::time::SECOND;
use lcore::Clock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time before the clock starts: caches, branch predictors, rings and buffers reach their usual levels.
const WARM_UP: Duration = Duration::from_millis(200);
/// The longest time until all received records have left after the input has stopped.
const SETTLE: Duration = Duration::from_secs(60);

/// Everything that is read at both ends of a slice.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: u64,
    lcore_ns: u64,
    user_ticks: u64,
    ticks: u64,
    kernel_ns: u64,
    polls: u64,
    empty_polls: u64,
    rested_ns: u64,
    received: u64,
    lost: u64,
    records: u64,
    datagrams: u64,
}

/// What happened in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Its length in seconds.
    pub seconds: f64,
    /// Seconds of processor time of the lcore's thread, with the softirq that ran on it.
    pub lcore: f64,
    /// The part of it outside the kernel, as sampled by the timer's tick.
    pub user: f64,
    /// Seconds of processor time of the thread that works off softirqs of the lcore's core.
    pub kernel: f64,
    /// Share of the time in which the lcore did not rest, from 0 to 1.
    pub awake: f64,
    /// Share of the polls that did something, from 0 to 1. Of the processor's time their share is larger.
    pub busy: f64,
    /// Packets that the lcore received.
    pub received: u64,
    /// Packets that found the port's rings full.
    pub lost: u64,
    /// Records that left.
    pub records: u64,
    /// Datagrams that left.
    pub datagrams: u64,
}

impl Slice {
    /// Millions of records per second of processor time.
    pub fn rate(&self) -> f64 {
        self.records as f64 / (self.lcore + self.kernel) / 1e6
    }

    /// Nanoseconds of processor time per record outside the kernel.
    pub fn user_ns(&self) -> f64 {
        self.user * 1e9 / self.records.max(1) as f64
    }

    /// Records in a datagram that left.
    pub fn records_per_datagram(&self) -> f64 {
        self.records as f64 / self.datagrams.max(1) as f64
    }

    /// Packets that found the port's rings full, as a share of those that came to it.
    pub fn overflow(&self) -> f64 {
        self.lost as f64 / (self.lost + self.received).max(1) as f64
    }

    /// Why this is not a valid measurement, if it is not.
    pub fn flaw(&self) -> Option<&'static str> {
        if self.busy < 0.95 {
            Some("the lcore is not 95 % busy")
        } else if self.overflow() < 0.01 {
            Some("its input does not overflow")
        } else {
            None
        }
    }
}

/// Reads the meters of one machine.
pub struct Meter<'a> {
    machine: &'a Machine,
    sink: &'a Sink,
    clock: Clock,
    kernel: Vec<i32>,
}

impl<'a> Meter<'a> {
    /// A meter that also counts the processor time of these threads of the kernel.
    pub fn new(machine: &'a Machine, sink: &'a Sink, clock: Clock, kernel: Vec<i32>) -> Self {
        Self { machine, sink, clock, kernel }
    }

    fn read(&self) -> anyhow::Result<Reading> {
        let view = self.machine.running.view();
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", view.tid))?;
        let [user, system, ..] = process_ticks(&stat).context("a line of /proc/self/task/*/stat that nobody knows")?;
        let kernel: Option<Vec<u64>> = self.kernel.iter().map(|&pid| cpu_ns(pid)).collect();
        Ok(Reading {
            at: self.clock.now(),
            lcore_ns: cpu_ns(view.tid).context("the lcore has ended")?,
            user_ticks: user,
            ticks: user + system,
            kernel_ns: kernel.context("a thread of the kernel has ended")?.iter().sum(),
            polls: view.lcore.polls.get(),
            empty_polls: view.lcore.empty_polls.get(),
            rested_ns: self.machine.rested_ns.load(Ordering::Relaxed),
            received: view.lcore.rx_datagrams.get(),
            lost: view.lcore.rx_lost.get(),
            records: view.outbox.down.records_out.get(),
            datagrams: view.outbox.down.datagrams_out.get(),
        })
    }

    /// Measures for this time, stops the input, and checks that every record that left has arrived.
    ///
    /// # Errors
    /// Records are missing or damaged at the far end.
    pub fn slice(&self, input: Input, length: Duration) -> anyhow::Result<Slice> {
        let (left, arrived) = (self.left(), self.sink.received()?);
        std::thread::sleep(WARM_UP);
        let a = self.read()?;
        std::thread::sleep(length);
        let b = self.read()?;
        input.stop()?;
        self.check(left, arrived)?;
        let seconds = |from: u64, to: u64| (to - from) as f64 / SECOND as f64;
        let rested = seconds(a.rested_ns, b.rested_ns);
        Ok(Slice {
            seconds: seconds(a.at, b.at),
            lcore: seconds(a.lcore_ns, b.lcore_ns),
            user: seconds(a.lcore_ns, b.lcore_ns) * (b.user_ticks - a.user_ticks) as f64
                / (b.ticks - a.ticks).max(1) as f64,
            kernel: seconds(a.kernel_ns, b.kernel_ns),
            awake: 1.0 - rested / seconds(a.at, b.at),
            busy: 1.0 - (b.empty_polls - a.empty_polls) as f64 / (b.polls - a.polls).max(1) as f64,
            received: b.received - a.received,
            lost: b.lost - a.lost,
            records: b.records - a.records,
            datagrams: b.datagrams - a.datagrams,
        })
    }

    /// Records and datagrams that a TX ring took.
    fn left(&self) -> (u64, u64) {
        let out = &self.machine.running.view().outbox;
        (out.down.records_out.get(), out.down.datagrams_out.get())
    }

    fn check(&self, left: (u64, u64), arrived: Received) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE;
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let (now, sunk) = (self.left(), self.sink.received()?);
            let sent = (now.0 - left.0, now.1 - left.1);
            let got = (sunk.records - arrived.records, sunk.datagrams - arrived.datagrams);
            anyhow::ensure!(sunk.bad == arrived.bad, "{} datagrams arrived spoilt", sunk.bad - arrived.bad);
            if sent == got && got.0 > 0 {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} records in {} datagrams left, and {} in {} arrived",
                sent.0,
                sent.1,
                got.0,
                got.1
            );
        }
    }
}

/// Processor time of a thread of any process, in nanoseconds.
fn cpu_ns(pid: i32) -> Option<u64> {
    let schedstat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_lcore_or_rings_that_never_fill_are_no_measurement() {
        let good = Slice {
            seconds: 1.0,
            lcore: 0.5,
            user: 0.1,
            kernel: 0.0,
            awake: 0.5,
            busy: 0.96,
            received: 90,
            lost: 10,
            records: 90,
            datagrams: 45,
        };
        assert_eq!(good.flaw(), None);
        assert!((good.overflow() - 0.1).abs() < 1e-9 && (good.records_per_datagram() - 2.0).abs() < 1e-9);
        assert!((good.rate() - 0.00018).abs() < 1e-9);
        assert!(Slice { busy: 0.94, ..good }.flaw().is_some());
        assert!(Slice { lost: 0, ..good }.flaw().is_some());
    }
}
