//! What a mailbox shares between threads. `tests/loom` puts models in the place of these.

pub(crate) use crossbeam_queue::ArrayQueue as Queue;
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
