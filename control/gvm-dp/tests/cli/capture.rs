//! `gvm-dp capture` on real processes over loopback UDP: what is in the file is what went by.

use crate::api::{self, request};
use crate::harness::{Place, Process, text, until};
use crate::master::Master;
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use wire::net::{UdpFrame, parse_udp4, verify_udp4};
use wire::{MsgType, RecordHeader, Scale, Walk};

/// A packet of a capture file.
pub(crate) struct Packet {
    pub interface: u32,
    pub received: bool,
    pub nanoseconds: u64,
    pub len: usize,
    pub frame: Vec<u8>,
}

/// A capture file, read.
#[derive(Default)]
pub(crate) struct Capture {
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    pub packets: Vec<Packet>,
    /// Of each interface: received, dropped, accepted, delivered.
    pub statistics: BTreeMap<u32, [u64; 4]>,
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn options(mut bytes: &[u8]) -> BTreeMap<usize, Vec<u8>> {
    let mut options = BTreeMap::new();
    while bytes.len() >= 4 && u16_at(bytes, 0) != 0 {
        let len = u16_at(bytes, 2);
        options.insert(u16_at(bytes, 0), bytes[4..4 + len].to_vec());
        bytes = &bytes[4 + len.next_multiple_of(4)..];
    }
    options
}

impl Capture {
    /// Reads a whole file; panics when it is not whole.
    pub(crate) fn read(mut bytes: &[u8]) -> Self {
        let mut capture = Self::default();
        assert_eq!(u32_at(bytes, 0), 0x0a0d_0d0a, "a section comes first");
        while !bytes.is_empty() {
            let len = u32_at(bytes, 4) as usize;
            let block = &bytes[..len];
            assert_eq!(u32_at(block, len - 4) as usize, len);
            match u32_at(block, 0) {
                1 => {
                    let options = options(&block[16..len - 4]);
                    assert_eq!(options[&9], [9], "nanoseconds");
                    capture.interfaces.push(text(&options[&2]));
                }
                6 => {
                    let captured = u32_at(block, 20) as usize;
                    let options = options(&block[28 + captured.next_multiple_of(4)..len - 4]);
                    capture.packets.push(Packet {
                        interface: u32_at(block, 8),
                        received: u32_at(&options[&2], 0) == 1,
                        nanoseconds: u64::from(u32_at(block, 12)) << 32 | u64::from(u32_at(block, 16)),
                        len: u32_at(block, 24) as usize,
                        frame: block[28..28 + captured].to_vec(),
                    });
                }
                5 => {
                    let options = options(&block[20..len - 4]);
                    let count = |number| u64::from_le_bytes(options[&number].as_slice().try_into().unwrap());
                    capture.statistics.insert(u32_at(block, 8), [4, 5, 6, 8].map(count));
                }
                _ => {}
            }
            bytes = &bytes[len..];
        }
        assert_eq!(capture.statistics.len(), capture.interfaces.len(), "each interface closes its account");
        capture
    }

    /// A file.
    pub(crate) fn of(path: &PathBuf) -> Self {
        Self::read(&std::fs::read(path).unwrap())
    }
}

impl Packet {
    /// Headers, whose checksums are right.
    pub(crate) fn headers(&self) -> UdpFrame {
        let headers = parse_udp4(&self.frame).unwrap();
        assert!(verify_udp4(&self.frame, &headers), "a real UDP checksum");
        headers
    }

    /// Headers of its records, of which all are whole.
    pub(crate) fn records(&self) -> Vec<RecordHeader> {
        let headers = parse_udp4(&self.frame).unwrap();
        let records = Walk::new(&self.frame[headers.payload], Scale::default());
        records.map(|record| *record.unwrap().1.header()).collect()
    }

