//! The real `gvm-dp` on NIC queues between a master and farms: forwarding, start, errors and end.

use ebpf::{Config, Hook, Steer};
use frame::{Peer, Pool, PoolConfig, PortId, Vlan};
use lcore::{Clock, Lcore};
use netns::product::until;
use netns::world::{FRAMES, QUEUES, World, interface, number, one_armed, port, report, two_armed};
use netns::{End, Namespace, join, real_checksums};
use port::Port;
use port::vlans::Vlans;
use port::xdp::{Interface, Umem, XdpConfig, XdpPort, XdpQueues};
use rustix::process::Signal;
use slave::{Farm, FarmConfig, Ids};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[test]
fn two_arms_two_queues_and_two_lcores() {
    let Some(world) = two_armed() else { return };
    let mut gateway = world.gateway("--lcores 0-1 --port xdp:left --port right");
    for (id, name) in [(0, "left"), (1, "right")] {
        let line = gateway.says(&[&format!("port {id}: xdp:{name}: 2 queues on 2 lcores"), "MTU 1500"]);
        assert!(line.contains("copy mode (asked for auto)"), "{line}");
    }
    gateway.says(&["copy mode on all xdp: ports: the driver of left has no zero-copy"]);
    assert!(world.gateway.exec("ethtool -k left").contains("rx-vlan-offload: off"));

    // A flow stays on one queue, which the kernel chooses. So farms are added until both lcores serve some.
    let mut farms = Vec::new();
    let lcores_with_farms = || {
        let stats = world.place.stats("gateway");
        let lcores = stats["lcores"].as_array().unwrap().clone();
        lcores.iter().filter(|lcore| number(&lcore["ports"][1]["counters"]["rx_packets"]) > 0).count()
    };
    while farms.len() < 2 || lcores_with_farms() < 2 {
        let first = farms.len() as u32 * 16;
        assert!(farms.len() < 20, "the kernel puts all flows on one queue");
        farms.push(world.farm(&format!("farm{first}"), "10.92.2.1", first, 16, "udp:10.92.2.2:0"));
        world.place.until_registered("gateway", u64::from(first) + 16);
    }
    let ids = farms.len() as u32 * 16;
    let sent = world.every_record_comes_back("10.92.1.1", 0..ids);

    let stats = world.assert_books_balance();
    for direction in ["down", "up"] {
        let direction = &stats["directions"][direction];
        assert_eq!((number(&direction["records_in"]), number(&direction["records_out"])), (sent, sent));
    }
    let both = [(0, "left"), (1, "right")];
    let stats = world.place.until_stats("gateway", "what the program redirected was received", |stats| {
        both.iter().all(|&(id, name)| {
            let verdict = |verdict: &str| number(&interface(stats, name)["verdicts"][verdict]);
            verdict("redirect_cargo") + verdict("redirect_control") == port(stats, id, "rx_packets")
        })
    });
    for (_, name) in both {
        let interface = interface(&stats, name);
        assert_eq!(interface["mode"], "copy mode");
        assert_eq!(interface["turned_off"], serde_json::json!(["rxvlan"]));
    }
    assert!(stats["lcores"].as_array().unwrap().iter().all(|lcore| number(&lcore["sets"]["up"]["records_in"]) > 0));

    assert!(gateway.is_running());
    world.drain(gateway);
    // Nothing is left behind: no program, and the offload is on again.
    assert!(!world.gateway.ip("link show dev left").contains("xdp"));
    assert!(world.gateway.exec("ethtool -k left").contains("rx-vlan-offload: on"));
}

