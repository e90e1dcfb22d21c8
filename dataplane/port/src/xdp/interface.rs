//! The kernel's data about an interface: index, addresses, MTU, receive queues.

use super::error::{NotEthernet, XdpError};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An interface of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in the namespace.
    pub index: u32,
    /// Its Ethernet address; meaningless if [`Interface::check_ethernet`] fails.
    pub mac: [u8; 6],
    /// Its link type, as the kernel numbers it (`ARPHRD_*`).
    pub link_type: u16,
    /// Its first IPv4 address, if it has one.
    pub ipv4: Option<[u8; 4]>,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Receive queues in use; each needs a socket.
    pub rx_queues: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

const ETHTOOL_GCHANNELS: u32 = 0x3c;

impl Interface {
    /// Looks an interface up by name.
    ///
    /// # Errors
    /// The error is [`XdpError::NoInterface`] when the name cannot be one, or no interface here has it. It is
    /// [`XdpError::Os`] when the kernel does not give its index, MTU or Ethernet address.
    pub fn find(name: &str) -> Result<Self, XdpError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
            return Err(XdpError::NoInterface(name.to_owned()));
        }
        let failed = |action| move |source| XdpError::Os { ifname: name.to_owned(), action, source };
        let socket = asking_socket().map_err(failed("make a socket"))?;
        let fd = socket.as_fd();
        let index = ask(fd, bytes, libc::SIOCGIFINDEX).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => XdpError::NoInterface(name.to_owned()),
            _ => failed("read the index")(error),
        })?;
        let mtu = ask(fd, bytes, libc::SIOCGIFMTU).map_err(failed("read the MTU"))?;
        let mac = ask(fd, bytes, libc::SIOCGIFHWADDR).map_err(failed("read the Ethernet address"))?;
        let ipv4 = ask(fd, bytes, libc::SIOCGIFADDR).ok();
        // SAFETY: each call succeeded and filled the member of the union that is its own; all are integers.
        unsafe {
            Ok(Self {
                name: name.to_owned(),
                index: index.ifr_ifru.ifru_ifindex as u32,
                mac: std::array::from_fn(|i| mac.ifr_ifru.ifru_hwaddr.sa_data[i] as u8),
                link_type: mac.ifr_ifru.ifru_hwaddr.sa_family,
                // A `sockaddr_in`: two bytes of port, then the address.
                ipv4: ipv4.map(|ask| std::array::from_fn(|i| ask.ifr_ifru.ifru_addr.sa_data[2 + i] as u8)),
                mtu: mtu.ifr_ifru.ifru_mtu as u32,
                rx_queues: rx_queues(fd, bytes),
            })
        }
    }

    /// Checks that each of its packets has an Ethernet header.
    ///
    /// # Errors
    /// They have none: a tun device, a tunnel, WireGuard, InfiniBand.
    pub fn check_ethernet(&self) -> Result<(), NotEthernet> {
        match self.link_type {
            // Packets of the loopback have an Ethernet header as well, of zeros.
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(()),
            link_type => Err(NotEthernet { ifname: self.name.clone(), link_type }),
        }
    }
}

pub(super) fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: zeros are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(name.iter().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

/// Calls one of the SIOCGIF ioctls, which read the name and fill the union.
pub(super) fn ask(socket: BorrowedFd<'_>, name: &[u8], what: libc::c_ulong) -> io::Result<libc::ifreq> {
    let mut request = request(name);
    // SAFETY: these calls read and write a live `ifreq` and nothing else.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    if result == 0 { Ok(request) } else { Err(io::Error::last_os_error()) }
}

/// Receive queues in use; 1 if the driver does not report any.
pub(super) fn rx_queues(socket: BorrowedFd<'_>, name: &[u8]) -> u32 {
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    let mut request = request(name);
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: the call reads the name and the command, and fills the live structure that `ifru_data` points at.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result == 0 { (channels.rx + channels.combined).max(1) } else { 1 }
}

/// A socket for asking the kernel about interfaces. It has no address: a namespace whose loopback is down has none to
/// give, and the kernel answers nevertheless.
pub(super) fn asking_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_INET, libc::SOCK_DGRAM)
}

/// A fresh AF_XDP socket in the calling thread's network namespace.
pub(super) fn xdp_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_XDP, libc::SOCK_RAW)
}

fn socket(family: i32, kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers only.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known() {
        let lo = Interface::find("lo").unwrap();
        assert_eq!((lo.index, lo.mac, lo.mtu, lo.rx_queues), (1, [0; 6], 65536, 1));
        assert_eq!(lo.ipv4, Some([127, 0, 0, 1]));
        assert_eq!((lo.link_type, lo.check_ethernet()), (libc::ARPHRD_LOOPBACK, Ok(())));
        let error = Interface::find("no-such-if").unwrap_err().to_string();
        assert!(error.contains("`ip -brief link` lists them"), "{error}");
    }
    #[test]
    fn what_is_no_ethernet_is_named() {
        let lo = Interface::find("lo").unwrap();
        let complaint = |link_type| Interface { link_type, ..lo.clone() }.check_ethernet().unwrap_err().to_string();
        for (link_type, part) in [
            (libc::ARPHRD_NONE, "a tun device"),
            (libc::ARPHRD_PPP, "a PPP link"),
            (libc::ARPHRD_SIT, "an IP tunnel"),
            (libc::ARPHRD_INFINIBAND, "an InfiniBand link"),
            (libc::ARPHRD_CAN, "of link type 280"),
        ] {
            let complaint = complaint(link_type);
            let expected = format!("packets of interface lo have no Ethernet header: it is {part}");
            assert!(complaint.starts_with(&expected), "{complaint}");
        }
        let ethernet = Interface { link_type: libc::ARPHRD_ETHER, ..lo.clone() };
        assert_eq!(ethernet.check_ethernet(), Ok(()));
    }
}
