//! The neighbours of a port: a bounded table of state machines, driven by packets and time.
//!
//! | state | the address is | what happens |
//! |---|---|---|
//! | incomplete | not known | a broadcast question, repeated each time after twice the pause |
//! | reachable | known | nothing, for [`REACHABLE`] after it was confirmed |
//! | stale | known and used | the first use asks the neighbour itself |
//! | probing | known and used | the neighbour is asked, then everybody; if nobody answers, the state is failed |
//! | failed | not known any more | everybody is asked from time to time, while the neighbour is wanted |
//!
//! A neighbour that nobody wanted for [`FORGET`] is forgotten.

use frame::Time;
use frame::time::{MILLISECOND, SECOND};

type Ip4 = [u8; 4];
type Mac = [u8; 6];

/// The most neighbours of one port.
pub const MAX_NEIGHBOURS: usize = 1024;

/// How long an address is trusted after it was confirmed.
pub(super) const REACHABLE: Time = 30 * SECOND;
/// How long a neighbour is remembered after it was last wanted or heard.
pub(super) const FORGET: Time = 120 * SECOND;
/// How long the first question waits for its answer; each further one waits twice as long, up to [`SLOWEST`].
const PATIENCE: Time = 250 * MILLISECOND;
const SLOWEST: Time = 8 * SECOND;
/// Questions without an answer after which a neighbour has failed.
const TRIES: u8 = 6;
/// How many of these go to the neighbour alone while its address is still believed.
const UNICAST_TRIES: u8 = 3;

/// How sure a port is of a neighbour's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for, no answer yet.
    Incomplete,
    /// Confirmed recently.
    Reachable,
    /// Known, but not confirmed recently.
    Stale,
    /// Known, used, and being asked.
    Probing,
    /// Does not answer.
    Failed,
}

impl State {
    /// The name in statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probing => "probing",
            Self::Failed => "failed",
        }
    }
}

/// One neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ip: Ip4,
    /// Meaningless while incomplete or failed.
    pub(super) mac: Mac,
    pub(super) state: State,
    /// When something was last to be sent to it.
    wanted: Option<Time>,
    /// When it was last heard; before that, when the entry was made.
    pub(super) heard: Time,
    /// When the entry has work next.
    due: Time,
    tries: u8,
}

impl Entry {
    /// Whether datagrams can be sent to it.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.state, State::Reachable | State::Stale | State::Probing)
    }

    fn forget_at(&self) -> Time {
        self.wanted.unwrap_or(0).max(self.heard).saturating_add(FORGET)
    }

    fn become_stale(&mut self, mac: Mac) {
        (self.state, self.mac, self.tries) = (State::Stale, mac, 0);
        self.due = self.forget_at();
    }
}

/// A question to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) ip: Ip4,
    /// The neighbour to ask; `None` is everybody.
    pub(super) to: Option<Mac>,
}

/// The result of an event for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that others must know.
    Nothing,
    /// A new neighbour.
    Learned,
    /// It has another Ethernet address than before.
    Moved,
    /// No room: every entry is wanted.
    Full,
}

/// The next step that [`Table::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this question.
    Ask(Question),
    /// A neighbour no longer answers.
    Failed,
    /// Nothing is due.
    Rest,
}

/// The neighbours, in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Whether the part that poll loops know has changed since this was last cleared.
    pub(super) changed: bool,
}

impl Table {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// When [`Table::advance`] has work.
    pub(super) fn due(&self) -> Time {
        self.entries.iter().map(|entry| entry.due).min().unwrap_or(Time::MAX)
    }

