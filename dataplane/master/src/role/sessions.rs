//! Sessions: two queue pairs to a slave, opened, ended, and opened anew.

use super::{DOMAIN, Master};
use crate::connection::{OpenSession, OwnPairs};
use crate::request::{BufferKey, PageStatus, Urgency};
use frame::Time;
use frame::time::{FOREVER, MILLISECOND};
use lease::{Proposal, lock_of};
use records::Framing;
use transport::{Memory, PathId, Qpn, ReadyToReceive, ReadyToSend, Status};
use wire::lease::{Grant, LeaseEnds, PairEnd, UnitSet};
use wire::rc::{Psn, RnrTimer};

/// When a session that could not be opened is tried again.
const RETRY: Time = 100 * MILLISECOND;

/// What a failure of a request weighs: its own, or silence of the slave; and a failure of another request before it. A
/// request ends when its failures weigh [`MOST_FAILURES`]: after three of its own.
const OWN_FAILURE: u8 = 4;
const FLUSHED: u8 = 1;
const MOST_FAILURES: u8 = 12;

impl<M: Memory> Master<M> {
    /// Opens a session with the slave of a path: at first, and in place of one that failed.
    pub(super) fn open_session(&mut self, now: Time, path: u32) {
        self.look_at_way(now, path);
        let opened = self.propose(now, path);
        if let Some(connection) = self.connections.get_mut(path as usize) {
            connection.retry_at = if opened.is_some() { FOREVER } else { now + RETRY };
        }
        self.list(path);
    }

    fn propose(&mut self, now: Time, path: u32) -> Option<()> {
        let connection = self.connections.get_mut(path as usize)?;
        if connection.units.held() == 0
            && let Some(known) = self.roster.get(connection.slave)
            && known.member.epoch != connection.epoch
        {
            (connection.epoch, connection.secret, connection.left_behind) = (known.member.epoch, None, 0);
        }
        let peer = self.gates.peer(connection.gateway?)?;
        let path_mtu = Framing::path_mtu(peer, connection.mtu)?;
        let demand = self.make_pair(now, true)?;
        let bulk = self.make_pair(now, false);
        let Some(bulk) = bulk else {
            self.endpoint.destroy(now, demand.0).ok();
            return None;
        };
        let connection = self.connections.get_mut(path as usize)?;
        let ends = LeaseEnds { slave: connection.slave, master: self.id };
        let proposed = self.secrets.next(ends, connection.epoch);
        let pairs = OwnPairs { qpns: [demand.0, bulk.0], ends: [demand.1, bulk.1] };
        (connection.pairs, connection.proposed, connection.allowed) = (Some(pairs), proposed, path_mtu);
        let proposal = Proposal {
            slave_epoch: connection.epoch,
            pairs: pairs.ends,
            path_mtu,
            lock: lock_of(&proposed),
            resume: connection.secret,
        };
        let keep = connection.units.indexes();
        let want = keep.len() + connection.units_wanted(&self.extents);
        connection.loan.open(now, proposal, keep, want);
        Some(())
    }

    /// Makes a queue pair; the demand queue pair is urgent.
    fn make_pair(&mut self, now: Time, is_urgent: bool) -> Option<(Qpn, PairEnd)> {
        let qpn = self.endpoint.create(self.random.next_u32(), DOMAIN).ok()?;
        let urgent = if is_urgent { self.endpoint.make_urgent(qpn) } else { Ok(()) };
        if urgent.and_then(|()| self.endpoint.init(qpn)).is_err() {
            self.endpoint.destroy(now, qpn).ok();
            return None;
        }
        // A slave requests nothing of a master.
        let psn = Psn::new(self.random.next_u32());
        Some((qpn, PairEnd { qpn: qpn.0, psn, read_depth: 0, rnr_timer: RnrTimer::new(0) }))
    }

    /// The slave granted a session: the queue pairs are connected. Returns whether that is so.
    pub(super) fn connect_pairs(&mut self, path: u32, grant: &Grant) -> bool {
        let Some(connection) = self.connections.get_mut(path as usize) else { return false };
        let Some(pairs) = connection.pairs else { return false };
        for ((qpn, own), peer) in pairs.qpns.iter().zip(&pairs.ends).zip(&grant.pairs) {
            let receive = ReadyToReceive {
                path: PathId(path),
                peer: Qpn(peer.qpn),
                psn: peer.psn,
                mtu: grant.path_mtu,
                read_depth: own.read_depth,
                rnr_timer: own.rnr_timer,
            };
            let send = ReadyToSend::usual(own.psn, peer.read_depth);
            let connected = self.endpoint.ready_to_receive(*qpn, &receive);
            if connected.and_then(|()| self.endpoint.ready_to_send(*qpn, &send)).is_err() {
                return false;
            }
        }
        let (rkey, path_mtu, allowed) = (grant.rkey, grant.path_mtu, connection.allowed);
        connection.session = Some(OpenSession { rkey, path_mtu, allowed });
        connection.misfit_since = FOREVER;
        (connection.secret, connection.left_behind) = (Some(connection.proposed), 0);
        connection.was_open = true;
        // A slave that lends without READs is of no use.
        grant.pairs.iter().all(|pair| pair.read_depth > 0)
    }

