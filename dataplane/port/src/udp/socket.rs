//! Makes a socket: options, buffers, binding, and the MTU of its interface.

use crate::sockopt;
use frame::outbox::SLOW_QUEUES;
use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use wire::net::ipv4::ECN_ECT0;

/// How a socket is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Requested receive buffer, in bytes of memory as the kernel counts it. 0 leaves the system's default.
    pub rcvbuf: u32,
    /// Requested send buffer, likewise.
    pub sndbuf: u32,
    /// The socket is bound to the port of RoCEv2: all datagrams leave ECN-capable, and received ones have
    /// [`frame::Peer::ROCE`].
    pub roce: bool,
    /// Further sockets with the same address for sending to destinations behind slow links; none if the address is
    /// RoCEv2's.
    pub apart: usize,
    /// Largest IP packet, in bytes, of a socket that is bound to no particular interface; 1500 by default. A socket
    /// that is bound to an interface's address has that interface's MTU.
    pub mtu: Option<u16>,
    /// Several datagrams of one sender may come as one message (`UDP_GRO`), if the kernel has that.
    pub coalesce: bool,
    /// Several datagrams to one receiver leave as one message (`UDP_SEGMENT`), if the kernel has that. Off by default:
    /// a receiver on the same machine that takes packets before the kernel cuts them (XDP in mode `skb`, packet
    /// sockets) gets them as one packet.
    pub segment: bool,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            rcvbuf: 8 << 20,
            sndbuf: 8 << 20,
            roce: false,
            apart: SLOW_QUEUES,
            mtu: None,
            coalesce: true,
            segment: false,
        }
    }
}

/// Why a UDP port cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Another socket has the address.
    #[error(
        "udp:{0} is in use: `ss -ulpn sport = :{port}` shows by whom; stop that program or choose another port",
        port = .0.port()
    )]
    InUse(SocketAddr),
    /// No interface has the address.
    #[error("udp:{0}: no interface of this machine has that address; `ip -brief address` lists them")]
    NoSuchAddress(SocketAddr),
    /// The port is below 1024, or a rule forbids it.
    #[error(
        "udp:{0}: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one, or run as root"
    )]
    Denied(SocketAddr),
    /// The kernel has no IPv6, or none of that family.
    #[error("udp:{0}: this kernel has no such address family; use an IPv4 address")]
    Family(SocketAddr),
    /// Anything else.
    #[error("udp:{address}: cannot {action}: {source}")]
    Os {
        /// The address that was asked for.
        address: SocketAddr,
        /// What failed.
        action: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The frames are too small for any datagram.
    #[error("udp:{address}: frames of {chunk} bytes leave no room for a datagram: use chunks of 2048 bytes or more")]
    Chunk {
        /// The address that was asked for.
        address: SocketAddr,
        /// Bytes of a chunk.
        chunk: u32,
    },
}

/// A separate socket has the send buffer divided by this.
const APART: u32 = 8;

/// The sockets of a port on one lcore: the one that receives, and those beside it for destinations behind slow links.
pub struct UdpSockets {
    pub(super) socket: UdpSocket,
    pub(super) apart: Vec<UdpSocket>,
    /// The address that all are bound to.
    pub(super) local: SocketAddr,
}

