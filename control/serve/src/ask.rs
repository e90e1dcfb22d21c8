//! What a client asks that only the control thread can answer.

use api::error::ApiError;
use api::routes::Routes;
use api::settings::{Changed, Reloaded, SettingsAnswer, Wanted};
use api::trace::Standing;
use link::registrar::Summary;
use settings::Sources;
use settings::running::Fresh;
use tokio::sync::oneshot;

/// See the module's documentation.
pub enum Ask {
    /// How many are registered; `None` from a role without a registrar.
    Membership(oneshot::Sender<Option<Summary>>),
    /// Who is registered where; `None` from a role without a registrar.
    Routes(oneshot::Sender<Option<Routes>>),
    /// Where the masters are; nobody from a role without a registrar.
    Masters(oneshot::Sender<Vec<link::Route>>),
    /// The settings that hold.
    Settings(oneshot::Sender<SettingsAnswer>),
    /// Where they come from.
    Sources(oneshot::Sender<Sources>),
    /// Change some.
    Set(Wanted, oneshot::Sender<Result<Changed, ApiError>>),
    /// Take over what was read again.
    Reload(Box<Fresh>, oneshot::Sender<Reloaded>),
    /// Trace the next records of a slave; `None` from a role without a gateway.
    Trace {
        /// Whose records.
        slave: wire::SlaveId,
        /// How many.
        count: u32,
        /// The end that hears of them.
        answer: oneshot::Sender<Option<gateway::trace::Trace>>,
    },
    /// How a slave stands with the gateway; unregistered with a role without one.
    Standing {
        /// The slave.
        slave: wire::SlaveId,
        /// Hears of it.
        answer: oneshot::Sender<Standing>,
    },
    /// Begin to drain.
    Drain(oneshot::Sender<()>),
}
