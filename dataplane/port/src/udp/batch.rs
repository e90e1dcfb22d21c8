//! Many datagrams in one call: `recvmmsg` into frames, `sendmmsg` from frames.
//!
//! The kernel also hands over and takes trains of datagrams as one message each: see [`super::train`].

use super::own::OwnAddresses;
use super::train::{LONGEST_TRAIN, Train, Trains, refuses_trains};
use frame::{BURST, Datagram, Frame, Peer};
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use wire::net::ipv4::ECN_CE;

/// A socket address of either family.
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// After the kernel has refused a train, so many datagrams leave one by one.
const REFUSAL_LASTS: u32 = 4096;

/// Room for the control messages of one message: ECN bits, the overflow counter and the size of a train's datagrams,
/// each 24 bytes, and one of our own addresses, 40 bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 128]);

impl Control {
    /// Adds a control message after the first `len` bytes of messages; returns the new length.
    fn push<T: Copy>(&mut self, len: usize, level: i32, kind: i32, value: T) -> usize {
        // SAFETY: both only compute a length.
        let (used, space) = unsafe { (libc::CMSG_LEN(size_of::<T>() as u32), libc::CMSG_SPACE(size_of::<T>() as u32)) };
        let end = len + space as usize;
        let Some(room) = self.0.get_mut(len..end) else {
            frame::never!("there is no room for a control message");
            return len;
        };
        let header = libc::cmsghdr { cmsg_len: used as usize, cmsg_level: level, cmsg_type: kind };
        let at = room.as_mut_ptr();
        // SAFETY: there is room for the header, the padding behind it and the value, which CMSG_SPACE counts; what is
        // written needs no alignment.
        unsafe {
            at.cast::<libc::cmsghdr>().write_unaligned(header);
            at.add(libc::CMSG_LEN(0) as usize).cast::<T>().write_unaligned(value);
        }
        end
    }

