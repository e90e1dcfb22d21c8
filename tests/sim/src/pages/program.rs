//! A program whose pages are at slaves: a pager, whose requests are those of a client of a master.
//!
//! The program reads and writes pages; what it reads must be what it wrote last, whatever becomes of slaves, gateways
//! and leases. A page that is lost pauses whoever touches it, and is never read.

use crate::rng::Rng;
use frame::Time;
use master::{
    Allocate, BufferKey, ClientId, ClientQuota, ExtentId, Master, MasterEvent, PageCompletion, PageOp, PageRequest,
    PageStatus, Urgency,
};
use paging::{
    FillEnd, MoveEnd, PageState, Pager, PagingAction, PagingConfig, PagingEvent, ReadEnd, StoreEnd, Ticket,
    WriteSource, page_hash,
};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a page.
const PAGE: usize = 4096;

/// Pages of the program, and those that are local.
const PAGES: u64 = 1_200;
const LOCAL: u64 = 96;

/// Requests under way at the master.
const SLOTS: u64 = 24;

/// The address of the first byte of the buffer.
const BASE: u64 = 0x20_0000;

/// The key of the hashes.
const KEY: u64 = 0x0123_4567_89ab_cdef;

/// What the program may have.
const QUOTA: ClientQuota = ClientQuota { extents: 12, requests: SLOTS as u32, buffers: 1 };

/// How often things happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramCounts {
    /// Pages that were read and had what was written.
    pub verified: u64,
    /// Touches that found their page lost.
    pub paused: u64,
    /// Pages that came from slaves.
    pub fetched: u64,
    /// Pages that were written to slaves.
    pub evicted: u64,
    /// Extents that were recalled and moved.
    pub relocated: u64,
}

impl ProgramCounts {
    /// Adds those of another program.
    pub fn add(&mut self, other: &Self) {
        self.verified += other.verified;
        self.paused += other.paused;
        self.fetched += other.fetched;
        self.evicted += other.evicted;
        self.relocated += other.relocated;
    }
}

/// The bytes of a page of a program: one word, repeated.
fn bytes_of(word: u64) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|chunk| *chunk = word.to_le_bytes());
    bytes
}

/// See the module's documentation.
pub struct Program {
    /// Its number at the master.
    pub id: ClientId,
    buffer: BufferKey,
    pager: Pager,
    memory: BTreeMap<u64, u64>,
    truth: Vec<u64>,
    staging: BTreeMap<u32, u64>,
    copies: BTreeMap<u32, u64>,
    landings: BTreeMap<u32, u64>,
    /// Requests that the master has not taken yet.
    queue: VecDeque<PagingAction>,
    /// By the number of the slot of the buffer: the request there.
    under_way: BTreeMap<u64, (Ticket, Option<u32>)>,
    refused: Vec<u64>,
    /// Threads: the page that each waits for, and what it writes there.
    threads: [Option<(u64, Option<u64>)>; 3],
    versions: u64,
    /// It has asked the master for something.
    pub has_asked: bool,
    /// Whether it was told to end.
    pub is_leaving: bool,
    /// How often things happened.
    pub counts: ProgramCounts,
}

impl Program {
    /// A program, if the master takes it.
    pub fn new(master: &mut Master<Vec<u8>>) -> Option<Self> {
        let id = master.add_client(QUOTA)?;
        let Some(buffer) = master.add_buffer(id, BASE, vec![0; SLOTS as usize * PAGE]) else {
            master.remove_client(id);
            return None;
        };
        let config = PagingConfig { landings: 24, staging_runs: 2, ..PagingConfig::new(LOCAL, KEY) };
        let mut pager = Pager::new(config).ok()?;
        pager.handle(PagingEvent::Map { start: 0, pages: PAGES });
        Some(Self {
            id,
            buffer,
            pager,
            memory: BTreeMap::new(),
            truth: vec![0; PAGES as usize],
            staging: BTreeMap::new(),
            copies: BTreeMap::new(),
            landings: BTreeMap::new(),
            queue: VecDeque::new(),
            under_way: BTreeMap::new(),
            refused: Vec::new(),
            threads: [None; 3],
            versions: 0,
            has_asked: false,
            is_leaving: false,
            counts: ProgramCounts::default(),
        })
    }

