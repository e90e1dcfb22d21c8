//! Scenarios that are run in both directions, with the path MTU of both kinds of network.

use super::pair::{Op, Pair, Patience, Request, Side};
use guest::content;
use guest::verbs::Completion;
use guest::world::World;

/// Bytes around a message's place that must stay as they were.
const GUARD: u64 = 64;
/// The offset of the requester's memory, which is odd.
const LOCAL: u64 = 4099;
/// The offset of the responder's memory.
const REMOTE: u64 = 8205;

/// One byte to one MiB, around every boundary of packets and padding.
const SIZES: [u64; 14] = [1, 2, 3, 4, 5, 1023, 1024, 1025, 4095, 4096, 4097, 12_290, 65_536, 1 << 20];

fn is(done: &Completion, id: u64, kind: &str, status: &str) -> bool {
    (done.id, &*done.kind, &*done.status) == (id, kind, status)
}

/// Every operation with every size. Checks the content, the completions at both ends, and that nothing else changed.
pub(crate) fn contents(world: &mut World, mtu: u32, requester: Side) {
    let mut pair = Pair::connect(world, mtu, Patience::USUAL, mtu);
    let responder = requester.peer();
    let mut id = 1;
    for len in SIZES {
        for op in [Op::Read, Op::Write, Op::WriteImm, Op::Send, Op::SendImm] {
            id += 1;
            let at = format!("{op:?} of {len} bytes by {requester:?}, path MTU {mtu}");
            let (source, target) = if op == Op::Read { (responder, requester) } else { (requester, responder) };
            let from = if source == requester { LOCAL } else { REMOTE };
            let to = if target == requester { LOCAL } else { REMOTE };
            pair.fill(source, from, len, id);
            pair.fill(target, to - GUARD, len + 2 * GUARD, !id);
            if op.received().is_some() {
                // A receive of a WRITE with immediate data takes no bytes.
                pair.receive(responder, 1000 + id, REMOTE, if op == Op::WriteImm { 0 } else { len });
            }
            let immediate = if op.has_immediate() { 0xabcd_0000 + id as u32 } else { 0 };
            pair.post(requester, Request { a: immediate.into(), ..Request::new(op, id, LOCAL, REMOTE, len) });
            let done = pair.poll(requester, 1);
            assert!(is(&done[0], id, op.names().1, "SUCCESS"), "{at}: {done:?}");
            if let Some(kind) = op.received() {
                let done = pair.poll(responder, 1);
                assert!(is(&done[0], 1000 + id, kind, "SUCCESS"), "{at}: {done:?}");
                assert_eq!((u64::from(done[0].len), done[0].immediate), (len, immediate), "{at}");
            }
            let mut expected = content::bytes(!id, (len + 2 * GUARD) as usize);
            expected[GUARD as usize..(GUARD + len) as usize].copy_from_slice(&content::bytes(id, len as usize));
            assert_eq!(pair.hash(target, to - GUARD, len + 2 * GUARD), content::hash(&expected), "{at}: content");
        }
    }
    pair.end();
}

/// FETCH&ADD and COMPARE&SWAP. The old word comes back, and the new word is in memory.
pub(crate) fn atomics(world: &mut World, mtu: u32, requester: Side) {
    let mut pair = Pair::connect(world, mtu, Patience::USUAL, mtu + 1);
    let responder = requester.peer();
    pair.fill(responder, 64, 8, 5);
    let mut value = u64::from_le_bytes(content::bytes(5, 8).try_into().expect("eight bytes"));
    let steps = [
        (Op::FetchAdd, 7, 0),
        (Op::FetchAdd, u64::MAX - 2, 0),
        (Op::CmpSwap, 1, 2),
        (Op::CmpSwap, value.wrapping_add(4), 0x0123_4567_89ab_cdef),
        (Op::FetchAdd, 1 << 63, 0),
    ];
    for (id, (op, a, b)) in (1..).zip(steps) {
        pair.post(requester, Request { a, b, ..Request::new(op, id, 128, 64, 8) });
        let done = pair.poll(requester, 1);
        assert!(is(&done[0], id, op.names().1, "SUCCESS"), "{op:?} by {requester:?}: {done:?}");
        assert_eq!(pair.hash(requester, 128, 8), content::hash(&value.to_le_bytes()), "{op:?} {a:x} by {requester:?}");
        value = match op {
            Op::FetchAdd => value.wrapping_add(a),
            _ if value == a => b,
            _ => value,
        };
        assert_eq!(pair.hash(responder, 64, 8), content::hash(&value.to_le_bytes()), "{op:?} {a:x} at {responder:?}");
    }
    // The fourth step must have swapped.
    assert_eq!(value, 0x8123_4567_89ab_cdef);
    pair.end();
}

