//! The master as a role.

mod allocation;
mod check;
mod leases;
mod link_control;
mod losses;
mod requests;
mod sessions;

pub use check::MasterBooks;

use crate::allocation::Allocation;
use crate::clients::{Clients, Quiet};
use crate::config::{MasterConfig, MasterError};
use crate::connection::Connection;
use crate::counters::{MasterCounters, MasterHistograms, MasterStats};
use crate::event::{MasterCommand, MasterEvent, MasterEvents};
use crate::extents::{ExtentState, Extents};
use crate::gates::Gates;
use crate::pending::Pending;
use crate::request::{BufferKey, ClientId, ExtentId, Loss, PageOp, PageRequest, Urgency};
use crate::roster::Roster;
use frame::time::{FOREVER, MICROSECOND};
use frame::wheel::Wheel;
use frame::{Burst, DatagramView, Outbox, PortId, Role, Table, Time};
use lease::{ConnectKeys, LeaseSecrets, LoanCounters, Numbers};
use link::NodeConfig;
use records::{Framing, Side};
use std::sync::Arc;
use transport::{Access, Config, Endpoint, Memory, PathId, Region};
use wire::lease::Disconnect;
use wire::link::Member;
use wire::{MsgType, Record, Scale, Walk};

/// A slave to which there is no connection.
const NONE: u32 = u32::MAX;

/// The protection domain of all queue pairs and local memories. Which client may use which memory is checked before.
const DOMAIN: u32 = 1;

/// How late a message of a loan may be.
const LOAN_TICK: Time = 100 * MICROSECOND;

/// Heartbeat intervals after which the queue pairs of a silent slave fail.
const GIVE_UP_INTERVALS: u64 = 5;

/// The most bytes in flight to and from one slave.
const PATH_WINDOW: u32 = 1 << 20;

/// A master: it borrows memory of slaves, and its clients read and write it.
///
/// Commands and [`submit`](Self::submit) give it work; events and [`poll`](Self::poll) give the results. What is
/// submitted leaves with the next [`Role::advance`].
pub struct Master<M> {
    id: u16,
    node: NodeConfig,
    connect_keys: ConnectKeys,
    slaves: u32,
    allocate_within: Time,
    gates: Gates,
    roster: Roster,
    /// For each slave id its path, or [`NONE`].
    paths: Table<u32>,
    /// By path.
    connections: Vec<Connection>,
    /// When a loan has something to do.
    wheel: Wheel,
    /// Paths of connections to be looked after in the next [`Role::advance`].
    listed: Vec<u32>,
    /// Answers to slaves that end their leases, with their paths.
    answers: Vec<(u32, [u8; Disconnect::LEN])>,
    endpoint: Endpoint<M>,
    framing: Framing,
    clients: Clients,
    extents: Extents,
    allocations: Vec<Allocation>,
    /// When extents without a slave are tried again.
    place_at: Time,
    /// Extents for which slaves can still be chosen in this poll.
    to_place: u32,
    pending: Pending,
    random: Numbers,
    secrets: LeaseSecrets,
    /// When it was made.
    began: Time,
    /// The next connection whose way is looked at, and when.
    next_way: usize,
    ways_at: Time,
    /// Memory for changes of MEMBERS.
    changed: Vec<Member>,
    now: Time,
    draining: bool,
    counters: Arc<MasterCounters>,
    histograms: Arc<MasterHistograms>,
    loan_counters: Arc<LoanCounters>,
    events: MasterEvents,
}

