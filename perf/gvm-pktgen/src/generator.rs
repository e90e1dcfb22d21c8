//! The generator: a master that registers, sends ECHO or PATTERN, and checks what comes up.

use crate::check::{Checker, Targets};
use crate::counters::{Counters, Phase};
use crate::distribution::{Distribution, Picker};
use crate::histogram::Histogram;
use crate::known::Known;
use crate::pack::{Packer, Route};
use crate::size::{Dealer, Sizes};
use crate::uplink::Uplink;
use frame::time::{MICROSECOND, SECOND};
use frame::{Burst, Datagram, Outbox, Peer, PortId, Role, Time};
use link::standing::choose;
use link::{Credential, NodeConfig, NodeEvent, SILENT_INTERVALS, Standing};
use slave::pace::Pacer;
use std::num::NonZeroU16;
use std::sync::Arc;
use wire::link::NodeId;
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, IPV4_UDP_LEN, MsgType, Record, Scale, Shard, Walk, echo};

/// Records that one poll makes at most.
const PER_POLL: u32 = 512;
/// Datagrams that wait for a port before no more are made.
const BACKLOG: usize = 128;
/// How long sending that was held back waits before it tries again.
const RETRY: u64 = 50 * MICROSECOND;
/// How many times in a heartbeat interval the generator checks which of several gateways are live.
const LOOKS: u64 = 64;
/// The phase of stragglers is over when nothing has come for this long.
const QUIET: u64 = SECOND;
/// The phase of stragglers is over after this time in any case, because slaves may send on their own for ever.
const STRAGGLERS: u64 = 10 * SECOND;

/// What is sent downward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// ECHO: each is answered, and measured.
    Echo,
    /// PATTERN: the slaves check it and count.
    Pattern,
    /// Nothing: only what comes up is checked.
    Nothing,
}

/// How records get to the slaves.
#[derive(Clone, Debug)]
pub enum Via {
    /// Through gateways, as a registered master.
    Gateways {
        /// Where they listen.
        gateways: Vec<Peer>,
        /// What is announced; its scale is the run's.
        node: NodeConfig,
        /// The keys with which it signs.
        credential: Credential,
    },
    /// Straight to one farm that answers any source.
    Direct {
        /// Where it listens.
        farm: Peer,
        /// Largest IP packet to it, in bytes.
        mtu: u16,
        /// The scale of the ids.
        scale: Scale,
    },
}

/// One run.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// The slaves that are asked.
    pub targets: Targets,
    /// The master's id.
    pub master: u16,
    /// Tells this run from others: the low 48 bits of the request id.
    pub run: u64,
    /// How records get to the slaves.
    pub via: Via,
    /// What is sent.
    pub down: Down,
    /// How large.
    pub sizes: Sizes,
    /// Which slave is next.
    pub distribution: Distribution,
    /// Seed of the distribution.
    pub seed: u64,
    /// Records a second; `None` is flat out.
    pub rate: Option<u64>,
    /// ECHOs that may be unanswered at once; `None` sends blindly.
    pub window: Option<u64>,
    /// After this time without an answer, in nanoseconds, a full window counts as lost.
    pub window_timeout: u64,
    /// The most records that share a datagram; `None`: as many as fit.
    pub pack: Option<NonZeroU16>,
    /// How long to send, in nanoseconds.
    pub duration: u64,
    /// Send only this many records.
    pub records: Option<u64>,
    /// This many of the slaves must be known before sending begins; ignored without gateways.
    pub expect_members: u32,
}

/// Commands of other threads to a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratorCommand {
    /// Send nothing more; the run's result is what there is. Then the lcore ends.
    Drain,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The gateway.
    pub gateway: Peer,
    /// What happened between it and us.
    pub event: NodeEvent,
}

/// Where events go.
pub type EventSink = Box<dyn FnMut(Event) + Send>;

/// The role.
pub struct Generator {
    config: GeneratorConfig,
    scale: Scale,
    uplinks: Vec<Uplink>,
    known: Known,
    /// When to check again which uplink serves which shard: gateways fall silent without a message.
    choose_at: Time,
    checker: Checker,
    picker: Picker,
    dealer: Dealer,
    packer: Packer,
    pacer: Pacer,
    sequences: Vec<u64>,
    /// A record that is still owed to a slave: its target, payload, and how many more of it.
    pending: Option<(u32, usize, u32)>,
    phase: Phase,
    began: Time,
    given_up: u64,
    /// The last answer of this run, or the last time that the window moved for another reason.
    answered: Time,
    /// The last cargo of any kind.
    heard: Time,
    retry_at: Time,
    draining: bool,
    counters: Arc<Counters>,
    latency: Arc<Histogram>,
    sink: EventSink,
}