/// More READs than may be outstanding at once, with more packets than a window. Each must complete with its bytes in
/// the right place.
pub(crate) fn many_reads(world: &mut World, mtu: u32, requester: Side) {
    let mut pair = Pair::connect(world, mtu, Patience::USUAL, mtu + 2);
    const READS: u64 = 64;
    const LEN: u64 = 10_000;
    pair.fill(requester.peer(), 0, READS * LEN, 9);
    pair.fill(requester, 0, READS * LEN, 10);
    for id in 0..READS {
        pair.post(requester, Request::new(Op::Read, id, id * LEN, id * LEN, LEN));
    }
    let done = pair.poll(requester, READS as usize);
    assert!(done.iter().zip(0..).all(|(done, id)| is(done, id, "READ", "SUCCESS")), "{requester:?}: {done:?}");
    assert_eq!(pair.hash(requester, 0, READS * LEN), content::hash(&content::bytes(9, (READS * LEN) as usize)));
    pair.end();
}

/// One request that the responder must refuse.
struct Refused {
    what: &'static str,
    op: Op,
    /// Offset in the responder's memory, and bytes.
    at: (u64, u64),
    status: &'static str,
}

/// Requests out of bounds, with a wrong key, without permission, or misaligned. Each is refused with its status, and no
/// byte changes.
pub(crate) fn refused(world: &mut World, mtu: u32, requester: Side) {
    const END: u64 = super::pair::MEMORY;
    const ACCESS: &str = "REM_ACCESS_ERR";
    let key = "a wrong key";
    let past = "past the end";
    let before = "before the beginning";
    let right = "without the right";
    let cases = [
        Refused { what: key, op: Op::Read, at: (0, 64), status: ACCESS },
        Refused { what: key, op: Op::Write, at: (0, 5000), status: ACCESS },
        Refused { what: key, op: Op::FetchAdd, at: (0, 8), status: ACCESS },
        Refused { what: past, op: Op::Read, at: (END - 63, 64), status: ACCESS },
        Refused { what: past, op: Op::Write, at: (END - 4999, 5000), status: ACCESS },
        Refused { what: past, op: Op::WriteImm, at: (END, 1), status: ACCESS },
        Refused { what: before, op: Op::Read, at: (0_u64.wrapping_sub(1), 64), status: ACCESS },
        Refused { what: before, op: Op::Write, at: (0_u64.wrapping_sub(5000), 5000), status: ACCESS },
        Refused { what: right, op: Op::Write, at: (4096, 5000), status: ACCESS },
        Refused { what: right, op: Op::CmpSwap, at: (4096, 8), status: ACCESS },
        Refused { what: "at an odd place", op: Op::FetchAdd, at: (12, 8), status: "REM_INV_REQ_ERR" },
    ];
    for (seed, case) in (0..).zip(cases) {
        // The guest's own library refuses that.
        if requester == Side::Guest && case.status == "REM_INV_REQ_ERR" {
            continue;
        }
        let at = format!("{:?} {} by {requester:?}, path MTU {mtu}", case.op, case.what);
        let mut pair = Pair::connect(world, mtu, Patience::USUAL, mtu + seed);
        let responder = requester.peer();
        // The parts of the memory that a fault would change.
        let near = [(0, 16_384), (END - 16_384, 16_384)];
        for (offset, len) in near {
            pair.fill(responder, offset, len, 20 + u64::from(seed));
        }
        pair.fill(requester, LOCAL, 5000, 40);
        let rkey = match case.what {
            what if what == key => Some(pair.rkey(responder) ^ 0x0100),
            what if what == right => Some(pair.read_only(responder, 0, 16_384)),
            _ => None,
        };
        pair.receive(responder, 99, 100_000, 0);
        let (remote, len) = case.at;
        // One valid request, one invalid request, and one behind it that is flushed.
        pair.post(requester, Request::new(Op::Write, 1, LOCAL, 100_000, 10));
        pair.post(requester, Request { rkey, ..Request::new(case.op, 2, LOCAL, remote, len) });
        pair.post(requester, Request::new(Op::Write, 3, LOCAL, 100_000, 10));
        let done = pair.poll(requester, 3);
        let expected = [(1, "SUCCESS"), (2, case.status), (3, "WR_FLUSH_ERR")];
        let got: Vec<(u64, &str)> = done.iter().map(|done| (done.id, &*done.status)).collect();
        assert_eq!(got, expected, "{at}");
        for (offset, len) in near {
            let expected = content::hash(&content::bytes(20 + u64::from(seed), len as usize));
            assert_eq!(pair.hash(responder, offset, len), expected, "{at}: the memory at {offset}");
        }
        pair.end();
    }
}

