//! Outcomes of the calls: COPY, ZEROPAGE, MOVE, WRITEPROTECT, CONTINUE, POISON.

use crate::support::{Child, Ended, WORDS, available, bytes, holds, install, next_fault, pattern, registered, touch};
use uffd::{
    FaultKind, FeatureSet, Obstacle, PAGE, PrivateMemory, Progress, RegisterMode, UffdError, Userfaultfd, Waking,
};

fn stopped(pages: u64, obstacle: Obstacle) -> Progress {
    Progress { bytes: pages * PAGE, obstacle: Some(obstacle) }
}

/// Moves pages between memories of this test.
fn move_run(uffd: &Userfaultfd, to: (&PrivateMemory, u64), from: (&PrivateMemory, u64), pages: u64) -> Progress {
    // SAFETY: no reference points into this kind of memory.
    unsafe { uffd.move_pages(to.0.page(to.1), from.0.page(from.1), pages * PAGE, false, Waking::Wake) }
}

#[test]
fn copy_stops_at_a_page_that_exists() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 4);
    install(&uffd, &memory, 2..3);
    let four = bytes(0, 4);
    assert_eq!(uffd.copy(memory.page(0), &four, Waking::Wake), stopped(2, Obstacle::Again));
    assert_eq!(uffd.copy(memory.page(2), &four[2 * 4096..], Waking::Wake), stopped(0, Obstacle::Exists));
    assert!(uffd.copy(memory.page(3), &four[3 * 4096..], Waking::Wake).is_all());
    assert!((0..4).all(|page| holds(&memory, page, page)));
    assert_eq!(uffd.zero(memory.page(3), PAGE, Waking::Wake), stopped(0, Obstacle::Exists));
    // Not registered, and not aligned.
    let other = PrivateMemory::new(1).unwrap();
    assert_eq!(uffd.copy(other.page(0), &four[..4096], Waking::Wake), stopped(0, Obstacle::NotFound));
    assert_eq!(uffd.copy(memory.page(3) + 8, &four[..4096], Waking::Wake), stopped(0, Obstacle::Invalid));
}

#[test]
fn bytes_that_others_may_write_are_copied_by_address() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 3);
    let staging = PrivateMemory::new(1).unwrap();
    (0..WORDS).for_each(|word| staging.store(word, pattern(1, word)));
    assert!(uffd.copy_from(memory.page(1), staging.address(), PAGE, Waking::Wake).is_all());
    assert!(holds(&memory, 1, 1));
    assert!(uffd.zero(memory.page(0), PAGE, Waking::Wake).is_all());
    assert_eq!(memory.load(0), 0);
    assert_eq!(uffd.copy_from(memory.page(2), 0, PAGE, Waking::Wake), stopped(0, Obstacle::Other(libc::EFAULT)));
}

#[test]
fn move_takes_runs_and_stops_at_holes() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::MOVE, 8);
    let (second, staging) = registered(FeatureSet::MOVE, 8);
    install(&uffd, &memory, 0..3);
    install(&uffd, &memory, 4..8);
    let to = |page| (&*staging, page);
    let from = |page| (&*memory, page);
    assert_eq!(move_run(&second, to(0), from(0), 8), stopped(3, Obstacle::Again));
    assert_eq!(move_run(&second, to(3), from(3), 5), stopped(0, Obstacle::NotFound));
    // SAFETY: no reference points into this kind of memory.
    let rest = unsafe { second.move_pages(staging.page(3), memory.page(3), 5 * PAGE, true, Waking::Wake) };
    assert_eq!(rest, Progress { bytes: 5 * PAGE, obstacle: None }, "with holes, they count as moved");
    assert!([0, 1, 2, 4, 5, 6, 7].into_iter().all(|page| holds(&staging, page, page)));
    // The pages are gone from where they were: whoever touches one waits.
    let waits = touch(&memory, 1);
    assert_eq!(next_fault(&uffd).address, memory.page(1));
    assert!(move_run(&uffd, from(1), to(1), 1).is_all(), "and back, which wakes");
    assert_eq!(waits.join().unwrap(), pattern(1, 1));
    // Onto a page that exists, and to where the userfaultfd has nothing.
    install(&second, &staging, 1..2);
    assert_eq!(move_run(&second, to(1), from(1), 1), stopped(0, Obstacle::Exists));
    let foreign = move_run(&uffd, to(3), from(1), 1);
    assert!(foreign.bytes == 0 && foreign.obstacle.is_some(), "{foreign:?}");
    assert!(holds(&memory, 1, 1), "a move that was refused changes nothing");
}

#[test]
fn move_takes_pages_of_zeros_and_loses_write_protection() {
    let Some(_alone) = available() else { return };
    let (uffd, _) = Userfaultfd::open(FeatureSet::MOVE.with(FeatureSet::WRITE_PROTECT)).unwrap();
    let memory = PrivateMemory::new(2).unwrap();
    let mode = RegisterMode::MissingAndWriteProtected;
    // SAFETY: no reference points into this kind of memory.
    unsafe { uffd.register(memory.address(), memory.len(), mode) }.unwrap();
    let (second, staging) = registered(FeatureSet::MOVE, 2);
    assert!(uffd.zero(memory.page(0), PAGE, Waking::Wake).is_all());
    assert!(move_run(&second, (&staging, 0), (&memory, 0), 1).is_all());
    assert_eq!(staging.load(0), 0);
    assert!(uffd.copy_protected(memory.page(1), &bytes(1, 1), Waking::Wake).is_all());
    assert!(move_run(&second, (&staging, 1), (&memory, 1), 1).is_all());
    assert!(move_run(&uffd, (&memory, 1), (&staging, 1), 1).is_all());
    // Were it protected, this would wait for ever.
    memory.store(WORDS, 5);
    assert!(!uffd.wait(0).unwrap());
}