impl UdpSockets {
    /// Opens the sockets of a port on `address` (port 0: any), bound and nonblocking: those of one lcore, and those of
    /// `further` more lcores; the kernel spreads sources over them.
    ///
    /// The separate sockets are connected to a port that nobody uses, so that the kernel delivers nothing to them; they
    /// can send to anybody nevertheless. They are bound first, before anybody is served. All sockets share the address
    /// by `SO_REUSEADDR`, which is cleared before this returns: no other program can share it later. If there are
    /// several receiving sockets, they (and only they) have `SO_REUSEPORT`: the kernel chooses among them which one
    /// receives from a source.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn open(address: SocketAddr, further: usize, options: UdpOptions) -> Result<(Self, Vec<Self>), UdpError> {
        let failed = |action: &'static str| move |source| UdpError::Os { address, action, source };
        let wanted = if options.roce { 0 } else { options.apart * (1 + further) };
        let (mut bound, mut apart) = (address, Vec::new());
        for _ in 0..wanted {
            // The first one must find the address unused.
            let socket = make(bound, UdpOptions { sndbuf: options.sndbuf / APART, rcvbuf: 0, ..options })?;
            share(socket.as_fd(), !apart.is_empty()).map_err(failed("set SO_REUSEADDR"))?;
            bind_to(socket.as_fd(), bound)?;
            let local = socket.local_addr().map_err(failed("read its address"))?;
            share(socket.as_fd(), true).map_err(failed("set SO_REUSEADDR"))?;
            if let Err(error) = connect_to_nobody(&socket, local) {
                tracing::debug!("udp:{local}: no socket apart for slow destinations: {error}");
                // This one would receive what arrives; without it the address is free again.
                drop(socket);
                break;
            }
            // Port 0 has become a real port.
            bound.set_port(local.port());
            apart.push(socket);
        }
        if apart.is_empty() && further > 0 {
            // With SO_REUSEPORT they would share it with another program of the same user, which took part of what
            // arrives.
            bind_to(make(bound, options)?.as_fd(), bound)?;
        }
        let mut receiving = || {
            let socket = make(bound, options)?;
            share(socket.as_fd(), !apart.is_empty()).map_err(failed("set SO_REUSEADDR"))?;
            sockopt::set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, libc::c_int::from(further > 0))
                .map_err(failed("set SO_REUSEPORT"))?;
            bind_to(socket.as_fd(), bound)?;
            bound.set_port(socket.local_addr().map_err(failed("read its address"))?.port());
            Ok(socket)
        };
        let first = receiving()?;
        let others = (0..further).map(|_| receiving()).collect::<Result<Vec<_>, _>>()?;
        for socket in apart.iter().chain([&first]).chain(&others) {
            share(socket.as_fd(), false).map_err(failed("clear SO_REUSEADDR"))?;
        }
        let each = apart.len() / (1 + further);
        let mut with = |socket| Self { socket, apart: apart.drain(..each).collect(), local: bound };
        Ok((with(first), others.into_iter().map(with).collect()))
    }
}

/// Sets whether other sockets with the same option may share the address of a socket.
fn share(fd: BorrowedFd<'_>, may: bool) -> io::Result<()> {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, libc::c_int::from(may))
}

/// Connects a socket to the discard port, at its own address or at the loopback's: no packet comes from there.
fn connect_to_nobody(socket: &UdpSocket, local: SocketAddr) -> io::Result<()> {
    const DISCARD: u16 = 9;
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    socket.connect(SocketAddr::new(ip, DISCARD))
}

/// A socket with all its options set, nonblocking and not yet bound.
pub(super) fn make(address: SocketAddr, options: UdpOptions) -> Result<UdpSocket, UdpError> {
    let failed = |action: &'static str| move |source| UdpError::Os { address, action, source };
    let ipv6 = address.is_ipv6();
    let (domain, kind) = (
        if ipv6 { libc::AF_INET6 } else { libc::AF_INET },
        libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
    );
    // SAFETY: the call takes integers only.
    let fd = unsafe { libc::socket(domain, kind, 0) };
    if fd < 0 {
        let source = io::Error::last_os_error();
        return Err(match source.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => UdpError::Family(address),
            _ => failed("make a socket")(source),
        });
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let fd = socket.as_fd();

    let on: libc::c_int = 1;
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, on).map_err(failed("set SO_RXQ_OVFL"))?;
    // For IPv6 sockets, too: they carry IPv4 as mapped addresses.
    sockopt::set(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, on).map_err(failed("set IP_RECVTOS"))?;
    let any = address.ip().is_unspecified();
    if any && !ipv6 {
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, on).map_err(failed("set IP_PKTINFO"))?;
    }
    if options.roce {
        let ect0 = libc::c_int::from(ECN_ECT0);
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_TOS, ect0).map_err(failed("set IP_TOS"))?;
    }
    let discover = libc::IP_PMTUDISC_DO;
    sockopt::set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover).map_err(failed("set IP_MTU_DISCOVER"))?;
    if ipv6 {
        let off: libc::c_int = 0;
        sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, off).map_err(failed("clear IPV6_V6ONLY"))?;
        sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, on).map_err(failed("set IPV6_RECVTCLASS"))?;
        if any {
            // Reports IPv4 as well, by mapped addresses.
            sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, on).map_err(failed("set IPV6_RECVPKTINFO"))?;
        }
        let (name, discover) = (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO);
        sockopt::set(fd, libc::IPPROTO_IPV6, name, discover).map_err(failed("set IPV6_MTU_DISCOVER"))?;
    }
    buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.rcvbuf).map_err(failed("set SO_RCVBUF"))?;
    buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.sndbuf).map_err(failed("set SO_SNDBUF"))?;
    Ok(UdpSocket::from(socket))
}

