//! The state of a device, as the device thread found it, for poll loops to read.

use super::plugin::LoadedPlugin;
use crate::watch::{Link, Seen};
use port_abi::DeviceCounts;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// See the module's documentation.
pub(super) struct Watched {
    pub(super) plugin: LoadedPlugin,
    pub(super) id: u16,
    pub(super) name: String,
    /// Between start and close: poll loops use the queues.
    pub(super) running: AtomicBool,
    /// All chunks are back from the driver.
    pub(super) closed: AtomicBool,
    pub(super) up: AtomicBool,
    /// The kernel's interfaces under a virtual device, as they are followed: its driver does not know the carrier.
    pub(super) under: OnceLock<Vec<Arc<Seen>>>,
    pub(super) mbits: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) no_buffer: AtomicU64,
    pub(super) rx_errors: AtomicU64,
    pub(super) tx_errors: AtomicU64,
}

impl Watched {
    /// Asks for link and counters. Called on the device thread, because drivers may call the kernel for it.
    pub(super) fn look(&self) {
        if !self.running.load(Ordering::Acquire) {
            return;
        }
        let mut mbits = 0;
        // SAFETY: an open device and live numbers, on the thread for such calls.
        let link = unsafe { (self.plugin.table.link)(self.id, &raw mut mbits) };
        // A driver that does not report a link has none that could be down.
        let up = link != 0 && self.under.get().is_none_or(|under| under.iter().all(|seen| seen.link() == Link::Up));
        if self.up.swap(up, Ordering::Relaxed) != up {
            if up {
                tracing::info!("dpdk:{}: the link is up", self.name);
            } else {
                tracing::warn!("dpdk:{}: the link is down; what should leave there is dropped", self.name);
            }
        }
        self.mbits.store(u64::from(mbits), Ordering::Relaxed);
        let mut counts = DeviceCounts::default();
        // SAFETY: as above.
        if unsafe { (self.plugin.table.device_counts)(self.id, &raw mut counts) } == 0 {
            self.missed.store(counts.missed, Ordering::Relaxed);
            self.no_buffer.store(counts.no_buffer, Ordering::Relaxed);
            self.rx_errors.store(counts.rx_errors, Ordering::Relaxed);
            self.tx_errors.store(counts.tx_errors, Ordering::Relaxed);
        }
    }
}
