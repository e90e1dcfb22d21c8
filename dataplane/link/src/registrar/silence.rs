//! Who is gone: silence, and how long the gateway's own troubles are a reason to doubt it.
//!
//! A node that was not heard for 3 intervals is silent, unless the gateway could not hear it. There are three causes of
//! such doubt, and each has its bound, which counts for every node from its own last heartbeat:
//!
//! | cause | bound | why |
//! |---|---|---|
//! | packets were lost on receive | 10 intervals | strangers can cause losses, and one lost packet is no word about a node |
//! | an lcore does not poll | 30 intervals | nodes behind it have left this gateway long before |
//! | the registrar was not called | 10 pauses in a row | nobody is judged in a pause; in between somebody must be |
//!
//! So whatever happens, a node that is dead is gone at last; and what only losses make doubtful keeps nobody from
//! claiming an id with its key.

use super::Registrar;
use super::presence::{Presence, State};
use crate::{Notice, RegistrarEvent, RouteChange, SILENT_INTERVALS, Sink};
use frame::Time;
use wire::link::NodeId;

/// How long after a node was last heard losses on receive may excuse its silence, in intervals.
const LOSS_INTERVALS: u64 = 10;
/// How long after a node was last heard an lcore that does not poll may excuse its silence, in intervals.
const STALL_INTERVALS: u64 = 30;
/// How many pauses in a row begin the silence of all nodes anew. They are in a row when silence was not judged in
/// between: less than 3 intervals after the one before.
const MOST_PAUSES: u32 = 10;
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

/// When the gateway could not hear, by cause.
pub(super) struct Hearing {
    /// The last time that packets had been lost on receive.
    lost: Time,
    /// The last time that an lcore did not poll.
    stalled: Time,
    /// The end of the last pause that began all silence anew; at first the start.
    paused: Time,
    /// Pauses in a row.
    pauses: u32,
    is_deaf: bool,
    rx_lost: Option<u64>,
    advanced: Time,
    /// Who falls silent up to then is part of a mass silence.
    mass_until: Option<Time>,
}

impl Hearing {
    pub(super) fn new(now: Time) -> Self {
        Self {
            lost: now,
            stalled: now,
            paused: now,
            pauses: 0,
            is_deaf: false,
            rx_lost: None,
            advanced: now,
            mass_until: None,
        }
    }
}

impl Registrar {
    pub(super) fn intervals(&self, count: u64) -> u64 {
        count.saturating_mul(self.config.interval)
    }

    fn silence(&self) -> u64 {
        self.intervals(SILENT_INTERVALS)
    }

    /// Since when the silence of a node counts that was last heard at `heard`, whatever was lost.
    ///
    /// Like [`silent_since`](Self::silent_since) it grows with `heard`: so the order in which nodes were heard is the
    /// order in which they are due.
    fn silent_but_for_loss(&self, heard: Time) -> Time {
        let heard = heard.max(self.hearing.paused);
        heard.max(self.hearing.stalled.min(heard.saturating_add(self.intervals(STALL_INTERVALS))))
    }

    /// Since when the silence of a node counts that was last heard at `heard`.
    fn silent_since(&self, heard: Time) -> Time {
        let most = heard.max(self.hearing.paused).saturating_add(self.intervals(LOSS_INTERVALS));
        self.silent_but_for_loss(heard).max(self.hearing.lost.min(most))
    }

    /// Whether a node that was last heard at `heard` has been silent for too long.
    pub(super) fn is_silent(&self, heard: Time, now: Time) -> bool {
        now >= self.silent_since(heard).saturating_add(self.silence())
    }

    /// Whether another address may have the id of a node that was last heard at `heard`.
    ///
    /// Who proves the node's key need not wait until nothing is lost any more: its own heartbeats got through.
    pub(super) fn is_free(&self, heard: Time, now: Time, has_key: bool) -> bool {
        let since = if has_key { self.silent_but_for_loss(heard) } else { self.silent_since(heard) };
        now >= since.saturating_add(self.silence())
    }

    /// When a suspect is gone.
    fn suspect_until(&self, since: Time, presence: &Presence) -> Time {
        since.max(self.silent_since(presence.heard)).saturating_add(self.intervals(SUSPECT_INTERVALS))
    }

