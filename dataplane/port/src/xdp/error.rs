//! Why an XDP port cannot be made.

use std::io;

/// See the module's documentation.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// There is no such interface.
    #[error("there is no interface `{0}` here: `ip -brief link` lists them (each network namespace has its own)")]
    NoInterface(String),
    /// The interface has no IPv4 address.
    #[error("interface {0} has no IPv4 address: give it one with `ip address add ADDR/LEN dev {0}`")]
    NoAddress(String),
    /// The interface has no Ethernet headers.
    #[error(
        "{0}; AF_XDP ports need Ethernet: use a udp: port with an address of {ifname}, or a device with Ethernet \
         headers, as a \
         tap is and a tun is not",
        ifname = .0.ifname
    )]
    NotEthernet(#[from] NotEthernet),
    /// The process lacks a capability.
    #[error("no permission to {action} on {ifname}: AF_XDP needs CAP_NET_RAW; run as root, or use a udp: port")]
    Permission {
        /// Name of the interface.
        ifname: String,
        /// What was forbidden.
        action: &'static str,
    },
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): use a udp: port")]
    NoAfXdp,
    /// The arena's frames do not fit AF_XDP.
    #[error("AF_XDP needs frames of 2048 bytes, or of 4096 or a multiple of it, not of {0}")]
    Chunk(u32),
    /// The ring's size is not a valid one.
    #[error("an AF_XDP ring has a power of two of entries from 64 to 32768, not {0}")]
    Ring(u32),
    /// The memory cannot be pinned.
    #[error(
        "the kernel cannot pin the arena's {bytes} bytes for AF_XDP: {source}; raise the limit of locked memory with \
         `ulimit -l unlimited`, or give the program CAP_IPC_LOCK"
    )]
    Register {
        /// Size of the arena.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another socket has the queue.
    #[error(
        "queue {queue} of {ifname} is in use by another AF_XDP socket: is another gvm-dp running on it, or is it named \
         twice?"
    )]
    Busy {
        /// Name of the interface.
        ifname: String,
        /// The queue.
        queue: u32,
    },
    /// There is no such queue.
    #[error("{ifname} has no queue {queue}: `ethtool -l {ifname}` shows how many it has")]
    NoQueue {
        /// Name of the interface.
        ifname: String,
        /// The queue.
        queue: u32,
    },
    /// The driver has no zero-copy.
    #[error(
        "{ifname} cannot do AF_XDP zero-copy (its driver has none, or none at this MTU, or it shares its arena with a \
         port in copy mode): use mode=auto"
    )]
    NoZeroCopy {
        /// Name of the interface.
        ifname: String,
    },
    /// The driver has zero-copy, but not for packets that are larger than a page.
    #[error(
        "{ifname} can do AF_XDP zero-copy, but not with packets larger than a page, which come in pieces: `ip link set \
         dev \
         {ifname} mtu {most}` on all hosts of that network, or use mode=auto"
    )]
    NoZeroCopyChains {
        /// Name of the interface.
        ifname: String,
        /// The largest MTU for which it has zero-copy.
        most: u16,
    },
    /// The kernel or the driver does not support chains.
    #[error(
        "{ifname}: the kernel or the driver cannot do AF_XDP with packets larger than a page (multi-buffer, Linux \
         6.6): \
         `ip link set dev {ifname} mtu 3804`, on all hosts of that network, or use a udp: port"
    )]
    NoChains {
        /// Name of the interface.
        ifname: String,
    },
    /// The pool has too few frames to receive into.
    #[error(
        "the arena has {free} free frames, too few for a ring of {ring} on {ifname}: ask for more frames or smaller \
         rings"
    )]
    Frames {
        /// Name of the interface.
        ifname: String,
        /// Frames that are free.
        free: u32,
        /// Entries of a ring.
        ring: u32,
    },
    /// A receive offload breaks the path and cannot be turned off.
    #[error(
        "{ifname}: {option} is on and gvm-dp cannot turn it off: it hides from XDP what was on the wire; try \
         `ethtool -K {ifname} {option} off`, or use a udp: port"
    )]
    Offload {
        /// Name of the interface.
        ifname: String,
        /// Its name for `ethtool -K`.
        option: &'static str,
    },
    /// Anything else.
    #[error("AF_XDP on {ifname}: cannot {action}: {source}")]
    Os {
        /// Name of the interface.
        ifname: String,
        /// What failed.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl XdpError {
    pub(super) fn os(ifname: &str, action: &'static str, source: io::Error) -> Self {
        let ifname = ifname.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { ifname, action },
            Some(libc::EAFNOSUPPORT) => Self::NoAfXdp,
            _ => Self::Os { ifname, action, source },
        }
    }

    pub(super) fn register(bytes: usize, source: io::Error) -> Self {
        Self::Register { bytes, source }
    }

    /// The error for a queue of an interface with `rx_queues` queues that cannot be bound.
    pub(super) fn bind(ifname: &str, rx_queues: u32, queue: u32, chains: bool, source: io::Error) -> Self {
        let ifname = ifname.to_owned();
        match source.raw_os_error() {
            Some(libc::EBUSY) => Self::Busy { ifname, queue },
            Some(libc::EINVAL) if queue >= rx_queues => Self::NoQueue { ifname, queue },
            Some(libc::EINVAL | libc::EOPNOTSUPP) if chains => Self::NoChains { ifname },
            // This is the kernel's error for a second socket of the same arena on one queue.
            Some(libc::EINVAL) => Self::Busy { ifname, queue },
            Some(libc::EOPNOTSUPP) => Self::NoZeroCopy { ifname },
            Some(libc::ENODEV) => Self::NoInterface(ifname),
            _ => Self::os(&ifname, "bind", source),
        }
    }
}

/// An interface whose packets have no Ethernet header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packets of interface {ifname} have no Ethernet header: it is {}", what_it_is(*.link_type))]
pub struct NotEthernet {
    /// Its name.
    pub ifname: String,
    /// Its link type, as the kernel numbers it (`ARPHRD_*`).
    pub link_type: u16,
}

fn what_it_is(link_type: u16) -> String {
    let name = match link_type {
        libc::ARPHRD_NONE => "a tun device, WireGuard or the like",
        libc::ARPHRD_PPP => "a PPP link",
        libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT | libc::ARPHRD_IPGRE => "an IP tunnel",
        libc::ARPHRD_INFINIBAND => "an InfiniBand link",
        libc::ARPHRD_IEEE80211 | libc::ARPHRD_IEEE80211_PRISM | libc::ARPHRD_IEEE80211_RADIOTAP => {
            "a radio in monitor mode"
        }
        other => return format!("of link type {other}"),
    };
    name.to_owned()
}
