//! One poll of an lcore: mailbox, receive, advance, transmit. The same in a thread and in a simulator.

use crate::counters::{LcoreCounters, PoolCounters};
use crate::mail::ControlSender;
use crate::mailbox::Receiver;
use crate::pulse::{Pulse, Stage};
use crate::tap::{ActiveTap, TapSlot};
use frame::{BURST, Burst, Outbox, Pool, Precedence, Role, Time};
use port::Port;
use std::sync::Arc;

/// The most commands that one poll takes, so that a flood of them does not starve the ports.
pub const COMMANDS_PER_POLL: usize = 64;

/// Datagrams that may wait for one port's TX ring before the lcore stops receiving, unless its role sheds
/// ([`Role::SHEDS`]).
pub const TX_BACKLOG: usize = 1024;

/// Empty polls in a row before a drained lcore may end. One is not enough: while the pool is empty until the devices
/// complete their sends, a poll receives nothing although packets wait.
pub const QUIET_POLLS: u32 = 8;

/// Polls between two updates of the values that an lcore does not count continuously, but others read.
const PUBLISH_EVERY: u64 = 256;

/// The result of one poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Datagrams received.
    pub received: usize,
    /// Datagrams that left an outbox queue.
    pub sent: usize,
    /// Commands that the role took.
    pub commands: usize,
}

