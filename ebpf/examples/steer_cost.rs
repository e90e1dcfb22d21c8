//! What the XDP program costs: nanoseconds per packet above an empty program, measured in turns in the same run.
//!
//! `cargo run --profile fast -p gvm-ebpf --example steer_cost`, as root. The kernel runs each program over the same
//! packet again and again (BPF_PROG_TEST_RUN), so that all of it is in the caches; its harness is in the empty
//! program's figure.

use aya::EbpfLoader;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use ebpf::{Config, Neighbor, Steer, Verdict};
use std::error::Error;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use wire::net::{UdpSpec, emit_udp4, udp_checksum};
use wire::{MsgType, RecordHeader, Scale, Shard, ShardSet};

#[path = "../tests/ebpf/support/socket.rs"]
mod socket;

static EMPTY: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty.bpf.o"));

/// The goal, in nanoseconds above the empty program.
const GOAL: f64 = 15.0;

const TURNS: usize = 401;

/// Packets in a turn. A packet to a neighbour that is ourselves comes back with its TTL one lower: so often it can.
const REPEAT: u32 = 250;
const TTL: u8 = 255;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Of the sender, and of what goes on to the neighbour: a packet from our own address would be refused when it comes
/// back.
const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 17];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A packet of a record with 16 bytes of payload.
fn packet(msg_type: MsgType, slave_id: u32) -> Vec<u8> {
    let mut record = [0; wire::HEADER_LEN + 16];
    wire::record::emit(&RecordHeader::new(msg_type, slave_id, 1, 16), &[7; 16], &mut record).expect("there is room");
    let (src_ip, dst_ip, src_port, dst_port) = ([10, 0, 0, 17], ADDRESS.octets(), 49_169, wire::GATEWAY_PORT);
    let checksum = udp_checksum(src_ip, dst_ip, src_port, dst_port, &record);
    let spec =
        UdpSpec { vlan: None, src_mac: SOURCE_MAC, dst_mac: MAC, src_ip, dst_ip, src_port, dst_port, ecn: 0, checksum };
    let mut headers = [0; wire::net::headers_len(false)];
    emit_udp4(&spec, record.len(), &mut headers).expect("there is room");
    // Another TTL, and what the header's checksum gains by it.
    let at = wire::net::ethernet::HEADER_LEN;
    let gain = u16::from_be_bytes([TTL - headers[at + 8], 0]);
    let sum = u32::from(!u16::from_be_bytes([headers[at + 10], headers[at + 11]])) + u32::from(gain);
    headers[at + 8] = TTL;
    headers[at + 10..at + 12].copy_from_slice(&(!((sum >> 16) + (sum & 0xffff)) as u16).to_be_bytes());
    [&headers[..], &record].concat()
}

/// Nanoseconds per packet of one turn.
fn turn(program: &mut Xdp, packet: &[u8]) -> Result<f64, Box<dyn Error>> {
    let options = TestRunOptions { data_in: Some(packet), repeat: REPEAT, ..TestRunOptions::default() };
    Ok(program.test_run(options)?.duration.as_nanos() as f64)
}

/// What one turn in ten stays below: whatever else runs on the machine only adds.
fn best_tenth(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 10]
}

fn main() -> Result<(), Box<dyn Error>> {
    let shards = ShardSet::new(Scale::default(), &[Shard(0)])?;
    // The way out must not be the way in, which is the loopback interface: any other one will do.
    let way_out = (2..64).find_map(|ifindex| {
        let neighbor = Neighbor { shard: Shard(1), ifindex, src_mac: SOURCE_MAC, dst_mac: MAC, dst_ip: ADDRESS };
        Steer::load(&Config { neighbors: vec![neighbor], ..Config::new(&shards) }).ok()
    });
    let has_way_out = way_out.is_some();
    let mut steer = way_out.map_or_else(|| Steer::load(&Config::new(&shards)), Ok)?;
    steer.set_mac(MAC)?;
    steer.set_addresses(&[ADDRESS])?;
    let socket = socket::socket();
    steer.set_socket(0, socket.as_fd())?;

    let mut empty = EbpfLoader::new().btf(None).load(EMPTY)?;
    let empty: &mut Xdp = empty.program_mut("empty").ok_or("the empty program is not in its object")?.try_into()?;
    empty.load()?;

    let mut cases = vec![
        ("cargo to its socket", Verdict::RedirectCargo, packet(MsgType::ECHO, 17)),
        ("link control", Verdict::RedirectControl, packet(MsgType::HEARTBEAT, 17)),
        ("of a foreign shard, dropped", Verdict::DropForeignShard, packet(MsgType::ECHO, 3 * 8_192)),
    ];
    if has_way_out {
        cases.push(("cargo to a neighbour, rewritten", Verdict::RedirectNeighbor, packet(MsgType::ECHO, 8_192)));
    } else {
        println!("no interface but the loopback: delivery to a neighbour is left out");
    }
    let instructions = steer.program()?.info()?.verified_instruction_count();
    println!("{} instructions verified", instructions.map_or("unknown".to_owned(), |count| count.to_string()));
    println!("{:34} {:>8} {:>8} {:>8} {:>6}", "ns per packet, best tenth", "empty", "program", "above", "ratio");
    let mut above = Vec::new();
    for (name, verdict, packet) in &cases {
        let before = steer.packets(*verdict)?;
        let (mut base, mut cost) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            base.push(turn(empty, packet)?);
            cost.push(turn(steer.program()?, packet)?);
        }
        let counted = steer.packets(*verdict)? - before;
        if counted != TURNS as u64 * u64::from(REPEAT) {
            return Err(format!("{name}: only {counted} packets had the verdict {}", verdict.name()).into());
        }
        let (base, cost) = (best_tenth(base), best_tenth(cost));
        println!("{name:34} {base:8.1} {cost:8.1} {:8.1} {:6.2}", cost - base, cost / base);
        above.push(cost - base);
    }
    let worst = above.iter().copied().fold(0.0, f64::max);
    println!(
        "{:.1} ns above an empty program for cargo to its socket, at most {worst:.1}; the goal is {GOAL}",
        above[0]
    );
    Ok(())
}
