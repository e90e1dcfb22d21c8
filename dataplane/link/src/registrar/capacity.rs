//! The memory that a slave may claim to lend.
//!
//! An impossible claim is not accepted, but the node stays a member: the memory that it has lent is still there, and a
//! wrong number must not take it away. The last possible claim of the same boot holds. Before the first one, the slave
//! lends nothing.

use super::Registrar;
use crate::{MOST_PAGES, Notice, Sink};
use frame::{Peer, Time};
use wire::link::Heartbeat;

impl Registrar {
    /// The memory that the slave at this place of the table lends, total and free, given an accepted heartbeat.
    pub(super) fn capacity(
        &mut self,
        now: Time,
        at: u32,
        from: &Peer,
        heartbeat: &Heartbeat,
        sink: &mut impl Sink,
    ) -> (u64, u64) {
        let (total, free) = (heartbeat.pages_total, heartbeat.pages_free);
        if free <= total && total <= MOST_PAGES {
            return (total, free);
        }
        self.counters.capacity_refused.add(1);
        self.notice(now, Notice::Capacity { node: heartbeat.node, from: *from, total, free }, sink);
        let entry = self.table.get(at);
        if entry.presence.boot_epoch == heartbeat.boot_epoch { (entry.pages_total, entry.pages_free) } else { (0, 0) }
    }
}
