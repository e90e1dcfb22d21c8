//! The lines of `docs/operating.md`, typed as they are, from an unused card to a gateway under load.

use super::{Outside, available, drain, kill, registered, sent_down, start, stats, until_stats};
use guest::nics::{Card, Config, Guest};
use netns::product::binaries;
use netns::shell::{blocks_of, project};

/// The lines of the document's block that has this word, without the last one, and the last line.
fn block(word: &str) -> (Vec<String>, String) {
    let document = std::fs::read_to_string(project().join("docs/operating.md")).expect("a document");
    let blocks = blocks_of(&document, "sh nics");
    let mut found = blocks.into_iter().filter(|lines| lines.iter().any(|line| line.contains(word)));
    let mut lines = found.next().unwrap_or_else(|| panic!("no block with {word}"));
    assert_eq!(found.next(), None, "one block with {word}");
    let last = lines.pop().expect("a block has lines");
    (lines, last)
}

/// Gives interfaces the names of the document. udev makes such names, and the guest has no udev.
fn name_interfaces(guest: &mut Guest) {
    for card in 0..2 {
        let name = guest.interface(card);
        let wanted = format!("enp{}s0f0", card + 1);
        if name != wanted {
            guest.run(&format!("ip link set dev {name} name {wanted}"));
        }
    }
}

/// Starts the document's farm outside, with the key that the guest has made.
fn outside(guest: &mut Guest) -> Outside {
    let key = guest.run("cat cluster.key");
    let (farm, _) = block("gvm-pktgen");
    Outside::start_line(guest, 2, 1500, &key, &farm[0])
}

/// Runs the document's master. Each of its records must come back.
fn load(guest: &mut Guest, outside: &Outside, id: u32) {
    let (_, master) = block("gvm-pktgen");
    outside.sniffer.heard();
    let master = outside.master_line(guest, id, &format!("{master} --rate 1000 --window-timeout 60 --seconds 100"));
    outside.all_come_back(guest, master, 600);
}

#[test]
fn a_gateway_on_vfio_and_af_xdp() {
    if !available() {
        return;
    }
    // The programs are built now, if necessary, and not while the guest waits.
    binaries();
    let config = Config { cards: &[Card::E1000e, Card::Virtio], address_bits: 39, ..Config::default() };
    let mut guest = Guest::boot(&config);
    name_interfaces(&mut guest);
    guest.run("cd /root");
    let (prepare, run) = block("echo vfio-pci");
    for line in prepare {
        guest.run(&line);
    }
    // The guest has one core.
    let run = run.replace("--lcores 2-15", "--lcores 0");
    guest.run(&run.replacen("gvm-dp", "gvm-dp hugepages reserve", 1));
    let log = start(&mut guest, &run);
    assert!(log.contains("port 0: dpdk:0000:01:00.0: 1 lcore, net_e1000_em in place"), "{log}");
    assert!(log.contains("port 1: xdp:") && log.contains("10.0.2.2:9999"), "{log}");

    let outside = outside(&mut guest);
    registered(&mut guest);
    load(&mut guest, &outside, 1);
    let books = until_stats(&mut guest, "books that balance", |stats| {
        ["down", "up"].iter().all(|direction| stats["directions"][direction]["unaccounted"] == 0)
    });
    for direction in ["down", "up"] {
        let dropped = books["directions"][direction]["dropped"].as_object().expect("drops by reason");
        assert!(dropped.values().all(|count| *count == 0), "{books:#}");
    }

    // The gateway is killed under load and started again. The card and the queues must work as before.
    let busy = outside.master(&guest, 2, "--size imix --rate 300 --seconds 100000 --allow-loss");
    let before = sent_down(&stats(&mut guest));
    until_stats(&mut guest, "the load", |stats| sent_down(stats) > before + 100);
    kill(&mut guest);
    drop(busy);
    start(&mut guest, &run);
    registered(&mut guest);
    outside.every_record_comes_back(&mut guest, 3);
    drain(&mut guest);
}

/// On a kernel whose virtio has zero-copy (6.13) all lines run as they are. On an older kernel the last line is
/// refused, and the test follows the remedy in the message.
#[test]
fn a_gateway_on_zero_copy() {
    if !available() {
        return;
    }
    binaries();
    let cards = &[Card::Virtio, Card::Virtio];
    let mut guest = Guest::boot(&Config { cards, remaps_interrupts: false, ..Config::default() });
    name_interfaces(&mut guest);
    // The state after the card was bound for DPDK, which this machine cannot use.
    super::messages::bind(&mut guest, "0000:01:00.0");
    super::messages::without_interrupt_remapping_the_reason_is_said(&mut guest);
    guest.run("cd /root");
    let (prepare, run) = block("mode=zc");
    for line in prepare {
        guest.run(&line);
        if line.contains("drivers_probe") {
            name_interfaces(&mut guest);
        }
    }
    let run = run.replace("--lcores 2-15", "--lcores 0");
    let release = guest.run("uname -r");
    let mut version = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (version.next().unwrap_or(0), version.next().unwrap_or(0));
    let log = if version >= (6, 13) {
        let log = start(&mut guest, &run);
        assert!(log.contains("port 0: xdp:enp1s0f0: 1 queue on 1 lcore, zero-copy (asked for zc)"), "{log}");
        log
    } else {
        let (code, said) = guest.shell(&run);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("cannot do AF_XDP zero-copy") && said.contains("use mode=auto"), "{said}");
        let log = start(&mut guest, &run.replace("mode=zc", "mode=auto"));
        assert!(log.contains("copy mode on all xdp: ports: the driver of enp1s0f0 has no zero-copy"), "{log}");
        assert!(guest.run("gvm-dp stats").contains("(asked for auto): the driver of enp1s0f0 has no zero-copy"));
        log
    };
    assert!(log.contains("port 1: xdp:enp2s0f0: 1 queue on 1 lcore") && log.contains("10.0.2.2:9999"), "{log}");
    let outside = outside(&mut guest);
    registered(&mut guest);
    load(&mut guest, &outside, 1);
    drain(&mut guest);
}
