//! A node's announcement of itself to one gateway.
//!
//! A [`Node`] is small, because a farm holds 131,072 of them. Shared settings are in one [`NodeConfig`], which each
//! call gets as an argument. The owner calls [`Node::transmit`] and [`Node::transmit_probe`] when [`Node::deadline`]
//! has come, and hands each HEARTBEAT_ACK to [`Node::handle`]. It calls [`Node::poll_event`] for events that only the
//! passing of time causes.

mod answer;
mod challenge;
mod event;

pub use challenge::ChallengeSecret;
pub use event::{AckRefusal, NodeEvent};

use crate::standing::doubt_after;
use crate::{KeyRing, NodeKey, SILENT_INTERVALS, Standing, datagram_room};
use frame::time::{FOREVER, MILLISECOND, SECOND};
use frame::{Peer, Time};
use wire::link::{Cookie, Heartbeat, NodeId, Role, SpeedClass};
use wire::{Scale, UNPROVEN_MTU};

/// The shortest time between two heartbeats that answer a new cookie at once.
const COOKIE_GAP: u64 = 100 * MILLISECOND;
/// The shortest time between two prompt heartbeats in which a master reports its membership.
const MEMBERS_GAP: u64 = 20 * MILLISECOND;
/// How long a master waits for more MEMBERS datagrams of one burst before it reports its membership.
const MEMBERS_SETTLE: u64 = 2 * MILLISECOND;
/// How many padded heartbeats of each size are tried.
const PROBES_PER_SIZE: u8 = 2;
/// After this many heartbeats without an answer, a node with two keys signs with the other one.
const UNANSWERED: u8 = 2;
/// The size that is tried when packets of the claimed size do not arrive.
const FALLBACK_MTU: u16 = 1500;

/// What all nodes of a process announce, and how they behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The scale; the gateway must have the same.
    pub scale: Scale,
    /// Time between heartbeats, in nanoseconds; the gateway's must be the same.
    pub interval: u64,
    /// How long to wait for an acceptable answer before reporting that there is none, in nanoseconds.
    pub no_answer_after: u64,
    /// Differs after each start of the node: random.
    pub boot_epoch: u64,
    /// The secret from which challenges to gateways are derived: random in each start.
    pub challenges: ChallengeSecret,
    /// Memory that each node lends, in 4 KiB pages.
    pub pages_total: u64,
    /// The part of that memory that nobody has leased, in 4 KiB pages.
    pub pages_free: u64,
    /// Failure domain of the nodes; zero is unknown.
    pub domain: u32,
    /// The speed of their link.
    pub speed_class: SpeedClass,
    /// Virtual CPUs that each node can run.
    pub vcpus: u16,
    /// Largest IP packet that each node can take, in bytes; at least 576.
    pub max_ip_packet: u16,
    /// Answers must go to the node's source port, because a socket or a NAT is behind it.
    pub fixed_port: bool,
}

impl Default for NodeConfig {
    /// The defaults; the boot epoch and the challenge secret are constants.
    fn default() -> Self {
        Self {
            scale: Scale::default(),
            interval: SECOND,
            no_answer_after: 5 * SECOND,
            boot_epoch: 1,
            challenges: ChallengeSecret::new([0; 32]),
            pages_total: 0,
            pages_free: 0,
            domain: 0,
            speed_class: SpeedClass::UNKNOWN,
            vcpus: 0,
            max_ip_packet: FALLBACK_MTU,
            fixed_port: false,
        }
    }
}

/// Boolean facts about a node, in one word because there are many nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u16);

impl Flags {
    const REGISTERED: u16 = 1;
    /// The node was registered at some time.
    const EVER_REGISTERED: u16 = 1 << 1;
    /// Padded heartbeats are still to be sent.
    const PROBING: u16 = 1 << 2;
    /// A padded heartbeat was sent since the last ordinary one.
    const PROBED: u16 = 1 << 3;
    /// The last heartbeat was padded.
    const LAST_PADDED: u16 = 1 << 4;
    const SAID_NO_ANSWER: u16 = 1 << 5;
    const SAID_DUPLICATE: u16 = 1 << 6;
    const SAID_SCALE: u16 = 1 << 7;
    /// The gateway is about to leave.
    const DRAINING: u16 = 1 << 8;
    const SAID_FOREIGN: u16 = 1 << 9;
    const SAID_REFUSED: u16 = 1 << 10;
    /// The last heartbeat carried a cookie.
    const COOKIE_SENT: u16 = 1 << 11;
    /// The last answer did not register the node, because the gateway has just started.
    const FORGOTTEN: u16 = 1 << 12;
    const SAID_COOKIE: u16 = 1 << 13;
    /// An answer to another challenge came since the last acceptable answer.
    const OLD_ANSWER: u16 = 1 << 14;

