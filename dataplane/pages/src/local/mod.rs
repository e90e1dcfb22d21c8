//! A server of pages inside of this process: for tests of applications, and of this library.
//!
//! It serves extents from the memory of this process, to any process that connects. It can be slow, refuse, flip bytes,
//! lose extents, and die in the middle, so that an application can be tried against all that.

mod areas;

use crate::error::PagesError;
use crate::socket::{Came, ready, receive, send};
use crate::work::Extent;
use areas::{Held, LocalAreas, page};
use channel::message::{ClientState, MOST_EXTENTS, Message, MessageBody, MessageError, RefusedFor, VERSION};
use channel::{
    AreaName, ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, EXTENT, MOST_AT_ONCE, ServerEnd,
    Transfer,
};
use frame::shared::WORD;
use frame::{Hugepages, Shared};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Words of an extent.
const WORDS: usize = EXTENT as usize / WORD;

/// The data of events: of the bell that the client rings, of the socket, of the bell for orders.
const RING: u64 = 0;
const SOCKET: u64 = 1;
const ORDER: u64 = 2;

/// The longest step of the set-up of a connection.
const SETUP: Duration = Duration::from_secs(10);

/// What a local server allows.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Extents of each client. Default: 64.
    pub extents: u32,
    /// Clients at once. Default: 16.
    pub clients: u32,
    /// The most requests under way of a client. Default: 32,768.
    pub requests: u32,
    /// The most bytes of buffers of a client. Default: 256 MiB.
    pub buffers: u64,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { extents: 64, clients: 16, requests: 1 << 15, buffers: 256 << 20 }
    }
}

/// An order for the thread of a client.
#[derive(Clone, Copy)]
enum Order {
    Lose(u64, ChannelStatus),
    Recall(u64, Duration),
}

/// What other threads tell the thread of a client.
struct Desk {
    orders: Mutex<Vec<Order>>,
    bell: OwnedFd,
}

/// What the threads of a server share.
struct Common {
    options: LocalOptions,
    /// Ends the accepting thread.
    bell: OwnedFd,
    is_over: AtomicBool,
    /// Requests until it dies; `u64::MAX` for never.
    left: AtomicU64,
    /// In microseconds, for each request.
    delay: AtomicU64,
    holds: AtomicBool,
    /// The number of a status with which all requests end; `u32::MAX` for none.
    failing: AtomicU32,
    flips: AtomicBool,
    next: AtomicU64,
    desks: Mutex<Vec<Arc<Desk>>>,
    areas: LocalAreas,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ring(bell: &OwnedFd) {
    // A number that is full is as good as one more.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

fn bell() -> Result<OwnedFd, PagesError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(PagesError::system("make an eventfd"))
}

impl Common {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        ring(&self.bell);
        locked(&self.desks).iter().for_each(|desk| ring(&desk.bell));
    }

    fn order(&self, order: Order) {
        for desk in locked(&self.desks).iter() {
            locked(&desk.orders).push(order);
            ring(&desk.bell);
        }
    }

    /// Counts a request; false if the server has died.
    fn count(&self) -> bool {
        let one_less = |left| if left == u64::MAX { Some(left) } else { u64::checked_sub(left, 1) };
        let lives = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok();
        if !lives {
            self.end();
        }
        lives
    }
}

/// A server of pages inside of this process. It ends when it is dropped.
pub struct LocalServer {
    common: Arc<Common>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalServer({})", self.path.display())
    }
}

impl LocalServer {
    /// Starts a server that listens at a socket. A socket at which nobody listens any more is replaced.
    ///
    /// # Errors
    /// [`PagesError::InUse`]; [`PagesError::System`].
    pub fn start(path: impl AsRef<Path>, options: LocalOptions) -> Result<Self, PagesError> {
        let path = path.as_ref().to_owned();
        let listener = listen_at(&path)?;
        let common = Arc::new(Common {
            options,
            bell: bell()?,
            is_over: AtomicBool::new(false),
            left: AtomicU64::new(u64::MAX),
            delay: AtomicU64::new(0),
            holds: AtomicBool::new(false),
            failing: AtomicU32::new(u32::MAX),
            flips: AtomicBool::new(false),
            next: AtomicU64::new(1),
            desks: Mutex::new(Vec::new()),
            areas: LocalAreas::default(),
        });
        let inside = Arc::clone(&common);
        let thread = std::thread::Builder::new().name("pages".to_owned()).spawn(move || accept(&listener, &inside));
        let thread = thread.map_err(|error| PagesError::System {
            what: "start a thread",
            source: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
        })?;
        Ok(Self { common, path, thread: Some(thread) })
    }