    /// Its threads touch pages, as long as they need not wait.
    ///
    /// # Errors
    /// A page has other bytes than were written last.
    pub fn act(&mut self, now: Time, master: &mut Master<Vec<u8>>, rng: &mut Rng) -> Result<(), String> {
        if self.is_leaving {
            return Ok(());
        }
        for _ in 0..40 {
            let thread = rng.below(3) as usize;
            if self.threads[thread].is_none() {
                let page = if rng.one_in(3) { rng.below(PAGES) } else { rng.below(200) };
                self.versions += 1;
                let write = rng.one_in(2).then_some(self.versions);
                self.threads[thread] = Some((page, write));
                if !self.memory.contains_key(&page) {
                    self.tell(now, master, PagingEvent::Fault { address: page, thread: thread as u32 + 1 })?;
                }
            }
            self.go_on()?;
        }
        for want in std::mem::take(&mut self.refused) {
            self.tell(now, master, PagingEvent::Refused { want })?;
        }
        self.tell(now, master, PagingEvent::Tick)?;
        self.pager.check();
        Ok(())
    }

    /// Threads whose page is there touch it.
    fn go_on(&mut self) -> Result<(), String> {
        for thread in &mut self.threads {
            let Some((page, write)) = *thread else { continue };
            let Some(content) = self.memory.get_mut(&page) else { continue };
            let expected = self.truth[page as usize];
            if *content != expected {
                return Err(format!("page {page} has {content:#x} and should have {expected:#x}"));
            }
            self.counts.verified += 1;
            if let Some(value) = write {
                (*content, self.truth[page as usize]) = (value, value);
            }
            *thread = None;
        }
        Ok(())
    }

    fn tell(&mut self, now: Time, master: &mut Master<Vec<u8>>, event: PagingEvent) -> Result<(), String> {
        self.pager.handle(event);
        while let Some(action) = self.pager.action() {
            self.act_for_pager(now, master, action)?;
        }
        self.submit(now, master);
        let stats = self.pager.stats();
        self.counts.fetched = stats.fetched + stats.prefetched;
        (self.counts.evicted, self.counts.relocated) = (stats.evicted_dirty, stats.relocated);
        self.go_on()
    }

    fn fill(&mut self, page: u64, word: u64) -> FillEnd {
        if self.memory.contains_key(&page) {
            return FillEnd::Exists;
        }
        self.memory.insert(page, word);
        FillEnd::Done
    }

    fn act_for_pager(&mut self, now: Time, master: &mut Master<Vec<u8>>, action: PagingAction) -> Result<(), String> {
        match action {
            PagingAction::Read { .. } | PagingAction::Write { .. } => self.queue.push_back(action),
            PagingAction::Copy { page, address, landing, .. } => {
                let end = self.fill(address, self.landings.get(&landing).copied().unwrap_or(u64::MAX));
                self.pager.handle(PagingEvent::Filled { page, end });
            }
            PagingAction::Zero { page, address } => {
                let end = self.fill(address, 0);
                self.pager.handle(PagingEvent::Filled { page, end });
            }
            PagingAction::MoveOut { pages, address, staging } => {
                for (page, (address, staging)) in pages.into_iter().zip((address..).zip(staging..)) {
                    let end = match self.memory.remove(&address) {
                        Some(word) => {
                            self.staging.insert(staging, word);
                            self.copies.insert(staging, word);
                            MoveEnd::Moved(page_hash(KEY, &bytes_of(word)))
                        }
                        None => MoveEnd::Hole,
                    };
                    self.pager.handle(PagingEvent::MovedOut { page, end });
                }
            }
            PagingAction::MoveBack { page, address, staging } => {
                let word = self.staging.remove(&staging).ok_or("a page is moved back from nowhere")?;
                let end = self.fill(address, word);
                self.pager.handle(PagingEvent::MovedBack { page, end });
            }
            PagingAction::Drop { staging } => drop(self.staging.remove(&staging)),
            PagingAction::Allocate { want, count, .. } => {
                self.has_asked = true;
                master.allocate(now, Allocate { client: self.id, tag: want, count: count as u32, apart: false });
            }
            PagingAction::Free { extent } => {
                self.has_asked = true;
                master.free(self.id, ExtentId::from_number(extent));
            }
            PagingAction::Pause { address } => {
                if self.pager.state_at(address) != Some(PageState::Lost) {
                    return Err(format!("page {address} is paused, and not lost"));
                }
                self.counts.paused += 1;
                // The program gives such a page up: it drops it, and it is zeros from then on.
                self.threads
                    .iter_mut()
                    .filter(|thread| thread.is_some_and(|(page, _)| page == address))
                    .for_each(|thread| *thread = None);
                self.truth[address as usize] = 0;
                self.pager.handle(PagingEvent::Removed { token: 0, start: address, pages: 1 });
            }
            PagingAction::Wake { .. } | PagingAction::Removed { .. } => {}
            PagingAction::ForkReady { .. } | PagingAction::ForkRefused { .. } => return Err("nobody forks".to_owned()),
        }
        Ok(())
    }

