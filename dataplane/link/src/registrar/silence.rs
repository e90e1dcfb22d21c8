//! Who is gone: silence, judged only while the gateway itself could hear.

use super::Registrar;
use super::presence::State;
use crate::{Notice, RouteChange, SILENT_INTERVALS, Sink};
use frame::Time;

/// How long a suspect may be silent, in intervals.
const SUSPECT_INTERVALS: u64 = 10;
/// More than one in so many falling silent within one interval is a mass silence: 5 %.
const MASS_ONE_IN: u32 = 20;
/// One silent slave is never a mass, however few there are.
const MASS_LEAST: u32 = 2;
/// The most slaves that one call declares suspect or gone; the rest waits for the next.
const MOST_AT_ONCE: u32 = 4096;

/// How the gateway itself does: whether the silence of others means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// All lcores poll.
    pub polling: bool,
    /// Packets that were lost on receive since the start, on all ports.
    pub rx_lost: u64,
}

impl Health {
    /// Polling, and nothing lost.
    pub const GOOD: Self = Self { polling: true, rx_lost: 0 };
}

/// When the gateway could not hear.
pub(super) struct Hearing {
    /// The last time that it could not.
    deaf: Time,
    is_deaf: bool,
    rx_lost: Option<u64>,
    advanced: Time,
    /// Who falls silent up to then is part of a mass silence.
    mass_until: Option<Time>,
}

impl Hearing {
    pub(super) fn new(now: Time) -> Self {
        Self { deaf: now, is_deaf: false, rx_lost: None, advanced: now, mass_until: None }
    }
}

impl Registrar {
    /// Since when a node counts as silent that was last heard at `heard`.
    fn silent_since(&self, heard: Time) -> Time {
        heard.max(self.hearing.deaf)
    }

    /// Whether a node that was last heard at `heard` has been silent for too long.
    pub(super) fn is_silent(&self, heard: Time, now: Time) -> bool {
        now >= self.silent_since(heard).saturating_add(self.silence())
    }

    fn silence(&self) -> u64 {
        SILENT_INTERVALS.saturating_mul(self.config.interval)
    }

    /// Notes whether the gateway could hear since the last call.
    pub(super) fn listen(&mut self, now: Time, health: Health) {
        let paused = now.saturating_sub(self.hearing.advanced) > self.config.interval.saturating_mul(2);
        let lost = self.hearing.rx_lost.is_some_and(|before| before != health.rx_lost);
        let is_deaf = !health.polling || lost || paused;
        if is_deaf {
            self.hearing.deaf = now;
            if !self.hearing.is_deaf {
                self.counters.deaf_spells.add(1);
            }
        }
        self.hearing.is_deaf = is_deaf;
        self.hearing.rx_lost = Some(health.rx_lost);
        self.hearing.advanced = now;
    }

    /// Declares silent slaves suspect or gone.
    pub(super) fn expire_slaves(&mut self, now: Time, sink: &mut impl Sink) {
        let mut left = MOST_AT_ONCE;
        let mut mass = self.hearing.mass_until.is_some_and(|until| now <= until);
        let mut judged = mass;
        while left > 0
            && let Some((at, entry)) = self.table.quietest()
            && self.is_silent(entry.presence.heard, now)
        {
            left -= 1;
            if !judged {
                judged = true;
                mass = self.is_mass_silence(now, sink);
            }
            if mass {
                self.set_state(at, State::Suspect, now);
            } else {
                self.gone(at, now, sink);
            }
        }
        let patience = SUSPECT_INTERVALS.saturating_mul(self.config.interval);
        while left > 0
            && let Some((at, entry)) = self.table.oldest_suspect()
            && now >= self.silent_since(entry.since).saturating_add(patience)
        {
            left -= 1;
            self.gone(at, now, sink);
        }
    }

    /// Whether more than 5 % fall silent within one interval: those due now, and those due within the next.
    fn is_mass_silence(&mut self, now: Time, sink: &mut impl Sink) -> bool {
        let present = self.table.present();
        let enough = (present / MASS_ONE_IN + 1).max(MASS_LEAST);
        let horizon = now.saturating_sub(self.silence() - self.config.interval);
        let silent = self.table.heard_by(horizon, enough);
        if silent < enough {
            return false;
        }
        self.hearing.mass_until = Some(now.saturating_add(self.config.interval));
        self.counters.mass_silences.add(1);
        self.notice(now, Notice::MassSilence { silent, present }, sink);
        true
    }

    fn gone(&mut self, at: u32, now: Time, sink: &mut impl Sink) {
        self.set_state(at, State::Gone, now);
        self.counters.nodes_gone.add(1);
        if let Some(id) = self.served.slave(at) {
            sink.route(RouteChange::Slave { id, route: None });
        }
    }

    fn set_state(&mut self, at: u32, state: State, now: Time) {
        let entry = self.table.get_mut(at);
        let was = entry.presence;
        entry.presence.state = state;
        entry.since = now;
        self.table.place(at, &was);
        self.note_change(at);
    }

    /// Declares silent masters gone.
    pub(super) fn expire_masters(&mut self, now: Time, sink: &mut impl Sink) {
        for at in 0..self.masters.len() {
            let is_silent = self.is_silent(self.masters[at].presence.heard, now);
            let master = &mut self.masters[at];
            if master.presence.is_present() && is_silent {
                master.presence.state = State::Gone;
                self.counters.nodes_gone.add(1);
                sink.route(RouteChange::Master { id: master.id, route: None });
            }
        }
    }

    /// When the next node is silent for too long.
    pub(super) fn silence_deadline(&self) -> Option<Time> {
        let patience = SUSPECT_INTERVALS.saturating_mul(self.config.interval);
        let quietest = self.table.quietest().map(|(_, entry)| (entry.presence.heard, self.silence()));
        let suspect = self.table.oldest_suspect().map(|(_, entry)| (entry.since, patience));
        let masters = self.masters.iter().filter(|master| master.presence.is_present());
        let masters = masters.map(|master| (master.presence.heard, self.silence()));
        let due = masters
            .chain(quietest)
            .chain(suspect)
            .map(|(heard, patience)| self.silent_since(heard).saturating_add(patience))
            .min()?;
        // A longer pause would count as deafness.
        Some(due.min(self.hearing.advanced.saturating_add(self.config.interval)))
    }
}
