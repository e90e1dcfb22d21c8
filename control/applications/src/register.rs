//! Which applications there are, for readers on other threads.

use master::ClientTotals;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One application that has a channel.
#[derive(Debug)]
pub struct ApplicationEntry {
    /// What it calls itself: text of another process.
    pub name: String,
    /// Its process id when it connected.
    pub pid: u32,
    /// Its user.
    pub user: u32,
    /// The lcore that serves it, counted from 0.
    pub lcore: usize,
    /// The most extents that it may have.
    pub quota: u32,
    /// Bytes of this host that it shares with the master.
    pub shared: u64,
    /// What it has done.
    pub totals: Arc<ClientTotals>,
    extents: AtomicU32,
}

impl ApplicationEntry {
    pub(crate) fn new(
        name: String,
        (pid, user): (u32, u32),
        lcore: usize,
        quota: u32,
        shared: u64,
        totals: Arc<ClientTotals>,
    ) -> Self {
        Self { name, pid, user, lcore, quota, shared, totals, extents: AtomicU32::new(0) }
    }

    /// Extents that it has.
    pub fn extents(&self) -> u32 {
        self.extents.load(Ordering::Relaxed)
    }

    pub(crate) fn set_extents(&self, extents: usize) {
        self.extents.store(u32::try_from(extents).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// All applications that have a channel. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Register(Arc<Mutex<BTreeMap<u64, Arc<ApplicationEntry>>>>);

impl Register {
    /// All of them, in the order in which they came.
    pub fn list(&self) -> Vec<Arc<ApplicationEntry>> {
        self.entries(|entries| entries.values().cloned().collect())
    }

    pub(crate) fn add(&self, number: u64, entry: Arc<ApplicationEntry>) {
        self.entries(|entries| entries.insert(number, entry));
    }

    pub(crate) fn remove(&self, number: u64) {
        self.entries(|entries| entries.remove(&number));
    }

    fn entries<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Arc<ApplicationEntry>>) -> T) -> T {
        // Each change is one call: a panic elsewhere leaves it whole.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
