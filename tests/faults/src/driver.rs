//! The thread between kernel, pager and slaves.

use pages::{Client, ClientOptions, Ended, Extent, ExtentNotice, Lane, Question, Work};
use paging::{
    FillEnd, MoveEnd, PageBooks, PageKey, Pager, PagingAction, PagingConfig, PagingEvent, PagingStats, ReadEnd,
    StoreEnd, Ticket, WriteSource, copy_with_hash, page_hash,
};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};
use uffd::{FaultEvent, FeatureSet, Obstacle, PAGE, PrivateMemory, Progress, RegisterMode, Userfaultfd, Waking};

/// What a driver had at its end.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What has happened.
    pub stats: PagingStats,
    /// Pages by state.
    pub books: PageBooks,
    /// COPY, ZEROPAGE and MOVE that said EAGAIN or another error, and were repeated.
    pub repeated: u64,
}

/// What tests ask of a driver.
pub(crate) enum Order {
    Remove { first: u64, pages: u64, done: Sender<()> },
    Extents { answer: Sender<Vec<u64>> },
    Report { answer: Sender<Report> },
    End,
}

type Page = [u8; PAGE as usize];

/// Pages of a run, as `paging` has them.
const RUN: u64 = paging::RUN as u64;

pub(crate) struct Driver {
    pager: Pager,
    key: u64,
    uffd: Userfaultfd,
    memory: Arc<PrivateMemory>,
    /// Owns the staging area alone, so that moving pages out never waits for an event.
    second: Userfaultfd,
    staging: PrivateMemory,
    landings: Vec<Page>,
    copies: Vec<Page>,
    client: Client,
    batch: Vec<Work>,
    /// Where READs land, by tag.
    reads: HashMap<u64, u32>,
    wants: HashMap<Question, u64>,
    removals: HashMap<u64, Sender<()>>,
    next_removal: u64,
    paused: Arc<AtomicU64>,
    orders: Receiver<Order>,
    repeated: u64,
    removed_by_kernel: u64,
    ends: bool,
}

impl Driver {
    pub(crate) fn new(
        memory: Arc<PrivateMemory>,
        config: PagingConfig,
        events: FeatureSet,
        path: &Path,
        paused: Arc<AtomicU64>,
        orders: Receiver<Order>,
    ) -> Self {
        let features = FeatureSet::MOVE.with(FeatureSet::THREAD_ID).with(events);
        let (uffd, _) = Userfaultfd::open(features).unwrap();
        let (second, _) = Userfaultfd::open(FeatureSet::MOVE).unwrap();
        let staging = PrivateMemory::new(u64::from(config.staging_runs) * RUN).unwrap();
        memory.register(&uffd, RegisterMode::Missing).unwrap();
        staging.register(&second, RegisterMode::Missing).unwrap();
        // A buffer for each landing buffer and each page of the staging area, for each replica.
        let pages = u64::from(config.landings) + u64::from(config.staging_runs) * RUN * config.replicas as u64;
        let options = ClientOptions { requests: 1024, buffers: pages * PAGE, ..ClientOptions::default() };
        let client = Client::connect(path, &options).unwrap();
        let key = config.hash_key;
        let landings = vec![[0; PAGE as usize]; config.landings as usize];
        let copies = vec![[0; PAGE as usize]; config.staging_runs as usize * RUN as usize];
        let mut pager = Pager::new(config).unwrap();
        pager.handle(PagingEvent::Map { start: memory.address() / PAGE, pages: memory.len() / PAGE });
        Self {
            pager,
            key,
            uffd,
            memory,
            second,
            staging,
            landings,
            copies,
            client,
            batch: Vec::new(),
            reads: HashMap::new(),
            wants: HashMap::new(),
            removals: HashMap::new(),
            next_removal: 0,
            paused,
            orders,
            repeated: 0,
            removed_by_kernel: 0,
            ends: false,
        }
    }

