//! `--static-routes`: generators that cannot register.

use crate::harness::Place;
use std::net::UdpSocket;
use std::time::Duration;
use wire::record::{emit, req_id};
use wire::{MsgType, RecordHeader};

fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn records(ids: std::ops::Range<u32>) -> Vec<u8> {
    let mut datagram = Vec::new();
    for id in ids {
        let mut bytes = [0; 64];
        let header = RecordHeader::new(MsgType(0x8000), id, req_id(1, u64::from(id)), 4);
        let len = emit(&header, &id.to_le_bytes(), &mut bytes).unwrap();
        datagram.extend(&bytes[..len]);
    }
    datagram
}

fn receive(socket: &UdpSocket, mut records: usize, record: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while records > 0 {
        let mut bytes = [0; 2048];
        let len = socket.recv(&mut bytes).unwrap();
        all.extend(&bytes[..len]);
        records -= len / record;
    }
    all
}

#[test]
fn generators_send_both_ways_without_registration() {
    let place = Place::new();
    let ((master, at), (slaves, behind)) = (socket(), socket());
    let text = format!("# two generators\nmaster 1 {at} fixed-port\nslave 0-7 {behind} fixed-port\n");
    let file = place.file("routes", &text, 0o644);
    let (gateway, address) = place.gateway(&["--static-routes", &file]);
    gateway.says(&["STATIC ROUTES: 8 slaves and 1 master from", "routes", "For tests alone"]);

    let sent = records(0..8);
    master.send_to(&sent, address).unwrap();
    // One buffer for each slave: eight datagrams, in the order of the records.
    assert_eq!(receive(&slaves, 8, 27), sent);
    slaves.send_to(&sent[..27], address).unwrap();
    assert_eq!(receive(&master, 1, 27), &sent[..27]);
    // Nobody else is let in.
    socket().0.send_to(&sent[..27], address).unwrap();
    master.send_to(&records(9..10), address).unwrap();
    let down = place.until_stats("gateway", |stats| {
        let dropped = |direction: &str, reason: &str| stats["directions"][direction]["dropped"][reason] == 1;
        dropped("down", "no_route") && dropped("up", "spoofed") && stats["directions"]["down"]["records_out"] == 8
    });

    assert!(down["settings"]["static_routes"].as_str().unwrap().starts_with("8 slaves and 1 master from"));
    assert!(place.ask(&["stats", "--interval", "10ms"]).contains("STATIC ROUTES: 8 slaves and 1 master"));
    let routes: serde_json::Value = serde_json::from_str(&place.ask(&["routes", "--json"])).unwrap();
    assert_eq!((&routes["static"][1]["last"], &routes["static"][1]["address"]), (&7.into(), &behind.clone().into()));
    let table = place.ask(&["routes"]);
    assert!(table.contains("static") && table.contains(&behind), "{table}");
}

/// Who registers under an id with a static route is answered, and its cargo still goes by the route.
#[test]
fn a_static_route_holds_whoever_registers() {
    let place = Place::new();
    let ((master, at), (slaves, behind)) = (socket(), socket());
    let file = place.file("routes", &format!("master 1 {at}\nslave 3 {behind}\n"), 0o644);
    let (_gateway, address) = place.gateway(&["--static-routes", &file]);
    let _slave = place.slave(address, 3, &[]);
    place.until_registered("gateway", 1);
    let sent = records(3..4);
    master.send_to(&sent, address).unwrap();
    assert_eq!(receive(&slaves, 1, 27), sent);
}

#[test]
fn files_that_cannot_be_used_say_where_and_why() {
    let place = Place::new();
    let with = |code: i32, text: &str, more: &[&str]| {
        let file = place.file("routes", text, 0o644);
        let arguments = [&["--port", "udp:127.0.0.1:0", "--static-routes", &file], more].concat();
        place.refused(code, &arguments)
    };
    let complaint = with(2, "slave 1 10.0.0.1\nslave x 10.0.0.1\n  slave 2 nowhere\n", &[]);
    assert!(complaint.contains("routes:2:7: `x` is not a slave's id"), "{complaint}");
    assert!(complaint.contains("routes:3:11: `nowhere` is not an address"), "{complaint}");
    let complaint = with(2, "slave 9000 10.0.0.1\n", &["--shards", "0"]);
    assert!(complaint.contains("routes:1:7: slave 9000 is of a shard that is not served here"), "{complaint}");
    let complaint = with(2, "slave 1 10.0.0.1 mtu=9000\n", &[]);
    assert!(complaint.contains("routes:1:1: mtu=9000: port 0 takes no packets above 1500"), "{complaint}");
    let key = place.directory.join("key");
    place.ask(&["key", "new", "--out", key.to_str().unwrap()]);
    let complaint = with(2, "slave 1 10.0.0.1\n", &["--key-file", key.to_str().unwrap()]);
    assert!(complaint.contains("--static-routes") && complaint.contains("not together with --key-file"), "{complaint}");
    let complaint = place.refused(2, &["--port", "udp:127.0.0.1:0", "--static-routes", "/no/such/file"]);
    assert!(complaint.contains("/no/such/file") && complaint.contains("check the path"), "{complaint}");
}
