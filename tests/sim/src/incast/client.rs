//! The load of one master: one client with extents at all slaves, which reads, writes and compares.

use crate::rng::Rng;
use frame::Time;
use master::{
    Allocate, BufferKey, ClientId, ClientQuota, ExtentId, Master, MasterEvent, PageOp, PageRequest, PageStatus, Urgency,
};
use std::collections::BTreeMap;

/// The address of the first byte of the buffer.
const BASE: u64 = 0x10_0000;

/// Extents that are allocated at once, until each slave has one.
const EXTENTS: u32 = 64;

/// Places of an extent that are used.
const PLACES: u32 = 8;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of a bulk request.
    pub len: u32,
    /// Bulk requests under way: as many as that if there is load.
    pub depth: u32,
    /// Of 100 bulk requests, how many are WRITEs.
    pub writes: u64,
    /// The mean time between two demand READs.
    pub demand_every: Time,
    /// Demand READs under way at most.
    pub demands: u32,
}

/// Bytes of a demand READ.
pub const PAGE: u32 = 4096;

struct UnderWay {
    since: Time,
    urgency: Urgency,
    op: PageOp,
    len: u32,
    /// Extent and place.
    at: (usize, u32),
    version: u64,
}

/// See the module's documentation.
pub struct IncastClient {
    id: ClientId,
    buffer: BufferKey,
    number: u64,
    load: Load,
    extents: Vec<ExtentId>,
    slaves: BTreeMap<u32, ExtentId>,
    /// What each place has: 0 is nothing yet.
    versions: BTreeMap<(usize, u32), u64>,
    /// Places that are being written, and how many READs there are.
    users: BTreeMap<(usize, u32), (bool, u32)>,
    free: Vec<u64>,
    under_way: BTreeMap<u64, UnderWay>,
    next: usize,
    written: u64,
    bulk: u32,
    demand: u32,
    /// Whether bulk requests are sent.
    pub is_loading: bool,
    /// When the next demand READ is sent.
    pub demand_at: Time,
    /// Payload of bulk requests that ended.
    pub bulk_bytes: u64,
    /// How long each demand READ took.
    pub demand_times: Vec<Time>,
    rng: Rng,
}

impl IncastClient {
    /// The client of a master that has just started.
    ///
    /// # Errors
    /// The master does not take it.
    pub fn new(number: u64, load: Load, master: &mut Master<Vec<u8>>, rng: Rng) -> Result<Self, String> {
        let slots = load.depth + load.demands;
        let id = master.add_client(ClientQuota { extents: 4096, requests: slots, buffers: 1 }).ok_or("no client")?;
        let slot = u64::from(load.len.max(PAGE));
        let memory = vec![0; (u64::from(slots) * slot) as usize];
        let buffer = master.add_buffer(id, BASE, memory).ok_or("no buffer")?;
        Ok(Self {
            id,
            buffer,
            number,
            load,
            extents: Vec::new(),
            slaves: BTreeMap::new(),
            versions: BTreeMap::new(),
            users: BTreeMap::new(),
            free: (0..u64::from(slots)).collect(),
            under_way: BTreeMap::new(),
            next: 0,
            written: 0,
            bulk: 0,
            demand: 0,
            is_loading: false,
            demand_at: Time::MAX,
            bulk_bytes: 0,
            demand_times: Vec::new(),
            rng,
        })
    }

    /// Asks for more extents.
    pub fn allocate(&self, now: Time, master: &mut Master<Vec<u8>>) {
        master.allocate(now, Allocate { client: self.id, tag: 0, count: EXTENTS, apart: false });
    }

    /// How many slaves it has an extent of; it uses one of each.
    pub fn spread(&self) -> usize {
        self.slaves.len()
    }

    /// All places have something.
    pub fn is_filled(&self) -> bool {
        self.spread() > 0 && self.versions.len() == self.extents.len() * PLACES as usize
    }

    /// Nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Takes what the master tells.
    ///
    /// # Errors
    /// Memory is lost, or not given.
    pub fn hear(&mut self, event: MasterEvent, master: &mut Master<Vec<u8>>) -> Result<(), String> {
        match event {
            MasterEvent::Allocated { extents, .. } => {
                for extent in extents {
                    let slave = master.slave_of(self.id, extent).ok_or("an extent without a slave")?;
                    self.slaves.entry(slave).or_insert(extent);
                }
                self.extents = self.slaves.values().copied().collect();
            }
            MasterEvent::NotAllocated { why, .. } => {
                return Err(format!("{} slaves have memory, and then: {why}", self.spread()));
            }
            MasterEvent::ExtentLost { loss, .. } => return Err(format!("an extent is lost: {loss}")),
            MasterEvent::SlaveRefused { slave, refusal } => return Err(format!("slave {slave} refused: {refusal:?}")),
            _ => {}
        }
        Ok(())
    }

