//! How a sender chooses the two fields of its IPv4 headers that the ICRC covers and a socket does not show: the
//! identification, and Don't Fragment.
//!
//! Some identification explains a damaged packet once in 65,536 times; a given one explains it once in 4 billion. So
//! the check is complete only with knowledge about the sender. A sender that always sends the same identification must
//! send it again. A sender that counts must send one of the next few. After a pause Linux adds a random number to its
//! count, at most one for each tick of its clock.
//!
//! A packet that does not follow from the sender's last ones is dropped and remembered. If the next packet continues
//! from there, the sender counts from there now. So a change costs one packet, which is sent again; and damage passes
//! only if it is explained twice in a row, by identifications that fit together. After three such packets the sender is
//! taken as one without order, and its packets are checked by 16 bits only.

use frame::Time;
use frame::time::MILLISECOND;

/// Don't Fragment, in the word of flags and fragment offset.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;

/// How far a counting sender may be ahead without a pause: it sent packets to others, or packets were lost.
const AHEAD: u16 = 4;
/// How far it may be ahead after a pause; Linux's clock ticks once in a millisecond or less often.
const AHEAD_AT_MOST: u16 = 1024;
/// After this many unexpected packets in a row a sender counts as one without order.
const STRANGERS: u8 = 3;
/// After this many packets in order the sender's order is fixed.
const PROVEN: u8 = 16;

/// The two fields of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The identification.
    pub id: u16,
    /// Flags and fragment offset: [`DONT_FRAGMENT`] or 0.
    pub fragment: u16,
}

/// How identifications follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Constant,
    Counting,
    /// No visible order.
    Unknown,
}

/// What is known about a sender.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    last: Chosen,
    order: Order,
    /// When the last packet came.
    heard: Time,
    /// Identifications before the last one that did not come: bit 0 is for the one right before it.
    missing: u16,
    /// Packets in this order so far, up to [`PROVEN`].
    proven: u8,
    /// The last packet, if it was unexpected, and when it came.
    stranger: Option<(Chosen, Time)>,
    /// Unexpected packets in a row.
    strangers: u8,
}

impl Sender {
    /// An unknown sender. Most likely it is one of ours, which always sends 0 with Don't Fragment.
    pub const fn new() -> Self {
        Self::in_order(Chosen { id: 0, fragment: DONT_FRAGMENT }, Order::Constant, 0)
    }

    const fn in_order(last: Chosen, order: Order, heard: Time) -> Self {
        Self { last, order, heard, missing: 0, proven: 0, stranger: None, strangers: 0 }
    }

    /// The flags and the fragment offset that its packets have.
    pub const fn fragment(&self) -> u16 {
        self.last.fragment
    }

    /// Whether its last packets do not determine the next one.
    pub fn is_unpredictable(&self) -> bool {
        self.order == Order::Unknown
    }

    /// Takes over the knowledge of another one, which was right about a packet; but not that there is no order.
    pub fn take_over(&mut self, other: &Self) {
        if !other.is_unpredictable() {
            *self = *other;
        }
    }

    /// Whether its last packets let us expect this one.
    pub fn expects(&self, now: Time, chosen: Chosen) -> bool {
        if chosen.fragment != self.last.fragment {
            return false;
        }
        let ahead = chosen.id.wrapping_sub(self.last.id);
        match self.order {
            Order::Constant => ahead == 0,
            Order::Counting => is_ahead(ahead, now, self.heard) || self.is_missing(ahead),
            Order::Unknown => true,
        }
    }

    fn is_missing(&self, ahead: u16) -> bool {
        let behind = ahead.wrapping_neg();
        (1..=16).contains(&behind) && self.missing & (1 << (behind - 1)) != 0
    }

