//! Remote memory through real processes: gateways, slaves that lend, a master, and `gvm-dp page` as the application.

use crate::harness::{Place, Process, until};
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;

/// What every node of these tests has in common.
pub(crate) const QUICK: [&str; 2] = ["--heartbeat", "100ms"];

/// A slave with a failure domain of its own that lends 128 MiB.
pub(crate) fn lends(place: &Place, gateway: SocketAddr, id: u32) -> Process {
    let (name, domain) = (format!("slave-{id}"), (id + 1).to_string());
    let more = ["--name", &name, "--domain", &domain, "--memory", "128M", "--memory-pages", "ordinary"];
    place.slave(gateway, id, &[&more[..], &["--keep-free", "0"], &QUICK].concat())
}

pub(crate) fn master(place: &Place, gateways: &[SocketAddr], more: &[&str]) -> Process {
    let gateways: Vec<String> = gateways.iter().map(SocketAddr::to_string).collect();
    let mut arguments = vec!["master", "--id", "1", "--port", "udp:127.0.0.1:0", "--frames", "4096"];
    gateways.iter().for_each(|gateway| arguments.extend(["--gateway", gateway]));
    arguments.extend(QUICK);
    arguments.extend(more);
    let master = place.start(&arguments);
    master.says(&["applications at"]);
    master.says(&["privileges: "]);
    master
}

/// Two slaves behind one gateway, and a master.
pub(crate) fn cluster(place: &Place) -> (Process, [Process; 2], Process) {
    let (gateway, address) = place.gateway(&QUICK);
    let slaves = [1, 2].map(|id| lends(place, address, id));
    place.until_registered("gateway", 2);
    let master = master(place, &[address], &[]);
    place.until_stats("master", |stats| stats["total"]["master"]["slaves_known"] == 2);
    (gateway, slaves, master)
}

fn bench(place: &Place, more: &[&str]) -> Value {
    let arguments = [&["page", "bench", "--json", "--duration", "50ms"], more].concat();
    serde_json::from_str(&place.ask(&arguments)).unwrap()
}

