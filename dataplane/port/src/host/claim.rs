//! A port's claim to its addresses. At start it asks for each address, in case another host has it. Then it announces
//! the address, so that neighbours that knew another card there learn this one. It remembers another host that uses the
//! same address, and defends the address from time to time (RFC 5227).

use frame::time::SECOND;
use frame::{More, Repeats, Time};

type Ip4 = [u8; 4];
type Mac = [u8; 6];

/// When the announcements leave, after the first step.
const ANNOUNCE: [Time; 2] = [SECOND, 3 * SECOND];
/// The shortest time between two defences of an address.
const DEFEND: Time = 10 * SECOND;

/// The next message about one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// A probe: does anybody have this address?
    Probe(Ip4),
    /// An announcement: the address is ours.
    Announce(Ip4),
}

/// Another host with an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The address.
    pub ip: [u8; 4],
    /// The other host's Ethernet address.
    pub mac: [u8; 6],
    /// When it was last heard, by the lcores' clock.
    pub heard: Time,
}

#[derive(Debug)]
struct Claim {
    ip: Ip4,
    /// Steps that are done: the probe, then the announcements.
    step: usize,
    due: Time,
    other: Option<Duplicate>,
    /// Until then, it is not defended again.
    quiet_until: Time,
}

/// The claims to all addresses of a port.
#[derive(Debug)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    /// The addresses about which a warning was logged.
    complaints: Repeats<Ip4>,
}

impl Claims {
    pub(super) fn new(addresses: impl Iterator<Item = Ip4>) -> Self {
        let claims: Vec<_> = addresses.map(|ip| Claim { ip, step: 0, due: 0, other: None, quiet_until: 0 }).collect();
        let complaints = Repeats::new(claims.len());
        Self { claims, complaints }
    }

    /// When [`Claims::advance`] has something to say.
    pub(super) fn due(&self) -> Time {
        self.claims.iter().map(|claim| claim.due).min().unwrap_or(Time::MAX)
    }

    /// The message that is due now.
    pub(super) fn advance(&mut self, now: Time) -> Option<Say> {
        for claim in self.claims.iter_mut().filter(|claim| claim.due <= now) {
            let step = claim.step;
            claim.step += 1;
            // From one announcement to the next; after the last one only when the address must be defended.
            claim.due = match ANNOUNCE.get(step) {
                Some(next) => {
                    let before = step.checked_sub(1).and_then(|step| ANNOUNCE.get(step)).copied().unwrap_or(0);
                    now.saturating_add(next - before)
                }
                None => Time::MAX,
            };
            match step {
                0 => return Some(Say::Probe(claim.ip)),
                // The probe has found the owner: an announcement at start would only take the address from the other
                // host.
                1.. if step <= ANNOUNCE.len() && claim.other.is_some() => {}
                _ => return Some(Say::Announce(claim.ip)),
            }
        }
        None
    }

    /// Another host claims one of our addresses. If a warning is due now, returns how many were not logged.
    pub(super) fn contested(&mut self, now: Time, ip: Ip4, mac: Mac) -> Option<More> {
        let claim = self.claims.iter_mut().find(|claim| claim.ip == ip)?;
        claim.other = Some(Duplicate { ip, mac, heard: now });
        if now >= claim.quiet_until {
            claim.quiet_until = now.saturating_add(DEFEND);
            if claim.step > ANNOUNCE.len() {
                claim.due = now;
            }
        }
        self.complaints.hear(now, ip)
    }

    pub(super) fn duplicates(&self) -> impl Iterator<Item = Duplicate> {
        self.claims.iter().filter_map(|claim| claim.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ip4 = [10, 0, 0, 2];

    fn run(claims: &mut Claims, mut now: Time, until: Time) -> Vec<(Time, Say)> {
        let mut said = Vec::new();
        loop {
            match claims.advance(now) {
                Some(say) => said.push((now, say)),
                None if claims.due() <= until => now = claims.due().max(now),
                None => return said,
            }
        }
    }

    #[test]
    fn an_address_is_asked_for_and_then_announced_twice() {
        let mut claims = Claims::new([IP, [10, 0, 1, 2]].into_iter());
        let said = run(&mut claims, 5, 1000 * SECOND);
        let of_first: Vec<_> = said
            .iter()
            .copied()
            .filter(|(_, say)| matches!(say, Say::Probe(ip) | Say::Announce(ip) if *ip == IP))
            .collect();
        let announce = Say::Announce(IP);
        assert_eq!(of_first, [(5, Say::Probe(IP)), (5 + SECOND, announce), (5 + 3 * SECOND, announce)]);
        assert_eq!((said.len(), claims.due()), (6, Time::MAX));
    }

    #[test]
    fn an_address_that_another_has_is_not_announced_at_start_and_defended_later() {
        let mut claims = Claims::new([IP].into_iter());
        assert_eq!(claims.advance(0), Some(Say::Probe(IP)));
        assert_eq!(claims.contested(1, IP, [4; 6]), Some(More(0)));
        assert_eq!(claims.contested(1, [10, 0, 0, 3], [4; 6]), None, "not an address of ours");
        assert_eq!(claims.duplicates().next(), Some(Duplicate { ip: IP, mac: [4; 6], heard: 1 }));
        assert_eq!(run(&mut claims, 1, 9 * SECOND), []);
        assert_eq!(claims.contested(9 * SECOND, IP, [4; 6]), None);
        assert_eq!(run(&mut claims, 9 * SECOND, 10 * SECOND), []);
        assert_eq!(claims.contested(11 * SECOND, IP, [4; 6]), None);
        assert_eq!(run(&mut claims, 11 * SECOND, 60 * SECOND), [(11 * SECOND, Say::Announce(IP))]);
        // The address is defended every ten seconds; the next warning comes after a minute.
        assert_eq!(claims.contested(62 * SECOND, IP, [4; 6]), Some(More(2)));
        assert_eq!(run(&mut claims, 62 * SECOND, 500 * SECOND), [(62 * SECOND, Say::Announce(IP))]);
    }
}
