//! Ethernet to UDP headers of a raw port: read on receive, written in place on transmit.

use crate::claims::{Claims, LcorePorts};
use crate::source::{Filter, is_card, is_host4};
use crate::vlans::Vlans;
use frame::{Burst, Class, Datagram, Frame, Note, Peer, PortId, Sender, Vlan};
use std::sync::Arc;
use wire::net::ipv4::{self, ECN_CE, ECN_ECT0};
use wire::net::{
    NetError, UdpFrame, UdpSpec, checksum, emit_udp4, has_partial_checksum, parse_udp4, udp, udp_checksum,
    udp_checksum_from, verify_udp4,
};

/// Bytes of Ethernet, IPv4 and UDP headers of the usual packet: without a tag and without options.
const PLAIN: usize = wire::net::headers_len(false);

/// The addresses that a raw port answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ip: [u8; 4],
    /// The UDP port on which it listens, and from which it sends unless a peer names another one.
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
    /// It is for another address or UDP port.
    NotOurs,
    /// The IPv4 header has options.
    Options,
    /// A VLAN that the port does not take packets from.
    Vlan,
    /// A source address that no sender can have: see [`crate::source`].
    Source,
    /// The UDP checksum is wrong.
    Checksum,
    /// The UDP checksum is wrong because nobody completed it: see [`partial_checksum_remedy`].
    PartialChecksum,
}

/// The remedy for incomplete checksums: the sender's kernel leaves them to a NIC, and there is no NIC on the way.
/// `driver` is that of the receiving card, as the kernel or DPDK names it; `generic` is whether the XDP program runs on
/// the kernel's generic hook (`mode=skb`).
pub fn partial_checksum_remedy(driver: &str, generic: bool) -> &'static str {
    match (driver, generic) {
        ("virtio_net", true) => {
            "the host of this virtual machine leaves checksums to its card, and mode=skb takes packets as they come: \
             leave \
             mode=skb out, so that the driver (virtio_net) has the host finish them; or on the host `ethtool -K TAP tx \
                 off`, \
             where TAP is the tap of this machine; or give the card guest_csum=off (QEMU)"
        }
        ("virtio_net" | "net_virtio", _) => {
            "the host of this virtual machine leaves checksums to its card: on the host `ethtool -K TAP tx off`, where \
             TAP is \
             the tap of this machine; or give the card guest_csum=off (QEMU)"
        }
        _ => {
            "who sends them leaves checksums to a NIC that is not there: on that host `ethtool -K IFACE tx off`, where \
             IFACE is \
             the other end of a veth, or what a container or a virtual machine sends from"
        }
    }
}

/// The remedy when packets of a VLAN are refused that should be accepted.
pub const VLAN_REMEDY: &str = "a port takes packets without a tag, unless it is told which VLANs it serves: if these \
    are meant, name \
     them, 0 for no tag, as in xdp:eth1,vlans=0+10 (vlans=any takes all); else the switch should not send them here";

/// The remedy when packets come from impossible sources.
pub const SOURCE_REMEDY: &str = "no host can send from there (0.0.0.0/8, loopback, multicast, 240.0.0.0/4, our own \
    address, UDP \
     port 0, or such an Ethernet address): somebody makes packets by hand, or has our address; \
     `tcpdump -e -i IFACE udp port 9999` shows from which card";

/// Reads the headers of one received frame and removes them: the rest is exactly the UDP payload. Accepts any VLAN. A
/// port that receives many frames uses a [`Reader`].
///
/// # Errors
/// The error is [`Refused::Malformed`] when the headers cannot be read. It is [`Refused::NotOurs`] when address or port
/// are not those of `local`. [`Refused::Options`], [`Refused::Source`], [`Refused::Checksum`] or
/// [`Refused::PartialChecksum`] name what is wrong in a packet for us. The frame goes back to its pool.
pub fn receive(frame: Frame, port: PortId, local: &Local, verify: Verify) -> Result<Datagram, Refused> {
    receive_any(frame, port, local, verify, &Filter::new(&Arc::new(Vlans::ANY), &[local.ip]), false)
}