#[test]
fn one_arm_serves_masters_and_slaves() {
    let Some(world) = one_armed() else { return };
    // One lcore for two queues.
    let gateway = world.gateway("--lcores 0 --port only");
    gateway.says(&["port 0: xdp:only: 2 queues on 1 lcore"]);
    let farm = world.farm("farm", "10.92.3.1", 0, 32, "udp:10.92.3.3:7777");
    world.place.until_registered("gateway", 32);
    let sent = world.every_record_comes_back("10.92.3.1", 0..32);
    // The slaves are killed, and start again where they were.
    farm.signal(Signal::KILL);
    farm.wait();
    let farm = world.farm("farm", "10.92.3.1", 0, 32, "udp:10.92.3.3:7777");
    farm.says(&["control socket"]);
    world.place.until_registered("farm", 32);
    let sent = sent + world.every_record_comes_back("10.92.3.1", 0..32);
    let stats = world.assert_books_balance();
    assert_eq!(number(&stats["directions"]["up"]["records_out"]), sent);
    // Packets that are not ours stay with the kernel.
    let listener = world.gateway.enter(|| TcpListener::bind("10.92.3.1:22").unwrap());
    world.master.enter(|| TcpStream::connect("10.92.3.1:22").unwrap());
    drop(listener);
    world.drain(gateway);
}

#[test]
fn sockets_and_queues_side_by_side_and_a_slave_on_queues() {
    let Some(world) = two_armed() else { return };
    // The first address of the gateway is not in the farm's network. The route to it goes over a router, which is the
    // gateway's other address. The slave finds the router in the kernel's tables, and asks for its Ethernet address.
    world.gateway.ip("address flush dev right");
    world.gateway.ip("address add 10.92.9.1/32 dev right");
    world.gateway.ip("address add 10.92.2.1/24 dev right");
    world.farm.ip("route add default via 10.92.2.1");
    real_checksums(&End { namespace: &world.gateway, name: "left", address: "" });
    let gateway = world.gateway("--port udp:10.92.1.1:9999 --port xdp:right");
    gateway.says(&["port 0: udp:10.92.1.1:9999"]);
    gateway.says(&["port 1: xdp:right", "10.92.9.1:9999"]);
    let farm = world.farm("farm", "10.92.9.1", 0, 8, "xdp:f");
    farm.says(&["port 0: xdp:f: 2 queues on 1 lcore"]);
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);
    world.assert_books_balance();
    let stats = world.place.stats("farm");
    assert!(port(&stats, 0, "rx_packets") > 0 && port(&stats, 0, "tx_packets") > 0);
    world.drain(gateway);
}

#[test]
fn a_drain_under_load_loses_nothing_that_came_in() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--port left --port right");
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 32);
    let load = world.pktgen("10.92.1.1", 0..32, "--rate 4000 --seconds 3 --allow-loss");
    until("load", || (number(&world.place.stats("gateway")["directions"]["up"]["records_out"]) > 1000).then_some(()));
    let said = world.drain(gateway);
    assert!(said.contains("down: ") && said.contains("up: "), "{said}");
    let (code, printed, _) = load.wait();
    assert_eq!(code, Some(0), "{printed}");
    let report = report(&printed);
    assert_eq!(number(&report["echo"]["corrupted"]) + number(&report["echo"]["duplicate"]), 0, "{report}");
}

#[test]
fn a_killed_gateway_is_whole_again_without_anybody_cleaning_up() {
    let Some(world) = two_armed().map(|world| world.with_heartbeat(2)) else { return };
    let arguments = "--lcores 0-1 --port left --port right";
    const RATE: u64 = 2000;
    let gateway = world.gateway(arguments);
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 32);
    let load = world.pktgen("10.92.1.1", 0..32, &format!("--rate {RATE} --seconds 16 --allow-loss"));
    let records = || number(&world.place.stats("gateway")["directions"]["up"]["records_out"]);
    until("load", || (records() > 500).then_some(()));

    let killed = Instant::now();
    gateway.signal(Signal::KILL);
    let (code, ..) = gateway.wait();
    assert_eq!(code, None);
    let gateway = world.gateway(arguments);
    world.place.until_registered("gateway", 32);
    until("traffic", || (records() > 500).then_some(()));
    let outage = killed.elapsed().as_secs_f64();

    let (code, printed, said) = load.wait();
    assert_eq!(code, Some(0), "{printed}\n{said}");
    let report = report(&printed);
    let lost = number(&report["echo"]["lost"]);
    // The records in rings, those that were held, and those that came meanwhile.
    let bound = 2 * FRAMES + (outage * RATE as f64) as u64;
    assert!(lost <= bound, "{lost} lost, at most {bound} expected: {report}");
    assert_eq!(number(&report["echo"]["corrupted"]), 0, "{report}");
    world.every_record_comes_back("10.92.1.1", 0..32);
    world.assert_books_balance();
    world.drain(gateway);
}

