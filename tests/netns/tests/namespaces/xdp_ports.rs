//! NIC queues, observed from outside: the ports and addresses that they send from, and their changes to the interface.

use netns::product::{Process, until};
use netns::sniff::{Heard, Sniffer};
use netns::world::{interface, number, port, two_armed};
use rustix::process::Signal;
use std::collections::BTreeSet;

#[test]
fn cargo_leaves_by_its_lane_and_link_control_from_where_we_listen() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--lcores 0-1 --port left --port right");
    let (at_farm, at_master) = (Sniffer::new(&world.farm), Sniffer::new(&world.master));
    let _farm = world.farm("farm", "10.92.2.1", 1000, 48, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 48);
    world.every_record_comes_back("10.92.1.1", 1000..1048);

    let (mut lanes, mut links) = (BTreeSet::new(), 0);
    for heard in at_farm.heard().into_iter().filter(|heard| heard.from.0 == [10, 92, 2, 1]) {
        if heard.link {
            assert_eq!(heard.from.1, 9999, "{heard:?}");
            links += 1;
        } else {
            let lane = heard.slaves.iter().map(|id| 49_152 + id % 1024).collect::<BTreeSet<_>>();
            assert_eq!(lane, BTreeSet::from([heard.from.1.into()]), "{heard:?}");
            lanes.extend(lane);
        }
    }
    // Ids 1000 to 1047: the lanes wrap around.
    assert_eq!(lanes.len(), 48, "{lanes:?}");
    assert!(lanes.contains(&(49_152 + 1023)) && lanes.contains(&(49_152 + 23)) && links > 0);

    // To a master each lcore has one lane for all slaves that it merges. So a slave's records stay on one queue.
    let mut sources = vec![BTreeSet::new(); 48];
    for heard in at_master.heard().into_iter().filter(|heard| heard.from.0 == [10, 92, 1, 1]) {
        assert!(if heard.link { heard.from.1 == 9999 } else { (49_152..49_154).contains(&heard.from.1) }, "{heard:?}");
        for id in heard.slaves.iter().filter(|_| !heard.link) {
            sources[*id as usize - 1000].insert(heard.from.1);
        }
    }
    assert!(sources.iter().all(|ports| ports.len() == 1), "{sources:?}");
    let stats = world.assert_books_balance();
    assert_eq!(number(&stats["directions"]["up"]["dropped"]["spoofed"]), 0);
    world.drain(gateway);
}

#[test]
fn one_lcore_with_two_queues_sends_on_both() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--lcores 0 --port left --port right");
    // A packet of a veth arrives on the queue that it was sent on. With an XDP program it is counted there.
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "xdp:f");
    world.place.until_registered("gateway", 32);
    let arrived = || {
        let statistics = world.farm.exec("ethtool -S f");
        [0, 1].map(|queue| {
            let name = format!("rx_queue_{queue}_xdp_packets:");
            let line = statistics.lines().find_map(|line| line.trim().strip_prefix(&name));
            line.and_then(|packets| packets.trim().parse::<u64>().ok()).expect("veth counts by queue")
        })
    };
    let before = arrived();
    let sent = world.every_record_comes_back("10.92.1.1", 0..32);
    let packets = [0, 1].map(|queue| arrived()[queue] - before[queue]);
    // A window of 200 records to 32 slaves: at most a few are merged.
    assert!(packets.iter().all(|packets| *packets > sent / 40), "{packets:?} of {sent} records");
    let stats = world.assert_books_balance();
    let datagrams = number(&stats["directions"]["down"]["datagrams_out"]);
    assert!(packets.iter().sum::<u64>() >= datagrams, "{packets:?}, {datagrams} datagrams");
    world.drain(gateway);
}

