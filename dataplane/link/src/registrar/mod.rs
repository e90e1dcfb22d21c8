//! The gateway's end of link control: which nodes are there, and where.
//!
//! One [`Registrar`] per gateway process, off the poll loops. It takes the datagrams of link control that lcores hand
//! over, answers each heartbeat, tells the lcores of routes, and the masters of members. It allocates all its memory
//! when it is made, and stores nothing for a stranger.
//!
//! A heartbeat registers its node only under three conditions. It has a valid tag (when there is a key). It has a
//! cookie that was issued a short time ago for this start of the node at this address. Its seq is above all earlier
//! ones. A node's tag is made with its own key, so no node can speak for another.

mod capacity;
mod config;
mod cookie;
mod deaf;
mod forgotten;
mod hearing;
mod heartbeat;
mod keys;
mod leave;
mod leaving;
mod list;
mod master;
mod masters;
mod mtu;
mod packer;
mod paths;
mod presence;
mod silence;
mod table;
mod v1;
mod view;

pub use config::{RegistrarConfig, RegistrarError};
pub use silence::Health;
pub use view::{MasterView, MemberView, Summary};

use crate::{Notice, RegistrarCounters, RegistrarEvent, Sink};
use cookie::CookieSecret;
use forgotten::Forgotten;
use frame::{Peer, Repeats, Time};
use hearing::Hearing;
use leaving::Leaving;
use master::Master;
use packer::Packer;
use paths::Paths;
use std::sync::Arc;
use table::Table;
use wire::{ShardSet, UNPROVEN_MTU, Walk};

/// How many nodes each kind of notice reports by name. Strangers can cause more; all further ones are reported
/// together.
const NAMED: usize = 16;

/// Which nodes are there, and where: the only owner of membership.
pub struct Registrar {
    config: RegistrarConfig,
    /// The dense numbers of the slaves of the served shards: places of the table.
    served: ShardSet,
    secret: CookieSecret,
    /// The gateway is about to leave.
    leave: Option<Leaving>,
    table: Table,
    masters: Vec<Master>,
    forgotten: Forgotten,
    hearing: Hearing,
    counters: Arc<RegistrarCounters>,
    packer: Packer,
    paths: Paths,
    /// Where MEMBERS records are written.
    members: Vec<u8>,
    /// What was reported to people, by kind of notice.
    said: [Repeats<u64>; Notice::KINDS],
}

impl Registrar {
    /// A registrar without nodes.
    ///
    /// # Errors
    /// The error is [`RegistrarError::NoShards`] or [`RegistrarError::ShardOutOfRange`] when the shards do not fit the
    /// scale. It is [`RegistrarError::Interval`] or [`RegistrarError::Epoch`] when that is zero. It is
    /// [`RegistrarError::Mtu`] when an MTU is below 576.
    pub fn new(config: RegistrarConfig, now: Time) -> Result<Self, RegistrarError> {
        config.check()?;
        let shards: Vec<_> = config.shards.iter().collect();
        let served = ShardSet::new(config.scale, &shards).expect("the check saw that there are shards, and in range");
        let counters = Arc::new(RegistrarCounters::default());
        counters.generation.set(1);
        Ok(Self {
            secret: CookieSecret::new(config.secret),
            leave: None,
            table: Table::new(served.slaves())?,
            served,
            masters: Vec::with_capacity(config.max_masters),
            forgotten: Forgotten::new(config.accept_v1),
            hearing: Hearing::new(now, config.interval),
            counters,
            packer: Packer::new(),
            paths: Paths::new(),
            members: vec![0; usize::from(config.largest_mtu().max(UNPROVEN_MTU))],
            said: std::array::from_fn(|_| Repeats::new(NAMED)),
            config,
        })
    }

    /// Its counters, for other threads to read.
    pub fn counters(&self) -> &Arc<RegistrarCounters> {
        &self.counters
    }

    /// Its settings from the start, with the present hold and the present MTUs.
    pub fn config(&self) -> &RegistrarConfig {
        &self.config
    }

    /// Sets the hold that nodes are told from their next heartbeat on, in nanoseconds.
    pub fn set_hold(&mut self, hold_ns: u32) {
        self.config.hold_ns = hold_ns;
    }

    /// Takes one datagram of link control, with any number of heartbeats, that came from `from`.
    ///
    /// The answers leave in as few datagrams as possible, for a packet of 1280 bytes. To an address that has not yet
    /// proven that it can receive, the answers are never longer than the request.
    pub fn receive(&mut self, now: Time, from: &Peer, datagram: &[u8], sink: &mut impl Sink) {
        let mut packer = std::mem::take(&mut self.packer);
        for item in Walk::new(datagram, self.config.scale) {
            match item {
                Err(_) => {
                    self.counters.refused_bad_record.add(1);
                    sink.event(RegistrarEvent::Refused { node: None, from: *from, why: "bad_record" });
                }
                Ok((_, record)) => self.take(now, from, &record, datagram.len(), &mut packer, sink),
            }
        }
        packer.flush(from, sink);
        self.packer = packer;
        self.gauge();
    }

    /// Does the work that time brings: declares silent nodes suspect or gone, and tells masters of changes.
    ///
    /// Call it when [`deadline`](Self::deadline) has come, and at least once in two intervals: a longer pause counts as
    /// deafness, in which silence means nothing.
    pub fn advance(&mut self, now: Time, health: Health, sink: &mut impl Sink) {
        self.listen(now, health, sink);
        self.expire_slaves(now, sink);
        self.expire_masters(now, sink);
        self.publish_changes(now, sink);
        self.tell_of_leaving(now, sink);
        self.gauge();
    }

    /// Notes whether the gateway can hear; [`advance`](Self::advance) does the same first. No node is judged.
    pub fn note_health(&mut self, now: Time, health: Health, sink: &mut impl Sink) {
        self.listen(now, health, sink);
    }

    /// When [`advance`](Self::advance) has work; `None` while no node is there.
    pub fn deadline(&self) -> Option<Time> {
        self.silence_deadline().into_iter().chain(self.publish_deadline()).chain(self.leave_deadline()).min()
    }

    fn gauge(&self) {
        self.counters.slaves_here.set(u64::from(self.table.here_len));
        self.counters.slaves_suspect.set(u64::from(self.table.suspect_len));
        self.counters.generation.set(self.table.generation);
        let masters = self.masters.iter().filter(|master| master.presence.is_present());
        self.counters.masters_here.set(masters.count() as u64);
        self.counters.members_old_key.set(self.on_old_key());
        let masters_v1 = self.masters.iter().filter(|master| master.presence.is_present() && master.presence.v1);
        self.counters.members_v1.set(u64::from(self.table.v1_len) + masters_v1.count() as u64);
        self.counters.drain_unheard.set(if self.is_draining() { u64::from(self.unheard()) } else { 0 });
    }

    /// Tells people: the first time at once, then rarely, with the number of repetitions.
    fn notice(&mut self, now: Time, notice: Notice, sink: &mut impl Sink) {
        let (kind, about) = notice.topic();
        if let Some(more) = self.said[kind].hear(now, about) {
            sink.notice(notice, more);
        }
    }
}
