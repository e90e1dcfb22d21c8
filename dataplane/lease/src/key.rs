//! The connect key, and the secrets with which a lease is resumed.

use arrayvec::ArrayVec;
use frame::Secret;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use wire::Key;
use wire::key::{self, Fingerprint, KeyError};
use wire::lease::SECRET_LEN;

const CONNECT_DOMAIN: &[u8] = b"gvm-dp connect key 1\0";
const LOCK_CONTEXT: &str = "gvm-dp lease lock 1";

/// The key that signs the messages of leases. Masters and slaves have it: it proves that the sender is a member of the
/// cluster, and not which one. Clones share its one place in memory.
#[derive(Clone)]
pub struct ConnectKey(Arc<Secret>);

impl ConnectKey {
    /// The connect key of a cluster with this key: a keyed BLAKE3 hash.
    pub fn of_cluster(cluster: &Key) -> Self {
        let Ok(secret) = Secret::new(|place| {
            key::hash(cluster, CONNECT_DOMAIN, place);
            Ok::<_, Infallible>(())
        });
        Self(Arc::new(secret))
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &Key {
        &self.0
    }

    /// Safe to print: it distinguishes keys and reveals nothing of them.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl PartialEq for ConnectKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ConnectKey {}

impl FromStr for ConnectKey {
    type Err = KeyError;

    /// Reads 64 hex digits; white space around them is ignored.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Secret::new(|place| key::parse(text.trim(), place)).map(|secret| Self(Arc::new(secret)))
    }
}

/// The key itself, as 64 hex digits. For key files and `gvm-dp key`, never for logs.
impl fmt::Display for ConnectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key::write(self.as_bytes(), f)
    }
}

impl fmt::Debug for ConnectKey {
    /// Prints nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectKey")
    }
}

/// The connect keys of a master or a slave: one, or the old and the new one while the cluster changes its key. Without
/// a key nothing is signed or verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectKeys(ArrayVec<ConnectKey, MAX_CONNECT_KEYS>);

/// The most connect keys at a time.
pub const MAX_CONNECT_KEYS: usize = 2;

/// One of the keys of an end: which one, of those that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct KeyNumber(u8);

impl From<Option<ConnectKey>> for ConnectKeys {
    fn from(key: Option<ConnectKey>) -> Self {
        Self(key.into_iter().collect())
    }
}

impl From<ConnectKey> for ConnectKeys {
    fn from(key: ConnectKey) -> Self {
        Some(key).into()
    }
}

impl ConnectKeys {
    /// No key.
    pub fn none() -> Self {
        Self::default()
    }

    /// The old key and the new one; one key if they are the same.
    pub fn changing(old: ConnectKey, new: ConnectKey) -> Self {
        let differ = old != new;
        Self([old, new].into_iter().take(1 + usize::from(differ)).collect())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fingerprints, the older key first.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.0.iter().map(ConnectKey::fingerprint).collect()
    }

    /// The key with this number; the only one if there is no other any more.
    pub(crate) fn get(&self, number: KeyNumber) -> Option<&Key> {
        self.0.get(usize::from(number.0)).or(self.0.first()).map(ConnectKey::as_bytes)
    }

    /// The key that signed a record; `None` if none of these did. Without a key everything counts as signed.
    pub(crate) fn signer(&self, record: &[u8]) -> Option<KeyNumber> {
        if self.is_empty() {
            return Some(KeyNumber::default());
        }
        let signer = self.0.iter().position(|key| wire::tag::verify(key.as_bytes(), record));
        // There are two at most.
        signer.map(|number| KeyNumber(number as u8))
    }

    /// The other key, if there are two.
    pub(crate) fn other(&self, number: KeyNumber) -> KeyNumber {
        KeyNumber(u8::from(self.0.len() > 1 && number.0 == 0))
    }
}