    /// Notes an expected packet.
    pub fn saw(&mut self, now: Time, chosen: Chosen) {
        let ahead = chosen.id.wrapping_sub(self.last.id);
        (self.heard, self.stranger, self.strangers) = (now, None, 0);
        let follows = match self.order {
            Order::Constant => true,
            Order::Counting if self.is_missing(ahead) => {
                self.missing &= !(1 << (ahead.wrapping_neg() - 1));
                // It came late; the last one stays the last.
                return;
            }
            Order::Counting => {
                // A few that did not come may still come; after a jump nothing is expected.
                let passed = u32::from(ahead).min(16);
                let left_out = if ahead <= AHEAD { (1u16 << (ahead - 1)) - 1 } else { 0 };
                self.missing = self.missing.checked_shl(passed).unwrap_or(0) | left_out;
                true
            }
            Order::Unknown => ahead <= AHEAD,
        };
        let constant = ahead == 0;
        self.last = chosen;
        self.proven = if follows { self.proven.saturating_add(1).min(PROVEN) } else { 0 };
        if self.order == Order::Unknown && self.proven == PROVEN {
            let order = if constant { Order::Constant } else { Order::Counting };
            *self = Self::in_order(chosen, order, now);
        }
    }

    /// Notes an unexpected packet. Returns whether this packet and the one before it show how the sender chooses; then
    /// the packet is right. `may_give_up` says whether the sender may be classified as one without order. Among the
    /// packets of a whole host that would hide the order of each queue pair.
    pub fn saw_stranger(&mut self, now: Time, chosen: Chosen, may_give_up: bool) -> bool {
        self.strangers = self.strangers.saturating_add(1);
        let Some((before, at)) = self.stranger.replace((chosen, now)) else { return false };
        if before.fragment != chosen.fragment {
            return false;
        }
        let ahead = chosen.id.wrapping_sub(before.id);
        let order = match ahead {
            0 => Order::Constant,
            ahead if is_ahead(ahead, now, at) => Order::Counting,
            _ if may_give_up && self.strangers >= STRANGERS => Order::Unknown,
            _ => return false,
        };
        // A sender with a proven order does not change it; a counting one may continue elsewhere.
        if self.proven == PROVEN && (self.order == Order::Constant || order != Order::Counting) {
            return false;
        }
        let proven = if self.order == order { self.proven } else { 0 };
        *self = Self { proven, ..Self::in_order(chosen, order, now) };
        true
    }
}

