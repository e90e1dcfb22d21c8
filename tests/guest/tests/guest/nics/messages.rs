//! The messages when a card cannot be used, each with its cause and its remedy.

use super::{SLAVES, available, drain, registered, start};
use guest::nics::{Card, Config, Guest, UNCONFINED, tap};
use netns::product::binaries;

/// Starts the gateway, which must fail with this exit code. Returns its message.
fn refused(guest: &mut Guest, code: i32, ports: &str) -> String {
    let (found, said) = guest.shell(&format!("gvm-dp --lcores 0 {ports}"));
    assert_eq!(found, code, "{ports}: {said}");
    said.lines().last().unwrap_or_default().to_owned()
}

fn says(complaint: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint}");
}

/// The command that gives a card to programs.
fn bind_line(card: &str) -> String {
    format!(
        "modprobe vfio-pci; cd /sys/bus/pci/devices/{card}; echo vfio-pci >driver_override; echo {card} \
         >driver/unbind; \
         echo {card} >/sys/bus/pci/drivers_probe"
    )
}

/// Gives a card to programs.
pub(crate) fn bind(guest: &mut Guest, card: &str) {
    guest.run(&bind_line(card));
}

#[test]
fn every_obstacle_is_named_with_its_remedy() {
    if !available() {
        return;
    }
    binaries();
    let cards = &[Card::E1000e, Card::Vmxnet3, Card::Virtio];
    let config = Config { cards, unfinished: true, unconfined: true, ..Config::default() };
    let mut guest = Guest::boot(&config);
    let port = "--port 0000:01:00.0,ip=10.0.1.2/24";

    // An interface of the kernel, named as if it were a device for programs.
    let said = refused(&mut guest, 2, port);
    says(&said, &["kernel driver makes the interface", "for DPDK bind it first", "--bind=vfio-pci 0000:01:00.0"]);
    let (code, said) = guest.shell("gvm-dp");
    assert_eq!(code, 2, "{said}");
    says(
        &said,
        &["Usable after one more step:", "down", "`ip address add ADDR/BITS dev eth", "&& ip link set dev eth"],
    );

    bind(&mut guest, "0000:01:00.0");
    says(&guest.shell("gvm-dp").1, &["0000:01:00.0", "write --port 0000:01:00.0,ip=ADDR/BITS"]);

    // Another process has it.
    guest.run(&format!("gvm-dp --lcores 0 {port} >/tmp/first.log 2>&1 &\necho $! >/tmp/first.pid"));
    guest.until("the start", "grep -q 'INFO privileges' /tmp/first.log");
    let pid = guest.run("cat /tmp/first.pid");
    let said = refused(&mut guest, 4, &format!("--name second {port}"));
    says(&said, &["process gvm-dp", &format!("(pid {pid}) has this device"), "use another device"]);
    assert!(!said.contains("hugepages"), "{said}");
    guest.run("gvm-dp drain");

    // A driver of the kernel's that has no XDP.
    let name = guest.run("ls /sys/bus/pci/devices/0000:02:00.0/net");
    guest.run(&format!("ip address add 10.0.2.2/24 dev {name}; ip link set dev {name} up"));
    says(&refused(&mut guest, 3, "--port 0000:02:00.0"), &["has no XDP", "mode=skb"]);
    without_an_iommu_the_reason_is_said(&mut guest);
    unfinished_checksums_have_the_remedy_of_the_card(&mut guest);
}

/// A host leaves the checksums of what it sends to its virtual machines to their cards.
fn unfinished_checksums_have_the_remedy_of_the_card(guest: &mut Guest) {
    let name = guest.interface(2);
    guest.run(&format!("ip address add 10.0.3.2/24 dev {name}; ip link set dev {name} up"));
    let farm = format!("gvm-dp slave --name farm --gateway 10.0.3.2 --count {SLAVES} --id 0 --port udp:10.0.3.1:0");
    let _farm = guest.place().start(&guest.namespace, &format!("{farm} --frames 2048"));
    start(guest, &format!("gvm-dp --lcores 0 --port xdp:{name},mode=skb"));
    let remedy = ["leave mode=skb out", "the driver (virtio_net)", "on the host `ethtool -K TAP tx off`"];
    says(&guest.until("a warning", "grep 'unfinished UDP checksum' /tmp/gateway.log"), &remedy);
    let stats = guest.until("the same in stats", "gvm-dp stats | grep 'rx_dropped_partial_checksum'");
    says(&stats, &remedy);
    // The commands of the remedy are run, first the one for the host.
    let ethtool = |state| format!("ethtool -K {} tx {state}", tap(2));
    guest.namespace.exec(&ethtool("off"));
    registered(guest);
    drain(guest);
    guest.namespace.exec(&ethtool("on"));
    start(guest, &format!("gvm-dp --lcores 0 --port xdp:{name}"));
    registered(guest);
    drain(guest);
}

/// The first card is bound to vfio-pci on a machine that does not remap interrupts.
pub(crate) fn without_interrupt_remapping_the_reason_is_said(guest: &mut Guest) {
    let said = refused(guest, 3, "--port 0000:01:00.0,ip=10.0.1.2/24");
    says(&said, &["failed to select IOMMU type", "interrupt remapping", "allow_unsafe_interrupts"]);
    assert!(!said.contains("hugepages"), "{said}");
}

fn without_an_iommu_the_reason_is_said(guest: &mut Guest) {
    // The kernel says no; the device then has no driver.
    let (_, _) = guest.shell(&bind_line(UNCONFINED));
    let said = refused(guest, 3, &format!("--port {UNCONFINED},ip=10.0.4.2/24"));
    says(&said, &["no driver is bound", "an IOMMU", "intel_iommu=on iommu=pt"]);
}