#[test]
fn an_interface_that_vanishes_or_goes_down_takes_nothing_with_it() {
    let Some(world) = two_armed() else { return };
    let mut gateway = world.gateway("--port left --port right");
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 32);
    world.every_record_comes_back("10.92.1.1", 0..32);

    // Down and up again: the same sockets go on.
    world.gateway.ip("link set dev right down");
    gateway.says(&["xdp:right queue", "the interface is down"]);
    until("link down", || (port(&world.place.stats("gateway"), 1, "link_up") == 0).then_some(()));
    world.gateway.ip("link set dev right up");
    until("link up", || (port(&world.place.stats("gateway"), 1, "link_up") == u64::from(QUEUES)).then_some(()));
    world.place.until_registered("gateway", 32);
    world.every_record_comes_back("10.92.1.1", 0..32);

    let load = world.pktgen("10.92.1.1", 0..32, "--rate 4000 --seconds 50 --allow-loss");
    let before = number(&world.place.stats("gateway")["directions"]["up"]["records_out"]);
    until("load", || {
        (number(&world.place.stats("gateway")["directions"]["up"]["records_out"]) > before + 1000).then_some(())
    });
    world.gateway.ip("link delete dev right");
    gateway.says(&["xdp:right queue", "the interface has vanished"]);
    until("the end of both queues", || {
        (port(&world.place.stats("gateway"), 1, "vanished") == u64::from(QUEUES)).then_some(())
    });
    until("drops that are counted", || {
        (port(&world.place.stats("gateway"), 1, "tx_dropped_link_down") > 0).then_some(())
    });
    drop(load);
    assert!(gateway.is_running());
    let stats = world.assert_books_balance();
    assert_eq!(port(&stats, 1, "rx_frames") + port(&stats, 1, "tx_frames"), 0);
    assert!(number(&stats["directions"]["down"]["dropped"]["tx"]) > 0, "{stats:#}");
    world.drain(gateway);
}

#[test]
fn what_cannot_be_is_refused_with_the_remedy() {
    let Some(world) = two_armed() else { return };
    let refused = |code: i32, line: &str, parts: &[&str]| {
        let complaint = world.place.refused(&world.gateway, code, line);
        assert!(parts.iter().all(|part| complaint.contains(part)), "{line} does not say {parts:?}: {complaint}");
    };
    refused(3, "gvm-dp --port xdp:eth99", &["no interface `eth99`", "ip -brief link"]);
    refused(3, "gvm-dp --port xdp:left,mode=zc", &["left cannot do AF_XDP zero-copy"]);
    refused(3, "gvm-dp --port xdp:left,queues=1", &["left has 2 receive queues", "`ethtool -L left combined 1`"]);
    refused(2, "gvm-dp --port left --port xdp:left", &["left is named twice"]);
    refused(2, "gvm-dp --port xdp:left,mode=zc --port xdp:right,mode=copy", &["one choice for both"]);
    world.gateway.exec("ethtool -L right rx 1 tx 1");
    refused(
        3,
        "gvm-dp --lcores 0-1 --port left --port right",
        &["right has 1 receive queues", "`ethtool -L right combined 2`"],
    );
    for (without, name) in [
        ("net_raw", "CAP_NET_RAW"),
        ("net_admin", "CAP_NET_ADMIN"),
        ("bpf,-sys_admin", "CAP_BPF"),
        ("perfmon,-sys_admin", "CAP_PERFMON"),
    ] {
        let line = format!("setpriv --bounding-set=-{without} --inh-caps=-{without} gvm-dp --port left");
        refused(
            3,
            &line,
            &[&format!("lacks {name}"), "setcap cap_net_admin,cap_net_raw,cap_bpf", "AmbientCapabilities="],
        );
    }
    world.gateway.ip("link set dev left mtu 300");
    refused(3, "gvm-dp --port left", &["the MTU of left is 300, too small", "mtu 1500"]);
    world.gateway.ip("link set dev left mtu 40000");
    refused(3, "gvm-dp --port left", &["the MTU of left is 40000", "holds at most 32000", "mtu 32000"]);
    world.gateway.ip("link set dev left mtu 1500");
    world.gateway.ip("address flush dev left");
    refused(3, "gvm-dp --port left", &["left has no IPv4 address", "ip address add"]);
    world.gateway.ip("address add 10.92.1.1/24 dev left");
    // No refused start left anything behind. Of two gateways on one interface, the second one names the first one in
    // its error.
    let first = world.gateway("--name first --port left");
    refused(4, "gvm-dp --name second --port left", &["interface left has the XDP program", "of process gvm-dp (pid "]);
    world.drain(first);
}

