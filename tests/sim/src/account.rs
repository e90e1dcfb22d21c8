//! The account of the whole cluster: what the ends sent, what reached the other ends, and what happened to the rest.

use crate::cluster::Cluster;
use crate::ledger::{Sums, Wrong};

/// Sums of all ends and gateways at a moment. Records are records of cargo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Records that masters and farms made, answers among them.
    made: u64,
    /// Records that masters and farms took, each at its end.
    taken: u64,
    /// Records in frames that reached nobody.
    unreached: u64,
    /// Records that gateways dropped and counted.
    dropped: u64,
    /// Records that gateways held when they crashed, or had in a ring.
    crashed: u64,
}

impl Account {
    /// Records whose end is known.
    pub fn lost_by_name(&self) -> u64 {
        self.unreached + self.dropped + self.crashed
    }
}

/// What happened between two moments in which nothing was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Records that were made.
    pub made: u64,
    /// Records that did not get to their end.
    pub lost: u64,
    /// Records whose fate is known: they reached nobody, were dropped and counted, or were in a gateway that crashed.
    pub accounted: u64,
}

impl Cluster {
    /// The account now. It balances when nothing is under way.
    pub fn account(&self) -> Account {
        let mut account = Account { unreached: self.unreached, ..Account::default() };
        for counters in self.masters.iter().flatten().map(|core| core.lcore.role().counters()) {
            account.made += counters.sent.get();
            account.taken += counters.answers.get() + counters.patterns.get();
        }
        for counters in self.farms.iter().flatten().map(|core| core.lcore.role().counters()) {
            account.made += counters.echo_replied.get() + counters.traffic_records.get();
            account.taken += counters.echo_replied.get() + counters.pattern_consumed.get();
        }
        for core in self.gateways.iter().flatten().flat_map(|node| &node.cores) {
            let (counters, out) = (core.lcore.role().counters(), core.lcore.outbox().counters());
            account.dropped += counters.down.dropped() + counters.up.dropped();
            account.dropped += out.down.dropped() + out.up.dropped();
        }
        let Sums { dropped, crashed, records_in_ring, .. } = self.closed;
        account.dropped += dropped;
        account.crashed = crashed + records_in_ring;
        account
    }

    /// What happened since an earlier account, as long as no master or farm crashed.
    ///
    /// # Errors
    /// More records were taken since then than were made.
    pub fn balance_since(&self, before: &Account) -> Result<Balance, Wrong> {
        let now = self.account();
        let made = now.made - before.made;
        let taken = now.taken - before.taken;
        let lost = made.checked_sub(taken).ok_or_else(|| format!("{made} records were made and {taken} taken"))?;
        let accounted = now.lost_by_name() - before.lost_by_name();
        Ok(Balance { made, lost, accounted })
    }
}
