//! A slave that lends memory: what it says of it, how much of it the host can spare, and its end.

use crate::borrower::Borrower;
use crate::harness::{Place, Process, until};
use crate::metrics;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::sync::Mutex;

/// Lends 256 MiB of ordinary pages, 128 MiB for each of two ids, on a host that keeps little free.
const LENDS: [&str; 10] =
    ["--count", "2", "--name", "farm", "--memory", "300M", "--memory-pages", "ordinary", "--keep-free", "64M"];

/// Waits until the farm may lend so many units.
fn until_limit(place: &Place, units: u64) -> Value {
    place.until_stats("farm", |stats| stats["lending"]["limit"] == units)["lending"].clone()
}

/// Waits until the gateway was told of so many free pages of each slave.
fn until_free(place: &Place, pages: u64) {
    until("the free pages of all slaves", || {
        let routes: Value = serde_json::from_str(&place.ask(&["routes", "--json", "--name", "gateway"])).unwrap();
        let slaves = routes["slaves"].as_array().unwrap();
        let told = slaves.iter().filter(|slave| slave["pages_total"] == 32_768 && slave["pages_free"] == pages);
        (told.count() == 2).then_some(())
    });
}

#[test]
fn a_farm_says_what_it_lends_and_follows_what_its_host_can_spare() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&["--heartbeat", "100ms"]);
    let farm = place.slave(address, 8, &[&LENDS[..], &["--heartbeat", "100ms"]].concat());
    farm.says(&["each of 2 ids lends 128M (2 units of 64M); 44M make no whole units", "on ordinary pages"]);
    farm.says(&["WARN", "NO CONNECT KEY", "gvm-dp key derive --connect"]);
    place.until_registered("gateway", 2);
    let lending = until_limit(&place, 4);
    let found = ["units", "units_per_id", "free", "dirty", "leased", "recalled"].map(|name| lending[name].clone());
    assert_eq!(found.map(|value| value.as_u64().unwrap()), [4, 2, 4, 0, 0, 0]);
    assert_eq!((&lending["pages"], &lending["unit_bytes"]), (&"ordinary pages".into(), &(64 << 20).into()));
    assert_eq!((&lending["keep_free_bytes"], &lending["drain_seconds"]), (&(64 << 20).into(), &Value::Null));
    assert!(lending["host_available_bytes"].as_u64() > Some(256 << 20) && lending["leases"] == Value::Array(vec![]));
    until_free(&place, 32_768);
    let text = place.ask(&["stats", "--name", "farm", "--interval", "10ms"]);
    assert!(text.contains("memory   lends 0 of 256M, 256M at most now, 0 leases, the host has "), "{text}");
    let screen = place.ask(&["top", "--once", "--name", "farm"]);
    assert!(screen.contains("lends 0 of 256M"), "{screen}");

    // The owner of the computer needs all of it.
    assert_eq!(place.ask(&["set", "keep-free", "100T", "--name", "farm"]), "keep-free: 64M -> 100T\n");
    until_limit(&place, 0);
    until_free(&place, 0);
    assert_eq!(place.ask(&["set", "--reset", "keep-free", "--name", "farm"]), "keep-free: 100T -> 64M\n");
    farm.says(&["the host has", "256M may be lent"]);
    until_limit(&place, 4);
    until_free(&place, 32_768);
    assert_eq!(place.ask(&["drain", "--name", "farm"]), "farm: drained\n");
    assert_eq!(farm.wait(), Some(0));
}

/// Waits until the farm shows so many units leased, recalled, free and dirty; the master goes on meanwhile.
fn until_books(place: &Place, master: &mut Borrower, wanted: [u64; 4]) -> Value {
    until(&format!("leased, recalled, free, dirty: {wanted:?}"), || {
        master.poll();
        let lending = place.stats("farm")["lending"].clone();
        let found = ["leased", "recalled", "free", "dirty"].map(|name| lending[name].as_u64().unwrap());
        (found == wanted).then_some(lending)
    })
}

