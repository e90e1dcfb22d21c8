//! Poll loops of other processes: threads that have the names of our lcores and are pinned to one core.
//!
//! They are read from `/proc`. So a crash leaves no file behind, and processes of other users and run directories are
//! found, too.

use super::topology;
use common::plain;
use std::path::Path;

/// An lcore of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its process.
    pub pid: u32,
    /// The name of its thread.
    pub thread: String,
    /// The core to which it is pinned.
    pub core: usize,
    /// The process's command line, or its beginning.
    pub command: String,
}

/// Characters of a command line that are shown.
const SHOWN: usize = 60;

/// The lcores of all other processes; `proc` is `/proc`, or the directory of a test.
pub(super) fn find(proc: &Path, this: u32) -> Vec<Neighbour> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if pid == this || read("comm").trim() != "gvm-dp" {
            continue;
        }
        let command: String = read("cmdline").replace('\0', " ").trim().chars().take(SHOWN).collect();
        // Every process chooses its own command line.
        let command = plain::line(&command).into_owned();
        for task in std::fs::read_dir(entry.path().join("task")).into_iter().flatten().flatten() {
            let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let thread = plain::line(read("comm").trim()).into_owned();
            if thread.starts_with("lcore-")
                && let Some(core) = pinned(&read("status"))
            {
                found.push(Neighbour { pid, thread, core, command: command.clone() });
            }
        }
    }
    found.sort_by_key(|neighbour| (neighbour.core, neighbour.pid));
    found
}

/// The only core on which a thread may run, from its `status`.
fn pinned(status: &str) -> Option<usize> {
    let allowed = topology::cores(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?);
    let mut allowed = allowed.into_iter();
    allowed.next().filter(|_| allowed.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_lcores_are_found_by_name_and_pinning() {
        let proc = std::env::temp_dir().join(format!("gvm-dp-proc-{}", std::process::id()));
        let task = |pid: u32, tid: u32, process: &str, thread: &str, cores: &str| {
            let at = proc.join(pid.to_string()).join("task").join(tid.to_string());
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(proc.join(pid.to_string()).join("comm"), format!("{process}\n")).unwrap();
            std::fs::write(proc.join(pid.to_string()).join("cmdline"), format!("{process}\0--lcores\0{cores}\0"))
                .unwrap();
            std::fs::write(at.join("comm"), format!("{thread}\n")).unwrap();
            std::fs::write(at.join("status"), format!("Name:\tx\nCpus_allowed_list:\t{cores}\n")).unwrap();
        };
        task(10, 10, "gvm-dp", "gvm-dp", "0-3");
        task(10, 11, "gvm-dp", "lcore-0", "2");
        task(20, 21, "gvm-dp", "lcore-0", "0-3");
        task(30, 31, "gvm-dp", "lcore-0", "3");
        task(40, 41, "other", "lcore-0", "1");
        let found = find(&proc, 30);
        std::fs::remove_dir_all(&proc).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let Neighbour { pid, thread, core, command } = &found[0];
        assert_eq!((*pid, thread.as_str(), *core), (10, "lcore-0", 2));
        assert!(command.starts_with("gvm-dp --lcores"), "{command}");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let _ = find(Path::new("/proc"), std::process::id());
        assert_eq!(pinned("Name:\tx\n"), None);
    }
}
