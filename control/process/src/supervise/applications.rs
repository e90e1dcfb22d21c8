//! What the control thread does for a master.

use applications::{Register, Stopper};
use frame::Time;
use lcore::mailbox::Sender;
use master::{MasterCommand, MasterStats, ServingCommand};
use std::thread::JoinHandle;

/// See the module's documentation.
pub struct MasterControl {
    commands: Sender<ServingCommand>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    register: Register,
    view: MasterStats,
}

impl MasterControl {
    /// A master with this mailbox, and the thread that serves its applications.
    pub fn new(
        commands: Sender<ServingCommand>,
        (stopper, thread): (Stopper, JoinHandle<()>),
        register: Register,
        view: MasterStats,
    ) -> Self {
        Self { commands, stopper, thread: Some(thread), register, view }
    }

    /// Sends a command to the lcore.
    pub(super) fn tell(&self, command: MasterCommand<master::ChannelMemory>) {
        // The control thread sends few commands: there is always room for this one.
        let _ = self.commands.try_send(ServingCommand::Master(command));
    }

    /// Begins to drain: no application gets anything any more, and all that slaves lend goes back.
    pub(super) fn drain(&mut self, _: Time) {
        self.stopper.leave();
        self.tell(MasterCommand::Drain);
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let number = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let counters = &self.view.counters;
        format!(
            "{}, {} with {} MiB",
            number(self.register.list().len() as u64, "application"),
            number(counters.slaves_connected.get(), "slave"),
            counters.units_held.get() << 6
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
