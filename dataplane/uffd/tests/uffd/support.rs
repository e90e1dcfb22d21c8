//! Memory with a pattern, threads that touch it, and children that end by themselves.

use std::io::Write as _;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uffd::{FaultEvent, FeatureSet, PAGE, PageFault, PrivateMemory, RegisterMode, Userfaultfd, Waking};

/// Words of a page.
pub(crate) const WORDS: u64 = PAGE / 8;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says that a test cannot run here, or panics with `GVM_TESTS=require`.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    // Written directly, because the test runner hides what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// The right to run, if these tests can run here. One test runs at a time: a fork of one would be an event of another,
/// and memory that one test moved away may be mapped again by another.
pub(crate) fn available() -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::new(());
    match Userfaultfd::open(FeatureSet::EVENT_FORK.with(FeatureSet::MOVE)) {
        Ok(_) => Some(ONE.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

/// A userfaultfd with these features, and memory that is registered with it.
pub(crate) fn registered(features: FeatureSet, pages: u64) -> (Userfaultfd, Arc<PrivateMemory>) {
    let (uffd, _) = Userfaultfd::open(features).unwrap();
    let memory = PrivateMemory::new(pages).unwrap();
    // SAFETY: no reference points into this kind of memory.
    unsafe { uffd.register(memory.address(), memory.len(), RegisterMode::Missing) }.unwrap();
    (uffd, Arc::new(memory))
}

/// What a word of a page has, never 0.
pub(crate) fn pattern(page: u64, word: u64) -> u64 {
    (page * WORDS + word).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// The bytes of so many pages from a page on.
pub(crate) fn bytes(first: u64, pages: u64) -> Vec<u8> {
    let words = (first..first + pages).flat_map(|page| (0..WORDS).map(move |word| pattern(page, word)));
    words.flat_map(u64::to_ne_bytes).collect()
}

/// Brings pages of the pattern to where they belong.
pub(crate) fn install(uffd: &Userfaultfd, memory: &PrivateMemory, pages: std::ops::Range<u64>) {
    for page in pages {
        assert!(uffd.copy(memory.page(page), &bytes(page, 1), Waking::Wake).is_all());
    }
}

/// Whether `place` has all words of the pattern's `page`.
pub(crate) fn holds(memory: &PrivateMemory, place: u64, page: u64) -> bool {
    (0..WORDS).all(|word| memory.load(place * WORDS + word) == pattern(page, word))
}

/// Repeats until it is true.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The next event.
pub(crate) fn next_event(uffd: &Userfaultfd) -> FaultEvent {
    let mut events = Vec::new();
    eventually("an event", || uffd.wait(100).unwrap() && uffd.read(&mut events, 1).unwrap() == 1);
    events.pop().unwrap()
}

/// The next event, which is a fault.
pub(crate) fn next_fault(uffd: &Userfaultfd) -> PageFault {
    match next_event(uffd) {
        FaultEvent::Fault(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// A thread that reads the second word of a page.
pub(crate) fn touch(memory: &Arc<PrivateMemory>, page: u64) -> JoinHandle<u64> {
    let memory = Arc::clone(memory);
    std::thread::spawn(move || memory.load(page * WORDS + 1))
}

/// The same, once the thread sleeps: its fault is queued, whoever reads or does not.
pub(crate) fn touch_and_sleep(memory: &Arc<PrivateMemory>, page: u64) -> JoinHandle<u64> {
    let (memory, thread) = (Arc::clone(memory), Arc::new(AtomicI32::new(0)));
    let number = Arc::clone(&thread);
    let handle = std::thread::spawn(move || {
        // SAFETY: it takes nothing and cannot fail.
        number.store(unsafe { libc::gettid() }, Ordering::Release);
        memory.load(page * WORDS + 1)
    });
    eventually("a thread that sleeps", || {
        let tid = thread.load(Ordering::Acquire);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S") || rest.starts_with(" D"))
    });
    handle
}

/// A child that runs `body` and ends with its answer, or by a signal.
pub(crate) struct Child(libc::pid_t);

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Child {
    /// Forks. `body` must not rely on other threads.
    pub(crate) fn fork(body: impl FnOnce() -> i32) -> Self {
        // SAFETY: the child only runs `body` and ends without running anything of this process's.
        match unsafe { libc::fork() } {
            0 => {
                let code = body();
                // SAFETY: it ends the process.
                unsafe { libc::_exit(code) }
            }
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            child => Self(child),
        }
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        // SAFETY: a child of ours that nobody has waited for.
        assert_eq!(unsafe { libc::kill(self.0, libc::SIGKILL) }, 0);
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        let mut status = 0;
        // SAFETY: a child of ours that nobody has waited for, and a number that the kernel writes.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        if libc::WIFSIGNALED(status) {
            Ended::Signal(libc::WTERMSIG(status))
        } else {
            Ended::Code(libc::WEXITSTATUS(status))
        }
    }
}
