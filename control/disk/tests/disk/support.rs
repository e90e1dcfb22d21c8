//! A disk on a thread of its own, over a server of pages in this process.

use blockmap::{DiskCounters, DiskStats};
use disk::{DiskAreaError, DiskChannels, DiskCommand, DiskConnector, DiskLoop, DiskOptions, DiskServer, DiskSocket};
use lcore::mailbox::{self, Sender};
use lcore::thread::{End, LcoreHandle, ThreadConfig, start};
use lcore::{Clock, RxMode};
use nbd::Export;
use pages::local::{LocalOptions, LocalServer};
use pages::{ClientOptions, PagesError, RefusedFor};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than any wait of a test.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a program is there that `scripts/setup.sh` installs. With `GVM_TESTS=require` it must be.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let is_required = std::env::var("GVM_TESTS").as_deref() == Ok("require");
    assert!(is_there || !is_required, "GVM_TESTS=require, but `{program}` is not installed: scripts/setup.sh");
    if !is_there {
        let _ = writeln!(std::io::stderr(), "SKIPPED: `{program}` is not installed");
    }
    is_there
}

/// A folder of its own for a test; gone at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("gvm-disk-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a test wants of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    pub(crate) size: u64,
    /// Extents that the server of pages gives.
    pub(crate) extents: u32,
    /// Bytes of buffers.
    pub(crate) buffers: u64,
    pub(crate) connections: usize,
    /// The area in which it outlives its process.
    pub(crate) area: Option<String>,
}

impl Default for Wants {
    fn default() -> Self {
        Self { size: 64 << 20, extents: 64, buffers: 4 << 20, connections: 16, area: None }
    }
}

/// A disk that runs.
pub(crate) struct Running {
    pub(crate) folder: Folder,
    pub(crate) pages: Option<LocalServer>,
    pub(crate) wants_master: Arc<AtomicBool>,
    handle: Option<LcoreHandle>,
    commands: Sender<DiskCommand>,
    stats: DiskStats,
    wants: Wants,
}

fn connector(wants: &Wants) -> DiskConnector {
    let options = ClientOptions { requests: 256, buffers: wants.buffers, patience: LONG, ..ClientOptions::default() };
    DiskConnector { options, area: wants.area.clone() }
}

/// Connects; an area may have another connection still, which ends.
fn connect(path: &Path, wants: &Wants) -> DiskChannels {
    let mut found = None;
    until("the area is free", || {
        found = match connector(wants).connect(path) {
            Err(PagesError::Refused { reason: RefusedFor::AREA_IN_USE, .. }) => None,
            other => Some(other.unwrap()),
        };
        found.is_some()
    });
    found.unwrap()
}

impl Running {
    pub(crate) fn new(wants: Wants) -> Self {
        let folder = Folder::new();
        let options = LocalOptions { extents: wants.extents, ..LocalOptions::default() };
        let pages = LocalServer::start(folder.0.join("pages"), options).unwrap();
        Self::start(folder, Some(pages), wants).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A disk over a server of pages that runs already.
    pub(crate) fn start(folder: Folder, pages: Option<LocalServer>, wants: Wants) -> Result<Self, DiskAreaError> {
        let mut channels = connect(&folder.0.join("pages"), &wants);
        let kept = match &wants.area {
            Some(area) => disk::area::restore(&mut channels, area, wants.size)?,
            None => None,
        };
        let socket = DiskSocket::unix(&folder.0.join("disk"), None).unwrap();
        let (commands, mailbox) = mailbox::mailbox(16).unwrap();
        let export = Export {
            name: "disk".to_owned(),
            description: "memory of slaves".to_owned(),
            size: wants.size,
            least: 512,
            preferred: 4096,
            most: (wants.buffers / 2).min(32 << 20) as u32,
            is_read_only: false,
        };
        let options = DiskOptions { export, connections: wants.connections };
        let (wants_master, stats) = (Arc::new(AtomicBool::new(false)), DiskStats::default());
        let (wanted, shown) = (Arc::clone(&wants_master), stats.clone());
        let build =
            move || DiskServer::new(options, socket, (channels, kept), mailbox, wanted, shown).map(DiskLoop::new);
        let config = ThreadConfig { index: 0, core: None, mode: RxMode::Adaptive, clock: Clock::start() };
        let handle = start(config, build, || ()).unwrap().wait().unwrap();
        Ok(Self { folder, pages, wants_master, handle: Some(handle), commands, stats, wants })
    }

    /// Ends as a process that is killed: what is under way is not waited for. Returns what is there still.
    pub(crate) fn kill(mut self) -> (Folder, Option<LocalServer>, Wants) {
        let handle = self.handle.take().unwrap();
        handle.stop();
        handle.join();
        (self.folder, self.pages, self.wants)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.0.join("disk")
    }

    pub(crate) fn stream(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    pub(crate) fn counters(&self) -> &DiskCounters {
        &self.stats.counters
    }

    pub(crate) fn pages(&self) -> &LocalServer {
        self.pages.as_ref().unwrap()
    }

    /// Connects the disk to a new server of pages.
    pub(crate) fn connect_again(&mut self) {
        let path = self.folder.0.join("pages");
        let options = LocalOptions { extents: self.wants.extents, ..LocalOptions::default() };
        self.pages = Some(LocalServer::start(&path, options).unwrap());
        let channels = connect(&path, &self.wants);
        self.wants_master.store(false, Ordering::Release);
        assert!(self.commands.try_send(DiskCommand::Connected(Box::new(channels))).is_ok());
    }

    /// Drains, and returns how the loop ended.
    pub(crate) fn drain(&mut self) -> End {
        assert!(self.commands.try_send(DiskCommand::Drain).is_ok());
        let handle = self.handle.take().unwrap();
        until("the disk drains", || handle.is_finished());
        handle.join()
    }
}
