//! Checks for what cannot happen.
//!
//! In tests and in the simulator [`never!`](macro@crate::never) panics. In a released process it counts and goes on:
//! one broken assumption must not cost the data of others. `gvm-dp stats` shows the count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Assumptions that did not hold, in this process.
static BROKEN: AtomicU64 = AtomicU64::new(0);

/// How many broken assumptions were found in this process.
pub fn count() -> u64 {
    BROKEN.load(Ordering::Relaxed)
}

/// Counts a broken assumption, and reports the first one. Called by [`never!`](macro@crate::never).
#[cold]
#[inline(never)]
pub fn note(what: &str, file: &str, line: u32) {
    if BROKEN.fetch_add(1, Ordering::Relaxed) == 0 {
        tracing::error!("{file}:{line}: {what}: this is a fault of gvm-dp, please report it");
    }
}

/// Marks code that is never reached: with debug assertions it panics, otherwise it counts.
#[macro_export]
macro_rules! never {
    ($what:literal) => {
        if cfg!(debug_assertions) { panic!($what) } else { $crate::never::note($what, file!(), line!()) }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "a chunk is nobody's")]
    fn what_cannot_happen_fails_a_test() {
        never!("a chunk is nobody's");
    }

    #[test]
    fn what_happened_all_the_same_is_counted() {
        let before = super::count();
        super::note("a chunk is nobody's", "pool.rs", 7);
        assert_eq!(super::count(), before + 1);
    }
}
