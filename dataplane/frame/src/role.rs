//! The view that a poll loop, or a simulator, has of a role.

use crate::{Burst, Outbox, PortId, Time};

/// A sans-I/O protocol object: bytes and `now` come in, bytes and deadlines go out.
///
/// An lcore calls [`Role::command`] for each message of its mailbox, [`Role::receive`] for each burst of each port,
/// then [`Role::advance`] once, and then gives the outbox to the ports. `now` never goes backwards.
pub trait Role {
    /// Messages from other threads through the lcore's mailbox: route changes, settings, drain.
    type Command: Send;

    /// Whether the role itself drops cargo while a port is contended ([`Outbox::is_contended`]). If not, the lcore
    /// receives nothing while too much waits for a port.
    const SHEDS: bool = false;

    /// Takes a burst that arrived on `port`. The burst is empty afterwards.
    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox);

    /// Timers and flushes; called once in every poll, also when nothing arrived.
    fn advance(&mut self, now: Time, out: &mut Outbox);

    /// The latest time at which [`Role::advance`] has work, if nothing arrives until then.
    fn deadline(&self) -> Option<Time>;

    /// The longest time, in nanoseconds, for which the lcore may stay away between two polls although packets come. It
    /// does so where each look for packets is expensive, and then takes several at once. 0: it may not.
    fn may_stay_away(&self) -> u64 {
        0
    }

    /// From now on the lcore stays away for about `ns` nanoseconds between two polls; 0: it polls all the time, or
    /// sleeps until something comes. What falls due while it is away should leave before, and what a poll brings may
    /// have waited as long as this.
    fn stays_away(&mut self, ns: u64) {
        let _ = ns;
    }

    /// Takes one message of the mailbox.
    fn command(&mut self, now: Time, command: Self::Command, out: &mut Outbox);

    /// The lcore may sleep after the next poll. Whoever gives the role work past its ports and its mailbox, such as the
    /// ring of an application, must ring the lcore's bell from now on, until [`Role::wake`]. Work that is there already
    /// is found by that poll.
    fn doze(&mut self) {}

    /// The lcore is awake, and polls.
    fn wake(&mut self) {}

    /// Whether the role was told to drain and holds nothing any more.
    fn is_drained(&self) -> bool;

    /// Frames that the role holds: a term of the conservation equation.
    fn frames_held(&self) -> usize;
}