impl Generator {
    /// A generator that registers at once, and begins to send as soon as it can.
    pub fn new(config: GeneratorConfig, now: Time, sink: impl FnMut(Event) + Send + 'static) -> Self {
        let (counters, latency) = (Arc::new(Counters::default()), Arc::new(Histogram::default()));
        let targets = Targets { count: config.targets.count.max(1), ..config.targets };
        let (scale, uplinks) = match &config.via {
            Via::Direct { scale, .. } => (*scale, Vec::new()),
            Via::Gateways { gateways, node, credential } => {
                let keys = credential.node_keys(NodeId::master(config.master));
                let uplink = |gateway: &Peer| Uplink::new(config.master, keys.clone(), *gateway, node, now);
                (node.scale, gateways.iter().map(uplink).collect())
            }
        };
        let request = req_id(config.master, config.run);
        let need = match config.sizes {
            Sizes::Fixed(payload) if config.down != Down::Nothing => payload + HEADER_LEN + usize::from(IPV4_UDP_LEN),
            _ => 0,
        };
        let need = u16::try_from(need).unwrap_or(u16::MAX);
        let mut generator = Self {
            scale,
            known: Known::new(targets, scale, uplinks.len(), need),
            uplinks,
            choose_at: 0,
            checker: Checker::new(targets, request, Arc::clone(&counters), Arc::clone(&latency)),
            picker: Picker::new(config.distribution, targets.count, config.seed),
            dealer: Dealer::new(config.sizes),
            packer: Packer::new(config.pack),
            pacer: Pacer::new(Some(0), now),
            sequences: vec![0; targets.count as usize],
            pending: None,
            phase: Phase::Waiting,
            began: now,
            given_up: 0,
            answered: now,
            heard: now,
            retry_at: 0,
            draining: false,
            counters,
            latency,
            sink: Box::new(sink),
            config: GeneratorConfig { targets, ..config },
        };
        generator.gauge(now);
        generator
    }

    /// The counters, for other threads to read.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The round trips of ECHO in nanoseconds, for other threads to read.
    pub fn latency(&self) -> &Arc<Histogram> {
        &self.latency
    }

    /// Where the run is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The shards of the slaves asked.
    fn shards(&self) -> std::ops::RangeInclusive<u32> {
        let Targets { first, count } = self.config.targets;
        let shard = |id: u32| id >> self.scale.gw_bits();
        shard(first)..=shard(first + (count - 1))
    }

    /// Which uplink each shard's cargo goes to: the first live one, in the order given, that serves it.
    fn choose_uplinks(&mut self, now: Time) {
        let Via::Gateways { node, .. } = &self.config.via else { return };
        for shard in 0..self.scale.shards() {
            let standing = |uplink: &Uplink| match uplink.shards().contains(Shard(shard)) {
                true => uplink.standing(node, now),
                false => Standing::Away,
            };
            // Before the first record nothing is in use.
            let used = self.known.uplink(shard).filter(|_| self.phase != Phase::Waiting);
            let chosen = choose(now, node.interval, used, self.uplinks.iter().map(standing));
            let was = self.known.serve(shard, chosen);
            if was.is_some() && chosen.is_some() && was != chosen && self.phase != Phase::Waiting {
                self.counters.shard_moves.add(1);
            }
        }
        if self.uplinks.len() > 1 {
            self.choose_at = now + node.interval / LOOKS;
        } else {
            self.choose_at = Time::MAX;
        }
    }

    /// Counts which shards are served, and what the routes allow. Called after any change.
    fn gauge(&mut self, now: Time) {
        self.choose_uplinks(now);
        let counters = &self.counters;
        self.gauge_known();
        if let Via::Direct { mtu, .. } = self.config.via {
            counters.route_mtu.set(u64::from(mtu));
            return;
        }
        let registered = self.uplinks.iter().filter(|uplink| uplink.is_registered());
        counters.gateways_registered.set(registered.clone().count() as u64);
        counters.route_mtu.set(registered.map(|uplink| u64::from(uplink.mtu())).min().unwrap_or(0));
        let missing = self.shards().filter(|&shard| self.known.uplink(shard).is_none());
        counters.shards_missing.set(missing.count() as u64);
    }

    fn gauge_known(&self) {
        self.counters.members_known.set(u64::from(self.known.count()));
        self.counters.members_too_small.set(u64::from(self.known.count() - self.known.fit()));
    }

    /// The way to a slave, and the room that a frame of ours has.
    #[inline]
    fn route(&self, id: u32, out: &Outbox) -> Option<Route> {
        let frame = out.pool().payload_room() as usize;
        let shard = Shard(id >> self.scale.gw_bits());
        let (peer, mtu) = match &self.config.via {
            Via::Direct { farm, mtu, .. } => (*farm, *mtu),
            Via::Gateways { .. } => {
                let uplink = self.uplinks.get(self.known.uplink(shard.0)?)?;
                (*uplink.gateway(), uplink.mtu())
            }
        };
        Some(Route { shard, peer, room: link::datagram_room(&peer, mtu).min(frame) })
    }

