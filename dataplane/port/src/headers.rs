//! Ethernet to UDP headers of a raw port: read on receive, written in place on transmit.

use frame::{Burst, Class, Datagram, Frame, LARGE, Peer, PortId, Vlan};
use wire::net::ipv4::{self, ECN_CE, ECN_ECT0};
use wire::net::{
    NetError, UdpSpec, checksum, emit_udp4, has_partial_checksum, parse_udp4, payload_sum, udp, udp_checksum,
    udp_checksum_from, verify_udp4,
};

/// Bytes of Ethernet, IPv4 and UDP headers of the usual packet: without a tag and without options.
const PLAIN: usize = wire::net::headers_len(false);

/// What a raw port answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ip: [u8; 4],
    /// The UDP port it listens on, and sends from where a peer says no other.
    pub udp_port: u16,
}

/// Who verifies UDP checksums on receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The NIC did already.
    Nic,
    /// This code does.
    Software,
}

/// Why a received frame is not a datagram for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The headers are malformed, or not UDP over IPv4.
    Malformed(NetError),
    /// Another address or UDP port.
    NotOurs,
    /// The UDP checksum is wrong.
    Checksum,
    /// The UDP checksum is wrong because nobody finished it: see [`PARTIAL_CHECKSUM_REMEDY`].
    PartialChecksum,
}

/// What to do where checksums come unfinished: the sender's kernel leaves them to a NIC, and there is none on the way.
pub const PARTIAL_CHECKSUM_REMEDY: &str = "who sends them leaves checksums to a NIC that is not there: on that host \
     `ethtool -K IFACE tx off`, where IFACE is the other end of a veth, or what a container or a virtual machine sends from";

/// Reads the headers of one received frame and takes them off: what is left is exactly the UDP payload. A port that
/// receives many has a [`Reader`].
pub fn receive(frame: Frame, port: PortId, local: &Local, verify: Verify) -> Result<Datagram, Refused> {
    receive_any(frame, port, local, verify, false)
}

/// Reads headers, frame after frame.
///
/// Most packets come from where the one before came from. So the reader knows what such a packet looks like: but for
/// lengths, counters and checksums its headers are the same bytes, and its peer is known.
#[derive(Clone, Debug)]
pub struct Reader {
    port: PortId,
    local: Local,
    verify: Verify,
    /// Bytes 30 to 37 of the usual packet: our address and UDP port, and the sender's UDP port as zero.
    ours: u64,
    last: Sender,
    /// [`Peer::local`] of what is received.
    number: u8,
    /// Reads what comes to the RoCEv2 port, if that is claimed; it looks last, so that nothing else pays for it.
    roce: Option<Box<Self>>,
}

/// What the headers of a sender's usual packets have in common, and its peer.
#[derive(Clone, Debug)]
struct Sender {
    /// Bytes 6 to 13: its Ethernet address, and the type of IPv4.
    ethernet: u64,
    /// Bytes 22 to 29: the protocol UDP and its IP address; TTL and header checksum as zero.
    ip: u64,
    /// Bytes 30 to 37: our IP address, its UDP port and ours.
    ports: u64,
    peer: Peer,
}