    /// Headers of its records up to what is none.
    pub(crate) fn readable_records(&self) -> Vec<RecordHeader> {
        let headers = parse_udp4(&self.frame).unwrap();
        let records = Walk::new(&self.frame[headers.payload], Scale::default());
        records.map_while(Result::ok).map(|(_, record)| *record.header()).collect()
    }
}

/// A gateway with a farm of eight and a master.
pub(crate) fn cluster(place: &Place, more: &[&str]) -> (Process, SocketAddr, Process, Master) {
    let (gateway, address) = place.gateway(more);
    let farm = place.slave(address, 0, &["--count", "8", "--name", "farm"]);
    place.until_registered("gateway", 8);
    let master = Master::register(1, address);
    until("the master at the gateway", || (place.stats("gateway")["membership"]["masters"] == 1).then_some(()));
    (gateway, address, farm, master)
}

/// Begins to capture into a file.
pub(crate) fn record_to(place: &Place, of: &Process, name: &str, more: &[&str]) -> (Process, PathBuf) {
    let path = place.directory.join(format!("{name}.pcapng"));
    let mut arguments = vec!["capture", "--name", name, "-w", path.to_str().unwrap()];
    arguments.extend(more);
    let begun = || of.said().matches("capture begins").count();
    let before = begun();
    let client = place.start(&arguments);
    until("the capture's beginning", || (begun() > before).then_some(()));
    (client, path)
}

pub(crate) fn echo(master: &mut Master, slaves: &[u32]) {
    master.answered.clear();
    master.echo(slaves, 0);
    until("all answers", || {
        master.poll();
        (master.answered.len() == slaves.len()).then_some(())
    });
}

#[test]
fn every_record_is_in_the_file_on_its_way_in_and_out() {
    let place = Place::new();
    let lcores = if std::thread::available_parallelism().map_or(1, usize::from) >= 2 { "0-1" } else { "0" };
    let (gateway, address, farm, mut master) = cluster(&place, &["--lcores", lcores]);
    let (client, path) = record_to(&place, &gateway, "gateway", &["--filter", "cargo"]);
    let slaves: Vec<u32> = (0..32).map(|number| number % 8).collect();
    echo(&mut master, &slaves);
    client.signal(Signal::INT);
    client.says(&["gateway: ", "datagrams captured, 0 dropped for want of room"]);
    assert_eq!(client.wait(), Some(0));
    gateway.says(&["capture ends, told to"]);

    let capture = Capture::of(&path);
    assert_eq!(capture.interfaces[0], "port0-lcore0");
    let mut seen: BTreeMap<(bool, u16), Vec<u64>> = BTreeMap::new();
    for packet in &capture.packets {
        let headers = packet.headers();
        let records = packet.records();
        let (own, peer) = match packet.received {
            true => ((headers.dst_ip, headers.dst_port), headers.src_port),
            false => ((headers.src_ip, headers.src_port), headers.dst_port),
        };
        assert_eq!(own, ([127, 0, 0, 1], address.port()));
        let down = records[0].msg_type() == MsgType::ECHO;
        let expected = if down == packet.received { master.address().port() } else { farm.address().port() };
        assert_eq!(peer, expected);
        assert_eq!(packet.len, packet.frame.len());
        for record in records {
            let requests = seen.entry((packet.received, record.msg_type().0)).or_default();
            requests.push(record.req_id() & 0xffff_ffff_ffff);
        }
    }
    for ((received, msg_type), requests) in &mut seen {
        requests.sort_unstable();
        assert_eq!(*requests, (0..32).collect::<Vec<_>>(), "{received} {msg_type:#x}");
    }
    let ways: Vec<_> = seen.keys().copied().collect();
    assert_eq!(ways, [(false, 0x10), (false, 0x11), (true, 0x10), (true, 0x11)]);
    assert!(capture.packets.is_sorted_by_key(|packet| packet.nanoseconds), "in the order of time");
    for (interface, [received, dropped, accepted, delivered]) in capture.statistics {
        let packets = capture.packets.iter().filter(|packet| packet.interface == interface).count() as u64;
        assert_eq!((dropped, accepted, delivered), (0, packets, packets), "interface {interface}");
        assert!(received >= accepted);
    }
}

#[test]
fn filters_directions_and_limits_choose() {
    let place = Place::new();
    let (gateway, _, farm, mut master) = cluster(&place, &[]);
    let more = ["--filter", "slave 3 and down", "--direction", "rx", "--snaplen", "23", "--count", "2"];
    let (client, path) = record_to(&place, &gateway, "gateway", &more);
    echo(&mut master, &[1, 2]);
    // The masters are known to the filter a moment after the capture began.
    until("two datagrams", || {
        echo(&mut master, &[3, 4]);
        gateway.said().contains("capture ends, as many as were asked for").then_some(())
    });
    assert_eq!(client.wait(), Some(0));
    let capture = Capture::of(&path);
    assert_eq!(capture.packets.len(), 2);
    for packet in &capture.packets {
        assert!(packet.received);
        assert_eq!((packet.frame.len(), packet.len), (14 + 20 + 8 + 23, 14 + 20 + 8 + 78), "cut, and its length kept");
        let headers = parse_udp4(&packet.frame);
        assert!(headers.is_err(), "the IP packet says how long it was");
        assert_eq!(packet.frame[42 + 6], 3, "the first record is for slave 3");
    }

    // A slave knows which way cargo goes by itself.
    let (client, path) = record_to(&place, &farm, "farm", &["--filter", "up and type echo_reply", "--count", "1"]);
    echo(&mut master, &[5]);
    assert_eq!(client.wait(), Some(0));
    let capture = Capture::of(&path);
    assert_eq!(capture.packets.len(), 1);
    assert!(!capture.packets[0].received);
    assert_eq!(capture.packets[0].records()[0].slave_id(), 5);

    let (client, path) = record_to(&place, &gateway, "gateway", &["--filter", "bad", "--count", "1"]);
    master.echo(&[1], 0);
    master.send(b"no record at all, and longer than a header of one");
    assert_eq!(client.wait(), Some(0));
    let capture = Capture::of(&path);
    let headers = capture.packets[0].headers();
    assert!(capture.packets[0].frame[headers.payload].starts_with(b"no record"));
}

#[test]
fn a_capture_ends_by_itself_or_with_its_process_and_then_another_may_run() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&[]);
    let output = place.run(&["capture", "--name", "gateway", "-w", "-", "--duration", "50ms"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    Capture::read(&output.stdout);
    assert!(text(&output.stderr).contains("gateway: 0 datagrams captured, 0 dropped"), "{}", text(&output.stderr));
    gateway.says(&["capture ends, its time is over"]);

    let (client, _) = record_to(&place, &gateway, "gateway", &[]);
    until("the other to run", || {
        let output = place.run(&["capture", "--name", "gateway", "-w", "/dev/null", "--duration", "1ms"]);
        (output.status.code() == Some(6)).then(|| text(&output.stderr)).filter(|complaint| {
            assert!(complaint.contains("another capture runs") && complaint.contains("Ctrl-C"), "{complaint}");
            true
        })
    });
    client.signal(Signal::KILL);
    assert_eq!(client.wait(), None);
    gateway.says(&["capture ends, the client went away"]);

    let path = place.directory.join("last.pcapng");
    let client = place.start(&["capture", "--name", "gateway", "-w", path.to_str().unwrap(), "--filter", "link"]);
    until("the third capture", || (gateway.said().matches("capture begins").count() == 3).then_some(()));
    assert_eq!(place.ask(&["drain", "--name", "gateway"]), "gateway: drained\n");
    assert_eq!((client.wait(), gateway.wait()), (Some(0), Some(0)));
    Capture::of(&path);
}

#[test]
fn what_cannot_be_captured_is_said_and_spoils_no_file() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let file = place.file("kept.pcapng", "kept", 0o600);
    let refused = |more: &[&str], part: &str| {
        let complaint = place.refused(2, &[&["capture", "-w", &file], more].concat());
        assert!(complaint.contains(part), "{complaint}");
    };
    refused(&["--filter", "slave 3 und up"], "expected \"and\", \"or\" or the end, at character 9 (\"und\")");
    refused(&["--port", "1"], "there is no port 1: the process has 1, counted from 0");
    refused(&["--snaplen", "0"], "--snaplen");
    refused(&["--direction", "sideways"], "--direction");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    let complaint = place.refused(3, &["capture", "-w", "/no/such/directory/x.pcapng", "--count", "1"]);
    assert!(complaint.contains("-w /no/such/directory/x.pcapng: No such file"), "{complaint}");
}

