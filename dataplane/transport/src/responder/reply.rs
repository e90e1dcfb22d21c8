//! Packets of the responder: READ responses, answers of atomic operations, then one ACK or NAK.

use super::{Nak, Replay, What};
use crate::memory::{Access, Memory, Refused};
use crate::qp::{Context, Step};
use crate::sink::{Emitted, Sink, Way, emit};
use wire::rc::packet::header;
use wire::rc::{Aeth, AtomicAckEth, Bth, NakCode, Opcode, Place, Psn, Syndrome};

impl<M: Memory> Context<'_, M> {
    /// Sends the next packet of the responder.
    #[inline]
    pub(crate) fn send_response<S: Sink>(&mut self, sink: &mut S) -> Step {
        let index = self.qp.responder.pending;
        if let Some(&replay) = self.shared.replays.get(index) {
            return self.send_replay(sink, index, &replay);
        }
        let Some((syndrome, psn)) = self.due() else { return Step::Idle };
        // The messages complete at that PSN; later ones are reported by their own answers.
        let msn = self.cached_after(psn).map_or(self.qp.responder.msn, |replay| replay.msn.wrapping_sub(1));
        let aeth = Aeth::new(syndrome, msn);
        let bth = Bth::new(Opcode::ACKNOWLEDGE, self.qp.peer, psn);
        let way = Way { path: self.qp.path_id(), push: self.qp.is_urgent };
        match emit(sink, way, bth, [header(&aeth), &[]], 0, |crc, _| Ok::<_, Refused>(crc)) {
            Emitted::Sent => {
                // A NAK also acknowledges everything before it.
                self.qp.responder.owes = false;
                if !matches!(syndrome, Syndrome::Ack { .. }) {
                    self.note_nak(syndrome);
                }
                Step::Sent
            }
            _ => Step::Full,
        }
    }

    /// The ACK or NAK that must be sent in the current state. A NAK has the PSN that is expected now.
    #[inline]
    fn due(&self) -> Option<(Syndrome, Psn)> {
        let responder = &self.qp.responder;
        match responder.nak {
            Nak::None | Nak::Told => responder.owes.then_some((Syndrome::ACK, responder.owed)),
            Nak::Missing => Some((Syndrome::Nak(NakCode::SequenceError), responder.epsn)),
            Nak::NotReady => Some((Syndrome::RnrNak(responder.rnr_timer), responder.epsn)),
            Nak::Fatal(code) => Some((Syndrome::Nak(code), responder.undone)),
        }
    }

    /// Notes that a NAK was sent.
    #[cold]
    fn note_nak(&mut self, syndrome: Syndrome) {
        self.qp.responder.nak = Nak::Told;
        let counters = &self.shared.counters;
        match syndrome {
            Syndrome::Ack { .. } => {}
            Syndrome::RnrNak(_) => counters.naks_rnr_out.add(1),
            Syndrome::Nak(NakCode::SequenceError) => counters.naks_sequence_out.add(1),
            Syndrome::Nak(NakCode::RemoteAccess) => counters.naks_access_out.add(1),
            Syndrome::Nak(NakCode::RemoteOperation) => counters.naks_operation_out.add(1),
            Syndrome::Nak(_) => counters.naks_invalid_out.add(1),
        }
    }

    /// Prefetches the data of the packet after the next one, while the next one is made.
    #[inline]
    fn prefetch_after(&self, index: u32, replay: &Replay) {
        let mtu = self.qp.mtu.bytes();
        let next = replay.next + 1;
        let (then, at) = if next < replay.until {
            (replay, next)
        } else {
            match self.shared.replays.get(self.shared.replays.next(index)) {
                Some(after) => (after, after.next),
                None => return,
            }
        };
        if then.what == What::Read {
            let offset = at * mtu;
            let place = self.qp.place(then.rkey, then.address.wrapping_add(u64::from(offset)));
            self.shared.regions.prefetch(place, then.len.saturating_sub(offset).min(mtu));
        }
    }

    #[inline]
    fn send_replay<S: Sink>(&mut self, sink: &mut S, index: u32, replay: &Replay) -> Step {
        let mtu = self.qp.mtu;
        // The last packet of an answer.
        let push = self.qp.is_urgent && replay.next + 1 == replay.until;
        let way = Way { path: self.qp.path_id(), push };
        let psn = replay.psn.plus(replay.next);
        let aeth = Aeth::new(Syndrome::ACK, replay.msn);
        let mut payload = 0;
        let emitted = match replay.what {
            What::Read => {
                let offset = replay.next * mtu.bytes();
                payload = replay.len.saturating_sub(offset).min(mtu.bytes()) as usize;
                let place = Place::of(replay.next - replay.from, replay.until - replay.from);
                let bth = Bth::new(Opcode::read_response(place), self.qp.peer, psn);
                let aeth = if place == Place::Middle { &[] } else { header(&aeth) };
                let from = self.qp.place(replay.rkey, replay.address.wrapping_add(u64::from(offset)));
                self.prefetch_after(index, replay);
                let regions = &self.shared.regions;
                let fill = |crc, out: &mut [u8]| regions.read(from, Access::REMOTE_READ, crc, out);
                emit(sink, way, bth, [aeth, &[]], payload, fill)
            }
            What::Atomic { original, .. } => {
                let bth = Bth::new(Opcode::ATOMIC_ACKNOWLEDGE, self.qp.peer, psn);
                let original = AtomicAckEth::new(original);
                emit(sink, way, bth, [header(&aeth), header(&original)], 0, |crc, _| Ok(crc))
            }
        };
        match emitted {
            Emitted::Full => return Step::Full,
            Emitted::Failed(_) if replay.next < replay.sent => return self.drop_again(index),
            Emitted::Failed(refused) => {
                // Bytes that cannot be read are not sent, and neither are later answers.
                self.forget_replays();
                self.refuse(refused.into(), psn);
                return Step::Sent;
            }
            Emitted::Sent => {}
        }
        self.shared.counters.payload_bytes_out.add(payload as u64);
        let Some(replay) = self.shared.replays.get_mut(index) else {
            frame::never!("an answer is being sent and is not remembered");
            return Step::Idle;
        };
        replay.next += 1;
        replay.sent = replay.sent.max(replay.next);
        if !replay.is_pending() {
            self.qp.responder.pending = self.next_pending(index);
        }
        Step::Sent
    }

    /// The bytes of a repeated READ can no longer be read. Packets that were sent before are dropped, since the first
    /// answer may still arrive. Packets that were never sent stay due.
    #[cold]
    fn drop_again(&mut self, index: u32) -> Step {
        self.shared.counters.duplicates_unreadable.add(1);
        let Some(replay) = self.shared.replays.get_mut(index) else {
            frame::never!("an answer is being sent and is not remembered");
            return Step::Idle;
        };
        let next = replay.sent.min(replay.until);
        (replay.from, replay.next) = (next, next);
        if !replay.is_pending() {
            self.qp.responder.pending = self.next_pending(index);
        }
        Step::Sent
    }
}