    pub(crate) fn run(&mut self) -> Report {
        let (mut events, mut ended) = (Vec::new(), Vec::new());
        let mut tick = Instant::now();
        loop {
            let mut did = self.uffd.read(&mut events, 64).unwrap();
            for event in events.drain(..) {
                match event {
                    FaultEvent::Fault(fault) => {
                        self.tell(PagingEvent::Fault { address: fault.address / PAGE, thread: fault.thread });
                    }
                    // Its cause goes on now that it was read. All actions were done when they were handed out, so
                    // nothing that is under way can bring old bytes back, and nobody waits for the answer.
                    FaultEvent::Remove { start, end } => {
                        self.removed_by_kernel += 1;
                        let token = u64::MAX - self.removed_by_kernel;
                        self.tell(PagingEvent::Removed { token, start: start / PAGE, pages: (end - start) / PAGE });
                    }
                    other => panic!("{other:?} was not asked for"),
                }
            }
            did += self.client.poll(&mut ended).unwrap();
            for end in ended.drain(..) {
                self.end_request(&end);
            }
            did += self.hear();
            if tick.elapsed() > Duration::from_millis(1) {
                tick = Instant::now();
                self.tell(PagingEvent::Tick);
            }
            while !self.batch.is_empty() && self.client.post(&mut self.batch).unwrap() > 0 {}
            if self.ends && self.pager.is_at_rest() && self.client.under_way() == 0 {
                self.pager.check();
                return self.report();
            }
            match (did, self.client.under_way()) {
                (0, 0) => drop(self.uffd.wait(1).unwrap()),
                (0, _) => std::thread::yield_now(),
                _ => {}
            }
        }
    }

    fn report(&self) -> Report {
        Report { stats: self.pager.stats(), books: self.pager.books(), repeated: self.repeated }
    }

    /// What the test and the server say.
    fn hear(&mut self) -> usize {
        let mut heard = 0;
        while let Ok(order) = self.orders.try_recv() {
            heard += 1;
            match order {
                Order::Remove { first, pages, done } => {
                    let token = self.next_removal;
                    self.next_removal += 1;
                    self.removals.insert(token, done);
                    let start = self.memory.page(first) / PAGE;
                    self.tell(PagingEvent::Removed { token, start, pages });
                }
                Order::Extents { answer } => {
                    let start = self.memory.address() / PAGE;
                    let addresses = start..start + self.memory.len() / PAGE;
                    let stored = addresses.filter_map(|address| self.pager.stored_at(address));
                    let extents: BTreeSet<u64> = stored.flat_map(|(extents, _)| extents).collect();
                    answer.send(extents.into_iter().collect()).unwrap();
                }
                Order::Report { answer } => answer.send(self.report()).unwrap(),
                Order::End => self.ends = true,
            }
        }
        if self.wants.is_empty() && !self.client.has_notices() {
            // Answers and notices are looked for below only when there can be some: it is a system call.
            return heard;
        }
        for answer in self.client.answers() {
            heard += 1;
            let Some(want) = self.wants.remove(&answer.question) else { continue };
            let event = match answer.extents {
                Ok(extents) => {
                    let extents = extents.into_iter().map(Extent::number).collect();
                    PagingEvent::Granted { want, extents }
                }
                Err(_) => PagingEvent::Refused { want },
            };
            self.tell(event);
        }
        for notice in self.client.notices().unwrap() {
            heard += 1;
            match notice {
                ExtentNotice::Lost { extents, .. } => {
                    extents.into_iter().for_each(|one| self.tell(PagingEvent::Lost { extent: one.number() }));
                }
                ExtentNotice::Recalled { extents, .. } => {
                    extents.into_iter().for_each(|one| self.tell(PagingEvent::Recalled { extent: one.number() }));
                }
            }
        }
        heard
    }

    fn tell(&mut self, event: PagingEvent) {
        self.pager.handle(event);
        while let Some(action) = self.pager.action() {
            self.act(action);
        }
    }

    fn end_request(&mut self, end: &Ended) {
        let ticket = Ticket::of_tag(end.tag);
        let Some(landing) = self.reads.remove(&end.tag) else {
            let how = match end.status {
                status if status.is_done() => StoreEnd::Done,
                status if status.is_loss() => StoreEnd::Lost,
                _ => StoreEnd::Failed,
            };
            return self.tell(PagingEvent::Wrote { ticket, end: how });
        };
        let page = &mut self.landings[landing as usize];
        let how = match end.status {
            status if status.is_done() => {
                end.buffer.read(0, page).unwrap();
                ReadEnd::Done(page_hash(self.key, page))
            }
            status if status.is_loss() => ReadEnd::Lost,
            _ => ReadEnd::Failed,
        };
        self.tell(PagingEvent::Read { ticket, end: how });
    }

    fn filled(&mut self, progress: Progress) -> FillEnd {
        match progress.obstacle {
            None => FillEnd::Done,
            Some(Obstacle::Exists) => FillEnd::Exists,
            Some(_) => {
                self.repeated += 1;
                FillEnd::Again
            }
        }
    }