    /// The gateway sends cargo from the ports of lanes.
    const LANES: u16 = 1 << 15;

    fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u16, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    /// Sets the flag; returns whether it was clear.
    fn first(&mut self, flag: u16) -> bool {
        let first = !self.has(flag);
        self.set(flag, true);
        first
    }
}

/// One identity, announced to one gateway.
#[derive(Clone, Debug)]
pub struct Node {
    keys: KeyRing<NodeKey>,
    id: NodeId,
    gateway: Peer,
    seq: u64,
    challenge: u64,
    cookie: Cookie,
    gateway_epoch: u64,
    members_epoch: u64,
    members_generation: u64,
    /// When the next regular heartbeat is due.
    next: Time,
    /// When an extra heartbeat is due.
    prompt: Time,
    /// When the last extra heartbeat was sent.
    prompted: Time,
    /// When the last acceptable answer came; at first the time of the start.
    heard: Time,
    hold_ns: u32,
    mtu: u16,
    flags: Flags,
    /// Padded heartbeats that were sent since probing began.
    probes: u8,
    /// The number of the key that signs.
    signs: u8,
    /// Heartbeats since the last acceptable answer; the count saturates.
    unanswered: u8,
    /// The time since which the gateway has answered without a break.
    since: Time,
}

const _: () = assert!(size_of::<Node>() <= 224);

