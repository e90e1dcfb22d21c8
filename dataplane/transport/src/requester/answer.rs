//! Answers to the requester: ACKs and NAKs, answers of READs and atomic operations.

use super::{LATE, Wqe, chunk_packets};
use crate::memory::{Access, Memory};
use crate::moment::Moment;
use crate::qp::{Context, NEVER, Shared, State, Verdict, Wait};
use crate::round_trip::RoundTrip;
use crate::{Op, Status};
use wire::rc::{Kind, NakCode, Packet, Psn, Syndrome};

impl<M: Memory> Context<'_, M> {
    /// Takes one response.
    #[inline]
    pub(crate) fn on_response(&mut self, packet: &Packet<'_>) -> Verdict {
        if self.qp.state != State::Rts {
            return Verdict::State;
        }
        let psn = packet.bth().psn();
        let requester = &self.qp.requester;
        if psn.since(requester.high) >= 0 {
            return Verdict::Window;
        }
        if psn.is_before(requester.una) {
            return Verdict::Stale;
        }
        let una = requester.una;
        let verdict = match packet.opcode().kind() {
            Kind::ReadResponse | Kind::AtomicAcknowledge => self.on_data(psn, packet),
            _ => self.on_acknowledge(psn, packet),
        };
        match verdict {
            // The packets before the missing one stay acknowledged.
            Verdict::Early | Verdict::Stale if self.qp.requester.una != una => {
                self.rearm();
                Verdict::Response
            }
            verdict => verdict,
        }
    }

    /// Prefetches where the next answer will be put, while this one is checked; or this one's place, if no other answer
    /// is outstanding.
    #[inline]
    pub(crate) fn prefetch_answer(&self) {
        let (head, acked) = (self.qp.requester.queue.head, self.qp.requester.acked);
        if !self.prefetch_local(head, acked + 1, true) {
            self.prefetch_local(head, acked, true);
        }
    }

    fn on_acknowledge(&mut self, psn: Psn, packet: &Packet<'_>) -> Verdict {
        let Some(syndrome) = packet.aeth().and_then(|aeth| aeth.syndrome()) else { return Verdict::Unfit };
        let status = match syndrome {
            Syndrome::Ack { .. } => {
                if self.acknowledge_to(psn.next()) {
                    self.rearm();
                    return Verdict::Response;
                }
                return self.ask_again();
            }
            // A NAK says that everything before it is done.
            _ if !self.acknowledge_to(psn) => return self.ask_again(),
            Syndrome::RnrNak(timer) => return self.on_not_ready(timer),
            Syndrome::Nak(NakCode::SequenceError) => return self.on_sequence_error(),
            Syndrome::Nak(NakCode::InvalidRequest | NakCode::InvalidRdRequest) => Status::RemInvReqErr,
            Syndrome::Nak(NakCode::RemoteAccess) => Status::RemAccessErr,
            Syndrome::Nak(NakCode::RemoteOperation) => Status::RemOpErr,
        };
        let head = self.qp.requester.queue.head;
        self.fail(head, status);
        Verdict::Response
    }

    /// An answer with data. It acknowledges everything before its request. It must be the first missing answer.
    #[inline]
    fn on_data(&mut self, psn: Psn, packet: &Packet<'_>) -> Verdict {
        // Only ACKs come with data; a NAK or a reserved syndrome does not.
        if packet.aeth().is_some_and(|aeth| !matches!(aeth.syndrome(), Some(Syndrome::Ack { .. }))) {
            return Verdict::Unfit;
        }
        let asked = self.asked_at(psn);
        // An answer that does not fit acknowledges nothing.
        if asked.is_some_and(|(wqe, index)| !self.answers(&wqe, index, packet)) {
            return Verdict::Unfit;
        }
        if !self.acknowledge_to(psn) {
            return self.ask_again();
        }
        let Some((wqe, index)) = asked else { return Verdict::Unfit };
        let head = self.qp.requester.queue.head;
        let (local, payload) = (wqe.work.local, packet.payload());
        let written = match packet.atomic_ack() {
            Some(original) => {
                let word = original.original().to_le_bytes();
                self.shared.regions.write(self.qp.local(local, 0), Access::LOCAL_WRITE, &word)
            }
            None if payload.is_empty() => Ok(()),
            None => {
                let to = self.qp.local(local, index * self.qp.mtu.bytes());
                self.shared.regions.write(to, Access::LOCAL_WRITE, payload)
            }
        };
        if written.is_err() {
            self.fail(head, Status::LocProtErr);
            return Verdict::Response;
        }
        self.shared.counters.payload_bytes_in.add(payload.len() as u64);
        self.advance(1);
        self.rearm();
        Verdict::Response
    }

    /// The work request that a PSN from `una` on belongs to, and the index of its packet. `None` if an earlier request
    /// also waits for data.
    #[inline]
    fn asked_at(&self, psn: Psn) -> Option<(Wqe, u32)> {
        let requester = &self.qp.requester;
        let mut index = psn.distance(requester.una) + requester.acked;
        let mut at = requester.queue.head;
        loop {
            let wqe = self.shared.work.get(at)?;
            if index < wqe.packets {
                return Some((*wqe, index));
            }
            if wqe.work.op.wants_data() {
                return None;
            }
            index -= wqe.packets;
            at = self.shared.work.next(at);
        }
    }

    /// Whether a packet answers packet `index` of a work request.
    #[inline]
    fn answers(&self, wqe: &Wqe, index: u32, packet: &Packet<'_>) -> bool {
        match wqe.work.op {
            Op::Read(_) if packet.opcode().kind() == Kind::ReadResponse => {
                let (len, mtu) = (wqe.work.local.len, self.qp.mtu);
                let chunk = chunk_packets(self.shared.config.read_chunk(), mtu);
                let ends = index + 1 == wqe.packets || (index + 1).is_multiple_of(chunk);
                let expected = (len - index * mtu.bytes()).min(mtu.bytes()) as usize;
                packet.payload().len() == expected && packet.opcode().place().ends() == ends
            }
            op => op.is_atomic() && packet.opcode().kind() == Kind::AtomicAcknowledge,
        }
    }

    /// Acknowledges everything before `limit`, up to the first request that waits for data. Returns whether that was
    /// everything.
    fn acknowledge_to(&mut self, limit: Psn) -> bool {
        loop {
            let requester = &self.qp.requester;
            let left = limit.since(requester.una);
            if left <= 0 {
                return true;
            }
            let Some(wqe) = self.shared.work.get(requester.queue.head) else {
                frame::never!("packets were sent that belong to no work request");
                return true;
            };
            if wqe.work.op.wants_data() {
                return false;
            }
            self.advance((left as u32).min(wqe.packets - requester.acked));
        }
    }

    /// The next `count` packets of the oldest work request are acknowledged.
    fn advance(&mut self, count: u32) {
        let requester = &mut self.qp.requester;
        let Some(&wqe) = self.shared.work.get(requester.queue.head) else {
            return frame::never!("packets are acknowledged that belong to no work request");
        };
        let (from, to) = (requester.acked, requester.acked + count);
        let cost = wqe.cost(self.qp.mtu, from, to);
        // After a rewind, answers to earlier packets may be ahead of what is being sent.
        let behind = requester.next.distance(requester.una) < count;
        requester.una = requester.una.plus(count);
        requester.acked = to;
        let late = (requester.again & LATE != 0).then_some(requester.backoff);
        (requester.backoff, requester.again, requester.not_ready) = (0, 0, false);
        (requester.retries_left, requester.rnr_left) = (requester.retries, requester.rnr_retries);
        if let Some(timeouts) = late {
            self.came_late(timeouts);
        }
        let requester = &mut self.qp.requester;
        requester.progress = Moment::at(self.now);
        if !requester.sample_at.is_none() && requester.sample.is_before(requester.una) {
            let round_trip = requester.sample_at.until(self.now);
            requester.sample_at = Moment::NONE;
            let Shared { total, counters, config, .. } = &mut *self.shared;
            self.path.measured(round_trip, total.drain(self.now));
            if config.queue_target > 0
                && let Some(base) = self.path.base()
            {
                // A gateway holds what nobody waits for.
                let hold = if self.qp.is_urgent { 0 } else { config.hold };
                let trip = RoundTrip { now: self.now, took: round_trip, base, hold, slack: total.slack() };
                total.measured(&trip, counters);
            }
        }
        if wqe.work.op.wants_data() {
            let chunk = chunk_packets(self.shared.config.read_chunk(), self.qp.mtu);
            if to == wqe.packets || to % chunk == 0 {
                requester.reads = requester.reads.saturating_sub(1);
            }
        }
        if self.qp.wait == Wait::ReadDepth {
            self.qp.wait = Wait::Nothing;
        }
        let done = to == wqe.packets;
        if done {
            requester.acked = 0;
            self.shared.work.pop(&mut requester.queue);
        }
        if behind {
            requester.next = requester.una;
            requester.reads = 0;
            requester.rnr_wait = false;
            (requester.cursor, requester.sent) = (requester.queue.head, requester.acked);
            self.release_all();
        } else {
            self.release(cost);
        }
        self.shared.total.acknowledged(cost);
        self.path.window.acknowledged(cost, self.shared.config.path_window);
        if done {
            self.complete(wqe.work.id, wqe.work.op.kind(), Status::Success, wqe.work.local.len, None);
        }
    }

    /// Restarts the timer, if something is outstanding.
    #[inline]
    fn rearm(&mut self) {
        let requester = &self.qp.requester;
        if requester.rnr_wait {
            return;
        }
        let outstanding = requester.next != requester.una;
        self.qp.timer = if outstanding { self.now.saturating_add(self.timeout()) } else { NEVER };
        debug_assert!(outstanding || self.qp.requester.in_flight == 0);
    }

    /// Removes this many bytes from all windows.
    #[inline]
    fn release(&mut self, cost: u32) {
        let cost = cost.min(self.qp.requester.in_flight);
        self.qp.requester.in_flight -= cost;
        self.path.window.in_flight.remove(self.qp.is_urgent, cost);
        self.shared.in_flight.remove(self.qp.is_urgent, cost);
    }
}

impl<M> Context<'_, M> {
    /// Removes all bytes of this queue pair from all windows.
    pub(crate) fn release_all(&mut self) {
        let cost = std::mem::take(&mut self.qp.requester.in_flight);
        self.path.window.in_flight.remove(self.qp.is_urgent, cost);
        self.shared.in_flight.remove(self.qp.is_urgent, cost);
    }
}
