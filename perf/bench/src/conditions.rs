//! Where and when figures were measured: the machine, and its other work at that time.
//!
//! A figure from a shared machine is only reliable if the machine was quiet. Everything here is read from `/proc`: the
//! time that the hypervisor took (`steal`), the time that other programs used, and the load before and after.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::time::Instant;

/// A machine counts as quiet if others, including stolen time, use at most this share of the cores' time, in percent.
pub const QUIET: f64 = 5.0;

/// A machine counts as quiet up to this load before the run, if others cannot be distinguished from the run.
pub const QUIET_LOAD: f64 = 0.5;

/// Ticks of `/proc/PID/stat` in a second.
const TICKS: f64 = 100.0;

/// The machine. All fields are as the kernel names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// Cores that are online.
    pub cores: usize,
    /// Whether a hypervisor is below the kernel.
    pub is_virtual: bool,
    /// The kernel's release.
    pub kernel: String,
    /// Hugepages of 2 MiB that are reserved.
    pub hugepages: u64,
}

impl Machine {
    /// The one that this runs on.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let hugepages = read("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").trim().parse().unwrap_or(0);
        Self::of(&read("/proc/cpuinfo"), read("/proc/sys/kernel/osrelease").trim(), hugepages)
    }

    fn of(cpuinfo: &str, kernel: &str, hugepages: u64) -> Self {
        let field = |line: &str, name: &str| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        };
        let first = |name: &str| cpuinfo.lines().find_map(|line| field(line, name));
        Self {
            processor: first("model name").unwrap_or_else(|| "unknown processor".to_owned()),
            cores: cpuinfo.lines().filter(|line| field(line, "processor").is_some()).count(),
            is_virtual: first("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: kernel.to_owned(),
            hugepages,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, is_virtual, kernel, hugepages } = self;
        let virtual_or_not = if *is_virtual { "virtual machine, " } else { "" };
        write!(f, "{virtual_or_not}{cores} cores of {processor}, Linux {kernel}, {hugepages} hugepages of 2 MiB")
    }
}

/// How the cores' time was spent since the machine started, in ticks of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// By programs, in user mode and in the kernel.
    programs: u64,
    /// By the hypervisor's other guests.
    stolen: u64,
    /// In all, idleness included.
    all: u64,
}

impl Ticks {
    /// The first line of `/proc/stat`.
    fn of(stat: &str) -> Option<Self> {
        let mut fields = stat.lines().next()?.split_ascii_whitespace();
        (fields.next()? == "cpu").then_some(())?;
        let fields: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        // Guests' time is in the user time already.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else { return None };
        let programs = user + nice + system;
        Some(Self { programs, stolen: steal, all: programs + idle + iowait + irq + softirq + steal })
    }
}

/// The average number of programs that want to run, over the last minute.
fn load(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// User and system time of a process, and of its children that have ended, in ticks, from its `stat` line.
pub fn process_ticks(stat: &str) -> Option<[u64; 4]> {
    // The name is in brackets, and may have blanks and brackets in it; the line's third field follows.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

/// Seconds of processor time that all threads of a process have used.
///
/// # Errors
/// The process has ended, or there is no `/proc` as Linux has it.
pub fn process_seconds(pid: u32) -> anyhow::Result<f64> {
    let file = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&file).with_context(|| format!("cannot read {file}: the process has ended"))?;
    let [user, system, ..] = process_ticks(&stat).with_context(|| format!("{file} has an unknown form"))?;
    Ok((user + system) as f64 / TICKS)
}

/// The beginning of a run.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    at: Instant,
    load: f64,
    ticks: Ticks,
    own: u64,
}

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// There is no `/proc` as Linux has it.
    pub fn begin() -> anyhow::Result<Self> {
        let (ticks, load) = now()?;
        Ok(Self { at: Instant::now(), load, ticks, own: own()? })
    }

    /// The machine's work since then, without this process and its children that have ended.
    ///
    /// # Errors
    /// There is no `/proc` as Linux has it.
    pub fn end(&self) -> anyhow::Result<Conditions> {
        let (ticks, load) = now()?;
        let own = Some(own()?.saturating_sub(self.own));
        let seconds = self.at.elapsed().as_secs_f64();
        Ok(Conditions::between((self.ticks, self.load), (ticks, load), own, seconds))
    }
}

fn now() -> anyhow::Result<(Ticks, f64)> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    parse(&read("/proc/stat")?, &read("/proc/loadavg")?)
}

fn parse(stat: &str, loadavg: &str) -> anyhow::Result<(Ticks, f64)> {
    Ok((
        Ticks::of(stat).context("the first line of /proc/stat has an unknown form")?,
        load(loadavg).context("/proc/loadavg has an unknown form")?,
    ))
}

fn own() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    Ok(process_ticks(&stat).context("/proc/self/stat has an unknown form")?.iter().sum())
}

/// How quiet a machine was during a run. Shares are of all cores' time, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Load before the run.
    pub load_before: f64,
    /// Load after it; a benchmark makes load itself.
    pub load_after: f64,
    /// What the hypervisor gave to others.
    pub steal_percent: f64,
    /// What programs used that are not of the run; `None` where nobody can tell them apart.
    pub others_percent: Option<f64>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

