//! Records with PUSH: what waits for their destinations leaves at the end of the burst.

use super::Gateway;
use crate::direction::Direction;
use crate::flush::Cause;
use crate::route::Destination;
use frame::{BURST, Burst, Outbox, PortId, Time};

impl Gateway {
    /// Appends a burst of single records, of which some have PUSH; then sends what waits for the destinations of those.
    #[cold]
    pub(super) fn append_pushed(
        &mut self,
        now: Time,
        direction: Direction,
        records: usize,
        to: &[Destination; BURST],
        burst: &mut Burst,
        out: &mut Outbox,
    ) {
        let known = to.get(..records).unwrap_or(to);
        let (granted, ignored) = self.pushes.of_singles(now, direction, known, burst, &self.routes, out);
        self.counters.of(direction).push_ignored.add(ignored);
        self.append_singles(now, direction, records, to, burst, out);
        if granted != 0 {
            self.last_pushed = Some(now);
        }
        for (number, &destination) in known.iter().enumerate() {
            if granted >> number & 1 != 0 {
                self.flush(now, destination, Cause::Push, out);
            }
        }
    }

    /// Notes the destinations of the items that have PUSH and may have it, for [`Gateway::flush_pushed`]. The sources
    /// of all items are right. `is_free` says whether a port was not contended when the burst began.
    pub(super) fn grant_pushes(&mut self, now: Time, burst: &Burst, is_free: impl Fn(PortId) -> bool) {
        let Self { items, pushes, pushed, routes, counters, last_pushed, .. } = self;
        for item in items.iter().filter(|item| item.push) {
            if pushes.of_item(now, item, burst, routes, &is_free) {
                pushed.push(item.destination);
                *last_pushed = Some(now);
            } else {
                counters.of(Direction::of(routes.class(item.destination))).push_ignored.add(1);
            }
        }
    }

    /// Sends what waits for the noted destinations. A second time there is nothing left for one.
    #[inline]
    pub(super) fn flush_pushed(&mut self, now: Time, out: &mut Outbox) {
        if self.pushed.is_empty() {
            return;
        }
        let mut pushed = std::mem::take(&mut self.pushed);
        for destination in pushed.drain(..) {
            self.flush(now, destination, Cause::Push, out);
        }
        self.pushed = pushed;
    }
}
