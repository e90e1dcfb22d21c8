//! One queue pair: the state that it keeps while idle. The state of a busy queue pair is in slabs.

use crate::completion::Completions;
use crate::config::Config;
use crate::counters::TransportCounters;
use crate::memory::{Memory, Place, Regions};
use crate::path::Path;
use crate::queue::Classes;
use crate::requester::{Requester, Wqe};
use crate::responder::{Replay, Responder};
use crate::slab::{NONE, Slab};
use crate::total::TotalWindow;
use crate::window::{InFlight, PACKET_COST};
use crate::{Completion, CompletionKind, Local, PathId, Qpn, Receive, Status};
use frame::Time;
use frame::time::MILLISECOND;
use std::sync::Arc;
use wire::rc::PathMtu;

/// The state of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It exists, and nothing more.
    Reset,
    /// Receives may be posted.
    Init,
    /// Ready to receive: requests of the peer are served.
    Rtr,
    /// Ready to send: requests can be sent to the peer, too.
    Rts,
    /// Failed: all work is flushed. Only [`Endpoint::reset`](crate::Endpoint::reset) leads out of this state.
    Error,
}

impl State {
    /// The verbs' name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "RESET",
            Self::Init => "INIT",
            Self::Rtr => "RTR",
            Self::Rts => "RTS",
            Self::Error => "ERR",
        }
    }
}

/// What the requester waits for, in addition to answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For nothing.
    Nothing,
    /// For one of the outstanding READs or atomic operations to end.
    ReadDepth,
    /// For room in the window of the path.
    PathWindow,
    /// For room in the window of all paths.
    TotalWindow,
}

/// Never.
pub(crate) const NEVER: Time = Time::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Qp {
    /// When the wheel checks it next, or [`NEVER`].
    pub(crate) scheduled: Time,
    /// When an answer is overdue, or an RNR wait is over; or [`NEVER`].
    pub(crate) timer: Time,
    pub(crate) requester: Requester,
    pub(crate) responder: Responder,
    /// Its number, or 0 if the place is free.
    pub(crate) number: u32,
    /// The peer's number.
    pub(crate) peer: u32,
    pub(crate) path: u32,
    pub(crate) domain: u32,
    /// The next queue pair of the same path, or [`NONE`].
    pub(crate) sibling: u32,
    pub(crate) mtu: PathMtu,
    pub(crate) state: State,
    pub(crate) wait: Wait,
    /// A congestion notification is due.
    pub(crate) notify: bool,
    /// Somebody waits for each of its requests.
    pub(crate) is_urgent: bool,
}

impl Qp {
    pub(crate) const FREE: Self = Self {
        scheduled: NEVER,
        timer: NEVER,
        requester: Requester::IDLE,
        responder: Responder::IDLE,
        number: 0,
        peer: 0,
        path: NONE,
        domain: 0,
        sibling: NONE,
        mtu: PathMtu::B256,
        state: State::Reset,
        wait: Wait::Nothing,
        notify: false,
        is_urgent: false,
    };

    pub(crate) fn path_id(&self) -> PathId {
        PathId(self.path)
    }

    /// Whether it has something to send and need not wait for anything.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.notify
            || self.responder.has_output()
            || (self.wait == Wait::Nothing && self.state == State::Rts && self.requester.may_send())
    }

    /// The address of a local buffer, plus `offset` bytes.
    #[inline]
    pub(crate) fn local(&self, local: Local, offset: u32) -> Place {
        self.place(local.key, local.address.wrapping_add(u64::from(offset)))
    }

    #[inline]
    pub(crate) fn place(&self, key: u32, address: u64) -> Place {
        Place { key, domain: self.domain, address }
    }
}

/// Shared by all queue pairs of an endpoint.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Shared<M> {
    pub(crate) config: Config,
    pub(crate) regions: Regions<M>,
    pub(crate) work: Slab<Wqe>,
    pub(crate) receives: Slab<Receive>,
    pub(crate) replays: Slab<Replay>,
    pub(crate) completions: Completions,
    pub(crate) counters: Arc<TransportCounters>,
    /// Bytes in flight to and from all peers.
    pub(crate) in_flight: InFlight<u64>,
    /// How many that may be.
    pub(crate) total: TotalWindow,
    /// Urgent queue pairs that are connected.
    pub(crate) urgent_qps: u32,
    /// Queue pairs that wait for room in the window of all paths.
    pub(crate) waiting: Classes,
    /// Bytes that READs may still ask for while others like them wait for room in the window of all paths, of those
    /// that are not urgent. See [`Shared::batch`].
    pub(crate) granted: u64,
    /// The last request that had to wait for room in that window and is not urgent was a READ.
    pub(crate) reads_wait: bool,
    /// The time of the last call, and until when somebody may wait for requests: some time after each urgent one.
    pub(crate) now: Time,
    pub(crate) urgent_until: Time,
    /// Elements of the response cache that are reserved for queue pairs.
    pub(crate) promised: u32,
}

