//! Posting work and receives, polling completions.

use super::Endpoint;
use crate::config::MAX_MESSAGE;
use crate::memory::{Access, Memory};
use crate::qp::State;
use crate::requester::{MOST_PSNS, Wqe};
use crate::{Completion, CompletionKind, Error, Local, Op, Qpn, Receive, Status, Work};

impl<M: Memory> Endpoint<M> {
    /// Adds a work request to the queue of a queue pair. It ends in exactly one completion. On a failed queue pair it
    /// is flushed at once.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`], [`Error::State`] before RTS, [`Error::Length`], [`Error::NoReadDepth`],
    /// [`Error::LocalAccess`], [`Error::QueueFull`], [`Error::CompletionsFull`].
    pub fn post(&mut self, qpn: Qpn, work: Work) -> Result<(), Error> {
        let place = self.find(qpn)?;
        let Some(qp) = self.qps.get_mut(place as usize) else { return Err(Error::NoSuchQp) };
        if !self.shared.completions.has_room() {
            return Err(Error::CompletionsFull);
        }
        match qp.state {
            State::Rts => {}
            State::Error => {
                self.shared.completions.owe();
                self.flush(qpn, work.id, work.op.kind());
                return Ok(());
            }
            _ => return Err(Error::State),
        }
        let Local { key, address, len } = work.local;
        if len > MAX_MESSAGE || (work.op.is_atomic() && len != 8) {
            return Err(Error::Length);
        }
        if work.op.wants_data() && qp.requester.read_depth() == 0 {
            return Err(Error::NoReadDepth);
        }
        let access = if work.op.wants_data() { Access::LOCAL_WRITE } else { Access::NONE };
        if len > 0 && self.shared.regions.check(qp.place(key, address), len, access).is_err() {
            return Err(Error::LocalAccess);
        }
        let packets = match work.op {
            Op::CompareSwap { .. } | Op::FetchAdd { .. } => 1,
            _ => qp.mtu.packets(len),
        };
        let fits = qp.requester.queue.len < self.shared.config.queue_depth
            && (qp.requester.queue.is_empty() || qp.requester.pending_psns() + packets <= MOST_PSNS);
        if !fits {
            return Err(Error::QueueFull);
        }
        let index = self.shared.work.push(&mut qp.requester.queue, Wqe { work, packets }).ok_or(Error::QueueFull)?;
        self.shared.completions.owe();
        qp.requester.posted(index, packets);
        if qp.is_ready() {
            self.ready.push(&mut self.ready_links, place, qp.is_urgent);
        }
        Ok(())
    }

    /// Adds a place for an incoming SEND. It ends in exactly one completion. On a failed queue pair it is flushed at
    /// once.
    ///
    /// # Errors
    /// [`Error::NoSuchQp`], [`Error::State`] in RESET, [`Error::Length`], [`Error::LocalAccess`], [`Error::QueueFull`],
    /// [`Error::CompletionsFull`].
    pub fn post_receive(&mut self, qpn: Qpn, receive: Receive) -> Result<(), Error> {
        let place = self.find(qpn)?;
        let Some(qp) = self.qps.get_mut(place as usize) else { return Err(Error::NoSuchQp) };
        if !self.shared.completions.has_room() {
            return Err(Error::CompletionsFull);
        }
        match qp.state {
            State::Reset => return Err(Error::State),
            State::Error => {
                self.shared.completions.owe();
                self.flush(qpn, receive.id, CompletionKind::Receive);
                return Ok(());
            }
            _ => {}
        }
        let Local { key, address, len } = receive.local;
        if len > MAX_MESSAGE {
            return Err(Error::Length);
        }
        if len > 0 && self.shared.regions.check(qp.place(key, address), len, Access::LOCAL_WRITE).is_err() {
            return Err(Error::LocalAccess);
        }
        if qp.responder.receives.len >= self.shared.config.queue_depth {
            return Err(Error::QueueFull);
        }
        self.shared.receives.push(&mut qp.responder.receives, receive).ok_or(Error::QueueFull)?;
        self.shared.completions.owe();
        Ok(())
    }

    fn flush(&mut self, qpn: Qpn, id: u64, kind: CompletionKind) {
        self.shared.counters.completed_in_error.add(1);
        self.shared.completions.push(Completion { id, qpn, kind, status: Status::WrFlushErr, len: 0, imm: None });
    }

    /// The oldest completion.
    #[inline]
    pub fn poll(&mut self) -> Option<Completion> {
        self.shared.completions.pop()
    }

    /// Completions that wait to be polled.
    pub fn completions(&self) -> usize {
        self.shared.completions.len()
    }

    /// Work requests that can be posted before [`Error::QueueFull`], by the number of free elements.
    pub fn free_work(&self) -> u32 {
        self.shared.work.free()
    }

    /// Work requests of a queue pair that are not complete.
    pub fn outstanding(&self, qpn: Qpn) -> Option<u32> {
        Some(self.qps.get(self.place_of(qpn)? as usize)?.requester.queue.len)
    }
}
