//! `docs/wireshark/gvm.lua` in tshark: it shows what `docs/wire-format.md` says, and what a real capture has.

use crate::capture::{Capture, cluster, echo, record_to};
use crate::harness::{Place, skip, text, until};
use capture::packet::{Headers, Packet};
use capture::pcapng::{Interface, Writer};
use frame::{Peer, PortId};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Whether tshark is there. If not, says so where one sees it, or panics with `GVM_TESTS=require`.
fn available() -> bool {
    if Command::new("tshark").arg("--version").output().is_ok() {
        return true;
    }
    skip("`tshark` is not installed: scripts/setup.sh installs it");
    false
}

/// What tshark shows of each packet of a file: of each field, all values with commas between them.
fn tshark(place: &Place, file: &Path, fields: &[&str], filter: &str) -> Vec<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wireshark/gvm.lua");
    let mut command = Command::new("tshark");
    // Nobody's settings but its own defaults.
    command.env("HOME", &place.directory).env("XDG_CONFIG_HOME", &place.directory);
    command.arg("-X").arg(format!("lua_script:{}", script.display())).arg("-r").arg(file);
    // Sockets have the ports that the kernel gives them, and those of other protocols are among them.
    command.args(["-o", "udp.try_heuristic_first:TRUE"]);
    command.args(["-Y", filter, "-T", "fields", "-E", "separator=/t"]);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().unwrap();
    let complaint = text(&output.stderr);
    assert!(output.status.success() && !complaint.contains("Lua"), "{complaint}");
    let lines = text(&output.stdout);
    lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// What the dissector marks: number and marks of each such packet. The marks of other dissectors are theirs, as
/// `udp.possible_traceroute` is, which ports alone bring about.
fn faults(place: &Place, file: &Path) -> Vec<(usize, Vec<String>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wireshark/gvm.lua");
    let script = std::fs::read_to_string(script).unwrap();
    let name = |rest: &str| format!("gvm.bad.{}", rest.split_once('"').unwrap().0);
    let mut marks: Vec<String> = script.split("= fault(\"").skip(1).map(name).collect();
    marks.push("gvm.cut".to_owned());
    let fields: Vec<&str> = std::iter::once("frame.number").chain(marks.iter().map(String::as_str)).collect();
    let shown = tshark(place, file, &fields, &marks.join(" or "));
    let marks_of = |line: &[String]| {
        let of = line[1..].iter().zip(&marks).filter(|(shown, _)| !shown.is_empty());
        of.map(|(_, mark)| mark.clone()).collect()
    };
    shown.iter().map(|line| (line[0].parse().unwrap(), marks_of(line))).collect()
}

/// The hex blocks of the document, by name.
fn blocks() -> BTreeMap<String, Vec<u8>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire-format.md");
    let document = std::fs::read_to_string(document).unwrap();
    let block = |block: &str| {
        let (name, rest) = block.split_once('\n').unwrap();
        let hex = rest.split("```").next().unwrap().split_whitespace();
        (name.to_owned(), hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect())
    };
    document.split("```hex ").skip(1).map(block).collect()
}

/// A file with these datagrams, from a slave's lane to a gateway.
fn file(place: &Place, datagrams: &[&[u8]]) -> PathBuf {
    file_between(place, 49_169, 9999, datagrams)
}

/// A file with these datagrams, from one UDP port to another.
fn file_between(place: &Place, from: u16, to: u16, datagrams: &[&[u8]]) -> PathBuf {
    let own = Peer::socket(PortId(0), SocketAddr::from(([192, 0, 2, 1], to)));
    let peer = Peer::socket(PortId(0), SocketAddr::from(([192, 0, 2, 2], from)));
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.section("test", "", "");
    writer.interface(&Interface { name: "test", description: "", filter: "", snaplen: 65_535 });
    for bytes in datagrams {
        let packet = Packet { received: true, own: Some(own), peer, ce: false, bytes, len: bytes.len() };
        let headers = Headers::of(&packet);
        let len = headers.bytes().len() + bytes.len();
        writer.packet(0, Duration::ZERO, true, [headers.bytes(), bytes], len);
    }
    let path = place.directory.join("made.pcapng");
    std::fs::write(&path, out).unwrap();
    path
}

