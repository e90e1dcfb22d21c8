//! Who may have how much of a port for which more comes than it can send.
//!
//! While no port is contended, nothing here is touched. While one is, each slave has a budget of bytes in each direction: upward
//! of what it sends, downward of what is for it. The bytes that leave are dealt out evenly to the slaves that are there, as deficit
//! round robin does, but without queues of their own: a clock says how many bytes each slave's turns were worth so far, and
//! what a slave did not use of them it may use later, up to `MOST`. A record beyond the budget of its slave is dropped, before
//! anything is done for it. So who sends flat out loses what is too much, and who sends less than its share loses nothing.
//!
//! It is by slave and not by master in both directions: a slave is a stranger's machine on a link of its own, and masters are
//! few and trusted. It is before aggregation, since one datagram to a master has records of many slaves.

use frame::outbox::{Crowding, OutboxCounters};
use frame::{Class, Outbox, PortId, Table};

/// The most bytes that a slave can have left of its turns.
const MOST: u16 = u16::MAX;
/// Who sent nothing while each slave had turns of so many bytes does not count as there.
const ROUND: u32 = 16 << 10;

/// One slave's budget in one direction.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// What the clock was when the budget was last looked at.
    seen: u32,
    /// What was left then.
    left: u16,
    /// The round in which the slave was last there.
    round: u16,
}

/// The budgets of one direction.
#[derive(Debug)]
struct Direction {
    shares: Table<Share>,
    /// Bytes that each slave's turns were worth so far.
    clock: u32,
    /// The same when the round began.
    began: u32,
    round: u16,
    /// Slaves that were there in this round, and in the one before.
    there: u32,
    before: u32,
    /// Bytes that had left at the last look, and those that are not dealt out yet.
    out: u64,
    rest: u64,
}

impl Direction {
    fn new(slaves: usize) -> Self {
        let share = Share { seen: 0, left: MOST, round: 0 };
        Self {
            shares: Table::new(slaves, |_| share),
            clock: 0,
            began: 0,
            round: 1,
            there: 0,
            before: 0,
            out: 0,
            rest: 0,
        }
    }

    /// Deals out what has left since the last look.
    fn deal(&mut self, out: u64) {
        let slaves = u64::from(self.there.max(self.before).max(1));
        let bytes = out.wrapping_sub(std::mem::replace(&mut self.out, out)).saturating_add(self.rest);
        // More than a full budget for everybody is a full budget for everybody.
        let turns = (bytes / slaves).min(2 * u64::from(MOST));
        self.rest = bytes % slaves;
        self.clock = self.clock.wrapping_add(turns as u32);
        if self.clock.wrapping_sub(self.began) >= ROUND {
            (self.before, self.there) = (self.there, 0);
            self.began = self.clock;
            self.round = self.round.wrapping_add(1);
        }
    }

    /// Takes `bytes` from a slave's budget; `false` where it has not so many.
    fn take(&mut self, slave: u32, bytes: usize) -> bool {
        let Some(share) = self.shares.get_mut(slave as usize) else { return true };
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
pub struct Shares {
    up: Direction,
    down: Direction,
}

impl Shares {
    /// Budgets of so many slaves, all of them full.
    pub fn new(slaves: u32) -> Self {
        Self { up: Direction::new(slaves as usize), down: Direction::new(slaves as usize) }
    }

    /// Deals out what has left since the last time.
    pub fn deal(&mut self, counters: &OutboxCounters) {
        self.up.deal(counters.up_bytes_out.get());
        self.down.deal(counters.down_bytes_out.get());
    }

    /// Whether `bytes` of a slave, on their way to a port, may come in. `class` is their direction.
    pub fn admits(&mut self, class: Class, slave: u32, bytes: usize, port: PortId, out: &Outbox) -> bool {
        match out.crowding(port) {
            Crowding::Free => true,
            Crowding::Full => false,
            Crowding::Contended => {
                let direction = if class == Class::Down { &mut self.down } else { &mut self.up };
                direction.take(slave, bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes of each slave come in turn for one byte that leaves, and nothing waits in between: who got how much?
    fn run(wants: &[u64], steps: u64) -> Vec<u64> {
        const SERVED: u64 = 1500;
        let mut direction = Direction::new(wants.len());
        let (mut got, mut owed) = (vec![0; wants.len()], vec![0; wants.len()]);
        for step in 0..steps {
            direction.deal(step * SERVED);
            for (slave, wants) in wants.iter().enumerate() {
                owed[slave] += wants;
                while owed[slave] >= 100 {
                    owed[slave] -= 100;
                    got[slave] += u64::from(direction.take(slave as u32, 100)) * 100;
                }
            }
        }
        got
    }

    #[test]
    fn who_sends_less_than_its_share_loses_nothing_beside_one_who_sends_flat_out() {
        let steps = 20_000;
        // Ten have shares of 150 bytes a step; nine want 120, and one wants ten times all of it.
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
        assert!(all <= 50_000 * 1500 + 7 * u64::from(MOST), "no more than leaves comes in: {all}");
    }

    #[test]
    fn one_alone_has_everything() {
        let got = run(&[0, 4000, 0], 10_000);
        assert!(got[1] >= 10_000 * 1500 * 99 / 100, "{got:?}");
    }
}
