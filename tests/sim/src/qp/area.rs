//! The plain model of the memory that requests of the other end change: bytes, and all changes in order.

use std::collections::VecDeque;
use std::ops::Range;

/// What a request does to memory.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// Bytes go to an offset, packet by packet.
    Write(usize, Vec<u8>),
    /// A word becomes another.
    Word(usize, u64),
    /// It is refused, and nothing after it happens.
    Refused,
}

/// An area with all requests for it.
#[derive(Debug)]
pub struct Area {
    /// The bytes when all requests are done.
    pub predicted: Vec<u8>,
    /// The bytes that are certain: every acknowledged request is done.
    confirmed: Vec<u8>,
    /// Requests that are not acknowledged, the oldest first.
    open: VecDeque<Effect>,
    /// A request that is refused was made: later requests change nothing.
    refused: bool,
}

fn apply(bytes: &mut [u8], effect: &Effect) {
    match effect {
        Effect::Write(at, new) => bytes[*at..*at + new.len()].copy_from_slice(new),
        Effect::Word(at, word) => bytes[*at..*at + 8].copy_from_slice(&word.to_le_bytes()),
        Effect::None | Effect::Refused => {}
    }
}

impl Area {
    /// An area of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { predicted: bytes.clone(), confirmed: bytes, open: VecDeque::new(), refused: false }
    }

    /// A request was made.
    pub fn ask(&mut self, effect: Effect) {
        self.refused |= matches!(effect, Effect::Refused);
        if !self.refused {
            apply(&mut self.predicted, &effect);
        }
        self.open.push_back(effect);
    }

    /// The oldest request is done.
    pub fn done(&mut self) {
        if let Some(effect) = self.open.pop_front() {
            apply(&mut self.confirmed, &effect);
        }
    }

    /// The word at an offset when all requests are done.
    pub fn word(&self, at: usize) -> u64 {
        self.predicted[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Whether real memory has all acknowledged requests, and then the unacknowledged ones up to some packet.
    ///
    /// # Errors
    /// The first offset that is wrong.
    pub fn check(&self, real: &[u8], mtu: usize) -> Result<(), usize> {
        let mut now = self.confirmed.clone();
        let count = |now: &[u8], range: Range<usize>| {
            now[range.clone()].iter().zip(&real[range]).filter(|(a, b)| a != b).count()
        };
        let mut wrong = count(&now, 0..now.len());
        let mut least = wrong;
        let mut closest = now.clone();
        for effect in &self.open {
            let steps: Vec<Effect> = match effect {
                Effect::Refused => break,
                Effect::Write(at, new) => {
                    new.chunks(mtu).enumerate().map(|(i, part)| Effect::Write(at + i * mtu, part.to_vec())).collect()
                }
                other => vec![other.clone()],
            };
            for step in steps {
                if wrong == 0 {
                    return Ok(());
                }
                let range = match &step {
                    Effect::Write(at, new) => *at..*at + new.len(),
                    Effect::Word(at, _) => *at..*at + 8,
                    _ => 0..0,
                };
                wrong -= count(&now, range.clone());
                apply(&mut now, &step);
                wrong += count(&now, range);
                if wrong < least {
                    (least, closest) = (wrong, now.clone());
                }
            }
        }
        if wrong == 0 {
            return Ok(());
        }
        Err(closest.iter().zip(real).position(|(a, b)| a != b).unwrap_or(0))
    }
}

/// A ring of bytes out of which buffers are taken and given back in order.
#[derive(Debug)]
pub struct Ring {
    len: usize,
    head: usize,
    taken: VecDeque<Range<usize>>,
}

impl Ring {
    /// A ring of this many bytes.
    pub fn new(len: usize) -> Self {
        Self { len, head: 0, taken: VecDeque::new() }
    }

    /// The next buffer, if there is room.
    pub fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let start = if self.head + len > self.len { 0 } else { self.head };
        let range = start..start + len;
        let free = self.taken.iter().all(|taken| taken.end <= range.start || range.end <= taken.start);
        if range.end > self.len || !free {
            return None;
        }
        self.head = range.end;
        self.taken.push_back(range.clone());
        Some(range)
    }

    /// The oldest buffer comes back.
    pub fn give_back(&mut self) {
        self.taken.pop_front();
    }
}
