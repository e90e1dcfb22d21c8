//! Extents are allocated: on which slaves, and when that is done.

use super::{Master, NONE};
use crate::allocation::Allocation;
use crate::connection::Connection;
use crate::event::{Allocate, AllocationRefusal, MOST_APART, MasterEvent};
use crate::extents::ExtentState;
use crate::request::EXTENTS_PER_UNIT;
use crate::roster::KnownSlave;
use frame::Time;
use frame::time::{FOREVER, MILLISECOND, SECOND};
use lease::time::LEASE;
use lease::{Loan, LoanConfig};
use std::sync::Arc;
use transport::{Memory, PathId, PeerKind};
use wire::lease::UNIT_SHIFT;
use wire::link::MemberState;

/// When an extent for which no slave had room is tried again.
const TRY_AGAIN: Time = 50 * MILLISECOND;

/// How long no extent is promised at a slave that had less than it announced.
pub(super) const AVOID: Time = SECOND;

/// The most extents for which slaves are chosen in one poll.
pub(super) const AT_ONCE: u32 = 64;

/// How many slaves are drawn before all are looked at.
const DRAWS: usize = 16;

/// 4 KiB pages of a unit.
const PAGES_PER_UNIT: u64 = 1 << (UNIT_SHIFT - 12);

impl<M: Memory> Master<M> {
    /// A client wants extents. [`MasterEvent::Allocated`] or [`MasterEvent::NotAllocated`] answers.
    pub fn allocate(&mut self, now: Time, wanted: Allocate) {
        let Allocate { client, tag, count, apart } = wanted;
        if let Err(why) = self.begin_allocation(&wanted) {
            self.counters.allocations_failed.add(1);
            return self.tell(MasterEvent::NotAllocated { client, tag, why });
        }
        let place = client.place() as u16;
        let extents = (0..count).filter_map(|_| self.extents.take(place)).collect();
        let until = now.saturating_add(self.allocate_within);
        self.allocations.push(Allocation { client, tag, apart, extents, until });
        self.place_at = now;
    }

    fn begin_allocation(&mut self, wanted: &Allocate) -> Result<(), AllocationRefusal> {
        let client = self.clients.find(wanted.client).ok_or(AllocationRefusal::NoSuchClient)?;
        if wanted.count == 0 || wanted.apart && wanted.count > MOST_APART {
            return Err(AllocationRefusal::Count);
        }
        let more = client.extents.checked_add(wanted.count);
        let more = more.filter(|more| *more <= client.quota().extents).ok_or(AllocationRefusal::Quota)?;
        if self.extents.free() < wanted.count as usize {
            return Err(AllocationRefusal::Extents);
        }
        client.extents = more;
        Ok(())
    }

    /// Chooses slaves for extents that have none, and ends allocations that are done or too late.
    pub(super) fn place(&mut self, now: Time) {
        if now >= self.place_at {
            self.place_at = FOREVER;
            for number in 0..self.allocations.len() {
                if !self.place_allocation(now, number) {
                    self.place_at = self.place_at.min(now + TRY_AGAIN);
                }
            }
        }
        let mut number = 0;
        while let Some(allocation) = self.allocations.get(number) {
            let is_live = |extent: &u32| {
                self.extents.get(*extent).is_some_and(|extent| matches!(extent.state, ExtentState::Live(..)))
            };
            if allocation.extents.iter().all(is_live) {
                let Allocation { client, tag, extents, .. } = self.allocations.swap_remove(number);
                let extents = extents.into_iter().map(|extent| self.extents.id(extent)).collect();
                self.counters.allocations_done.add(1);
                self.tell(MasterEvent::Allocated { client, tag, extents });
            } else if now >= allocation.until {
                self.cancel(number, AllocationRefusal::NoMemory);
            } else {
                self.place_at = self.place_at.min(allocation.until);
                number += 1;
            }
        }
    }

