//! PUSH: a record for which somebody waits. What the gateway holds for its destination leaves at once.
//!
//! A record with PUSH is appended like any other. After the burst, everything that waits for its destination leaves,
//! so that the order stays, and records that came in the same burst share the datagram. A burst therefore sends at most
//! one more datagram to a destination, however many of its records have PUSH.
//!
//! Each datagram that leaves early costs its receiver. A slave is a stranger's machine, and what it sends to a master
//! shares datagrams with the records of all other slaves: by PUSH on all its records it could undo the aggregation for
//! that master. So each sender has a budget. A record with PUSH beyond it waits like a record without PUSH. Only the
//! budget of the sender itself is spent, and only by records that passed the check of their source. While a port is
//! contended, PUSH has no effect for what goes there: more waits there than a hold is long, and fewer records in each
//! datagram would make it worse.

use super::bucket::{Buckets, Rate};
use crate::direction::Direction;
use crate::pass::{FROM_MASTER, Item};
use crate::route::{Destination, Routes};
use frame::outbox::Crowding;
use frame::time::SECOND;
use frame::{BURST, Burst, Outbox, PortId, TableError, Time};
use wire::Record;
use wire::record::FRAG_PUSH;

/// How many times the budget of a slave a master has: its requests go to many slaves.
pub const MASTER_TIMES: u32 = 16;

/// The largest number of records with PUSH that may be allowed to a slave in a second.
pub const MOST: u32 = 1_000_000;

/// A bucket holds what it gets in this many nanoseconds, at least [`LEAST_BURST`].
const SAVED: Time = SECOND / 250;
const LEAST_BURST: u32 = 4;

/// The budgets of all senders of one lcore.
#[derive(Debug)]
pub(super) struct Pushes {
    /// None if PUSH has no effect.
    budgets: Option<Budgets>,
    slaves: Destination,
}

#[derive(Debug)]
struct Budgets {
    buckets: Buckets,
    slave: Rate,
    master: Rate,
}

/// Whether a port is not contended.
pub(super) fn is_free(out: &Outbox, port: PortId) -> bool {
    out.crowding(port) == Crowding::Free
}

/// Nanoseconds for one of so many in a second.
fn every(a_second: u32) -> Time {
    (SECOND / Time::from(a_second)).max(1)
}

/// How many a bucket holds that gets so many in a second.
fn burst(a_second: u32) -> u32 {
    ((Time::from(a_second) * SAVED / SECOND) as u32).max(LEAST_BURST)
}

impl Pushes {
    /// Full budgets: a slave may have `a_second` records with PUSH in a second, at most [`MOST`]; with 0, PUSH has no
    /// effect.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn new(routes: &Routes, a_second: u32) -> Result<Self, TableError> {
        let slaves = routes.shards().slaves();
        if a_second == 0 {
            return Ok(Self { budgets: None, slaves });
        }
        let slave = a_second.min(MOST);
        let master = slave * MASTER_TIMES;
        // A sixteenth of what the faster bucket needs for one.
        let tick = (every(master) / 16).max(1);
        let rate = |a_second| Rate::new(every(a_second), burst(a_second), tick);
        let buckets = Buckets::new(routes.destinations(), tick)?;
        Ok(Self { budgets: Some(Budgets { buckets, slave: rate(slave), master: rate(master) }), slaves })
    }

    /// Whether a record with PUSH from this sender, a slave or a master, to this destination has an effect. If so, the
    /// sender's budget pays for it.
    fn grant(
        &mut self,
        now: Time,
        sender: Option<Destination>,
        to: Destination,
        routes: &Routes,
        is_free: impl Fn(PortId) -> bool,
    ) -> bool {
        let (Some(Budgets { buckets, slave, master }), Some(sender)) = (&mut self.budgets, sender) else {
            return false;
        };
        // Without a route it is dropped later, and has nothing to send on.
        let Some(route) = routes.get(to) else { return false };
        let rate = if sender < self.slaves { *slave } else { *master };
        is_free(route.peer.port) && buckets.take(now, sender, rate)
    }

    /// The records of a burst of single records in one direction whose PUSH has an effect: a bit for each, by the
    /// number of its datagram. And how many have PUSH without an effect. The records go to `to`, and their sources are
    /// right.
    #[cold]
    pub(super) fn of_singles(
        &mut self,
        now: Time,
        direction: Direction,
        to: &[Destination],
        burst: &Burst,
        routes: &Routes,
        out: &Outbox,
    ) -> (u64, u64) {
        let (mut granted, mut ignored) = (0, 0);
        for (number, &to) in to.iter().enumerate().take(BURST) {
            let Some(header) = Record::header_of(burst.bytes(number)) else { continue };
            if header.is_frag() & FRAG_PUSH == 0 {
                continue;
            }
            let sender = match direction {
                Direction::Down => routes.master(header.master_id()),
                Direction::Up => routes.slave(header.slave_id()),
            };
            if self.grant(now, sender, to, routes, |port| is_free(out, port)) {
                granted |= 1 << number;
            } else {
                ignored += 1;
            }
        }
        (granted, ignored)
    }

    /// Whether the PUSH of an item, whose source is right, has an effect. `is_free` says whether a port was not
    /// contended when the burst began.
    pub(super) fn of_item(
        &mut self,
        now: Time,
        item: &Item,
        burst: &Burst,
        routes: &Routes,
        is_free: impl Fn(PortId) -> bool,
    ) -> bool {
        let sender = if item.source == FROM_MASTER {
            let bytes = burst.bytes(usize::from(item.datagram)).get(usize::from(item.offset)..).unwrap_or(&[]);
            Record::header_of(bytes).and_then(|header| routes.master(header.master_id()))
        } else {
            Some(item.source)
        };
        self.grant(now, sender, item.destination, routes, is_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_gets_in_four_milliseconds() {
        assert_eq!((burst(20_000), burst(320_000), burst(10)), (80, 1280, LEAST_BURST));
        assert_eq!((every(20_000), every(MOST * MASTER_TIMES)), (50_000, 62));
    }
}
