//! The gateway on network cards of real kinds: one on vfio-pci behind an IOMMU, one through AF_XDP.
//!
//! The cards are QEMU's, their drivers are the kernel's and DPDK's. What is typed in the guest is what
//! `docs/operating.md` says, but for the cores: the guest has one.

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
    _farm: Process,
}

impl Outside {
    /// A farm whose slaves also send to masters, with the cluster key.
    fn start(guest: &Guest, key: &str) -> Self {
        let key = guest.place().file("cluster.key", key);
        let farm = guest.place().start(
            &guest.namespace,
            &format!(
                "gvm-dp slave --name farm --gateway 10.0.2.2 --id 0 --count {SLAVES} --port udp:10.0.2.1:0 --frames 2048 \
                 --cluster-key-file {key}"
            ),
        );
        Self { key, _farm: farm }
    }

    /// A master that sends, and reads what comes back.
    fn master(&self, guest: &Guest, id: u32, more: &str) -> Process {
        guest.place().start(
            &guest.namespace,
            &format!(
                "gvm-pktgen --gateway 10.0.1.2 --id {id} --count {SLAVES} --port udp:10.0.1.1:0 --size imix --timeout 100 -q \
                 --json - --cluster-key-file {} {more}",
                self.key
            ),
        )
    }

    /// Sends records to all slaves, and compares every one that comes back: none is lost, changed or there twice.
    fn every_record_comes_back(&self, guest: &mut Guest, id: u32) {
        let more = "--rate 1000 --window 64 --window-timeout 60 --records 600 --seconds 100";
        let (code, printed, said) = self.master(guest, id, more).wait();
        assert_eq!(code, Some(0), "{printed}\n{said}\n{}", guest.shell("tail -n 20 /tmp/gateway.log; gvm-dp stats").1);
        let report = report(&printed);
        assert_eq!((number(&report["down"]["records"]), number(&report["echo"]["ok"])), (600, 600), "{report}");
    }
}

/// The line that starts the gateway, in the background of the guest, with its log in a file. It serves when this returns.
fn start(guest: &mut Guest, line: &str) -> String {
    // The guest has one core.
    let line = line.replace("--lcores 2-15", "--lcores 0");
    assert!(line.starts_with("gvm-dp --lcores 0 "), "{line}");
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
    let config = Config { cards: &[Card::E1000e, Card::Virtio], address_bits: Some(39), remaps_interrupts: true };
    let mut guest = Guest::boot(&config);
    let document = std::fs::read_to_string(project().join("docs/operating.md")).expect("a document");
    // The names that the document has, and what a machine has before somebody prepares it.
    guest.run(
        "cd /root; for card in 1 2; do ip link set dev $(ls -d /sys/bus/pci/devices/0000:0$card:00.0/net/* /sys/bus/pci/devices/0000:0$card:00.0/virtio*/net/* 2>/dev/null | xargs -n1 basename) name enp${card}s0f0; done",
    );
    let lines = lines_of(&document, "sh nics");
    let (run, prepare) = lines.split_last().expect("the document has such blocks");
    for line in prepare {
        guest.run(line);
    }
    let log = start(&mut guest, run);
    assert!(log.contains("port 0: dpdk:0000:01:00.0: 1 lcore, net_e1000_em in place"), "{log}");
    assert!(log.contains("port 1: xdp:") && log.contains("10.0.2.2:9999"), "{log}");

    let key = guest.run("cat cluster.key");
    let outside = Outside::start(&guest, &key);
    registered(&mut guest);
    let sniffer = Sniffer::new(&guest.namespace);
    outside.every_record_comes_back(&mut guest, 1);
    let heard = sniffer.heard();
    for gateway in [[10, 0, 1, 2], [10, 0, 2, 2]] {
        let from = heard.iter().filter(|datagram| datagram.from.0 == gateway && !datagram.link);
        let (count, wrong) = (from.clone().count(), from.filter(|datagram| !datagram.checksum).count());
        assert!(count > 0 && wrong == 0, "of {count} datagrams of {gateway:?} {wrong} have a wrong checksum");
    }

    // Killed under load, and started again: the card and the queues are as good as new.
    let load = outside.master(&guest, 2, "--rate 300 --seconds 100000 --allow-loss");
    let sent = |stats: &Value| number(&stats["directions"]["down"]["records_out"]);
    let before = sent(&stats(&mut guest));
    until_stats(&mut guest, "the load", |stats| sent(stats) > before + 100);
    guest.run("kill -9 $(cat /tmp/gateway.pid)");
    drop(load);
    start(&mut guest, run);
    registered(&mut guest);
    outside.every_record_comes_back(&mut guest, 3);
    let books = until_stats(&mut guest, "books that balance", |stats| {
        ["down", "up"].iter().all(|direction| stats["directions"][direction]["unaccounted"] == 0)
    });
    for direction in ["down", "up"] {
        let dropped = books["directions"][direction]["dropped"].as_object().expect("drops by reason");
        assert!(dropped.values().all(|count| *count == 0), "{books:#}");
    }
    guest.run("gvm-dp drain");
    let log = guest.until("the drain", "grep 'nothing was lost' /tmp/gateway.log");
    assert!(log.contains("drained: nothing was lost"), "{log}");
}
