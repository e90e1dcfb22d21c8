//! Says it when datagrams come with unfinished checksums: nodes that send so never register, and only the log of the one
//! who drops them can tell why.

use crate::serve::board::Board;
use frame::{Repeats, Time};
use port::headers::PARTIAL_CHECKSUM_REMEDY;
use std::collections::BTreeMap;

/// The counter of such datagrams, the same in all ports that read headers themselves.
const COUNTER: &str = "rx_dropped_partial_checksum";

/// What each port has dropped so far, and what was said of it.
pub struct PartialChecksums {
    seen: BTreeMap<u8, u64>,
    said: Repeats<u8>,
}

impl PartialChecksums {
    /// Nothing yet, for so many ports.
    pub fn new(ports: usize) -> Self {
        Self { seen: BTreeMap::new(), said: Repeats::new(ports.max(1)) }
    }

    /// Looks at all ports; returns what is to be said now.
    pub fn look(&mut self, now: Time, board: &Board) -> Vec<String> {
        let mut dropped: BTreeMap<u8, (String, u64)> = BTreeMap::new();
        for port in board.views().flat_map(|view| &view.ports) {
            let (_, count) = dropped.entry(port.id.0).or_insert_with(|| (port.about.describe(), 0));
            port.counters.visit(&mut |name, _, value| *count += if name == COUNTER { value } else { 0 });
        }
        let mut said = Vec::new();
        for (id, (description, count)) in dropped {
            let seen = self.seen.entry(id).or_default();
            if count <= *seen {
                continue;
            }
            *seen = count;
            if self.said.hear(now, id).is_some() {
                let name = description.split_whitespace().next().unwrap_or_default();
                said.push(format!(
                    "port {id} ({name}): dropped datagrams with an unfinished UDP checksum, {count} so far; {PARTIAL_CHECKSUM_REMEDY}"
                ));
            }
        }
        said
    }
}
