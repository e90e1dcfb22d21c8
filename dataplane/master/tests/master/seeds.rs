//! Everything at once, by seeds: losses, restarts, recalls, clients that come and go. After every step the books are
//! exact; no READ ever gives bytes that are not the last ones that were written; and in the end all requests have ended
//! and all memory is back.

use crate::life::request;
use crate::world::{BASE, Faults, World};
use frame::Role;
use frame::time::{MILLISECOND, SECOND};
use master::{
    Allocate, BufferKey, ClientId, ClientQuota, ExtentId, MasterCommand, MasterEvent, PageOp, PageRequest, PageStatus,
    Urgency,
};
use std::collections::BTreeMap;

const BLOCK: usize = 4096;
/// Blocks of an extent that are used.
const BLOCKS: u32 = 4;
/// Requests of a client that are under way: each has a block of the buffer.
const SLOTS: u64 = 24;

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Zero, or what this client wrote into an extent that it has freed.
    Fresh,
    /// The last WRITE that ended well.
    Written(u64),
    /// A WRITE ended badly: anything of this client.
    Unknown,
}

/// The word with which a client's blocks are filled.
fn word(client: u64, version: u64) -> u64 {
    (client + 1) << 56 | version
}

struct Under {
    request: PageRequest,
    block: u32,
    version: u64,
}

struct Client {
    id: ClientId,
    buffer: BufferKey,
    number: u64,
    extents: Vec<ExtentId>,
    content: BTreeMap<(ExtentId, u32), Content>,
    under: BTreeMap<u64, Under>,
    leaving: bool,
    stay: Stay,
}

