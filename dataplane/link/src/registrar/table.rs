//! The slaves of the served shards: one compact entry for each id, in two orders.
//!
//! Slaves that are here stand in the order in which they were last heard, suspects in the order in which they became
//! suspect; so the due ones are at the head. Every slave that ever was here also stands in the order of the last
//! change. So the changes since a generation are a run up to the tail.

use super::list::{Links, List, NIL};
use super::presence::{Presence, State};
use frame::{TableError, Time};
use wire::link::{Heartbeat, Member, MemberState, SpeedClass};

/// One slave.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) presence: Presence,
    pub(super) pages_total: u64,
    pub(super) pages_free: u64,
    /// Its failure domain; zero is unknown.
    domain: u32,
    speed_class: SpeedClass,
    /// The time at which it became suspect.
    pub(super) since: Time,
    /// Generation of the last change; zero if it never was here.
    pub(super) generation: u64,
    /// Place among those that are here, or among the suspects.
    silence: Links,
    /// Place in the order of changes.
    change: Links,
}

// 131,072 of them are 17 MiB.
const _: () = assert!(size_of::<Entry>() <= 136);

fn silence(entry: &mut Entry) -> &mut Links {
    &mut entry.silence
}

fn change(entry: &mut Entry) -> &mut Links {
    &mut entry.change
}

/// The slaves of the served shards.
pub(super) struct Table {
    entries: frame::Table<Entry>,
    here: List,
    suspect: List,
    changes: List,
    pub(super) here_len: u32,
    pub(super) suspect_len: u32,
    /// How many that are here or suspect signed with the older one of two keys.
    pub(super) old_key_len: u32,
    /// How many that are here or suspect speak version 1 of link control.
    pub(super) v1_len: u32,
    /// How many that are here have heard that the gateway is about to leave.
    pub(super) left_len: u32,
    /// How many are or were here: a snapshot names them.
    pub(super) changed_len: u32,
    /// The number of changes; the first generation is 1.
    pub(super) generation: u64,
}