/// Reads the headers of one frame after another.
///
/// Most packets come from the same sender as the packet before. So the reader remembers that sender's headers and peer:
/// apart from lengths, counters and checksums, the headers of such a packet are the same bytes.
#[derive(Clone, Debug)]
pub struct Reader {
    port: PortId,
    local: Local,
    verify: Verify,
    /// Bytes 30 to 37 of the usual packet: our address and UDP port, and the sender's UDP port as zero.
    ours: u64,
    filter: Filter,
    /// The filter, in the form for the usual packet.
    quick: Quick,
    last: Last,
    /// [`Peer::local`] of received datagrams.
    number: u8,
    /// Reads packets to the RoCEv2 port, if that is claimed. It is used last, so that other packets cost nothing more.
    roce: Option<Box<Self>>,
    /// Read packets to the UDP ports of other lcores, by lcore, if there are some; they are used as late.
    others: Option<Box<(LcorePorts, Vec<Self>)>>,
}

/// The part of [`Filter`] for a usual packet, in a form that takes few instructions.
#[derive(Clone, Copy, Debug)]
struct Quick {
    /// Zero if packets without a tag are accepted.
    refuses: u64,
    /// Bytes 6 to 13 of a packet that has our own Ethernet address as its source.
    mac: u64,
    /// Our IPv4 address, as its bytes are in the packet.
    ip: u32,
    /// Whether we have more addresses.
    has_more: bool,
    /// The UDP port that no sender has, as its bytes are in the packet; out of range if senders may have any port.
    no_port: u32,
}

/// The sender of the packet before.
#[derive(Clone, Debug)]
struct Last {
    known: Known,
    /// [`Burst::stamp`] of the burst that knows it.
    stamp: u64,
    /// What all its peers have in common: the port, and which of our addresses it is for.
    common: Peer,
}

/// The common bytes in the headers of a sender's usual packets, and what follows from them.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Bytes 6 to 37 with [`COMPARED`]: its addresses and ours, the types of IPv4 and UDP, its ECN bits.
    headers: [u64; 4],
    /// The note of a payload, if length and checksum of its UDP header were zero: see [`Known::note`].
    note: Note,
    /// The number of the sender in the burst.
    sender: Sender,
}

