//! Lcores with a toy role over toy ports: poll by poll, and on threads.

mod poll;
mod thread;
mod toy;
