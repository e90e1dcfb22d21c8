//! One application: what it may say, and when.

use crate::channel_memory::Offer;
use crate::holdings::Holdings;
use crate::limits::ApplicationLimits;
use crate::register::ApplicationEntry;
use channel::layout::{BUFFER_UNIT, LEAST_CAPACITY};
use channel::message::{ClientState, MOST_EXTENTS, Message, MessageBody, RefusedFor};
use channel::{AreaName, ChannelLayout, ChannelStatus};
use common::plain;
use frame::Time;
use frame::time::SECOND;
use lcore::bells::{Bells, Watched};
use master::{Allocate, Attachment, ClientId, ClientTotals, ExtentId, MOST_APART, MasterCommand, ServingCommand};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// An application has its channel after this time, or is sent away.
const WITHIN: Time = 10 * SECOND;

/// Allocations of one application that may be under way.
const MOST_ALLOCATIONS: usize = 64;

/// Where an application is.
enum State {
    /// It has not asked for a channel.
    New,
    /// It gets a channel, and shall map the memory.
    Offered(Box<Offer>),
    /// The lcore gets the channel. The answer to MAPPED has this number.
    Attaching(u64),
    /// It has a channel.
    Open(ClientId),
}

/// What is to be done after a message or an event.
pub(crate) enum Step {
    /// Answer, with the descriptors of the offer if there is one.
    Answer(Message),
    /// Send all of them.
    Answers(Vec<Message>),
    /// Tell the lcore, and answer if there is an answer already.
    Command(ServingCommand, Option<Message>),
    /// Give the channel to the lcore.
    Attach(Box<Attachment>),
    /// Answer, then close the connection, and say why.
    Close(Option<Message>, String),
}

/// What an application wants of its channel: requests under way, extents, and bytes of buffers.
pub(crate) type Wanted = (u32, u32, u64);

