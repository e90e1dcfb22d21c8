//! The two kinds of devices that packets come from.

use std::path::Path;
use std::sync::Arc;

/// Where packets come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A ring in memory (`net_ring`) which these packets fill before the clock starts.
    Ring(&'a Arc<Vec<Vec<u8>>>),
    /// A file (`net_pcap`), which the driver copies packet by packet, again and again.
    File(&'a Path),
}

impl Source<'_> {
    /// The part of the driver's name behind `net_`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ring(_) => "ring",
            Self::File(_) => "pcap",
        }
    }
}