#[test]
fn offloads_that_a_killed_process_left_off_are_on_again_after_the_next_start() {
    let Some(world) = two_armed() else { return };
    let is_on = |ifname: &str| world.gateway.exec(&format!("ethtool -k {ifname}")).contains("rx-vlan-offload: on");
    let notes = || {
        let entries = std::fs::read_dir(world.place.directory()).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("offloads-")).count()
    };
    let kill = |gateway: Process| {
        assert!(!is_on("left") && !is_on("right") && notes() == 2);
        gateway.signal(Signal::KILL);
        gateway.wait();
        assert!(!is_on("left") && !is_on("right") && notes() == 2);
    };
    kill(world.gateway("--port left --port right"));
    // One interface is used again, the other is not. At the end both are as before.
    let gateway = world.gateway("--port left");
    gateway.says(&["right: on again, since a process that was killed had left it off: rxvlan"]);
    assert!(is_on("right") && !is_on("left") && notes() == 1);
    // Offloads that a living process has turned off are not changed.
    let other = world.gateway("--name other --port udp:10.92.2.1:9999");
    assert!(!is_on("left") && !other.said().contains("on again"));
    world.drain(other);
    world.drain(gateway);
    assert!(is_on("left") && notes() == 0);
    // Notes about an interface that is gone are dropped, also when another one has its name.
    kill(world.gateway("--port left --port right"));
    world.gateway.ip("link delete dev left");
    world.gateway.ip("link add name left type veth peer name left-peer");
    world.gateway.exec("ethtool -K left rxvlan off");
    let gateway = world.gateway("--port udp:10.92.2.1:9999");
    assert!(!is_on("left") && is_on("right") && notes() == 0);
    world.drain(gateway);
}

/// The sources of the datagrams that came to one address of the farm's host.
fn senders(heard: &[Heard], to: [u8; 4]) -> BTreeSet<[u8; 4]> {
    heard.iter().filter(|heard| heard.to.0 == to).map(|heard| heard.from.0).collect()
}

#[test]
fn all_addresses_are_answered_from_and_changes_are_followed() {
    let Some(world) = two_armed() else { return };
    world.gateway.ip("address add 10.92.5.1/24 dev right");
    world.farm.ip("address add 10.92.5.2/24 dev f");
    world.farm.ip("address add 10.92.6.2/24 dev f");
    let gateway = world.gateway("--port left --port right");
    gateway.says(&["port 1: xdp:right", "10.92.2.1:9999, 10.92.5.1:9999"]);
    let sniffer = Sniffer::new(&world.farm);
    let _one = world.farm("one", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    let _two = world.farm("two", "10.92.5.1", 8, 8, "udp:10.92.5.2:0");
    world.place.until_registered("gateway", 16);
    world.every_record_comes_back("10.92.1.1", 0..16);
    let heard = sniffer.heard();
    assert_eq!(senders(&heard, [10, 92, 2, 2]), BTreeSet::from([[10, 92, 2, 1]]));
    assert_eq!(senders(&heard, [10, 92, 5, 2]), BTreeSet::from([[10, 92, 5, 1]]));

    // One more address, and another Ethernet address.
    world.gateway.ip("address add 10.92.6.1/24 dev right");
    gateway.says(&["right has other addresses now", "10.92.2.1 10.92.5.1 10.92.6.1"]);
    let mac = [2, 0, 0, 0, 0x92, 1];
    world.gateway.ip("link set dev right address 02:00:00:00:92:01");
    gateway.says(&["right has other addresses now", "02:00:00:00:92:01 10.92.2.1"]);
    world.farm.forget_neighbours("f");
    let _three = world.farm("three", "10.92.6.1", 16, 8, "udp:10.92.6.2:0");
    world.place.until_registered("gateway", 24);
    sniffer.heard();
    world.every_record_comes_back("10.92.1.1", 0..24);
    let heard = sniffer.heard();
    assert_eq!(senders(&heard, [10, 92, 6, 2]), BTreeSet::from([[10, 92, 6, 1]]));
    assert_eq!(senders(&heard, [10, 92, 5, 2]), BTreeSet::from([[10, 92, 5, 1]]));
    assert!(heard.iter().all(|heard| heard.to.0[3] != 2 || heard.mac == mac), "{heard:?}");

    // Without the first address the others go on. Without any address, packets to send are dropped and counted.
    world.gateway.ip("address del 10.92.2.1/24 dev right");
    gateway.says(&["right has other addresses now", "02:00:00:00:92:01 10.92.5.1 10.92.6.1"]);
    world.every_record_comes_back("10.92.1.1", 8..24);
    let stats = world.place.stats("gateway");
    assert_eq!(interface(&stats, "right")["address"], "10.92.5.1:9999, 10.92.6.1:9999");
    world.gateway.ip("address flush dev right");
    let load = world.pktgen("10.92.1.1", 8..24, "--rate 1000 --seconds 50 --allow-loss");
    until("drops that are counted", || {
        (port(&world.place.stats("gateway"), 1, "tx_dropped_no_address") > 0).then_some(())
    });
    drop(load);
    world.assert_books_balance();
    world.drain(gateway);
}
