//! Making, connecting and ending queue pairs; regions; paths.

use super::{Endpoint, leave_path};
use crate::config::PeerKind;
use crate::memory::{Memory, Region};
use crate::path::Path;
use crate::qp::{Qp, State};
use crate::requester::Requester;
use crate::slab::NONE;
use crate::{Error, PathId, Qpn, ReadyToReceive, ReadyToSend, Status};
use frame::Time;
use wire::rc::QPN_MASK;

/// Numbers below this are reserved by InfiniBand.
const FIRST_NUMBER: u32 = 2;

impl<M: Memory> Endpoint<M> {
    /// Registers memory. `random` becomes part of the key, so that nobody can guess it.
    ///
    /// # Errors
    /// [`Error::RegionBounds`], [`Error::NoRegion`].
    pub fn register(&mut self, random: u32, region: Region<M>) -> Result<u32, Error> {
        self.shared.regions.register(random, region)
    }

    /// Takes a region back; its key becomes invalid.
    pub fn deregister(&mut self, key: u32) -> Option<Region<M>> {
        self.shared.regions.deregister(key)
    }

    /// The region with this key.
    pub fn region(&self, key: u32) -> Option<&Region<M>> {
        self.shared.regions.get(key)
    }

    /// The region with this key, for changes. Its bounds stay the same.
    pub fn memory_mut(&mut self, key: u32) -> Option<&mut M> {
        Some(&mut self.shared.regions.get_mut(key)?.memory)
    }

    /// Sets the kind of a peer, and forgets what was measured on its path. Paths are [`PeerKind::Own`] before that.
    ///
    /// # Errors
    /// [`Error::NoSuchPath`]; [`Error::State`] while queue pairs use the path.
    pub fn set_path(&mut self, path: PathId, kind: PeerKind) -> Result<(), Error> {
        let most = self.shared.config.path_window;
        let path = self.paths.get_mut(path.0 as usize).ok_or(Error::NoSuchPath)?;
        if path.first != NONE {
            return Err(Error::State);
        }
        *path = Path::new(kind, most);
        Ok(())
    }

    /// Sets the longest time that a record waits in a gateway, in nanoseconds, as gateways announce it. Later timeouts
    /// use it.
    pub fn set_hold(&mut self, hold: Time) {
        self.shared.config.hold = hold;
    }

    /// Makes a queue pair of a protection domain, in RESET. `random` becomes part of its number, so that stale packets
    /// find no queue pair.
    ///
    /// # Errors
    /// [`Error::NoQp`].
    pub fn create(&mut self, random: u32, domain: u32) -> Result<Qpn, Error> {
        let place = self.free;
        let qp = self.qps.get_mut(place as usize).ok_or(Error::NoQp)?;
        self.free = qp.sibling;
        let mut number = (random & !self.mask | place) & QPN_MASK;
        if number < FIRST_NUMBER {
            number |= self.mask + 1;
        }
        *qp = Qp { number, domain, scheduled: qp.scheduled, ..Qp::FREE };
        self.shared.counters.qps.add(1);
        Ok(Qpn(number))
    }

    /// The state of a queue pair.
    pub fn state(&self, qpn: Qpn) -> Option<State> {
        Some(self.qps.get(self.place_of(qpn)? as usize)?.state)
    }

    fn change(&mut self, qpn: Qpn, from: State) -> Result<(&mut Qp, u32), Error> {
        let place = self.find(qpn)?;
        match self.qps.get_mut(place as usize) {
            Some(qp) if qp.state == from => Ok((qp, place)),
            _ => Err(Error::State),
        }
    }

    /// RESET to INIT: receives may be posted.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`], [`Error::State`].
    pub fn init(&mut self, qpn: Qpn) -> Result<(), Error> {
        self.change(qpn, State::Reset)?.0.state = State::Init;
        Ok(())
    }

    /// Makes a queue pair urgent, before it is connected: somebody waits for each of its requests. Its packets carry
    /// PUSH ([`Sink::open`](crate::Sink::open)), it sends before others, and a share of the windows is kept for it. The
    /// peer's end should be urgent, too. It stays so until it is reset.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`]; [`Error::State`] from RTR on.
    pub fn make_urgent(&mut self, qpn: Qpn) -> Result<(), Error> {
        let place = self.find(qpn)?;
        match self.qps.get_mut(place as usize) {
            Some(qp) if matches!(qp.state, State::Reset | State::Init) => qp.is_urgent = true,
            _ => return Err(Error::State),
        }
        Ok(())
    }

