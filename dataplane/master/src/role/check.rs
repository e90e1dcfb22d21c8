//! The books of a master, counted again.

use super::Master;
use crate::extents::ExtentState;
use crate::pending::Stage;
use transport::Memory;

/// What a master has, counted one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasterBooks {
    /// Units that slaves lend. `32 * units = used + free`.
    pub units: u32,
    /// Places for extents that are taken: `used = live + leaving`.
    pub used: u32,
    /// Places for extents that are free.
    pub free: u32,
    /// Extents that clients have, or that are being allocated and have a place.
    pub live: u32,
    /// Extents that were freed, have a place, and have requests under way.
    pub leaving: u32,
    /// Extents that are being allocated and have no place yet.
    pub promised: u32,
    /// Extents that are lost and not freed yet, or freed with requests under way.
    pub lost: u32,
    /// Requests that are not complete.
    pub requests: u32,
    /// Completions that were not polled.
    pub completions: u32,
}

impl<M: Memory> Master<M> {
    /// Counts all books again, and compares them with each other: for tests and the simulator, after every step.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(&self) -> Result<MasterBooks, String> {
        let mut books = MasterBooks::default();
        for connection in &self.connections {
            let (units, slave) = (&connection.units, connection.slave);
            units.check().map_err(|error| format!("slave {slave}: {error}"))?;
            (books.units, books.used) = (books.units + units.held(), books.used + units.used());
            books.free += units.free();
            // While a session is open or can be resumed, the loan has the same units.
            let held = connection.loan.held();
            if units.indexes() != *held && !(connection.loan.is_closed() && units.held() == 0) {
                return Err(format!("slave {slave}: the loan has units {held:?}, the books {:?}", units.indexes()));
            }
        }
        let mut of_clients = std::collections::BTreeMap::<u16, u32>::new();
        for (place, extent) in self.extents.iter() {
            match extent.state {
                ExtentState::Live(path, slot) | ExtentState::Leaving(Ok((path, slot))) => {
                    let at = self.connections.get(path as usize).and_then(|connection| connection.units.at(slot));
                    if at != Some(place) {
                        return Err(format!("extent {place} believes to be where {at:?} is"));
                    }
                    let is_live = matches!(extent.state, ExtentState::Live(..));
                    *if is_live { &mut books.live } else { &mut books.leaving } += 1;
                }
                ExtentState::Promised(_) => books.promised += 1,
                ExtentState::Lost(_) | ExtentState::Leaving(Err(_)) => books.lost += 1,
                ExtentState::Free => {}
            }
            let under_way = self.pending.iter().filter(|entry| {
                let is_of = entry.path.is_some() && entry.request.extent.place() == place;
                is_of && !matches!(entry.stage, Stage::Complete(_))
            });
            if under_way.count() != extent.pending as usize {
                return Err(format!("extent {place} has other requests than it counts"));
            }
            if !matches!(extent.state, ExtentState::Leaving(_)) {
                *of_clients.entry(extent.client).or_default() += 1;
            }
        }
        let is_parked = |of: &crate::allocation::Allocation| self.clients.is_at_rest(of.client.place() as u16);
        if self.allocations.iter().any(is_parked) {
            return Err("an allocation is of a client that is parked, or not there".to_owned());
        }
        if books.used != books.live + books.leaving {
            return Err(format!("{books:?}: places are taken by no extent"));
        }
        for place in 0..self.clients.places() {
            let Some(client) = self.clients.get(place) else { continue };
            let counted = of_clients.get(&place).copied().unwrap_or_default();
            if client.extents != counted {
                return Err(format!("client {place} has {counted} extents and counts {}", client.extents));
            }
            if self.clients.is_at_rest(place) && (client.under_way, client.requests, client.buffers.len()) != (0, 0, 0)
            {
                return Err(format!("client {place} is parked, or not there, and has requests or buffers"));
            }
            let theirs =
                self.pending.iter().filter(|entry| entry.is_counted && entry.request.client == self.clients.id(place));
            let (all, done) = theirs.fold((0, 0), |(all, done), entry| {
                (all + 1, done + u32::from(matches!(entry.stage, Stage::Complete(_))))
            });
            if (client.requests, client.under_way) != (all, all - done) {
                return Err(format!("client {place} has {all} requests and counts {}", client.requests));
            }
        }
        let complete = |stage: Stage| matches!(stage, Stage::Complete(_));
        books.completions = self.pending.iter().filter(|entry| complete(entry.stage)).count() as u32;
        books.requests = self.pending.iter().count() as u32 - books.completions;
        let posted = self.pending.iter().filter(|entry| entry.stage == Stage::Posted).count();
        let counters = &self.counters;
        let ended = counters.requests_done.get() + counters.requests_failed.get();
        if counters.requests.get() != ended + u64::from(books.requests) {
            return Err(format!("{books:?}: requests that were taken are nowhere"));
        }
        let owed: u32 = self
            .connections
            .iter()
            .filter_map(|connection| connection.pairs)
            .flat_map(|pairs| pairs.qpns)
            .filter_map(|qpn| self.endpoint.outstanding(qpn))
            .sum();
        if posted != owed as usize + self.endpoint.completions() {
            return Err(format!("{posted} requests are posted, and queue pairs have {owed}"));
        }
        Ok(books)
    }
}
