//! Roles that end together: an lcore whose role has drained goes on polling until those of all lcores have.
//!
//! Lcores that hand over to each other need this ([`crate::handover`]): the first one that ended would take with it
//! what arrives on its queue for the others, and those could not drain any more.

use frame::{Burst, Outbox, PortId, Role, Time};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many roles of a process have not drained. Clones count the same roles.
#[derive(Clone, Debug)]
pub struct Company(Arc<AtomicUsize>);

impl Company {
    /// For so many roles: each is made with [`Together::new`], once.
    pub fn new(roles: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(roles)))
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn have_all_left(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A role that has drained when all roles of its company have.
pub struct Together<R: Role> {
    role: R,
    company: Company,
    has_left: bool,
}

impl<R: Role> Together<R> {
    /// A role of a company.
    pub fn new(role: R, company: Company) -> Self {
        Self { role, company, has_left: false }
    }

    /// The role itself.
    pub fn role(&mut self) -> &mut R {
        &mut self.role
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.has_left, true) {
            self.company.leave();
        }
    }
}

impl<R: Role> Role for Together<R> {
    type Command = R::Command;

    const SHEDS: bool = R::SHEDS;

    #[inline]
    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox) {
        self.role.receive(now, port, burst, out);
    }

    #[inline]
    fn advance(&mut self, now: Time, out: &mut Outbox) {
        self.role.advance(now, out);
        if self.role.is_drained() {
            self.leave();
        }
    }

    #[inline]
    fn deadline(&self) -> Option<Time> {
        self.role.deadline()
    }

    fn may_stay_away(&self) -> u64 {
        self.role.may_stay_away()
    }

    fn stays_away(&mut self, ns: u64) {
        self.role.stays_away(ns);
    }

    fn command(&mut self, now: Time, command: Self::Command, out: &mut Outbox) {
        self.role.command(now, command, out);
    }

    fn doze(&mut self) {
        self.role.doze();
    }

    fn wake(&mut self) {
        self.role.wake();
    }

    fn is_drained(&self) -> bool {
        self.has_left && self.company.have_all_left() && self.role.is_drained()
    }

    fn frames_held(&self) -> usize {
        self.role.frames_held()
    }
}

impl<R: Role> Drop for Together<R> {
    /// An lcore that ends in another way keeps nobody waiting.
    fn drop(&mut self) {
        self.leave();
    }
}
