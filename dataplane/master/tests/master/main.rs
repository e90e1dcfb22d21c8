//! Tests of the master: against slaves that lend, through gateways, over a network that loses.

mod areas;
mod hostile;
mod lender;
mod life;
mod losses;
mod restarts;
mod rng;
mod seeds;
mod serving;
mod world;
