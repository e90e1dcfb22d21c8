//! Sequence numbers of a stream: what came in order, what is missing, late or twice.

/// How many past sequence numbers a stream remembers.
pub const WINDOW: u64 = 64;

/// The position of one sequence number in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next one.
    InOrder,
    /// Ahead of the next one: this many are missing, and may still come.
    Gap(u64),
    /// A missing one, which came after later ones.
    Reordered,
    /// It has been seen before.
    Duplicate,
    /// [`WINDOW`] or more behind the newest: it is no longer known whether it is a duplicate.
    Late,
}

/// One stream, which begins at sequence 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    next: u64,
    /// Bit `i`: `next - 1 - i` was seen.
    seen: u64,
}

impl Sequence {
    /// Takes in one sequence number.
    #[inline]
    pub fn note(&mut self, sequence: u64) -> Order {
        if sequence >= self.next {
            let gap = sequence - self.next;
            self.seen = if gap < WINDOW - 1 { self.seen << (gap + 1) | 1 } else { 1 };
            self.next = sequence.saturating_add(1);
            return if gap == 0 { Order::InOrder } else { Order::Gap(gap) };
        }
        let back = self.next - 1 - sequence;
        if back >= WINDOW {
            return Order::Late;
        }
        let bit = 1 << back;
        if self.seen & bit != 0 {
            return Order::Duplicate;
        }
        self.seen |= bit;
        Order::Reordered
    }

    /// The sequence number after the newest that was seen.
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// The streams of many slaves. For each slave it keeps the few streams that were active last, identified by their
/// request id.
///
/// A request id names the sender and its run. So a generator that is started again begins a new stream, and several
/// masters do not disturb each other. All memory is allocated at the start; the pages of slaves that never send are
/// never touched.
#[derive(Debug)]
pub struct Streams {
    ways: usize,
    /// For each slave `ways` of request id, `next`, `seen`; the most recently active one is first. `next == 0` marks an
    /// empty one.
    slots: Vec<[u64; 3]>,
}

impl Streams {
    /// Room for `ways` streams (at least one) of each of `slaves` slaves.
    pub fn new(slaves: u32, ways: u8) -> Self {
        let ways = usize::from(ways.max(1));
        Self { ways, slots: vec![[0; 3]; slaves as usize * ways] }
    }

    /// Takes in a sequence number of the stream `req_id` of the slave with number `index`.
    ///
    /// If the slave has no room for a new stream, its longest inactive one is forgotten. `None` if there is no such
    /// slave.
    #[inline]
    pub fn note(&mut self, index: u32, req_id: u64, sequence: u64) -> Option<Order> {
        self.take(index, req_id, sequence, false)
    }

    /// As [`note`](Self::note), but an unknown stream may have begun long ago: numbers before the first one that comes
    /// are not missing.
    #[inline]
    pub fn join(&mut self, index: u32, req_id: u64, sequence: u64) -> Option<Order> {
        self.take(index, req_id, sequence, true)
    }

    fn take(&mut self, index: u32, req_id: u64, sequence: u64, join: bool) -> Option<Order> {
        let at = (index as usize).checked_mul(self.ways)?;
        let slots = self.slots.get_mut(at..at.checked_add(self.ways)?)?;
        let found = slots.iter().position(|&[id, next, _]| id == req_id && next != 0);
        let way = found.unwrap_or(self.ways - 1);
        slots.get_mut(..=way)?.rotate_right(1);
        let slot = slots.first_mut()?;
        if found.is_none() {
            *slot = [req_id, if join { sequence } else { 0 }, 0];
        }
        let [_, next, seen] = slot;
        let mut stream = Sequence { next: *next, seen: *seen };
        let order = stream.note(sequence);
        (*next, *seen) = (stream.next, stream.seen);
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_verdict_once() {
        let mut stream = Sequence::default();
        let orders: Vec<_> = [0, 1, 4, 3, 3, 4, 2, 200, 136, 137].map(|sequence| stream.note(sequence)).into();
        use Order::*;
        assert_eq!(
            orders,
            [InOrder, InOrder, Gap(2), Reordered, Duplicate, Duplicate, Reordered, Gap(195), Late, Reordered]
        );
        assert_eq!(stream.next(), 201);
    }

    #[test]
    fn the_end_of_the_numbers_is_survived() {
        let mut stream = Sequence::default();
        assert_eq!(stream.note(u64::MAX), Order::Gap(u64::MAX));
        assert_eq!(stream.note(u64::MAX - 1), Order::Duplicate);
    }

    #[test]
    fn streams_of_two_senders_do_not_meet_and_a_third_takes_the_oldest_place() {
        let mut streams = Streams::new(2, 2);
        assert_eq!(streams.note(1, 10, 0), Some(Order::InOrder));
        assert_eq!(streams.note(1, 20, 0), Some(Order::InOrder));
        assert_eq!(streams.note(1, 10, 1), Some(Order::InOrder));
        assert_eq!(streams.note(0, 10, 0), Some(Order::InOrder));
        assert_eq!(streams.note(1, 30, 0), Some(Order::InOrder));
        assert_eq!(streams.note(1, 10, 2), Some(Order::InOrder));
        assert_eq!(streams.note(1, 20, 1), Some(Order::Gap(1)));
        assert_eq!(streams.note(2, 10, 0), None);
    }

    #[test]
    fn a_stream_that_is_joined_begins_where_it_is_heard() {
        let mut streams = Streams::new(1, 1);
        assert_eq!(streams.join(0, 10, 70), Some(Order::InOrder));
        assert_eq!(streams.join(0, 10, 72), Some(Order::Gap(1)));
        assert_eq!(streams.join(0, 10, 71), Some(Order::Reordered));
        assert_eq!(streams.join(0, 11, 0), Some(Order::InOrder));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_that_forgets_nothing(sequences in proptest::collection::vec(0u64..150, 0..300)) {
            let (mut stream, mut seen, mut next) = (Sequence::default(), BTreeSet::new(), 0);
            let mut missing = 0i64;
            for sequence in sequences {
                let expected = if sequence >= next {
                    let gap = sequence - next;
                    next = sequence + 1;
                    if gap == 0 { Order::InOrder } else { Order::Gap(gap) }
                } else if next - 1 - sequence >= WINDOW {
                    Order::Late
                } else if seen.contains(&sequence) {
                    Order::Duplicate
                } else {
                    Order::Reordered
                };
                seen.insert(sequence);
                let order = stream.note(sequence);
                prop_assert_eq!(order, expected);
                match order {
                    Order::Gap(gap) => missing += gap as i64,
                    Order::Reordered => missing -= 1,
                    _ => {}
                }
            }
            prop_assert!(missing >= next as i64 - seen.len() as i64);
        }
    }
}
