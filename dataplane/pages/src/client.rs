//! A connection to a server of pages.

use crate::buffer::{Buffer, BufferArea};
use crate::error::PagesError;
use crate::options::{AreaOptions, ClientOptions};
use crate::question::Questions;
use crate::setup::{connect_to, exchange};
use crate::socket::{Came, left, ready, receive, send, send_until, timespec};
use crate::table::Table;
use crate::work::{Ended, Extent, Work};
use channel::message::{ClientState, DESCRIPTORS, MOST_EXTENTS, Message, MessageBody};
use channel::{AreaName, ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, ClientEnd, MOST_AT_ONCE};
use frame::Shared;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFlags, epoll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The data of the socket's events in the bell.
const SOCKET: u64 = 1;

/// Memory may be longer than its layout says, up to whole hugepages.
const HUGEPAGE: u64 = 2 << 20;

/// After so many polls that found nothing, the socket is looked at: a client that never sleeps hears of the end, too.
const LOOK: u32 = 1024;

/// What a server says about extents of its own accord.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentNotice {
    /// The bytes of these extents are lost. Free them.
    Lost {
        /// Why: as requests for them end.
        status: ChannelStatus,
        /// Which.
        extents: Vec<Extent>,
    },
    /// The owner of a slave wants its memory back: move the bytes of these extents elsewhere, and free them.
    Recalled {
        /// In which time. After that they are lost.
        within: Duration,
        /// Which.
        extents: Vec<Extent>,
    },
}

/// A connection to a server of pages.
///
/// It belongs to one thread at a time. A program with several threads has a client for each, or a lock.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// What the client hears: completions, and the socket.
    bell: OwnedFd,
    /// What the client rings.
    server_bell: OwnedFd,
    end: ClientEnd<Arc<Shared>>,
    memory: Arc<BufferArea>,
    table: Table,
    quota: u32,
    /// The extents that its area had.
    extents: Vec<Extent>,
    patience: Duration,
    spins: u32,
    /// The number of the question asked last, and its answer.
    asked: u64,
    answer: Option<MessageBody>,
    pub(crate) notices: VecDeque<ExtentNotice>,
    /// Questions that nobody waits for here.
    pub(crate) questions: Questions,
    /// Polls that found nothing.
    idle: u32,
    /// Told to ring for completions.
    is_armed: bool,
    pub(crate) is_gone: bool,
    /// Why, if not because the server went. It is said once.
    fault: Option<PagesError>,
}

impl Client {
    /// Connects to the server that listens at a socket.
    ///
    /// # Errors
    /// [`PagesError`]: no socket, nobody listens, no permission, refused, no answer, another version.
    pub fn connect(path: impl AsRef<Path>, options: &ClientOptions) -> Result<Self, PagesError> {
        let path = path.as_ref();
        ChannelLayout::new(options.requests, options.buffers)?;
        let area = match &options.area {
            Some(AreaOptions { name, wanted }) => {
                AreaName::new(name).map_err(|reason| PagesError::Refused { reason, limit: 0 })?;
                Some((name.clone(), *wanted))
            }
            None => None,
        };
        let until = Instant::now().checked_add(options.patience);
        let socket = connect_to(path, options.patience, until)?;
        let hello = MessageBody::Hello {
            capacity: options.requests,
            extents: options.extents,
            buffers: options.buffers,
            name: options.name.clone(),
            area,
        };
        let (body, descriptors) = exchange(&socket, 1, hello, options.patience, until)?;
        let MessageBody::Welcome { capacity, extents, buffers } = body else {
            return Err(PagesError::Nonsense("something else than WELCOME"));
        };
        let [memory, server_bell, bell] = <[OwnedFd; DESCRIPTORS]>::try_from(descriptors)
            .map_err(|_| PagesError::Nonsense("WELCOME without its descriptors"))?;
        let layout = ChannelLayout::new(capacity, buffers)?;
        let memory = Arc::new(Shared::adopt(memory, layout.bytes().next_multiple_of(HUGEPAGE) as usize)?);
        if ((memory.len() * frame::shared::WORD) as u64) < layout.bytes() {
            return Err(PagesError::Nonsense("memory that is too short"));
        }
        let end =
            ClientEnd::new(memory.clone(), layout).map_err(|_| PagesError::Nonsense("memory that is too short"))?;
        epoll::add(&bell, &socket, epoll::EventData::new_u64(SOCKET), epoll::EventFlags::IN)
            .map_err(|_| PagesError::Nonsense("a bell that cannot be heard"))?;
        let (MessageBody::Open, _) = exchange(&socket, 2, MessageBody::Mapped, options.patience, until)? else {
            return Err(PagesError::Nonsense("something else than OPEN"));
        };
        let mut client = Self {
            socket,
            bell,
            server_bell,
            end,
            memory: Arc::new(BufferArea::new(memory, &layout)),
            table: Table::new(capacity),
            quota: extents,
            extents: Vec::new(),
            patience: options.patience,
            spins: options.spins,
            asked: 2,
            answer: None,
            notices: VecDeque::new(),
            questions: Questions::default(),
            idle: 0,
            is_armed: false,
            is_gone: false,
            fault: None,
        };
        if options.area.is_some() {
            client.list()?;
        }
        Ok(client)
    }

