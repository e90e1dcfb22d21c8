//! The common part of all ports that read and write headers themselves: why a packet is refused, and why a datagram
//! cannot be sent.

use crate::addresses::Addresses;
use crate::headers::{Refused, Unsendable, check_sendable};
use crate::neighbour::{NextHops, resolve};
use frame::{Counter, Datagram, Time};

/// Why a datagram can never be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The link is down.
    LinkDown,
    /// The Ethernet address of the next hop is not known.
    NoNeighbour,
    /// The port has no address to send from.
    NoAddress,
    /// The peer's address is of another family.
    Family,
    /// It is longer than the MTU.
    TooLong,
}

/// The counters that every such port has.
pub(crate) trait RawCounters {
    /// The counter of packets that are refused for this reason.
    fn refused(&self, reason: &Refused) -> &Counter;

    /// The counter of datagrams that cannot be sent for this reason.
    fn unsent(&self, reason: Unsent) -> &Counter;
}

/// Implements [`RawCounters`] for a set of counters with the names that all such ports have.
macro_rules! raw_counters {
    ($set:ty) => {
        impl $crate::raw::RawCounters for $set {
            #[inline]
            fn refused(&self, reason: &$crate::headers::Refused) -> &frame::Counter {
                use $crate::headers::Refused;
                match reason {
                    Refused::Malformed(_) => &self.rx_dropped_malformed,
                    Refused::NotOurs => &self.rx_dropped_not_ours,
                    Refused::Options => &self.rx_dropped_ip_options,
                    Refused::Vlan => &self.rx_dropped_vlan,
                    Refused::Source => &self.rx_dropped_source,
                    Refused::Checksum => &self.rx_dropped_checksum,
                    Refused::PartialChecksum => &self.rx_dropped_partial_checksum,
                }
            }

            #[inline]
            fn unsent(&self, reason: $crate::raw::Unsent) -> &frame::Counter {
                use $crate::raw::Unsent;
                match reason {
                    Unsent::LinkDown => &self.tx_dropped_link_down,
                    Unsent::NoNeighbour => &self.tx_dropped_no_neighbour,
                    Unsent::NoAddress => &self.tx_dropped_no_address,
                    Unsent::Family => &self.tx_dropped_family,
                    Unsent::TooLong => &self.tx_dropped_too_long,
                }
            }
        }
    };
}
pub(crate) use raw_counters;

/// Whether a datagram can be sent on a port whose link is up or down. Fills in a missing next hop.
#[inline]
pub(crate) fn sendable(
    datagram: &mut Datagram,
    is_up: bool,
    hops: &mut impl NextHops,
    addresses: &Addresses,
    mtu: u16,
    now: Time,
) -> Result<(), Unsent> {
    if !is_up {
        return Err(Unsent::LinkDown);
    }
    if datagram.peer.mac == [0; 6] && !resolve(hops, addresses, now, &mut datagram.peer) {
        return Err(Unsent::NoNeighbour);
    }
    if addresses.get(datagram.peer.local).is_none() {
        return Err(Unsent::NoAddress);
    }
    check_sendable(datagram, mtu).map_err(|error| match error {
        Unsendable::Address => Unsent::Family,
        Unsendable::Size => Unsent::TooLong,
    })
}
