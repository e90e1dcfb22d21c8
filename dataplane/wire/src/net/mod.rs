//! The network headers around a datagram: Ethernet with one 802.1Q tag, ARP, IPv4, ICMP echo, UDP.
//!
//! One file per type: a plain struct, `parse` and `emit`. Addresses are bytes in wire order. Two functions read or
//! write all headers of a datagram at once, for code that runs per datagram: [`parse_udp4`] and [`emit_udp4`].

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod udp;
mod udp4;

pub use udp4::{
    MAX_HEADERS, UdpChecksum, UdpFrame, UdpSpec, emit_udp4, has_partial_checksum, headers_len, parse_udp4,
    udp_checksum, udp_checksum_from, verify_udp4,
};

use core::fmt;

/// An Ethernet address, in wire order.
pub type Mac = [u8; 6];

/// An IPv4 address, in wire order.
pub type Ip4 = [u8; 4];

/// The broadcast Ethernet address.
pub const BROADCAST: Mac = [0xff; 6];

/// Why bytes are not the expected packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetError {
    /// The bytes end before the headers do.
    Truncated,
    /// More than one 802.1Q tag.
    SecondTag,
    /// The Ethernet type is not the expected one.
    EtherType,
    /// The IP version is not 4.
    IpVersion,
    /// The IPv4 header length is below 20 bytes or past the end.
    IpHeaderLen,
    /// The IPv4 total length is below the header's or past the end.
    IpTotalLen,
    /// The IPv4 header checksum is wrong.
    IpChecksum,
    /// A fragment of an IPv4 packet.
    Fragment,
    /// The IP protocol is not the expected one.
    Protocol,
    /// The UDP length is below 8 bytes or past the end of the IP packet.
    UdpLen,
    /// The UDP checksum is neither zero nor correct.
    UdpChecksum,
    /// Not ARP for IPv4 over Ethernet, or neither a request nor a reply.
    Arp,
    /// Not an ICMP echo request, or its checksum is wrong.
    Icmp,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "ends before its headers do",
            Self::SecondTag => "more than one 802.1Q tag",
            Self::EtherType => "another Ethernet type",
            Self::IpVersion => "not IP version 4",
            Self::IpHeaderLen => "wrong IPv4 header length",
            Self::IpTotalLen => "wrong IPv4 total length",
            Self::IpChecksum => "wrong IPv4 header checksum",
            Self::Fragment => "a fragment of an IPv4 packet",
            Self::Protocol => "another IP protocol",
            Self::UdpLen => "wrong UDP length",
            Self::UdpChecksum => "wrong UDP checksum",
            Self::Arp => "not ARP for IPv4 over Ethernet",
            Self::Icmp => "not a valid ICMP echo request",
        })
    }
}

impl core::error::Error for NetError {}
