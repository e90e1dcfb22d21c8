//! The slave's end: the leases of one slave id.

mod lease;
mod limit;
mod open;
mod resources;

pub use resources::{OpenedSession, Opening, Resources};

use crate::budget::StrangerBudget;
use crate::cookie::BootSecret;
use crate::counters::LenderCounters;
use crate::key::{ConnectKeys, KeyNumber};
use crate::stock::Stock;
use crate::time::{LEASE, RECALL_REPETITION, wire_ms};
use frame::Time;
use lease::{Lease, Place, Slot};
use std::sync::Arc;
use wire::lease::{
    Connect, ConnectAnswer, ConnectReply, Disconnect, Grant, LeaseEnd, LeaseEnds, Recall, Refusal, UnitSet,
};
use wire::link::{Cookie, Role};
use wire::rc::PathMtu;
use wire::{MsgType, Record};

/// The size and the identity of a lender.
#[derive(Clone, Debug)]
pub struct LenderConfig {
    /// The slave id.
    pub slave: u32,
    /// The boot epoch that heartbeats have.
    pub epoch: u64,
    /// Units of memory. All are clean at first, and may be lent.
    pub units: u32,
    /// The most leases, one for each master.
    pub leases: u16,
    /// The most units of one lease.
    pub quota: u32,
    /// The largest path MTU that the slave's way allows.
    pub path_mtu: PathMtu,
    /// The connect keys; without one nothing is signed or verified.
    pub keys: ConnectKeys,
}

/// How many units there are of each kind. `units = free + dirty + leased`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// All units.
    pub units: u32,
    /// Units that nobody has, and that are zero.
    pub free: u32,
    /// Units that nobody has, and that must be scrubbed.
    pub dirty: u32,
    /// Units in leases.
    pub leased: u32,
    /// The most units that may be dirty or leased before nothing more is granted.
    pub limit: u32,
    /// Units that are recalled and not given back yet: always `leased - limit`, and not below 0.
    pub recalled: u32,
    /// Leases.
    pub leases: u32,
}

/// All leases of one slave id.
///
/// [`receive`](Self::receive) takes the messages of masters. [`advance`](Self::advance) ends what is over, at
/// [`deadline`](Self::deadline) or later; call it after the messages that came in were received.
/// [`transmit`](Self::transmit) gives what is to be sent unasked. A lease that is opened allocates 8 bytes for each
/// unit of the slave, at most 32 KiB; nothing else grows.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Lender {
    config: LenderConfig,
    secret: BootSecret,
    stock: Stock,
    limit: u32,
    places: Box<[Place]>,
    /// Cookies of masters without a place, issued until then, open nothing.
    floor: Option<Time>,
    budget: StrangerBudget,
    /// How many answers were made.
    replies: u64,
    leaving: bool,
    /// What the gauges have of this lender: several lenders may share them.
    shown: Books,
    counters: Arc<LenderCounters>,
}

/// One lease, for people who look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// Its place, below [`LenderConfig::leases`].
    pub place: u16,
    /// Whose it is.
    pub master: u16,
    /// Units that it has.
    pub units: u32,
    /// Units that are recalled of it and not given back yet.
    pub recalled: u32,
}

impl Lender {
    /// A lender without leases, whose memory is all clean. `secret` is random, and no other boot has it.
    pub fn new(config: LenderConfig, secret: [u8; 32]) -> Self {
        Self::sharing(config, secret, Arc::default())
    }

    /// The same for one of several lenders of one thread, which count together.
    pub fn sharing(config: LenderConfig, secret: [u8; 32], counters: Arc<LenderCounters>) -> Self {
        Self {
            secret: BootSecret::new(secret),
            stock: Stock::new(config.units),
            limit: config.units,
            places: (0..config.leases).map(|_| Place::default()).collect(),
            floor: None,
            budget: StrangerBudget::new(),
            replies: 0,
            leaving: false,
            shown: Books::default(),
            counters,
            config,
        }
    }

    /// The counters, for others to read.
    pub fn counters(&self) -> &Arc<LenderCounters> {
        &self.counters
    }

    /// How many units there are of each kind.
    pub fn books(&self) -> Books {
        Books {
            units: self.stock.units(),
            free: self.stock.free(),
            dirty: self.stock.dirty(),
            leased: self.stock.leased(),
            limit: self.limit,
            recalled: self.leases().map(|lease| lease.debt.units).sum(),
            leases: self.leases().count() as u32,
        }
    }

