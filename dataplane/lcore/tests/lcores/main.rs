//! Lcores with a toy role over toy ports: poll by poll, and on threads.

mod bells;
mod handover;
mod loom;
mod mailbox;
mod poll;
mod tap;
mod thread;
mod toy;