    /// Asks for the extents of its area. What is said of their loss comes before each answer.
    fn list(&mut self) -> Result<(), PagesError> {
        let mut from = 0;
        loop {
            let MessageBody::Listed { next, extents } = self.ask(MessageBody::List { from })? else {
                return Err(self.fail(PagesError::Nonsense("another answer to LIST")));
            };
            self.extents.extend(extents.into_iter().map(Extent::from_number));
            if next == 0 {
                return Ok(());
            }
            if next <= from {
                return Err(self.fail(PagesError::Nonsense("a list that goes back")));
            }
            from = next;
        }
    }

    /// The most requests under way.
    pub const fn capacity(&self) -> u32 {
        self.end.layout().capacity()
    }

    /// Extents that this connection may have at once.
    pub const fn quota(&self) -> u32 {
        self.quota
    }

    /// The extents that its area had when this connection was made, in the order in which they were allocated. Those
    /// that are lost are in [`notices`](Self::notices), too. None without an area.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Bytes of buffers.
    pub const fn buffers(&self) -> u64 {
        self.end.layout().buffers()
    }

    /// Requests that were posted and have not ended.
    pub fn under_way(&self) -> usize {
        self.table.len()
    }

    /// A buffer of so many bytes, rounded up to a multiple of 8. Its bytes are what was there before.
    ///
    /// # Errors
    /// [`PagesError::NoBuffer`].
    pub fn buffer(&self, len: usize) -> Result<Buffer, PagesError> {
        self.memory.allocate(len)
    }

    /// Allocates extents: all of them or none. With `apart`, each is in another failure domain. Their bytes are zero,
    /// or what this connection wrote into extents that it has freed.
    ///
    /// # Errors
    /// [`PagesError::Refused`], for example by the quota; [`PagesError::NoAnswer`]; [`PagesError::ServerGone`].
    pub fn allocate(&mut self, count: u32, apart: bool) -> Result<Vec<Extent>, PagesError> {
        match self.ask(MessageBody::Allocate { count, apart })? {
            MessageBody::Allocated(extents) if extents.len() == count as usize => {
                Ok(extents.into_iter().map(Extent::from_number).collect())
            }
            _ => Err(self.fail(PagesError::Nonsense("another answer to an allocation"))),
        }
    }

    /// Frees extents. Those that this connection does not have are ignored. A request under way is done, or ends with
    /// NO_SUCH_EXTENT.
    ///
    /// # Errors
    /// [`PagesError::NoAnswer`]; [`PagesError::ServerGone`].
    pub fn free(&mut self, extents: &[Extent]) -> Result<(), PagesError> {
        for part in extents.chunks(MOST_EXTENTS) {
            let numbers = part.iter().map(|extent| extent.number()).collect();
            if self.ask(MessageBody::Free(numbers))? != MessageBody::Freed {
                return Err(self.fail(PagesError::Nonsense("another answer to FREE")));
            }
        }
        Ok(())
    }

    /// Its area is to be none any more: the name is free, and the extents are freed when this connection ends.
    ///
    /// # Errors
    /// [`PagesError::Refused`] without an area; [`PagesError::NoAnswer`]; [`PagesError::ServerGone`].
    pub fn remove_area(&mut self) -> Result<(), PagesError> {
        match self.ask(MessageBody::Remove)? {
            MessageBody::Removed => Ok(()),
            _ => Err(self.fail(PagesError::Nonsense("another answer to REMOVE"))),
        }
    }

    /// What the server says about this connection.
    ///
    /// # Errors
    /// [`PagesError::NoAnswer`]; [`PagesError::ServerGone`].
    pub fn state(&mut self) -> Result<ClientState, PagesError> {
        match self.ask(MessageBody::Stat)? {
            MessageBody::State(state) => Ok(state),
            _ => Err(self.fail(PagesError::Nonsense("another answer to STAT"))),
        }
    }

