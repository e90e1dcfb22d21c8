//! One lease: its session, its units, and what is recalled of it.

use super::resources::OpenedSession;
use crate::key::KeyNumber;
use frame::Time;
use wire::lease::{Connect, Disconnect, MAX_UNITS, SECRET_LEN, UnitSet};
use wire::rc::PathMtu;

/// What an index of a lease has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Slot {
    Empty,
    /// This unit of the slave.
    Unit(u32),
    /// A unit that was taken by force. It stays empty until the master has shown that it knows.
    Taken,
}

/// What is recalled of a lease.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Debt {
    /// Units that the master must give back; 0 is no recall.
    pub(super) units: u32,
    /// Until when.
    pub(super) until: Time,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Lease {
    pub(super) master_epoch: u64,
    /// Of the last CONNECT that was accepted.
    pub(super) seq: u64,
    pub(super) session: u64,
    pub(super) lock: [u8; SECRET_LEN],
    pub(super) path_mtu: PathMtu,
    /// `None` when the role had no queue pairs for a session that was to be resumed.
    pub(super) opened: Option<OpenedSession>,
    /// When the last CONNECT was accepted.
    pub(super) renewed: Time,
    slots: Box<[Slot]>,
    held: u32,
    pub(super) debt: Debt,
    /// When the master is told of its debt, unasked.
    pub(super) tell: Option<Time>,
}

impl Lease {
    /// A lease without units and without a session, of a slave that has so many units.
    pub(super) fn new(connect: &Connect, units: u32) -> Self {
        Self {
            master_epoch: connect.master_epoch,
            seq: connect.seq,
            session: 0,
            lock: connect.lock,
            path_mtu: connect.path_mtu,
            opened: None,
            renewed: 0,
            slots: vec![Slot::Empty; (units as usize).min(MAX_UNITS)].into(),
            held: 0,
            debt: Debt::default(),
            tell: None,
        }
    }

    /// How many units it has.
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// Its master is to be told of its state, if it has a session.
    pub(super) fn tell_at(&mut self, now: Time) {
        self.tell = self.opened.map(|_| now);
    }

    /// Its units: index and number.
    pub(super) fn units(&self) -> impl DoubleEndedIterator<Item = (u16, u32)> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            // There are 4,096 at most.
            Slot::Unit(unit) => Some((index as u16, *unit)),
            _ => None,
        })
    }

    /// Its indexes that have a unit.
    pub(super) fn indexes(&self) -> UnitSet {
        self.units().map(|(index, _)| index).collect()
    }

    /// Takes out the unit of an index, which is [`Slot::Empty`] or [`Slot::Taken`] then.
    pub(super) fn take_out(&mut self, index: u16, leave: Slot) -> Option<u32> {
        let slot = self.slots.get_mut(usize::from(index))?;
        let Slot::Unit(unit) = *slot else { return None };
        *slot = leave;
        self.held -= 1;
        Some(unit)
    }

    /// The master has shown which indexes it keeps: of all others it knows that they are empty.
    pub(super) fn forget_taken(&mut self, keep: &UnitSet) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if *slot == Slot::Taken && !keep.contains(index as u16) {
                *slot = Slot::Empty;
            }
        }
    }

    /// The empty indexes that the master does not believe to have.
    pub(super) fn vacant(&self, keep: &UnitSet) -> UnitSet {
        let empty = self.slots.iter().enumerate().filter(|(_, slot)| **slot == Slot::Empty);
        empty.map(|(index, _)| index as u16).collect::<UnitSet>().without(keep)
    }

    /// Puts a unit into a vacant index.
    pub(super) fn put(&mut self, index: u16, unit: u32) {
        if let Some(slot @ Slot::Empty) = self.slots.get_mut(usize::from(index)) {
            *slot = Slot::Unit(unit);
            self.held += 1;
        }
    }
}

/// Where a lease is, or was.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Place {
    /// Whose it is, or was last.
    pub(super) master: u16,
    pub(super) lease: Option<Lease>,
    /// When the last lease of this master ended. Cookies from before open nothing.
    pub(super) ended: Option<Time>,
    /// What the master of the lease that ended is told once.
    pub(super) farewell: Option<Disconnect>,
    /// The key that signed the master's last message.
    pub(super) signer: KeyNumber,
}
