//! Requests of one end to the other over one connection, and their expected results.

use super::area::{Area, Effect, Ring};
use super::plan::Plan;
use crate::rng::Rng;
use std::collections::VecDeque;
use std::ops::Range;
use transport::{Completion, CompletionKind, Endpoint, Local, Op, Qpn, Receive, Remote, Status, Work};

/// Where regions begin, in the addresses of their users.
pub const BASE: u64 = 0x7f00_0000_0000;

/// A request that was not posted yet.
#[derive(Clone, Copy, Debug)]
struct Draft {
    kind: CompletionKind,
    imm: Option<u32>,
    len: u32,
    at: u32,
    bad: Option<Bad>,
}

/// Why a request cannot succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Rkey,
    Bounds,
    Permission,
    TooLong,
    Misaligned,
}

/// A request that was posted.
#[derive(Debug)]
pub struct Asked {
    id: u64,
    kind: CompletionKind,
    len: u32,
    local: Range<usize>,
    /// What the local bytes become when it succeeds.
    expected: Option<Vec<u8>>,
    /// The bytes that a READ reads.
    reads: Range<u32>,
    /// The status with which it must end, unless the connection has failed before.
    pub bad: Option<Status>,
    /// Messages with a receive up to this one.
    messages: u64,
}

/// A message that needs a receive.
#[derive(Debug)]
struct Message {
    kind: CompletionKind,
    len: u32,
    imm: Option<u32>,
    /// What is in it, if it goes to the receive's buffer.
    bytes: Option<Vec<u8>>,
}

/// Keys of the regions that a flow uses, and of those that it must not reach.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The requester's buffers.
    pub local: u32,
    /// The responder's area for READs, WRITEs and atomic operations.
    pub area: u32,
    /// The responder's receives.
    pub receives: u32,
    /// A region of the responder that the peer must not reach.
    pub private: u32,
}

/// One direction of one connection.
#[derive(Debug)]
pub struct Flow {
    /// See [`Keys`].
    pub keys: Keys,
    /// The responder's memory.
    pub area: Area,
    /// Requests that are posted and not complete, the oldest first.
    pub asked: VecDeque<Asked>,
    /// Requests that are not posted yet.
    pub left: u32,
    /// Whether one was posted that cannot succeed.
    pub spoilt: bool,
    draft: Option<Draft>,
    /// The requester's buffers as they must be.
    pub buffers: Vec<u8>,
    ring: Ring,
    next_id: u64,
    messages: VecDeque<Message>,
    messages_asked: u64,
    messages_received: u64,
    /// Receives that are posted and not complete, the oldest first.
    pub receives: VecDeque<(u64, Range<usize>)>,
    /// The responder's receives as they must be.
    pub received: Vec<u8>,
    receive_ring: Ring,
}

type End = Endpoint<Vec<u8>>;

fn err<T>(what: String) -> Result<T, String> {
    Err(what)
}

impl Flow {
    /// A flow that has this many requests to make.
    pub fn new(plan: &Plan, keys: Keys, left: u32, area: Vec<u8>, buffers: Vec<u8>, received: Vec<u8>) -> Self {
        Self {
            keys,
            area: Area::new(area),
            asked: VecDeque::new(),
            left,
            spoilt: false,
            draft: None,
            ring: Ring::new(buffers.len()),
            buffers,
            next_id: 1,
            messages: VecDeque::new(),
            messages_asked: 0,
            messages_received: 0,
            receives: VecDeque::new(),
            receive_ring: Ring::new((plan.receive as usize * plan.ahead).max(received.len())),
            received,
        }
    }

    /// A new connection goes on where the memory of the old one is.
    pub fn again(&mut self, area: &[u8], buffers: &[u8], received: &[u8]) {
        self.area = Area::new(area.to_vec());
        self.buffers.copy_from_slice(buffers);
        self.received.copy_from_slice(received);
        self.messages.clear();
        self.messages_received = self.messages_asked;
        self.spoilt = false;
    }

