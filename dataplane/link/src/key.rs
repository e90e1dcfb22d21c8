//! The cluster key, and the keys of nodes that are derived from it.
//!
//! A node's key is derived by role and id, so that a node can sign only as itself. Keys are written as 64 hex digits.
//! Debug output and errors never contain a key, only its fingerprint.
//!
//! A key has one place in memory ([`frame::Secret`]); clones share it. Hashing with a key leaves nothing of the key on
//! the stack.

use frame::Secret;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use wire::key::{self, KEY_LEN};
pub use wire::key::{Fingerprint, KeyError};
use wire::link::NodeId;
use zeroize::Zeroize as _;

const NODE_DOMAIN: &[u8] = b"gvm-dp node key 1\0";

/// The key of the whole cluster. Gateways have it; every node's key is derived from it.
#[derive(Clone)]
pub struct ClusterKey(Arc<Secret>);

/// The key of one node: it signs as this role and id, and as no other.
#[derive(Clone)]
pub struct NodeKey(Arc<Secret>);

macro_rules! key_text {
    ($name:ident) => {
        impl $name {
            /// The key with these bytes, which should be random. The caller keeps its copy: use it for keys that are
            /// not secret.
            pub fn from_bytes(mut bytes: [u8; KEY_LEN]) -> Self {
                let Ok(key) = Self::written(|place| {
                    place.copy_from_slice(&bytes);
                    Ok::<_, Infallible>(())
                });
                bytes.zeroize();
                key
            }

            /// The key that `fill` writes. No other copy of it exists.
            ///
            /// # Errors
            /// Those of `fill`.
            pub fn written<E>(fill: impl FnOnce(&mut [u8; KEY_LEN]) -> Result<(), E>) -> Result<Self, E> {
                Secret::new(fill).map(|secret| Self(Arc::new(secret)))
            }

            /// The secret bytes.
            pub fn as_bytes(&self) -> &wire::Key {
                &self.0
            }

            /// Safe to print: it distinguishes keys and reveals nothing of them.
            pub fn fingerprint(&self) -> Fingerprint {
                Fingerprint::of(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            /// Reads 64 hex digits; white space around them is ignored.
            fn from_str(text: &str) -> Result<Self, KeyError> {
                Self::written(|place| key::parse(text.trim(), place))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl Eq for $name {}

        /// The key itself, as 64 hex digits. For key files and `gvm-dp key`, never for logs.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                key::write(self.as_bytes(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(fingerprint {})"), self.fingerprint())
            }
        }
    };
}

key_text!(ClusterKey);
key_text!(NodeKey);

impl ClusterKey {
    /// The key of one node: the keyed BLAKE3 hash of a domain, the role and the id.
    pub fn node_key(&self, node: NodeId) -> NodeKey {
        let mut input = [0; NODE_DOMAIN.len() + 5];
        let (domain, rest) = input.split_at_mut(NODE_DOMAIN.len());
        domain.copy_from_slice(NODE_DOMAIN);
        rest[0] = node.role as u8;
        rest[1..].copy_from_slice(&node.id.to_le_bytes());
        let Ok(key) = NodeKey::written(|place| {
            key::hash(self.as_bytes(), &input, place);
            Ok::<_, Infallible>(())
        });
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credential;

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_key_is_64_hex_digits() {
        let key: ClusterKey = TEXT.parse().unwrap();
        assert_eq!(key.as_bytes()[..4], [0, 1, 2, 3]);
        assert_eq!(key.to_string(), TEXT);
        assert_eq!(format!(" {TEXT}\n").to_uppercase().parse::<ClusterKey>(), Ok(key));
        assert_eq!("abc".parse::<ClusterKey>(), Err(KeyError::Length(3)));
        assert_eq!(TEXT.replace("0a", "0x").parse::<NodeKey>(), Err(KeyError::Digit(21)));
        assert_eq!("0".repeat(64).parse::<NodeKey>(), Err(KeyError::Zero));
        assert_eq!("é".repeat(64).parse::<NodeKey>(), Err(KeyError::Digit(0)));
    }

    #[test]
    fn debug_output_never_shows_a_key() {
        let key: ClusterKey = TEXT.parse().unwrap();
        let shown = format!("{:?} {:?}", key, Credential::Cluster(key.clone().into()));
        assert!(shown.contains(&key.fingerprint().to_string()));
        assert!(!shown.contains("0c0d0e0f"), "{shown}");
        assert_eq!(key.fingerprint().to_string().len(), 8);
    }

    #[test]
    fn node_keys_differ_by_role_id_and_cluster() {
        let key: ClusterKey = TEXT.parse().unwrap();
        let other = ClusterKey::from_bytes([7; 32]);
        let slave_1 = wire::Scale::default().slave_id(1).map(NodeId::slave).unwrap();
        let all = [
            key.node_key(slave_1),
            key.node_key(NodeId::master(1)),
            key.node_key(NodeId::master(2)),
            other.node_key(slave_1),
        ];
        for (at, a) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|b| a != b));
        }
        assert_eq!(Credential::Cluster(key.clone().into()).node_keys(slave_1), key.node_key(slave_1).into());
    }
}
