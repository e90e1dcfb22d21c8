//! The kernel drops packets all the time before a real gateway gets them. A slave that dies is still declared gone, and
//! its next start gets the id at another address.

use netns::product::{Place, Process};
use netns::world::{number, port};
use netns::{End, Namespace, join, real_checksums};
use rustix::net::{AddressFamily, RawProtocol, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use rustix::process::Signal;
use serde_json::Value;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::net::{UdpSpec, emit_udp4, headers_len, udp_checksum};
use wire::{MsgType, RecordHeader};

/// A thread that sends the same packet again and again until this value is dropped.
struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    fn begin(mut send: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let body = move || {
            while !stopped.load(Ordering::Acquire) {
                send();
                // A steady rate, so that the last dropped packet is always recent.
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        Self { stop, thread: Some(std::thread::spawn(body)) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One record of cargo that has this many bytes with its header.
fn record(len: usize) -> Vec<u8> {
    let payload = vec![0; len - wire::HEADER_LEN];
    let header = RecordHeader::new(MsgType::ECHO, 1, 1 << 48, payload.len() as u32);
    let mut bytes = vec![0; len];
    wire::record::emit(&header, &payload, &mut bytes).expect("there is room");
    bytes
}

/// An IP packet with a datagram whose UDP checksum is wrong. It is so long that the kernel verifies the checksum when
/// the datagram is read, and so counts it at the socket.
fn damaged(to: [u8; 4]) -> Vec<u8> {
    let (from, payload) = ([127, 0, 0, 99], record(142));
    let right = udp_checksum(from, to, 1234, wire::GATEWAY_PORT, &payload);
    let spec = UdpSpec {
        vlan: None,
        src_mac: [0; 6],
        dst_mac: [0; 6],
        src_ip: from,
        dst_ip: to,
        src_port: 1234,
        dst_port: wire::GATEWAY_PORT,
        ecn: 0,
        // Zero would mean that there is no checksum.
        checksum: (right ^ 0x5555).max(1),
    };
    let headers = headers_len(false);
    let mut frame = vec![0; headers + payload.len()];
    frame[headers..].copy_from_slice(&payload);
    emit_udp4(&spec, payload.len(), &mut frame[..headers]).expect("it can be sent");
    frame.split_off(14)
}

/// A farm of four, at an address of the gateway's network with this last byte. All but the first have the same ids.
fn farm(place: &Place, host: &Namespace, gateway: &str, name: &str, last: u8) -> Process {
    let network = gateway.strip_suffix('1').expect("the gateway has the first address");
    let first = if name == "first" { 0 } else { 4 };
    place.start(
        host,
        &format!(
            "gvm-dp slave --name {name} --gateway {gateway} --id {first} --count 4 --port udp:{network}{last}:0 \
             --frames 512 \
             --heartbeat 300ms"
        ),
    )
}

/// Checks that the membership follows slaves that die and start again, while this counter of the gateway's port grows
/// all the time.
fn membership_is_followed(
    place: &Place,
    gateway: Process,
    counter: &str,
    begin: impl FnOnce() -> Stream,
    farm: impl Fn(&str, u8) -> Process,
) {
    let _first = farm("first", 2);
    let dies = farm("dies", 3);
    place.until_registered("gateway", 8);

    let stream = begin();
    let dropped = |stats: &Value| port(stats, 0, counter);
    let before = place.until_stats("gateway", "dropped packets", |stats| dropped(stats) > 10);
    dies.signal(Signal::KILL);
    dies.wait();
    // Half of all slaves die at once, so that they are suspect first.
    place.until_stats("gateway", "the dead are gone", |stats| {
        number(&stats["total"]["link"]["nodes_gone"]) >= 4 && stats["membership"]["registered"] == 4
    });

    let again = farm("again", 4);
    again.says(&["control socket"]);
    place.until_registered("again", 4);
    again.signal(Signal::KILL);
    again.wait();
    // A start at another address while the one before is still registered.
    let elsewhere = farm("elsewhere", 5);
    elsewhere.says(&["control socket"]);
    place.until_registered("elsewhere", 4);
    let after = place.until_stats("gateway", "all the time", |stats| dropped(stats) > dropped(&before) + 10);
    assert_eq!(number(&after["lcores"][0]["sets"]["lcore"]["rx_lost"]), 0, "{after:#}");
    assert_eq!(number(&after["total"]["link"]["doubt_ended"]), 0, "nothing was in doubt: {after:#}");

    drop(stream);
    gateway.signal(Signal::TERM);
    let (code, _, said) = gateway.wait();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn datagrams_with_wrong_checksums_excuse_nobodys_silence() {
    if !netns::available() {
        return;
    }
    let (place, host) = (Place::new(), Namespace::new());
    let gateway = place.start(&host, "gvm-dp --port udp:127.0.0.1:9999 --frames 1024 --heartbeat 300ms");
    gateway.says(&["control socket"]);
    let farm = |name: &str, last: u8| farm(&place, &host, "127.0.0.1", name, last);
    let begin = || {
        // Protocol 255: the packet has its own IP header.
        let protocol = RawProtocol::new(255).map(rustix::net::Protocol::from_raw);
        let raw = || socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, protocol);
        let socket = host.enter(raw).expect("root may have a raw socket");
        let packet = damaged([127, 0, 0, 1]);
        Stream::begin(move || {
            let to = SocketAddrV4::new([127, 0, 0, 1].into(), 0);
            sendto(&socket, &packet, SendFlags::empty(), &to).expect("the loopback is up");
        })
    };
    membership_is_followed(&place, gateway, "rx_dropped_checksum", begin, farm);
}

#[test]
fn packets_too_long_for_a_frame_excuse_nobodys_silence() {
    if !netns::available() {
        return;
    }
    let (place, host, others) = (Place::new(), Namespace::new(), Namespace::new());
    let g = End { namespace: &host, name: "g", address: "10.94.1.1/24" };
    let f = End { namespace: &others, name: "f", address: "10.94.1.2/24" };
    join(&g, &f, 1);
    real_checksums(&f);
    for last in 3..6 {
        others.ip(&format!("address add 10.94.1.{last}/24 dev f"));
    }
    let gateway = place.start(&host, "gvm-dp --port xdp:g,mode=skb --frames 2048 --heartbeat 300ms");
    gateway.says(&["port 0: xdp:g", "MTU 1500"]);
    gateway.says(&["gateway \"", "control socket"]);
    let farm = |name: &str, last: u8| farm(&place, &others, "10.94.1.1", name, last);
    let begin = || {
        // A kernel sends such packets when it leaves several datagrams together (GSO) on a link inside one machine.
        host.ip("link set dev g mtu 9000");
        others.ip("link set dev f mtu 9000");
        let socket = others.enter(|| UdpSocket::bind("10.94.1.2:0")).expect("it has that address");
        let long = record(4000);
        Stream::begin(move || {
            socket.send_to(&long, "10.94.1.1:9999").expect("the link is up");
        })
    };
    membership_is_followed(&place, gateway, "rx_dropped_too_long", begin, farm);
}
