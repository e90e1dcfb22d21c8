//! One master, as the registrar knows it.

use super::list::NIL;
use super::presence::Presence;
use frame::Time;
use wire::link::{NodeId, Role};

/// How many datagrams a master may be sent again in each interval, on average.
const AGAIN: u64 = 32;

/// One master.
pub(super) struct Master {
    pub(super) id: u16,
    pub(super) presence: Presence,
    /// The generation that it reported; zero if it has none of this start.
    pub(super) acked: u64,
    /// The first slave that changed after `acked`, or `NIL`.
    pub(super) base: u32,
    /// The generation up to which it was sent changes.
    pub(super) sent: u64,
    pub(super) sent_at: Time,
    /// The highest generation that it was ever sent.
    pub(super) told: u64,
    pub(super) again: Budget,
    /// Its last heartbeat had a fresh cookie.
    pub(super) is_fresh: bool,
}

/// The budget for repetitions: some datagrams at once, and [`AGAIN`] more in each interval.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// When the budget will be full again.
    full_at: Time,
}

impl Budget {
    /// Takes one datagram if the budget, which holds at most `most`, has one.
    pub(super) fn take(&mut self, now: Time, interval: u64, most: u64) -> bool {
        let each = (interval / AGAIN).max(1);
        let full_at = self.full_at.max(now).saturating_add(each);
        let is_there = full_at - now <= each.saturating_mul(most);
        if is_there {
            self.full_at = full_at;
        }
        is_there
    }
}

/// The id of a node that is a master. Parsing checked that it has 16 bits.
pub(super) fn master_id(node: NodeId) -> Option<u16> {
    (node.role == Role::Master).then_some(node.id).and_then(|id| u16::try_from(id).ok())
}

impl Master {
    pub(super) fn new(id: u16) -> Self {
        Self {
            id,
            presence: Presence::never(),
            acked: 0,
            base: NIL,
            sent: 0,
            sent_at: 0,
            told: 0,
            again: Budget { full_at: 0 },
            is_fresh: false,
        }
    }
}
