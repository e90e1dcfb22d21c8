//! The registrar's desk: link control comes in from all lcores; route changes and answers go out to them.
//!
//! The registrar reports a route change once, and the change must reach every lcore. So a command that finds a mailbox
//! full waits here, in order. While commands wait, no further mail is read: the lcores keep link control in their own
//! bounded queues, and nodes try again. So the number of routes bounds what waits here.
//!
//! An lcore that takes nothing for two heartbeat intervals stands still and no longer delays the others: the nodes
//! behind them would lose this gateway after three. The commands that wait for it stay few: of several changes of a
//! route it gets the last one. Answers that it should have sent are dropped, because nodes ask again.
//!
//! Mail of registered nodes comes first: the caller hands it in before all other mail. Silence is judged only after
//! that mail was read. So no node is declared gone while its heartbeat waits here.
//!
//! The desk does not know mailboxes: a [`Line`] leads to an lcore, and the caller hands in the mail.

mod queue;

pub use queue::Line;

use crate::GatewayCommand;
use frame::{More, Peer, Precedence, Time};
use link::registrar::Health;
use link::{Notice, Registrar, RegistrarEvent, RouteChange, Sink};
use queue::{Clock, Queue, Whose};
use std::collections::BTreeSet;

/// Datagrams that are read before the desk turns to its other duties.
const MAILS_PER_TURN: usize = 256;

/// The heartbeat interval divided by this: the longest that due work waits until mail of registered nodes is read.
const LATE: u64 = 4;

/// How soon the desk tries a full mailbox again, in nanoseconds.
pub const RETRY: u64 = frame::time::MILLISECOND;

/// What the desk writes to the log. Everything is counted as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Something that a person should know, and how many repetitions were not reported since the last report.
    Notice(Notice, More),
    /// A step of the registrar.
    Event(RegistrarEvent),
    /// A route that every lcore gets.
    Route(RouteChange),
}

/// A datagram of link control as an lcore copied it.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// The lcore that received it.
    pub lcore: u16,
    /// Where it came from.
    pub peer: &'a Peer,
    /// Its rank among the mail: which mail it is read before.
    pub precedence: Precedence,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// Where the registrar's output goes while the registrar handles one datagram.
struct Out<'a, L> {
    queues: &'a mut [Queue<L>],
    clock: Clock,
    fixed: &'a BTreeSet<Whose>,
    /// The lcore that sends the answers: it received the datagram and has the peer's port. Datagrams without a request
    /// leave through the first lcore.
    lcore: usize,
    say: &'a mut dyn FnMut(Word),
}

impl<L: Line> Sink for Out<'_, L> {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _records: u16) {
        let lcore = if self.lcore < self.queues.len() { self.lcore } else { 0 };
        if let Some(queue) = self.queues.get_mut(lcore) {
            queue.put(self.clock, GatewayCommand::Reply { peer: *to, bytes: datagram.into() });
        }
    }

    fn route(&mut self, change: RouteChange) {
        if self.fixed.contains(&Whose::of(&change)) {
            return;
        }
        (self.say)(Word::Route(change));
        self.queues.iter_mut().for_each(|queue| queue.put(self.clock, GatewayCommand::Route(change)));
    }

    fn notice(&mut self, notice: Notice, more: More) {
        (self.say)(Word::Notice(notice, more));
    }

    fn event(&mut self, event: RegistrarEvent) {
        (self.say)(Word::Event(event));
    }
}

/// See the module's documentation.
pub struct Desk<L> {
    registrar: Registrar,
    queues: Vec<Queue<L>>,
    fixed: BTreeSet<Whose>,
    /// The time of the last call.
    now: Time,
    /// The time since which due work waits until mail of registered nodes is read.
    late: Option<Time>,
}

impl<L: Line> Desk<L> {
    /// A desk for these lcores, in the order of their indices.
    pub fn new(registrar: Registrar, lines: impl IntoIterator<Item = L>) -> Self {
        let queues = lines.into_iter().map(Queue::new).collect();
        Self { registrar, queues, fixed: BTreeSet::new(), now: 0, late: None }
    }

    /// Gives every lcore routes that hold from now on, whoever registers under these ids.
    pub fn fix(&mut self, routes: impl IntoIterator<Item = RouteChange>) {
        for change in routes {
            self.fixed.insert(Whose::of(&change));
            self.tell(|| GatewayCommand::Route(change));
        }
    }

    /// The registrar, for reading.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// The registrar, for changing its settings.
    pub fn registrar_mut(&mut self) -> &mut Registrar {
        &mut self.registrar
    }