    /// Whether sending may begin.
    fn is_ready(&self, now: Time, out: &Outbox) -> bool {
        let counters = &self.counters;
        let there = match &self.config.via {
            Via::Direct { .. } => true,
            Via::Gateways { gateways, node, .. } => {
                // The generator does not wait for a gateway that does not run, if others serve the requested slaves.
                let all = counters.gateways_registered.get() == gateways.len() as u64;
                (all || now.saturating_sub(self.began) >= SILENT_INTERVALS * node.interval)
                    && counters.shards_missing.get() == 0
                    && self.known.fit() >= self.config.expect_members
            }
        };
        let fits = |payload: usize| {
            let first_of = |shard: u32| shard << self.scale.gw_bits();
            self.shards()
                .all(|shard| self.route(first_of(shard), out).is_some_and(|route| route.room >= HEADER_LEN + payload))
        };
        there
            && match (self.config.down, self.config.sizes) {
                (Down::Nothing, _) => true,
                (_, Sizes::Fixed(payload)) => fits(payload),
                (_, Sizes::Imix | Sizes::Page) => fits(echo::MIN_LEN),
            }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.counters.phase.set(phase as u64);
    }

    /// How many records the window lets out.
    fn window(&mut self, now: Time) -> u64 {
        let (Some(window), Down::Echo) = (self.config.window, self.config.down) else { return u64::MAX };
        let waiting = self.counters.sent_records.get().saturating_sub(self.counters.answered() + self.given_up);
        if waiting < window {
            return window - waiting;
        }
        if now.saturating_sub(self.answered) < self.config.window_timeout {
            return 0;
        }
        self.given_up += waiting;
        self.counters.window_given_up.add(waiting);
        self.answered = now;
        window
    }

    /// Makes the records that are due.
    fn send(&mut self, now: Time, out: &mut Outbox) {
        let msg_type = match self.config.down {
            Down::Echo => MsgType::ECHO,
            Down::Pattern => MsgType::PATTERN,
            Down::Nothing => return,
        };
        let left = self.config.records.map_or(u64::MAX, |all| all.saturating_sub(self.counters.sent_records.get()));
        let due = self.pacer.due(now, PER_POLL);
        let most = u64::from(due).min(left).min(self.window(now)) as u32;
        let mut done = 0;
        while done < most && self.send_one(now, msg_type, out) {
            done += 1;
        }
        let counters = Arc::clone(&self.counters);
        self.packer.flush(&counters, out);
        self.pacer.done(done);
        if done < due {
            self.retry_at = now + RETRY;
        }
        if done > 0 {
            counters.sending_ns.set(now - self.began);
        }
    }

    /// Makes one record; `false` when it has to wait.
    fn send_one(&mut self, now: Time, msg_type: MsgType, out: &mut Outbox) -> bool {
        let target = match self.pending {
            Some((target, ..)) => target,
            None => self.picker.pick(),
        };
        let id = self.config.targets.first + target;
        let Some(route) = self.route(id, out) else { return self.hold(target) };
        // A record must fit the path to the slave, too; the datagram must fit only the path to the gateway.
        let room = match self.config.via {
            Via::Direct { .. } => route.room,
            Via::Gateways { .. } => route.room.min(link::datagram_room(&route.peer, self.known.mtu(target))),
        };
        let dealt = match self.pending.take() {
            Some((_, payload, more)) if more > 0 && payload + HEADER_LEN <= room => Some((payload, more)),
            _ => self.dealer.deal(room.saturating_sub(HEADER_LEN)),
        };
        // The MTU has shrunk below the requested size: wait until it grows again.
        let Some((payload, more)) = dealt else { return self.hold(target) };
        let sequence = self.sequences.get(target as usize).copied().unwrap_or(0);
        let header = RecordHeader::new(msg_type, id, req_id(self.config.master, self.config.run), payload as u32);
        let stamped = echo::EchoHeader::new(now, sequence);
        if out.backlog(route.peer.port) >= BACKLOG || !self.packer.push(&route, &header, &stamped, &self.counters, out)
        {
            if out.backlog(route.peer.port) < BACKLOG {
                self.counters.no_frame.add(1);
            }
            self.pending = Some((target, payload, more));
            return false;
        }
        if let Some(next) = self.sequences.get_mut(target as usize) {
            *next += 1;
        }
        self.pending = (more > 1).then_some((target, payload, more - 1));
        true
    }

    /// The record to this slave is made later, and its size is chosen then.
    fn hold(&mut self, target: u32) -> bool {
        self.pending = Some((target, 0, 0));
        false
    }

