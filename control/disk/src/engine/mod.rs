//! The disk itself: requests come in, requests to extents go out, and what ends becomes replies.

mod read;
mod zeros;

use crate::ending::ending;
use crate::master::MasterLink;
use crate::output::Part;
use crate::pool::{BufferPool, MOST, Pooled};
use crate::request::{Piece, PieceKind, ReplyTo, Request, Trouble};
use crate::slab::Slab;
use crate::store::MapStore;
use blockmap::{BlockMap, DiskStats, EXTENT, Ending, Stretch, WriteEnd, WriteKind, WriteStart};
use frame::Time;
use nbd::reply;
use nbd::{NbdError, NbdOperation, RequestHead};
use pages::{Ended, Extent, Lane, Status, Work};
use std::collections::VecDeque;

/// How often a request to an extent is sent again after it failed for a reason that may pass.
const REPEATS: u8 = 3;

/// Between two tries to move what is recalled, in nanoseconds.
const MOVE_AGAIN: Time = frame::time::SECOND;

/// Whether a request could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of it was begun.
    Begun,
    /// It waits for buffers.
    NoBuffers,
    /// It waits for pieces of its own to end.
    Later,
}

/// A part of a reply.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) connection: u64,
    pub(crate) parts: Vec<Part>,
    /// The request has ended.
    pub(crate) is_last: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) map: BlockMap,
    pub(crate) pool: BufferPool,
    pub(crate) master: MasterLink,
    /// Keeps the map, if the disk outlives its process.
    pub(crate) store: Option<MapStore>,
    pub(crate) stats: DiskStats,
    pub(crate) deliveries: VecDeque<Delivery>,
    requests: Slab<Request>,
    pieces: Slab<Piece>,
    batch: Vec<Work>,
    /// The buffer with which recalled extents are moved.
    mover: Option<Pooled>,
    move_again: Option<Time>,
    stretches: Vec<Stretch>,
    now: Time,
}

impl Engine {
    pub(crate) fn new(map: BlockMap, master: MasterLink, store: Option<MapStore>, stats: DiskStats) -> Self {
        let mut this = Self {
            map,
            pool: BufferPool::default(),
            master,
            store,
            stats,
            deliveries: VecDeque::new(),
            requests: Slab::default(),
            pieces: Slab::default(),
            batch: Vec::new(),
            mover: None,
            move_again: None,
            stretches: Vec::new(),
            now: 0,
        };
        this.connected();
        this
    }

    /// Another connection to a master is there.
    pub(crate) fn connected(&mut self) {
        self.pool.renew();
        self.mover = self.pool.take(self.master.client(), MOST);
    }

    pub(crate) fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Requests under way.
    pub(crate) fn pending(&self) -> usize {
        self.requests.len()
    }

    /// Whether requests to extents are under way or about to be.
    pub(crate) fn is_busy(&self) -> bool {
        let is_keeping = self.store.as_ref().is_some_and(MapStore::is_busy);
        is_keeping || !self.batch.is_empty() || self.master.client().is_some_and(|client| client.under_way() > 0)
    }

