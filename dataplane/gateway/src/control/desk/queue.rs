//! What waits at the desk for one lcore, in order.

use crate::GatewayCommand;
use frame::Time;
use link::RouteChange;
use std::collections::{BTreeSet, VecDeque};

/// The way to one lcore.
pub trait Line {
    /// Hands a command over, or returns it when there is no room.
    ///
    /// # Errors
    /// The command itself comes back when there is no room for it.
    fn try_send(&self, command: GatewayCommand) -> Result<(), GatewayCommand>;

    /// Whether the lcore has ended: it then needs no routes.
    fn is_closed(&self) -> bool {
        false
    }
}

/// When this many commands wait for an lcore that stands still, those that later ones replaced are dropped.
pub(super) const MANY: usize = 1024;

/// The way to one lcore, and the commands that wait for room there.
pub(super) struct Queue<L> {
    line: L,
    pub(super) waiting: VecDeque<GatewayCommand>,
    /// The time since which the lcore has taken nothing, while commands wait.
    since: Time,
    /// The number of commands that is too many.
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

    /// Whether commands wait for an lcore that will soon take them.
    pub(super) fn holds_up(&self, clock: Clock) -> bool {
        !self.waiting.is_empty() && clock.now.saturating_sub(self.since) < clock.patience
    }

    /// Drops answers, and all changes of a route except the last.
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

/// The time, and how long an lcore may take nothing before it counts as standing still.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Time,
    pub(super) patience: u64,
}

/// The node whose route changes.
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
