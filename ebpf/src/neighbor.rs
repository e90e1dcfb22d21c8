//! The gateways of other shards, and their places in the program's maps.

use crate::SteerError;
use crate::layout::{MAX_NEIGHBORS, NEIGHBOR_SLOTS, NEIGHBOR_WORDS};
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use wire::Shard;
use wire::net::Mac;

/// How to reach the gateway of another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// The shard that it serves.
    pub shard: Shard,
    /// Index of the interface that leads there, in the network namespace of the calling thread.
    pub ifindex: u32,
    /// The MAC of that interface.
    pub src_mac: Mac,
    /// The MAC of the next hop.
    pub dst_mac: Mac,
    /// The address of the gateway.
    pub dst_ip: Ipv4Addr,
}

impl Neighbor {
    /// The form that the program reads.
    pub(crate) fn words(&self) -> [u32; NEIGHBOR_WORDS] {
        let [d0, d1, d2, d3, d4, d5] = self.dst_mac;
        let [s0, s1, s2, s3, s4, s5] = self.src_mac;
        let macs = [[d0, d1, d2, d3], [d4, d5, s0, s1], [s2, s3, s4, s5]].map(u32::from_ne_bytes);
        let ip = u32::from_ne_bytes(self.dst_ip.octets());
        [self.ifindex, ip, macs[0], macs[1], macs[2], (ip >> 16) + (ip & 0xffff)]
    }
}

/// Which slot of the maps belongs to which shard.
///
/// A released slot is used again only after all others. So no packet that is still in the program meets a half-written
/// new neighbour where it looked for the old one.
#[derive(Debug)]
pub(crate) struct Slots {
    used: HashMap<Shard, u32>,
    free: VecDeque<u32>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self { used: HashMap::new(), free: (0..NEIGHBOR_SLOTS).collect() }
    }

    /// A free slot for the new or changed neighbour of a shard; it is taken by [`Slots::commit`].
    pub(crate) fn next(&self, shard: Shard) -> Result<u32, SteerError> {
        if !self.used.contains_key(&shard) && self.used.len() >= MAX_NEIGHBORS as usize {
            return Err(SteerError::Neighbors(shard));
        }
        self.free.front().copied().ok_or(SteerError::Neighbors(shard))
    }

    /// The program now finds the shard's neighbour in the slot that [`Slots::next`] gave.
    pub(crate) fn commit(&mut self, shard: Shard) {
        if let Some(slot) = self.free.pop_front()
            && let Some(old) = self.used.insert(shard, slot)
        {
            self.free.push_back(old);
        }
    }

    /// The shard has no neighbour any more; returns whether it had one.
    pub(crate) fn release(&mut self, shard: Shard) -> bool {
        let slot = self.used.remove(&shard);
        self.free.extend(slot);
        slot.is_some()
    }

    pub(crate) fn contains(&self, shard: Shard) -> bool {
        self.used.contains_key(&shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_still_changes_and_refuses_one_more() {
        let mut slots = Slots::new();
        for shard in (0..MAX_NEIGHBORS).map(Shard) {
            slots.next(shard).unwrap();
            slots.commit(shard);
        }
        let one_more = Shard(MAX_NEIGHBORS);
        let error = slots.next(one_more).unwrap_err().to_string();
        assert!(error.contains("neighbour of shard 1024") && error.contains("no more than 1024"), "{error}");
        // A change goes to the spare slot; the old one becomes the spare.
        assert_eq!(slots.next(Shard(5)).unwrap(), 1024);
        slots.commit(Shard(5));
        assert_eq!(slots.next(Shard(6)).unwrap(), 5);
        assert!(slots.release(Shard(7)) && !slots.release(Shard(7)) && !slots.contains(Shard(7)));
        slots.next(one_more).unwrap();
        slots.commit(one_more);
        assert!(slots.contains(one_more));
    }

    #[test]
    fn the_words_are_a_packets_first_bytes() {
        let neighbor = Neighbor {
            shard: Shard(3),
            ifindex: 9,
            src_mac: [7, 8, 9, 10, 11, 12],
            dst_mac: [1, 2, 3, 4, 5, 6],
            dst_ip: Ipv4Addr::new(10, 0, 0, 3),
        };
        let words = neighbor.words();
        assert_eq!(words[0], 9);
        let bytes: Vec<u8> = words[1..5].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, [10, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }
}
