//! The library against servers: honest, slow, dying and wrong ones; and servers against hostile clients.
#![forbid(unsafe_code)]

mod areas;
mod hostile;
mod life;
mod support;
mod trouble;
