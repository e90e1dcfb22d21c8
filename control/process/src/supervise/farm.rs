//! What the control thread does for a farm of slaves.

use crate::lend::{Lending, UNIT_PAGES};
use frame::Time;
use lcore::mailbox::Sender;
use settings::memory::KeepFree;
use slave::FarmCommand;

/// See the module's documentation.
pub struct FarmControl {
    /// The mailboxes of its lcores.
    lcores: Vec<Sender<FarmCommand>>,
    /// How many ids it has.
    ids: u32,
    lending: Option<Lending>,
    /// The free pages that each id was told last.
    pages_free: Option<u64>,
}

impl FarmControl {
    /// A farm with these mailboxes, and what it lends.
    pub fn new(lcores: Vec<Sender<FarmCommand>>, ids: u32, lending: Option<Lending>) -> Self {
        let farm = Self { lcores, ids, lending, pages_free: None };
        // Before the first look at the host nothing is lent that it might not be able to spare.
        if let Some(lending) = &farm.lending {
            farm.tell(&FarmCommand::LendLimit { units: lending.limit(), within: 0 });
        }
        farm
    }

    /// Sends a command to all lcores.
    pub(super) fn tell(&self, command: &FarmCommand) {
        // A farm gets few commands: there is always room for this one.
        self.lcores.iter().for_each(|lcore| drop(lcore.try_send(command.clone())));
    }

    /// Heartbeats announce what could be granted now. It is the same for all ids: what all of them have, divided.
    fn announce(&mut self) {
        let Some(lending) = &self.lending else { return };
        let pages = u64::from(lending.grantable() / self.ids.max(1)) * UNIT_PAGES;
        if self.pages_free.replace(pages) != Some(pages) {
            self.tell(&FarmCommand::SetPagesFree(pages));
        }
    }

    /// Begins to drain: everything that is lent is recalled.
    pub(super) fn drain(&mut self, now: Time) {
        if let Some(lending) = &mut self.lending {
            lending.leave(now);
        }
        self.tell(&FarmCommand::Drain);
        self.announce();
    }

    /// How long a drain may take before the lcores are told, in nanoseconds.
    pub(super) fn drains_within(&self) -> Time {
        self.lending.as_ref().map_or(0, Lending::drain_within)
    }

    /// Whether masters have given back what they had, or have no more time.
    pub(super) fn drains(&mut self, now: Time) -> bool {
        self.lending.as_mut().is_none_or(|lending| lending.has_left(now))
    }

    /// Looks at the host's memory when that is due; returns when it is due again.
    pub(super) fn work(&mut self, now: Time) -> Time {
        let Some(lending) = &mut self.lending else { return Time::MAX };
        if now < lending.due() {
            return lending.due();
        }
        let change = lending.look(now);
        let due = lending.due();
        if let Some(change) = change {
            self.tell(&FarmCommand::LendLimit { units: change.units, within: change.within });
        }
        self.announce();
        due
    }

    /// From now on the host keeps so much memory free.
    pub(super) fn set_keep_free(&mut self, keep: KeepFree) {
        if let Some(lending) = &mut self.lending {
            lending.set_keep_free(keep);
        }
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        match &self.lending {
            Some(lending) => lending.describe(),
            None => "running".to_owned(),
        }
    }
}
