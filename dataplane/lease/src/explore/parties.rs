//! A slave whose memory has one word for each unit, and masters that remember what they wrote.

use crate::lender::{Lender, LenderConfig, OpenedSession, Opening, Resources};
use crate::loan::{Loan, LoanConfig, Proposal};
use crate::{ConnectKeys, lock_of};
use frame::Time;
use frame::time::SECOND;
use wire::lease::{PairEnd, UnitSet};
use wire::rc::{PathMtu, Psn, RnrTimer};

/// Units of the slave.
pub(super) const UNITS: u32 = 3;
/// Units that each master wants: together more than there are.
pub(super) const WANT: u32 = 2;
/// How long a recall lasts. Shorter than all else, so that its end is nothing but its end.
pub(super) const RECALL: Time = SECOND / 1000;

pub(super) fn pair(qpn: u32) -> PairEnd {
    PairEnd { qpn, psn: Psn::new(0), read_depth: 16, rnr_timer: RnrTimer::new(12) }
}

#[derive(Clone, Hash)]
pub(super) struct Region {
    pub(super) rkey: u32,
    pub(super) units: Vec<(u16, u32)>,
}

/// Memory with one word for each unit, and regions.
#[derive(Clone, Default, Hash)]
pub(super) struct Memory {
    pub(super) words: Vec<u32>,
    pub(super) regions: Vec<Option<Region>>,
    pub(super) dirty: Vec<u32>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { words: vec![0; UNITS as usize], regions: vec![None; 2], dirty: Vec::new() }
    }

    /// The word that a master reaches with a key.
    pub(super) fn reach(&mut self, rkey: u32, index: u16) -> Option<&mut u32> {
        let region = self.regions.iter().flatten().find(|region| region.rkey == rkey)?;
        let unit = region.units.iter().find(|(at, _)| *at == index)?.1;
        self.words.get_mut(unit as usize)
    }
}

impl Resources for Memory {
    fn open(&mut self, opening: &Opening) -> Option<OpenedSession> {
        let region = &mut self.regions[usize::from(opening.place)];
        assert!(region.is_none(), "the place is open");
        // Each session that a master proposes has other queue pairs.
        let rkey = 2 * opening.pairs[0].qpn + u32::from(opening.master);
        *region = Some(Region { rkey, units: Vec::new() });
        Some(OpenedSession { pairs: [pair(2), pair(3)], rkey })
    }

    fn close(&mut self, place: u16) {
        self.regions[usize::from(place)] = None;
    }

    fn add(&mut self, place: u16, index: u16, unit: u32) {
        let regions = self.regions.iter().flatten();
        assert!(!regions.flat_map(|region| &region.units).any(|(_, other)| *other == unit), "the unit is in a region");
        let region = self.regions[usize::from(place)].as_mut().expect("the place is open");
        assert!(!region.units.iter().any(|(other, _)| *other == index), "the index has a unit");
        region.units.push((index, unit));
        region.units.sort_unstable();
    }

    fn remove(&mut self, place: u16, index: u16, unit: u32) {
        if let Some(region) = &mut self.regions[usize::from(place)] {
            region.units.retain(|entry| *entry != (index, unit));
        }
        self.dirty.push(unit);
        self.dirty.sort_unstable();
    }
}

/// One master: its loan, and what it keeps over a restart.
#[derive(Clone)]
pub(super) struct Master {
    pub(super) loan: Loan,
    pub(super) number: u16,
    pub(super) epoch: u64,
    pub(super) secrets: u8,
    pub(super) rkey: Option<u32>,
    /// What it wrote, by index.
    pub(super) wrote: Vec<(u16, u32)>,
    /// It was refused, since a lease of an earlier start is there, until then.
    pub(super) waits: Option<Time>,
    /// It finds the secrets of earlier starts by their locks.
    pub(super) is_seeded: bool,
}

impl Master {
    pub(super) fn new(number: u16) -> Self {
        let loan = loan(number, 1);
        Self { loan, number, epoch: 1, secrets: 0, rkey: None, wrote: Vec::new(), waits: None, is_seeded: false }
    }

    /// The newest secret.
    pub(super) fn secret(&self) -> [u8; 16] {
        [self.secrets; 16]
    }

    pub(super) fn open(&mut self, now: Time, slave_epoch: u64, resume: bool) {
        let keep = match resume {
            true => self.wrote.iter().map(|(index, _)| *index).collect(),
            false => UnitSet::EMPTY,
        };
        self.propose(now, slave_epoch, resume.then_some(self.secret()), keep);
    }

    /// The secret of a lock of an earlier start.
    pub(super) fn find(&self, lock: &[u8; 16]) -> Option<[u8; 16]> {
        let mut secrets = (1..=self.secrets).filter(|_| self.is_seeded).map(|number| [number; 16]);
        secrets.find(|secret| lock_of(secret) == *lock)
    }

    /// Resumes the lease of an earlier start, and keeps nothing of it.
    pub(super) fn take_over(&mut self, now: Time, slave_epoch: u64, secret: [u8; 16]) {
        self.propose(now, slave_epoch, Some(secret), UnitSet::EMPTY);
    }

    fn propose(&mut self, now: Time, slave_epoch: u64, resume: Option<[u8; 16]>, keep: UnitSet) {
        self.secrets += 1;
        let proposal = Proposal {
            slave_epoch,
            pairs: [pair(2 * u32::from(self.secrets)), pair(2 * u32::from(self.secrets) + 1)],
            path_mtu: PathMtu::B1024,
            lock: lock_of(&self.secret()),
            resume,
        };
        (self.rkey, self.waits) = (None, None);
        self.loan.open(now, proposal, keep, WANT);
    }
}

pub(super) fn loan(master: u16, master_epoch: u64) -> Loan {
    Loan::new(LoanConfig { slave: 17, master, master_epoch, keys: ConnectKeys::none() }, Default::default())
}

pub(super) fn lender(epoch: u64) -> Lender {
    let (path_mtu, keys) = (PathMtu::B4096, ConnectKeys::none());
    let config = LenderConfig { slave: 17, epoch, units: UNITS, leases: 2, quota: UNITS, path_mtu, keys };
    Lender::new(config, [epoch as u8; 32])
}
