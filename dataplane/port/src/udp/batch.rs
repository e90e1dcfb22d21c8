//! Many datagrams in one call: `recvmmsg` into frames, `sendmmsg` from frames.

use super::own::OwnAddresses;
use frame::{BURST, Datagram, Frame, Peer};
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use wire::net::ipv4::ECN_CE;

/// A socket address of either family.
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for the control messages of one datagram: ECN bits and the overflow counter, each 24 bytes, and one of our own
/// addresses, 40 bytes.
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

/// The kernel's data about a received datagram, besides its bytes.
pub(super) struct Received {
    pub(super) len: usize,
    /// It was longer than the frame; the rest is lost.
    pub(super) truncated: bool,
    pub(super) source: SocketAddr,
    /// It arrived with the mark Congestion Experienced.
    pub(super) ce: bool,
    /// Datagrams that the socket dropped since it was made, modulo 2^32, if any.
    pub(super) overflows: Option<u32>,
    /// To which of our addresses it came, if the socket reports that.
    pub(super) own: Option<IpAddr>,
}

/// The kernel's view of up to [`BURST`] datagrams; allocated once.
///
/// The pointers in it are only used by the call that sets them.
pub(super) struct Batch {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: null pointers and zero lengths are valid values of these C structs.
        let (header, iovec): (libc::mmsghdr, libc::iovec) = unsafe { (zeroed(), zeroed()) };
        Self {
            headers: vec![header; BURST].into(),
            iovecs: vec![iovec; BURST].into(),
            // SAFETY: all zeros is a valid `sockaddr_in6`, the largest variant.
            names: (0..BURST).map(|_| Name { v6: unsafe { zeroed() } }).collect(),
            controls: vec![Control([0; 128]); BURST].into(),
        }
    }

    /// Points entry `i` at `len` bytes and at its own name and control message.
    fn set(&mut self, i: usize, base: *mut u8, len: usize, name_len: usize, control_len: usize) {
        self.iovecs[i] = libc::iovec { iov_base: base.cast(), iov_len: len };
        let header = &mut self.headers[i];
        header.msg_len = 0;
        let message = &mut header.msg_hdr;
        message.msg_iov = &raw mut self.iovecs[i];
        message.msg_iovlen = 1;
        message.msg_name = (&raw mut self.names[i]).cast();
        message.msg_namelen = name_len as libc::socklen_t;
        message.msg_control = (&raw mut self.controls[i]).cast();
        message.msg_controllen = control_len;
        message.msg_flags = 0;
    }

    /// Receives into the tailrooms of `frames`, in order; at most [`BURST`]. [`Batch::received`] returns the other
    /// data.
    pub(super) fn receive<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        frames: impl Iterator<Item = &'a mut Frame>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (i, frame) in frames.take(BURST).enumerate() {
            let tail = frame.tail_mut();
            self.set(i, tail.as_mut_ptr(), tail.len(), size_of::<Name>(), size_of::<Control>());
            count = i + 1;
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: the first `count` headers were just set: each points at the tailroom of a frame, which `'a` keeps
        // borrowed during this call, and at a name and a control buffer of `self`, all with their true lengths.
        let n = unsafe { libc::recvmmsg(fd.as_raw_fd(), headers, count as u32, flags, std::ptr::null_mut()) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// The data about datagram `i` of the last [`Batch::receive`], which returned more than `i`.
    pub(super) fn received(&self, i: usize) -> Received {
        let header = &self.headers[i];
        let mut received = Received {
            len: header.msg_len as usize,
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
    /// On a socket without IPv6, a datagram to an IPv6 address is the error `EAFNOSUPPORT`. On a socket that is bound
    /// to none of our addresses, `own` has the addresses that [`Peer::local`] refers to.
    pub(super) fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        ipv6: bool,
        own: Option<&OwnAddresses>,
        datagrams: impl Iterator<Item = &'a mut Datagram>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (i, datagram) in datagrams.take(BURST).enumerate() {
            let address = datagram.peer.address();
            let Some(name_len) = self.names[i].set(address, ipv6) else { break };
            let from = own.and_then(|own| own.get(datagram.peer.local & !Peer::ROCE));
            let control_len = if datagram.ce || from.is_some() {
                self.controls[i].of(datagram.ce, address.is_ipv4(), ipv6, from)
            } else {
                0
            };
            let data = datagram.frame.data_mut();
            self.set(i, data.as_mut_ptr(), data.len(), name_len, control_len);
            count = i + 1;
        }
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // SAFETY: the first `count` headers were just set: each points at the data of a frame, which `'a` keeps
        // borrowed during this call, and at a name and a control message of `self`, all with their true lengths.
        let n = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers, count as u32, flags) };
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
