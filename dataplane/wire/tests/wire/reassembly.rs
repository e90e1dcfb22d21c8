//! Reassembly: any order gives the message, contradictions drop it by name, and nothing exceeds the limits.

use proptest::prelude::*;
use wire::part::{self, Direction, Limits, PartCounters, PartError, Piece, Reassembler, split};
use wire::record::{FRAG_LAST, FRAG_PART, req_id};
use wire::{HEADER_LEN, MsgType, Record, RecordHeader};

const LIMITS: Limits = Limits { peer_bytes: 10_000, total_bytes: 15_000, timeout: 1_000 };
const PART: u8 = FRAG_PART;
const LAST: u8 = FRAG_PART | FRAG_LAST;

fn header(slave: u32, req: u64) -> RecordHeader {
    RecordHeader::new(MsgType::PATTERN, slave, req, 0)
}

/// A part with any fields, also invalid ones.
fn raw(header: RecordHeader, offset: u32, total: u32, data: &[u8], is_frag: u8) -> Vec<u8> {
    let payload = [&offset.to_le_bytes()[..], &total.to_le_bytes(), data].concat();
    let header = RecordHeader::new(header.msg_type(), header.slave_id(), header.req_id(), payload.len() as u32);
    let mut out = vec![0; HEADER_LEN + payload.len()];
    wire::record::emit(&header.with_frag(is_frag), &payload, &mut out).unwrap();
    out
}

fn push(parts: &mut Reassembler, now: u64, bytes: &[u8]) -> Result<Option<Vec<u8>>, PartError> {
    parts.push(now, Direction::Up, &Record::first(bytes).unwrap())
}

fn balanced(parts: &Reassembler) {
    let counters = parts.counters();
    let known = counters.parts_completed + counters.duplicate + parts.held_parts() + counters.dropped();
    assert_eq!(counters.parts_in, known, "{counters:?}");
    assert!(parts.held_bytes() <= LIMITS.total_bytes);
    assert_eq!(parts.held_bytes() == 0, parts.deadline().is_none());
}

/// Pushes `first`, then `second`, which must be refused. Returns the counters; nothing is held any more.
fn refused(first: &[u8], second: &[u8], error: PartError) -> PartCounters {
    let mut parts = Reassembler::new(LIMITS);
    assert_eq!(push(&mut parts, 0, first), Ok(None));
    assert_eq!(push(&mut parts, 1, second), Err(error));
    balanced(&parts);
    assert_eq!((parts.held_parts(), parts.held_bytes()), (0, 0), "the whole message is dropped");
    *parts.counters()
}

#[test]
fn contradictions_drop_the_whole_message_by_name() {
    let head = header(17, 1);
    let first = raw(head, 0, 10, b"abcd", PART);
    let overlap = |offset, data: &[u8], flags| {
        assert_eq!(refused(&first, &raw(head, offset, 10, data, flags), PartError::Overlap).overlap, 2);
    };
    overlap(3, b"defg", PART);
    overlap(0, b"abc", PART);
    overlap(0, b"abcde", PART);
    overlap(2, b"c", PART);
    overlap(0, b"abcdefghij", LAST);
    assert_eq!(refused(&raw(head, 4, 10, b"e", PART), &raw(head, 3, 10, b"de", PART), PartError::Overlap).overlap, 2);
    assert_eq!(refused(&first, &raw(head, 4, 11, b"efgh", PART), PartError::TotalMismatch).total_mismatch, 2);
    assert_eq!(refused(&first, &raw(head, 4, 8, b"efgh", LAST), PartError::TotalMismatch).total_mismatch, 2);
    assert_eq!(refused(&first, &raw(head, 4, 10, b"ef", LAST), PartError::WrongLast).wrong_last, 2);
    assert_eq!(refused(&first, &raw(head, 4, 10, b"efghij", PART), PartError::WrongLast).wrong_last, 2);
    assert_eq!(refused(&first, &raw(head, 5, 10, b"efghij", LAST), PartError::PastEnd).past_end, 2);
    assert_eq!(refused(&first, &raw(head, 4, 10, b"", PART), PartError::TooShort).too_short, 2);
}

