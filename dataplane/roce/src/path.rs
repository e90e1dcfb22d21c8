//! The path to a peer, and the ICRCs of packets in both directions.
//!
//! The ICRC of RoCEv2 covers the IPv4 and UDP headers. For a packet from a raw port, the headers still stand before the
//! payload in its frame. For a packet from a socket they follow from addresses and lengths, except for two fields that
//! the sender chose: the identification and Don't Fragment, see `sender`.

use crate::identification::Identification;
use crate::sender::{Chosen, DONT_FRAGMENT, Sender};
use frame::{DatagramView, Peer, PortId, Time, Vlan};
use std::net::{Ipv4Addr, SocketAddr};
use wire::ROCE_PORT;
use wire::rc::icrc::IPV4_UDP;
use wire::rc::{ICRC_LEN, IcrcSeed, Ipv4Udp};

/// Raw ports send from a range of UDP ports, one for each queue pair: the first port of the range, and how many bits
/// select one.
const SOURCE_PORTS: u16 = 0xc000;

/// Who processes the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoceFraming {
    /// A raw port.
    Raw,
    /// The kernel, behind a socket.
    Socket,
}

/// The path of one queue pair.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The other end.
    pub peer: Peer,
    fields: Ipv4Udp,
}

impl Path {
    /// A path from `own` to `remote`, for our queue pair `qpn` and the peer's.
    pub fn new(framing: RoceFraming, port: PortId, own: [u8; 4], remote: [u8; 4], qpns: [u32; 2]) -> Self {
        let source_port = match framing {
            RoceFraming::Raw => source_port(qpns),
            RoceFraming::Socket => ROCE_PORT,
        };
        let mut peer = match framing {
            RoceFraming::Raw => Peer::ipv4(port, remote, ROCE_PORT, Vlan::UNTAGGED, [0; 6]),
            RoceFraming::Socket => Peer::socket(port, SocketAddr::from((Ipv4Addr::from(remote), ROCE_PORT))),
        };
        let fields = Ipv4Udp {
            id: 0,
            fragment: DONT_FRAGMENT,
            source: own,
            destination: remote,
            source_port,
            destination_port: ROCE_PORT,
        };
        (peer.source_port, peer.local) = (source_port, Peer::ROCE);
        Self { peer, fields }
    }

    /// The other end's address.
    pub fn remote(&self) -> [u8; 4] {
        self.fields.destination
    }

    /// From now on packets use this next hop: it is the one from which a packet came.
    #[inline]
    pub fn learn(&mut self, peer: &Peer) {
        (self.peer.mac, self.peer.vlan) = (peer.mac, peer.vlan);
    }

    /// The bytes before the BTH that the ICRC covers, for an outgoing packet of this size. `None` if it is too long for
    /// IPv4.
    #[inline]
    pub fn seed(&self, packet: usize) -> Option<IcrcSeed> {
        IcrcSeed::roce_fields(&self.fields, packet)
    }
}

/// The source port: the same for all packets of a queue pair, and different for different queue pairs. RSS and routers
/// spread packets by it.
fn source_port([own, remote]: [u32; 2]) -> u16 {
    let hash = (own ^ remote.rotate_left(12)).wrapping_mul(0x9e37_79b1);
    SOURCE_PORTS | (hash >> 18) as u16
}

/// What a port reports about a packet.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    /// Its source address.
    pub from: [u8; 4],
    /// Its destination, one of our addresses.
    pub to: [u8; 4],
    head: Head,
}

/// The bytes before the BTH that the ICRC of a packet covers.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// The headers themselves.
    Seen(IcrcSeed),
    /// All headers except the fields that the sender chose.
    Told(Ipv4Udp),
}

/// What is known about the sender of a packet that came through a socket.
pub struct Known<'a> {
    /// From the packets of this queue pair.
    pub qp: &'a mut Sender,
    /// From the packets of all queue pairs of its host.
    pub host: &'a mut Sender,
}

