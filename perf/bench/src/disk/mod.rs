//! `disk`: READs of a disk of slaves' memory, against `nbdkit memory` at the same kind of socket.
//!
//! `fio` (engine `nbd`) reads from three servers in turn: `nbdkit memory`, a disk over a server of pages in this
//! process, and a disk over a master, a gateway and two slaves. The master and the gateway have NIC queues (AF_XDP on
//! veth, MTU 9000), the slaves sockets. All blocks of the disks were written before, and are compared afterwards.

mod content;
mod fio;
mod world;

use crate::ratios::{Ratios, median};
use crate::remote::cpu::CpuMeter;
use crate::report::Report;
use crate::unavailable::{needs, needs_two_cores_and_namespaces};
use anyhow::{Context as _, ensure};
use fio::{FIO, FioRun, ReadPattern};
use std::process::{Command, Stdio};
use std::time::Duration;
use world::{DiskCpu, DiskServerKind, DiskWorld};

/// What is read. The last line is about the first one.
const PATTERNS: [ReadPattern; 2] = [
    ReadPattern { name: "4 KiB, random places, 32 outstanding", order: "randread", bytes: 4096, depth: 32 },
    ReadPattern { name: "1 MiB, one behind the other, 8 outstanding", order: "read", bytes: 1 << 20, depth: 8 },
];

/// One server in one round.
#[derive(Clone, Copy, Debug)]
struct DiskSlice {
    run: FioRun,
    cpu: DiskCpu,
    /// Of the whole machine.
    machine: f64,
}

impl DiskSlice {
    /// Microseconds of processor time for each READ.
    fn us(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.run.operations as f64
    }
}

/// What benchmarks of disks need of the machine.
fn needs_clients() -> anyhow::Result<()> {
    needs_two_cores_and_namespaces()?;
    for (program, package) in [("nbdkit", "nbdkit"), (content::NBDCOPY, "libnbd-bin"), (FIO, "fio")] {
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        needs(command.status().is_ok(), format!("`{program}` is not installed: `apt-get install -y {package}`"))?;
    }
    let engines = Command::new(FIO).arg("--enghelp").stdin(Stdio::null()).output().context("cannot run fio")?;
    let has_nbd = String::from_utf8_lossy(&engines.stdout).split_whitespace().any(|engine| engine == "nbd");
    needs(has_nbd, "fio was built without its engine for NBD: install libnbd and a fio that uses it")
}

fn slice(
    world: &DiskWorld,
    kind: DiskServerKind,
    pattern: &ReadPattern,
    length: Duration,
) -> anyhow::Result<DiskSlice> {
    let is_ours = kind != DiskServerKind::Nbdkit;
    let brought = if is_ours { world.brought(kind)? } else { 0 };
    let (meter, before) = (CpuMeter::start()?, world.cpu(kind)?);
    let run = FioRun::of(pattern, &world.socket(kind), world.size(), length)?;
    let (after, machine) = (world.cpu(kind)?, meter.spent()?.machine);
    if is_ours {
        let came = world.brought(kind)? - brought;
        let read = run.operations * pattern.bytes;
        ensure!(came >= read, "fio says that it read {read} bytes, and the disk sent {came}");
    }
    let cpu = DiskCpu { server: after.server - before.server, behind: after.behind - before.behind };
    Ok(DiskSlice { run, cpu, machine })
}

/// The slices of a pattern: a row for each server.
type Rows = [Vec<DiskSlice>; DiskServerKind::ALL.len()];

fn ratios(rows: &Rows, of: DiskServerKind) -> Ratios {
    let baseline = &rows[DiskServerKind::Nbdkit as usize];
    let ours = rows[of as usize].iter().zip(baseline);
    Ratios::of(ours.map(|(ours, theirs)| ours.run.per_second() / theirs.run.per_second()).collect())
}