/// Every step did something, nothing failed, and no byte was wrong.
fn is_good(report: &Value, blocks: u64) {
    let steps = report["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["write", "verify", "read"]);
    for step in steps {
        assert_eq!((&step["failed"], &step["wrong_bytes"]), (&0.into(), &0.into()), "{report:#}");
    }
    assert_eq!((&steps[0]["blocks"], &steps[1]["blocks"]), (&blocks.into(), &blocks.into()), "{report:#}");
}

#[test]
fn what_is_written_to_slaves_is_read_back_and_all_memory_returns() {
    let place = Place::new();
    let (gateway, slaves, master) = cluster(&place);
    is_good(&bench(&place, &["--size", "16M"]), 4096);
    is_good(&bench(&place, &["--size", "8M", "--block", "64K", "--depth", "8"]), 128);
    let text = place.ask(&["page", "bench", "--size", "2M", "--block", "2M", "--duration", "1ms"]);
    assert!(text.contains("1 extents of 2 MiB allocated") && text.contains("\nwrong bytes 0; "), "{text}");
    let is_empty = |master: &Value| master["clients"] == 0 && master["extents_used"] == 0;
    let totals = place.until_stats("master", |stats| is_empty(&stats["total"]["master"]))["total"].clone();
    assert!(totals["master"]["requests_done"].as_u64() >= Some(2 * (4096 + 128 + 1)), "{totals:#}");
    assert_eq!(totals["master"]["requests_failed"], 0);
    master.says(&["application \"gvm-dp page bench\"", "has a channel"]);
    master.says(&["application \"gvm-dp page bench\"", "is gone"]);
    for name in ["master", "slave-1", "slave-2", "gateway"] {
        assert_eq!(place.ask(&["drain", "--name", name]), format!("{name}: drained\n"));
    }
    for process in [master, gateway].into_iter().chain(slaves) {
        assert_eq!(process.wait(), Some(0));
    }
}

#[test]
fn a_gateway_that_is_killed_and_started_again_costs_time_and_no_byte() {
    let place = Place::new();
    let (gateway, _slaves, master) = cluster(&place);
    let port = format!("udp:{}", gateway.address());
    let file = place.directory.join("report");
    let bench = ["page", "bench", "--json", "--size", "64M", "--duration", "2s"];
    let running = place.start_into(&bench, &file);
    place.until_stats("master", |stats| stats["total"]["master"]["requests_done"].as_u64() > Some(500));
    gateway.signal(Signal::KILL);
    assert_eq!(gateway.wait(), None);
    let arguments = ["gateway", "--port", &port, "--frames", "2048", "--heartbeat", "100ms"];
    let _gateway = place.start(&arguments);
    assert_eq!(running.wait(), Some(0), "{}", master.said());
    is_good(&serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap(), 16_384);
}

#[test]
fn large_packets_come_back_when_a_gateway_has_started_again() {
    let place = Place::new();
    let large = [&QUICK[..], &["--mtu", "9000"]].concat();
    let (gateway, address) = place.gateway(&large);
    let more = ["--domain", "1", "--memory", "128M", "--memory-pages", "ordinary", "--keep-free", "0"];
    let _slave = place.slave(address, 1, &[&more[..], &large].concat());
    place.until_registered("gateway", 1);
    let _master = master(&place, &[address], &["--mtu", "9000"]);
    place.until_stats("master", |stats| stats["total"]["master"]["slaves_known"] == 1);
    // A page is one packet then, where it is four in packets of 1,500 bytes.
    let until_large = || {
        until("packets with a page each", || {
            let count = |stats: &Value, set: &str, name: &str| stats["total"][set][name].as_u64().unwrap();
            let before = place.stats("master");
            is_good(&bench(&place, &["--size", "4M"]), 1024);
            let after = place.stats("master");
            let more = |set: &str, name: &str| count(&after, set, name) - count(&before, set, name);
            (more("transport", "responses_in") * 2 < more("master", "requests_done") * 3).then_some(())
        });
    };
    until_large();
    gateway.signal(Signal::KILL);
    assert_eq!(gateway.wait(), None);
    let port = format!("udp:{address}");
    let _gateway = place.start(&[&["gateway", "--port", &port, "--frames", "2048"][..], &large].concat());
    until_large();
}

#[test]
fn slaves_that_are_gone_are_errors_and_never_data() {
    let place = Place::new();
    let (_gateway, slaves, master) = cluster(&place);
    let file = place.directory.join("report");
    let bench = ["page", "bench", "--json", "--size", "32M", "--duration", "3600s"];
    let running = place.start_into(&bench, &file);
    place.until_stats("master", |stats| stats["total"]["master"]["requests_done"].as_u64() > Some(2 * 8192));
    for slave in &slaves {
        slave.signal(Signal::KILL);
    }
    running.says(&["requests of the step read ended with SLAVE_GONE"]);
    let text = running.said();
    assert_eq!(running.wait(), Some(8), "{text}");
    master.says(&["WARN", "all that slave 1 lent is lost"]);
    place.until_stats("master", |stats| stats["total"]["master"]["units_held"] == 0);
    let complaint = place.refused(8, &["page", "bench", "--size", "2M"]);
    assert!(complaint.contains("no slaves had the memory in time: start more slaves that lend"), "{complaint}");
}

#[test]
fn an_application_that_dies_leaves_nothing_and_the_other_one_goes_on() {
    let place = Place::new();
    let (_gateway, _slaves, _master) = cluster(&place);
    let endless = ["page", "bench", "--size", "16M", "--duration", "3600s"];
    let dies = place.start(&endless);
    place.until_stats("master", |stats| stats["total"]["master"]["requests_done"].as_u64() > Some(2 * 4096));
    let file = place.directory.join("report");
    let lives = place.start_into(&["page", "bench", "--json", "--size", "16M", "--duration", "1s"], &file);
    place.until_stats("master", |stats| stats["total"]["master"]["extents_used"] == 16);
    dies.signal(Signal::KILL);
    assert_eq!(lives.wait(), Some(0));
    is_good(&serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap(), 4096);
    place.until_stats("master", |stats| stats["total"]["master"]["extents_used"] == 0);
}

#[test]
fn a_master_that_is_not_there_or_twice_is_said() {
    let place = Place::new();
    let complaint = place.refused(6, &["page", "bench"]);
    assert!(complaint.contains("start gvm-dp master, or name the socket"), "{complaint}");
    let (_gateway, address) = place.gateway(&QUICK);
    let master = master(&place, &[address], &["--quota", "4M"]);
    let (address, id) = (address.to_string(), "2");
    let again = ["master", "--name", "other", "--gateway", &address, "--id", id, "--port", "udp:127.0.0.1:0"];
    let socket = place.directory.join("master.pages");
    let complaint = place.refused(4, &[&again[..], &["--socket", socket.to_str().unwrap()]].concat());
    assert!(complaint.contains("is in use: a master runs already"), "{complaint}");
    let complaint = place.refused(2, &[&again[..], &["--socket-group", "no-such-group"]].concat());
    assert!(complaint.contains("getent group"), "{complaint}");
    let complaint = place.refused(2, &[&again[..], &["--quota", "1M"]].concat());
    assert!(complaint.contains("extents of 2M"), "{complaint}");
    let complaint = place.refused(8, &["page", "bench", "--size", "6M"]);
    assert!(complaint.contains("raise its quota"), "{complaint}");
    let complaint = place.refused(2, &["page", "bench", "--block", "5000"]);
    assert!(complaint.contains("a multiple of 8 that divides 2M"), "{complaint}");
    assert_eq!(place.ask(&["drain", "--name", "master"]), "master: drained\n");
    assert_eq!(master.wait(), Some(0));
    assert!(!socket.exists(), "the socket goes with its master");
}

#[test]
fn a_key_is_shared_by_all_and_a_stranger_gets_no_memory() {
    let place = Place::new();
    let key = place.directory.join("cluster.key");
    let key = key.to_str().unwrap();
    place.ask(&["key", "new", "--out", key]);
    let (_gateway, address) = place.gateway(&["--key-file", key, "--heartbeat", "100ms"]);
    let gateway = address.to_string();
    let more = ["--memory", "64M", "--memory-pages", "ordinary", "--keep-free", "0", "--cluster-key-file", key];
    let _slave = place.slave(address, 1, &[&more[..], &QUICK].concat());
    place.until_registered("gateway", 1);
    let _master = master(&place, &[address], &["--cluster-key-file", key]);
    is_good(&bench(&place, &["--size", "4M"]), 1024);
    let alone = ["master", "--gateway", &gateway, "--id", "2", "--port", "udp:127.0.0.1:0", "--key-file", key];
    let complaint = place.refused(2, &alone);
    assert!(complaint.contains("--connect-key-file"), "{complaint}");
    until("nothing is held", || (place.stats("master")["total"]["master"]["extents_used"] == 0).then_some(()));
}
