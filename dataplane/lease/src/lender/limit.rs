//! The slave lends less, or stops lending: what is recalled of whom.

use super::lease::{Debt, Slot};
use super::{Lender, Resources};
use frame::Time;
use wire::lease::UnitSet;

impl Lender {
    /// From now on at most `limit` units are lent. What is lent beyond that is recalled of all leases by their size,
    /// and taken after `within`.
    pub fn set_limit(&mut self, now: Time, limit: u32, within: Time) {
        self.limit = limit.min(self.stock.units());
        let (leased, need) = (self.stock.leased(), self.need());
        let mut rest = need;
        for place in 0..self.config.leases {
            let Some(lease) = self.lease_mut(place) else { continue };
            // Rounded up, and never more than is still needed: the last ones have less.
            let share = (u64::from(lease.held()) * u64::from(need)).div_ceil(u64::from(leased.max(1)));
            let share = rest.min(share as u32);
            rest -= share;
            let until = now.saturating_add(within);
            let before = lease.debt;
            let until = if before.units == 0 { until } else { until.min(before.until) };
            lease.debt = Debt { units: share, until };
            // A debt that is gone is told, too.
            if lease.debt.units != before.units || share > 0 && until != before.until {
                lease.tell_at(now);
            }
        }
        self.gauge();
    }

    /// Stops lending: recalls everything, and ends each lease that is empty.
    pub fn leave(&mut self, now: Time, within: Time) {
        self.leaving = true;
        self.set_limit(now, 0, within);
    }

    /// Whether a lender that leaves has nothing left to do: no lease, nothing to be scrubbed, nothing to be sent.
    pub fn is_drained(&self) -> bool {
        let books = self.books();
        self.leaving && books.free == books.units && books.leases == 0 && self.deadline().is_none()
    }

    /// Units that must come back.
    fn need(&self) -> u32 {
        self.stock.leased().saturating_sub(self.limit)
    }

    /// When more came back than was asked for, less is asked of the others.
    pub(super) fn settle(&mut self) {
        let need = self.need();
        let mut excess = self.leases().map(|lease| lease.debt.units).sum::<u32>().saturating_sub(need);
        for place in 0..self.config.leases {
            let Some(lease) = self.lease_mut(place) else { continue };
            let less = excess.min(lease.debt.units);
            lease.debt.units -= less;
            excess -= less;
        }
    }

    /// Takes what was recalled and did not come back in time, the highest indexes first.
    pub(super) fn collect(&mut self, now: Time, place: u16, resources: &mut impl Resources) {
        let Some(lease) = self.lease_mut(place) else { return };
        let taken: UnitSet = lease.units().rev().take(lease.debt.units as usize).map(|(index, _)| index).collect();
        lease.debt.units = 0;
        lease.tell_at(now);
        self.counters.units_taken.add(taken.len().into());
        for index in taken.iter() {
            self.release(place, index, Slot::Taken, resources);
        }
        self.settle();
    }
}
