//! Prefetch: which pages a thread will probably want next.
//!
//! For each thread the distances between its last faults are kept. The distance that more than half of them have is the
//! *trend* (majority vote of Boyer and Moore, as in Leap). With a trend, a *window* of pages along it is fetched beside
//! the one that the thread waits for. A page that was fetched in advance causes no fault, so hits are not seen. But the
//! thread's next fault is: right behind the window (all of it was wanted: the window doubles), or somewhere else (it
//! was a wrong guess: the window halves).

use crate::key::PageKey;
use std::collections::BTreeMap;

/// Distances that are kept.
const HISTORY: usize = 8;

/// Threads that are remembered.
const THREADS: usize = 256;

/// The first window of a trend.
const FIRST: u32 = 4;

#[derive(Clone, Debug)]
struct Thread {
    last: PageKey,
    distances: [i64; HISTORY],
    next: usize,
    window: u32,
    /// The fault that shows that all of the window was wanted.
    expected: Option<PageKey>,
    used: u64,
}

/// The threads of one program.
#[derive(Clone, Debug)]
pub(crate) struct Trends {
    most: u32,
    threads: BTreeMap<u32, Thread>,
    faults: u64,
}

/// What to fetch in advance: so many pages, at this distance from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) stride: i64,
    pub(crate) pages: u32,
    /// Whether the last window was right, if there was one.
    pub(crate) was_right: Option<bool>,
}

impl Trends {
    /// Windows have at most so many pages; 0 turns prefetch off.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, threads: BTreeMap::new(), faults: 0 }
    }

    /// A thread faults on a page. `None` without a trend.
    pub(crate) fn fault(&mut self, id: u32, page: PageKey) -> Option<Guess> {
        if self.most == 0 {
            return None;
        }
        self.faults += 1;
        let faults = self.faults;
        if !self.threads.contains_key(&id) && self.threads.len() == THREADS {
            let oldest = self.threads.iter().min_by_key(|(_, thread)| thread.used).map(|(id, _)| *id);
            oldest.and_then(|id| self.threads.remove(&id));
        }
        let fresh = || Thread { last: page, distances: [0; HISTORY], next: 0, window: 0, expected: None, used: faults };
        let thread = self.threads.entry(id).or_insert_with(fresh);
        thread.used = faults;
        let was_right = thread.expected.take().map(|expected| expected == page);
        match was_right {
            Some(true) => thread.window = (thread.window * 2).min(self.most),
            Some(false) => thread.window /= 2,
            None => {}
        }
        let distance = if page.object() == thread.last.object() {
            page.page().cast_signed() - thread.last.page().cast_signed()
        } else {
            0
        };
        // A jump over a window that was fetched is a step of the trend.
        let stride =
            if was_right == Some(true) { thread.distances[(thread.next + HISTORY - 1) % HISTORY] } else { distance };
        thread.last = page;
        thread.distances[thread.next] = stride;
        thread.next = (thread.next + 1) % HISTORY;
        let Some(trend) = majority(&thread.distances) else {
            thread.window = 0;
            return was_right.map(|right| Guess { stride: 0, pages: 0, was_right: Some(right) });
        };
        if thread.window == 0 && was_right != Some(false) {
            thread.window = FIRST.min(self.most);
        }
        thread.expected = if thread.window > 0 { page.step(trend * i64::from(thread.window + 1)) } else { None };
        Some(Guess { stride: trend, pages: thread.window, was_right })
    }
}

/// The distance that more than half have, if it is one.
fn majority(distances: &[i64]) -> Option<i64> {
    let (mut candidate, mut votes) = (0, 0);
    for distance in distances {
        match votes {
            0 => (candidate, votes) = (*distance, 1),
            _ if *distance == candidate => votes += 1,
            _ => votes -= 1,
        }
    }
    let count = distances.iter().filter(|distance| **distance == candidate).count();
    (candidate != 0 && count > distances.len() / 2).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64) -> PageKey {
        PageKey::new(0, number)
    }

    /// A thread that walks, and faults only on what was not fetched. Returns its faults.
    fn walk(trends: &mut Trends, thread: u32, from: u64, stride: u64, steps: u64) -> u64 {
        let (mut there, mut faults) = (std::collections::BTreeSet::new(), 0);
        for step in 0..steps {
            let at = from + stride * step;
            if there.insert(at) {
                faults += 1;
                if let Some(guess) = trends.fault(thread, page(at)) {
                    (1..=i64::from(guess.pages)).for_each(|k| {
                        there.insert(at.wrapping_add_signed(guess.stride * k));
                    });
                }
            }
        }
        faults
    }

    #[test]
    fn a_scan_has_one_fault_for_a_window() {
        for stride in [1, 3] {
            let mut trends = Trends::new(32);
            let faults = walk(&mut trends, 1, 1000, stride, 3300);
            assert!(faults < 3300 / 33 + 12, "{faults} faults with stride {stride}");
        }
        assert_eq!(walk(&mut Trends::new(0), 1, 0, 1, 100), 100, "turned off");
    }

    #[test]
    fn random_faults_fetch_almost_nothing() {
        let (mut trends, mut at, mut fetched) = (Trends::new(32), 12_345_u64, 0);
        for _ in 0..1000 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            fetched += trends.fault(1, page(at >> 40)).map_or(0, |guess| guess.pages);
        }
        assert!(fetched < 10, "{fetched}");
    }

    #[test]
    fn a_wrong_guess_shrinks_the_window() {
        let mut trends = Trends::new(32);
        walk(&mut trends, 1, 0, 1, 500);
        let windows: Vec<u32> = [5_000, 9_000, 7_000, 20_000, 40_000]
            .map(|at| trends.fault(1, page(at)).map_or(0, |guess| guess.pages))
            .to_vec();
        assert!(windows[0] <= 16 && windows[4] == 0, "{windows:?}");
    }

    #[test]
    fn threads_do_not_disturb_each_other_and_are_bounded() {
        let mut trends = Trends::new(32);
        let (mut up, mut down) = (0, 0);
        for step in 0..400 {
            up = up.max(trends.fault(1, page(1000 + 40 * step)).map_or(0, |guess| guess.pages));
            down = down.max(trends.fault(2, page(90_000 - 2 * step)).map_or(0, |guess| guess.pages));
        }
        assert!(up > 0 && down > 0);
        for thread in 0..10_000 {
            trends.fault(thread, page(thread.into()));
        }
        assert!(trends.threads.len() <= THREADS);
    }
}