#[test]
fn an_exact_duplicate_is_ignored() {
    let mut parts = Reassembler::new(LIMITS);
    let first = raw(header(17, 1), 0, 8, b"abcd", PART);
    assert_eq!(push(&mut parts, 0, &first), Ok(None));
    assert_eq!(push(&mut parts, 0, &first), Ok(None));
    assert_eq!(push(&mut parts, 0, &raw(header(17, 1), 4, 8, b"efgh", LAST)), Ok(Some(b"abcdefgh".to_vec())));
    balanced(&parts);
    let counters = parts.counters();
    assert_eq!((counters.completed, counters.parts_completed, counters.duplicate), (1, 2, 1));
}

#[test]
fn a_whole_record_touches_nothing() {
    let mut parts = Reassembler::new(LIMITS);
    assert_eq!(push(&mut parts, 0, &raw(header(17, 1), 0, 8, b"abcd", PART)), Ok(None));
    assert_eq!(push(&mut parts, 0, &raw(header(17, 1), 4, 8, b"efgh", 0)), Err(PartError::NotAPart));
    assert_eq!((parts.held_parts(), parts.counters().not_a_part), (1, 1));
    balanced(&parts);
}

#[test]
fn messages_differ_by_each_field_of_their_key() {
    let mut parts = Reassembler::new(LIMITS);
    let heads = [header(17, 1), header(18, 1), header(17, 2), header(17, 1).with_msg_type(MsgType::CONNECT)];
    for head in heads {
        assert_eq!(push(&mut parts, 0, &raw(head, 0, 2, b"a", PART)), Ok(None));
    }
    let down = raw(header(17, 1), 0, 2, b"x", PART);
    assert_eq!(parts.push(0, Direction::Down, &Record::first(&down).unwrap()), Ok(None));
    assert_eq!(parts.held_parts(), 5);
    for head in heads {
        assert_eq!(push(&mut parts, 0, &raw(head, 1, 2, b"b", LAST)), Ok(Some(b"ab".to_vec())));
    }
    balanced(&parts);
}

#[test]
fn an_incomplete_message_expires() {
    let mut parts = Reassembler::new(LIMITS);
    push(&mut parts, 100, &raw(header(17, 1), 0, 8, b"ab", PART)).unwrap();
    push(&mut parts, 600, &raw(header(17, 1), 2, 8, b"cd", PART)).unwrap();
    push(&mut parts, 700, &raw(header(17, 2), 0, 8, b"ab", PART)).unwrap();
    assert_eq!((parts.deadline(), parts.expire(1_099)), (Some(1_100), 0));
    assert_eq!((parts.expire(1_100), parts.counters().expired), (1, 2));
    assert_eq!(parts.deadline(), Some(1_700));
    // `push` alone notices the expiry: the late part begins a new message.
    assert_eq!(push(&mut parts, 1_700, &raw(header(17, 2), 2, 8, b"cdefgh", LAST)), Ok(None));
    assert_eq!(parts.counters().expired, 3);
    balanced(&parts);
}

#[test]
fn one_peer_cannot_take_the_room_of_another() {
    let mut parts = Reassembler::new(LIMITS);
    let big = |slave, req, total| raw(header(slave, req), 0, total, b"a", PART);
    assert_eq!(push(&mut parts, 0, &big(17, 1, 10_001)), Err(PartError::TooLarge));
    assert_eq!(push(&mut parts, 0, &big(17, 1, u32::MAX)), Err(PartError::TooLarge));
    assert_eq!(push(&mut parts, 0, &big(17, 1, 9_000)), Ok(None));
    assert_eq!(push(&mut parts, 0, &big(17, 2, 9_000)), Err(PartError::NoRoom));
    assert_eq!(push(&mut parts, 0, &big(18, 1, 4_000)), Ok(None));
    assert_eq!(push(&mut parts, 0, &big(19, 1, 4_000)), Err(PartError::NoRoom));
    assert_eq!((parts.counters().too_large, parts.counters().no_room, parts.held_parts()), (2, 2, 2));
    balanced(&parts);
    // Many tiny parts are charged for their bookkeeping.
    let mut refused = None;
    for offset in 1..9_000 {
        refused = push(&mut parts, 0, &raw(header(17, 1), offset, 9_000, b"a", PART)).err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(PartError::NoRoom));
    balanced(&parts);
}