/// Eight bytes of the headers in packet order; used with masks that are made in the same way.
const fn eight(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

/// Some bytes of the headers from `at` on.
#[inline(always)]
fn field<const N: usize>(head: &[u8; PLAIN], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("bytes of the headers")
}

/// Bytes 6 to 37 of the headers, eight each, so far as `mask` has bits.
#[inline(always)]
fn middle(head: &[u8; PLAIN], mask: &[u64; 4]) -> [u64; 4] {
    std::array::from_fn(|word| eight(field(head, 6 + 8 * word)) & mask[word])
}

/// What two packets of one sender have in common: all but type of service, length, identification, TTL and header
/// checksum. The ECN bits of the type of service are compared, so that they need not be read from each packet.
const COMPARED: [u64; 4] =
    [u64::MAX, eight([0xff, 0b11, 0, 0, 0, 0, 0x3f, 0xff]), eight([0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff]), u64::MAX];

/// What all usual packets have in common: the type of IPv4 and a source that is not a group address, version 4 and a
/// header of 20 bytes, no fragment, the protocol UDP.
const USUAL: [u64; 4] = [IPV4, eight([0x45, 0, 0, 0, 0, 0, 0, 0]), eight([0, ipv4::UDP, 0, 0, 0, 0, 0, 0]), 0];
const USUAL_MASK: [u64; 4] = [
    eight([1, 0, 0, 0, 0, 0, 0xff, 0xff]),
    eight([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]),
    eight([0, 0xff, 0, 0, 0, 0, 0, 0]),
    0,
];
/// Bytes 6 to 13: the type of IPv4.
const IPV4: u64 = eight([0, 0, 0, 0, 0, 0, 0x08, 0]);
/// Bytes 30 to 37: all but the sender's UDP port.
const OURS_MASK: u64 = eight([0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff]);

impl Known {
    /// No sender. No headers are these: bytes that are not compared are zero.
    const NOBODY: Self = Self { headers: [u64::MAX; 4], note: Note::unsummed(false), sender: Sender::NOBODY };

    /// Whether this is a usual packet of this sender: no tag, no IP options, not a fragment, for us. Branchless: for
    /// the usual packet all parts are compared in any case.
    #[inline(always)]
    fn sent(&self, head: &[u8; PLAIN]) -> bool {
        let [a, b, c, d] = middle(head, &COMPARED);
        let [e, f, g, h] = self.headers;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }

    /// What is known of the payload of its packet, whose checksum is right.
    ///
    /// Together with everything before the payload, the payload's sum is zero: it is the negative of all that. The
    /// length stands there twice: in the pseudo header and in the header.
    #[inline(always)]
    fn note(&self, head: &[u8; PLAIN]) -> Note {
        let (len, checksum) = (u16::from_ne_bytes(field(head, 38)), u16::from_ne_bytes(field(head, 40)));
        if checksum == 0 { self.note.of_part() } else { self.note.less(2 * u32::from(len) + u32::from(checksum)) }
    }

    /// Removes the headers of a usual packet of this sender, if it is right.
    #[inline(always)]
    fn strip(&self, frame: &mut Frame, reader: &Reader) -> Option<Note> {
        let head = frame.data().first_chunk::<PLAIN>()?;
        // `narrow` checks that the segment has a header and is inside the frame.
        let segment = segment_len(head);
        if total_len(head) != segment + ipv4::HEADER_LEN {
            return None;
        }
        if reader.verify == Verify::Software && !is_right(frame.data(), &reader.local) {
            return None;
        }
        let note = self.note(head);
        frame.narrow(PLAIN, segment.wrapping_sub(udp::HEADER_LEN)).then_some(note)
    }
}

impl Last {
    /// No sender.
    const fn nobody(port: PortId) -> Self {
        let common = Peer::ipv4(port, [0; 4], 0, Vlan::UNTAGGED, [0; 6]);
        Self { known: Known::NOBODY, stamp: 0, common }
    }

    /// Takes over the sender of this usual packet, which will be added to the burst next.
    #[inline(always)]
    fn take(&mut self, head: &[u8; PLAIN], burst: &mut Burst) {
        let (sender, peer) = burst.meet();
        *peer = self.common;
        peer.move_to(field(head, 26), u16::from_be_bytes(field(head, 34)), field(head, 6));
        // Both addresses and both ports, as three pairs of words. Their sum has at most 34 bits.
        let pairs = [26, 30, 34].map(|at| u64::from(u32::from_ne_bytes(field(head, at))));
        let pairs = pairs.iter().sum::<u64>();
        let words = (pairs >> 32) as u32 + (pairs as u32 >> 16) + (pairs as u32 & 0xffff);
        // This and the word of the protocol are at most four times 0xFFFF; twice a length and a checksum are three
        // times that: something is left.
        let rest = 11 * 0xffff - words - checksum::word(ipv4::UDP.into()) as u32;
        let note = Note::of(rest, head[15] & 3 == ECN_CE);
        self.known = Known { headers: middle(head, &COMPARED), note, sender };
        self.stamp = burst.stamp();
    }
}

/// A [`Reader`] at work on one burst, into which nobody else puts datagrams meanwhile: what it compares stays near.
pub struct Reading<'a> {
    reader: &'a mut Reader,
    burst: &'a mut Burst,
    known: Known,
}

