//! Says it when packets are refused before anybody hears them: nodes that send so never register, and only the log of the one
//! who drops them can tell why.

use crate::serve::board::Board;
use ebpf::Verdict;
use frame::{Repeats, Time};
use port::headers::{SOURCE_REMEDY, VLAN_REMEDY};
use std::collections::BTreeMap;

/// One reason to refuse packets.
struct Reason {
    /// What is said of them.
    what: &'static str,
    remedy: &'static str,
    /// Their counter, the same in all ports.
    counter: &'static str,
    /// What the XDP program calls it, which looks first.
    verdict: Verdict,
}

const REASONS: [Reason; 2] = [
    Reason {
        what: "datagrams of a VLAN that it does not serve",
        remedy: VLAN_REMEDY,
        counter: "rx_dropped_vlan",
        verdict: Verdict::DropVlan,
    },
    Reason {
        what: "datagrams from impossible sources",
        remedy: SOURCE_REMEDY,
        counter: "rx_dropped_source",
        verdict: Verdict::DropSource,
    },
];

/// A port and the place of a reason.
type Key = (u8, usize);

/// What each port has dropped so far, and what was said of it.
pub struct Refusals {
    seen: BTreeMap<Key, u64>,
    said: Repeats<Key>,
}

impl Refusals {
    /// Nothing yet, for so many ports.
    pub fn new(ports: usize) -> Self {
        Self { seen: BTreeMap::new(), said: Repeats::new(ports.max(1) * REASONS.len()) }
    }

    /// Looks at all ports; returns what is to be said now.
    pub fn look(&mut self, now: Time, board: &Board) -> Vec<String> {
        let mut ports: BTreeMap<u8, (String, [u64; REASONS.len()])> = BTreeMap::new();
        for port in board.views().flat_map(|view| &view.ports) {
            let (_, counts) = ports.entry(port.id.0).or_insert_with(|| (port.about.describe(), Default::default()));
            port.counters.visit(&mut |name, _, value| {
                for (count, reason) in counts.iter_mut().zip(&REASONS) {
                    *count += if name == reason.counter { value } else { 0 };
                }
            });
        }
        for nic in &board.nics {
            let Some((_, counts)) = ports.get_mut(&nic.id().0) else { continue };
            for (count, reason) in counts.iter_mut().zip(&REASONS) {
                *count += nic.packets(reason.verdict);
            }
        }
        let described = ports.into_iter().map(|(id, (description, counts))| (id, description, counts));
        described.flat_map(|(id, description, counts)| self.grown(now, id, &description, counts)).collect()
    }

    /// What is to be said of one port.
    fn grown(&mut self, now: Time, id: u8, description: &str, counts: [u64; REASONS.len()]) -> Vec<String> {
        let name = description.split_whitespace().next().unwrap_or_default();
        let mut said = Vec::new();
        for (place, (reason, count)) in REASONS.iter().zip(counts).enumerate() {
            let seen = self.seen.entry((id, place)).or_default();
            if count <= *seen {
                continue;
            }
            *seen = count;
            if let Some(more) = self.said.hear(now, (id, place)) {
                let Reason { what, remedy, .. } = reason;
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
    fn each_reason_is_said_of_each_port_and_not_at_every_look() {
        let mut refusals = Refusals::new(2);
        let mut look = |seconds: u64, id, counts| refusals.grown(seconds * SECOND, id, "xdp:left queue 0 (x)", counts);
        assert!(look(1, 0, [0, 0]).is_empty());
        let said = look(2, 0, [5, 1]);
        assert_eq!(said.len(), 2, "{said:?}");
        let begin = "port 0 (xdp:left): dropped datagrams of a VLAN that it does not serve, 5 so far; ";
        assert!(said[0].starts_with(begin) && said[0].contains("xdp:eth1,vlans=0+10"), "{}", said[0]);
        assert!(said[1].contains("dropped datagrams from impossible sources, 1 so far; no host can"), "{}", said[1]);
        // The same goes on.
        assert!(look(3, 0, [6, 1]).is_empty() && look(4, 0, [7, 2]).is_empty());
        assert_eq!(look(5, 1, [1, 0]).len(), 1);
        let said = look(70, 0, [9, 2]);
        assert!(said.len() == 1 && said[0].ends_with("(2 more like this since it was last said)"), "{said:?}");
    }
}