#[test]
fn the_host_gets_its_memory_back_from_a_master() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let farm = place.slave(address, 8, &LENDS);
    place.until_registered("gateway", 2);
    until_limit(&place, 4);
    let mut master = Borrower::new(1, address, 9, 2);
    let lending = until_books(&place, &mut master, [2, 0, 2, 0]);
    assert_eq!(lending["leases"], serde_json::json!([{"id": 9, "master": 1, "units": 2, "recalled": 0}]));
    // What is left is announced, divided among the ids.
    until_free(&place, 16_384);
    let text = place.ask(&["stats", "--name", "farm", "--interval", "10ms"]);
    assert!(text.contains("memory   lends 128M of 256M, 256M at most now, 1 lease"), "{text}");
    assert!(text.contains("lease of master  slave id  memory  units  recalled"), "{text}");
    let screen = place.ask(&["top", "--once", "--name", "farm"]);
    assert!(screen.contains("master 1 has 128M of id 9"), "{screen}");
    let totals = place.stats("farm")["total"]["lender"].clone();
    assert_eq!((&totals["leases"], &totals["units_leased"]), (&1.into(), &2.into()));

    // More than twice of what is left: nothing can be lent. Less than eight times: there is no great hurry.
    let keep = (3 * lending["host_available_bytes"].as_u64().unwrap()).to_string();
    place.ask(&["set", "keep-free", &keep, "--name", "farm"]);
    farm.says(&["WARN", "the host has", "128M recalled, to be given back within 20 s; 0 are lent at most"]);
    until("the recall at the master", || {
        master.poll();
        (master.recalled() == 2).then_some(())
    });
    let lending = until_books(&place, &mut master, [2, 2, 2, 0]);
    assert_eq!((&lending["limit"], &lending["leases"][0]["recalled"]), (&0.into(), &2.into()));
    master.gives_back = true;
    // It is scrubbed and free again, and nobody gets it before the owner allows it.
    until_books(&place, &mut master, [0, 0, 4, 0]);
    master.want(2);
    until_free(&place, 0);
    assert_eq!(master.units(), 0);
    place.ask(&["set", "--reset", "keep-free", "--name", "farm"]);
    until_limit(&place, 4);
    // A master asks again when it changes what it wants.
    master.want(1);
    until_books(&place, &mut master, [1, 0, 3, 0]);
    until("the unit at the master", || {
        master.poll();
        (master.units() == 1).then_some(())
    });

    // A drain waits for the master, and says so.
    let (said, code) = drained(&place, &mut master, farm, true);
    assert!(said.starts_with("farm: waits for masters to give back 64M of 1 lease, "), "{said}");
    assert!(said.ends_with("farm: drained\n") && code == Some(0), "{said}");
}

/// Drains the farm while the master goes on, which gives everything back once the command has said that it waits, or
/// never. Returns what the command printed, and the exit code of the farm.
fn drained(place: &Place, master: &mut Borrower, mut farm: Process, gives: bool) -> (String, Option<i32>) {
    master.gives_back = false;
    let (drain, stdout) = place.start_piped(&["drain", "--name", "farm"]);
    let said = Mutex::new(String::new());
    let code = std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                *said.lock().unwrap() += &(line + "\n");
            }
        });
        until("the end of the farm", || {
            master.poll();
            master.gives_back = gives && !said.lock().unwrap().is_empty();
            farm.ended()
        })
    });
    assert_eq!(drain.wait(), Some(0));
    (said.into_inner().unwrap(), code)
}

#[test]
fn a_master_that_gives_nothing_back_loses_it_and_holds_up_no_drain() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let farm = place.slave(address, 8, &[&LENDS[..], &["--drain-within", "2s"]].concat());
    place.until_registered("gateway", 2);
    until_limit(&place, 4);
    let mut master = Borrower::new(1, address, 8, 1);
    let (said, code) = drained(&place, &mut master, farm, false);
    assert!(said.contains("waits for masters to give back 64M of 1 lease") && code == Some(0), "{said}");
}

