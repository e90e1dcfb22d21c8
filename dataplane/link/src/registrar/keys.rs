//! The cluster key, or both while it changes: which node signs with which key.

use super::Registrar;
use super::presence::Presence;
use crate::{ClusterKey, KeyRing, NodeKey};
use wire::link::NodeId;
use wire::tag;

/// The key with which a heartbeat is signed.
pub(super) struct Signed {
    /// The node's key.
    pub(super) key: NodeKey,
    /// Whether it is the older one of two.
    pub(super) old: bool,
}

impl Registrar {
    /// Other keys from now on. Members stay members; a node that signs with a removed key is refused.
    pub fn set_keys(&mut self, keys: KeyRing<ClusterKey>) {
        let before = std::mem::replace(&mut self.config.keys, keys);
        let keys = &self.config.keys;
        let old = |was_old: bool| {
            let signs = if was_old { before.get(0) } else { newest(&before) };
            keys.len() > 1 && signs.is_some() && signs == keys.get(0)
        };
        self.table.set_old_keys(old);
        for master in &mut self.masters {
            master.presence.old_key = old(master.presence.old_key);
        }
        self.gauge();
    }

    /// The cluster key from which a member's own key was derived at its last heartbeat.
    pub(super) fn key_of(&self, presence: &Presence) -> Option<&ClusterKey> {
        let keys = &self.config.keys;
        if presence.old_key { keys.get(0) } else { newest(keys) }
    }

    /// Which of the node's keys signed a record; the newer one is tried first, because in the end all nodes have it.
    pub(super) fn signer(&self, node: NodeId, record: &[u8]) -> Option<Signed> {
        let keys = &self.config.keys;
        (0..keys.len()).rev().find_map(|number| {
            let key = keys.get(number)?.node_key(node);
            let old = number + 1 < keys.len();
            tag::verify(key.as_bytes(), record).then_some(Signed { key, old })
        })
    }

    /// The number of members that are here or suspect and signed with the older one of two keys.
    pub(super) fn on_old_key(&self) -> u64 {
        let masters = self.masters.iter().filter(|master| master.presence.is_present() && master.presence.old_key);
        u64::from(self.table.old_key_len) + masters.count() as u64
    }
}

fn newest(keys: &KeyRing<ClusterKey>) -> Option<&ClusterKey> {
    keys.get(keys.len().checked_sub(1)?)
}
