//! Changes to a card while the gateway runs, one in each row. They are run by hand, like the rows of `matrix`, with the
//! same settings.
//!
//!     cargo test -p gvm-guest --test guest -- --ignored --nocapture changes

use super::trial::{Row, Trial, Way, all};
use super::{available, drain, sent_down, stats, until_stats};
use guest::nics::Card;
use netns::product::binaries;
use netns::world::{number, report};
use serde_json::Value;

/// The change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// `ethtool -L` to more receive queues, and back.
    Queues,
    /// `ethtool -G` to smaller rings, and back.
    Rings,
    /// The cable out and in, under load.
    Cable,
    /// The interface down and up, under load.
    Link,
    /// A smaller MTU, and the old one again.
    Mtu,
    /// Ten times killed and started.
    Restarts,
    /// The highest rate with 256 records on their way.
    FlatOut,
}

const EVERYTHING: [Change; 7] =
    [Change::Queues, Change::Rings, Change::Cable, Change::Link, Change::Mtu, Change::Restarts, Change::FlatOut];

/// Changes that are possible for a card without a kernel driver.
const WITHOUT_KERNEL: [Change; 3] = [Change::Cable, Change::Restarts, Change::FlatOut];

const fn row(card: Card, way: Way) -> Row {
    Row { card, way, ports: 1, queues: 1, mtu: 1500, vlan: None }
}

const EVERYWHERE: [Row; 6] = [
    row(Card::E1000e, Way::Vfio),
    row(Card::Vmxnet3, Way::Vfio),
    row(Card::Virtio, Way::Vfio),
    row(Card::Virtio, Way::Xdp("copy")),
    row(Card::Virtio, Way::Xdp("skb")),
    row(Card::E1000e, Way::Xdp("skb")),
];

/// Rows that need a newer kernel and a newer QEMU.
const NEWER: [Row; 4] = [
    row(Card::Virtio, Way::Xdp("zc")),
    row(Card::Igb, Way::Xdp("zc")),
    row(Card::Igb, Way::Xdp("copy")),
    row(Card::Igb, Way::Vfio),
];

/// The result of a change.
struct Outcome {
    sent: u64,
    lost: u64,
    seen: String,
}

