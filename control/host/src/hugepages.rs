//! Hugepages of 2 MiB for the arenas: how many a gateway needs, how many are free, and reserving what is missing.

use common::exit::Failure;
use common::output::print;
use frame::arena::HUGEPAGE;
use frame::pool::arena_bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory that a process needs for its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Arenas.
    pub lcores: usize,
    /// Frames in each.
    pub frames: u32,
    /// Bytes of a frame.
    pub chunk: u32,
    /// The NUMA node of the `xdp:` ports, if all have the same.
    pub node: Option<u32>,
    /// What DPDK needs in addition, in MiB.
    pub dpdk: u64,
}

/// The kernel's hugepages of 2 MiB, of the machine or of one NUMA node.
#[derive(Clone, Debug)]
pub struct Hugepages {
    directory: PathBuf,
}

impl Hugepages {
    /// The hugepages of the NUMA node with this number, or of the whole machine.
    pub fn of(node: Option<u32>) -> Self {
        let of_node = |node: u32| format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
        let of_machine = || "/sys/kernel/mm/hugepages/hugepages-2048kB".to_owned();
        Self::at(Path::new(&node.map_or_else(of_machine, of_node)))
    }

    fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn read(&self, file: &str) -> Result<u64, Failure> {
        let path = self.directory.join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::Machine(format!("{}: {error}: this kernel has no hugepages of 2 MiB", path.display()))
        })?;
        text.trim().parse().map_err(|_| Failure::Machine(format!("{} holds no number", path.display())))
    }

    /// How many there are.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]: this kernel has no hugepages of 2 MiB, or does not say how many.
    pub fn total(&self) -> Result<u64, Failure> {
        self.read("nr_hugepages")
    }

    /// How many of them are unused.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]: this kernel has no hugepages of 2 MiB, or does not say how many are unused.
    pub fn free(&self) -> Result<u64, Failure> {
        // A node does not say how many of its pages are reserved for somebody.
        let promised = self.read("resv_hugepages").unwrap_or(0);
        Ok(self.read("free_hugepages")?.saturating_sub(promised))
    }

    /// Makes sure that at least `need` are free. Returns how many were added.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]. The kernel has no hugepages of 2 MiB, this user may not change their number,
    /// or too few are free after the change.
    pub fn reserve(&self, need: u64) -> Result<u64, Failure> {
        let (total, free) = (self.total()?, self.free()?);
        let Some(missing) = need.checked_sub(free).filter(|missing| *missing > 0) else { return Ok(0) };
        let path = self.directory.join("nr_hugepages");
        std::fs::write(&path, (total + missing).to_string()).map_err(|error| {
            Failure::Machine(format!(
                "cannot reserve {missing} hugepages of 2 MiB: {}: {error}; this needs root",
                path.display()
            ))
        })?;
        let free = self.free()?;
        if free < need {
            return Err(Failure::Machine(format!(
                "{need} hugepages of 2 MiB are needed and only {free} are free: the machine's memory is too small, or \
                 in \
                 small pieces after it ran for long. Restart it with `hugepages={}` on the kernel's command line, or \
                     ask \
                 for fewer --frames",
                total + missing
            )));
        }
        Ok(missing)
    }
}

/// What a gateway needs, in one line.
fn describe(memory: &MemoryNeed) -> String {
    let place = memory.node.map_or_else(String::new, |node| format!(" on NUMA node {node}"));
    let MemoryNeed { lcores, frames, chunk, dpdk, .. } = memory;
    let besides = if *dpdk == 0 { String::new() } else { format!(", and {dpdk} MiB for DPDK") };
    let lcores = if *lcores == 1 { "1 lcore".to_owned() } else { format!("{lcores} lcores") };
    format!(
        "{} hugepages of 2 MiB{place} are needed: {lcores} with {frames} frames of {chunk} bytes{besides}",
        pages(memory)
    )
}

/// Sets the message for all code of this process that finds too few hugepages. There is one remedy, with the need of
/// the whole process: remedies for parts of it would undo each other.
pub fn announce(memory: &MemoryNeed) {
    let hugepages = Hugepages::of(memory.node);
    let (total, free) = (hugepages.total().unwrap_or(0), hugepages.free().unwrap_or(0));
    let need = pages(memory) + LENT.load(Ordering::Relaxed).div_ceil(HUGEPAGE as u64);
    frame::arena::set_remedy(remedy(&hugepages.directory, need, total, free));
}

