//! Reports what happens to the records of one slave, record by record, to find out why.
//!
//! Without a trace the cost is one check per burst and per poll. With a trace, a gateway takes some bursts apart: those
//! with records of the slave, and those that meet such records in a buffer. It handles them datagram by datagram and
//! record by record, through the same code as always. That code reports why it drops a record; for all other records
//! the gateway compares buffers and counters before and after. So it reports what was really done. A datagram that is
//! placed whole stays whole: the same datagrams leave as without a trace.

use crate::aggregate::Open;
use crate::drop::DropReason;
use crate::route::Destination;
use frame::{Peer, Time};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use wire::{BadReason, BadRecord, HEADER_LEN, Record, Scale, SlaveId, Walk};

/// What happened to a record when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Link control: it is for the registrar.
    Registrar,
    /// It was dropped.
    Dropped(DropReason),
    /// It was copied into a fresh buffer. The buffer has this many records and bytes, the record included.
    Opened(u16, usize),
    /// Its datagram became the buffer, which has this many records and bytes.
    Adopted(u16, usize),
    /// It was copied behind the records that waited. The buffer has been open for this many nanoseconds and has this
    /// many records and bytes.
    Appended(Time, u16, usize),
    /// Its datagram left unchanged, with this many records and bytes, to this peer.
    Forwarded(u16, usize, Peer),
}

/// Something happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It arrived.
    Arrived {
        /// Its number in this trace, from 0.
        number: u32,
        /// The time.
        time: Time,
        /// The lcore that received it.
        lcore: u16,
        /// The sender; it names the port.
        peer: Peer,
        /// The offset of its first byte in the datagram.
        offset: usize,
        /// Bytes of the datagram.
        datagram: usize,
        /// Its message type.
        msg_type: u16,
        /// Its request id.
        req_id: u64,
        /// Its length with the header, in bytes, as the header gives it.
        len: usize,
        /// What happened to it.
        fate: Fate,
    },
    /// The buffer in which it waited left or was discarded.
    Left {
        /// Its number in this trace.
        number: u32,
        /// The time.
        time: Time,
        /// The cause, as the counters name it.
        cause: &'static str,
        /// How long the buffer was open, in nanoseconds.
        open: Time,
        /// Records in the buffer.
        records: u16,
        /// Bytes in the buffer.
        bytes: usize,
        /// The receiver; `None` when the records were dropped.
        peer: Option<Peer>,
    },
}

/// What all lcores of a trace share.
struct Shared {
    /// Records that are still to be traced.
    left: AtomicU32,
    count: u32,
    unwatched: AtomicBool,
}

/// The receiving end of a trace; when it is dropped, the gateways stop tracing.
pub struct Trace {
    events: Receiver<Event>,
    shared: Arc<Shared>,
}

impl Trace {
    /// The next event, if one is there.
    pub fn take(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.shared.unwatched.store(true, Ordering::Relaxed);
    }
}

/// Traces the next `count` records of a slave: returns one [`Tracer`] for each of `lcores` gateways, and the receiving
/// end.
pub fn trace(slave: SlaveId, count: u32, lcores: u16) -> (Vec<Tracer>, Trace) {
    // No record has more than two events: there is always room.
    let (sender, events) = sync_channel(2 * count as usize);
    let shared = Arc::new(Shared { left: AtomicU32::new(count), count, unwatched: AtomicBool::new(false) });
    let tracer = |lcore| Tracer {
        slave,
        lcore,
        events: sender.clone(),
        shared: Arc::clone(&shared),
        waiting: Vec::with_capacity(count as usize),
        records: Vec::with_capacity(frame::BURST),
        dropped: Vec::with_capacity(frame::BURST),
        looks: Vec::with_capacity(count as usize),
    };
    ((0..lcores).map(tracer).collect(), Trace { events, shared })
}

/// A record that waits in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) number: u32,
    pub(crate) destination: Destination,
    pub(crate) opened: Time,
}

/// A record of the slave in the current datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) msg_type: u16,
    pub(crate) req_id: u64,
}

/// One gateway's part of a trace.
pub struct Tracer {
    pub(crate) slave: SlaveId,
    pub(crate) lcore: u16,
    pub(crate) events: SyncSender<Event>,
    shared: Arc<Shared>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) records: Vec<Traced>,
    /// The dropped records of the slave in the current datagram: where each begins, and why it was dropped.
    pub(crate) dropped: Vec<(usize, DropReason)>,
    /// The buffers with waiting records, before the next step.
    pub(crate) looks: Vec<(Destination, Open)>,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracer(slave {})", self.slave.get())
    }
}

impl Tracer {
    /// Whether the trace has no more to do: nobody listens, or no more records are wanted and none waits.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.unwatched.load(Ordering::Relaxed)
            || (self.waiting.is_empty() && self.shared.left.load(Ordering::Relaxed) == 0)
    }

    /// The number of the next record, if one more is wanted.
    pub(crate) fn claim(&self) -> Option<u32> {
        let take = |left: u32| left.checked_sub(1);
        let left = self.shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(self.shared.count - left)
    }

    pub(crate) fn say(&self, event: Event) {
        // There is room, or nobody listens: both are fine.
        let _ = self.events.try_send(event);
    }

    /// Notes which of the slave's records in a datagram were dropped: those from `start` to `end`.
    pub(crate) fn note_dropped(&mut self, start: usize, end: usize, reason: DropReason) {
        let records = self.records.iter().filter(|record| (start..end).contains(&record.offset));
        self.dropped.extend(records.map(|record| (record.offset, reason)));
    }

    /// Finds the slave's records in a datagram, up to the first bytes that are not a record.
    pub(crate) fn find(&mut self, data: &[u8], scale: Scale) {
        self.records.clear();
        self.dropped.clear();
        let mut walk = Walk::new(data, scale);
        loop {
            let offset = walk.offset();
            let header = match walk.next() {
                Some(Ok((_, record))) => *record.header(),
                Some(Err(BadRecord { reason: BadReason::Length, .. })) => {
                    match data.get(offset..).map(Record::header_of) {
                        Some(Some(header)) => *header,
                        _ => return,
                    }
                }
                Some(Err(_)) | None => return,
            };
            // If one datagram has more records of the slave than anybody reads, the rest is left out: this list must
            // not grow.
            if header.slave_id() == self.slave.get() && self.records.len() < self.records.capacity() {
                let len = HEADER_LEN + header.payload_len() as usize;
                self.records.push(Traced { offset, len, msg_type: header.msg_type().0, req_id: header.req_id() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_over_when_nobody_watches_or_when_all_was_said() {
        let slave = wire::Scale::default().slave_id(17).unwrap();
        let (tracers, watched) = trace(slave, 1, 1);
        assert!(tracers.iter().all(|tracer| !tracer.is_over()), "one record is wanted, and somebody watches");
        drop(watched);
        assert!(tracers.iter().all(Tracer::is_over), "nobody watches, so the number of wanted records does not matter");

        let (tracers, _watched) = trace(slave, 1, 1);
        assert!(tracers.iter().all(|tracer| tracer.claim() == Some(0)), "the only record");
        assert!(tracers.iter().all(|tracer| tracer.is_over() && tracer.claim().is_none()), "no more are wanted");
    }
}
