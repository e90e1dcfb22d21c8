//! The gateway with ports through DPDK, on drivers of DPDK that need no hardware; every record is checked by its
//! content.

use netns::dpdk::plugin;
use netns::product::until;
use netns::world::{World, number, port, two_armed};
use serde_json::Value;

/// A world whose gateway has no addresses on these interfaces: its ports have them.
fn without_addresses(interfaces: &[&str]) -> Option<World> {
    plugin()?;
    let world = two_armed()?;
    for interface in interfaces {
        world.gateway.ip(&format!("address flush dev {interface}"));
    }
    Some(world)
}

fn device(stats: &Value, id: u64) -> &Value {
    let devices = stats["devices"].as_array().unwrap();
    devices.iter().find(|device| device["port"] == id).unwrap()
}

/// Sends to all slaves, and checks the books.
fn works(world: &World) -> Value {
    world.place.until_registered("gateway", 32);
    world.every_record_comes_back("10.92.1.1", 0..32);
    let stats = world.assert_books_balance();
    for direction in ["down", "up"] {
        let dropped = stats["directions"][direction]["dropped"].as_object().unwrap();
        assert!(dropped.values().all(|count| *count == 0), "{stats:#}");
    }
    stats
}

#[test]
fn af_xdp_on_one_side_and_dpdk_on_the_other() {
    let Some(world) = without_addresses(&["right"]) else { return };
    let right = "dpdk:net_af_packet0,iface=right,ip=10.92.2.1/24";
    let gateway = world.gateway(&format!("--lcores 0 --port left --port {right}"));
    gateway.says(&["port 1: dpdk:net_af_packet0: 1 lcore, net_af_packet in place, 1 queue", "10.92.2.1:9999"]);
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    let stats = works(&world);
    let device = device(&stats, 1);
    assert_eq!(
        (&device["driver"], &device["copies"], &device["link_up"]),
        (&"net_af_packet".into(), &false.into(), &true.into())
    );
    assert!(number(&device["counters"]["rx_good_packets"]) > 0, "{device:#}");
    // The farm's kernel asked who has the address.
    assert!(port(&stats, 1, "arp_replies_tx") > 0 && port(&stats, 1, "rx_packets") > 0);
    assert_eq!(port(&stats, 1, "rx_bad_descriptors") + port(&stats, 1, "rx_copied"), 0);
    // The driver does not know the carrier of the interface under it, but the kernel does.
    let link_up = |up: bool| {
        world.place.until_stats("gateway", "the link", |stats| {
            self::device(stats, 1)["link_up"] == up && port(stats, 1, "link_up") == u64::from(up)
        });
    };
    world.farm.ip("link set dev f down");
    link_up(false);
    gateway.says(&["dpdk:net_af_packet0: the link is down"]);
    world.farm.ip("link set dev f up");
    link_up(true);
    world.drain(gateway);
}

#[test]
fn two_lcores_have_a_queue_of_each_device() {
    let Some(world) = without_addresses(&["left", "right"]) else { return };
    let port_of = |name: &str, ip: &str| format!("--port dpdk:net_af_packet_{name},iface={name},qpairs=2,ip={ip}/24");
    let (left, right) = (port_of("left", "10.92.1.1"), port_of("right", "10.92.2.1"));
    let gateway = world.gateway(&format!("--lcores 0-1 {left} {right}"));
    gateway.says(&["port 0: dpdk:net_af_packet_left: 2 lcores", "spread by its driver"]);
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    let stats = works(&world);
    let lcores = stats["lcores"].as_array().unwrap();
    assert!(lcores.len() == 2 && lcores.iter().all(|lcore| number(&lcore["ports"][1]["counters"]["frames_lent"]) > 0));
    world.drain(gateway);
}

#[test]
fn a_driver_with_memory_of_its_own_copies() {
    let Some(world) = without_addresses(&["left", "right"]) else { return };
    // That driver takes only queues that are for both ways.
    for (host, interface) in
        [(&world.master, "m"), (&world.farm, "f"), (&world.gateway, "left"), (&world.gateway, "right")]
    {
        host.exec(&format!("ethtool -L {interface} rx 1 tx 1"));
    }
    let port_of = |name: &str, ip: &str| format!("--port dpdk:net_af_xdp_{name},iface={name},ip={ip}/24");
    let (left, right) = (port_of("left", "10.92.1.1"), port_of("right", "10.92.2.1"));
    let gateway = world.gateway(&format!("--lcores 0 {left} {right}"));
    gateway.says(&["port 0: dpdk:net_af_xdp_left: 1 lcore, net_af_xdp by copies, as its driver has memory of its own"]);
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    let stats = works(&world);
    let copied = [0, 1].map(|id| port(&stats, id, "rx_copied"));
    assert!(copied.iter().all(|copied| *copied > 100), "{copied:?}");
    world.drain(gateway);
    // The XDP program of the driver is gone, too.
    assert!(!world.gateway.ip("link show dev left").contains("xdp"));
}

/// The driver of tap devices verifies checksums and fills them in, as NICs do.
#[test]
fn a_device_does_the_checksums() {
    let Some(world) = without_addresses(&[]) else { return };
    let gateway = world.gateway("--lcores 0 --port left --port dpdk:net_tap0,iface=tap,ip=10.92.5.1/24");
    gateway.says(&["port 1: dpdk:net_tap0: 1 lcore, net_tap in place"]);
    world.gateway.ip("address add 10.92.5.2/24 dev tap");
    // The device took the kernel's own address of the interface.
    world.gateway.ip("link set dev tap address 02:00:00:00:05:02 up");
    let _farm = world.place.start(
        &world.gateway,
        "gvm-dp slave --name farm --gateway 10.92.5.1 --id 0 --count 32 --port udp:10.92.5.2:0 --frames 2048 \
         --heartbeat 1s",
    );
    let stats = works(&world);
    let device = device(&stats, 1);
    assert!(device["rx_checksums"] == true && device["tx_checksums"] == true, "{device:#}");
    assert_eq!(port(&stats, 1, "rx_dropped_checksum"), 0);
    world.drain(gateway);
}