    /// INIT to RTR: requests of the peer are served.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`], [`Error::State`], [`Error::NoSuchPath`], [`Error::NoReplays`].
    pub fn ready_to_receive(&mut self, qpn: Qpn, attributes: &ReadyToReceive) -> Result<(), Error> {
        let path = attributes.path.0;
        let first = self.paths.get(path as usize).ok_or(Error::NoSuchPath)?.first;
        let promised = self.shared.promised + u32::from(attributes.read_depth);
        let enough = promised <= self.shared.config.replays;
        let (qp, place) = self.change(qpn, State::Init)?;
        if !enough {
            return Err(Error::NoReplays);
        }
        (qp.path, qp.sibling, qp.peer, qp.mtu) = (path, first, attributes.peer.0, attributes.mtu);
        qp.responder = qp.responder.start(attributes);
        qp.state = State::Rtr;
        let is_urgent = qp.is_urgent;
        self.shared.promised = promised;
        self.shared.urgent_qps += u32::from(is_urgent);
        if let Some(path) = self.paths.get_mut(path as usize) {
            path.first = place;
            path.has_urgent |= is_urgent;
        }
        Ok(())
    }

    /// RTR to RTS: requests can be sent to the peer, too.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`], [`Error::State`].
    pub fn ready_to_send(&mut self, qpn: Qpn, attributes: &ReadyToSend) -> Result<(), Error> {
        let (qp, _) = self.change(qpn, State::Rtr)?;
        qp.requester = Requester::start(attributes);
        qp.state = State::Rts;
        Ok(())
    }

    /// To ERR: all work and all receives are flushed.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`].
    pub fn fail(&mut self, now: Time, qpn: Qpn) -> Result<(), Error> {
        let place = self.find(qpn)?;
        self.fail_with(now, place, Status::WrFlushErr);
        Ok(())
    }

    fn fail_with(&mut self, now: Time, place: u32, status: Status) {
        match self.context(place, now) {
            Some(mut context) => {
                let head = context.qp.requester.queue.head;
                context.fail(head, status);
                context.forget_replays();
                context.flush_receives();
                context.qp.notify = false;
            }
            None => {
                // Not connected yet: there can only be receives.
                if let Some(qp) = self.qps.get_mut(place as usize) {
                    let path = &mut Path::new(PeerKind::Own, 0);
                    crate::qp::Context { qp, path, shared: &mut self.shared, now }.fail(NONE, status);
                }
            }
        }
        self.settle(place);
    }

    /// The peer is gone: all its queue pairs fail, the oldest work request of each with [`Status::RetryExcErr`].
    pub fn peer_gone(&mut self, now: Time, path: PathId) {
        let mut place = self.paths.get(path.0 as usize).map_or(NONE, |path| path.first);
        while let Some(qp) = self.qps.get(place as usize) {
            let next = qp.sibling;
            self.fail_with(now, place, Status::RetryExcErr);
            place = next;
        }
    }

    /// Back to RESET, from any state. Incomplete work and receives vanish without completions.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`].
    pub fn reset(&mut self, now: Time, qpn: Qpn) -> Result<(), Error> {
        let place = self.find(qpn)?;
        if let Some(mut context) = self.context(place, now) {
            context.release_all();
            context.forget_replays();
        }
        self.stop_waiting(place);
        leave_path(&mut self.qps, &mut self.paths, place);
        self.leave_classes(place);
        if let Some(qp) = self.qps.get_mut(place as usize) {
            let shared = &mut self.shared;
            while shared.work.pop(&mut qp.requester.queue).is_some() {
                shared.completions.forget();
            }
            while shared.receives.pop(&mut qp.responder.receives).is_some() {
                shared.completions.forget();
            }
            shared.promised -= u32::from(qp.responder.depth);
            // The wheel may still hold it: then the wheel finds nothing to do.
            *qp = Qp { number: qp.number, domain: qp.domain, scheduled: qp.scheduled, ..Qp::FREE };
        }
        self.settle(place);
        Ok(())
    }

    /// A queue pair that left its path no longer needs a share of the windows.
    fn leave_classes(&mut self, place: u32) {
        let Some(&Qp { path, .. }) = self.qps.get(place as usize).filter(|qp| qp.is_urgent) else { return };
        let Some(path) = self.paths.get_mut(path as usize) else { return };
        self.shared.urgent_qps -= 1;
        path.has_urgent = false;
        let mut at = path.first;
        while let Some(qp) = self.qps.get(at as usize) {
            path.has_urgent |= qp.is_urgent;
            at = qp.sibling;
        }
    }

    /// Ends a queue pair; its number becomes invalid. As with [`Endpoint::reset`], incomplete work vanishes.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`].
    pub fn destroy(&mut self, now: Time, qpn: Qpn) -> Result<(), Error> {
        self.reset(now, qpn)?;
        let place = self.find(qpn)?;
        if let Some(qp) = self.qps.get_mut(place as usize) {
            *qp = Qp { scheduled: qp.scheduled, sibling: self.free, ..Qp::FREE };
        }
        self.free = place;
        self.shared.counters.qps.add(1u64.wrapping_neg());
        Ok(())
    }
}