impl Conditions {
    fn between(before: (Ticks, f64), after: (Ticks, f64), own: Option<u64>, seconds: f64) -> Self {
        let since = |of: fn(&Ticks) -> u64| of(&after.0).saturating_sub(of(&before.0));
        let percent = |ticks: u64| 100.0 * ticks as f64 / since(|ticks| ticks.all).max(1) as f64;
        let others = |own| percent(since(|ticks| ticks.programs).saturating_sub(own));
        Self {
            load_before: before.1,
            load_after: after.1,
            steal_percent: percent(since(|ticks| ticks.stolen)),
            others_percent: own.map(others),
            seconds,
        }
    }

    /// Since `/proc/stat` and `/proc/loadavg` said this, where the run is of many processes.
    ///
    /// # Errors
    /// This is not what they say, or there is no `/proc` as Linux has it.
    pub fn since(stat: &str, loadavg: &str, seconds: f64) -> anyhow::Result<Self> {
        Ok(Self::between(parse(stat, loadavg)?, now()?, None, seconds))
    }

    /// Whether the machine was quiet: see [`QUIET`] and [`QUIET_LOAD`].
    pub fn is_quiet(&self) -> bool {
        match self.others_percent {
            Some(others) => self.steal_percent + others <= QUIET,
            None => self.steal_percent <= QUIET && self.load_before <= QUIET_LOAD,
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { load_before, load_after, steal_percent, others_percent, seconds } = self;
        let word = if self.is_quiet() { "quiet" } else { "busy" };
        write!(f, "{word}, load {load_before:.2} before and {load_after:.2} after, steal {steal_percent:.1} %")?;
        if let Some(others) = others_percent {
            write!(f, ", other programs {others:.1} %")?;
        }
        write!(f, " of the cores' time in {seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 10 90 700 50 20 25 5 60 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";

    #[test]
    fn a_machine_is_what_the_kernel_says() {
        let core = |number| {
            format!("processor\t: {number}\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu hypervisor sse\n\n")
        };
        let machine = Machine::of(&(core(0) + &core(1)), "6.1.0-x", 512);
        assert_eq!(
            machine.to_string(),
            "virtual machine, 2 cores of Some CPU @ 2.0GHz, Linux 6.1.0-x, 512 hugepages of 2 MiB"
        );
        assert!(!Machine::of("processor : 0\nflags : nohypervisor\n", "", 0).is_virtual);
        let this = Machine::this();
        assert!(this.cores > 0 && !this.kernel.is_empty(), "{this}");
    }

    #[test]
    fn shares_are_of_all_time_and_own_time_is_not_others() {
        let before = parse(STAT, "1.50 0.9 0.8 2/200 4711\n").unwrap();
        assert_eq!((before.0, before.1), (Ticks { programs: 200, stolen: 5, all: 1000 }, 1.5));
        // 200 ticks later: 100 of programs, of which 70 of the run, 30 stolen, the rest idle.
        let after = parse("cpu 170 10 120 760 55 20 30 35 0 0", "3.25 0 0 1/1 1").unwrap();
        let conditions = Conditions::between(before, after, Some(70), 2.0);
        assert_eq!((conditions.steal_percent, conditions.others_percent), (15.0, Some(15.0)));
        assert!(!conditions.is_quiet());
        assert_eq!(
            conditions.to_string(),
            "busy, load 1.50 before and 3.25 after, steal 15.0 %, other programs 15.0 % of the cores' time in 2.0 s"
        );
        // The clocks of processes and of the machine differ a little: the result is never negative.
        assert_eq!(Conditions::between(before, after, Some(110), 2.0).others_percent, Some(0.0));
        // If others cannot be distinguished from the run, steal and the load before it decide.
        let unknown = Conditions::between(before, after, None, 2.0);
        assert!(unknown.others_percent.is_none() && !unknown.is_quiet() && !unknown.to_string().contains("other"));
        let still = Conditions { steal_percent: 0.0, load_before: 0.5, ..unknown };
        assert!(still.is_quiet() && !Conditions { load_before: 0.6, ..still.clone() }.is_quiet());
        assert!(!Conditions { steal_percent: 5.1, ..still }.is_quiet());
    }

    #[test]
    fn what_has_another_form_is_an_error() {
        for (stat, loadavg) in [("", "1.0 1 1"), ("cpu0 1 2 3 4 5 6 7 8", "1.0"), ("cpu 1 2 3", "1.0"), (STAT, "x")] {
            assert!(parse(stat, loadavg).is_err(), "{stat} {loadavg}");
        }
    }

    #[test]
    fn ticks_of_a_process_are_the_fourteenth_to_seventeenth_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 200 3 4 55 66 8 9 20 0 1 0 1000";
        assert_eq!(process_ticks(stat), Some([55, 66, 8, 9]));
        assert_eq!(process_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn a_run_that_works_sees_its_own_time() {
        let watch = Watch::begin().unwrap();
        let began = Instant::now();
        // The kernel counts in ticks: at least one of ours must have passed.
        while own().unwrap() == watch.own {
            assert!(began.elapsed().as_secs() < 60, "this process works and the kernel does not see it");
        }
        let conditions = watch.end().unwrap();
        assert!(conditions.seconds > 0.0 && conditions.steal_percent <= 100.0);
        assert!(conditions.others_percent.is_some_and(|others| (0.0..=100.0).contains(&others)));
    }
}