    /// Notes whether the gateway could hear since the last call.
    pub(super) fn listen(&mut self, now: Time, health: Health, sink: &mut impl Sink) {
        let (pause, silence) = (self.intervals(2), self.silence());
        let hearing = &mut self.hearing;
        let paused = now.saturating_sub(hearing.advanced) > pause;
        let lost = hearing.rx_lost.is_some_and(|before| before != health.rx_lost);
        if lost {
            hearing.lost = now;
        }
        if !health.polling {
            hearing.stalled = now;
        }
        if paused {
            let in_a_row = hearing.advanced.saturating_sub(hearing.paused) < silence;
            hearing.pauses = if in_a_row { hearing.pauses + 1 } else { 1 };
            if hearing.pauses <= MOST_PAUSES {
                hearing.paused = now;
            }
        }
        let is_deaf = !health.polling || lost || paused;
        if is_deaf && !hearing.is_deaf {
            self.counters.deaf_spells.add(1);
            let why = match health.polling {
                false => "an lcore does not poll",
                true if lost => "packets were lost on receive",
                true => "the registrar was not called for two intervals",
            };
            sink.event(RegistrarEvent::Deaf { why });
        } else if !is_deaf && hearing.is_deaf {
            sink.event(RegistrarEvent::Hears);
        }
        hearing.is_deaf = is_deaf;
        hearing.rx_lost = Some(health.rx_lost);
        hearing.advanced = now;
    }

    /// Whether silence would not be judged now if doubt had no bound.
    fn is_in_doubt(&self, now: Time) -> bool {
        now < self.hearing.lost.max(self.hearing.stalled).saturating_add(self.silence())
    }

    /// A node was judged: says so when the gateway still has reasons to doubt its silence.
    fn judged(&mut self, now: Time, sink: &mut impl Sink) {
        if self.is_in_doubt(now) {
            self.counters.doubt_ended.add(1);
            self.notice(now, Notice::DoubtEnded, sink);
        }
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
            self.judged(now, sink);
            if mass {
                self.set_state(at, State::Suspect, now);
                if let Some(id) = self.served.slave(at) {
                    sink.event(RegistrarEvent::Suspect { node: NodeId::slave(id) });
                }
            } else {
                self.gone(at, now, "it was silent for 3 intervals", sink);
            }
        }
        while left > 0
            && let Some((at, entry)) = self.table.oldest_suspect()
            && now >= self.suspect_until(entry.since, &entry.presence)
        {
            left -= 1;
            self.gone(at, now, "it was suspect for 10 intervals", sink);
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

    fn gone(&mut self, at: u32, now: Time, why: &'static str, sink: &mut impl Sink) {
        self.set_state(at, State::Gone, now);
        self.counters.nodes_gone.add(1);
        if let Some(id) = self.served.slave(at) {
            sink.event(RegistrarEvent::Gone { node: NodeId::slave(id), why });
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
            let presence = self.masters[at].presence;
            if presence.is_present() && self.is_silent(presence.heard, now) {
                self.judged(now, sink);
                let master = &mut self.masters[at];
                master.presence.state = State::Gone;
                self.counters.nodes_gone.add(1);
                let why = "it was silent for 3 intervals";
                sink.event(RegistrarEvent::Gone { node: NodeId::master(master.id), why });
                sink.route(RouteChange::Master { id: master.id, route: None });
            }
        }
    }

    /// When the next node is silent for too long.
    pub(super) fn silence_deadline(&self) -> Option<Time> {
        let masters = self.masters.iter().filter(|master| master.presence.is_present());
        let quietest = self.table.quietest().map(|(_, entry)| entry.presence.heard);
        let heard = masters.map(|master| master.presence.heard).chain(quietest).min();
        let silent = heard.map(|heard| self.silent_since(heard).saturating_add(self.silence()));
        let suspect = self.table.oldest_suspect();
        let gone = suspect.map(|(_, entry)| self.suspect_until(entry.since, &entry.presence));
        let due = silent.into_iter().chain(gone).min()?;
        // A longer pause would count as deafness.
        Some(due.min(self.hearing.advanced.saturating_add(self.config.interval)))
    }
}
