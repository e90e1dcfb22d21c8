//! A gateway on sockets for all addresses of a host that has several. The address that a node asks is the one that
//! answers.

use netns::world::{number, report, two_armed};

/// Nodes accept an answer only from the address that they asked. So a registered node was answered from that address.
#[test]
fn every_address_of_a_host_answers_for_itself() {
    let Some(world) = two_armed() else { return };
    // A second address on one interface, and the address of the interface that is not on the way to the farm.
    world.gateway.ip("address add 10.92.2.7/24 dev right");
    world.farm.ip("route add 10.92.1.0/24 via 10.92.2.1");
    world.master.ip("route add 10.92.2.0/24 via 10.92.1.1");
    for (namespace, device, address) in
        [(&world.gateway, "right", "fd00:92::1/64"), (&world.farm, "f", "fd00:92::2/64")]
    {
        namespace.ip(&format!("address add {address} dev {device} nodad"));
    }
    world.gateway.ip("address add fd00:92::7/64 dev right nodad");
    // Routes that one lcore learns are used by the other.
    for bound in ["0.0.0.0", "[::]"] {
        let gateway = world.gateway(&format!("--lcores 0-1 --port udp:{bound}:9999"));
        let six: &[_] = if bound == "[::]" { &["[fd00:92::1]", "[fd00:92::7]"] } else { &[] };
        let asked: Vec<&str> = ["10.92.2.1", "10.92.2.7", "10.92.1.1"].iter().chain(six).copied().collect();
        let mut farms = Vec::new();
        for (at, address) in asked.iter().enumerate() {
            let name = format!("farm{at}");
            farms.push(world.farm(&name, address, 8 * at as u32, 8, "udp:[::]:0"));
            world.place.until_registered("gateway", 8 * (at as u64 + 1));
            world.place.until_registered(&name, 8);
        }
        // The masters' side, by each of its addresses.
        for address in ["10.92.1.1", "10.92.2.7"] {
            world.every_record_comes_back(address, 0..24);
        }
        if !six.is_empty() {
            // Records that fit behind the headers of IPv6 as well. The merged datagrams must fit, too.
            let load = "--rate 4000 --window 200 --window-timeout 20 --records 2000 --seconds 50 --size 200";
            let (code, printed, said) = world.pktgen("10.92.1.1", 24..40, load).wait();
            assert_eq!(code, Some(0), "{printed}\n{said}");
            assert_eq!(number(&report(&printed)["echo"]["ok"]), 2000, "{printed}");
        }
        world.assert_books_balance();
        for farm in farms {
            assert!(!farm.said().contains("does not come from the gateway"), "{}", farm.said());
        }
        world.drain(gateway);
    }
}

/// An address that is removed answers nobody any more. The other addresses and the process go on.
#[test]
fn an_address_that_is_taken_away_is_nobodys() {
    let Some(world) = two_armed() else { return };
    world.gateway.ip("address add 10.92.2.7/24 dev right");
    let gateway = world.gateway("--port udp:0.0.0.0:9999");
    let _stays = world.farm("stays", "10.92.2.1", 0, 8, "udp:0.0.0.0:0");
    let _goes = world.farm("goes", "10.92.2.7", 8, 8, "udp:0.0.0.0:0");
    world.place.until_registered("gateway", 16);
    world.gateway.ip("address del 10.92.2.7/24 dev right");
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);
    world.gateway.ip("address add 10.92.2.7/24 dev right");
    world.place.until_registered("gateway", 16);
    world.every_record_comes_back("10.92.1.1", 0..16);
    world.drain(gateway);
}
