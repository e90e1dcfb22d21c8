//! Documents, completions, manual pages and packages, used as an operator uses them.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod completion;
mod documents;
mod manual;
mod metrics;
mod package;
mod top;
