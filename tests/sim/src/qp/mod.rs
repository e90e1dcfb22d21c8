//! Two endpoints of reliable connections over a wire with faults: any workload ends with the right bytes.
//!
//! Both ends send each other every kind of request that a queue pair supports. A plain model computes the expected
//! result when the request is made: the bytes of a READ, the word of an atomic operation, the other end's memory. Every
//! request ends once and in order. If a connection fails, the plan has a cause, and the other end's memory has all
//! requests up to some packet. Failed connections are made anew, with packets of the old ones still on their way.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | the plan of a seed |
//! | [`wire`] | loss, duplication, reordering, corruption, marks, cuts |
//! | [`area`] | the model of memory |
//! | [`flow`] | requests of one direction of one connection |
//! | [`link`] | one connection |
//! | [`run`] | one run |

pub mod area;
pub mod flow;
pub mod link;
pub mod plan;
pub mod run;
pub mod wire;

use frame::Time;
use frame::time::SECOND;
use std::collections::BTreeMap;
use std::fmt;

pub use run::run_seed;

/// A run that ended with a fault.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Virtual time, in nanoseconds.
    pub at: Time,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, what } = self;
        let seconds = *at as f64 / SECOND as f64;
        write!(f, "seed {seed} at {seconds:.9} s: {what}\n  replay: cargo run -p gvm-sim -- --qp --seed {seed} --trace")
    }
}

impl std::error::Error for Failure {}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Virtual time, in nanoseconds.
    pub at: Time,
    /// Counts of events, by name.
    pub counted: BTreeMap<String, u64>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, counted } = self;
        counted.iter().try_for_each(|(name, count)| writeln!(f, "{name:<40} {count}"))?;
        write!(f, "seed {seed}: right, after {:.6} s", *at as f64 / SECOND as f64)
    }
}
