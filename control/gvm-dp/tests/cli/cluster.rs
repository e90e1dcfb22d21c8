//! Gateways and slaves as processes, over loopback UDP.

use crate::harness::{Place, until};
use crate::master::Master;
use rustix::process::Signal;
use serde_json::Value;
use wire::record::FRAG_PUSH;

/// Whether so many records came in one direction, so many left and all others wait.
fn forwarded(stats: &Value, direction: &str, came: u64, left: u64) -> bool {
    let direction = &stats["directions"][direction];
    direction["records_in"] == came
        && direction["records_out"] == left
        && direction["held"] == came - left
        && direction["unaccounted"] == 0
}

fn two_cores() -> bool {
    std::thread::available_parallelism().map_or(1, usize::from) >= 2
}

#[test]
fn a_gateway_and_a_farm_find_each_other() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&["--mtu", "1400"]);
    gateway.says(&["port 0: udp:127.0.0.1:", "kernel socket", "1 lcore"]);
    gateway.says(&["gateway \"gateway\": shards 0-15 (131072 slave ids), hold 50us, early flush on, MTU 1400"]);
    let farm = place.slave(address, 100, &["--count", "300", "--name", "farm"]);
    place.until_registered("gateway", 300);
    farm.says(&["registered: hold 50 us, MTU"]);
    until("the farm's view", || (place.stats("farm")["membership"]["registered"] == 300).then_some(()));

    // Every frame is somewhere.
    let stats = place.until_stats("gateway", |stats| {
        let pool = |name: &str| stats["total"]["pool"][name].as_u64().unwrap();
        let places = ["frames_free", "frames_in_role", "frames_in_ports", "frames_in_outbox"];
        pool("frames_capacity") == places.map(pool).iter().sum::<u64>()
    });
    assert_eq!((&stats["role"], &stats["state"]), (&Value::from("gateway"), &Value::from("running")));
    assert!(stats["total"]["link"]["heartbeats_accepted"].as_u64() >= Some(300));
    assert!(stats["cpu_seconds"].as_f64() > Some(0.0));

    let routes: Value = serde_json::from_str(&place.ask(&["routes", "--json", "--name", "gateway"])).unwrap();
    let slaves = routes["slaves"].as_array().unwrap();
    let ids: Vec<u64> = slaves.iter().map(|slave| slave["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (100..400).collect::<Vec<_>>());
    assert_eq!(slaves[0]["address"], farm.address().to_string());
    assert_eq!((&slaves[0]["state"], &slaves[0]["pages_total"]), (&Value::from("here"), &Value::from(0)));
    let table = place.ask(&["routes", "--name", "gateway"]);
    assert!(table.contains("0 of 0 MiB free") && table.contains("0 masters, 300 slaves"), "{table}");
    let complaint = place.refused(6, &["routes", "--name", "farm"]);
    assert!(complaint.contains("only a gateway has routes"), "{complaint}");

    assert_eq!(place.ask(&["drain", "--name", "gateway"]), "gateway: drained\n");
    gateway.says(&["drained: nothing was lost"]);
    assert_eq!(gateway.wait(), Some(0));
    assert_eq!(place.ask(&["drain"]), "farm: drained\n");
    assert_eq!(farm.wait(), Some(0));
}

#[test]
fn the_default_role_is_the_gateway() {
    let place = Place::new();
    let gateway = place.start(&["--lcores", "0", "--port", "udp:127.0.0.1:0", "--rx-mode", "polling"]);
    gateway.address();
    let stats = place.stats("gateway");
    assert_eq!((&stats["role"], &stats["lcores"][0]["core"]), (&Value::from("gateway"), &Value::from(0)));
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn echoes_go_down_and_come_up_merged() {
    let place = Place::new();
    let lcores: &[&str] = if two_cores() { &["--lcores", "0-1"] } else { &["--lcores", "0"] };
    let (gateway, address) = place.gateway(&[lcores, &["--hold", "20ms", "--early", "off"]].concat());
    let farm = place.slave(address, 0, &["--count", "8", "--name", "farm"]);
    place.until_registered("gateway", 8);
    let mut master = Master::register(1, address);
    until("the master at the gateway", || (place.stats("gateway")["membership"]["masters"] == 1).then_some(()));
    // A route reaches every lcore a moment after the registrar knows it.
    let slaves: Vec<u32> = (0..32).map(|number| number % 8).collect();
    master.echo(&slaves, 0);
    until("32 answers", || {
        master.poll();
        (master.answered.len() == 32).then_some(())
    });
    let mut answered = master.answered.clone();
    answered.sort_unstable();
    assert_eq!(answered, (0..32).collect::<Vec<_>>());
    assert!(master.datagrams < 32, "answers share datagrams");

    let stats = place.until_stats("gateway", |stats| ["down", "up"].iter().all(|way| forwarded(stats, way, 32, 32)));
    let down = &stats["directions"]["down"];
    assert_eq!((&down["datagrams_in"], &down["datagrams_out"]), (&Value::from(1), &Value::from(8)));
    assert_eq!(down["saved_percent"], 75.0);
    let flush = &stats["total"]["flush"];
    assert!(flush["flush_hold"].as_u64() >= Some(8), "{flush}");
    place.until_stats("farm", |stats| stats["total"]["farm"]["echo_replied"] == 32);
    drop(farm);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

/// With PUSH a question and its answer pass a gateway that holds records for ever; with a rate of 0 they wait.
#[test]
fn push_sends_on_what_waits_as_far_as_its_rate_goes() {
    for (rate, passes) in [("20000", true), ("0", false)] {
        let place = Place::new();
        let (_gateway, address) = place.gateway(&["--hold", "inf", "--early", "off", "--push-rate", rate]);
        let _farm = place.slave(address, 5, &["--name", "farm"]);
        place.until_registered("gateway", 1);
        let mut master = Master::register(1, address);
        until("the master at the gateway", || (place.stats("gateway")["membership"]["masters"] == 1).then_some(()));
        master.echo(&[5, 5], 0);
        place.until_stats("gateway", |stats| forwarded(stats, "down", 2, 0));
        master.echo_with(&[5], 2, FRAG_PUSH);
        if passes {
            until("the answers", || {
                master.poll();
                (master.answered == [0, 1, 2]).then_some(())
            });
            place.until_stats("gateway", |stats| stats["total"]["flush"]["flush_push"] == 2);
        } else {
            let stats = place.until_stats("gateway", |stats| stats["total"]["down"]["push_ignored"] == 1);
            assert_eq!(stats["total"]["flush"]["flush_push"], 0);
        }
    }
}

#[test]
fn a_drain_hands_over_what_is_held() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&["--hold", "inf", "--early", "off"]);
    let _farm = place.slave(address, 5, &["--name", "farm"]);
    place.until_registered("gateway", 1);
    let master = Master::register(1, address);
    master.echo(&[5, 5, 5], 0);
    place.until_stats("gateway", |stats| forwarded(stats, "down", 3, 0));
    assert_eq!(place.stats("farm")["total"]["farm"]["echo_replied"], 0);
    place.ask(&["drain", "--name", "gateway"]);
    assert_eq!(gateway.wait(), Some(0));
    until("what was held", || (place.stats("farm")["total"]["farm"]["echo_replied"] == 3).then_some(()));
}

#[test]
fn a_slave_says_what_keeps_it_away() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&["--shards", "1"]);
    let foreign = place.slave(address, 0, &["--name", "foreign"]);
    foreign.says(&["WARN", "slave 0", "shard 0", "the gateway serves 1"]);
    let first = place.slave(address, 8192, &["--name", "first"]);
    first.says(&["slave 8192", "registered"]);
    let second = place.slave(address, 8192, &["--name", "second"]);
    second.says(&["WARN", "the id is alive at another address"]);
    let scaled = place.slave(address, 8193, &["--name", "scaled", "--gw-bits", "12"]);
    scaled.says(&["WARN", "the gateway has slave-bits 17 and gw-bits 13, this node 17 and 12"]);
}

