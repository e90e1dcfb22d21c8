//! The event queue: in the order of virtual time, and for equal times in the order in which events were made.

use crate::place::Place;
use frame::Time;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::place::Who;

/// Something that happens at a time.
#[derive(Debug)]
pub enum Event {
    /// A frame arrives.
    Arrive {
        /// Where.
        at: Place,
        /// The whole Ethernet frame.
        frame: Vec<u8>,
        /// It was broken so that a checksum must find it.
        broken: bool,
    },
    /// An lcore polls.
    Poll {
        /// Whose.
        who: Who,
        /// Which of its lcores.
        lcore: u16,
    },
    /// A NIC takes frames from a TX ring.
    Send {
        /// Whose.
        who: Who,
        /// Which of its lcores.
        lcore: u16,
    },
    /// The registrar's desk of a gateway works.
    Desk {
        /// Which gateway.
        gateway: u16,
    },
    /// The next line of the script of faults is due.
    Script,
}

struct Scheduled {
    time: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

/// The events to come.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Scheduled>>,
    made: u64,
    in_flight: usize,
}

impl Queue {
    /// Schedules an event.
    pub fn push(&mut self, time: Time, event: Event) {
        self.in_flight += usize::from(matches!(event, Event::Arrive { .. }));
        self.made += 1;
        self.heap.push(Reverse(Scheduled { time, number: self.made, event }));
    }

    /// The next event, if it is at `end` or before.
    pub fn pop(&mut self, end: Time) -> Option<(Time, Event)> {
        if self.heap.peek()?.0.time > end {
            return None;
        }
        let Reverse(Scheduled { time, event, .. }) = self.heap.pop()?;
        self.in_flight -= usize::from(matches!(event, Event::Arrive { .. }));
        Some((time, event))
    }

    /// Frames that are on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many events were made so far.
    pub fn made(&self) -> u64 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_then_the_order_of_making() {
        let mut queue = Queue::default();
        for (time, gateway) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(time, Event::Desk { gateway });
        }
        let mut seen = Vec::new();
        while let Some((time, Event::Desk { gateway })) = queue.pop(5) {
            seen.push((time, gateway));
        }
        assert_eq!(seen, [(3, 1), (3, 3), (5, 0), (5, 2)]);
        queue.push(7, Event::Script);
        assert!(queue.pop(6).is_none() && queue.pop(7).is_some());
    }
}