/// Whether a client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Here,
    /// It is being parked under the next number that is told.
    Parking,
    Parked,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    versions: u64,
    numbers: u64,
    done: u64,
    failed: u64,
    verified: u64,
    parked: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, &[2, 3, 1, 2], 2);
        world.faults = Faults {
            lost: world.rng.below(30_000) as u32,
            doubled: world.rng.below(20_000) as u32,
            late: world.rng.below(50_000) as u32,
        };
        Self { world, clients: Vec::new(), versions: 0, numbers: 0, done: 0, failed: 0, verified: 0, parked: 0 }
    }

    fn add_client(&mut self) {
        let quota = ClientQuota { extents: 80, requests: SLOTS as u32, buffers: 1 };
        let Some(id) = self.world.master.add_client(quota) else { return };
        let buffer = self.world.master.add_buffer(id, BASE, vec![0; SLOTS as usize * BLOCK]).unwrap();
        let number = self.numbers;
        self.numbers += 1;
        let (extents, content, under) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        self.clients.push(Client { id, buffer, number, extents, content, under, leaving: false, stay: Stay::Here });
    }

    /// A parked client is back, with a new buffer.
    fn resume(&mut self, at: usize) {
        let Self { world, clients, .. } = self;
        let client = &mut clients[at];
        let quota = ClientQuota { extents: 80, requests: SLOTS as u32, buffers: 1 };
        assert!(world.master.resume_client(client.id, quota));
        client.buffer = world.master.add_buffer(client.id, BASE, vec![0; SLOTS as usize * BLOCK]).unwrap();
        client.stay = Stay::Here;
    }

    /// A client asks for something, if it has a free slot and the block is not in use.
    fn submit(&mut self, at: usize) {
        let Self { world, clients, versions, .. } = self;
        let client = &mut clients[at];
        let free = (0..SLOTS).find(|slot| !client.under.contains_key(slot));
        let is_here = client.stay == Stay::Here && !client.leaving;
        let (Some(slot), false, true) = (free, client.extents.is_empty(), is_here) else { return };
        let extent = client.extents[world.rng.below(client.extents.len() as u64) as usize];
        let block = world.rng.below(BLOCKS.into()) as u32;
        if client.under.values().any(|under| under.request.extent == extent && under.block == block) {
            return;
        }
        *versions += 1;
        let op = if world.rng.chance(500_000) { PageOp::Write } else { PageOp::Read };
        let fill = if op == PageOp::Write { word(client.number, *versions) } else { u64::MAX };
        let place = slot as usize * BLOCK..(slot as usize + 1) * BLOCK;
        let memory = world.master.buffer_mut(client.buffer).unwrap();
        memory[place].chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&fill.to_le_bytes()));
        let request = PageRequest {
            tag: slot,
            urgency: if world.rng.chance(500_000) { Urgency::Demand } else { Urgency::Bulk },
            offset: block * 500_000,
            address: BASE + slot * BLOCK as u64,
            ..request(client.id, client.buffer, extent, op)
        };
        if world.master.submit(world.now, &[request]) == 1 {
            client.under.insert(slot, Under { request, block, version: *versions });
        }
    }

    fn poll(&mut self) {
        while let Some(completion) = self.world.master.poll() {
            let at = self.clients.iter().position(|client| client.id == completion.client).expect("its client");
            let client = &mut self.clients[at];
            let Under { request, block, version } =
                client.under.remove(&completion.tag).expect("each request ends once");
            let key = (request.extent, block);
            let content = client.content.get(&key).copied().unwrap_or(Content::Fresh);
            if completion.status != PageStatus::Done {
                self.failed += 1;
                assert!(completion.status != PageStatus::BadBuffer && completion.status != PageStatus::Quota);
                if request.op == PageOp::Write {
                    client.content.insert(key, Content::Unknown);
                }
                continue;
            }
            self.done += 1;
            if request.op == PageOp::Write {
                client.content.insert(key, Content::Written(version));
                continue;
            }
            let from = completion.tag as usize * BLOCK;
            // The buffer of a client that was removed meanwhile is gone.
            let Some(memory) = self.world.master.buffer_mut(client.buffer) else { continue };
            let memory = &memory[from..from + BLOCK];
            for chunk in memory.chunks_exact(8) {
                let read = u64::from_le_bytes(chunk.try_into().unwrap());
                let is_right = match content {
                    Content::Written(version) => read == word(client.number, version),
                    Content::Fresh | Content::Unknown => read == 0 || read >> 56 == client.number + 1,
                };
                assert!(is_right, "client {}, {key:?}: {read:#x} and {content:?}", client.number);
            }
            self.verified += u64::from(matches!(content, Content::Written(_)));
        }
        for event in std::mem::take(&mut self.world.told) {
            match event {
                MasterEvent::Allocated { client, extents, .. } => {
                    let client = self.clients.iter_mut().find(|of| of.id == client).expect("its client");
                    client.extents.extend(extents);
                }
                // Some are freed at once, others are used on: what is lost must not give a byte.
                MasterEvent::ExtentLost { client, extent, .. } | MasterEvent::ExtentRecalled { client, extent, .. }
                    if self.world.rng.chance(650_000) =>
                {
                    self.free(client, extent);
                }
                MasterEvent::ClientParked { client, parked } => {
                    let client = self.clients.iter_mut().find(|of| of.id == client).expect("its client");
                    // All its completions were polled before this event was read.
                    assert!(client.stay == Stay::Parking && client.under.is_empty());
                    (client.stay, client.id) = (Stay::Parked, parked);
                    let mut known: Vec<ExtentId> = client.extents.clone();
                    known.sort_by_key(|extent| *extent);
                    let mut found: Vec<ExtentId> =
                        self.world.master.extents_of(parked).map(|(extent, _)| extent).collect();
                    found.sort();
                    assert_eq!(found, known);
                    self.parked += 1;
                }
                MasterEvent::ClientRemoved(client) => {
                    let at = self.clients.iter().position(|of| of.id == client).expect("its client");
                    // All its completions were polled before this event was read.
                    let client = self.clients.swap_remove(at);
                    assert!(client.leaving && client.under.is_empty());
                }
                _ => {}
            }
        }
    }

    fn free(&mut self, client: ClientId, extent: ExtentId) {
        let Some(client) = self.clients.iter_mut().find(|of| of.id == client) else { return };
        if client.stay != Stay::Here {
            return;
        }
        client.extents.retain(|of| *of != extent);
        self.world.master.free(client.id, extent);
    }

    fn act(&mut self) {
        let Self { world, clients, .. } = self;
        let what = world.rng.below(1000);
        let at = world.rng.below(clients.len().max(1) as u64) as usize;
        let slave = world.rng.below(world.slaves.len() as u64) as usize;
        let now = world.now;
        match what {
            0..=1 => world.restart_slave(slave),
            2..=3 => {
                let id = world.slaves[slave].id;
                if world.cut.is_empty() { world.cut.push(id) } else { world.cut.clear() }
            }
            4 => world.restart_gateway(slave % 2),
            5..=9 => world.slaves[slave].break_pairs(now),
            10..=12 => {
                let (limit, within) = (world.rng.below(3) as u32, world.rng.below(3 * SECOND));
                world.slaves[slave].lender.set_limit(now, limit, within);
            }
            13..=16 => {
                let units = world.slaves[slave].lender.books().units;
                world.slaves[slave].lender.set_limit(now, units, 0);
            }
            17 => {
                let has_room = world.rng.chance(700_000);
                world.slaves[slave].set_room(has_room);
            }
            18..=19 if clients.len() > 1 => {
                clients[at].leaving = true;
                let id = clients[at].id;
                world.master.remove_client(id);
            }
            20..=23 => self.add_client(),
            900..=919 if !clients.is_empty() && !clients[at].leaving => match clients[at].stay {
                Stay::Here => {
                    clients[at].stay = Stay::Parking;
                    let id = clients[at].id;
                    world.master.park_client(id);
                }
                Stay::Parking => {}
                Stay::Parked => self.resume(at),
            },
            24..=45 if !clients.is_empty() && !clients[at].leaving && clients[at].stay == Stay::Here => {
                let apart = world.rng.chance(300_000);
                let count = if apart { 1 + world.rng.below(2) } else { 1 + world.rng.below(20) } as u32;
                let wanted = Allocate { client: clients[at].id, tag: 0, count, apart };
                world.master.allocate(now, wanted);
            }
            46..=60 if !clients.is_empty() && !clients[at].extents.is_empty() => {
                let number = world.rng.below(clients[at].extents.len() as u64) as usize;
                let (client, extent) = (clients[at].id, clients[at].extents[number]);
                self.free(client, extent);
            }
            _ if !clients.is_empty() => self.submit(at),
            _ => {}
        }
    }

    fn end(&mut self) {
        let world = &mut self.world;
        world.faults = Faults::default();
        world.cut.clear();
        let now = world.now;
        for slave in &mut world.slaves {
            slave.set_room(true);
            let units = slave.lender.books().units;
            slave.lender.set_limit(now, units, 0);
        }
        self.clients.iter_mut().for_each(|client| client.leaving = true);
        self.world.master.command(now, MasterCommand::Drain, &mut crate::world::outbox());
        let end = now + 150 * SECOND;
        while !self.world.master.is_drained() {
            let books = self.world.books();
            assert!(self.world.now < end, "it does not drain: {books:?}");
            self.world.step(end);
            self.poll();
        }
        self.poll();
        assert_eq!(self.clients.len(), 0);
        let books = self.world.books();
        assert_eq!((books.units, books.live, books.lost, books.promised, books.requests), (0, 0, 0, 0, 0));
        // A lease whose end nobody heard expires.
        self.world.run_until(70 * SECOND, "all memory is back", |world| {
            world.slaves.iter().all(|slave| slave.lender.books().leased == 0 && slave.written().is_empty())
        });
    }
}