impl Reading<'_> {
    /// [`Reader::usual_into`].
    ///
    /// # Errors
    /// The frame itself comes back, unchanged, when its packet is not usual or not right.
    #[inline(always)]
    pub fn usual(&mut self, mut frame: Frame) -> Result<usize, Frame> {
        let Self { reader, burst, known } = self;
        let Some(head) = frame.data().first_chunk::<PLAIN>() else { return Err(frame) };
        if !known.sent(head) {
            if !reader.meet(head, burst) {
                return Err(frame);
            }
            *known = reader.last.known;
        }
        let Some(note) = known.strip(&mut frame, reader) else {
            reader.forget();
            *known = Known::NOBODY;
            return Err(frame);
        };
        let len = frame.len();
        burst.add(frame, known.sender, note);
        Ok(len)
    }
}

impl Reader {
    /// A reader for one port that accepts packets without a tag.
    pub fn new(port: PortId, local: &Local, verify: Verify) -> Self {
        let ([a, b, c, d], [e, f]) = (local.ip, local.udp_port.to_be_bytes());
        let ours = eight([a, b, c, d, 0, 0, e, f]);
        let [a, b, c, d, e, f] = local.mac;
        let mac = eight([a, b, c, d, e, f, 0x08, 0]);
        let is_roce = local.udp_port == wire::ROCE_PORT;
        let no_port = if is_roce { u32::MAX } else { 0 };
        let quick = Quick { refuses: 0, mac, ip: u32::from_ne_bytes(local.ip), has_more: false, no_port };
        let filter = Filter::new(&Arc::new(Vlans::UNTAGGED), &[local.ip]);
        let last = Last::nobody(port);
        Self { port, local: *local, verify, ours, filter, quick, last, number: 0, roce: None, others: None }
    }

    /// The same with another filter.
    #[must_use]
    pub fn filtering(mut self, filter: &Filter) -> Self {
        self.quick.refuses = u64::from(!filter.vlans.has(None));
        self.quick.has_more = filter.own.iter().any(|own| *own != self.local.ip);
        self.filter = filter.clone();
        self
    }

    /// The same for the address with this number at its port: [`Peer::local`] of all received datagrams.
    #[must_use]
    pub const fn of_address(mut self, number: u8) -> Self {
        self.number = number;
        self.last.common.local = number;
        self
    }

    /// Accepts packets to the RoCEv2 port as well, with [`Peer::ROCE`] in [`Peer::local`].
    #[must_use]
    pub fn claiming_roce(mut self) -> Self {
        let local = Local { udp_port: wire::ROCE_PORT, ..self.local };
        let reader = Self::new(self.port, &local, self.verify).filtering(&self.filter);
        let reader = reader.of_address(self.number | Peer::ROCE);
        self.roce = Some(Box::new(reader));
        self
    }

    /// Accepts packets to the UDP ports of other lcores as well, with the number of the lcore in [`Peer::lcore`].
    #[must_use]
    fn claiming_others(mut self, ports: LcorePorts) -> Self {
        let reader = |lcore: u16| {
            let local = Local { udp_port: ports.first.wrapping_add(lcore), ..self.local };
            let mut reader = Self::new(self.port, &local, self.verify).filtering(&self.filter).of_address(self.number);
            // At most 64 lcores hand over to each other.
            reader.last.common.lcore = lcore as u8 + 1;
            reader
        };
        self.others = Some(Box::new((ports, (0..ports.lcores.min(254)).map(reader).collect())));
        self
    }

    /// Accepts what is claimed as well.
    #[must_use]
    pub fn claiming(self, claims: &Claims) -> Self {
        let this = if claims.roce { self.claiming_roce() } else { self };
        match claims.lcores {
            Some(ports) if ports.lcores > 1 => this.claiming_others(ports),
            _ => this,
        }
    }