impl<M> Shared<M> {
    /// Whether this many more bytes may be in flight in total. A message larger than the limit goes alone.
    #[inline]
    pub(crate) fn has_room(&self, is_urgent: bool, cost: u32) -> bool {
        self.in_flight.has_room(self.total.limit(), self.urgent_qps > 0, is_urgent, cost)
    }

    /// How many bytes must be free in the window of all paths before queue pairs go on that wait for room there and are
    /// not urgent; `None` if each goes on as soon as it can.
    ///
    /// If one went on for each answer that comes, each READ would leave in a datagram of its own. So READs wait until
    /// several can go together. The window is large enough for that: it is a quarter of it at most. A batch is a short
    /// queue on the way, so there is none while somebody waits for other requests.
    #[inline]
    pub(crate) fn batch(&self) -> Option<u32> {
        let batches = self.reads_wait && self.now >= self.urgent_until;
        // At most `BATCH`, which has 32 bits.
        batches.then_some((self.total.limit() / 4).min(u64::from(BATCH)) as u32)
    }

    /// Whether a READ that is not urgent must wait behind others.
    #[inline]
    pub(crate) fn must_queue(&self) -> bool {
        self.granted == 0 && !self.waiting.has_no_bulk() && self.batch().is_some()
    }
}

/// For so long after an urgent request the next one is expected.
pub(crate) const URGENT_FOR: Time = 10 * MILLISECOND;

/// So many bytes are enough for a batch of requests: 16 pages.
const BATCH: u32 = 16 * (4096 + PACKET_COST);

/// One queue pair, and everything that it may use.
pub(crate) struct Context<'a, M> {
    pub(crate) qp: &'a mut Qp,
    pub(crate) path: &'a mut Path,
    pub(crate) shared: &'a mut Shared<M>,
    pub(crate) now: Time,
}

/// The result of an attempt to send one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One packet was sent, or something else made progress.
    Sent,
    /// There is nothing to send now.
    Idle,
    /// The sink has no room.
    Full,
}

/// The result for a packet that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A request that was served, refused or answered again.
    Request,
    /// A response that made progress.
    Response,
    /// The queue pair is not ready for it.
    State,
    /// A response to a request that was never sent.
    Window,
    /// A response to a completed request.
    Stale,
    /// A response that came before a missing one.
    Early,
    /// A response that does not fit its request.
    Unfit,
    /// A request that came before a missing one.
    RequestEarly,
    /// A request that was done before and cannot be repeated.
    Unknown,
    /// An unknown opcode in a packet that needs no refusal.
    Opcode,
}

impl<M: Memory> Context<'_, M> {
    /// Ends one work request or receive.
    #[inline]
    pub(crate) fn complete(&mut self, id: u64, kind: CompletionKind, status: Status, len: u32, imm: Option<u32>) {
        let counters = &self.shared.counters;
        if status == Status::Success { &counters.completed } else { &counters.completed_in_error }.add(1);
        let qpn = Qpn(self.qp.number);
        self.shared.completions.push(Completion { id, qpn, kind, status, len, imm });
    }

    /// The queue pair fails: the work request at `at` with `status`, all others are flushed. If the responder failed
    /// (`at` is [`NONE`]), it still sends its pending answers; otherwise nothing is sent.
    pub(crate) fn fail(&mut self, at: u32, status: Status) {
        if self.qp.state == State::Error {
            return;
        }
        self.qp.state = State::Error;
        self.shared.counters.qps_failed.add(1);
        self.release_all();
        self.qp.requester.stop();
        self.qp.timer = NEVER;
        loop {
            let index = self.qp.requester.queue.head;
            let Some(wqe) = self.shared.work.pop(&mut self.qp.requester.queue) else { break };
            let status = if index == at { status } else { Status::WrFlushErr };
            self.complete(wqe.work.id, wqe.work.op.kind(), status, 0, None);
        }
        self.flush_receives();
        if at != NONE {
            self.forget_replays();
        }
    }

    pub(crate) fn flush_receives(&mut self) {
        while let Some(receive) = self.shared.receives.pop(&mut self.qp.responder.receives) {
            self.complete(receive.id, CompletionKind::Receive, Status::WrFlushErr, 0, None);
        }
    }
}
