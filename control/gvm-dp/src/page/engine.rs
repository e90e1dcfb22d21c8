//! Requests for bytes of an area, many under way.

use super::area::Area;
use super::master::failure;
use common::exit::Failure;
use pages::{Buffer, Client, EXTENT, Ended, Lane, Status, Work};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of a request, at most. Pieces begin at a multiple of it, except the first one.
pub(super) const BLOCK: u32 = 64 << 10;

/// Requests under way, at most.
pub(super) const DEPTH: u32 = 32;

/// What requests are multiples of.
pub(super) const GRAIN: u64 = 8;

/// How long nothing may end before the run is given up: longer than a lease.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a request is repeated that ended because a session did.
const REPEATS: u32 = 100;

const _: () = assert!(EXTENT.is_multiple_of(BLOCK));

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Bytes of the area come.
    Read,
    /// Bytes go to the area.
    Write,
}

/// Whole words of an area that one request moves, and which of their bytes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The first byte that is meant.
    pub(super) at: u64,
    /// How many are meant.
    pub(super) len: u32,
}

impl Piece {
    /// The next piece of the bytes from `at` to `end`; `None` if there are no more.
    pub(super) fn next(at: u64, end: u64) -> Option<Self> {
        let border = (at / u64::from(BLOCK) + 1) * u64::from(BLOCK);
        let len = border.min(end).checked_sub(at).filter(|len| *len > 0)?;
        // At most a block.
        Some(Self { at, len: len as u32 })
    }

    /// The first byte of its whole words.
    fn begin(self) -> u64 {
        self.at / GRAIN * GRAIN
    }

    /// Bytes of its whole words.
    pub(super) fn words(self) -> usize {
        ((self.at + u64::from(self.len)).next_multiple_of(GRAIN) - self.begin()) as usize
    }

    /// Bytes before the first one that is meant.
    pub(super) fn skip(self) -> usize {
        (self.at - self.begin()) as usize
    }

    /// Whether all bytes of its words are meant.
    pub(super) fn is_whole(self) -> bool {
        self.skip() == 0 && self.words() == self.len as usize
    }
}

/// One request under way.
struct UnderWay {
    piece: Piece,
    what: Move,
    repeats: u32,
}

/// An area with its buffers.
pub(super) struct Engine {
    pub(super) area: Area,
    buffers: Vec<Buffer>,
    under_way: BTreeMap<u64, UnderWay>,
    next: u64,
}

impl Engine {
    /// Buffers for as many requests as the master allows.
    pub(super) fn new(area: Area) -> Result<Self, Failure> {
        let client: &Client = &area.client;
        let count = u64::from(DEPTH).min(client.buffers() / u64::from(BLOCK)).min(client.capacity().into());
        let buffers = (0..count).map(|_| client.buffer(BLOCK as usize)).collect::<Result<_, _>>().map_err(failure)?;
        Ok(Self { area, buffers, under_way: BTreeMap::new(), next: 0 })
    }

    /// A buffer that no request has.
    pub(super) fn buffer(&mut self) -> Option<Buffer> {
        self.buffers.pop()
    }

    /// A buffer is not used any more.
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        self.buffers.push(buffer);
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Begins a request.
    pub(super) fn begin(&mut self, what: Move, piece: Piece, buffer: Buffer) -> Result<(), Failure> {
        let tag = self.next;
        self.next += 1;
        self.under_way.insert(tag, UnderWay { piece, what, repeats: 0 });
        self.post(tag, buffer)
    }

    fn post(&mut self, tag: u64, buffer: Buffer) -> Result<(), Failure> {
        let Some(UnderWay { piece, what, .. }) = self.under_way.get(&tag) else { return Ok(()) };
        let Some((extent, offset)) = self.area.place(piece.begin()) else {
            return Err(Failure::Internal(format!("the area has no byte {}", piece.at)));
        };
        let make = match what {
            Move::Read => Work::read,
            Move::Write => Work::write,
        };
        // Not more than a block.
        let work = make(extent, offset, buffer).with_len(piece.words() as u32).in_lane(Lane::Bulk).tagged(tag);
        let mut batch = vec![work];
        // There are no more buffers than requests that can be under way.
        self.area.client.post(&mut batch).map_err(failure).map(drop)
    }

    /// Waits until requests have ended, and returns them. One that ended because a session did is repeated.
    pub(super) fn wait(&mut self) -> Result<Vec<(Piece, Buffer)>, Failure> {
        let (mut ended, mut done) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        while done.is_empty() && !self.is_idle() {
            self.area.client.wait(&mut ended, Some(Duration::from_secs(1))).map_err(failure)?;
            if ended.is_empty() && begin.elapsed() > PATIENCE {
                return Err(Failure::Pages(format!(
                    "no request has ended for {} s: are slaves and gateways running? `gvm-dp stats` of the master says \
                     what it waits for",
                    PATIENCE.as_secs()
                )));
            }
            for end in ended.drain(..) {
                done.extend(self.ended(end)?);
            }
        }
        Ok(done)
    }

    fn ended(&mut self, Ended { tag, status, buffer, .. }: Ended) -> Result<Option<(Piece, Buffer)>, Failure> {
        let Some(under_way) = self.under_way.get_mut(&tag) else { return Ok(None) };
        if matches!(status, Status::FLUSHED | Status::NO_ANSWER) && under_way.repeats < REPEATS {
            under_way.repeats += 1;
            return self.post(tag, buffer).map(|()| None);
        }
        let piece = under_way.piece;
        self.under_way.remove(&tag);
        if status.is_done() {
            return Ok(Some((piece, buffer)));
        }
        let Area { name, .. } = &self.area;
        Err(Failure::Pages(format!("area {name}: {}: {status}", self.area.describe(piece.at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_bytes_once_and_none_crosses_a_block() {
        for (from, end) in [(0, 0), (0, 1), (3, 5), (5, 200_000), (65_535, 65_537), (8, 131_072), (1 << 21, 5 << 20)] {
            let mut at = from;
            while let Some(piece) = Piece::next(at, end) {
                let (begin, words) = (piece.begin(), piece.words() as u64);
                assert_eq!((piece.at, begin % 8, words % 8, begin + piece.skip() as u64), (at, 0, 0, at));
                assert_eq!(begin / u64::from(BLOCK), (begin + words - 1) / u64::from(BLOCK), "it crosses a block");
                assert_eq!(piece.is_whole(), piece.at % 8 == 0 && piece.len % 8 == 0);
                at += u64::from(piece.len);
            }
            assert_eq!(at, end.max(from));
        }
    }
}
