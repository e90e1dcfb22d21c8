//! The types that a mailbox shares between threads. `tests/loom` replaces them with models.

pub(crate) use crossbeam_queue::ArrayQueue as Queue;
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
