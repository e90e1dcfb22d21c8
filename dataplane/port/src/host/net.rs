//! An address with its subnet, as `10.0.0.2/24`.

use crate::source::is_host4;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 address of a host, and how many of its bits name the subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Net {
    address: [u8; 4],
    prefix: u8,
}

/// Why a text or an address cannot be the address of a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetAddressError {
    /// Not an address with a prefix.
    #[error("`{0}` is not an address with its subnet: write ADDR/BITS, like 10.0.0.2/24")]
    Text(String),
    /// More bits than an address has, or none.
    #[error("{0}: a subnet has 1 to 32 bits, like 10.0.0.2/24")]
    Prefix(String),
    /// Not an address that a host can have.
    #[error("{0} is not the address of one host: it is a multicast, loopback or unspecified address")]
    NotUnicast(Ipv4Addr),
    /// The address of the subnet itself, or its broadcast address.
    #[error("{0} is the network or broadcast address of its subnet: choose one between them")]
    Edge(Ipv4Net),
}

impl Ipv4Net {
    /// An address in a subnet of `prefix` bits.
    ///
    /// # Errors
    /// The prefix is not 1 to 32, or no host can have the address.
    pub fn new(address: [u8; 4], prefix: u8) -> Result<Self, NetAddressError> {
        let ip = Ipv4Addr::from(address);
        if !(1..=32).contains(&prefix) {
            return Err(NetAddressError::Prefix(format!("{ip}/{prefix}")));
        }
        if !is_host4(address) {
            return Err(NetAddressError::NotUnicast(ip));
        }
        let net = Self { address, prefix };
        let host = ip.to_bits() & !net.mask();
        if prefix < 31 && (host == 0 || host == !net.mask()) {
            return Err(NetAddressError::Edge(net));
        }
        Ok(net)
    }

    /// The address.
    pub const fn address(self) -> [u8; 4] {
        self.address
    }

    /// Bits that name the subnet, 1 to 32.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    const fn mask(self) -> u32 {
        u32::MAX << (32 - self.prefix as u32)
    }

    /// Whether `ip` is the address of a host in the subnet, including this one.
    #[inline]
    pub fn has(self, ip: [u8; 4]) -> bool {
        let (ip, ours, mask) = (u32::from_be_bytes(ip), u32::from_be_bytes(self.address), self.mask());
        let host = ip & !mask;
        (ip ^ ours) & mask == 0 && (self.prefix >= 31 || (host != 0 && host != !mask))
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.address), self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = NetAddressError;

    fn from_str(text: &str) -> Result<Self, NetAddressError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let digits = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
            Some((address.parse::<Ipv4Addr>().ok()?, digits.then(|| prefix.parse().ok()).flatten()?))
        };
        let (address, prefix) = parse().ok_or_else(|| NetAddressError::Text(text.to_owned()))?;
        Self::new(address.octets(), prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_and_errors_say_what_to_write() {
        for text in ["10.0.0.2/24", "192.168.7.1/31", "192.0.2.9/32", "10.255.255.254/8"] {
            assert_eq!(text.parse::<Ipv4Net>().unwrap().to_string(), text);
        }
        for (text, part) in [
            ("10.0.0.2", "like 10.0.0.2/24"),
            ("10.0.0.2/", "like 10.0.0.2/24"),
            ("10.0.0.2/+8", "like 10.0.0.2/24"),
            ("10.0.0.2/33", "1 to 32 bits"),
            ("10.0.0.2/0", "1 to 32 bits"),
            ("127.0.0.1/8", "not the address of one host"),
            ("224.0.0.5/24", "not the address of one host"),
            ("10.0.0.0/24", "network or broadcast address"),
            ("10.0.0.255/24", "network or broadcast address"),
        ] {
            let error = text.parse::<Ipv4Net>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_subnet_has_its_hosts_and_no_others() {
        let net: Ipv4Net = "10.0.4.2/22".parse().unwrap();
        for (ip, has) in [
            ([10, 0, 4, 1], true),
            ([10, 0, 7, 254], true),
            ([10, 0, 4, 0], false),
            ([10, 0, 7, 255], false),
            ([10, 0, 8, 1], false),
            ([10, 0, 3, 255], false),
        ] {
            assert_eq!(net.has(ip), has, "{ip:?}");
        }
        let pair: Ipv4Net = "10.0.0.2/31".parse().unwrap();
        assert!(pair.has([10, 0, 0, 3]) && !pair.has([10, 0, 0, 4]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address in any::<[u8; 4]>(), prefix in 0u8..40) {
            if let Ok(net) = Ipv4Net::new(address, prefix) {
                prop_assert_eq!(net.to_string().parse::<Ipv4Net>(), Ok(net));
                prop_assert!(net.has(address));
            }
        }
    }
}
