//! The other end on a port: port index, VLAN, next-hop MAC, IP, UDP port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The number of one of a process's ports; the first on the command line is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortId(pub u8);

/// The 802.1Q tag of a peer, which answers repeat: none, or a VLAN id (0 is a tag too).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vlan(u16);

impl Vlan {
    /// No tag.
    pub const UNTAGGED: Self = Self(u16::MAX);

    /// A tag with this VLAN id (its low 12 bits).
    pub const fn tagged(vid: u16) -> Self {
        Self(vid & 0xfff)
    }

    /// The VLAN id, if there is a tag.
    pub const fn vid(self) -> Option<u16> {
        if self.0 == u16::MAX { None } else { Some(self.0) }
    }
}

impl fmt::Debug for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vid() {
            None => f.write_str("untagged"),
            Some(vid) => write!(f, "vlan {vid}"),
        }
    }
}

/// Where a datagram came from or goes to. The port fills it on receive and uses it on transmit.
///
/// There is one address type: IPv4 addresses are IPv4-mapped IPv6 addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct Peer {
    ip: [u8; 16],
    /// MAC address of the next hop towards it; zero on ports without MAC addresses (sockets).
    pub mac: [u8; 6],
    /// The peer's UDP port.
    pub udp_port: u16,
    /// Its 802.1Q tag.
    pub vlan: Vlan,
    /// The port through which it is reached.
    pub port: PortId,
    zero: u8,
    /// The source UDP port of a raw port's datagrams to it; 0 is the port on which the raw port listens. Sockets always
    /// use their own.
    pub source_port: u16,
    /// Which of our own addresses the port uses towards it, by the port's numbers. For received datagrams it is the
    /// destination address, so that answers leave from that address. 0 leaves the choice to the port; a socket that is
    /// bound to an address knows only 0. [`Peer::ROCE`] is set if the UDP port is not the one on which we listen, but
    /// that of RoCEv2.
    pub local: u8,
    /// In the peer of a received datagram that is for another lcore of the process: one more than the number of that
    /// lcore. Otherwise 0.
    pub lcore: u8,
}

const _: () = assert!(size_of::<Peer>() == 32);

