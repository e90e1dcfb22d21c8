//! What waits at the desk for one lcore, in order.

use crate::GatewayCommand;
use frame::Time;
use link::RouteChange;
use std::collections::{BTreeSet, VecDeque};

/// The way to one lcore.
pub trait Line {
    /// Hands a command over, or back while there is no room.
    fn try_send(&self, command: GatewayCommand) -> Result<(), GatewayCommand>;

    /// Whether the lcore has ended: it needs no routes any more.
    fn is_closed(&self) -> bool {
        false
    }
}

/// From so many commands on that wait for an lcore that stands still, those are dropped that later ones made void.
pub(super) const MANY: usize = 1024;

/// The way to one lcore, and what waits for room there.
pub(super) struct Queue<L> {
    line: L,
    pub(super) waiting: VecDeque<GatewayCommand>,
    /// Since when the lcore takes nothing, while something waits.
    since: Time,
    /// So many commands are too many.
    many: usize,
}

impl<L: Line> Queue<L> {
    pub(super) fn new(line: L) -> Self {
        Self { line, waiting: VecDeque::new(), since: 0, many: MANY }
    }

    pub(super) fn put(&mut self, clock: Clock, command: GatewayCommand) {
        let refused = if self.waiting.is_empty() { self.line.try_send(command) } else { Err(command) };
        let Err(command) = refused else { return };
        if self.waiting.is_empty() {
            self.since = clock.now;
        }
        self.waiting.push_back(command);
        if self.waiting.len() >= self.many && !self.holds_up(clock) {
            self.shorten();
        }
    }

    pub(super) fn flush(&mut self, now: Time) {
        if self.line.is_closed() {
            self.waiting.clear();
        }
        while let Some(command) = self.waiting.pop_front() {
            if let Err(command) = self.line.try_send(command) {
                self.waiting.push_front(command);
                break;
            }
            self.since = now;
        }
    }

    /// Whether something waits for an lcore that will soon take it.
    pub(super) fn holds_up(&self, clock: Clock) -> bool {
        !self.waiting.is_empty() && clock.now.saturating_sub(self.since) < clock.patience
    }

    /// Drops answers, and all changes of a route but the last.
    fn shorten(&mut self) {
        let mut told = BTreeSet::new();
        let is_needed = |command: &GatewayCommand| match command {
            GatewayCommand::Route(change) => told.insert(Whose::of(change)),
            GatewayCommand::Reply { .. } => false,
            _ => true,
        };
        let mut kept: Vec<_> = self.waiting.drain(..).rev().filter(is_needed).collect();
        kept.reverse();
        self.waiting.extend(kept);
        self.many = MANY.max(2 * self.waiting.len());
    }
}

/// The time, and how long an lcore may take nothing before it stands still.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Time,
    pub(super) patience: u64,
}

/// Whose route a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Slave(u32),
    Master(u16),
}

impl Whose {
    pub(super) fn of(change: &RouteChange) -> Self {
        match change {
            RouteChange::Slave { id, .. } => Self::Slave(id.get()),
            RouteChange::Master { id, .. } => Self::Master(*id),
        }
    }
}