#[test]
fn cargo_of_another_shard_goes_on_to_its_gateway() {
    let Some(world) = two_armed() else { return };
    // A link between the first gateway and the second, on the slaves' side.
    let second = Namespace::new();
    let other = End { namespace: &second, name: "other", address: "10.92.4.2/24" };
    let across = End { namespace: &world.gateway, name: "across", address: "10.92.4.1/24" };
    join(&across, &other, QUEUES);
    let mac = second.enter(|| Interface::find("other").unwrap().mac.map(|byte| format!("{byte:02x}")).join(":"));
    let neighbor = format!("1=across,ip=10.92.4.2,mac={mac}");
    let here = world.gateway(&format!("--shards 0 --port left --port across --neighbor {neighbor}"));
    let there = world.place.start(&second, "gvm-dp gateway --name there --shards 1 --port other");
    there.says(&["gateway \"there\""]);

    // One record to the last slave of shard 0, two to the first of shard 1, one to a shard that nobody serves.
    let scale = wire::Scale::default();
    let shard = 1 << scale.gw_bits();
    let send = |ids: &[u32]| {
        world.master.enter(|| {
            let socket = UdpSocket::bind("10.92.1.2:0").unwrap();
            for &id in ids {
                let header = wire::RecordHeader::new(wire::MsgType(0x8000), id, 0, 4);
                let mut bytes = [0; 64];
                let len = wire::record::emit(&header, b"abcd", &mut bytes).unwrap();
                socket.send_to(&bytes[..len], "10.92.1.1:9999").unwrap();
            }
        })
    };
    send(&[shard - 1, shard, shard, 2 * shard]);
    let delivered = |count: u64| {
        world.place.until_stats("there", "delivery", |stats| {
            number(&interface(stats, "other")["verdicts"]["redirect_cargo"]) == count
        });
    };
    delivered(2);
    world.place.until_stats("gateway", "all four records", |stats| {
        let verdicts = &interface(stats, "left")["verdicts"];
        ["redirect_cargo", "redirect_neighbor", "drop_foreign_shard"].map(|name| number(&verdicts[name])) == [1, 2, 1]
    });
    // No slave is registered there, so the second gateway drops the records. Each is in its counter, and none is
    // missing. The packets are whole, and their checksums are right.
    let stats = world.place.until_stats("there", "the books", |stats| {
        let records = ["down", "up"].map(|name| number(&stats["directions"][name]["records_in"]));
        records.iter().sum::<u64>() == 2
    });
    for counter in ["rx_dropped_checksum", "rx_dropped_partial_checksum", "rx_dropped_malformed"] {
        assert_eq!(port(&stats, 0, counter), 0, "{counter}");
    }
    // The interface that leads there has another Ethernet address now.
    world.gateway.ip("link set dev across address 02:00:00:00:92:04");
    here.says(&["left: cargo of shard 1 goes by across as it is now"]);
    send(&[shard]);
    // The packet came from the new Ethernet address.
    delivered(3);
    world.drain(there);
    assert!(world.place.stats("gateway")["settings"]["neighbors"].as_str().unwrap().starts_with("1=across"));
    world.drain(here);
}

