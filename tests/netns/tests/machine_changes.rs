//! What the machine changes under a running `gvm-dp`: it is followed, or it is named in the log, in `stats` and by `/ready`.

use netns::product::{Process, until};
use netns::world::{QUEUES, World, interface, number, port, two_armed};
use netns::{End, Namespace, join};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// What `/ready` answers in a namespace: the status line and the reasons.
fn ready_at(namespace: &Namespace, address: &str) -> Option<String> {
    namespace.enter(|| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: test\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

const METRICS: &str = "127.0.0.1:9998";

/// Waits until the gateway is ready.
fn until_ready(world: &World) {
    until("ready", || ready_at(&world.gateway, METRICS)?.starts_with("HTTP/1.1 200").then_some(()));
}

/// Waits until it is not, and says all of these.
fn until_not_ready(world: &World, parts: &[&str]) {
    let mut last = None;
    let says = |answer: &str| answer.starts_with("HTTP/1.1 503") && parts.iter().all(|part| answer.contains(part));
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("not ready", || {
            last = ready_at(&world.gateway, METRICS);
            last.as_deref().is_some_and(says).then_some(())
        });
    }));
    assert!(found.is_ok(), "never {parts:?}, last {last:?}");
}

/// Waits until `stats` warns of all of these in one line.
fn until_stats_warn(world: &World, name: &str, parts: &[&str]) {
    until(&format!("a warning with {parts:?}"), || {
        let line = format!("gvm-dp stats --name {name} --interval 50ms");
        let output = world.place.run(&world.gateway, &line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().any(|line| line.contains('!') && parts.iter().all(|part| line.contains(part))).then_some(())
    });
}

#[test]
fn a_link_without_a_carrier_is_down_on_queues_and_on_sockets() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway(&format!("--port left --port udp:10.92.2.1:9999 --metrics {METRICS}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:0.0.0.0:0 --metrics 127.0.0.1:9998");
    world.place.until_registered("gateway", 8);
    until_ready(&world);
    let stats = world.place.stats("gateway");
    assert_eq!(interface(&stats, "left")["link"], "up");
    // The loopback of the farm's host says "unknown", and is up.
    until("a ready farm", || ready_at(&world.farm, METRICS)?.starts_with("HTTP/1.1 200").then_some(()));
    world.every_record_comes_back("10.92.1.1", 0..8);

    // The other end goes down: each end is set up still, and has no carrier.
    world.master.ip("link set dev m down");
    gateway.says(&["xdp:left queue 0", "no carrier", "`ip link show dev left`"]);
    until_not_ready(&world, &["port 0 of lcore 0 (xdp:left queue", "the interface has no carrier"]);
    world.place.until_stats("gateway", "no link", |stats| {
        port(stats, 0, "link_up") == 0 && interface(stats, "left")["link"] == "no carrier"
    });
    until_stats_warn(&world, "gateway", &["xdp:left", "the link is down"]);
    world.farm.ip("link set dev f down");
    gateway.says(&["udp:10.92.2.1: right has no carrier"]);
    until_not_ready(&world, &["(xdp:left queue", "port 1 of lcore 0 (udp:10.92.2.1:9999", "no carrier"]);
    // The farm's socket is bound to no interface: it has a link while any has one.
    until("a farm without a link", || ready_at(&world.farm, METRICS)?.contains("(udp:0.0.0.0:").then_some(()));

    world.master.ip("link set dev m up");
    world.farm.ip("link set dev f up");
    until_ready(&world);
    gateway.says(&["udp:10.92.2.1: the link is up again"]);
    let stats = world.place.stats("gateway");
    assert_eq!((port(&stats, 0, "link_downs"), port(&stats, 1, "link_downs")), (u64::from(QUEUES), 1));
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);

    // A socket's address is gone, and comes back on another interface.
    world.gateway.ip("address del 10.92.2.1/24 dev right");
    gateway.says(&["udp:10.92.2.1: no interface has that address any more"]);
    until_not_ready(&world, &["(udp:10.92.2.1:9999", "no interface has its address"]);
    world.gateway.ip("address add 10.92.2.1/32 dev lo");
    gateway.says(&["udp:10.92.2.1: the address is lo's now, it was right's"]);
    until_ready(&world);
    drop(gateway);
}

