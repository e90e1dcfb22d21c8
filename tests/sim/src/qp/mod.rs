//! Two endpoints of reliable connections over a wire with faults: any workload ends with the right bytes.
//!
//! Both ends ask each other for everything that a queue pair can do. What must come of it is computed by a plain model
//! when it is asked: the bytes of a READ, the word of an atomic operation, the other end's memory. Every request ends
//! once and in order; where a connection fails, there is a cause in the plan, and the other end's memory is what was
//! asked up to some packet. Failed connections are made anew, with packets of the old ones still on their way.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | what a seed stands for |
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

/// A run that ended as it must not.
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

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Virtual time, in nanoseconds.
    pub at: Time,
    /// How often what happened, by name.
    pub counted: BTreeMap<String, u64>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, counted } = self;
        counted.iter().try_for_each(|(name, count)| writeln!(f, "{name:<40} {count}"))?;
        write!(f, "seed {seed}: right, after {:.6} s", *at as f64 / SECOND as f64)
    }
}
