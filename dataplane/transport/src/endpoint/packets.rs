//! Packets in, packets out, timers.

use super::{Arrival, Endpoint};
use crate::config::CNP_INTERVAL;
use crate::memory::Memory;
use crate::moment::Moment;
use crate::qp::{Context, NEVER, Step, Verdict, Wait};
use crate::sink::{Emitted, Sink, Way, emit};
use frame::{Counter, Time};
use wire::rc::{BadPacket, Bth, DEFAULT_PKEY, Kind, Opcode, Packet, Psn};
use zerocopy::FromBytes;

/// How many packets one queue pair sends before the next one has its turn.
const TURN: usize = 16;

/// Memory for a payload of this many bytes is prefetched.
const LARGE: usize = 256;

/// The bits of a P_Key that are not membership.
const PKEY_MASK: u16 = 0x7fff;

/// The counter of a packet that changed nothing.
type Dropped = fn(&crate::TransportCounters) -> &Counter;

impl<M: Memory> Endpoint<M> {
    /// Takes one packet. A faulty packet is counted, and changes nothing.
    #[inline]
    pub fn receive(&mut self, now: Time, arrival: &Arrival<'_>) {
        self.shared.counters.packets_in.add(1);
        if let Err(counter) = self.take(now, arrival) {
            counter(&self.shared.counters).add(1);
        }
    }

    #[inline]
    fn take(&mut self, now: Time, arrival: &Arrival<'_>) -> Result<(), Dropped> {
        let packet = match Packet::parse(arrival.bytes) {
            Ok(packet) => packet,
            Err(BadPacket::Short) => return Err(|counters| &counters.rc_dropped_short),
            Err(BadPacket::Opcode) => return self.take_unknown(now, arrival),
            Err(BadPacket::Version) => return Err(|counters| &counters.rc_dropped_version),
            Err(BadPacket::Pad) => return Err(|counters| &counters.rc_dropped_pad),
        };
        let (place, mut context) = self.addressee(now, packet.bth(), arrival)?;
        let opcode = packet.opcode();
        // Memory that will be written is fetched while the ICRC is computed. Nothing is written before that is right.
        if packet.payload().len() >= LARGE {
            match opcode.kind() {
                Kind::Write => context.prefetch_write(&packet),
                Kind::ReadResponse => context.prefetch_answer(),
                _ => {}
            }
        }
        if !arrival.seed.verify(arrival.bytes) {
            return Err(|counters| &counters.rc_dropped_icrc);
        }
        let verdict = if opcode.kind() == Kind::CongestionNotification {
            context.path.window.marked(now, context.path.round_trip());
            context.shared.total.notified();
            context.shared.counters.cnps_in.add(1);
            return Ok(());
        } else if opcode.is_request() {
            context.on_request(&packet)
        } else {
            context.on_response(&packet)
        };
        if arrival.ce && matches!(verdict, Verdict::Request | Verdict::Response) {
            context.on_mark(!opcode.is_request(), arrival.bytes.len());
        }
        self.settle(place);
        self.count(verdict)
    }

    /// The queue pair that a packet is for, if the packet comes from its peer.
    #[inline]
    fn addressee(&mut self, now: Time, bth: &Bth, arrival: &Arrival<'_>) -> Result<(u32, Context<'_, M>), Dropped> {
        if bth.pkey() & PKEY_MASK != DEFAULT_PKEY & PKEY_MASK {
            return Err(|counters| &counters.rc_dropped_pkey);
        }
        let Some(place) = self.place_of(crate::Qpn(bth.destination())) else {
            return Err(|counters| &counters.rc_dropped_no_qp);
        };
        let Some(context) = self.context(place, now) else {
            return Err(|counters| &counters.rc_dropped_state);
        };
        if context.qp.path_id() != arrival.path {
            return Err(|counters| &counters.rc_dropped_wrong_path);
        }
        Ok((place, context))
    }

    /// Takes one packet with an unknown opcode. If it is one of a reliable connection, a peer may have meant it. The
    /// bytes after the BTH are unknown, but the BTH and the ICRC can be checked.
    #[cold]
    fn take_unknown(&mut self, now: Time, arrival: &Arrival<'_>) -> Result<(), Dropped> {
        let Ok((bth, [_, _, _, _, ..])) = Bth::ref_from_prefix(arrival.bytes) else {
            return Err(|counters| &counters.rc_dropped_short);
        };
        if !bth.is_reliable_connection() {
            return Err(|counters| &counters.rc_dropped_opcode);
        }
        if bth.version() != 0 {
            return Err(|counters| &counters.rc_dropped_version);
        }
        let (place, mut context) = self.addressee(now, bth, arrival)?;
        if !arrival.seed.verify(arrival.bytes) {
            return Err(|counters| &counters.rc_dropped_icrc);
        }
        let verdict = context.on_unknown_request(bth.psn());
        self.settle(place);
        self.count(verdict)
    }

    /// Counts the result for a packet.
    #[inline]
    fn count(&self, verdict: Verdict) -> Result<(), Dropped> {
        let counters = &self.shared.counters;
        match verdict {
            Verdict::Request => counters.requests_in.add(1),
            Verdict::Response => counters.responses_in.add(1),
            Verdict::State => return Err(|counters| &counters.rc_dropped_state),
            Verdict::Window => return Err(|counters| &counters.rc_dropped_response_window),
            Verdict::Stale => return Err(|counters| &counters.rc_dropped_response_stale),
            Verdict::Early => return Err(|counters| &counters.rc_dropped_response_early),
            Verdict::Unfit => return Err(|counters| &counters.rc_dropped_response_unfit),
            Verdict::RequestEarly => return Err(|counters| &counters.rc_dropped_request_early),
            Verdict::Unknown => return Err(|counters| &counters.rc_dropped_duplicate_unknown),
            Verdict::Opcode => return Err(|counters| &counters.rc_dropped_opcode),
        }
        Ok(())
    }

