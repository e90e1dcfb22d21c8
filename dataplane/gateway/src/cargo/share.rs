//! How much of a contended port each slave may have: a port to which more comes than it can send.
//!
//! While no port is contended, nothing here is touched. While one is, each slave has a budget of bytes in each
//! direction: upward for what it sends, downward for what goes to it. The bytes that leave are dealt out evenly to the
//! active slaves, as in deficit round robin, but without a queue for each slave. A clock counts how many bytes each
//! slave's turns were worth so far. A slave may use later what it has not used, up to `MOST`. A record beyond the
//! budget of its slave is dropped before any other work on it. So a slave that sends at full speed loses its excess,
//! and a slave that sends less than its share loses nothing.
//!
//! The budget is by slave and not by master in both directions: a slave is a stranger's machine on a link of its own,
//! while masters are few and trusted. The budget comes before aggregation, because one datagram to a master has records
//! of many slaves.

use crate::direction::{Both, Direction};
use frame::outbox::{Crowding, OutboxCounters};
use frame::{Class, Outbox, PortId, Table, TableError};

/// The most bytes that a slave can save from its turns.
const MOST: u16 = u16::MAX;
/// A slave that sent nothing while each slave had turns of this many bytes does not count as active.
const ROUND: u32 = 16 << 10;

/// One slave's budget in one direction.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The clock when the budget was last used.
    seen: u32,
    /// What was left of the budget then.
    left: u16,
    /// The round in which the slave was last active.
    round: u16,
}

/// The budgets of one direction.
#[derive(Debug)]
struct Budgets {
    shares: Table<Share>,
    /// Bytes that each slave's turns were worth so far.
    clock: u32,
    /// The clock when the round began.
    began: u32,
    round: u16,
    /// Slaves that were active in this round, and in the one before.
    there: u32,
    before: u32,
    /// Bytes that had left when bytes were last dealt out, and the remainder that is not dealt out yet.
    out: u64,
    rest: u64,
}

impl Budgets {
    fn new(slaves: usize) -> Result<Self, TableError> {
        let share = Share { seen: 0, left: MOST, round: 0 };
        Ok(Self {
            shares: Table::new(slaves, |_| share)?,
            clock: 0,
            began: 0,
            round: 1,
            there: 0,
            before: 0,
            out: 0,
            rest: 0,
        })
    }

    /// Deals out the bytes that have left since the last call.
    fn deal(&mut self, out: u64) {
        let slaves = u64::from(self.there.max(self.before).max(1));
        let bytes = out.wrapping_sub(std::mem::replace(&mut self.out, out)).saturating_add(self.rest);
        // A larger deal than a full budget for everybody has no more effect.
        let turns = (bytes / slaves).min(2 * u64::from(MOST));
        self.rest = bytes % slaves;
        self.clock = self.clock.wrapping_add(turns as u32);
        if self.clock.wrapping_sub(self.began) >= ROUND {
            (self.before, self.there) = (self.there, 0);
            self.began = self.clock;
            self.round = self.round.wrapping_add(1);
        }
    }

    /// Takes `bytes` from a slave's budget; `false` when it has fewer.
    fn take(&mut self, slave: u32, bytes: usize) -> bool {
        let Some(share) = self.shares.get_mut(slave as usize) else {
            frame::never!("a slave of this gateway has no share");
            return true;
        };
        if share.round != self.round {
            share.round = self.round;
            self.there += 1;
        }
        let turns = self.clock.wrapping_sub(share.seen).min(u32::from(MOST)) as u16;
        share.seen = self.clock;
        share.left = share.left.saturating_add(turns);
        match u16::try_from(bytes).ok().and_then(|bytes| share.left.checked_sub(bytes)) {
            Some(left) => {
                share.left = left;
                true
            }
            None => false,
        }
    }
}

/// The budgets of all slaves of one lcore.
#[derive(Debug)]
pub struct Shares(Both<Budgets>);