    /// When [`Engine::step`] has something to do at the latest.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let store = self.store.as_ref().and_then(MapStore::deadline);
        self.move_again.into_iter().chain(store).min()
    }

    /// A request that was checked begins. Those without bytes from the client go on with [`Engine::go_on`].
    pub(crate) fn begin(&mut self, to: ReplyTo, operation: NbdOperation, head: &RequestHead) -> u64 {
        self.requests.insert(Request {
            to,
            operation,
            began: self.now,
            offset: head.offset,
            len: head.len,
            left: 1,
            trouble: None,
            whole: Vec::new(),
            is_closed: false,
        })
    }

    /// A request that cannot be done is answered.
    pub(crate) fn refuse(&mut self, to: ReplyTo, error: NbdError) {
        self.stats.counters.requests_refused.add(1);
        let mut head = Vec::with_capacity(64);
        if to.structured {
            reply::error(&mut head, to.cookie, error, "");
        } else {
            reply::simple(&mut head, to.cookie, Some(error));
        }
        let parts = vec![Part::head(&head)];
        self.deliveries.push_back(Delivery { connection: to.connection, parts, is_last: true });
    }

    /// A request fails, whatever becomes of its pieces.
    pub(crate) fn fail(&mut self, request: u64, trouble: Trouble) {
        if let Some(request) = self.requests.get_mut(request) {
            request.trouble.get_or_insert(trouble);
        }
    }

    /// Begins what is left of a request, from this byte of the disk on. Returns the byte at which it waits, if it does.
    pub(crate) fn go_on(&mut self, id: u64, from: u64) -> (u64, Progress) {
        let Some(request) = self.requests.get_mut(id) else { return (from, Progress::Begun) };
        let (operation, end, offset, len) = (request.operation, request.end(), request.offset, request.len);
        let (at, progress) = match operation {
            NbdOperation::Read { .. } if request.is_whole() => self.read_whole(id, offset, end),
            NbdOperation::Read { .. } => self.read(id, from, end),
            NbdOperation::WriteZeroes { no_hole, fast } => self.write_zeros(id, from, no_hole, fast),
            NbdOperation::Trim => {
                Self::slots(offset, end, |at, len| self.map.clear(at, len, false));
                self.keep_slots(id, offset, end);
                (end, Progress::Begun)
            }
            NbdOperation::BlockStatus { one } => {
                self.block_status(id, offset, len, one);
                (end, Progress::Begun)
            }
            _ => (end, Progress::Begun),
        };
        if progress == Progress::Begun {
            self.piece_over(id, None);
        } else if progress == Progress::NoBuffers {
            self.stats.counters.buffer_waits.add(1);
        }
        (at, progress)
    }

    /// Calls with each part of a range that lies in one slot.
    fn slots(from: u64, end: u64, mut each: impl FnMut(u64, u32)) {
        let mut at = from;
        while at < end {
            let next = end.min((at / u64::from(EXTENT) + 1) * u64::from(EXTENT));
            each(at, (next - at) as u32);
            at = next;
        }
    }

    fn look(&mut self, at: u64, end: u64) -> Vec<Stretch> {
        let mut stretches = std::mem::take(&mut self.stretches);
        stretches.clear();
        let next = end.min((at / u64::from(EXTENT) + 1) * u64::from(EXTENT));
        self.map.look(at, (next - at) as u32, &mut stretches);
        stretches
    }

    /// Bytes of a WRITE have come: they are in the buffer behind its lead ([`Piece::lead`]).
    pub(crate) fn write(&mut self, request: u64, at: u64, len: u32, buffer: Pooled) {
        if buffer.master != self.pool.master() {
            // They came for a master that is gone.
            return self.fail(request, Trouble::NO_MASTER);
        }
        self.write_piece(request, WriteKind::Data, at, len, Some(buffer));
    }

    /// All bytes of a WRITE have come, or the client is gone.
    pub(crate) fn written(&mut self, request: u64) {
        self.piece_over(request, None);
    }

    fn write_piece(&mut self, request: u64, kind: WriteKind, at: u64, len: u32, buffer: Option<Pooled>) {
        if let Some(request) = self.requests.get_mut(request) {
            request.left += 1;
        }
        let piece = Piece { request, kind: PieceKind::Write(kind, None), at, len, buffer, repeats: 0 };
        let id = self.pieces.insert(piece);
        let start = self.map.write(id, kind, at, len);
        self.started(id, start);
    }

    /// The map says what becomes of a write.
    fn started(&mut self, id: u64, start: WriteStart) {
        match start {
            WriteStart::Waits => (),
            WriteStart::Done => self.write_over(id, None),
            WriteStart::Refused(refusal) => self.write_over(id, Some(Trouble::of(refusal))),
            WriteStart::Go(placed) => {
                let Some(piece) = self.pieces.get_mut(id) else { return };
                let PieceKind::Write(kind, _) = piece.kind else { return };
                piece.kind = PieceKind::Write(kind, Some(placed));
                let (lead, len) = (piece.lead(), piece.len);
                let Some(mut pooled) = piece.buffer.take() else { return };
                let first = lead - placed.front;
                let zeros = [(first, placed.front), (lead + len, placed.behind)];
                for (at, len) in zeros.into_iter().filter(|(_, len)| *len > 0) {
                    // The buffer has room for whole blocks.
                    let _ = pooled.buffer.write_zeros(at as usize, len as usize);
                }
                let len = placed.front + len + placed.behind;
                let work = Work::write(Extent::from_number(placed.extent), placed.offset, pooled.buffer);
                self.batch.push(work.with_part(first, len).tagged(id).in_lane(lane(len)));
            }
        }
    }

    /// A write has ended. If the map is kept, and this write changed it, its client hears of it when that is kept.
    fn write_over(&mut self, id: u64, trouble: Option<Trouble>) {
        let Some(slot) = self.pieces.get_mut(id).map(|piece| BlockMap::slot_of(piece.at)) else { return };
        if trouble.is_none() && self.is_to_be_kept(slot, id) {
            return;
        }
        self.write_answered(id, trouble);
    }

    /// Whether a change of a slot is not kept yet. Then an event of the store with this number follows.
    fn is_to_be_kept(&mut self, slot: u32, id: u64) -> bool {
        let Some(store) = &mut self.store else { return false };
        store.note(&mut self.map);
        store.waits(slot, id)
    }

    /// A request changed slots by itself: it has ended only when that is kept.
    pub(super) fn keep_slots(&mut self, id: u64, from: u64, end: u64) {
        match &mut self.store {
            None => return,
            Some(store) if store.is_on() => (),
            // The area may be there still, and would bring back what was cleared.
            Some(_) => return self.fail(id, Trouble::NO_MASTER),
        }
        let mut at = from;
        while at < end {
            let piece = Piece { request: id, kind: PieceKind::Keep, at, len: 0, buffer: None, repeats: 0 };
            let number = self.pieces.insert(piece);
            if self.is_to_be_kept(BlockMap::slot_of(at), number) {
                if let Some(request) = self.requests.get_mut(id) {
                    request.left += 1;
                }
            } else {
                self.pieces.remove(number);
            }
            at = (at / u64::from(EXTENT) + 1) * u64::from(EXTENT);
        }
    }

    fn write_answered(&mut self, id: u64, trouble: Option<Trouble>) {
        let Some(piece) = self.pieces.remove(id) else { return };
        if let Some(buffer) = piece.buffer {
            self.pool.give(buffer);
        }
        self.piece_over(piece.request, trouble);
    }

    /// A piece of a request has ended.
    fn piece_over(&mut self, id: u64, trouble: Option<Trouble>) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.left -= 1;
        if let Some(trouble) = trouble {
            request.trouble.get_or_insert(trouble);
        }
        if request.left > 0 && matches!(request.operation, NbdOperation::WriteZeroes { no_hole: true, .. }) {
            // Its connection may begin the next pieces.
            let connection = request.to.connection;
            self.deliveries.push_back(Delivery { connection, parts: Vec::new(), is_last: false });
            return;
        }
        if request.left == 0
            && let Some(request) = self.requests.remove(id)
        {
            self.count(&request);
            let is_status = matches!(request.operation, NbdOperation::BlockStatus { .. });
            let connection = request.to.connection;
            let parts = if is_status && request.is_closed { Vec::new() } else { request.reply() };
            self.deliveries.push_back(Delivery { connection, parts, is_last: true });
        }
    }

    fn count(&self, request: &Request) {
        let (counters, histograms) = (&self.stats.counters, &self.stats.histograms);
        let took = self.now.saturating_sub(request.began);
        let (counter, histogram) = match request.operation {
            NbdOperation::Read { .. } => (&counters.reads, &histograms.disk_read_ns),
            NbdOperation::Write => (&counters.writes, &histograms.disk_write_ns),
            NbdOperation::WriteZeroes { .. } => (&counters.writes_of_zeros, &histograms.disk_other_ns),
            NbdOperation::Trim => (&counters.trims, &histograms.disk_other_ns),
            _ => (&counters.other_requests, &histograms.disk_other_ns),
        };
        counter.add(1);
        histogram.record(took);
        match request.trouble.map(|trouble| trouble.error) {
            None => match request.operation {
                NbdOperation::Read { .. } => counters.disk_bytes_read.add(request.len.into()),
                NbdOperation::Write => counters.disk_bytes_written.add(request.len.into()),
                _ => (),
            },
            Some(NbdError::Io) => counters.requests_failed_io.add(1),
            Some(NbdError::NoSpace) => counters.requests_failed_no_space.add(1),
            Some(_) => counters.requests_refused.add(1),
        }
    }

    /// A request to an extent has ended.
    pub(crate) fn ended(&mut self, end: Ended) {
        let pooled = Pooled { buffer: end.buffer, master: self.pool.master() };
        let Some(piece) = self.pieces.get_mut(end.tag) else { return self.pool.give(pooled) };
        if matches!(end.status, Status::FLUSHED | Status::NO_ANSWER) && piece.repeats < REPEATS {
            piece.repeats += 1;
            if let Some(work) = again(piece, end.tag, pooled) {
                self.batch.push(work);
            }
            return;
        }
        let (ending, kind, at) = (ending(end.status), piece.kind, piece.at);
        let trouble = match ending {
            Ending::Done => None,
            Ending::Lost => Some(Trouble::LOST),
            Ending::Failed => Some(Trouble::NO_ANSWER),
        };
        match kind {
            PieceKind::Read { extent, .. } => {
                self.map.read_ended(at, extent, ending);
                self.read_over(end.tag, pooled, trouble);
            }
            PieceKind::Write(..) => match self.map.write_ended(end.tag, at, ending) {
                WriteEnd::Done => {
                    self.pool.give(pooled);
                    self.write_over(end.tag, None);
                }
                WriteEnd::Failed => {
                    self.pool.give(pooled);
                    self.write_over(end.tag, trouble.or(Some(Trouble::LOST)));
                }
                // An event of the map needs the buffer.
                WriteEnd::Again => piece.buffer = Some(pooled),
            },
            PieceKind::CopyRead(step) => {
                self.pieces.remove(end.tag);
                if ending == Ending::Done && self.map.is_current(step) {
                    let kind = PieceKind::CopyWrite(step);
                    self.copy(Piece { request: 0, kind, at: 0, len: step.len, buffer: Some(pooled), repeats: 0 });
                } else {
                    self.copied(ending, Ending::Done, step, pooled);
                }
            }
            PieceKind::CopyWrite(step) => {
                self.pieces.remove(end.tag);
                self.copied(Ending::Done, ending, step, pooled);
            }
            // It has no request to an extent.
            PieceKind::Keep => self.pool.give(pooled),
        }
    }

    /// Sends a step of a move.
    fn copy(&mut self, mut piece: Piece) {
        let Some(pooled) = piece.buffer.take() else { return };
        let id = self.pieces.insert(piece);
        if let Some(piece) = self.pieces.get_mut(id)
            && let Some(work) = again(piece, id, pooled)
        {
            self.batch.push(work);
        }
    }

    fn copied(&mut self, reading: Ending, writing: Ending, step: blockmap::CopyStep, pooled: Pooled) {
        if pooled.master == self.pool.master() {
            self.mover.get_or_insert(pooled);
        }
        self.map.copied(step, reading, writing);
        if (reading, writing) != (Ending::Done, Ending::Done) {
            self.move_again = Some(self.now + MOVE_AGAIN);
        }
    }

    /// Does all that follows from what has come. Returns whether anything was done.
    pub(crate) fn step(&mut self) -> bool {
        let mut is_moving = false;
        loop {
            is_moving |= self.keep();
            self.master.manage(&mut self.map, self.store.as_mut(), self.now);
            if self.move_again.is_some_and(|at| at <= self.now) {
                self.move_again = None;
                self.map.begin_move();
            }
            if self.move_again.is_none()
                && let Some(mover) = self.mover.take()
            {
                match self.map.next_copy() {
                    Some(step) => {
                        let kind = PieceKind::CopyRead(step);
                        self.copy(Piece { request: 0, kind, at: 0, len: step.len, buffer: Some(mover), repeats: 0 });
                    }
                    None => {
                        self.mover = Some(mover);
                        // One that could not begin is tried again later.
                        if self.map.moves() && !self.map.is_moving() {
                            self.move_again = Some(self.now + MOVE_AGAIN);
                        }
                    }
                }
            }
            let Some(event) = self.map.next_event() else { break };
            is_moving = true;
            self.started(event.write, event.start);
        }
        if !self.batch.is_empty() {
            match self.master.client_mut().map(|client| client.post(&mut self.batch)) {
                Some(Ok(posted)) => is_moving |= posted > 0,
                Some(Err(_)) | None => self.give_up_batch(),
            }
        }
        is_moving
    }

    /// Lets the store go on, and answers what waited for it.
    fn keep(&mut self) -> bool {
        let Some(store) = &mut self.store else {
            self.map.take_changed();
            return false;
        };
        let mut worked = store.step(&mut self.map, self.now);
        while let Some(event) = self.store.as_mut().and_then(MapStore::next_event) {
            worked = true;
            self.write_answered(event.id, event.refusal.map(Trouble::of));
        }
        worked
    }

    /// What was not posted ends as what was posted to a master that is gone.
    fn give_up_batch(&mut self) {
        for work in std::mem::take(&mut self.batch) {
            let (tag, extent, len) = (work.tag(), work.extent(), 0);
            self.ended(Ended { tag, extent, status: Status::SERVER_GONE, len, buffer: work.into_buffer() });
        }
    }

    /// The master is gone: all that was present is lost. Returns how many extents those were.
    pub(crate) fn master_gone(&mut self) -> usize {
        self.give_up_batch();
        let lost = self.map.lost_all();
        self.mover = None;
        self.move_again = None;
        self.pool.renew();
        self.master.lost(&mut self.map);
        if let Some(store) = &mut self.store {
            store.master_gone();
        }
        lost
    }
}

