//! What the control thread does for a disk: it tells a thread to connect to the master again.

use api::disk::ServedDisk;
use blockmap::DiskStats;
use common::exit::Failure;
use disk::{DiskCommand, DiskConnector};
use host::privilege::{Confinement, Thread};
use host::unix_socket::SocketFile;
use lcore::mailbox::Sender;
use rustix::thread::CapabilitySet;
use serve::board::DiskView;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// What a disk has, for readers.
pub struct ShownDisk {
    /// Bytes of the disk.
    pub size: u64,
    /// Where clients connect.
    pub listen: String,
    /// The socket of the master.
    pub master: PathBuf,
    /// Its area, if it has one.
    pub area: Option<String>,
    /// Its counters.
    pub stats: DiskStats,
}

impl DiskView for ShownDisk {
    fn stats(&self) -> ServedDisk {
        let counters = &self.stats.counters;
        let bytes = |blocks: u64| blocks * u64::from(blockmap::BLOCK);
        ServedDisk {
            size_bytes: self.size,
            listen: self.listen.clone(),
            connections: counters.connections.get(),
            master: self.master.display().to_string(),
            area: self.area.clone(),
            master_connected: counters.master_connected.get() == 1,
            extent_bytes: blockmap::EXTENT.into(),
            extents: counters.extents_held.get(),
            extents_allowed: counters.extents_allowed.get(),
            present_bytes: bytes(counters.blocks_present.get()),
            lost_bytes: bytes(counters.blocks_lost.get()),
        }
    }
}

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub struct DiskControl {
    commands: Sender<DiskCommand>,
    wants_master: Arc<AtomicBool>,
    connector: mpsc::Sender<()>,
    is_over: Arc<AtomicBool>,
    stats: DiskStats,
    /// The file of a Unix socket, which goes with the process.
    _file: Option<SocketFile>,
}

impl DiskControl {
    /// A disk with this mailbox. When `wants_master` becomes true, a thread connects again as it is said.
    ///
    /// # Errors
    /// [`Failure::Machine`]: the kernel has no thread left.
    pub fn new(
        commands: Sender<DiskCommand>,
        wants_master: Arc<AtomicBool>,
        how: (PathBuf, DiskConnector),
        confinement: &Confinement,
        stats: DiskStats,
        file: Option<SocketFile>,
    ) -> Result<Self, Failure> {
        let (connector, orders) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (confinement, mailbox, over) = (confinement.clone(), commands.clone(), Arc::clone(&is_over));
        let body = move || {
            if let Err(failure) = confinement.enter(Thread::Connector, CapabilitySet::empty()) {
                return tracing::error!("nobody connects to a master again: {failure}");
            }
            while orders.recv().is_ok() {
                connect(&how, &mailbox, &over);
            }
        };
        let thread = std::thread::Builder::new().name("connector".to_owned()).spawn(body);
        thread.map_err(|error| Failure::Machine(format!("cannot start a thread for the master: {error}")))?;
        Ok(Self { commands, wants_master, connector, is_over, stats, _file: file })
    }

    /// Tells the connecting thread to work, if the loop wants that.
    pub(super) fn work(&mut self) {
        if self.wants_master.swap(false, Ordering::AcqRel) {
            // The thread lives as long as this.
            let _ = self.connector.send(());
        }
    }

    /// Begins to drain: no client is served any more.
    pub(super) fn drain(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // There is room: the control thread and the connecting one send few commands.
        let _ = self.commands.try_send(DiskCommand::Drain);
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let counters = &self.stats.counters;
        let number = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let master = if counters.master_connected.get() == 1 { "" } else { ", NO MASTER" };
        let (connections, extents) = (counters.connections.get(), counters.extents_held.get());
        format!("{}, {} MiB of slaves{master}", number(connections, "connection"), extents << 1)
    }
}

impl Drop for DiskControl {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// Connects, and tries again until there is a connection.
fn connect((path, connector): &(PathBuf, DiskConnector), mailbox: &Sender<DiskCommand>, is_over: &AtomicBool) {
    let mut is_said = false;
    while !is_over.load(Ordering::Acquire) {
        match connector.connect(path) {
            Ok(channels) => {
                // A loop that has ended needs none.
                let _ = mailbox.try_send(DiskCommand::Connected(Box::new(channels)));
                return;
            }
            Err(error) if !std::mem::replace(&mut is_said, true) => {
                tracing::warn!("cannot connect to the master, and try again every second: {error}");
            }
            Err(_) => (),
        }
        std::thread::sleep(PAUSE);
    }
}
