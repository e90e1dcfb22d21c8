//! The cluster key, or both while it changes: who signs with which.

use super::Registrar;
use super::presence::Presence;
use crate::{ClusterKey, KeyRing, NodeKey};
use wire::link::NodeId;
use wire::tag;

/// With which of the keys a heartbeat is signed.
pub(super) struct Signed {
    /// The node's key.
    pub(super) key: NodeKey,
    /// It is the older one of two.
    pub(super) old: bool,
}

impl Registrar {
    /// Other keys from now on. Members stay members; who signs with a key that is no longer there is refused.
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

    /// The cluster key from which a member's own key was derived when it was last heard.
    pub(super) fn key_of(&self, presence: &Presence) -> Option<&ClusterKey> {
        let keys = &self.config.keys;
        if presence.old_key { keys.get(0) } else { newest(keys) }
    }

    /// Which of the node's keys signed a record, the newer one first: in the end all have it.
    pub(super) fn signer(&self, node: NodeId, record: &[u8]) -> Option<Signed> {
        let keys = &self.config.keys;
        (0..keys.len()).rev().find_map(|number| {
            let key = keys.get(number)?.node_key(node);
            let old = number + 1 < keys.len();
            tag::verify(key.as_bytes(), record).then_some(Signed { key, old })
        })
    }

    /// Members that are here or suspect and signed with the older one of two keys.
    pub(super) fn on_old_key(&self) -> u64 {
        let masters = self.masters.iter().filter(|master| master.presence.is_present() && master.presence.old_key);
        u64::from(self.table.old_key_len) + masters.count() as u64
    }
}

fn newest(keys: &KeyRing<ClusterKey>) -> Option<&ClusterKey> {
    keys.get(keys.len().checked_sub(1)?)
}
