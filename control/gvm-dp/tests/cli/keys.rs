//! Keys: made, shown, derived, and what happens to those without.

use crate::harness::{Place, text, until};

fn path(place: &Place, name: &str) -> String {
    place.directory.join(name).to_str().unwrap().to_owned()
}

#[test]
fn keys_are_made_shown_and_derived() {
    let place = Place::new();
    let (cluster, node) = (path(&place, "cluster"), path(&place, "node"));
    let printed = place.ask(&["key", "new"]);
    assert_eq!((printed.trim().len(), printed.trim() == place.ask(&["key", "new"]).trim()), (64, false));
    assert_eq!(place.ask(&["key", "new", "--out", &cluster]).trim(), cluster);
    let fingerprint = place.ask(&["key", "show", "--key-file", &cluster]);
    assert_eq!(fingerprint.trim().len(), 8);
    let derive = ["key", "derive", "--key-file", &cluster, "--role", "slave", "--id", "17"];
    let key = place.ask(&derive);
    assert_eq!(key, place.ask(&derive), "the same node has the same key");
    let master = ["key", "derive", "--key-file", &cluster, "--role", "master", "--id", "17"];
    assert_ne!(key, place.ask(&master));
    place.ask(&[&derive[..], &["--out", &node]].concat());
    let shown = place.ask(&["key", "show", "--key-file", &node]);
    let expected = place.ask(&["key", "show", "--key-file", &cluster, "--role", "slave", "--id", "17"]);
    assert_eq!(shown, expected);
    let connect = place.ask(&["key", "derive", "--key-file", &cluster, "--connect"]);
    assert!(connect.trim().len() == 64 && connect != key, "{connect}");
    let file = place.file("connect", &connect, 0o600);
    let shown = place.ask(&["key", "show", "--key-file", &file]);
    assert_eq!(shown, place.ask(&["key", "show", "--key-file", &cluster, "--connect"]));
    for wrong in [&["--connect", "--role", "slave", "--id", "1"][..], &["--role", "slave"], &["--id", "1"], &[]] {
        place.refused(2, &[&["key", "derive", "--key-file", &cluster], wrong].concat());
    }
    let complaint = place.refused(5, &["key", "new", "--out", &cluster]);
    assert!(complaint.contains("exists"), "no key is overwritten: {complaint}");
    place.refused(2, &["key", "derive", "--key-file", &cluster, "--role", "master", "--id", "65536"]);
}

#[test]
fn only_nodes_with_the_right_key_register() {
    let place = Place::new();
    let (cluster, node) = (path(&place, "cluster"), path(&place, "node"));
    place.ask(&["key", "new", "--out", &cluster]);
    place.ask(&["key", "derive", "--key-file", &cluster, "--role", "slave", "--id", "17", "--out", &node]);
    let fingerprint = place.ask(&["key", "show", "--key-file", &cluster]);
    let (gateway, address) = place.gateway(&["--key-file", &cluster]);
    gateway.says(&["cluster key with fingerprint", fingerprint.trim()]);
    let slave = place.slave(address, 17, &["--name", "right", "--key-file", &node]);
    slave.says(&["slave 17, gateway", "registered: hold 50 us, MTU"]);
    let farm = place.slave(address, 100, &["--name", "farm", "--count", "50", "--cluster-key-file", &cluster]);
    place.until_registered("gateway", 51);
    // The key of slave 17 is not that of slave 18.
    let wrong = place.slave(address, 18, &["--name", "wrong", "--key-file", &node]);
    let without = place.slave(address, 19, &["--name", "without"]);
    gateway.says(&["WARN", "slave 18", "is signed with another key: compare the key fingerprints"]);
    gateway.says(&["WARN", "slave 19", "is not signed, and this gateway has a key"]);
    let shown = place.ask(&["key", "show", "--key-file", &node]);
    wrong.says(&["no answer from the gateway", "firewall", "fingerprint", "refused", shown.trim()]);
    without.says(&["no answer from the gateway", "check its address", "we have no key"]);
    let link = &place.stats("gateway")["total"]["link"];
    assert!(link["refused_forged"].as_u64() > Some(0) && link["refused_unsigned"].as_u64() > Some(0), "{link}");
    assert_eq!(place.stats("gateway")["membership"]["registered"], 51);
    assert!(!gateway.said().contains("NO KEY") && !farm.said().contains("NO KEY"));
    let key = std::fs::read_to_string(&cluster).unwrap();
    let stats = text(&place.run(&["stats", "--json", "--name", "gateway"]).stdout);
    assert!(!stats.contains(key.trim()) && !gateway.said().contains(key.trim()), "a key is never shown");
    assert_eq!(place.stats("gateway")["settings"]["key_fingerprint"], fingerprint.trim());
}

#[test]
fn without_a_key_it_runs_and_says_so_loudly() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&[]);
    gateway.says(&["WARN", "NO KEY", "gvm-dp key new", "--key-file"]);
    let slave = place.slave(address, 1, &[]);
    slave.says(&["WARN", "NO KEY"]);
    until("registration", || (place.stats("gateway")["membership"]["registered"] == 1).then_some(()));
}
