//! Logs the decisions of the roles since the last check. It reads them from their counters: their poll loops have no
//! log, and need none.

use api::stats::Sets;
use frame::Time;
use frame::time::SECOND;
use serve::board::Board;

/// How often they are logged, in nanoseconds.
const EVERY: Time = SECOND;

/// Sets whose counters are logged, with the name of the crate that counts.
const TOLD: [(&str, &str); 4] = [("gateway", "flush"), ("gateway", "down"), ("gateway", "up"), ("slave", "farm")];

/// Whether a counter of these sets counts a decision. The other counters are in `gvm-dp stats`.
fn is_decision(set: &str, counter: &str) -> bool {
    match set {
        "flush" => counter.starts_with("flush_") || counter == "forwarded_whole",
        "down" | "up" => counter.starts_with("dropped_"),
        _ => true,
    }
}

/// The counters at the last check.
#[derive(Default)]
pub(super) struct Tally {
    before: Option<Sets>,
    at: Time,
}

impl Tally {
    /// Logs what grew in the last second, for those who read traces.
    pub(super) fn log_growth(&mut self, now: Time, board: &Board) {
        let is_read = tracing::enabled!(target: "gateway", tracing::Level::TRACE)
            || tracing::enabled!(target: "slave", tracing::Level::TRACE);
        if !is_read {
            self.before = None;
            return;
        }
        if now < self.at + EVERY && self.before.is_some() {
            return;
        }
        let sets = board.totals();
        if let Some(before) = &self.before {
            for (target, text) in grown(before, &sets) {
                match target {
                    "slave" => tracing::trace!(target: "slave", "{text}"),
                    _ => tracing::trace!(target: "gateway", "{text}"),
                }
            }
        }
        (self.before, self.at) = (Some(sets), now);
    }
}

/// What grew: a line for each set with a change.
fn grown(before: &Sets, now: &Sets) -> Vec<(&'static str, String)> {
    let line = |(target, name): &(&'static str, &str)| {
        let (set, earlier) = (now.get(*name)?, before.get(*name));
        let grew = |(counter, value): (&String, &u64)| {
            let was = earlier.and_then(|earlier| earlier.get(counter)).copied().unwrap_or(0);
            let more = value.checked_sub(was).filter(|more| *more > 0 && is_decision(name, counter))?;
            Some(format!("{counter} {more}"))
        };
        let parts: Vec<String> = set.iter().filter_map(grew).collect();
        (!parts.is_empty()).then(|| (*target, format!("in the last second, {name}: {}", parts.join(", "))))
    };
    TOLD.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_told_and_nothing_else() {
        let set =
            |counters: &[(&str, u64)]| counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let before: Sets =
            [("flush".to_owned(), set(&[("flush_full", 5), ("flush_hold", 1), ("buffers_open", 0)]))].into();
        let now: Sets = [
            ("flush".to_owned(), set(&[("flush_full", 8), ("flush_hold", 1), ("buffers_open", 7)])),
            ("up".to_owned(), set(&[("records_in", 70), ("dropped_spoofed", 2)])),
            ("lcore".to_owned(), set(&[("polls", 9)])),
        ]
        .into();
        let told = [("gateway", "flush: flush_full 3"), ("gateway", "up: dropped_spoofed 2")];
        let told = told.map(|(target, text)| (target, format!("in the last second, {text}")));
        assert_eq!(grown(&before, &now), told);
        assert!(grown(&now, &now).is_empty());
    }
}
