//! Reports of a farm about its nodes. They come at once, but 131,072 equal events make few reports.

use frame::time::SECOND;
use frame::{Peer, Time};
use link::NodeEvent;
use std::mem::{Discriminant, discriminant};
use wire::SlaveId;

/// After a report, further events of the same kind from the same gateway are collected for this time.
const GATHER: u64 = SECOND;

/// An event of one or more slaves behind one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarmEvent {
    /// The gateway.
    pub gateway: Peer,
    /// The slave with the last event.
    pub slave: SlaveId,
    /// The event of that slave.
    pub event: NodeEvent,
    /// How many slaves had an event of this kind since the last report.
    pub count: u32,
}

impl std::fmt::Display for FarmEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "slave {}", self.slave)?;
        if self.count > 1 {
            write!(f, " and {} others", self.count - 1)?;
        }
        write!(f, ", gateway {}: {}", self.gateway.address(), self.event)
    }
}

/// The destination of events: a log, a channel, a test.
pub type EventSink = Box<dyn FnMut(FarmEvent) + Send>;

struct Gathered {
    kind: Discriminant<NodeEvent>,
    last: Option<(SlaveId, NodeEvent)>,
    count: u32,
    not_before: Time,
}

/// Collects the events of the nodes behind one gateway.
#[derive(Default)]
pub(crate) struct Reporter {
    /// One for each kind that has occurred.
    kinds: Vec<Gathered>,
    waiting: bool,
}

impl Reporter {
    pub(crate) fn note(&mut self, now: Time, gateway: Peer, slave: SlaveId, event: NodeEvent, sink: &mut EventSink) {
        let kind = discriminant(&event);
        let at = self.kinds.iter().position(|gathered| gathered.kind == kind).unwrap_or_else(|| {
            self.kinds.push(Gathered { kind, last: None, count: 0, not_before: 0 });
            self.kinds.len() - 1
        });
        let Some(gathered) = self.kinds.get_mut(at) else { return };
        gathered.count += 1;
        if now < gathered.not_before {
            gathered.last = Some((slave, event));
            self.waiting = true;
            return;
        }
        let count = std::mem::take(&mut gathered.count);
        gathered.not_before = now.saturating_add(GATHER);
        gathered.last = None;
        sink(FarmEvent { gateway, slave, event, count });
    }

    /// Reports events that were collected for long enough.
    pub(crate) fn advance(&mut self, now: Time, gateway: Peer, sink: &mut EventSink) {
        if !self.waiting {
            return;
        }
        self.waiting = false;
        for gathered in &mut self.kinds {
            if now >= gathered.not_before
                && let Some((slave, event)) = gathered.last.take()
            {
                let count = std::mem::take(&mut gathered.count);
                gathered.not_before = now.saturating_add(GATHER);
                sink(FarmEvent { gateway, slave, event, count });
            }
            self.waiting |= gathered.last.is_some();
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        if !self.waiting {
            return None;
        }
        self.kinds.iter().filter(|gathered| gathered.last.is_some()).map(|gathered| gathered.not_before).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::PortId;
    use std::sync::{Arc, Mutex};
    use wire::Scale;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        let mut sink: EventSink = Box::new(move |event| listener.lock().unwrap().push(event.to_string()));
        let gateway = Peer::socket(PortId(0), "10.0.0.1:9999".parse().unwrap());
        let slave = |id| Scale::default().slave_id(id).unwrap();
        let mut reporter = Reporter::default();
        for id in 0..3 {
            reporter.note(5, gateway, slave(id), NodeEvent::Lost, &mut sink);
        }
        reporter.note(6, gateway, slave(9), NodeEvent::Draining, &mut sink);
        assert_eq!(reporter.deadline(), Some(5 + SECOND));
        reporter.advance(4 + SECOND, gateway, &mut sink);
        reporter.advance(5 + SECOND, gateway, &mut sink);
        assert_eq!(reporter.deadline(), None);
        reporter.note(9 * SECOND, gateway, slave(1), NodeEvent::Lost, &mut sink);
        assert_eq!(
            *told.lock().unwrap(),
            [
                "slave 0, gateway 10.0.0.1:9999: the gateway fell silent; heartbeats go on",
                "slave 9, gateway 10.0.0.1:9999: the gateway is about to leave",
                "slave 2 and 1 others, gateway 10.0.0.1:9999: the gateway fell silent; heartbeats go on",
                "slave 1, gateway 10.0.0.1:9999: the gateway fell silent; heartbeats go on",
            ]
        );
    }
}
