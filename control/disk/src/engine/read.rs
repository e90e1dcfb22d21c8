//! What READ and BLOCK_STATUS bring.

use super::{Delivery, Engine, Progress, lane};
use crate::output::Part;
use crate::pool::Pooled;
use crate::request::{Piece, PieceKind, Trouble, WholePart};
use blockmap::{Stretch, StretchKind};
use nbd::reply::{self, BlockState, MOST_STATES};
use pages::{Extent, Work};

impl Engine {
    /// A READ whose reply leaves in pieces.
    pub(super) fn read(&mut self, id: u64, from: u64, end: u64) -> (u64, Progress) {
        let mut at = from;
        while at < end {
            let stretches = self.look(at, end);
            for stretch in &stretches {
                if self.lacks_buffers(id, stretch, &mut at) {
                    self.stretches = stretches;
                    return (at, Progress::NoBuffers);
                }
            }
            self.stretches = stretches;
        }
        (at, Progress::Begun)
    }

    /// Begins to read a stretch, and moves `at` behind what was begun. True if there are no buffers for the rest.
    pub(super) fn lacks_buffers(&mut self, id: u64, stretch: &Stretch, at: &mut u64) -> bool {
        let end = stretch.at + u64::from(stretch.len);
        match stretch.kind {
            StretchKind::Lost => self.fail(id, Trouble::LOST),
            StretchKind::Hole | StretchKind::Zeros => {
                self.stats.counters.disk_bytes_read_as_zeros.add(stretch.len.into());
                let Some(request) = self.requests.get_mut(id) else { return false };
                let is_last = end == request.end() && request.left == 1 && request.trouble.is_none();
                request.is_closed |= is_last;
                let mut head = Vec::with_capacity(32);
                reply::hole(&mut head, request.to.cookie, is_last, stretch.at, stretch.len);
                let connection = request.to.connection;
                self.deliveries.push_back(Delivery { connection, parts: vec![Part::head(&head)], is_last: false });
            }
            StretchKind::Data { extent, offset } => {
                while *at < end {
                    let Some(buffer) = self.pool.take(self.master.client(), (end - *at) as usize) else {
                        return true;
                    };
                    let len = (buffer.len() as u64).min(end - *at) as u32;
                    let offset = offset + (*at - stretch.at) as u32;
                    self.read_piece(id, *at, len, extent, offset, buffer);
                    *at += u64::from(len);
                }
            }
        }
        *at = end;
        false
    }

    /// A READ whose reply leaves at once: it begins when there are buffers for all of it.
    pub(super) fn read_whole(&mut self, id: u64, offset: u64, end: u64) -> (u64, Progress) {
        let (mut at, mut all, mut buffers) = (offset, Vec::new(), Vec::new());
        while at < end {
            let stretches = self.look(at, end);
            for stretch in &stretches {
                all.push(*stretch);
                let mut left = if matches!(stretch.kind, StretchKind::Data { .. }) { stretch.len as usize } else { 0 };
                while left > 0 {
                    let Some(buffer) = self.pool.take(self.master.client(), left) else {
                        buffers.into_iter().for_each(|buffer| self.pool.give(buffer));
                        self.stretches = stretches;
                        return (offset, Progress::NoBuffers);
                    };
                    left = left.saturating_sub(buffer.len());
                    buffers.push(buffer);
                }
                at = stretch.at + u64::from(stretch.len);
            }
            self.stretches = stretches;
        }
        let mut buffers = buffers.into_iter();
        for stretch in all {
            match stretch.kind {
                StretchKind::Lost => self.fail(id, Trouble::LOST),
                StretchKind::Hole | StretchKind::Zeros => {
                    self.stats.counters.disk_bytes_read_as_zeros.add(stretch.len.into());
                    if let Some(request) = self.requests.get_mut(id) {
                        let part = Part::Zeros(stretch.len as usize);
                        request.whole.push(WholePart { at: stretch.at, part });
                    }
                }
                StretchKind::Data { extent, offset } => {
                    let mut done = 0;
                    while done < stretch.len
                        && let Some(buffer) = buffers.next()
                    {
                        let len = (buffer.len() as u32).min(stretch.len - done);
                        self.read_piece(id, stretch.at + u64::from(done), len, extent, offset + done, buffer);
                        done += len;
                    }
                }
            }
        }
        (end, Progress::Begun)
    }

    pub(super) fn read_piece(&mut self, request: u64, at: u64, len: u32, extent: u64, offset: u32, buffer: Pooled) {
        if let Some(request) = self.requests.get_mut(request) {
            request.left += 1;
        }
        self.map.read_begins(at);
        let kind = PieceKind::Read { extent, offset };
        let piece = self.pieces.insert(Piece { request, kind, at, len, buffer: None, repeats: 0 });
        let work = Work::read(Extent::from_number(extent), offset, buffer.buffer).with_part(0, len);
        self.batch.push(work.tagged(piece).in_lane(lane(len)));
    }

    pub(super) fn block_status(&mut self, id: u64, offset: u64, len: u32, one: bool) {
        let (end, mut states) = (offset + u64::from(len), Vec::<BlockState>::new());
        let mut at = offset;
        while at < end && states.len() < MOST_STATES {
            let stretches = self.look(at, end);
            for stretch in &stretches {
                let (hole, zero) = match stretch.kind {
                    StretchKind::Hole => (true, true),
                    StretchKind::Zeros => (false, true),
                    // A READ says that it is lost.
                    StretchKind::Data { .. } | StretchKind::Lost => (false, false),
                };
                match states.last_mut() {
                    Some(last) if (last.hole, last.zero) == (hole, zero) => last.len += stretch.len,
                    _ => states.push(BlockState { len: stretch.len, hole, zero }),
                }
                at = stretch.at + u64::from(stretch.len);
            }
            self.stretches = stretches;
            if one && states.len() > 1 {
                break;
            }
        }
        states.truncate(if one { 1 } else { MOST_STATES });
        let Some(request) = self.requests.get_mut(id) else { return };
        let mut bytes = Vec::with_capacity(24 + 8 * states.len());
        reply::block_status(&mut bytes, request.to.cookie, &states);
        request.is_closed = true;
        let connection = request.to.connection;
        self.deliveries.push_back(Delivery { connection, parts: vec![Part::Bytes(bytes)], is_last: false });
    }

    pub(super) fn read_over(&mut self, id: u64, pooled: Pooled, trouble: Option<Trouble>) {
        let Some(piece) = self.pieces.remove(id) else { return };
        let Some(request) = self.requests.get_mut(piece.request) else { return self.pool.give(pooled) };
        if trouble.is_some() {
            self.pool.give(pooled);
            return self.piece_over(piece.request, trouble);
        }
        let data = Part::Buffer(pooled, piece.len as usize);
        if request.is_whole() {
            request.whole.push(WholePart { at: piece.at, part: data });
        } else {
            let is_last = request.left == 1 && request.trouble.is_none();
            request.is_closed |= is_last;
            let mut head = Vec::with_capacity(32);
            reply::data(&mut head, request.to.cookie, is_last, piece.at, piece.len);
            let (connection, parts) = (request.to.connection, vec![Part::head(&head), data]);
            self.deliveries.push_back(Delivery { connection, parts, is_last: false });
        }
        self.piece_over(piece.request, None);
    }
}