    /// Adds the control messages of a datagram: the mark Congestion Experienced, and the one of our addresses that it
    /// leaves from. Returns the length of all messages.
    fn of(&mut self, ce: bool, ipv4: bool, ipv6_socket: bool, own: Option<IpAddr>) -> usize {
        let mut len = 0;
        if ce {
            let (level, kind) =
                if ipv4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
            len = self.push(len, level, kind, libc::c_int::from(ECN_CE));
        }
        match own {
            None => len,
            Some(IpAddr::V4(ip)) if !ipv6_socket => {
                let from = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let any = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: any };
                self.push(len, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            Some(ip) => {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                self.push(len, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        }
    }
}

/// The kernel's data about a received message, besides its bytes: a datagram or a train.
pub(super) struct Received {
    pub(super) len: usize,
    /// Bytes of each datagram of a train but the last, which may be shorter; `None` for one datagram.
    pub(super) each: Option<NonZeroUsize>,
    /// It was longer than its room; the rest is lost.
    pub(super) truncated: bool,
    pub(super) source: SocketAddr,
    /// It arrived with the mark Congestion Experienced.
    pub(super) ce: bool,
    /// Datagrams that the socket dropped since it was made, modulo 2^32, if any.
    pub(super) overflows: Option<u32>,
    /// To which of our addresses it came, if the socket reports that.
    pub(super) own: Option<IpAddr>,
}

/// The kernel's view of up to [`BURST`] messages; allocated once.
///
/// The pointers in it are only used by the call that sets them.
pub(super) struct Batch {
    headers: Box<[libc::mmsghdr]>,
    /// Two pieces for each received message; one for each datagram that is sent.
    iovecs: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    /// Where the part of a received train goes that its frame has no room for: [`LONGEST_TRAIN`] bytes for each
    /// message, or none. Memory that no train has reached is never touched, and so takes no room.
    beyond: Box<[u8]>,
    /// How many datagrams each message has that is to be sent.
    runs: [u8; BURST],
    /// Whether the kernel takes trains.
    sends_trains: bool,
    /// So many more datagrams leave one by one, because the kernel has refused a train.
    one_by_one: u32,
    tally: Tally,
}

/// What became of trains that were to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// The kernel took them.
    pub(super) sent: u64,
    /// The kernel refused them.
    pub(super) refused: u64,
}

impl Batch {
    pub(super) fn new(trains: Trains) -> Self {
        // SAFETY: null pointers and zero lengths are valid values of these C structs.
        let (header, iovec): (libc::mmsghdr, libc::iovec) = unsafe { (zeroed(), zeroed()) };
        Self {
            headers: vec![header; BURST].into(),
            iovecs: vec![iovec; 2 * BURST].into(),
            // SAFETY: all zeros is a valid `sockaddr_in6`, the largest variant.
            names: (0..BURST).map(|_| Name { v6: unsafe { zeroed() } }).collect(),
            controls: vec![Control([0; 128]); BURST].into(),
            beyond: vec![0; if trains.receives { BURST * LONGEST_TRAIN } else { 0 }].into(),
            runs: [0; BURST],
            sends_trains: trains.sends,
            one_by_one: 0,
            tally: Tally::default(),
        }
    }

    /// Points message `i` at `pieces` pieces from `piece` on, and at name and control message `own`.
    fn set(&mut self, i: usize, (piece, pieces): (usize, usize), own: usize, name_len: usize, control_len: usize) {
        let header = &mut self.headers[i];
        header.msg_len = 0;
        let message = &mut header.msg_hdr;
        message.msg_iov = &raw mut self.iovecs[piece];
        message.msg_iovlen = pieces;
        message.msg_name = (&raw mut self.names[own]).cast();
        message.msg_namelen = name_len as libc::socklen_t;
        message.msg_control = (&raw mut self.controls[own]).cast();
        message.msg_controllen = control_len;
        message.msg_flags = 0;
    }

    /// Receives into the tailrooms of `frames`, in order; at most [`BURST`]. What of a train has no room there is in
    /// [`Batch::beyond`]. [`Batch::received`] returns the other data.
    pub(super) fn receive<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        frames: impl Iterator<Item = &'a mut Frame>,
    ) -> io::Result<usize> {
        let mut count = 0;
        let pieces = if self.beyond.is_empty() { 1 } else { 2 };
        for (i, frame) in frames.take(BURST).enumerate() {
            let tail = frame.tail_mut();
            self.iovecs[2 * i] = libc::iovec { iov_base: tail.as_mut_ptr().cast(), iov_len: tail.len() };
            if let Some(beyond) = self.beyond.get_mut(i * LONGEST_TRAIN..(i + 1) * LONGEST_TRAIN) {
                self.iovecs[2 * i + 1] = libc::iovec { iov_base: beyond.as_mut_ptr().cast(), iov_len: beyond.len() };
            }
            self.set(i, (2 * i, pieces), i, size_of::<Name>(), size_of::<Control>());
            count = i + 1;
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: the first `count` headers were just set: each points at the tailroom of a frame, which `'a` keeps
        // borrowed during this call, at a part of `beyond`, and at a name and a control buffer of `self`, all with
        // their true lengths.
        let n = unsafe { libc::recvmmsg(fd.as_raw_fd(), headers, count as u32, flags, std::ptr::null_mut()) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// What of received message `i` had no room in its frame.
    pub(super) fn beyond(&self, i: usize) -> &[u8] {
        self.beyond.get(i * LONGEST_TRAIN..(i + 1) * LONGEST_TRAIN).unwrap_or(&[])
    }

    /// The data about message `i` of the last [`Batch::receive`], which returned more than `i`.
    pub(super) fn received(&self, i: usize) -> Received {
        let header = &self.headers[i];
        let mut received = Received {
            len: header.msg_len as usize,
            each: None,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            source: self.names[i].address(),
            ce: false,
            overflows: None,
            own: None,
        };
        // SAFETY: the kernel filled in `msg_control` and `msg_controllen` of this header, which point into
        // `controls[i]`; that buffer was not touched since. CMSG_NXTHDR stays inside it.
        unsafe {
            let mut at = libc::CMSG_FIRSTHDR(&raw const header.msg_hdr);
            while let Some(message) = at.as_ref() {
                let data = libc::CMSG_DATA(at);
                match (message.cmsg_level, message.cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_TOS) => received.ce |= data.read() & ECN_CE == ECN_CE,
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                        let class = data.cast::<libc::c_int>().read_unaligned();
                        received.ce |= class & libc::c_int::from(ECN_CE) == libc::c_int::from(ECN_CE);
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                        received.overflows = Some(data.cast::<u32>().read_unaligned());
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let each = data.cast::<libc::c_int>().read_unaligned();
                        received.each = usize::try_from(each).ok().and_then(NonZeroUsize::new);
                    }
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        // For a broadcast this is the address that answers it.
                        received.own = Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        received.own = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical());
                    }
                    _ => {}
                }
                at = libc::CMSG_NXTHDR(&raw const header.msg_hdr, at);
            }
        }
        received
    }