/// The lock of a secret: who has the lock cannot compute the secret, and who has the secret can show it.
pub fn lock_of(secret: &[u8; SECRET_LEN]) -> [u8; SECRET_LEN] {
    let hash = blake3::derive_key(LOCK_CONTEXT, secret);
    std::array::from_fn(|at| hash[at])
}

/// Whether a secret opens a lock. Takes the same time wherever they differ.
pub(crate) fn opens(secret: &[u8; SECRET_LEN], lock: &[u8; SECRET_LEN]) -> bool {
    u128::from_ne_bytes(lock_of(secret)) ^ u128::from_ne_bytes(*lock) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connect_key_and_a_lock_are_as_another_program_computed_them() {
        let key = ConnectKey::of_cluster(&std::array::from_fn(|at| at as u8));
        let expected = [
            0x28, 0xaf, 0x27, 0x95, 0x92, 0x2c, 0xf0, 0x06, 0xa3, 0xde, 0x4c, 0x2e, 0xc5, 0xf5, 0xfc, 0x57, 0x43, 0xf2,
            0x45, 0x30, 0x1e, 0xce, 0x52, 0xb8, 0x54, 0x2d, 0x8c, 0x0b, 0xd9, 0xf7, 0x1a, 0xae,
        ];
        assert_eq!(key.as_bytes(), &expected);
        let secret = std::array::from_fn(|at| 0x40 + at as u8);
        let lock = [0xff, 0x61, 0x24, 0xbd, 0x72, 0x5b, 0xd8, 0x3a, 0xba, 0x6d, 0x0e, 0x79, 0xb2, 0x12, 0x78, 0xf9];
        assert_eq!(lock_of(&secret), lock);
        assert!(opens(&secret, &lock) && !opens(&lock, &secret) && !opens(&[0; 16], &lock));
    }

    #[test]
    fn debug_output_never_shows_the_key() {
        assert_eq!(format!("{:?}", ConnectKey::of_cluster(&[7; 32])), "ConnectKey");
    }

    #[test]
    fn its_text_is_that_of_every_key() {
        let key = ConnectKey::of_cluster(&[7; 32]);
        let text = key.to_string();
        let again: ConnectKey = format!(" {}\n", text.to_uppercase()).parse().unwrap();
        assert_eq!((again.as_bytes(), again.fingerprint()), (key.as_bytes(), key.fingerprint()));
        assert_eq!(text.len(), 64);
        assert!(matches!("0".repeat(64).parse::<ConnectKey>(), Err(KeyError::Zero)));
    }

    #[test]
    fn of_two_keys_either_signs() {
        let [old, new, third] = [1, 2, 3].map(|byte| ConnectKey::of_cluster(&[byte; 32]));
        let both = ConnectKeys::changing(old.clone(), new.clone());
        let signed = |key: &ConnectKey| {
            let mut record = [0x5a; 64];
            wire::tag::sign(key.as_bytes(), &mut record);
            record
        };
        assert_eq!(both.signer(&signed(&old)), Some(KeyNumber(0)));
        assert_eq!(both.signer(&signed(&new)), Some(KeyNumber(1)));
        assert_eq!(both.signer(&signed(&third)), None);
        assert_eq!(ConnectKeys::from(new.clone()).signer(&signed(&old)), None);
        assert_eq!(ConnectKeys::none().signer(&signed(&third)), Some(KeyNumber(0)));
        assert_eq!((both.other(KeyNumber(0)), both.other(KeyNumber(1))), (KeyNumber(1), KeyNumber(0)));
        // When the old key is gone, who signed with the new one goes on with it.
        let one = ConnectKeys::from(new.clone());
        assert_eq!((one.get(KeyNumber(1)), one.other(KeyNumber(1))), (Some(new.as_bytes()), KeyNumber(0)));
        assert_eq!(ConnectKeys::none().get(KeyNumber(1)), None);
        assert_eq!(ConnectKeys::changing(old.clone(), old.clone()), old.into());
    }
}