impl Shares {
    /// Full budgets for this many slaves.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(slaves: u32) -> Result<Self, TableError> {
        Ok(Self(Both { up: Budgets::new(slaves as usize)?, down: Budgets::new(slaves as usize)? }))
    }

    /// Deals out the bytes that have left since the last call.
    pub fn deal(&mut self, counters: &OutboxCounters) {
        self.0.up.deal(counters.up.bytes_out.get());
        self.0.down.deal(counters.down.bytes_out.get());
    }

    /// Whether `bytes` of a slave on their way to a port may pass. `class` gives their direction.
    pub fn admits(&mut self, class: Class, slave: u32, bytes: usize, port: PortId, out: &Outbox) -> bool {
        match out.crowding(port) {
            Crowding::Free => true,
            Crowding::Full => false,
            Crowding::Contended => self.0.of_mut(Direction::of(class)).take(slave, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Datagram, Hugepages, Peer, Pool, PoolConfig};

    /// In each step one packet leaves, and the wanted bytes of each slave arrive in turn. Nothing waits in between.
    /// Returns how many bytes each slave got.
    fn run(wants: &[u64], steps: u64) -> Vec<u64> {
        const SERVED: u64 = 1500;
        let mut budgets = Budgets::new(wants.len()).unwrap();
        let (mut got, mut owed) = (vec![0; wants.len()], vec![0; wants.len()]);
        for step in 0..steps {
            budgets.deal(step * SERVED);
            for (slave, wants) in wants.iter().enumerate() {
                owed[slave] += wants;
                while owed[slave] >= 100 {
                    owed[slave] -= 100;
                    got[slave] += u64::from(budgets.take(slave as u32, 100)) * 100;
                }
            }
        }
        got
    }

    #[test]
    fn who_sends_less_than_its_share_loses_nothing_beside_one_who_sends_flat_out() {
        let steps = 20_000;
        // Ten slaves have shares of 150 bytes a step. Nine want 120 bytes. One wants ten times the whole capacity.
        let mut wants = vec![120; 9];
        wants.push(15_000);
        let got = run(&wants, steps);
        assert!(got[..9].iter().all(|got| got.abs_diff(120 * steps) < 200), "{got:?}");
        let share = 150 * steps;
        assert!(got[9] >= share * 9 / 10 && got[9] <= share * 11 / 10 + u64::from(MOST), "{got:?}");
    }

    #[test]
    fn all_who_send_flat_out_have_the_same() {
        let got = run(&[3000; 7], 50_000);
        let all: u64 = got.iter().sum();
        assert!(got.iter().all(|got| got.abs_diff(all / 7) < all / 70), "{got:?}");
        assert!(all <= 50_000 * 1500 + 7 * u64::from(MOST), "no more comes in than leaves: {all}");
    }

    /// A port to which more comes than it sends, and one slave that uses up its budget in each direction.
    #[test]
    fn what_left_in_a_direction_is_dealt_out_in_that_direction() {
        let config = PoolConfig { frames: 400, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let mut out = Outbox::new(Pool::new(config).unwrap(), 1);
        while out.crowding(PortId(0)) == Crowding::Free {
            let peer = Peer::socket(PortId(0), "192.0.2.1:7".parse().unwrap());
            out.send(Datagram::new(out.alloc().unwrap(), peer, Class::Down, 1));
        }
        for (class, left) in [(Class::Up, [1_000, 0]), (Class::Down, [0, 1_000])] {
            let mut shares = Shares::new(2).unwrap();
            let admits = |shares: &mut Shares, bytes| shares.admits(class, 1, bytes, PortId(0), &out);
            assert!(admits(&mut shares, usize::from(MOST)) && !admits(&mut shares, 1));
            let counters = OutboxCounters::default();
            counters.up.bytes_out.add(left[1]);
            counters.down.bytes_out.add(left[0]);
            shares.deal(&counters);
            assert!(!admits(&mut shares, 1), "bytes of the other direction fill no budget of this one");
            counters.up.bytes_out.add(left[0]);
            counters.down.bytes_out.add(left[1]);
            shares.deal(&counters);
            assert!(admits(&mut shares, 1_000) && !admits(&mut shares, 1), "{class:?}");
        }
    }

    #[test]
    fn one_alone_has_everything() {
        let got = run(&[0, 4000, 0], 10_000);
        assert!(got[1] >= 10_000 * 1500 * 99 / 100, "{got:?}");
    }
}
