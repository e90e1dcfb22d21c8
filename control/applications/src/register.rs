//! Which applications there are, for readers on other threads.

use channel::{AreaInfo, AreaName};
use master::ClientTotals;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One application that has a channel.
#[derive(Clone, Debug)]
pub struct ApplicationEntry {
    /// The number of its connection. No other one of this process has had it.
    pub connection: u64,
    /// What it calls itself: text of another process.
    pub name: String,
    /// Its process id when it connected.
    pub pid: u32,
    /// Its user.
    pub user: u32,
    /// The lcore that serves it, counted from 0.
    pub lcore: usize,
    /// The area that its extents are in.
    pub area: Option<AreaName>,
    /// The most extents that it may have.
    pub quota: u32,
    /// Bytes of this host that it shares with the master.
    pub shared: u64,
    /// What it has done.
    pub totals: Arc<ClientTotals>,
    pub(crate) extents: Arc<AtomicU32>,
}

impl ApplicationEntry {
    /// Extents that it has, lost ones included.
    pub fn extents(&self) -> u32 {
        self.extents.load(Ordering::Relaxed)
    }

    pub(crate) fn set_extents(&self, extents: u32) {
        self.extents.store(extents, Ordering::Relaxed);
    }
}

/// All applications that have a channel, and all areas. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Register(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    applications: BTreeMap<u64, Arc<ApplicationEntry>>,
    areas: BTreeMap<AreaName, AreaInfo>,
}

impl Register {
    /// All applications, in the order in which they came.
    pub fn list(&self) -> Vec<Arc<ApplicationEntry>> {
        self.entries(|entries| entries.applications.values().cloned().collect())
    }

    /// All areas, by name.
    pub fn areas(&self) -> Vec<AreaInfo> {
        self.entries(|entries| entries.areas.values().cloned().collect())
    }

    /// At most so many areas that `is_meant` accepts, from the first one on whose name is behind `after`.
    pub(crate) fn areas_after(&self, after: &str, most: usize, is_meant: impl Fn(&AreaInfo) -> bool) -> Vec<AreaInfo> {
        self.entries(|entries| {
            let behind = entries.areas.values().skip_while(|area| area.name.as_str() <= after);
            behind.filter(|area| is_meant(area)).take(most).cloned().collect()
        })
    }

    pub(crate) fn add(&self, number: u64, entry: Arc<ApplicationEntry>) {
        self.entries(|entries| entries.applications.insert(number, entry));
    }

    pub(crate) fn remove(&self, number: u64) {
        self.entries(|entries| entries.applications.remove(&number));
    }

    pub(crate) fn set_area(&self, area: AreaInfo) {
        self.entries(|entries| entries.areas.insert(area.name.clone(), area));
    }

    pub(crate) fn remove_area(&self, name: &AreaName) {
        self.entries(|entries| entries.areas.remove(name));
    }

    fn entries<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        // Each change is one call: a panic elsewhere leaves it whole.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
