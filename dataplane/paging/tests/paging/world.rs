//! A program, a kernel, a staging area, and slaves, as a pager sees them. A page's bytes are one number; 0 is zeros.
//!
//! Everything that is under way ends in an order that the test chooses. Whoever reads a page compares it with what was
//! written last.

use paging::{
    FillEnd, MoveEnd, PageKey, PageState, Pager, PagingAction, PagingConfig, PagingEvent, ReadEnd, StoreEnd, Ticket,
    WriteSource, zero_hash,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) const KEY: u64 = 42;

/// What a thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Read(u64),
    Write(u64, u64),
    Remove(u64, u64),
    Fork,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ThreadState {
    Ready,
    /// It faulted; the pager was told, or was not.
    Waits {
        told: bool,
    },
    /// Its page is lost.
    Paused,
    /// It drops pages as soon as it may.
    Removes(u64),
    /// It forks as soon as it may.
    Forks,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Thread {
    pub(crate) ops: Vec<Op>,
    pub(crate) state: ThreadState,
}

impl Thread {
    pub(crate) fn new(mut ops: Vec<Op>) -> Self {
        ops.reverse();
        Self { ops, state: ThreadState::Ready }
    }
}

/// Something that will end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pending {
    Read { ticket: u64, extent: u64, slot: u16, landing: u32 },
    Write { ticket: u64, extent: u64, slot: u16, source: WriteSource },
    Copy { page: PageKey, address: u64, landing: u32, wake: bool },
    Zero { page: PageKey, address: u64 },
    MoveOut { page: PageKey, address: u64, staging: u32 },
    MoveBack { page: PageKey, address: u64, staging: u32 },
    Allocate { want: u64, count: usize, beside: Vec<u64> },
    TellLoss { extent: u64 },
}

impl Pending {
    /// Without the number of uses of a ticket, which grows for ever.
    fn plain(&self) -> Self {
        let mut plain = self.clone();
        if let Self::Read { ticket, .. } | Self::Write { ticket, .. } = &mut plain {
            *ticket &= u64::from(u32::MAX);
        }
        plain
    }
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    /// It fails, and does nothing.
    Fails,
    /// It fails, and was done.
    FailsDone,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Extent {
    pub(crate) slave: usize,
    slots: BTreeMap<u16, u64>,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) pager: Pager,
    pub(crate) mapped: BTreeSet<u64>,
    pub(crate) memory: BTreeMap<u64, u64>,
    pub(crate) truth: BTreeMap<u64, u64>,
    staging: BTreeMap<u32, u64>,
    copies: BTreeMap<u32, u64>,
    landing: BTreeMap<u32, u64>,
    pub(crate) extents: BTreeMap<u64, Extent>,
    next_extent: u64,
    slaves: usize,
    pub(crate) threads: Vec<Thread>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) pinned: BTreeSet<u64>,
    /// Forks that were made.
    pub(crate) forks: u64,
    /// Pages may be lost.
    pub(crate) may_lose: bool,
}