    /// Ends the queue pairs of a path. Requests that they had go before those that wait.
    pub(super) fn close_pairs(&mut self, now: Time, path: u32) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        if connection.session.take().is_some() {
            connection.without_session = now;
        }
        // Nothing is posted from here on.
        connection.is_broken = true;
        let pairs = connection.pairs.take();
        for qpn in pairs.iter().flat_map(|pairs| pairs.qpns) {
            self.endpoint.fail(now, qpn).ok();
        }
        self.collect(now);
        for qpn in pairs.iter().flat_map(|pairs| pairs.qpns) {
            self.endpoint.destroy(now, qpn).ok();
        }
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        (connection.is_broken, connection.is_silent) = (false, false);
        for (waiting, again) in connection.waiting.iter_mut().zip(&mut connection.again) {
            let mut first = std::mem::replace(again, crate::pending::Waiting::EMPTY);
            self.pending.append(&mut first, *waiting);
            *waiting = first;
        }
    }

    /// A session failed: it is opened anew, and the lease goes on.
    pub(super) fn mend(&mut self, now: Time, path: u32) {
        self.close_pairs(now, path);
        self.counters.sessions_renewed.add(1);
        self.open_session(now, path);
    }

    /// Takes all completions of the queue pairs.
    pub(super) fn collect(&mut self, now: Time) {
        while let Some(completion) = self.endpoint.poll() {
            let index = completion.id as u32;
            let entry = self.pending.get_mut(index).and_then(|entry| Some((entry.path?, entry)));
            let Some((path, entry)) = entry else {
                frame::never!("a completion is of no request");
                continue;
            };
            let (urgency, extent) = (entry.request.urgency, entry.request.extent.place());
            let mut is_silent = self.connections.get(path as usize).is_some_and(|connection| connection.is_silent);
            let status = match completion.status {
                Status::Success => {
                    self.finish(now, index, PageStatus::Done);
                    self.pump(now, path, urgency);
                    continue;
                }
                Status::LocLenErr | Status::LocProtErr => {
                    entry.failures = MOST_FAILURES;
                    PageStatus::BadBuffer
                }
                Status::WrFlushErr if !is_silent => {
                    entry.failures += FLUSHED;
                    PageStatus::Flushed
                }
                Status::RetryExcErr | Status::WrFlushErr => {
                    is_silent = true;
                    entry.failures += OWN_FAILURE;
                    PageStatus::NoAnswer
                }
                Status::RemInvReqErr | Status::RemAccessErr | Status::RemOpErr | Status::RnrRetryExcErr => {
                    entry.failures += OWN_FAILURE;
                    PageStatus::Refused
                }
            };
            let is_last = entry.failures >= MOST_FAILURES;
            let loss = self.extents.get(extent).and_then(|extent| extent.loss());
            match loss {
                Some(loss) => self.finish(now, index, loss.into()),
                None if is_last => self.finish(now, index, status),
                None => self.repeat(index, path, urgency),
            }
            if let Some(connection) = self.connections.get_mut(path as usize) {
                (connection.is_broken, connection.is_silent) = (true, is_silent);
                self.list(path);
            }
        }
    }

    /// A request is sent again in the next session.
    fn repeat(&mut self, index: u32, path: u32, urgency: Urgency) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        if let Some(entry) = self.pending.get_mut(index) {
            entry.stage = crate::pending::Stage::Waiting;
        }
        if let Some(again) = connection.again.get_mut(urgency.pair()) {
            self.pending.push(again, index);
            self.counters.requests_repeated.add(1);
        }
    }

    /// The key of a client's local memory, if the client has it.
    pub(super) fn has_buffer(&mut self, client: u16, key: BufferKey) -> bool {
        self.clients.get_mut(client).is_some_and(|client| client.buffers.contains(&key))
    }

    /// Units left a lease, or came.
    pub(super) fn units_changed(&mut self, now: Time, path: u32, gained: &UnitSet, lost: &UnitSet) {
        for index in lost.iter() {
            self.lose_unit(path, index, crate::request::Loss::Recalled);
        }
        if let Some(connection) = self.connections.get_mut(path as usize) {
            connection.units.gain(gained);
        }
        if !lost.is_empty() {
            self.end_lost(now, path);
        }
        self.list(path);
    }
}
