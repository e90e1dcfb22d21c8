//! Counters: plain integers of one lcore that other threads may read.
//!
//! The owner adds with an ordinary load and store, never an atomic read-modify-write, so a counter costs what an
//! integer costs. Readers see a recent value, never a torn one.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter, written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`. Only the owning thread may call it: two writers would lose counts (never memory safety).
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises a high-water mark.
    #[inline]
    pub fn raise(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Receives each counter of a set: its name, what it counts, its value.
pub type Visitor<'a> = dyn FnMut(&'static str, &'static str, u64) + 'a;

/// How a counter moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Kind {
    /// The kind that a counter's help names: a gauge says `(a gauge)`.
    pub fn of(help: &str) -> Self {
        if help.contains("(a gauge)") { Self::Gauge } else { Self::Counter }
    }
}

/// A set of counters that can be read by name. Made by [`crate::counters!`].
pub trait CounterSet: Send + Sync {
    /// The name of the set's type.
    fn name(&self) -> &'static str;

    /// Visits every counter in the order of its definition.
    fn visit(&self, visitor: &mut Visitor<'_>);
}

/// Defines a struct of [`Counter`]s. Names and descriptions are written once, here; `stats`, JSON, Prometheus and the
/// documentation all read them through [`CounterSet`]. The description of one that can fall says `(a gauge)`.
///
/// ```
/// frame::counters! {
///     /// What a thing counts.
///     pub struct ThingCounters {
///         /// Records that came in.
///         records_in,
///     }
/// }
/// let counters = ThingCounters::default();
/// counters.records_in.add(2);
/// let mut seen = Vec::new();
/// frame::counter::CounterSet::visit(&counters, &mut |name, help, value| seen.push((name, help, value)));
/// assert_eq!(seen, [("records_in", "Records that came in.", 2)]);
/// ```
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $(#[doc = $doc:literal] $field:ident),* $(,)? }) => {
        $(#[$meta])*
        // On cache lines of their own, two by two as they are fetched: no other thread's writes touch what an lcore counts.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        $vis struct $name {
            $(#[doc = $doc] pub $field: $crate::counter::Counter,)*
        }

        impl $crate::counter::CounterSet for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn visit(&self, visitor: &mut $crate::counter::Visitor<'_>) {
                $(visitor(stringify!($field), $doc.trim_ascii(), self.$field.get());)*
            }
        }
    };
}