/// A SEND without a receive is tried again until there is one, or as often as the retry count allows.
pub(crate) fn not_ready(world: &mut World, mtu: u32, requester: Side) {
    let responder = requester.peer();
    let mut pair = Pair::connect(world, mtu, Patience::USUAL, mtu + 3);
    pair.fill(requester, LOCAL, 6000, 50);
    pair.fill(responder, REMOTE, 6000, 51);
    pair.post(requester, Request::new(Op::Send, 1, LOCAL, 0, 6000));
    assert!(pair.is_silent(requester, 30), "{requester:?}: nobody waited for it");
    pair.receive(responder, 2, REMOTE, 6000);
    let (sent, received) = (pair.poll(requester, 1), pair.poll(responder, 1));
    assert!(is(&sent[0], 1, "SEND", "SUCCESS") && is(&received[0], 2, "RECV", "SUCCESS"), "{sent:?} {received:?}");
    assert_eq!(pair.hash(responder, REMOTE, 6000), content::hash(&content::bytes(50, 6000)));
    pair.end();

    let patience = Patience { rnr_retries: 2, ..Patience::USUAL };
    let mut pair = Pair::connect(world, mtu, patience, mtu + 4);
    pair.post(requester, Request::new(Op::SendImm, 3, LOCAL, 0, 10));
    pair.post(requester, Request::new(Op::Read, 4, LOCAL, 0, 10));
    let done = pair.poll(requester, 2);
    assert!(
        is(&done[0], 3, "-", "RNR_RETRY_EXC_ERR") && is(&done[1], 4, "-", "WR_FLUSH_ERR"),
        "{requester:?}: {done:?}"
    );

    // A message that is longer than its receive.
    let mut pair = Pair::connect(world, mtu, Patience::USUAL, mtu + 5);
    pair.fill(responder, REMOTE, 200, 52);
    pair.receive(responder, 5, REMOTE, 99);
    pair.post(requester, Request::new(Op::Send, 6, LOCAL, 0, 100));
    let (sent, received) = (pair.poll(requester, 1), pair.poll(responder, 1));
    // The specification has an invalid request and a length error here. rxe reports an operational error.
    let (there, here) = match responder {
        Side::Ours => ("REM_INV_REQ_ERR", "LOC_LEN_ERR"),
        Side::Guest => ("REM_OP_ERR", "LOC_QP_OP_ERR"),
    };
    assert!(is(&sent[0], 6, "-", there) && is(&received[0], 5, "-", here), "{requester:?}: {sent:?} {received:?}");
    let rest = &content::bytes(52, 200)[99..];
    assert_eq!(pair.hash(responder, REMOTE + 99, 101), content::hash(rest), "{requester:?}: past the receive");
    pair.end();
}