#[test]
fn what_should_leave_without_a_carrier_is_dropped_and_counted() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway(&format!("--port left --port right --metrics {METRICS}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 8);
    let load = world.pktgen("10.92.1.1", 0..8, "--rate 1000 --seconds 50 --allow-loss");
    let down = |stats: &serde_json::Value| number(&stats["directions"]["down"]["records_out"]);
    world.place.until_stats("gateway", "load", |stats| down(stats) > 200);
    // Without a carrier the kernel takes what is sent and drops it, and nothing says so.
    world.farm.ip("link set dev f down");
    let stats = world
        .place
        .until_stats("gateway", "drops that are counted", |stats| port(stats, 1, "tx_dropped_link_down") > 100);
    assert!(number(&stats["directions"]["down"]["dropped"]["tx"]) > 0, "{stats:#}");
    world.farm.ip("link set dev f up");
    let before = down(&stats);
    world.place.until_stats("gateway", "load again", |stats| down(stats) > before + 200);
    drop(load);
    world.assert_books_balance();
    world.drain(gateway);
}

/// Gives an interface another name; old kernels want it down for that.
fn rename(namespace: &Namespace, from: &str, to: &str) {
    namespace.ip(&format!("link set dev {from} down"));
    namespace.ip(&format!("link set dev {from} name {to}"));
    namespace.ip(&format!("link set dev {to} up"));
}

fn strips_tags(world: &World, ifname: &str) -> bool {
    world.gateway.exec(&format!("ethtool -k {ifname}")).contains("rx-vlan-offload: on")
}

fn notes(world: &World) -> usize {
    let entries = std::fs::read_dir(world.place.directory()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("offloads-")).count()
}

/// Renames `right`, and makes another interface with its name.
fn rename_right(world: &World, gateway: &Process) {
    rename(&world.gateway, "right", "renamed");
    gateway.says(&["right is called renamed now"]);
    world.gateway.ip("link add name right type veth peer name right-peer");
    world.gateway.exec("ethtool -K right rxvlan off");
    world.place.until_stats("gateway", "the new name", |stats| {
        stats["interfaces"].as_array().unwrap().iter().any(|interface| interface["name"] == "renamed")
    });
}

#[test]
fn an_interface_is_its_number_whatever_it_is_called() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway(&format!("--port left --port right --metrics {METRICS}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 8);
    let index = interface(&world.place.stats("gateway"), "right")["index"].clone();
    assert!(!strips_tags(&world, "right"));
    rename_right(&world, &gateway);
    // Everything that people read has the new name.
    let stats = world.place.stats("gateway");
    assert_eq!(interface(&stats, "renamed")["index"], index);
    let description = stats["lcores"][0]["ports"][1]["description"].as_str().unwrap();
    assert!(description.starts_with("xdp:renamed queue"), "{description}");
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);

    // Its addresses and its Ethernet address are followed, and not those of whoever has its old name.
    world.gateway.ip("address add 10.92.7.1/24 dev right");
    world.gateway.ip("address add 10.92.5.1/24 dev renamed");
    gateway.says(&["renamed has other addresses now", "10.92.2.1 10.92.5.1"]);
    world.gateway.ip("link set dev renamed address 02:00:00:00:92:07");
    gateway.says(&["renamed has other addresses now", "02:00:00:00:92:07 10.92.2.1 10.92.5.1"]);
    world.farm.forget_neighbours("f");
    world.farm.ip("address add 10.92.5.2/24 dev f");
    let _other = world.farm("other", "10.92.5.1", 8, 8, "udp:10.92.5.2:0");
    world.place.until_registered("gateway", 16);
    world.every_record_comes_back("10.92.1.1", 0..16);
    assert!(!gateway.said().contains("10.92.7.1"), "{}", gateway.said());
    world.farm.ip("link set dev f down");
    until_not_ready(&world, &["(xdp:renamed queue", "no carrier"]);
    world.farm.ip("link set dev f up");
    until_ready(&world);

    // What was turned off is on again at the end, there and nowhere else.
    assert_eq!(notes(&world), 2);
    world.drain(gateway);
    assert_eq!((strips_tags(&world, "renamed"), strips_tags(&world, "right"), notes(&world)), (true, false, 0));
}

#[test]
fn offloads_of_a_renamed_interface_are_on_again_after_a_kill() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--port left --port right");
    rename_right(&world, &gateway);
    gateway.signal(Signal::KILL);
    gateway.wait();
    assert_eq!((strips_tags(&world, "renamed"), notes(&world)), (false, 2));
    let gateway = world.gateway("--port udp:10.92.1.1:9999");
    gateway.says(&["renamed: on again, since a process that was killed had left it off: rxvlan"]);
    assert_eq!((strips_tags(&world, "renamed"), strips_tags(&world, "right"), notes(&world)), (true, false, 0));
    world.drain(gateway);
}

#[test]
fn the_way_to_another_shard_is_an_interface_and_not_a_name() {
    let Some(world) = two_armed() else { return };
    let second = Namespace::new();
    let other = End { namespace: &second, name: "other", address: "10.92.4.2/24" };
    join(&End { namespace: &world.gateway, name: "across", address: "10.92.4.1/24" }, &other, QUEUES);
    let neighbor = "1=across,ip=10.92.4.2,mac=02:00:00:00:92:05";
    let gateway = world.gateway(&format!("--shards 0 --port left --neighbor {neighbor}"));
    rename(&world.gateway, "across", "beyond");
    world.gateway.ip("link add name across type veth peer name across-peer");
    // Cargo goes by the interface that led there at the start, with what it has now.
    world.gateway.ip("link set dev beyond address 02:00:00:00:92:06");
    gateway.says(&["left: cargo of shard 1 goes by beyond as it is now"]);
    // Once it is gone, the one that has its name takes its place.
    world.gateway.ip("link delete dev beyond");
    gateway.says(&["left: cargo of shard 1 goes by across as it is now"]);
    world.drain(gateway);
}
