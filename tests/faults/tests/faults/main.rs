//! Threads that fault while pages leave: whatever the slaves do, they read what they wrote.

use faults::{Paged, Report, WORDS, Worker, available, eventually};
use pages::{Extent, Status};
use paging::{PageState, PagingConfig};
use std::sync::Arc;
use std::time::Duration;
use uffd::FeatureSet;

fn config(local: u64) -> PagingConfig {
    PagingConfig { landings: 64, staging_runs: 4, ..PagingConfig::new(local, 0x1234_5678_9abc_def0) }
}

/// Threads work at the same time, and each reads all pages in the end.
fn work(paged: &Paged, threads: u64, steps: u64) -> Vec<Worker> {
    let workers = (0..threads).map(|number| {
        let mut worker = Worker::new(paged, number);
        std::thread::spawn(move || {
            worker.work(steps);
            worker.scan();
            worker
        })
    });
    let workers: Vec<_> = workers.collect();
    workers.into_iter().map(|worker| worker.join().unwrap()).collect()
}

fn has_paged(report: &Report) {
    let stats = report.stats;
    assert!(stats.fetched > 100 && stats.evicted_dirty > 100, "{report:?}");
    assert_eq!((stats.pages_lost, stats.corrupt, stats.strays), (0, 0, 0), "{report:?}");
}

#[test]
fn threads_that_fault_while_pages_leave_read_what_they_wrote() {
    if !available() {
        return;
    }
    let paged = Paged::new(1_500, config(300));
    work(&paged, 4, 4_000);
    has_paged(&paged.end());
}

#[test]
fn the_local_memory_has_its_limit() {
    if !available() {
        return;
    }
    let paged = Paged::new(1_500, config(200));
    work(&paged, 2, 3_000);
    let report = paged.report();
    assert!(report.books.local() <= 200, "{report:?}");
    // The kernel says the same of the memory: the pages that are there are those of the books.
    eventually("rest", || paged.report().books.leaving() == 0);
    let there = present(&paged);
    let books = paged.report().books;
    assert_eq!(there, books.in_state(PageState::Resident), "{books:?}");
    paged.end();
}

/// Pages of the memory that the kernel has.
fn present(paged: &Paged) -> u64 {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::File::open("/proc/self/pagemap").unwrap();
    let count = paged.memory.len() / (WORDS * 8);
    let mut entries = vec![0; count as usize * 8];
    maps.read_exact_at(&mut entries, paged.memory.address() / (WORDS * 8) * 8).unwrap();
    // Bit 63: present.
    entries.chunks_exact(8).filter(|entry| entry[7] & 0x80 != 0).count() as u64
}

#[test]
fn extents_are_recalled_while_threads_work() {
    if !available() {
        return;
    }
    let paged = Paged::new(1_500, config(300));
    work(&paged, 2, 1_000);
    let before = paged.extents();
    assert!(!before.is_empty());
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut worker = Worker::new(&paged, 9);
            worker.work(4_000);
            worker.scan();
        });
        for extent in &before {
            paged.server.recall(Extent::from_number(*extent), Duration::from_secs(60));
        }
        busy.join().unwrap();
    });
    eventually("all extents to move", || paged.extents().iter().all(|extent| !before.contains(extent)));
    let report = paged.end();
    assert_eq!(report.stats.relocated, before.len() as u64, "{report:?}");
    has_paged(&report);
}

#[test]
fn a_slave_that_is_slow_only_makes_it_slow() {
    if !available() {
        return;
    }
    let paged = Paged::new(300, config(100));
    paged.server.delay(Duration::from_millis(2));
    let workers = work(&paged, 2, 200);
    assert_eq!(workers.len(), 2);
    let report = paged.end();
    assert_eq!((report.stats.pages_lost, report.stats.corrupt), (0, 0), "{report:?}");
    assert!(report.stats.evicted_dirty > 50, "{report:?}");
}

#[test]
fn dropped_pages_are_zeros_and_others_are_not() {
    if !available() {
        return;
    }
    let paged = Paged::new(1_000, config(200));
    let mut worker = Worker::new(&paged, 1);
    (0..1_000).for_each(|page| worker.write(page));
    for first in [0, 350, 480, 900] {
        paged.remove(first, 100);
        worker.forget(first, 100);
    }
    worker.scan();
    worker.work(2_000);
    worker.scan();
    let report = paged.end();
    assert!(report.stats.removed >= 400, "{report:?}");
}

/// The program calls madvise, and nobody hooks it: the kernel's event holds it up until the driver has read it. COPY
/// and MOVE say EAGAIN meanwhile, while other threads fault.
#[test]
fn pages_that_madvise_drops_are_zeros_while_others_fault() {
    if !available() {
        return;
    }
    let paged = Paged::with_events(1_000, config(200), FeatureSet::EVENT_REMOVE);
    std::thread::scope(|scope| {
        // One drops pages of its own again and again, the others work elsewhere.
        scope.spawn(|| {
            for round in 1..200_u64 {
                let first = 600 + round % 7 * 50;
                (first..first + 50).for_each(|page| paged.memory.store(page * WORDS + 8, round));
                paged.memory.drop_pages(first, 50).unwrap();
                (first..first + 50).for_each(|page| assert_eq!(paged.memory.load(page * WORDS + 8), 0, "page {page}"));
            }
        });
        for number in 2..4 {
            let mut worker = Worker::of_first(&paged, number, 600);
            scope.spawn(move || {
                worker.work(4_000);
                worker.scan();
            });
        }
    });
    let report = paged.end();
    assert!(report.stats.removed > 1_000, "{report:?}");
    has_paged(&report);
}

/// Bytes that a slave changed, and extents that are lost: whoever touches such a page waits, and never sees zeros.
#[test]
fn lost_and_changed_pages_pause_and_are_never_zeros() {
    if !available() {
        return;
    }
    let paged = Paged::new(600, PagingConfig { window: 0, ..config(64) });
    let mut worker = Worker::new(&paged, 0);
    (0..600).for_each(|page| worker.write(page));
    eventually("the pages to leave", || paged.report().books.leaving() == 0);
    let touch = |page: u64| {
        let memory = Arc::clone(&paged.memory);
        std::thread::spawn(move || memory.load(page * WORDS))
    };
    paged.server.flip(true);
    let changed = touch(0);
    eventually("the first pause", || paged.paused() == 1);
    paged.server.flip(false);
    for extent in paged.extents() {
        paged.server.lose(Extent::from_number(extent), Status::SLAVE_GONE);
    }
    let lost = touch(100);
    eventually("the second pause", || paged.paused() == 2);
    assert!(!changed.is_finished() && !lost.is_finished());
    let report = paged.report();
    assert!(report.stats.corrupt == 1 && report.stats.pages_lost > 100, "{report:?}");
    // When the program drops the pages, they are zeros by right, and the threads go on.
    paged.remove(0, 600);
    assert_eq!((changed.join().unwrap(), lost.join().unwrap()), (0, 0));
    paged.end();
}
