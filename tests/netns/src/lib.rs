//! Tests on real kernel paths: network namespaces, veth pairs, and threads inside them.
//!
//! All traffic stays in namespaces that a test made. A test removes them at its end, also when it panics. The next run
//! removes the namespaces that a killed run left behind. Needs root, `ip` (iproute2) and `ethtool`; without them a test
//! says SKIPPED, or fails when the environment has `GVM_TESTS=require`.
#![forbid(unsafe_code)]

pub mod dpdk;
pub mod product;
pub mod shell;
pub mod sniff;
pub mod world;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// First part of the names of all namespaces; the process id and a number follow.
const PREFIX: &str = "gvmdp";

/// Whether such tests can run here. If not, says so on standard error, or panics with `GVM_TESTS=require`.
pub fn available() -> bool {
    let Some(reason) = missing() else { return true };
    skip(&reason);
    false
}

/// Says on standard error that a test or a part of it cannot run here.
///
/// # Panics
/// With `GVM_TESTS=require`.
pub fn skip(reason: &str) {
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    // Written directly, because the test runner hides what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// The reason why such tests cannot run here, if there is one.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root: run the tests with sudo".to_owned());
    }
    for (program, package) in [("ip", "iproute2"), ("ethtool", "ethtool")] {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("`{program}` is not installed: `apt-get install -y {package}`"));
        }
    }
    let probe = Namespace::create(&name());
    probe.err().map(|reason| format!("this machine makes no network namespaces: {reason}"))
}

/// Runs a program and returns what it printed, or why it failed.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let line = || format!("`{program} {}`", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{}: {error}", line()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}: {}", line(), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether a name is `prefix`, a process id and a number, and the process is dead.
fn is_left_behind(name: &str, prefix: &str) -> bool {
    let mut parts = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or("").split('-');
    let pid = parts.next().filter(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()));
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// Removes the namespaces of test runs that are dead.
fn sweep() {
    for line in run("ip", &["netns", "list"]).unwrap_or_default().lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        if is_left_behind(name, PREFIX) {
            let _ = run("ip", &["netns", "delete", name]);
        }
    }
}

/// A network namespace, removed with all its interfaces when this is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace with its loopback up.
    ///
    /// # Panics
    /// When that fails; see [`available`].
    pub fn new() -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let namespace = Self::create(&name()).unwrap_or_else(|reason| panic!("{reason}"));
        namespace.ip("link set dev lo up");
        namespace
    }

    fn create(name: &str) -> Result<Self, String> {
        run("ip", &["netns", "add", name])?;
        Ok(Self { name: name.to_owned() })
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in the namespace, with arguments separated by blanks; returns what it printed.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_whitespace());
        run("ip", &all).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Deletes the kernel's neighbours of a device.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn forget_neighbours(&self, device: &str) {
        // `ip neighbour flush` would repeat until it finds none, and fail after ten rounds: traffic creates them again
        // at once.
        for line in self.ip(&format!("neighbour show dev {device}")).lines() {
            let address = line.split_whitespace().next().unwrap_or_default();
            // The kernel may have deleted it meanwhile.
            let _ = run("ip", &["-n", &self.name, "neighbour", "del", address, "dev", device]);
        }
    }

    /// Runs a program in the namespace, with arguments separated by blanks; returns what it printed.
    ///
    /// # Panics
    /// When the program fails.
    pub fn exec(&self, command: &str) -> String {
        let mut all = vec!["netns", "exec", &self.name];
        all.extend(command.split_whitespace());
        run("ip", &all).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Calls `f` on a thread inside the namespace and waits for it. Sockets that it makes belong to the namespace.
    ///
    /// # Panics
    /// When `f` does.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace is there");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            f()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(reason) = run("ip", &["netns", "delete", &self.name]) {
            let _ = writeln!(std::io::stderr(), "left behind: {reason}");
        }
    }
}

/// One end of a veth pair: its namespace, its name and its address.
pub struct End<'a> {
    /// The namespace that it is in.
    pub namespace: &'a Namespace,
    /// Its name.
    pub name: &'a str,
    /// Its IPv4 address with the length of the prefix, like `10.0.0.1/24`.
    pub address: &'a str,
}

/// Joins two namespaces with a veth pair of `queues` receive and transmit queues at both ends, up and addressed.
///
/// # Panics
/// When `ip` fails.
pub fn join(a: &End<'_>, b: &End<'_>, queues: u32) {
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    a.namespace.ip(&format!(
        "link add name {} {queues} type veth peer name {} {queues} netns {}",
        a.name,
        b.name,
        b.namespace.name()
    ));
    for end in [a, b] {
        // No automatic addresses: the wire carries only what the test sends, and ARP.
        end.namespace.ip(&format!("link set dev {} addrgenmode none", end.name));
        end.namespace.ip(&format!("address add {} dev {}", end.address, end.name));
        end.namespace.ip(&format!("link set dev {} up", end.name));
    }
}

/// Makes the kernel compute whole checksums for what it sends through an end.
///
/// A veth leaves them unfinished, because its other end is memory of the same machine. An AF_XDP socket at that end
/// would get wrong checksums.
///
/// # Panics
/// When `ethtool` fails.
pub fn real_checksums(end: &End<'_>) {
    end.namespace.exec(&format!("ethtool -K {} tx off", end.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_behind_is_swept() {
        // No process has this number: it is above the largest one of Linux.
        assert!(is_left_behind("gvmdp-999999999-3", "gvmdp"));
        let living = format!("gvmdp-{}-0", std::process::id());
        for name in [&*living, "gvmdp--1", "gvmdp-x-1", "gvmdp", "gvmdpx-999999999-3", "eth0"] {
            assert!(!is_left_behind(name, "gvmdp"), "{name}");
        }
    }
}
