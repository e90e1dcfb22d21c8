//! Leases in the simulator: slaves that lend, and masters that write and read back checked values through two gateways,
//! now through the one, now through the other, while packets are lost, doubled and late, while a gateway, the slaves
//! and the masters start again, memory is recalled, leases expire, and strangers send what they like.
//!
//! The farm, the gateways and their registrars are the product's. After every step the books of frames, units and
//! leases are checked. A READ that succeeds gives what was written last, or zeros of a fresh unit; nothing else passes.

mod borrower;
mod gateways;
mod world;

pub use borrower::Borrower;
pub use world::World;

use std::collections::BTreeMap;

/// Runs one seed. Returns how often what happened.
///
/// # Errors
/// What was wrong, and when.
pub fn run_seed(seed: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut world = World::new(seed)?;
    world.run().map_err(|error| format!("seed {seed}, {} us: {error}", world.now / 1000))?;
    Ok(world.seen())
}
