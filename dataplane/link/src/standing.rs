//! Which gateway of several a node uses: the first live one in the order given.
//!
//! Cargo leaves a gateway at once when it drains, and after [`doubt_after`] when it falls silent. Cargo returns to an
//! earlier gateway when that one has answered for [`STEADY_INTERVALS`] without a break. So cargo moves to and from a
//! gateway that comes and goes at most once in more than five intervals. A gateway that has just started has heard of
//! the other nodes, too, before cargo reaches it.

use crate::SILENT_INTERVALS;
use frame::Time;

/// Heartbeat intervals that a gateway must have answered without a break before it is preferred to a later one.
pub const STEADY_INTERVALS: u64 = 3;

/// After this time without an answer, another gateway is better, in nanoseconds. It is two and a half intervals, so
/// that one lost answer changes nothing. It is less than [`SILENT_INTERVALS`], after which the gateway is lost.
pub const fn doubt_after(interval: u64) -> u64 {
    SILENT_INTERVALS * interval - interval / 2
}

/// The standing of a gateway with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not registered the node, or is lost.
    Away,
    /// It has registered the node, but does not answer now or has just forgotten the node.
    Silent,
    /// It is about to leave.
    Draining,
    /// It has answered since this time.
    Live(Time),
}

/// Which of several gateways to use, given the present one and the standings in the order of preference; `None` while
/// all are away.
///
/// While the present gateway is live, only an earlier one that has been live for [`STEADY_INTERVALS`] replaces it: both
/// ends of a record must have registered there. If the present one is not live, or there is none yet, the result is the
/// first live gateway that has been live for that long, or hardly less long than any other. If none is live, it is the
/// first that drains, otherwise the first that has registered the node.
pub fn choose(
    now: Time,
    interval: u64,
    used: Option<usize>,
    standings: impl Iterator<Item = Standing> + Clone,
) -> Option<usize> {
    let steady = STEADY_INTERVALS.saturating_mul(interval);
    let since = |standing| match standing {
        Standing::Live(since) => Some(since),
        _ => None,
    };
    let oldest = standings.clone().filter_map(since).min();
    let live = used.filter(|&used| standings.clone().nth(used).and_then(since).is_some());
    let is_fit = |(at, standing)| {
        since(standing).zip(oldest).is_some_and(|(since, oldest)| {
            let is_steady = now >= since.saturating_add(steady);
            is_steady || live.map_or(since < oldest.saturating_add(steady), |live| live == at)
        })
    };
    let mut all = standings.clone().enumerate();
    all.find(|&candidate| is_fit(candidate))
        .map(|(at, _)| at)
        .or_else(|| standings.clone().position(|standing| standing == Standing::Draining))
        .or_else(|| standings.clone().position(|standing| standing == Standing::Silent))
}

#[cfg(test)]
mod tests {
    use super::Standing::{Away, Draining, Live, Silent};
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: u64 = 100;

    fn at(now: Time, standings: &[Standing]) -> Option<usize> {
        choose(now, INTERVAL, None, standings.iter().copied())
    }

    fn from(used: usize, now: Time, standings: &[Standing]) -> Option<usize> {
        choose(now, INTERVAL, Some(used), standings.iter().copied())
    }

    #[test]
    fn the_first_live_one_in_the_order_given() {
        assert_eq!(at(1000, &[]), None);
        assert_eq!(at(1000, &[Away, Away]), None);
        assert_eq!(at(1000, &[Live(3), Live(0)]), Some(0));
        assert_eq!(at(1000, &[Silent, Live(0)]), Some(1));
        assert_eq!(at(1000, &[Draining, Away, Live(0)]), Some(2));
    }

    #[test]
    fn one_that_comes_back_must_stay_before_it_is_used_again() {
        assert_eq!(at(1000, &[Live(990), Live(0)]), Some(1));
        assert_eq!(at(1289, &[Live(990), Live(0)]), Some(1));
        assert_eq!(at(1290, &[Live(990), Live(0)]), Some(0));
        assert_eq!(at(1000, &[Live(990), Silent]), Some(0), "no other gateway answers");
    }

    #[test]
    fn at_a_common_start_nobody_waits() {
        for now in [12, 250, 400] {
            assert_eq!(at(now, &[Live(12), Live(10)]), Some(0));
        }
    }

    #[test]
    fn soon_after_a_start_too_the_one_in_use_is_kept_until_an_earlier_one_is_steady() {
        assert_eq!(from(1, 1100, &[Live(1050), Live(1000)]), Some(1));
        assert_eq!(from(1, 1350, &[Live(1050), Live(1000)]), Some(0));
        assert_eq!(from(0, 1100, &[Live(1050), Live(1000)]), Some(0));
        assert_eq!(from(1, 1100, &[Live(1050), Draining]), Some(0));
        assert_eq!(from(0, 1100, &[Draining, Live(1000)]), Some(1));
        assert_eq!(from(7, 1100, &[Live(1050), Live(1000)]), Some(0), "the one in use is not in the list any more");
    }

    #[test]
    fn without_a_live_one_the_one_that_still_answers_is_used() {
        assert_eq!(at(1000, &[Silent, Draining, Away]), Some(1));
        assert_eq!(at(1000, &[Away, Silent, Silent]), Some(1));
    }

    #[test]
    fn silence_is_doubted_before_the_gateway_is_lost_and_after_two_answers_are_missing() {
        assert_eq!(doubt_after(1000), 2500);
    }

    proptest! {
        /// Whatever the first gateway does, the choice returns to it at most once in three intervals.
        #[test]
        fn nothing_flaps(changes in proptest::collection::vec((1u64..400, any::<bool>()), 1..40)) {
            let (mut now, mut first, mut used, mut back) = (1000, Live(0), 0, Vec::new());
            for (step, is_there) in changes {
                for _ in 0..step {
                    now += 1;
                    let next = from(used, now, &[first, Live(0)]).unwrap();
                    if next == 0 && used == 1 {
                        back.push(now);
                    }
                    used = next;
                }
                first = match (first, is_there) {
                    (Live(since), true) => Live(since),
                    (_, true) => Live(now),
                    (_, false) => Silent,
                };
            }
            prop_assert!(back.windows(2).all(|pair| pair[1] - pair[0] >= STEADY_INTERVALS * INTERVAL));
        }
    }
}
