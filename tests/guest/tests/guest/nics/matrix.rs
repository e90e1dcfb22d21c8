//! Every kind of card, used in every way, one row each. It takes minutes, so that it is run by hand.
//!
//!     cargo test -p gvm-guest --test guest -- --ignored --nocapture matrix
//!
//! `GVM_GUEST_KERNEL` names a directory with another kernel, unpacked (zero-copy needs Linux 6.13 for virtio and 6.14
//! for igb); `GVM_GUEST_QEMU` another QEMU with its arguments (igb needs version 8). `GVM_GUEST_ROWS` picks rows by
//! words that are in them, as `Igb;mode=zc`.

use super::trial::{Row, Trial, Way, all};
use super::{available, drain, stats};
use guest::nics::{Card, Config, Guest};
use netns::product::binaries;

const fn row(card: Card, way: Way, ports: usize, queues: u32, mtu: u32) -> Row {
    Row { card, way, ports, queues, mtu, vlan: None }
}

/// Rows that are tried with every kernel.
const EVERYWHERE: [Row; 17] = [
    row(Card::E1000e, Way::Vfio, 1, 1, 1500),
    row(Card::E1000e, Way::Vfio, 2, 1, 1500),
    row(Card::E1000e, Way::Vfio, 1, 1, 9000),
    row(Card::Vmxnet3, Way::Vfio, 1, 1, 1500),
    row(Card::Vmxnet3, Way::Vfio, 2, 1, 1500),
    row(Card::Vmxnet3, Way::Vfio, 1, 1, 9000),
    row(Card::Virtio, Way::Vfio, 1, 1, 1500),
    row(Card::Virtio, Way::Vfio, 1, 2, 1500),
    row(Card::Virtio, Way::Vfio, 1, 1, 9000),
    row(Card::Virtio, Way::Xdp("copy"), 1, 1, 1500),
    row(Card::Virtio, Way::Xdp("skb"), 1, 1, 1500),
    row(Card::E1000e, Way::Xdp("skb"), 1, 1, 1500),
    row(Card::E1000e, Way::Vfio, 1, 1, 1500).tagged(),
    row(Card::Vmxnet3, Way::Vfio, 1, 1, 1500).tagged(),
    row(Card::Virtio, Way::Vfio, 1, 1, 1500).tagged(),
    row(Card::Virtio, Way::Xdp("copy"), 1, 1, 1500).tagged(),
    row(Card::E1000e, Way::Xdp("skb"), 1, 1, 1500).tagged(),
];

/// Rows that need a newer kernel, a newer QEMU or both. With zero-copy an MTU is at most a page. Above that, `auto`
/// uses copy mode if the driver supports packets in pieces.
const NEWER: [Row; 15] = [
    row(Card::Virtio, Way::Xdp("zc"), 1, 1, 1500),
    row(Card::Virtio, Way::Xdp("zc"), 1, 2, 1500),
    row(Card::Virtio, Way::Xdp("zc"), 2, 1, 1500),
    row(Card::Virtio, Way::Xdp("zc"), 1, 1, 3054),
    row(Card::Virtio, Way::Xdp("auto"), 1, 1, 9000),
    row(Card::Igb, Way::Xdp("zc"), 1, 1, 1500),
    row(Card::Igb, Way::Xdp("zc"), 1, 2, 1500),
    row(Card::Igb, Way::Xdp("copy"), 1, 1, 1500),
    row(Card::Igb, Way::Vfio, 1, 1, 1500),
    row(Card::Igb, Way::Vfio, 2, 1, 1500),
    row(Card::Igb, Way::Vfio, 1, 1, 9000),
    row(Card::Virtio, Way::Xdp("zc"), 1, 1, 1500).tagged(),
    row(Card::Igb, Way::Xdp("zc"), 1, 1, 1500).tagged(),
    row(Card::Igb, Way::Xdp("copy"), 1, 1, 1500).tagged(),
    row(Card::Igb, Way::Vfio, 1, 1, 1500).tagged(),
];

#[test]
#[ignore = "takes minutes: run by hand, see the head of its file"]
fn matrix() {
    if !available() {
        return;
    }
    binaries();
    let newer: &[Row] = if guest::kernel::other().is_some() { &NEWER } else { &[] };
    println!("| card | way | ports | queues | MTU | kernel | records | lost | what was seen |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let rows = [&EVERYWHERE[..], newer].concat();
    all(&rows, |row| vec![tried(row)]);
}

/// Tries one row: records of three sizes there and back, with a kill and a restart between.
fn tried(row: &Row) -> String {
    let mut trial = Trial::begin(row, 1);
    let mut records = 0;
    for size in ["64", "imix", if row.mtu > 1500 { "4096" } else { "1024" }] {
        // Sizes that do not fit a packet of this link are not tried.
        let size = if size == "4096" && row.mtu < 4200 { "2048" } else { size };
        records += trial.records_come_back(size, 600);
    }
    trial.restart();
    records += trial.records_come_back("imix", 600);
    let found = stats(&mut trial.guest);
    let ports = found["lcores"].as_array().into_iter().flatten().filter_map(|lcore| lcore["ports"].as_array());
    let kicks: u64 = ports.flatten().filter_map(|port| port["counters"]["tx_kicks"].as_u64()).sum();
    drain(&mut trial.guest);
    let kicks = if kicks > 0 { format!("; {kicks} kicks for the last 600") } else { String::new() };
    format!("{} | {records} | 0 | {}{kicks} |", trial.release, trial.said)
}

/// A NIC whose buffers are smaller than the received packets: the driver cuts packets off, and `gvm-dp` reports that.
/// Here the packets of the other end are too large.
#[test]
#[ignore = "needs another kernel and another QEMU: run by hand, see the head of its file"]
fn matrix_of_packets_that_are_cut_off() {
    if !available() || guest::kernel::other().is_none() {
        return;
    }
    binaries();
    let mut guest = Guest::boot(&Config { cards: &[Card::Igb], ..Config::default() });
    let name = guest.interface(0);
    guest.run(&format!("ip address add 10.0.1.2/24 dev {name}; ip link set dev {name} mtu 1006 up"));
    let log = super::start(&mut guest, &format!("gvm-dp --lcores 0 --port xdp:{name},mode=zc"));
    assert!(log.contains("zero-copy (asked for zc), MTU 1006"), "{log}");
    let farm = "gvm-dp slave --name farm --gateway 10.0.1.2 --id 0 --count 4 --port udp:10.0.1.1:0 --frames 2048";
    let farm = guest.place().start(&guest.namespace, farm);
    let warning = guest.until("a warning", "grep 'were cut off' /tmp/gateway.log");
    for part in [&format!("by the driver of {name} (igb)"), "buffers in zero-copy are too small", "at most 1006"] {
        assert!(warning.contains(part), "{warning}");
    }
    println!("{warning}");
    guest.until("the same in stats", "gvm-dp stats | grep 'packets/s were cut off by the driver'");
    farm.says(&["packets of 1500 bytes do not get through"]);
}
