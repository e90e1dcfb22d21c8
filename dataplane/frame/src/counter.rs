//! Counters: plain integers of one lcore that other threads may read.
//!
//! The owner adds with an ordinary load and store, never with an atomic read-modify-write. So a counter costs as much
//! as an integer. Readers see a recent value, never a torn one.

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
pub type Visitor<'a> = dyn FnMut(&str, &'static str, u64) + 'a;

/// The kind of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How often something happened: it only grows, until the process restarts.
    Counter,
    /// How much of something there is now: it goes up and down.
    Gauge,
    /// How much was dropped for one reason: it only grows.
    Drop,
}

/// A set of counters that can be read by name. Made by [`crate::counters!`].
pub trait CounterSet: Send + Sync {
    /// The name of the set's type.
    fn name(&self) -> &'static str;

    /// Visits every counter in the order of its definition.
    fn visit(&self, visitor: &mut Visitor<'_>);

    /// The kind of the counter with this name. A set that consists of other sets asks them.
    fn kind(&self, counter: &str) -> Kind;
}

/// Defines a struct of [`Counter`]s. Names and descriptions are written once, here; `stats`, JSON, Prometheus and the
/// documentation all read them through [`CounterSet`]. Behind the name of one that can fall stands `: gauge`, and
/// behind that of one that counts what was dropped `: drop`. A set can have other sets, behind its own counters and a
/// semicolon: their counters are read under their name with the prefix that stands there.
///
/// ```
/// use frame::counter::{CounterSet, Kind};
///
/// frame::counters! {
///     /// What a thing counts on each of its sides.
///     pub struct SideCounters {
///         /// Records that came in.
///         records_in,
///         /// Records that wait.
///         waiting: gauge,
///     }
/// }
/// frame::counters! {
///     /// What a thing counts.
///     pub struct ThingCounters {
///         /// How often the thing was turned.
///         turns;
///         /// The left side.
///         left: SideCounters as "left_",
///         /// The right side.
///         right: SideCounters as "right_",
///     }
/// }
/// let counters = ThingCounters::default();
/// counters.left.records_in.add(2);
/// let mut seen = Vec::new();
/// counters.visit(&mut |name, help, value| seen.push((name.to_owned(), help, value)));
/// assert_eq!(seen[0], ("turns".to_owned(), "How often the thing was turned.", 0));
/// assert_eq!(seen[1], ("left_records_in".to_owned(), "Records that came in.", 2));
/// assert_eq!(seen[3].0, "right_records_in");
/// assert_eq!((counters.kind("turns"), counters.kind("right_waiting")), (Kind::Counter, Kind::Gauge));
/// ```
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $(#[doc = $doc:literal] $field:ident $(: $kind:ident)?),* $(,)?
        $(; $(#[doc = $of:literal] $nested:ident: $set:ident as $prefix:literal),* $(,)?)?
    }) => {
        $(#[$meta])*
        // On its own cache lines, aligned to pairs because they are fetched in pairs: no other thread writes to an
        // lcore's counters' lines.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        $vis struct $name {
            $(#[doc = $doc] pub $field: $crate::counter::Counter,)*
            $($(#[doc = $of] pub $nested: $set,)*)?
        }

        impl $crate::counter::CounterSet for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn visit(&self, visitor: &mut $crate::counter::Visitor<'_>) {
                $(visitor(stringify!($field), $doc.trim_ascii(), self.$field.get());)*
                $($(self.$nested.visit(&mut |name, help, value| {
                    visitor(&format!(concat!($prefix, "{}"), name), help, value);
                });)*)?
            }

            fn kind(&self, counter: &str) -> $crate::counter::Kind {
                $($(if let Some(counter) = counter.strip_prefix($prefix) {
                    return self.$nested.kind(counter);
                })*)?
                match counter {
                    $($(stringify!($field) => $crate::counters!(@kind $kind),)?)*
                    _ => $crate::counter::Kind::Counter,
                }
            }
        }
    };
    (@kind gauge) => { $crate::counter::Kind::Gauge };
    (@kind drop) => { $crate::counter::Kind::Drop };
}
