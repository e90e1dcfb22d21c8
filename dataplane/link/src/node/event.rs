//! The events that a node reports, and the reasons for which it refuses an answer.

use crate::ShardRanges;
use std::fmt;
use thiserror::Error;
use wire::link::{CookieFault, LinkError};
use wire::{Scale, Shard};

/// An event that a node reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The gateway has registered the node: for the first time, after a silence, or after a restart of the gateway.
    Registered {
        /// The longest time that a record may wait in the gateway, in nanoseconds.
        hold_ns: u32,
        /// Largest IP packet acknowledged so far, in bytes.
        mtu: u16,
        /// The gateway's scale, which is ours.
        scale: Scale,
        /// Differs after each start of the gateway.
        gateway_epoch: u64,
        /// The shards that the gateway serves.
        shards: ShardRanges,
        /// Whether the node was never registered before.
        first_time: bool,
    },
    /// No acceptable answer for `no_answer_after`.
    NoAnswer,
    /// No acceptable answer for `no_answer_after`, but answers to another challenge.
    OldAnswers,
    /// The gateway answers and asks the node to prove its address again, although the heartbeat had a cookie.
    CookieRefused {
        /// What was wrong with the cookie.
        fault: CookieFault,
    },
    /// The node was registered, and the gateway has been silent for 3 intervals.
    Lost,
    /// A live node at another address has this id and keeps it.
    Duplicate,
    /// The gateway has another scale than this node.
    ScaleMismatch {
        /// The scale of this node.
        ours: Scale,
        /// The scale of the gateway.
        theirs: Scale,
    },
    /// Another gateway serves this slave.
    ForeignShard {
        /// The slave's shard.
        shard: Shard,
        /// The shards that this gateway serves.
        shards: ShardRanges,
    },
    /// The gateway answers, but does not register the node although its cookie is valid.
    Refused,
    /// The gateway is about to leave.
    Draining,
    /// Of several gateways, this is the one that cargo goes to from now on; before, it was another one.
    Chosen,
    /// The answer to a padded heartbeat arrived: larger packets may be sent, and may arrive.
    MtuProven {
        /// Largest IP packet that was acknowledged, in bytes: the claimed size.
        mtu: u16,
    },
    /// Packets of the claimed size do not arrive, or the gateway does not accept them.
    MtuReduced {
        /// Largest IP packet that the node can take, in bytes.
        claimed: u16,
        /// Largest IP packet acknowledged, in bytes.
        acknowledged: u16,
    },
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { hold_ns, mtu, first_time, .. } => {
                let again = if *first_time { "" } else { " again" };
                write!(f, "registered{again}: hold {} us, MTU {mtu}", f64::from(*hold_ns) / 1e3)
            }
            Self::NoAnswer => f.write_str(
                "no answer from the gateway: check its address, firewalls (UDP), the key fingerprint on both ends, and \
                 the gateway's refused counters and log (gvm-dp stats); where it is on AF_XDP or DPDK and this host \
                     sends from a \
                 veth or a virtual NIC, `ethtool -K IFACE tx off` here",
            ),
            Self::OldAnswers => f.write_str(
                "no answer from the gateway to this start of the node, but answers to another one: somebody sends \
                 recorded \
                 answers again, or another process has this node's address and port",
            ),
            Self::CookieRefused { fault } => {
                write!(f, "the gateway wants a new proof of this node's address: {fault}; ")?;
                f.write_str(match fault {
                    CookieFault::Unknown => {
                        "if that comes again, a NAT gives this node another address or port each \
                        time"
                    }
                    CookieFault::Expired => "the gateway was not heard for long, or this process stood still",
                    CookieFault::OtherBoot => "if that comes again, another process has this id at the same address",
                })
            }
            Self::Lost => f.write_str("the gateway fell silent; heartbeats go on"),
            Self::Duplicate => {
                f.write_str("the id is alive at another address, which keeps it: give one of the two another --id")
            }
            Self::ScaleMismatch { ours, theirs } => write!(
                f,
                "the gateway has slave-bits {} and gw-bits {}, this node {} and {}: give both the same",
                theirs.slave_bits(),
                theirs.gw_bits(),
                ours.slave_bits(),
                ours.gw_bits()
            ),
            Self::ForeignShard { shard, shards } => write!(
                f,
                "this slave is in shard {shard}, the gateway serves {shards}: use the gateway of that shard, or change \
                 its --shards"
            ),
            Self::Refused => f.write_str(
                "the gateway answers but does not register this node: see its refused counters (gvm-dp stats) and its \
                 log",
            ),
            Self::Draining => f.write_str("the gateway is about to leave"),
            Self::Chosen => f.write_str("cargo goes to this gateway now"),
            Self::MtuProven { mtu } => write!(f, "packets of {mtu} bytes get through"),
            Self::MtuReduced { claimed, acknowledged } => write!(
                f,
                "packets of {claimed} bytes do not get through, {acknowledged} is used: give both ends and the network \
                 between them the same MTU"
            ),
        }
    }
}

/// Why a node ignores a HEARTBEAT_ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AckRefusal {
    /// Not a HEARTBEAT_ACK, or one that contradicts itself.
    #[error("{0}")]
    Malformed(LinkError),
    /// It addresses another node.
    #[error("the answer addresses another node")]
    OtherNode,
    /// It does not come from the node's gateway.
    #[error("the answer does not come from the gateway")]
    OtherSource,
    /// It has no tag, although the node has a key.
    #[error("the answer is not signed: give the gateway the cluster key")]
    Unsigned,
    /// Its tag is not the one that the node's key makes.
    #[error("the answer is signed with another key: compare the fingerprints")]
    Forged,
    /// It answers another challenge: that of another start of the node, or one to another gateway.
    #[error("it answers another start of this node, or is of another gateway")]
    Challenge,
    /// It does not echo the last seq.
    #[error("the answer is not to the last heartbeat")]
    Sequence,
}

impl From<LinkError> for AckRefusal {
    fn from(error: LinkError) -> Self {
        Self::Malformed(error)
    }
}