    fn draw(rng: &mut Rng, plan: &Plan) -> Draft {
        use CompletionKind::{CompareSwap, FetchAdd, Read, Send, Write};
        let kind =
            rng.pick(&[Send, Send, Write, Write, Write, Read, Read, Read, Read, FetchAdd, FetchAdd, CompareSwap]);
        let mtu = u64::from(plan.mtu.bytes());
        let most = u64::from(plan.longest);
        let len = match rng.below(24) {
            0 => 0,
            1..=7 => rng.between(1, 64),
            8..=14 => (rng.between(1, 4) * mtu + rng.below(3)).saturating_sub(1),
            15 => most,
            _ => rng.between(1, most),
        };
        let len = len.min(most) as u32;
        let imm = (rng.one_in(3) && matches!(kind, Send | Write)).then(|| rng.bits() as u32);
        let bad = rng.chance(plan.bad).then(|| match kind {
            Send => Bad::TooLong,
            FetchAdd | CompareSwap if rng.one_in(2) => Bad::Misaligned,
            _ => rng.pick(&[Bad::Rkey, Bad::Bounds, Bad::Permission]),
        });
        let len = match (kind, bad) {
            (FetchAdd | CompareSwap, _) => 8,
            (Send, None) => len.min(plan.receive),
            (Send, Some(_)) => plan.receive + 1 + len % 5000,
            (_, Some(_)) => len.max(1),
            _ => len,
        };
        let room = u64::from(plan.area - len.min(plan.area));
        let at = rng.below(room + 1) as u32;
        let at = match (kind, bad) {
            (FetchAdd | CompareSwap, Some(Bad::Misaligned)) => (at & !7) + 1 + rng.below(7) as u32,
            // Few words, so that many meet.
            (FetchAdd | CompareSwap, Some(Bad::Bounds)) => plan.area,
            (FetchAdd | CompareSwap, _) => 8 * rng.below(4) as u32,
            (_, Some(Bad::Bounds)) => plan.area - rng.below(u64::from(len)) as u32,
            _ => at,
        };
        Draft { kind, imm, len, at, bad }
    }

    /// Posts the next request, if one is due and does not have to wait for others.
    ///
    /// # Errors
    /// When it is refused.
    pub fn ask(&mut self, rng: &mut Rng, plan: &Plan, end: &mut End, qpn: Qpn) -> Result<bool, String> {
        use CompletionKind::{CompareSwap, FetchAdd, Read, Send, Write};
        if self.left == 0 || self.asked.len() >= plan.depth {
            return Ok(false);
        }
        let draft = self.draft.take().unwrap_or_else(|| Self::draw(rng, plan));
        let Draft { kind, imm, len, at, bad } = draft;
        // Bytes that a READ may still read again must not change until the READ has ended: InfiniBand's fence.
        let changes = at..at + len;
        let meets = |asked: &Asked| asked.reads.start < changes.end && changes.start < asked.reads.end;
        if matches!(kind, Write | CompareSwap | FetchAdd) && self.asked.iter().any(meets) {
            self.draft = Some(draft);
            return Ok(false);
        }
        let Some(local) = self.ring.take(len as usize) else {
            self.draft = Some(draft);
            return Ok(false);
        };
        let mut key = self.keys.area;
        match bad {
            Some(Bad::Rkey) => key ^= 1 << rng.below(32),
            Some(Bad::Permission) => key = self.keys.private,
            _ => {}
        }
        let remote = Remote { address: BASE + u64::from(at), key };
        let (op, expected, effect) = match kind {
            Send | Write => {
                let bytes: Vec<u8> = (0..len)
                    .map({
                        let mut word = rng.bits();
                        move |_| {
                            word = word.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                            (word >> 56) as u8
                        }
                    })
                    .collect();
                self.buffers[local.clone()].copy_from_slice(&bytes);
                let memory = end.memory_mut(self.keys.local).ok_or("no local region")?;
                memory[local.clone()].copy_from_slice(&bytes);
                if kind == Send || imm.is_some() {
                    let (kind, bytes) = match kind {
                        Send => (CompletionKind::Receive, Some(bytes.clone())),
                        _ => (CompletionKind::ReceiveWriteImm, None),
                    };
                    self.messages_asked += 1;
                    self.messages.push_back(Message { kind, len, imm, bytes });
                }
                match (kind, imm) {
                    (Send, None) => (Op::Send, None, Effect::None),
                    (Send, Some(imm)) => (Op::SendImm(imm), None, Effect::None),
                    (_, None) => (Op::Write(remote), None, Effect::Write(at as usize, bytes)),
                    (_, Some(imm)) => (Op::WriteImm(remote, imm), None, Effect::Write(at as usize, bytes)),
                }
            }
            CompareSwap | FetchAdd => {
                let word = if bad.is_none() { self.area.word(at as usize) } else { 0 };
                let expected = Some(word.to_le_bytes().to_vec());
                if kind == FetchAdd {
                    let add = rng.bits();
                    (Op::FetchAdd { remote, add }, expected, Effect::Word(at as usize, word.wrapping_add(add)))
                } else {
                    let compare = if rng.one_in(3) { rng.bits() } else { word };
                    let swap = rng.bits();
                    let after = if compare == word { swap } else { word };
                    (Op::CompareSwap { remote, compare, swap }, expected, Effect::Word(at as usize, after))
                }
            }
            _ => {
                let end = (at + len).min(plan.area) as usize;
                (Op::Read(remote), Some(self.area.predicted[at as usize..end].to_vec()), Effect::None)
            }
        };
        let reads = if kind == Read { at..at + len } else { 0..0 };
        let id = self.next_id;
        let work = Work { id, op, local: Local { key: self.keys.local, address: BASE + local.start as u64, len } };
        if let Err(error) = end.post(qpn, work) {
            return err(format!("posting {work:?} was refused: {error}"));
        }
        let bad = bad.map(|bad| match bad {
            Bad::TooLong | Bad::Misaligned => Status::RemInvReqErr,
            _ => Status::RemAccessErr,
        });
        self.spoilt |= bad.is_some();
        self.area.ask(if bad.is_some() { Effect::Refused } else { effect });
        self.next_id += 1;
        self.left -= 1;
        let messages = self.messages_asked;
        self.asked.push_back(Asked { id, kind, len, local, expected, reads, bad, messages });
        Ok(true)
    }

