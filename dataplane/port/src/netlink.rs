//! The kernel's messages about routes, neighbours, interfaces and addresses (rtnetlink), as far as this crate needs
//! them.

use std::collections::BTreeSet;
use std::io;
use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An IPv4 address.
pub(crate) type Ip4 = [u8; 4];
/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// `struct nlmsghdr`, `struct rtmsg` and `struct ndmsg`, `struct ifaddrmsg`, `struct ifinfomsg`: 16, 12 and 12, 8, 16
/// bytes.
const HEADER: usize = 16;
const BODY: usize = 12;
const ADDRESS_BODY: usize = 8;
const INTERFACE_BODY: usize = 16;
/// Bytes of the largest message: one about an interface.
const LARGEST: usize = 16_384;

/// States of a neighbour in which its address is known: reachable, stale, delay, probe, noarp, permanent.
const NUD_KNOWN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
/// Those states in which the kernel is sure of the address.
const NUD_FRESH: u16 = 0x02 | 0x08 | 0x10 | 0x40 | 0x80;
/// Use the entry: the kernel asks on the wire if it does not know the address or is no longer sure of it.
const NTF_USE: u8 = 0x01;

/// A neighbour, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) mac: Mac,
    /// Whether the kernel is still sure of it.
    pub(crate) fresh: bool,
}

/// The first hop of a datagram to some address, and the source address that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) ip: Ip4,
    /// The address that the kernel would send from.
    pub(crate) source: Option<Ip4>,
}

/// An interface, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Its Ethernet address; zeros when it has none.
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    /// `IFF_UP` and its like.
    flags: i32,
}

impl Device {
    /// Whether an administrator has set it up.
    pub(crate) fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP != 0
    }

    /// Whether packets can pass once it is up. Interfaces without a carrier, such as the loopback, always report one.
    pub(crate) fn has_carrier(&self) -> bool {
        self.flags & libc::IFF_LOWER_UP != 0 && self.flags & libc::IFF_DORMANT == 0
    }

    /// Whether the kernel sends on it. This takes up to a second after the interface is up and has a carrier; in that
    /// time the kernel drops what sockets send, without an error. True if the operational state is unknown, as for the
    /// loopback.
    pub(crate) fn is_operational(&self) -> bool {
        self.flags & libc::IFF_RUNNING != 0
    }

    /// Whether it leads to this machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK != 0
    }
}

/// A socket to the kernel's tables. It waits for answers for at most a second.
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

