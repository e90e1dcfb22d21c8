//! The state of the screen: the last samples, the sort order, the changes of members.

use crate::format::grouped;
use crate::rates::{DiskRates, LcoreRates, Rates, value};
use api::stats::Stats;
use ratatui::crossterm::event::KeyCode;
use std::collections::VecDeque;

/// How many samples keep their records per second for the curve.
const HISTORY: usize = 240;

/// How many changes of membership are kept.
const CHANGES: usize = 8;

/// The sort key of lcores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Their number.
    #[default]
    Index,
    /// How busy they are.
    Busy,
    /// Records per second.
    Records,
    /// Nanoseconds per record.
    Cost,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Index, Self::Busy, Self::Records, Self::Cost];

    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Busy => "busy",
            Self::Records => "records/s",
            Self::Cost => "ns/record",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL.get(at + 1).copied().unwrap_or_default()
    }
}

/// A change of membership that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When it happened, in seconds since the process started.
    pub at: f64,
    /// What changed.
    pub what: String,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// The process's name.
    pub name: String,
    /// The last sample.
    pub stats: Option<Stats>,
    /// Its rates, compared to the sample before.
    pub rates: Option<Rates>,
    /// Records per second of each sample, of a disk requests per second; the newest last.
    pub history: VecDeque<u64>,
    /// Changes of membership, the newest first.
    pub changes: VecDeque<Change>,
    /// Why the process does not answer; `None` if it does.
    pub silence: Option<String>,
    /// Whether the screen is frozen.
    pub paused: bool,
    /// The sort key of lcores.
    pub sort: Sort,
    /// Whether the order is reversed.
    pub reversed: bool,
    /// How many rows of the lcore and port tables are scrolled away.
    pub scroll: usize,
}

impl App {
    /// The state before the first sample of the process with this name.
    pub fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Takes in a sample of the process.
    pub fn take(&mut self, now: Stats) {
        self.silence = None;
        if self.paused {
            return;
        }
        let before = self.stats.take();
        let rates = Rates::new(before.as_ref(), &now);
        if let Some(before) = &before {
            if before.pid != now.pid {
                self.change(&now, format!("the process was started anew, pid {}", now.pid));
            } else if let Some(what) = changed(before, &now) {
                self.change(&now, what);
            }
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            let records = || rates.lcores.iter().map(|lcore| lcore.records).sum::<f64>();
            self.history.push_back(rates.disk.as_ref().map_or_else(records, DiskRates::rate) as u64);
        }
        self.scroll = self.scroll.min(now.lcores.len().saturating_sub(1));
        (self.stats, self.rates) = (Some(now), Some(rates));
    }

    fn change(&mut self, now: &Stats, what: String) {
        self.changes.truncate(CHANGES - 1);
        self.changes.push_front(Change { at: now.uptime_seconds, what });
    }

    /// The process did not answer.
    pub fn miss(&mut self, why: String) {
        self.silence = Some(why);
    }

    /// Handles a key; `false` if it asks for the end.
    pub fn key(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = (self.scroll + 1).min(self.last_row()),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::PageDown => self.scroll = (self.scroll + 10).min(self.last_row()),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        true
    }

    fn last_row(&self) -> usize {
        self.stats.as_ref().map_or(0, |stats| stats.lcores.len().saturating_sub(1))
    }

    /// The lcores in their sort order. By number the smallest comes first, by other keys the largest.
    pub fn lcores(&self) -> Vec<&LcoreRates> {
        let mut lcores: Vec<&LcoreRates> = self.rates.iter().flat_map(|rates| &rates.lcores).collect();
        let key = |lcore: &LcoreRates| match self.sort {
            Sort::Index => -f64::from(lcore.index),
            Sort::Busy => lcore.busy,
            Sort::Records => lcore.records,
            Sort::Cost => lcore.ns_per_record.unwrap_or(0.0),
        };
        lcores.sort_by(|a, b| key(b).total_cmp(&key(a)));
        if self.reversed {
            lcores.reverse();
        }
        lcores
    }
}

/// The change of membership between two samples.
fn changed(before: &Stats, now: &Stats) -> Option<String> {
    let counts = |stats: &Stats| {
        let members = stats.membership.unwrap_or_default();
        let gone = stats.total.get("link").map_or(0, |link| value(link, "nodes_gone"));
        [("here", members.registered), ("suspect", members.suspect), ("masters", members.masters), ("gone", gone)]
    };
    let parts: Vec<String> = counts(before)
        .iter()
        .zip(counts(now))
        .filter(|((_, was), (_, is))| was != is)
        .map(|((name, was), (_, is))| format!("{name} {} -> {}", grouped(*was), grouped(is)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
