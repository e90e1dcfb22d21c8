//! Rates between two samples of a process, with the totals.
//!
//! `stats` prints them and `top` draws them. If the process was restarted between the samples, the rates begin at its
//! start.

mod disk;
pub mod lcore;
pub mod port;
mod process;
pub mod quantile;
mod span;
pub mod warning;

pub use disk::{DiskRates, RequestRates};
pub use lcore::LcoreRates;
pub use port::PortRates;
pub use process::{DirectionRates, Event, Flow, Rates};
pub use quantile::Quantiles;
pub use span::{Counters, Span, value};
pub use warning::Warning;
