//! Processor time of a slice: of the whole machine with its interrupts, and of this process alone.

use crate::forward::world::threads_named;
use anyhow::Context as _;
use lcore::thread::cpu_ns;
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// Seconds of a tick in `/proc/stat`: it counts hundredths of a second.
const TICK_SECONDS: f64 = 0.01;

/// The beginning of a slice.
#[derive(Clone, Debug)]
pub struct CpuMeter {
    began: Instant,
    machine: f64,
    process: f64,
    /// The threads that work off softirqs, each with its time.
    softirq: Vec<(i32, u64)>,
}

/// Seconds of processor time.
#[derive(Clone, Copy, Debug)]
pub struct CpuSpent {
    /// By everything on the machine: programs, kernel, interrupts, softirqs.
    pub machine: f64,
    /// By the threads of this process, with the softirqs that ran on them, and by the kernel's threads for softirqs.
    pub own: f64,
    /// How long the slice took.
    pub seconds: f64,
}

/// Seconds in which a core did something, from the first line of `/proc/stat`.
fn busy(stat: &str) -> Option<f64> {
    let mut fields = stat.lines().next()?.split_ascii_whitespace();
    (fields.next()? == "cpu").then_some(())?;
    let fields: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    // Guests' time is in the user time already, and stolen time is that of others.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else { return None };
    Some((user + nice + system + irq + softirq) as f64 * TICK_SECONDS)
}

fn machine() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy(&stat).context("the first line of /proc/stat has an unknown form")
}

fn process() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

impl CpuMeter {
    /// Begins.
    ///
    /// # Errors
    /// There is no `/proc` as Linux has it.
    pub fn start() -> anyhow::Result<Self> {
        let softirq = threads_named("ksoftirqd/").into_iter().map(|tid| (tid, cpu_ns(tid).unwrap_or(0)));
        Ok(Self { softirq: softirq.collect(), began: Instant::now(), process: process(), machine: machine()? })
    }

    /// What was spent since then.
    ///
    /// # Errors
    /// There is no `/proc` as Linux has it.
    pub fn spent(&self) -> anyhow::Result<CpuSpent> {
        let (machine, process) = (machine()? - self.machine, process() - self.process);
        let seconds = self.began.elapsed().as_secs_f64();
        let softirq = self.softirq.iter().map(|&(tid, before)| cpu_ns(tid).unwrap_or(before).saturating_sub(before));
        Ok(CpuSpent { machine, own: process + softirq.sum::<u64>() as f64 / 1e9, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_idleness_and_stolen_time_counts() {
        let stat = "cpu  100 20 300 5000 70 8 9 4000 0 0\ncpu0 1 2 3\n";
        assert!(busy(stat).is_some_and(|seconds| (seconds - 4.37).abs() < 1e-9));
        assert_eq!(busy("cpu 1 2"), None);
        assert_eq!(busy("intr 1 2 3 4 5 6 7 8"), None);
    }

    #[test]
    fn a_thread_that_works_is_counted() {
        let meter = CpuMeter::start().unwrap();
        let until = Instant::now() + std::time::Duration::from_millis(50);
        while Instant::now() < until {}
        let spent = meter.spent().unwrap();
        assert!(spent.own > 0.0 && spent.seconds >= 0.05, "{spent:?}");
    }
}