    /// Posts one more receive, if there is room for it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn post_receive(&mut self, plan: &Plan, end: &mut End, qpn: Qpn) -> Result<bool, String> {
        if self.receives.len() >= plan.ahead {
            return Ok(false);
        }
        let Some(range) = self.receive_ring.take(plan.receive as usize) else { return Ok(false) };
        let id = self.next_id;
        self.next_id += 1;
        let local = Local { key: self.keys.receives, address: BASE + range.start as u64, len: plan.receive };
        if let Err(error) = end.post_receive(qpn, Receive { id, local }) {
            return err(format!("a receive was refused: {error}"));
        }
        self.receives.push_back((id, range));
        Ok(true)
    }

    /// One of our requests ended. Its memory must be correct. Returns the request.
    ///
    /// # Errors
    /// The fault.
    pub fn ended(&mut self, done: &Completion, end: &End) -> Result<Asked, String> {
        let Some(asked) = self.asked.pop_front() else { return err(format!("{done:?}: nothing was asked")) };
        if (asked.id, asked.kind) != (done.id, done.kind) {
            return err(format!("{done:?} came before {asked:?}"));
        }
        self.ring.give_back();
        let memory = &end.region(self.keys.local).ok_or("no local region")?.memory;
        let real = &memory[asked.local.clone()];
        let before = &mut self.buffers[asked.local.clone()];
        if done.status != Status::Success {
            // A READ that failed may have brought some of its bytes, and nothing else.
            let expected = asked.expected.as_deref().unwrap_or(&[]);
            for (at, (&real, before)) in real.iter().zip(before).enumerate() {
                if real != *before && expected.get(at) != Some(&real) {
                    return err(format!("{asked:?} failed and left a byte at {at} that was never read"));
                }
                *before = real;
            }
            return Ok(asked);
        }
        if asked.bad.is_some() || done.len != asked.len {
            return err(format!("{done:?}, but {asked:?}"));
        }
        if let Some(expected) = &asked.expected {
            before.copy_from_slice(expected);
        }
        if let Some(at) = real.iter().zip(&*before).position(|(a, b)| a != b) {
            return err(format!("{asked:?} succeeded with a wrong byte at {at}"));
        }
        if self.messages_received < asked.messages {
            return err(format!("{asked:?} succeeded, but the peer did not receive it"));
        }
        self.area.done();
        Ok(asked)
    }

    /// A receive of the peer ended.
    ///
    /// # Errors
    /// What is wrong.
    pub fn receive_ended(&mut self, done: &Completion, end: &End) -> Result<(), String> {
        let Some((id, range)) = self.receives.pop_front() else {
            return err(format!("{done:?}: no receive was posted"));
        };
        if id != done.id {
            return err(format!("{done:?} came before {id}"));
        }
        self.receive_ring.give_back();
        let memory = &end.region(self.keys.receives).ok_or("no region for receives")?.memory;
        let (real, before) = (&memory[range.clone()], &mut self.received[range]);
        let message = self.messages.front();
        if done.status != Status::Success {
            let fits = done.status == Status::WrFlushErr
                || (done.status == Status::LocLenErr
                    && message.is_some_and(|message| message.bytes.is_some() && message.len as usize > real.len()));
            if !fits {
                return err(format!("{done:?}, but next is {message:?}"));
            }
            let bytes = message.and_then(|message| message.bytes.as_deref()).unwrap_or(&[]);
            for (at, (&real, before)) in real.iter().zip(before).enumerate() {
                if real != *before && bytes.get(at) != Some(&real) {
                    return err(format!("a failed receive has a byte at {at} that nobody sent"));
                }
                *before = real;
            }
            return Ok(());
        }
        let Some(message) = self.messages.pop_front() else { return err(format!("{done:?}: nothing was sent")) };
        self.messages_received += 1;
        if (message.kind, message.len, message.imm) != (done.kind, done.len, done.imm) {
            return err(format!("{done:?}, but next was {message:?}"));
        }
        if let Some(bytes) = &message.bytes {
            before[..bytes.len()].copy_from_slice(bytes);
        }
        if let Some(at) = real.iter().zip(&*before).position(|(a, b)| a != b) {
            return err(format!("a message was received with a wrong byte at {at}"));
        }
        Ok(())
    }
}
