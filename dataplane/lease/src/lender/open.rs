//! A session is opened: of a new lease, or of one that is resumed.

use super::lease::{Lease, Place};
use super::{Lender, Opening, Resources};
use crate::key::opens;
use crate::time::{COOKIE, LEASE, wire_ms};
use frame::Time;
use wire::lease::{Connect, ConnectReply, Refusal};
use wire::link::Cookie;

impl Lender {
    /// Handles a CONNECT without a session; `place` is where its master has a lease, or had one.
    pub(super) fn open(
        &mut self,
        now: Time,
        place: Option<u16>,
        connect: &Connect,
        resources: &mut impl Resources,
    ) -> Option<ConnectReply> {
        let known = place.and_then(|place| self.places.get(usize::from(place)));
        let lease = known.and_then(|place| place.lease.as_ref());
        let after = match (lease, known) {
            (Some(lease), _) => Some(lease.renewed),
            (None, Some(place)) => place.ended,
            (None, None) => self.floor,
        };
        if !self.is_fresh(now, connect, after) {
            let cookie = self.secret.issue(now, connect.ends.master, connect.master_epoch);
            return Some(ConnectReply { cookie, ..self.refuse(connect, Refusal::Cookie) });
        }
        let refusal = match (lease, connect.resume) {
            (Some(lease), None) => {
                let lease_ms = wire_ms((lease.renewed + LEASE).saturating_sub(now));
                // A master that starts again finds by the lock which secret it needs.
                let cookie = Cookie(lease.lock);
                return Some(ConnectReply { lease_ms, cookie, ..self.refuse(connect, Refusal::Held) });
            }
            (Some(lease), Some(secret)) if opens(&secret, &lease.lock) => {
                let place = place?;
                self.resume(now, place, connect, resources);
                return self.state(now, place);
            }
            (_, Some(_)) => Refusal::Secret,
            (None, None) if self.leaving => Refusal::Leaving,
            (None, None) => match self.begin(now, place, connect, resources) {
                Some(place) => return self.state(now, place),
                None => Refusal::NoRoom,
            },
        };
        Some(self.refuse(connect, refusal))
    }

    /// Whether the cookie of a CONNECT was issued a short time ago, and after `after`.
    fn is_fresh(&self, now: Time, connect: &Connect, after: Option<Time>) -> bool {
        let issued = self.secret.issued(connect.cookie, connect.ends.master, connect.master_epoch);
        issued.is_some_and(|issued| after.is_none_or(|after| issued > after) && now.saturating_sub(issued) <= COOKIE)
    }

    /// Begins a lease, and returns its place.
    fn begin(
        &mut self,
        now: Time,
        place: Option<u16>,
        connect: &Connect,
        resources: &mut impl Resources,
    ) -> Option<u16> {
        let place = place.or_else(|| self.vacancy())?;
        let units = self.stock.units();
        let entry = self.places.get_mut(usize::from(place))?;
        if entry.master != connect.ends.master {
            // What is forgotten of its last master holds for all masters without a place.
            self.floor = self.floor.max(entry.ended);
        }
        let ended = entry.ended;
        let lease = Some(Lease::new(connect, units));
        *entry = Place { master: connect.ends.master, lease, ended, ..Place::default() };
        if !self.open_session(place, connect, resources) {
            // Its master has no lease, and the place may be a new one's: as if it had ended now.
            self.end(now, place, resources);
            return None;
        }
        self.counters.leases_opened.add(1);
        self.renew(now, place, connect, resources);
        Some(place)
    }

    /// The place that was without a lease for the longest time.
    fn vacancy(&self) -> Option<u16> {
        let places = self.places.iter().enumerate().filter(|(_, place)| place.lease.is_none());
        places.min_by_key(|(_, place)| place.ended).map(|(place, _)| place as u16)
    }

    /// A lease gets a new session, and keeps the units that both ends know.
    fn resume(&mut self, now: Time, place: u16, connect: &Connect, resources: &mut impl Resources) {
        resources.close(place);
        if let Some(lease) = self.lease_mut(place) {
            (lease.master_epoch, lease.seq, lease.renewed) = (connect.master_epoch, connect.seq, now);
        }
        if !self.open_session(place, connect, resources) {
            // The lease stays as it was, with the lock that it had, and can be resumed again.
            if let Some(lease) = self.lease_mut(place) {
                lease.tell = None;
            }
            return;
        }
        self.counters.leases_resumed.add(1);
        let Some(lease) = self.lease_mut(place) else { return };
        lease.lock = connect.lock;
        for (index, unit) in lease.units() {
            resources.add(place, index, unit);
        }
        self.renew(now, place, connect, resources);
    }

    /// Gives a lease a new session; false if the role has no queue pairs for it.
    fn open_session(&mut self, place: u16, connect: &Connect, resources: &mut impl Resources) -> bool {
        let (master, pairs) = (connect.ends.master, connect.pairs);
        let path_mtu = connect.path_mtu.min(self.config.path_mtu);
        let opened = resources.open(&Opening { place, master, pairs, path_mtu });
        // One CONNECT opens one session: no other has this seq.
        let session = self.secret.session(connect.seq, master, connect.master_epoch);
        if let Some(lease) = self.lease_mut(place) {
            (lease.session, lease.opened, lease.path_mtu) = (session, opened, path_mtu);
        }
        opened.is_some()
    }
}