impl<M: Memory> Master<M> {
    /// Builds the master; its first heartbeats are due at once. What it tells goes to `events`, which must not block.
    ///
    /// # Errors
    /// The error is [`MasterError::Gateways`] or [`MasterError::SameGateway`] when the list of gateways is empty, too
    /// long, or names one twice. It is [`MasterError::Slaves`] when there are no slaves or too many, and
    /// [`MasterError::NoMemory`] when there is no memory for the tables.
    pub fn new(
        config: MasterConfig,
        now: Time,
        events: impl FnMut(MasterEvent) + Send + 'static,
    ) -> Result<Self, MasterError> {
        config.check()?;
        let scale = config.node.scale;
        let endpoint = Config {
            queue_pairs: 2 * config.slaves,
            paths: config.slaves,
            regions: config.buffers,
            work: config.requests,
            receives: 0,
            replays: 0,
            completions: config.requests,
            queue_depth: config.requests,
            path_window: PATH_WINDOW,
            total_window: config.total_window(),
            queue_target: config.queue_target,
            queue_least: config.queue_least(),
            give_up: GIVE_UP_INTERVALS * config.node.interval,
            ..Config::default()
        };
        let blank = PageRequest {
            client: ClientId::new(0, 0),
            tag: 0,
            op: PageOp::Read,
            urgency: Urgency::Bulk,
            extent: ExtentId::new(0, 0),
            offset: 0,
            len: 0,
            buffer: BufferKey(0),
            address: 0,
        };
        Ok(Self {
            gates: Gates::new(config.master, &config.gateways, &config.credential, &config.node, now),
            roster: Roster::new(scale)?,
            paths: Table::new(1 << scale.slave_bits(), |_| NONE)?,
            connections: Vec::new(),
            wheel: Wheel::new(config.slaves, LOAN_TICK, now),
            listed: Vec::new(),
            answers: Vec::new(),
            endpoint: Endpoint::new(endpoint, now)?,
            framing: Framing::new(Side::Master, scale, config.slaves)?,
            clients: Clients::new(config.clients),
            extents: Extents::new(config.extents),
            allocations: Vec::new(),
            place_at: FOREVER,
            to_place: 0,
            pending: Pending::new(config.requests, blank),
            random: Numbers::new(&config.seed),
            secrets: config.lease_secrets,
            began: now,
            next_way: 0,
            ways_at: now,
            changed: Vec::new(),
            now,
            draining: false,
            counters: Arc::default(),
            histograms: Arc::default(),
            loan_counters: Arc::default(),
            events: Box::new(events),
            id: config.master,
            node: config.node,
            connect_keys: config.connect_keys,
            slaves: config.slaves,
            allocate_within: config.allocate_within,
        })
    }

    /// The counters and histograms, for others to read.
    pub fn stats(&self) -> MasterStats {
        MasterStats {
            counters: Arc::clone(&self.counters),
            histograms: Arc::clone(&self.histograms),
            loans: Arc::clone(&self.loan_counters),
            transport: Arc::clone(self.endpoint.counters()),
            records: Arc::clone(self.framing.counters()),
        }
    }

    /// The scale of its cluster.
    pub fn scale(&self) -> Scale {
        self.node.scale
    }

