//! Recovery from losses: timeouts, NAKs, and the number of retries.

use super::{IMPLIED, LATE, SAID};
use crate::Status;
use crate::config::PeerKind;
use crate::memory::Memory;
use crate::moment::Moment;
use crate::qp::{Context, NEVER, State, Verdict, Wait};
use wire::rc::RnrTimer;

/// The count of RNR retries that means without end.
const WITHOUT_END: u8 = 7;

/// An own peer is not given up before this many consecutive timeouts: as many as fit in the time limit if each is a
/// quarter of it.
const TIMEOUTS: u8 = 3;

/// This many consecutive timeouts cannot come from a single loss.
const SILENT: u8 = 6;

impl<M: Memory> Context<'_, M> {
    /// Sends everything again, from the first unacknowledged PSN on. A READ asks again from its first missing packet
    /// on.
    fn rewind(&mut self) {
        self.release_all();
        let requester = &mut self.qp.requester;
        requester.next = requester.una;
        (requester.cursor, requester.sent) = (requester.queue.head, requester.acked);
        (requester.reads, requester.quiet) = (0, 0);
        // A packet that is sent twice gives no round trip (Karn).
        requester.sample_at = Moment::NONE;
        self.qp.timer = NEVER;
        if self.qp.wait == Wait::ReadDepth {
            self.qp.wait = Wait::Nothing;
        }
        self.shared.counters.rewinds.add(1);
    }

    /// An answer to a later request shows that one with data is missing. The request is sent again, once until the
    /// answer comes or the timer runs out. That is a retry, as after a NAK.
    pub(super) fn ask_again(&mut self) -> Verdict {
        let requester = &self.qp.requester;
        if requester.again & IMPLIED != 0 || requester.rnr_wait || requester.next == requester.una {
            return Verdict::Early;
        }
        self.go_back(IMPLIED)
    }

    /// `una` was lost: it is sent again, which is a retry. If no retry is left, the queue pair fails.
    fn go_back(&mut self, why: u8) -> Verdict {
        let requester = &mut self.qp.requester;
        requester.again |= why;
        if self.path.kind == PeerKind::Roce {
            let Some(left) = requester.retries_left.checked_sub(1) else {
                let head = requester.queue.head;
                self.fail(head, Status::RetryExcErr);
                return Verdict::Response;
            };
            requester.retries_left = left;
        }
        self.path.window.lost(self.now, self.path.round_trip());
        self.lost();
        self.rewind();
        Verdict::Response
    }

    /// Whether an own peer was silent for too long.
    fn is_given_up(&self) -> bool {
        let silent = self.qp.requester.progress.until(self.now);
        self.path.kind == PeerKind::Own && silent >= self.shared.config.give_up
    }

    /// The peer did not receive `una`. A responder reports this once until `una` comes, so a second NAK is a copy of
    /// the first: the timer decides.
    pub(super) fn on_sequence_error(&mut self) -> Verdict {
        let requester = &self.qp.requester;
        if requester.again & SAID != 0 || requester.next == requester.una {
            return Verdict::Stale;
        }
        self.shared.counters.naks_sequence_in.add(1);
        self.go_back(SAID)
    }

    /// The peer has no receive for `una`.
    pub(super) fn on_not_ready(&mut self, timer: RnrTimer) -> Verdict {
        let requester = &mut self.qp.requester;
        if requester.rnr_wait || requester.next == requester.una {
            return Verdict::Stale;
        }
        self.shared.counters.naks_rnr_in.add(1);
        let left = match requester.rnr_left {
            WITHOUT_END => Some(WITHOUT_END),
            left => left.checked_sub(1),
        };
        let exceeded = match self.path.kind {
            PeerKind::Roce => left.is_none(),
            PeerKind::Own => self.is_given_up(),
        };
        if exceeded {
            let head = self.qp.requester.queue.head;
            self.fail(head, Status::RnrRetryExcErr);
            return Verdict::Response;
        }
        self.rewind();
        let requester = &mut self.qp.requester;
        requester.rnr_left = left.unwrap_or(0);
        (requester.rnr_wait, requester.not_ready) = (true, true);
        // The peer answers. So the next loss counts as the first.
        requester.backoff = 0;
        self.qp.timer = self.now.saturating_add(timer.nanoseconds());
        Verdict::Response
    }

    /// Checks the timer, which may have run out.
    pub(crate) fn on_timer(&mut self) {
        if self.qp.state != State::Rts || self.now < self.qp.timer {
            return;
        }
        self.qp.timer = NEVER;
        let requester = &mut self.qp.requester;
        if requester.rnr_wait {
            requester.rnr_wait = false;
            return;
        }
        let head = requester.queue.head;
        let left = requester.retries_left.checked_sub(1);
        let exceeded = match self.path.kind {
            PeerKind::Roce => left.is_none(),
            // Time alone does not count: for some of it nothing may have been sent, because a window had no room.
            PeerKind::Own => self.is_given_up() && self.qp.requester.backoff >= TIMEOUTS,
        };
        if exceeded {
            // A peer that was not ready until a moment ago was not silent: only its last answer was lost.
            let requester = &self.qp.requester;
            let not_ready = requester.not_ready && requester.backoff < SILENT;
            self.fail(
                head,
                if not_ready && self.path.kind == PeerKind::Own { Status::RnrRetryExcErr } else { Status::RetryExcErr },
            );
            return;
        }
        let requester = &mut self.qp.requester;
        requester.retries_left = left.unwrap_or(0);
        requester.backoff = requester.backoff.saturating_add(1);
        // The answer shows whether something was lost.
        requester.again = LATE;
        self.shared.counters.timeouts.add(1);
        self.path.window.lost(self.now, self.path.round_trip());
        self.rewind();
    }

    /// The first answer after a timeout. It belongs to any of the copies that were sent. If it came sooner than the
    /// last copy's can, nothing was lost: the peer, or the way to it, is slower than was known. Without that knowledge
    /// each packet would be sent again and again, since what was sent twice gives no round trip (Karn). A peer that
    /// was silent for several timeouts is not congested.
    pub(super) fn came_late(&mut self, timeouts: u8) {
        let requester = &mut self.qp.requester;
        let took = if requester.sample_at.is_none() { 0 } else { requester.sample_at.until(self.now) };
        requester.sample_at = Moment::NONE;
        if self.path.base().is_none_or(|base| took < base) {
            let progress = self.qp.requester.progress.until(self.now);
            return self.path.at_least(progress.max(took));
        }
        if took > self.path.round_trip() {
            self.path.at_least(took);
        }
        if timeouts == 1 {
            self.lost();
        }
    }

    /// A packet was lost: the window of all paths takes note.
    pub(super) fn lost(&mut self) {
        self.shared.total.lost(self.now, self.path.round_trip(), &self.shared.counters);
    }
}
