//! The disk that clients see.

/// The bits of the transmission flags (`NBD_FLAG_...`).
mod flag {
    pub(super) const HAS_FLAGS: u16 = 1;
    pub(super) const READ_ONLY: u16 = 1 << 1;
    pub(super) const SEND_FLUSH: u16 = 1 << 2;
    pub(super) const SEND_FUA: u16 = 1 << 3;
    pub(super) const SEND_TRIM: u16 = 1 << 5;
    pub(super) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(super) const SEND_DF: u16 = 1 << 7;
    pub(super) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(super) const SEND_CACHE: u16 = 1 << 10;
    pub(super) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// The disk that clients see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name. Clients may also leave the name empty.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// Its bytes: a multiple of [`Export::least`].
    pub size: u64,
    /// Offsets and lengths of requests are multiples of so many bytes: a power of two from 1 to 65,536.
    pub least: u32,
    /// Requests of multiples of so many bytes, at multiples of it, are the fastest: a power of two, at least 512.
    pub preferred: u32,
    /// The most bytes that a request carries, or that its reply carries.
    pub most: u32,
    /// Whether nothing may be written.
    pub is_read_only: bool,
}

impl Export {
    /// Whether a client means this disk by this name.
    pub fn is_called(&self, name: &str) -> bool {
        name.is_empty() || name == self.name
    }

    /// What the server can do with it.
    pub const fn flags(&self, structured: bool) -> u16 {
        let read = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
        let write = flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO;
        let df = if structured { flag::SEND_DF } else { 0 };
        read | df | if self.is_read_only { flag::READ_ONLY } else { write }
    }
}