    /// Whether commands wait for room in a mailbox.
    pub fn is_waiting(&self) -> bool {
        self.queues.iter().any(|queue| !queue.waiting.is_empty())
    }

    /// Whether commands wait for an lcore that will soon take them. While they do, no mail is read.
    pub fn is_held_up(&self) -> bool {
        let clock = self.clock();
        self.queues.iter().any(|queue| queue.holds_up(clock))
    }

    fn clock(&self) -> Clock {
        Clock { now: self.now, patience: self.registrar.config().interval.saturating_mul(2) }
    }

    /// Reads the mail that `next` hands out and `open` reads, with that of registered nodes first, and does the work
    /// that is due. Returns the latest time of the next call.
    pub fn work<M>(
        &mut self,
        now: Time,
        health: Health,
        mut next: impl FnMut() -> Option<M>,
        open: impl for<'a> Fn(&'a M) -> Mail<'a>,
        mut say: impl FnMut(Word),
    ) -> Time {
        self.now = now;
        self.queues.iter_mut().for_each(|queue| queue.flush(now));
        // Whether more mail waits, and whether some of it is from registered nodes.
        let (mut more, mut members) = (true, false);
        for _ in 0..MAILS_PER_TURN {
            if self.is_held_up() {
                return now + RETRY;
            }
            let Some(mail) = next() else {
                (more, members) = (false, false);
                break;
            };
            let Mail { lcore, peer, precedence, bytes } = open(&mail);
            members = precedence == Precedence::Member;
            let clock = self.clock();
            let Self { queues, fixed, .. } = self;
            let mut out = Out { queues, clock, fixed, lcore: usize::from(lcore), say: &mut say };
            self.registrar.receive(now, peer, bytes, &mut out);
        }
        if self.registrar.deadline().is_some_and(|deadline| deadline <= now) {
            // Work may be due for a long time because this thread did not run. Only the time spent on reading mail
            // counts.
            let late = now.saturating_sub(*self.late.get_or_insert(now));
            if !members || late >= self.registrar.config().interval / LATE {
                self.late = None;
                self.advance(now, health, &mut say);
            }
        }
        if more {
            return now;
        }
        let retry = if self.is_waiting() { now + RETRY } else { Time::MAX };
        self.registrar.deadline().unwrap_or(Time::MAX).min(retry)
    }

    /// Lets the registrar check whether the gateway is well. It judges no node: [`work`](Self::work) does that, after
    /// it has read the mail.
    pub fn note_health(&mut self, now: Time, health: Health, mut say: impl FnMut(Word)) {
        self.now = now;
        if !self.is_held_up() {
            let clock = self.clock();
            let Self { queues, fixed, .. } = self;
            let mut out = Out { queues, clock, fixed, lcore: 0, say: &mut say };
            self.registrar.note_health(now, health, &mut out);
        }
    }

    fn advance(&mut self, now: Time, health: Health, mut say: impl FnMut(Word)) {
        self.now = now;
        if !self.is_held_up() {
            let clock = self.clock();
            let Self { queues, fixed, .. } = self;
            let mut out = Out { queues, clock, fixed, lcore: 0, say: &mut say };
            self.registrar.advance(now, health, &mut out);
        }
    }

    /// Tells the registrar and every lcore the new sizes of the largest IP packets of the ports, in bytes. Returns
    /// `false` while commands wait: nothing has changed then, and the caller must call it again.
    pub fn set_port_mtus(&mut self, mtus: &[u16], mut say: impl FnMut(Word)) -> bool {
        if self.is_held_up() {
            return false;
        }
        let clock = self.clock();
        let Self { registrar, queues, fixed, .. } = self;
        let mut out = Out { queues, clock, fixed, lcore: 0, say: &mut say };
        registrar.set_port_mtus(mtus, &mut out);
        true
    }

    /// Has every lcore report what happens to the next records of a slave.
    pub fn trace(&mut self, slave: wire::SlaveId, count: u32) -> crate::trace::Trace {
        let (tracers, trace) = crate::trace::trace(slave, count, self.queues.len() as u16);
        let clock = self.clock();
        for (queue, tracer) in self.queues.iter_mut().zip(tracers) {
            queue.put(clock, GatewayCommand::Trace(Box::new(tracer)));
        }
        trace
    }

    /// Sends every lcore a command, after all commands that it got before.
    pub fn tell(&mut self, command: impl Fn() -> GatewayCommand) {
        let clock = self.clock();
        self.queues.iter_mut().for_each(|queue| queue.put(clock, command()));
    }
}

#[cfg(test)]
mod tests;