impl Table {
    pub(super) fn new(slaves: u32) -> Result<Self, TableError> {
        let never = Entry {
            presence: Presence::never(),
            pages_total: 0,
            pages_free: 0,
            domain: 0,
            speed_class: SpeedClass::UNKNOWN,
            since: 0,
            generation: 0,
            silence: Links::NONE,
            change: Links::NONE,
        };
        Ok(Self {
            entries: frame::Table::new(slaves as usize, |_| never)?,
            here: List::EMPTY,
            suspect: List::EMPTY,
            changes: List::EMPTY,
            here_len: 0,
            suspect_len: 0,
            old_key_len: 0,
            v1_len: 0,
            left_len: 0,
            changed_len: 0,
            generation: 1,
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn get(&self, at: u32) -> &Entry {
        &self.entries[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.entries[at as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.entries.iter()
    }

    /// How many are here or suspect.
    pub(super) fn present(&self) -> u32 {
        self.here_len + self.suspect_len
    }

    /// Moves an entry to the end of the list of its new state. `was` is its presence before.
    pub(super) fn place(&mut self, at: u32, was: &Presence) {
        let is = self.get(at).presence;
        let old_key = |presence: &Presence| u32::from(presence.is_present() && presence.old_key);
        let v1 = |presence: &Presence| u32::from(presence.is_present() && presence.v1);
        self.v1_len = self.v1_len + v1(&is) - v1(was);
        let left = |presence: &Presence| u32::from(presence.state == State::Here && presence.left);
        self.old_key_len = self.old_key_len + old_key(&is) - old_key(was);
        self.left_len = self.left_len + left(&is) - left(was);
        match was.state {
            State::Here => {
                self.here.remove(&mut self.entries, at, silence);
                self.here_len -= 1;
            }
            State::Suspect => {
                self.suspect.remove(&mut self.entries, at, silence);
                self.suspect_len -= 1;
            }
            State::Never | State::Gone => {}
        }
        match is.state {
            State::Here => {
                self.here.push_back(&mut self.entries, at, silence);
                self.here_len += 1;
            }
            State::Suspect => {
                self.suspect.push_back(&mut self.entries, at, silence);
                self.suspect_len += 1;
            }
            State::Never | State::Gone => {}
        }
    }

    /// Updates which entries signed with the older one of two keys; `old` maps the earlier value to the new one.
    pub(super) fn set_old_keys(&mut self, old: impl Fn(bool) -> bool) {
        self.old_key_len = 0;
        for presence in self.entries.iter_mut().map(|entry| &mut entry.presence) {
            presence.old_key = old(presence.old_key);
            self.old_key_len += u32::from(presence.is_present() && presence.old_key);
        }
    }

    /// The entry that is here and was not heard for the longest time.
    pub(super) fn quietest(&self) -> Option<(u32, &Entry)> {
        self.entries.get(self.here.head as usize).map(|entry| (self.here.head, entry))
    }

    /// The entry that has been suspect for the longest time.
    pub(super) fn oldest_suspect(&self) -> Option<(u32, &Entry)> {
        self.entries.get(self.suspect.head as usize).map(|entry| (self.suspect.head, entry))
    }

    /// How many that are here were heard at or before `time`; stops counting at `enough`.
    pub(super) fn heard_by(&self, time: Time, enough: u32) -> u32 {
        let mut count = 0;
        let mut at = self.here.head;
        while let Some(entry) = self.entries.get(at as usize)
            && entry.presence.heard <= time
            && count < enough
        {
            count += 1;
            at = entry.silence.next;
        }
        count
    }

    /// Gives an entry the next generation and moves it to the end of the order of changes. Returns the entry that
    /// followed it there before, or `NIL`.
    pub(super) fn changed(&mut self, at: u32) -> u32 {
        let next = self.get(at).change.next;
        if self.get(at).generation != 0 {
            self.changes.remove(&mut self.entries, at, change);
        } else {
            self.changed_len += 1;
        }
        self.generation += 1;
        self.get_mut(at).generation = self.generation;
        self.changes.push_back(&mut self.entries, at, change);
        next
    }

    /// The first entry that changed after `generation`, or `NIL`; the search begins at the end.
    pub(super) fn first_after(&self, generation: u64) -> u32 {
        if generation == 0 {
            return self.changes.head;
        }
        let mut first = NIL;
        let mut at = self.changes.tail;
        while let Some(entry) = self.entries.get(at as usize)
            && entry.generation > generation
        {
            first = at;
            at = entry.change.prev;
        }
        first
    }

    /// The first entry from `at` on that changed after `generation`, or `NIL`.
    pub(super) fn skip_to(&self, mut at: u32, generation: u64) -> u32 {
        while let Some(entry) = self.entries.get(at as usize)
            && entry.generation <= generation
        {
            at = entry.change.next;
        }
        at
    }

    /// The entry that changed next after `at`, or `NIL`.
    pub(super) fn next_change(&self, at: u32) -> u32 {
        self.get(at).change.next
    }
}

impl Entry {
    /// The entry as a MEMBERS record has it.
    pub(super) fn member(&self, id: u32) -> Member {
        Member {
            id,
            state: match self.presence.state {
                State::Here => MemberState::Here,
                State::Suspect => MemberState::Suspect,
                State::Never | State::Gone => MemberState::Gone,
            },
            mtu: self.presence.mtu(),
            vcpus: self.presence.vcpus,
            speed_class: self.speed_class,
            domain: self.domain,
            epoch: self.presence.boot_epoch,
            pages_total: self.pages_total,
            pages_free: self.pages_free,
        }
    }

    /// Takes over the memory that it lends, total and free, and where and how its node is connected. Returns whether
    /// masters should hear of it.
    ///
    /// A small drift of the free pages does not count as a change: otherwise every heartbeat of every slave would go to
    /// every master.
    pub(super) fn set_capacity(&mut self, (total, free): (u64, u64), heartbeat: &Heartbeat) -> bool {
        let drift = free.abs_diff(self.pages_free);
        let notable = total != self.pages_total
            || (free == 0) != (self.pages_free == 0)
            || drift > total / 64
            || (heartbeat.domain, heartbeat.speed_class) != (self.domain, self.speed_class);
        if notable {
            (self.pages_total, self.pages_free) = (total, free);
            (self.domain, self.speed_class) = (heartbeat.domain, heartbeat.speed_class);
        }
        notable
    }
}
