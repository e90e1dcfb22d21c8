//! The socket of a master with real applications: the library `pages` on one side, an lcore without slaves on the
//! other.

mod areas;
mod life;
mod trouble;
mod world;