fn print(pattern: &ReadPattern, rows: &Rows) -> Vec<serde_json::Value> {
    println!("{}", pattern.name);
    println!(
        "{:<28} {:>9} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8} {:>8} {:>16}",
        "", "READs/s", "MiB/s", "p50 us", "p99 us", "server", "behind", "client", "machine", "to nbdkit"
    );
    let mut details = Vec::new();
    for kind in DiskServerKind::ALL {
        let slices = &rows[kind as usize];
        let middle = |of: fn(&DiskSlice) -> f64| median(slices.iter().map(of).collect());
        let (rate, ratios) = (middle(|slice| slice.run.per_second()), ratios(rows, kind));
        let mib = rate * pattern.bytes as f64 / f64::from(1 << 20);
        let [p50, p99] = [middle(|slice| slice.run.us[0]), middle(|slice| slice.run.us[1])];
        let server = middle(|slice| slice.us(slice.cpu.server));
        let behind = middle(|slice| slice.us(slice.cpu.behind));
        let client = middle(|slice| slice.us(slice.run.cpu));
        let machine = middle(|slice| slice.us(slice.machine));
        println!(
            "{:<28} {rate:>9.0} {mib:>8.0} {p50:>8.0} {p99:>8.0}   {server:>8.1} {behind:>8.1} {client:>8.1} \
             {machine:>8.1} {:>5.2} {:>10}",
            kind.name(),
            ratios.median,
            ratios.range()
        );
        details.push(serde_json::json!({
            "server": kind.name(), "pattern": pattern.name, "reads_per_second": rate, "mib_per_second": mib,
            "p50_us": p50, "p99_us": p99, "server_us": server, "behind_us": behind, "client_us": client,
            "machine_us": machine, "ratios": ratios.json()
        }));
    }
    details
}

/// The benchmark; `length` is that of each slice.
///
/// # Errors
/// A program is missing or fails, a READ failed, or a disk has other bytes afterwards.
pub fn report(rounds: Option<usize>, length: Option<Duration>, quick: bool) -> anyhow::Result<Report> {
    needs_clients()?;
    let (usual, long, size) = if quick { (1, 500, 32 << 20) } else { (9, 2000, 256 << 20) };
    let (rounds, length) = (rounds.unwrap_or(usual).max(1), length.unwrap_or(Duration::from_millis(long)));
    let world = DiskWorld::new(size)?;
    let mut all: [Rows; PATTERNS.len()] = Default::default();
    // Before a slice counts: caches fill, and windows open.
    for kind in DiskServerKind::ALL {
        slice(&world, kind, &PATTERNS[0], length.min(Duration::from_millis(500))).with_context(|| kind.name())?;
    }
    for _ in 0..rounds {
        for (pattern, rows) in PATTERNS.iter().zip(&mut all) {
            for kind in DiskServerKind::ALL {
                let slice = slice(&world, kind, pattern, length);
                rows[kind as usize].push(slice.with_context(|| format!("{}: {}", kind.name(), pattern.name))?);
            }
        }
    }
    for kind in DiskServerKind::ALL {
        content::compare(&world.socket(kind), size)?;
    }
    println!(
        "disk: READs of a disk of {} MiB by fio, one connection to a Unix socket, one server after the other",
        size >> 20
    );
    println!("of slaves: AF_XDP on veth at a master and a gateway, MTU 9000, and sockets at two slaves");
    println!(
        "server to machine: microseconds of processor time for each READ. behind: the processes behind the server"
    );
    let details: Vec<_> = PATTERNS.iter().zip(&all).flat_map(|(pattern, rows)| print(pattern, rows)).collect();
    println!("every READ brought bytes of extents; all bytes of all disks were compared afterwards");
    let of_slaves = &all[0][DiskServerKind::Slaves as usize];
    let value = median(of_slaves.iter().map(|slice| slice.run.per_second()).collect());
    let ratios = ratios(&all[0], DiskServerKind::Slaves);
    Ok(Report { name: "disk", value, unit: "READs/s", ratios, details: details.into() })
}
