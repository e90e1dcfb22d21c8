//! Where slaves and masters are: this lcore's copy, changed only by the registrar's route changes.
//!
//! A destination is a dense number: the slaves of the served shards come first, then the masters. It is the index of
//! the pointer array and of the routes. Each route gives the UDP source port with which raw ports send its cargo, so
//! that a receiver's RSS spreads lanes and keeps the records of one slave together. Link control does not use these
//! ports: it leaves from the port where the gateway listens.

use frame::{Class, PackedOrigin, Peer, Table, TableError};
use link::Route;
use wire::{ShardSet, SlaveId};

/// A dense number of a slave or master.
pub type Destination = u32;

/// The routes of one lcore.
#[derive(Debug)]
pub struct Routes {
    shards: ShardSet,
    slaves: Table<Option<Route>>,
    /// Where each slave sends from, if that is IPv4; nobody for others. Most upward records need nothing else.
    origins: Table<PackedOrigin>,
    /// The same routes by place. A master keeps its place while it is registered, and so keeps its aggregation buffer.
    masters: Vec<Option<Route>>,
    /// The registered masters: a short list, searched for every datagram.
    registered: Vec<Master>,
    /// The UDP port that cargo to masters is sent from.
    source_port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Master {
    id: u16,
    place: u16,
    route: Route,
}

/// The result of comparing a record's source with the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlaveSource {
    /// The slave is registered there.
    Registered,
    /// The slave is registered somewhere else.
    Elsewhere,
    /// The slave is not registered.
    Unknown,
}

impl Routes {
    /// An empty table for the given shards and at most `masters` masters. Cargo leaves to masters on this lane.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(shards: ShardSet, masters: u16, lane: u16) -> Result<Self, TableError> {
        Ok(Self {
            slaves: Table::new(shards.slaves() as usize, |_| None)?,
            origins: Table::new(shards.slaves() as usize, |_| PackedOrigin::NOBODY)?,
            masters: vec![None; usize::from(masters)],
            registered: Vec::with_capacity(usize::from(masters)),
            source_port: wire::lane_port(lane),
            shards,
        })
    }

    /// How many destinations there are: the size of the pointer array.
    pub fn destinations(&self) -> u32 {
        (self.slaves.len() + self.masters.len()) as u32
    }

    /// The shards.
    #[inline]
    pub fn shards(&self) -> &ShardSet {
        &self.shards
    }

    /// The class of the datagrams that leave to a destination.
    #[inline]
    pub fn class(&self, destination: Destination) -> Class {
        if (destination as usize) < self.slaves.len() { Class::Down } else { Class::Up }
    }

    /// The route of a destination.
    #[inline]
    pub fn get(&self, destination: Destination) -> Option<&Route> {
        match self.slaves.get(destination as usize) {
            Some(route) => route.as_ref(),
            None => self.masters.get(destination as usize - self.slaves.len())?.as_ref(),
        }
    }

    /// Asks the cache for what [`Routes::is_slave_source`] reads.
    #[inline]
    pub fn prefetch_origin(&self, slave: Destination) {
        frame::copy::prefetch_element(&self.origins, slave as usize);
    }

    /// Asks the second-level cache for a slave's route.
    #[inline]
    pub fn prefetch_far(&self, destination: Destination) {
        frame::copy::prefetch_far_element(&self.slaves, destination as usize);
    }

    /// The destination of the slave with the id in a record header; `None` when the id is out of range, or its shard is
    /// not served.
    #[inline]
    pub fn slave(&self, id: u32) -> Option<Destination> {
        self.shards.index_of(id)
    }

    /// The destination of the master at this place of `masters`.
    #[inline]
    fn behind_slaves(&self, place: u16) -> Destination {
        self.slaves.len() as Destination + Destination::from(place)
    }

    #[inline]
    fn registered(&self, id: u16) -> Option<&Master> {
        self.registered.iter().find(|master| master.id == id)
    }

    /// The destination of a registered master.
    #[inline]
    pub fn master(&self, id: u16) -> Option<Destination> {
        Some(self.behind_slaves(self.registered(id)?.place))
    }

    /// Whether `source` is where the master `id` is registered.
    #[inline]
    pub fn is_master_source(&self, id: u16, source: &Peer) -> bool {
        self.registered(id).is_some_and(|master| source.is_same_origin(&master.route.peer, master.route.fixed_port))
    }

    /// The destination of a registered master, and its route.
    #[inline]
    pub fn master_route(&self, id: u16) -> Option<(Destination, &Route)> {
        let master = self.registered(id)?;
        Some((self.behind_slaves(master.place), &master.route))
    }

    /// Whether any master is registered at `source`.
    pub fn is_any_master(&self, source: &Peer) -> bool {
        self.registered.iter().any(|master| source.is_same_origin(&master.route.peer, master.route.fixed_port))
    }

    /// Whether the slave `destination` is registered at `source`.
    #[inline]
    pub fn is_slave_source(&self, destination: Destination, source: &Peer) -> bool {
        self.origins.get(destination as usize).is_some_and(|origin| origin.is_of(source))
            || self.slave_source(destination, source) == SlaveSource::Registered
    }

    /// Whether the slave `destination` is registered, and at `source`; if not, which of both.
    #[inline]
    pub fn slave_source(&self, destination: Destination, source: &Peer) -> SlaveSource {
        match self.slaves.get(destination as usize) {
            Some(Some(route)) if source.is_same_origin(&route.peer, route.fixed_port) => SlaveSource::Registered,
            Some(Some(_)) => SlaveSource::Elsewhere,
            _ => SlaveSource::Unknown,
        }
    }

    /// Sets or removes a slave's route. Returns its destination, or `None` when its shard is not served.
    pub fn set_slave(&mut self, id: SlaveId, route: Option<Route>) -> Option<Destination> {
        let destination = self.shards.index(id)?;
        let at = destination as usize;
        *self.slaves.get_mut(at)? = route.map(|route| sent_from(route, wire::lane_port(id.lane())));
        let origin = route.and_then(|route| PackedOrigin::of(&route.peer, route.fixed_port));
        *self.origins.get_mut(at)? = origin.unwrap_or(PackedOrigin::NOBODY);
        Some(destination)
    }

    /// Sets or removes a master's route. Returns its destination, or `None` when it has no place and there is no room.
    pub fn set_master(&mut self, id: u16, route: Option<Route>) -> Option<Destination> {
        let route = route.map(|route| sent_from(route, self.source_port));
        let known = self.registered.iter().position(|master| master.id == id);
        let place = match known {
            Some(at) => self.registered.get(at)?.place,
            None => self.masters.iter().position(Option::is_none)? as u16,
        };
        match (known, route) {
            (None, Some(route)) => self.registered.push(Master { id, place, route }),
            (Some(at), Some(route)) => self.registered.get_mut(at)?.route = route,
            (Some(at), None) => {
                self.registered.swap_remove(at);
            }
            (None, None) => return None,
        }
        *self.masters.get_mut(usize::from(place))? = route;
        Some(self.behind_slaves(place))
    }
}

fn sent_from(mut route: Route, source_port: u16) -> Route {
    route.peer.source_port = source_port;
    route
}
