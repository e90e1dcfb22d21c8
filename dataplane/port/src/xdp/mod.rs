//! One receive queue of an interface through AF_XDP, with the lcore's arena as its memory.
//!
//! The socket layer is our own, over `libc`: the arena is one memory for all ports of an lcore, whatever their kind, so
//! it must own its mapping and lend it to the kernel. See "Arena" in `docs/architecture.md`.
//!
//! | module | what |
//! |---|---|
//! | `umem` | the arena as AF_XDP sees it; sockets that share it |
//! | `ring` | the four rings of a socket |
//! | `socket` | making, binding and waking a socket |
//! | `mode` | zero-copy or copy: asked for, and got |
//! | `probe` | whether a driver has zero-copy |
//! | `offload` | what a NIC does to packets that XDP must not miss |
//! | `ledger` | which frames the kernel has, and getting them back |
//! | `places` | where frames are in the UMEM |
//! | `chain` | packets that come in several descriptors |
//! | `interface` | an interface's index, addresses, MTU, queues |
//! | `number` | interfaces by their number, whatever they are called |
//! | `port` | the [`crate::Port`]: headers off on receive, headers on to send |
//! | `counters` | what a queue counts |
//! | `queues` | the queues of an interface that one lcore serves, as one port |
//! | `about` | what is said about them |

mod about;
mod chain;
mod counters;
mod interface;
mod kick;
mod ledger;
mod mode;
mod number;
mod offload;
mod places;
mod port;
mod probe;
mod queues;
mod ring;
mod socket;
mod umem;

pub use counters::XdpCounters;
pub use interface::{Interface, NotEthernet};
pub use mode::BoundMode;
pub(crate) use number::rx_queues_of;
pub use offload::Offloads;
pub use places::has_chains;
pub use port::{XdpPort, largest_packet, largest_packet_zero_copy};
pub use probe::can_zero_copy;
pub use queues::XdpQueues;
pub use umem::Umem;

use crate::headers::Local;
use crate::spec::XdpMode;
use crate::vlans::Vlans;
use std::io;
use std::sync::Arc;

/// What an XDP port is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    /// Name of the interface, in the calling thread's network namespace.
    pub ifname: String,
    /// Its receive and transmit queue.
    pub queue: u32,
    /// How packets move.
    pub mode: XdpMode,
    /// The port's addresses, as long as [`XdpPort::follow`] says no others.
    pub local: Local,
    /// The largest IP packet of the link, in bytes, likewise.
    pub mtu: u16,
    /// The VLANs that it takes packets from; the XDP program must have the same.
    pub vlans: Arc<Vlans>,
    /// Entries of each of the four rings, a power of two; as many frames wait to be received into.
    pub ring: u32,
}

impl XdpConfig {
    /// Defaults for a queue of an interface, with the interface's own addresses and MTU.
    ///
    /// # Errors
    /// The interface has no Ethernet headers, or no IPv4 address.
    pub fn of(interface: &Interface, queue: u32) -> Result<Self, XdpError> {
        interface.check_ethernet()?;
        Ok(Self {
            ifname: interface.name.clone(),
            queue,
            mode: XdpMode::Auto,
            local: Local {
                mac: interface.mac,
                ip: interface.ipv4.ok_or_else(|| XdpError::NoAddress(interface.name.clone()))?,
                udp_port: wire::GATEWAY_PORT,
            },
            mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX),
            vlans: Arc::default(),
            ring: 2048,
        })
    }
}

/// Why there is no XDP port.
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
        "{0}; AF_XDP ports need Ethernet: use a udp: port with an address of {ifname}, or a device with Ethernet headers, as a \
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
    /// The arena's frames do not suit AF_XDP.
    #[error("AF_XDP needs frames of 2048 bytes, or of 4096 or a multiple of it, not of {0}")]
    Chunk(u32),
    /// The ring's size is not one.
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
        "queue {queue} of {ifname} is in use by another AF_XDP socket: is another gvm-dp running on it, or is it named twice?"
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
        "{ifname} cannot do AF_XDP zero-copy (its driver has none, or it shares its arena with a port in copy mode): \
         use mode=auto"
    )]
    NoZeroCopy {
        /// Name of the interface.
        ifname: String,
    },
    /// The driver has zero-copy, and not for packets that are larger than a page.
    #[error(
        "{ifname} can do AF_XDP zero-copy, but not with packets larger than a page, which come in pieces: `ip link set dev \
         {ifname} mtu {most}` on all hosts of that network, or use mode=auto"
    )]
    NoZeroCopyChains {
        /// Name of the interface.
        ifname: String,
        /// The largest MTU with which it can.
        most: u16,
    },
    /// The kernel or the driver takes no chains.
    #[error(
        "{ifname}: the kernel or the driver cannot do AF_XDP with packets larger than a page (multi-buffer, Linux 6.6): \
         `ip link set dev {ifname} mtu 3804`, on all hosts of that network, or use a udp: port"
    )]
    NoChains {
        /// Name of the interface.
        ifname: String,
    },
    /// The pool has too few frames to receive into.
    #[error(
        "the arena has {free} free frames, too few for a ring of {ring} on {ifname}: ask for more frames or smaller rings"
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
        /// What `ethtool -K` calls it.
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
    fn os(ifname: &str, action: &'static str, source: io::Error) -> Self {
        let ifname = ifname.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { ifname, action },
            Some(libc::EAFNOSUPPORT) => Self::NoAfXdp,
            _ => Self::Os { ifname, action, source },
        }
    }

    fn register(bytes: usize, source: io::Error) -> Self {
        Self::Register { bytes, source }
    }

    fn bind(interface: &Interface, queue: u32, chains: bool, source: io::Error) -> Self {
        let ifname = interface.name.clone();
        match source.raw_os_error() {
            Some(libc::EBUSY) => Self::Busy { ifname, queue },
            Some(libc::EINVAL) if queue >= interface.rx_queues => Self::NoQueue { ifname, queue },
            Some(libc::EINVAL | libc::EOPNOTSUPP) if chains => Self::NoChains { ifname },
            // A second socket of the same arena on one queue: the kernel's word for that.
            Some(libc::EINVAL) => Self::Busy { ifname, queue },
            Some(libc::EOPNOTSUPP) => Self::NoZeroCopy { ifname },
            Some(libc::ENODEV) => Self::NoInterface(ifname),
            _ => Self::os(&ifname, "bind", source),
        }
    }
}
