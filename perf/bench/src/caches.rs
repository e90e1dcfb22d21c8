//! Takes what is in the processor's caches out of them: for input that comes from memory, as from a NIC.

/// More than the caches hold.
const BYTES: usize = 64 << 20;

/// Memory that nobody else reads.
#[derive(Debug)]
pub struct Eviction(Vec<u8>);

impl Default for Eviction {
    fn default() -> Self {
        Self(vec![1; BYTES])
    }
}

impl Eviction {
    /// Fills the caches with this memory, twice: some caches keep what they know for a while.
    pub fn evict(&self) {
        for _ in 0..2 {
            std::hint::black_box(self.0.iter().step_by(64).map(|byte| u64::from(*byte)).sum::<u64>());
        }
    }
}