#[test]
fn a_gateway_that_comes_back_is_found_again() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&[]);
    let slave = place.slave(address, 3, &[]);
    slave.says(&["slave 3", "registered: hold"]);
    gateway.signal(Signal::KILL);
    gateway.wait();
    let port = format!("udp:{address}");
    let _again = place.start(&["--port", &port, "--frames", "2048"]);
    slave.says(&["slave 3", "registered again"]);
}

#[test]
fn a_farm_sends_traffic_of_its_own() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let _master = Master::register(7, address);
    let traffic = "master=7,payload=64,rate=max,records=500";
    let _farm = place.slave(address, 0, &["--count", "4", "--name", "farm", "--traffic", traffic]);
    place.until_stats("gateway", |stats| forwarded(stats, "up", 500, 500));
}

#[test]
fn watching_shows_rates_until_nobody_reads() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let heads = std::cell::Cell::new(0);
    let second = place.watch(|line| {
        heads.set(heads.get() + u32::from(line.starts_with("gateway: gateway ")));
        heads.get() == 2
    });
    assert!(second.contains("; over "), "{second}");
}

#[test]
fn a_drain_under_load_ends_and_the_books_are_closed() {
    let place = Place::new();
    let lcores: &[&str] = if two_cores() { &["--lcores", "0-1"] } else { &["--lcores", "0"] };
    let (gateway, address) = place.gateway(lcores);
    let _master = Master::register(1, address);
    let farms: Vec<_> = ["one", "two"]
        .into_iter()
        .zip([0, 100])
        .map(|(name, id)| {
            let traffic = "master=1,payload=64,rate=200000,burst=4";
            place.slave(address, id, &["--count", "50", "--name", name, "--traffic", traffic])
        })
        .collect();
    until("traffic from both", || {
        (place.stats("gateway")["directions"]["up"]["records_out"].as_u64() > Some(20_000)).then_some(())
    });
    gateway.signal(Signal::TERM);
    gateway.says(&["up: ", "records in", "out"]);
    gateway.says(&["drained: nothing was lost"]);
    assert_eq!(gateway.wait(), Some(0));
    assert_eq!(farms.len(), 2);
}
