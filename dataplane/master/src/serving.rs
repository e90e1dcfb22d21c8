//! The master with the channels of its clients: applications on the same host.
//!
//! In each poll the role takes requests out of the channels, and puts completions into them. Each client gets the same
//! share of a poll, and what a client does wrong ends its own channel alone.

use crate::clients::ClientQuota;
use crate::event::MasterCommand;
use crate::request::{BufferKey, ClientId, ExtentId, PageCompletion, PageOp, PageRequest, PageStatus, Urgency};
use crate::role::Master;
use channel::{
    ChannelBroken, ChannelCompletion, ChannelRequest, ChannelStatus, Lane, MOST_AT_ONCE, ServerEnd, Transfer,
};
use frame::{Burst, Counter, Outbox, PortId, Role, Shared, Time};
use std::fmt;
use std::sync::Arc;
use transport::{Memory, MemoryError};

/// The buffers of a channel: memory that its client writes to at any time.
#[derive(Clone, Debug)]
pub struct ChannelMemory {
    shared: Arc<Shared>,
    start: u64,
    len: u64,
}

impl ChannelMemory {
    /// `len` bytes from the byte `start` on; `None` if they are not all inside.
    pub fn new(shared: Arc<Shared>, start: u64, len: u64) -> Option<Self> {
        let all = size_of_val(&shared[..]) as u64;
        (start.checked_add(len)? <= all).then_some(Self { shared, start, len })
    }

    /// The place of bytes of the buffers in the shared memory, if they are all inside.
    #[inline]
    fn place(&self, offset: u64, len: usize) -> Result<u64, MemoryError> {
        let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.len);
        if is_inside { Ok(self.start + offset) } else { Err(MemoryError) }
    }
}

impl Memory for ChannelMemory {
    #[inline]
    fn len(&self) -> u64 {
        self.len
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let place = self.place(offset, out.len())?;
        if self.shared.read_bytes(place, out) { Ok(()) } else { Err(MemoryError) }
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        self.shared.read_bytes_with_crc(self.place(offset, out.len())?, crc, out).ok_or(MemoryError)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let place = self.place(offset, bytes.len())?;
        if self.shared.write_bytes(place, bytes) { Ok(()) } else { Err(MemoryError) }
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        if let Ok(place) = self.place(offset, len) {
            self.shared.prefetch_bytes(place, len);
        }
    }
}

/// Wakes a client that sleeps. It must not block, whatever the client does.
pub type ClientBell = Box<dyn Fn() + Send>;

/// What the requests of one client came to. The lcore writes, others read.
#[derive(Debug, Default)]
pub struct ClientTotals {
    /// Requests that ended.
    pub requests: Counter,
    /// Those that did not end well.
    pub failures: Counter,
    /// Bytes that were read.
    pub bytes_read: Counter,
    /// Bytes that were written.
    pub bytes_written: Counter,
}

impl ClientTotals {
    fn count(&self, completion: &PageCompletion) {
        self.requests.add(1);
        let len = u64::from(completion.len);
        match (completion.status, completion.op) {
            (PageStatus::Done, PageOp::Read) => self.bytes_read.add(len),
            (PageStatus::Done, PageOp::Write) => self.bytes_written.add(len),
            _ => self.failures.add(1),
        }
    }
}

/// A client that is there, with its channel.
pub struct Attachment {
    /// Comes back in the event.
    pub tag: u64,
    /// What it may have. Of requests it has as many as its channel, and of local memories one.
    pub extents: u32,
    /// Its channel's memory, which is frozen.
    pub shared: Arc<Shared>,
    /// The lcore's end of the channel in that memory, which nobody has used yet.
    pub end: ServerEnd<Arc<Shared>>,
    /// Wakes it.
    pub bell: ClientBell,
    /// What its requests come to.
    pub totals: Arc<ClientTotals>,
    /// The parked client that this one is: it gets the extents of that. `None` for a new client.
    pub resume: Option<ClientId>,
    /// If it breaks the rules of its channel, it is parked and not removed.
    pub keep: bool,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("tag", &self.tag).field("extents", &self.extents).finish_non_exhaustive()
    }
}

