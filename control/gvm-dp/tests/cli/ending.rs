//! The end of a process has bounds: a device that does not come back from a call holds up neither its end nor its
//! answers.

use crate::harness::{Place, Process, until};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The plugin whose devices stick, made and put where a process looks for its plugin. It stands on one small crate, so
/// that the compiler alone makes it: cargo would build all that the real one needs.
pub(crate) fn plugin(place: &Place) -> String {
    let plugins = place.directory.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dataplane");
    let compile = |kind: &str, more: &[&str], source: &str, to: &str| {
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "--crate-type", kind, "-o", to]).args(more);
        let output = rustc.arg(sources.join(source)).current_dir(&plugins).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    compile("rlib", &["--crate-name", "port_abi"], "port-abi/src/lib.rs", "libport_abi.rlib");
    let uses = ["--extern", "port_abi=libport_abi.rlib"];
    compile("cdylib", &uses, "dpdk-plugin/examples/stuck.rs", "libgvm_dpdk.so");
    plugins.to_str().unwrap().to_owned()
}

/// A gateway on a device that sticks in a call.
fn gateway(place: &Place, call: &str) -> Process {
    let port = format!("dpdk:net_stuck0,at={call},ip=192.0.2.1/24");
    let until = place.directory.join("until").to_str().unwrap().to_owned();
    let environment = [("GVM_DP_PLUGIN_DIR", &*plugin(place)), ("GVM_STUCK_UNTIL", &until)];
    let gateway = place.start_with(&environment, &["gateway", "--port", &port, "--frames", "2048"]);
    gateway.says(&["seccomp on"]);
    gateway
}

#[test]
fn a_device_that_does_not_close_is_left() {
    let place = Place::new();
    let gateway = gateway(&place, "close");
    gateway.signal(Signal::TERM);
    gateway.says(&["drained: nothing was lost"]);
    let said = gateway.says(&["ended at once, after 8 s: dpdk:net_stuck0 is not closed: its driver (net_stuck)"]);
    assert!(said.contains("dpdk-devbind.py") && said.contains("(threads: "), "{said}");
    assert_eq!(gateway.wait(), Some(9));
}

#[test]
fn another_signal_does_not_wait_for_a_device_that_does_not_close() {
    let place = Place::new();
    let gateway = gateway(&place, "close");
    gateway.signal(Signal::TERM);
    gateway.says(&["drained: nothing was lost"]);
    gateway.signal(Signal::INT);
    gateway.says(&["SIGINT again: ended at once: dpdk:net_stuck0 is not closed"]);
    assert_eq!(gateway.wait(), Some(9));
}

#[test]
fn an_lcore_that_does_not_come_back_is_left() {
    let place = Place::new();
    let gateway = gateway(&place, "receive");
    gateway.says(&["lcore 0 stands still in receive of port 0"]);
    gateway.signal(Signal::TERM);
    let said = gateway
        .says(&["ended without having drained: lcore 0 does not come back in receive of port 0 (dpdk:net_stuck0"]);
    assert!(said.contains("what it held is lost") && said.contains("`dmesg`"), "{said}");
    assert_eq!(gateway.wait(), Some(7));
    assert!(!place.directory.join("gateway.sock").exists(), "what can be cleaned up is");
}

#[test]
fn a_driver_that_does_not_answer_keeps_nobody_waiting() {
    let place = Place::new();
    let gateway = gateway(&place, "count");
    let devices = |stats: &serde_json::Value| stats["devices"][0]["counters"].as_object().unwrap().len();
    assert_eq!(devices(&place.stats("gateway")), 0);
    gateway.says(&["DPDK's devices are not looked after"]);
    // Nobody waits for it a second time, nor does the drain.
    assert_eq!(devices(&place.stats("gateway")), 0);
    place.file("until", "", 0o600);
    gateway.says(&["DPDK's devices are looked after again"]);
    until("its counters", || (devices(&place.stats("gateway")) == 1).then_some(()));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_link_that_is_never_told_ends_with_the_process() {
    // Set-up looks at the link once, before there is anything that a drain could lose.
    let place = Place::new();
    let port = "dpdk:net_stuck0,at=link,ip=192.0.2.1/24";
    let environment = [("GVM_DP_PLUGIN_DIR", &*plugin(&place))];
    let gateway = place.start_with(&environment, &["gateway", "--port", port, "--frames", "2048"]);
    crate::signals::until_thread(&gateway, "lcore-0");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), None, "it holds nothing yet");
}

/// An end may take more than ten seconds: a node that does not answer and a port that does not send cost five each.
#[test]
fn the_drain_command_waits_as_long_as_an_end_may_take() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&["--heartbeat", "2s"]);
    let slave = place.slave(address, 3, &["--name", "slave", "--heartbeat", "2s"]);
    place.until_registered("gateway", 1);
    // Its answer is waited for, so that the gateway can be stopped while it drains.
    slave.signal(Signal::KILL);
    let drain = place.start(&["drain", "--name", "gateway"]);
    gateway.says(&["told by gvm-dp drain: draining"]);
    gateway.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(11));
    gateway.signal(Signal::CONT);
    assert_eq!(drain.wait(), Some(0));
    assert_eq!(gateway.wait(), Some(0));
}
