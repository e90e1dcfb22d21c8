//! The steps of a registrar, for people who look for a fault. Nothing depends on them.

use frame::Peer;
use std::fmt;
use wire::link::{CookieFault, NodeId};

/// A step of a registrar. Each refused heartbeat is one, and so is every record that a `refused_*` counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrarEvent {
    /// A new node was registered, or another start of a node, or a node at another address.
    Registered {
        /// The node.
        node: NodeId,
        /// Where it is.
        from: Peer,
        /// Largest IP packet that is sent to it so far, in bytes.
        mtu: u16,
        /// What is new about it.
        why: &'static str,
    },
    /// A registered node was heard again.
    Renewed {
        /// The node.
        node: NodeId,
        /// Where it is.
        from: Peer,
        /// The seq of its heartbeat.
        seq: u64,
    },
    /// A heartbeat without a valid cookie was answered with a cookie.
    Challenged {
        /// The node that it claims to be.
        node: NodeId,
        /// Where it came from.
        from: Peer,
        /// What was wrong with the cookie that it had.
        fault: CookieFault,
    },
    /// Something was refused.
    Refused {
        /// The node that it claims to be, if that could be read.
        node: Option<NodeId>,
        /// Where it came from.
        from: Peer,
        /// Why: the counter's name behind `refused_`.
        why: &'static str,
    },
    /// A slave fell silent together with many others.
    Suspect {
        /// The slave.
        node: NodeId,
    },
    /// A node is gone.
    Gone {
        /// The node.
        node: NodeId,
        /// Why.
        why: &'static str,
    },
    /// The gateway itself cannot hear, so silence is in doubt.
    Deaf {
        /// Why.
        why: &'static str,
    },
    /// The gateway hears again.
    Hears,
}

impl RegistrarEvent {
    /// Whether the event comes with every heartbeat, so that few people want to read it.
    pub const fn is_routine(&self) -> bool {
        matches!(self, Self::Renewed { .. } | Self::Challenged { .. })
    }
}

impl fmt::Display for RegistrarEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { node, from, mtu, why } => write!(f, "{node} at {from} is registered {why}, MTU {mtu}"),
            Self::Renewed { node, from, seq } => write!(f, "{node} at {from} is still there, heartbeat {seq}"),
            Self::Challenged { node, from, fault } => write!(f, "{node} at {from} was sent a cookie: {fault}"),
            Self::Refused { node: Some(node), from, why } => {
                write!(f, "a heartbeat of {node} from {from} was refused: {why}")
            }
            Self::Refused { node: None, from, why } => write!(f, "link control from {from} was refused: {why}"),
            Self::Suspect { node } => write!(f, "{node} is suspect: it fell silent together with many others"),
            Self::Gone { node, why } => write!(f, "{node} is gone: {why}"),
            Self::Deaf { why } => write!(f, "silence is in doubt: {why}"),
            Self::Hears => f.write_str("silence is no longer in doubt"),
        }
    }
}
