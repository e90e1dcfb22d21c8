//! The mailbox as it is.

mod sync {
    pub(super) use super::super::queue::Queue;
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[allow(clippy::duplicate_mod, reason = "compiled twice, over another `sync` each")]
#[allow(dead_code, reason = "the eventfd and other parts that no model needs")]
#[allow(unreachable_pub, reason = "the library has the same file")]
#[path = "../../../src/mailbox.rs"]
pub(crate) mod mailbox;
