//! Clients of one master, and the model of their blocks.

use super::program::{Program, ProgramCounts};
use crate::rng::Rng;
use frame::Time;
use master::{
    Allocate, BufferKey, ClientId, ClientQuota, ExtentId, Master, MasterEvent, PageOp, PageRequest, PageStatus, Urgency,
};
use std::collections::BTreeMap;

/// Bytes of a block.
const BLOCK: usize = 4096;

/// Blocks of an extent that are used, and the distance between two.
const BLOCKS: u64 = 4;
const STRIDE: u32 = 500_000;

/// Requests of a client that are under way: each has a block of the buffer.
const SLOTS: u64 = 16;

/// The address of the first byte of a buffer.
const BASE: u64 = 0x10_0000;

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Zero, or what this client wrote into an extent that it has freed.
    Fresh,
    /// What this version wrote.
    Written(u64),
    /// A WRITE ended badly: anything of this client.
    Unknown,
}

struct UnderWay {
    request: PageRequest,
    block: u32,
    version: u64,
}

/// One client.
struct Client {
    id: ClientId,
    buffer: BufferKey,
    /// Differs from that of all other clients of the run.
    number: u64,
    extents: Vec<ExtentId>,
    content: BTreeMap<(ExtentId, u32), Content>,
    under_way: BTreeMap<u64, UnderWay>,
    is_leaving: bool,
    stay: Stay,
}

/// Whether a client uses its extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Here,
    Parking,
    Parked,
}

/// What each client may have.
const QUOTA: ClientQuota = ClientQuota { extents: 120, requests: SLOTS as u32, buffers: 1 };

/// How often things happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCounts {
    /// Requests that ended well.
    pub done: u64,
    /// Requests that ended with another status.
    pub failed: u64,
    /// READs whose bytes were known before.
    pub verified: u64,
    /// Allocations that succeeded.
    pub allocated: u64,
    /// Extents that were lost.
    pub lost: u64,
    /// Extents that were recalled.
    pub recalled: u64,
    /// Clients that were parked.
    pub parked: u64,
    /// Clients that were back.
    pub resumed: u64,
}

/// The clients of one master.
#[derive(Default)]
pub struct Clients {
    list: Vec<Client>,
    /// The number of the next client; clients of other masters have other numbers.
    next: u64,
    versions: u64,
    /// A program whose pages are at slaves.
    program: Option<Program>,
    /// How often things happened.
    pub counts: ClientCounts,
    /// The same of programs that have ended.
    pub program_counts: ProgramCounts,
}

/// The word with which a client's blocks are filled.
fn word(client: u64, version: u64) -> u64 {
    (client + 1) << 48 | version
}

