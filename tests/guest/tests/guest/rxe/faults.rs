//! A bad wire. With all its faults each request is done once, and the content is right.

use super::pair::{Op, Pair, Patience, Request, Side};
use guest::content;
use guest::fault::Faults;
use guest::world::{Way, World};

/// Requests of one run; a queue of the guest holds them all.
const REQUESTS: u64 = 96;
/// Bytes of memory of each request, at both ends.
const SLOT: u64 = 20_480;
/// The offset of the word that all atomic operations use, in the responder's memory.
const COUNTER: u64 = REQUESTS * SLOT;

/// Offsets from the seed of a run to the seeds of content, for the requester's and for the responder's memory.
const FROM: u64 = 60;
const TO: u64 = 61;

/// The faults of a bad way: how many of a thousand packets are lost, come twice, or come late.
pub(crate) const BAD: Faults = Faults { lost: 30, doubled: 30, delayed: 40, delay: 4_000_000 };

/// The timeouts of the requester. rxe retries for ever, so 17 ms are enough. Ours retries seven times, so it gets 134
/// ms: a busy machine may stop the guest for a while.
fn patience(requester: Side) -> Patience {
    let timeout = if requester == Side::Guest { 12 } else { 15 };
    Patience { timeout, ..Patience::USUAL }
}

/// Numbers of a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The expected state of one end.
struct Model {
    side: Side,
    memory: Vec<u8>,
}

impl Model {
    fn piece(&mut self, at: u64, len: u64) -> &mut [u8] {
        &mut self.memory[at as usize..(at + len) as usize]
    }
}

/// Which of the two ways are bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Only packets to the guest suffer.
    ToGuest,
    /// Only packets to us suffer.
    ToHost,
    /// All packets suffer.
    Both,
}

/// Runs all operations, many at once, over a wire that is bad in this way.
pub(crate) fn everything_completes_once(world: &mut World, mtu: u32, requester: Side, bad: Bad, seed: u64) {
    let at = format!("seed {seed}: by {requester:?}, {bad:?}, path MTU {mtu}");
    let mut pair = Pair::connect(world, mtu, patience(requester), seed as u32);
    let mut numbers = Numbers(seed);
    let [mut from, mut to] = [(requester, FROM), (requester.peer(), TO)].map(|(side, which)| {
        let len = COUNTER + 8;
        pair.fill(side, 0, len, seed ^ which);
        Model { side, memory: content::bytes(seed ^ which, len as usize) }
    });
    let ops = [Op::Read, Op::Write, Op::WriteImm, Op::Send, Op::SendImm, Op::FetchAdd, Op::CmpSwap];
    let mut requests = Vec::new();
    let mut received = Vec::new();
    let mut answers = Vec::new();
    for id in 0..REQUESTS {
        let op = ops[numbers.below(ops.len() as u64) as usize];
        // Short ones and long ones.
        let len = if numbers.below(2) == 0 { 1 + numbers.below(200) } else { 1 + numbers.below(SLOT - 8) };
        let place = id * SLOT + numbers.below(8);
        let mut request = Request::new(op, id, id * SLOT, place, len);
        match op {
            Op::FetchAdd | Op::CmpSwap => {
                let old = u64::from_le_bytes(to.piece(COUNTER, 8).try_into().expect("eight bytes"));
                // Every second comparison fails.
                let compare = old.wrapping_add(numbers.below(2));
                request =
                    Request { remote: COUNTER, a: if op == Op::FetchAdd { id + 1 } else { compare }, b: id, ..request };
                let new = if op == Op::FetchAdd { old.wrapping_add(id + 1) } else { id };
                from.piece(request.local, 8).copy_from_slice(&old.to_le_bytes());
                answers.push(old);
                if op == Op::FetchAdd || compare == old {
                    to.piece(COUNTER, 8).copy_from_slice(&new.to_le_bytes());
                }
            }
            Op::Read => {
                let bytes = to.piece(place, len).to_vec();
                from.piece(request.local, len).copy_from_slice(&bytes);
            }
            _ => {
                let bytes = from.piece(request.local, len).to_vec();
                to.piece(place, len).copy_from_slice(&bytes);
            }
        }
        if let Some(kind) = op.received() {
            request.a = if op.has_immediate() { 0x8000_0000 + id } else { 0 };
            let room = if op == Op::WriteImm { 0 } else { SLOT - 8 };
            pair.receive(to.side, 1000 + id, place, room);
            received.push((1000 + id, kind, len, request.a));
        }
        requests.push(request);
    }
    let [to_guest, to_host] = match bad {
        Bad::ToGuest => [BAD, Faults::NONE],
        Bad::ToHost => [Faults::NONE, BAD],
        Bad::Both => [BAD, BAD],
    };
    pair.world.become_bad(to_guest, to_host, seed);
    for request in &requests {
        pair.post(requester, *request);
    }
    let done = pair.poll(requester, requests.len());
    for (done, request) in done.iter().zip(&requests) {
        let got = (done.id, &*done.kind, &*done.status);
        let wanted = (request.id, request.op.names().1, "SUCCESS");
        assert_eq!(got, wanted, "{at}: {request:?}; ours: {:?}", pair.ours.counters());
    }
    let done = pair.poll(to.side, received.len());
    for (done, (id, kind, len, immediate)) in done.iter().zip(&received) {
        let got = (done.id, &*done.kind, &*done.status, u64::from(done.len), u64::from(done.immediate));
        assert_eq!(got, (*id, *kind, "SUCCESS", *len, *immediate), "{at}");
    }
    // Late packets are still on their way. Later, no end sends anything more.
    pair.world.become_bad_no_more();
    assert!(pair.is_silent(requester, 10) && pair.is_silent(to.side, 10), "{at}: a completion too many");
    assert_eq!(pair.atomic_answers(requester), answers, "{at}: atomic operations, as the wire saw them");
    if requester == Side::Guest && bad == Bad::Both {
        let untouched = content::bytes(seed ^ FROM, from.memory.len());
        forgive_rxe(&mut pair, &requests, &mut from, &untouched, u64::from(mtu));
    }
    for Model { side, memory } in [from, to] {
        if pair.hash(side, 0, memory.len() as u64) != content::hash(&memory) {
            let wrong = (0..REQUESTS).find(|id| {
                let slot = (id * SLOT) as usize..((id + 1) * SLOT) as usize;
                pair.hash(side, id * SLOT, SLOT) != content::hash(&memory[slot])
            });
            panic!("{at}: the memory of {side:?} is wrong at request {:?}", wrong.map(|id| requests[id as usize]));
        }
    }
    pair.end();
}

