//! Which link control goes first: that of registered nodes, each within its budget.
//!
//! Nothing is verified here, so a sender that forges the address of a node can spend the budget of that node. Nobody
//! may be locked out this way: link control beyond a budget is not dropped. It waits in a queue of its own, with places
//! of its own. While no member waits, the registrar reads from that queue and from the queue of the strangers in turn.

use super::bucket::{Buckets, Rate};
use crate::route::{Destination, Routes, SlaveSource};
use frame::{Peer, Precedence, TableError, Time};
use link::budget::Budget;
use wire::record::RecordHeader;
use wire::{MsgType, Walk};

/// The rate of a budget of heartbeats.
fn rate(budget: Budget, tick: Time) -> Rate {
    Rate::new(budget.every, budget.burst, tick)
}

/// The budgets of all nodes of one lcore: 4 bytes for each destination.
#[derive(Debug)]
pub(super) struct Budgets {
    buckets: Buckets,
    slaves: Destination,
    slave: Rate,
    master: Rate,
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
            buckets: Buckets::new(routes.destinations(), tick)?,
            slaves: routes.shards().slaves(),
            slave: rate(slave, tick),
            master: rate(master, tick),
        })
    }

    /// Takes one heartbeat from a node's budget. `false` when the budget is empty. A destination that does
    /// not exist has none.
    fn spend(&mut self, now: Time, destination: Destination) -> bool {
        let rate = if destination < self.slaves { self.slave } else { self.master };
        self.buckets.take(now, destination, rate)
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
}