/// Commands of other threads for a [`MasterServer`] master.
#[derive(Debug)]
pub enum ServingCommand {
    /// A client with its channel. The answer is [`ServingEvent::Attached`].
    Attach(Box<Attachment>),
    /// A client goes, or is gone. Its channel is not used any more; see [`MasterCommand::RemoveClient`].
    Detach(ClientId),
    /// The same, and its extents stay. [`MasterEvent::ClientParked`](crate::MasterEvent::ClientParked) answers; see
    /// [`Master::park_client`].
    Park(ClientId),
    /// A command for the master itself.
    Master(MasterCommand<ChannelMemory>),
}

/// What happened to channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingEvent {
    /// A client can use its channel; `None` if there is no room for it, or the one that it resumes is not parked.
    Attached(u64, Option<ClientId>),
    /// A client broke the rules of its channel. It is removed as by [`ServingCommand::Detach`], or parked as by
    /// [`ServingCommand::Park`] if its [`Attachment`] says so.
    Broken(ClientId, ChannelBroken),
}

/// One channel.
struct Channel {
    client: ClientId,
    end: ServerEnd<Arc<Shared>>,
    buffer: BufferKey,
    bell: ClientBell,
    totals: Arc<ClientTotals>,
    /// Completions that the client does not have yet; at most [`MOST_AT_ONCE`].
    done: Vec<ChannelCompletion>,
    /// The client sleeps, and has something to poll.
    must_ring: bool,
    /// It is parked if it breaks the rules.
    keep: bool,
}

/// A master whose clients are applications with a channel each.
pub struct MasterServer {
    master: Master<ChannelMemory>,
    /// By the client's place.
    channels: Box<[Option<Channel>]>,
    /// The channel that is asked first in the next poll.
    first: usize,
    /// There may be more requests in the channels.
    has_more: bool,
    /// A channel had requests when the lcore wanted to sleep: it must not, since that client will not ring.
    must_stay: bool,
    events: Box<dyn FnMut(ServingEvent) + Send>,
}

impl MasterServer {
    /// The master for as many channels as it has clients. What happens to channels goes to `events`, which must not
    /// block.
    pub fn new(master: Master<ChannelMemory>, clients: u16, events: impl FnMut(ServingEvent) + Send + 'static) -> Self {
        let channels = (0..clients).map(|_| None).collect();
        Self { master, channels, first: 0, has_more: false, must_stay: false, events: Box::new(events) }
    }

    /// The master.
    pub fn master(&mut self) -> &mut Master<ChannelMemory> {
        &mut self.master
    }

    fn attach(&mut self, attachment: Attachment) {
        let Attachment { tag, extents, shared, end, bell, totals, resume, keep } = attachment;
        let layout = *end.layout();
        let quota = ClientQuota { extents, requests: layout.capacity(), buffers: 1 };
        let client = ChannelMemory::new(shared, layout.buffers_at(), layout.buffers()).and_then(|memory| {
            let client = match resume {
                Some(parked) => self.master.resume_client(parked, quota).then_some(parked),
                None => self.master.add_client(quota),
            }?;
            let place = self.channels.get_mut(client.place());
            let buffer = self.master.add_buffer(client, 0, memory);
            match (place, buffer) {
                (Some(place), Some(buffer)) => {
                    let done = Vec::with_capacity(MOST_AT_ONCE);
                    *place = Some(Channel { client, end, buffer, bell, totals, done, must_ring: false, keep });
                    Some(client)
                }
                // What was parked before is parked again.
                _ if resume.is_some() => {
                    self.master.park_client(client);
                    None
                }
                _ => {
                    self.master.remove_client(client);
                    None
                }
            }
        });
        (self.events)(ServingEvent::Attached(tag, client));
    }

    /// The channel of a client is not used any more. Returns whether the client is to be parked if it broke the rules.
    fn close(&mut self, client: ClientId) -> bool {
        match self.channels.get_mut(client.place()) {
            Some(place) if place.as_ref().is_some_and(|channel| channel.client == client) => {
                place.take().is_some_and(|channel| channel.keep)
            }
            _ => false,
        }
    }

