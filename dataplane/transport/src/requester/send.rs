//! Packets of the requester: one at a time, directly into a sink.

use super::{LATE, chunk_packets};
use crate::config::PeerKind;
use crate::memory::{Access, Memory, Refused};
use crate::moment::Moment;
use crate::qp::{Context, NEVER, State, Step, URGENT_FOR, Wait};
use crate::sink::{Emitted, Sink, Way, emit};
use crate::{Op, Status};
use frame::Time;
use wire::rc::packet::header;
use wire::rc::{AtomicEth, Bth, ImmDt, Opcode, Place, Reth};

/// A long message asks for an ACK at least this often, in packets.
const ACK_EVERY: u8 = 16;

/// The RoCE unit of the timeout: 4.096 us.
const TIMEOUT_UNIT: Time = 4096;

impl<M: Memory> Context<'_, M> {
    /// How long to wait for an answer, depending on the consecutive timeouts.
    pub(super) fn timeout(&self) -> Time {
        let requester = &self.qp.requester;
        match self.path.kind {
            PeerKind::Roce if requester.timeout == 0 => NEVER,
            PeerKind::Roce => TIMEOUT_UNIT << requester.timeout,
            PeerKind::Own => {
                let timeout = self.path.timeout(self.shared.config.hold) << requester.backoff.min(10);
                timeout.min(self.shared.config.give_up / 4)
            }
        }
    }

    /// Prefetches the memory of one packet of a work request, or of the first packet of the next work request when this
    /// one has fewer packets. Returns whether there is such a packet, with data in the direction that is asked for.
    #[inline]
    pub(super) fn prefetch_local(&self, at: u32, packet: u32, wants_data: bool) -> bool {
        let work = &self.shared.work;
        let here = work.get(at).filter(|wqe| packet < wqe.packets).map(|wqe| (wqe, packet));
        let there = here.or_else(|| Some((work.get(work.next(at))?, 0)));
        let Some((wqe, packet)) = there.filter(|(wqe, _)| wqe.work.op.wants_data() == wants_data) else { return false };
        let (local, mtu) = (wqe.work.local, self.qp.mtu.bytes());
        let offset = packet * mtu;
        self.shared.regions.prefetch(self.qp.local(local, offset), local.len.saturating_sub(offset).min(mtu));
        true
    }

    /// Whether the packet that is sent next begins a request. A part of a long READ is a request of its own.
    #[inline]
    pub(crate) fn is_between_requests(&self) -> bool {
        let requester = &self.qp.requester;
        requester.sent == 0 || self.shared.work.get(requester.cursor).is_some_and(|wqe| wqe.work.op.wants_data())
    }

    /// Sends the next packet of the requester; `is_last` says that it is the last one of its turn.
    #[inline]
    pub(crate) fn send_request<S: Sink>(&mut self, sink: &mut S, is_last: bool) -> Step {
        let requester = &self.qp.requester;
        if self.qp.state != State::Rts || self.qp.wait != Wait::Nothing || !requester.may_send() {
            return Step::Idle;
        }
        let (cursor, sent, psn, mtu) = (requester.cursor, requester.sent, requester.next, self.qp.mtu);
        let Some(&wqe) = self.shared.work.get(cursor) else {
            frame::never!("a requester may send and has no work request");
            return Step::Idle;
        };
        let (op, local) = (wqe.work.op, wqe.work.local);
        if op.wants_data() && requester.reads >= requester.read_depth {
            self.qp.wait = Wait::ReadDepth;
            return Step::Idle;
        }
        let count = match op {
            Op::Read(_) => {
                let chunk = chunk_packets(self.shared.config.read_chunk(), mtu);
                ((sent / chunk + 1) * chunk).min(wqe.packets) - sent
            }
            _ => 1,
        };
        let cost = wqe.cost(mtu, sent, sent + count);
        let (is_urgent, shares) = (self.qp.is_urgent, self.path.has_urgent);
        if !self.path.window.has_room(shares, is_urgent, cost) {
            self.qp.wait = Wait::PathWindow;
            return Step::Idle;
        }
        let must_queue = op.wants_data() && !is_urgent && self.shared.must_queue();
        if must_queue || !self.shared.has_room(is_urgent, cost) {
            self.qp.wait = Wait::TotalWindow;
            if !is_urgent {
                self.shared.reads_wait = op.wants_data();
            }
            return Step::Idle;
        }
        let offset = sent * mtu.bytes();
        let ends = sent + count == wqe.packets;
        let place = Place::of(sent, wqe.packets);
        // Asks for an ACK when the message ends, when none was asked for in many packets, when nothing more may follow
        // without one, and when others have their turn, which may take all the room that there is.
        let ask = ends
            || is_last
            || op.wants_data()
            || requester.quiet + 1 >= ACK_EVERY
            || !self.path.window.has_room(shares, is_urgent, cost.saturating_mul(2))
            || !self.shared.has_room(is_urgent, cost.saturating_mul(2));
        let bth = |opcode| Bth::new(opcode, self.qp.peer, psn).with_ack_request(ask);
        // The last packet of a request. A part of a long READ is a request of its own.
        let way = Way { path: self.qp.path_id(), push: is_urgent && (ends || op.wants_data()) };
        let payload = if op.wants_data() { 0 } else { (local.len - offset).min(mtu.bytes()) as usize };
        let from = self.qp.local(local, offset);
        if payload > 0 {
            self.prefetch_local(cursor, sent + 1, false);
        }
        let regions = &self.shared.regions;
        let fill = |crc, out: &mut [u8]| regions.read(from, Access::NONE, crc, out);
        let emitted: Emitted<Refused> = match op {
            Op::Send => emit(sink, way, bth(Opcode::send(place, false)), [&[], &[]], payload, fill),
            Op::SendImm(imm) => {
                let imm = ImmDt::new(imm);
                let imm = if place.ends() { header(&imm) } else { &[] };
                emit(sink, way, bth(Opcode::send(place, true)), [imm, &[]], payload, fill)
            }
            Op::Write(remote) | Op::WriteImm(remote, _) => {
                let reth = Reth::new(remote.address, remote.key, local.len);
                let reth = if place.begins() { header(&reth) } else { &[] };
                let (with_imm, imm) = match op {
                    Op::WriteImm(_, imm) => (true, ImmDt::new(imm)),
                    _ => (false, ImmDt::new(0)),
                };
                let imm = if with_imm && place.ends() { header(&imm) } else { &[] };
                emit(sink, way, bth(Opcode::write(place, with_imm)), [reth, imm], payload, fill)
            }
            Op::Read(remote) => {
                let len = (local.len - offset).min(count.saturating_mul(mtu.bytes()));
                let reth = Reth::new(remote.address.wrapping_add(u64::from(offset)), remote.key, len);
                emit(sink, way, bth(Opcode::READ_REQUEST), [header(&reth), &[]], 0, fill)
            }
            Op::CompareSwap { remote, compare, swap } => {
                let atomic = AtomicEth::new(remote.address, remote.key, swap, compare);
                emit(sink, way, bth(Opcode::COMPARE_SWAP), [header(&atomic), &[]], 0, fill)
            }
            Op::FetchAdd { remote, add } => {
                let atomic = AtomicEth::new(remote.address, remote.key, add, 0);
                emit(sink, way, bth(Opcode::FETCH_ADD), [header(&atomic), &[]], 0, fill)
            }
        };
        match emitted {
            Emitted::Full => return Step::Full,
            Emitted::Failed(_) => {
                self.fail(cursor, Status::LocProtErr);
                return Step::Sent;
            }
            Emitted::Sent => {}
        }
        let after = if ends { self.shared.work.next(cursor) } else { cursor };
        let requester = &mut self.qp.requester;
        if requester.una == requester.high {
            requester.progress = Moment::at(self.now);
        }
        let fresh = requester.next == requester.high;
        if requester.high.is_before(psn.plus(count)) {
            requester.high = psn.plus(count);
        }
        // After a timeout it is measured how long the answer takes, to know whether the first one was only late.
        if (fresh && ask || requester.again & LATE != 0) && requester.sample_at.is_none() {
            (requester.sample, requester.sample_at) = (psn, Moment::at(self.now));
        }
        requester.next = psn.plus(count);
        (requester.cursor, requester.sent) = (after, if ends { 0 } else { sent + count });
        requester.quiet = if ask { 0 } else { requester.quiet + 1 };
        requester.reads += u8::from(op.wants_data());
        requester.in_flight = requester.in_flight.saturating_add(cost);
        self.path.window.in_flight.add(is_urgent, cost);
        self.shared.in_flight.add(is_urgent, cost);
        if is_urgent {
            self.shared.urgent_until = self.now.saturating_add(URGENT_FOR);
        } else if op.wants_data() {
            self.shared.granted = self.shared.granted.saturating_sub(cost.into());
        }
        self.shared.counters.payload_bytes_out.add(payload as u64);
        if self.qp.timer == NEVER {
            self.qp.timer = self.now.saturating_add(self.timeout());
        }
        Step::Sent
    }
}
