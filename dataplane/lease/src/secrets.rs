//! The secrets of a master's leases. A later start of the master finds them again by the locks that slaves have.
//!
//! All of them follow from one seed, which outlives the process: nothing is stored when a session is opened. Each
//! session has a secret of its own, since a secret crosses the wire when it is used; so each start of the master has a
//! number, and each session with a slave has one.

use crate::key::opens;
use frame::Secret;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use wire::lease::{LeaseEnds, SECRET_LEN};
use wire::tag::HASH_STACK;
use zeroize::zeroize_stack;

/// This start and those before it whose leases are looked for.
const STARTS: u64 = 8;

/// The first sessions of each start with a slave, whose locks are compared.
const SESSIONS: u32 = 512;

/// Bytes that name a session: start, boot epoch of the slave, session, slave, master.
const NAME: usize = 8 + 8 + 4 + 4 + 2;

/// See the module's documentation.
pub struct LeaseSecrets {
    seed: Secret,
    start: u64,
    /// How many secrets each slave was given the locks of.
    sessions: BTreeMap<u32, u32>,
}

impl LeaseSecrets {
    /// The secrets of one start. The seed is random, is used for nothing else, and is that of earlier starts; each
    /// start has a larger number. A master that keeps no seed has another seed at each start, and number 0.
    pub fn new(seed: &[u8; 32], start: u64) -> Self {
        let Ok(seed) = Secret::new(|place| {
            place.copy_from_slice(seed);
            Ok::<_, Infallible>(())
        });
        Self { seed, start, sessions: BTreeMap::new() }
    }

    /// Whether leases of an earlier start can be found.
    pub fn has_earlier_starts(&self) -> bool {
        self.start > 0
    }

    /// The secret of the next session with this slave, at this boot of it. None is given out twice.
    pub fn next(&mut self, ends: LeaseEnds, slave_epoch: u64) -> [u8; SECRET_LEN] {
        let count = self.sessions.entry(ends.slave).or_default();
        let session = *count;
        *count = count.saturating_add(1);
        let secret = self.secret(self.start, ends, slave_epoch, session);
        zeroize_stack::<HASH_STACK>();
        secret
    }

    /// The secret of a lock that this start or one of those before it has made for this boot of the slave; `None` if
    /// the lock is somebody else's, or of a session that is not looked for: the slave has had more than 512 sessions
    /// with one start, or there were eight starts since.
    pub fn find(&self, ends: LeaseEnds, slave_epoch: u64, lock: &[u8; SECRET_LEN]) -> Option<[u8; SECRET_LEN]> {
        let starts = (0..STARTS).map_while(|before| self.start.checked_sub(before));
        let sessions = starts.flat_map(|start| (0..SESSIONS).map(move |session| (start, session)));
        let mut secrets = sessions.map(|(start, session)| self.secret(start, ends, slave_epoch, session));
        let found = secrets.find(|secret| opens(secret, lock));
        zeroize_stack::<HASH_STACK>();
        found
    }

    /// Not inlined, so that all of its stack is free again when it returns.
    #[inline(never)]
    fn secret(&self, start: u64, ends: LeaseEnds, slave_epoch: u64, session: u32) -> [u8; SECRET_LEN] {
        let mut name = [0; NAME];
        let parts: [&[u8]; 5] = [
            &start.to_le_bytes(),
            &slave_epoch.to_le_bytes(),
            &session.to_le_bytes(),
            &ends.slave.to_le_bytes(),
            &ends.master.to_le_bytes(),
        ];
        name.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        let hash = *blake3::keyed_hash(&self.seed, &name).as_bytes();
        std::array::from_fn(|at| hash[at])
    }
}

impl fmt::Debug for LeaseSecrets {
    /// Prints nothing of the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseSecrets of start {}", self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock_of;
    use std::collections::BTreeSet;

    const SEED: [u8; 32] = [7; 32];
    const EPOCH: u64 = 0xe90c;

    fn ends(master: u16, slave: u32) -> LeaseEnds {
        LeaseEnds { slave, master }
    }

    #[test]
    fn a_later_start_finds_each_secret_by_its_lock() {
        let mut first = LeaseSecrets::new(&SEED, 5);
        let made: Vec<_> = (0..3).map(|_| first.next(ends(1, 17), EPOCH)).collect();
        for start in [5, 6, 12] {
            let later = LeaseSecrets::new(&SEED, start);
            for secret in &made {
                assert_eq!(later.find(ends(1, 17), EPOCH, &lock_of(secret)), Some(*secret), "start {start}");
            }
        }
        let lock = lock_of(&made[1]);
        // Another master, slave, boot or seed; a start that is too late, and one that is earlier.
        for (seed, start, ends, epoch) in [
            (SEED, 6, ends(2, 17), EPOCH),
            (SEED, 6, ends(1, 18), EPOCH),
            (SEED, 6, ends(1, 17), EPOCH + 1),
            ([8; 32], 6, ends(1, 17), EPOCH),
            (SEED, 13, ends(1, 17), EPOCH),
            (SEED, 4, ends(1, 17), EPOCH),
        ] {
            assert_eq!(LeaseSecrets::new(&seed, start).find(ends, epoch, &lock), None);
        }
        // What a slave says that has no such lock, or does not say its lock.
        assert_eq!(LeaseSecrets::new(&SEED, 6).find(ends(1, 17), EPOCH, &[0; SECRET_LEN]), None);
        assert_eq!(LeaseSecrets::new(&SEED, 6).find(ends(1, 17), EPOCH, &made[1]), None);
    }

    #[test]
    fn none_is_given_out_twice() {
        let mut seen = BTreeSet::new();
        for start in 0..3 {
            let mut secrets = LeaseSecrets::new(&SEED, start);
            for slave in [17, 18] {
                for session in 0..600 {
                    let epoch = EPOCH + u64::from(session) / 100;
                    assert!(seen.insert(secrets.next(ends(1, slave), epoch)));
                    assert!(seen.insert(LeaseSecrets::new(&SEED, start).secret(start, ends(2, slave), epoch, session)));
                }
            }
        }
    }

    #[test]
    fn a_secret_is_the_keyed_hash_of_all_that_names_its_session() {
        let secret = LeaseSecrets::new(&std::array::from_fn(|at| at as u8), 3).next(ends(0x0102, 0x0304_0506), EPOCH);
        let mut name = [0; 26];
        name[0] = 3;
        (name[8], name[9]) = (0x0c, 0xe9);
        name[20..].copy_from_slice(&[6, 5, 4, 3, 2, 1]);
        let hash = blake3::keyed_hash(&std::array::from_fn(|at| at as u8), &name);
        assert_eq!(secret, hash.as_bytes()[..16]);
        assert!(!LeaseSecrets::new(&SEED, 0).has_earlier_starts() && LeaseSecrets::new(&SEED, 1).has_earlier_starts());
        assert_eq!(format!("{:?}", LeaseSecrets::new(&SEED, 3)), "LeaseSecrets of start 3");
    }
}
