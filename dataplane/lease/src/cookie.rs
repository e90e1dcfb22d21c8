//! The cookie of a slave: a master that returns it received something of this boot of the slave, a short time ago.
//!
//! It has the time of issue by the slave's clock, and a MAC over that time, the master and its epoch, under a secret
//! of this boot. So nothing is stored for strangers, and only the slave's own clock matters.

use frame::Time;
use std::fmt;
use wire::link::Cookie;

/// What a MAC is for.
const COOKIE: u8 = 1;
const SESSION: u8 = 2;

/// The secret of this boot. It also names sessions.
#[derive(Clone)]
pub(crate) struct BootSecret([u8; 32]);

impl fmt::Debug for BootSecret {
    /// Prints nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootSecret")
    }
}

impl BootSecret {
    pub(crate) const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// A cookie for one start of a master.
    pub(crate) fn issue(&self, now: Time, master: u16, master_epoch: u64) -> Cookie {
        let mut cookie = [0; Cookie::LEN];
        let (time, mac) = cookie.split_at_mut(8);
        time.copy_from_slice(&now.to_le_bytes());
        mac.copy_from_slice(&self.mac(COOKIE, now, master, master_epoch).to_le_bytes());
        Cookie(cookie)
    }

    /// When a cookie was issued; `None` when it is not one for this start of this master.
    pub(crate) fn issued(&self, cookie: Cookie, master: u16, master_epoch: u64) -> Option<Time> {
        let [a, b, c, d, e, f, g, h, mac @ ..] = cookie.0;
        let issued = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // Compared as integers, so that the time does not depend on the position of a difference.
        (self.mac(COOKIE, issued, master, master_epoch) == u64::from_le_bytes(mac)).then_some(issued)
    }

    /// The session that the CONNECT with this seq opens: nobody can guess it, and it is never 0.
    pub(crate) fn session(&self, seq: u64, master: u16, master_epoch: u64) -> u64 {
        self.mac(SESSION, seq, master, master_epoch)
    }

    fn mac(&self, what: u8, number: u64, master: u16, master_epoch: u64) -> u64 {
        let mut input = [what; 19];
        input[1..3].copy_from_slice(&master.to_le_bytes());
        input[3..11].copy_from_slice(&master_epoch.to_le_bytes());
        input[11..].copy_from_slice(&number.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *blake3::keyed_hash(&self.0, &input).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_of_one_boot_and_one_start_of_a_master_and_says_when() {
        let secret = BootSecret::new([1; 32]);
        let cookie = secret.issue(77, 1, 5);
        assert_eq!(secret.issued(cookie, 1, 5), Some(77));
        for bit in 0..8 * Cookie::LEN {
            let mut other = cookie;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secret.issued(other, 1, 5), None, "bit {bit}");
        }
        let others = [secret.issued(cookie, 2, 5), secret.issued(cookie, 1, 6), secret.issued(Cookie::NONE, 1, 5)];
        assert_eq!(others, [None; 3]);
        assert_eq!(BootSecret::new([2; 32]).issued(cookie, 1, 5), None);
    }

    #[test]
    fn sessions_differ() {
        let secret = BootSecret::new([1; 32]);
        let sessions = [
            secret.session(1, 1, 5),
            secret.session(2, 1, 5),
            secret.session(1, 2, 5),
            secret.session(1, 1, 6),
            BootSecret::new([2; 32]).session(1, 1, 5),
        ];
        for (at, session) in sessions.iter().enumerate() {
            assert!(!sessions[at + 1..].contains(session));
        }
    }
}
