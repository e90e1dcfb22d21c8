//! How much memory the host, or the cgroup of this process, can spare, and how long programs wait for memory.

use common::exit::Failure;
use std::path::{Path, PathBuf};

/// Bytes of an ordinary page.
const PAGE: u64 = 4096;

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// What the host has, or the cgroup may have at most.
    pub total: u64,
    /// What programs could still use before anything is swapped out or killed: the kernel's `MemAvailable`, or less
    /// where a cgroup leaves less.
    pub available: u64,
    /// What this process has in memory now.
    pub resident: u64,
    /// How much of the last 10 seconds all programs together waited for memory, in hundredths of a percent (the
    /// kernel's pressure stall information, `full avg10`). `None` when the kernel does not say.
    pub stalled: Option<u32>,
}

/// The files in which the kernel says it.
#[derive(Clone, Debug)]
pub struct MemoryFiles {
    proc: PathBuf,
    /// The cgroup of this process and those around it, the innermost first.
    groups: Vec<PathBuf>,
}

impl MemoryFiles {
    /// The files for this process.
    pub fn of_this_process() -> Self {
        let proc = PathBuf::from("/proc");
        let named = std::fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        Self { groups: groups(&named, Path::new("/sys/fs/cgroup")), proc }
    }

    /// Reads them.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]: the kernel does not say how much memory is available.
    pub fn read(&self) -> Result<HostMemory, Failure> {
        let meminfo = self.proc.join("meminfo");
        let text = std::fs::read_to_string(&meminfo)
            .map_err(|error| Failure::Machine(format!("cannot read {}: {error}", meminfo.display())))?;
        let of_host = |what| kib_of(&text, what);
        let (Some(total), Some(available)) = (of_host("MemTotal:"), of_host("MemAvailable:")) else {
            let place = meminfo.display();
            return Err(Failure::Machine(format!(
                "{place} does not say how much memory is available (Linux 3.14 does)"
            )));
        };
        let read = |file: &str| std::fs::read_to_string(self.proc.join(file)).unwrap_or_default();
        let resident = read("self/statm").split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let of_groups = self.groups.iter().filter_map(|group| Group::read(group));
        let (total, available) = of_groups.fold((total, available), |(total, available), group| {
            (total.min(group.limit), available.min(group.limit.saturating_sub(group.used)))
        });
        Ok(HostMemory {
            total,
            available,
            resident: resident.unwrap_or(0) * PAGE,
            stalled: stalled(&read("pressure/memory")),
        })
    }
}

/// The directories of a process's cgroup (version 2) and of those around it.
fn groups(named: &str, root: &Path) -> Vec<PathBuf> {
    let Some(path) = named.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let own = root.join(path.trim());
    own.ancestors().take_while(|group| group.starts_with(root)).map(Path::to_owned).collect()
}

/// What a cgroup has, in bytes.
struct Group {
    limit: u64,
    /// Without what the kernel would give up first: files that nobody has used for a while.
    used: u64,
}

impl Group {
    /// `None` for a cgroup without a limit.
    fn read(directory: &Path) -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(directory.join(file)).ok();
        // At `memory.high` programs are slowed down, at `memory.max` one is killed. "max" is no limit.
        let limits = ["memory.max", "memory.high"].map(|file| read(file)?.trim().parse::<u64>().ok());
        let limit = limits.into_iter().flatten().min()?;
        let current: u64 = read("memory.current")?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let of = |what: &str| {
            let value = stat.lines().find_map(|line| line.strip_prefix(what)?.trim().parse::<u64>().ok());
            value.unwrap_or(0)
        };
        Some(Self { limit, used: current.saturating_sub(of("inactive_file ") + of("slab_reclaimable ")) })
    }
}

/// The value of a line of `/proc/meminfo`, in bytes.
fn kib_of(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(what))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `avg10` of the line `full`, in hundredths of a percent.
fn stalled(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let percent = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    let (whole, hundredths) = percent.split_once('.')?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with files, removed at the end.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let fake = Self(std::env::temp_dir().join(format!("gvm-dp-memory-{name}-{}", std::process::id())));
            for (file, text) in files {
                let path = fake.0.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            fake
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: &str = "MemTotal:       24684436 kB\nMemFree:        21032960 kB\nMemAvailable:   23852032 kB\n";
    const PRESSURE: &str = "some avg10=12.50 avg60=3.00 avg300=0.10 total=5\nfull avg10=4.07 avg60=1.00 total=2\n";

    #[test]
    fn the_host_says_what_is_available_and_how_long_programs_wait() {
        let fake = Fake::new(
            "host",
            &[("meminfo", MEMINFO), ("pressure/memory", PRESSURE), ("self/statm", "9000 1234 800 7 0 900 0\n")],
        );
        let files = MemoryFiles { proc: fake.0.clone(), groups: Vec::new() };
        let expected = HostMemory {
            total: 24_684_436 << 10,
            available: 23_852_032 << 10,
            resident: 1234 * 4096,
            stalled: Some(407),
        };
        assert_eq!(files.read().unwrap(), expected);
    }

    #[test]
    fn a_kernel_that_says_less_is_read_too_or_named() {
        let fake = Fake::new("less", &[("meminfo", "MemTotal: 100 kB\n")]);
        let complaint = MemoryFiles { proc: fake.0.clone(), groups: Vec::new() }.read().unwrap_err();
        assert!(complaint.to_string().contains("does not say how much memory is available"), "{complaint}");
        let fake = Fake::new("bare", &[("meminfo", MEMINFO)]);
        let read = MemoryFiles { proc: fake.0.clone(), groups: vec![fake.0.join("none")] }.read().unwrap();
        assert_eq!((read.available, read.resident, read.stalled), (23_852_032 << 10, 0, None));
    }

    /// The tightest of the cgroups counts, and files that nobody uses are no use.
    #[test]
    fn a_cgroup_leaves_less_than_the_host_has() {
        let fake = Fake::new(
            "groups",
            &[
                ("meminfo", MEMINFO),
                ("group/inner/memory.max", "max\n"),
                ("group/inner/memory.high", "1073741824\n"),
                ("group/inner/memory.current", "536870912\n"),
                ("group/inner/memory.stat", "anon 1\ninactive_file 134217728\nslab_reclaimable 1048576\n"),
                ("group/memory.max", "805306368\n"),
                ("group/memory.current", "600000000\n"),
            ],
        );
        let root = fake.0.join("group");
        let found = groups("12:cpu:/x\n0::/inner\n", &root);
        assert_eq!(found, [root.join("inner"), root.clone()]);
        let read = MemoryFiles { proc: fake.0.clone(), groups: found[..1].to_vec() }.read().unwrap();
        assert_eq!((read.total, read.available), (1 << 30, (512 + 128 + 1) << 20));
        let read = MemoryFiles { proc: fake.0.clone(), groups: found }.read().unwrap();
        assert_eq!((read.total, read.available), (805_306_368, 205_306_368));
        assert!(groups("12:memory:/x\n", &root).is_empty(), "version 1 of cgroups");
    }

    #[test]
    fn this_machine_has_memory() {
        let read = MemoryFiles::of_this_process().read().unwrap();
        assert!(read.available > 0 && read.total >= read.available && read.resident > 0, "{read:?}");
    }
}
