//! Requests to the responder: in order, out of order, and repeated.

use super::{Expect, Nak, Replay, Served, What};
use crate::config::MAX_MESSAGE;
use crate::memory::{Access, Memory, Refused};
use crate::qp::{Context, State, Verdict};
use crate::slab::NONE;
use crate::{CompletionKind, Status};
use wire::rc::{Kind, NakCode, Packet, Psn};

const INVALID: Served = Served::Refused(NakCode::InvalidRequest);

impl From<Refused> for Served {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.into())
    }
}

impl<M: Memory> Context<'_, M> {
    /// Takes one request.
    #[inline]
    pub(crate) fn on_request(&mut self, packet: &Packet<'_>) -> Verdict {
        if !matches!(self.qp.state, State::Rtr | State::Rts) {
            return Verdict::State;
        }
        let (psn, epsn) = (packet.bth().psn(), self.qp.responder.epsn);
        if psn != epsn {
            if psn.is_before(epsn) {
                return self.on_duplicate(psn, packet);
            }
            self.qp.responder.drop_beyond(psn);
            return Verdict::RequestEarly;
        }
        let served = match packet.opcode().kind() {
            Kind::Send => self.on_send(packet),
            Kind::Write => self.on_write(packet),
            Kind::ReadRequest => self.on_read(packet),
            _ => self.on_atomic(packet),
        };
        match served {
            Served::Done if self.qp.responder.nak == Nak::None => {}
            Served::Done => self.qp.responder.came(),
            Served::NotReady => self.qp.responder.delay(),
            Served::Refused(code) => self.refuse(code, psn),
        }
        Verdict::Request
    }

    /// Takes one packet of a reliable connection with an unknown opcode: a request that cannot be served.
    #[cold]
    pub(crate) fn on_unknown_request(&mut self, psn: Psn) -> Verdict {
        if !matches!(self.qp.state, State::Rtr | State::Rts) {
            return Verdict::State;
        }
        let epsn = self.qp.responder.epsn;
        if psn == epsn {
            self.refuse(NakCode::InvalidRequest, psn);
            return Verdict::Request;
        }
        if psn.is_before(epsn) {
            // No earlier request had this opcode.
            return Verdict::Opcode;
        }
        self.qp.responder.drop_beyond(psn);
        Verdict::RequestEarly
    }

    /// Answers a request with a NAK, after which the queue pair is in error.
    pub(super) fn refuse(&mut self, code: NakCode, psn: Psn) {
        (self.qp.responder.nak, self.qp.responder.undone) = (Nak::Fatal(code), psn);
        self.fail(NONE, Status::WrFlushErr);
    }

    /// Notes that the peer must be told that everything up to a PSN was done.
    #[inline]
    fn acknowledge(&mut self, psn: Psn) {
        (self.qp.responder.owes, self.qp.responder.owed) = (true, psn);
    }

    /// Notes that the expected PSN was done, and perhaps a whole message with it.
    #[inline]
    fn done(&mut self, packet: &Packet<'_>, psns: u32, ends: bool) -> Served {
        let responder = &mut self.qp.responder;
        responder.epsn = responder.epsn.plus(psns);
        if ends {
            responder.msn = responder.msn.wrapping_add(1);
        }
        if packet.bth().is_ack_request() {
            self.acknowledge(packet.bth().psn());
        }
        Served::Done
    }

    /// Whether the payload of a packet has the length that its place in a message needs.
    fn fits(&self, packet: &Packet<'_>) -> bool {
        let (len, mtu, place) = (packet.payload().len(), self.qp.mtu.bytes() as usize, packet.opcode().place());
        match (place.begins(), place.ends()) {
            (true, true) => len <= mtu,
            (false, true) => (1..=mtu).contains(&len),
            (_, false) => len == mtu,
        }
    }

    fn on_send(&mut self, packet: &Packet<'_>) -> Served {
        let (opcode, payload) = (packet.opcode(), packet.payload());
        let place = opcode.place();
        let expected = if place.begins() { Expect::Beginning } else { Expect::Send };
        if self.qp.responder.expect != expected || !self.fits(packet) || opcode.has_ieth() {
            return INVALID;
        }
        let Some(receive) = self.receive() else { return Served::NotReady };
        let at = self.qp.responder.received;
        let status = if payload.len() as u64 > u64::from(receive.local.len - at) {
            Status::LocLenErr
        } else if payload.is_empty() {
            Status::Success
        } else {
            match self.shared.regions.write(self.qp.local(receive.local, at), Access::LOCAL_WRITE, payload) {
                Ok(()) => Status::Success,
                Err(_) => Status::LocProtErr,
            }
        };
        if status != Status::Success {
            self.shared.receives.pop(&mut self.qp.responder.receives);
            self.complete(receive.id, CompletionKind::Receive, status, 0, None);
            let code = if status == Status::LocLenErr { NakCode::InvalidRequest } else { NakCode::RemoteOperation };
            return Served::Refused(code);
        }
        let len = at + payload.len() as u32;
        self.shared.counters.payload_bytes_in.add(payload.len() as u64);
        let responder = &mut self.qp.responder;
        (responder.received, responder.expect) =
            if place.ends() { (0, Expect::Beginning) } else { (len, Expect::Send) };
        if place.ends() {
            self.shared.receives.pop(&mut self.qp.responder.receives);
            let imm = packet.imm().map(|imm| imm.value());
            self.complete(receive.id, CompletionKind::Receive, Status::Success, len, imm);
        }
        self.done(packet, 1, place.ends())
    }

    /// Prefetches where the payload of a WRITE will be put, while it is checked.
    #[inline]
    pub(crate) fn prefetch_write(&self, packet: &Packet<'_>) {
        let responder = &self.qp.responder;
        let (address, rkey) =
            packet.reth().map_or((responder.address, responder.rkey), |reth| (reth.address(), reth.rkey()));
        self.shared.regions.prefetch(self.qp.place(rkey, address), packet.payload().len() as u32);
    }

    fn on_write(&mut self, packet: &Packet<'_>) -> Served {
        let payload = packet.payload();
        let len = payload.len() as u32;
        let place = packet.opcode().place();
        let expected = if place.begins() { Expect::Beginning } else { Expect::Write };
        if self.qp.responder.expect != expected || !self.fits(packet) {
            return INVALID;
        }
        let (address, rkey, remaining) = match packet.reth() {
            Some(reth) => (reth.address(), reth.rkey(), reth.len()),
            None => (self.qp.responder.address, self.qp.responder.rkey, self.qp.responder.remaining),
        };
        // The last packet must complete the message exactly.
        if remaining > MAX_MESSAGE || (if place.ends() { remaining != len } else { remaining <= len }) {
            return INVALID;
        }
        let to = self.qp.place(rkey, address);
        if place.begins()
            && remaining > 0
            && let Err(refused) = self.shared.regions.check(to, remaining, Access::REMOTE_WRITE)
        {
            return refused.into();
        }
        let imm = packet.imm().map(|imm| imm.value());
        let receive = self.receive();
        if imm.is_some() && receive.is_none() {
            return Served::NotReady;
        }
        if len > 0
            && let Err(refused) = self.shared.regions.write(to, Access::REMOTE_WRITE, payload)
        {
            return refused.into();
        }
        self.shared.counters.payload_bytes_in.add(u64::from(len));
        let responder = &mut self.qp.responder;
        (responder.address, responder.rkey) = (address.wrapping_add(u64::from(len)), rkey);
        responder.received = if place.begins() { len } else { responder.received + len };
        responder.remaining = remaining - len;
        responder.expect = if place.ends() { Expect::Beginning } else { Expect::Write };
        if place.ends() {
            let total = std::mem::take(&mut self.qp.responder.received);
            if let (Some(_), Some(receive)) = (imm, receive) {
                self.shared.receives.pop(&mut self.qp.responder.receives);
                self.complete(receive.id, CompletionKind::ReceiveWriteImm, Status::Success, total, imm);
            }
        }
        self.done(packet, 1, place.ends())
    }

    /// Puts a READ or an atomic operation into the response cache. There must be room.
    fn remember(&mut self, replay: Replay) {
        if self.qp.responder.replays.len >= u32::from(self.qp.responder.depth) {
            let oldest = self.qp.responder.replays.head;
            if self.qp.responder.pending == oldest {
                self.qp.responder.pending = self.next_pending(oldest);
            }
            self.shared.replays.pop(&mut self.qp.responder.replays);
        }
        let responder = &mut self.qp.responder;
        // The answer acknowledges everything that was not acknowledged so far.
        responder.owes = false;
        if let Some(index) = self.shared.replays.push(&mut responder.replays, replay) {
            self.activate(index);
        }
    }

    /// Whether the peer may have one more outstanding request: the oldest one in the cache was answered. It may be
    /// pending again, if the peer asked again before the first answer arrived.
    fn has_depth(&self) -> bool {
        let responder = &self.qp.responder;
        let oldest = self.shared.replays.get(responder.replays.head);
        responder.depth > 0
            && (responder.replays.len < u32::from(responder.depth)
                || oldest.is_some_and(|replay| replay.sent == replay.packets))
    }

    fn on_read(&mut self, packet: &Packet<'_>) -> Served {
        let Some(reth) = packet.reth() else { return INVALID };
        let (address, rkey, len) = (reth.address(), reth.rkey(), reth.len());
        if self.qp.responder.expect != Expect::Beginning || len > MAX_MESSAGE || !self.has_depth() {
            return INVALID;
        }
        let from = self.qp.place(rkey, address);
        if len > 0
            && let Err(refused) = self.shared.regions.check(from, len, Access::REMOTE_READ)
        {
            return refused.into();
        }
        let (psn, packets) = (packet.bth().psn(), self.qp.mtu.packets(len));
        let responder = &mut self.qp.responder;
        responder.epsn = psn.plus(packets);
        responder.msn = responder.msn.wrapping_add(1);
        let msn = responder.msn;
        let (from, next, until, sent) = (0, 0, packets, 0);
        self.remember(Replay { what: What::Read, address, rkey, len, psn, packets, msn, from, next, until, sent });
        Served::Done
    }

    fn on_atomic(&mut self, packet: &Packet<'_>) -> Served {
        let Some(atomic) = packet.atomic() else { return INVALID };
        let (address, rkey) = (atomic.address(), atomic.rkey());
        if self.qp.responder.expect != Expect::Beginning || address % 8 != 0 || !self.has_depth() {
            return INVALID;
        }
        let (swap_add, compare) = (atomic.swap_add(), atomic.compare());
        let place = self.qp.place(rkey, address);
        let original = match packet.opcode().kind() {
            Kind::CompareSwap => {
                self.shared.regions.update(place, &|word| if word == compare { swap_add } else { word })
            }
            _ => self.shared.regions.update(place, &|word| word.wrapping_add(swap_add)),
        };
        let original = match original {
            Ok(original) => original,
            Err(refused) => return refused.into(),
        };
        let psn = packet.bth().psn();
        let responder = &mut self.qp.responder;
        responder.epsn = psn.next();
        responder.msn = responder.msn.wrapping_add(1);
        let msn = responder.msn;
        let what = What::Atomic { original, kind: packet.opcode().kind(), swap_add, compare };
        let (packets, len, from, next, until, sent) = (1, 8, 0, 0, 1, 0);
        self.remember(Replay { what, address, rkey, len, psn, packets, msn, from, next, until, sent });
        Served::Done
    }

    /// Handles a repeated request. SENDs and WRITEs are acknowledged again, READs read again from where they are asked,
    /// and atomic operations are answered from the cache. Nothing is done twice.
    fn on_duplicate(&mut self, psn: Psn, packet: &Packet<'_>) -> Verdict {
        let again = match packet.opcode().kind() {
            Kind::Send | Kind::Write => {
                self.acknowledge_again(psn);
                true
            }
            Kind::ReadRequest => self.read_again(psn, packet),
            _ => self.answer_again(psn, packet),
        };
        if !again {
            return Verdict::Unknown;
        }
        self.shared.counters.duplicates_in.add(1);
        Verdict::Request
    }

    /// Acknowledges earlier requests again, up to the next READ or atomic operation. The answer of that one may have
    /// been lost, and a peer could take an ACK with its PSN for the answer. If the answer is sent again, it
    /// acknowledges everything before it.
    fn acknowledge_again(&mut self, psn: Psn) {
        let next = self.cached_after(psn);
        if next.is_some_and(Replay::is_pending) {
            return;
        }
        let last = next.map_or(self.qp.responder.epsn, |replay| replay.psn).minus(1);
        if !(self.qp.responder.owes && last.is_before(self.qp.responder.owed)) {
            self.acknowledge(last);
        }
    }

    /// The first element of the response cache that was asked for after a completed PSN.
    pub(super) fn cached_after(&self, psn: Psn) -> Option<&Replay> {
        let (responder, replays) = (&self.qp.responder, &self.shared.replays);
        let done = responder.epsn.distance(psn);
        // PSNs repeat. An element whose PSN is not between this one and the expected one is from an earlier round of
        // the numbers.
        let is_after = |replay: &&Replay| (1..done).contains(&replay.psn.distance(psn));
        replays.get(responder.replays.tail).filter(is_after)?;
        let mut index = responder.replays.head;
        loop {
            let replay = replays.get(index)?;
            if is_after(&replay) {
                return Some(replay);
            }
            index = replays.next(index);
        }
    }

    /// The element of the response cache that has this PSN.
    fn find(&self, psn: Psn) -> Option<(u32, Replay)> {
        let mut index = self.qp.responder.replays.head;
        while let Some(replay) = self.shared.replays.get(index) {
            let offset = psn.since(replay.psn);
            if offset >= 0 && (offset as u32) < replay.packets {
                return Some((index, *replay));
            }
            index = self.shared.replays.next(index);
        }
        None
    }

    fn read_again(&mut self, psn: Psn, packet: &Packet<'_>) -> bool {
        let (Some((index, replay)), Some(reth)) = (self.find(psn), packet.reth()) else { return false };
        let from = psn.distance(replay.psn);
        let offset = from * self.qp.mtu.bytes();
        let until = from.saturating_add(self.qp.mtu.packets(reth.len()));
        let same = replay.what == What::Read
            && reth.rkey() == replay.rkey
            && reth.address() == replay.address.wrapping_add(u64::from(offset))
            && until <= replay.packets
            // A part that ends before the whole answer must end with a full packet.
            && reth.len() == if until == replay.packets { replay.len - offset } else { (
                until - from) * self.qp.mtu.bytes() };
        if !same {
            return false;
        }
        let Some(replay) = self.shared.replays.get_mut(index) else {
            frame::never!("an answer was found and is not remembered");
            return false;
        };
        if !replay.is_pending() {
            (replay.from, replay.next, replay.until) = (from, from, until);
            self.activate(index);
            return true;
        }
        // An answer that is being sent continues to its end, from the requested packet on if that one was sent already.
        if from < replay.next {
            (replay.from, replay.next) = (from, from);
        }
        replay.until = replay.until.max(until);
        true
    }

    fn answer_again(&mut self, psn: Psn, packet: &Packet<'_>) -> bool {
        let (Some((index, replay)), Some(atomic)) = (self.find(psn), packet.atomic()) else { return false };
        // FETCH&ADD has no compare value: that field has no meaning.
        let same = matches!(replay.what, What::Atomic { kind, swap_add, compare, .. }
            if kind == packet.opcode().kind()
                && swap_add == atomic.swap_add()
                && (kind == Kind::FetchAdd || compare == atomic.compare()))
            && (atomic.address(), atomic.rkey()) == (replay.address, replay.rkey);
        if same {
            if let Some(replay) = self.shared.replays.get_mut(index) {
                replay.next = 0;
            }
            self.activate(index);
        }
        same
    }
}
