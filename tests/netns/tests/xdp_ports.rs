//! NIC queues as others see them: which ports and addresses they send from, and what they do to their interface.

use netns::product::Process;
use netns::sniff::Sniffer;
use netns::world::{number, two_armed};
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

    // To a master each lcore has one lane, however many slaves it merges: a slave's records stay on one queue.
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
    // A veth's packet arrives on the queue that it was sent on, and counts there once there is an XDP program.
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
    // One interface is used again, the other is not; at its end both are as they were.
    let gateway = world.gateway("--port left");
    gateway.says(&["right: on again, since a process that was killed had left it off: rxvlan"]);
    assert!(is_on("right") && !is_on("left") && notes() == 1);
    // Nobody touches what a living process has turned off.
    let other = world.gateway("--name other --port udp:10.92.2.1:9999");
    assert!(!is_on("left") && !other.said().contains("on again"));
    world.drain(other);
    world.drain(gateway);
    assert!(is_on("left") && notes() == 0);
    // What belonged to an interface that is gone is forgotten, also when another one has its name.
    kill(world.gateway("--port left --port right"));
    world.gateway.ip("link delete dev left");
    world.gateway.ip("link add name left type veth peer name left-peer");
    world.gateway.exec("ethtool -K left rxvlan off");
    let gateway = world.gateway("--port udp:10.92.2.1:9999");
    assert!(!is_on("left") && is_on("right") && notes() == 0);
    world.drain(gateway);
}
