//! What two looks at a process say: rates between them, with the totals beside.
//!
//! `stats` prints it and `top` draws it. A process that was started anew between the looks is seen from its start.

pub mod lcore;
pub mod port;
mod process;
pub mod quantile;
mod span;
pub mod warning;

pub use lcore::LcoreRates;
pub use port::PortRates;
pub use process::{DirectionRates, Event, Flow, Rates};
pub use quantile::Quantiles;
pub use span::{Counters, Span, value};
pub use warning::Warning;
