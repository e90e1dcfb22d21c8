//! The loans: what slaves say, what is said to them, and what follows.

use super::allocation::{AT_ONCE, AVOID};
use super::{LOAN_TICK, Master};
use crate::event::MasterEvent;
use crate::extents::ExtentState;
use crate::request::{Loss, Urgency};
use frame::time::{FOREVER, MILLISECOND, SECOND};
use frame::{Class, Datagram, Outbox, Time};
use lease::{Loan, LoanEnd, LoanEvent};
use transport::Memory;
use wire::Record;
use wire::lease::{Disconnect, LeaseEnds, Refusal};

/// How soon a message that found no frame, or no way, is tried again.
const RETRY: Time = 10 * MILLISECOND;

/// How soon a session is opened again that a slave had no room for.
const NO_ROOM: Time = SECOND;

/// No extent is promised for this long at a slave that refused a lease.
const REFUSED: Time = 5 * SECOND;

/// Answers that wait to be sent; what comes beyond is not answered, and comes again.
const MOST_ANSWERS: usize = 64;

impl<M: Memory> Master<M> {
    /// Takes a CONNECT_REPLY or a DISCONNECT.
    pub(super) fn take_lease(&mut self, now: Time, record: &Record<'_>) {
        let header = record.header();
        let path = self.path_of(header.slave_id()).filter(|_| header.master_id() == self.id);
        let Some((path, connection)) = path.and_then(|path| Some((path, self.connections.get_mut(path as usize)?)))
        else {
            return self.counters.master_dropped_not_ours.add(1);
        };
        let mut answer = [0; Disconnect::LEN];
        let (event, len) = connection.loan.receive(now, record, &mut answer);
        if len == Some(Disconnect::LEN) && self.answers.len() < MOST_ANSWERS {
            self.answers.push((path, answer));
        }
        if let Some(event) = event {
            self.loan_changed(now, path, event);
        }
        self.list(path);
    }

    fn loan_changed(&mut self, now: Time, path: u32, event: LoanEvent) {
        match event {
            LoanEvent::Opened { grant, gained, lost } => {
                if !self.connect_pairs(path, &grant) {
                    self.avoid(path, now + REFUSED);
                    return self.lose_slave(now, path, Loss::LeaseEnded);
                }
                self.units_changed(now, path, &gained, &lost);
                Urgency::BOTH.into_iter().for_each(|urgency| self.pump(now, path, urgency));
                let slave = self.connections.get(path as usize).map_or(0, |connection| connection.slave);
                self.tell(MasterEvent::SlaveConnected { slave, units: grant.units.len() });
            }
            LoanEvent::Changed { gained, lost } => {
                self.units_changed(now, path, &gained, &lost);
                // A request on a lost unit that is under way must not reach a unit that comes to the same index later.
                // The queue pairs end before the next CONNECT gives the index free, and the lease is resumed.
                if !lost.is_empty()
                    && let Some(connection) = self.connections.get_mut(path as usize)
                {
                    connection.is_broken = true;
                }
            }
            LoanEvent::Ended(end) => self.loan_ended(now, path, end),
        }
    }