/// A farm on the queues of an interface of this thread's namespace, which talks to its gateway with an 802.1Q tag.
fn tagged_farm(ifname: &str, gateway: [u8; 4], mac: [u8; 6], vid: u16, count: u32, running: &AtomicBool) {
    let scale = wire::Scale::default();
    let pool = Pool::new(PoolConfig { frames: 2048, ..PoolConfig::default() }).unwrap();
    let umem = Umem::new(&pool).unwrap();
    let interface = Interface::find(ifname).unwrap();
    let (shards, vlans) = (wire::ShardSet::all(scale), Arc::new(Vlans::ANY));
    let mut steer = Steer::load(&Config { vlans: *vlans.words(), ..Config::new(&shards) }).unwrap();
    steer.attach(ifname, Hook::Driver).unwrap();
    steer.set_addresses(&[interface.ipv4.unwrap().into()]).unwrap();
    let open = |queue| {
        let vlans = Arc::clone(&vlans);
        let config = XdpConfig { ring: 256, vlans, ..XdpConfig::of(&interface, queue).unwrap() };
        XdpPort::open(PortId(0), config, &umem).unwrap()
    };
    let (first, others) = (open(0), (1..QUEUES).map(open).collect());
    let queues = XdpQueues::new(first, others).unwrap();
    for (queue, port) in (0..).zip(queues.iter()) {
        steer.set_socket(queue, port.poll_fd().unwrap()).unwrap();
    }
    let peer = Peer::ipv4(PortId(0), gateway, wire::GATEWAY_PORT, Vlan::tagged(vid), mac);
    let config = FarmConfig::new(peer, Ids::range(scale, 0, count).unwrap());
    let clock = Clock::start();
    let farm = Farm::new(config, clock.now(), |_| ()).unwrap();
    let (_commands, mailbox) = lcore::mailbox::mailbox(16).unwrap();
    let mut lcore = Lcore::new(0, farm, vec![queues], pool, mailbox, None);
    while running.load(Ordering::Relaxed) {
        if lcore.poll_once(clock.now()).is_empty() {
            std::thread::yield_now();
        }
    }
    assert!(lcore.conservation().holds(), "{:?}", lcore.conservation());
}

/// Runs a test beside a farm that speaks with the tag of VLAN 7 to the gateway's second port.
fn beside_a_tagged_farm(world: &World, test: impl FnOnce()) {
    let mac = world.gateway.enter(|| Interface::find("right").unwrap().mac);
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let farm = scope.spawn(|| world.farm.enter(|| tagged_farm("f", [10, 92, 2, 1], mac, 7, 16, &running)));
        let test = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        running.store(false, Ordering::Relaxed);
        farm.join().unwrap();
        test.unwrap();
    });
}

#[test]
fn slaves_behind_a_tag_are_answered_in_kind() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--port left --port xdp:right,vlans=0+7");
    gateway.says(&["port 1: xdp:right", "VLANs 0+7"]);
    beside_a_tagged_farm(&world, || {
        world.place.until_registered("gateway", 16);
        world.every_record_comes_back("10.92.1.1", 0..16);
    });
    world.assert_books_balance();
    let stats = world.place.stats("gateway");
    assert_eq!(number(&interface(&stats, "right")["verdicts"]["drop_vlan"]), 0);
    world.drain(gateway);
}