    /// Handles timers; call it when [`Endpoint::deadline`] has come.
    pub fn advance(&mut self, now: Time) {
        while let Some(place) = self.wheel.pop_due(now) {
            if let Some(qp) = self.qps.get_mut(place as usize) {
                qp.scheduled = NEVER;
            }
            if let Some(mut context) = self.context(place, now) {
                context.on_timer();
            }
            self.settle(place);
        }
    }

    /// When [`Endpoint::advance`] has something to do at the latest. It may come early.
    pub fn deadline(&self) -> Option<Time> {
        self.wheel.deadline()
    }

    /// Whether [`Endpoint::transmit`] has something to send.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sends what is ready, until the sink has no more room. Queue pairs take turns; of eight turns the urgent ones
    /// have seven, if both kinds have something to send. Returns the number of packets.
    pub fn transmit<S: Sink>(&mut self, now: Time, sink: &mut S) -> usize {
        let mut packets = 0;
        while let Some((place, is_urgent)) = self.ready.pop(&mut self.ready_links) {
            // A queue pair that was reset while it was listed has no path.
            let is_narrow = self.is_narrow(is_urgent);
            let Some(mut context) = self.context(place, now) else { continue };
            let mut step = Step::Idle;
            let before = packets;
            for number in 1..=TURN {
                step = context.send_one(sink, number == TURN);
                if step != Step::Sent {
                    break;
                }
                packets += 1;
                if is_narrow && context.is_between_requests() {
                    break;
                }
            }
            match step {
                Step::Full => {
                    // A turn ends where the room ends: otherwise one queue pair would take all room of a slow port.
                    if packets == before {
                        self.ready.push_front(&mut self.ready_links, place, is_urgent);
                    }
                    self.settle(place);
                    break;
                }
                // It lists itself again if it has more.
                Step::Sent | Step::Idle => self.wait(place),
            }
            self.settle_sent(place);
        }
        self.shared.counters.packets_out.add(packets as u64);
        packets
    }

    /// Whether the next queue pair has a turn of one request only. While more than half of the window of all paths is
    /// used, room that comes free is for all: whoever took it whole would ask one peer for more than that peer's link
    /// carries meanwhile.
    #[inline]
    fn is_narrow(&self, is_urgent: bool) -> bool {
        !is_urgent && self.shared.in_flight.all() > self.shared.total.limit() / 2 && !self.ready.is_empty()
    }

    /// Puts a queue pair that found no room into the list of those that wait for room.
    fn wait(&mut self, place: u32) {
        let Some(qp) = self.qps.get(place as usize) else {
            return frame::never!("a list names a queue pair that does not exist");
        };
        let listed = match (qp.wait, self.paths.get_mut(qp.path as usize)) {
            (Wait::PathWindow, Some(path)) => self.wait_links.push(&mut path.waiting, place),
            (Wait::TotalWindow, _) => {
                self.shared.total.waited();
                self.wait_links.push(self.shared.waiting.of(qp.is_urgent), place)
            }
            _ => false,
        };
        if listed {
            self.shared.counters.window_waits.add(1);
        }
    }

    /// After sending: no room became free, so no queue pair is woken.
    fn settle_sent(&mut self, place: u32) {
        let Some(qp) = self.qps.get_mut(place as usize) else {
            return frame::never!("a list names a queue pair that does not exist");
        };
        if qp.is_ready() {
            self.ready.push(&mut self.ready_links, place, qp.is_urgent);
        }
        if qp.timer < qp.scheduled {
            qp.scheduled = qp.timer;
            self.wheel.schedule(place, qp.scheduled);
        }
        self.shared.counters.bytes_in_flight.set(self.shared.in_flight.all());
    }
}

impl<M: Memory> Context<'_, M> {
    /// Sends one packet: a congestion notification first, then an answer, then a request. `is_last` says that it is the
    /// last one of this turn.
    #[inline]
    fn send_one<S: Sink>(&mut self, sink: &mut S, is_last: bool) -> Step {
        if self.qp.notify {
            let bth = Bth::new(Opcode::CNP, self.qp.peer, Psn::new(0)).with_becn(true);
            let way = Way { path: self.qp.path_id(), push: false };
            return match emit(sink, way, bth, [&[0; 16], &[]], 0, |crc, _| Ok::<_, ()>(crc)) {
                Emitted::Sent => {
                    self.qp.notify = false;
                    self.shared.counters.cnps_out.add(1);
                    Step::Sent
                }
                _ => Step::Full,
            };
        }
        match self.send_response(sink) {
            Step::Idle => self.send_request(sink, is_last),
            step => step,
        }
    }

    /// A packet came with a CE mark. Its sender is told. If it was an answer, our window shrinks, too.
    fn on_mark(&mut self, answer: bool, bytes: usize) {
        if answer {
            self.shared.total.marked(bytes);
            self.path.window.marked(self.now, self.path.round_trip());
        }
        if self.path.notified.is_none() || self.path.notified.until(self.now) >= CNP_INTERVAL {
            self.path.notified = Moment::at(self.now);
            self.qp.notify = true;
        }
    }
}
