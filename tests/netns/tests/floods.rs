//! A master that is registered says valid heartbeats as fast as it can: thousands of slaves behind the same gateway stay
//! registered, none of them is even suspect.

use frame::time::{MICROSECOND, SECOND};
use frame::{Peer, PortId, Time};
use link::{ClusterKey, Node, NodeConfig};
use netns::product::Place;
use netns::world::number;
use netns::{Namespace, available};
use rustix::process::Signal;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use wire::link::NodeId;
use wire::{Record, Scale, Walk};

const GATEWAY: &str = "127.0.0.1:9999";
const SLAVES: u32 = 3500;

/// Heartbeats of the flood: 5 s of it where the machine keeps up. `GVM_FLOOD_SECONDS` is for those who measure; the cookie
/// of the master holds for 10.
fn heartbeats() -> u64 {
    let seconds = std::env::var("GVM_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    seconds * 20_000
}

/// A master with a socket, a key and a clock of its own.
struct Master {
    node: Node,
    config: NodeConfig,
    socket: UdpSocket,
    gateway: Peer,
    began: Instant,
}

impl Master {
    fn new(host: &Namespace, key: &ClusterKey) -> Self {
        let address: SocketAddr = GATEWAY.parse().expect("it is an address");
        let socket = host.enter(|| UdpSocket::bind("127.0.0.77:0")).expect("the loopback has all of them");
        socket.connect(address).expect("the loopback is up");
        socket.set_nonblocking(true).expect("a socket can be that");
        let (id, gateway) = (NodeId::master(7), Peer::socket(PortId(0), address));
        let config =
            NodeConfig { interval: SECOND / 4, fixed_port: true, max_ip_packet: 1280, ..NodeConfig::default() };
        let node = Node::new(id, key.node_key(id), gateway, &config, 0);
        Self { node, config, socket, gateway, began: Instant::now() }
    }

    fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }

    /// Says what is due, and hears what has come. Whether something was said.
    fn turn(&mut self) -> bool {
        let (now, mut bytes) = (self.now(), [0; 2048]);
        let said = self.node.transmit(&self.config, now, &mut bytes);
        if let Some(len) = said {
            self.socket.send(&bytes[..len]).expect("the gateway is there");
        }
        while let Ok(len) = self.socket.recv(&mut bytes) {
            for (_, record) in Walk::new(&bytes[..len], Scale::default()).flatten() {
                self.hear(now, &record);
            }
        }
        said.is_some()
    }

    fn hear(&mut self, now: Time, record: &Record<'_>) {
        let gateway = self.gateway;
        // Answers to earlier heartbeats, and MEMBERS, mean nothing to it.
        let _ = self.node.handle(&self.config, now, &gateway, record);
    }
}

#[test]
fn a_master_that_floods_the_registrar_makes_nobody_suspect_or_gone() {
    if !available() {
        return;
    }
    let (place, host) = (Place::new(), Namespace::new());
    let key = ClusterKey::from_bytes([0x42; 32]);
    let file = place.file("cluster.key", &"42".repeat(32));
    let gateway = place.start(&host, &format!("gvm-dp --port udp:{GATEWAY} --frames 8192 --key-file {file}"));
    gateway.says(&["control socket"]);
    let farm = place.start(
        &host,
        &format!(
            "gvm-dp slave --name farm --gateway 127.0.0.1 --id 0 --count {SLAVES} --port udp:127.0.0.2:0 --frames 8192 \
             --cluster-key-file {file}"
        ),
    );
    place.until_registered("gateway", u64::from(SLAVES));

    let mut master = Master::new(&host, &key);
    while !master.node.is_registered() {
        assert!(master.began.elapsed() < Duration::from_secs(60), "the master is not registered");
        master.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = place.stats("gateway");
    // 20,000 a second from now on.
    master.config.interval = 50 * MICROSECOND;
    let (mut said, began) = (0, Instant::now());
    let mut looked = Instant::now();
    while said < heartbeats() {
        said += u64::from(master.turn());
        if looked.elapsed() > Duration::from_millis(500) {
            looked = Instant::now();
            let stats = place.stats("gateway");
            let link = &stats["total"]["link"];
            let (suspect, gone) = (number(&link["slaves_suspect"]), number(&link["nodes_gone"]));
            assert_eq!((suspect, gone), (0, 0), "after {said} heartbeats: {stats:#}");
        }
    }
    let rate = said as f64 / began.elapsed().as_secs_f64();
    let after = place.stats("gateway");
    let count = |stats: &serde_json::Value, set: &str, name: &str| number(&stats["total"][set][name]);
    let more = |set: &str, name: &str| count(&after, set, name) - count(&before, set, name);
    println!(
        "{said} heartbeats, {rate:.0}/s: {} beyond the budget, {} of them dropped, {} read by the registrar, rx_lost {}",
        more("flush", "link_excess_in"),
        more("outbox", "link_dropped_excess"),
        more("link", "heartbeats_in"),
        more("lcore", "rx_lost"),
    );
    assert_eq!((count(&after, "link", "slaves_here"), count(&after, "link", "slaves_suspect")), (u64::from(SLAVES), 0));
    assert_eq!(count(&after, "link", "nodes_gone"), 0, "{after:#}");
    assert!(more("flush", "link_excess_in") > 0, "{after:#}");
    assert_eq!(more("outbox", "link_dropped_mailbox_full"), 0, "{after:#}");
    for process in [farm, gateway] {
        process.signal(Signal::TERM);
        let (code, _, said) = process.wait();
        assert_eq!(code, Some(0), "{said}");
    }
}