    fn detach(&mut self, client: ClientId) {
        self.close(client);
        self.master.remove_client(client);
    }

    fn park(&mut self, client: ClientId) {
        self.close(client);
        self.master.park_client(client);
    }

    /// A client broke the rules of its channel.
    #[cold]
    fn break_off(&mut self, client: ClientId, why: ChannelBroken) {
        if self.close(client) {
            self.master.park_client(client);
        } else {
            self.master.remove_client(client);
        }
        (self.events)(ServingEvent::Broken(client, why));
    }

    /// Takes requests out of all channels, at most [`MOST_AT_ONCE`] out of each.
    fn take(&mut self, now: Time) {
        self.has_more = false;
        let count = self.channels.len();
        for number in 0..count {
            let place = (self.first + number) % count;
            let room = (self.master.room() as usize).min(MOST_AT_ONCE);
            let Some(Some(channel)) = self.channels.get_mut(place) else { continue };
            let mut burst = [ChannelRequest::NONE; MOST_AT_ONCE];
            let taken = match channel.end.take(&mut burst[..room]) {
                Ok(taken) => taken,
                Err(why) => {
                    let client = channel.client;
                    self.break_off(client, why);
                    continue;
                }
            };
            channel.must_ring |= taken.ring;
            channel.totals.requests.add(taken.refused as u64);
            channel.totals.failures.add(taken.refused as u64);
            // A master without room has answers to wait for, and takes more when they have come.
            self.has_more |= room > 0 && taken.count + taken.refused >= room;
            for request in &burst[..taken.count] {
                let request = page_request(channel.client, channel.buffer, request);
                if self.master.submit(now, &[request]) != 1 {
                    frame::never!("a master that said that it has room takes no request");
                }
            }
        }
        // Each client is the first one in its turn.
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
    }

    /// Hands completions to their clients.
    fn hand_over(&mut self) {
        while let Some(completion) = self.master.poll() {
            let place = completion.client.place();
            // Of a client that is gone nobody wants to know.
            let Some(Some(channel)) = self.channels.get_mut(place) else { continue };
            if channel.client != completion.client {
                continue;
            }
            channel.totals.count(&completion);
            channel.done.push(channel_completion(&completion));
            if channel.done.len() == MOST_AT_ONCE {
                self.complete(place);
            }
        }
        for place in 0..self.channels.len() {
            self.complete(place);
            if let Some(Some(channel)) = self.channels.get_mut(place)
                && std::mem::take(&mut channel.must_ring)
            {
                (channel.bell)();
            }
        }
    }

    fn complete(&mut self, place: usize) {
        let Some(Some(channel)) = self.channels.get_mut(place) else { return };
        if channel.done.is_empty() {
            return;
        }
        let (client, handed) = (channel.client, channel.end.complete(&channel.done));
        channel.done.clear();
        match handed {
            Ok(ring) => channel.must_ring |= ring,
            Err(why) => self.break_off(client, why),
        }
    }

    /// Calls `each` for all channels; those that it finds broken are removed.
    fn for_each(&mut self, mut each: impl FnMut(&mut ServerEnd<Arc<Shared>>) -> Result<(), ChannelBroken>) {
        for place in 0..self.channels.len() {
            let Some(Some(channel)) = self.channels.get_mut(place) else { continue };
            let client = channel.client;
            if let Err(why) = each(&mut channel.end) {
                self.break_off(client, why);
            }
        }
    }
}

fn page_request(client: ClientId, buffer: BufferKey, request: &ChannelRequest) -> PageRequest {
    PageRequest {
        client,
        tag: request.tag,
        op: match request.transfer {
            Transfer::Read => PageOp::Read,
            Transfer::Write => PageOp::Write,
        },
        urgency: match request.lane {
            Lane::Demand => Urgency::Demand,
            Lane::Bulk => Urgency::Bulk,
        },
        extent: ExtentId::from_number(request.extent),
        offset: request.offset,
        len: request.len,
        buffer,
        address: request.buffer,
    }
}