/// The most bytes of a piece that is urgent. Who transfers more at once waits for all of it, and not for each packet:
/// as urgent pieces they would keep those of others waiting, and use up what gateways allow of PUSH.
const MOST_URGENT: u32 = 16 << 10;

/// The lane of a piece of so many bytes.
fn lane(len: u32) -> Lane {
    if len > MOST_URGENT { Lane::Bulk } else { Lane::Demand }
}

/// The request to an extent that a piece is.
fn again(piece: &Piece, id: u64, pooled: Pooled) -> Option<Work> {
    let extent = Extent::from_number;
    let buffer = pooled.buffer;
    let work = match piece.kind {
        PieceKind::Read { extent: number, offset } => {
            Work::read(extent(number), offset, buffer).with_part(0, piece.len).in_lane(lane(piece.len))
        }
        PieceKind::Write(_, placed) => {
            let placed = placed?;
            let len = placed.front + piece.len + placed.behind;
            let part = (piece.lead() - placed.front, len);
            Work::write(extent(placed.extent), placed.offset, buffer).with_part(part.0, part.1).in_lane(lane(len))
        }
        PieceKind::CopyRead(step) => {
            Work::read(extent(step.from), step.offset, buffer).with_part(0, step.len).in_lane(Lane::Bulk)
        }
        PieceKind::Keep => return None,
        PieceKind::CopyWrite(step) => {
            Work::write(extent(step.to), step.offset, buffer).with_part(0, step.len).in_lane(Lane::Bulk)
        }
    };
    Some(work.tagged(id))
}
