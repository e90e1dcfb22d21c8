//! The wire: where a frame goes, and what faults do to it on the way.

use crate::cluster::Cluster;
use crate::core::Core;
use crate::packet;
use crate::place::{Place, Who};
use crate::queue::Event;
use crate::trace::{Fate, Happened};
use frame::Role;
use frame::time::MICROSECOND;
use std::collections::VecDeque;

impl Cluster {
    /// Puts a frame on the wire.
    pub(crate) fn transmit(&mut self, from: Place, mut frame: Vec<u8>) {
        let Some(mut read) = packet::read(&frame) else { return };
        let Some(to) = Place::of(read.dst_ip) else { return };
        self.trace.note(self.now, &Happened::Sent(from, to, &frame));
        if packet::is_cargo(packet::payload(&frame, &read)) {
            self.sent_to.insert(to.who, self.now);
        }
        if self.is_cut(from.who) || self.is_cut(to.who) {
            self.unreached += packet::records(&frame);
            return self.fate(Fate::Unreachable);
        }
        if self.rng.chance(self.faults.drop) {
            return self.fate(Fate::Dropped);
        }
        let is_cargo = packet::is_cargo(packet::payload(&frame, &read));
        if !is_cargo && self.is_old(from.who) {
            frame = self.in_version_1(&frame, &read);
        }
        if is_cargo && self.plan.node(from.who).is_some_and(|node| !node.fixed_port) {
            frame = packet::from_lane(&frame, &read);
        } else if !is_cargo && matches!(to.who, Who::Gateway(_)) {
            keep(&mut self.heartbeats, (from, to, frame.clone()));
        }
        if !is_cargo && from.who != Who::Stranger && to.who != Who::Stranger {
            self.record(from, to, &frame);
        }
        if self.rng.chance(self.faults.mark) {
            self.fate(Fate::Marked);
            frame = packet::mark_ce(&frame, &read);
        }
        if is_cargo && from.who != Who::Stranger && self.rng.chance(self.faults.damage) {
            self.fate(Fate::Damaged);
            if let Some(now) = packet::read(&frame) {
                frame = packet::damage(&frame, &now, &mut self.rng);
            }
        }
        if self.rng.chance(self.faults.duplicate) {
            self.fate(Fate::Duplicated);
            let later = self.now + self.plan.latency + self.rng.below(200 * MICROSECOND);
            self.queue.push(later, Event::Arrive { at: to, frame: frame.clone(), broken: false });
        }
        let mut broken = false;
        if self.rng.chance(self.faults.corrupt)
            && let Some(now) = packet::read(&frame)
        {
            read = now;
            self.fate(Fate::Corrupted);
            packet::flip_a_bit(&mut frame, &read, &mut self.rng);
            broken = true;
        } else if self.rng.chance(self.faults.truncate) {
            self.fate(Fate::Truncated);
            packet::cut_short(&mut frame, &mut self.rng);
            broken = true;
        }
        let late = if self.rng.chance(self.faults.delay) { self.rng.below(300 * MICROSECOND) } else { 0 };
        self.queue.push(self.now + self.plan.latency + late, Event::Arrive { at: to, frame, broken });
    }

    /// A stranger records link control: the first of it, and some of what comes later.
    fn record(&mut self, from: Place, to: Place, frame: &[u8]) {
        const MOST: usize = 128;
        let record = (self.now, from, to, frame.to_vec());
        if self.recorded.len() < MOST {
            self.recorded.push(record);
        } else if self.rng.one_in(16) {
            let at = self.rng.below(MOST as u64) as usize;
            self.recorded[at] = record;
        }
    }

    fn fate(&mut self, fate: Fate) {
        self.trace.note(self.now, &Happened::Fate(fate));
        let name = match fate {
            Fate::Dropped => "dropped",
            Fate::Duplicated => "duplicated",
            Fate::Corrupted => "corrupted",
            Fate::Truncated => "truncated",
            Fate::Damaged => "damaged",
            Fate::Marked => "marked",
            Fate::Unreachable => "unreachable",
        };
        *self.fates.entry(name).or_default() += 1;
    }

    fn is_cut(&self, who: Who) -> bool {
        self.cut.get(&who).is_some_and(|&until| self.now < until)
    }

    /// A frame arrives at a port.
    pub(crate) fn arrive(&mut self, at: Place, frame: Vec<u8>, broken: bool) {
        let frame = if self.is_old(at.who) { self.heard_by_version_1(at, frame) } else { frame };
        let soon = self.now + self.rng.between(200, 2_000);
        let records = packet::records(&frame);
        let (taken, lcore) = match at.who {
            Who::Master(i) => (inject(self.masters[usize::from(i)].as_mut(), 0, &frame), 0),
            Who::Farm(i) => (inject(self.farms[usize::from(i)].as_mut(), 0, &frame), 0),
            Who::Gateway(i) => match &mut self.gateways[usize::from(i)] {
                Some(node) => {
                    let lcore = packet::rss(&frame, node.cores.len());
                    let taken = inject(node.cores.get_mut(lcore), at.port, &frame);
                    node.ledgers[lcore].arrived(at.port, frame, broken, taken == Some(true));
                    (taken, lcore)
                }
                None => (None, 0),
            },
            Who::Stranger => {
                keep(&mut self.answers, frame);
                (None, 0)
            }
        };
        match taken {
            None => {
                self.unreached += records;
                self.fate(Fate::Unreachable);
            }
            Some(taken) => {
                self.unreached += if taken { 0 } else { records };
                self.trace.note(self.now, &Happened::Arrived(at, lcore, taken));
                self.wake(at.who, lcore as u16, soon);
            }
        }
    }
}

fn inject<R: Role>(core: Option<&mut Core<R>>, port: u8, frame: &[u8]) -> Option<bool> {
    let core = core?;
    core.news = true;
    core.lcore.ports_mut().get_mut(usize::from(port)).map(|port| port.inject(frame))
}

/// Keeps the last few of something.
fn keep<T>(last: &mut VecDeque<T>, thing: T) {
    if last.len() >= 64 {
        last.pop_front();
    }
    last.push_back(thing);
}
