//! The registrar's data for people: `gvm-dp routes` and `stats`.

use super::Registrar;
use super::presence::{Presence, State};
use crate::{Route, RouteChange};
use frame::{Peer, Time};
use wire::SlaveId;
use wire::link::{Member, MemberState};

/// A slave that is here or suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// What masters are told about it.
    pub member: Member,
    /// Its route.
    pub route: Route,
    /// When its last heartbeat was accepted.
    pub heard: Time,
}

/// A master that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterView {
    /// Its id.
    pub id: u16,
    /// Its boot epoch.
    pub epoch: u64,
    /// Its route.
    pub route: Route,
    /// When its last heartbeat was accepted.
    pub heard: Time,
    /// The membership generation that it has; zero for none of this start.
    pub generation: u64,
}

/// The numbers of members, and what they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Slave ids of the served shards.
    pub served: u32,
    /// Slaves that are here.
    pub here: u32,
    /// Slaves that are suspect.
    pub suspect: u32,
    /// Masters that are here.
    pub masters: u32,
    /// The membership generation.
    pub generation: u64,
    /// Differs in each start of the gateway.
    pub epoch: u64,
    /// The hold that nodes are told, in nanoseconds.
    pub hold_ns: u32,
    /// Whether nodes are told that the gateway is about to leave.
    pub draining: bool,
}

impl Registrar {
    /// The numbers of members, and what they are told.
    pub fn summary(&self) -> Summary {
        Summary {
            served: self.config.shards.len() * self.config.scale.slaves_per_gateway(),
            here: self.table.here_len,
            suspect: self.table.suspect_len,
            masters: self.masters().count() as u32,
            generation: self.table.generation,
            epoch: self.config.epoch,
            hold_ns: self.config.hold_ns,
            draining: self.is_draining(),
        }
    }

    /// The slaves that are here or suspect, by id.
    pub fn members(&self) -> impl Iterator<Item = MemberView> + '_ {
        self.table.iter().enumerate().filter_map(|(at, entry)| {
            let route = entry.presence.route()?;
            let id = self.served.slave(at as u32)?;
            Some(MemberView { member: entry.member(id.get()), route, heard: entry.presence.heard })
        })
    }

    /// The masters that are here.
    pub fn masters(&self) -> impl Iterator<Item = MasterView> + '_ {
        self.masters.iter().filter_map(|master| {
            let Presence { boot_epoch, heard, .. } = master.presence;
            let route = master.presence.route()?;
            Some(MasterView { id: master.id, epoch: boot_epoch, route, heard, generation: master.acked })
        })
    }

    /// Whether a slave is there.
    pub fn state(&self, id: SlaveId) -> MemberState {
        let at = self.served.index(id);
        match at.map(|at| self.table.get(at).presence.state) {
            Some(State::Here) => MemberState::Here,
            Some(State::Suspect) => MemberState::Suspect,
            Some(State::Gone | State::Never) | None => MemberState::Gone,
        }
    }

    /// Where a slave is, while it is there.
    pub fn peer(&self, id: SlaveId) -> Option<Peer> {
        let at = self.served.index(id)?;
        self.table.get(at).presence.route().map(|route| route.peer)
    }

    /// All routes, as changes: for an lcore that starts later than the registrar.
    pub fn routes(&self) -> impl Iterator<Item = RouteChange> + '_ {
        let slaves = self.members().filter_map(|view| {
            let id = self.config.scale.slave_id(view.member.id)?;
            Some(RouteChange::Slave { id, route: Some(view.route) })
        });
        let masters = self.masters().map(|view| RouteChange::Master { id: view.id, route: Some(view.route) });
        slaves.chain(masters)
    }
}