    /// The slaves that gateways name, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Member> + '_ {
        (0..self.roster.len()).filter_map(|number| Some(&self.roster.at(number)?.member))
    }

    /// The gateway that cargo to a slave takes, by its number in the configuration; `None` while there is no way.
    pub fn gateway_of(&self, slave: u32) -> Option<usize> {
        self.connections.get(self.path_of(slave)? as usize)?.gateway
    }

    /// The slave that has an extent; `None` if the client has no such extent, or it is lost.
    pub fn slave_of(&mut self, client: ClientId, extent: ExtentId) -> Option<u32> {
        self.clients.find(client)?;
        match self.extents.find(client.place() as u16, extent)?.state {
            ExtentState::Live(path, _) => Some(self.connections.get(path as usize)?.slave),
            _ => None,
        }
    }

    /// A new client, with what it may have; `None` if there is no room for it.
    pub fn add_client(&mut self, quota: crate::ClientQuota) -> Option<ClientId> {
        if self.draining {
            return None;
        }
        let client = self.clients.add(quota).or_else(|| {
            // One may be leaving whose requests have ended.
            self.settle_clients();
            self.clients.add(quota)
        });
        self.count_clients();
        client
    }

    /// A client goes. When its requests have ended, all that it has is free, and [`MasterEvent::ClientRemoved`] says
    /// so. Completions of its requests are polled as always.
    pub fn remove_client(&mut self, client: ClientId) {
        self.clients.leave(client);
    }

    /// A client goes, and its extents stay. It takes no more requests, and its allocations under way are cancelled at
    /// once. When its requests have ended, its local memories are gone, and [`MasterEvent::ClientParked`] has its new
    /// number.
    pub fn park_client(&mut self, client: ClientId) {
        if self.clients.park(client) {
            self.cancel_allocations(client.place() as u16);
        }
    }

    /// A parked client is back, with what it may have from now on; it may have more extents already. It has its extents
    /// and no local memory. Returns whether there is such a client.
    pub fn resume_client(&mut self, client: ClientId, quota: crate::ClientQuota) -> bool {
        let is_back = !self.draining && self.clients.resume(client, quota);
        self.count_clients();
        is_back
    }

    /// The extents of a client that is there or parked, by number, with the loss of those that are lost.
    pub fn extents_of(&self, client: ClientId) -> impl Iterator<Item = (ExtentId, Option<Loss>)> + '_ {
        let place = client.place() as u16;
        let is_known = self.clients.id(place) == client;
        let theirs = self.extents.iter().filter(move |(_, extent)| is_known && extent.client == place);
        theirs.filter_map(|(number, extent)| match extent.state {
            ExtentState::Live(..) => Some((self.extents.id(number), None)),
            ExtentState::Lost(loss) => Some((self.extents.id(number), Some(loss))),
            ExtentState::Free | ExtentState::Promised(_) | ExtentState::Leaving(_) => None,
        })
    }

    fn count_clients(&self) {
        self.counters.clients.set(self.clients.len() as u64);
        self.counters.clients_parked.set(self.clients.parked() as u64);
    }

    /// Local memory of a client, whose first byte has the address `base` in requests. `None` if there is no such
    /// client, it has as many as it may, there is no room, or the addresses end before the memory does.
    pub fn add_buffer(&mut self, client: ClientId, base: u64, memory: M) -> Option<BufferKey> {
        let holder = self.clients.find(client)?;
        if holder.buffers.len() >= usize::from(holder.quota().buffers) {
            return None;
        }
        let region = Region { base, len: memory.len(), access: Access::LOCAL_WRITE, domain: DOMAIN, memory };
        let key = BufferKey(self.endpoint.register(self.random.next_u32(), region).ok()?);
        holder.buffers.push(key);
        Some(key)
    }

    /// The local memory behind a key, to be looked at or changed by its owner. Bytes that a READ writes may change
    /// until its completion is polled.
    pub fn buffer_mut(&mut self, key: BufferKey) -> Option<&mut M> {
        self.endpoint.memory_mut(key.0)
    }

    /// A client needs an extent no more. Requests on it that are under way end as they do; nobody gets the place before
    /// that. Returns whether the client had it.
    pub fn free(&mut self, client: ClientId, extent: ExtentId) -> bool {
        let is_found = self.clients.find(client).is_some() && {
            let place = client.place() as u16;
            self.extents.find(place, extent).is_some()
        };
        if is_found {
            self.free_extent(extent.place());
        }
        is_found
    }

    #[inline]
    fn path_of(&self, slave: u32) -> Option<u32> {
        self.paths.get(slave as usize).copied().filter(|path| *path != NONE)
    }

    /// A connection is to be looked after in the next [`Role::advance`].
    fn list(&mut self, path: u32) {
        if let Some(connection) = self.connections.get_mut(path as usize)
            && !std::mem::replace(&mut connection.is_listed, true)
        {
            self.listed.push(path);
        }
    }

    fn tell(&mut self, event: MasterEvent) {
        (self.events)(event);
    }

    fn take(&mut self, now: Time, datagram: &DatagramView<'_>) {
        let Some(gateway) = self.gates.source(datagram.peer) else {
            return self.counters.master_refused_source.add(1);
        };
        for item in Walk::new(datagram.frame.data(), self.node.scale) {
            match item {
                Ok((_, record)) => self.take_record(now, gateway, datagram, &record),
                Err(_) => self.counters.master_dropped_bad.add(1),
            }
        }
    }

    #[inline]
    fn take_record(&mut self, now: Time, gateway: usize, datagram: &DatagramView<'_>, record: &Record<'_>) {
        let header = record.header();
        match header.msg_type() {
            MsgType::RC => {
                let path = self.path_of(header.slave_id()).map(PathId);
                // It came from a gateway of ours, which vouches for the slave.
                if let Some(arrival) = self.framing.accept(path, datagram.ce, record, |_| true) {
                    self.endpoint.receive(now, &arrival);
                }
            }
            MsgType::CONNECT_REPLY | MsgType::DISCONNECT => self.take_lease(now, record),
            MsgType::HEARTBEAT_ACK | MsgType::MEMBERS => {
                self.take_link_control(now, (gateway, datagram.peer), record);
            }
            _ => self.counters.master_dropped_unknown_type.add(1),
        }
    }

    /// Clients that are being removed or parked, and have nothing under way: they lose all that they have, or all but
    /// their extents.
    fn settle_clients(&mut self) {
        while self.clients.ending() > 0
            && let Some(quiet) = self.clients.quiet()
        {
            let (Quiet::Leaving(place) | Quiet::Parking(place)) = quiet;
            let client = self.clients.id(place);
            let buffers = self.clients.get_mut(place).map(|client| std::mem::take(&mut client.buffers));
            for key in buffers.into_iter().flatten() {
                self.endpoint.deregister(key.0);
            }
            let event = match quiet {
                Quiet::Leaving(_) => {
                    self.strip(place);
                    self.clients.remove(place);
                    MasterEvent::ClientRemoved(client)
                }
                Quiet::Parking(_) => MasterEvent::ClientParked { client, parked: self.clients.rest(place) },
            };
            // An empty unit was kept for it.
            (0..self.connections.len()).for_each(|path| self.list(path as u32));
            self.count_clients();
            self.tell(event);
        }
    }

    /// A client that is being removed loses its extents. The next client of its place must not get its units.
    fn strip(&mut self, place: u16) {
        self.cancel_allocations(place);
        let theirs: Vec<u32> =
            self.extents.iter().filter(|(_, extent)| extent.client == place).map(|(extent, _)| extent).collect();
        theirs.into_iter().for_each(|extent| self.free_extent(extent));
        self.connections.iter_mut().for_each(|connection| connection.units.forsake(place));
    }

    fn gauge(&self) {
        let held = self.connections.iter().map(|connection| &connection.units);
        let (units, used, free) =
            held.fold((0, 0, 0), |(units, used, free), of| (units + of.held(), used + of.used(), free + of.free()));
        let connected = self.connections.iter().filter(|connection| connection.session.is_some()).count();
        let Self { counters, .. } = self;
        counters.units_held.set(units.into());
        counters.extents_used.set(used.into());
        counters.extents_free.set(free.into());
        counters.slaves_connected.set(connected as u64);
    }
}

