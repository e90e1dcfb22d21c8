//! Every kind of card on every way, a row each: takes minutes, so that it is run by hand.
//!
//!     cargo test -p gvm-guest --test nics -- --ignored --nocapture matrix
//!
//! `GVM_GUEST_KERNEL` names a directory with another kernel, unpacked (zero-copy needs Linux 6.13 for virtio and 6.14 for igb);
//! `GVM_GUEST_QEMU` another QEMU with its arguments (igb needs version 8).

use crate::{Outside, available, registered, start, stats};
use guest::nics::{Card, Config, Guest, address};
use netns::product::binaries;
use netns::sniff::Sniffer;

/// How the gateway has a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// vfio-pci and DPDK.
    Vfio,
    /// Its kernel driver and AF_XDP, in this mode.
    Xdp(&'static str),
}

/// One row.
struct Row {
    card: Card,
    way: Way,
    ports: usize,
    queues: u32,
    mtu: u32,
}

const fn row(card: Card, way: Way, ports: usize, queues: u32, mtu: u32) -> Row {
    Row { card, way, ports, queues, mtu }
}

/// What is tried with every kernel.
const EVERYWHERE: [Row; 12] = [
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
];

/// What needs a newer kernel, a newer QEMU or both.
const NEWER: [Row; 6] = [
    row(Card::Virtio, Way::Xdp("zc"), 1, 1, 1500),
    row(Card::Virtio, Way::Xdp("zc"), 2, 1, 1500),
    row(Card::Igb, Way::Xdp("zc"), 1, 1, 1500),
    row(Card::Igb, Way::Xdp("copy"), 1, 1, 1500),
    row(Card::Igb, Way::Vfio, 1, 1, 1500),
    row(Card::Igb, Way::Vfio, 2, 1, 1500),
];

#[test]
#[ignore = "takes minutes: run by hand, see the head of its file"]
fn matrix() {
    if !available() {
        return;
    }
    binaries();
    let newer: &[Row] = if guest::kernel::other().is_some() { &NEWER } else { &[] };
    println!("| card | way | ports | queues | MTU | records each way | lost | what it said |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut failed = 0;
    for row in EVERYWHERE.iter().chain(newer) {
        let Row { card, way, ports, queues, mtu } = row;
        let outcome = std::panic::catch_unwind(|| tried(row));
        failed += u32::from(outcome.is_err());
        let (records, lost, said) =
            outcome.unwrap_or_else(|_| ("-".to_owned(), "-".to_owned(), "FAILED, see above".to_owned()));
        println!("| {card:?} | {way:?} | {ports} | {queues} | {mtu} | {records} | {lost} | {said} |");
    }
    assert_eq!(failed, 0, "rows that failed");
}

/// Tries one row: records of three sizes there and back, with a kill and a restart between.
fn tried(row: &Row) -> (String, String, String) {
    let cards = vec![row.card; row.ports];
    let config = Config { cards: &cards, mtu: row.mtu, queues: row.queues, ..Config::default() };
    let mut guest = Guest::boot(&config);
    guest.run("gvm-dp key new --out /root/cluster.key");
    let cores = if row.queues > 1 { "0-1" } else { "0" };
    let mut line = format!("gvm-dp --lcores {cores} --key-file /root/cluster.key");
    for card in 0..row.ports {
        let (address, ip) = (address(card), format!("10.0.{}.2/24", card + 1));
        match row.way {
            Way::Vfio => {
                crate::messages::bind(&mut guest, &address);
                line += &format!(" --port {address},ip={ip},mtu={}", row.mtu);
            }
            Way::Xdp(mode) => {
                let name = guest.interface(card);
                guest.run(&format!(
                    "ip address add {ip} dev {name}; ip link set dev {name} mtu {} up; ethtool -L {name} combined {} || true",
                    row.mtu, row.queues
                ));
                line += &format!(" --port xdp:{name},mode={mode}");
            }
        }
    }
    let log = start(&mut guest, &line);
    let key = guest.run("cat /root/cluster.key");
    let outside = Outside::start(&guest, row.ports - 1, row.mtu, &key);
    registered(&mut guest);
    let sniffer = Sniffer::new(&guest.namespace);
    let mut counts = Vec::new();
    for (id, size) in [(1, "64"), (2, "imix"), (3, if row.mtu > 1500 { "4096" } else { "1024" })] {
        counts.push(outside.every_record_of_size_comes_back(&mut guest, id, size));
    }
    let wrong = sniffer.heard().iter().filter(|datagram| datagram.from.0[3] == 2 && !datagram.checksum).count();
    assert_eq!(wrong, 0, "datagrams of the gateway with a wrong checksum");
    guest.run("kill -9 $(cat /tmp/gateway.pid)");
    start(&mut guest, &line);
    registered(&mut guest);
    counts.push(outside.every_record_of_size_comes_back(&mut guest, 4, "imix"));
    let kicks: u64 = stats(&mut guest)["lcores"][0]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| port["counters"]["tx_kicks"].as_u64())
        .sum();
    guest.run("gvm-dp drain");
    guest.until("the drain", "grep 'nothing was lost' /tmp/gateway.log");
    let said =
        log.lines().find_map(|line| line.split_once("port 0: ")).map_or(String::new(), |(_, said)| said.to_owned());
    let kicks = if kicks > 0 { format!("; {kicks} kicks for the last {}", counts[3].0) } else { String::new() };
    let (sent, right) = counts.iter().fold((0, 0), |sums, count| (sums.0 + count.0, sums.1 + count.1));
    (sent.to_string(), (sent - right).to_string(), said + &kicks)
}
