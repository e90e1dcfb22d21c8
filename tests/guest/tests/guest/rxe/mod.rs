//! Linux's `rdma_rxe` as the peer. One guest, booted once, goes through all scenarios.

mod binary;
mod by_hand;
mod cases;
mod faults;
mod ours;
mod pair;

use faults::Bad;
use guest::fault::Happened;
use guest::world::{Listener, World};
use netns::product::binaries;
use pair::Side;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[test]
fn rdma_rxe_is_a_peer() {
    if !guest::available() {
        return;
    }
    // The programs are built now, if necessary, and not while the guest waits.
    binaries();
    let pcap = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rxe.pcap");
    let began = Instant::now();
    let mut world = World::boot(&pcap);
    eprintln!("boot: {:.2} s", began.elapsed().as_secs_f64());
    step("packets by hand", &mut world, by_hand::the_guest_speaks_and_checks);
    for (link_mtu, mtu) in [(1500, 1024), (9000, 4096)] {
        world.ask(&mut Listener::default(), &format!("mtu {link_mtu}"));
        for requester in [Side::Ours, Side::Guest] {
            for (name, case) in CASES {
                step(&format!("{name}, by {requester:?}, path MTU {mtu}"), &mut world, |world| {
                    case(world, mtu, requester)
                });
            }
            for bad in [Bad::ToGuest, Bad::ToHost, Bad::Both] {
                for seed in seeds() {
                    step(&format!("bad {bad:?}, seed {seed}, by {requester:?}, path MTU {mtu}"), &mut world, |world| {
                        faults::everything_completes_once(world, mtu, requester, bad, seed);
                    });
                }
            }
        }
        for (name, case) in BINARY {
            step(&format!("{name}, path MTU {mtu}"), &mut world, |world| case(world, link_mtu, mtu));
        }
    }
    let Happened { lost, doubled, delayed, .. } = world.happened_at_all();
    assert!(lost > 10 && doubled > 10 && delayed > 10, "{lost} lost, {doubled} doubled, {delayed} delayed");
    let packets = world.flush();
    drop(world);
    no_packet_is_malformed(&pcap, packets);
}

/// A scenario for a path MTU and a requester.
type Case = fn(&mut World, u32, Side);

/// Scenarios on a perfect wire, or without a wire.
const CASES: [(&str, Case); 6] = [
    ("contents", cases::contents),
    ("atomics", cases::atomics),
    ("many READs", cases::many_reads),
    ("refusals", cases::refused),
    ("not ready", cases::not_ready),
    ("nobody answers", faults::nobody_answers),
];

/// A scenario of the binary for a link's MTU and a path MTU.
type BinaryCase = fn(&mut World, u32, u32);

/// Scenarios of the binary.
const BINARY: [(&str, BinaryCase); 2] = [("gvm-dp qp asks", binary::asks), ("gvm-dp qp serves", binary::serves)];

/// Seeds of bad wires: the first one, or as many as `GVM_GUEST_SEEDS` says.
fn seeds() -> RangeInclusive<u64> {
    let wanted = std::env::var("GVM_GUEST_SEEDS").ok().and_then(|text| text.parse().ok());
    1..=wanted.unwrap_or(1)
}

/// Runs one scenario and prints its time. The test runner shows the times when the test fails.
fn step(name: &str, world: &mut World, scenario: impl FnOnce(&mut World)) {
    let began = Instant::now();
    eprintln!("{name} ...");
    world.begin_scenario();
    scenario(world);
    world.assert_packets_are_right();
    eprintln!("{name}: {:.2} s", began.elapsed().as_secs_f64());
}

/// Protocols that tshark guesses from the payload. Our content is none of them.
const GUESSES: [&str; 9] =
    ["smc", "smb_direct", "rpcordma", "nvme-rdma", "lnet", "iser", "infiniband.eoib", "infiniband_sdp", "fcoib"];

/// Checks the packets with tshark, if it is installed.
fn no_packet_is_malformed(pcap: &Path, packets: u64) {
    let mut tshark = Command::new("tshark");
    tshark.arg("-n").arg("-r").arg(pcap).args(["-T", "fields", "-e", "frame.number", "-e", "_ws.malformed"]);
    tshark.args(GUESSES.map(|guess| format!("--disable-protocol={guess}")));
    let Ok(output) = tshark.args(["-Y", "infiniband.bth"]).output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8_lossy(&output.stdout);
    let wrong = shown.lines().find(|line| line.split_once('\t').is_none_or(|(_, malformed)| !malformed.is_empty()));
    assert_eq!(wrong, None, "tshark says that of {}", pcap.display());
    assert_eq!(shown.lines().count() as u64, packets, "packets of {} that tshark knows", pcap.display());
}
