//! What a master is told by other threads, and what it tells them.

use crate::clients::ClientQuota;
use crate::request::{BufferKey, ClientId, ExtentId, Loss};
use frame::{Peer, Time};
use lease::ConnectKeys;
use link::{Credential, NodeEvent};
use std::fmt;
use wire::lease::Refusal;

/// Extents that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocate {
    /// The client.
    pub client: ClientId,
    /// Comes back in the event.
    pub tag: u64,
    /// How many extents, at least 1.
    pub count: u32,
    /// Each in another failure domain than all others of this allocation, as the copies of a page need. At most
    /// [`MOST_APART`] then.
    pub apart: bool,
}

/// The most extents of one allocation that is [`apart`](Allocate::apart).
pub const MOST_APART: u32 = 16;

/// Commands of other threads for a master.
#[derive(Clone, Debug)]
pub enum MasterCommand<M> {
    /// A new client, with what it may have.
    AddClient {
        /// Comes back in the event.
        tag: u64,
        /// What it may have.
        quota: ClientQuota,
    },
    /// A client goes. When its requests have ended, all that it has is free.
    RemoveClient(ClientId),
    /// Local memory of a client.
    AddBuffer {
        /// The client.
        client: ClientId,
        /// Comes back in the event.
        tag: u64,
        /// The address of its first byte, as requests name it.
        base: u64,
        /// The memory.
        memory: M,
    },
    /// A client wants extents.
    Allocate(Allocate),
    /// A client needs these extents no more. Numbers that it does not have are ignored.
    Free(ClientId, Vec<ExtentId>),
    /// Use other keys from the next heartbeat on: both keys while the cluster changes its key.
    SetCredential(Credential),
    /// Use other connect keys from the next message of a lease on: both keys while the cluster changes its key.
    SetConnectKeys(ConnectKeys),
    /// The largest IP packet that the master can take from now on, in bytes, at least 576.
    SetMtu(u16),
    /// Stop: remove all clients, give all memory back, and end all leases.
    Drain,
}

/// Why a client did not get what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationRefusal {
    /// There is no such client, or it is being removed.
    NoSuchClient,
    /// The client would have more than it may.
    Quota,
    /// The count is 0, or too large for extents in different domains.
    Count,
    /// All numbers of extents are in use.
    Extents,
    /// No slaves had the memory in time.
    NoMemory,
}

impl fmt::Display for AllocationRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchClient => "there is no such client, or it is being removed",
            Self::Quota => "the client would have more extents than it may: free some, or raise its quota",
            Self::Count => "an allocation has at least one extent, and at most 16 in different failure domains",
            Self::Extents => "all numbers of extents are in use: raise the number of extents of the master",
            Self::NoMemory => "no slaves had the memory in time: start more slaves that lend, or free extents",
        })
    }
}

/// What a master tells. Commands that ask for something are answered, in the order in which that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterEvent {
    /// What a gateway means for the master.
    Gateway(Peer, NodeEvent),
    /// A new client; `None` if there is no room for it.
    ClientAdded(u64, Option<ClientId>),
    /// All that the client had is free.
    ClientRemoved(ClientId),
    /// The requests of a client that was to be parked have ended, and its local memories are not used any more. It
    /// keeps its extents.
    ClientParked {
        /// The client.
        client: ClientId,
        /// Its number from now on.
        parked: ClientId,
    },
    /// Local memory can be used; `None` if the client is not there, has as many as it may, or there is no room.
    BufferAdded(ClientId, u64, Option<BufferKey>),
    /// An allocation is done.
    Allocated {
        /// The client.
        client: ClientId,
        /// The tag of the command.
        tag: u64,
        /// The extents. Their bytes are zero, or what this client wrote into an extent that it has freed.
        extents: Vec<ExtentId>,
    },
    /// An allocation failed, and nothing of it is left.
    NotAllocated {
        /// The client.
        client: ClientId,
        /// The tag of the command.
        tag: u64,
        /// Why.
        why: AllocationRefusal,
    },
    /// The bytes of an extent are lost. The client frees it when it has heard.
    ExtentLost {
        /// The client.
        client: ClientId,
        /// The extent.
        extent: ExtentId,
        /// Why.
        loss: Loss,
    },
    /// The slave wants the memory of an extent back. The client moves the bytes elsewhere, and frees the extent. After
    /// the time the slave takes the memory, and the extent is lost.
    ExtentRecalled {
        /// The client.
        client: ClientId,
        /// The extent.
        extent: ExtentId,
        /// Until when.
        until: Time,
    },
    /// A slave lends this many units.
    SlaveConnected {
        /// The slave.
        slave: u32,
        /// How many units it lends.
        units: u32,
    },
    /// A slave refused to open a lease.
    SlaveRefused {
        /// The slave.
        slave: u32,
        /// Why.
        refusal: Refusal,
    },
    /// All that a slave lent is lost.
    SlaveLost {
        /// The slave.
        slave: u32,
        /// Why.
        loss: Loss,
    },
}

impl fmt::Display for MasterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(gateway, event) => write!(f, "gateway {}: {event}", gateway.address()),
            Self::ClientAdded(_, Some(client)) => write!(f, "client {client} was added"),
            Self::ClientAdded(_, None) => f.write_str("there is no room for another client"),
            Self::ClientRemoved(client) => write!(f, "client {client} was removed"),
            Self::ClientParked { client, parked } => write!(f, "client {client} is parked as {parked}"),
            Self::BufferAdded(client, _, Some(_)) => write!(f, "client {client} has one more buffer"),
            Self::BufferAdded(client, _, None) => write!(f, "client {client} gets no more buffers"),
            Self::Allocated { client, extents, .. } => write!(f, "client {client} got {} extents", extents.len()),
            Self::NotAllocated { client, why, .. } => write!(f, "client {client} got no extents: {why}"),
            Self::ExtentLost { client, extent, loss } => {
                write!(f, "extent {:#x} of client {client} is lost: {loss}", extent.get())
            }
            Self::ExtentRecalled { client, extent, .. } => {
                write!(f, "the slave wants the memory of extent {:#x} of client {client} back", extent.get())
            }
            Self::SlaveConnected { slave, units } => write!(f, "slave {slave} lends {units} units of 64 MiB"),
            Self::SlaveRefused { slave, refusal } => write!(f, "slave {slave} lends nothing: {refusal}"),
            Self::SlaveLost { slave, loss } => write!(f, "all that slave {slave} lent is lost: {loss}"),
        }
    }
}

/// The destination of events: a log, a channel, a test. It must not block.
pub type MasterEvents = Box<dyn FnMut(MasterEvent) + Send>;
