//! The mailbox and its doorbell under loom: the interleavings with few preemptions, and the reorderings that the memory
//! model allows. No message is lost, and no receiver sleeps while there is one.
//!
//! The mailbox's source is compiled here a second time, over loom's atomics, and a third time without its fences. The
//! third one must fail; otherwise the tests would prove nothing.

mod bell;
mod protocol;
mod queue;
mod sound;
mod unfenced;
