//! Clients whose request is not complete. Their number is bounded, in total and per origin, so that silent connections
//! delay nobody. `gvm-dp qp serve`, the metrics server and the control socket each have their own set.
//!
//! A new caller need not wait for the others. When its origin has its share of callers, the oldest caller of that
//! origin without readable data is closed; when all places are taken, the oldest of the origin with the most callers.
//! So a flood closes its own connections first, and a client that sends at once is served during a flood, too.

use std::net::{IpAddr, Ipv6Addr};
use tokio::sync::oneshot;

/// The bits of an IPv6 address that a host does not choose itself.
const PREFIX: u128 = !(u64::MAX as u128);

/// What counts as one origin: an IPv4 address, or an IPv6 network, because a host there can use any number of
/// addresses.
pub fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & PREFIX)),
        ip => ip,
    }
}

/// One caller. `S` is used to check whether it has sent something.
struct Caller<O, S> {
    number: u64,
    origin: O,
    line: S,
    /// Nothing is sent through it: when it is dropped, the caller must give up its place.
    _stays: oneshot::Sender<()>,
}

/// A caller's place.
pub struct Turn {
    /// For [`Callers::leave`].
    pub number: u64,
    /// Completes when the caller must give up its place.
    pub over: oneshot::Receiver<()>,
}

/// See the module's documentation.
pub struct Callers<O, S> {
    most: usize,
    share: usize,
    /// In their order of arrival.
    under_way: Vec<Caller<O, S>>,
    next: u64,
}

impl<O: Copy + PartialEq, S> Callers<O, S> {
    /// An empty set with at most `most` callers in total, and `share` from one origin.
    pub const fn new(most: usize, share: usize) -> Self {
        Self { most, share, under_way: Vec::new(), next: 0 }
    }

    /// Adds a new caller. `None` if there is no place: every caller that could be closed has sent something, which will
    /// be read soon.
    pub fn admit(&mut self, origin: O, line: S, is_silent: impl Fn(&S) -> bool) -> Option<Turn> {
        let crowded = if self.count(origin) >= self.share {
            Some(origin)
        } else if self.under_way.len() >= self.most {
            self.under_way.iter().map(|caller| caller.origin).max_by_key(|origin| self.count(*origin))
        } else {
            None
        };
        if let Some(crowded) = crowded {
            let gives_way = |caller: &Caller<O, S>| caller.origin == crowded && is_silent(&caller.line);
            let at = self.under_way.iter().position(gives_way)?;
            drop(self.under_way.remove(at));
        }
        let (stays, over) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.under_way.push(Caller { number, origin, line, _stays: stays });
        Some(Turn { number, over })
    }

    /// Removes a caller: its request is complete, or it is gone.
    pub fn leave(&mut self, number: u64) {
        self.under_way.retain(|caller| caller.number != number);
    }

    /// Closes the oldest caller without readable data. `false` if there is none.
    pub fn dismiss_one(&mut self, is_silent: impl Fn(&S) -> bool) -> bool {
        let silent = self.under_way.iter().position(|caller| is_silent(&caller.line));
        silent.map(|at| self.under_way.remove(at)).is_some()
    }

