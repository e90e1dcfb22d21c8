//! One key, or two of them while the cluster changes its key.

use crate::key::{ClusterKey, Fingerprint, NodeKey};
use arrayvec::ArrayVec;
use wire::link::NodeId;
use wire::tag;

/// The most keys at a time: the old one and the new one.
pub const MAX_KEYS: usize = 2;

/// The valid keys, the older one first. Without a key, nothing is signed or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing<K>(ArrayVec<K, MAX_KEYS>);

impl<K> Default for KeyRing<K> {
    fn default() -> Self {
        Self(ArrayVec::new())
    }
}

impl<K> From<Option<K>> for KeyRing<K> {
    fn from(key: Option<K>) -> Self {
        Self(key.into_iter().collect())
    }
}

impl From<ClusterKey> for KeyRing<ClusterKey> {
    fn from(key: ClusterKey) -> Self {
        Some(key).into()
    }
}

impl From<NodeKey> for KeyRing<NodeKey> {
    fn from(key: NodeKey) -> Self {
        Some(key).into()
    }
}

impl<K: PartialEq> KeyRing<K> {
    /// No key.
    pub fn none() -> Self {
        Self::default()
    }

    /// The older key and the newer one; one key if they are the same.
    pub fn changing(old: K, new: K) -> Self {
        let mut keys = ArrayVec::new();
        let differ = old != new;
        keys.push(old);
        if differ {
            keys.push(new);
        }
        Self(keys)
    }

    /// The keys in this order, the older one first; `None` when there are more than [`MAX_KEYS`].
    pub fn from_keys(keys: Vec<K>) -> Option<Self> {
        let mut keys = keys.into_iter();
        let ring = match (keys.next(), keys.next()) {
            (Some(old), Some(new)) => Self::changing(old, new),
            (first, _) => first.into(),
        };
        keys.next().is_none().then_some(ring)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The key with this number, 0 being the oldest.
    pub fn get(&self, number: usize) -> Option<&K> {
        self.0.get(number)
    }

    /// The keys, the older one first.
    pub fn iter(&self) -> impl Iterator<Item = &K> + '_ {
        self.0.iter()
    }

    /// The number of a key.
    pub fn number_of(&self, key: &K) -> Option<usize> {
        self.0.iter().position(|other| other == key)
    }
}

impl KeyRing<NodeKey> {
    /// The number of the key with which a record is signed.
    pub fn signer(&self, record: &[u8]) -> Option<usize> {
        self.0.iter().position(|key| tag::verify(key.as_bytes(), record))
    }

    /// The fingerprints, the older key's first.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.0.iter().map(NodeKey::fingerprint).collect()
    }
}

impl KeyRing<ClusterKey> {
    /// The keys of one node.
    pub fn node_keys(&self, node: NodeId) -> KeyRing<NodeKey> {
        KeyRing(self.0.iter().map(|key| key.node_key(node)).collect())
    }

    /// The fingerprints, the older key's first.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.0.iter().map(ClusterKey::fingerprint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_two_keys_and_never_one_twice() {
        let [a, b, c] = [1, 2, 3].map(|byte| ClusterKey::from_bytes([byte; 32]));
        let ring = |keys: &[&ClusterKey]| KeyRing::from_keys(keys.iter().map(|&key| key.clone()).collect());
        assert_eq!(ring(&[]), Some(KeyRing::none()));
        assert_eq!(ring(&[&a, &a]), Some(a.clone().into()));
        assert_eq!(ring(&[&a, &b, &c]), None);
        let both = ring(&[&a, &b]).unwrap();
        assert_eq!((both.len(), both.number_of(&b), both.get(2)), (2, Some(1), None));
        assert_eq!(both.fingerprints(), [a.fingerprint(), b.fingerprint()]);
    }

    #[test]
    fn the_signer_is_found_among_derived_keys() {
        let [a, b] = [1, 2].map(|byte| ClusterKey::from_bytes([byte; 32]));
        let node = NodeId::master(3);
        let mut record = vec![0; wire::HEADER_LEN + 40];
        let keys = KeyRing::changing(a, b.clone()).node_keys(node);
        assert_eq!(keys.signer(&record), None);
        assert!(tag::sign(b.node_key(node).as_bytes(), &mut record));
        assert_eq!((keys.signer(&record), KeyRing::none().signer(&record)), (Some(1), None));
    }
}
