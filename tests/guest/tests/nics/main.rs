//! The gateway on network cards of real kinds: one on vfio-pci behind an IOMMU, one through AF_XDP.
//!
//! The cards are QEMU's, their drivers are the kernel's and DPDK's. What is typed in the guest is what
//! `docs/operating.md` says, but for the cores: the guest has one.

mod matrix;
mod messages;

use guest::nics::{Card, Config, Guest};
use netns::product::{Process, binaries, until};
use netns::shell::{lines_of, project};
use netns::sniff::Sniffer;
use netns::world::{number, report};
use serde_json::Value;

/// Slaves.
const SLAVES: u64 = 16;

/// Whether a guest with cards can run here. If not, says so where one sees it, or panics with `GVM_TESTS=require`.
fn available() -> bool {
    if !guest::available() || netns::dpdk::plugin().is_none() {
        return false;
    }
    let Some(reason) = guest::nics::missing() else { return true };
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    eprintln!("SKIPPED: {reason}");
    false
}

/// A master and a farm at the other ends of the cards.
struct Outside {
    key: String,
    mtu: u32,
    _farm: Process,
}

impl Outside {
    /// A farm behind the card of that number, with the cluster key, where packets have this size.
    fn start(guest: &Guest, card: usize, mtu: u32, key: &str) -> Self {
        let key = guest.place().file("cluster.key", key);
        let subnet = card + 1;
        let farm = guest.place().start(
            &guest.namespace,
            &format!(
                "gvm-dp slave --name farm --gateway 10.0.{subnet}.2 --id 0 --count {SLAVES} --port udp:10.0.{subnet}.1:0 \
                 --frames 2048 --mtu {mtu} --cluster-key-file {key}"
            ),
        );
        Self { key, mtu, _farm: farm }
    }

    /// A master that sends, and reads what comes back.
    fn master(&self, guest: &Guest, id: u32, more: &str) -> Process {
        guest.place().start(
            &guest.namespace,
            &format!(
                "gvm-pktgen --gateway 10.0.1.2 --id {id} --count {SLAVES} --port udp:10.0.1.1:0 --timeout 100 -q --json - \
                 --mtu {} --cluster-key-file {} {more}",
                self.mtu, self.key
            ),
        )
    }

    /// Sends records to all slaves, and compares every one that comes back: none is lost, changed or there twice.
    fn every_record_comes_back(&self, guest: &mut Guest, id: u32) {
        self.every_record_of_size_comes_back(guest, id, "imix");
    }

    /// The same with payloads of this size. Returns how many records were sent, and how many came back as they must.
    fn every_record_of_size_comes_back(&self, guest: &mut Guest, id: u32, size: &str) -> (u64, u64) {
        let more = format!("--size {size} --rate 1000 --window 64 --window-timeout 60 --records 600 --seconds 100");
        let (code, printed, said) = self.master(guest, id, &more).wait();
        assert_eq!(code, Some(0), "{printed}\n{said}\n{}", guest.shell("tail -n 20 /tmp/gateway.log; gvm-dp stats").1);
        let report = report(&printed);
        let (sent, right) = (number(&report["down"]["records"]), number(&report["echo"]["ok"]));
        assert_eq!((sent, right), (600, 600), "{report}");
        (sent, right)
    }
}

/// The line that starts the gateway, in the background of the guest, with its log in a file. It serves when this returns.
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

#[test]
fn a_gateway_on_vfio_and_af_xdp() {
    if !available() {
        return;
    }
    // Built now, if it must be, and not while the guest waits.
    binaries();
    let config = Config { cards: &[Card::E1000e, Card::Virtio], address_bits: Some(39), ..Config::default() };
    let mut guest = Guest::boot(&config);
    let document = std::fs::read_to_string(project().join("docs/operating.md")).expect("a document");
    // The names that the document has, and what a machine has before somebody prepares it.
    for card in 0..2 {
        let name = guest.interface(card);
        guest.run(&format!("ip link set dev {name} name enp{}s0f0", card + 1));
    }
    guest.run("cd /root");
    let lines = lines_of(&document, "sh nics");
    let (run, prepare) = lines.split_last().expect("the document has such blocks");
    for line in prepare {
        guest.run(line);
    }
    // The guest has one core.
    let run = run.replace("--lcores 2-15", "--lcores 0");
    let log = start(&mut guest, &run);
    assert!(log.contains("port 0: dpdk:0000:01:00.0: 1 lcore, net_e1000_em in place"), "{log}");
    assert!(log.contains("port 1: xdp:") && log.contains("10.0.2.2:9999"), "{log}");

    let key = guest.run("cat cluster.key");
    let outside = Outside::start(&guest, 1, 1500, &key);
    registered(&mut guest);
    let sniffer = Sniffer::new(&guest.namespace);
    outside.every_record_comes_back(&mut guest, 1);
    let heard = sniffer.heard();
    for gateway in [[10, 0, 1, 2], [10, 0, 2, 2]] {
        let from = heard.iter().filter(|datagram| datagram.from.0 == gateway && !datagram.link);
        let (count, wrong) = (from.clone().count(), from.filter(|datagram| !datagram.checksum).count());
        assert!(count > 0 && wrong == 0, "of {count} datagrams of {gateway:?} {wrong} have a wrong checksum");
    }
    let books = until_stats(&mut guest, "books that balance", |stats| {
        ["down", "up"].iter().all(|direction| stats["directions"][direction]["unaccounted"] == 0)
    });
    for direction in ["down", "up"] {
        let dropped = books["directions"][direction]["dropped"].as_object().expect("drops by reason");
        assert!(dropped.values().all(|count| *count == 0), "{books:#}");
    }

    // Killed under load, and started again: the card and the queues are as good as new.
    let load = outside.master(&guest, 2, "--size imix --rate 300 --seconds 100000 --allow-loss");
    let sent = |stats: &Value| number(&stats["directions"]["down"]["records_out"]);
    let before = sent(&stats(&mut guest));
    until_stats(&mut guest, "the load", |stats| sent(stats) > before + 100);
    guest.run("kill -9 $(cat /tmp/gateway.pid)");
    drop(load);
    start(&mut guest, &run);
    registered(&mut guest);
    outside.every_record_comes_back(&mut guest, 3);
    guest.run("gvm-dp drain");
    let log = guest.until("the drain", "grep 'nothing was lost' /tmp/gateway.log");
    assert!(log.contains("drained: nothing was lost"), "{log}");
}
