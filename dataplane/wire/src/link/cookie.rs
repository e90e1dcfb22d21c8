//! The cookie of a gateway, and its possible faults.

use core::fmt;

/// A gateway gives it to a node in each answer, and the node returns it in its next heartbeat. Only the gateway can
/// read it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Cookie(pub [u8; Self::LEN]);

impl Cookie {
    /// Bytes of a cookie.
    pub const LEN: usize = 16;
    /// No cookie.
    pub const NONE: Self = Self([0; Self::LEN]);

    /// Whether it is no cookie.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Why a cookie did not prove what a heartbeat has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CookieFault {
    /// There is none, or it is not from this start of the gateway for this address, node and start of the node.
    Unknown = 1,
    /// It is too old.
    Expired = 2,
    /// It is older than the last heartbeat of another start of the node.
    OtherBoot = 3,
}

impl CookieFault {
    /// The fault with this number in a HEARTBEAT_ACK; 0 is no fault, and a number of a later minor version is
    /// [`Self::Unknown`].
    pub(super) const fn from_wire(fault: u8) -> Option<Self> {
        match fault {
            0 => None,
            2 => Some(Self::Expired),
            3 => Some(Self::OtherBoot),
            _ => Some(Self::Unknown),
        }
    }
}

impl fmt::Display for CookieFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it had no valid cookie",
            Self::Expired => "its cookie had expired",
            Self::OtherBoot => "its cookie was older than the last heartbeat of another start of the node",
        })
    }
}
