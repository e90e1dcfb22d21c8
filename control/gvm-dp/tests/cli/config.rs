//! The configuration file: what it says holds, the command line wins, and what is wrong in it is named.

use crate::harness::Place;
use rustix::process::Signal;

#[test]
fn a_gateway_and_a_slave_take_their_settings_from_one_file() {
    let place = Place::new();
    place.file(
        "gvm-dp.toml",
        "port = \"udp:127.0.0.1:0\"\nframes = 2048\nmtu = 1400\n[gateway]\nhold = \"20us\"\nearly = false\n",
        0o644,
    );
    // The default file is read without being named.
    let gateway = place.start(&[]);
    gateway.says(&["hold 20us, early flush off, MTU 1400"]);
    let address = gateway.address();
    let file = place.file(
        "slave.toml",
        &format!("port = [\"udp:127.0.0.1:0\"]\nframes = 2048\n[slave]\ngateway = \"{address}\"\nid = 17\ncount = 2\n"),
        0o644,
    );
    // The command line wins.
    let slave = place.start(&["slave", "--config", &file, "--count", "3"]);
    slave.says(&["slaves 17 to 19", &address.to_string()]);
    place.until_registered("gateway", 3);
    let other = place.start(&["--name", "other", "--hold", "1ms"]);
    other.says(&["hold 1ms, early flush off"]);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_place_and_the_remedy() {
    let place = Place::new();
    let path = place.file("gvm-dp.toml", "lcore = \"0\"\n[gateway]\nhold = 20\n", 0o644);
    let complaint = place.refused(2, &["--port", "udp:127.0.0.1:0"]);
    assert!(
        complaint.contains(&format!("gvm-dp: {path}:1:1: there is no setting lcore: did you mean lcores?")),
        "{complaint}"
    );
    assert!(complaint.contains(&format!("\n{path}:3:8: \"20\" is not a duration: write a number and")), "{complaint}");
    // Settings that are read well and make no sense, with the exit code that the flag has.
    place.file("gvm-dp.toml", "port = \"udp:127.0.0.1:0\"\nmtu = 100\n", 0o644);
    let complaint = place.refused(2, &[]);
    assert!(complaint.contains(&format!("{path}:2:1: --mtu 100: choose 576 to 32000")), "{complaint}");
    place.file("gvm-dp.toml", "port = \"udp:127.0.0.1:0\"\nlcores = \"1000\"\n", 0o644);
    assert!(place.refused(3, &[]).contains(&format!("{path}:2:1: --lcores: core 1000 does not exist")));
    // The command line is not blamed on the file, and repairs it.
    assert!(!place.refused(2, &["--lcores", "0", "--mtu", "100"]).contains("gvm-dp.toml"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    let missing = place.directory.join("none.toml").to_str().unwrap().to_owned();
    let complaint = place.refused(2, &["--config", &missing]);
    assert!(complaint.contains(&format!("configuration file {missing}: No such file")), "{complaint}");
    assert!(complaint.contains("--config FILE"), "{complaint}");
    let directory = place.directory.to_str().unwrap().to_owned();
    assert!(place.refused(2, &["--config", &directory]).contains("Is a directory"));
}

#[test]
fn what_a_slave_needs_may_stand_in_the_file_and_is_missed_otherwise() {
    let place = Place::new();
    let complaint = place.refused(2, &["slave", "--gateway", "127.0.0.1", "--port", "udp:127.0.0.1:0"]);
    assert!(complaint.contains("no --id: say which slave this is, as in --id 17"), "{complaint}");
    assert!(complaint.contains("(id = 17 under [slave])"), "{complaint}");
    let complaint = place.refused(2, &["slave", "--id", "1", "--port", "udp:127.0.0.1:0"]);
    assert!(complaint.contains("no --gateway: say where its gateway is"), "{complaint}");
}

#[test]
fn what_would_hold_is_shown_with_where_it_comes_from() {
    let place = Place::new();
    let path = place.file("gvm-dp.toml", "port = [\"eth0\"]\n[gateway]\nhold = \"1000us\"\n[slave]\nid = 17\n", 0o644);
    let table = place.ask(&["config", "show", "--mtu", "9000"]);
    let line = |name: &str| {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in {table}")).split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert!(table.starts_with(&format!("role gateway, configuration file {path}\n")), "{table}");
    assert_eq!(line("hold"), format!("1ms {path}:3:1"));
    assert_eq!(
        (line("mtu"), line("early"), line("lcores")),
        ("9000 command line".into(), "on default".into(), "- default".into())
    );
    let text = place.ask(&["config", "show", "slave", "--count", "2", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&answer["role"], answer["file"].as_str()), (&"slave".into(), Some(&*path)));
    let settings = answer["settings"].as_array().unwrap();
    let find = |name: &str| settings.iter().find(|setting| setting["name"] == name).unwrap();
    assert_eq!((&find("id")["value"], &find("id")["from"]), (&"17".into(), &"file".into()));
    assert_eq!((&find("count")["value"], &find("count")["from"]), (&"2".into(), &"command line".into()));
    assert_eq!(find("port")["value"], serde_json::json!(["eth0"]));
    assert!(settings.iter().all(|setting| setting["name"] != "hold"));
}

#[test]
fn a_file_is_checked_without_starting_anything() {
    let place = Place::new();
    let check = |text: &str| {
        let path = place.file("checked.toml", text, 0o644);
        place.run(&["config", "check", &path])
    };
    let good = check("port = \"udp:127.0.0.1:0\"\nlcores = \"0\"\n");
    let said = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && said.ends_with("checked.toml: good for a gateway\n"), "{said}");
    let said = String::from_utf8(check("[gateway]\nhold = \"1ms\"\n[slave]\ncount = 3\n").stdout).unwrap();
    assert!(said.contains("good for a gateway; to be given on the command line: --port\n"), "{said}");
    assert!(said.contains("good for a slave; to be given on the command line: --port, --id, --gateway\n"), "{said}");
    for (code, text, part) in [
        (2, "port = 7\nmtu = \"x\"\n", "checked.toml:2:7: mtu is not a text"),
        (2, "[slave]\nid = 131072\n", "slave ids are 0 to 131071"),
        (2, "heartbeat = \"0s\"\n", "checked.toml:1:1: --heartbeat 0ns: choose 1ms to 3600s"),
        (3, "lcores = \"1000\"\n", "checked.toml:1:1: --lcores: core 1000 does not exist"),
        (
            3,
            "\nport = \"udp:198.51.100.77:0\"\n",
            "checked.toml:2:1: --port udp:198.51.100.77:0: no interface of this machine",
        ),
        (3, "port = \"no-such-if\"\n", "checked.toml:1:1: --port xdp:no-such-if: there is no interface `no-such-if`"),
        (5, "[gateway]\nkey-file = \"/no/such/key\"\n", "key file /no/such/key"),
    ] {
        let output = check(text);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}: {complaint}");
        assert!(complaint.contains(part), "{text}: {complaint}");
    }
    // Without a name it is the default file.
    assert!(place.refused(2, &["config", "check"]).contains("gvm-dp.toml: No such file"));
    let example = place.ask(&["config", "example"]);
    place.file("gvm-dp.toml", &example, 0o644);
    assert!(place.ask(&["config", "check"]).contains("good for a gateway; to be given on the command line: --port"));
}

#[test]
fn what_a_start_refuses_is_no_good_configuration() {
    let place = Place::new();
    let both = |text: &str, code: i32, part: &str| {
        let path = place.file("checked.toml", text, 0o644);
        let checked = place.refused(code, &["config", "check", &path]);
        assert!(checked.contains(part), "{text}: {checked}");
        let started = place.refused(code, &["--config", &path]);
        assert!(started.contains(part), "{text}: {started}");
    };
    both("port = [\"udp:127.0.0.1:9999\", \"udp:127.0.0.1:9999\"]\n", 2, "udp:127.0.0.1:9999 is named twice");
    both("port = [\"udp:0.0.0.0:9999\", \"udp:127.0.0.1:9999\"]\n", 2, "needs the same address and UDP port");
    both("port = [\"udp:127.0.0.1:9999\", \"udp:[::]:9999\"]\n", 2, "needs the same address and UDP port");
    both("port = [\"xdp:lo\", \"xdp:lo\"]\n", 2, "xdp:lo is named twice: it needs the interface lo");
    both("port = \"xdp:no-such\"\n", 3, "there is no interface `no-such`");
    both(
        "port = \"xdp:lo\"\nlcores = \"0-1\"\n[gateway]\nneighbor = \
         \"3=no-such-if,ip=10.0.0.3,mac=02:00:00:00:00:03\"\nshards = \"0\"\n",
        3,
        "no-such-if",
    );
    both(
        "port = \"xdp:lo\"\n[gateway]\nneighbor = \"3=lo,ip=10.0.0.3,mac=02:00:00:00:00:03\"\n",
        2,
        "shard 3 is served by this gateway",
    );
    both("port = \"udp:127.0.0.1:0\"\nmetrics = \"198.51.100.77\"\n", 3, "198.51.100.77:9998");
    // Ports that the kernel chooses do not clash, and neither do different ones of one address.
    for good in ["\"udp:127.0.0.1:0\", \"udp:127.0.0.1:0\"", "\"udp:0.0.0.0:9999\", \"udp:127.0.0.1:9998\""] {
        let path = place.file("checked.toml", &format!("port = [{good}]\n"), 0o644);
        assert!(place.ask(&["config", "check", &path]).contains("good for a gateway"), "{good}");
    }
}

#[test]
fn all_that_is_wrong_in_a_file_is_said_at_once_and_each_thing_once() {
    let place = Place::new();
    let path = place.file(
        "checked.toml",
        "port = [\"udp:127.0.0.1:9\", \"udp:127.0.0.1:9\"]\nmtu = 100\nheartbeat = \"0s\"\nframes = 8\nlcores = \
         \"1000\"\n\
         [gateway]\nshards = \"99\"\nkey-file = \"/no/such/key\"\n[slave]\nid = 131072\ngateway = \"192.0.2.1:x\"\n",
        0o644,
    );
    let complaint = place.refused(2, &["config", "check", &path]);
    for part in [
        "checked.toml:1:1: --port udp:127.0.0.1:9 is named twice",
        "checked.toml:2:1: --mtu 100: choose 576",
        "checked.toml:3:1: --heartbeat 0ns: choose 1ms",
        "checked.toml:4:1: --frames 8: an lcore needs",
        "checked.toml:5:1: --lcores: core 1000 does not exist",
        "checked.toml:7:1: --shards: shard 99 does not exist",
        "key file /no/such/key: No such file",
        "slave ids are 0 to 131071",
        "checked.toml:11:1: --gateway 192.0.2.1:x: no address",
    ] {
        assert_eq!(complaint.matches(part).count(), 1, "{part}: {complaint}");
    }
    // And by the start, of its role.
    let complaint = place.refused(2, &["--config", &path]);
    for part in ["is named twice", "--mtu 100", "--frames 8", "shard 99", "/no/such/key"] {
        assert_eq!(complaint.matches(part).count(), 1, "{part}: {complaint}");
    }
}
