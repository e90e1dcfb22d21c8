//! Answers ECHO and checks PATTERN in one pass over a received frame, which becomes the answer.

use crate::counters::FarmCounters;
use crate::lending::is_lending;
use crate::roster::Roster;
use crate::sequence::{Order, Streams};
use frame::Frame;
use wire::record::offset;
use wire::{BadReason, MsgType, Record, echo};

/// What happens to one record.
enum Verdict {
    /// It returns as ECHO_REPLY.
    Reply,
    /// It ends here, and was counted.
    Gone,
}

/// Takes the records that are neither ECHO nor PATTERN, with the number of their slave.
pub(crate) trait Others {
    /// Takes a HEARTBEAT_ACK.
    fn acknowledge(&mut self, index: u32, record: &Record<'_>);

    /// Takes a message of a lease, or a packet of a reliable connection. Returns whether the farm lends.
    fn lend(&mut self, index: u32, record: &Record<'_>) -> bool;
}

/// Serves the records of one frame from a gateway, or from any sender if the farm answers any source.
pub(crate) struct Server<'a> {
    pub(crate) roster: &'a Roster,
    pub(crate) streams: &'a mut Streams,
    pub(crate) counters: &'a FarmCounters,
}

impl Server<'_> {
    /// Serves all records. Returns how many remain in the frame: the ECHO_REPLYs, in order, and nothing else.
    ///
    /// A frame of only ECHOs is changed in place: the type of each record is rewritten and no byte moves. Otherwise the
    /// answers move together. Neither makes the datagram longer, so an answer fits wherever its question passed.
    /// `others` takes the other records of slaves of this farm.
    pub(crate) fn serve(&mut self, frame: &mut Frame, others: &mut impl Others) -> u16 {
        let data = frame.data_mut();
        let (mut at, mut kept, mut records, mut replied) = (0, 0, 0u64, 0u16);
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            records += 1;
            let (len, verdict) = match Record::first(rest) {
                Ok(record) => match self.judge(&record, others) {
                    Some(verdict) => (record.bytes().len(), verdict),
                    None => break,
                },
                Err(reason) => {
                    count_bad(self.counters, reason);
                    break;
                }
            };
            if matches!(verdict, Verdict::Reply) {
                let at_type = at + offset::MSG_TYPE;
                if let Some([low, high]) = data.get_mut(at_type..at_type + 2) {
                    [*low, *high] = MsgType::ECHO_REPLY.0.to_le_bytes();
                }
                if kept != at {
                    // `at + len` is inside the data, as the record is; and `kept <= at`.
                    data.copy_within(at..at + len, kept);
                }
                kept += len;
                replied += 1;
            }
            at += len;
        }
        self.counters.records_in.add(records);
        self.counters.echo_replied.add(u64::from(replied));
        frame.truncate(kept);
        replied
    }

    /// Decides about one record; `None` if the rest of the datagram cannot be trusted.
    fn judge(&mut self, record: &Record<'_>, others: &mut impl Others) -> Option<Verdict> {
        let header = record.header();
        let Some(index) = self.roster.index(header.slave_id()) else {
            if self.roster.scale().slave_id(header.slave_id()).is_none() {
                count_bad(self.counters, BadReason::SlaveId);
                return None;
            }
            self.counters.dropped_not_ours.add(1);
            return Some(Verdict::Gone);
        };
        match header.msg_type() {
            MsgType::ECHO => return Some(Verdict::Reply),
            MsgType::PATTERN if !header.is_part() => {
                self.counters.pattern_consumed.add(1);
                self.check(index, record);
            }
            MsgType::HEARTBEAT_ACK => {
                self.counters.link_consumed.add(1);
                others.acknowledge(index, record);
            }
            msg_type if is_lending(msg_type) && others.lend(index, record) => self.counters.lending_consumed.add(1),
            _ => self.counters.dropped_unknown_type.add(1),
        }
        Some(Verdict::Gone)
    }

    fn check(&mut self, index: u32, record: &Record<'_>) {
        let counters = self.counters;
        let Some(stamped) = echo::check(record) else {
            counters.pattern_bad_content.add(1);
            return;
        };
        match self.streams.note(index, record.header().req_id(), stamped.sequence()) {
            Some(Order::InOrder) => counters.pattern_ok.add(1),
            Some(Order::Gap(missing)) => {
                counters.pattern_ok.add(1);
                counters.pattern_gap.add(missing);
            }
            Some(Order::Reordered) => counters.pattern_reordered.add(1),
            Some(Order::Duplicate) => counters.pattern_duplicate.add(1),
            // `None` is not possible: there are as many stream slots as ids.
            Some(Order::Late) | None => counters.pattern_late.add(1),
        }
    }
}