#[test]
fn the_socket_takes_orders_as_described() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    for (order, code) in [
        (json!({ "filter": "slave" }), "bad_value"),
        (json!({ "fliter": "up" }), "bad_request"),
        (json!({ "direction": "left" }), "bad_request"),
        (json!({ "snaplen": 70_000 }), "bad_value"),
    ] {
        let (status, error) = request(&place, "gateway", "POST", "/v1/capture", Some(&order.to_string()));
        assert!(status == 400 || status == 422, "{status}");
        assert_eq!(error["code"], code, "{error}");
    }
    let (status, answer) = api::ask(&place, "gateway", "POST", "/v1/capture/stop", None);
    assert_eq!((status, answer), (200, json!({ "stopped": false })));
}

/// KiB of a process that are in memory.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_capture_that_never_ends_does_not_grow() {
    /// More slots than a tap ever has.
    const SLOTS: u64 = 8192;
    /// KiB for buffers of the stream, and what the kernel counts in lots.
    const GROWTH: u64 = 4 << 10;
    let place = Place::new();
    let (gateway, address) = place.gateway(&["--hold", "50us"]);
    let _farm = place.slave(address, 0, &["--count", "8", "--name", "farm", "--traffic", "master=1,rate=8000"]);
    place.until_registered("gateway", 8);
    let received = |times: u64| {
        let now = || place.stats("gateway")["total"]["lcore"]["rx_datagrams"].as_u64().unwrap();
        let begun = now();
        until("datagrams", || (now() - begun >= times * SLOTS).then_some(()));
    };
    // The filter has the registrar asked for masters again and again.
    let capture = |number: usize| {
        let arguments =
            ["capture", "--name", "gateway", "-w", "/dev/null", "--filter", "up or down", "--snaplen", "64"];
        let client = place.start(&arguments);
        until("the capture", || (gateway.said().matches("capture begins").count() == number).then_some(()));
        client
    };
    let client = capture(1);
    received(1);
    let before = resident(&gateway);
    // Each slot is used twice more, and then the whole begins anew: what one capture had serves the next.
    received(2);
    let after = resident(&gateway);
    assert!(after <= before + GROWTH, "it grew from {before} to {after} KiB");
    client.signal(Signal::INT);
    assert_eq!(client.wait(), Some(0));
    for number in 2..6 {
        let client = capture(number);
        received(1);
        client.signal(Signal::INT);
        assert_eq!(client.wait(), Some(0));
    }
    let after = resident(&gateway);
    assert!(after <= before + GROWTH, "it grew from {before} to {after} KiB in five captures");
}