    /// From now on each request takes at least so long.
    pub fn delay(&self, time: Duration) {
        self.common.delay.store(time.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on requests stay under way: none is taken until this is called with false. What [`LocalServer::lose`]
    /// and [`LocalServer::recall`] say comes true meanwhile, so a request that is held finds its extent lost.
    pub fn hold(&self, holds: bool) {
        self.common.holds.store(holds, Ordering::Release);
        locked(&self.common.desks).iter().for_each(|desk| ring(&desk.bell));
    }

    /// From now on all requests end with this status, and nothing is transferred; `None` ends that.
    pub fn fail_with(&self, status: Option<ChannelStatus>) {
        self.common.failing.store(status.map_or(u32::MAX, ChannelStatus::number), Ordering::Relaxed);
    }

    /// From now on READs bring a wrong byte each.
    pub fn flip(&self, flips: bool) {
        self.common.flips.store(flips, Ordering::Relaxed);
    }

    /// After so many more requests the server dies: it completes nothing more, and closes all connections.
    pub fn die_after(&self, requests: u64) {
        self.common.left.store(requests, Ordering::Release);
    }

    /// The bytes of an extent are lost.
    pub fn lose(&self, extent: Extent, status: ChannelStatus) {
        self.common.areas.lose_kept(extent.number(), status);
        self.common.order(Order::Lose(extent.number(), status));
    }

    /// An extent is recalled, and lost after the time. Nothing happens to those of areas that nobody uses now.
    pub fn recall(&self, extent: Extent, within: Duration) {
        self.common.order(Order::Recall(extent.number(), within));
    }

    /// Clients that are connected.
    pub fn clients(&self) -> usize {
        locked(&self.common.desks).len()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.common.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn seqpacket() -> Result<OwnedFd, PagesError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(PagesError::system("make a socket"))
}

fn listen_at(path: &Path) -> Result<OwnedFd, PagesError> {
    let system = PagesError::system("listen at a socket");
    let address = SocketAddrUnix::new(path).map_err(&system)?;
    let listener = seqpacket()?;
    match bind(&listener, &address) {
        Ok(()) => (),
        Err(Errno::ADDRINUSE) => {
            if connect(seqpacket()?, &address) != Err(Errno::CONNREFUSED) {
                return Err(PagesError::InUse(path.to_owned()));
            }
            rustix::fs::unlink(path).map_err(&system)?;
            bind(&listener, &address).map_err(&system)?;
        }
        Err(errno) => return Err(system(errno)),
    }
    listen(&listener, 16).map_err(&system)?;
    Ok(listener)
}

fn accept(listener: &OwnedFd, common: &Arc<Common>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !common.is_over() {
        let mut waits = [listener, &common.bell].map(|fd| rustix::event::PollFd::new(fd, PollFlags::IN));
        let _ = rustix::event::poll(&mut waits, None);
        threads.retain(|thread| !thread.is_finished());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = accept_with(listener, flags) else { continue };
        let inside = Arc::clone(common);
        let thread = std::thread::Builder::new().name("pages-client".to_owned()).spawn(move || {
            // What a client does wrong is its own affair: the connection ends.
            let _ = attend(&socket, &inside);
        });
        threads.extend(thread);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Waits for one message while a connection is made.
fn one(socket: &OwnedFd) -> Result<Message, Option<MessageError>> {
    let until = Instant::now().checked_add(SETUP);
    loop {
        match receive(socket) {
            Ok(Came::Bytes(bytes, _)) => return Message::parse(&bytes).map_err(Some),
            Ok(Came::Nothing) if ready(socket, PollFlags::IN, until) == Ok(true) => (),
            _ => return Err(None),
        }
    }
}

fn refuse(socket: &OwnedFd, tag: u64, reason: RefusedFor, limit: u64) {
    let _ = send(socket, &Message { tag, body: MessageBody::Refused { reason, limit } }, &[]);
}

/// One connection, from HELLO to its end.
fn attend(socket: &OwnedFd, common: &Arc<Common>) -> Result<(), PagesError> {
    let options = &common.options;
    let (tag, layout, quota, area) = loop {
        match one(socket) {
            Ok(Message { tag, body: MessageBody::Hello { capacity, extents, buffers, area, .. } }) => {
                let quota = if extents == 0 { options.extents } else { extents.min(options.extents) };
                let layout = ChannelLayout::new(capacity.min(options.requests), buffers.min(options.buffers));
                let Ok(layout) = layout else {
                    refuse(socket, tag, RefusedFor::MALFORMED, 0);
                    return Ok(());
                };
                break (tag, layout, quota, area);
            }
            Ok(Message { tag, body: MessageBody::Areas { after } }) => {
                let body = common.areas.list(socket, &after);
                send(socket, &Message { tag, body }, &[]).map_err(PagesError::system("answer a client"))?;
            }
            Err(Some(MessageError::Version(_))) => {
                refuse(socket, 0, RefusedFor::VERSION, VERSION.into());
                return Ok(());
            }
            Err(None) => return Ok(()),
            _ => {
                refuse(socket, 0, RefusedFor::MALFORMED, 0);
                return Ok(());
            }
        }
    };
    let desk = Arc::new(Desk { orders: Mutex::new(Vec::new()), bell: bell()? });
    {
        let mut desks = locked(&common.desks);
        if desks.len() >= options.clients as usize {
            drop(desks);
            refuse(socket, tag, RefusedFor::CLIENTS, options.clients.into());
            return Ok(());
        }
        desks.push(Arc::clone(&desk));
    }
    let claimed = area.map(|(name, wanted)| common.areas.claim(socket, &name, wanted)).transpose();
    let result = match claimed {
        Ok(claimed) => {
            let (mut area, mut held) = claimed.map_or((None, Held::new()), |(name, held)| (Some(name), held));
            let result = serve(socket, common, &desk, tag, (layout, quota), (&mut area, &mut held));
            if let Some(name) = area {
                common.areas.keep(&name, held);
            }
            result
        }
        Err(reason) => {
            refuse(socket, tag, reason, 0);
            Ok(())
        }
    };
    locked(&common.desks).retain(|other| !Arc::ptr_eq(other, &desk));
    result
}

/// Whether a bell rings that the thread watches.
fn watch(set: &OwnedFd, what: impl AsFd, data: u64, edges: bool) -> Result<(), PagesError> {
    let flags = if edges { epoll::EventFlags::IN | epoll::EventFlags::ET } else { epoll::EventFlags::IN };
    epoll::add(set, what, epoll::EventData::new_u64(data), flags).map_err(PagesError::system("watch a descriptor"))
}

fn epoll_set() -> Result<OwnedFd, PagesError> {
    epoll::create(epoll::CreateFlags::CLOEXEC).map_err(PagesError::system("make an epoll instance"))
}

fn serve(
    socket: &OwnedFd,
    common: &Arc<Common>,
    desk: &Desk,
    tag: u64,
    (layout, quota): (ChannelLayout, u32),
    (area, held): (&mut Option<AreaName>, &mut Held),
) -> Result<(), PagesError> {
    let Ok(memory) = Shared::new(layout.bytes() as usize, Hugepages::Never) else {
        refuse(socket, tag, RefusedFor::CHANNEL_MEMORY, layout.bytes());
        return Ok(());
    };
    let memory = Arc::new(memory);
    // The client gets the epoll instance, and not the eventfd that this thread writes to: see docs/pages.md.
    let (ours, theirs, theirs_heard, hears) = (bell()?, bell()?, epoll_set()?, epoll_set()?);
    watch(&theirs_heard, &theirs, RING, true)?;
    watch(&hears, &ours, RING, true)?;
    watch(&hears, socket, SOCKET, false)?;
    watch(&hears, &desk.bell, ORDER, true)?;
    let system = PagesError::system("answer a client");
    let (capacity, buffers) = (layout.capacity(), layout.buffers());
    let welcome = Message { tag, body: MessageBody::Welcome { capacity, extents: quota, buffers } };
    send(socket, &welcome, &[memory.file(), ours.as_fd(), theirs_heard.as_fd()]).map_err(&system)?;
    let Ok(Message { tag, body: MessageBody::Mapped }) = one(socket) else {
        refuse(socket, tag, RefusedFor::MALFORMED, 0);
        return Ok(());
    };
    if memory.freeze().is_err() {
        refuse(socket, tag, RefusedFor::CHANNEL_MEMORY, layout.bytes());
        return Ok(());
    }
    send(socket, &Message { tag, body: MessageBody::Open }, &[]).map_err(&system)?;
    let end = ServerEnd::new(Arc::clone(&memory), layout).map_err(|_| PagesError::Nonsense("a layout"))?;
    let state = ClientState { quota, ..ClientState::default() };
    let (recalled, bell) = (Vec::new(), theirs);
    let mut client = Attended { socket, common, memory, end, area, extents: held, recalled, bell, state };
    while !common.is_over() {
        client.expire()?;
        // An order that came before the end of a hold is obeyed before the requests that were held.
        client.obey(std::mem::take(&mut locked(&desk.orders)))?;
        let holds = common.holds.load(Ordering::Acquire);
        if !holds && (client.work()? || !client.end.sleep()?) {
            continue;
        }
        let mut events = Vec::with_capacity(4);
        let until = client.recalled.iter().map(|(at, _)| *at).min();
        let _ =
            epoll::wait(&hears, spare_capacity(&mut events), crate::socket::timespec(until.map(wait_until)).as_ref());
        if !holds {
            client.end.wake()?;
        }
        for event in &events {
            if event.data.u64() == SOCKET && !client.listen()? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Epoll counts milliseconds: one more, so that the time has come.
fn wait_until(at: Instant) -> Duration {
    at.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
}

/// A client with its channel.
struct Attended<'a> {
    socket: &'a OwnedFd,
    common: &'a Common,
    memory: Arc<Shared>,
    end: ServerEnd<Arc<Shared>>,
    area: &'a mut Option<AreaName>,
    extents: &'a mut Held,
    recalled: Vec<(Instant, u64)>,
    bell: OwnedFd,
    state: ClientState,
}

impl Attended<'_> {
    fn say(&self, tag: u64, body: MessageBody) -> Result<(), PagesError> {
        send(self.socket, &Message { tag, body }, &[]).map_err(PagesError::system("answer a client"))
    }

    /// Does requests, and says whether there were some.
    fn work(&mut self) -> Result<bool, PagesError> {
        let mut burst = [ChannelRequest::NONE; MOST_AT_ONCE];
        let taken = self.end.take(&mut burst)?;
        if taken.ring {
            ring(&self.bell);
        }
        for request in &burst[..taken.count] {
            if !self.common.count() {
                return Ok(false);
            }
            let delay = self.common.delay.load(Ordering::Relaxed);
            if delay > 0 {
                std::thread::sleep(Duration::from_micros(delay));
            }
            let status = self.perform(request);
            let len = if status.is_done() { request.len } else { 0 };
            self.state.requests += 1;
            self.state.failures += u64::from(!status.is_done());
            match request.transfer {
                Transfer::Read => self.state.bytes_read += u64::from(len),
                Transfer::Write => self.state.bytes_written += u64::from(len),
            }
            if self.end.complete(&[ChannelCompletion { tag: request.tag, status, len }])? {
                ring(&self.bell);
            }
        }
        Ok(taken.count + taken.refused > 0)
    }

    fn perform(&mut self, request: &ChannelRequest) -> ChannelStatus {
        let failing = self.common.failing.load(Ordering::Relaxed);
        if failing != u32::MAX {
            return ChannelStatus::from_number(failing);
        }
        let content = match self.extents.get_mut(&request.extent) {
            None => return ChannelStatus::NO_SUCH_EXTENT,
            Some(Err(status)) => return *status,
            Some(Ok(content)) => content,
        };
        let (from, len) = (request.offset as usize / WORD, request.len as usize / WORD);
        let at = (self.end.layout().buffers_at() + request.buffer) as usize / WORD;
        // Untouched extents have no words yet: they are zero.
        if content.len() < WORDS {
            content.resize(WORDS, 0);
        }
        let Some(words) = content.get_mut(from..from + len) else { return ChannelStatus::OUT_OF_RANGE };
        let done = match request.transfer {
            Transfer::Write => self.memory.read(at, words),
            Transfer::Read if self.common.flips.load(Ordering::Relaxed) => {
                let wrong: Vec<u64> = words.iter().enumerate().map(|(at, word)| word ^ u64::from(at == 0)).collect();
                self.memory.write(at, &wrong)
            }
            Transfer::Read => self.memory.write(at, words),
        };
        if done.is_some() { ChannelStatus::DONE } else { ChannelStatus::BAD_BUFFER }
    }

    /// Answers what came over the socket; false if the client is gone.
    fn listen(&mut self) -> Result<bool, PagesError> {
        loop {
            let bytes = match receive(self.socket) {
                Ok(Came::Bytes(bytes, _)) => bytes,
                Ok(Came::Nothing) => return Ok(true),
                Ok(Came::End) | Err(_) => return Ok(false),
            };
            let Message { tag, body } = Message::parse(&bytes)?;
            let answer = match body {
                MessageBody::Allocate { count, .. } => self.allocate(count),
                MessageBody::Free(numbers) => {
                    numbers.iter().for_each(|number| drop(self.extents.remove(number)));
                    MessageBody::Freed
                }
                MessageBody::Stat => {
                    MessageBody::State(ClientState { extents: self.extents.len() as u32, ..self.state })
                }
                MessageBody::List { from } => {
                    let (notices, listed) = page(self.extents, from);
                    notices.into_iter().try_for_each(|notice| self.say(0, notice))?;
                    listed
                }
                MessageBody::Remove => match self.area.take() {
                    Some(name) => {
                        self.common.areas.remove(&name);
                        MessageBody::Removed
                    }
                    None => MessageBody::Refused { reason: RefusedFor::NO_SUCH_AREA, limit: 0 },
                },
                MessageBody::Areas { after } => self.common.areas.list(self.socket, &after),
                _ => MessageBody::Refused { reason: RefusedFor::MALFORMED, limit: 0 },
            };
            self.say(tag, answer)?;
        }
    }

    fn allocate(&mut self, count: u32) -> MessageBody {
        if count == 0 || count as usize > MOST_EXTENTS {
            return MessageBody::Refused { reason: RefusedFor::COUNT, limit: MOST_EXTENTS as u64 };
        }
        if self.extents.len() as u64 + u64::from(count) > self.state.quota.into() {
            return MessageBody::Refused { reason: RefusedFor::QUOTA, limit: self.state.quota.into() };
        }
        let first = self.common.next.fetch_add(count.into(), Ordering::Relaxed);
        let numbers: Vec<u64> = (first..first + u64::from(count)).collect();
        self.extents.extend(numbers.iter().map(|number| (*number, Ok(Vec::new()))));
        MessageBody::Allocated(numbers)
    }

    fn obey(&mut self, orders: Vec<Order>) -> Result<(), PagesError> {
        for order in orders {
            match order {
                Order::Lose(number, status) => self.lose(number, status)?,
                Order::Recall(number, within) if self.extents.contains_key(&number) => {
                    let within_ms = within.as_millis().try_into().unwrap_or(u32::MAX);
                    self.recalled.extend(Instant::now().checked_add(within).map(|at| (at, number)));
                    self.say(0, MessageBody::Recalled { within_ms, extents: vec![number] })?;
                }
                Order::Recall(..) => (),
            }
        }
        Ok(())
    }

    fn lose(&mut self, number: u64, status: ChannelStatus) -> Result<(), PagesError> {
        match self.extents.get_mut(&number) {
            Some(content) if content.is_ok() => *content = Err(status),
            _ => return Ok(()),
        }
        self.say(0, MessageBody::Lost { status: status.number(), extents: vec![number] })
    }

    /// Loses recalled extents whose time has come.
    fn expire(&mut self) -> Result<(), PagesError> {
        let now = Instant::now();
        while let Some(place) = self.recalled.iter().position(|(at, _)| *at <= now) {
            let (_, number) = self.recalled.swap_remove(place);
            self.lose(number, ChannelStatus::RECALLED)?;
        }
        Ok(())
    }
}
