//! A master with an lcore for each of its ids, on the queues of a veth: each packet for it arrives on the queue of the
//! other lcore.

use netns::product::{Place, until};
use netns::{End, Namespace, join, real_checksums};
use serde_json::Value;
use std::net::Ipv4Addr;

/// The queue on which a gateway's one lcore sends to a UDP port of an address: as `port::xdp::XdpQueues` chooses it.
/// The test finds an address by it; that the choice was right is seen from the counters.
fn queue_of(address: Ipv4Addr, udp_port: u16, source_port: u16) -> u64 {
    let flow = u32::from_ne_bytes(address.octets()) ^ u32::from(udp_port).rotate_left(16) ^ u32::from(source_port);
    (u64::from(flow.wrapping_mul(0x9e37_79b1)) * 2) >> 32
}

/// An address of a master to which a gateway sends nothing on the right queue: lcore 0 of the master has queue 0 and
/// UDP port 9999, lcore 1 the next ones.
fn wrong_address() -> Ipv4Addr {
    let cargo = wire::lane_port(0);
    let is_wrong = |address: &Ipv4Addr| {
        [0, cargo].into_iter().all(|source| {
            queue_of(*address, wire::GATEWAY_PORT, source) == 1
                && queue_of(*address, wire::GATEWAY_PORT + 1, source) == 0
        })
    };
    let addresses = (2..255).flat_map(|c| (2..255).map(move |d| Ipv4Addr::new(10, 95, c, d)));
    addresses.into_iter().find(is_wrong).expect("one of 16 is so")
}

fn each(stats: &Value, set: &str, counter: &str) -> Vec<u64> {
    let lcores = stats["lcores"].as_array().unwrap();
    lcores.iter().map(|lcore| lcore["sets"][set][counter].as_u64().unwrap()).collect()
}

#[test]
fn pages_move_though_every_packet_arrives_on_the_wrong_lcore() {
    if !netns::available() {
        return;
    }
    let (place, far, near) = (Place::new(), Namespace::new(), Namespace::new());
    let address = wrong_address();
    let with_length = format!("{address}/16");
    let gateway_end = End { namespace: &far, name: "gw", address: "10.95.1.1/16" };
    let master_end = End { namespace: &near, name: "m", address: &with_length };
    join(&gateway_end, &master_end, 2);
    real_checksums(&gateway_end);
    real_checksums(&master_end);
    let common = "--heartbeat 250ms --rx-mode adaptive --frames 8192";
    let gateway = place.start(
        &far,
        &format!("gvm-dp gateway --name gateway --lcores 0 --port xdp:gw --port udp:127.0.0.1:9999 {common}"),
    );
    gateway.says(&["port 0: xdp:gw: 2 queues on 1 lcore"]);
    let slave = |id: u32| {
        let slave = place.start(
            &far,
            &format!(
                "gvm-dp slave --name slave-{id} --gateway 127.0.0.1 --id {id} --port udp:127.0.0.1:0 --domain {id} \
                 --memory 256M --memory-pages ordinary --keep-free 0 --heartbeat 250ms --frames 4096"
            ),
        );
        slave.says(&["control socket"]);
        slave
    };
    let slaves = [1, 2].map(slave);
    place.until_registered("gateway", 2);
    let master = place.start(
        &near,
        &format!("gvm-dp master --name master --gateway 10.95.1.1 --id 1-2 --lcores 0-1 --port xdp:m {common}"),
    );
    master.says(&["port 0: xdp:m: 2 queues on 2 lcores"]);
    place
        .until_stats("master", "both masters know the slaves", |stats| each(stats, "master", "slaves_known") == [2, 2]);

    let bench = "gvm-dp page bench --json --size 8M --duration 1s";
    let running = [0, 1].map(|_| place.start(&near, bench));
    place
        .until_stats("master", "an application on each lcore", |stats| each(stats, "master", "extents_used") == [4, 4]);
    for process in running {
        let (code, printed, said) = process.wait();
        assert_eq!(code, Some(0), "{said}\n{}", place.not_zero("master"));
        let report: Value = serde_json::from_str(&printed).unwrap();
        for step in report["steps"].as_array().unwrap() {
            assert_eq!((&step["failed"], &step["wrong_bytes"]), (&0.into(), &0.into()), "{report:#}");
        }
    }
    let stats = place.until_stats("master", "everything is given back", |stats| {
        stats["total"]["master"]["clients"] == 0 && stats["total"]["master"]["units_held"] == 0
    });
    let handover = &stats["total"]["handover"];
    assert_eq!(handover["rx_dropped_other_lcore"], 0, "{}", place.not_zero("master"));
    assert!(each(&stats, "handover", "rx_other_lcore").iter().all(|count| *count > 1_000), "{handover}");
    // All that the queues received was for the other lcore, and came there.
    until("the counters agree", || {
        let stats = place.stats("master");
        let received: Vec<u64> = stats["lcores"].as_array().unwrap().iter().map(received).collect();
        let (given, taken) = (each(&stats, "handover", "rx_other_lcore"), each(&stats, "handover", "rx_handed_over"));
        (given == received && taken == [given[1], given[0]]).then_some(())
    });
    for (name, process) in [("master", master), ("gateway", gateway)] {
        let output = place.run(&near, &format!("gvm-dp drain --name {name}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (code, _, said) = process.wait();
        assert_eq!(code, Some(0), "{said}");
    }
    drop(slaves);
}

fn received(lcore: &Value) -> u64 {
    lcore["ports"][0]["counters"]["rx_packets"].as_u64().unwrap()
}
