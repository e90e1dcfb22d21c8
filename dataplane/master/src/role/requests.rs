//! READs and WRITEs of clients: judged, posted, ended. Nothing here allocates.

use super::Master;
use crate::extents::ExtentState;
use crate::pending::Stage;
use crate::request::{EXTENT_LEN, EXTENT_SHIFT, PageCompletion, PageOp, PageRequest, PageStatus, Urgency};
use frame::Time;
use transport::{Error, Local, Memory, Op, Remote, Work};
use wire::lease::UNIT_SHIFT;

impl<M: Memory> Master<M> {
    /// Takes requests, in their order, and returns how many: the others did not find room, and are submitted again when
    /// completions were polled. Each request that was taken ends in exactly one completion, also if it is refused.
    pub fn submit(&mut self, now: Time, requests: &[PageRequest]) -> usize {
        for (number, request) in requests.iter().enumerate() {
            let Some(index) = self.pending.take(now, request) else { return number };
            self.counters.requests.add(1);
            match self.judge(index, request) {
                Ok(path) => self.enqueue(now, index, path, request.urgency),
                Err(status) => self.finish(now, index, status),
            }
        }
        self.counters.requests_pending.set(self.pending.under_way().into());
        requests.len()
    }

    /// The oldest completion that was not polled.
    pub fn poll(&mut self) -> Option<PageCompletion> {
        let (completion, is_counted) = self.pending.poll()?;
        let place = completion.client.place() as u16;
        // The client may have been removed, and its place given to another one.
        if is_counted
            && self.clients.id(place) == completion.client
            && let Some(client) = self.clients.get_mut(place)
        {
            client.requests -= 1;
        }
        Some(completion)
    }

    /// Requests that can be submitted now.
    pub fn room(&self) -> u32 {
        self.pending.room()
    }

    /// Whether a request can be done, and the path to the slave.
    fn judge(&mut self, index: u32, request: &PageRequest) -> Result<u32, PageStatus> {
        let client = self.clients.find(request.client).ok_or(PageStatus::NoSuchClient)?;
        if client.requests >= client.quota().requests {
            return Err(PageStatus::Quota);
        }
        (client.requests, client.under_way) = (client.requests + 1, client.under_way + 1);
        let entry = self.pending.get_mut(index).ok_or(PageStatus::Flushed)?;
        entry.is_counted = true;
        let place = request.client.place() as u16;
        let extent = self.extents.find(place, request.extent).ok_or(PageStatus::NoSuchExtent)?;
        if request.len == 0 || u64::from(request.offset) + u64::from(request.len) > EXTENT_LEN.into() {
            return Err(PageStatus::OutOfRange);
        }
        let path = match extent.state {
            ExtentState::Live(path, _) => path,
            ExtentState::Lost(loss) => return Err(loss.into()),
            _ => return Err(PageStatus::NoSuchExtent),
        };
        extent.pending += 1;
        entry.path = Some(path);
        // From here on the request counts for its extent.
        if self.has_buffer(place, request.buffer) { Ok(path) } else { Err(PageStatus::BadBuffer) }
    }

    /// A request goes to its queue pair, or behind those that wait.
    fn enqueue(&mut self, now: Time, index: u32, path: u32, urgency: Urgency) {
        let connection = self.connections.get_mut(path as usize);
        let Some(list) = connection.and_then(|connection| connection.waiting.get_mut(urgency.pair())) else {
            frame::never!("a request is for a slave without a connection");
            return self.finish(now, index, PageStatus::SlaveGone);
        };
        let is_first = list.is_empty();
        self.pending.push(list, index);
        if is_first {
            self.pump(now, path, urgency);
        }
    }

    /// Posts requests that wait, as far as their queue pair has room.
    pub(super) fn pump(&mut self, now: Time, path: u32, urgency: Urgency) {
        let pair = urgency.pair();
        loop {
            let Some(connection) = self.connections.get_mut(path as usize) else { return };
            let (Some(session), Some(pairs)) = (connection.session, connection.pairs) else { return };
            let (Some(list), Some(&qpn)) = (connection.waiting.get_mut(pair), pairs.qpns.get(pair)) else { return };
            if connection.is_broken {
                return;
            }
            let Some(index) = list.first() else { return };
            let work = self.work_of(index, session.rkey);
            let posted = match work {
                Ok(work) => self.endpoint.post(qpn, work).map_err(|error| match error {
                    Error::QueueFull | Error::CompletionsFull => None,
                    Error::LocalAccess | Error::Length => Some(PageStatus::BadBuffer),
                    _ => Some(PageStatus::Refused),
                }),
                Err(status) => Err(Some(status)),
            };
            if posted == Err(None) {
                return;
            }
            if let Some(list) = self.connections.get_mut(path as usize).and_then(|at| at.waiting.get_mut(pair)) {
                self.pending.pop(list);
            }
            match (posted, self.pending.get_mut(index)) {
                (Err(Some(status)), _) => self.finish(now, index, status),
                (_, Some(entry)) => entry.stage = Stage::Posted,
                _ => {}
            }
        }
    }

    /// The work of a request; the error is how it ends if its extent is lost.
    fn work_of(&self, index: u32, rkey: u32) -> Result<Work, PageStatus> {
        let request = self.pending.get(index).ok_or(PageStatus::Flushed)?.request;
        let extent = self.extents.get(request.extent.place()).ok_or(PageStatus::NoSuchExtent)?;
        let slot = match extent.state {
            ExtentState::Live(_, slot) | ExtentState::Leaving(Ok((_, slot))) => slot,
            _ => return Err(extent.loss().map_or(PageStatus::NoSuchExtent, PageStatus::from)),
        };
        let address =
            u64::from(slot.unit) << UNIT_SHIFT | u64::from(slot.slot) << EXTENT_SHIFT | u64::from(request.offset);
        let remote = Remote { address, key: rkey };
        let op = match request.op {
            PageOp::Read => Op::Read(remote),
            PageOp::Write => Op::Write(remote),
        };
        let local = Local { key: request.buffer.0, address: request.address, len: request.len };
        Ok(Work { id: index.into(), op, local })
    }

    /// A request ends. It is in no list of a connection.
    pub(super) fn finish(&mut self, now: Time, index: u32, status: PageStatus) {
        let Some(entry) = self.pending.get(index) else { return };
        let (request, path, submitted, is_counted) = (entry.request, entry.path, entry.submitted, entry.is_counted);
        self.pending.complete(index, status);
        self.counters.requests_pending.set(self.pending.under_way().into());
        if is_counted && let Some(client) = self.clients.get_mut(request.client.place() as u16) {
            client.under_way -= 1;
        }
        if status == PageStatus::Done {
            self.counters.requests_done.add(1);
            let took = now.saturating_sub(submitted);
            match request.urgency {
                Urgency::Demand => self.histograms.demand_ns.record(took),
                Urgency::Bulk => self.histograms.bulk_ns.record(took),
            }
            match request.op {
                PageOp::Read => self.counters.extent_bytes_read.add(request.len.into()),
                PageOp::Write => self.counters.extent_bytes_written.add(request.len.into()),
            }
        } else {
            self.counters.requests_failed.add(1);
        }
        if path.is_some()
            && let Some(extent) = self.extents.get_mut(request.extent.place())
        {
            extent.pending -= 1;
            if extent.pending == 0 {
                self.vacate(request.extent.place());
            }
        }
    }
}
