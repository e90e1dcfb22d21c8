//! What a farm lends, for other threads to read.

use lease::{Lender, LenderCounters};
use records::RecordCounters;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use transport::TransportCounters;

/// A lease, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The slave that lends.
    pub slave: u32,
    /// The master that borrows.
    pub master: u16,
    /// Units of 64 MiB that it has.
    pub units: u32,
    /// Units among them that are recalled.
    pub recalled: u32,
}

/// What a farm lends. The lcore writes it, and any thread reads it.
pub struct LendingView {
    /// What the leases count.
    pub leases: Arc<LenderCounters>,
    /// What the records of queue pairs count.
    pub records: Arc<RecordCounters>,
    /// What the queue pairs count.
    pub transport: Arc<TransportCounters>,
    /// The id of each slave.
    ids: Box<[u32]>,
    /// Leases of a slave.
    places: usize,
    units: u32,
    limit: AtomicU32,
    /// For each slave and place of a lease: its state, see [`pack`].
    entries: Box<[AtomicU64]>,
}

/// This bit says that there is a lease.
const HELD: u64 = 1 << 63;

/// A lease in one word: units recalled, units, master. A lease has 4,096 units at most.
fn pack(master: u16, units: u32, recalled: u32) -> u64 {
    HELD | u64::from(recalled & 0xffff) << 32 | u64::from(units & 0xffff) << 16 | u64::from(master)
}

impl LendingView {
    pub(super) fn new(
        counters: (Arc<LenderCounters>, Arc<RecordCounters>, Arc<TransportCounters>),
        ids: Box<[u32]>,
        places: u16,
        units: u32,
    ) -> Self {
        let (leases, records, transport) = counters;
        let places = usize::from(places);
        let entries = (0..ids.len() * places).map(|_| AtomicU64::new(0)).collect();
        Self { leases, records, transport, ids, places, units, limit: AtomicU32::new(units), entries }
    }

    /// All units of the farm.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// The most units that may be lent now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// All leases, by slave. Each of them is right by itself, while the lcore goes on.
    pub fn leases(&self) -> impl Iterator<Item = LeaseView> + '_ {
        self.entries.iter().enumerate().filter_map(|(at, entry)| {
            let word = entry.load(Relaxed);
            let slave = *self.ids.get(at / self.places)?;
            let field = |shift: u32| (word >> shift) as u16;
            let (master, units, recalled) = (field(0), field(16).into(), field(32).into());
            (word & HELD != 0).then_some(LeaseView { slave, master, units, recalled })
        })
    }

    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    /// Takes over the leases of one slave.
    pub(super) fn update(&self, index: usize, lender: &Lender) {
        let Some(entries) = self.entries.chunks(self.places).nth(index) else { return };
        let mut held = lender.held_leases().peekable();
        for (place, entry) in entries.iter().enumerate() {
            let lease = held.next_if(|lease| usize::from(lease.place) == place);
            entry.store(lease.map_or(0, |lease| pack(lease.master, lease.units, lease.recalled)), Relaxed);
        }
    }
}

impl std::fmt::Debug for LendingView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LendingView").field("units", &self.units).field("limit", &self.limit()).finish_non_exhaustive()
    }
}