    fn act(&mut self, action: PagingAction) {
        match action {
            PagingAction::Read { ticket, extent, slot, landing, is_demand } => {
                let buffer = self.client.buffer(PAGE as usize).unwrap();
                let lane = if is_demand { Lane::Demand } else { Lane::Bulk };
                let offset = u32::from(slot) * PAGE as u32;
                let work = Work::read(Extent::from_number(extent), offset, buffer).tagged(ticket.tag()).in_lane(lane);
                self.reads.insert(ticket.tag(), landing);
                self.batch.push(work);
            }
            PagingAction::Write { ticket, extent, slot, source } => {
                let bytes = match source {
                    WriteSource::Staging(place) => &self.copies[place as usize],
                    WriteSource::Landing(place) => &self.landings[place as usize],
                };
                let mut buffer = self.client.buffer(PAGE as usize).unwrap();
                buffer.write(0, bytes).unwrap();
                let offset = u32::from(slot) * PAGE as u32;
                let work = Work::write(Extent::from_number(extent), offset, buffer);
                self.batch.push(work.tagged(ticket.tag()).in_lane(Lane::Bulk));
            }
            PagingAction::Copy { page, address, landing, wake } => {
                let waking = if wake { Waking::Wake } else { Waking::DontWake };
                let progress = self.uffd.copy(address * PAGE, &self.landings[landing as usize], waking);
                let end = self.filled(progress);
                self.pager.handle(PagingEvent::Filled { page, end });
            }
            PagingAction::Zero { page, address } => {
                let progress = self.uffd.zero(address * PAGE, PAGE, Waking::Wake);
                let end = self.filled(progress);
                self.pager.handle(PagingEvent::Filled { page, end });
            }
            PagingAction::Wake { address } => self.uffd.wake(address * PAGE, PAGE).unwrap(),
            PagingAction::MoveOut { pages, address, staging } => self.move_out(&pages, address, staging),
            PagingAction::MoveBack { page, address, staging } => {
                let place = address - self.memory.address() / PAGE;
                let progress = self.staging.move_to(staging.into(), &self.memory, place, 1, &self.uffd);
                let end = self.filled(progress);
                assert_ne!(end, FillEnd::Exists, "a page is in two places");
                self.pager.handle(PagingEvent::MovedBack { page, end });
            }
            PagingAction::Drop { staging } => self.staging.drop_pages(staging.into(), 1).unwrap(),
            PagingAction::Removed { token } => {
                if let Some(done) = self.removals.remove(&token) {
                    done.send(()).unwrap();
                }
            }
            PagingAction::Allocate { want, count, .. } => {
                let question = self.client.ask_allocate(count as u32, count > 1).unwrap();
                self.wants.insert(question, want);
            }
            PagingAction::Free { extent } => self.client.ask_free(&[Extent::from_number(extent)]).unwrap(),
            PagingAction::Pause { .. } => {
                self.paused.fetch_add(1, Ordering::Release);
            }
            PagingAction::ForkReady { .. } | PagingAction::ForkRefused { .. } => panic!("nobody forks"),
        }
    }

    /// Moves a run out. Where the kernel stops, the next call names the reason for that page.
    fn move_out(&mut self, pages: &[PageKey], address: u64, staging: u32) {
        let (first, total) = (address - self.memory.address() / PAGE, pages.len() as u64);
        let mut done = 0;
        while done < total {
            let place = u64::from(staging) + done;
            let progress = self.memory.move_to(first + done, &self.staging, place, total - done, &self.second);
            let moved = progress.bytes / PAGE;
            for at in done..done + moved {
                let (copy, mut bytes) = (u64::from(staging) + at, [0; PAGE as usize]);
                self.staging.read_page(copy, &mut bytes);
                let hash = copy_with_hash(self.key, &bytes, &mut self.copies[copy as usize]);
                self.pager.handle(PagingEvent::MovedOut { page: pages[at as usize], end: MoveEnd::Moved(hash) });
            }
            done += moved;
            if done == total || moved > 0 {
                continue;
            }
            let end = match progress.obstacle {
                Some(Obstacle::NotFound) => MoveEnd::Hole,
                Some(Obstacle::Busy | Obstacle::Invalid) => MoveEnd::Pinned,
                _ => {
                    self.repeated += 1;
                    MoveEnd::Again
                }
            };
            self.pager.handle(PagingEvent::MovedOut { page: pages[done as usize], end });
            done += 1;
        }
    }
}
