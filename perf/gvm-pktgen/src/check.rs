//! Checks every record that comes up: its content, and its sequence per slave and stream.

use crate::counters::Counters;
use crate::histogram::Histogram;
use frame::Time;
use slave::sequence::{Order, Streams};
use std::sync::Arc;
use wire::{MsgType, Record, SlaveId, echo};

/// The slaves that are asked: `first .. first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The lowest id.
    pub first: u32,
    /// How many; at least 1.
    pub count: u32,
}

impl Targets {
    /// The place of an id among them.
    #[inline]
    pub fn index(&self, id: u32) -> Option<u32> {
        id.checked_sub(self.first).filter(|&index| index < self.count)
    }
}

/// Streams of PATTERN that are distinguished for each slave: those of a restarted farm, and of the one before.
const UP_STREAMS: u8 = 2;

/// The longest time between two records of one slave.
#[derive(Debug)]
struct Gaps {
    /// For each slave the last time; 0: none yet.
    last: Vec<Time>,
}

impl Gaps {
    fn new(slaves: u32) -> Self {
        Self { last: vec![0; slaves as usize] }
    }

    /// Takes a record; returns the time since the one before.
    #[inline]
    fn note(&mut self, slave: u32, now: Time) -> u64 {
        let Some(last) = self.last.get_mut(slave as usize) else { return 0 };
        match std::mem::replace(last, now) {
            0 => 0,
            before => now.saturating_sub(before),
        }
    }
}

/// Checks the records that come up.
#[derive(Debug)]
pub struct Checker {
    targets: Targets,
    /// The request id of this run.
    req_id: u64,
    echo: Streams,
    up: Streams,
    echo_gaps: Gaps,
    up_gaps: Gaps,
    counters: Arc<Counters>,
    latency: Arc<Histogram>,
}

impl Checker {
    /// A checker of the answers to `req_id`, and of the records that slaves send to its master on their own.
    pub fn new(targets: Targets, req_id: u64, counters: Arc<Counters>, latency: Arc<Histogram>) -> Self {
        Self {
            targets,
            req_id,
            echo: Streams::new(targets.count, 1),
            up: Streams::new(targets.count, UP_STREAMS),
            echo_gaps: Gaps::new(targets.count),
            up_gaps: Gaps::new(targets.count),
            counters,
            latency,
        }
    }

    /// Takes one record of a slave; returns whether it was an answer to this run.
    #[inline]
    pub fn check(&mut self, now: Time, id: SlaveId, record: &Record<'_>) -> bool {
        let header = record.header();
        let expected = match header.msg_type() {
            MsgType::ECHO_REPLY => header.req_id() == self.req_id,
            MsgType::PATTERN => header.req_id() >> 48 == self.req_id >> 48,
            _ => false,
        };
        let Some(index) = self.targets.index(id.get()).filter(|_| expected && !header.is_part()) else {
            self.counters.dropped_unexpected.add(1);
            return false;
        };
        if header.msg_type() == MsgType::PATTERN {
            self.pattern(now, index, record);
            return false;
        }
        let counters = &self.counters;
        let Some(stamped) = echo::check(record) else {
            counters.echo_corrupted.add(1);
            return true;
        };
        self.latency.note(now.saturating_sub(stamped.stamp()));
        counters.echo_gap_ns.raise(self.echo_gaps.note(index, now));
        match self.echo.note(index, header.req_id(), stamped.sequence()) {
            Some(Order::InOrder) => counters.echo_ok.add(1),
            Some(Order::Gap(missing)) => {
                counters.echo_ok.add(1);
                counters.echo_gap.add(missing);
            }
            Some(Order::Reordered) => counters.echo_reordered.add(1),
            Some(Order::Duplicate) => counters.echo_duplicate.add(1),
            // `None` is not possible: there is a stream for each target.
            Some(Order::Late) | None => counters.echo_late.add(1),
        }
        true
    }

    fn pattern(&mut self, now: Time, index: u32, record: &Record<'_>) {
        let counters = &self.counters;
        let Some(stamped) = echo::check(record) else {
            counters.up_corrupted.add(1);
            return;
        };
        counters.up_gap_ns.raise(self.up_gaps.note(index, now));
        match self.up.join(index, record.header().req_id(), stamped.sequence()) {
            Some(Order::InOrder) => counters.up_ok.add(1),
            Some(Order::Gap(missing)) => {
                counters.up_ok.add(1);
                counters.up_gap.add(missing);
            }
            Some(Order::Reordered) => counters.up_reordered.add(1),
            Some(Order::Duplicate) => counters.up_duplicate.add(1),
            Some(Order::Late) | None => counters.up_late.add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::record::{FRAG_LAST, FRAG_PART, FRAG_PUSH, RecordHeader, req_id};
    use wire::{HEADER_LEN, Scale};

    const REQ_ID: u64 = req_id(3, 77);

    struct Rig {
        checker: Checker,
        counters: Arc<Counters>,
        latency: Arc<Histogram>,
    }

    impl Rig {
        fn new() -> Self {
            let (counters, latency) = (Arc::new(Counters::default()), Arc::new(Histogram::default()));
            let targets = Targets { first: 10, count: 5 };
            let checker = Checker::new(targets, REQ_ID, Arc::clone(&counters), Arc::clone(&latency));
            Self { checker, counters, latency }
        }

        fn take(&mut self, bytes: &[u8]) -> bool {
            let record = Record::first(bytes).unwrap();
            let id = Scale::default().slave_id(record.header().slave_id()).unwrap();
            self.checker.check(1_000, id, &record)
        }
    }

    fn record(msg_type: MsgType, id: u32, request: u64, sequence: u64) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN + 64];
        let header = RecordHeader::new(msg_type, id, request, 64);
        echo::emit(&header, &echo::EchoHeader::new(400, sequence), &mut out).unwrap();
        out
    }

