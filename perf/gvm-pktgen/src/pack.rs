//! Packs downward records into datagrams as a master does: those of one shard share a datagram.

use crate::counters::Counters;
use frame::{Class, Datagram, Frame, Outbox, Peer};
use std::num::NonZeroU16;
use wire::record::RecordHeader;
use wire::{HEADER_LEN, Shard, echo};

/// Datagrams that are filled at once; with more shards than this, the oldest datagram leaves.
const OPEN: usize = 64;

struct Open {
    shard: Shard,
    peer: Peer,
    frame: Frame,
    records: u16,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The shard of its slave.
    pub shard: Shard,
    /// The gateway of that shard.
    pub peer: Peer,
    /// Bytes that a datagram to it may have.
    pub room: usize,
}

/// Fills datagrams, one for each shard.
pub struct Packer {
    open: Vec<Open>,
    most: u16,
}

impl Packer {
    /// At most `most` records share a datagram; `None`: as many as fit.
    pub fn new(most: Option<NonZeroU16>) -> Self {
        Self { open: Vec::with_capacity(OPEN), most: most.map_or(u16::MAX, NonZeroU16::get) }
    }

    /// Appends a record to its shard's datagram. `false`, and nothing was appended, when there is no frame.
    pub fn push(
        &mut self,
        route: &Route,
        header: &RecordHeader,
        stamped: &echo::EchoHeader,
        counters: &Counters,
        out: &mut Outbox,
    ) -> bool {
        let len = HEADER_LEN + header.payload_len() as usize;
        let mut at = self.open.iter().position(|open| open.shard == route.shard && open.peer == route.peer);
        if let Some(full) = at
            && self.open.get(full).is_some_and(|open| open.frame.len() + len > route.room || open.records >= self.most)
        {
            self.send(full, counters, out);
            at = None;
        }
        let at = match at {
            Some(at) => at,
            None => {
                let Some(frame) = out.alloc() else { return false };
                if self.open.len() >= OPEN {
                    self.send(0, counters, out);
                }
                self.open.push(Open { shard: route.shard, peer: route.peer, frame, records: 0 });
                self.open.len() - 1
            }
        };
        let Some(open) = self.open.get_mut(at) else { return false };
        let Some(len) = echo::emit(header, stamped, open.frame.tail_mut()) else { return false };
        let (offset, whole) = (open.frame.headroom(), open.frame.len() + len);
        open.frame.set_range(offset, whole);
        open.records += 1;
        counters.sent_records.add(1);
        counters.sent_bytes.add(u64::from(header.payload_len()));
        true
    }

    /// Sends all that is open, the oldest first.
    pub fn flush(&mut self, counters: &Counters, out: &mut Outbox) {
        for open in self.open.drain(..) {
            give(open, counters, out);
        }
    }

    fn send(&mut self, at: usize, counters: &Counters, out: &mut Outbox) {
        if at < self.open.len() {
            give(self.open.remove(at), counters, out);
        }
    }
}

fn give(open: Open, counters: &Counters, out: &mut Outbox) {
    if open.records > 0 {
        counters.sent_datagrams.add(1);
        out.send(Datagram::new(open.frame, open.peer, Class::Down, open.records));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Hugepages, Pool, PoolConfig, PortId};
    use wire::{MsgType, Scale, Walk};

    struct Rig {
        packer: Packer,
        counters: Counters,
        out: Outbox,
    }

    impl Rig {
        fn new(most: u16, frames: u32) -> Self {
            let pool = PoolConfig { frames, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
            Self {
                packer: Packer::new(NonZeroU16::new(most)),
                counters: Counters::default(),
                out: Outbox::new(Pool::new(pool).unwrap(), 1),
            }
        }

        fn push(&mut self, shard: u32, id: u32, room: usize) -> bool {
            let peer = Peer::socket(PortId(0), ([127, 0, 0, 1], 9000 + shard as u16).into());
            let route = Route { shard: Shard(shard), peer, room };
            let header = RecordHeader::new(MsgType::ECHO, id, 0, 64);
            self.packer.push(&route, &header, &echo::EchoHeader::new(0, 0), &self.counters, &mut self.out)
        }

        /// The UDP port, and the slaves, of each datagram.
        fn sent(&mut self) -> Vec<(u16, Vec<u32>)> {
            let mut sent = Vec::new();
            while let Some(datagram) = self.out.queue(PortId(0)).unwrap().take() {
                let ids: Vec<_> =
                    Walk::new(datagram.frame.data(), Scale::default()).map(|item| item.unwrap().0.get()).collect();
                assert_eq!((ids.len(), datagram.class), (usize::from(datagram.records), Class::Down));
                sent.push((datagram.peer.udp_port, ids));
            }
            sent
        }
    }

    #[test]
    fn shards_do_not_share_and_a_full_datagram_leaves() {
        let mut rig = Rig::new(0, 64);
        // Two of 87 bytes fit.
        for (shard, id) in [(0, 1), (1, 8_193), (0, 2), (0, 3), (1, 8_194)] {
            assert!(rig.push(shard, id, 180));
        }
        assert_eq!(rig.sent(), [(9000, vec![1, 2])]);
        rig.packer.flush(&rig.counters, &mut rig.out);
        assert_eq!(rig.sent(), [(9001, vec![8_193, 8_194]), (9000, vec![3])]);
        assert_eq!((rig.counters.sent_records.get(), rig.counters.sent_datagrams.get()), (5, 3));
    }

    #[test]
    fn one_record_a_datagram_if_that_is_asked() {
        let mut rig = Rig::new(1, 64);
        assert!((0..3).all(|id| rig.push(0, id, 1472)));
        rig.packer.flush(&rig.counters, &mut rig.out);
        assert_eq!(rig.sent(), [(9000, vec![0]), (9000, vec![1]), (9000, vec![2])]);
    }

    #[test]
    fn many_shards_and_few_frames_are_survived() {
        let mut rig = Rig::new(0, 200);
        assert!((0..100).all(|shard| rig.push(shard, 0, 1472)));
        assert_eq!(rig.sent().len(), 100 - OPEN);
        rig.packer.flush(&rig.counters, &mut rig.out);
        assert_eq!(rig.sent().len(), OPEN);
        assert_eq!(rig.out.pool().in_use(), 0);

        let mut rig = Rig::new(0, 2);
        assert!(rig.push(0, 0, 1472) && rig.push(1, 0, 1472) && !rig.push(2, 0, 1472) && rig.push(0, 1, 1472));
        rig.packer.flush(&rig.counters, &mut rig.out);
        assert_eq!((rig.sent().len(), rig.counters.sent_records.get()), (2, 3));
    }
}