    /// Promises the extents of an allocation that have no slave; false if there is none for one of them.
    fn place_allocation(&mut self, now: Time, number: usize) -> bool {
        let Some(allocation) = self.allocations.get(number) else { return true };
        let (client, apart) = (allocation.client.place() as u16, allocation.apart);
        let is_open = |extent: &&u32| {
            self.extents.get(**extent).is_some_and(|extent| extent.state == ExtentState::Promised(None))
        };
        let open: Vec<u32> = allocation.extents.iter().filter(is_open).copied().take(AT_ONCE as usize + 1).collect();
        for extent in open {
            if self.to_place == 0 {
                // The others have their turn in the next poll.
                self.place_at = now;
                return true;
            }
            self.to_place -= 1;
            let taken = if apart { self.domains_of(number) } else { Vec::new() };
            let Some(slave) = self.draw(now, client, &taken) else { return false };
            let Some(path) = self.connect_to(slave) else { return false };
            if let Some(extent) = self.extents.get_mut(extent) {
                extent.state = ExtentState::Promised(Some(path));
            }
            if let Some(connection) = self.connections.get_mut(path as usize) {
                connection.promise(now, extent);
            }
            self.list(path);
        }
        true
    }

    /// The failure domains in which an allocation has extents.
    fn domains_of(&self, number: usize) -> Vec<u64> {
        let extents = self.allocations.get(number).map_or(&[][..], |allocation| &allocation.extents);
        let path_of = |extent: &u32| match self.extents.get(*extent)?.state {
            ExtentState::Live(path, _) | ExtentState::Promised(Some(path)) => Some(path),
            _ => None,
        };
        let slave_of = |path: u32| Some(self.connections.get(path as usize)?.slave);
        let known = extents.iter().filter_map(|extent| self.roster.get(slave_of(path_of(extent)?)?));
        known.map(KnownSlave::domain).collect()
    }

    /// A slave for an extent: of two at random the one with more room.
    fn draw(&mut self, now: Time, client: u16, taken: &[u64]) -> Option<u32> {
        let slaves = self.roster.len();
        let mut best: Option<(u32, u32)> = None;
        let mut found = 0;
        for _ in 0..DRAWS {
            let number = self.random.below(slaves);
            let Some((room, slave)) = self.candidate(now, client, number, taken) else { continue };
            found += 1;
            if best.is_none_or(|(most, _)| room > most) {
                best = Some((room, slave));
            }
            if found == 2 {
                break;
            }
        }
        if best.is_none() {
            let first = self.random.below(slaves);
            let all = (first..slaves).chain(0..first);
            best = all.clone().filter_map(|number| self.candidate(now, client, number, taken)).next();
            if best.is_none() {
                best = all.filter_map(|number| Some((0, self.may_keep_ours(now, number, taken)?))).next();
            }
        }
        best.map(|(_, slave)| slave)
    }

    /// How many extents of a client a slave has room for, and the slave; `None` if none.
    fn candidate(&self, now: Time, client: u16, number: usize, taken: &[u64]) -> Option<(u32, u32)> {
        let known = self.roster.at(number)?;
        let member = &known.member;
        if member.state != MemberState::Here || member.pages_total == 0 || taken.contains(&known.domain()) {
            return None;
        }
        let announced = member.pages_free / PAGES_PER_UNIT * u64::from(EXTENTS_PER_UNIT);
        let announced = u32::try_from(announced).unwrap_or(u32::MAX);
        let room = match self.path_of(member.id).and_then(|path| self.connections.get(path as usize)) {
            None => announced,
            Some(connection) => {
                let is_away = connection.session.is_none() && connection.units.held() > 0;
                if is_away || now < connection.avoid_until || connection.loan.recall().is_some() {
                    return None;
                }
                // What was promised and has no place yet is not announced as taken yet.
                let promised = connection.promised.len() as u32;
                let left_behind = connection.left_behind * EXTENTS_PER_UNIT;
                announced
                    .saturating_add(left_behind)
                    .saturating_add(connection.units.room_for(client))
                    .saturating_sub(promised)
            }
        };
        (room > 0).then_some((room, member.id))
    }

