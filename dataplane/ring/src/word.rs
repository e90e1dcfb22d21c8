//! The words of shared memory. Tests replace them with models.

use frame::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// An atomic word, and the fence that belongs to its kind.
pub trait SharedWord {
    /// As [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;

    /// As [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);

    /// A sequentially consistent fence.
    fn fence();
}

impl SharedWord for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline]
    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// Memory that both ends of a ring have. It always has the same words.
pub trait Words {
    /// Its words.
    type Word: SharedWord;

    /// All of them.
    fn words(&self) -> &[Self::Word];
}

impl Words for Arc<Shared> {
    type Word = AtomicU64;

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        self
    }
}
