//! Which link control goes first: that of registered nodes, each within its budget.
//!
//! Nothing is verified here, so a sender that forges the address of a node can spend the budget of that node. Nobody
//! may be locked out this way: link control beyond a budget is not dropped. It waits in a queue of its own, with places
//! of its own. While no member waits, the registrar reads from that queue and from the queue of the strangers in turn.

use crate::route::{Destination, Routes, SlaveSource};
use frame::{Peer, Precedence, Table, TableError, Time};
use link::budget::Budget;
use wire::record::RecordHeader;
use wire::{MsgType, Walk};

/// A budget in ticks.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    every: u32,
    most: u32,
}

impl Ticks {
    fn of(budget: Budget, tick: u64) -> Self {
        let every = u32::try_from((budget.every / tick).max(1)).unwrap_or(u32::MAX / 64);
        Self { every, most: every.saturating_mul(budget.burst) }
    }
}

/// The budgets of all nodes of one lcore: 4 bytes for each destination.
#[derive(Debug)]
pub(super) struct Budgets {
    /// The tick up to which each destination has spent its budget. Ticks are compared by distance, so they may wrap.
    spent: Table<u32>,
    slaves: Destination,
    /// The length of a tick in nanoseconds.
    tick: u64,
    slave: Ticks,
    master: Ticks,
}

impl Budgets {
    /// Full budgets, given the heartbeat interval.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn new(routes: &Routes, interval: Time) -> Result<Self, TableError> {
        let (slave, master) = (Budget::slave(interval), Budget::master(interval));
        // Fine enough that the smaller budget has 16 ticks for a heartbeat; the ticks wrap after more than a month.
        let tick = (slave.every.min(master.every) / 16).max(1);
        Ok(Self {
            spent: Table::new(routes.destinations() as usize, |_| 0)?,
            slaves: routes.shards().slaves(),
            tick,
            slave: Ticks::of(slave, tick),
            master: Ticks::of(master, tick),
        })
    }

    /// Takes one heartbeat from a node's budget. `false` when the budget is empty. A destination that does
    /// not exist has none.
    fn spend(&mut self, now: Time, destination: Destination) -> bool {
        let Ticks { every, most } = if destination < self.slaves { self.slave } else { self.master };
        let now = (now / self.tick) as u32;
        let Some(spent) = self.spent.get_mut(destination as usize) else { return false };
        // A tick further ahead than any budget reaches is from before the last wrap.
        let ahead = spent.wrapping_sub(now);
        let ahead = if ahead > most { 0 } else { ahead };
        if most - ahead < every {
            return false;
        }
        *spent = now.wrapping_add(ahead + every);
        true
    }

    /// The precedence of a datagram of link control from `source`. Each registered node in it pays one heartbeat of its
    /// budget.
    ///
    /// One node within its budget lets the whole datagram go first: a farm packs registered and unregistered nodes into
    /// one datagram.
    #[cold]
    pub(super) fn judge(&mut self, now: Time, routes: &Routes, source: &Peer, datagram: &[u8]) -> Precedence {
        let mut precedence = Precedence::Stranger;
        for (_, record) in Walk::new(datagram, routes.shards().scale()).flatten() {
            if record.header().msg_type() == MsgType::HEARTBEAT
                && let Some(destination) = registered(routes, source, record.header())
            {
                if self.spend(now, destination) {
                    precedence = Precedence::Member;
                } else if precedence == Precedence::Stranger {
                    precedence = Precedence::Excess;
                }
            }
        }
        precedence
    }
}

/// The node that a header of link control names, if it is registered at `source`.
fn registered(routes: &Routes, source: &Peer, header: &RecordHeader) -> Option<Destination> {
    if header.slave_id() == 0 && routes.is_master_source(header.master_id(), source) {
        return routes.master(header.master_id());
    }
    let slave = routes.slave(header.slave_id()).filter(|_| header.master_id() == 0)?;
    (routes.slave_source(slave, source) == SlaveSource::Registered).then_some(slave)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::{MILLISECOND, SECOND};
    use proptest::prelude::*;
    use wire::{Scale, Shard, ShardSet};

    fn budgets(interval: Time) -> Budgets {
        let shards = ShardSet::new(Scale::new(6, 4).unwrap(), &[Shard(1)]).unwrap();
        Budgets::new(&Routes::new(shards, 2, 0).unwrap(), interval).unwrap()
    }

    #[test]
    fn a_slave_has_eight_at_once_and_four_in_each_interval() {
        for interval in [100 * MILLISECOND, SECOND, 10 * SECOND] {
            let mut budgets = budgets(interval);
            let now = 77 * interval;
            let at_once = |budgets: &mut Budgets, now| (0..100).filter(|_| budgets.spend(now, 3)).count();
            assert_eq!(at_once(&mut budgets, now), 8);
            assert_eq!(at_once(&mut budgets, now + interval), 4);
            assert_eq!(at_once(&mut budgets, now + 100 * interval), 8, "no more than eight are saved");
            assert!(budgets.spend(now + 100 * interval, 4), "each destination has its own budget");
        }
    }

    #[test]
    fn a_master_has_sixteen_at_once_and_eighty_in_a_second() {
        let mut budgets = budgets(SECOND);
        let master = budgets.slaves;
        assert_eq!((0..100).filter(|_| budgets.spend(SECOND, master)).count(), 16);
        let mut said = 0;
        for ms in 1..=1000 {
            said += u32::from(budgets.spend(SECOND + ms * MILLISECOND, master));
        }
        assert!((80..=81).contains(&said), "{said}");
        assert!(!budgets.spend(0, 1000), "a destination that does not exist has none");
    }

    proptest! {
        /// The result is that of a token bucket, to within one tick, also where the ticks wrap.
        #[test]
        fn it_is_a_bucket(
            first in prop_oneof![0u64..1000, 0xffff_ff00u64..0x1_0000_0100],
            steps in proptest::collection::vec(prop_oneof![0u64..20, 0u64..2000, Just(3_000_000u64)], 1..200),
        ) {
            let mut budgets = budgets(SECOND);
            let Budgets { tick, slave: Ticks { every, most }, .. } = budgets;
            // A node that has not spoken since the ticks wrapped may look as if it has just spoken.
            budgets.spent[0] = first as u32;
            let (mut now, mut level) = (first, u64::from(most));
            for step in steps {
                now += step;
                level = (level + step).min(u64::from(most));
                let may = level >= u64::from(every);
                prop_assert_eq!(budgets.spend(now * tick, 0), may);
                level -= if may { u64::from(every) } else { 0 };
            }
        }
    }
}