/// The data for checking the ICRC of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Covered {
    /// The bytes before the BTH that it covers.
    pub seed: IcrcSeed,
    /// The identification was computed, and is not 0.
    pub solved: bool,
    /// Every identification was possible: the sender follows no order.
    pub unpredictable: bool,
}

/// Finds the headers that the ICRCs of packets cover.
#[derive(Clone, Debug)]
pub struct Headers {
    framing: RoceFraming,
    own: [u8; 4],
    identification: Identification,
}

impl Headers {
    /// For packets to our address of at most this many bytes from the BTH to the ICRC.
    pub fn new(framing: RoceFraming, own: [u8; 4], packet: usize) -> Self {
        let identification = Identification::new(if framing == RoceFraming::Socket { packet } else { 0 });
        Self { framing, own, identification }
    }

    /// What is known about a datagram; `None` if its headers cannot be those of RoCEv2.
    #[inline]
    pub fn of(&self, datagram: &DatagramView<'_>) -> Option<Came> {
        match self.framing {
            RoceFraming::Raw => behind_headers(datagram),
            RoceFraming::Socket => {
                let from = datagram.peer.ipv4_octets()?;
                let fields = Ipv4Udp {
                    id: 0,
                    fragment: DONT_FRAGMENT,
                    source: from,
                    destination: self.own,
                    source_port: datagram.peer.udp_port,
                    destination_port: ROCE_PORT,
                };
                Some(Came { from, to: self.own, head: Head::Told(fields) })
            }
        }
    }

    /// The headers that the ICRC of a packet covers, given what is known about its sender. `None` if only headers
    /// explain the packet that nobody expects from this sender. A packet that no headers explain is left to the check
    /// of its ICRC.
    #[inline]
    pub fn covered(&self, now: Time, came: &Came, packet: &[u8], known: Option<Known<'_>>) -> Option<Covered> {
        match &came.head {
            Head::Seen(seed) => Some(Covered { seed: *seed, solved: false, unpredictable: false }),
            Head::Told(fields) => self.solve(now, fields, packet, known),
        }
    }

    fn solve(&self, now: Time, fields: &Ipv4Udp, packet: &[u8], known: Option<Known<'_>>) -> Option<Covered> {
        let nobodys = Chosen { id: 0, fragment: DONT_FRAGMENT };
        let covered = |Chosen { id, fragment }, unpredictable| {
            let seed = IcrcSeed::roce_fields(&Ipv4Udp { id, fragment, ..*fields }, packet.len())?;
            Some(Covered { seed, solved: id != 0, unpredictable })
        };
        let explain = |fragment| self.explain(&Ipv4Udp { fragment, ..*fields }, packet);
        let Some(Known { qp, host }) = known else {
            let found = explain(DONT_FRAGMENT).or_else(|| explain(0));
            return covered(found.unwrap_or(nobodys), false);
        };
        let usual = qp.fragment();
        let mut strangers = [None; 2];
        for (fragment, stranger) in [usual, usual ^ DONT_FRAGMENT].into_iter().zip(&mut strangers) {
            let Some(chosen) = explain(fragment) else { continue };
            match (qp.expects(now, chosen), host.expects(now, chosen)) {
                (true, true) => {
                    qp.saw(now, chosen);
                    host.saw(now, chosen);
                }
                (true, false) => {
                    qp.saw(now, chosen);
                    host.take_over(qp);
                }
                (false, true) => {
                    host.saw(now, chosen);
                    qp.take_over(host);
                }
                (false, false) => {
                    *stranger = Some(chosen);
                    continue;
                }
            }
            return covered(chosen, qp.is_unpredictable());
        }
        for chosen in strangers.into_iter().flatten() {
            match (qp.saw_stranger(now, chosen, true), host.saw_stranger(now, chosen, false)) {
                (true, true) => {}
                (true, false) => host.take_over(qp),
                (false, true) => qp.take_over(host),
                (false, false) => continue,
            }
            return covered(chosen, qp.is_unpredictable());
        }
        if strangers == [None; 2] { covered(nobodys, false) } else { None }
    }

