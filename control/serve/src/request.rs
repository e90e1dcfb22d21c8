//! Questions of clients that only the control thread can answer.

use api::error::ApiError;
use api::routes::Routes;
use api::settings::{Changed, Reloaded, SettingsAnswer, Wanted};
use api::trace::Standing;
use link::registrar::Summary;
use settings::Sources;
use settings::running::Fresh;
use tokio::sync::oneshot;

/// See the module's documentation.
pub enum ControlRequest {
    /// How many are registered; `None` from a role without a registrar.
    Membership(oneshot::Sender<Option<Summary>>),
    /// Who is registered where; `None` from a role without a registrar.
    Routes(oneshot::Sender<Option<Routes>>),
    /// Where the masters are; an empty list from a role without a registrar.
    Masters(oneshot::Sender<Vec<link::Route>>),
    /// The current settings.
    Settings(oneshot::Sender<SettingsAnswer>),
    /// The sources of the settings.
    Sources(oneshot::Sender<Sources>),
    /// Change some settings.
    Set(Wanted, oneshot::Sender<Result<Changed, ApiError>>),
    /// Take over a configuration that was read again.
    Reload(Box<Fresh>, oneshot::Sender<Reloaded>),
    /// Trace the next records of a slave; `None` from a role without a gateway.
    Trace {
        /// The slave whose records are traced.
        slave: wire::SlaveId,
        /// How many.
        count: u32,
        /// Gets the receiving end of the trace.
        answer: oneshot::Sender<Option<gateway::trace::Trace>>,
    },
    /// The state of a slave at the gateway; unregistered if the role has none.
    Standing {
        /// The slave.
        slave: wire::SlaveId,
        /// Gets the answer.
        answer: oneshot::Sender<Standing>,
    },
    /// Begin to drain.
    Drain(oneshot::Sender<()>),
}