    /// Submits what the load allows.
    pub fn act(&mut self, now: Time, master: &mut Master<Vec<u8>>) {
        while now >= self.demand_at && self.demand < self.load.demands {
            self.demand_at = now + 1 + self.rng.below(2 * self.load.demand_every);
            let at = (self.rng.below(self.extents.len() as u64) as usize, self.rng.below(PLACES.into()) as u32);
            self.submit(now, master, Urgency::Demand, PageOp::Read, at);
        }
        while self.is_loading && self.bulk < self.load.depth {
            let at = (self.next % self.extents.len(), self.rng.below(PLACES.into()) as u32);
            let is_first = !self.versions.contains_key(&at);
            let op = if is_first || self.rng.below(100) < self.load.writes { PageOp::Write } else { PageOp::Read };
            self.next += 1;
            if !self.submit(now, master, Urgency::Bulk, op, at) {
                break;
            }
        }
    }

    /// Writes all places once.
    pub fn fill(&mut self, now: Time, master: &mut Master<Vec<u8>>) {
        for extent in 0..self.extents.len() {
            for place in 0..PLACES {
                let at = (extent, place);
                if self.bulk < self.load.depth && !self.versions.contains_key(&at) && !self.users.contains_key(&at) {
                    self.submit(now, master, Urgency::Bulk, PageOp::Write, at);
                }
            }
        }
    }

    fn slot_len(&self) -> u64 {
        self.load.len.max(PAGE).into()
    }

    /// Submits a request, unless its place is in use by others. A place with no bytes yet is not read.
    fn submit(
        &mut self,
        now: Time,
        master: &mut Master<Vec<u8>>,
        urgency: Urgency,
        op: PageOp,
        at: (usize, u32),
    ) -> bool {
        let users = self.users.get(&at).copied().unwrap_or_default();
        let is_in_use = users.0 || op == PageOp::Write && users.1 > 0;
        if is_in_use || op == PageOp::Read && !self.versions.contains_key(&at) {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        let len = if urgency == Urgency::Demand { PAGE } else { self.load.len };
        let slot_len = self.slot_len();
        self.written += 1;
        let fill = if op == PageOp::Write { self.word(self.written) } else { u64::MAX };
        if let Some(memory) = master.buffer_mut(self.buffer) {
            let from = (slot * slot_len) as usize;
            memory[from..from + len as usize].as_chunks_mut::<8>().0.iter_mut().for_each(|it| *it = fill.to_le_bytes());
        }
        let request = PageRequest {
            client: self.id,
            tag: slot,
            op,
            urgency,
            extent: self.extents[at.0],
            offset: at.1 * (master::EXTENT_LEN / PLACES),
            len,
            buffer: self.buffer,
            address: BASE + slot * slot_len,
        };
        if master.submit(now, &[request]) == 0 {
            self.free.push(slot);
            return false;
        }
        let users = self.users.entry(at).or_default();
        if op == PageOp::Write {
            users.0 = true
        } else {
            users.1 += 1
        }
        *if urgency == Urgency::Bulk { &mut self.bulk } else { &mut self.demand } += 1;
        self.under_way.insert(slot, UnderWay { since: now, urgency, op, len, at, version: self.written });
        true
    }

    fn word(&self, version: u64) -> u64 {
        (self.number + 1) << 48 | version
    }

    /// Takes all completions.
    ///
    /// # Errors
    /// A request failed, ended twice, or gave other bytes than were written.
    pub fn poll(&mut self, now: Time, master: &mut Master<Vec<u8>>) -> Result<(), String> {
        while let Some(completion) = master.poll() {
            let done = self.under_way.remove(&completion.tag).ok_or("a request ended twice")?;
            let UnderWay { since, urgency, op, len, at, version } = done;
            if completion.status != PageStatus::Done {
                return Err(format!("a request ended with {}", completion.status));
            }
            *if urgency == Urgency::Bulk { &mut self.bulk } else { &mut self.demand } -= 1;
            if let Some(users) = self.users.get_mut(&at) {
                if op == PageOp::Write {
                    users.0 = false
                } else {
                    users.1 -= 1
                }
                if *users == (false, 0) {
                    self.users.remove(&at);
                }
            }
            match op {
                PageOp::Write => {
                    self.versions.insert(at, version);
                }
                PageOp::Read => {
                    let expected = self.word(self.versions.get(&at).copied().unwrap_or(0)).to_le_bytes();
                    let from = (completion.tag * self.slot_len()) as usize;
                    let memory = master.buffer_mut(self.buffer).ok_or("no buffer")?;
                    if memory[from..from + len as usize].as_chunks::<8>().0.iter().any(|word| *word != expected) {
                        return Err(format!("place {at:?} has other bytes than were written"));
                    }
                }
            }
            match urgency {
                Urgency::Bulk => self.bulk_bytes += u64::from(len),
                Urgency::Demand => self.demand_times.push(now - since),
            }
            self.free.push(completion.tag);
        }
        Ok(())
    }
}