    /// Sends the first of `datagrams`, at most [`BURST`], and returns how many left. An error is that of the first one.
    ///
    /// Neighbours that make a train leave as one. If the kernel refuses that, they leave one by one.
    ///
    /// On a socket without IPv6, a datagram to an IPv6 address is the error `EAFNOSUPPORT`. On a socket that is bound
    /// to none of our addresses, `own` has the addresses that [`Peer::local`] refers to.
    pub(super) fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        ipv6: bool,
        own: Option<&OwnAddresses>,
        datagrams: impl Iterator<Item = &'a mut Datagram>,
    ) -> io::Result<usize> {
        let mut messages = 0;
        let mut train: Option<Train> = None;
        for (piece, datagram) in datagrams.take(BURST).enumerate() {
            let data = datagram.frame.data_mut();
            self.iovecs[piece] = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
            if let Some(train) = &mut train
                && train.takes(datagram)
            {
                self.couple(messages - 1, train.each());
                continue;
            }
            let address = datagram.peer.address();
            let Some(name_len) = self.names[messages].set(address, ipv6) else { break };
            let from = own.and_then(|own| own.get(datagram.peer.local & !Peer::ROCE));
            let control_len = if datagram.ce || from.is_some() {
                self.controls[messages].of(datagram.ce, address.is_ipv4(), ipv6, from)
            } else {
                0
            };
            self.set(messages, (piece, 1), messages, name_len, control_len);
            self.runs[messages] = 1;
            messages += 1;
            train = if self.sends_trains && self.one_by_one == 0 { Train::behind(datagram) } else { None };
        }
        if messages == 0 {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        let result = self.call(fd, messages);
        let first = self.runs.first().copied().unwrap_or_default();
        let left = match result {
            Ok(messages) => {
                let trains = self.runs.iter().take(messages).filter(|run| **run > 1).count();
                self.tally.sent += trains as u64;
                self.runs.iter().take(messages).map(|run| usize::from(*run)).sum()
            }
            Err(error) if first > 1 && refuses_trains(&error) => {
                self.tally.refused += 1;
                self.one_by_one = REFUSAL_LASTS;
                self.uncouple(first.into());
                self.call(fd, first.into())?
            }
            Err(error) => return Err(error),
        };
        self.one_by_one = self.one_by_one.saturating_sub(left as u32);
        Ok(left)
    }

    /// What became of all trains that were to be sent.
    #[inline]
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Adds one more datagram, the next piece, to message `i`: a train of datagrams of `each` bytes.
    fn couple(&mut self, i: usize, each: u16) {
        let message = &mut self.headers[i].msg_hdr;
        message.msg_iovlen += 1;
        if self.runs[i] == 1 {
            message.msg_controllen =
                self.controls[i].push(message.msg_controllen, libc::SOL_UDP, libc::UDP_SEGMENT, each);
        }
        self.runs[i] += 1;
    }

    /// Makes the `len` datagrams of the train that is the first message a message each.
    #[cold]
    fn uncouple(&mut self, len: usize) {
        let first = &self.headers[0].msg_hdr;
        // SAFETY: only computes a length.
        let space = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;
        let (name_len, control_len) = (first.msg_namelen as usize, first.msg_controllen.saturating_sub(space));
        for i in 0..len {
            self.set(i, (i, 1), 0, name_len, control_len);
            self.runs[i] = 1;
        }
    }

    /// Sends the first `messages` messages; returns how many left.
    fn call(&mut self, fd: BorrowedFd<'_>, messages: usize) -> io::Result<usize> {
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // SAFETY: the first `messages` headers were set by `send`, which calls this: each points at the data of frames,
        // which `send` keeps borrowed, and at a name and a control message of `self`, all with their true lengths.
        let n = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers, messages as u32, flags) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

impl Name {
    /// Sets the address and returns its length; `None` when a socket of that family cannot send there.
    fn set(&mut self, address: SocketAddr, ipv6: bool) -> Option<usize> {
        let ip = match address.ip() {
            IpAddr::V4(ip) if !ipv6 => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    sin_zero: [0; 8],
                };
                return Some(size_of::<libc::sockaddr_in>());
            }
            IpAddr::V6(_) if !ipv6 => return None,
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
            sin6_scope_id: 0,
        };
        Some(size_of::<libc::sockaddr_in6>())
    }

    /// The address that the kernel wrote.
    fn address(&self) -> SocketAddr {
        // SAFETY: all variants are integers of the largest variant's initialised bytes; the family says which one
        // the kernel wrote.
        unsafe {
            if self.family == libc::AF_INET6 as libc::sa_family_t {
                let port = u16::from_be(self.v6.sin6_port);
                SocketAddrV6::new(self.v6.sin6_addr.s6_addr.into(), port, 0, self.v6.sin6_scope_id).into()
            } else {
                let ip = self.v4.sin_addr.s_addr.to_ne_bytes();
                SocketAddrV4::new(ip.into(), u16::from_be(self.v4.sin_port)).into()
            }
        }
    }
}