const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Peer {
    /// No peer at all: its bytes differ from those of every real peer.
    pub const NOBODY: Self = Self { zero: 1, ..Self::ipv4(PortId(u8::MAX), [0; 4], 0, Vlan::UNTAGGED, [0; 6]) };

    /// In [`Peer::local`]: a datagram came to our RoCEv2 port, which a role has claimed. On transmit, it leaves as
    /// RoCEv2 does, ECN-capable and without a UDP checksum.
    pub const ROCE: u8 = 0x80;

    /// Whether [`Peer::ROCE`] is set.
    #[inline]
    pub const fn is_roce(&self) -> bool {
        self.local & Self::ROCE != 0
    }

    /// A peer that is reached through a socket.
    pub fn socket(port: PortId, address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self::new(port, ip.octets(), address.port(), Vlan::UNTAGGED, [0; 6])
    }

    /// An IPv4 peer of a raw port.
    #[inline]
    pub const fn ipv4(port: PortId, ip: [u8; 4], udp_port: u16, vlan: Vlan, mac: [u8; 6]) -> Self {
        let [a, b, c, d] = ip;
        Self::new(port, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], udp_port, vlan, mac)
    }

    #[inline]
    const fn new(port: PortId, ip: [u8; 16], udp_port: u16, vlan: Vlan, mac: [u8; 6]) -> Self {
        Self { ip, mac, udp_port, vlan, port, zero: 0, source_port: 0, local: 0, lcore: 0 }
    }

    /// The IP address; an IPv4-mapped one is given as IPv4.
    pub fn ip(&self) -> IpAddr {
        match self.ipv4_octets() {
            Some(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
            None => IpAddr::V6(Ipv6Addr::from(self.ip)),
        }
    }

    /// The IPv4 address, if it is one.
    #[inline]
    pub fn ipv4_octets(&self) -> Option<[u8; 4]> {
        let [mapped @ .., a, b, c, d] = self.ip;
        if mapped == V4_MAPPED { Some([a, b, c, d]) } else { None }
    }

    /// IP address and UDP port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.udp_port)
    }

    /// The 16 bytes of the address, IPv4 mapped: what a cookie covers.
    pub fn ip_octets(&self) -> [u8; 16] {
        self.ip
    }

    /// All bytes of a peer: the fastest way to compare two peers, MAC and UDP port included.
    #[inline]
    pub fn as_bytes(&self) -> &[u8; 32] {
        // SAFETY: a peer is 32 bytes without padding (asserted above, `zero` and `lcore` fill it): each is initialised.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    /// Changes an IPv4 peer to another one with the same port, VLAN and local address.
    #[inline]
    pub fn move_to(&mut self, ip: [u8; 4], udp_port: u16, mac: [u8; 6]) {
        debug_assert!(self.ipv4_octets().is_some());
        self.ip[V4_MAPPED.len()..].copy_from_slice(&ip);
        (self.udp_port, self.mac) = (udp_port, mac);
    }

    /// Whether it is behind a raw port, which knows the Ethernet address of the next hop; otherwise it is behind a
    /// socket.
    pub const fn is_raw(&self) -> bool {
        !matches!(self.mac, [0, 0, 0, 0, 0, 0])
    }

    /// The two halves of the address.
    #[inline]
    fn halves(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *self.as_bytes();
        [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
    }

    /// VLAN and port.
    #[inline]
    fn place(&self) -> u32 {
        // Four bytes side by side: one load.
        let [.., a, b, c, d, _, _, _, _] = *self.as_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// Whether the addresses certainly differ; it compares half of them. Addresses that do not differ here may be two.
    #[inline]
    pub fn is_elsewhere(&self, other: &Self) -> bool {
        let ([_, ours], [_, theirs]) = (self.halves(), other.halves());
        ours != theirs
    }

    /// Whether a datagram from `self` may come from the node that is registered at `registered`: same port, VLAN and
    /// IP, and the same UDP port if the node asked for that (`fixed_port`). The MAC is never compared, because routers
    /// move; our own addresses are not compared either.
    #[inline]
    pub fn is_same_origin(&self, registered: &Self, fixed_port: bool) -> bool {
        // Without branches: nearly always all parts are compared.
        (u128::from_ne_bytes(self.ip) == u128::from_ne_bytes(registered.ip))
            & (self.place() == registered.place())
            & (!fixed_port | (self.udp_port == registered.udp_port))
    }
}

/// What [`Peer::is_same_origin`] compares of an IPv4 peer, in half of its size: more of a large table of registered
/// peers stays in the cache.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PackedOrigin {
    /// The second half of the address; the first half of a mapped address is zero.
    ip: u64,
    place: u32,
    udp_port: u16,
    fixed_port: bool,
    /// Fills the last word.
    rest: u8,
}

const _: () = assert!(size_of::<PackedOrigin>() == 16);

impl PackedOrigin {
    /// Nobody: no peer has its place.
    pub const NOBODY: Self = Self { ip: 0, place: u32::MAX, udp_port: 0, fixed_port: false, rest: 0 };

    /// The origin of a peer; `None` if its address is not IPv4.
    pub fn of(peer: &Peer, fixed_port: bool) -> Option<Self> {
        peer.ipv4_octets()?;
        let [_, ip] = peer.halves();
        Some(Self { ip, place: peer.place(), udp_port: peer.udp_port, fixed_port, rest: 0 })
    }

    /// As [`Peer::is_same_origin`], with the peer that this was made of as the registered one.
    #[inline(always)]
    pub fn is_of(&self, source: &Peer) -> bool {
        let [first, second] = source.halves();
        (first == 0)
            & (second == self.ip)
            & (source.place() == self.place)
            & (!self.fixed_port | (source.udp_port == self.udp_port))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on port {}", self.address(), self.port.0)?;
        match self.vlan.vid() {
            Some(vid) => write!(f, " vlan {vid}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_mapping() {
        for text in ["192.0.2.7:9999", "[2001:db8::1]:5"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::socket(PortId(1), address).address(), address);
        }
        let raw = Peer::ipv4(PortId(1), [192, 0, 2, 7], 9999, Vlan::UNTAGGED, [0; 6]);
        assert_eq!(raw, Peer::socket(PortId(1), "192.0.2.7:9999".parse().unwrap()));
        assert!(!raw.is_roce() && Peer { local: 3 | Peer::ROCE, ..raw }.is_roce());
        let mut peer = Peer { local: 3, ..Peer::ipv4(PortId(2), [10, 0, 0, 1], 5, Vlan::tagged(7), [1; 6]) };
        peer.move_to([192, 0, 2, 7], 9999, [2; 6]);
        let moved = Peer::ipv4(PortId(2), [192, 0, 2, 7], 9999, Vlan::tagged(7), [2; 6]);
        assert_eq!(peer.as_bytes(), Peer { local: 3, ..moved }.as_bytes());
    }

    #[test]
    fn origin_is_port_vlan_and_ip_but_never_the_mac() {
        let registered = Peer::ipv4(PortId(0), [10, 0, 0, 1], 9999, Vlan::tagged(0), [1; 6]);
        let same = Peer { mac: [2; 6], udp_port: 5, source_port: 7, local: 2, ..registered };
        assert!(same.is_same_origin(&registered, false));
        assert!(!same.is_same_origin(&registered, true));
        assert!(!Peer { vlan: Vlan::UNTAGGED, ..registered }.is_same_origin(&registered, false));
        assert!(!Peer { port: PortId(1), ..registered }.is_same_origin(&registered, false));
        let other = Peer::ipv4(PortId(0), [10, 0, 0, 2], 9999, Vlan::tagged(0), [1; 6]);
        assert!(!other.is_same_origin(&registered, false));
        let six = Peer::socket(PortId(0), "[2001:db8::ffff:a00:1]:9999".parse().unwrap());
        let peers = [registered, same, other, six, Peer::NOBODY]
            .into_iter()
            .flat_map(|peer| [peer, Peer { vlan: Vlan::UNTAGGED, ..peer }, Peer { port: PortId(1), ..peer }]);
        let peers: Vec<_> = peers.collect();
        for (registered, fixed) in peers.iter().flat_map(|peer| [(peer, false), (peer, true)]) {
            match PackedOrigin::of(registered, fixed) {
                Some(origin) => {
                    let same = |source: &&Peer| origin.is_of(source) == source.is_same_origin(registered, fixed);
                    assert!(peers.iter().all(|source| same(&source)), "{registered:?}");
                    let differs = |source: &&Peer| source.ip() != registered.ip() || !source.is_elsewhere(registered);
                    assert!(peers.iter().all(|source| differs(&source)), "{registered:?}");
                }
                None => assert!(registered.ipv4_octets().is_none()),
            }
        }
        assert!(peers.iter().all(|peer| !PackedOrigin::NOBODY.is_of(peer)));
        assert!(registered.as_bytes() == Peer { ..registered }.as_bytes() && registered.as_bytes() != same.as_bytes());
    }
}