    fn count(&self, origin: O) -> usize {
        self.under_way.iter().filter(|caller| caller.origin == origin).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 256;
    const SHARE: usize = 64;

    fn callers() -> Callers<IpAddr, bool> {
        Callers::new(MOST, SHARE)
    }

    /// A host of a large network.
    fn ip(host: u16) -> IpAddr {
        let [high, low] = host.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    fn is_over(turn: &mut Turn) -> bool {
        matches!(turn.over.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    fn admit(callers: &mut Callers<IpAddr, bool>, ip: IpAddr, has_spoken: bool) -> Option<Turn> {
        callers.admit(origin(ip), has_spoken, |spoken| !spoken)
    }

    #[test]
    fn the_oldest_silent_one_of_an_address_gives_way() {
        let mut callers = callers();
        let mut others = admit(&mut callers, ip(9), false).unwrap();
        let mut first = admit(&mut callers, ip(1), true).unwrap();
        let mut turns: Vec<_> = (1..SHARE).map(|_| admit(&mut callers, ip(1), false).unwrap()).collect();
        assert!(turns.iter_mut().all(|turn| !is_over(turn)));
        let mut new = admit(&mut callers, ip(1), false).unwrap();
        let over: Vec<_> = turns.iter_mut().map(is_over).collect();
        assert!(over[0] && over[1..].iter().all(|over| !over), "{over:?}");
        assert!(!is_over(&mut new) && !is_over(&mut others) && !is_over(&mut first));
        // A caller that left makes room.
        callers.leave(turns[1].number);
        let mut newer = admit(&mut callers, ip(1), false).unwrap();
        assert!(!is_over(&mut newer) && turns[2..].iter_mut().all(|turn| !is_over(turn)));
    }

    #[test]
    fn the_address_with_the_most_gives_way_when_all_places_are_taken() {
        let mut callers = callers();
        let mut lone = admit(&mut callers, ip(1), false).unwrap();
        let mut many: Vec<_> = (0..SHARE).map(|_| admit(&mut callers, ip(2), false).unwrap()).collect();
        let rest: Vec<_> = (SHARE + 1..MOST).map(|at| admit(&mut callers, ip(at as u16), false).unwrap()).collect();
        assert_eq!(callers.under_way.len(), MOST);
        let mut new = admit(&mut callers, ip(3), false).unwrap();
        assert!(is_over(&mut many[0]) && !is_over(&mut many[1]) && !is_over(&mut lone) && !is_over(&mut new));
        drop(rest);
    }

    #[test]
    fn where_all_have_spoken_there_is_no_place_for_a_moment() {
        let mut callers = callers();
        let turns: Vec<_> = (0..SHARE).map(|_| admit(&mut callers, ip(1), true).unwrap()).collect();
        assert!(admit(&mut callers, ip(1), false).is_none());
        assert!(admit(&mut callers, ip(2), false).is_some());
        callers.leave(turns[5].number);
        assert!(admit(&mut callers, ip(1), false).is_some());
    }

    #[test]
    fn the_oldest_silent_one_is_dismissed() {
        let mut callers = callers();
        let mut spoken = admit(&mut callers, ip(1), true).unwrap();
        let mut silent: Vec<_> = (2..4).map(|host| admit(&mut callers, ip(host), false).unwrap()).collect();
        assert!(callers.dismiss_one(|spoken| !spoken));
        assert!(is_over(&mut silent[0]) && !is_over(&mut silent[1]) && !is_over(&mut spoken));
        assert!(callers.dismiss_one(|spoken| !spoken) && !callers.dismiss_one(|spoken| !spoken));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let same = |a: &str, b: &str| origin(a.parse().unwrap()) == origin(b.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::7") && !same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
    }

    proptest! {
        #[test]
        fn there_are_never_too_many(calls in proptest::collection::vec((0u16..6, any::<bool>(), any::<u8>()), 0..900)) {
            let mut callers = callers();
            let mut turns = Vec::new();
            for (host, has_spoken, leaves) in calls {
                turns.extend(admit(&mut callers, ip(host), has_spoken));
                if leaves < 40 && !turns.is_empty() {
                    let turn: Turn = turns.swap_remove(usize::from(leaves) % turns.len());
                    callers.leave(turn.number);
                }
                prop_assert!(callers.under_way.len() <= MOST);
                prop_assert!((0..6).all(|host| callers.count(ip(host)) <= SHARE));
            }
            // Every caller that was not closed has its place.
            let places: Vec<_> = callers.under_way.iter().map(|caller| caller.number).collect();
            for turn in &mut turns {
                prop_assert_eq!(is_over(turn), !places.contains(&turn.number));
            }
        }
    }
}
