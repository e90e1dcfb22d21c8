//! What the kernel lets this process do: everything that set-up needs, and after that only what later work needs.
//!
//! | thread | capabilities after set-up | system calls |
//! |---|---|---|
//! | lcores | none | the calls for polling, waiting, and closing their ports |
//! | `neighbours`, one for each `xdp:` port | CAP_NET_ADMIN, to make the kernel ask for a neighbour | netlink |
//! | `dpdk` and what DPDK starts, with `dpdk:` ports | none; with `net_af_xdp` CAP_NET_ADMIN and CAP_SYS_ADMIN, because it removes its program from the interface at the end | the calls of drivers: devices, sockets, their memory |
//! | `addresses`, one for each `xdp:` and `udp:` port, and interface under a `dpdk:` port | none; on older kernels CAP_BPF, to use the program's maps | netlink; with `xdp:` ports the program's maps, and reading what an interface has |
//! | `applications`, of a master | none | accepted connections, memory that is shared, eventfds |
//! | `connector`, of a disk | none | a Unix socket to the master, memory and eventfds that come over it |
//! | `stderr`, which writes the log | none | `write`, and what a signal handler needs |
//! | `end`, which ends the process when the control thread does not | none | `poll`, reading `/proc`, and what a signal handler needs |
//! | control | none; with `xdp:` ports what `Nic::keeps` of `process::assemble::nic` says | files, accepted connections, timers, and with `xdp:` ports the program's maps and ethtool |
//!
//! Threads that the control thread starts later have the same rights. No thread can start another program or gain a
//! privilege. `docs/security.md` describes all of it.

pub mod capability;
mod paths;
pub mod seccomp;
mod thread;

use common::exit::Failure;
use paths::Paths;
pub use paths::Places;
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;
use seccomp::{Filters, Mode};
use std::io;
use std::sync::Arc;
pub use thread::{Needs, Thread};

/// How the threads of this process are confined after set-up. Clones share it.
#[derive(Clone)]
pub struct Confinement {
    filters: Arc<Filters>,
    paths: Arc<Paths>,
}

/// Prevents other processes of this user from reading the memory of this one: it may hold keys. Its files in `/proc`
/// belong to root from now on. So without root's rights it cannot write its own code through them either, and there is
/// no core dump.
///
/// # Errors
/// The kernel refuses. It has no reason to.
pub fn hide_memory() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::Machine(format!("cannot keep other processes out of this one's memory: {error}")))
}

impl Confinement {
    /// Makes the filters for a process with these needs. It may later open files in these places; `None` restricts no
    /// paths.
    ///
    /// # Errors
    /// The error is [`Failure::Internal`]: the rules for system calls do not compile to a filter for this machine.
    pub fn new(mode: Mode, needs: Needs, places: Option<Places>) -> Result<Self, Failure> {
        Ok(Self { filters: Arc::new(Filters::new(mode, needs)?), paths: Arc::new(Paths::new(places)) })
    }

    /// Confines the calling thread for good. Of its capabilities it keeps those in `keep`.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`], which names the step that the kernel refused. The thread keeps the
    /// restrictions of the steps before it.
    pub fn enter(&self, thread: Thread, keep: CapabilitySet) -> Result<(), Failure> {
        self.try_enter(thread, keep).map_err(|error| {
            Failure::Machine(format!(
                "{error}; `--seccomp off` does without a filter of system calls, `--landlock off` without one of paths"
            ))
        })
    }

    /// [`Confinement::enter`], with the kernel's error.
    ///
    /// # Errors
    /// The kernel refuses to take capabilities or new privileges, or to restrict paths or system calls. The text of the
    /// error names the step. The thread keeps the restrictions of the steps before it.
    pub fn try_enter(&self, thread: Thread, keep: CapabilitySet) -> io::Result<()> {
        let failed =
            |what: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        capability::keep_only(keep).map_err(failed("cannot give up capabilities"))?;
        let forgo = rustix::thread::set_no_new_privs(true).map_err(io::Error::from);
        forgo.map_err(failed("cannot forgo new privileges"))?;
        self.paths.apply(thread).map_err(failed("cannot restrict paths"))?;
        self.filters.apply(thread).map_err(failed("cannot restrict system calls"))?;
        tracing::debug!("a thread is confined as {thread:?}");
        Ok(())
    }

