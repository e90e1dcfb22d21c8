//! What the running kernel does with registered memory: each trap of userfaultfd is a test. They need root, or access
//! to userfaultfd and CAP_SYS_PTRACE.

mod api;
mod calls;
mod events;
mod holder;
mod pins;
mod processes;
mod support;
