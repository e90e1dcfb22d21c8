//! Linux's `rdma_rxe` as the peer. One guest, booted once, goes through all scenarios.

mod by_hand;

use guest::world::World;
use std::path::Path;
use std::process::Command;

#[test]
fn rdma_rxe_is_a_peer() {
    if !guest::available() {
        return;
    }
    let pcap = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rxe.pcap");
    let mut world = World::boot(&pcap);
    by_hand::the_guest_speaks_and_checks(&mut world);
    world.assert_packets_are_right();
    let packets = world.flush();
    drop(world);
    no_packet_is_malformed(&pcap, packets);
}

/// What tshark takes payload for, by its looks: our content is none of it.
const GUESSES: [&str; 9] =
    ["smc", "smb_direct", "rpcordma", "nvme-rdma", "lnet", "iser", "infiniband.eoib", "infiniband_sdp", "fcoib"];

/// As tshark sees it, where there is one.
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
