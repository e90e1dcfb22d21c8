//! What lcores tell, and what becomes of areas.

use crate::connection::{Connection, Step, refused};
use crate::lcores::Told;
use crate::running::{OwnerKey, Running};
use channel::message::{Message, MessageBody, RefusedFor};
use channel::{AreaInfo, AreaName, ChannelStatus};
use master::{
    AllocationRefusal, Attachment, ClientId, MasterEvent, PageStatus, ServingCommand, ServingEvent, channel_status,
};
use std::sync::Arc;

impl Running<'_> {
    pub(crate) fn event(&mut self, lcore: usize, event: Told) {
        match event {
            Told::Serving(ServingEvent::Attached(number, client)) => self.attached(lcore, number, client),
            Told::Serving(ServingEvent::Broken(client, why)) => {
                if let Some(number) = self.owners.get(&(lcore, client)).and_then(|owner| owner.connection) {
                    self.close(number, &why.to_string());
                }
            }
            Told::Master(event) => self.master_event(lcore, event),
        }
    }

    /// The extents of an owner have changed: readers see it.
    pub(crate) fn note(&mut self, key: OwnerKey) {
        let Some(owner) = self.owners.get(&key) else { return };
        let connection = owner.connection.and_then(|number| self.connections.get(&number));
        if let Some(entry) = connection.and_then(|connection| connection.entry.as_ref()) {
            entry.set_extents(owner.holdings.len());
        }
        if let Some(name) = owner.area.clone() {
            self.show(&name);
        }
    }

    /// Readers see an area as it is.
    fn show(&self, name: &AreaName) {
        let area = self.areas.get(name).and_then(|area| Some((area, area.client?)));
        let Some((area, client)) = area else { return self.register.remove_area(name) };
        let holdings = self.owners.get(&(area.lcore, client)).map(|owner| &owner.holdings);
        let connection = area.connection.and_then(|number| self.connections.get(&number));
        self.register.set_area(AreaInfo {
            name: name.clone(),
            user: area.user,
            state: area.state(),
            pid: connection.map_or(0, |connection| connection.who.0),
            extents: holdings.map_or(0, |holdings| holdings.len()),
            lost: holdings.map_or(0, |holdings| holdings.lost()),
        });
    }

    /// The lcore of a connection gets its channel, if no earlier connection of its area is in the way.
    pub(crate) fn attach(&mut self, number: u64, attachment: Box<Attachment>) {
        let Some(connection) = self.connections.get(&number) else { return };
        match connection.area.clone() {
            Some(name) => {
                if let Some(area) = self.areas.get_mut(&name) {
                    area.waiting = Some(attachment);
                }
                self.attach_waiting(&name);
            }
            None => self.command(connection.lcore, ServingCommand::Attach(attachment)),
        }
    }

    fn attach_waiting(&mut self, name: &AreaName) {
        let Some(area) = self.areas.get_mut(name) else { return };
        if area.is_ending || area.attaching.is_some() {
            return;
        }
        let (Some(mut attachment), Some(connection)) = (area.waiting.take(), area.connection) else { return };
        attachment.resume = area.client;
        area.attaching = Some(connection);
        let lcore = area.lcore;
        self.command(lcore, ServingCommand::Attach(attachment));
    }

    /// The number of the MAPPED of a connection that waits for the end of requests of an earlier one.
    pub(crate) fn waits_for_area(&self, number: u64) -> Option<u64> {
        let connection = self.connections.get(&number)?;
        let area = self.areas.get(connection.area.as_ref()?)?;
        connection.attaching().filter(|_| area.waiting.is_some())
    }

    fn attached(&mut self, lcore: usize, number: u64, client: Option<ClientId>) {
        let area = self.areas.attaching(number).map(|(name, area)| {
            area.attaching = None;
            (name, area.client.is_some())
        });
        let Some(connection) = self.connections.get_mut(&number) else {
            return self.attached_too_late(lcore, area.map(|(name, _)| name), client);
        };
        let step = connection.attached(client, area.as_ref().is_some_and(|(_, is_back)| *is_back), &self.limits);
        if let Some(client) = client {
            if let Some(entry) = &connection.entry {
                self.register.add(number, Arc::clone(entry));
                let (quota, shared) = (u64::from(entry.quota) * 2, entry.shared >> 20);
                tracing::info!(
                    "{} has a channel: {shared} MiB shared, at most {quota} MiB of slaves",
                    connection.describe()
                );
            }
            let owner = self.owners.entry((lcore, client)).or_default();
            (owner.connection, owner.area) = (Some(number), connection.area.clone());
            if let Some(area) = connection.area.as_ref().and_then(|name| self.areas.get_mut(name)) {
                area.client = Some(client);
            }
            self.note((lcore, client));
        }
        self.step(number, step);
    }

    /// The connection went while its lcore attached its channel.
    fn attached_too_late(&mut self, lcore: usize, area: Option<AreaName>, client: Option<ClientId>) {
        let kept = area.as_ref().and_then(|name| self.areas.get_mut(name));
        match (kept, client) {
            (Some(area), Some(client)) => {
                area.is_ending = true;
                self.command(lcore, ServingCommand::Park(client));
            }
            (None, Some(client)) => self.command(lcore, ServingCommand::Detach(client)),
            (_, None) => {}
        }
        if let Some(name) = area {
            self.attach_waiting(&name);
            self.show(&name);
        }
    }

    /// The connection that had an area is gone. Its extents stay.
    pub(crate) fn leave_area(&mut self, name: &AreaName, client: Option<ClientId>) {
        let Some(area) = self.areas.get_mut(name) else { return };
        (area.connection, area.waiting) = (None, None);
        match (area.client, client) {
            (_, Some(client)) => {
                area.is_ending = true;
                let lcore = area.lcore;
                if let Some(owner) = self.owners.get_mut(&(lcore, client)) {
                    owner.connection = None;
                }
                self.command(lcore, ServingCommand::Park(client));
            }
            // It never had a channel: there is nothing to be kept.
            (None, None) => self.areas.remove(name),
            (Some(_), None) => {}
        }
        self.show(name);
    }

    /// All requests of an earlier connection of an area have ended.
    fn parked(&mut self, lcore: usize, client: ClientId, parked: ClientId) {
        let owner = self.owners.remove(&(lcore, client));
        let Some((owner, name)) = owner.and_then(|owner| owner.area.clone().map(|name| (owner, name))) else {
            // Nobody wants it any more.
            return self.command(lcore, ServingCommand::Detach(parked));
        };
        let (extents, lost) = (owner.holdings.len(), owner.holdings.lost());
        self.owners.insert((lcore, parked), owner);
        if let Some(area) = self.areas.get_mut(&name) {
            (area.client, area.is_ending) = (Some(parked), false);
            tracing::info!("area {name} (user {}) is kept: {extents} extents, {lost} of them lost", area.user);
        }
        self.attach_waiting(&name);
        self.show(&name);
    }

    /// An application's area is to be none any more: its extents are those of the connection alone.
    pub(crate) fn remove_area(&mut self, number: u64, tag: u64, key: OwnerKey) -> Step {
        let Some(connection) = self.connections.get_mut(&number) else { return Step::Answers(Vec::new()) };
        let Some(name) = connection.area.take() else {
            return Step::Answer(refused(tag, RefusedFor::NO_SUCH_AREA, 0));
        };
        if let Some(entry) = connection.entry.as_mut() {
            Arc::make_mut(entry).area = None;
            self.register.add(number, Arc::clone(entry));
        }
        tracing::info!("{} has removed area {name}", connection.describe());
        if let Some(owner) = self.owners.get_mut(&key) {
            owner.area = None;
        }
        self.areas.remove(&name);
        self.show(&name);
        Step::Answer(Message { tag, body: MessageBody::Removed })
    }

    fn allocated(&mut self, key: OwnerKey, tag: u64, result: Result<Vec<u64>, (RefusedFor, u64)>) {
        let Some(owner) = self.owners.get_mut(&key) else { return };
        if let Ok(extents) = &result {
            // Also if its connection has ended: then the next one of the area finds them.
            owner.holdings.add(extents);
        }
        let connection = owner.connection;
        self.note(key);
        if let Some(number) = connection
            && let Some(step) = self.connections.get_mut(&number).and_then(|of| of.allocated(tag, result))
        {
            self.step(number, step);
        }
    }

    fn master_event(&mut self, lcore: usize, event: MasterEvent) {
        // Masters of several lcores tell the same of a gateway: each says which one it is.
        let who = if self.lcores.len() > 1 { format!("lcore {lcore}: ") } else { String::new() };
        match event {
            MasterEvent::Allocated { client, tag, extents } => {
                let extents = extents.iter().map(|extent| extent.get()).collect();
                self.allocated((lcore, client), tag, Ok(extents));
            }
            MasterEvent::NotAllocated { client, tag, why } => {
                self.allocated((lcore, client), tag, Err(refusal(why)));
            }
            MasterEvent::ExtentLost { client, extent, loss } => {
                let (key, extent) = ((lcore, client), extent.get());
                let status: ChannelStatus = channel_status(PageStatus::from(loss));
                let Some(owner) = self.owners.get_mut(&key) else { return };
                owner.holdings.lose(extent, status);
                let connection = owner.connection;
                self.note(key);
                if let Some(number) = connection {
                    self.answer(number, &Connection::lost(extent, status));
                }
            }
            MasterEvent::ExtentRecalled { client, extent, until } => {
                let extent = extent.get();
                let within = until.saturating_sub(self.clock.now());
                let Some(owner) = self.owners.get_mut(&(lcore, client)) else { return };
                owner.holdings.recall(extent, until);
                if let Some(number) = owner.connection {
                    self.answer(number, &Connection::recalled(extent, within));
                }
            }
            MasterEvent::ClientParked { client, parked } => self.parked(lcore, client, parked),
            MasterEvent::ClientAdded(..) | MasterEvent::BufferAdded(..) | MasterEvent::ClientRemoved(_) => {}
            MasterEvent::SlaveConnected { .. } => tracing::info!("{who}{event}"),
            MasterEvent::Gateway(_, ref of_gateway) if is_good(of_gateway) => tracing::info!("{who}{event}"),
            MasterEvent::Gateway(..) | MasterEvent::SlaveRefused { .. } | MasterEvent::SlaveLost { .. } => {
                tracing::warn!("{who}{event}");
            }
        }
    }
}

/// Whether an event of a gateway is what an operator wants to see.
fn is_good(event: &link::NodeEvent) -> bool {
    use link::NodeEvent::{Draining, MtuProven, Registered};
    matches!(event, Registered { .. } | MtuProven { .. } | Draining)
}

/// Why an allocation failed, as applications are told.
fn refusal(why: AllocationRefusal) -> (RefusedFor, u64) {
    let reason = match why {
        AllocationRefusal::NoSuchClient => RefusedFor::NO_SUCH_CLIENT,
        AllocationRefusal::Quota => RefusedFor::QUOTA,
        AllocationRefusal::Count => RefusedFor::COUNT,
        AllocationRefusal::Extents => RefusedFor::EXTENTS,
        AllocationRefusal::NoMemory => RefusedFor::NO_MEMORY,
    };
    (reason, 0)
}