/// Eight bytes of the headers as they lie there; used with masks that are made in the same way.
const fn eight(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

/// Eight bytes of the headers from `at` on.
#[inline(always)]
fn at(head: &[u8; PLAIN], at: usize) -> u64 {
    eight(*head[at..].first_chunk().expect("eight bytes of the headers"))
}

// Bytes 6 to 13: the type of IPv4.
const IPV4: u64 = eight([0, 0, 0, 0, 0, 0, 0x08, 0]);
const IPV4_MASK: u64 = eight([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
// Bytes 14 to 21: version 4 and a header of 20 bytes; no fragment.
const WHOLE: u64 = eight([0x45, 0, 0, 0, 0, 0, 0, 0]);
const WHOLE_MASK: u64 = eight([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
// Bytes 22 to 29: all but TTL and header checksum.
const IP_MASK: u64 = eight([0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff]);
// The same: the protocol UDP.
const UDP: u64 = eight([0, ipv4::UDP, 0, 0, 0, 0, 0, 0]);
const UDP_MASK: u64 = eight([0, 0xff, 0, 0, 0, 0, 0, 0]);
// Bytes 30 to 37: all but the sender's UDP port.
const OURS_MASK: u64 = eight([0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff]);

impl Sender {
    /// No sender: no packet has these headers, for IPv4 packets have their type.
    const fn nobody() -> Self {
        Self { ethernet: 0, ip: 0, ports: 0, peer: Peer::NOBODY }
    }

    /// Whether this is a usual packet of this sender: no tag, no IP options, not a fragment, for us.
    /// Branchless: on the usual packet all of it is looked at anyway.
    #[inline(always)]
    fn sent(&self, head: &[u8; PLAIN]) -> bool {
        let other = (at(head, 6) ^ self.ethernet)
            | ((at(head, 14) ^ WHOLE) & WHOLE_MASK)
            | ((at(head, 22) ^ self.ip) & IP_MASK)
            | (at(head, 30) ^ self.ports);
        other == 0
    }
}

impl Reader {
    /// A reader for one port.
    #[inline]
    pub const fn new(port: PortId, local: &Local, verify: Verify) -> Self {
        let ([a, b, c, d], [e, f]) = (local.ip, local.udp_port.to_be_bytes());
        let ours = eight([a, b, c, d, 0, 0, e, f]);
        Self { port, local: *local, verify, ours, last: Sender::nobody(), number: 0, roce: None }
    }

    /// The same for the address that has this number at its port: [`Peer::local`] of all that is received.
    #[must_use]
    pub const fn of_address(mut self, number: u8) -> Self {
        self.number = number;
        self
    }

    /// Takes what comes to the RoCEv2 port as well, with [`Peer::ROCE`] in [`Peer::local`].
    #[must_use]
    pub fn claiming_roce(mut self) -> Self {
        let local = Local { udp_port: wire::ROCE_PORT, ..self.local };
        let reader = Self::new(self.port, &local, self.verify).of_address(self.number | Peer::ROCE);
        self.roce = Some(Box::new(reader));
        self
    }

    /// Reads the headers of a received frame, takes them off, and adds the datagram to a burst; returns the bytes of its
    /// payload. When the burst is full, the frame goes back to its pool: the caller looks first.
    #[inline]
    pub fn receive_into(&mut self, frame: Frame, burst: &mut Burst) -> Result<usize, Refused> {
        match self.usual_into(frame, burst) {
            Ok(len) => Ok(len),
            Err(frame) => self.unusual_into(frame, burst),
        }
    }

    /// As [`Reader::receive_into`], for the usual packet; gives any other back.
    #[inline(always)]
    pub fn usual_into(&mut self, mut frame: Frame, burst: &mut Burst) -> Result<usize, Frame> {
        let Some(ce) = self.usual(&mut frame) else { return Err(frame) };
        let len = frame.len();
        // The datagram is made where it will stand, and nowhere else.
        let _ = burst.push(Datagram { frame, peer: self.last.peer, records: 0, class: Class::Link, ce, sum: None });
        if len >= LARGE {
            know_sum(burst);
        }
        Ok(len)
    }

    #[cold]
    #[inline(never)]
    fn unusual_into(&mut self, frame: Frame, burst: &mut Burst) -> Result<usize, Refused> {
        let claims = self.roce.is_some();
        let frame = match &mut self.roce {
            None => frame,
            Some(roce) => match roce.usual_into(frame, burst) {
                Ok(len) => return Ok(len),
                Err(frame) => frame,
            },
        };
        let mut datagram = receive_any(frame, self.port, &self.local, self.verify, claims)?;
        datagram.peer.local |= self.number;
        let len = datagram.frame.len();
        let _ = burst.push(datagram);
        Ok(len)
    }

    /// Takes the headers off the usual packet, whose sender is `last` then; says whether it met congestion.
    #[inline(always)]
    fn usual(&mut self, frame: &mut Frame) -> Option<bool> {
        let head = frame.data().first_chunk::<PLAIN>()?;
        if !self.last.sent(head) && !self.meet(head) {
            return None;
        }
        // That the segment has a header and is inside the frame is seen when the frame is narrowed to it.
        let segment = segment_len(head);
        if total_len(head) != segment + ipv4::HEADER_LEN {
            return None;
        }
        if self.verify == Verify::Software && !is_right(frame.data(), &self.local) {
            return None;
        }
        let ce = head[15] & 3 == ECN_CE;
        frame.narrow(PLAIN, segment.wrapping_sub(udp::HEADER_LEN)).then_some(ce)
    }

    /// Makes another sender the last one, if this is a usual packet.
    #[inline(never)]
    fn meet(&mut self, head: &[u8; PLAIN]) -> bool {
        // All but its address, as in `Sender::sent`: that says whether the packet is usual.
        let (ethernet, ip, ports) = (at(head, 6), at(head, 22) & IP_MASK, at(head, 30));
        let other = ((ethernet ^ IPV4) & IPV4_MASK)
            | ((at(head, 14) ^ WHOLE) & WHOLE_MASK)
            | ((ip ^ UDP) & UDP_MASK)
            | ((ports ^ self.ours) & OURS_MASK);
        if other != 0 {
            return false;
        }
        let mac = [head[6], head[7], head[8], head[9], head[10], head[11]];
        let udp_port = u16::from_be_bytes([head[34], head[35]]);
        let mut peer = Peer::ipv4(self.port, [head[26], head[27], head[28], head[29]], udp_port, Vlan::UNTAGGED, mac);
        peer.local = self.number;
        self.last = Sender { ethernet, ip, ports, peer };
        true
    }
}

/// Notes the sum of the payload of the usual packet that was received last.
#[inline(never)]
fn know_sum(burst: &mut Burst) {
    if let Some(datagram) = burst.last_mut() {
        datagram.sum = datagram.frame.before(16).and_then(|head| payload_sum(head.first_chunk()?));
    }
}

/// Bytes of the usual packet after its Ethernet header, as it says.
#[inline]
fn total_len(head: &[u8; PLAIN]) -> usize {
    usize::from(u16::from_be_bytes([head[16], head[17]]))
}

/// Bytes of UDP header and payload, as the usual packet says.
#[inline]
fn segment_len(head: &[u8; PLAIN]) -> usize {
    usize::from(u16::from_be_bytes([head[38], head[39]]))
}

/// Whether the checksums of the usual packet are right.
#[inline]
fn is_right(bytes: &[u8], local: &Local) -> bool {
    let (Some(ip), Some(head)) = (bytes.get(14..34), bytes.first_chunk::<PLAIN>()) else { return false };
    let Some(segment) = bytes.get(34..34 + segment_len(head)) else { return false };
    let source = [head[26], head[27], head[28], head[29]];
    checksum::fold(checksum::sum(ip)) == 0 && (head[40..42] == [0, 0] || udp::verify(source, local.ip, segment))
}

/// Every packet that is not usual: tagged, with options, or to be refused by name. `roce` says whether our RoCEv2 port is
/// claimed.
#[cold]
#[inline(never)]
fn receive_any(mut frame: Frame, port: PortId, local: &Local, verify: Verify, roce: bool) -> Result<Datagram, Refused> {
    let bytes = frame.data();
    let read = parse_udp4(bytes).map_err(Refused::Malformed)?;
    let is_roce = roce && read.dst_port == wire::ROCE_PORT;
    if read.dst_ip != local.ip || (read.dst_port != local.udp_port && !is_roce) {
        return Err(Refused::NotOurs);
    }
    // Whoever checks an ICRC finds the IP header right before the UDP header.
    let headers = wire::net::headers_len(read.vlan.is_some());
    if is_roce && read.payload.start != headers {
        return Err(Refused::Malformed(NetError::IpHeaderLen));
    }
    if verify == Verify::Software && !verify_udp4(bytes, &read) {
        return Err(if has_partial_checksum(&read) { Refused::PartialChecksum } else { Refused::Checksum });
    }
    let vlan = read.vlan.map_or(Vlan::UNTAGGED, Vlan::tagged);
    let mut peer = Peer::ipv4(port, read.src_ip, read.src_port, vlan, read.src_mac);
    peer.local = if is_roce { Peer::ROCE } else { 0 };
    frame.trim_front(read.payload.start);
    frame.truncate(read.payload.len());
    Ok(Datagram { ce: read.ecn == ECN_CE, ..Datagram::new(frame, peer, Class::Link, 0) })
}

/// Whether nobody finished the UDP checksum of a frame that was not verified here: see [`PARTIAL_CHECKSUM_REMEDY`].
#[cold]
pub fn is_partial(frame: &[u8]) -> bool {
    parse_udp4(frame).is_ok_and(|read| has_partial_checksum(&read))
}

/// Why a datagram cannot be given headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The peer's address is not IPv4.
    Address,
    /// The headroom is too small, or the packet would be larger than the MTU or than an IP packet can be.
    Size,
}

/// Whether [`write()`] can give a datagram headers, and the packet is no larger than `mtu`.
#[inline]
pub fn check_sendable(datagram: &Datagram, mtu: u16) -> Result<(), Unsendable> {
    if datagram.peer.ipv4_octets().is_none() {
        return Err(Unsendable::Address);
    }
    let packet = datagram.frame.len() + usize::from(wire::IPV4_UDP_LEN);
    if packet > usize::from(mtu) || datagram.frame.headroom() < wire::net::MAX_HEADERS {
        return Err(Unsendable::Size);
    }
    Ok(())
}

/// Who computes the UDP checksum of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The NIC: the checksum of the pseudo header stands in its place.
    Nic,
    /// This code does.
    Software,
}

/// Writes the headers before a datagram's payload, in place, with a real UDP checksum, or as RoCEv2's with [`Peer::ROCE`].
/// It leaves from the peer's [`Peer::source_port`], or from [`Local::udp_port`].
#[inline]
pub fn write(datagram: &mut Datagram, local: &Local) -> Result<(), Unsendable> {
    write_for(datagram, local, Fill::Software)
}

/// [`write()`], for a NIC that may fill in the UDP checksum.
#[inline]
pub fn write_for(datagram: &mut Datagram, local: &Local, fill: Fill) -> Result<(), Unsendable> {
    let Datagram { frame, peer, ce, sum, .. } = datagram;
    let source_port = if peer.source_port == 0 { local.udp_port } else { peer.source_port };
    let Some(dst_ip) = peer.ipv4_octets() else { return Err(Unsendable::Address) };
    // The ICRC of RoCEv2 covers more than a UDP checksum, and its senders listen to ECN.
    let (unmarked, checksum) = match (peer.is_roce(), fill) {
        (false, Fill::Software) => (
            0,
            match *sum {
                Some(sum) => udp_checksum_from(local.ip, dst_ip, source_port, peer.udp_port, frame.len(), sum),
                None => udp_checksum(local.ip, dst_ip, source_port, peer.udp_port, frame.data()),
            },
        ),
        (false, Fill::Nic) => {
            let segment = (frame.len() + udp::HEADER_LEN) as u16;
            (0, !checksum::fold(checksum::pseudo_header(local.ip, dst_ip, ipv4::UDP, segment)))
        }
        (true, _) => (ECN_ECT0, 0),
    };
    let spec = UdpSpec {
        vlan: peer.vlan.vid(),
        src_mac: local.mac,
        dst_mac: peer.mac,
        src_ip: local.ip,
        dst_ip,
        src_port: source_port,
        dst_port: peer.udp_port,
        ecn: if *ce { ECN_CE } else { unmarked },
        checksum,
    };
    let payload = frame.len();
    let len = wire::net::headers_len(spec.vlan.is_some());
    let head = frame.prepend(len).ok_or(Unsendable::Size)?;
    match emit_udp4(&spec, payload, head) {
        Some(_) => Ok(()),
        None => {
            frame.trim_front(len);
            Err(Unsendable::Size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Hugepages, Pool, PoolConfig};

    #[test]
    fn what_is_written_is_read() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
        for vlan in [Vlan::UNTAGGED, Vlan::tagged(0), Vlan::tagged(7)] {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"some payload"));
            let peer = Peer::ipv4(PortId(3), there.ip, there.udp_port, vlan, there.mac);
            let mut datagram = Datagram { ce: true, ..Datagram::new(frame, peer, Class::Down, 1) };
            write(&mut datagram, &here).unwrap();
            let received = receive(datagram.frame, PortId(0), &there, Verify::Software).unwrap();
            assert_eq!(received.peer, Peer::ipv4(PortId(0), here.ip, here.udp_port, vlan, here.mac));
            assert_eq!((received.frame.data(), received.ce), (&b"some payload"[..], true));
        }
    }

    #[test]
    fn the_sum_of_a_large_payload_is_known_and_saves_reading_it() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
        let peer = Peer::ipv4(PortId(3), there.ip, there.udp_port, Vlan::UNTAGGED, there.mac);
        let bytes: Vec<u8> = (0..1401_u32).map(|at| (at * 7) as u8).collect();
        let sent = |payload: &[u8], sum| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(payload));
            let mut datagram = Datagram { sum, ..Datagram::new(frame, peer, Class::Down, 1) };
            write(&mut datagram, &here).unwrap();
            datagram.frame
        };
        for verify in [Verify::Software, Verify::Nic] {
            let mut reader = Reader::new(PortId(0), &there, verify);
            let mut burst = Burst::new();
            for payload in [&bytes[..], &bytes[..1400], &bytes[..100]] {
                reader.receive_into(sent(payload, None), &mut burst).unwrap();
            }
            let sums: Vec<_> = burst.iter().map(|(_, datagram)| datagram.sum).collect();
            let known = |payload: &[u8]| Some(checksum::folded(checksum::sum(payload)));
            assert_eq!(sums, [known(&bytes), known(&bytes[..1400]), None]);
            // What leaves with it is what would have been computed.
            assert_eq!(sent(&bytes, sums[0]).data(), sent(&bytes, None).data());
        }
        // Without a checksum nothing is known.
        let mut frame = sent(&bytes, None);
        frame.data_mut()[40..42].fill(0);
        let mut burst = Burst::new();
        Reader::new(PortId(0), &there, Verify::Nic).receive_into(frame, &mut burst).unwrap();
        assert_eq!(burst.drain().next().unwrap().sum, None);
    }

    #[test]
    fn a_datagram_leaves_from_its_lane_or_from_where_we_listen() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let mut peer = Peer::ipv4(PortId(3), [192, 0, 2, 2], 7777, Vlan::UNTAGGED, [2, 0, 0, 0, 0, 2]);
        // 9999 and lane 17, to 7777.
        for (source_port, ports, checksum) in [(0, "270f1e61", "719b"), (49_169, "c0111e61", "d898")] {
            peer.source_port = source_port;
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"abcd"));
            let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
            write(&mut datagram, &here).unwrap();
            let hex: String = datagram.frame.data().iter().map(|byte| format!("{byte:02x}")).collect();
            let ip = "45000020000040004011b6c9c0000201c0000202";
            let expected = format!("0200000000020200000000010800{ip}{ports}000c{checksum}61626364");
            assert_eq!(hex, expected);
        }
    }

    #[test]
    fn roce_is_taken_once_it_is_claimed_and_its_headers_stay_readable() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
        let sent = |vlan: Vlan, udp_port: u16, ce: bool| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"BTH and more"));
            let mut peer = Peer::ipv4(PortId(0), here.ip, udp_port, vlan, here.mac);
            (peer.local, peer.source_port) = (Peer::ROCE, 0xc123);
            let mut datagram = Datagram { ce, ..Datagram::new(frame, peer, Class::Down, 1) };
            write(&mut datagram, &there).unwrap();
            datagram.frame
        };
        // DF, id 0, ECT(0), from 49443 to 4791 without a checksum.
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let headers = "45020028000040004011b6bfc0000202c0000201c12312b700140000";
        assert_eq!(hex(&sent(Vlan::UNTAGGED, 4791, false).data()[14..42]), headers);
        let mut burst = Burst::new();
        let mut without = Reader::new(PortId(4), &here, Verify::Software).of_address(3);
        let mut claiming = without.clone().claiming_roce();
        for vlan in [Vlan::UNTAGGED, Vlan::tagged(9), Vlan::UNTAGGED] {
            assert_eq!(without.receive_into(sent(vlan, 4791, false), &mut burst), Err(Refused::NotOurs));
            for ce in [false, true] {
                assert_eq!(claiming.receive_into(sent(vlan, 4791, ce), &mut burst), Ok(12));
                let datagram = burst.drain().next().unwrap();
                assert_eq!((datagram.peer.is_roce(), datagram.peer.local & !Peer::ROCE, datagram.ce), (true, 3, ce));
                assert_eq!((datagram.peer.udp_port, datagram.peer.vlan), (0xc123, vlan));
                assert_eq!(datagram.frame.data(), b"BTH and more");
                let before = hex(datagram.frame.before(28).unwrap());
                assert_eq!((&before[..2], &before[4..20], &before[24..]), ("45", &headers[4..20], &headers[24..]));
            }
            // What comes to the other port is what it was.
            assert_eq!(claiming.receive_into(sent(vlan, 9999, false), &mut burst), Ok(12));
            assert_eq!(burst.drain().next().unwrap().peer.local, 3);
            assert_eq!(claiming.receive_into(sent(vlan, 4792, false), &mut burst), Err(Refused::NotOurs));
        }
        // Options between the headers, with a right checksum.
        let mut frame = sent(Vlan::UNTAGGED, 4791, false);
        let mut bytes = frame.data().to_vec();
        bytes.splice(34..34, [1, 1, 1, 0]);
        (bytes[14], bytes[17]) = (0x46, bytes[17] + 4);
        bytes[24..26].fill(0);
        let sum = checksum::fold(checksum::sum(&bytes[14..38]));
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.truncate(0);
        assert!(frame.append(&bytes));
        assert_eq!(claiming.receive_into(frame, &mut burst), Err(Refused::Malformed(NetError::IpHeaderLen)));
        assert_eq!((burst.len(), pool.in_use()), (0, 0));
    }

    #[test]
    fn usual_and_unusual_packets_stand_in_a_burst_as_they_are_received_alone() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let mut reader = Reader::new(PortId(4), &here, Verify::Software);
        let sent = |vlan: Vlan, to: [u8; 4]| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"some payload"));
            let peer = Peer::ipv4(PortId(0), to, here.udp_port, vlan, here.mac);
            let mut datagram = Datagram { ce: vlan == Vlan::UNTAGGED, ..Datagram::new(frame, peer, Class::Down, 1) };
            write(&mut datagram, &Local { udp_port: 5, ..here }).unwrap();
            datagram.frame
        };
        let mut burst = Burst::new();
        for vlan in [Vlan::UNTAGGED, Vlan::tagged(9)] {
            let alone = receive(sent(vlan, here.ip), PortId(4), &here, Verify::Software).unwrap();
            let usual = reader.usual_into(sent(vlan, here.ip), &mut burst);
            assert_eq!(usual.is_ok(), vlan == Vlan::UNTAGGED);
            if let Err(frame) = usual {
                reader.receive_into(frame, &mut burst).unwrap();
            }
            let datagram = burst.drain().next().unwrap();
            assert_eq!((datagram.peer, datagram.ce, datagram.class), (alone.peer, alone.ce, alone.class));
            assert_eq!((datagram.frame.data(), datagram.peer.udp_port), (&b"some payload"[..], 5));
        }
        assert_eq!(reader.receive_into(sent(Vlan::UNTAGGED, [192, 0, 2, 7]), &mut burst), Err(Refused::NotOurs));
        assert_eq!((burst.len(), pool.in_use()), (0, 0));
    }

    #[test]
    fn a_reader_says_the_same_as_a_look_at_each_packet_alone() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let senders = [([192, 0, 2, 7], 9999), ([192, 0, 2, 7], 5), ([192, 0, 2, 8], 5)];
        let packet = |sender: usize, change: &dyn Fn(&mut [u8])| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"some payload"));
            let peer = Peer::ipv4(PortId(0), here.ip, here.udp_port, Vlan::UNTAGGED, here.mac);
            let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
            let (ip, udp_port) = senders[sender];
            write(&mut datagram, &Local { mac: [2, 0, 0, 0, 1, sender as u8], ip, udp_port }).unwrap();
            change(datagram.frame.data_mut());
            datagram.frame
        };
        let mut reader = Reader::new(PortId(4), &here, Verify::Software);
        let mut burst = Burst::new();
        let mut check = |sender: usize, change: &dyn Fn(&mut [u8])| {
            let alone = receive(packet(sender, change), PortId(4), &here, Verify::Software);
            let added = reader.receive_into(packet(sender, change), &mut burst);
            assert_eq!(added.err(), alone.as_ref().err().copied());
            if let Ok(alone) = alone {
                let datagram = burst.drain().next().unwrap();
                assert_eq!(datagram.peer.as_bytes(), alone.peer.as_bytes());
                assert_eq!((datagram.ce, datagram.frame.data()), (alone.ce, alone.frame.data()));
            }
        };
        for bit in 0..PLAIN * 8 {
            let flip = |bytes: &mut [u8]| bytes[bit / 8] ^= 1 << (bit % 8);
            // After another sender, after itself, after the one that it pretends to be.
            for sender in [0, 1, 1, 2, 0, 0] {
                check(sender, &flip);
                check(sender, &|_| ());
            }
            // Checksums that agree with the change: another address, another port.
            check(0, &|bytes| {
                flip(bytes);
                bytes[40..42].fill(0);
                bytes[24..26].fill(0);
                let sum = checksum::fold(checksum::sum(&bytes[14..34]));
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            });
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn what_is_not_for_us_or_broken_is_refused() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let sent = |change: &dyn Fn(&mut Frame)| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"some payload"));
            let peer = Peer::ipv4(PortId(0), here.ip, 9999, Vlan::UNTAGGED, here.mac);
            let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
            write(&mut datagram, &here).unwrap();
            change(&mut datagram.frame);
            datagram.frame
        };
        let refused =
            |frame: Frame, local: &Local, verify: Verify| receive(frame, PortId(0), local, verify).unwrap_err();
        let other = Local { ip: [192, 0, 2, 9], ..here };
        assert_eq!(refused(sent(&|_| ()), &other, Verify::Software), Refused::NotOurs);
        let break_payload = |frame: &mut Frame| frame.data_mut()[45] ^= 1;
        assert_eq!(refused(sent(&break_payload), &here, Verify::Software), Refused::Checksum);
        assert!(receive(sent(&break_payload), PortId(0), &here, Verify::Nic).is_ok());
        // As a kernel leaves it that counts on a NIC; and a NIC that did its part.
        let leave_to_nic = |frame: &mut Frame| {
            let sum = checksum::pseudo_header(here.ip, here.ip, ipv4::UDP, frame.len() as u16 - 34);
            frame.data_mut()[40..42].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
        };
        assert_eq!(refused(sent(&leave_to_nic), &here, Verify::Software), Refused::PartialChecksum);
        assert_eq!(refused(sent(&leave_to_nic), &other, Verify::Software), Refused::NotOurs);
        assert!(receive(sent(&leave_to_nic), PortId(0), &here, Verify::Nic).is_ok());
        let break_ip = |frame: &mut Frame| frame.data_mut()[22] ^= 1;
        assert_eq!(
            refused(sent(&break_ip), &here, Verify::Software),
            Refused::Malformed(wire::net::NetError::IpChecksum)
        );
        let longer_than_the_packet = |frame: &mut Frame| frame.data_mut()[17] += 1;
        assert!(matches!(refused(sent(&longer_than_the_packet), &here, Verify::Nic), Refused::Malformed(_)));
        assert!(matches!(refused(sent(&|frame| frame.truncate(41)), &here, Verify::Nic), Refused::Malformed(_)));
        assert_eq!(pool.in_use(), 0);
    }
}