#[test]
fn the_datagrams_of_the_document_show_what_it_says() {
    if !available() {
        return;
    }
    let place = Place::new();
    let blocks = blocks();
    let show = |name: &str, fields: &[&str]| {
        let shown = tshark(&place, &file(&place, &[&blocks[name]]), fields, "frame");
        assert_eq!(shown.len(), 1);
        shown.into_iter().next().unwrap()
    };
    let header = ["gvm.msg_type", "gvm.slave_id", "gvm.req_id", "gvm.payload_len", "_ws.col.Protocol", "_ws.col.Info"];
    assert_eq!(
        show("echo-two-records", &header),
        ["0x0010,0x0010", "17,18", "0x000100000000002a,0x000100000000002b", "24,29", "GVM", "2 records: ECHO x2"]
    );
    let echo = ["gvm.echo.stamp", "gvm.echo.sequence", "gvm.echo.pattern_ok", "gvm.master_id", "gvm.lane", "gvm.shard"];
    assert_eq!(show("echo-two-records", &echo), ["1000000007,1000000008", "5,6", "1,1", "1,1", "17,18", "0,0"]);
    let parts = ["gvm.is_frag", "gvm.is_frag.last", "gvm.part.offset", "gvm.part.total", "gvm.part.data"];
    assert_eq!(show("parts", &parts), ["0x01,0x03", "0,1", "0,4", "7,7", "61626364,656667"]);
    let heartbeat = [
        "gvm.role",
        "gvm.node_id",
        "gvm.seq",
        "gvm.cookie",
        "gvm.heartbeat.boot_epoch",
        "gvm.heartbeat.members_generation",
        "gvm.heartbeat.max_ip_packet",
        "gvm.padding",
        "gvm.signed",
        "gvm.version.major",
    ];
    assert_eq!(
        show("heartbeat-master-1", &heartbeat),
        ["2", "1", "42", "efbefecacefaedfe0011223344556677", "0x0102030405060708", "7", "1500", "0000000000", "1", "2"]
    );
    let slave = [
        "gvm.role",
        "gvm.heartbeat.flags.fixed_port",
        "gvm.challenge",
        "gvm.pages_total",
        "gvm.domain",
        "gvm.vcpus",
        "gvm.speed_class",
        "gvm.signed",
        "gvm.link",
    ];
    assert_eq!(
        show("heartbeat-slave-17", &slave),
        ["1", "1", "0xc4a11e46e0000011", "3145728", "53409", "4", "6", "0", "1"]
    );
    let ack = [
        "gvm.ack.flags.registered",
        "gvm.ack.slave_bits",
        "gvm.ack.gw_bits",
        "gvm.ack.mtu",
        "gvm.seq",
        "gvm.challenge",
        "gvm.cookie",
        "gvm.ack.cookie_fault",
        "gvm.gateway_epoch",
        "gvm.ack.hold_ns",
        "gvm.ack.range.first",
        "gvm.ack.range.last",
    ];
    assert_eq!(
        show("heartbeat-ack-slave-17", &ack),
        [
            "1",
            "17",
            "13",
            "1280",
            "1",
            "0xc4a11e46e0000011",
            "efbefecacefaedfe0011223344556677",
            "0",
            "0xe90c000000000001",
            "50000",
            "0",
            "0"
        ]
    );
    let members = [
        "gvm.members.flags.snapshot",
        "gvm.members.count",
        "gvm.members.from_generation",
        "gvm.members.to_generation",
        "gvm.member.id",
        "gvm.member.state",
        "gvm.pages_free",
        "gvm.domain",
        "gvm.speed_class",
        "gvm.tag",
    ];
    assert_eq!(
        show("members-master-1", &members),
        [
            "1",
            "3",
            "0",
            "7",
            "17,18,8191",
            "1,2,3",
            "3145000,1024,0",
            "53409,0,0",
            "6,3,0",
            "360b403501a178f78e6919a76b92ba6c"
        ]
    );
    let whole: Vec<&[u8]> = [
        "parts",
        "heartbeat-slave-17",
        "heartbeat-master-1",
        "heartbeat-ack-slave-17",
        "members-master-1",
        "heartbeat-v1-slave-17",
        "heartbeat-ack-v1-slave-17",
        "members-v1-master-1",
    ]
    .map(|name| &*blocks[name])
    .into();
    let path = file(&place, &whole);
    assert_eq!(tshark(&place, &path, &["_ws.expert.message"], "_ws.expert"), [[""; 1]; 0]);
    assert_eq!(faults(&place, &path), []);
}