#[test]
#[ignore = "takes minutes: run by hand, see the head of its file"]
fn changes() {
    if !available() {
        return;
    }
    binaries();
    println!("| card | way | ports | queues | MTU | kernel | change | records | lost | what was seen |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let newer: &[Row] = if guest::kernel::other().is_some() { &NEWER } else { &[] };
    let rows = [&EVERYWHERE[..], newer].concat();
    all(&rows, |row| {
        // Only virtio's cards have as many queues as QEMU gives them. Its driver changes their number only while XDP is
        // on the generic hook.
        let mut trial = Trial::begin(row, if row.card == Card::Virtio && row.way == Way::Xdp("skb") { 2 } else { 1 });
        let changes: &[Change] = if row.way == Way::Vfio { &WITHOUT_KERNEL } else { &EVERYTHING };
        let rows = changes.iter().map(|change| {
            let Outcome { sent, lost, seen } = change.make(&mut trial);
            let row = format!("{} | {change:?} | {sent} | {lost} | {seen} |", trial.release);
            // Printed at once, because a later change may fail.
            println!("    {row}");
            row
        });
        let rows = rows.collect();
        drain(&mut trial.guest);
        rows
    });
}

impl Change {
    /// Makes the change. Afterwards every record must come back.
    fn make(self, trial: &mut Trial) -> Outcome {
        match self {
            Self::Queues => queues(trial),
            Self::Rings => rings(trial),
            Self::Cable => cable(trial),
            Self::Link => link(trial),
            Self::Mtu => mtu(trial),
            Self::Restarts => restarts(trial),
            Self::FlatOut => flat_out(trial),
        }
    }
}

/// The last line of a command of the guest, if it failed.
fn refusal(trial: &mut Trial, command: &str) -> Option<String> {
    let (code, said) = trial.guest.shell(command);
    (code != 0).then(|| said.lines().last().unwrap_or_default().trim().to_owned())
}

fn queues(trial: &mut Trial) -> Outcome {
    let name = trial.names[0].clone();
    let before = sent_down(&stats(&mut trial.guest));
    let seen = match refusal(trial, &format!("ethtool -L {name} combined 2")) {
        Some(said) => format!("`ethtool -L` is refused by the driver: {said}"),
        None => {
            let served = "has 2 receive queues now, and gvm-dp serves the 1 of its start";
            let warns = |stats: &Value| stats["changes"].to_string().contains(served);
            until_stats(&mut trial.guest, "a warning of queues", warns);
            trial.guest.run(&format!("grep -q '{served}' /tmp/gateway.log"));
            trial.guest.run(&format!("ethtool -L {name} combined 1"));
            until_stats(&mut trial.guest, "an end of the warning", |stats| !warns(stats));
            "a warning with the remedy, which ends it".to_owned()
        }
    };
    assert!(sent_down(&stats(&mut trial.guest)) >= before);
    Outcome { sent: trial.records_come_back("imix", 600), lost: 0, seen }
}

fn rings(trial: &mut Trial) -> Outcome {
    let name = trial.names[0].clone();
    let mut sent = 0;
    let seen = match refusal(trial, &format!("ethtool -G {name} rx 128 tx 128")) {
        Some(said) => format!("`ethtool -G` is refused by the driver: {said}"),
        None => {
            sent += trial.records_come_back("imix", 600);
            trial.guest.run(&format!("ethtool -G {name} rx 256 tx 256"));
            "rings of 128, then of 256".to_owned()
        }
    };
    sent += trial.records_come_back("imix", 600);
    Outcome { sent, lost: 0, seen }
}

/// Whether packets can pass at the first port.
fn is_up(stats: &Value) -> bool {
    stats["lcores"][0]["ports"][0]["counters"]["link_up"] == 1
}

/// Breaks the link under load, mends it when the gateway has seen that, and counts what was lost meanwhile.
fn interrupted(trial: &mut Trial, what: &str, breaks: impl Fn(&mut Trial), mends: impl Fn(&mut Trial)) -> Outcome {
    let master = trial.master();
    let more = "--size imix --rate 200 --records 1600 --seconds 100 --allow-loss";
    let before = sent_down(&stats(&mut trial.guest));
    let load = trial.outside.master(&trial.guest, master, more);
    until_stats(&mut trial.guest, "the load", |stats| sent_down(stats) > before + 50);
    breaks(trial);
    let down = until_stats(&mut trial.guest, "a link that is down", |stats| !is_up(stats));
    mends(trial);
    until_stats(&mut trial.guest, "a link that is up", is_up);
    let (code, printed, said) = load.wait();
    assert_eq!(code, Some(0), "{printed}\n{said}");
    let report = report(&printed);
    let (sent, ok) = (number(&report["down"]["records"]), number(&report["echo"]["ok"]));
    let wrong = number(&report["echo"]["corrupted"]) + number(&report["echo"]["duplicate"]);
    assert!(wrong == 0 && ok > sent / 2, "{report}");
    let interface = down["interfaces"][0]["link"].as_str().map(|link| format!(" (`{link}`)")).unwrap_or_default();
    let after = trial.records_come_back("imix", 600);
    Outcome {
        sent: sent + after,
        lost: sent - ok,
        seen: format!("{what}{interface}: lost are {} of the {sent} under way, none of the 600 afterwards", sent - ok),
    }
}

fn cable(trial: &mut Trial) -> Outcome {
    interrupted(
        trial,
        "said as down, and up again",
        |trial| trial.guest.monitor("set_link card0 off"),
        |trial| trial.guest.monitor("set_link card0 on"),
    )
}

fn link(trial: &mut Trial) -> Outcome {
    let set = |trial: &mut Trial, state: &str| {
        let name = &trial.names[0];
        trial.guest.run(&format!("ip link set dev {name} {state}"));
    };
    interrupted(trial, "said as down, and up again", |trial| set(trial, "down"), |trial| set(trial, "up"))
}

fn mtu(trial: &mut Trial) -> Outcome {
    let name = trial.names[0].clone();
    let mut sent = 0;
    for mtu in [1400, 1500] {
        trial.guest.run(&format!("ip link set dev {name} mtu {mtu}"));
        until_stats(&mut trial.guest, "the MTU", |stats| stats["lcores"][0]["ports"][0]["mtu"] == mtu);
        // One record in each packet, which fits both.
        sent += trial.records_come_back("1024", 600);
    }
    let changes = number(&stats(&mut trial.guest)["total"]["control"]["mtu_changes"]);
    Outcome { sent, lost: 0, seen: format!("1400 and back to 1500; `mtu_changes` is {changes}") }
}

fn restarts(trial: &mut Trial) -> Outcome {
    let mut sent = 0;
    for _ in 0..10 {
        trial.restart();
        sent += trial.records_come_back("64", 32);
    }
    Outcome { sent, lost: 0, seen: "killed and started ten times, each time as good as new".to_owned() }
}

fn flat_out(trial: &mut Trial) -> Outcome {
    let (master, records) = (trial.master(), 10_000);
    trial.outside.sniffer.heard();
    let more = format!("--size 64 --window 256 --window-timeout 60 --records {records} --seconds 1000");
    let load = trial.outside.master(&trial.guest, master, &more);
    let sent = trial.outside.all_come_back(&mut trial.guest, load, records);
    let full = number(&stats(&mut trial.guest)["lcores"][0]["ports"][0]["counters"]["tx_full"]);
    Outcome { sent, lost: 0, seen: format!("256 records in flight all the time; `tx_full` is {full}") }
}