    /// All leases that there are.
    pub fn held_leases(&self) -> impl Iterator<Item = HeldLease> + '_ {
        // There are as many places as a u16 counts at most.
        self.places.iter().enumerate().filter_map(|(place, entry)| {
            let lease = entry.lease.as_ref()?;
            let (units, recalled) = (lease.held(), lease.debt.units);
            Some(HeldLease { place: place as u16, master: entry.master, units, recalled })
        })
    }

    /// The units of a master's lease, if it has one.
    pub fn units_of(&self, master: u16) -> Option<UnitSet> {
        Some(self.lease(self.place_of(master)?)?.indexes())
    }

    /// The largest path MTU that the slave's way allows has changed. Sessions that are open keep theirs.
    pub fn set_path_mtu(&mut self, path_mtu: PathMtu) {
        self.config.path_mtu = path_mtu;
    }

    /// Uses other keys from the next message on: both while the cluster changes its key.
    pub fn set_keys(&mut self, keys: ConnectKeys) {
        self.config.keys = keys;
    }

    /// Takes a message of a master, and writes the answer into `out`, if there is one. It goes where the message came
    /// from. `out` has room for [`ConnectReply::MAX_LEN`].
    pub fn receive(
        &mut self,
        now: Time,
        record: &Record<'_>,
        resources: &mut impl Resources,
        out: &mut [u8],
    ) -> Option<usize> {
        let len = match record.header().msg_type() {
            MsgType::CONNECT => {
                self.counters.connects_in.add(1);
                let Ok(connect) = Connect::parse(record) else {
                    self.counters.lease_dropped_malformed.add(1);
                    return None;
                };
                let signer = self.admit(now, record, connect.ends, connect.session, connect.master_epoch)?;
                let reply = self.connect(now, &connect, resources)?;
                self.remember_signer(connect.ends.master, signer);
                reply.emit(self.config.keys.get(signer), out)
            }
            MsgType::DISCONNECT => {
                self.counters.disconnects_in.add(1);
                let Ok(disconnect) = Disconnect::parse(record) else {
                    self.counters.lease_dropped_malformed.add(1);
                    return None;
                };
                let signer = self.admit(now, record, disconnect.ends, disconnect.session, disconnect.master_epoch)?;
                self.disconnect(now, &disconnect, resources)?.emit(self.config.keys.get(signer), out)
            }
            _ => {
                self.counters.lease_dropped_unexpected.add(1);
                None
            }
        };
        self.gauge();
        len
    }

    /// The key that signed a message, if it is for this slave and its tag right. What names an open session is cheap to
    /// tell from what a stranger can invent; all else has a budget.
    fn admit(
        &mut self,
        now: Time,
        record: &Record<'_>,
        ends: LeaseEnds,
        session: u64,
        epoch: u64,
    ) -> Option<KeyNumber> {
        let known = |lease: &&Lease| lease.session == session && lease.master_epoch == epoch;
        let lease = self.place_of(ends.master).and_then(|place| self.lease(place));
        let dropped = if ends.slave != self.config.slave {
            &self.counters.lease_dropped_unexpected
        } else if lease.filter(known).is_none() && !self.budget.take(now) {
            &self.counters.lease_dropped_budget
        } else if let Some(signer) = self.config.keys.signer(record.bytes()) {
            return Some(signer);
        } else {
            &self.counters.lease_dropped_forged
        };
        dropped.add(1);
        None
    }

    /// What is sent to this master unasked is signed with the key that signed its last message.
    fn remember_signer(&mut self, master: u16, signer: KeyNumber) {
        let place = self.place_of(master).and_then(|place| self.places.get_mut(usize::from(place)));
        if let Some(place) = place {
            place.signer = signer;
        }
    }

    fn connect(&mut self, now: Time, connect: &Connect, resources: &mut impl Resources) -> Option<ConnectReply> {
        if connect.slave_epoch != self.config.epoch {
            return Some(self.refuse(connect, Refusal::Epoch));
        }
        let place = self.place_of(connect.ends.master);
        let lease = place.and_then(|place| Some((place, self.lease(place)?)));
        match lease.filter(|(_, lease)| lease.master_epoch == connect.master_epoch) {
            // Older than the CONNECT that opened or changed the lease last.
            Some((_, lease)) if connect.seq < lease.seq => {
                self.counters.lease_dropped_stale.add(1);
                None
            }
            // The same again. It does not renew: somebody may have recorded it.
            Some((place, lease)) if connect.seq == lease.seq => {
                self.counters.connects_repeated.add(1);
                self.state(now, place)
            }
            Some((place, lease)) if connect.session == lease.session => {
                self.renew(now, place, connect, resources);
                self.state(now, place)
            }
            _ if connect.session != 0 => Some(self.refuse(connect, Refusal::Session)),
            _ => self.open(now, place, connect, resources),
        }
    }

    /// A lease is renewed and changed by a CONNECT that is newer than all before.
    fn renew(&mut self, now: Time, place: u16, connect: &Connect, resources: &mut impl Resources) {
        self.counters.connects_accepted.add(1);
        let Some(lease) = self.lease_mut(place) else { return };
        (lease.renewed, lease.seq) = (now, connect.seq);
        let before = lease.held();
        let given_back = lease.indexes().without(&connect.keep);
        for index in given_back.iter() {
            self.release(place, index, Slot::Empty, resources);
        }
        let quota = self.config.quota;
        let Some(lease) = self.lease_mut(place) else { return };
        lease.forget_taken(&connect.keep);
        lease.debt.units = lease.debt.units.saturating_sub(before - lease.held());
        let more = connect.want.min(quota).saturating_sub(lease.held());
        let vacant = lease.vacant(&connect.keep);
        self.settle();
        for index in vacant.iter().take(more.min(self.grantable()) as usize) {
            self.grant(place, index, resources);
        }
    }

    /// Puts a free unit into a vacant index of a lease.
    fn grant(&mut self, place: u16, index: u16, resources: &mut impl Resources) {
        if let Some(unit) = self.stock.take()
            && let Some(lease) = self.lease_mut(place)
        {
            lease.put(index, unit);
            resources.add(place, index, unit);
        }
    }

    /// Takes a unit out of a lease.
    fn release(&mut self, place: u16, index: u16, leave: Slot, resources: &mut impl Resources) {
        if let Some(unit) = self.lease_mut(place).and_then(|lease| lease.take_out(index, leave)) {
            resources.remove(place, index, unit);
            self.stock.release(unit);
        }
    }

    /// A unit was scrubbed, so it can be lent again.
    pub fn scrubbed(&mut self, unit: u32) {
        if !self.stock.scrubbed(unit) {
            frame::never!("a unit was scrubbed that is not dirty");
        }
        self.gauge();
    }

    /// Units that could be granted now.
    fn grantable(&self) -> u32 {
        self.stock.free().min(self.limit.saturating_sub(self.stock.leased() + self.stock.dirty()))
    }

    fn disconnect(&mut self, now: Time, disconnect: &Disconnect, resources: &mut impl Resources) -> Option<Disconnect> {
        if disconnect.from != Role::Master {
            self.counters.lease_dropped_unexpected.add(1);
            return None;
        }
        // The lease that it is about has ended before.
        if disconnect.answer {
            return None;
        }
        let ours = disconnect.slave_epoch == self.config.epoch;
        let named =
            |lease: &Lease| lease.session == disconnect.session && lease.master_epoch == disconnect.master_epoch;
        if let Some(place) = self.place_of(disconnect.ends.master)
            && ours
            && self.lease(place).is_some_and(named)
        {
            self.end(now, place, resources);
            self.counters.leases_ended.add(1);
        }
        Some(Disconnect { from: Role::Slave, answer: true, ..*disconnect })
    }

    /// Ends a lease: all its units must be scrubbed.
    fn end(&mut self, now: Time, place: u16, resources: &mut impl Resources) {
        let indexes = self.lease(place).map_or(UnitSet::EMPTY, Lease::indexes);
        for index in indexes.iter() {
            self.release(place, index, Slot::Empty, resources);
        }
        resources.close(place);
        if let Some(place) = self.places.get_mut(usize::from(place)) {
            (place.lease, place.ended) = (None, Some(now));
        }
        self.settle();
    }

    /// Ends what is over: leases that were not renewed, and recalls.
    pub fn advance(&mut self, now: Time, resources: &mut impl Resources) {
        for place in 0..self.config.leases {
            let Some(lease) = self.lease(place) else { continue };
            if now >= lease.renewed + LEASE {
                self.end(now, place, resources);
                self.counters.leases_expired.add(1);
            } else if lease.debt.units > 0 && now >= lease.debt.until {
                self.collect(now, place, resources);
            }
            if self.leaving {
                self.dismiss(now, place, resources);
            }
        }
        self.gauge();
    }

    /// Ends a lease without units of a lender that leaves.
    fn dismiss(&mut self, now: Time, place: u16, resources: &mut impl Resources) {
        let Some(lease) = self.lease(place).filter(|lease| lease.held() == 0) else { return };
        let (session, master_epoch) = (lease.session, lease.master_epoch);
        self.end(now, place, resources);
        self.counters.leases_ended.add(1);
        let ends = |master| LeaseEnds { slave: self.config.slave, master };
        if let Some(place) = self.places.get_mut(usize::from(place)) {
            place.farewell = Some(Disconnect {
                ends: ends(place.master),
                from: Role::Slave,
                answer: false,
                reason: LeaseEnd::Leaving,
                slave_epoch: self.config.epoch,
                master_epoch,
                session,
            });
        }
    }

    /// Writes a message into `out` that is to be sent unasked, if there is one: to its master, through any gateway.
    /// Call it again until there is none.
    pub fn transmit(&mut self, now: Time, out: &mut [u8]) -> Option<usize> {
        let farewell = self.places.iter_mut().find_map(|place| Some((place.farewell.take()?, place.signer)));
        if let Some((farewell, signer)) = farewell {
            return farewell.emit(self.config.keys.get(signer), out);
        }
        let due = |lease: &Lease| lease.tell.is_some_and(|at| at <= now);
        let place = (0..self.config.leases).find(|place| self.lease(*place).is_some_and(due))?;
        if let Some(lease) = self.lease_mut(place) {
            lease.tell = (lease.debt.units > 0).then_some(now + RECALL_REPETITION);
        }
        let signer = self.places.get(usize::from(place)).map(|place| place.signer).unwrap_or_default();
        self.state(now, place)?.emit(self.config.keys.get(signer), out)
    }

    /// When [`advance`](Self::advance) or [`transmit`](Self::transmit) has something to do.
    pub fn deadline(&self) -> Option<Time> {
        if self.places.iter().any(|place| place.farewell.is_some()) {
            return Some(0);
        }
        let times = self.leases().flat_map(|lease| {
            let until = (lease.debt.units > 0).then_some(lease.debt.until);
            let empty = (self.leaving && lease.held() == 0).then_some(0);
            [Some(lease.renewed + LEASE), until, lease.tell, empty]
        });
        times.flatten().min()
    }

    /// The answer that has the state of a lease.
    fn state(&mut self, now: Time, place: u16) -> Option<ConnectReply> {
        self.replies += 1;
        let lease = self.lease(place)?;
        let within = lease.debt.until.saturating_sub(now);
        let recall = match lease.debt.units {
            0 => Recall::default(),
            units => Recall { units, within_ms: wire_ms(within) },
        };
        let answer = match lease.opened {
            None => ConnectAnswer::Refused(Refusal::NoRoom),
            Some(OpenedSession { pairs, rkey }) => ConnectAnswer::Granted(Grant {
                session: lease.session,
                rkey,
                pairs,
                path_mtu: lease.path_mtu,
                units: lease.indexes(),
                recall,
            }),
        };
        Some(ConnectReply {
            ends: LeaseEnds { slave: self.config.slave, master: self.places.get(usize::from(place))?.master },
            slave_epoch: self.config.epoch,
            master_epoch: lease.master_epoch,
            seq: lease.seq,
            reply_seq: self.replies,
            cookie: Cookie::NONE,
            free: self.grantable(),
            lease_ms: wire_ms(LEASE),
            answer,
        })
    }

    fn refuse(&mut self, connect: &Connect, refusal: Refusal) -> ConnectReply {
        match refusal {
            Refusal::Cookie => self.counters.connects_challenged.add(1),
            _ => self.counters.connects_refused.add(1),
        }
        self.replies += 1;
        ConnectReply {
            ends: connect.ends,
            slave_epoch: self.config.epoch,
            master_epoch: connect.master_epoch,
            seq: connect.seq,
            reply_seq: self.replies,
            cookie: Cookie::NONE,
            free: self.grantable(),
            lease_ms: 0,
            answer: ConnectAnswer::Refused(refusal),
        }
    }

    /// The place of a master that has a lease, or had the last one there.
    fn place_of(&self, master: u16) -> Option<u16> {
        let is_of = |place: &Place| place.master == master && (place.lease.is_some() || place.ended.is_some());
        // There are as many places as a u16 counts at most.
        self.places.iter().position(is_of).map(|place| place as u16)
    }

    fn lease(&self, place: u16) -> Option<&Lease> {
        self.places.get(usize::from(place))?.lease.as_ref()
    }

    fn lease_mut(&mut self, place: u16) -> Option<&mut Lease> {
        self.places.get_mut(usize::from(place))?.lease.as_mut()
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.places.iter().filter_map(|place| place.lease.as_ref())
    }

    /// All that decides what it will do, for tests that visit states; other than the number of answers.
    #[cfg(test)]
    pub(crate) fn hash(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        (&self.stock, self.limit, self.floor, self.leaving).hash(hasher);
        for place in &self.places {
            (place.master, &place.lease, place.ended, place.signer).hash(hasher);
        }
    }

    /// When a lease was last renewed or ended.
    #[cfg(test)]
    pub(crate) fn newest(&self) -> Option<Time> {
        let renewed = self.leases().map(|lease| lease.renewed);
        renewed.chain(self.places.iter().filter_map(|place| place.ended)).max()
    }

    fn gauge(&mut self) {
        let (was, is) = (self.shown, self.books());
        let show = |gauge: &frame::Counter, was: u32, is: u32| gauge.add(u64::from(is).wrapping_sub(was.into()));
        show(&self.counters.leases, was.leases, is.leases);
        show(&self.counters.units_leased, was.leased, is.leased);
        show(&self.counters.units_dirty, was.dirty, is.dirty);
        show(&self.counters.units_recalled, was.recalled, is.recalled);
        self.shown = is;
    }
}
