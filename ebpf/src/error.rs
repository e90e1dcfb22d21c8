//! Why the XDP program does not run.

use crate::layout::{MAX_ADDRESSES, MAX_NEIGHBORS, MAX_QUEUES};
use std::error::Error;
use std::io;
use wire::Shard;

/// Why the XDP program does not run.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The process lacks a capability.
    #[error(
        "no permission to {0}: XDP needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (and CAP_NET_RAW for its sockets); run \
         as \
         root, or give the program these capabilities, or use a udp: port"
    )]
    Permission(&'static str),
    /// The kernel has no BPF, or refuses the program.
    #[error("the kernel refused the XDP program: {0}")]
    Load(Box<dyn Error + Send + Sync>),
    /// There is no such interface.
    #[error("there is no interface `{0}` here: `ip -brief link` lists them (each network namespace has its own)")]
    NoInterface(String),
    /// Another XDP program is attached.
    #[error(
        "interface {0} already has an XDP program, perhaps of another gvm-dp: `ip link show {0}` shows its id; stop \
         the \
         program that it belongs to, or detach it with `ip link set dev {0} xdp off`"
    )]
    Busy(String),
    /// The driver cannot run XDP programs.
    #[error("the driver of {0} has no XDP: use xdp:{0},mode=skb (slow, works everywhere), or a udp: port")]
    NoDriverXdp(String),
    /// The interface's MTU, or that of its veth peer, leaves no room for XDP.
    #[error(
        "the MTU of {0} (or of the other end of a veth) is too large for XDP: lower it to 1500 with \
         `ip link set dev {0} mtu 1500`, on both ends of a veth"
    )]
    Mtu(String),
    /// The kernel is too old to attach by link.
    #[error(
        "{0}: this kernel cannot attach XDP programs by link, so that one could outlive a crash: use Linux 5.9 or later"
    )]
    NoLink(String),
    /// The program is attached already.
    #[error("the XDP program is attached to {0} already; each interface needs a program of its own")]
    Attached(String),
    /// A queue that has no place in the map.
    #[error("receive queue {0} is out of range: an interface is used up to queue {last}", last = MAX_QUEUES - 1)]
    Queue(u32),
    /// More addresses than the program can compare with.
    #[error("{0} IPv4 addresses on one interface: the XDP program takes packets at no more than {MAX_ADDRESSES}")]
    Addresses(usize),
    /// The neighbour's shard is not one of the scale.
    #[error("there is no shard {shard} for a neighbour: at this scale the shards are 0 to {last}", last = shards - 1)]
    NoShard {
        /// The shard.
        shard: Shard,
        /// How many shards there are.
        shards: u32,
    },
    /// The neighbour's shard is served here.
    #[error("shard {0} is served by this gateway: a neighbour is for the shards of another; leave one of them away")]
    OwnShard(Shard),
    /// The neighbour's interface does not exist.
    #[error(
        "the neighbour of shard {shard} is behind the interface with index {ifindex}, which is not here: `ip -brief \
         link` lists them (each network namespace has its own)"
    )]
    NoNeighborInterface {
        /// The shard.
        shard: Shard,
        /// The index.
        ifindex: u32,
    },
    /// No slot is free for one more neighbour.
    #[error("no room for a neighbour of shard {0}: the XDP program delivers to no more than {MAX_NEIGHBORS} shards")]
    Neighbors(Shard),
    /// Anything else.
    #[error("cannot {action}: {source}")]
    Os {
        /// What failed.
        action: String,
        /// The error of the kernel or the loader.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The error number at the bottom of a chain of errors.
pub(crate) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        at = error.source();
    }
    None
}

/// The kernel refused the program, or the object is not a valid one.
pub(crate) fn load_error(error: impl Error + Send + Sync + 'static) -> SteerError {
    let denied = match os_error(&error) {
        Some(libc::EPERM) => true,
        // The verifier returns this error for every program that it refuses, and these words for those without
        // CAP_PERFMON.
        Some(libc::EACCES) => error.to_string().contains("!root"),
        _ => false,
    };
    if denied { SteerError::Permission("load the XDP program") } else { SteerError::Load(error.into()) }
}

/// A map or a program that the object must have.
pub(crate) fn missing(name: &str) -> SteerError {
    SteerError::Load(format!("`{name}` is not in the object: build it again").into())
}
