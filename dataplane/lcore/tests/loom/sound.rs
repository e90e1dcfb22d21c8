//! The mailbox as it is.

mod sync {
    pub use crate::queue::Queue;
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[allow(clippy::duplicate_mod, reason = "compiled twice, over another `sync` each")]
#[allow(dead_code, reason = "the eventfd and other parts that no model needs")]
#[path = "../../src/mailbox.rs"]
pub mod mailbox;
