//! What cannot be done is refused with the reason, the remedy and the documented exit code.

use crate::harness::{Place, skip};
use std::net::UdpSocket;

const HERE: [&str; 2] = ["--port", "udp:127.0.0.1:0"];

fn refused(code: i32, arguments: &[&str], parts: &[&str]) {
    let complaint = Place::new().refused(code, arguments);
    for part in parts {
        assert!(complaint.contains(part), "{arguments:?} does not say \"{part}\": {complaint}");
    }
}

#[test]
fn without_a_port_it_lists_interfaces_and_one_line_to_copy() {
    refused(2, &[], &["Usable here:", "lo ", "127.0.0.1", "One line to copy:\n  gvm-dp --lcores "]);
    refused(2, &["slave", "--gateway", "192.0.2.1", "--id", "1"], &["gvm-dp slave --gateway ADDR --id 0 --port udp:"]);
}

#[test]
fn an_unknown_core_is_named_with_those_that_exist() {
    refused(3, &["--lcores", "1000", HERE[0], HERE[1]], &["--lcores: core 1000 does not exist", "choose from "]);
    refused(2, &["--lcores", "3-1", HERE[0], HERE[1]], &["write a list such as 2-15"]);
    refused(2, &["--lcores", "0,0", HERE[0], HERE[1]], &["core 0 is named twice"]);
}

#[test]
fn a_scale_that_cannot_be_is_explained() {
    let arguments = ["--slave-bits", "12", "--gw-bits", "13", HERE[0], HERE[1]];
    refused(2, &arguments, &["gw-bits 13 is larger than slave-bits 12", "choose gw-bits <= slave-bits"]);
    refused(2, &["--slave-bits", "25", HERE[0], HERE[1]], &["choose at most 24"]);
}

#[test]
fn a_port_in_use_is_named_with_the_way_to_find_its_owner() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = format!("udp:{}", socket.local_addr().unwrap());
    let sport = format!("sport = :{}", socket.local_addr().unwrap().port());
    refused(4, &["--port", &port], &[&port, "is in use", &sport]);
}

#[test]
fn several_lcores_do_not_share_a_port_with_a_stranger() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip("two lcores need two cores");
    }
    let place = Place::new();
    let (_gateway, address) = place.gateway(&["--lcores", "0-1"]);
    let port = format!("udp:{address}");
    let complaint = place.refused(4, &["--name", "second", "--lcores", "0-1", "--port", &port]);
    assert!(complaint.contains("is in use"), "{complaint}");
}

#[test]
fn ports_that_cannot_be_opened_say_why() {
    refused(3, &["--port", "udp:198.51.100.77:0"], &["no interface of this machine has that address"]);
    refused(3, &["--port", "xdp:no-such-if"], &["no interface `no-such-if`", "ip -brief link"]);
    refused(3, &["--port", "no-such-if"], &["no interface `no-such-if`"]);
    refused(3, &["--port", "ffff:ff:1f.7"], &["--port ffff:ff:1f.7", "no such PCI device", "lspci -D"]);
    refused(
        3,
        &["--port", "dpdk:ffff:ff:1f.7,ip=10.0.0.2/24"],
        &["dpdk:ffff:ff:1f.7", "no such PCI device", "lspci -D"],
    );
    refused(2, &["--port", "dpdk:net_null0"], &["dpdk:net_null0", "needs an address", "add ,ip=10.0.0.2/24"]);
    refused(2, &["--port", "dpdk:net_null0,ip=10.0.0.2/24,gw=10.0.1.1"], &["gw=10.0.1.1 is not a neighbour"]);
    refused(2, &["--port", "dpdk:0000:01:00.8,ip=10.0.0.2/24"], &["dpdk:0000:01:00.8", "lspci -D"]);
    refused(2, &["--port", "udp:9999"], &["write udp:ADDR:PORT"]);
    let three = [HERE[0], HERE[1], HERE[0], HERE[1], HERE[0], HERE[1]];
    refused(2, &three, &["the first faces the masters"]);
}

