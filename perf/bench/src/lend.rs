//! `lend`: what a slave costs that lends 12 GiB and is not asked for anything, beside the same slave that lends
//! nothing. Both are processes that are registered at a gateway over the loopback and wait adaptively. Nobody touches
//! the memory that is lent.

use crate::conditions::process_seconds;
use crate::ratios::Ratios;
use crate::report::Report;
use anyhow::{Context as _, ensure};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The time after which the benchmark gives up.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Frames of a slave that only lends: 2 MiB.
const FRAMES: &str = "1024";

/// What a process has of the machine's memory, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Resident {
    /// Of its own: heap, stacks, frames, tables.
    anonymous: f64,
    /// Mapped from files, mostly its program: shared with other processes of the same program.
    file: f64,
    /// Of that, pages that no other process has.
    file_alone: f64,
}

impl Resident {
    /// From `/proc/PID/status` and `/proc/PID/smaps_rollup`.
    fn of(status: &str, smaps: &str) -> Option<Self> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_ascii_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
        };
        // Private pages are those of the process and those that nobody else has of its files.
        let private = field(smaps, "Private_Clean:")?;
        Some(Self {
            anonymous: field(status, "RssAnon:")?,
            file: field(status, "RssFile:")? + field(status, "RssShmem:")?,
            file_alone: private,
        })
    }
}

/// A process that is ended when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(program: &Path, run: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env("GVM_DP_RUN_DIR", run).env("GVM_DP_CONFIG_DIR", run);
        let log = fs::File::create(run.join(format!("{}.log", arguments.join("-").replace('/', "_"))))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().with_context(|| format!("cannot run {}", program.display()))?))
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        let file = format!("/proc/{}/{name}", self.0.id());
        fs::read_to_string(&file).with_context(|| format!("cannot read {file}: the process has ended"))
    }

    /// Seconds of CPU time of all its threads.
    fn cpu(&self) -> anyhow::Result<f64> {
        process_seconds(self.0.id())
    }

    fn resident(&self) -> anyhow::Result<Resident> {
        Resident::of(&self.read("status")?, &self.read("smaps_rollup")?).context("/proc/PID/status has an unknown form")
    }
}

/// What one slave cost.
#[derive(Clone, Copy, Debug)]
struct IdleSlave {
    /// Share of a core, in percent.
    cpu: f64,
    resident: Resident,
}

impl fmt::Display for IdleSlave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, resident: Resident { anonymous, file, file_alone } } = self;
        write!(f, "{cpu:>8.2} {anonymous:>12.2} {file:>14.2} {file_alone:>12.2}")
    }
}

