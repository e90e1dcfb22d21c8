//! A registered master sends valid heartbeats as fast as it can. Thousands of slaves behind the same gateway stay
//! registered, and none of them becomes suspect.

use link::{ClusterKey, NodeKey};
use netns::product::Place;
use netns::world::number;
use netns::{Namespace, available};
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmmsg};
use rustix::process::Signal;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use wire::link::{Cookie, Heartbeat, HeartbeatAck, NodeId, SpeedClass};
use wire::{Scale, Walk};

const GATEWAY: &str = "127.0.0.1:9999";
/// Heartbeats a second, if the machine is fast enough.
const RATE: u64 = 20_000;
/// Datagrams in one call of the kernel.
const AT_ONCE: u64 = 64;

/// The number of slaves and the number of heartbeats that the master sends. `GVM_FLOOD=full` is for measurements.
fn sizes() -> (u32, u64) {
    let is_full = std::env::var("GVM_FLOOD").as_deref() == Ok("full");
    if is_full { (10_000, 20 * RATE) } else { (3_500, 3 * RATE) }
}

/// A master that signs by hand, sends many datagrams in one call, and takes each new cookie, so that its heartbeats
/// stay valid.
struct Master {
    socket: UdpSocket,
    key: NodeKey,
    heartbeat: Heartbeat,
    is_registered: bool,
}

impl Master {
    fn new(host: &Namespace, key: &ClusterKey) -> Self {
        let socket = host.enter(|| UdpSocket::bind("127.0.0.77:0")).expect("the loopback has all of them");
        socket.connect(GATEWAY.parse::<SocketAddr>().expect("it is an address")).expect("the loopback is up");
        let node = NodeId::master(7);
        let heartbeat = Heartbeat {
            node,
            fixed_port: true,
            padded: false,
            left: false,
            boot_epoch: 1,
            seq: 0,
            challenge: 1,
            cookie: Cookie::NONE,
            members_generation: 0,
            members_epoch: 0,
            pages_total: 0,
            pages_free: 0,
            domain: 0,
            vcpus: 0,
            max_ip_packet: 1280,
            speed_class: SpeedClass::UNKNOWN,
        };
        Self { socket, key: key.node_key(node), heartbeat, is_registered: false }
    }

    /// Sends this many heartbeats.
    fn say(&mut self, count: u64) {
        let mut datagrams = vec![[0; Heartbeat::RECORD_LEN]; count as usize];
        for datagram in &mut datagrams {
            self.heartbeat.seq += 1;
            self.heartbeat.emit(Some(self.key.as_bytes()), datagram).expect("there is room for one");
        }
        let slices: Vec<_> = datagrams.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
        let mut nothing: Vec<_> = slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<_> =
            slices.iter().zip(&mut nothing).map(|(slice, nothing)| MMsgHdr::new(slice, nothing)).collect();
        let mut left = &mut messages[..];
        while !left.is_empty() {
            let sent = sendmmsg(&self.socket, left, SendFlags::empty()).expect("the gateway is there");
            left = &mut left[sent..];
        }
    }

    /// Reads all answers. It ignores MEMBERS.
    fn hear(&mut self) {
        let mut bytes = [0; 2048];
        while let Ok((len, _)) = recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            let records = Walk::new(&bytes[..len], Scale::default()).flatten();
            for ack in records.filter_map(|(_, record)| HeartbeatAck::parse(&record).ok()) {
                self.heartbeat.cookie = ack.cookie;
                self.is_registered = ack.registered;
            }
        }
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
    let (slaves, heartbeats) = sizes();
    let gateway = place.start(&host, &format!("gvm-dp --port udp:{GATEWAY} --frames 8192 --key-file {file}"));
    gateway.says(&["control socket"]);
    let farm = place.start(
        &host,
        &format!(
            "gvm-dp slave --name farm --gateway 127.0.0.1 --id 0 --count {slaves} --port udp:127.0.0.2:0 --frames 8192 \
             --cluster-key-file {file}"
        ),
    );
    place.until_registered("gateway", u64::from(slaves));

    let (mut master, began) = (Master::new(&host, &key), Instant::now());
    while !master.is_registered {
        assert!(began.elapsed() < Duration::from_secs(60), "the master is not registered");
        master.say(1);
        std::thread::sleep(Duration::from_millis(10));
        master.hear();
    }
    let before = place.stats("gateway");
    let (mut said, began) = (0, Instant::now());
    let mut looked = Instant::now();
    while said < heartbeats {
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as u64;
        let count = due.saturating_sub(said).min(AT_ONCE);
        if count < AT_ONCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        master.say(count);
        said += count;
        master.hear();
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
        "{said} heartbeats, {rate:.0}/s: {} beyond the budget, {} of them dropped, {} read by the registrar, rx_lost \
         {}",
        more("flush", "link_excess_in"),
        more("outbox", "link_dropped_excess"),
        more("link", "heartbeats_in"),
        more("lcore", "rx_lost"),
    );
    assert_eq!((count(&after, "link", "slaves_here"), count(&after, "link", "slaves_suspect")), (u64::from(slaves), 0));
    assert_eq!(count(&after, "link", "nodes_gone"), 0, "{after:#}");
    assert!(more("flush", "link_excess_in") > 0, "{after:#}");
    assert_eq!(more("outbox", "link_dropped_mailbox_full"), 0, "{after:#}");
    for process in [farm, gateway] {
        process.signal(Signal::TERM);
        let (code, _, said) = process.wait();
        assert_eq!(code, Some(0), "{said}");
    }
}
