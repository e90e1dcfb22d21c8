//! Finds due nodes: a ring of time slots, each with a list of nodes. Finding the due ones costs nothing for the others.

use crate::Time;

/// Slots of the ring. Times further ahead wait in the last slot and are rescheduled from there.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;
const NONE: u32 = u32::MAX;

/// Bytes that a wheel needs for each node.
pub const BYTES_PER_NODE: usize = size_of::<Link>();

/// Nodes `0 .. nodes`, each scheduled for at most one time.
#[derive(Debug)]
pub struct Wheel {
    /// Nanoseconds of one slot.
    tick: u64,
    /// The tick before which all slots are empty.
    cursor: u64,
    heads: Vec<u32>,
    /// Bit `slot`: the slot has a node.
    occupied: [u64; WORDS],
    /// For each node: the next in its slot, the one before it, and the slot, or `NONE`.
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    before: u32,
    slot: u32,
}

impl Wheel {
    /// An empty ring with slots of `tick` nanoseconds that begins now.
    pub fn new(nodes: u32, tick: u64, now: Time) -> Self {
        let tick = tick.max(1);
        Self {
            tick,
            cursor: now / tick,
            heads: vec![NONE; SLOTS],
            occupied: [0; WORDS],
            links: vec![Link { next: NONE, before: NONE, slot: NONE }; nodes as usize],
        }
    }

    /// Nanoseconds of one slot: the longest delay until a due node is found.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// Schedules a node for a time, instead of the one it had.
    pub fn schedule(&mut self, node: u32, time: Time) {
        self.remove(node);
        let ahead = time.div_ceil(self.tick).saturating_sub(self.cursor).min(SLOTS as u64 - 1);
        let slot = self.slot(self.cursor + ahead);
        let (Some(link), Some(head)) = (self.links.get_mut(node as usize), self.heads.get_mut(slot)) else {
            return crate::never!("a node is scheduled that the wheel does not have");
        };
        *link = Link { next: *head, before: NONE, slot: slot as u32 };
        let after = std::mem::replace(head, node);
        if let Some(after) = self.links.get_mut(after as usize) {
            after.before = node;
        }
        self.set_occupied(slot, true);
    }

    /// Removes a node from the ring, if it is there.
    fn remove(&mut self, node: u32) {
        let Some(link) = self.links.get_mut(node as usize) else { return };
        let Link { next, before, slot } = std::mem::replace(link, Link { next: NONE, before: NONE, slot: NONE });
        if slot == NONE {
            return;
        }
        if let Some(link) = self.links.get_mut(next as usize) {
            link.before = before;
        }
        match self.links.get_mut(before as usize) {
            Some(link) => link.next = next,
            None => {
                if let Some(head) = self.heads.get_mut(slot as usize) {
                    *head = next;
                }
                self.set_occupied(slot as usize, next != NONE);
            }
        }
    }

    /// Takes out one node that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<u32> {
        let tick = now / self.tick;
        match self.next_occupied() {
            Some(next) if next <= tick => {
                self.cursor = next;
                let node = *self.heads.get(self.slot(next))?;
                self.remove(node);
                Some(node)
            }
            next => {
                // The cursor never passes a slot that has a node.
                self.cursor = self.cursor.max(next.map_or(tick, |next| next.min(tick)));
                None
            }
        }
    }

    /// When the next node is due; at the latest the end of its slot.
    pub fn deadline(&self) -> Option<Time> {
        self.next_occupied().map(|tick| tick.saturating_mul(self.tick))
    }

    /// The first tick from the cursor on whose slot has a node.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.slot(self.cursor);
        // The first word is visited twice: first its bits from the start on, at the end the bits before.
        for step in 0..=WORDS {
            let at = (start / 64 + step) % WORDS;
            let mut word = *self.occupied.get(at)?;
            if step == 0 {
                word &= u64::MAX << (start % 64);
            }
            if word != 0 {
                let slot = at * 64 + word.trailing_zeros() as usize;
                return Some(self.cursor + ((slot + SLOTS - start) % SLOTS) as u64);
            }
        }
        None
    }

    fn slot(&self, tick: u64) -> usize {
        (tick % SLOTS as u64) as usize
    }

    fn set_occupied(&mut self, slot: usize, occupied: bool) {
        if let Some(word) = self.occupied.get_mut(slot / 64) {
            let bit = 1 << (slot % 64);
            *word = if occupied { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn nodes_come_out_when_they_are_due() {
        let mut wheel = Wheel::new(4, 10, 0);
        assert_eq!((wheel.deadline(), wheel.pop_due(1_000)), (None, None));
        wheel.schedule(0, 1_500);
        wheel.schedule(1, 1_201);
        wheel.schedule(2, 0);
        assert_eq!((wheel.deadline(), wheel.pop_due(1_000), wheel.pop_due(1_000)), (Some(1_000), Some(2), None));
        assert_eq!((wheel.deadline(), wheel.pop_due(1_209), wheel.pop_due(1_210)), (Some(1_210), None, Some(1)));
        wheel.schedule(0, 1_300);
        assert_eq!((wheel.pop_due(5_000), wheel.pop_due(5_000), wheel.deadline()), (Some(0), None, None));
    }

    #[test]
    fn far_ahead_is_the_end_of_the_ring() {
        let mut wheel = Wheel::new(1, 1, 0);
        wheel.schedule(0, u64::MAX);
        assert_eq!(wheel.deadline(), Some(SLOTS as u64 - 1));
        assert_eq!(wheel.pop_due(u64::MAX), Some(0));
        wheel.schedule(0, u64::MAX);
        assert_eq!(wheel.pop_due(u64::MAX), Some(0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_map(
            steps in proptest::collection::vec((0u32..20, 0u64..9_000, 0u64..300), 1..200),
        ) {
            let (mut wheel, mut model, mut now) = (Wheel::new(20, 7, 1 << 60), BTreeMap::new(), 1 << 60);
            for (node, ahead, pass) in steps {
                wheel.schedule(node, now + ahead);
                model.insert(node, (now + ahead).div_ceil(7) * 7);
                prop_assert_eq!(wheel.deadline().unwrap().max(now), (*model.values().min().unwrap()).max(now));
                now += pass;
                while let Some(node) = wheel.pop_due(now) {
                    prop_assert!(model.remove(&node).unwrap() <= now);
                }
                prop_assert!(model.values().all(|&due| due > now));
            }
        }
    }
}
