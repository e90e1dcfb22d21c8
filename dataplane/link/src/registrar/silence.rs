//! Which nodes are gone: silence, and how long the gateway's own troubles are a reason to doubt it.
//!
//! A node that was not heard for 3 intervals is silent, unless the gateway could not hear it. There are three causes of
//! such doubt. Each has its bound, which counts for every node from its own last heartbeat:
//!
//! | cause | what it does | bound | why |
//! |---|---|---|---|
//! | packets were lost on receive, or mail to the registrar | the spell of the loss does not count as silence | 13 intervals | strangers can cause losses, and one lost packet says nothing about a node |
//! | an lcore does not poll | silence begins when it polls again | 33 intervals | nodes behind it have left this gateway long before |
//! | the registrar was not called | silence begins at the end of the pause | 10 pauses in a row | no node is judged in a pause; at some time nodes must be judged |
//!
//! A spell is the time between two looks at the counts of losses ([`deaf`](super::deaf)). So a loss now and then delays
//! the end of a dead node by little; only losses in nearly every look delay it up to the bound. In every case a dead
//! node is gone in the end. Doubt from losses alone prevents nobody from claiming an id with its key.

use super::Registrar;
use super::hearing::{LOSS_INTERVALS, SUSPECT_INTERVALS};
use super::presence::{Presence, State};
use crate::{Notice, RegistrarEvent, RouteChange, SILENT_INTERVALS, Sink};
use frame::Time;
use wire::link::NodeId;

/// How long after a node's last heartbeat an lcore that does not poll may excuse its silence, in intervals.
const STALL_INTERVALS: u64 = 30;
/// How many times per interval the registrar looks at the counts of losses. The shortest spell of a loss is the time
/// between two looks.
const LOOKS_PER_INTERVAL: u64 = 5;
/// How many pauses in a row restart the silence of all nodes. Pauses are in a row when silence was not judged in
/// between, because one followed the other in less than 3 intervals.
const MOST_PAUSES: u32 = 10;
/// If more than one node in this many falls silent within one interval, it is a mass silence: 5 %.
const MASS_ONE_IN: u32 = 20;
/// One silent slave is never a mass, however few slaves there are.
const MASS_LEAST: u32 = 2;
/// The most slaves that one call declares suspect or gone; the rest waits for the next.
const MOST_AT_ONCE: u32 = 4096;

/// The condition of the gateway itself: whether the silence of others means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// All lcores poll.
    pub polling: bool,
    /// Packets that were lost on receive since the start, on all ports.
    pub rx_lost: u64,
    /// Datagrams of members that were lost since the start on the way from the lcores to the registrar.
    pub mail_lost: u64,
}

impl Health {
    /// Polling, and nothing lost.
    pub const GOOD: Self = Self { polling: true, rx_lost: 0, mail_lost: 0 };
}

impl Registrar {
    pub(super) fn intervals(&self, count: u64) -> u64 {
        count.saturating_mul(self.config.interval)
    }

    fn silence(&self) -> u64 {
        self.intervals(SILENT_INTERVALS)
    }

    /// The time from which the silence of a node that was last heard at `heard` counts, without regard to losses.
    ///
    /// It grows with `heard`, and so does all that is derived from it: nodes fall due in the order in which they were
    /// heard.
    fn silent_but_for_loss(&self, heard: Time) -> Time {
        let heard = heard.max(self.hearing.paused);
        heard.max(self.hearing.stalled.min(heard.saturating_add(self.intervals(STALL_INTERVALS))))
    }

    /// The time from which losses no longer excuse the silence of a node that was last heard at `heard`.
    fn unexcused_from(&self, heard: Time) -> Time {
        let most = heard.max(self.hearing.paused).saturating_add(self.intervals(LOSS_INTERVALS));
        most.max(self.silent_but_for_loss(heard))
    }

    /// Whether silence since `since` has lasted for `silence` without the spells of losses. From `end` on it has,
    /// whatever was lost.
    fn has_lasted(&self, since: Time, silence: u64, end: Time, now: Time) -> bool {
        now >= end || self.hearing.deaf.clear(since, now) >= silence
    }

    /// When silence since `since` will have lasted for `silence` if nothing more is lost; at the latest `end`.
    fn will_have_lasted(&self, since: Time, silence: u64, end: Time) -> Time {
        let looked = self.hearing.looked.max(since);
        let left = silence.saturating_sub(self.hearing.deaf.clear(since, looked));
        looked.saturating_add(left).min(end)
    }

    /// The latest time at which a node that was last heard at `heard` counts as silent, whatever is lost.
    fn silent_at_last(&self, heard: Time) -> Time {
        self.unexcused_from(heard).saturating_add(self.silence())
    }

    /// Whether a node that was last heard at `heard` has been silent for too long.
    pub(super) fn is_silent(&self, heard: Time, now: Time) -> bool {
        self.has_lasted(self.silent_but_for_loss(heard), self.silence(), self.silent_at_last(heard), now)
    }

