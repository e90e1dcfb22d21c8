//! After set-up no thread has more than it needs, and everything goes on as before; also as a user without privileges.

use crate::harness::{Place, Process};
use rustix::process::{Signal, geteuid};
use std::collections::BTreeMap;

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// The lines of `/proc/PID/task/TID/status` that speak of privileges, by the name of each thread.
fn threads(process: &Process) -> Vec<(String, BTreeMap<String, String>)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let status = |entry: std::fs::DirEntry| {
        // One that has ended meanwhile has none.
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let fields = status.lines().filter_map(|line| line.split_once(":\t"));
        let fields: BTreeMap<String, String> =
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some((fields["Name"].clone(), fields))
    };
    tasks.filter_map(|entry| status(entry.ok()?)).collect()
}

fn assert_confined(process: &Process, lcores: usize, seccomp: &str) {
    process.says(&["privileges: ", "capabilities of the control thread none, of lcores none; no new privileges"]);
    let threads = threads(process);
    assert_eq!(threads.iter().filter(|(name, _)| name.starts_with("lcore-")).count(), lcores);
    for (name, status) in threads {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status[set], 16), Ok(0), "{name}: {set}");
        }
        if geteuid().is_root() {
            assert_eq!(u64::from_str_radix(&status["CapBnd"], 16), Ok(0), "{name}: CapBnd");
        }
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", seccomp), "{name}");
    }
}

#[test]
fn after_set_up_every_thread_has_only_what_it_needs() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&[]);
    gateway.says(&["privileges: ", "seccomp on: ", "system calls for lcores"]);
    assert_confined(&gateway, 1, "2");
    let farm = place.slave(address, 0, &["--name", "farm"]);
    place.until_registered("gateway", 1);
    assert_confined(&farm, 1, "2");
    // What the control thread serves and how it ends is not hindered.
    place.ask(&["routes", "--name", "gateway"]);
    farm.signal(Signal::TERM);
    assert_eq!(farm.wait(), Some(0));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
    assert!(!place.directory.join("gateway.sock").exists() && !place.directory.join("farm.sock").exists());
}

#[test]
fn the_filter_can_be_left_out_and_nothing_else() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&["--seccomp", "off"]);
    gateway.says(&["privileges: ", "seccomp off"]);
    assert_confined(&gateway, 1, "0");
    let complaint = place.refused(2, &["--seccomp", "maybe", "--port", "udp:127.0.0.1:0"]);
    assert!(complaint.contains("on, log, off"), "{complaint}");
}

#[test]
fn a_user_without_privileges_runs_sockets() {
    let place = Place::new();
    let is_root = geteuid().is_root();
    let user = if is_root { NOBODY } else { geteuid().as_raw() };
    if is_root {
        place.give_to(user);
    }
    let port = ["--port", "udp:127.0.0.1:0", "--frames", "2048"];
    let gateway = place.start_as(user, &port);
    gateway.says(&[&format!("privileges: uid {user}, capabilities of the control thread none")]);
    assert_confined_as(user, &gateway);
    let address = gateway.address().to_string();
    let slave = ["slave", "--gateway", &address, "--id", "7", "--port", "udp:127.0.0.1:0", "--frames", "2048"];
    let slave = place.start_as(user, &slave);
    place.until_registered("gateway", 1);
    assert_confined_as(user, &slave);
    for process in [slave, gateway] {
        process.signal(Signal::TERM);
        assert_eq!(process.wait(), Some(0));
    }
}

/// Without CAP_SETPCAP the bounding set stays as it was: "no new privileges" makes it meaningless.
fn assert_confined_as(user: u32, process: &Process) {
    for (name, status) in threads(process) {
        assert_eq!(u64::from_str_radix(&status["CapEff"], 16), Ok(0), "{name}");
        assert_eq!(status["Uid"], vec![user.to_string(); 4].join("\t"), "{name}");
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{name}");
    }
}