#[test]
fn a_farm_in_another_process_over_shared_memory() {
    let Some(world) = without_addresses(&["right"]) else { return };
    let socket = world.place.path("memif.sock");
    let memif = |role: &str, ip: &str| {
        let socket = format!("socket={},socket-abstract=no", socket.display());
        format!("dpdk:net_memif0,role={role},id=7,{socket},ip={ip}/24")
    };
    // Masters are behind DPDK, too: two devices in one process.
    world.gateway.ip("address flush dev left");
    let left = "dpdk:net_af_packet0,iface=left,ip=10.92.1.1/24";
    let gateway = world.gateway(&format!("--lcores 0 --port {left} --port {}", memif("server", "10.92.9.1")));
    // The farm asks for its gateway before it knows any neighbour.
    let farm = world.farm("farm", "10.92.9.1", 0, 32, &memif("client", "10.92.9.2"));
    let stats = works(&world);
    assert_eq!(device(&stats, 1)["driver"], "net_memif");
    let farm_stats = world.place.stats("farm");
    let known = device(&farm_stats, 0)["neighbours"].as_array().unwrap();
    assert!(known.iter().any(|one| one["ip"] == "10.92.9.1" && one["mac"].is_string()), "{farm_stats:#}");
    assert!(port(&farm_stats, 0, "neighbours_learned") > 0 && port(&farm_stats, 0, "arp_requests_tx") > 0);
    // The other end goes, and the link goes down.
    drop(farm);
    until("the link to go down", || (device(&world.place.stats("gateway"), 1)["link_up"] == false).then_some(()));
    world.drain(gateway);
}

#[test]
fn pings_are_answered_and_a_gateway_route_is_used() {
    let Some(world) = without_addresses(&["right"]) else { return };
    // The farm is behind a router: its host has another subnet on the same wire, and a route back.
    world.farm.ip("address flush dev f");
    world.farm.ip("address add 10.92.2.254/24 dev f");
    world.farm.ip("address add 10.92.7.2/24 dev lo");
    let right = "dpdk:net_af_packet0,iface=right,ip=10.92.2.1/24,gw=10.92.2.254";
    let gateway = world.gateway(&format!("--lcores 0 --port left --port {right}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.7.2:0");
    works(&world);
    world.drain(gateway);
}

#[test]
fn what_cannot_be_used_says_why() {
    let Some(world) = without_addresses(&["right"]) else { return };
    let refused = |code: i32, line: &str, parts: &[&str]| {
        let complaint = world.place.refused(&world.gateway, code, line);
        assert!(parts.iter().all(|part| complaint.contains(part)), "{line}: {complaint}");
    };
    refused(2, "gvm-dp --port dpdk:net_af_packet0,iface=right", &["no kernel behind it", "add ,ip=10.0.0.2/24"]);
    refused(
        3,
        "gvm-dp --port dpdk:net_af_packet0,iface=no-such,ip=10.92.2.1/24",
        &["dpdk:net_af_packet0", "no driver takes it", "lists drivers"],
    );
    refused(
        3,
        "gvm-dp --port dpdk:net_no_such0,ip=10.92.2.1/24",
        &["dpdk:net_no_such0", "no driver takes it: DPDK has no driver for a device of this name"],
    );
    refused(
        3,
        "gvm-dp --lcores 0-1 --port dpdk:net_af_packet0,iface=right,ip=10.92.2.1/24",
        &["2 lcores", "has 1 queue pairs", "at most 1 cores with --lcores", "more queues"],
    );
    refused(3, "gvm-dp --port dpdk:ffff:ff:1f.7,ip=10.92.2.1/24", &["no such PCI device", "lspci -D"]);
    // The interface with the default route is refused, whatever kind it is.
    world.gateway.ip("route add default via 10.92.1.2 dev left");
    refused(
        3,
        "gvm-dp --port dpdk:net_af_packet0,iface=left,ip=10.92.1.1/24",
        &["left carries this machine's default route", "another card"],
    );
    // Without its plugin.
    let line = format!(
        "env GVM_DP_PLUGIN_DIR={} gvm-dp --port dpdk:net_null0,ip=10.92.2.1/24",
        world.place.directory().display()
    );
    refused(3, &line, &["libgvm_dpdk.so", "gvm-dp-dpdk", "apt-get install", "GVM_DP_PLUGIN_DIR"]);
    world.place.file("libgvm_dpdk.so", "not a library");
    refused(3, &line, &["cannot be loaded"]);
}

#[test]
fn unfinished_checksums_are_named() {
    let Some(world) = without_addresses(&["right"]) else { return };
    world.farm.exec("ethtool -K f tx on");
    let gateway = world.gateway("--lcores 0 --port dpdk:net_af_packet0,iface=right,ip=10.92.2.1/24");
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    gateway.says(&["port 0 (dpdk:net_af_packet0", "unfinished UDP checksum", "`ethtool -K IFACE tx off`"]);
    let stats = world.place.stats("gateway");
    assert!(port(&stats, 0, "rx_dropped_partial_checksum") > 0 && port(&stats, 0, "rx_dropped_checksum") == 0);
    world.farm.exec("ethtool -K f tx off");
    world.place.until_registered("gateway", 8);
    world.drain(gateway);
}