    /// The identification that explains the ICRC of a packet with these headers, if there is one.
    fn explain(&self, fields: &Ipv4Udp, packet: &[u8]) -> Option<Chosen> {
        let seed = IcrcSeed::roce_fields(fields, packet.len())?;
        let (covered, received) = packet.split_last_chunk::<ICRC_LEN>()?;
        let id = self.identification.find(packet.len(), *received, seed.icrc(covered))?;
        Some(Chosen { id, fragment: fields.fragment })
    }
}

#[inline]
fn behind_headers(datagram: &DatagramView<'_>) -> Option<Came> {
    let headers = datagram.frame.before(IPV4_UDP)?.first_chunk::<IPV4_UDP>()?;
    let &[.., a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _] = headers;
    let (from, to) = ([a, b, c, d], [e, f, g, h]);
    let is_its = datagram.peer.ipv4_octets() == Some(from);
    is_its.then(|| Came { from, to, head: Head::Seen(IcrcSeed::roce(headers)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Datagram, Frame, Hugepages, Pool, PoolConfig};

    const OWN: [u8; 4] = [192, 0, 2, 1];
    const OTHER: [u8; 4] = [192, 0, 2, 2];

    fn pool() -> Pool {
        Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap()
    }

    /// A frame with a packet after the headers that a raw port would have written or removed.
    fn behind(pool: &Pool, headers: &[u8], packet: &[u8]) -> Frame {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(headers) && frame.append(packet));
        frame.trim_front(headers.len());
        frame
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// Packets of other implementations, from the IPv4 header on, with their ICRC.
    const CAPTURED: [&str; 2] = [
        "45c2003c718c4000401191610a0011010a001201000012b70028000081 \
         00ffff400001180000000000000000000000000000000000000000\
         82fd002a",
        "45010040047840004011b4d5c0a80007c0a80007c00012b7002caca22460ffff000000d300cf17104630818be28935d90e9a95505401b\
        e88\
         5e50000078f353f3",
    ];

    /// Source, destination, whether the identification was computed, and whether the ICRC is right.
    fn seen(headers: &Headers, datagram: &Datagram) -> Option<([u8; 4], [u8; 4], bool, bool)> {
        let (came, packet) = (headers.of(&datagram.into())?, datagram.frame.data());
        let covered = headers.covered(0, &came, packet, None)?;
        Some((came.from, came.to, covered.solved, covered.seed.verify(packet)))
    }

    #[test]
    fn packets_of_other_makers_are_right_and_broken_ones_are_not() {
        let pool = pool();
        for text in CAPTURED {
            let bytes = hex(&text.replace(' ', ""));
            let (headers, packet) = bytes.split_at(28);
            let from = [headers[12], headers[13], headers[14], headers[15]];
            let to = [headers[16], headers[17], headers[18], headers[19]];
            let udp_port = u16::from_be_bytes([headers[20], headers[21]]);
            let peer = Peer::ipv4(PortId(0), from, udp_port, Vlan::UNTAGGED, [2; 6]);
            let datagram = |packet: &[u8]| Datagram::new(behind(&pool, headers, packet), peer, Class::Link, 0);
            let (raw, socket) = (Headers::new(RoceFraming::Raw, to, 100), Headers::new(RoceFraming::Socket, to, 100));
            assert_eq!(seen(&raw, &datagram(packet)), Some((from, to, false, true)));
            // Neither identification is zero.
            assert_eq!(seen(&socket, &datagram(packet)), Some((from, to, true, true)));
            for at in 5..packet.len() {
                let mut broken = packet.to_vec();
                broken[at] ^= 0x10;
                assert_eq!(seen(&raw, &datagram(&broken)), Some((from, to, false, false)), "byte {at}");
            }
            for short in [&packet[..15], &packet[..3], &[]] {
                assert!(seen(&raw, &datagram(short)).is_some_and(|(.., right)| !right));
                assert!(seen(&socket, &datagram(short)).is_none_or(|(.., right)| !right));
            }
            // Another address than the one in the headers.
            let other = Peer::ipv4(PortId(0), [9; 4], udp_port, Vlan::UNTAGGED, [2; 6]);
            let datagram = Datagram::new(behind(&pool, headers, packet), other, Class::Link, 0);
            assert!(raw.of(&(&datagram).into()).is_none());
        }
    }

    #[test]
    fn what_is_sealed_is_right_at_the_other_end() {
        let pool = pool();
        let path = Path::new(RoceFraming::Socket, PortId(0), OWN, OTHER, [17, 18]);
        let mut packet = vec![0x5a; 60];
        assert!(path.seed(packet.len()).unwrap().seal(&mut packet));
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(&packet));
        let from = Peer::socket(PortId(0), SocketAddr::from((Ipv4Addr::from(OWN), ROCE_PORT)));
        let headers = Headers::new(RoceFraming::Socket, OTHER, 100);
        let datagram = Datagram::new(frame, from, Class::Link, 0);
        assert_eq!(seen(&headers, &datagram), Some((OWN, OTHER, false, true)));
        // As a raw port writes the headers.
        let path = Path::new(RoceFraming::Raw, PortId(0), OWN, OTHER, [17, 18]);
        assert!(path.seed(packet.len()).unwrap().seal(&mut packet));
        assert!(path.peer.source_port >= 0xc000 && path.peer.is_roce());
        let ip = wire::net::ipv4::Ipv4::new(OWN, OTHER, wire::net::ipv4::UDP, 2).to_bytes(68).unwrap();
        let [a, b] = path.peer.source_port.to_be_bytes();
        let udp = [a, b, 0x12, 0xb7, 0, 68, 0, 0];
        let from = Peer::ipv4(PortId(0), OWN, path.peer.source_port, Vlan::UNTAGGED, [2; 6]);
        let datagram = Datagram::new(behind(&pool, &[&ip[..], &udp[..]].concat(), &packet), from, Class::Link, 0);
        let headers = Headers::new(RoceFraming::Raw, OTHER, 100);
        assert_eq!(seen(&headers, &datagram), Some((OWN, OTHER, false, true)));
    }

    /// Two queue pairs with one host. The host counts all packets together, as Linux does, or the packets of each queue
    /// pair.
    #[test]
    fn queue_pairs_of_a_host_are_understood_however_it_counts() {
        let pool = pool();
        let headers = Headers::new(RoceFraming::Socket, OWN, 100);
        let from = Peer::socket(PortId(0), SocketAddr::from((Ipv4Addr::from(OTHER), ROCE_PORT)));
        for together in [true, false] {
            let (mut qps, mut host) = ([Sender::new(); 2], Sender::new());
            let mut counts = [1000u16, 30_000];
            let mut dropped = 0;
            for step in 0..400usize {
                // In bursts and one by one.
                let qp = (step / [1, 7, 64][step / 134]) % 2;
                let count = &mut counts[if together { 0 } else { qp }];
                *count += 1;
                let fields = Ipv4Udp {
                    id: *count,
                    fragment: DONT_FRAGMENT,
                    source: OTHER,
                    destination: OWN,
                    source_port: ROCE_PORT,
                    destination_port: ROCE_PORT,
                };
                let mut packet = vec![step as u8; 60];
                assert!(IcrcSeed::roce_fields(&fields, packet.len()).unwrap().seal(&mut packet));
                let mut frame = pool.alloc().unwrap();
                assert!(frame.append(&packet));
                let datagram = Datagram::new(frame, from, Class::Link, 0);
                let came = headers.of(&(&datagram).into()).unwrap();
                let known = Known { qp: &mut qps[qp], host: &mut host };
                match headers.covered(0, &came, datagram.frame.data(), Some(known)) {
                    Some(covered) => assert!(covered.seed.verify(datagram.frame.data()) && !covered.unpredictable),
                    None => dropped += 1,
                }
            }
            assert!(dropped <= 2, "together: {together}: {dropped}");
        }
    }

    #[test]
    fn queue_pairs_have_many_source_ports() {
        let ports: std::collections::BTreeSet<u16> = (0..1000).map(|qpn| source_port([qpn, 17])).collect();
        assert!(ports.len() > 950 && ports.iter().all(|port| *port >= 0xc000), "{}", ports.len());
    }
}
