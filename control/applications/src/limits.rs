//! What applications may have.

/// What applications may have.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationLimits {
    /// Applications at once.
    pub clients: u16,
    /// Requests of one application that may be under way; a power of two.
    pub capacity: u32,
    /// Bytes of buffers of one application.
    pub buffers: u64,
    /// Extents of one application.
    pub extents: u32,
}
