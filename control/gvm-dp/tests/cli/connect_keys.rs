//! The connect key changes while memory is lent.

use crate::harness::Place;
use crate::pages::{QUICK, master};
use rustix::process::Signal;

#[test]
fn a_reload_takes_over_other_connect_keys_and_leases_go_on() {
    let place = Place::new();
    let path = |name: &str| place.directory.join(name).to_str().unwrap().to_owned();
    let connect = ["old", "new"].map(|name| {
        let (cluster, connect) = (path(&format!("{name}.cluster")), path(name));
        place.ask(&["key", "new", "--out", &cluster]);
        place.ask(&["key", "derive", "--key-file", &cluster, "--connect", "--out", &connect]);
        connect
    });
    let prints = [&connect[0], &connect[1]].map(|key| place.ask(&["key", "show", "--key-file", key]).trim().to_owned());
    let (old, new, both) = (&connect[..1], &connect[1..], &connect[..]);
    let file = |role: &str, keys: &[String]| {
        place.file(&format!("{role}.toml"), &format!("[{role}]\nconnect-key-file = {keys:?}\n"), 0o644)
    };
    let (_gateway, address) = place.gateway(&QUICK);
    let config = file("slave", old);
    let more = ["--config", &config, "--memory", "512M", "--memory-pages", "ordinary", "--keep-free", "0"];
    let slave = place.slave(address, 1, &[&more[..], &QUICK].concat());
    place.until_registered("gateway", 1);
    let running = master(&place, &[address], &["--config", &file("master", old)]);
    place.until_stats("master", |stats| stats["total"]["master"]["slaves_known"] == 1);
    place.ask(&["page", "alloc", "first", "64M"]);
    place.ask(&["page", "write", "first", "--pattern", "5", "--size", "4M"]);
    // Each unit more needs a CONNECT, which both must be able to verify.
    let more_memory = |name: &str| {
        place.ask(&["page", "alloc", name, "64M"]);
        place.ask(&["page", "verify", "first", "--pattern", "5", "--size", "4M"]);
    };
    for (number, (role, keys)) in [("slave", both), ("master", both), ("slave", new)].into_iter().enumerate() {
        file(role, keys);
        let said = place.ask(&["reload", "--name", role]);
        assert!(said.contains("connect-key-file: ") && said.contains(&prints[1]), "{said}");
        more_memory(&format!("more-{number}"));
    }
    file("master", new);
    running.signal(Signal::HUP);
    running.says(&["SIGHUP: configuration read, 1 settings changed"]);
    more_memory("last");
    for role in ["slave", "master"] {
        assert_eq!(place.stats(role)["settings"]["connect_key_fingerprint"], prints[1].as_str(), "{role}");
        let said = place.ask(&["reload", "--name", role]);
        assert!(said.contains("nothing changed"), "{said}");
    }
    slave.says(&["the connect key has now fingerprint", &format!("{} (old) and {} (new)", prints[0], prints[1])]);
    let lender = place.stats("slave")["total"]["lender"].clone();
    let counts = ["leases_opened", "leases_resumed", "leases_expired", "leases_ended"].map(|name| lender[name].clone());
    assert_eq!(counts.map(|count| count.as_u64().unwrap()), [1, 0, 0, 0], "it is one lease all the time");
    // A key that cannot be read changes nothing.
    file("slave", &[path("none")]);
    let complaint = place.refused(2, &["reload", "--name", "slave"]);
    assert!(complaint.contains("nothing was changed"), "{complaint}");
    assert_eq!(place.stats("slave")["settings"]["connect_key_fingerprint"], prints[1].as_str());
}