    fn find(&self, ip: Ip4) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&ip, |entry| entry.ip)
    }

    /// Makes room for one more: forgets the neighbour that was not wanted for the longest time, if nobody wanted it
    /// recently.
    fn make_room(&mut self, now: Time) -> bool {
        if self.entries.len() < MAX_NEIGHBOURS {
            return true;
        }
        let is_idle = |entry: &Entry| entry.wanted.is_none_or(|wanted| now.saturating_sub(wanted) > REACHABLE);
        let idle = self.entries.iter().enumerate().filter(|(_, entry)| is_idle(entry));
        let Some((at, _)) = idle.min_by_key(|(_, entry)| (entry.wanted, entry.heard)) else { return false };
        self.entries.remove(at);
        self.changed = true;
        true
    }

    fn insert(&mut self, entry: Entry) {
        if let Err(at) = self.find(entry.ip) {
            self.entries.insert(at, entry);
            self.changed = true;
        }
    }

    /// Something is to be sent to this neighbour.
    pub(super) fn want(&mut self, now: Time, ip: Ip4) -> Change {
        if let Ok(at) = self.find(ip) {
            let entry = &mut self.entries[at];
            entry.wanted = Some(now);
            if entry.state == State::Stale {
                (entry.state, entry.tries, entry.due) = (State::Probing, 0, now);
                self.changed = true;
            }
            return Change::Nothing;
        }
        if !self.make_room(now) {
            return Change::Full;
        }
        let state = State::Incomplete;
        self.insert(Entry { ip, mac: [0; 6], state, wanted: Some(now), heard: now, due: now, tries: 0 });
        Change::Nothing
    }

    /// A neighbour answered our question.
    pub(super) fn answered(&mut self, now: Time, ip: Ip4, mac: Mac) -> Change {
        let Ok(at) = self.find(ip) else { return Change::Nothing };
        let entry = &mut self.entries[at];
        let change = match entry.is_known() {
            true if entry.mac == mac => Change::Nothing,
            true => Change::Moved,
            false => Change::Learned,
        };
        // An answer that nobody asked for is believed as much as a question is.
        if matches!(entry.state, State::Reachable | State::Stale) {
            return self.heard(now, ip, mac, false);
        }
        entry.heard = now;
        (entry.state, entry.mac, entry.tries, entry.due) = (State::Reachable, mac, 0, now.saturating_add(REACHABLE));
        self.changed = true;
        change
    }

    /// A neighbour gave its address without having been asked; `to_us` if it asked for us, so that we shall answer it
    /// soon.
    pub(super) fn heard(&mut self, now: Time, ip: Ip4, mac: Mac, to_us: bool) -> Change {
        if let Ok(at) = self.find(ip) {
            let entry = &mut self.entries[at];
            entry.heard = now;
            let (known, same) = (entry.is_known(), entry.mac == mac);
            match (known, same) {
                (true, true) => return Change::Nothing,
                _ => entry.become_stale(mac),
            }
            self.changed = true;
            return if known { Change::Moved } else { Change::Learned };
        }
        if !to_us {
            return Change::Nothing;
        }
        if !self.make_room(now) {
            return Change::Full;
        }
        let due = now.saturating_add(FORGET);
        self.insert(Entry { ip, mac, state: State::Stale, wanted: None, heard: now, due, tries: 0 });
        Change::Learned
    }

    /// Does one step that is due. Call it until it returns [`Step::Rest`].
    pub(super) fn advance(&mut self, now: Time) -> Step {
        while let Some(at) = self.entries.iter().position(|entry| entry.due <= now) {
            let entry = &mut self.entries[at];
            match entry.state {
                State::Reachable => {
                    let mac = entry.mac;
                    entry.become_stale(mac);
                    self.changed = true;
                }
                State::Stale => {
                    // It may have been wanted or heard since this time was set.
                    entry.due = entry.forget_at();
                    if entry.due <= now {
                        self.entries.remove(at);
                        self.changed = true;
                    }
                }
                State::Incomplete | State::Probing if entry.tries >= TRIES => {
                    (entry.state, entry.due) = (State::Failed, now.saturating_add(SLOWEST));
                    self.changed = true;
                    return Step::Failed;
                }
                State::Failed if entry.forget_at() <= now => {
                    self.entries.remove(at);
                    self.changed = true;
                }
                State::Incomplete | State::Probing | State::Failed => {
                    let to = (entry.state == State::Probing && entry.tries < UNICAST_TRIES).then_some(entry.mac);
                    let patience = PATIENCE.saturating_mul(1 << entry.tries.min(10)).min(SLOWEST);
                    entry.tries = entry.tries.saturating_add(1);
                    entry.due = now.saturating_add(if entry.state == State::Failed { SLOWEST } else { patience });
                    return Step::Ask(Question { ip: entry.ip, to });
                }
            }
        }
        Step::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    fn ip(last: u16) -> Ip4 {
        let [a, b] = last.to_be_bytes();
        [10, 0, a, b]
    }

    /// All questions up to `until`, with their times; and how often a neighbour failed.
    fn run(table: &mut Table, mut now: Time, until: Time) -> (Vec<(Time, Question)>, usize) {
        let (mut asked, mut failed) = (Vec::new(), 0);
        loop {
            match table.advance(now) {
                Step::Ask(question) => asked.push((now, question)),
                Step::Failed => failed += 1,
                Step::Rest if table.due() <= until => now = table.due(),
                Step::Rest => return (asked, failed),
            }
        }
    }

    fn state(table: &Table, ip: Ip4) -> Option<State> {
        Some(table.entries()[table.find(ip).ok()?].state)
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_more_slowly_and_fails() {
        let mut table = Table::default();
        assert_eq!(table.want(0, ip(1)), Change::Nothing);
        let (asked, failed) = run(&mut table, 0, 15_999 * MILLISECOND);
        let times: Vec<_> = asked.iter().map(|(at, _)| at / MILLISECOND).collect();
        assert_eq!((&times[..], failed), (&[0, 250, 750, 1750, 3750, 7750][..], 1));
        assert!(asked.iter().all(|(_, question)| *question == Question { ip: ip(1), to: None }));
        assert_eq!(state(&table, ip(1)), Some(State::Failed));
        // Still wanted: it is asked for from time to time, until nobody wants it any more.
        let (asked, failed) = run(&mut table, 16 * SECOND, 1000 * SECOND);
        assert!((10..=14).contains(&asked.len()) && failed == 0, "{asked:?}");
        assert_eq!(table.entries().len(), 0);
        assert_eq!(table.due(), Time::MAX);
    }

    #[test]
    fn an_answer_is_believed_for_a_while_and_then_asked_for_again_when_used() {
        let mut table = Table::default();
        table.want(0, ip(1));
        run(&mut table, 0, MILLISECOND);
        assert_eq!(table.answered(MILLISECOND, ip(1), MAC), Change::Learned);
        assert_eq!(state(&table, ip(1)), Some(State::Reachable));
        assert_eq!(run(&mut table, MILLISECOND, REACHABLE + MILLISECOND), (vec![], 0));
        assert_eq!(state(&table, ip(1)), Some(State::Stale));
        let used = REACHABLE + SECOND;
        table.want(used, ip(1));
        let (asked, _) = run(&mut table, used, used + MILLISECOND);
        assert_eq!(asked, [(used, Question { ip: ip(1), to: Some(MAC) })]);
        assert_eq!((state(&table, ip(1)), table.entries()[0].is_known()), (Some(State::Probing), true));
        // It does not answer: then everybody is asked, and only after that its address is no longer used.
        let (asked, failed) = run(&mut table, used, used + 16 * SECOND);
        let to: Vec<_> = asked.iter().map(|(_, question)| question.to).collect();
        assert_eq!((&to[..], failed), (&[Some(MAC), Some(MAC), None, None, None][..], 1));
        assert!(!table.entries()[0].is_known());
        // It returns with another card.
        assert_eq!(table.answered(used + 17 * SECOND, ip(1), [4; 6]), Change::Learned);
        assert_eq!((table.entries()[0].mac, state(&table, ip(1))), ([4; 6], Some(State::Reachable)));
    }

    #[test]
    fn who_asks_for_us_is_known_and_others_only_if_they_were() {
        let mut table = Table::default();
        assert_eq!(table.heard(0, ip(1), MAC, false), Change::Nothing);
        assert_eq!(table.heard(0, ip(1), MAC, true), Change::Learned);
        assert_eq!(table.heard(1, ip(1), [4; 6], false), Change::Moved);
        assert_eq!((table.entries()[0].mac, state(&table, ip(1))), ([4; 6], Some(State::Stale)));
        // An answer that nobody asked for does not count as a confirmation.
        assert_eq!(table.answered(2, ip(1), MAC), Change::Moved);
        assert_eq!(state(&table, ip(1)), Some(State::Stale));
        assert_eq!(table.answered(2, ip(2), MAC), Change::Nothing);
        run(&mut table, 3, FORGET - 1);
        assert_eq!(table.entries().len(), 1);
        run(&mut table, FORGET, FORGET + 10);
        assert_eq!(table.entries().len(), 0);
    }

    #[test]
    fn a_flood_of_strangers_forgets_no_neighbour_that_is_wanted() {
        let mut table = Table::default();
        table.want(0, ip(0));
        table.answered(0, ip(0), MAC);
        for stranger in 1..3000 {
            assert_eq!(table.heard(Time::from(stranger), ip(stranger), MAC, true), Change::Learned);
        }
        assert_eq!((table.entries().len(), state(&table, ip(0))), (MAX_NEIGHBOURS, Some(State::Reachable)));
        // All are wanted: now there is no room.
        let mut table = Table::default();
        for peer in 0..MAX_NEIGHBOURS as u16 {
            assert_eq!(table.want(0, ip(peer)), Change::Nothing);
        }
        assert_eq!((table.want(1, ip(5000)), table.heard(1, ip(5000), MAC, true)), (Change::Full, Change::Full));
        assert_eq!(table.want(REACHABLE + 1, ip(5000)), Change::Nothing);
        assert_eq!(table.entries().len(), MAX_NEIGHBOURS);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Want(u16),
        Answer(u16, u8),
        Hear(u16, u8, bool),
        Pass(Time),
    }

    fn event() -> impl Strategy<Value = Event> {
        let who = 0u16..5;
        prop_oneof![
            who.clone().prop_map(Event::Want),
            (who.clone(), 1u8..4).prop_map(|(ip, mac)| Event::Answer(ip, mac)),
            (who, 1u8..4, any::<bool>()).prop_map(|(ip, mac, to_us)| Event::Hear(ip, mac, to_us)),
            (0u64..40_000).prop_map(|ms| Event::Pass(ms * MILLISECOND)),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: the neighbour itself gave every known address, every wanted one is asked
        /// for, every wait ends, and the table is sorted and has no more entries than neighbours.
        #[test]
        fn whatever_happens_the_table_is_sound(events in proptest::collection::vec(event(), 1..60)) {
            let mut table = Table::default();
            let mut now = 0;
            let mut said = std::collections::HashMap::new();
            for event in events {
                match event {
                    Event::Want(who) => {
                        let known = table.find(ip(who)).is_ok_and(|at| table.entries()[at].is_known());
                        table.want(now, ip(who));
                        if !known {
                            prop_assert!(table.due() <= now.saturating_add(SLOWEST), "asked for soon");
                        }
                    }
                    Event::Answer(who, mac) => {
                        let known = table.find(ip(who)).is_ok();
                        table.answered(now, ip(who), [mac; 6]);
                        if known {
                            said.insert(ip(who), [mac; 6]);
                        }
                    }
                    Event::Hear(who, mac, to_us) => {
                        let known = table.find(ip(who)).is_ok();
                        table.heard(now, ip(who), [mac; 6], to_us);
                        if known || to_us {
                            said.insert(ip(who), [mac; 6]);
                        }
                    }
                    Event::Pass(time) => {
                        now += time;
                        let mut steps = 0;
                        while table.advance(now) != Step::Rest {
                            steps += 1;
                            prop_assert!(steps < 100);
                        }
                        prop_assert!(table.due() > now);
                    }
                }
                prop_assert!(table.entries().is_sorted_by_key(|entry| entry.ip) && table.entries().len() <= 5);
                for entry in table.entries().iter().filter(|entry| entry.is_known()) {
                    prop_assert_eq!(said.get(&entry.ip), Some(&entry.mac));
                }
            }
        }
    }
}
