//! Says it when packets come damaged for a reason that somebody can mend: nodes whose packets do never register, and only the
//! log of the one who drops them can tell why.

use crate::assemble::nic::Nic;
use crate::serve::board::Board;
use frame::{Repeats, Time};
use port::headers::partial_checksum_remedy;
use std::collections::BTreeMap;

/// The counter of datagrams with unfinished checksums, the same in all ports that read headers themselves.
const PARTIAL: &str = "rx_dropped_partial_checksum";

/// What was counted of each port so far, and what was said of it.
struct Growth {
    seen: BTreeMap<u8, u64>,
    said: Repeats<u8>,
}

impl Growth {
    fn new(ports: usize) -> Self {
        Self { seen: BTreeMap::new(), said: Repeats::new(ports.max(1)) }
    }

    /// Whether a port's counter is larger than at the last look, and was not spoken of a moment ago.
    fn is_news(&mut self, now: Time, port: u8, count: u64) -> bool {
        let seen = self.seen.entry(port).or_default();
        let grew = count > *seen;
        *seen = count;
        grew && self.said.hear(now, port).is_some()
    }
}

/// What each port has dropped so far, and what was said of it.
pub struct Damaged {
    partial: Growth,
    cut_off: Growth,
}

impl Damaged {
    /// Nothing yet, for so many ports.
    pub fn new(ports: usize) -> Self {
        Self { partial: Growth::new(ports), cut_off: Growth::new(ports) }
    }

    /// Looks at all ports; returns what is to be said now.
    pub fn look(&mut self, now: Time, board: &Board) -> Vec<String> {
        let mut said = self.unfinished_checksums(now, board);
        said.extend(board.nics.iter().filter_map(|nic| self.cut_off(now, nic)));
        said
    }

    fn unfinished_checksums(&mut self, now: Time, board: &Board) -> Vec<String> {
        let mut dropped: BTreeMap<u8, (String, u64)> = BTreeMap::new();
        for port in board.views().flat_map(|view| &view.ports) {
            let (_, count) = dropped.entry(port.id.0).or_insert_with(|| (port.about.describe(), 0));
            port.counters.visit(&mut |name, _, value| *count += if name == PARTIAL { value } else { 0 });
        }
        let mut said = Vec::new();
        for (id, (description, count)) in dropped {
            if self.partial.is_news(now, id, count) {
                let name = description.split_whitespace().next().unwrap_or_default();
                let remedy = checksum_remedy(board, id);
                said.push(format!(
                    "port {id} ({name}): dropped datagrams with an unfinished UDP checksum, {count} so far; {remedy}"
                ));
            }
        }
        said
    }

    fn cut_off(&mut self, now: Time, nic: &Nic) -> Option<String> {
        let (id, count) = (nic.id().0, nic.cut_off()?);
        if !self.cut_off.is_news(now, id, count) {
            return None;
        }
        let interface = nic.stats();
        Some(format!("port {id} (xdp:{}): {count} packets so far {}", interface.name, interface.cut_off_text()?))
    }
}

/// What to do about unfinished checksums on a port.
fn checksum_remedy(board: &Board, port: u8) -> &'static str {
    let nic = board.nics.iter().find(|nic| nic.id().0 == port);
    let device = board.devices.iter().find(|device| device.id().0 == port);
    let (driver, generic) = match (nic, device) {
        (Some(nic), _) => (nic.driver(), nic.is_generic()),
        (None, Some(device)) => (device.driver(), false),
        (None, None) => ("", false),
    };
    partial_checksum_remedy(driver, generic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::SECOND;

    #[test]
    fn what_grows_is_said_at_once_and_then_rarely_for_each_port() {
        let mut growth = Growth::new(2);
        assert!(!growth.is_news(SECOND, 0, 0));
        assert!(growth.is_news(2 * SECOND, 0, 3) && growth.is_news(2 * SECOND, 1, 1));
        assert!(!growth.is_news(3 * SECOND, 0, 3) && !growth.is_news(4 * SECOND, 0, 9));
        assert!(growth.is_news(100 * SECOND, 0, 10) && !growth.is_news(100 * SECOND, 1, 1));
    }
}
