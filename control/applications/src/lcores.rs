//! The lcores of a master, as the server has them.

use lcore::bells::Bells;
use lcore::mailbox::Sender;
use master::{MasterEvent, ServingCommand, ServingEvent};

/// What an lcore tells.
pub(crate) enum Told {
    Serving(ServingEvent),
    Master(MasterEvent),
}

/// The server's ends of one lcore: it has a master of its own.
#[derive(Clone)]
pub struct LcoreEnds {
    /// What the lcore sleeps on.
    pub bells: Bells,
    /// Its mailbox.
    pub commands: Sender<ServingCommand>,
}