    /// One line for the log at start-up, written by a confined thread that keeps its capabilities.
    pub fn describe(&self) -> String {
        format!(
            "privileges: uid {}, capabilities of the control thread {}, of lcores none; no new privileges; {}; {}",
            rustix::process::geteuid().as_raw(),
            capability::describe(),
            self.filters.describe(),
            self.paths.describe()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    /// The environment variable that names what a copy of this test program tries.
    const TRY: &str = "GVM_DP_TEST_TRY";

    /// Runs this test program again, which tries something as a confined thread.
    fn attempt(what: &str) -> (ExitStatus, String) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "privilege::tests::try_it", "--nocapture"]).env(TRY, what).env("RUST_BACKTRACE", "1");
        let output = child.output().unwrap();
        (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Has an effect only in the copy.
    #[test]
    fn try_it() {
        let Ok(what) = std::env::var(TRY) else { return };
        let (kind, what) = what.split_once(' ').unwrap();
        let (kind, mode) = kind.split_once('/').unwrap();
        let thread = match kind {
            "lcore" => Thread::Lcore,
            "neighbours" => Thread::Neighbours,
            "scrub" => Thread::Scrub,
            "log" => Thread::Log,
            "end" => Thread::End,
            "applications" => Thread::Applications,
            "connector" => Thread::Connector,
            _ => Thread::Control,
        };
        let mode = <Mode as clap::ValueEnum>::from_str(mode, false).unwrap();
        let confinement = Confinement::new(mode, Needs::default(), Some(Places::default())).unwrap();
        // The test runner's own thread cannot be confined: it has other work.
        let inside = move |what: &str| {
            confinement.enter(thread, CapabilitySet::empty()).unwrap();
            match what {
                "program" => drop(Command::new("/bin/true").status()),
                "socket" => drop(std::net::TcpStream::connect("127.0.0.1:9")),
                "write" => drop(std::fs::File::create("/proc/self/nothing")),
                "privilege" => drop(rustix::thread::set_capabilities(
                    None,
                    rustix::thread::CapabilitySets {
                        effective: CapabilitySet::empty(),
                        permitted: CapabilitySet::empty(),
                        inheritable: CapabilitySet::empty(),
                    },
                )),
                "work" => work(),
                other => panic!("{other}"),
            }
        };
        std::thread::scope(|scope| scope.spawn(|| inside(what)).join()).unwrap();
        eprintln!("went on");
    }

    /// What every thread does, and a panic that is caught.
    fn work() {
        let large = vec![1u8; 64 << 20];
        std::thread::sleep(std::time::Duration::from_millis(1));
        std::thread::yield_now();
        assert!(large.iter().all(|&byte| byte == 1));
        // A backtrace looks up names in this file.
        assert!(std::fs::File::open(std::env::current_exe().unwrap()).is_ok());
        let caught = std::panic::catch_unwind(|| panic!("on purpose, with a backtrace"));
        assert!(caught.is_err());
        eprintln!("worked");
    }

    #[test]
    fn a_call_outside_the_list_ends_the_process() {
        for kind in ["lcore", "neighbours", "scrub", "applications", "log", "end", "control"] {
            for what in ["program", "socket", "privilege"] {
                let (status, said) = attempt(&format!("{kind}/on {what}"));
                assert_eq!(status.signal(), Some(libc::SIGSYS), "{kind} {what}: {status} {said}");
                assert!(!said.contains("went on"), "{said}");
            }
        }
        for kind in ["lcore", "neighbours", "scrub", "applications", "connector", "log", "end"] {
            assert_eq!(attempt(&format!("{kind}/on write")).0.signal(), Some(libc::SIGSYS));
        }
    }

    #[test]
    fn what_a_thread_needs_goes_on_and_so_do_panics() {
        for kind in ["lcore", "neighbours", "scrub", "applications", "connector", "log", "end", "control"] {
            let (status, said) = attempt(&format!("{kind}/on work"));
            assert!(status.success() && said.contains("worked") && said.contains("went on"), "{kind}: {status} {said}");
            assert!(said.contains("on purpose") && said.contains("privilege::tests::work"), "no backtrace: {said}");
        }
    }

    #[test]
    fn logging_and_no_filter_let_it_pass() {
        for mode in ["log", "off"] {
            let (status, said) = attempt(&format!("lcore/{mode} socket"));
            assert!(status.success() && said.contains("went on"), "{mode}: {status} {said}");
        }
    }
}