    /// Reads the headers of a received frame, removes them, and adds the datagram to a burst. Returns the bytes of its
    /// payload. When the burst is full, the frame goes back to its pool: the caller must check for room first.
    ///
    /// # Errors
    /// [`Refused`] says which check the packet failed: its headers, our address, IP options, the VLAN, its source, or
    /// the checksum. The frame goes back to its pool, and the burst stays as it was.
    #[inline]
    pub fn receive_into(&mut self, frame: Frame, burst: &mut Burst) -> Result<usize, Refused> {
        match self.usual_into(frame, burst) {
            Ok(len) => Ok(len),
            Err(frame) => self.unusual_into(frame, burst),
        }
    }

    /// Like [`Reader::receive_into`], for the usual packet; returns any other frame.
    ///
    /// # Errors
    /// The frame itself comes back, unchanged, when its packet is not usual or not right. That is no fault yet:
    /// [`Reader::receive_into`] looks at it again.
    #[inline(always)]
    pub fn usual_into(&mut self, mut frame: Frame, burst: &mut Burst) -> Result<usize, Frame> {
        let Some(head) = frame.data().first_chunk::<PLAIN>() else { return Err(frame) };
        let is_known = self.last.stamp == burst.stamp() && self.last.known.sent(head);
        if !is_known && !self.meet(head, burst) {
            return Err(frame);
        }
        let Some(note) = self.last.known.strip(&mut frame, self) else {
            self.forget();
            return Err(frame);
        };
        let len = frame.len();
        burst.add(frame, self.last.known.sender, note);
        Ok(len)
    }

    /// Forgets the last sender: if its packet brought it into the burst and is not there, another sender may get its
    /// number.
    #[cold]
    fn forget(&mut self) {
        self.last.stamp = 0;
    }

    /// Begins with a burst.
    #[inline(always)]
    pub fn reading<'a>(&'a mut self, burst: &'a mut Burst) -> Reading<'a> {
        let known = if self.last.stamp == burst.stamp() { self.last.known } else { Known::NOBODY };
        Reading { reader: self, burst, known }
    }

    #[cold]
    #[inline(never)]
    fn unusual_into(&mut self, frame: Frame, burst: &mut Burst) -> Result<usize, Refused> {
        self.forget();
        if let Some((ports, readers)) = self.others.as_deref_mut()
            && let Some(reader) = ports.other_of(frame.data()).and_then(|lcore| readers.get_mut(usize::from(lcore)))
        {
            return reader.receive_into(frame, burst);
        }
        let claims = self.roce.is_some();
        let frame = match &mut self.roce {
            None => frame,
            Some(roce) => match roce.usual_into(frame, burst) {
                Ok(len) => return Ok(len),
                Err(frame) => frame,
            },
        };
        let mut datagram = receive_any(frame, self.port, &self.local, self.verify, &self.filter, claims)?;
        datagram.peer.local |= self.number;
        datagram.peer.lcore = self.last.common.lcore;
        let len = datagram.frame.len();
        let _ = burst.push(datagram);
        Ok(len)
    }

    /// Makes another sender the last one, if this is a usual packet and not from an impossible source.
    #[inline(never)]
    fn meet(&mut self, head: &[u8; PLAIN], burst: &mut Burst) -> bool {
        let [a, b, c, _] = middle(head, &USUAL_MASK);
        let [e, f, g, _] = USUAL;
        let ports = eight(field(head, 30));
        let other = (a ^ e) | (b ^ f) | (c ^ g) | ((ports ^ self.ours) & OURS_MASK) | self.quick.refuses;
        let (source, port): ([u8; 4], [u8; 2]) = (field(head, 26), field(head, 34));
        if other != 0 || self.is_impossible(eight(field(head, 6)), source, port) {
            return false;
        }
        if self.quick.has_more && self.filter.own.contains(&source) {
            return false;
        }
        self.last.take(head, burst);
        true
    }

    /// Whether an otherwise usual packet has an impossible source: the opposite of [`is_possible`], on the bytes of the
    /// packet, without the check of further addresses of ours. The check of its type has already shown that its
    /// Ethernet address is not a group's.
    #[inline(always)]
    fn is_impossible(&self, ethernet: u64, ip: [u8; 4], port: [u8; 2]) -> bool {
        let quick = &self.quick;
        !is_host4(ip)
            || u32::from_ne_bytes(ip) == quick.ip
            || ethernet == quick.mac
            || ethernet == IPV4
            || u32::from(u16::from_ne_bytes(port)) == quick.no_port
    }
}

