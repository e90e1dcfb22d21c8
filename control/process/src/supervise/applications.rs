//! What the control thread does for a master.

use api::applications::{ApplicationStats, AreaStats, ServingStats};
use applications::{Register, Stopper};
use common::plain;
use frame::Time;
use lcore::mailbox::Sender;
use master::{MasterCommand, MasterStats, ServingCommand};
use serve::board::ServingView;
use std::thread::JoinHandle;

/// Bytes of an extent.
const EXTENT: u64 = 2 << 20;

/// Whom a master serves, for readers.
pub struct Served(pub Register);

impl ServingView for Served {
    fn stats(&self) -> ServingStats {
        let applications = self.0.list().into_iter().map(|entry| ApplicationStats {
            connection: entry.connection,
            // Text of another process.
            name: plain::line(&entry.name).to_string(),
            pid: entry.pid,
            user: entry.user,
            area: entry.area.as_ref().map(ToString::to_string),
            lcore: entry.lcore as u64,
            extents: entry.extents(),
            quota: entry.quota,
            requests: entry.totals.requests.get(),
            failures: entry.totals.failures.get(),
            bytes_read: entry.totals.bytes_read.get(),
            bytes_written: entry.totals.bytes_written.get(),
        });
        let areas = self.0.areas().into_iter().map(|area| AreaStats {
            name: area.name.to_string(),
            user: area.user,
            state: area.state.to_string(),
            extents: area.extents,
            lost: area.lost,
        });
        ServingStats { extent_bytes: EXTENT, applications: applications.collect(), areas: areas.collect() }
    }
}

/// See the module's documentation.
pub struct MasterControl {
    /// The mailboxes of its lcores.
    lcores: Vec<Sender<ServingCommand>>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    register: Register,
    views: Vec<MasterStats>,
}

impl MasterControl {
    /// A master with these mailboxes of its lcores, and the thread that serves its applications.
    pub fn new(
        lcores: Vec<Sender<ServingCommand>>,
        (stopper, thread): (Stopper, JoinHandle<()>),
        register: Register,
        views: Vec<MasterStats>,
    ) -> Self {
        Self { lcores, stopper, thread: Some(thread), register, views }
    }

    /// Sends a command to all lcores.
    pub(super) fn tell(&self, command: impl Fn() -> MasterCommand<master::ChannelMemory>) {
        // The control thread sends few commands: there is always room for this one.
        self.lcores.iter().for_each(|lcore| drop(lcore.try_send(ServingCommand::Master(command()))));
    }

    /// Begins to drain: no application gets anything any more, and all that slaves lend goes back.
    pub(super) fn drain(&mut self, _: Time) {
        self.stopper.leave();
        self.tell(|| MasterCommand::Drain);
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let number = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let sum = |read: fn(&MasterStats) -> u64| self.views.iter().map(read).sum::<u64>();
        format!(
            "{}, {} with {} MiB",
            number(self.register.list().len() as u64, "application"),
            number(sum(|view| view.counters.slaves_connected.get()), "slave"),
            sum(|view| view.counters.units_held.get()) << 6
        )
    }
}

impl Drop for MasterControl {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            // It ends at once: it waits for nothing but its sockets.
            let _ = thread.join();
        }
    }
}