/// Opens a netlink socket that listens to these groups.
fn open(groups: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers only.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zeros are a valid `sockaddr_nl`.
    let mut address: libc::sockaddr_nl = unsafe { zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = groups;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: a live address of the length that is given.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if result == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

/// A socket that becomes readable when something changes that these groups (`RTMGRP_*`) report.
pub(crate) fn changes(groups: i32) -> io::Result<OwnedFd> {
    open(groups as u32)
}

/// Reads and discards all that waits in a socket of [`changes`]; the caller asks for the present state.
pub(crate) fn discard(fd: BorrowedFd<'_>) {
    let mut buffer = [0; 8192];
    // It continues also when the kernel reports lost messages: the caller asks for everything that changed.
    while receive(fd, &mut buffer, libc::MSG_DONTWAIT).is_ok_and(|len| len > 0) {}
}

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length into the live buffer.
    let len = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

/// A request: header, body and attributes.
struct Request(Vec<u8>);

impl Request {
    fn new<const N: usize>(kind: u16, flags: i32, body: [u8; N]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        bytes.extend(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: [u8; 4]) -> Self {
        self.0.extend(8u16.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// The body of a message about a neighbour of an interface.
fn ndmsg(interface: u32, flags: u8) -> [u8; BODY] {
    let mut body = [0; BODY];
    body[0] = libc::AF_INET as u8;
    body[4..8].copy_from_slice(&interface.to_ne_bytes());
    body[10] = flags;
    body
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let fd = open(0)?;
        let patience = libc::timeval { tv_sec: 1, tv_usec: 0 };
        let len = size_of_val(&patience) as libc::socklen_t;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
        // SAFETY: the kernel reads `len` bytes from a live value of that size.
        let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const patience).cast(), len) };
        if result == 0 { Ok(Self { fd, sequence: 0 }) } else { Err(io::Error::last_os_error()) }
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        // SAFETY: the kernel reads the live bytes.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends a request and returns the kernel's answer to it: the message with its header.
    fn ask(&mut self, request: Request) -> io::Result<Vec<u8>> {
        self.send(request)?;
        let mut buffer = [0; LARGEST];
        loop {
            let len = receive(self.fd.as_fd(), &mut buffer, 0)?;
            // Late answers to earlier requests are skipped.
            if let Some(message) = answer(buffer.get(..len).unwrap_or(&[]), self.sequence)? {
                return Ok(message.to_vec());
            }
        }
    }

    /// Asks for a whole table, and visits each message about one of its entries.
    fn dump<const N: usize>(&mut self, kind: u16, body: [u8; N], mut visit: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.send(Request::new(kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, body))?;
        let mut buffer = vec![0; 2 * LARGEST];
        loop {
            let len = receive(self.fd.as_fd(), &mut buffer, 0)?;
            if read_dump(buffer.get(..len).unwrap_or(&[]), self.sequence, &mut visit) {
                return Ok(());
            }
        }
    }

    /// The IPv4 addresses of an interface, the first one first.
    pub(crate) fn addresses(&mut self, interface: u32) -> io::Result<Vec<Ip4>> {
        let mut found = Vec::new();
        self.dump(libc::RTM_GETADDR, ifaddrmsg(libc::AF_INET), |kind, message| {
            found.extend(read_address(kind, message).filter(|(index, _)| *index == interface).and_then(|(_, ip)| {
                match ip {
                    IpAddr::V4(ip) => Some(ip.octets()),
                    IpAddr::V6(_) => None,
                }
            }));
        })?;
        Ok(found)
    }

    /// The interface that has an address, if one has it.
    pub(crate) fn interface_with(&mut self, ip: IpAddr) -> io::Result<Option<u32>> {
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let mut found = None;
        self.dump(libc::RTM_GETADDR, ifaddrmsg(family), |kind, message| {
            found = found.or(read_address(kind, message).filter(|(_, has)| *has == ip).map(|(index, _)| index));
        })?;
        Ok(found)
    }

    /// The interfaces that have IPv4 addresses, by their numbers.
    pub(crate) fn interfaces_with_addresses(&mut self) -> io::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        self.dump(libc::RTM_GETADDR, ifaddrmsg(libc::AF_INET), |kind, message| {
            found.extend(read_address(kind, message).map(|(index, _)| index));
        })?;
        Ok(found)
    }

    /// The kernel's data about an interface; `None` when it does not exist.
    pub(crate) fn device(&mut self, interface: u32) -> io::Result<Option<Device>> {
        let mut body = [0; INTERFACE_BODY];
        body[4..8].copy_from_slice(&interface.to_ne_bytes());
        match self.ask(Request::new(libc::RTM_GETLINK, libc::NLM_F_REQUEST, body)) {
            Ok(answer) => Ok(read_device(&answer)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces of the network namespace.
    pub(crate) fn devices(&mut self) -> io::Result<Vec<Device>> {
        let mut found = Vec::new();
        self.dump(libc::RTM_GETLINK, [0; INTERFACE_BODY], |kind, message| {
            if kind == libc::RTM_NEWLINK {
                found.extend(read_device(message));
            }
        })?;
        Ok(found)
    }

    /// The next hop towards an address if it leaves by this interface: the address itself, or a router.
    pub(crate) fn next_hop(&mut self, interface: u32, ip: Ip4) -> io::Result<Hop> {
        let mut body = [0; BODY];
        // Family, and the bits of the destination that count.
        (body[0], body[1]) = (libc::AF_INET as u8, 32);
        let request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_REQUEST, body)
            .attribute(libc::RTA_DST, ip)
            .attribute(libc::RTA_OIF, interface.to_ne_bytes());
        let answer = self.ask(request)?;
        let address = |kind| attribute(&answer, BODY, kind).and_then(|value| value.try_into().ok());
        Ok(Hop { ip: address(libc::RTA_GATEWAY).unwrap_or(ip), source: address(libc::RTA_PREFSRC) })
    }

    /// The kernel's data about a neighbour.
    pub(crate) fn neighbour(&mut self, interface: u32, ip: Ip4) -> io::Result<Option<Neighbour>> {
        let request =
            Request::new(libc::RTM_GETNEIGH, libc::NLM_F_REQUEST, ndmsg(interface, 0)).attribute(libc::NDA_DST, ip);
        match self.ask(request) {
            Ok(answer) => Ok(read_neighbour(&answer)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel ask on the wire for a neighbour that it does not know or is not sure of.
    pub(crate) fn seek(&mut self, interface: u32, ip: Ip4) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let request = Request::new(libc::RTM_NEWNEIGH, flags, ndmsg(interface, NTF_USE)).attribute(libc::NDA_DST, ip);
        self.ask(request).map(drop)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The answer with this sequence number in a datagram of the kernel, if it is there. An acknowledgement is an empty
/// answer.
fn answer(mut bytes: &[u8], sequence: u32) -> io::Result<Option<&[u8]>> {
    while let (Some(len), Some(kind), Some(number)) = (u32_at(bytes, 0), u16_at(bytes, 4), u32_at(bytes, 8)) {
        let Some(message) = bytes.get(..len as usize).filter(|message| message.len() >= HEADER) else { break };
        if number == sequence {
            if kind != libc::NLMSG_ERROR as u16 {
                return Ok(Some(message));
            }
            // The error number, negative; zero is the acknowledgement.
            return match u32_at(message, HEADER).map(|code| code as i32) {
                Some(0) => Ok(Some(&[])),
                Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        bytes = bytes.get((len as usize).next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(None)
}

/// The body of a question about addresses of a family.
fn ifaddrmsg(family: i32) -> [u8; ADDRESS_BODY] {
    let mut body = [0; ADDRESS_BODY];
    body[0] = family as u8;
    body
}

/// Visits kind and bytes of each message with this sequence number in a part of a dump; returns whether it was the last
/// part.
fn read_dump(mut bytes: &[u8], sequence: u32, visit: &mut impl FnMut(u16, &[u8])) -> bool {
    while let (Some(len), Some(kind), Some(number)) = (u32_at(bytes, 0), u16_at(bytes, 4), u32_at(bytes, 8)) {
        let Some(message) = bytes.get(..len as usize).filter(|message| message.len() >= HEADER) else { break };
        if number == sequence {
            if matches!(i32::from(kind), libc::NLMSG_DONE | libc::NLMSG_ERROR) {
                return true;
            }
            visit(kind, message);
        }
        bytes = bytes.get((len as usize).next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

/// Reads a message about an address: the interface that has it, and the address.
fn read_address(kind: u16, message: &[u8]) -> Option<(u32, IpAddr)> {
    if kind != libc::RTM_NEWADDR {
        return None;
    }
    // On a point-to-point interface, IFA_ADDRESS is the address of the other end.
    let of = |kind| attribute(message, ADDRESS_BODY, kind);
    let value = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
    let v4 = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(value).ok().map(IpAddr::from);
    Some((u32_at(message, HEADER + 4)?, v4().or_else(v6)?))
}

/// Reads a message about an interface.
fn read_device(message: &[u8]) -> Option<Device> {
    let of = |kind| attribute(message, INTERFACE_BODY, kind);
    let name = of(libc::IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or(name);
    Some(Device {
        index: u32_at(message, HEADER + 4)?,
        name: String::from_utf8_lossy(name).into_owned(),
        // An interface that is not Ethernet has a longer address, a shorter one, or none.
        mac: of(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        mtu: of(libc::IFLA_MTU).and_then(|mtu| u32_at(mtu, 0))?,
        flags: u32_at(message, HEADER + 8)? as i32,
    })
}

/// The value of an attribute behind header and body.
fn attribute(message: &[u8], body: usize, wanted: u16) -> Option<&[u8]> {
    let mut attributes = message.get(HEADER + body..)?;
    while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(4..usize::from(len))?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(usize::from(len).next_multiple_of(4)..)?;
    }
    None
}

/// Reads a neighbour; `None` when its address is not known.
fn read_neighbour(message: &[u8]) -> Option<Neighbour> {
    let state = u16_at(message, HEADER + 8)?;
    let mac = attribute(message, BODY, libc::NDA_LLADDR)?.try_into().ok()?;
    (state & NUD_KNOWN != 0).then_some(Neighbour { mac, fresh: state & NUD_FRESH != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + rest.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn the_kernel_answers() {
        let mut netlink = Netlink::open().unwrap();
        // The loopback is interface 1 in every namespace; nothing there has a router.
        let here = [127, 0, 0, 1];
        let hop = Hop { ip: [127, 0, 0, 9], source: Some(here) };
        assert_eq!(netlink.next_hop(1, [127, 0, 0, 9]).unwrap(), hop);
        assert_eq!(netlink.addresses(1).unwrap().first(), Some(&here));
        assert_eq!(netlink.addresses(u32::MAX).unwrap(), [[0; 4]; 0]);
        assert_eq!(netlink.interface_with(here.into()).unwrap(), Some(1));
        assert_eq!(netlink.interface_with([192, 0, 2, 77].into()).unwrap(), None);
        // The loopback has no carrier: its operational state is unknown, and packets pass.
        let lo = netlink.device(1).unwrap().unwrap();
        assert!(lo.name == "lo" && lo.is_up() && lo.has_carrier() && lo.is_operational() && lo.is_loopback(), "{lo:?}");
        assert!(netlink.devices().unwrap().contains(&lo));
        // Not the largest number: the kernel refuses a negative number as invalid.
        assert_eq!(netlink.device(i32::MAX as u32).unwrap(), None);
        assert_eq!(netlink.neighbour(1, [192, 0, 2, 77]).unwrap(), None);
        assert!(netlink.neighbour(u32::MAX, [192, 0, 2, 77]).is_err());
    }

    #[test]
    fn errors_and_acknowledgements_are_told_apart() {
        let error = libc::NLMSG_ERROR as u16;
        let late = message(error, 6, &(-libc::ENOENT).to_ne_bytes());
        let mut bytes = late.clone();
        bytes.extend(message(error, 7, &0i32.to_ne_bytes()));
        assert_eq!(answer(&bytes, 7).unwrap(), Some(&[][..]));
        assert_eq!(answer(&bytes, 6).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(answer(&late, 7).unwrap(), None);
    }

    #[test]
    fn lying_lengths_end_the_reading() {
        for len in [0u32, 3, 15, 4000] {
            let mut bytes = message(libc::RTM_NEWNEIGH, 1, &[0; BODY]);
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(answer(&bytes, 1).unwrap(), None, "{len}");
        }
        let mut body = ndmsg(1, 0).to_vec();
        body.extend([200, 0, 2, 0, 1]);
        assert_eq!(attribute(&message(libc::RTM_NEWNEIGH, 1, &body), BODY, 2), None);
        assert_eq!(attribute(&message(libc::RTM_NEWNEIGH, 1, &ndmsg(1, 0)), BODY, 2), None);
    }

    #[test]
    fn a_dump_is_read_to_its_end() {
        let address = |interface: u32, last: u8| {
            let mut body = vec![libc::AF_INET as u8, 24, 0, 0];
            body.extend(interface.to_ne_bytes());
            body.extend([8, 0, libc::IFA_ADDRESS as u8, 0, 192, 0, 2, 255]);
            body.extend([8, 0, libc::IFA_LOCAL as u8, 0, 192, 0, 2, last]);
            message(libc::RTM_NEWADDR, 5, &body)
        };
        let mut found = Vec::new();
        let mut read = |bytes: &[u8], sequence| {
            read_dump(bytes, sequence, &mut |kind, message: &[u8]| found.extend(read_address(kind, message)))
        };
        let part = [address(3, 1), address(4, 2), address(3, 3)].concat();
        assert!(!read(&part, 5));
        assert!(!read(&part, 6));
        let end = [address(3, 4), message(libc::NLMSG_DONE as u16, 5, &[0; 4]), address(3, 5)].concat();
        assert!(read(&end, 5));
        assert!(!read(&end[..30], 5));
        let has = |interface, last| (interface, IpAddr::from([192, 0, 2, last]));
        assert_eq!(found, [has(3, 1), has(4, 2), has(3, 3), has(3, 4)]);
    }

    #[test]
    fn an_interface_without_a_carrier_is_told_from_one_that_is_down() {
        let of = |flags: i32| {
            let mut body = vec![0; 4];
            body.extend(7u32.to_ne_bytes());
            body.extend(flags.to_ne_bytes());
            body.extend([0; 4]);
            body.extend([9, 0, libc::IFLA_IFNAME as u8, 0, b'e', b't', b'h', b'7', 0, 0, 0, 0]);
            body.extend([8, 0, libc::IFLA_MTU as u8, 0]);
            body.extend(1400u32.to_ne_bytes());
            read_device(&message(libc::RTM_NEWLINK, 1, &body)).unwrap()
        };
        let device = of(libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOWER_UP);
        assert_eq!((device.index, &*device.name, device.mac, device.mtu), (7, "eth7", [0; 6], 1400));
        assert!(device.is_up() && device.has_carrier() && device.is_operational() && !device.is_loopback());
        assert!(!of(libc::IFF_UP | libc::IFF_LOWER_UP).is_operational());
        let unplugged = of(libc::IFF_UP);
        assert!(unplugged.is_up() && !unplugged.has_carrier());
        assert!(!of(libc::IFF_UP | libc::IFF_LOWER_UP | libc::IFF_DORMANT).has_carrier() && !of(0).is_up());
    }

    #[test]
    fn only_a_neighbour_with_an_address_is_known() {
        let of = |state: u16, mac: bool| {
            let mut body = ndmsg(1, 0).to_vec();
            body[8..10].copy_from_slice(&state.to_ne_bytes());
            if mac {
                body.extend([10, 0, libc::NDA_LLADDR as u8, 0, 2, 0, 0, 0, 0, 9, 0, 0]);
            }
            read_neighbour(&message(libc::RTM_NEWNEIGH, 1, &body))
        };
        let mac = [2, 0, 0, 0, 0, 9];
        // Reachable, stale, incomplete, failed.
        assert_eq!(of(0x02, true), Some(Neighbour { mac, fresh: true }));
        assert_eq!(of(0x04, true), Some(Neighbour { mac, fresh: false }));
        assert_eq!((of(0x01, false), of(0x20, true)), (None, None));
    }
}