#[test]
fn lent_memory_is_in_the_metrics() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let farm = place.slave(address, 8, &[&LENDS[..], &["--metrics", "127.0.0.1:0"]].concat());
    let address = metrics::address(&farm);
    let text = until("the metrics of lent memory", || {
        let text = metrics::get(address, "/metrics").1;
        text.contains("gvm_dp_lent_memory_limit_bytes 268435456\n").then_some(text)
    });
    for line in [
        "gvm_dp_lent_memory_bytes{state=\"free\"} 268435456\n",
        "gvm_dp_lent_memory_bytes{state=\"dirty\"} 0\n",
        "gvm_dp_lent_memory_bytes{state=\"leased\"} 0\n",
        "gvm_dp_lent_memory_recalled_bytes 0\n",
        "gvm_dp_host_keep_free_bytes 67108864\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("\ngvm_dp_host_available_bytes "), "{text}");
}

/// Memory that nobody uses costs nothing, and is the host's again at the end.
#[test]
fn memory_that_nobody_has_written_to_is_still_the_hosts() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let farm = place.slave(address, 8, &LENDS);
    farm.says(&["privileges: "]);
    until_limit(&place, 4);
    let status = std::fs::read_to_string(format!("/proc/{}/status", farm.pid())).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let (mapped, resident) = (kib("VmSize:"), kib("VmRSS:"));
    assert!(mapped > 256 << 10 && resident < 100 << 10, "{mapped} KiB mapped, {resident} KiB in memory");
    farm.signal(rustix::process::Signal::TERM);
    assert_eq!(farm.wait(), Some(0));
}

#[test]
fn what_cannot_be_lent_is_refused_with_the_remedy() {
    let place = Place::new();
    let cluster = place.directory.join("cluster").to_str().unwrap().to_owned();
    let (own, connect) = (cluster.clone() + ".own", cluster.clone() + ".connect");
    place.ask(&["key", "new", "--out", &cluster]);
    place.ask(&["key", "derive", "--key-file", &cluster, "--role", "slave", "--id", "8", "--out", &own]);
    place.ask(&["key", "derive", "--key-file", &cluster, "--connect", "--out", &connect]);
    let slave = ["slave", "--gateway", "127.0.0.1", "--id", "8", "--port", "udp:127.0.0.1:0"];
    for (code, more, parts) in [
        (2, &["--memory", "63M"][..], ["--memory 63M: each of 1 ids lends at least a unit of 64M", "give 64M"]),
        (2, &["--memory", "100M", "--count", "2"], ["--memory 100M", "give 128M, or fewer ids (--count)"]),
        (2, &["--memory", "64M", "--quota", "1M"], ["--quota is less than a unit of 64M", "a master could lease"]),
        (3, &["--memory", "60T"], ["--memory 60T: this host, or the cgroup of this process, has", "lend at most"]),
        (
            3,
            &["--memory", "60T", "--memory-pages", "huge"],
            ["--memory: cannot map 983040 units", "on 2 MiB hugepages"],
        ),
        (2, &["--memory", "64M", "--keep-free", "x"], ["\"x\" is not a size", "or auto"]),
        (2, &["--memory", "64M", "--key-file", &own], ["no --connect-key-file", "gvm-dp key derive --connect"]),
        (5, &["--memory", "64M", "--connect-key-file", "/no/such"], ["key file /no/such", "gvm-dp key derive"]),
    ] {
        let complaint = place.refused(code, &[&slave[..], more].concat());
        assert!(parts.iter().all(|part| complaint.contains(part)), "{more:?}: {complaint}");
    }
    let good =
        place.start(&[&slave[..], &["--memory", "64M", "--key-file", &own, "--connect-key-file", &connect]].concat());
    good.says(&["lends 64M (1 unit of 64M)"]);
    good.says(&["privileges: "]);
    assert!(!good.said().contains("NO CONNECT KEY"), "{}", good.said());
}