#[test]
fn the_peer_of_the_way_down_is_the_master() {
    let mut parts = Reassembler::new(LIMITS);
    let mut down = |master, slave| {
        let bytes = raw(header(slave, req_id(master, 7)), 0, 6_000, b"a", PART);
        parts.push(0, Direction::Down, &Record::first(&bytes).unwrap())
    };
    assert_eq!(down(1, 17), Ok(None));
    assert_eq!(down(1, 18), Err(PartError::NoRoom));
    assert_eq!(down(2, 18), Ok(None));
}

fn message() -> impl Strategy<Value = (Vec<u8>, usize)> {
    (proptest::collection::vec(any::<u8>(), 0..2_000), 9usize..300)
}

proptest! {
    #[test]
    fn any_order_with_duplicates_gives_the_message(
        (message, max) in message(),
        order in any::<u64>(),
    ) {
        let head = header(17, req_id(1, 9));
        let mut pieces: Vec<Piece> = split(message.len(), max).unwrap().collect();
        if pieces[0].is_frag == 0 {
            prop_assert_eq!(&pieces, &[Piece { offset: 0, len: message.len() as u32, is_frag: 0 }]);
            return Ok(());
        }
        prop_assert!(pieces.len() > 1);
        // Every piece comes twice, except the last one. After the last piece a repetition would begin a new message.
        let mut state = order;
        let mut shuffle = |pieces: &mut Vec<Piece>| for i in (1..pieces.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(i, (state >> 33) as usize % (i + 1));
        };
        shuffle(&mut pieces);
        let last = pieces.pop().unwrap();
        let count = pieces.len();
        pieces.extend_from_within(..);
        shuffle(&mut pieces);
        pieces.push(last);
        let limits = Limits { peer_bytes: 1 << 20, total_bytes: 1 << 20, ..LIMITS };
        let mut parts = Reassembler::new(limits);
        let mut out = vec![0; HEADER_LEN + max];
        for (i, piece) in pieces.iter().enumerate() {
            let len = part::emit(&head, &message, *piece, &mut out).unwrap();
            prop_assert!(len <= HEADER_LEN + max);
            let result = push(&mut parts, 5, &out[..len]).unwrap();
            prop_assert_eq!(result, (i + 1 == pieces.len()).then(|| message.clone()));
        }
        prop_assert_eq!(parts.counters().duplicate, count as u64);
        prop_assert_eq!((parts.held_parts(), parts.held_bytes()), (0, 0));
    }

    #[test]
    fn nothing_is_lost_from_the_counters_and_no_limit_exceeded(
        steps in proptest::collection::vec(
            (0u32..3, 0u64..3, 0u32..12, prop_oneof![Just(10u32), 0u32..13, Just(9_700)], 0usize..6, 0u8..4, 0u64..200),
            0..200,
        ),
    ) {
        let mut parts = Reassembler::new(LIMITS);
        let mut now = 0;
        for (slave, req, offset, total, len, flags, wait) in steps {
            now += wait;
            let bytes = raw(header(slave, req), offset, total, &[7; 6][..len], flags);
            if let Ok(Some(message)) = push(&mut parts, now, &bytes) {
                prop_assert_eq!(message, vec![7; total as usize]);
            }
            balanced(&parts);
        }
        parts.expire(u64::MAX);
        balanced(&parts);
        prop_assert_eq!((parts.held_parts(), parts.held_bytes()), (0, 0));
    }
}