/// Of the same record in version 2 and in version 1, these fields are shown alike, those are missing in version 1, and
/// the cookies are as they are; nothing is left over.
fn version_1_is_like_version_2(names: [&str; 2], common: &[&str], missing: &[&str], cookies: [&str; 2]) {
    let (place, blocks) = (Place::new(), blocks());
    let path = file(&place, &names.map(|name| &blocks[name][..]));
    let shown = tshark(&place, &path, common, "frame");
    assert_eq!(shown[0], shown[1], "{names:?}: {common:?}");
    assert!(shown[1].iter().all(|value| !value.is_empty()), "{names:?}: {common:?}: {:?}", shown[1]);
    let shown = tshark(&place, &path, missing, "frame");
    assert!(shown[0].iter().all(|value| !value.is_empty()), "{names:?}: {missing:?}: {:?}", shown[0]);
    assert_eq!(shown[1], vec![""; missing.len()], "{names:?}: {missing:?}");
    let shown = tshark(&place, &path, &["gvm.version.major", "gvm.cookie", "gvm.padding", "gvm.more"], "frame");
    assert_eq!(shown, [["2", cookies[0], "", ""], ["1", cookies[1], "", ""]], "{names:?}");
}

#[test]
fn version_1_shows_what_version_2_shows() {
    if !available() {
        return;
    }
    version_1_is_like_version_2(
        ["heartbeat-slave-17", "heartbeat-v1-slave-17"],
        &[
            "gvm.role",
            "gvm.heartbeat.flags",
            "gvm.node_id",
            "gvm.heartbeat.boot_epoch",
            "gvm.seq",
            "gvm.heartbeat.members_generation",
            "gvm.heartbeat.members_epoch",
            "gvm.pages_total",
            "gvm.pages_free",
            "gvm.vcpus",
            "gvm.heartbeat.max_ip_packet",
        ],
        &["gvm.challenge", "gvm.domain", "gvm.speed_class"],
        ["00000000000000000000000000000000", "0000000000000000"],
    );
    version_1_is_like_version_2(
        ["heartbeat-ack-slave-17", "heartbeat-ack-v1-slave-17"],
        &[
            "gvm.ack.flags",
            "gvm.ack.slave_bits",
            "gvm.ack.gw_bits",
            "gvm.role",
            "gvm.ack.mtu",
            "gvm.seq",
            "gvm.gateway_epoch",
            "gvm.ack.hold_ns",
            "gvm.ack.range_count",
            "gvm.ack.range.first",
            "gvm.ack.range.last",
        ],
        &["gvm.challenge", "gvm.ack.cookie_fault"],
        ["efbefecacefaedfe0011223344556677", "efbefecacefaedfe"],
    );
    version_1_is_like_version_2(
        ["members-master-1", "members-v1-master-1"],
        &[
            "gvm.members.flags",
            "gvm.members.count",
            "gvm.members.entry_size",
            "gvm.gateway_epoch",
            "gvm.members.from_generation",
            "gvm.members.to_generation",
            "gvm.member.id",
            "gvm.member.state",
            "gvm.member.mtu",
            "gvm.member.epoch",
            "gvm.pages_total",
        ],
        &["gvm.challenge"],
        ["", ""],
    );
}

#[test]
fn what_is_broken_is_said() {
    if !available() {
        return;
    }
    let place = Place::new();
    let blocks = blocks();
    let echo = &blocks["echo-two-records"];
    let with = |name: &str, at: usize, bytes: &[u8]| {
        let mut broken = blocks[name].clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        broken
    };
    let ack = "heartbeat-ack-slave-17";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("gvm.bad.truncated", [&echo[..], b"abc"].concat()),
        ("gvm.bad.magic", [&echo[..], &[0x58; 30]].concat()),
        ("gvm.bad.length", echo[..echo.len() - 1].to_vec()),
        ("gvm.bad.length", with("echo-two-records", 18, &u32::MAX.to_le_bytes())),
        ("gvm.bad.slave_id", with("echo-two-records", 6, &131_072u32.to_le_bytes())),
        ("gvm.bad.pattern", with("echo-two-records", 40, &[0])),
        ("gvm.bad.mixed", [&echo[..], &blocks["heartbeat-slave-17"]].concat()),
        ("gvm.bad.short", with("members-master-1", 23 + 20, &[4, 0])),
        ("gvm.bad.version", with("heartbeat-slave-17", 23 + 16, &[3])),
        // Of version 1 it has enough bytes, of version 2 not.
        ("gvm.bad.short", with("heartbeat-v1-slave-17", 23 + 16, &[2])),
        ("gvm.bad.node", with("heartbeat-slave-17", 23 + 20, &[18])),
        ("gvm.bad.link_part", with("heartbeat-slave-17", 22, &[1])),
        ("gvm.bad.range", with(ack, 23 + 92, &[16])),
        // Four bytes of payload, where a part begins with eight.
        ("gvm.bad.part_short", with("parts", 18, &[4])[..23 + 4].to_vec()),
        ("gvm.bad.part_end", with("parts", 27, &[3])),
        ("gvm.bad.part_last", with("parts", 22, &[3])),
    ];
    let datagrams: Vec<&[u8]> = cases.iter().map(|(_, bytes)| &bytes[..]).collect();
    let path = file(&place, &datagrams);
    for (number, (name, bytes)) in cases.iter().enumerate() {
        let shown = tshark(&place, &path, &["frame.number"], name);
        let shown: BTreeSet<usize> = shown.iter().map(|line| line[0].parse::<usize>().unwrap() - 1).collect();
        assert!(shown.contains(&number), "{name} is not shown in {bytes:02x?}, only in {shown:?}");
        let others = |other: &usize| cases[*other].0 != *name;
        assert_eq!(shown.iter().copied().find(others), None, "{name} is shown where it should not");
    }
}