/// When the last answer to a READ or an atomic operation is lost, and a later NAK has acknowledged it, rxe (Linux 6.1)
/// completes with the repeated answer and does not store its bytes: the old bytes stay. The test accepts the old bytes
/// here. The answer itself is known from the wire.
fn forgive_rxe(pair: &mut Pair<'_>, requests: &[Request], model: &mut Model, untouched: &[u8], mtu: u64) {
    if pair.hash(Side::Guest, 0, untouched.len() as u64) == content::hash(&model.memory) {
        return;
    }
    for request in requests.iter().filter(|request| matches!(request.op, Op::Read | Op::FetchAdd | Op::CmpSwap)) {
        // The number of bytes in the last packet.
        let len = (request.len - 1) % mtu + 1;
        let at = request.local + request.len - len;
        let was = &untouched[at as usize..(at + len) as usize];
        if pair.hash(Side::Guest, at, len) == content::hash(was) {
            model.piece(at, len).copy_from_slice(was);
        }
    }
}

/// Nothing passes. The request fails with its status, and the requests behind it are flushed.
pub(crate) fn nobody_answers(world: &mut World, mtu: u32, requester: Side) {
    let patience = Patience { timeout: 11, retries: 2, ..Patience::USUAL };
    for op in [Op::Read, Op::Write] {
        let mut pair = Pair::connect(world, mtu, patience, 7);
        let nothing = Faults { lost: 1000, ..Faults::NONE };
        pair.world.become_bad(nothing, nothing, 1);
        pair.post(requester, Request::new(op, 1, 0, 0, 5000));
        pair.post(requester, Request::new(Op::Send, 2, 0, 0, 1));
        let done = pair.poll(requester, 2);
        let got: Vec<(u64, &str)> = done.iter().map(|done| (done.id, &*done.status)).collect();
        assert_eq!(got, [(1, "RETRY_EXC_ERR"), (2, "WR_FLUSH_ERR")], "{op:?} by {requester:?}");
        let way = if requester == Side::Guest { Way::ToHost } else { Way::ToGuest };
        // The first try and the retries have at least one packet each.
        assert!(pair.world.happened(way).lost > 2, "{op:?} by {requester:?}: {:?}", pair.world.happened(way));
        pair.world.become_bad_no_more();
        pair.end();
    }
}