fn channel_completion(completion: &PageCompletion) -> ChannelCompletion {
    ChannelCompletion { tag: completion.tag, status: channel_status(completion.status), len: completion.len }
}

/// The status with the same name.
pub const fn channel_status(status: PageStatus) -> ChannelStatus {
    match status {
        PageStatus::Done => ChannelStatus::DONE,
        PageStatus::SlaveGone => ChannelStatus::SLAVE_GONE,
        PageStatus::SlaveRestarted => ChannelStatus::SLAVE_RESTARTED,
        PageStatus::Recalled => ChannelStatus::RECALLED,
        PageStatus::LeaseEnded => ChannelStatus::LEASE_ENDED,
        PageStatus::Refused => ChannelStatus::REFUSED,
        PageStatus::NoAnswer => ChannelStatus::NO_ANSWER,
        PageStatus::Flushed => ChannelStatus::FLUSHED,
        PageStatus::NoSuchExtent => ChannelStatus::NO_SUCH_EXTENT,
        PageStatus::OutOfRange => ChannelStatus::OUT_OF_RANGE,
        PageStatus::BadBuffer => ChannelStatus::BAD_BUFFER,
        PageStatus::Quota => ChannelStatus::QUOTA,
        PageStatus::NoSuchClient => ChannelStatus::NO_SUCH_CLIENT,
    }
}

impl Role for MasterServer {
    type Command = ServingCommand;

    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox) {
        self.master.receive(now, port, burst, out);
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        self.take(now);
        self.master.advance(now, out);
        self.hand_over();
    }

    fn deadline(&self) -> Option<Time> {
        if self.has_more || self.must_stay { Some(0) } else { self.master.deadline() }
    }

    fn command(&mut self, now: Time, command: ServingCommand, out: &mut Outbox) {
        match command {
            ServingCommand::Attach(attachment) => self.attach(*attachment),
            ServingCommand::Detach(client) => self.detach(client),
            ServingCommand::Park(client) => self.park(client),
            ServingCommand::Master(command) => self.master.command(now, command, out),
        }
    }

    fn doze(&mut self) {
        let mut must_stay = false;
        self.for_each(|end| {
            must_stay |= !end.sleep()?;
            Ok(())
        });
        self.must_stay = must_stay;
    }

    fn wake(&mut self) {
        self.must_stay = false;
        self.for_each(ServerEnd::wake);
    }

    fn is_drained(&self) -> bool {
        self.master.is_drained()
    }

    fn frames_held(&self) -> usize {
        self.master.frames_held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Hugepages;

    #[test]
    fn every_status_has_the_same_name_for_applications() {
        for status in PageStatus::ALL {
            assert_eq!(channel_status(status).name(), status.name());
        }
    }

    #[test]
    fn a_channel_reaches_its_buffers_alone() {
        let shared = Arc::new(Shared::new(8192, Hugepages::Never).unwrap());
        assert!(ChannelMemory::new(Arc::clone(&shared), 4096, 4097).is_none());
        assert!(ChannelMemory::new(Arc::clone(&shared), u64::MAX, 2).is_none());
        let mut memory = ChannelMemory::new(Arc::clone(&shared), 4096, 4096).unwrap();
        assert_eq!(memory.len(), 4096);
        memory.write_at(4094, b"ab").unwrap();
        for (offset, len) in [(4095, 2), (4096, 1), (u64::MAX, 1)] {
            let mut bytes = vec![0; len];
            assert_eq!(memory.read_at(offset, &mut bytes), Err(MemoryError), "{offset}");
            assert_eq!(memory.read_with_crc(offset, 0, &mut bytes), Err(MemoryError), "{offset}");
            assert_eq!(memory.write_at(offset, &bytes), Err(MemoryError), "{offset}");
            memory.prefetch(offset, len);
        }
        let mut bytes = [0; 3];
        memory.read_at(4093, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0ab");
        assert_eq!(memory.read_with_crc(4094, 0, &mut bytes[..2]), Ok(wire::rc::icrc::extend(0, b"ab")));
        assert!(shared.read_bytes(8190, &mut bytes[..2]) && &bytes[..2] == b"ab");
    }
}
