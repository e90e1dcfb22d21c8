//! The host's own addresses to which datagrams came, for sockets that are bound to none of them.
//!
//! Such a socket receives on all addresses of the host, and the kernel would answer from the address that it prefers on
//! the way back. Nodes trust only the address that they asked. So each address gets a number, which is in
//! [`frame::Peer::local`] and selects the address when the answer leaves. Numbers are valid for all sockets of a port:
//! a route that one lcore learned is used by all of them.

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The most addresses that have a number; the numbers are 1 to this. 0 is the kernel's choice.
pub const MAX_OWN_ADDRESSES: usize = 127;

/// Addresses by their numbers. No address is ever removed, because routes may refer to it.
#[derive(Debug)]
pub struct OwnAddresses {
    places: [OnceLock<IpAddr>; MAX_OWN_ADDRESSES],
    /// Held while an address is added.
    adding: Mutex<()>,
}

impl Default for OwnAddresses {
    fn default() -> Self {
        Self { places: [const { OnceLock::new() }; MAX_OWN_ADDRESSES], adding: Mutex::new(()) }
    }
}

impl OwnAddresses {
    /// The number of an address, new or known. `None` when all numbers are taken by other addresses, and for an address
    /// that cannot be that of one sender: unspecified, multicast, or valid on one link only.
    pub fn number_of(&self, ip: IpAddr) -> Option<u8> {
        let on_a_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if ip.is_unspecified() || ip.is_multicast() || on_a_link {
            return None;
        }
        if let Some(number) = self.find(ip) {
            return Some(number);
        }
        if self.places.last().is_some_and(|place| place.get().is_some()) {
            return None;
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        // Another socket may have added it first.
        self.find(ip).or_else(|| self.places.iter().position(|place| place.set(ip).is_ok()).map(number))
    }

    /// The address with this number, if there is one.
    #[inline]
    pub fn get(&self, number: u8) -> Option<IpAddr> {
        self.places.get(usize::from(number).checked_sub(1)?)?.get().copied()
    }

    fn find(&self, ip: IpAddr) -> Option<u8> {
        // In order, so that there is nothing behind the first free place.
        let taken = self.places.iter().map_while(OnceLock::get);
        taken.enumerate().find(|(_, known)| **known == ip).map(|(at, _)| number(at))
    }
}

fn number(at: usize) -> u8 {
    at as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn numbers_lead_back_to_their_addresses() {
        let own = OwnAddresses::default();
        for (text, number) in [("192.0.2.1", 1), ("2001:db8::1", 2), ("192.0.2.2", 3), ("192.0.2.1", 1)] {
            let ip = text.parse().unwrap();
            assert_eq!((own.number_of(ip), own.get(number)), (Some(number), Some(ip)), "{text}");
        }
        assert_eq!((own.get(0), own.get(4), own.get(255)), (None, None, None));
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1"] {
            assert_eq!(own.number_of(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn what_has_a_number_keeps_it_when_there_are_no_more() {
        let own = OwnAddresses::default();
        let ip = |last: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        for last in 1..=127 {
            assert_eq!(own.number_of(ip(last)), Some(last));
        }
        assert_eq!((own.number_of(ip(128)), own.number_of(ip(127)), own.get(127)), (None, Some(127), Some(ip(127))));
    }
}