    fn take(&mut self, now: Time, datagram: &Datagram) {
        self.counters.datagrams_in.add(1);
        let from = &datagram.peer;
        let exact = self.uplinks.iter().position(|uplink| uplink.gateway().address() == from.address());
        let at = exact.or_else(|| self.uplinks.iter().position(|uplink| uplink.is_source(from)));
        let is_farm = match &self.config.via {
            Via::Direct { farm, .. } => from.is_same_origin(farm, true),
            Via::Gateways { .. } => false,
        };
        let expected = at.is_some() || is_farm;
        let cargo = self.counters.cargo_in();
        for item in Walk::new(datagram.frame.data(), self.scale) {
            self.counters.records_in.add(1);
            match item {
                Ok(_) if !expected => self.counters.refused_source.add(1),
                Err(_) => self.counters.dropped_bad.add(1),
                Ok((_, record)) if record.header().msg_type().is_link_control() => {
                    self.counters.link_consumed.add(1);
                    self.take_link(now, at, from, &record);
                }
                Ok((id, record)) => {
                    self.heard = now;
                    if self.checker.check(now, id, &record) {
                        self.answered = now;
                    }
                }
            }
        }
        if self.counters.cargo_in() != cargo {
            self.counters.cargo_datagrams_in.add(1);
        }
    }

    fn take_link(&mut self, now: Time, at: Option<usize>, from: &Peer, record: &Record<'_>) {
        let Via::Gateways { node, .. } = &self.config.via else { return self.counters.link_refused.add(1) };
        let Some(at) = at else { return };
        let Some(uplink) = self.uplinks.get_mut(at) else { return };
        let (mtu, was) = (uplink.mtu(), uplink.is_registered());
        let event = uplink.receive(node, now, from, record, &self.counters, |member| self.known.note(at, member));
        let gateway = *uplink.gateway();
        let changed = (mtu, was) != (uplink.mtu(), uplink.is_registered());
        if changed || event.is_some() {
            self.gauge(now);
        } else {
            self.gauge_known();
        }
        if let Some(event) = event {
            (self.sink)(Event { gateway, event });
        }
    }

    fn advance_links(&mut self, now: Time, out: &mut Outbox) {
        let Via::Gateways { node, .. } = &self.config.via else { return };
        let mut told = false;
        for (at, uplink) in self.uplinks.iter_mut().enumerate() {
            if now < uplink.deadline(node) {
                continue;
            }
            if let Some(event) = uplink.advance(node, now, |member| self.known.note(at, member), out) {
                (self.sink)(Event { gateway: *uplink.gateway(), event });
                told = true;
            }
        }
        if told || now >= self.choose_at {
            self.gauge(now);
        }
    }

    /// When the present phase ends by time alone.
    fn phase_end(&self) -> Option<Time> {
        match self.phase {
            Phase::Waiting | Phase::Done => None,
            Phase::Sending => Some(self.began.saturating_add(self.config.duration)),
            Phase::Stragglers => {
                // `began` is when the phase began.
                Some(self.heard.max(self.began).saturating_add(QUIET).min(self.began.saturating_add(STRAGGLERS)))
            }
        }
    }
}

impl Role for Generator {
    type Command = GeneratorCommand;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, _out: &mut Outbox) {
        for datagram in burst.drain() {
            self.take(now, &datagram);
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        self.advance_links(now, out);
        if self.phase == Phase::Waiting && self.is_ready(now, out) {
            self.pacer = Pacer::new(self.config.rate, now);
            (self.began, self.answered, self.heard) = (now, now, now);
            self.enter(Phase::Sending);
        }
        let over = self.phase_end().is_some_and(|end| now >= end);
        if self.phase == Phase::Sending {
            if !over {
                self.send(now, out);
            }
            let all_sent = self.config.records.is_some_and(|all| self.counters.sent_records.get() >= all);
            if over || all_sent {
                self.began = now;
                self.enter(Phase::Stragglers);
            }
        } else if self.phase == Phase::Stragglers && over {
            self.enter(Phase::Done);
        }
    }

    fn deadline(&self) -> Option<Time> {
        let links = match &self.config.via {
            Via::Gateways { node, .. } => {
                self.uplinks.iter().map(|uplink| uplink.deadline(node)).chain([self.choose_at]).min()
            }
            Via::Direct { .. } => None,
        };
        let sends = self.phase == Phase::Sending && self.config.down != Down::Nothing;
        let sending = if sends { self.pacer.deadline().map(|due| due.max(self.retry_at)) } else { None };
        links.into_iter().chain(sending).chain(self.phase_end()).min()
    }

    fn command(&mut self, _now: Time, command: GeneratorCommand, _out: &mut Outbox) {
        match command {
            GeneratorCommand::Drain => {
                self.draining = true;
                self.enter(Phase::Done);
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.draining
    }

    fn frames_held(&self) -> usize {
        // Datagrams that are being filled leave in the poll that began them.
        0
    }
}