#[test]
fn gateways_and_keys_are_named_once_and_not_too_often() {
    let slave = |more: &[&'static str]| [&["slave", "--id", "1", HERE[0], HERE[1]][..], more].concat();
    refused(2, &slave(&[]), &["--gateway"]);
    let twice = slave(&["--gateway", "192.0.2.1", "--gateway", "192.0.2.2", "--gateway", "192.0.2.1:9999"]);
    refused(2, &twice, &["--gateway 192.0.2.1:9999", "named twice", "the preferred one first"]);
    let many: Vec<String> = (1..=17).map(|last| format!("192.0.2.{last}")).collect();
    let many: Vec<&str> = many.iter().flat_map(|address| ["--gateway", address]).collect();
    let arguments = [&["slave", "--id", "1", HERE[0], HERE[1]][..], &many].concat();
    refused(2, &arguments, &["17 are too many", "at most 16"]);
    let place = Place::new();
    let key = |digit: &str| place.file(digit, &digit.repeat(64), 0o600);
    let (one, two, three) = (key("1"), key("2"), key("3"));
    let complaint = place.refused(2, &[HERE[0], HERE[1], "--key-file", &one, "--key-file", &two, "--key-file", &three]);
    assert!(complaint.contains("3 key files are too many") && complaint.contains("the old one first"), "{complaint}");
}

#[test]
fn key_files_must_be_private_and_hold_a_key() {
    let place = Place::new();
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let gateway = |file: &str| place.refused(5, &["--key-file", file, HERE[0], HERE[1]]);
    let missing = place.directory.join("none").to_str().unwrap().to_owned();
    assert!(gateway(&missing).contains("check the path; `gvm-dp key new --out FILE` makes a cluster key"));
    let open = place.file("open", key, 0o644);
    let complaint = gateway(&open);
    assert!(complaint.contains("open to every user of this machine (mode 644)"), "{complaint}");
    assert!(complaint.contains(&format!("`chmod o= {open}`")), "{complaint}");
    // A service runs as a user of its own: what makes the file private must not lock that user out.
    assert!(complaint.contains(&format!("`chown root:gvm-dp {open} && chmod 640 {open}`")), "{complaint}");
    assert!(!complaint.contains(key), "a key is never shown");
    for (content, part) in [("", "64 hex digits"), ("xyz", "gvm-dp key new"), (&key[..63], "63 characters")] {
        let complaint = gateway(&place.file("bad", content, 0o600));
        assert!(complaint.contains(part), "{complaint}");
    }
    let complaint = place.refused(5, &["key", "show", "--key-file", &open]);
    assert!(complaint.contains("chmod o="), "{complaint}");
    // One that is there already is a matter of writing, not of reading.
    let complaint = place.refused(5, &["key", "new", "--out", &open]);
    assert!(complaint.contains("File exists") && complaint.contains("a key is never overwritten"), "{complaint}");
    assert!(!complaint.contains("may read it"), "{complaint}");
    let nowhere = place.directory.join("none/key").to_str().unwrap().to_owned();
    let complaint = place.refused(5, &["key", "new", "--out", &nowhere]);
    assert!(complaint.contains("its directory must exist"), "{complaint}");
    assert_eq!(std::fs::read_to_string(&open).unwrap(), key, "it is as it was");
}

#[test]
fn numbers_are_refused_in_words() {
    let count = ["capture", "--write", "-", "--count"];
    for (number, said) in [("0", "1 or more"), ("-3", "1 or more"), ("x", "1 or more"), ("1.5", "1 or more")] {
        let flag = format!("--count={number}");
        let arguments = [&count[..3], &[&flag]].concat();
        refused(2, &arguments, &["write a whole number, ", said]);
    }
    refused(2, &["capture", "--write", "-", "--snaplen", "70000"], &["write a whole number from 1 to 65535"]);
    refused(2, &["--mtu", "70000", HERE[0], HERE[1]], &["write a whole number from 0 to 65535"]);
    refused(2, &["trace", "--slave", "x"], &["write a whole number from 0 to 4294967295"]);
    let complaint = Place::new().refused(2, &["capture", "--write", "-", "--count", "0"]);
    for jargon in ["18446744073709551615", "..", "64", "integer", "digit"] {
        assert!(!complaint.contains(jargon), "{jargon}: {complaint}");
    }
}

#[test]
fn numbers_out_of_range_name_the_range() {
    refused(2, &["--shards", "16", HERE[0], HERE[1]], &["--shards: shard 16 does not exist", "0 to 15"]);
    refused(2, &["--shards", "x", HERE[0], HERE[1]], &["as in 0-3,5"]);
    refused(2, &["--hold", "50", HERE[0], HERE[1]], &["as in 50us"]);
    refused(2, &["--frames", "8", HERE[0], HERE[1]], &["at least 512"]);
    refused(2, &["--mtu", "100", HERE[0], HERE[1]], &["choose 576 to 32000"]);
    refused(2, &["--heartbeat", "0s", HERE[0], HERE[1]], &["choose 1ms to 3600s"]);
    refused(2, &["--rx-mode", "interrupt", HERE[0], HERE[1]], &["choose polling"]);
    refused(2, &["--name", "../x", HERE[0], HERE[1]], &["letters, digits"]);
    let slave = |more: &[&str], part: &str| {
        let mut arguments = vec!["slave", "--gateway", "127.0.0.1", HERE[0], HERE[1]];
        arguments.extend(more);
        refused(2, &arguments, &[part]);
    };
    slave(&["--id", "131072"], "the slave ids are 0 to 131071");
    slave(&["--id", "0", "--count", "0"], "at least one slave id");
    slave(&["--id", "0", "--memory", "12Q"], "as in 12G");
    slave(&["--id", "0", "--traffic", "rate=5"], "as in master=1");
    let place = Place::new();
    let key = place.file("one", &"1".repeat(64), 0o600);
    slave(&["--id", "0", "--count", "2", "--key-file", &key], "--cluster-key-file");
    refused(2, &["slave", "--gateway", "no such host", "--id", "0", HERE[0], HERE[1]], &["write it as 192.0.2.1"]);
}

#[test]
fn help_documents_the_exit_codes() {
    let help = Place::new().ask(&["--help"]);
    assert!(help.contains("Exit codes: 0 done or drained") && help.contains("--lcores"), "{help}");
}

#[test]
fn missing_hugepages_are_a_warning_with_the_remedy() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let read = |name: &str| -> u64 {
        let line = meminfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    // Each of two arenas is larger than all hugepages together: how many of them are free changes at any time.
    let frames = (read("HugePages_Total:") + 1) * 1024;
    assert!(frames * 2048 < read("MemAvailable:") * 512, "this machine has too many hugepages to run out of them");
    let place = Place::new();
    let arguments = ["--port", "udp:127.0.0.1:0", "--lcores", "0-1", "--frames", &frames.to_string()];
    let gateway = place.start(&arguments);
    gateway.address();
    // Both say what both need together: remedies for one arena each would undo each other.
    let need = 2 * (frames * 2048).div_ceil(2 << 20);
    let total = format!("this process needs {need} hugepages of 2 MiB in all");
    gateway.says(&["WARN", &total, "`echo ", "/nr_hugepages`", "using ordinary pages"]);
    let said = gateway.said();
    let remedies: Vec<&str> = said.lines().filter_map(|line| line.split("; this process").nth(1)).collect();
    assert!(remedies.len() == 2 && remedies[0] == remedies[1], "{said}");
    let shown =
        place.ask(&["hugepages", "show", "--port", "udp:127.0.0.1:0", "--lcores", "0-1", "--frames", arguments[5]]);
    assert!(shown.contains(&format!("{need} hugepages of 2 MiB are needed")), "{shown}");
    assert_eq!(place.stats("gateway")["lcores"][0]["memory"], "ordinary pages");
}