    #[test]
    fn answers_are_judged_by_content_and_order() {
        let mut rig = Rig::new();
        for sequence in [0, 1, 3, 2, 2, 100, 4] {
            assert!(rig.take(&record(MsgType::ECHO_REPLY, 12, REQ_ID, sequence)));
        }
        let mut corrupt = record(MsgType::ECHO_REPLY, 12, REQ_ID, 101);
        corrupt[HEADER_LEN + 63] ^= 0x80;
        assert!(rig.take(&corrupt));
        let c = &rig.counters;
        assert_eq!((c.echo_ok.get(), c.echo_gap.get(), c.echo_reordered.get()), (4, 1 + 96, 1));
        assert_eq!((c.echo_duplicate.get(), c.echo_late.get(), c.echo_corrupted.get()), (1, 1, 1));
        assert_eq!((c.answered(), rig.latency.count(), rig.latency.max()), (7, 7, 600));
    }

    #[test]
    fn bits_that_ask_gateways_for_something_change_no_answer_and_parts_are_none() {
        let mut rig = Rig::new();
        for (sequence, (flags, is_whole)) in
            [(FRAG_PUSH, true), (0x80, true), (FRAG_PART, false), (FRAG_LAST, false)].into_iter().enumerate()
        {
            let mut bytes = record(MsgType::ECHO_REPLY, 12, REQ_ID, sequence as u64);
            bytes[wire::record::offset::IS_FRAG] = flags;
            assert_eq!(rig.take(&bytes), is_whole, "{flags:#x}");
        }
        assert_eq!(rig.counters.dropped_unexpected.get(), 2);
    }

    #[test]
    fn what_was_not_asked_for_is_unexpected() {
        let mut rig = Rig::new();
        for bytes in [
            record(MsgType::ECHO_REPLY, 12, req_id(3, 78), 0),
            record(MsgType::ECHO_REPLY, 15, REQ_ID, 0),
            record(MsgType::ECHO_REPLY, 9, REQ_ID, 0),
            record(MsgType::PATTERN, 12, req_id(4, 77), 0),
            record(MsgType::ECHO, 12, REQ_ID, 0),
        ] {
            assert!(!rig.take(&bytes));
        }
        assert_eq!((rig.counters.dropped_unexpected.get(), rig.counters.cargo_in()), (5, 0));
    }

    #[test]
    fn a_slaves_own_stream_may_have_begun_before_us() {
        let mut rig = Rig::new();
        for sequence in [70, 71, 73] {
            assert!(!rig.take(&record(MsgType::PATTERN, 14, req_id(3, 5), sequence)));
        }
        let c = Arc::clone(&rig.counters);
        assert_eq!((c.up_ok.get(), c.up_gap.get(), c.up_lost()), (3, 1, 1));
        rig.take(&record(MsgType::PATTERN, 14, req_id(3, 5), 72));
        assert_eq!((c.up_reordered.get(), c.up_lost(), c.dropped_unexpected.get()), (1, 0, 0));
    }

    proptest! {
        #[test]
        fn each_record_is_in_exactly_one_counter(
            records in proptest::collection::vec(
                (0u32..20, prop_oneof![Just(REQ_ID), any::<u64>()], 0u64..200, 0u16..5, any::<u8>(), 0usize..87),
                0..60,
            ),
        ) {
            let mut rig = Rig::new();
            let total = records.len() as u64;
            for (id, request, sequence, kind, value, at) in records {
                let kinds = [MsgType::ECHO_REPLY, MsgType::PATTERN, MsgType::ECHO_REPLY, MsgType::PATTERN, MsgType::RC];
                let mut bytes = record(kinds[usize::from(kind)], id, request, sequence);
                // Anything but magic, slave id and length, so that it stays a record.
                if kind < 2 && (at < 4 || (10..18).contains(&at) || at > 22) {
                    bytes[at.max(4)] = value;
                }
                rig.take(&bytes);
            }
            prop_assert_eq!(rig.counters.cargo_in() + rig.counters.dropped_unexpected.get(), total);
        }
    }
}