pub(super) fn bind_to(fd: BorrowedFd<'_>, address: SocketAddr) -> Result<(), UdpError> {
    bind(fd, address).map_err(|source| match source.raw_os_error() {
        Some(libc::EADDRINUSE) => UdpError::InUse(address),
        Some(libc::EADDRNOTAVAIL) => UdpError::NoSuchAddress(address),
        Some(libc::EACCES | libc::EPERM) => UdpError::Denied(address),
        _ => UdpError::Os { address, action: "bind", source },
    })
}

/// Requests a buffer: beyond the system's limit with CAP_NET_ADMIN, otherwise up to it.
fn buffer(fd: BorrowedFd<'_>, force: i32, ask: i32, bytes: u32) -> io::Result<()> {
    // The kernel doubles the requested size for its own overhead; `bytes` is the size that it should report.
    let half = i32::try_from(bytes / 2).unwrap_or(i32::MAX);
    if half == 0 || sockopt::set(fd, libc::SOL_SOCKET, force, half).is_ok() {
        return Ok(());
    }
    sockopt::set(fd, libc::SOL_SOCKET, ask, half)
}

/// The size of a buffer as the kernel reports it, in bytes.
pub(super) fn buffer_size(fd: BorrowedFd<'_>, name: i32) -> u32 {
    sockopt::get::<libc::c_int>(fd, libc::SOL_SOCKET, name).map_or(0, |bytes| bytes.max(0) as u32)
}

fn bind(fd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let result = match address {
        SocketAddr::V4(address) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a live address of the length that is given.
            unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) }
        }
        SocketAddr::V6(address) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: a live address of the length that is given.
            unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) }
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The MTU of Ethernet: assumed for a socket that is bound to no particular interface.
const ETHERNET_MTU: u16 = 1500;

/// The MTU of the interface that has the address of a socket; for the unspecified address the configured one, or 1500.
pub(super) fn mtu(fd: BorrowedFd<'_>, ip: IpAddr, said: Option<u16>) -> u16 {
    if ip.is_unspecified() {
        return said.unwrap_or(ETHERNET_MTU);
    }
    let mtu = interface_of(ip).and_then(|name| interface_mtu(fd, &name));
    match mtu {
        Some(mtu) => u16::try_from(mtu).unwrap_or(u16::MAX),
        // All of 127.0.0.0/8 belongs to the loopback, although it lists one address.
        None if ip.is_loopback() => u16::MAX,
        None => ETHERNET_MTU,
    }
}

/// The name of the interface that has `ip`.
fn interface_of(ip: IpAddr) -> Option<[libc::c_char; libc::IFNAMSIZ]> {
    let mut list: *mut libc::ifaddrs = null_mut();
    // SAFETY: the call writes the head of a list that it allocates.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return None;
    }
    let mut found = None;
    let mut at = list;
    // SAFETY: `at` is null or an entry of the list, which is freed below.
    while let Some(entry) = unsafe { at.as_ref() } {
        // SAFETY: `ifa_addr` is null or an address of this entry.
        let address = unsafe { entry.ifa_addr.as_ref() }.and_then(|address| {
            // SAFETY: the family says which structure the address really is.
            unsafe {
                match i32::from(address.sa_family) {
                    libc::AF_INET => {
                        let v4 = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                        Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
                    }
                    libc::AF_INET6 => {
                        let v6 = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                        Some(IpAddr::from(v6.sin6_addr.s6_addr))
                    }
                    _ => None,
                }
            }
        });
        if address == Some(ip) {
            // SAFETY: the kernel's interface names are strings that end with a zero byte.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            let mut copy = [0; libc::IFNAMSIZ];
            for (to, &from) in copy.iter_mut().zip(name.to_bytes().iter().take(libc::IFNAMSIZ - 1)) {
                *to = from as libc::c_char;
            }
            found = Some(copy);
            break;
        }
        at = entry.ifa_next;
    }
    // SAFETY: the list that `getifaddrs` made; nothing points into it any more.
    unsafe { libc::freeifaddrs(list) };
    found
}

fn interface_mtu(fd: BorrowedFd<'_>, name: &[libc::c_char; libc::IFNAMSIZ]) -> Option<i32> {
    // SAFETY: zeros are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_name = *name;
    // SAFETY: SIOCGIFMTU reads the name of a live `ifreq` and writes its `ifru_mtu`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so that the union holds the MTU.
    Some(unsafe { request.ifr_ifru.ifru_mtu })
}
