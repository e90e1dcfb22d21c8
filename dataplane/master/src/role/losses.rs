//! Extents are freed or lost, and requests on them end.

use super::Master;
use super::allocation::AVOID;
use crate::event::MasterEvent;
use crate::extents::ExtentState;
use crate::pending::Waiting;
use crate::request::{Loss, PageStatus, Urgency};
use frame::Time;
use transport::Memory;

impl<M: Memory> Master<M> {
    /// The client needs an extent no more.
    pub(super) fn free_extent(&mut self, place: u32) {
        let Some(extent) = self.extents.get_mut(place) else { return };
        let at = match extent.state {
            ExtentState::Live(path, slot) => Ok((path, slot)),
            ExtentState::Lost(loss) => Err(loss),
            ExtentState::Free | ExtentState::Promised(_) | ExtentState::Leaving(_) => return,
        };
        extent.state = ExtentState::Leaving(at);
        let client = extent.client;
        if let Some(client) = self.clients.get_mut(client) {
            client.extents -= 1;
        }
        self.vacate(place);
    }

    /// A freed extent without requests leaves its place.
    pub(super) fn vacate(&mut self, place: u32) {
        let Some(extent) = self.extents.get(place) else { return };
        let ExtentState::Leaving(at) = extent.state else { return };
        if extent.pending > 0 {
            return;
        }
        self.extents.release(place);
        if let Ok((path, slot)) = at {
            if let Some(connection) = self.connections.get_mut(path as usize) {
                connection.units.give_back(slot);
            }
            self.list(path);
        }
    }

    /// A unit is lost, with all its extents.
    pub(super) fn lose_unit(&mut self, path: u32, index: u16, loss: Loss) {
        let mut lost = Vec::new();
        if let Some(connection) = self.connections.get_mut(path as usize) {
            connection.units.lose(index, |extent| lost.push(extent));
        }
        lost.into_iter().for_each(|extent| self.lose_extent(extent, loss));
    }

    fn lose_extent(&mut self, place: u32, loss: Loss) {
        let Some(extent) = self.extents.get_mut(place) else { return };
        let client = extent.client;
        match extent.state {
            ExtentState::Leaving(_) => extent.state = ExtentState::Leaving(Err(loss)),
            ExtentState::Live(..) if self.allocations.iter().any(|of| of.has(place)) => {
                // Nobody has heard of it yet: it gets another place.
                extent.state = ExtentState::Promised(None);
                self.place_at = self.now;
            }
            ExtentState::Live(..) => {
                extent.state = ExtentState::Lost(loss);
                self.counters.extents_lost.add(1);
                let (client, extent) = (self.clients.id(client), self.extents.id(place));
                self.tell(MasterEvent::ExtentLost { client, extent, loss });
            }
            ExtentState::Free | ExtentState::Promised(_) | ExtentState::Lost(_) => {
                frame::never!("an extent is lost that has no place");
            }
        }
    }

    /// All that a slave lent is lost: it is gone, has started again, or has ended the lease.
    pub(super) fn lose_slave(&mut self, now: Time, path: u32, loss: Loss) {
        let Some(connection) = self.connections.get_mut(path as usize) else { return };
        let (mut lost, slave) = (Vec::new(), connection.slave);
        let units = connection.units.held();
        connection.units.lose_all(|extent| lost.push(extent));
        if loss == Loss::SlaveGone {
            connection.left_behind = connection.left_behind.max(units);
        } else {
            (connection.secret, connection.left_behind) = (None, 0);
        }
        lost.into_iter().for_each(|extent| self.lose_extent(extent, loss));
        self.close_pairs(now, path);
        if let Some(connection) = self.connections.get_mut(path as usize) {
            connection.loan.close(now);
            connection.retry_at = frame::time::FOREVER;
        }
        self.end_lost(now, path);
        self.promise_elsewhere(now, path, AVOID);
        if units > 0 {
            self.tell(MasterEvent::SlaveLost { slave, loss });
        }
        self.list(path);
    }

    /// Requests that wait, on extents that are lost, end.
    pub(super) fn end_lost(&mut self, now: Time, path: u32) {
        for pair in Urgency::BOTH.map(Urgency::pair) {
            let lists = self.connections.get_mut(path as usize);
            let taken = lists
                .and_then(|connection| connection.waiting.get_mut(pair))
                .map(|list| std::mem::replace(list, Waiting::EMPTY));
            let (mut all, mut rest) = (taken.unwrap_or(Waiting::EMPTY), Waiting::EMPTY);
            while let Some(index) = self.pending.pop(&mut all) {
                match self.loss_of(index) {
                    Some(status) => self.finish(now, index, status),
                    None => self.pending.push(&mut rest, index),
                }
            }
            if let Some(list) = self.connections.get_mut(path as usize).and_then(|at| at.waiting.get_mut(pair)) {
                *list = rest;
            }
        }
    }

    /// How a request ends whose extent is lost.
    pub(super) fn loss_of(&self, index: u32) -> Option<PageStatus> {
        let extent = self.pending.get(index)?.request.extent.place();
        self.extents.get(extent)?.loss().map(PageStatus::from)
    }
}