/// Bytes of the regions that the process lends to peers.
static LENT: AtomicU64 = AtomicU64::new(0);

/// Adds a region of this many bytes to the need of this process.
pub fn lend(bytes: u64) {
    LENT.store(bytes, Ordering::Relaxed);
}

/// One text for everything that this process needs.
fn remedy(directory: &Path, need: u64, total: u64, free: u64) -> String {
    format!(
        "this process needs {need} hugepages of 2 MiB in all: `echo {} > {}/nr_hugepages` before its start reserves \
         them, and so \
         does `gvm-dp hugepages reserve` with its flags; or do without them (slower)",
        total + need.saturating_sub(free),
        directory.display()
    )
}

/// Hugepages of all arenas and of DPDK together.
fn pages(memory: &MemoryNeed) -> u64 {
    let arena = arena_bytes(memory.frames, memory.chunk).div_ceil(HUGEPAGE as u64);
    arena * memory.lcores as u64 + (memory.dpdk << 20).div_ceil(HUGEPAGE as u64)
}

/// `gvm-dp hugepages show`.
///
/// # Errors
/// The error is [`Failure::Machine`] when this kernel has no hugepages of 2 MiB. It is [`Failure::Output`] when stdout
/// does not take the text.
pub fn show(memory: &MemoryNeed) -> Result<(), Failure> {
    let hugepages = Hugepages::of(memory.node);
    let (free, total) = (hugepages.free()?, hugepages.total()?);
    print(&format!("{}\n{free} of {total} are free\n", describe(memory))).map(drop)
}

/// `gvm-dp hugepages reserve`.
///
/// # Errors
/// It fails as [`Hugepages::reserve`] does. The error is [`Failure::Output`] when stdout does not take the text. The
/// hugepages are reserved then.
pub fn reserve(memory: &MemoryNeed) -> Result<(), Failure> {
    let added = Hugepages::of(memory.node).reserve(pages(memory))?;
    print(&format!("{}\n{added} were added\n", describe(memory))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str, total: u64, free: u64, promised: u64) -> Self {
            let directory = std::env::temp_dir().join(format!("gvm-dp-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            for (file, value) in [("nr_hugepages", total), ("free_hugepages", free), ("resv_hugepages", promised)] {
                std::fs::write(directory.join(file), format!("{value}\n")).unwrap();
            }
            Self(directory)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_free_is_enough_or_what_is_missing_is_asked_for() {
        let fake = Fake::new("enough", 40, 35, 3);
        let hugepages = Hugepages::at(&fake.0);
        assert_eq!((hugepages.free().unwrap(), hugepages.reserve(32).unwrap()), (32, 0));
        // This kernel does not give the pages that it is asked for.
        let complaint = hugepages.reserve(48).unwrap_err();
        assert_eq!(complaint.code(), 3);
        let complaint = complaint.to_string();
        assert!(complaint.contains("48 hugepages") && complaint.contains("only 32 are free"), "{complaint}");
        assert!(complaint.contains("`hugepages=56`"), "{complaint}");
        assert_eq!(hugepages.total().unwrap(), 56);
    }

    #[test]
    fn a_kernel_without_hugepages_is_explained() {
        let complaint = Hugepages::at(Path::new("/no/such/place")).reserve(1).unwrap_err().to_string();
        assert!(complaint.contains("no hugepages of 2 MiB"), "{complaint}");
    }

    #[test]
    fn the_remedy_is_the_need_of_the_whole_process_beside_what_others_use() {
        // Others use 30 of 40 pages. So this process finds 10, and the machine needs 24 more than it has.
        let text = remedy(Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB"), 34, 40, 10);
        assert!(text.contains("needs 34 hugepages of 2 MiB in all"), "{text}");
        assert!(text.contains("`echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`"), "{text}");
        assert!(remedy(Path::new("/x"), 34, 40, 36).contains("echo 40 >"), "enough is enough");
    }

    #[test]
    fn every_arena_is_rounded_up() {
        let memory = MemoryNeed { lcores: 3, frames: 1025, chunk: 2048, node: Some(1), dpdk: 0 };
        assert_eq!(pages(&memory), 6);
        assert_eq!(
            describe(&memory),
            "6 hugepages of 2 MiB on NUMA node 1 are needed: 3 lcores with 1025 frames of 2048 bytes"
        );
        let memory = MemoryNeed { dpdk: 73, node: None, ..memory };
        assert!(describe(&memory).starts_with("43 hugepages") && describe(&memory).ends_with("and 73 MiB for DPDK"));
    }
}