#[test]
fn ports_of_other_protocols_do_not_matter() {
    if !available() {
        return;
    }
    let place = Place::new();
    let blocks = blocks();
    let echo = &blocks["echo-two-records"];
    let broken = [&echo[..], b"abc"].concat();
    // Those of traceroute, BACnet, EtherNet/IP and TZSP: the kernel gives them to any socket.
    for (from, to) in [(33_460, 33_461), (47_808, 50_000), (50_000, 44_818), (37_008, 33_434)] {
        let path = file_between(&place, from, to, &[echo, &broken]);
        let fields = ["_ws.col.Protocol", "gvm.slave_id"];
        assert_eq!(tshark(&place, &path, &fields, "frame"), [["GVM", "17,18"]; 2], "{from} to {to}");
        assert_eq!(faults(&place, &path), [(2, vec!["gvm.bad.truncated".to_owned()])], "{from} to {to}");
    }
}

#[test]
fn a_real_capture_is_shown_record_for_record() {
    if !available() {
        return;
    }
    let place = Place::new();
    let (gateway, address, _farm, mut master) = cluster(&place, &[]);
    let (client, path) = record_to(&place, &gateway, "gateway", &[]);
    let traffic = "master=1,payload=64,rate=1000,records=40";
    let _more = place.slave(address, 100, &["--count", "4", "--name", "more", "--traffic", traffic]);
    echo(&mut master, &[0, 1, 2, 3, 4, 5, 6, 7]);
    until("traffic", || {
        master.poll();
        (place.stats("gateway")["directions"]["up"]["records_out"].as_u64() >= Some(48)).then_some(())
    });
    master.send(&[&[0x58, 0x4d, 0x56, 0x47][..], b"and no more"].concat());
    let bad = || place.stats("gateway")["directions"]["down"]["dropped"]["truncated"] == 1;
    until("the broken datagram", || bad().then_some(()));
    client.signal(Signal::INT);
    assert_eq!(client.wait(), Some(0));

    let capture = Capture::of(&path);
    let fields = ["gvm.msg_type", "gvm.slave_id", "gvm.req_id", "frame.interface_name", "frame.packet_flags_direction"];
    let shown = tshark(&place, &path, &fields, "frame");
    assert_eq!(shown.len(), capture.packets.len());
    let mut kinds = BTreeSet::new();
    for (shown, packet) in shown.iter().zip(&capture.packets) {
        let records = packet.readable_records();
        let join = |texts: Vec<String>| texts.join(",");
        kinds.extend(records.iter().map(|header| header.msg_type().0));
        assert_eq!(shown[0], join(records.iter().map(|header| format!("{:#06x}", header.msg_type().0)).collect()));
        assert_eq!(shown[1], join(records.iter().map(|header| header.slave_id().to_string()).collect()));
        assert_eq!(shown[2], join(records.iter().map(|header| format!("{:#018x}", header.req_id())).collect()));
        assert_eq!(shown[3], "port0-lcore0");
        assert_eq!(shown[4], if packet.received { "0x00000001" } else { "0x00000002" });
    }
    for kind in [0x01, 0x02, 0x10, 0x11, 0x8001] {
        assert!(kinds.contains(&kind), "{kind:#x} is not in {kinds:x?}");
    }
    let patterns = tshark(&place, &path, &["gvm.echo.pattern_ok"], "gvm.echo.pattern_ok");
    let patterns: Vec<&str> = patterns.iter().flat_map(|line| line[0].split(',')).collect();
    assert_eq!(patterns, ["1"; 80], "in and out");
    let faults: Vec<_> = faults(&place, &path).into_iter().map(|(_, marks)| marks).collect();
    assert_eq!(faults, [["gvm.bad.truncated"]]);
}