    /// What the server said about extents since the last call.
    ///
    /// # Errors
    /// [`PagesError::ServerGone`], when all notices were returned.
    pub fn notices(&mut self) -> Result<Vec<ExtentNotice>, PagesError> {
        if !self.is_gone {
            self.pump();
        }
        let notices: Vec<_> = self.notices.drain(..).collect();
        if notices.is_empty() && self.is_gone { Err(self.gone()) } else { Ok(notices) }
    }

    /// Posts requests from the begin of the batch on, as many as can be under way, and returns how many. Those are no
    /// more in the batch.
    ///
    /// # Errors
    /// [`PagesError::ForeignBuffer`] and [`PagesError::ServerGone`]; nothing of the batch is posted then.
    pub fn post(&mut self, batch: &mut Vec<Work>) -> Result<usize, PagesError> {
        if self.is_gone {
            return Err(self.gone());
        }
        let count = batch.len().min(self.end.room());
        if batch.iter().take(count).any(|work| !work.buffer.is_of(&self.memory)) {
            return Err(PagesError::ForeignBuffer);
        }
        let mut posted = 0;
        let mut works = batch.drain(..count);
        while posted < count {
            let mut burst = [ChannelRequest::NONE; MOST_AT_ONCE];
            let mut len = 0;
            for (entry, work) in burst.iter_mut().zip(works.by_ref()) {
                // There is a slot for each request that the ring has room for.
                let Ok(request) = self.table.begin(work) else { break };
                *entry = request;
                len += 1;
            }
            if len == 0 {
                break;
            }
            posted += len;
            // If the rings are broken, these requests are in the table: they end with SERVER_GONE.
            match self.end.post(&burst[..len]) {
                Ok(done) if done.ring => {
                    // If the number is full, the server is being rung for anyway.
                    let _ = rustix::io::write(&self.server_bell, &1u64.to_ne_bytes());
                }
                Ok(_) => (),
                Err(broken) => {
                    self.is_gone = true;
                    self.fault = Some(broken.into());
                }
            }
        }
        Ok(posted)
    }

    /// Adds requests that have ended to `out`, and returns how many. It does not wait.
    ///
    /// # Errors
    /// [`PagesError::ServerGone`] and faults of the server, when no request is under way any more.
    pub fn poll(&mut self, out: &mut Vec<Ended>) -> Result<usize, PagesError> {
        let before = out.len();
        if self.is_armed {
            self.hear(Some(Duration::ZERO));
        }
        self.collect(out);
        if out.len() == before && !self.is_gone {
            self.idle = self.idle.wrapping_add(1);
            if self.idle.is_multiple_of(LOOK) {
                self.pump();
                // What the server completed before it went.
                self.collect(out);
            }
        }
        if self.is_gone {
            self.table.end_all(ChannelStatus::SERVER_GONE, out);
            if out.len() == before {
                return Err(self.gone());
            }
        }
        Ok(out.len() - before)
    }

    /// As [`poll`](Self::poll), but waits until a request has ended, a notice has come, or the time is over; `None` is
    /// for ever. It does not wait if no request is under way.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(&mut self, out: &mut Vec<Ended>, time: Option<Duration>) -> Result<usize, PagesError> {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        let mut spins = 0;
        loop {
            let found = self.poll(out)?;
            if found > 0 || self.table.len() == 0 || !self.notices.is_empty() {
                return Ok(found);
            }
            if spins < self.spins {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            if left(until) == Some(Duration::ZERO) {
                return Ok(0);
            }
            if self.arm()? {
                self.hear(left(until));
            }
        }
    }

    /// Prepares to sleep on the descriptor of this client ([`AsFd`]) in an event loop of the caller. If the answer is
    /// true, the descriptor becomes readable when a request has ended, a notice has come, or the server is gone; then
    /// call [`poll`](Self::poll). If it is false, call that at once.
    ///
    /// # Errors
    /// [`PagesError::ServerGone`] and faults of the server, when no request is under way any more.
    pub fn arm(&mut self) -> Result<bool, PagesError> {
        if self.is_gone {
            return if self.table.len() > 0 { Ok(false) } else { Err(self.gone()) };
        }
        match self.end.sleep() {
            Ok(may) => {
                self.is_armed = may;
                Ok(may)
            }
            Err(broken) => {
                self.fail(broken.into());
                Ok(false)
            }
        }
    }

    /// Sleeps until the bell rings, or at most this long; then this client is awake.
    fn hear(&mut self, time: Option<Duration>) {
        let mut events = Vec::with_capacity(2);
        // An interruption is as good as a ring: the caller polls and sleeps again.
        let _ = epoll::wait(&self.bell, spare_capacity(&mut events), timespec(time).as_ref());
        self.is_armed = false;
        if let Err(broken) = self.end.wake() {
            self.fail(broken.into());
        }
        if events.iter().any(|event: &epoll::Event| event.data.u64() == SOCKET) {
            self.pump();
        }
    }

