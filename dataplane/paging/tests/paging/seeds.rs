//! Random programs and random trouble, against a model of memory. `GVM_PAGING_SEEDS=20000 cargo test -p gvm-paging
//! --test paging seeds` runs more of them; `GVM_PAGING_SEED=7` runs one.

use crate::world::{Fate, KEY, Op, Pending, Thread, World};
use paging::{PagingConfig, PagingEvent, Ticket};

/// A small generator: a seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// Pages of the program: three stretches, two of them in several sections.
const STRETCHES: [(u64, u64); 3] = [(1_000, 40), (10_000, 700), (20_000, 1_000)];

struct Run {
    random: Random,
    world: World,
    /// What it tries to do to the world, and how often.
    trouble: u64,
    /// Answers that were given, to be repeated.
    old: Vec<u64>,
    value: u64,
    remaps: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let replicas = 1 + random.below(3) as usize;
        let local = 64 + random.below(200);
        let config = PagingConfig {
            local,
            landings: 8 + random.below(60) as u32,
            staging_runs: 2 + random.below(6) as u32,
            replicas,
            window: if random.one_in(4) { 0 } else { 32 },
            hash_key: KEY,
        };
        let threads = (0..2 + random.below(4)).map(|_| Thread::new(Vec::new())).collect();
        let mut world = World::new(config, replicas + 2, threads);
        STRETCHES.iter().for_each(|(start, pages)| world.map(*start, *pages));
        Self { random, world, trouble: seed % 4, old: Vec::new(), value: 0, remaps: 0 }
    }

    /// Any page of the program, mostly of a small set that is used again and again.
    fn address(&mut self) -> u64 {
        let count = self.world.mapped.len() as u64;
        let at = if self.random.one_in(3) { self.random.below(count) } else { self.random.below(count.min(150)) };
        self.world.mapped.iter().nth(at as usize).copied().unwrap()
    }

    fn ops(&mut self) -> Vec<Op> {
        let at = self.address();
        let mut value = || {
            self.value += 1;
            self.value
        };
        let run =
            |world: &World, len: u64| (at..at + len).take_while(|page| world.mapped.contains(page)).collect::<Vec<_>>();
        match self.random.below(12) {
            0..4 => vec![Op::Read(at)],
            4..8 => vec![Op::Write(at, value())],
            8 => run(&self.world, 60).into_iter().map(Op::Read).collect(),
            9 => run(&self.world, 40).into_iter().map(|page| Op::Write(page, value())).collect(),
            10 if self.random.one_in(3) => vec![Op::Fork],
            10 => vec![Op::Write(at, 0)],
            _ => {
                let pages = run(&self.world, 1 + at % 50).len() as u64;
                vec![Op::Remove(at, pages)]
            }
        }
    }

    fn give_work(&mut self) {
        for thread in 0..self.world.threads.len() {
            if self.world.threads[thread].ops.is_empty() {
                let mut ops = self.ops();
                ops.reverse();
                self.world.threads[thread].ops = ops;
            }
        }
    }

    fn fate(&mut self) -> Fate {
        match self.random.below(if self.trouble == 0 { 1_000_000 } else { 40 }) {
            0 => Fate::Fails,
            1 => Fate::FailsDone,
            _ => Fate::Good,
        }
    }

    /// Something ends: mostly the oldest, sometimes any. A slow slave's requests end late.
    fn finish(&mut self) {
        let count = self.world.pending.len() as u64;
        if count == 0 {
            return;
        }
        let index =
            if self.random.one_in(3) { self.random.below(count) } else { self.random.below(count.min(4)) } as usize;
        let is_slow = match &self.world.pending[index] {
            Pending::Read { extent, .. } | Pending::Write { extent, .. } => {
                self.world.extents.get(extent).is_some_and(|extent| extent.slave == 0)
            }
            _ => false,
        };
        if is_slow && !self.random.one_in(20) {
            return;
        }
        if let Pending::Read { ticket, .. } | Pending::Write { ticket, .. } = &self.world.pending[index] {
            self.old.push(*ticket);
        }
        let fate = self.fate();
        self.world.finish(index, fate);
    }

    /// Answers that come twice change nothing.
    fn repeat_an_answer(&mut self) {
        let at = self.random.below(self.old.len() as u64) as usize;
        let Some(tag) = self.old.get(at).copied() else { return };
        let is_open = self.world.pending.iter().any(|pending| match pending {
            Pending::Read { ticket, .. } | Pending::Write { ticket, .. } => *ticket == tag,
            _ => false,
        });
        if is_open {
            return;
        }
        let before = self.world.pager.fingerprint();
        let ticket = Ticket::of_tag(tag);
        self.world.tell(PagingEvent::Read { ticket, end: paging::ReadEnd::Done(7) });
        self.world.tell(PagingEvent::Wrote { ticket, end: paging::StoreEnd::Done });
        assert_eq!(self.world.pager.fingerprint(), before, "an answer that came twice");
    }

    fn some_extent(&mut self) -> Option<u64> {
        let at = self.random.below(self.world.extents.len() as u64) as usize;
        self.world.extents.keys().nth(at).copied()
    }

    fn disturb(&mut self) {
        match self.random.below(9) {
            0 => self.repeat_an_answer(),
            1 | 2 => {
                if let Some(extent) = self.some_extent() {
                    self.world.recall(extent);
                }
            }
            3 if self.trouble == 3 => {
                if let Some(extent) = self.some_extent() {
                    self.world.lose(extent);
                }
            }
            4 => {
                let at = self.address();
                if !self.world.pinned.remove(&at) && self.world.memory.contains_key(&at) && self.world.pinned.len() < 8
                {
                    self.world.pinned.insert(at);
                }
            }
            5 => {
                // mremap: a part of a stretch goes to where nothing is.
                let (from, pages) = (self.address(), 1 + self.random.below(60));
                self.remaps += 1;
                let to = 100_000 + self.remaps * 1_000;
                let is_named = |op: &Op| match op {
                    Op::Read(at) | Op::Write(at, _) => (from..from + pages).contains(at),
                    Op::Remove(start, count) => *start < from + pages && from < start + count,
                    Op::Fork => false,
                };
                if !self.world.threads.iter().any(|thread| thread.ops.iter().any(is_named)) {
                    self.world.remap(from, to, pages);
                }
            }
            6 => {
                let (start, pages) = (self.address(), 1 + self.random.below(20));
                let is_named = |op: &Op| match op {
                    Op::Read(at) | Op::Write(at, _) => (start..start + pages).contains(at),
                    Op::Remove(from, count) => *from < start + pages && start < from + count,
                    Op::Fork => false,
                };
                let is_free = !self.world.threads.iter().any(|thread| thread.ops.iter().any(is_named));
                if is_free && self.world.mapped.len() > 800 {
                    self.world.unmap(start, pages);
                }
            }
            _ => self.world.tell(PagingEvent::Tick),
        }
    }

    fn go(&mut self) {
        for step in 0..1_500 {
            self.give_work();
            let thread = self.random.below(self.world.threads.len() as u64) as usize;
            match self.random.below(10) {
                0..4 if self.world.can_step(thread) => self.world.step(thread),
                9 if self.trouble > 0 => self.disturb(),
                8 => self.world.tell(PagingEvent::Tick),
                _ => self.finish(),
            }
            if step % 50 == 0 {
                self.world.check();
            }
        }
        self.settle();
        // Everything is read once more; then it ends, and nothing is left at slaves.
        let all: Vec<u64> = self.world.mapped.iter().copied().collect();
        let may_lose = self.world.may_lose;
        let readers = all.chunks(64).map(|pages| Thread::new(pages.iter().map(|page| Op::Read(*page)).collect()));
        self.world.threads.extend(readers.collect::<Vec<_>>());
        self.settle();
        assert!(may_lose || self.world.threads.iter().all(|thread| thread.ops.is_empty()));
        self.world.threads.clear();
        for start in all {
            self.world.unmap(start, 1);
        }
        self.settle();
        self.world.check();
        assert!(self.world.extents.is_empty(), "extents are left: {:?}", self.world.extents.keys());
        assert_eq!(self.world.pager.books().all(), 0);
    }

    /// All goes well until nothing is under way.
    fn settle(&mut self) {
        self.world.pinned.clear();
        for _ in 0..5_000 {
            if self.world.is_at_rest() {
                self.world.check();
                return;
            }
            self.world.step_calmly();
        }
        panic!(
            "it does not come to rest: {:?}, {:?}, {:?}",
            self.world.threads,
            self.world.pending,
            self.world.pager.books()
        );
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn random_programs_read_what_they_wrote() {
    let seeds = number("GVM_PAGING_SEED").map(|seed| seed..seed + 1);
    let mut evicted = 0;
    for seed in seeds.unwrap_or_else(|| 0..number("GVM_PAGING_SEEDS").unwrap_or(500)) {
        let guard = Failing(seed);
        let mut run = Run::new(seed);
        run.go();
        let stats = run.world.pager.stats();
        evicted += stats.evicted_dirty + stats.evicted_clean + stats.returned;
        std::mem::forget(guard);
    }
    assert!(evicted > 100, "pages left: {evicted}");
}

/// Names the seed when a run panics.
struct Failing(u64);

impl Drop for Failing {
    fn drop(&mut self) {
        eprintln!("GVM_PAGING_SEED={}", self.0);
    }
}
