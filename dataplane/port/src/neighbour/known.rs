//! The known next hops, and the addresses that were asked for: the state that a resolver and the poll loops share.

use crate::addresses::Addresses;
use crate::lock::lock;
use crate::netlink::Ip4;
use crate::worker::Bell;
use frame::{Peer, Time};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The Ethernet address of the next hop.
    pub mac: [u8; 6],
    /// The address that the kernel would send from.
    pub source: Option<[u8; 4]>,
}

/// A source of next hops for peers that were never heard.
pub trait NextHops {
    /// The next hop towards a peer; `None` while its Ethernet address is not known, and then it is asked for. Called
    /// for datagrams, so it never waits.
    fn lookup(&mut self, now: Time, ip: [u8; 4]) -> Option<NextHop>;
}

impl<T: NextHops> NextHops for Option<T> {
    fn lookup(&mut self, now: Time, ip: [u8; 4]) -> Option<NextHop> {
        self.as_mut()?.lookup(now, ip)
    }
}

/// Fills in the way to a peer that was never heard: the Ethernet address, and the number of our address towards it.
/// `false` while the way is not known.
#[cold]
pub fn resolve(hops: &mut impl NextHops, ours: &Addresses, now: Time, peer: &mut Peer) -> bool {
    let Some(hop) = peer.ipv4_octets().and_then(|ip| hops.lookup(now, ip)) else { return false };
    peer.mac = hop.mac;
    // The local end of a RoCEv2 connection is one fixed address, and an ICRC covers it.
    if !peer.is_roce() {
        peer.local = hop.source.map_or(0, |source| ours.number(source));
    }
    true
}

/// The most peers that are looked up on one interface. Others must have been heard.
pub const MAX_PEERS: usize = 64;

/// The state that a resolver and the poll loops share.
pub(super) struct Shared {
    /// Grows whenever `table` changes.
    generation: AtomicU64,
    pub(super) table: Mutex<Vec<(Ip4, NextHop)>>,
    /// Addresses that were asked for, and that the resolver has not seen yet.
    pub(super) asked: Mutex<Vec<Ip4>>,
    /// Rung when an address was asked for.
    pub(super) bell: Arc<Bell>,
}

impl Shared {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { generation: AtomicU64::new(0), table: Mutex::default(), asked: Mutex::default(), bell }
    }

    pub(super) fn publish(&self, table: &[(Ip4, NextHop)]) {
        let mut shown = lock(&self.table);
        if *shown != table {
            table.clone_into(&mut shown);
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}

/// One poll loop's copy of the next hops behind an interface.
#[derive(Clone)]
pub struct Neighbours {
    shared: Arc<Shared>,
    generation: u64,
    table: Vec<(Ip4, NextHop)>,
    asked: Vec<Ip4>,
}

impl Neighbours {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, generation: 0, table: Vec::with_capacity(MAX_PEERS), asked: Vec::with_capacity(MAX_PEERS) }
    }

    /// A poll loop waits for no lock: if the resolver holds it, the next look-up tries again.
    fn refresh(&mut self) {
        if let Ok(table) = self.shared.table.try_lock() {
            table.clone_into(&mut self.table);
            self.generation = self.shared.generation.load(Ordering::Acquire);
        }
    }

    fn ask(&mut self, ip: Ip4) {
        if self.asked.len() < MAX_PEERS
            && let Ok(mut asked) = self.shared.asked.try_lock()
        {
            asked.push(ip);
            self.asked.push(ip);
            self.shared.bell.ring();
        }
    }
}

impl NextHops for Neighbours {
    fn lookup(&mut self, _now: Time, ip: [u8; 4]) -> Option<NextHop> {
        if self.generation != self.shared.generation.load(Ordering::Acquire) {
            self.refresh();
        }
        let found = self.table.iter().find(|(known, _)| *known == ip).map(|(_, hop)| *hop);
        if found.is_none() && !self.asked.contains(&ip) {
            self.ask(ip);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_once_and_found_when_it_was_told() {
        let shared = Arc::new(Shared::new(Arc::new(Bell::new().unwrap())));
        let (mut one, mut two) = (Neighbours::new(Arc::clone(&shared)), Neighbours::new(Arc::clone(&shared)));
        let (ip, hop) = ([192, 0, 2, 1], NextHop { mac: [2, 0, 0, 0, 0, 1], source: Some([192, 0, 2, 9]) });
        for _ in 0..3 {
            assert_eq!(one.lookup(0, ip), None);
        }
        assert_eq!(*lock(&shared.asked), [ip]);
        shared.publish(&[(ip, hop)]);
        assert_eq!((one.lookup(0, ip), two.lookup(0, ip)), (Some(hop), Some(hop)));
        let generation = shared.generation.load(Ordering::Relaxed);
        shared.publish(&[(ip, hop)]);
        assert_eq!(shared.generation.load(Ordering::Relaxed), generation);
        // The neighbour has another card now; later it is gone.
        let other = NextHop { mac: [2; 6], ..hop };
        shared.publish(&[(ip, other)]);
        assert_eq!(one.lookup(0, ip), Some(other));
        shared.publish(&[]);
        assert_eq!(one.lookup(0, ip), None);
    }

    #[test]
    fn no_more_peers_are_asked_for_than_there_is_room() {
        let shared = Arc::new(Shared::new(Arc::new(Bell::new().unwrap())));
        let mut neighbours = Neighbours::new(Arc::clone(&shared));
        for i in 0..200 {
            assert_eq!(neighbours.lookup(0, [192, 0, 2, i]), None);
        }
        assert_eq!(lock(&shared.asked).len(), MAX_PEERS);
    }
}