pub(crate) fn hash_of(content: u64) -> u64 {
    if content == 0 { zero_hash(KEY) } else { content.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

impl World {
    pub(crate) fn new(config: PagingConfig, slaves: usize, threads: Vec<Thread>) -> Self {
        Self {
            pager: Pager::new(config).unwrap(),
            mapped: BTreeSet::new(),
            memory: BTreeMap::new(),
            truth: BTreeMap::new(),
            staging: BTreeMap::new(),
            copies: BTreeMap::new(),
            landing: BTreeMap::new(),
            extents: BTreeMap::new(),
            next_extent: 1,
            slaves,
            threads,
            pending: Vec::new(),
            pinned: BTreeSet::new(),
            forks: 0,
            may_lose: false,
        }
    }

    pub(crate) fn map(&mut self, start: u64, pages: u64) {
        self.mapped.extend(start..start + pages);
        self.truth.extend((start..start + pages).map(|address| (address, 0)));
        self.tell(PagingEvent::Map { start, pages });
    }

    pub(crate) fn tell(&mut self, event: PagingEvent) {
        self.pager.handle(event);
        self.collect();
    }

    /// Takes what the pager wants. What needs no answer is done at once.
    fn collect(&mut self) {
        while let Some(action) = self.pager.action() {
            match action {
                PagingAction::Read { ticket, extent, slot, landing, .. } => {
                    self.pending.push(Pending::Read { ticket: ticket.tag(), extent, slot, landing });
                }
                PagingAction::Write { ticket, extent, slot, source } => {
                    self.pending.push(Pending::Write { ticket: ticket.tag(), extent, slot, source });
                }
                PagingAction::Copy { page, address, landing, wake } => {
                    self.pending.push(Pending::Copy { page, address, landing, wake });
                }
                PagingAction::Zero { page, address } => self.pending.push(Pending::Zero { page, address }),
                PagingAction::MoveOut { pages, address, staging } => {
                    for (at, page) in pages.into_iter().enumerate() {
                        let (address, staging) = (address + at as u64, staging + at as u32);
                        assert!(!self.staging.contains_key(&staging), "a place of the staging area is used twice");
                        self.pending.push(Pending::MoveOut { page, address, staging });
                    }
                }
                PagingAction::MoveBack { page, address, staging } => {
                    self.pending.push(Pending::MoveBack { page, address, staging });
                }
                PagingAction::Allocate { want, count, beside } => {
                    self.pending.push(Pending::Allocate { want, count, beside });
                }
                PagingAction::Wake { address } => self.wake(address),
                PagingAction::Drop { staging } => drop(self.staging.remove(&staging)),
                PagingAction::Free { extent } => drop(self.extents.remove(&extent)),
                PagingAction::Pause { address } => self.pause(address),
                PagingAction::Removed { token } => self.remove(token),
                PagingAction::ForkReady { token } => self.fork(token, true),
                PagingAction::ForkRefused { token, .. } => self.fork(token, false),
            }
        }
    }

    fn threads_at(&mut self, address: u64) -> impl Iterator<Item = &mut Thread> {
        self.threads.iter_mut().filter(move |thread| match thread.ops.last() {
            Some(Op::Read(at) | Op::Write(at, _)) => *at == address && thread.state != ThreadState::Ready,
            _ => false,
        })
    }

    fn wake(&mut self, address: u64) {
        self.threads_at(address).for_each(|thread| thread.state = ThreadState::Ready);
    }

    fn pause(&mut self, address: u64) {
        assert!(self.may_lose, "a page is lost, and nothing was");
        self.threads_at(address).for_each(|thread| thread.state = ThreadState::Paused);
    }

    fn remove(&mut self, token: u64) {
        let thread = &mut self.threads[token as usize];
        let Some(Op::Remove(start, pages)) = thread.ops.pop() else { panic!("nobody removes") };
        thread.state = ThreadState::Ready;
        for address in start..start + pages {
            self.memory.remove(&address);
            if let Some(truth) = self.truth.get_mut(&address) {
                *truth = 0;
            }
        }
        // Who is paused there faults again.
        (start..start + pages).for_each(|address| self.wake(address));
    }

    /// A child has what the program has, and zeros elsewhere.
    fn fork(&mut self, token: u64, may: bool) {
        let thread = &mut self.threads[token as usize];
        assert_eq!((thread.state, thread.ops.pop()), (ThreadState::Forks, Some(Op::Fork)));
        thread.state = ThreadState::Ready;
        if may {
            self.forks += 1;
            for (address, truth) in &self.truth {
                let child = self.memory.get(address).copied().unwrap_or(0);
                assert!(child == *truth || self.is_being_removed(*address), "a child reads {child} at {address}");
            }
            self.pager.handle(PagingEvent::ForkDone { token });
        }
    }

    fn is_being_removed(&self, address: u64) -> bool {
        self.threads.iter().any(|thread| match (thread.state, thread.ops.last()) {
            (ThreadState::Removes(_), Some(Op::Remove(start, pages))) => (*start..start + pages).contains(&address),
            _ => false,
        })
    }

    /// Whether a thread can do something.
    pub(crate) fn can_step(&self, thread: usize) -> bool {
        let of = &self.threads[thread];
        match (of.state, of.ops.last()) {
            (ThreadState::Ready, Some(Op::Read(address) | Op::Write(address, _))) => !self.is_being_removed(*address),
            (ThreadState::Ready, Some(Op::Remove(start, pages))) => {
                (*start..start + pages).all(|address| !self.is_being_removed(address))
                    && self.threads.iter().all(|other| match (other.state, other.ops.last()) {
                        (ThreadState::Waits { .. }, Some(Op::Read(at) | Op::Write(at, _))) => {
                            !(*start..start + pages).contains(at)
                        }
                        _ => true,
                    })
            }
            (ThreadState::Ready, Some(Op::Fork)) => true,
            (ThreadState::Waits { told }, _) => !told,
            _ => false,
        }
    }

    /// A thread touches its page, or its fault is told.
    pub(crate) fn step(&mut self, thread: usize) {
        let of = &mut self.threads[thread];
        let Some(op) = of.ops.last().copied() else { return };
        if of.state == (ThreadState::Waits { told: false }) {
            let (Op::Read(address) | Op::Write(address, _)) = op else { return };
            of.state = ThreadState::Waits { told: true };
            return self.tell(PagingEvent::Fault { address, thread: thread as u32 + 1 });
        }
        match op {
            Op::Read(address) | Op::Write(address, _) => {
                let Some(content) = self.memory.get_mut(&address) else {
                    of.state = ThreadState::Waits { told: false };
                    return;
                };
                of.ops.pop();
                if let Op::Write(_, value) = op {
                    *content = value;
                    self.truth.insert(address, value);
                } else {
                    assert_eq!(*content, self.truth[&address], "page {address} has what was written last");
                }
            }
            Op::Fork => {
                of.state = ThreadState::Forks;
                self.tell(PagingEvent::ForkWanted { token: thread as u64 });
            }
            Op::Remove(start, pages) => {
                of.state = ThreadState::Removes(thread as u64);
                self.tell(PagingEvent::Removed { token: thread as u64, start, pages });
            }
        }
    }

    /// Something that was under way ends.
    pub(crate) fn finish(&mut self, index: usize, fate: Fate) {
        let pending = self.pending.remove(index);
        let is_good = fate == Fate::Good;
        match pending {
            Pending::Read { ticket, extent, slot, landing } => {
                let end = match self.extents.get(&extent) {
                    None => ReadEnd::Lost,
                    Some(_) if !is_good => ReadEnd::Failed,
                    Some(extent) => {
                        let content = extent.slots.get(&slot).copied().unwrap_or(0);
                        self.landing.insert(landing, content);
                        ReadEnd::Done(hash_of(content))
                    }
                };
                self.tell(PagingEvent::Read { ticket: Ticket::of_tag(ticket), end });
            }
            Pending::Write { ticket, extent, slot, source } => {
                let content = match source {
                    WriteSource::Staging(place) => self.copies[&place],
                    WriteSource::Landing(place) => self.landing[&place],
                };
                let end = match self.extents.get_mut(&extent) {
                    None => StoreEnd::Lost,
                    Some(extent) => {
                        if fate != Fate::Fails {
                            extent.slots.insert(slot, content);
                        }
                        if is_good { StoreEnd::Done } else { StoreEnd::Failed }
                    }
                };
                self.tell(PagingEvent::Wrote { ticket: Ticket::of_tag(ticket), end });
            }
            Pending::Copy { page, address, landing, wake } => {
                let content = self.landing[&landing];
                let end = self.fill(address, content, is_good, wake);
                self.tell(PagingEvent::Filled { page, end });
            }
            Pending::Zero { page, address } => {
                let end = self.fill(address, 0, is_good, true);
                self.tell(PagingEvent::Filled { page, end });
            }
            Pending::MoveOut { page, address, staging } => {
                let end = match self.memory.get(&address).copied() {
                    None => MoveEnd::Hole,
                    Some(_) if self.pinned.contains(&address) => MoveEnd::Pinned,
                    Some(_) if !is_good => MoveEnd::Again,
                    Some(content) => {
                        self.memory.remove(&address);
                        self.staging.insert(staging, content);
                        self.copies.insert(staging, content);
                        MoveEnd::Moved(hash_of(content))
                    }
                };
                self.tell(PagingEvent::MovedOut { page, end });
            }
            Pending::MoveBack { page, address, staging } => {
                let content = self.staging[&staging];
                let end = self.fill(address, content, is_good, true);
                if end == FillEnd::Done {
                    self.staging.remove(&staging);
                }
                assert_ne!(end, FillEnd::Exists, "page {address} is in two places");
                self.tell(PagingEvent::MovedBack { page, end });
            }
            Pending::Allocate { want, count, beside } => {
                let taken: BTreeSet<usize> =
                    beside.iter().filter_map(|extent| self.extents.get(extent)).map(|extent| extent.slave).collect();
                let free: Vec<usize> = (0..self.slaves).filter(|slave| !taken.contains(slave)).collect();
                if !is_good || free.len() < count {
                    return self.tell(PagingEvent::Refused { want });
                }
                let extents: Vec<u64> = (self.next_extent..).take(count).collect();
                // Not always the same slave, and always the same one for the same extent.
                let first = self.next_extent as usize;
                for (place, extent) in extents.iter().enumerate() {
                    let slave = free[(first + place) % free.len()];
                    self.extents.insert(*extent, Extent { slave, ..Extent::default() });
                }
                self.next_extent += count as u64;
                self.tell(PagingEvent::Granted { want, extents });
            }
            Pending::TellLoss { extent } => self.tell(PagingEvent::Lost { extent }),
        }
    }

    fn fill(&mut self, address: u64, content: u64, is_good: bool, wakes: bool) -> FillEnd {
        if !self.mapped.contains(&address) || !is_good {
            return FillEnd::Again;
        }
        if self.memory.contains_key(&address) {
            return FillEnd::Exists;
        }
        self.memory.insert(address, content);
        if wakes {
            self.wake(address);
        }
        FillEnd::Done
    }

    /// A slave takes an extent away, and the pager hears of it later.
    pub(crate) fn lose(&mut self, extent: u64) {
        self.may_lose = true;
        self.extents.remove(&extent);
        self.pending.push(Pending::TellLoss { extent });
    }

    pub(crate) fn recall(&mut self, extent: u64) {
        self.tell(PagingEvent::Recalled { extent });
    }

    /// The program unmaps pages. No thread is there.
    pub(crate) fn unmap(&mut self, start: u64, pages: u64) {
        for address in start..start + pages {
            self.mapped.remove(&address);
            self.memory.remove(&address);
            self.truth.remove(&address);
            self.pinned.remove(&address);
        }
        self.tell(PagingEvent::Unmapped { start, pages });
    }

    /// The program moves pages to where nothing is. No thread is there.
    pub(crate) fn remap(&mut self, from: u64, to: u64, pages: u64) {
        for offset in 0..pages {
            let (from, to) = (from + offset, to + offset);
            self.pinned.remove(&from);
            if self.mapped.remove(&from) {
                self.mapped.insert(to);
            }
            for table in [&mut self.memory, &mut self.truth] {
                if let Some(content) = table.remove(&from) {
                    table.insert(to, content);
                }
            }
        }
        self.tell(PagingEvent::Remapped { from, to, pages });
    }

    /// Whether all threads have done all, or are paused.
    pub(crate) fn is_done(&self) -> bool {
        self.threads.iter().all(|thread| thread.ops.is_empty() || thread.state == ThreadState::Paused)
    }

    /// One round in which everything goes well.
    pub(crate) fn step_calmly(&mut self) {
        for thread in 0..self.threads.len() {
            if self.can_step(thread) {
                self.step(thread);
            }
        }
        for _ in 0..self.pending.len() {
            if !self.pending.is_empty() {
                self.finish(0, Fate::Good);
            }
        }
        self.tell(PagingEvent::Tick);
    }

    /// The same, and WRITEs do not end.
    pub(crate) fn step_calmly_but_writes(&mut self) {
        for thread in 0..self.threads.len() {
            if self.can_step(thread) {
                self.step(thread);
            }
        }
        let other = self.pending.iter().position(|pending| !matches!(pending, Pending::Write { .. }));
        if let Some(index) = other {
            self.finish(index, Fate::Good);
        }
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_done() && self.pending.is_empty() && self.pager.is_at_rest()
    }

    /// What must be true at every moment.
    pub(crate) fn check(&self) {
        self.pager.check();
        for (address, truth) in &self.truth {
            let state = self.pager.state_at(*address).unwrap();
            if let Some(content) = self.memory.get(address) {
                assert_eq!(content, truth, "page {address} in {state:?}");
            }
            match state {
                PageState::Absent => {
                    let is_zero = *truth == 0 || self.is_being_removed(*address);
                    assert!(is_zero, "page {address} is absent and should have {truth}");
                }
                PageState::Lost => assert!(self.may_lose, "page {address} is lost, and nothing was"),
                PageState::Remote => {
                    let (extents, slot) = self.pager.stored_at(*address).unwrap();
                    for extent in extents.iter().filter_map(|extent| self.extents.get(extent)) {
                        let is_it = extent.slots.get(&slot) == Some(truth) || self.is_being_removed(*address);
                        assert!(is_it, "page {address}: slot {slot} should have {truth}: {extent:?}");
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let hash = |pending: &Pending| {
            let mut hasher = DefaultHasher::new();
            pending.plain().hash(&mut hasher);
            hasher.finish()
        };
        let mut pending: Vec<u64> = self.pending.iter().map(hash).collect();
        pending.sort_unstable();
        let mut hasher = DefaultHasher::new();
        (self.pager.fingerprint(), pending, &self.threads, &self.extents, self.next_extent).hash(&mut hasher);
        (&self.mapped, &self.memory, &self.truth, &self.staging).hash(&mut hasher);
        // Buffers that nobody uses have old bytes: these do not count.
        for pending in &self.pending {
            match pending {
                Pending::Write { source: WriteSource::Staging(place), .. } => self.copies.get(place).hash(&mut hasher),
                Pending::Write { source: WriteSource::Landing(place), .. } | Pending::Copy { landing: place, .. } => {
                    self.landing.get(place).hash(&mut hasher);
                }
                _ => {}
            }
        }
        for place in self.staging.keys() {
            self.copies.get(place).hash(&mut hasher);
        }
        hasher.finish()
    }
}
