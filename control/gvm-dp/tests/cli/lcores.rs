//! A master with several ids: an lcore, a UDP port and leases of its own for each.

use crate::harness::{Place, Process, until};
use serde_json::Value;
use std::net::SocketAddr;

const QUICK: [&str; 2] = ["--heartbeat", "100ms"];

fn lends(place: &Place, gateway: SocketAddr, id: u32, more: &[&str]) -> Process {
    let (name, domain) = (format!("slave-{id}"), (id + 1).to_string());
    let lends = ["--name", &name, "--domain", &domain, "--memory", "256M", "--memory-pages", "ordinary"];
    place.slave(gateway, id, &[&lends[..], &["--keep-free", "0"], &QUICK, more].concat())
}

fn master(place: &Place, gateway: SocketAddr, more: &[&str]) -> Process {
    let gateway = gateway.to_string();
    let arguments = ["master", "--gateway", &gateway, "--frames", "4096"];
    let master = place.start(&[&arguments[..], &QUICK, more].concat());
    master.says(&["applications at"]);
    master.says(&["privileges: "]);
    master
}

/// A counter of the master, of each lcore.
fn each(stats: &Value, counter: &str) -> Vec<u64> {
    let lcores = stats["lcores"].as_array().unwrap();
    lcores.iter().map(|lcore| lcore["sets"]["master"][counter].as_u64().unwrap()).collect()
}

#[test]
fn each_id_is_a_master_and_applications_are_spread_over_them() {
    let place = Place::new();
    let key = place.directory.join("cluster.key").to_str().unwrap().to_owned();
    let (masters, connect) = (format!("{key}.masters"), format!("{key}.connect"));
    place.ask(&["key", "new", "--out", &key]);
    place.ask(&["key", "derive", "--key-file", &key, "--role", "master", "--id", "3-4", "--out", &masters]);
    place.ask(&["key", "derive", "--key-file", &key, "--connect", "--out", &connect]);
    let (gateway, address) = place.gateway(&[&QUICK[..], &["--key-file", &key]].concat());
    let slaves = [1, 2].map(|id| lends(&place, address, id, &["--cluster-key-file", &key]));
    place.until_registered("gateway", 2);
    let keys = ["--key-file", &masters, "--connect-key-file", &connect];
    let master = master(&place, address, &[&["--id", "3-4", "--port", "udp:127.0.0.1:0"], &keys[..]].concat());
    master.says(&["masters 3-4, an lcore each"]);
    place.until_stats("gateway", |stats| stats["membership"]["masters"] == 2);
    place.until_stats("master", |stats| each(stats, "slaves_known") == [2, 2]);
    let bench = ["page", "bench", "--json", "--size", "8M", "--duration", "1s"];
    let files = ["a", "b"].map(|name| place.directory.join(name));
    let running = files.each_ref().map(|file| place.start_into(&bench, file));
    // Each has a channel on an lcore of its own while both run.
    place.until_stats("master", |stats| each(stats, "clients") == [1, 1] && each(stats, "extents_used") == [4, 4]);
    for (process, file) in running.into_iter().zip(&files) {
        assert_eq!(process.wait(), Some(0), "{}", master.said());
        let report: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        for step in report["steps"].as_array().unwrap() {
            assert_eq!((&step["failed"], &step["wrong_bytes"]), (&0.into(), &0.into()), "{report:#}");
        }
    }
    let stats = place.until_stats("master", |stats| each(stats, "clients") == [0, 0]);
    let done = each(&stats, "requests_done");
    assert!(done.iter().all(|done| *done >= 2 * 2048), "{done:?}");
    let total = &stats["total"];
    assert_eq!(total["master"]["requests_done"].as_u64(), Some(done.iter().sum()));
    // A socket gets only what is for its lcore.
    for counter in ["rx_other_lcore", "rx_dropped_other_lcore", "rx_handed_over"] {
        assert_eq!(total["handover"][counter], 0, "{counter}");
    }
    for name in ["master", "slave-1", "slave-2", "gateway"] {
        assert_eq!(place.ask(&["drain", "--name", name]), format!("{name}: drained\n"));
    }
    for process in [master, gateway].into_iter().chain(slaves) {
        assert_eq!(process.wait(), Some(0));
    }
}

#[test]
fn a_gateway_takes_as_many_masters_as_it_may() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[&QUICK[..], &["--max-masters", "2"]].concat());
    let master = master(&place, address, &["--id", "1-3", "--port", "udp:127.0.0.1:0"]);
    place.until_stats("gateway", |stats| {
        stats["membership"]["masters"] == 2 && stats["total"]["link"]["refused_masters_full"].as_u64() > Some(0)
    });
    until("registrations", || {
        let registered = each(&place.stats("master"), "gateways_registered");
        (registered.iter().sum::<u64>() == 2).then_some(())
    });
    assert_eq!(place.ask(&["drain", "--name", "master"]), "master: drained\n");
    assert_eq!(master.wait(), Some(0));
}

#[test]
fn ids_lcores_and_ports_that_do_not_fit_are_said() {
    let place = Place::new();
    let alone = ["master", "--gateway", "127.0.0.1:9", "--port"];
    for (more, part) in [
        (&["udp:127.0.0.1:0", "--id", "1-2", "--lcores", "0"][..], "name as many cores as ids"),
        (&["udp:127.0.0.1:65535", "--id", "1-2"], "2 masters use the UDP ports from 65535 on"),
        (&["udp:127.0.0.1:0", "--id", "65535-65536"], "master ids are 0 to 65535"),
        (&["udp:127.0.0.1:0", "--id", "1-65"], "at most 64 ids"),
        (&["udp:127.0.0.1:0", "--id", "2-1"], "lower id first"),
        (&["udp:127.0.0.1:0", "--port", "udp:127.0.0.2:0", "--id", "1"], "a master has one --port"),
    ] {
        let complaint = place.refused(2, &[&alone[..], more].concat());
        assert!(complaint.contains(part), "{complaint}");
    }
    let (key, one) = (place.directory.join("k"), place.directory.join("one"));
    let (key, one) = (key.to_str().unwrap(), one.to_str().unwrap());
    place.ask(&["key", "new", "--out", key]);
    place.ask(&["key", "derive", "--key-file", key, "--role", "master", "--id", "1", "--out", one]);
    let complaint = place.refused(2, &[&alone[..], &["udp:127.0.0.1:0", "--id", "1-2", "--key-file", one]].concat());
    assert!(complaint.contains("is the key of one id, and this process has several"), "{complaint}");
    let derive = ["key", "derive", "--key-file", key, "--role", "master"];
    let complaint = place.refused(2, &[&derive[..], &["--id", "0-512"]].concat());
    assert!(complaint.contains("at most 512 keys"), "{complaint}");
    let complaint = place.refused(2, &[&derive[..], &["--id", "65535-65536"]].concat());
    assert!(complaint.contains("master ids are 0 to 65535"), "{complaint}");
}