/// Whether a datagram can come from its source address.
fn is_possible(read: &UdpFrame, local: &Local, filter: &Filter, roce: bool) -> bool {
    is_card(read.src_mac)
        && read.src_mac != local.mac
        && is_host4(read.src_ip)
        && !filter.own.contains(&read.src_ip)
        && (read.src_port != 0 || roce)
}

/// Bytes of the usual packet after its Ethernet header, according to its IP header.
#[inline]
fn total_len(head: &[u8; PLAIN]) -> usize {
    usize::from(u16::from_be_bytes([head[16], head[17]]))
}

/// Bytes of UDP header and payload, according to the usual packet's UDP header.
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

/// Every packet that is not usual: tagged, or to be refused and counted. `roce` is whether our RoCEv2 port is claimed.
#[cold]
#[inline(never)]
fn receive_any(
    mut frame: Frame,
    port: PortId,
    local: &Local,
    verify: Verify,
    filter: &Filter,
    roce: bool,
) -> Result<Datagram, Refused> {
    let bytes = frame.data();
    let read = parse_udp4(bytes).map_err(Refused::Malformed)?;
    let is_roce = roce && read.dst_port == wire::ROCE_PORT;
    if read.dst_ip != local.ip || (read.dst_port != local.udp_port && !is_roce) {
        return Err(Refused::NotOurs);
    }
    // No peer of ours needs options. And an ICRC check needs the IP header right before the UDP header.
    if read.payload.start != wire::net::headers_len(read.vlan.is_some()) {
        return Err(Refused::Options);
    }
    if !filter.vlans.has(read.vlan.map(|tag| tag & 0xfff)) {
        return Err(Refused::Vlan);
    }
    if !is_possible(&read, local, filter, is_roce) {
        return Err(Refused::Source);
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

/// Whether the UDP checksum of a frame that was not verified here is incomplete: see [`partial_checksum_remedy`].
#[cold]
pub fn is_partial(frame: &[u8]) -> bool {
    parse_udp4(frame).is_ok_and(|read| has_partial_checksum(&read))
}

/// Why headers cannot be written for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The peer's address is not IPv4.
    Address,
    /// The headroom is too small, or the packet would be larger than the MTU or than an IP packet can be.
    Size,
}

/// Whether [`write()`] can write headers for a datagram, and the packet is no larger than `mtu`.
///
/// # Errors
/// The error is [`Unsendable::Address`] when the peer's address is not IPv4. It is [`Unsendable::Size`] when the packet
/// would be larger than `mtu`, or the frame has too little headroom for the headers.
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

/// Who computes the UDP checksum of sent packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The NIC: the field has the checksum of the pseudo header.
    Nic,
    /// This code does.
    Software,
}

/// Writes the headers before a datagram's payload, in place, with a full UDP checksum, or as RoCEv2 headers with
/// [`Peer::ROCE`]. It leaves from the peer's [`Peer::source_port`], or from [`Local::udp_port`].
///
/// # Errors
/// The error is [`Unsendable::Address`] when the peer's address is not IPv4. It is [`Unsendable::Size`] when the frame
/// has too little headroom, or the packet would be larger than an IP packet can be.
#[inline]
pub fn write(datagram: &mut Datagram, local: &Local) -> Result<(), Unsendable> {
    write_for(datagram, local, Fill::Software)
}

/// [`write()`], for a NIC that may fill in the UDP checksum.
///
/// # Errors
/// The error is [`Unsendable::Address`] when the peer's address is not IPv4. It is [`Unsendable::Size`] when the frame
/// has too little headroom, or the packet would be larger than an IP packet can be.
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
mod tests;