impl Polled {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where all frames of an lcore are. See [`Conservation::holds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conservation {
    /// Frames in all.
    pub capacity: usize,
    /// Free ones.
    pub free: usize,
    /// Those that the ports and their devices hold.
    pub ports: usize,
    /// Those that wait in the outbox.
    pub outbox: usize,
    /// Those that the role holds.
    pub role: usize,
}

impl Conservation {
    /// `capacity = free + ports + outbox + role`: it holds between any two polls, or a frame was lost.
    pub fn holds(&self) -> bool {
        self.capacity == self.free + self.ports + self.outbox + self.role
    }
}

/// Why nothing is received.
#[derive(Clone, Copy)]
enum Pause {
    /// [`Lcore::stop_receiving`].
    Told,
    /// Too many datagrams wait for a TX ring, and the role drops none by itself.
    Backlog,
    /// Datagrams wait for a TX ring and the pool is nearly empty.
    Pool,
}

/// One role with its ports, its frames and its mailbox.
pub struct Lcore<R: Role, P: Port> {
    index: u16,
    role: R,
    ports: Vec<P>,
    outbox: Outbox,
    burst: Burst,
    mailbox: Receiver<R::Command>,
    registrar: Option<ControlSender>,
    counters: Arc<LcoreCounters>,
    pool_counters: Arc<PoolCounters>,
    pulse: Arc<Pulse>,
    /// Free frames below which a TX backlog pauses receiving.
    pool_low: u32,
    receiving: bool,
    /// Each look of any port for packets is a system call.
    asks_the_kernel: bool,
    last: Option<(Time, Polled)>,
    /// Empty polls in a row, with nothing waiting for a TX ring.
    quiet: u32,
    tap: Option<Box<ActiveTap>>,
    tap_slot: Arc<TapSlot>,
}

impl<R: Role, P: Port> Lcore<R, P> {
    /// Makes an lcore. `index` counts the process's lcores from 0. Link control goes to `registrar`; without one it is
    /// dropped and counted.
    ///
    /// # Panics
    /// If the ports' ids are not 0, 1, 2, ... in this order: every lcore has a queue of every port of the process.
    pub fn new(
        index: u16,
        role: R,
        ports: Vec<P>,
        pool: Pool,
        mailbox: Receiver<R::Command>,
        registrar: Option<ControlSender>,
    ) -> Self {
        assert!(ports.iter().enumerate().all(|(i, port)| usize::from(port.id().0) == i), "ports are numbered from 0");
        let capacity = pool.capacity();
        let asks_the_kernel = !ports.is_empty() && ports.iter().all(Port::asks_the_kernel);
        Self {
            index,
            role,
            outbox: Outbox::new(pool, ports.len()),
            ports,
            burst: Burst::new(),
            mailbox,
            registrar,
            counters: Arc::default(),
            pool_counters: Arc::default(),
            pulse: Arc::default(),
            // The default reserve of a pool, and a burst on top of it.
            pool_low: (capacity / 4).min(256) + (capacity / 8).min(BURST as u32),
            receiving: true,
            asks_the_kernel,
            last: None,
            quiet: 0,
            tap: None,
            tap_slot: Arc::default(),
        }
    }

    /// Does all work of the time `now`, once. `now` never goes backwards.
    #[inline]
    pub fn poll_once(&mut self, now: Time) -> Polled {
        self.begin(now);
        let mut polled = Polled { commands: self.take_commands(now), ..Polled::default() };
        match self.pause() {
            None => polled.received = self.receive(now),
            Some(Pause::Told) => {}
            Some(Pause::Backlog) => self.counters.rx_paused_backlog.add(1),
            Some(Pause::Pool) => self.counters.rx_paused_pool.add(1),
        }
        self.pulse.enter(Stage::Advance);
        self.role.advance(now, &mut self.outbox);
        polled.sent = self.transmit(now);
        self.pulse.enter(Stage::Control);
        if self.outbox.has_control() {
            self.forward_control();
        }
        self.end(now, polled);
        polled
    }

    fn begin(&mut self, now: Time) {
        self.pulse.beat();
        self.counters.polls.add(1);
        if self.tap.is_some() || self.tap_slot.has_tap() {
            self.change_tap();
        }
        // The time of a poll is known when the next one begins: this needs one clock reading per poll.
        if let Some((began, polled)) = self.last
            && !polled.is_empty()
        {
            self.counters.busy_ns.add(now.saturating_sub(began));
        }
    }

    /// Takes over a new tap, or removes one that nobody watches.
    #[cold]
    fn change_tap(&mut self) {
        if self.tap_slot.has_tap()
            && let Some(tap) = self.tap_slot.take()
        {
            self.tap = Some(Box::new(ActiveTap::new(tap)));
        }
        self.tap.take_if(|tap| tap.is_unwatched());
    }

    fn end(&mut self, now: Time, polled: Polled) {
        self.pulse.enter(Stage::Waiting);
        self.last = Some((now, polled));
        self.quiet = if polled.is_empty() && self.tx_waiting() == 0 { self.quiet.saturating_add(1) } else { 0 };
        if polled.is_empty() {
            self.counters.empty_polls.add(1);
        }
        if self.counters.polls.get().is_multiple_of(PUBLISH_EVERY) {
            self.publish();
        }
    }

    fn take_commands(&mut self, now: Time) -> usize {
        self.pulse.enter(Stage::Mailbox);
        let mut taken = 0;
        while taken < COMMANDS_PER_POLL
            && let Some(command) = self.mailbox.try_recv()
        {
            self.role.command(now, command, &mut self.outbox);
            taken += 1;
        }
        self.counters.commands.add(taken as u64);
        taken
    }

    /// Backpressure: an lcore must not receive what it cannot send. Otherwise the pool runs empty, and records are lost
    /// here instead of waiting in the NIC. A role that chooses what to drop keeps receiving: link control arrives
    /// together with the cargo, and a full NIC drops without a choice.
    ///
    /// If the pool is low while nothing waits for a TX ring, the role must free frames; it does so when it is called.
    fn pause(&self) -> Option<Pause> {
        if !self.receiving {
            Some(Pause::Told)
        } else if !R::SHEDS && self.ports.iter().any(|port| self.outbox.backlog(port.id()) > TX_BACKLOG) {
            Some(Pause::Backlog)
        } else if self.outbox.pool().free() < self.pool_low && self.tx_waiting() > 0 {
            Some(Pause::Pool)
        } else {
            None
        }
    }

    fn receive(&mut self, now: Time) -> usize {
        let mut received = 0;
        for port in &mut self.ports {
            let id = port.id();
            self.pulse.enter(Stage::Rx(id));
            let len = port.rx_burst(now, &mut self.burst);
            debug_assert_eq!(len, self.burst.len(), "a port reports what it put into an empty burst");
            if len == 0 {
                continue;
            }
            self.counters.count_burst(len);
            received += len;
            if let Some(tap) = &mut self.tap {
                tap.received(now, id, &self.burst);
            }
            self.pulse.enter(Stage::Receive(id));
            self.role.receive(now, id, &mut self.burst, &mut self.outbox);
            debug_assert!(self.burst.is_empty(), "a role takes the whole burst");
            self.burst.clear();
        }
        received
    }

    fn transmit(&mut self, now: Time) -> usize {
        let mut sent = 0;
        for port in &mut self.ports {
            let id = port.id();
            self.pulse.enter(Stage::Tx(id));
            if let Some(queue) = self.outbox.queue(id)
                && !queue.is_empty()
            {
                self.counters.tx_backlog_high_water.raise(queue.backlog() as u64);
                sent += match &mut self.tap {
                    None => port.tx_burst(now, queue),
                    Some(tap) => tap.transmit(now, port, queue),
                };
                queue.rewind();
            }
            port.housekeep(now);
        }
        self.counters.tx_datagrams.add(sent as u64);
        sent
    }

    /// Passes link control to the registrar, each precedence separately. A full mailbox delays it; the registrar
    /// catches up, or nodes try again.
    fn forward_control(&mut self) {
        let mut is_delayed = false;
        for precedence in Precedence::ALL {
            while let Some(datagram) = self.outbox.next_control(precedence) {
                match &self.registrar {
                    Some(registrar) if !registrar.is_closed() => {
                        if !registrar.try_send(self.index, precedence, &datagram) {
                            self.outbox.unget_control(precedence, datagram);
                            is_delayed = true;
                            break;
                        }
                        self.counters.control_datagrams.add(1);
                    }
                    _ => self.counters.control_dropped_no_registrar.add(1),
                }
            }
        }
        if is_delayed {
            self.counters.control_delayed.add(1);
        }
    }

    /// Refreshes the gauges that others read.
    pub fn publish(&self) {
        let at = self.conservation();
        let gauges = &self.pool_counters;
        gauges.frames_capacity.set(at.capacity as u64);
        gauges.frames_free.set(at.free as u64);
        gauges.frames_in_ports.set(at.ports as u64);
        gauges.frames_in_outbox.set(at.outbox as u64);
        gauges.frames_in_role.set(at.role as u64);
        gauges.frames_high_water.set(u64::from(self.outbox.pool().high_water()));
        self.counters.rx_lost.set(self.ports.iter().map(Port::rx_lost).sum());
    }

    /// Where all frames are.
    pub fn conservation(&self) -> Conservation {
        Conservation {
            capacity: self.outbox.pool().capacity() as usize,
            free: self.outbox.pool().free() as usize,
            ports: self.ports.iter().map(Port::frames_held).sum(),
            outbox: self.outbox.frames(),
            role: self.role.frames_held(),
        }
    }

    /// Whether the lcore may end: the role was told to drain and holds nothing, nothing waits to be sent, and nothing
    /// happened in the last [`QUIET_POLLS`].
    pub fn is_idle_and_drained(&self) -> bool {
        self.role.is_drained() && self.outbox.is_empty() && self.mailbox.is_empty() && self.quiet >= QUIET_POLLS
    }

    /// From now on nothing is received; held records still leave. For a drain that must end under load.
    pub fn stop_receiving(&mut self) {
        self.receiving = false;
    }

    /// When the lcore must be polled at the latest; `None` when only a packet or a message can give it work.
    pub fn deadline(&self) -> Option<Time> {
        self.ports.iter().filter_map(P::deadline).chain(self.role.deadline()).min()
    }

    /// For how long the lcore may stay away although packets come; 0 unless a look for them is expensive.
    #[inline]
    pub(crate) fn may_stay_away(&self) -> u64 {
        if !self.asks_the_kernel || !self.receiving || self.role.is_drained() { 0 } else { self.role.may_stay_away() }
    }

    /// Whether a poll with this result took everything that had come, and nothing waits to be sent.
    pub(crate) fn has_caught_up(&self, polled: Polled) -> bool {
        polled.received < BURST
            && polled.commands == 0
            && self.tx_waiting() == 0
            && !self.outbox.has_control()
            && !self.ports.iter().any(Port::has_received)
    }

    /// The time of the last poll.
    #[inline]
    pub(crate) fn polled_at(&self) -> Time {
        self.last.map_or(0, |(began, _)| began)
    }

    /// The lcore was away for this time since its last poll. That time is not part of the poll's duration.
    pub(crate) fn was_away(&mut self, ns: u64) {
        if let Some((began, _)) = &mut self.last {
            *began = began.saturating_add(ns);
        }
    }

    /// Its place among the process's lcores.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The role.
    pub fn role(&self) -> &R {
        &self.role
    }

    /// The role, for changes between polls (a simulator's node that acts by itself).
    pub fn role_mut(&mut self) -> &mut R {
        &mut self.role
    }

    /// The ports.
    pub fn ports(&self) -> &[P] {
        &self.ports
    }

    /// The ports, for changes between polls.
    pub fn ports_mut(&mut self) -> &mut [P] {
        &mut self.ports
    }

    /// The outbox, with the pool.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The mailbox, for a thread that sleeps on it.
    pub fn mailbox_mut(&mut self) -> &mut Receiver<R::Command> {
        &mut self.mailbox
    }

    /// The mailbox.
    pub fn mailbox(&self) -> &Receiver<R::Command> {
        &self.mailbox
    }

    /// The poll loop's counters.
    pub fn counters(&self) -> &Arc<LcoreCounters> {
        &self.counters
    }

    /// The gauges of the pool.
    pub fn pool_counters(&self) -> &Arc<PoolCounters> {
        &self.pool_counters
    }

    /// The pulse that the watchdog checks.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// The place for a new tap.
    pub fn tap_slot(&self) -> &Arc<TapSlot> {
        &self.tap_slot
    }

    /// Datagrams that wait for a port or for a slow destination.
    fn tx_waiting(&self) -> usize {
        self.ports.iter().map(|port| self.outbox.waiting(port.id())).sum()
    }

    /// Whether link control waits for room in the registrar's mailbox.
    pub(crate) fn control_waits(&self) -> bool {
        self.outbox.has_control()
    }

    /// Whether nothing is received now: the lcore then must not wait for packets in its sleep.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause().is_some()
    }
}
