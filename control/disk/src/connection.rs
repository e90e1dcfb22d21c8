//! One connection of a client: its negotiation, its requests, and its replies.

use crate::engine::{Engine, Progress};
use crate::input::{Came, Input};
use crate::output::Output;
use crate::pool::{MOST, Pooled};
use crate::request::{ReplyTo, Trouble};
use blockmap::{BLOCK, EXTENT};
use frame::Time;
use nbd::{Export, NbdError, NbdFault, NbdOperation, Negotiated, Negotiation, NegotiationStep, RequestHead};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The most requests of a connection that are under way. Others wait in the socket.
const MOST_PENDING: u32 = 1024;

/// The most bytes, and parts of replies, that wait for the client before no more requests are taken.
const MOST_OUTPUT: (usize, usize) = (8 << 20, 4096);

/// What a connection does in one turn, so that others have theirs: requests, and bytes.
const TURN: (u32, usize) = (256, 4 << 20);

/// Why a connection ends before the client wanted it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ends {
    /// The client does not keep to the protocol.
    #[error(transparent)]
    Fault(#[from] NbdFault),
    /// The kernel says so.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A WRITE whose bytes come.
#[derive(Debug)]
struct Coming {
    request: u64,
    /// The next byte of the disk that has no buffer, and the end.
    next: u64,
    end: u64,
    /// The piece that is being filled: its first byte of the disk, its length, what has come of it, its buffer.
    piece: Option<(u64, usize, usize, Pooled)>,
}

/// What the next bytes are.
#[derive(Debug)]
enum State {
    Negotiating(Box<Negotiation>),
    /// The head of a request.
    Head,
    /// A request without bytes that could not begin completely.
    Waiting {
        request: u64,
        from: u64,
    },
    /// The bytes of a WRITE.
    Coming(Coming),
    /// So many bytes of a WRITE that was refused, and what is said behind them.
    Skipping {
        left: u32,
        then: Then,
    },
    /// No further bytes are taken.
    Leaving,
}

/// What ends a WRITE whose bytes are not used.
#[derive(Clone, Copy, Debug)]
enum Then {
    Refuse(ReplyTo, NbdError),
    Written(u64),
}

/// Why a connection takes no bytes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It had its turn, and has more.
    Turn,
    /// All that came was taken.
    Socket,
    /// No buffers are free.
    Buffers,
    /// Its own requests have to end, or its replies to leave.
    Backlog,
    /// It takes nothing any more.
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) socket: OwnedFd,
    /// Who it is, for the log.
    pub(crate) peer: String,
    export: Arc<Export>,
    input: Input,
    pub(crate) output: Output,
    state: State,
    agreed: Negotiated,
    /// Requests under way.
    pub(crate) pending: u32,
    /// The socket may have bytes.
    pub(crate) is_readable: bool,
    /// The client sends nothing any more: the end of the stream follows what is there.
    pub(crate) is_hung: bool,
    /// The socket has no room.
    pub(crate) is_full: bool,
    pub(crate) pause: Pause,
    /// Since when the client takes no replies, or has not negotiated.
    pub(crate) stalls_since: Option<Time>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, peer: String, export: Arc<Export>, now: Time) -> Self {
        let mut output = Output::default();
        output.push(crate::output::Part::head(Negotiation::greeting()));
        Self {
            number: 0,
            socket,
            peer,
            state: State::Negotiating(Box::new(Negotiation::new(Arc::clone(&export)))),
            export,
            input: Input::default(),
            output,
            agreed: Negotiated::default(),
            pending: 0,
            is_readable: true,
            is_hung: false,
            is_full: false,
            pause: Pause::Turn,
            stalls_since: Some(now),
        }
    }

    pub(crate) fn is_negotiating(&self) -> bool {
        matches!(self.state, State::Negotiating(_))
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Leaving) && self.pending == 0 && self.output.is_empty()
    }

    /// Takes nothing from the client any more; what is under way ends.
    pub(crate) fn leave(&mut self, engine: &mut Engine) {
        match std::mem::replace(&mut self.state, State::Leaving) {
            State::Coming(Coming { request, piece, .. }) => {
                if let Some((.., pooled)) = piece {
                    engine.pool.give(pooled);
                }
                engine.fail(request, Trouble::CUT);
                engine.written(request);
            }
            State::Skipping { then: Then::Written(request), .. } | State::Waiting { request, .. } => {
                engine.fail(request, Trouble::CUT);
                engine.written(request);
            }
            State::Skipping { then: Then::Refuse(to, error), .. } => engine.refuse(to, error),
            _ => (),
        }
        self.pause = Pause::Over;
    }

    /// Whether it has a buffer that is not full yet: it needs no other one to go on.
    pub(crate) fn is_filling(&self) -> bool {
        matches!(&self.state, State::Coming(Coming { piece: Some(_), .. }))
    }

    fn has_backlog(&self) -> bool {
        let (bytes, parts) = self.output.waiting();
        self.pending >= MOST_PENDING || bytes >= MOST_OUTPUT.0 || parts >= MOST_OUTPUT.1
    }

    /// Whether it may go on that waited for its own requests and replies.
    pub(crate) fn may_go_on(&self) -> bool {
        self.pause == Pause::Backlog && (!self.has_backlog() || matches!(self.state, State::Waiting { .. }))
    }

    /// Takes what came, and begins requests.
    pub(crate) fn serve(&mut self, engine: &mut Engine) -> Result<(), Ends> {
        let (mut requests, mut bytes) = (0, 0);
        loop {
            if requests >= TURN.0 || bytes >= TURN.1 {
                self.pause = Pause::Turn;
                return Ok(());
            }
            let (before, step) = (self.input.bytes().len(), self.step(engine)?);
            bytes += before - self.input.bytes().len().min(before);
            match step {
                Step::On => requests += 1,
                Step::Pause(pause) => {
                    self.pause = pause;
                    return Ok(());
                }
                Step::Bytes if !self.is_readable => {
                    self.pause = Pause::Socket;
                    return Ok(());
                }
                Step::Bytes => match self.receive()? {
                    Came::Some(count) => bytes += count,
                    Came::Nothing => self.is_readable = false,
                    Came::End => {
                        self.leave(engine);
                        return Ok(());
                    }
                },
            }
        }
    }

    fn receive(&mut self) -> Result<Came, Ends> {
        let direct = match &mut self.state {
            State::Coming(Coming { piece: Some((at, len, got, pooled)), .. }) if self.input.bytes().is_empty() => {
                Some((at, len, got, pooled))
            }
            _ => None,
        };
        let Some((at, len, got, pooled)) = direct else {
            let room = self.input.room().len();
            let came = self.input.receive(&self.socket).map_err(io::Error::from)?;
            self.note(came, room);
            return Ok(came);
        };
        // Straight to its place, and what follows it to where heads are read.
        let lead = (*at % u64::from(BLOCK)) as usize;
        let wanted = *len - *got;
        let room = wanted + self.input.room().len();
        match pooled.buffer.receive(&self.socket, lead + *got, wanted, self.input.room()) {
            Ok(0) => Ok(Came::End),
            Ok(count) => {
                *got += count.min(wanted);
                self.input.came(count.saturating_sub(wanted));
                self.note(Came::Some(count), room);
                Ok(Came::Some(count))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Came::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A socket that gave less than there was room for is empty: it says when it has more.
    fn note(&mut self, came: Came, room: usize) {
        if matches!(came, Came::Some(count) if count < room) && !self.is_hung {
            self.is_readable = false;
        }
    }

    fn step(&mut self, engine: &mut Engine) -> Result<Step, Ends> {
        let has_backlog = self.has_backlog();
        match &mut self.state {
            State::Negotiating(negotiation) => {
                if has_backlog {
                    return Ok(Step::Pause(Pause::Backlog));
                }
                let mut out = Vec::new();
                let result = negotiation.take(self.input.bytes(), &mut out);
                if !out.is_empty() {
                    self.output.push(crate::output::Part::Bytes(out));
                }
                let (taken, step) = result?;
                self.input.taken(taken);
                match step {
                    NegotiationStep::More => return Ok(Step::Bytes),
                    NegotiationStep::End => self.leave(engine),
                    NegotiationStep::Transmission(agreed) => {
                        (self.agreed, self.state, self.stalls_since) = (agreed, State::Head, None);
                        tracing::debug!("{}: {agreed:?}", self.peer);
                    }
                }
                Ok(Step::On)
            }
            State::Head if has_backlog => Ok(Step::Pause(Pause::Backlog)),
            State::Head => {
                let Some(bytes) = self.input.bytes().first_chunk() else { return Ok(Step::Bytes) };
                let head = RequestHead::parse(bytes)?;
                self.input.taken(RequestHead::LEN);
                self.begin(head, engine);
                Ok(Step::On)
            }
            State::Waiting { request, from } => {
                let (at, progress) = engine.go_on(*request, *from);
                *from = at;
                Ok(match progress {
                    Progress::Begun => {
                        self.state = State::Head;
                        Step::On
                    }
                    Progress::NoBuffers => Step::Pause(Pause::Buffers),
                    Progress::Later => Step::Pause(Pause::Backlog),
                })
            }
            State::Coming(_) => Ok(self.take_bytes(engine)),
            State::Skipping { left, then } => {
                let now = self.input.bytes().len().min(*left as usize);
                *left -= now as u32;
                let (left, then) = (*left, *then);
                self.input.taken(now);
                if left > 0 {
                    return Ok(Step::Bytes);
                }
                match then {
                    Then::Refuse(to, error) => engine.refuse(to, error),
                    Then::Written(request) => engine.written(request),
                }
                self.state = State::Head;
                Ok(Step::On)
            }
            State::Leaving => Ok(Step::Pause(Pause::Over)),
        }
    }

    /// A request has come.
    fn begin(&mut self, head: RequestHead, engine: &mut Engine) {
        let to = ReplyTo { connection: self.number, cookie: head.cookie, structured: self.agreed.structured };
        let result = head.check(&self.export, self.agreed);
        if result != Ok(NbdOperation::Disconnect) {
            self.pending += 1;
        }
        match result {
            Err(error) => {
                tracing::debug!("{}: {head:?} is refused: {error}", self.peer);
                self.state = State::Skipping { left: head.payload(), then: Then::Refuse(to, error) };
            }
            Ok(NbdOperation::Disconnect) => self.leave(engine),
            Ok(NbdOperation::Write) => {
                let request = engine.begin(to, NbdOperation::Write, &head);
                let (next, end) = (head.offset, head.offset + u64::from(head.len));
                self.state = State::Coming(Coming { request, next, end, piece: None });
            }
            Ok(operation) => {
                let request = engine.begin(to, operation, &head);
                self.state = State::Waiting { request, from: head.offset };
            }
        }
    }

    /// Bytes of a WRITE.
    fn take_bytes(&mut self, engine: &mut Engine) -> Step {
        let State::Coming(coming) = &mut self.state else { return Step::Bytes };
        if coming.piece.is_none() && coming.next < coming.end {
            if engine.master.client().is_none() {
                engine.fail(coming.request, Trouble::NO_MASTER);
                let left = (coming.end - coming.next) as u32;
                self.state = State::Skipping { left, then: Then::Written(coming.request) };
                return Step::On;
            }
            // Pieces end where slots and large blocks end.
            let lead = (coming.next % u64::from(BLOCK)) as usize;
            let large = (coming.next / MOST as u64 + 1) * MOST as u64;
            let slot = (coming.next / u64::from(EXTENT) + 1) * u64::from(EXTENT);
            let len = (coming.end.min(large).min(slot) - coming.next) as usize;
            let Some(pooled) = engine.pool.take(engine.master.client(), lead + len) else {
                engine.stats.counters.buffer_waits.add(1);
                return Step::Pause(Pause::Buffers);
            };
            let len = len.min(pooled.len() - lead);
            coming.piece = Some((coming.next, len, 0, pooled));
            coming.next += len as u64;
        }
        if let Some((at, len, got, pooled)) = &mut coming.piece {
            let lead = (*at % u64::from(BLOCK)) as usize;
            let now = self.input.bytes().len().min(*len - *got);
            if let Some(bytes) = self.input.bytes().get(..now)
                && now > 0
            {
                // The buffer has room for the piece behind its lead.
                let _ = pooled.buffer.write(lead + *got, bytes);
                engine.stats.counters.bytes_copied.add(now as u64);
            }
            self.input.taken(now);
            *got += now;
            if *got < *len {
                return Step::Bytes;
            }
            if let Some((at, len, _, pooled)) = coming.piece.take() {
                engine.write(coming.request, at, len as u32, pooled);
            }
        }
        if coming.next == coming.end {
            engine.written(coming.request);
            self.state = State::Head;
        }
        Step::On
    }
}

/// How a connection goes on.
enum Step {
    On,
    /// It needs more bytes.
    Bytes,
    Pause(Pause),
}