/// Counts the records of a frame from a source that is refused.
pub(crate) fn refuse(counters: &FarmCounters, data: &[u8]) {
    let (mut rest, mut records) = (data, 0);
    while !rest.is_empty() {
        records += 1;
        let len = Record::first(rest).map_or(rest.len(), |record| record.bytes().len());
        rest = rest.get(len..).unwrap_or(&[]);
    }
    counters.records_in.add(records);
    counters.refused_source.add(records);
}

fn count_bad(counters: &FarmCounters, reason: BadReason) {
    match reason {
        BadReason::Truncated => counters.dropped_truncated.add(1),
        BadReason::Magic => counters.dropped_magic.add(1),
        BadReason::Length => counters.dropped_length.add(1),
        BadReason::SlaveId => counters.dropped_slave_id.add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;
    use frame::{Hugepages, Pool, PoolConfig};
    use proptest::prelude::*;
    use wire::record::{RecordHeader, emit};
    use wire::{HEADER_LEN, Scale};

    fn pool() -> Pool {
        Pool::new(PoolConfig { frames: 16, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
    }

    fn record(msg_type: MsgType, id: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN + payload.len()];
        emit(&RecordHeader::new(msg_type, id, 7, payload.len() as u32), payload, &mut out).unwrap();
        out
    }

    fn pattern(id: u32, sequence: u64, len: u32) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN + len as usize];
        let header = RecordHeader::new(MsgType::PATTERN, id, 7, len);
        echo::emit(&header, &echo::EchoHeader::new(1, sequence), &mut out).unwrap();
        out
    }

    struct Bench {
        pool: Pool,
        roster: Roster,
        streams: Streams,
        counters: FarmCounters,
        lends: bool,
        lent: Vec<(u32, MsgType)>,
    }

    impl Bench {
        /// Slaves 10 to 19.
        fn new() -> Self {
            let ids = Ids::range(Scale::default(), 10, 10).unwrap();
            let roster = Roster::new(Scale::default(), vec![ids]).unwrap();
            let counters = FarmCounters::default();
            Self { pool: pool(), roster, streams: Streams::new(10, 2), counters, lends: false, lent: Vec::new() }
        }

        fn serve(&mut self, datagram: &[u8]) -> (Vec<u8>, u16, Vec<u32>) {
            let mut frame = self.pool.alloc().unwrap();
            assert!(frame.append(datagram));
            let mut others = Noted { lends: self.lends, ..Noted::default() };
            let mut server = Server { roster: &self.roster, streams: &mut self.streams, counters: &self.counters };
            let replied = server.serve(&mut frame, &mut others);
            self.lent.extend(others.lent);
            (frame.data().to_vec(), replied, others.acks)
        }
    }

    #[derive(Default)]
    struct Noted {
        lends: bool,
        acks: Vec<u32>,
        lent: Vec<(u32, MsgType)>,
    }

    impl Others for Noted {
        fn acknowledge(&mut self, index: u32, _: &Record<'_>) {
            self.acks.push(index);
        }

        fn lend(&mut self, index: u32, record: &Record<'_>) -> bool {
            if self.lends {
                self.lent.push((index, record.header().msg_type()));
            }
            self.lends
        }
    }

    #[test]
    fn one_walk_serves_echoes_and_what_a_lender_takes() {
        let mut bench = Bench { lends: true, ..Bench::new() };
        let types = [MsgType::CONNECT, MsgType::CONNECT_REPLY, MsgType::RC, MsgType::DISCONNECT];
        let between = types.iter().flat_map(|&msg_type| record(msg_type, 12, b"x"));
        let datagram: Vec<u8> =
            record(MsgType::ECHO, 10, b"a").into_iter().chain(between).chain(record(MsgType::ECHO, 11, b"b")).collect();
        let expected = [record(MsgType::ECHO_REPLY, 10, b"a"), record(MsgType::ECHO_REPLY, 11, b"b")].concat();
        assert_eq!(bench.serve(&datagram), (expected, 2, vec![]));
        assert_eq!(bench.lent, [(2, MsgType::CONNECT), (2, MsgType::RC), (2, MsgType::DISCONNECT)]);
        let counters = &bench.counters;
        assert_eq!((counters.lending_consumed.get(), counters.dropped_unknown_type.get()), (3, 1));
        assert!(counters.balance());
    }

    #[test]
    fn a_literal_echo_is_answered_in_place() {
        // magic, type 0x0010, slave 17, req 0x0001_0000_0000_002a, 3 bytes, bit 7 of is_frag passed on
        let echo = [
            0x58, 0x4d, 0x56, 0x47, 0x10, 0x00, 0x11, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0x01, 0, 3, 0, 0, 0, 0x80, b'a',
            b'b', b'c',
        ];
        let mut reply = echo;
        reply[4] = 0x11;
        let (data, replied, _) = Bench::new().serve(&echo);
        assert_eq!((data, replied), (reply.to_vec(), 1));
    }

    #[test]
    fn answers_close_ranks_and_everything_else_is_counted() {
        let mut bench = Bench::new();
        let mut corrupt = pattern(12, 1, 64);
        corrupt[70] ^= 4;
        let datagram = [
            record(MsgType::ECHO, 10, b"first"),
            pattern(12, 0, 64),
            corrupt,
            record(MsgType::ECHO, 99, b"not ours"),
            record(MsgType::HEARTBEAT_ACK, 13, b""),
            record(MsgType::RC, 13, b"rc"),
            record(MsgType::ECHO_REPLY, 13, b"not a question"),
            record(MsgType::ECHO, 19, b""),
            record(MsgType::ECHO, 11, b"last"),
            b"tail".to_vec(),
        ]
        .concat();
        let expected = [
            record(MsgType::ECHO_REPLY, 10, b"first"),
            record(MsgType::ECHO_REPLY, 19, b""),
            record(MsgType::ECHO_REPLY, 11, b"last"),
        ]
        .concat();
        assert_eq!(bench.serve(&datagram), (expected, 3, vec![3]));
        let counters = &bench.counters;
        assert_eq!((counters.records_in.get(), counters.echo_replied.get(), counters.link_consumed.get()), (10, 3, 1));
        assert_eq!((counters.pattern_ok.get(), counters.pattern_bad_content.get()), (1, 1));
        assert_eq!((counters.dropped_not_ours.get(), counters.dropped_unknown_type.get()), (1, 2));
        assert_eq!(counters.dropped_truncated.get(), 1);
        assert!(counters.balance());
    }

    #[test]
    fn an_id_out_of_range_ends_the_datagram() {
        let mut bench = Bench::new();
        let datagram = [record(MsgType::ECHO, 1 << 17, b"x"), record(MsgType::ECHO, 10, b"y")].concat();
        assert_eq!(bench.serve(&datagram), (vec![], 0, vec![]));
        assert_eq!((bench.counters.dropped_slave_id.get(), bench.counters.records_in.get()), (1, 1));
    }

    #[test]
    fn every_kind_of_disorder_has_its_counter() {
        let mut bench = Bench::new();
        for sequence in [0, 1, 5, 4, 4, 100, 3] {
            bench.serve(&pattern(15, sequence, 16));
        }
        let counters = &bench.counters;
        assert_eq!((counters.pattern_ok.get(), counters.pattern_gap.get()), (4, 3 + 94));
        assert_eq!((counters.pattern_reordered.get(), counters.pattern_duplicate.get()), (1, 1));
        assert_eq!((counters.pattern_late.get(), counters.pattern_consumed.get()), (1, 7));
    }

    fn any_record() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (8u32..22, 0usize..60).prop_map(|(id, len)| record(MsgType::ECHO, id, &vec![0x5a; len])),
            (8u32..22, 0u64..80, 16u32..60).prop_map(|(id, sequence, len)| pattern(id, sequence, len)),
            (any::<u16>(), 8u32..22).prop_map(|(msg_type, id)| record(MsgType(msg_type), id, b"any")),
            proptest::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn no_datagram_panics_and_all_records_are_accounted_for(
            records in proptest::collection::vec(any_record(), 0..12),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut datagram = records.concat();
            for (at, value) in flips {
                if !datagram.is_empty() {
                    let at = at.index(datagram.len());
                    datagram[at] = value;
                }
            }
            let mut bench = Bench::new();
            let (data, replied, _) = bench.serve(&datagram);
            prop_assert!(bench.counters.balance());
            let expected: Vec<u8> = wire::Walk::new(&datagram, Scale::default())
                .filter_map(Result::ok)
                .filter(|(id, record)| (10..20).contains(&id.get()) && record.header().msg_type() == MsgType::ECHO)
                .flat_map(|(_, found)| {
                    let mut reply = found.bytes().to_vec();
                    reply[4..6].copy_from_slice(&MsgType::ECHO_REPLY.0.to_le_bytes());
                    reply
                })
                .collect();
            prop_assert_eq!(u64::from(replied), bench.counters.echo_replied.get());
            prop_assert_eq!(data, expected);
            let before = bench.counters.records_in.get();
            refuse(&bench.counters, &datagram);
            prop_assert!(bench.counters.balance());
            prop_assert!(bench.counters.records_in.get() >= 2 * before);
        }
    }
}