fn run(seed: u64) -> [u64; 4] {
    let mut run = Run::new(seed);
    run.world.start();
    run.add_client();
    for _ in 0..600 {
        run.act();
        let most = if run.world.rng.chance(20_000) { SECOND } else { 2 * MILLISECOND };
        let end = run.world.now + run.world.rng.below(most);
        while run.world.now < end {
            run.world.step(end);
            run.poll();
        }
    }
    run.end();
    [run.done, run.failed, run.verified, run.parked]
}

/// The seeds: one from `MASTER_SEED`, as many as `MASTER_SEEDS` says, or some.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let first = number("MASTER_SEED");
    first.map_or_else(|| 0..number("MASTER_SEEDS").unwrap_or(40), |first| first..first + 1)
}

#[test]
fn no_seed_breaks_the_books_or_reads_a_wrong_byte() {
    let mut sums = [0; 4];
    for seed in seeds() {
        println!("seed {seed}: MASTER_SEED={seed} cargo nextest run -p gvm-master no_seed");
        let counts = run(seed);
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [done, failed, verified, parked] = sums;
    println!("{done} requests ended well, {failed} badly, {verified} READs were compared, {parked} clients parked");
    if seeds().count() > 1 {
        assert!(done > 1000 && failed > 100 && verified > 200 && parked > 50, "the seeds do too little: {sums:?}");
    }
}
