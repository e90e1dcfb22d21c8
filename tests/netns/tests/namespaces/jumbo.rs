//! The real `gvm-dp` with jumbo frames: on NIC queues, where they come and go as chains, on sockets, and between two
//! sides with different MTUs.

use netns::product::until;
use netns::world::{World, number, port, report, two_armed};

/// A world whose links have these MTUs, on the left and on the right.
fn with_mtus(left: u16, right: u16) -> Option<World> {
    let world = two_armed()?;
    for (namespace, name, mtu) in [
        (&world.master, "m", left),
        (&world.gateway, "left", left),
        (&world.gateway, "right", right),
        (&world.farm, "f", right),
    ] {
        namespace.ip(&format!("link set dev {name} mtu {mtu}"));
    }
    Some(world)
}

/// Farms of 32 ids that proved their MTU to the gateway.
fn farm(world: &World, mtu: u16) -> netns::product::Process {
    let farm = world.farm("farm", "10.92.2.1", 0, 32, &format!("udp:10.92.2.2:0 --mtu {mtu}"));
    until_proven(world, mtu);
    farm
}

/// Waits until 32 ids have routes with this MTU.
fn until_proven(world: &World, mtu: u16) {
    world.place.until_registered("gateway", 32);
    until("proven MTUs", || {
        let (_, printed, _) = world.place.start(&world.gateway, "gvm-dp routes --name gateway --json").wait();
        let slaves = report(&printed)["slaves"].as_array().unwrap().clone();
        (slaves.len() == 32 && slaves.iter().all(|slave| number(&slave["mtu"]) == u64::from(mtu))).then_some(())
    });
}

/// Sends records, of which every one must come back with the right content. As many are on their way at once as fit
/// into the smallest ring here. It has 256 entries, and a record of 8,900 bytes takes three.
fn all_come_back(world: &World, mtu: u16, size: &str) {
    all_come_back_at(world, mtu, size, "--rate 4000");
}

/// The same at another rate.
fn all_come_back_at(world: &World, mtu: u16, size: &str, rate: &str) {
    let more = format!("--mtu {mtu} --size {size} {rate} --window 60 --window-timeout 20 --records 2000 --seconds 50");
    let (code, printed, said) = world.pktgen("10.92.1.1", 0..32, &more).wait();
    let stats = || format!("{:#}", world.place.stats("gateway"));
    assert_eq!(code, Some(0), "size {size}: {printed}\n{said}\n{}", stats());
    let report = report(&printed);
    let sent = number(&report["down"]["records"]);
    assert!(sent >= 2000 && number(&report["echo"]["ok"]) == sent, "size {size}: {report}\n{}", stats());
}

#[test]
fn jumbo_frames_pass_nic_queues_whole() {
    let Some(world) = with_mtus(9000, 9000) else { return };
    let gateway = world.gateway("--lcores 0-1 --port left --port right");
    gateway.says(&["port 0: xdp:left: 2 queues on 2 lcores", "MTU 9000"]);
    gateway.says(&["gateway \"gateway\"", "MTU 9000,"]);
    let _farm = farm(&world, 9000);
    for size in ["64", "4096", "8900", "imix", "page"] {
        all_come_back(&world, 9000, size);
    }
    let stats = world.assert_books_balance();
    for id in [0, 1] {
        // Two thousand records of 8,900 bytes alone are as many chains.
        let (joined, chained) = (port(&stats, id, "rx_joined"), port(&stats, id, "tx_chained"));
        assert!(joined >= 2000 && chained >= 2000, "{joined} and {chained}: {stats:#}");
        for lost in ["rx_dropped_too_long", "rx_bad_descriptors", "tx_bad_descriptors", "tx_dropped_too_long"] {
            assert_eq!(port(&stats, id, lost), 0, "{lost} of port {id}");
        }
    }
    world.drain(gateway);
}

#[test]
fn jumbo_frames_pass_the_generic_hook() {
    let Some(world) = with_mtus(9000, 9000) else { return };
    let gateway = world.gateway("--lcores 0 --port xdp:left,mode=skb --port xdp:right,mode=skb");
    let _farm = farm(&world, 9000);
    all_come_back(&world, 9000, "8900");
    world.assert_books_balance();
    world.drain(gateway);
}

#[test]
fn jumbo_frames_pass_sockets_whole() {
    let Some(world) = with_mtus(9000, 9000) else { return };
    let gateway = world.gateway("--mtu 9000 --port udp:10.92.1.1:9999 --port udp:0.0.0.0:9998");
    gateway.says(&["gateway \"gateway\"", "MTU 9000,"]);
    let _farm = world.farm("farm", "10.92.2.1:9998", 0, 32, "udp:10.92.2.2:0 --mtu 9000");
    until_proven(&world, 9000);
    for size in ["64", "4096", "8900"] {
        all_come_back(&world, 9000, size);
    }
    world.assert_books_balance();
    world.drain(gateway);
}

/// Masters have jumbo frames and slaves do not. Records from large datagrams leave in smaller ones.
#[test]
fn masters_may_have_jumbo_frames_and_slaves_not() {
    let Some(world) = with_mtus(9000, 1500) else { return };
    // At full speed the master packs whole windows. The long hold makes their answers share datagrams.
    let gateway = world.gateway("--port left --port right --hold 5ms --early off");
    gateway.says(&["gateway \"gateway\"", "MTU 9000 and 1500,"]);
    let _farm = farm(&world, 1500);
    for size in ["64", "imix", "page"] {
        all_come_back_at(&world, 9000, size, "");
    }
    let stats = world.assert_books_balance();
    // Records that the master packs into chains leave in packets of the smaller size, and the answers are chains again.
    assert!(port(&stats, 0, "rx_joined") > 0 && port(&stats, 0, "tx_chained") > 0, "{stats:#}");
    assert_eq!((port(&stats, 1, "rx_joined"), port(&stats, 1, "tx_chained")), (0, 0), "{stats:#}");
    assert!(port(&stats, 1, "tx_packets") > port(&stats, 0, "rx_packets"), "{stats:#}");
    world.drain(gateway);
}

#[test]
fn slaves_may_have_jumbo_frames_and_masters_not() {
    let Some(world) = with_mtus(1500, 9000) else { return };
    let gateway = world.gateway("--port left --port right");
    gateway.says(&["gateway \"gateway\"", "MTU 1500 and 9000,"]);
    let _farm = farm(&world, 9000);
    for size in ["64", "imix"] {
        all_come_back(&world, 1500, size);
    }
    let stats = world.assert_books_balance();
    assert_eq!((port(&stats, 0, "rx_joined"), port(&stats, 0, "tx_chained")), (0, 0), "{stats:#}");
    world.drain(gateway);
}
