//! The registrar's desk: link control comes in from all lcores, route changes and answers go out to them.
//!
//! A route change is said once by the registrar and must reach every lcore, so whatever finds a mailbox full waits
//! here, in order. While something waits no further mail is read: the lcores then keep link control in their own
//! bounded queues, and nodes try again. So what waits is bounded by the number of routes.
//!
//! An lcore that takes nothing for two heartbeat intervals stands still, and holds nobody up any more: the nodes behind the
//! others would lose this gateway after three. What waits for it stays short: of several changes of a route it is
//! told the last one, and answers that it should have sent are dropped, as nodes ask again.
//!
//! Registered nodes' mail comes first: the caller hands it in before all other. Silence is judged only after that mail was
//! read, so that nobody is gone whose heartbeat waits here.
//!
//! The desk knows no mailbox: a [`Line`] leads to an lcore, and mail is what the caller hands in.

mod queue;

pub use queue::Line;

use crate::GatewayCommand;
use frame::{More, Peer, Precedence, Time};
use link::registrar::Health;
use link::{Notice, Registrar, RegistrarEvent, RouteChange, Sink};
use queue::{Clock, Queue, Whose};
use std::collections::BTreeSet;

/// Datagrams that are read before the desk looks at its other duties.
const MAILS_PER_TURN: usize = 256;

/// For a heartbeat interval divided by this, what is due waits at most for mail of registered nodes to be read first.
const LATE: u64 = 4;

/// How soon the desk tries a full mailbox again, in nanoseconds.
pub const RETRY: u64 = frame::time::MILLISECOND;

/// What the desk has to say to those who read a log. Everything is counted as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Something that a person should know, and how often it was not told since the last time.
    Notice(Notice, More),
    /// A step of the registrar.
    Event(RegistrarEvent),
    /// A route that every lcore is told of.
    Route(RouteChange),
}

/// A datagram of link control as an lcore copied it.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// The lcore that received it.
    pub lcore: u16,
    /// Where it came from.
    pub peer: &'a Peer,
    /// Before which other mail it is read.
    pub precedence: Precedence,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// Where the registrar's output goes while it handles one datagram.
struct Out<'a, L> {
    queues: &'a mut [Queue<L>],
    clock: Clock,
    fixed: &'a BTreeSet<Whose>,
    /// The lcore that received what is answered: it has the peer's port. What nobody asked for leaves through the first.
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
    /// The last time that it was called.
    now: Time,
    /// Since when what is due waits for mail of registered nodes to be read first.
    late: Option<Time>,
}

impl<L: Line> Desk<L> {
    /// A desk for these lcores, in the order of their indices.
    pub fn new(registrar: Registrar, lines: impl IntoIterator<Item = L>) -> Self {
        let queues = lines.into_iter().map(Queue::new).collect();
        Self { registrar, queues, fixed: BTreeSet::new(), now: 0, late: None }
    }

    /// Tells every lcore routes that hold from now on, whoever registers under these ids.
    pub fn fix(&mut self, routes: impl IntoIterator<Item = RouteChange>) {
        for change in routes {
            self.fixed.insert(Whose::of(&change));
            self.tell(|| GatewayCommand::Route(change));
        }
    }

    /// The registrar, to be shown to people.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// The registrar, to be told settings.
    pub fn registrar_mut(&mut self) -> &mut Registrar {
        &mut self.registrar
    }

    /// Whether something waits for room in a mailbox.
    pub fn is_waiting(&self) -> bool {
        self.queues.iter().any(|queue| !queue.waiting.is_empty())
    }

    /// Whether something waits for an lcore that will soon take it. While it does, no mail is read.
    pub fn is_held_up(&self) -> bool {
        let clock = self.clock();
        self.queues.iter().any(|queue| queue.holds_up(clock))
    }

    fn clock(&self) -> Clock {
        Clock { now: self.now, patience: self.registrar.config().interval.saturating_mul(2) }
    }

    /// Reads the mail that `next` hands out and `open` reads, that of registered nodes first, and works off what is due.
    /// Returns when to come again at the latest.
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
        // Whether more mail waits, and mail of registered nodes.
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
            // It may be due for long, when this thread did not run: what counts is how long the mail is being read.
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

    /// Lets the registrar see whether the gateway is well. Nobody is judged: that is for [`work`](Self::work), which reads
    /// the mail first.
    pub fn look(&mut self, now: Time, health: Health, mut say: impl FnMut(Word)) {
        self.now = now;
        if !self.is_held_up() {
            let clock = self.clock();
            let Self { queues, fixed, .. } = self;
            let mut out = Out { queues, clock, fixed, lcore: 0, say: &mut say };
            self.registrar.look(now, health, &mut out);
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

    /// Tells the registrar and every lcore that the largest IP packets of the ports are others from now on, in bytes. `false`
    /// while something waits: nothing has changed then, and it is to be told again.
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

    /// Has every lcore say what becomes of the next records of a slave.
    pub fn trace(&mut self, slave: wire::SlaveId, count: u32) -> crate::trace::Trace {
        let (tracers, trace) = crate::trace::trace(slave, count, self.queues.len() as u16);
        let clock = self.clock();
        for (queue, tracer) in self.queues.iter_mut().zip(tracers) {
            queue.put(clock, GatewayCommand::Trace(Box::new(tracer)));
        }
        trace
    }

    /// Tells every lcore something, after all that it was told before.
    pub fn tell(&mut self, command: impl Fn() -> GatewayCommand) {
        let clock = self.clock();
        self.queues.iter_mut().for_each(|queue| queue.put(clock, command()));
    }
}

#[cfg(test)]
mod tests;
