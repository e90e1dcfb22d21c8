//! A pager behind real page faults. The program is the test itself: its threads touch memory that is registered with
//! userfaultfd. One thread, the driver, reads faults, moves pages out and back, and has a connection to a server of
//! pages inside of the process.
//!
//! Needs access to userfaultfd; without it a test says SKIPPED, or fails when the environment has `GVM_TESTS=require`.
#![forbid(unsafe_code)]

mod driver;

pub use driver::Report;

use driver::{Driver, Order};
use pages::local::{LocalOptions, LocalServer};
use paging::PagingConfig;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uffd::{FeatureSet, PrivateMemory, Userfaultfd};

/// Words of a page.
pub const WORDS: u64 = 512;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory that is paged, its driver, and the server that has its slots.
#[derive(Debug)]
pub struct Paged {
    /// The memory.
    pub memory: Arc<PrivateMemory>,
    /// The slaves.
    pub server: LocalServer,
    paused: Arc<AtomicU64>,
    orders: Sender<Order>,
    driver: Option<JoinHandle<Report>>,
    folder: PathBuf,
}

/// Whether these tests can run here. If not, says so on standard error.
///
/// # Panics
/// With `GVM_TESTS=require`, when they cannot.
pub fn available() -> bool {
    let Err(error) = Userfaultfd::open(FeatureSet::MOVE) else { return true };
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {error}");
    // Written directly, because the test runner hides what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
    false
}

impl Paged {
    /// Maps so many pages, of which the config's are local.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn new(pages: u64, config: PagingConfig) -> Self {
        Self::with_events(pages, config, FeatureSet::NONE)
    }

    /// The same, and the kernel tells the driver of these events.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn with_events(pages: u64, config: PagingConfig, events: FeatureSet) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("gvmdp-faults-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pages.sock");
        let server = LocalServer::start(&path, LocalOptions::default()).unwrap();
        let memory = Arc::new(PrivateMemory::new(pages).unwrap());
        let (orders, inbox): (_, Receiver<Order>) = channel();
        let paused = Arc::new(AtomicU64::new(0));
        let mut driver = Driver::new(Arc::clone(&memory), config, events, &path, Arc::clone(&paused), inbox);
        let driver = std::thread::spawn(move || driver.run());
        Self { memory, server, paused, orders, driver: Some(driver), folder }
    }

    /// Drops pages, as a program does whose madvise is hooked.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn remove(&self, first: u64, pages: u64) {
        let (done, is_done) = channel();
        self.orders.send(Order::Remove { first, pages, done }).unwrap();
        is_done.recv_timeout(PATIENCE).unwrap();
        self.memory.drop_pages(first, pages).unwrap();
    }

    /// The extents in which pages are stored now.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn extents(&self) -> Vec<u64> {
        let (answer, come) = channel();
        self.orders.send(Order::Extents { answer }).unwrap();
        come.recv_timeout(PATIENCE).unwrap()
    }

    /// What has happened so far.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn report(&self) -> Report {
        let (answer, come) = channel();
        self.orders.send(Order::Report { answer }).unwrap();
        come.recv_timeout(PATIENCE).unwrap()
    }

    /// Threads that are paused, since their page is lost.
    pub fn paused(&self) -> u64 {
        self.paused.load(Ordering::Acquire)
    }

    /// Ends the driver when all is quiet. Nobody may touch the memory any more.
    ///
    /// # Panics
    /// When the driver did.
    pub fn end(mut self) -> Report {
        self.orders.send(Order::End).unwrap();
        self.driver.take().unwrap().join().unwrap()
    }
}

impl Drop for Paged {
    fn drop(&mut self) {
        // After a panic of the test the driver may have gone.
        let _ = self.orders.send(Order::End);
        if let Some(driver) = self.driver.take() {
            let _ = driver.join();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Repeats until it is true.
///
/// # Panics
/// When it does not become true.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A thread of a program: it reads and writes a word of its own in every page, and knows what it wrote.
#[derive(Debug)]
pub struct Worker {
    memory: Arc<PrivateMemory>,
    word: u64,
    wrote: Vec<u64>,
    random: u64,
}

impl Worker {
    /// A worker with this number, below 64.
    pub fn new(paged: &Paged, number: u64) -> Self {
        Self::of_first(paged, number, paged.memory.len() / (WORDS * 8))
    }

    /// The same, and it uses so many pages only.
    pub fn of_first(paged: &Paged, number: u64, pages: u64) -> Self {
        let memory = Arc::clone(&paged.memory);
        Self { memory, word: number * 8, wrote: vec![0; pages as usize], random: number.wrapping_mul(0x9e37_79b9) | 1 }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Reads its word of a page.
    ///
    /// # Panics
    /// When it is not what this worker wrote last.
    pub fn read(&self, page: u64) {
        let found = self.memory.load(page * WORDS + self.word);
        assert_eq!(found, self.wrote[page as usize], "word {} of page {page}", self.word);
    }

    /// Writes its word of a page; never zero.
    pub fn write(&mut self, page: u64) {
        let value = self.random() | 1;
        self.wrote[page as usize] = value;
        self.memory.store(page * WORDS + self.word, value);
    }

    /// Its words of these pages are zeros: it has dropped them.
    pub fn forget(&mut self, first: u64, pages: u64) {
        self.wrote[first as usize..(first + pages) as usize].fill(0);
    }

    /// So many random reads and writes, mostly of a few pages.
    pub fn work(&mut self, steps: u64) {
        let pages = self.wrote.len() as u64;
        for _ in 0..steps {
            let (pick, kind) = (self.random() >> 20, self.random() >> 40);
            let page = if kind % 4 == 0 { pick % pages } else { pick % (pages / 4).max(1) };
            if kind % 3 == 0 { self.write(page) } else { self.read(page) }
        }
    }

    /// Reads all pages, one after the other.
    pub fn scan(&self) {
        (0..self.wrote.len() as u64).for_each(|page| self.read(page));
    }
}