    /// Hands requests to the master, as many as it takes.
    fn submit(&mut self, now: Time, master: &mut Master<Vec<u8>>) {
        while let Some(action) = self.queue.front() {
            let Some(place) = (0..SLOTS).find(|place| !self.under_way.contains_key(place)) else { return };
            let (ticket, extent, slot, landing, word, urgency) = match action {
                PagingAction::Read { ticket, extent, slot, landing, is_demand } => {
                    let urgency = if *is_demand { Urgency::Demand } else { Urgency::Bulk };
                    (*ticket, *extent, *slot, Some(*landing), u64::MAX, urgency)
                }
                PagingAction::Write { ticket, extent, slot, source } => {
                    let word = match source {
                        WriteSource::Staging(place) => self.copies.get(place),
                        WriteSource::Landing(place) => self.landings.get(place),
                    };
                    (*ticket, *extent, *slot, None, word.copied().unwrap_or(u64::MAX), Urgency::Bulk)
                }
                _ => return,
            };
            let Some(memory) = master.buffer_mut(self.buffer) else { return };
            let from = place as usize * PAGE;
            memory[from..from + PAGE].copy_from_slice(&bytes_of(word));
            let request = PageRequest {
                client: self.id,
                tag: place,
                op: if landing.is_some() { PageOp::Read } else { PageOp::Write },
                urgency,
                extent: ExtentId::from_number(extent),
                offset: u32::from(slot) * PAGE as u32,
                len: PAGE as u32,
                buffer: self.buffer,
                address: BASE + place * PAGE as u64,
            };
            if master.submit(now, &[request]) == 0 {
                return;
            }
            self.has_asked = true;
            self.under_way.insert(place, (ticket, landing));
            self.queue.pop_front();
        }
    }

    /// A request has ended.
    ///
    /// # Errors
    /// It was not under way, or a page has other bytes than were written last.
    pub fn ended(
        &mut self,
        now: Time,
        master: &mut Master<Vec<u8>>,
        completion: &PageCompletion,
    ) -> Result<(), String> {
        let (ticket, landing) = self.under_way.remove(&completion.tag).ok_or("a request of a program ended twice")?;
        let is_lost = matches!(
            completion.status,
            PageStatus::SlaveGone | PageStatus::SlaveRestarted | PageStatus::Recalled | PageStatus::LeaseEnded
        );
        let event = match (landing, completion.status) {
            (None, PageStatus::Done) => PagingEvent::Wrote { ticket, end: StoreEnd::Done },
            (None, _) if is_lost => PagingEvent::Wrote { ticket, end: StoreEnd::Lost },
            (None, _) => PagingEvent::Wrote { ticket, end: StoreEnd::Failed },
            (Some(landing), PageStatus::Done) => {
                let from = completion.tag as usize * PAGE;
                let mut bytes = [0; PAGE];
                // The buffer of a client that was removed meanwhile is gone.
                let Some(memory) = master.buffer_mut(self.buffer) else { return Ok(()) };
                bytes.copy_from_slice(&memory[from..from + PAGE]);
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[..8]);
                self.landings.insert(landing, u64::from_le_bytes(word));
                PagingEvent::Read { ticket, end: ReadEnd::Done(page_hash(KEY, &bytes)) }
            }
            (Some(_), _) if is_lost => PagingEvent::Read { ticket, end: ReadEnd::Lost },
            (Some(_), _) => PagingEvent::Read { ticket, end: ReadEnd::Failed },
        };
        self.tell(now, master, event)
    }

    /// What the master tells about the program's extents.
    ///
    /// # Errors
    /// A page has other bytes than were written last.
    pub fn hear(&mut self, now: Time, master: &mut Master<Vec<u8>>, event: &MasterEvent) -> Result<(), String> {
        match event {
            MasterEvent::Allocated { tag, extents, .. } => {
                let extents = extents.iter().map(|extent| extent.get()).collect();
                self.tell(now, master, PagingEvent::Granted { want: *tag, extents })
            }
            MasterEvent::NotAllocated { tag, .. } => {
                self.refused.push(*tag);
                Ok(())
            }
            MasterEvent::ExtentLost { extent, .. } => {
                self.tell(now, master, PagingEvent::Lost { extent: extent.get() })
            }
            MasterEvent::ExtentRecalled { extent, .. } => {
                self.tell(now, master, PagingEvent::Recalled { extent: extent.get() })
            }
            _ => Ok(()),
        }
    }
}