/// Asks the control socket of a process, until the answer has this text.
fn until(program: &Path, run: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let mut command = Command::new(program);
        command.args(["stats", "--json", "--name", name]).env("GVM_DP_RUN_DIR", run).stdin(Stdio::null());
        let answer = command.output().with_context(|| format!("cannot run {}", program.display()))?;
        let answer: String = String::from_utf8_lossy(&answer.stdout).split_whitespace().collect();
        if answer.contains(text) {
            return Ok(());
        }
        ensure!(began.elapsed() < FOR_EVER, "{name} never says {text}: {answer:.200}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The benchmark: each slave idles for this long.
///
/// # Errors
/// A process cannot be started, or does not register.
pub fn report(binaries: &Path, size: &str, length: Option<Duration>, quick: bool) -> anyhow::Result<Report> {
    let length = length.unwrap_or(Duration::from_secs(if quick { 2 } else { 30 }));
    let program = binaries.join("gvm-dp");
    let run = std::env::temp_dir().join(format!("gvm-bench-lend-{}", std::process::id()));
    fs::create_dir_all(&run)?;
    let measured = measure(&program, &run, size, length);
    // Nobody needs it.
    let _ = fs::remove_dir_all(&run);
    let [lends, nothing] = measured?;
    println!("lend: a slave that lends {size} and idles for {} s, beside one that lends nothing", length.as_secs());
    println!("{:<16} {:>8} {:>12} {:>14} {:>12}", "MiB", "CPU %", "of its own", "from files", "of it alone");
    println!("{:<16} {lends}", "lends");
    println!("{:<16} {nothing}", "lends nothing");
    println!(
        "of its own: RssAnon, with 2 MiB of frames; from files: RssFile, the program itself; alone: pages of it that"
    );
    println!("no other process has, while the gateway runs the same program");
    let value = lends.resident.anonymous;
    let ratios = Ratios::of(vec![value / nothing.resident.anonymous]);
    let json = |name: &str, slave: &IdleSlave| {
        serde_json::json!({
            "name": name, "cpu_percent": slave.cpu, "anonymous_mib": slave.resident.anonymous,
            "file_mib": slave.resident.file, "file_alone_mib": slave.resident.file_alone
        })
    };
    let details = serde_json::json!([json("lends", &lends), json("lends nothing", &nothing)]);
    Ok(Report { name: "lend", value, unit: "MiB-of-its-own", ratios, details })
}

fn measure(program: &Path, run: &Path, size: &str, length: Duration) -> anyhow::Result<[IdleSlave; 2]> {
    let log = |name: &str| -> PathBuf { run.join(name) };
    let _gateway =
        Process::start(program, run, &["--name", "gateway", "--port", "udp:127.0.0.1:0", "--frames", "1024"])?;
    // The line about port 0 has the address that the kernel chose.
    let began = Instant::now();
    let address = loop {
        let said =
            fs::read_to_string(log("--name-gateway---port-udp:127.0.0.1:0---frames-1024.log")).unwrap_or_default();
        let found = said.split_whitespace().find_map(|word| {
            let word = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
            word.strip_prefix("udp:").filter(|address| !address.ends_with(":0")).map(str::to_owned)
        });
        if let Some(found) = found {
            break found;
        }
        ensure!(began.elapsed() < FOR_EVER, "the gateway does not start: {said}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let common = |name: &'static str, id: &'static str| {
        vec!["slave", "--name", name, "--id", id, "--port", "udp:127.0.0.1:0", "--frames", FRAMES, "--gateway"]
    };
    let start = |name: &'static str, id: &'static str, more: &[&str]| {
        let mut arguments = common(name, id);
        arguments.push(&address);
        arguments.extend(more);
        Process::start(program, run, &arguments)
    };
    let memory = ["--memory", size, "--memory-pages", "ordinary", "--keep-free", "0"];
    let slaves = [start("lends", "1", &memory)?, start("nothing", "2", &[])?];
    for name in ["lends", "nothing"] {
        until(program, run, name, "\"registrations\":1")?;
    }
    // Set-up is over a moment later: privileges are given up, memory that was needed for it is given back.
    std::thread::sleep(Duration::from_secs(1));
    let before = [slaves[0].cpu()?, slaves[1].cpu()?];
    std::thread::sleep(length);
    let slave = |at: usize| -> anyhow::Result<IdleSlave> {
        let cpu = 100.0 * (slaves[at].cpu()? - before[at]) / length.as_secs_f64();
        Ok(IdleSlave { cpu, resident: slaves[at].resident()? })
    };
    Ok([slave(0)?, slave(1)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_apart() {
        let status = "VmRSS:\t   16384 kB\nRssAnon:\t    5120 kB\nRssFile:\t   11264 kB\nRssShmem:\t       0 kB\n";
        let smaps = "00400000-7ff ---p\nRss:   16384 kB\nPrivate_Clean:     1024 kB\nPrivate_Dirty:   5120 kB\n";
        let resident = Resident::of(status, smaps).unwrap();
        assert_eq!(resident, Resident { anonymous: 5.0, file: 11.0, file_alone: 1.0 });
        assert_eq!(Resident::of("RssAnon: x kB", smaps), None);
    }
}
