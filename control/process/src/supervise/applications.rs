//! What the control thread does for a master.

use applications::{Register, Stopper};
use frame::Time;
use lcore::mailbox::Sender;
use master::{MasterCommand, MasterStats, ServingCommand};
use std::thread::JoinHandle;

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