#[test]
fn a_vlan_that_is_not_served_is_refused_by_name() {
    let Some(world) = two_armed() else { return };
    for (port, vlans) in [("right", "0"), ("xdp:right,vlans=8", "8")] {
        let gateway = world.gateway(&format!("--port left --port {port}"));
        beside_a_tagged_farm(&world, || {
            gateway.says(&[
                "port 1 (xdp:right): dropped datagrams of a VLAN that it does not serve",
                "xdp:eth1,vlans=0+10",
            ]);
        });
        let stats = world.place.stats("gateway");
        let interface = interface(&stats, "right");
        assert_eq!(interface["vlans"], vlans);
        assert!(number(&interface["verdicts"]["drop_vlan"]) > 0, "{interface}");
        // The registrar got none of them: they were neither registered nor refused.
        assert_eq!(stats["membership"]["registered"], 0);
        assert_eq!(stats["total"]["link"]["heartbeats_accepted"], 0);
        world.drain(gateway);
    }
}

#[test]
fn unfinished_checksums_are_named_by_both_ends() {
    let Some(world) = two_armed() else { return };
    let unfinished = |on: bool| {
        let state = if on { "on" } else { "off" };
        world.farm.exec(&format!("ethtool -K f tx {state}"));
        world.gateway.exec(&format!("ethtool -K right tx {state}"));
    };
    unfinished(true);
    let remedy = ["unfinished UDP checksum", "`ethtool -K IFACE tx off`"];
    let gateway = world.gateway("--port right");
    let farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    gateway.says(&[&["port 0 (xdp:right"], &remedy[..]].concat());
    farm.says(&["no answer from the gateway", "`ethtool -K IFACE tx off` here"]);
    let stats = world.place.stats("gateway");
    assert!(port(&stats, 0, "rx_dropped_partial_checksum") > 0 && port(&stats, 0, "rx_dropped_checksum") == 0);
    unfinished(false);
    world.place.until_registered("gateway", 8);
    world.drain(gateway);
    drop(farm);

    // The other case: the node is on queues, and its gateway on a socket.
    unfinished(true);
    let gateway = world.gateway("--port udp:10.92.2.1:9999");
    let farm = world.farm("farm", "10.92.2.1", 0, 8, "xdp:f");
    farm.says(&[&["port 0 (xdp:f"], &remedy[..]].concat());
    unfinished(false);
    world.place.until_registered("gateway", 8);
    world.drain(gateway);
}

/// Any user's socket on the gateway's host has the gateway's address.
#[test]
fn a_user_of_the_gateways_host_cannot_send_in_its_name_from_another_port() {
    let Some(world) = two_armed() else { return };
    let mut question = [0; wire::HEADER_LEN];
    wire::record::emit(&wire::RecordHeader::new(wire::MsgType::ECHO, 3, 7, 0), &[], &mut question).unwrap();
    for (port, is_raw) in [("xdp:right", true), ("udp:10.92.2.1:9999", false)] {
        let gateway = world.gateway(&format!("--port {port}"));
        let farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:7777");
        world.place.until_registered("gateway", 8);
        let counted = |name: &str| number(&world.place.stats("farm")["total"]["farm"][name]);
        let (mut refused, mut replied) = (counted("refused_source"), counted("echo_replied"));
        // A port that no gateway uses, the lane of slave 4, and the lane of slave 3.
        for (source, is_taken) in [(40_000, false), (wire::lane_port(4), false), (wire::lane_port(3), is_raw)] {
            world.gateway.enter(|| {
                let socket = UdpSocket::bind(("10.92.2.1", source)).unwrap();
                socket.send_to(&question, "10.92.2.2:7777").unwrap();
            });
            *if is_taken { &mut replied } else { &mut refused } += 1;
            let expected = (refused, replied);
            until("the farm hears it", || {
                ((counted("refused_source"), counted("echo_replied")) == expected).then_some(())
            });
        }
        drop(farm);
        world.drain(gateway);
    }
}