impl Clients {
    /// No clients; the first one will have this number.
    pub fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.program.is_none()
    }

    /// The master has started again: nothing of its clients is left.
    pub fn forget(&mut self) {
        self.list.clear();
        self.end_program();
    }

    /// Whether the program has asked the master for something since the last call.
    pub fn has_asked(&mut self) -> bool {
        self.program.as_mut().is_some_and(|program| std::mem::take(&mut program.has_asked))
    }

    fn end_program(&mut self) {
        if let Some(program) = self.program.take() {
            self.program_counts.add(&program.counts);
        }
    }

    /// All clients are being removed.
    pub fn leave(&mut self) {
        self.list.iter_mut().for_each(|client| client.is_leaving = true);
        self.program.iter_mut().for_each(|program| program.is_leaving = true);
    }

    /// A client does something: it comes, goes, allocates, frees, reads or writes. A program goes on.
    ///
    /// # Errors
    /// The program reads other bytes than it wrote.
    pub fn act(&mut self, now: Time, master: &mut Master<Vec<u8>>, rng: &mut Rng) -> Result<(), String> {
        match &mut self.program {
            Some(program) => program.act(now, master, rng)?,
            None => self.program = Program::new(master),
        }
        let at = rng.below(self.list.len().max(1) as u64) as usize;
        match (rng.below(100), self.list.len()) {
            (0..=1, _) | (_, 0) => self.add(master),
            (2, 2..) => {
                self.list[at].is_leaving = true;
                master.remove_client(self.list[at].id);
            }
            (12, _) if !self.list[at].is_leaving && self.list[at].stay == Stay::Here => {
                self.list[at].stay = Stay::Parking;
                master.park_client(self.list[at].id);
            }
            (13..=15, _) if !self.list[at].is_leaving && self.list[at].stay == Stay::Parked => self.resume(at, master),
            (3..=8, _) => {
                let apart = rng.one_in(4);
                let count = 1 + rng.below(if apart { 2 } else { 40 }) as u32;
                master.allocate(now, Allocate { client: self.list[at].id, tag: 0, count, apart });
            }
            (9..=11, _) if !self.list[at].extents.is_empty() => {
                let extent = rng.pick(&self.list[at].extents);
                self.free(master, self.list[at].id, extent);
            }
            _ => (0..1 + rng.below(8)).for_each(|_| self.submit(now, at, master, rng)),
        }
        Ok(())
    }

    fn add(&mut self, master: &mut Master<Vec<u8>>) {
        let Some(id) = master.add_client(QUOTA) else { return };
        let memory = vec![0; SLOTS as usize * BLOCK];
        let Some(buffer) = master.add_buffer(id, BASE, memory) else { return master.remove_client(id) };
        let number = self.next;
        self.next += 1;
        let (extents, content, under_way) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let (is_leaving, stay) = (false, Stay::Here);
        self.list.push(Client { id, buffer, number, extents, content, under_way, is_leaving, stay });
    }

    /// A parked client is back, with another buffer.
    fn resume(&mut self, at: usize, master: &mut Master<Vec<u8>>) {
        let client = &mut self.list[at];
        if !master.resume_client(client.id, QUOTA) {
            // The master drains.
            return;
        }
        client.stay = Stay::Here;
        match master.add_buffer(client.id, BASE, vec![0; SLOTS as usize * BLOCK]) {
            Some(buffer) => client.buffer = buffer,
            None => master.remove_client(client.id),
        }
        self.counts.resumed += 1;
    }

    fn free(&mut self, master: &mut Master<Vec<u8>>, client: ClientId, extent: ExtentId) {
        if let Some(client) = self.list.iter_mut().find(|of| of.id == client && of.stay == Stay::Here) {
            client.extents.retain(|of| *of != extent);
            master.free(client.id, extent);
        }
    }

    /// A client submits a request, if a slot is free and the block is not in use.
    fn submit(&mut self, now: Time, at: usize, master: &mut Master<Vec<u8>>, rng: &mut Rng) {
        let client = &mut self.list[at];
        let slot = (0..SLOTS).find(|slot| !client.under_way.contains_key(slot));
        let is_here = client.stay == Stay::Here && !client.is_leaving;
        let (Some(slot), false, true) = (slot, client.extents.is_empty(), is_here) else { return };
        let extent = rng.pick(&client.extents);
        let block = rng.below(BLOCKS) as u32;
        if client.under_way.values().any(|under| under.request.extent == extent && under.block == block) {
            return;
        }
        self.versions += 1;
        let (op, fill) =
            if rng.one_in(2) { (PageOp::Write, word(client.number, self.versions)) } else { (PageOp::Read, u64::MAX) };
        let Some(memory) = master.buffer_mut(client.buffer) else { return };
        let place = slot as usize * BLOCK..(slot as usize + 1) * BLOCK;
        memory[place].as_chunks_mut::<8>().0.iter_mut().for_each(|chunk| *chunk = fill.to_le_bytes());
        let request = PageRequest {
            client: client.id,
            tag: slot,
            op,
            urgency: if rng.one_in(2) { Urgency::Demand } else { Urgency::Bulk },
            extent,
            offset: block * STRIDE,
            len: BLOCK as u32,
            buffer: client.buffer,
            address: BASE + slot * BLOCK as u64,
        };
        if master.submit(now, &[request]) == 1 {
            client.under_way.insert(slot, UnderWay { request, block, version: self.versions });
        }
    }

    /// Takes all completions.
    ///
    /// # Errors
    /// A request ended twice, or a READ gave other bytes than it must.
    pub fn poll(&mut self, now: Time, master: &mut Master<Vec<u8>>) -> Result<(), String> {
        while let Some(completion) = master.poll() {
            if let Some(program) = self.program.as_mut().filter(|program| program.id == completion.client) {
                program.ended(now, master, &completion)?;
                continue;
            }
            let client = self.list.iter_mut().find(|of| of.id == completion.client);
            let client = client.ok_or("a completion is of no client")?;
            let ended = client.under_way.remove(&completion.tag);
            let UnderWay { request, block, version } = ended.ok_or("a request ended twice")?;
            let key = (request.extent, block);
            let content = client.content.get(&key).copied().unwrap_or(Content::Fresh);
            if completion.status != PageStatus::Done {
                self.counts.failed += 1;
                if matches!(completion.status, PageStatus::BadBuffer | PageStatus::Quota | PageStatus::OutOfRange) {
                    return Err(format!("{request:?} ended with {}", completion.status));
                }
                if request.op == PageOp::Write {
                    client.content.insert(key, Content::Unknown);
                }
                continue;
            }
            self.counts.done += 1;
            if request.op == PageOp::Write {
                client.content.insert(key, Content::Written(version));
                continue;
            }
            // The buffer of a client that was removed meanwhile is gone.
            let Some(memory) = master.buffer_mut(client.buffer) else { continue };
            let from = completion.tag as usize * BLOCK;
            for chunk in memory[from..from + BLOCK].as_chunks::<8>().0 {
                let read = u64::from_le_bytes(*chunk);
                let is_right = match content {
                    Content::Written(version) => read == word(client.number, version),
                    Content::Fresh | Content::Unknown => read == 0 || read >> 48 == client.number + 1,
                };
                if !is_right {
                    return Err(format!("client {} read {read:#x} at {key:?}, which has {content:?}", client.number));
                }
            }
            self.counts.verified += u64::from(matches!(content, Content::Written(_)));
        }
        Ok(())
    }

    /// Takes what the master tells.
    ///
    /// # Errors
    /// A client that was removed has requests under way.
    pub fn hear(
        &mut self,
        now: Time,
        event: MasterEvent,
        master: &mut Master<Vec<u8>>,
        rng: &mut Rng,
    ) -> Result<(), String> {
        if let Some(program) = self.program.as_mut().filter(|program| of_client(&event) == Some(program.id)) {
            if let MasterEvent::ClientRemoved(_) = event {
                self.end_program();
                return Ok(());
            }
            return program.hear(now, master, &event);
        }
        match event {
            MasterEvent::Allocated { client, extents, .. } => {
                self.counts.allocated += 1;
                if let Some(client) = self.list.iter_mut().find(|of| of.id == client) {
                    client.extents.extend(extents);
                }
            }
            MasterEvent::ExtentLost { client, extent, .. } => {
                self.counts.lost += 1;
                // Others are used on, and must not give a byte.
                if rng.one_in(2) {
                    self.free(master, client, extent);
                }
            }
            MasterEvent::ExtentRecalled { client, extent, .. } => {
                self.counts.recalled += 1;
                if rng.one_in(2) {
                    self.free(master, client, extent);
                }
            }
            MasterEvent::ClientParked { client, parked } => {
                let client = self.list.iter_mut().find(|of| of.id == client).ok_or("a client is parked twice")?;
                if client.stay != Stay::Parking || !client.under_way.is_empty() {
                    return Err(format!("client {} is parked while it has requests", client.number));
                }
                (client.id, client.stay) = (parked, Stay::Parked);
                let mut known = client.extents.clone();
                known.sort();
                let mut found: Vec<ExtentId> = master.extents_of(parked).map(|(extent, _)| extent).collect();
                found.sort();
                if found != known && !client.is_leaving {
                    return Err(format!("client {} is parked with {found:?}, and has {known:?}", client.number));
                }
                self.counts.parked += 1;
            }
            MasterEvent::ClientRemoved(client) => {
                let at = self.list.iter().position(|of| of.id == client).ok_or("a client is removed twice")?;
                let client = self.list.swap_remove(at);
                if !client.is_leaving || !client.under_way.is_empty() {
                    return Err(format!("client {} is removed while it has requests", client.number));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The client that an event is about.
fn of_client(event: &MasterEvent) -> Option<ClientId> {
    match event {
        MasterEvent::Allocated { client, .. }
        | MasterEvent::NotAllocated { client, .. }
        | MasterEvent::ExtentLost { client, .. }
        | MasterEvent::ExtentRecalled { client, .. }
        | MasterEvent::ClientRemoved(client) => Some(*client),
        _ => None,
    }
}
