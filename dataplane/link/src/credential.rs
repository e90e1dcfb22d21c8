//! The keys with which a node signs.

use crate::key::{ClusterKey, Fingerprint, NodeKey};
use crate::key_ring::KeyRing;
use wire::link::NodeId;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// No key: link control is neither signed nor verified.
    #[default]
    None,
    /// The key of this one node, or both while the cluster changes its key.
    Node(KeyRing<NodeKey>),
    /// The keys of these nodes, or both of each while the cluster changes its key: for processes with several ids.
    Nodes(Vec<(NodeId, KeyRing<NodeKey>)>),
    /// The cluster key, from which the key of any node is derived, or both while it changes: for farms and generators.
    Cluster(KeyRing<ClusterKey>),
}

impl Credential {
    /// The keys with which `node` signs.
    pub fn node_keys(&self, node: NodeId) -> KeyRing<NodeKey> {
        match self {
            Self::None => KeyRing::none(),
            Self::Node(keys) => keys.clone(),
            Self::Nodes(all) => {
                all.iter().find(|(other, _)| *other == node).map_or_else(KeyRing::none, |(_, keys)| keys.clone())
            }
            Self::Cluster(keys) => keys.node_keys(node),
        }
    }

    /// The fingerprints of the keys that were given, the older one's first; of several nodes those of the first one.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        match self {
            Self::None => Vec::new(),
            Self::Node(keys) => keys.fingerprints(),
            Self::Nodes(all) => all.first().map(|(_, keys)| keys.fingerprints()).unwrap_or_default(),
            Self::Cluster(keys) => keys.fingerprints(),
        }
    }
}