#[test]
fn write_protection_stops_writers() {
    let Some(_alone) = available() else { return };
    let (uffd, _) = Userfaultfd::open(FeatureSet::WRITE_PROTECT).unwrap();
    let memory = std::sync::Arc::new(PrivateMemory::new(1).unwrap());
    let mode = RegisterMode::MissingAndWriteProtected;
    // SAFETY: no reference points into this kind of memory.
    unsafe { uffd.register(memory.address(), memory.len(), mode) }.unwrap();
    install(&uffd, &memory, 0..1);
    uffd.protect(memory.page(0), PAGE, true).unwrap();
    let writer = std::thread::spawn({
        let memory = std::sync::Arc::clone(&memory);
        move || memory.store(1, 9)
    });
    let fault = next_fault(&uffd);
    assert_eq!((fault.kind, fault.is_write), (FaultKind::WriteProtected, true));
    assert_eq!(memory.load(1), pattern(0, 1));
    uffd.protect(memory.page(0), PAGE, false).unwrap();
    writer.join().unwrap();
    assert_eq!(memory.load(1), 9);
    let other = PrivateMemory::new(1).unwrap();
    assert_eq!(uffd.protect(other.page(0), PAGE, true), Err(Obstacle::NotFound));
}

#[test]
fn move_refuses_locked_memory() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::MOVE, 2);
    let (second, staging) = registered(FeatureSet::MOVE, 2);
    install(&uffd, &memory, 0..2);
    // SAFETY: the page is in the memory; locking changes no bytes.
    assert_eq!(unsafe { libc::mlock(memory.page(1) as *const libc::c_void, PAGE as usize) }, 0);
    assert!(move_run(&second, (&staging, 0), (&memory, 0), 1).is_all());
    assert_eq!(move_run(&second, (&staging, 1), (&memory, 1), 1), stopped(0, Obstacle::Invalid));
    assert!(memory.drop_pages(1, 1).is_err(), "neither can it be dropped");
    assert!(holds(&memory, 1, 1));
}

#[test]
fn poison_ends_who_touches_it() {
    let Some(_alone) = available() else { return };
    let made = Userfaultfd::open(FeatureSet::POISON);
    if let Err(UffdError::Lacks { .. }) = made {
        crate::support::skip("this kernel's userfaultfd has no POISON (Linux 6.6)");
        return;
    }
    let (uffd, memory) = registered(FeatureSet::POISON, 2);
    install(&uffd, &memory, 0..1);
    assert!(uffd.poison(memory.page(1), PAGE, Waking::Wake).is_all());
    assert_eq!(Child::fork(|| i32::from(memory.load(0) == 0)).wait(), Ended::Code(0));
    assert_eq!(Child::fork(|| i32::from(memory.load(WORDS) == 0)).wait(), Ended::Signal(libc::SIGBUS));
}

/// The handler writes the page through a mapping of its own, and then only maps it for the other one.
#[test]
fn continue_maps_what_the_shared_memory_has() {
    let Some(_alone) = available() else { return };
    let (uffd, _) = Userfaultfd::open(FeatureSet::MINOR_SHMEM).unwrap();
    // SAFETY: fresh mappings of a file of our own, which are used by atomic words alone, and unmapped by nobody.
    let (writer, reader) = unsafe {
        let file = libc::memfd_create(c"gvmdp-continue".as_ptr(), libc::MFD_CLOEXEC);
        assert!(file >= 0 && libc::ftruncate(file, PAGE as i64) == 0);
        let map = || {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(std::ptr::null_mut(), PAGE as usize, access, libc::MAP_SHARED, file, 0);
            assert_ne!(start, libc::MAP_FAILED);
            std::sync::atomic::AtomicU64::from_ptr(start.cast::<u64>())
        };
        (map(), map())
    };
    let start = reader.as_ptr().addr() as u64;
    writer.store(77, std::sync::atomic::Ordering::Relaxed);
    // SAFETY: the only reference there is to an atomic word.
    unsafe { uffd.register(start, PAGE, RegisterMode::Minor) }.unwrap();
    let waits = std::thread::spawn(|| reader.load(std::sync::atomic::Ordering::Relaxed));
    let fault = next_fault(&uffd);
    assert_eq!((fault.kind, fault.address), (FaultKind::Minor, start));
    assert!(uffd.map_existing(start, PAGE, Waking::Wake).is_all());
    assert_eq!(waits.join().unwrap(), 77);
}

/// A hugepage that lands as a whole would hide 511 pages that are on slaves.
#[test]
fn staging_and_test_memory_have_no_transparent_hugepages() {
    let memory = PrivateMemory::new(1024).unwrap();
    memory.store(0, 1);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = memory.address();
    let holds_it = |line: &str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        range.is_some_and(|(from, to)| {
            number(from).is_some_and(|from| from <= start) && number(to).is_some_and(|to| start < to)
        })
    };
    let entry = maps.lines().skip_while(|line| !holds_it(line));
    let flags = entry.skip(1).find(|line| line.starts_with("VmFlags:")).unwrap();
    if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        assert!(flags.split(' ').any(|flag| flag == "nh"), "{flags}");
    }
}