impl Node {
    /// A node whose first heartbeat is due at once. With two keys it begins with the older one.
    pub fn new(id: NodeId, keys: impl Into<KeyRing<NodeKey>>, gateway: Peer, config: &NodeConfig, now: Time) -> Self {
        Self {
            keys: keys.into(),
            id,
            gateway,
            seq: 0,
            challenge: config.challenges.challenge(id, &gateway),
            cookie: Cookie::NONE,
            gateway_epoch: 0,
            members_epoch: 0,
            members_generation: 0,
            next: now,
            prompt: FOREVER,
            prompted: now.saturating_sub(COOKIE_GAP),
            heard: now,
            hold_ns: 0,
            mtu: UNPROVEN_MTU,
            flags: Flags::default(),
            probes: 0,
            signs: 0,
            unanswered: 0,
            since: now,
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether this is one of the sources of the gateway's cargo besides the address where it listens. For a slave it
    /// is the port of the slave's own lane; for a master the port of any lane. This holds only if the gateway said that
    /// it sends from lanes.
    pub fn is_lane(&self, from: &Peer) -> bool {
        let is_port = match self.id.role {
            Role::Slave => from.udp_port == wire::lane_port((self.id.id % u32::from(wire::LANES)) as u16),
            Role::Master => wire::is_lane_port(from.udp_port),
        };
        is_port && self.flags.has(Flags::LANES) && from.is_same_origin(&self.gateway, false)
    }

    /// The keys that it has.
    pub fn keys(&self) -> &KeyRing<NodeKey> {
        &self.keys
    }

    /// The key that it signs with.
    pub fn key(&self) -> Option<&NodeKey> {
        self.keys.get(usize::from(self.signs))
    }

    /// The number of the key that it signs with: 0 the older one, 1 the newer one of two.
    pub fn signs(&self) -> usize {
        usize::from(self.signs)
    }

    /// Other keys from the next heartbeat on. The node keeps signing with its present key if that is among them.
    pub fn set_keys(&mut self, keys: KeyRing<NodeKey>) {
        let number = self.key().and_then(|key| keys.number_of(key)).unwrap_or(0);
        (self.keys, self.signs, self.unanswered) = (keys, number as u8, 0);
    }

    /// [`NodeConfig::max_ip_packet`] has changed: padded heartbeats prove the new size if that is needed.
    pub fn probe_again(&mut self, config: &NodeConfig) {
        self.probes = 0;
        self.flags.set(Flags::PROBING, config.max_ip_packet > UNPROVEN_MTU.max(self.mtu));
    }

    /// The gateway to which its datagrams go.
    pub fn gateway(&self) -> &Peer {
        &self.gateway
    }

    /// Whether the gateway has confirmed the registration, and has not fallen silent since.
    pub fn is_registered(&self) -> bool {
        self.flags.has(Flags::REGISTERED)
    }

    /// The standing of the gateway with this node, for the choice among several: see [`standing`](crate::standing).
    pub fn standing(&self, config: &NodeConfig, now: Time) -> Standing {
        if !self.is_registered() {
            Standing::Away
        } else if self.flags.has(Flags::FORGOTTEN) || now >= self.doubt_at(config) {
            Standing::Silent
        } else if self.flags.has(Flags::DRAINING) {
            Standing::Draining
        } else {
            Standing::Live(self.since)
        }
    }

    /// When the gateway falls into doubt if it does not answer before.
    pub fn doubt_at(&self, config: &NodeConfig) -> Time {
        self.heard.saturating_add(doubt_after(config.interval))
    }

    /// The gateway's hold in nanoseconds; zero before it is known.
    pub fn hold_ns(&self) -> u32 {
        self.hold_ns
    }

    /// Largest IP packet that the gateway acknowledged, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The value that the gateway must repeat in every message to this node.
    pub fn challenge(&self) -> u64 {
        self.challenge
    }

    /// Notes that an answer to another challenge came.
    pub(crate) fn heard_old_answer(&mut self) {
        self.flags.set(Flags::OLD_ANSWER, true);
    }

    /// The epoch of the gateway that registered the node; zero before registration.
    pub fn gateway_epoch(&self) -> u64 {
        self.gateway_epoch
    }

    /// When the last acceptable answer came, or the time of the start.
    pub fn last_heard(&self) -> Time {
        self.heard
    }

    /// When [`transmit`](Self::transmit), [`transmit_probe`](Self::transmit_probe) or [`poll_event`](Self::poll_event)
    /// has work. If it has work already, the time is in the past.
    pub fn deadline(&self, config: &NodeConfig) -> Time {
        let silence = if self.is_registered() {
            self.heard.saturating_add(SILENT_INTERVALS * config.interval)
        } else if self.flags.has(Flags::SAID_NO_ANSWER) {
            FOREVER
        } else {
            self.heard.saturating_add(config.no_answer_after)
        };
        self.next.min(self.prompt).min(silence).min(self.probe_at(config))
    }

    /// Whether a heartbeat is due.
    pub fn is_due(&self, now: Time) -> bool {
        now >= self.next.min(self.prompt)
    }

    /// Writes a heartbeat at the start of `out` if one is due, and returns its length: [`Heartbeat::RECORD_LEN`].
    ///
    /// A farm calls it for one node after another, to pack several heartbeats into one datagram to their common
    /// gateway. Returns `None` also when the heartbeat does not fit; it stays due then.
    pub fn transmit(&mut self, config: &NodeConfig, now: Time, out: &mut [u8]) -> Option<usize> {
        if !self.is_due(now) {
            return None;
        }
        let len = self.emit(config, false, 0, out)?;
        self.flags.set(Flags::LAST_PADDED, false);
        self.flags.set(Flags::PROBED, false);
        if now >= self.prompt {
            self.prompt = FOREVER;
            self.prompted = now;
        }
        if now >= self.next {
            // The first heartbeats of a farm leave together, so that it registers at once; the later ones are spread.
            self.next = if self.seq == 1 {
                now + config.interval / 4 + phase(self.id.id, config.interval)
            } else {
                (self.next + config.interval).max(now + config.interval / 2)
            };
        }
        Some(len)
    }

    /// Whether a padded heartbeat is due, to prove a larger MTU.
    pub fn wants_probe(&self, config: &NodeConfig, now: Time) -> bool {
        now >= self.probe_at(config)
    }

    /// Writes a padded heartbeat if one is due, and returns its length. It must be the only record of its datagram.
    ///
    /// It needs room for `max_ip_packet` less the headers. If `out` has less room, the try is counted all the same.
    pub fn transmit_probe(&mut self, config: &NodeConfig, now: Time, out: &mut [u8]) -> Option<usize> {
        if !self.wants_probe(config, now) {
            return None;
        }
        let mtu = if self.probes < PROBES_PER_SIZE { config.max_ip_packet } else { FALLBACK_MTU };
        self.probes += 1;
        self.flags.set(Flags::PROBED, true);
        let len = self.emit(config, true, datagram_room(&self.gateway, mtu), out)?;
        self.flags.set(Flags::LAST_PADDED, true);
        Some(len)
    }

    /// The events that only the passing of time causes, each once per silence: [`NodeEvent::Lost`], and
    /// [`NodeEvent::NoAnswer`] or [`NodeEvent::OldAnswers`].
    pub fn poll_event(&mut self, config: &NodeConfig, now: Time) -> Option<NodeEvent> {
        let silent = now.saturating_sub(self.heard);
        if self.is_registered() {
            if silent < SILENT_INTERVALS * config.interval {
                return None;
            }
            self.flags.set(Flags::REGISTERED, false);
            return Some(NodeEvent::Lost);
        }
        let event = if self.flags.has(Flags::OLD_ANSWER) { NodeEvent::OldAnswers } else { NodeEvent::NoAnswer };
        (silent >= config.no_answer_after && self.flags.first(Flags::SAID_NO_ANSWER)).then_some(event)
    }

    /// The gateway drains: confirms promptly that this node has heard it.
    fn say_left(&mut self, now: Time) {
        self.prompt = self.prompt.min(now.max(self.prompted + MEMBERS_GAP));
    }

    /// For a master: sets the membership that the next heartbeats report, and sends one promptly.
    pub(crate) fn set_membership(&mut self, now: Time, epoch: u64, generation: u64) {
        self.members_epoch = epoch;
        self.members_generation = generation;
        self.prompt = self.prompt.min((now + MEMBERS_SETTLE).max(self.prompted + MEMBERS_GAP));
    }

    /// When the next padded heartbeat is due: the first one at once, later ones in the middle between two regular
    /// heartbeats.
    fn probe_at(&self, config: &NodeConfig) -> Time {
        if !self.is_registered()
            || !self.flags.has(Flags::PROBING)
            || self.flags.has(Flags::PROBED)
            || self.probes >= most_probes(config)
        {
            FOREVER
        } else if self.probes == 0 {
            0
        } else {
            self.next.saturating_sub(config.interval / 2)
        }
    }

    /// A node with two keys that gets no answer tries the other key: the gateway may have only that one.
    fn pick_key(&mut self) {
        if self.keys.len() > 1 && self.unanswered >= UNANSWERED {
            (self.signs, self.unanswered) = (1 - self.signs, 0);
        }
    }

    fn emit(&mut self, config: &NodeConfig, padded: bool, pad_to: usize, out: &mut [u8]) -> Option<usize> {
        let heartbeat = Heartbeat {
            node: self.id,
            fixed_port: config.fixed_port,
            padded,
            left: self.flags.has(Flags::DRAINING),
            boot_epoch: config.boot_epoch,
            seq: self.seq + 1,
            challenge: self.challenge,
            cookie: self.cookie,
            members_generation: self.members_generation,
            members_epoch: self.members_epoch,
            pages_total: config.pages_total,
            pages_free: config.pages_free,
            domain: config.domain,
            vcpus: config.vcpus,
            max_ip_packet: config.max_ip_packet,
            speed_class: config.speed_class,
        };
        self.pick_key();
        let len = heartbeat.emit_padded(self.key().map(NodeKey::as_bytes), pad_to, out)?;
        self.seq += 1;
        self.unanswered = self.unanswered.saturating_add(1);
        self.flags.set(Flags::COOKIE_SENT, !self.cookie.is_none());
        Some(len)
    }
}

/// The most padded heartbeats that are tried.
fn most_probes(config: &NodeConfig) -> u8 {
    if config.max_ip_packet > FALLBACK_MTU { 2 * PROBES_PER_SIZE } else { PROBES_PER_SIZE }
}

/// Where in the interval a node's heartbeats fall: consecutive ids spread evenly (Fibonacci hashing).
fn phase(id: u32, interval: u64) -> u64 {
    let fraction = u64::from(id.wrapping_mul(0x9E37_79B9));
    ((u128::from(interval) * u128::from(fraction)) >> 32) as u64
}