    /// A slave that announces that some of its memory is taken, perhaps by a lease of an earlier start of this master.
    /// Such a lease has ended a minute after this start; until then it is found by opening another one.
    fn may_keep_ours(&self, now: Time, number: usize, taken: &[u64]) -> Option<u32> {
        let known = self.roster.at(number)?;
        let member = &known.member;
        let can_be = self.secrets.has_earlier_starts() && now < self.began + LEASE;
        let is_here = member.state == MemberState::Here && !taken.contains(&known.domain());
        if !can_be || !is_here || member.pages_free >= member.pages_total {
            return None;
        }
        let connection = self.path_of(member.id).and_then(|path| self.connections.get(path as usize));
        let is_untried = |connection: &Connection| !connection.was_open && now >= connection.avoid_until;
        connection.is_none_or(is_untried).then_some(member.id)
    }

    /// The path to a slave; a new one if there is none. Paths are given out in the order of connecting, and given out
    /// again when nothing is left of a connection.
    fn connect_to(&mut self, slave: u32) -> Option<u32> {
        if let Some(path) = self.path_of(slave) {
            return Some(path);
        }
        let epoch = self.roster.get(slave)?.member.epoch;
        let config =
            LoanConfig { slave, master: self.id, master_epoch: self.node.boot_epoch, keys: self.connect_keys.clone() };
        let connection = Connection::new(slave, epoch, Loan::new(config, Arc::clone(&self.loan_counters)));
        let path = if self.connections.len() < self.slaves as usize {
            self.connections.push(connection);
            self.connections.len() as u32 - 1
        } else {
            let vacant = self.connections.iter().position(|old| old.is_vacant() && !old.is_listed)?;
            let old = std::mem::replace(self.connections.get_mut(vacant)?, connection);
            *self.paths.get_mut(old.slave as usize)? = NONE;
            let path = PathId(vacant as u32);
            self.framing.clear_route(path);
            // What was measured on the way to another slave means nothing.
            if self.endpoint.set_path(path, PeerKind::Own).is_err() {
                frame::never!("a path is given out that has queue pairs");
            }
            path.0
        };
        *self.paths.get_mut(slave as usize)? = path;
        Some(path)
    }

    /// Extents that are promised at a path, and have no place, get another slave. Nothing is promised here for a while.
    pub(super) fn promise_elsewhere(&mut self, now: Time, path: u32, avoid: Time) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        connection.avoid_until = connection.avoid_until.max(now + avoid);
        for extent in std::mem::take(&mut connection.promised) {
            if let Some(extent) = self.extents.get_mut(extent) {
                extent.state = ExtentState::Promised(None);
            }
            self.place_at = now;
        }
    }

    /// The allocations of a client end without a result.
    pub(super) fn cancel_allocations(&mut self, client: u16) {
        while let Some(number) = self.allocations.iter().position(|of| of.client.place() == usize::from(client)) {
            self.cancel(number, AllocationRefusal::NoSuchClient);
        }
    }

    fn cancel(&mut self, number: usize, why: AllocationRefusal) {
        let Allocation { client, tag, extents, .. } = self.allocations.swap_remove(number);
        for place in extents {
            match self.extents.get(place).map(|extent| extent.state) {
                Some(ExtentState::Promised(at)) => {
                    let connection = at.and_then(|path| self.connections.get_mut(path as usize));
                    if let Some(connection) = connection {
                        connection.promised.retain(|promised| *promised != place);
                    }
                    at.into_iter().for_each(|path| self.list(path));
                    self.extents.release(place);
                    if let Some(client) = self.clients.get_mut(client.place() as u16) {
                        client.extents -= 1;
                    }
                }
                _ => self.free_extent(place),
            }
        }
        self.counters.allocations_failed.add(1);
        self.tell(MasterEvent::NotAllocated { client, tag, why });
    }
}