    /// Moves completions from the ring to `out`.
    fn collect(&mut self, out: &mut Vec<Ended>) {
        let mut burst = [ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 0 }; MOST_AT_ONCE];
        while self.fault.is_none() {
            let found = match self.end.poll(&mut burst) {
                Ok(found) => found,
                Err(broken) => {
                    self.fail(broken.into());
                    return;
                }
            };
            for completion in &burst[..found] {
                match self.table.end(completion) {
                    Ok(ended) => out.push(ended),
                    Err(nonsense) => {
                        self.fail(nonsense);
                        return;
                    }
                }
            }
            if found < burst.len() {
                return;
            }
        }
    }

    /// Reads what came over the socket.
    pub(crate) fn pump(&mut self) {
        self.send_questions();
        loop {
            let bytes = match receive(&self.socket) {
                Ok(Came::Bytes(bytes, _)) => bytes,
                Ok(Came::Nothing) => return,
                Ok(Came::End) => {
                    self.is_gone = true;
                    return;
                }
                Err(source) => {
                    self.fail(PagesError::System { what: "read from the server of pages", source });
                    return;
                }
            };
            let numbered = |extents: Vec<u64>| extents.into_iter().map(Extent::from_number).collect();
            match Message::parse(&bytes) {
                Ok(Message { body: MessageBody::Lost { status, extents }, .. }) => {
                    let status = ChannelStatus::from_number(status);
                    self.notices.push_back(ExtentNotice::Lost { status, extents: numbered(extents) });
                }
                Ok(Message { body: MessageBody::Recalled { within_ms, extents }, .. }) => {
                    let within = Duration::from_millis(within_ms.into());
                    self.notices.push_back(ExtentNotice::Recalled { within, extents: numbered(extents) });
                }
                Ok(Message { tag, body }) if self.questions.is_open(tag) => self.questions.answer(tag, body),
                Ok(Message { tag, body }) if tag == self.asked => self.answer = Some(body),
                // Nobody waits for them any more.
                Ok(Message { body: MessageBody::Allocated(extents), .. }) => {
                    let _ = send(&self.socket, &Message { tag: 0, body: MessageBody::Free(extents) }, &[]);
                }
                Ok(_) => (),
                Err(error) => {
                    self.fail(error.into());
                    return;
                }
            }
        }
    }

    /// Asks the server, and waits for its answer.
    fn ask(&mut self, body: MessageBody) -> Result<MessageBody, PagesError> {
        if self.is_gone {
            return Err(self.gone());
        }
        self.asked += 1;
        self.answer = None;
        let until = Instant::now().checked_add(self.patience);
        match send_until(&self.socket, &Message { tag: self.asked, body }, self.patience, until) {
            Err(PagesError::ServerGone) => self.is_gone = true,
            other => other?,
        }
        loop {
            self.pump();
            match self.answer.take() {
                Some(MessageBody::Refused { reason, limit }) => return Err(PagesError::Refused { reason, limit }),
                Some(body) => return Ok(body),
                None if self.is_gone => return Err(self.gone()),
                None => (),
            }
            let is_ready =
                ready(&self.socket, PollFlags::IN, until).map_err(PagesError::system("wait for an answer"))?;
            if !is_ready {
                // An answer that still comes fits no question.
                self.asked += 1;
                return Err(PagesError::NoAnswer(self.patience));
            }
        }
    }

    /// The number of the next question.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Sends questions that the socket had no room for.
    pub(crate) fn send_questions(&mut self) {
        while let Some(message) = self.questions.unsent() {
            match send(&self.socket, message, &[]) {
                Ok(()) => self.questions.sent(),
                Err(Errno::AGAIN | Errno::INTR) => return,
                // The end of the stream says it, too.
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
    }

    /// Gives up the connection: it is as if the server were gone. Requests under way end with SERVER_GONE at the next
    /// [`poll`](Self::poll).
    pub fn give_up(&mut self) {
        self.is_gone = true;
        // The server hears that it is over.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Gives up the connection because of a fault, which is the next error; returns the error that callers see now.
    pub(crate) fn fail(&mut self, fault: PagesError) -> PagesError {
        self.give_up();
        self.fault.get_or_insert(fault);
        PagesError::ServerGone
    }

    pub(crate) fn gone(&mut self) -> PagesError {
        match self.fault.take() {
            // The rings are not looked at any more, so a later call says the same.
            Some(fault) => {
                self.fault = Some(PagesError::ServerGone);
                fault
            }
            None => PagesError::ServerGone,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