impl<M: Memory + Send> Role for Master<M> {
    type Command = MasterCommand<M>;

    fn receive(&mut self, now: Time, _: PortId, burst: &mut Burst, _: &mut Outbox) {
        self.now = now;
        for (number, datagram) in burst.iter() {
            if let Some(next) = burst.get(number + 1) {
                next.frame.prefetch_head();
            }
            self.take(now, &datagram);
        }
        burst.clear();
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        self.now = now;
        self.advance_gates(now, out);
        self.endpoint.advance(now);
        self.collect(now);
        self.settle_clients();
        self.look_after(now);
        self.advance_loans(now, out);
        self.look_after(now);
        self.framing.transmit(now, &mut self.endpoint, out);
    }

    fn deadline(&self) -> Option<Time> {
        if self.is_drained() {
            return None;
        }
        // Packets that found no room are tried again at once.
        if self.endpoint.has_output()
            || !self.listed.is_empty()
            || !self.answers.is_empty()
            || self.endpoint.completions() > 0
        {
            return Some(self.now);
        }
        let own = [self.gates.deadline(&self.node), self.place_at, self.ways_at];
        own.into_iter().chain(self.endpoint.deadline()).chain(self.wheel.deadline()).min()
    }

    fn command(&mut self, now: Time, command: MasterCommand<M>, _: &mut Outbox) {
        self.now = now;
        match command {
            MasterCommand::AddClient { tag, quota } => {
                let client = self.add_client(quota);
                self.tell(MasterEvent::ClientAdded(tag, client));
            }
            MasterCommand::RemoveClient(client) => self.remove_client(client),
            MasterCommand::AddBuffer { client, tag, base, memory } => {
                let key = self.add_buffer(client, base, memory);
                self.tell(MasterEvent::BufferAdded(client, tag, key));
            }
            MasterCommand::Allocate(wanted) => self.allocate(now, wanted),
            MasterCommand::Free(client, extents) => extents.into_iter().for_each(|extent| {
                self.free(client, extent);
            }),
            MasterCommand::SetCredential(credential) => self.gates.set_credential(&credential),
            MasterCommand::SetConnectKeys(keys) => {
                self.connections.iter_mut().for_each(|connection| connection.loan.set_keys(keys.clone()));
                self.connect_keys = keys;
            }
            MasterCommand::SetMtu(mtu) => {
                self.node.max_ip_packet = mtu.max(wire::MIN_MTU);
                self.gates.probe_again(&self.node);
                self.ways_at = now;
            }
            MasterCommand::Drain => {
                self.draining = true;
                self.clients.leave_all();
                (0..self.connections.len()).for_each(|path| self.list(path as u32));
            }
        }
    }

    fn is_drained(&self) -> bool {
        let has_ended = |connection: &Connection| connection.loan.is_closed() && connection.units.held() == 0;
        self.draining && self.clients.len() == 0 && self.connections.iter().all(has_ended)
    }

    fn frames_held(&self) -> usize {
        // Frames that a poll makes are sent in the same poll.
        0
    }
}
