//! Eviction policies on traces: which share of accesses finds its page.
//!
//! `cargo test -p gvm-paging --test paging policies -- --nocapture` prints the table of `docs/run.md`. A trace is a
//! row of pages. LRU and CLOCK see every access, which userfaultfd does not show: they are there to compare. FIFO, and
//! the pager's policy, see only pages that come back after they had left.

use paging::{EvictionPolicy, PageKey};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

const LOCAL: u64 = 2_000;
const LENGTH: usize = 120_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Zipf with exponent 0.9 over so many pages, by inversion of the continuous distribution.
    fn zipf(&mut self, pages: u64) -> u64 {
        let power = 1.0 - 0.9;
        let top = (pages as f64).powf(power);
        let rank = (1.0 + self.unit() * (top - 1.0)).powf(1.0 / power) as u64;
        // Popular pages are not neighbours.
        rank.min(pages - 1).wrapping_mul(0x9e37_79b9) % pages
    }
}

fn traces() -> Vec<(&'static str, Vec<u64>)> {
    let random = || Random(0x1234_5678_9abc_def1);
    let zipf = {
        let mut random = random();
        (0..LENGTH).map(|_| random.zipf(LOCAL * 10)).collect()
    };
    let with_scans = {
        let (mut random, mut trace, mut at) = (random(), Vec::new(), 1_000_000);
        while trace.len() < LENGTH {
            trace.extend((0..6_000).map(|_| random.zipf(LOCAL * 4)));
            trace.extend(at..at + 3_000);
            at += 3_000;
        }
        trace
    };
    let cycle = (0..LENGTH).map(|at| at as u64 % (LOCAL * 12 / 10)).collect();
    let phases = {
        let mut random = random();
        (0..LENGTH).map(|at| (at as u64 / 20_000) * 10_000 + random.next() % (LOCAL * 8 / 10)).collect()
    };
    let hot_and_cold = {
        let mut random = random();
        let mut page =
            || if random.next().is_multiple_of(10) { 5_000 + random.next() % 50_000 } else { random.next() % 1_500 };
        (0..LENGTH).map(|_| page()).collect()
    };
    vec![
        ("zipf 0.9 over 10 x", zipf),
        ("zipf 0.9 over 4 x, with scans", with_scans),
        ("cycle over 1.2 x", cycle),
        ("phases of 0.8 x", phases),
        ("90 % to 0.75 x, 10 % to 25 x", hot_and_cold),
    ]
}

fn rate(hits: u64, trace: &[u64]) -> f64 {
    100.0 * hits as f64 / trace.len() as f64
}

fn fifo(trace: &[u64]) -> f64 {
    let (mut queue, mut there, mut hits) = (VecDeque::new(), HashSet::new(), 0);
    for page in trace {
        if !there.insert(*page) {
            hits += 1;
            continue;
        }
        queue.push_back(*page);
        if queue.len() as u64 > LOCAL {
            queue.pop_front().map(|page| there.remove(&page));
        }
    }
    rate(hits, trace)
}

fn lru(trace: &[u64]) -> f64 {
    let (mut last, mut order, mut hits) = (HashMap::new(), BTreeMap::new(), 0);
    for (now, page) in trace.iter().enumerate() {
        if let Some(before) = last.insert(*page, now) {
            order.remove(&before);
            hits += 1;
        } else if last.len() as u64 > LOCAL {
            order.pop_first().map(|(_, page)| last.remove(&page));
        }
        order.insert(now, *page);
    }
    rate(hits, trace)
}

/// CLOCK, with accesses sampled: one of `sample` sets the bit.
fn clock(trace: &[u64], sample: u64) -> f64 {
    let (mut queue, mut bits, mut hits, mut random) = (VecDeque::new(), HashMap::new(), 0, Random(99));
    for page in trace {
        if let Some(bit) = bits.get_mut(page) {
            hits += 1;
            *bit |= random.next().is_multiple_of(sample);
            continue;
        }
        while queue.len() as u64 >= LOCAL {
            let Some(page) = queue.pop_front() else { break };
            if std::mem::take(bits.entry(page).or_insert(false)) {
                queue.push_back(page);
            } else {
                bits.remove(&page);
            }
        }
        queue.push_back(*page);
        bits.insert(*page, false);
    }
    rate(hits, trace)
}

fn chosen(trace: &[u64]) -> f64 {
    let (mut policy, mut there, mut hits) = (EvictionPolicy::new(LOCAL), HashMap::new(), 0);
    for page in trace {
        if there.contains_key(page) {
            hits += 1;
            continue;
        }
        if there.len() as u64 >= LOCAL {
            let key = |page: PageKey| page.bits();
            let victim = policy.victim(|page, is_old| there.get(&key(page)) == Some(&is_old)).unwrap();
            let was_hot = there.remove(&key(victim)).unwrap();
            policy.left(victim, was_hot);
        }
        let is_hot = policy.insert(PageKey::from_bits(*page));
        there.insert(*page, is_hot);
    }
    rate(hits, trace)
}

#[test]
fn the_chosen_policy_is_compared_with_others() {
    println!("| trace (x: local pages) | LRU | CLOCK | CLOCK, 1 of 32 sampled | FIFO | FIFO with memory |");
    println!("|---|---|---|---|---|---|");
    let (mut sum_fifo, mut sum_chosen) = (0.0, 0.0);
    for (name, trace) in traces() {
        let rates = [lru(&trace), clock(&trace, 1), clock(&trace, 32), fifo(&trace), chosen(&trace)];
        let cells = rates.map(|rate| format!("{rate:.1} %"));
        println!("| {name} | {} |", cells.join(" | "));
        assert!(rates[4] > rates[3] - 2.0, "{name}: {:.1} % are less than FIFO's {:.1} %", rates[4], rates[3]);
        sum_fifo += rates[3];
        sum_chosen += rates[4];
    }
    assert!(sum_chosen > sum_fifo + 5.0, "{sum_chosen:.1} against {sum_fifo:.1}");
}
