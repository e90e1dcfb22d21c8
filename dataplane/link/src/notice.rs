//! Messages of a registrar to people: the cause, and the remedy.

use crate::MOST_PAGES;
use frame::Peer;
use std::fmt;
use wire::link::{NodeId, Role};

/// Something that a person should know. Its text names the cause and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Two live nodes claim one id; the first keeps it.
    DuplicateId {
        /// The id.
        node: NodeId,
        /// The node that has it.
        registered: Peer,
        /// The node that claims it too.
        claimant: Peer,
    },
    /// A heartbeat of another boot than the registered one. Its cookie is older than the last heartbeat of the
    /// registered boot.
    OtherBoot {
        /// The node.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// A heartbeat of version 1 of an earlier boot than the registered one.
    OlderBoot {
        /// The node.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// A heartbeat of version 1 from a node that is registered with version 2.
    Downgrade {
        /// The node.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// A node of version 1 was registered.
    OldVersion {
        /// The node.
        node: NodeId,
        /// Where it is.
        from: Peer,
    },
    /// A heartbeat whose tag does not match the node's key.
    Forged {
        /// The node that it claims to be.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// A heartbeat without a tag, although this gateway has a key.
    Unsigned {
        /// The node that it claims to be.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// A slave whose shard another gateway serves.
    ForeignShard {
        /// The slave.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// A master that sends to the port of the slaves.
    MasterPort {
        /// The master.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// One master more than this gateway has room for.
    MastersFull {
        /// The master.
        node: NodeId,
        /// Where it came from.
        from: Peer,
    },
    /// Link control of another major version.
    Version {
        /// The version.
        major: u8,
        /// Where it came from.
        from: Peer,
    },
    /// A node that can take larger packets than this gateway.
    MtuDiffers {
        /// The node.
        node: NodeId,
        /// Where it is.
        from: Peer,
        /// Largest IP packet that it claims, in bytes.
        claimed: u16,
        /// Largest IP packet of this gateway, in bytes.
        ours: u16,
    },
    /// A slave claims memory that it cannot have; the claim is not accepted.
    Capacity {
        /// The slave.
        node: NodeId,
        /// Where it is.
        from: Peer,
        /// Memory that it says it lends, in 4 KiB pages.
        total: u64,
        /// The part of that memory that it says is free.
        free: u64,
    },
    /// Many slaves fell silent at once; they are suspect, not gone.
    MassSilence {
        /// At least this many are silent.
        silent: u32,
        /// Out of this many that were there.
        present: u32,
    },
    /// A node was judged silent although this gateway had reasons to doubt its own hearing.
    DoubtEnded,
}

impl Notice {
    /// How many kinds of notices there are.
    pub(crate) const KINDS: usize = 15;

    /// The kind, and the subject within that kind: repetitions about one subject are reported rarely.
    pub(crate) fn topic(&self) -> (usize, u64) {
        let of = |node: &NodeId| u64::from(node.id) | u64::from(node.role == Role::Master) << 32;
        match self {
            Self::DuplicateId { node, .. } => (0, of(node)),
            Self::OtherBoot { node, .. } => (1, of(node)),
            Self::Forged { node, .. } => (2, of(node)),
            Self::Unsigned { node, .. } => (3, of(node)),
            Self::ForeignShard { node, .. } => (4, of(node)),
            Self::MasterPort { node, .. } => (5, of(node)),
            Self::MastersFull { node, .. } => (6, of(node)),
            Self::Version { major, .. } => (7, u64::from(*major)),
            Self::MtuDiffers { node, .. } => (8, of(node)),
            Self::MassSilence { .. } => (9, 0),
            Self::DoubtEnded => (10, 0),
            Self::OlderBoot { node, .. } => (11, of(node)),
            Self::Downgrade { node, .. } => (12, of(node)),
            Self::OldVersion { node, .. } => (13, of(node)),
            Self::Capacity { node, .. } => (14, of(node)),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId { node, registered, claimant } => write!(
                f,
                "{node} is alive at {registered}, and {claimant} claims the same id: give one of them another --id"
            ),
            Self::OtherBoot { node, from } => write!(
                f,
                "a heartbeat of another start of {node} came from {from}, with a cookie from before the registered \
                 start \
                 was last heard: old heartbeats are replayed, or two processes at one address have this id"
            ),
            Self::Forged { node, from } => write!(
                f,
                "a heartbeat of {node} from {from} is signed with another key: compare the key fingerprints of both \
                 ends"
            ),
            Self::Unsigned { node, from } => write!(
                f,
                "a heartbeat of {node} from {from} is not signed, and this gateway has a key: give the node its key \
                 (gvm-dp key derive)"
            ),
            Self::ForeignShard { node, from } => write!(
                f,
                "{node} at {from} belongs to a shard that this gateway does not serve: point it at its gateway, or \
                 change --shards"
            ),
            Self::MasterPort { node, from } => write!(
                f,
                "{node} at {from} speaks to the slaves' port: masters register on the first --port of a gateway only"
            ),
            Self::MastersFull { node, from } => {
                write!(f, "no room for {node} at {from}: stop another master, or let this gateway have more of them")
            }
            Self::OlderBoot { node, from } => write!(
                f,
                "{node} at {from}, of version 1, says that it booted earlier than when it was last seen: its clock \
                 went \
                 back (set it, or update it: version 2 looks at no clock), or old heartbeats are replayed"
            ),
            Self::Downgrade { node, from } => write!(
                f,
                "{node} at {from} speaks version 1 of link control and is known by version 2: recorded heartbeats are \
                 replayed; or it was set back to an old gvm-dp, then start this gateway again"
            ),
            Self::OldVersion { node, from } => write!(
                f,
                "{node} at {from} speaks version 1 of link control and is let in by --accept-v1: update it, then leave \
                 --accept-v1 out. Until then recorded answers can deceive it"
            ),
            Self::Version { major: 1, from } => write!(
                f,
                "{from} speaks version 1 of link control, this gvm-dp version {}: update it; or start the gateway with \
                 --accept-v1 while nodes are updated",
                wire::link::VERSION_MAJOR
            ),
            Self::Version { major, from } => write!(
                f,
                "{from} speaks link control of version {major}, this gvm-dp version {}: run the same major version on \
                 both ends",
                wire::link::VERSION_MAJOR
            ),
            Self::MtuDiffers { node, from, claimed, ours } => write!(
                f,
                "{node} at {from} takes packets of {claimed} bytes, this gateway of {ours}: packets stay at the \
                 smaller \
                 size until both MTUs are the same"
            ),
            Self::Capacity { node, from, total, free } => write!(
                f,
                "{node} at {from} claims {total} pages of memory, {free} of them free: at most {MOST_PAGES} can be, \
                 and no more \
                 free than all; it stays a member, with what it claimed before; correct its program or its --memory"
            ),
            Self::MassSilence { silent, present } => write!(
                f,
                "{silent} or more of {present} slaves fell silent at once: they keep their routes as suspects; look at \
                 the network between them and this gateway"
            ),
            Self::DoubtEnded => f.write_str(
                "nodes were silent for so long that they are judged although this gateway loses packets or has an \
                 lcore \
                 that stands still: see rx_lost in gvm-dp stats, and what the log says of lcores",
            ),
        }
    }
}