    /// Whether another address may have the id of a node that was last heard at `heard`.
    ///
    /// A node that proves the key of the id need not wait until losses end: its own heartbeats got through.
    pub(super) fn is_free(&self, heard: Time, now: Time, has_key: bool) -> bool {
        let since = self.silent_but_for_loss(heard);
        self.is_silent(heard, now) || (has_key && now >= since.saturating_add(self.silence()))
    }

    /// When a suspect's silence began, and when the suspect is gone whatever is lost.
    fn suspicion(&self, since: Time, presence: &Presence) -> (Time, Time) {
        let end = since.max(self.unexcused_from(presence.heard)).saturating_add(self.intervals(SUSPECT_INTERVALS));
        (since.max(self.silent_but_for_loss(presence.heard)), end)
    }

    /// Whether a suspect is gone.
    fn is_suspicion_over(&self, since: Time, presence: &Presence, now: Time) -> bool {
        let (since, end) = self.suspicion(since, presence);
        self.has_lasted(since, self.intervals(SUSPECT_INTERVALS), end, now)
    }

    /// Notes whether the gateway could hear since the last look.
    pub(super) fn listen(&mut self, now: Time, health: Health, sink: &mut impl Sink) {
        let (interval, pause, silence) = (self.config.interval, self.intervals(2), self.silence());
        let hearing = &mut self.hearing;
        let paused = now.saturating_sub(hearing.looked) > pause;
        let (rx_lost, mail_lost) =
            hearing.lost.map_or((false, false), |before| (before.0 != health.rx_lost, before.1 != health.mail_lost));
        let lost = rx_lost || mail_lost;
        if lost {
            // One packet that is lost in a pause says little about the pause, which has its own rule.
            let from = hearing.looked.max(now.saturating_sub(interval));
            self.counters.deaf_ns.add(hearing.deaf.add(from, now));
        }
        if !health.polling {
            hearing.stalled = now;
        }
        if paused {
            let in_a_row = hearing.looked.saturating_sub(hearing.paused) < silence;
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
                true if rx_lost => "packets were lost on receive",
                true if mail_lost => "the registrar's mailbox was full",
                true => "the registrar was not called for two intervals",
            };
            sink.event(RegistrarEvent::Deaf { why });
        } else if !is_deaf && hearing.is_deaf {
            sink.event(RegistrarEvent::Hears);
        }
        hearing.is_deaf = is_deaf;
        hearing.lost = Some((health.rx_lost, health.mail_lost));
        hearing.looked = now;
    }

    /// Whether the silence of a node that was last heard at `heard` would not be judged now if doubt had no bound.
    fn is_in_doubt(&self, heard: Time, now: Time) -> bool {
        let clear = self.hearing.deaf.clear(heard.max(self.hearing.paused), now);
        clear < self.silence() || now < self.hearing.stalled.saturating_add(self.silence())
    }

    /// A node that was last heard at `heard` is judged. Reports it if the gateway still has reasons to doubt the
    /// silence.
    fn judged(&mut self, heard: Time, now: Time, sink: &mut impl Sink) {
        if self.is_in_doubt(heard, now) {
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
            && let heard = entry.presence.heard
            && self.is_silent(heard, now)
        {
            left -= 1;
            if !judged {
                judged = true;
                mass = self.is_mass_silence(now, sink);
            }
            self.judged(heard, now, sink);
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
            && self.is_suspicion_over(entry.since, &entry.presence, now)
        {
            left -= 1;
            self.gone(at, now, "it was suspect for 10 intervals", sink);
        }
    }

    /// Whether more than 5 % fall silent within one interval: the nodes that are due now, and those that are due within
    /// the next interval.
    fn is_mass_silence(&mut self, now: Time, sink: &mut impl Sink) -> bool {
        let present = self.table.present();
        let enough = (present / MASS_ONE_IN + 1).max(MASS_LEAST);
        let (clear, at_last) =
            (self.silence() - self.config.interval, self.intervals(LOSS_INTERVALS + SILENT_INTERVALS - 1));
        let horizon = self.hearing.deaf.clear_since(now, clear).max(now.saturating_sub(at_last));
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
                self.judged(presence.heard, now, sink);
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
        let silent = heard.map(|heard| {
            self.will_have_lasted(self.silent_but_for_loss(heard), self.silence(), self.silent_at_last(heard))
        });
        let gone = self.table.oldest_suspect().map(|(_, entry)| {
            let (since, end) = self.suspicion(entry.since, &entry.presence);
            self.will_have_lasted(since, self.intervals(SUSPECT_INTERVALS), end)
        });
        let due = silent.into_iter().chain(gone).min()?;
        // A loss counts as deafness since the last look, so looks must be frequent.
        Some(due.min(self.hearing.looked.saturating_add((self.config.interval / LOOKS_PER_INTERVAL).max(1))))
    }
}
