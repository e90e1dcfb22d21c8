//! The gateway on network cards of real kinds: one on vfio-pci behind an IOMMU, one through AF_XDP.
//!
//! The cards are QEMU's, their drivers are the kernel's and DPDK's. The commands in the guest are those of
//! `docs/operating.md`, except for the cores: the guest has one.

mod changes;
mod lines;
mod matrix;
mod messages;
mod trial;

use guest::check::{Wire, faults, report_faults};
use guest::nics::{Guest, mac, other_mac};
use netns::product::{Process, until};
use netns::sniff::Sniffer;
use netns::world::{number, report};
use serde_json::Value;

/// The number of slaves.
const SLAVES: u64 = 16;

/// Whether a guest with cards can run here. If not, says so on standard error, or panics with `GVM_TESTS=require`.
fn available() -> bool {
    if !guest::available() || netns::dpdk::plugin().is_none() {
        return false;
    }
    let Some(reason) = guest::nics::missing() else { return true };
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    eprintln!("SKIPPED: {reason}");
    false
}

/// The gateway's end of the network behind a card.
fn gateway_end(card: usize) -> Wire {
    Wire { address: [10, 0, card as u8 + 1, 2], mac: mac(card), other: other_mac(card) }
}

/// A master and a farm at the other ends of the cards.
struct Outside {
    key: String,
    mtu: u32,
    /// The cards that the gateway has.
    wires: Vec<Wire>,
    sniffer: Sniffer,
    _farm: Process,
}

impl Outside {
    /// A farm behind the last of the gateway's cards, with the cluster key, where packets have this size.
    fn start(guest: &Guest, cards: usize, mtu: u32, key: &str) -> Self {
        let subnet = cards;
        let line = format!(
            "gvm-dp slave --name farm --gateway 10.0.{subnet}.2 --id 0 --count {SLAVES} --port udp:10.0.{subnet}.1:0 \
             --cluster-key-file cluster.key"
        );
        Self::start_line(guest, cards, mtu, key, &line)
    }

    /// The same with the farm's line as a document has it.
    fn start_line(guest: &Guest, cards: usize, mtu: u32, key: &str, line: &str) -> Self {
        let key = guest.place().file("cluster.key", key);
        let line = line.replace("cluster.key", &key);
        let farm = guest.place().start(&guest.namespace, &format!("{line} --frames 2048 --mtu {mtu}"));
        let wires = (0..cards).map(gateway_end).collect();
        Self { key, mtu, wires, sniffer: Sniffer::new(&guest.namespace), _farm: farm }
    }

    /// A master that sends, and reads what comes back.
    fn master(&self, guest: &Guest, id: u32, more: &str) -> Process {
        let line = format!(
            "gvm-pktgen --gateway 10.0.1.2 --count {SLAVES} --port udp:10.0.1.1:0 --cluster-key-file cluster.key {more}"
        );
        self.master_line(guest, id, &line)
    }

    /// The same with the master's line as a document has it.
    fn master_line(&self, guest: &Guest, id: u32, line: &str) -> Process {
        let line = line.replace("cluster.key", &self.key);
        let quietly = format!("{line} --id {id} --mtu {} --timeout 100 -q --json -", self.mtu);
        guest.place().start(&guest.namespace, &quietly)
    }

    /// Sends records to all slaves, and checks that none is lost, changed or doubled. The headers of all datagrams of
    /// the gateway must be right.
    fn every_record_comes_back(&self, guest: &mut Guest, id: u32) {
        self.records_come_back(guest, id, "imix", 600);
    }

    /// The same with this many payloads of this size. Returns the number.
    fn records_come_back(&self, guest: &mut Guest, id: u32, size: &str, records: u64) -> u64 {
        let more =
            format!("--size {size} --rate 1000 --window 64 --window-timeout 60 --records {records} --seconds 100");
        self.sniffer.heard();
        let master = self.master(guest, id, &more);
        self.all_come_back(guest, master, records)
    }

    /// Waits for a master that sends this many records.
    fn all_come_back(&self, guest: &mut Guest, master: Process, records: u64) -> u64 {
        let (code, printed, said) = master.wait();
        assert_eq!(code, Some(0), "{printed}\n{said}\n{}", guest.shell("tail -n 20 /tmp/gateway.log; gvm-dp stats").1);
        let report = report(&printed);
        let wrong = [report_faults(&report, records), faults(&self.sniffer.heard(), &self.wires, records)].concat();
        assert!(wrong.is_empty(), "{wrong:#?}\n{report}");
        records
    }
}

/// The line that starts the gateway, in the background of the guest, with its log in a file. It serves when this
/// returns.
fn start(guest: &mut Guest, line: &str) -> String {
    guest.run(&format!("rm -f /tmp/gateway.log; {line} >/tmp/gateway.log 2>&1 &\necho $! >/tmp/gateway.pid"));
    guest.until(
        "the start of the gateway",
        "grep -q 'INFO privileges' /tmp/gateway.log && cat /tmp/gateway.log || ! kill -0 $(cat /tmp/gateway.pid)",
    );
    let log = guest.run("cat /tmp/gateway.log");
    assert!(log.contains("INFO privileges"), "{log}");
    log
}

/// Kills the gateway, and waits until it is gone.
fn kill(guest: &mut Guest) {
    guest.run("kill -9 $(cat /tmp/gateway.pid)");
    guest.until("its end", "! kill -0 $(cat /tmp/gateway.pid)");
}

/// Drains the gateway, which must lose nothing.
fn drain(guest: &mut Guest) {
    let (code, said) = guest.shell("gvm-dp drain");
    assert_eq!(code, 0, "{said}\n{}", guest.shell("tail -n 20 /tmp/gateway.log; gvm-dp stats").1);
    guest.until("the drain", "grep 'nothing was lost' /tmp/gateway.log");
    guest.until("its end", "! kill -0 $(cat /tmp/gateway.pid)");
}

fn stats(guest: &mut Guest) -> Value {
    let printed = guest.run("gvm-dp stats --json");
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Waits until the gateway's statistics are as wanted.
fn until_stats(guest: &mut Guest, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, || Some(stats(guest)).filter(&wanted))
}

/// Waits until all slaves are registered.
fn registered(guest: &mut Guest) {
    until_stats(guest, "the registration of all slaves", |stats| stats["membership"]["registered"] == SLAVES);
}

/// Records that the gateway has sent to slaves.
fn sent_down(stats: &Value) -> u64 {
    number(&stats["directions"]["down"]["records_out"])
}