/// A connection.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    /// The lcore that it belongs to, once it has a place.
    pub(crate) lcore: usize,
    /// Its number, and that of its channel in events.
    number: u64,
    /// Process and user.
    pub(crate) who: (u32, u32),
    /// Its area. The table of areas has this connection's number then.
    pub(crate) area: Option<AreaName>,
    /// It has asked which areas there are: it may want nothing else.
    pub(crate) has_asked: bool,
    state: State,
    until: Time,
    pub(crate) entry: Option<Arc<ApplicationEntry>>,
    watched: Option<Watched>,
    pub(crate) name: String,
    quota: u32,
    shared: u64,
    /// Numbers of ALLOCATEs that are not answered.
    allocating: Vec<u64>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, number: u64, who: (u32, u32), now: Time) -> Self {
        Self {
            socket,
            lcore: 0,
            number,
            who,
            area: None,
            has_asked: false,
            state: State::New,
            until: now + WITHIN,
            entry: None,
            watched: None,
            name: String::new(),
            quota: 0,
            shared: 0,
            allocating: Vec::new(),
        }
    }

    /// Its name for the log: what it calls itself is text of another process.
    pub(crate) fn describe(&self) -> String {
        let area = self.area.as_ref().map_or_else(String::new, |area| format!(", area {area}"));
        format!("application \"{}\" (pid {}, user {}{area})", plain::line(&self.name), self.who.0, self.who.1)
    }

    pub(crate) fn client(&self) -> Option<ClientId> {
        if let State::Open(client) = self.state { Some(client) } else { None }
    }

    /// The offer whose descriptors go with WELCOME.
    pub(crate) fn offer(&self) -> Option<&Offer> {
        if let State::Offered(offer) = &self.state { Some(offer) } else { None }
    }

    /// The number of its MAPPED, while the lcore has not got its channel.
    pub(crate) fn attaching(&self) -> Option<u64> {
        if let State::Attaching(tag) = self.state { Some(tag) } else { None }
    }

    /// Whether it takes the place of an application.
    pub(crate) fn has_place(&self) -> bool {
        !matches!(self.state, State::New)
    }

    /// When it is sent away if it still has no channel.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (!matches!(self.state, State::Open(_))).then_some(self.until)
    }

    /// Takes a message of the application, other than HELLO and those about areas. `holdings` are its extents.
    pub(crate) fn take(&mut self, Message { tag, body }: Message, holdings: &mut Holdings, now: Time) -> Step {
        match (&self.state, body) {
            (State::Offered(_), MessageBody::Mapped) => self.attach(tag),
            (State::Open(client), MessageBody::Allocate { count, apart }) => self.allocate(tag, *client, count, apart),
            (State::Open(client), MessageBody::Free(extents)) => self.free(tag, *client, &extents, holdings),
            (State::Open(_), MessageBody::Stat) => Step::Answer(Message { tag, body: self.stat(holdings) }),
            (State::Open(_), MessageBody::List { from }) => {
                let page = holdings.page(from, now);
                let notices = page.notices.into_iter().map(|body| Message { tag: 0, body });
                Step::Answers(notices.chain([Message { tag, body: page.listed }]).collect())
            }
            _ => senseless(tag),
        }
    }

    /// It gets a channel to an lcore: within the limits, and if there is memory for it.
    pub(crate) fn offer_channel(
        &mut self,
        tag: u64,
        (capacity, extents, buffers): Wanted,
        limits: &ApplicationLimits,
        (lcore, bells): (usize, &Bells),
    ) -> Step {
        self.lcore = lcore;
        // What it wants, within what there is: a power of two, and whole pages.
        let capacity = capacity.clamp(LEAST_CAPACITY, limits.capacity);
        let capacity = 1 << capacity.ilog2();
        let buffers = buffers.clamp(BUFFER_UNIT, limits.buffers.max(BUFFER_UNIT)) / BUFFER_UNIT * BUFFER_UNIT;
        self.quota = if extents == 0 { limits.extents } else { extents.min(limits.extents) };
        let layout = ChannelLayout::new(capacity, buffers).map_err(|error| error.to_string());
        match layout.and_then(|layout| Ok((layout, Offer::new(layout, bells)?))) {
            Ok((layout, offer)) => {
                self.shared = layout.bytes();
                self.state = State::Offered(Box::new(offer));
                Step::Answer(Message { tag, body: MessageBody::Welcome { capacity, extents: self.quota, buffers } })
            }
            Err(why) => Step::Close(Some(refused(tag, RefusedFor::CHANNEL_MEMORY, limits.buffers)), why),
        }
    }

    fn attach(&mut self, tag: u64) -> Step {
        let State::Offered(offer) = std::mem::replace(&mut self.state, State::Attaching(tag)) else {
            return Step::Close(None, "it has no channel to be mapped".to_owned());
        };
        let totals = Arc::new(ClientTotals::default());
        match offer.accept(self.number, self.quota, Arc::clone(&totals), self.area.is_some()) {
            Ok((attachment, watched)) => {
                let entry = ApplicationEntry {
                    connection: self.number,
                    name: self.name.clone(),
                    pid: self.who.0,
                    user: self.who.1,
                    lcore: self.lcore,
                    area: self.area.clone(),
                    quota: self.quota,
                    shared: self.shared,
                    totals,
                    extents: Arc::default(),
                };
                (self.watched, self.entry) = (Some(watched), Some(Arc::new(entry)));
                Step::Attach(Box::new(attachment))
            }
            Err(why) => Step::Close(Some(refused(tag, RefusedFor::CHANNEL_MEMORY, 0)), why),
        }
    }

    /// The lcore has its end of the channel, or has no room for it. `is_back` says that its area was there before.
    pub(crate) fn attached(&mut self, client: Option<ClientId>, is_back: bool, limits: &ApplicationLimits) -> Step {
        let State::Attaching(tag) = self.state else {
            return Step::Close(None, "it was attached twice".to_owned());
        };
        match client {
            Some(client) => {
                self.state = State::Open(client);
                Step::Answer(Message { tag, body: MessageBody::Open })
            }
            // What is parked has its place: only a master that is about to stop does not take it back.
            None if self.area.is_some() && is_back => {
                let answer = refused(tag, RefusedFor::LEAVING, 0);
                Step::Close(Some(answer), "the master is about to stop".to_owned())
            }
            None => full(tag, limits),
        }
    }

    fn allocate(&mut self, tag: u64, client: ClientId, count: u32, apart: bool) -> Step {
        let most = if apart { MOST_APART } else { MOST_EXTENTS as u32 };
        if count == 0 || count > most {
            return Step::Answer(refused(tag, RefusedFor::COUNT, most.into()));
        }
        if self.allocating.len() >= MOST_ALLOCATIONS || self.allocating.contains(&tag) {
            return Step::Answer(refused(tag, RefusedFor::COUNT, MOST_ALLOCATIONS as u64));
        }
        self.allocating.push(tag);
        let wanted = MasterCommand::Allocate(Allocate { client, tag, count, apart });
        Step::Command(ServingCommand::Master(wanted), None)
    }

    /// The answer to an ALLOCATE with this number; `None` if there is no such one.
    pub(crate) fn allocated(&mut self, tag: u64, result: Result<Vec<u64>, (RefusedFor, u64)>) -> Option<Step> {
        let at = self.allocating.iter().position(|waiting| *waiting == tag)?;
        self.allocating.swap_remove(at);
        Some(Step::Answer(match result {
            Ok(extents) => Message { tag, body: MessageBody::Allocated(extents) },
            Err((reason, limit)) => refused(tag, reason, limit),
        }))
    }

    fn free(&self, tag: u64, client: ClientId, extents: &[u64], holdings: &mut Holdings) -> Step {
        let theirs = extents.iter().filter(|extent| holdings.remove(**extent));
        let theirs = theirs.map(|extent| ExtentId::from_number(*extent)).collect();
        let answer = Message { tag, body: MessageBody::Freed };
        Step::Command(ServingCommand::Master(MasterCommand::Free(client, theirs)), Some(answer))
    }

    fn stat(&self, holdings: &Holdings) -> MessageBody {
        let totals = self.entry.as_ref().map(|entry| &entry.totals);
        let of = |read: fn(&ClientTotals) -> u64| totals.map_or(0, |totals| read(totals));
        MessageBody::State(ClientState {
            quota: self.quota,
            extents: holdings.len(),
            requests: of(|totals| totals.requests.get()),
            failures: of(|totals| totals.failures.get()),
            bytes_read: of(|totals| totals.bytes_read.get()),
            bytes_written: of(|totals| totals.bytes_written.get()),
        })
    }

    /// A notice that an extent is lost.
    pub(crate) fn lost(extent: u64, status: ChannelStatus) -> Message {
        Message { tag: 0, body: MessageBody::Lost { status: status.number(), extents: vec![extent] } }
    }

    /// A notice that the memory of an extent is wanted back.
    pub(crate) fn recalled(extent: u64, within: Time) -> Message {
        let within_ms = u32::try_from(within / frame::time::MILLISECOND).unwrap_or(u32::MAX);
        Message { tag: 0, body: MessageBody::Recalled { within_ms, extents: vec![extent] } }
    }
}

pub(crate) fn refused(tag: u64, reason: RefusedFor, limit: u64) -> Message {
    Message { tag, body: MessageBody::Refused { reason, limit } }
}

/// The end of a connection whose message makes no sense, or not now.
pub(crate) fn senseless(tag: u64) -> Step {
    let why = "a message that has no meaning at this point".to_owned();
    Step::Close(Some(refused(tag, RefusedFor::MALFORMED, 0)), why)
}

/// The end of a connection for which there is no place.
pub(crate) fn full(tag: u64, limits: &ApplicationLimits) -> Step {
    let answer = refused(tag, RefusedFor::CLIENTS, limits.clients.into());
    Step::Close(Some(answer), "there are as many applications and areas as --clients allows".to_owned())
}
