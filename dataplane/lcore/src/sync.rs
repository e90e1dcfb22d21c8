//! What a mailbox shares between threads. `tests/loom` puts models in the place of these.

pub use crossbeam_queue::ArrayQueue as Queue;
pub use std::sync::atomic::{AtomicBool, Ordering, fence};
