//! A disk over a local server of pages: clients of all kinds.

mod area;
mod beside;
mod client;
mod hostile;
mod life;
mod loss;
mod support;
mod tools;
