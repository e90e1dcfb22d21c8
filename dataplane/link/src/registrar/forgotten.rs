//! Masters that were here, and whose places others have taken since.
//!
//! The registrar uses what it knows of a node to refuse earlier messages: the boot epoch and seq, and that the node
//! spoke version 2. For masters that lost their place it keeps only the values below, in the same memory for any number
//! of them.

use super::master::{Master, master_id};
use frame::Time;
use wire::link::NodeId;

/// How many ids of masters there are, in words of bits.
const WORDS: usize = (1 << 16) / u64::BITS as usize;

/// See the module's documentation.
pub(super) struct Forgotten {
    /// When the last of them was last heard. Every cookie that the gateway accepted from any of them was issued before.
    heard: Option<Time>,
    /// A bit for each id: the master spoke version 2. Empty if version 1 is not accepted.
    spoke_2: Vec<u64>,
}

impl Forgotten {
    pub(super) fn new(accepts_v1: bool) -> Self {
        Self { heard: None, spoke_2: vec![0; if accepts_v1 { WORDS } else { 0 }] }
    }

    /// Another master takes the place of this one.
    pub(super) fn add(&mut self, master: &Master) {
        self.heard = self.heard.max(Some(master.presence.heard));
        let (word, bit) = place(master.id);
        if !master.presence.v1
            && let Some(word) = self.spoke_2.get_mut(word)
        {
            *word |= bit;
        }
    }

    /// Whether a cookie, issued at `issued` to an unknown master, is from before a master was forgotten. Then the
    /// heartbeat that carries it may have registered that master before.
    pub(super) fn may_have_used(&self, issued: Time) -> bool {
        self.heard.is_some_and(|heard| issued <= heard)
    }

    /// Whether a node is a forgotten master that spoke version 2.
    pub(super) fn has_spoken_2(&self, node: NodeId) -> bool {
        let at = master_id(node).map(place);
        at.is_some_and(|(word, bit)| self.spoke_2.get(word).is_some_and(|word| word & bit != 0))
    }
}

/// The word and the bit of an id.
fn place(id: u16) -> (usize, u64) {
    (usize::from(id) / u64::BITS as usize, 1 << (u32::from(id) % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_master_has_a_bit_of_its_own() {
        let places: HashSet<(usize, u64)> = (0..=u16::MAX).map(place).collect();
        assert_eq!(places.len(), 1 << 16);
        assert!(places.iter().all(|(word, bit)| *word < 1 << 10 && bit.count_ones() == 1));
    }
}
