//! Source addresses that no honest datagram can have.
//!
//! A sender of hand-made packets can write any source. Some sources belong to no host, or only to us: an answer to them
//! would go to nobody, to everybody, or to ourselves. Such a datagram is refused before any other code trusts it. The
//! rules are written once, here, for every kind of port; the XDP program (`steer.bpf.c`) has the same rules, and a test
//! compares the two.
//!
//! | source | why |
//! |---|---|
//! | Ethernet address of a group (multicast, broadcast), all zeros, or our own | no card sends from it |
//! | 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 240.0.0.0/4 with 255.255.255.255 | no host on a network has it |
//! | `::`, `::1`, `ff00::/8`, `::ffff:0:0/96` on the wire | the same; a link-local address (`fe80::/10`) is a valid source on its link |
//! | an address of the port's own | that is us |
//! | UDP port 0 | it cannot be answered. Only RoCEv2 may have it: its answers go to port 4791 |
//!
//! A port does not know the broadcast address of a subnet: it accepts such a source as a host's.

use crate::vlans::Vlans;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Whether a host on a network can have this IPv4 address.
#[inline]
pub const fn is_host4(ip: [u8; 4]) -> bool {
    // The first byte is 1 to 223; this form takes two comparisons.
    ip[0].wrapping_sub(1) < 223 && ip[0] != 127
}

/// Whether a host on a network can have this IPv6 address.
pub const fn is_host6(ip: Ipv6Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.to_ipv4_mapped().is_some())
}

/// Whether one card can have this Ethernet address.
pub const fn is_card(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && !matches!(mac, [0, 0, 0, 0, 0, 0])
}

/// Whether a datagram that came to `own` on a socket of the kernel can be from `source`.
///
/// The kernel has refused most impossible sources (its "martians"), but neither UDP port 0, nor 240.0.0.0/4, nor `::`.
/// From the loopback it delivers what this host sends to itself: that is valid unless it comes from the same socket.
#[inline]
pub fn is_possible_on_socket(source: SocketAddr, own: SocketAddr) -> bool {
    let is_host = match source.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || is_host4(ip.octets()),
        IpAddr::V6(ip) => ip.is_loopback() || is_host6(ip),
    };
    let is_self = || source.port() == own.port() && source.ip().to_canonical() == own.ip().to_canonical();
    is_host && source.port() != 0 && !is_self()
}

/// The sources from which a raw port accepts datagrams.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The VLANs.
    pub vlans: Arc<Vlans>,
    /// The port's own IPv4 addresses: nobody else can have them.
    pub own: Arc<[[u8; 4]]>,
}

impl Filter {
    /// The filter of a port with these addresses, for packets of these VLANs.
    pub fn new(vlans: &Arc<Vlans>, own: &[[u8; 4]]) -> Self {
        Self { vlans: Arc::clone(vlans), own: own.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_host_has_an_address_of_class_a_to_c() {
        for (text, expected) in [
            ("0.0.0.0", false),
            ("0.255.255.255", false),
            ("1.0.0.0", true),
            ("10.0.0.255", true),
            ("126.255.255.255", true),
            ("127.0.0.0", false),
            ("127.255.255.255", false),
            ("128.0.0.0", true),
            ("169.254.0.1", true),
            ("223.255.255.255", true),
            ("224.0.0.0", false),
            ("239.255.255.255", false),
            ("240.0.0.0", false),
            ("255.255.255.255", false),
        ] {
            let ip: std::net::Ipv4Addr = text.parse().unwrap();
            assert_eq!(is_host4(ip.octets()), expected, "{text}");
        }
    }

    #[test]
    fn an_ipv6_host_has_a_unicast_address_link_local_ones_included() {
        for (text, expected) in [
            ("::", false),
            ("::1", false),
            ("::ffff:10.0.0.1", false),
            ("ff02::1", false),
            ("ffff::", false),
            ("fe80::1", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_host6(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_card_has_an_address_of_its_own() {
        for (mac, expected) in [
            ([0; 6], false),
            ([0xff; 6], false),
            ([1, 0, 0x5e, 0, 0, 1], false),
            ([0x33, 0x33, 0, 0, 0, 1], false),
            ([2, 0, 0, 0, 0, 1], true),
            ([0, 0, 0, 0, 0, 1], true),
        ] {
            assert_eq!(is_card(mac), expected, "{mac:x?}");
        }
    }

    #[test]
    fn a_socket_hears_this_host_but_neither_itself_nor_nobody() {
        for (source, own, expected) in [
            ("10.0.0.2:9999", "10.0.0.1:9999", true),
            ("10.0.0.1:9998", "10.0.0.1:9999", true),
            ("127.0.0.1:5", "127.0.0.1:9999", true),
            ("[::1]:5", "[::1]:9999", true),
            ("[fe80::1]:5", "[fe80::2]:9999", true),
            ("[::ffff:10.0.0.2]:5", "10.0.0.1:9999", true),
            ("10.0.0.1:9999", "10.0.0.1:9999", false),
            ("[::ffff:10.0.0.1]:9999", "10.0.0.1:9999", false),
            ("10.0.0.2:0", "10.0.0.1:9999", false),
            ("240.0.0.1:5", "10.0.0.1:9999", false),
            ("0.0.0.0:5", "10.0.0.1:9999", false),
            ("[::ffff:224.0.0.1]:5", "[::]:9999", false),
            ("[::]:5", "[2001:db8::1]:9999", false),
            ("[ff02::1]:5", "[2001:db8::1]:9999", false),
        ] {
            let (from, to) = (source.parse().unwrap(), own.parse().unwrap());
            assert_eq!(is_possible_on_socket(from, to), expected, "{source} to {own}");
        }
    }
}
