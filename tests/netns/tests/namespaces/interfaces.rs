//! Unusual interfaces and namespaces: nothing is required that does not matter, and what cannot work is refused.

use netns::product::Place;
use netns::world::two_armed;
use netns::{End, Namespace, join};

#[test]
fn nothing_needs_the_loopback() {
    let Some(world) = two_armed() else { return };
    for namespace in [&world.master, &world.gateway, &world.farm] {
        namespace.ip("link set dev lo down");
        namespace.ip("address flush dev lo");
    }
    let gateway = world.gateway("--lcores 0-1 --port left --port right");
    let farm = world.farm("farm", "10.92.2.1", 0, 8, "xdp:f");
    farm.says(&["port 0: xdp:f: 2 queues"]);
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);
    // Changes are followed, and offloads are on again at the end.
    world.gateway.ip("address add 10.92.2.9/24 dev right");
    gateway.says(&["right has other addresses now", "10.92.2.9"]);
    assert!(world.gateway.exec("ethtool -k left").contains("rx-vlan-offload: off"));
    world.drain(gateway);
    assert!(world.gateway.exec("ethtool -k left").contains("rx-vlan-offload: on"));
}

#[test]
fn devices_without_ethernet_headers_are_refused() {
    if !netns::available() {
        return;
    }
    let (here, there) = (Namespace::new(), Namespace::new());
    let place = Place::new();
    join(
        &End { namespace: &here, name: "near", address: "10.94.1.1/24" },
        &End { namespace: &there, name: "far", address: "10.94.1.2/24" },
        1,
    );
    here.ip("tuntap add dev tun0 mode tun");
    here.ip("address add 10.94.2.1/24 dev tun0");
    here.ip("link set dev tun0 up");
    for (line, parts) in [
        ("gvm-dp --port xdp:tun0,mode=skb", &["interface tun0", "use a udp: port"][..]),
        ("gvm-dp --port tun0", &["interface tun0", "use a udp: port"]),
        ("gvm-dp slave --gateway 10.94.2.2 --id 0 --port xdp:tun0", &["interface tun0", "use a udp: port"]),
        (
            "gvm-dp --shards 0 --port near --neighbor 1=tun0,ip=10.94.2.2,mac=02:00:00:00:00:03",
            &["--neighbor 1=tun0", "interface tun0", "name the Ethernet interface"],
        ),
        (
            "gvm-dp --port dpdk:net_af_packet0,iface=tun0,ip=10.94.2.1/24",
            &["--port dpdk:net_af_packet0", "interface tun0", "use a udp: port"],
        ),
    ] {
        let complaint = place.refused(&here, 3, line);
        for part in parts.iter().chain(&["have no Ethernet header: it is a tun device"]) {
            assert!(complaint.contains(part), "{line} does not say {part}: {complaint}");
        }
    }
    // A tap has Ethernet headers.
    here.ip("tuntap add dev tap0 mode tap");
    here.ip("address add 10.94.3.1/24 dev tap0");
    here.ip("link set dev tap0 up");
    let gateway = place.start(&here, "gvm-dp --port xdp:tap0,mode=skb");
    gateway.says(&["port 0: xdp:tap0", "generic hook"]);
}