/// Whether a counting sender may have advanced this far since then.
fn is_ahead(ahead: u16, now: Time, since: Time) -> bool {
    let ticks = u16::try_from(now.saturating_sub(since) / MILLISECOND).unwrap_or(u16::MAX);
    (1..=AHEAD.saturating_add(ticks).min(AHEAD_AT_MOST)).contains(&ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::SECOND;
    use proptest::prelude::*;

    fn df(id: u16) -> Chosen {
        Chosen { id, fragment: DONT_FRAGMENT }
    }

    /// Shows a packet to the record of its sender. Returns whether the packet is accepted.
    fn takes(sender: &mut Sender, now: Time, chosen: Chosen) -> bool {
        if sender.expects(now, chosen) {
            sender.saw(now, chosen);
            return true;
        }
        sender.saw_stranger(now, chosen, true)
    }

    /// How many identifications would be accepted next.
    fn possible(sender: &Sender, now: Time) -> usize {
        (0..=u16::MAX).filter(|id| takes(&mut sender.clone(), now, df(*id))).count()
    }

    #[test]
    fn our_own_kind_is_held_to_zero_from_the_first_packet_on() {
        let mut sender = Sender::new();
        assert_eq!(possible(&sender, 0), 1);
        for now in 0..PROVEN.into() {
            assert!(takes(&mut sender, now, df(0)));
        }
        // The same damage in each packet, which another identification would explain, must not be learned as the
        // sender's habit.
        for now in 100..200 {
            assert!(!takes(&mut sender, now, df(0x1234)) && !takes(&mut sender, now, df(0x1235)));
        }
        assert_eq!(possible(&sender, 200), 1);
        assert!(takes(&mut sender, 201, df(0)));
    }

    #[test]
    fn another_constant_costs_one_packet() {
        let mut sender = Sender::new();
        let other = Chosen { id: 0x718c, fragment: 0 };
        assert!(!takes(&mut sender, 0, other));
        for now in 1..100 {
            assert!(takes(&mut sender, now, other));
        }
        assert!(sender.fragment() == 0 && !sender.expects(100, df(0x718c)) && possible(&sender, 100) == 0);
    }

    #[test]
    fn a_count_costs_one_packet_and_is_followed_over_gaps_and_around() {
        let mut sender = Sender::new();
        assert!(!takes(&mut sender, 0, df(65_500)));
        for step in 1..100u16 {
            assert!(takes(&mut sender, 0, df(65_500u16.wrapping_add(step))), "{step}");
        }
        let at = 65_500u16.wrapping_add(99);
        assert_eq!(possible(&sender, 0), usize::from(AHEAD));
        // Three packets are late, and two of them arrive.
        assert!(takes(&mut sender, 0, df(at + 4)));
        assert!(takes(&mut sender, 0, df(at + 3)) && takes(&mut sender, 0, df(at + 1)));
        assert!(!sender.expects(0, df(at + 1)) && sender.expects(0, df(at + 2)));
        assert!(takes(&mut sender, 0, df(at + 5)) && takes(&mut sender, 0, df(at + 2)));
        // The count continues elsewhere.
        assert!(!takes(&mut sender, 0, df(at + 5000)) && takes(&mut sender, 0, df(at + 5001)));
        assert!(takes(&mut sender, 0, df(at + 5002)) && !sender.is_unpredictable());
        // A copy that the network made is one packet too many.
        assert!(!takes(&mut sender, 0, df(at + 5002)) && takes(&mut sender, 0, df(at + 5003)));
    }

    #[test]
    fn damage_between_good_packets_is_never_believed() {
        let mut sender = Sender::new();
        for step in 0..100u16 {
            takes(&mut sender, 0, df(step));
        }
        for step in 100..1000u16 {
            assert!(!takes(&mut sender, 0, df(step.wrapping_mul(0x9e37) | 0x8000)), "{step}");
            assert!(takes(&mut sender, 0, df(step)), "{step}");
        }
    }

    #[test]
    fn who_keeps_to_no_order_is_believed_until_there_is_one() {
        let mut sender = Sender::new();
        let random = |step: u32| df((step.wrapping_mul(0x9e37_79b1) >> 16) as u16);
        assert!(!takes(&mut sender, 0, random(1)) && !takes(&mut sender, 0, random(2)));
        for step in 3..100 {
            assert!(takes(&mut sender, 0, random(step)));
        }
        assert!(sender.is_unpredictable() && !sender.expects(0, Chosen { fragment: 0, ..random(5) }));
        for step in 0..u16::from(PROVEN) + 2 {
            assert!(takes(&mut sender, 0, df(step)));
        }
        assert!(!sender.is_unpredictable() && possible(&sender, 0) == usize::from(AHEAD));
    }

    proptest! {
        /// Linux adds one for each packet. After a pause it adds up to one more for each tick, and has up to 1000 ticks
        /// a second.
        #[test]
        fn linux_is_followed_without_a_loss_while_pauses_are_short(
            first in 1u16..u16::MAX,
            packets in proptest::collection::vec((0u64..SECOND, 0.0f64..1.0), 1..200)
        ) {
            let mut sender = Sender::new();
            let (mut id, mut now) = (first, 0);
            takes(&mut sender, now, df(id));
            id = id.wrapping_add(1);
            prop_assert!(takes(&mut sender, now, df(id)));
            for (pause, share) in packets {
                now += pause;
                id = id.wrapping_add(1 + ((pause / MILLISECOND) as f64 * share) as u16);
                prop_assert!(takes(&mut sender, now, df(id)), "{} after {} ns", id, pause);
            }
        }
    }
}
