//! Reports packets that ports drop before any role sees them. Their senders can never register, and only the log of the
//! process that drops the packets can say why.

use crate::assemble::devices::Devices;
use crate::assemble::nic::Nic;
use ebpf::Verdict;
use frame::{Repeats, Time};
use port::headers::{SOURCE_REMEDY, VLAN_REMEDY, partial_checksum_remedy};
use serve::board::{Board, InterfaceView as _};
use std::collections::BTreeMap;

/// One reason to drop packets.
struct Reason {
    /// What is dropped.
    what: &'static str,
    /// The counter of packets that ports drop for it, the same in all ports.
    counter: Option<&'static str>,
    /// Packets that the XDP program drops for it, before the ports.
    in_program: fn(&Nic) -> u64,
    /// What to do about it on the port with this number.
    remedy: fn(&Devices, u8) -> String,
}

const REASONS: [Reason; 4] = [
    Reason {
        what: "datagrams of a VLAN that it does not serve",
        counter: Some("rx_dropped_vlan"),
        in_program: |nic| nic.packets(Verdict::DropVlan),
        remedy: |_, _| VLAN_REMEDY.to_owned(),
    },
    Reason {
        what: "datagrams from impossible sources",
        counter: Some("rx_dropped_source"),
        in_program: |nic| nic.packets(Verdict::DropSource),
        remedy: |_, _| SOURCE_REMEDY.to_owned(),
    },
    Reason {
        what: "datagrams with an unfinished UDP checksum",
        counter: Some("rx_dropped_partial_checksum"),
        in_program: |_| 0,
        remedy: finish_checksums,
    },
    Reason {
        what: "packets that came cut off",
        counter: None,
        in_program: |nic| nic.cut_off().unwrap_or(0),
        remedy: enlarge_buffers,
    },
];

/// What to do about unfinished checksums.
fn finish_checksums(devices: &Devices, port: u8) -> String {
    let (driver, generic) = match (devices.nic(port), devices.of_dpdk(port)) {
        (Some(nic), _) => (nic.driver(), nic.is_generic()),
        (None, Some(device)) => (device.driver(), false),
        (None, None) => ("", false),
    };
    partial_checksum_remedy(driver, generic).to_owned()
}

/// What to do about a driver whose buffers are too small.
fn enlarge_buffers(devices: &Devices, port: u8) -> String {
    let text = devices.nic(port).and_then(|nic| nic.stats().cut_off_text());
    text.map_or_else(String::new, |text| format!("they {text}"))
}

/// A port and the index of a reason.
type Key = (u8, usize);

/// What each port has dropped so far, and what was reported about it.
pub(super) struct Dropped {
    seen: BTreeMap<Key, u64>,
    said: Repeats<Key>,
}

impl Dropped {
    /// No drops yet, for this many ports.
    pub(super) fn new(ports: usize) -> Self {
        Self { seen: BTreeMap::new(), said: Repeats::new(ports.max(1) * REASONS.len()) }
    }

    /// Checks all ports; returns what must be reported now.
    pub(super) fn check(&mut self, now: Time, board: &Board, devices: &Devices) -> Vec<String> {
        let mut ports: BTreeMap<u8, (String, [u64; REASONS.len()])> = BTreeMap::new();
        for port in board.views().flat_map(|view| &view.ports) {
            let (_, counts) = ports.entry(port.id.0).or_insert_with(|| (port.about.describe(), Default::default()));
            port.counters.visit(&mut |name, _, value| {
                for (count, reason) in counts.iter_mut().zip(&REASONS) {
                    *count += if reason.counter == Some(name) { value } else { 0 };
                }
            });
        }
        for nic in &devices.nics {
            let Some((_, counts)) = ports.get_mut(&nic.id().0) else { continue };
            for (count, reason) in counts.iter_mut().zip(&REASONS) {
                *count += (reason.in_program)(nic);
            }
        }
        let described = ports.into_iter().map(|(id, (description, counts))| (id, description, counts));
        described.flat_map(|(id, description, counts)| self.grown(now, id, &description, counts, devices)).collect()
    }

    /// What must be reported about one port.
    fn grown(
        &mut self,
        now: Time,
        id: u8,
        description: &str,
        counts: [u64; REASONS.len()],
        devices: &Devices,
    ) -> Vec<String> {
        let name = description.split_whitespace().next().unwrap_or_default();
        let mut said = Vec::new();
        for (place, (reason, count)) in REASONS.iter().zip(counts).enumerate() {
            let seen = self.seen.entry((id, place)).or_default();
            if count <= *seen {
                continue;
            }
            *seen = count;
            if let Some(more) = self.said.hear(now, (id, place)) {
                let (what, remedy) = (reason.what, (reason.remedy)(devices, id));
                said.push(format!("port {id} ({name}): dropped {what}, {count} so far; {remedy}{more}"));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::SECOND;

    #[test]
    fn each_reason_is_reported_of_each_port_and_not_at_every_look() {
        let (mut dropped, devices) = (Dropped::new(2), Devices { nics: Vec::new(), dpdk: Vec::new() });
        let mut look =
            |seconds: u64, id, counts| dropped.grown(seconds * SECOND, id, "xdp:left queue 0 (x)", counts, &devices);
        assert!(look(1, 0, [0; 4]).is_empty());
        let said = look(2, 0, [5, 1, 0, 0]);
        assert_eq!(said.len(), 2, "{said:?}");
        let begin = "port 0 (xdp:left): dropped datagrams of a VLAN that it does not serve, 5 so far; ";
        assert!(said[0].starts_with(begin) && said[0].contains("xdp:eth1,vlans=0+10"), "{}", said[0]);
        assert!(said[1].contains("dropped datagrams from impossible sources, 1 so far; no host can"), "{}", said[1]);
        // The same drops continue.
        assert!(look(3, 0, [6, 1, 0, 0]).is_empty() && look(4, 0, [7, 2, 0, 0]).is_empty());
        assert_eq!(look(5, 1, [1, 0, 0, 0]).len(), 1);
        let said = look(70, 0, [9, 2, 0, 0]);
        assert!(said.len() == 1 && said[0].ends_with("(2 more like this since it was last said)"), "{said:?}");
        // Each reason has its own memory.
        assert_eq!(look(71, 0, [9, 2, 3, 0]).len(), 1);
        assert!(look(72, 0, [9, 2, 4, 0]).is_empty());
    }
}