    fn loan_ended(&mut self, now: Time, path: u32, end: LoanEnd) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        let (has_units, slave) = (connection.units.held() > 0, connection.slave);
        match end {
            LoanEnd::Done => {}
            LoanEnd::Silence => self.lose_slave(now, path, Loss::SlaveGone),
            LoanEnd::Left(_) => {
                self.avoid(path, now + REFUSED);
                self.lose_slave(now, path, Loss::LeaseEnded);
            }
            LoanEnd::Refused(refusal @ (Refusal::Epoch | Refusal::Session | Refusal::Secret)) => {
                let loss = if refusal == Refusal::Epoch { Loss::SlaveRestarted } else { Loss::LeaseEnded };
                // Without units it was only tried whether an earlier lease is still there.
                let was_tried = !has_units && connection.secret.is_some() && refusal == Refusal::Secret;
                if was_tried {
                    (connection.secret, connection.left_behind) = (None, 0);
                    return self.close_pairs(now, path);
                }
                self.lose_slave(now, path, loss);
            }
            LoanEnd::Refused(Refusal::NoRoom) if has_units => {
                self.close_pairs(now, path);
                let Some(connection) = self.connections.get_mut(path as usize) else { return };
                if now >= connection.without_session + lease::time::LEASE {
                    return self.lose_slave(now, path, Loss::SlaveGone);
                }
                connection.retry_at = now + NO_ROOM;
            }
            LoanEnd::Refused(refusal) => self.refused(now, path, refusal, REFUSED),
            LoanEnd::Held { lasts, lock } => {
                let ends = LeaseEnds { slave, master: self.id };
                match self.secrets.find(ends, connection.epoch, &lock) {
                    Some(secret) if !has_units => {
                        connection.secret = Some(secret);
                        self.counters.leases_found.add(1);
                        self.close_pairs(now, path);
                        self.open_session(now, path);
                    }
                    _ => self.refused(now, path, Refusal::Held, REFUSED.max(lasts)),
                }
            }
        }
    }

    /// A slave lends nothing to this master; it is not asked again for some time.
    fn refused(&mut self, now: Time, path: u32, refusal: Refusal, avoid: Time) {
        self.close_pairs(now, path);
        self.avoid(path, now + avoid);
        let Some(connection) = self.connections.get(path as usize) else { return };
        let (has_units, slave) = (connection.units.held() > 0, connection.slave);
        self.tell(MasterEvent::SlaveRefused { slave, refusal });
        if has_units {
            return self.lose_slave(now, path, Loss::LeaseEnded);
        }
        self.promise_elsewhere(now, path, AVOID);
    }

    fn avoid(&mut self, path: u32, until: Time) {
        if let Some(connection) = self.connections.get_mut(path as usize) {
            connection.avoid_until = connection.avoid_until.max(until);
        }
    }

    /// Looks after all connections where something has changed.
    pub(super) fn look_after(&mut self, now: Time) {
        self.to_place = AT_ONCE;
        self.place(now);
        let mut has_changed = false;
        while let Some(path) = self.listed.pop() {
            has_changed = true;
            self.settle(now, path);
            if self.listed.is_empty() {
                self.place(now);
            }
        }
        if has_changed {
            self.gauge();
        }
    }

    /// Brings a connection to what holds now: recalls, promises, units that are wanted or not needed any more.
    fn settle(&mut self, now: Time, path: u32) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        connection.is_listed = false;
        if connection.is_broken && connection.pairs.is_some() {
            self.mend(now, path);
        }
        self.heed_recall(now, path);
        self.keep_promises(now, path);
        self.return_units(path);
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        let wanted = connection.units.held() + connection.units_wanted(&self.extents);
        connection.loan.want(wanted);
        if connection.session.is_some() && connection.is_unused() && connection.units.held() == 0 {
            self.close_pairs(now, path);
            if let Some(connection) = self.connections.get_mut(path as usize) {
                connection.loan.close(now);
            }
        }
        self.schedule(path);
    }

    /// The slave wants units back: those without extents go, and the clients of the others are told.
    fn heed_recall(&mut self, now: Time, path: u32) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        let (units, until) = connection.loan.recall().unwrap_or((0, 0));
        if units > 0 && !connection.loan.is_settled() {
            // The slave has not heard yet what came back: it would be counted twice.
            return;
        }
        let mut told = Vec::new();
        connection.units.recall(units, |extent| told.push(extent));
        if units > 0 {
            self.promise_elsewhere(now, path, AVOID);
        }
        for place in told {
            let is_unheard = self.allocations.iter().any(|of| of.has(place));
            let Some(extent) = self.extents.get_mut(place) else { continue };
            let (ExtentState::Live(_, slot), client) = (extent.state, extent.client) else { continue };
            if is_unheard {
                // Nobody has heard of it yet: it gets another place.
                extent.state = ExtentState::Promised(None);
                self.place_at = now;
                if let Some(connection) = self.connections.get_mut(path as usize) {
                    connection.units.give_back(slot);
                }
                continue;
            }
            let (client, extent) = (self.clients.id(client), self.extents.id(place));
            self.counters.extents_recalled.add(1);
            self.tell(MasterEvent::ExtentRecalled { client, extent, until });
        }
    }

    /// Promised extents get their places; a session is opened for them if there is none.
    fn keep_promises(&mut self, now: Time, path: u32) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        if connection.promised.is_empty() {
            return;
        }
        if connection.is_late(now) {
            return self.promise_elsewhere(now, path, REFUSED);
        }
        let (units, extents) = (&mut connection.units, &mut self.extents);
        if connection.session.is_some() {
            connection.promised.retain(|place| {
                let Some(extent) = extents.get_mut(*place) else { return false };
                let slot = units.take(extent.client, *place);
                if let Some(slot) = slot {
                    extent.state = ExtentState::Live(path, slot);
                }
                slot.is_none()
            });
            // The slave has answered, and had no more.
            if !connection.promised.is_empty() && connection.loan.is_settled() && connection.has_asked(extents) {
                self.promise_elsewhere(now, path, AVOID);
            }
            return;
        }
        let is_opening = connection.pairs.is_some();
        if !is_opening && connection.retry_at == FOREVER {
            self.open_session(now, path);
        }
    }

    /// Units that nobody needs go back to the slave.
    fn return_units(&mut self, path: u32) {
        let Self { connections, clients, .. } = self;
        let Some(connection) = connections.get_mut(path as usize) else { return };
        // An empty unit is kept for its client, unless another one needs it.
        let is_short = !connection.promised.is_empty();
        let mut surplus = connection.units.surplus(|client| !is_short && clients.is_there(client));
        if connection.promised.is_empty() {
            surplus = surplus.or(&connection.units.fresh());
        }
        if surplus.is_empty() || connection.session.is_none() {
            return;
        }
        for index in surplus.iter() {
            connection.units.lose(index, |_| frame::never!("a unit goes back that has extents"));
        }
        connection.loan.give_back(&surplus);
    }

    fn schedule(&mut self, path: u32) {
        let Some(connection) = self.connections.get(path as usize) else { return };
        let deadline = connection.deadline();
        if deadline != FOREVER {
            self.wheel.schedule(path, deadline);
        }
    }

    /// Does what is due for loans: sends their messages, and notices silence.
    pub(super) fn advance_loans(&mut self, now: Time, out: &mut Outbox) {
        while let Some((path, answer)) = self.answers.pop() {
            self.send(path, out, |_, room| {
                room.get_mut(..answer.len())?.copy_from_slice(&answer);
                Some(answer.len())
            });
        }
        while let Some(path) = self.wheel.pop_due(now) {
            let Some(connection) = self.connections.get_mut(path as usize) else { continue };
            if now >= connection.retry_at {
                self.open_session(now, path);
            }
            let Some(connection) = self.connections.get_mut(path as usize) else { continue };
            let is_late = connection.is_late(now);
            let event = connection.loan.advance(now);
            if is_late || event.is_some() {
                self.list(path);
            }
            if let Some(event) = event {
                self.loan_changed(now, path, event);
            }
            let again = self.send_loan(now, path, out);
            let Some(connection) = self.connections.get(path as usize) else { continue };
            // Never again in this poll, whatever is late.
            match connection.deadline().max(again).max(now + LOAN_TICK) {
                FOREVER => {}
                deadline => self.wheel.schedule(path, deadline),
            }
        }
    }

    /// Sends what a loan has to say; returns the time before which it is not tried again.
    fn send_loan(&mut self, now: Time, path: u32, out: &mut Outbox) -> Time {
        let Some(connection) = self.connections.get_mut(path as usize) else { return 0 };
        if connection.loan.deadline().is_none_or(|deadline| deadline > now) {
            return 0;
        }
        if self.send(path, out, |loan, room| loan.transmit(now, room)) { 0 } else { now + RETRY }
    }

    /// Sends a message to the slave of a path, if there is a way and a frame.
    fn send(&mut self, path: u32, out: &mut Outbox, write: impl FnOnce(&mut Loan, &mut [u8]) -> Option<usize>) -> bool {
        let Self { connections, gates, counters, .. } = self;
        let Some(connection) = connections.get_mut(path as usize) else { return false };
        let Some(gateway) = connection.gateway.and_then(|gateway| gates.peer(gateway)) else { return false };
        let Some(mut frame) = out.alloc() else {
            counters.master_no_frame.add(1);
            return false;
        };
        if let Some(len) = write(&mut connection.loan, frame.tail_mut()) {
            frame.set_range(frame.headroom(), len);
            out.send(Datagram::new(frame, *gateway, Class::Down, 1));
        }
        true
    }
}
