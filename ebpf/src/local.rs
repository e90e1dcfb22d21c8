//! The interface's own MAC and addresses, in the form that the program uses.

use crate::SteerError;
use crate::layout::{ADDRESS_BITS, LOCAL_WORDS, MAX_ADDRESSES};
use std::net::Ipv4Addr;
use wire::net::Mac;

const SLOTS: usize = 1 << ADDRESS_BITS;

/// The value of slot 0 when it is empty: an empty slot is 0, but 0.0.0.0 also has the hash 0.
const NOBODY: u32 = u32::MAX;

/// 2^32 divided by the golden ratio: it spreads neighbouring addresses well.
const FIRST_MULTIPLIER: u32 = 0x9e37_79b1;

/// The data that the program compares with.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    mac: Mac,
    multiplier: u32,
    slots: [u32; SLOTS],
}

impl Local {
    pub(crate) const fn new() -> Self {
        let mut slots = [0; SLOTS];
        slots[0] = NOBODY;
        Self { mac: [0; 6], multiplier: FIRST_MULTIPLIER, slots }
    }

    pub(crate) fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
    }

    /// Gives each address the slot of its hash. The multiplier stays if possible, so that addresses that remain keep
    /// their slots and the program finds them all the time.
    pub(crate) fn set_addresses(&mut self, addresses: &[Ipv4Addr]) -> Result<(), SteerError> {
        if addresses.len() > MAX_ADDRESSES {
            return Err(SteerError::Addresses(addresses.len()));
        }
        // As they are in a packet.
        let words = || addresses.iter().map(|address| u32::from_ne_bytes(address.octets()));
        // Each try succeeds in at least six of ten cases: 8 addresses in 64 slots. With even steps from an odd number,
        // all odd multipliers come.
        let multipliers = (0..1 << 16).map(|i| self.multiplier.wrapping_add(FIRST_MULTIPLIER.wrapping_mul(2 * i)));
        let found = multipliers.into_iter().find_map(|multiplier| Some((multiplier, place(multiplier, words())?)));
        (self.multiplier, self.slots) = found.ok_or(SteerError::Addresses(addresses.len()))?;
        Ok(())
    }

    pub(crate) fn words(&self) -> [u32; LOCAL_WORDS] {
        let [m0, m1, m2, m3, m4, m5] = self.mac;
        let mac = u64::from_ne_bytes([m0, m1, m2, m3, m4, m5, 0, 0]) << 16;
        let mut words = [0; LOCAL_WORDS];
        (words[0], words[1], words[2]) = (mac as u32, (mac >> 32) as u32, self.multiplier);
        words[3..3 + SLOTS].copy_from_slice(&self.slots);
        words
    }
}

fn slot(multiplier: u32, word: u32) -> usize {
    (word.wrapping_mul(multiplier) >> (32 - ADDRESS_BITS)) as usize
}

/// The slots with this multiplier, unless two addresses share one.
fn place(multiplier: u32, words: impl Iterator<Item = u32>) -> Option<[u32; SLOTS]> {
    if slot(multiplier, NOBODY) == 0 {
        return None;
    }
    let mut slots = [0; SLOTS];
    slots[0] = NOBODY;
    for word in words.filter(|&word| word != 0) {
        let at = &mut slots[slot(multiplier, word)];
        if ![0, NOBODY, word].contains(at) {
            return None;
        }
        *at = word;
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours(local: &Local, address: Ipv4Addr) -> bool {
        let word = u32::from_ne_bytes(address.octets());
        local.slots[slot(local.multiplier, word)] == word
    }

    /// Addresses that look like those of real machines, and others.
    fn sets() -> impl Iterator<Item = Vec<Ipv4Addr>> {
        let number = |i: u32| i.wrapping_mul(0x85eb_ca6b) ^ (i >> 7);
        (0..2_000u32).map(move |i| {
            let len = i % (MAX_ADDRESSES as u32 + 1);
            let address = |j: u32| match i % 3 {
                0 => Ipv4Addr::new(10, 0, i as u8, j as u8 + 1),
                1 => Ipv4Addr::new(192, 168, j as u8, 1),
                _ => Ipv4Addr::from_bits(number(i * 8 + j) | 1),
            };
            (0..len).map(address).collect()
        })
    }

    #[test]
    fn exactly_the_given_addresses_are_ours_one_set_after_another() {
        let mut local = Local::new();
        let mut before = Vec::new();
        let others = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 9, 8, 7), Ipv4Addr::LOCALHOST];
        for set in sets() {
            local.set_addresses(&set).unwrap();
            assert!(set.iter().all(|&address| is_ours(&local, address)), "{set:?}");
            for &other in others.iter().chain(&before).filter(|other| !set.contains(other)) {
                assert!(!is_ours(&local, other), "{other} is not in {set:?}");
            }
            before = set;
        }
        local.set_addresses(&[]).unwrap();
        assert!(others.iter().chain(&before).all(|&other| !is_ours(&local, other)));
    }

    #[test]
    fn the_unspecified_address_is_nobodys_and_one_may_stand_there_twice() {
        let mut local = Local::new();
        let twice = Ipv4Addr::new(10, 0, 0, 1);
        local.set_addresses(&[twice, Ipv4Addr::UNSPECIFIED, twice]).unwrap();
        assert!(is_ours(&local, twice) && !is_ours(&local, Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn more_than_there_is_room_for_are_refused_and_change_nothing() {
        let mut local = Local::new();
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        local.set_addresses(&[ours]).unwrap();
        let error = local.set_addresses(&[Ipv4Addr::LOCALHOST; MAX_ADDRESSES + 1]).unwrap_err().to_string();
        assert!(error.contains("9 IPv4 addresses") && error.contains("no more than 8"), "{error}");
        assert!(is_ours(&local, ours) && !is_ours(&local, Ipv4Addr::LOCALHOST));
    }
}
