//! How packets move between a NIC and the arena: the requested mode, and the mode that the kernel uses.

use crate::spec::XdpMode;
use std::fmt;

/// The mode that an AF_XDP socket got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundMode {
    /// The NIC reads and writes the arena itself.
    ZeroCopy,
    /// The kernel copies each packet once.
    Copy,
}

impl BoundMode {
    /// The mode according to `XDP_OPTIONS`.
    pub(super) fn from_options(flags: u32) -> Self {
        if flags & libc::XDP_OPTIONS_ZEROCOPY != 0 { Self::ZeroCopy } else { Self::Copy }
    }
}

impl fmt::Display for BoundMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy mode",
        })
    }
}

/// The flags of `bind` that request a mode, and packets in several descriptors. Without a requested mode the kernel
/// uses zero-copy where it can.
pub(super) fn bind_flags(mode: XdpMode, chains: bool) -> u16 {
    let copy = match mode {
        XdpMode::Auto => 0,
        XdpMode::ZeroCopy => libc::XDP_ZEROCOPY,
        XdpMode::Copy | XdpMode::Skb => libc::XDP_COPY,
    };
    copy | libc::XDP_USE_NEED_WAKEUP | if chains { libc::XDP_USE_SG } else { 0 }
}

/// Whether a socket got a lesser mode than the one that was requested by name.
pub(super) fn is_less(asked: XdpMode, got: BoundMode) -> bool {
    asked == XdpMode::ZeroCopy && got == BoundMode::Copy
}
