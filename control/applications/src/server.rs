//! The thread that serves the socket.

use crate::connection::{Connection, Room, Step};
use crate::limits::ApplicationLimits;
use crate::register::Register;
use crate::socket::ApplicationSocket;
use crate::transfer::{self, Incoming};
use channel::ChannelStatus;
use channel::message::{Message, RefusedFor};
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use lcore::Clock;
use lcore::bells::Bells;
use lcore::mailbox::Sender;
use master::{AllocationRefusal, ClientId, MasterEvent, PageStatus, ServingCommand, ServingEvent, channel_status};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Messages of one application that are read before the others have their turn.
const AT_ONCE: usize = 32;

/// Connections beyond the applications that are served: those that are only told why not.
const SPARE: usize = 16;

/// How soon commands that found no room are tried again.
const RETRY: Time = MILLISECOND;

/// What an lcore tells.
enum Told {
    Serving(ServingEvent),
    Master(MasterEvent),
}

/// Ends the thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Orders>);

#[derive(Debug)]
struct Orders {
    stop: AtomicBool,
    leaving: AtomicBool,
    wake: OwnedFd,
}

impl Orders {
    fn wake(&self) {
        // Full means that it was rung: the thread wakes.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Stopper {
    /// From now on no application gets a channel or an extent: the master is about to stop.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Release);
        self.0.wake();
    }

    /// Ends the thread, and with it all connections.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.wake();
    }
}

/// Where a master's lcore leaves its events. None of it blocks the lcore.
pub struct MasterHandle {
    lcore: usize,
    orders: Arc<Orders>,
    told: mpsc::Sender<(usize, Told)>,
}

/// The server's ends of one lcore: it has a master of its own.
#[derive(Clone)]
pub struct LcoreEnds {
    /// What the lcore sleeps on.
    pub bells: Bells,
    /// Its mailbox.
    pub commands: Sender<ServingCommand>,
}

impl MasterHandle {
    /// For [`Master::new`](master::Master::new).
    pub fn master_events(&self) -> impl FnMut(MasterEvent) + Send + 'static {
        let (told, orders, lcore) = (self.told.clone(), Arc::clone(&self.orders), self.lcore);
        move |event| tell(&told, &orders, (lcore, Told::Master(event)))
    }

    /// For [`MasterServer::new`](master::MasterServer::new).
    pub fn serving_events(&self) -> impl FnMut(ServingEvent) + Send + 'static {
        let (told, orders, lcore) = (self.told.clone(), Arc::clone(&self.orders), self.lcore);
        move |event| tell(&told, &orders, (lcore, Told::Serving(event)))
    }
}

fn tell(told: &mpsc::Sender<(usize, Told)>, orders: &Orders, event: (usize, Told)) {
    // Nobody listens only when the process is ending.
    if told.send(event).is_ok() {
        orders.wake();
    }
}

/// The server, before it runs.
pub struct ApplicationServer {
    listener: OwnedFd,
    limits: ApplicationLimits,
    clock: Clock,
    orders: Arc<Orders>,
    told: mpsc::Receiver<(usize, Told)>,
    register: Register,
}

impl ApplicationServer {
    /// A server on this socket, and where each of the lcores, at least one, leaves the events of its master.
    ///
    /// # Errors
    /// The kernel has no descriptor left. The error is the kernel's.
    pub fn new(
        socket: &ApplicationSocket,
        limits: ApplicationLimits,
        clock: Clock,
        lcores: usize,
    ) -> io::Result<(Self, Vec<MasterHandle>)> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let orders = Orders { stop: AtomicBool::new(false), leaving: AtomicBool::new(false), wake };
        let listener = socket.listener().try_clone_to_owned()?;
        let (tell, told) = mpsc::channel();
        let orders = Arc::new(orders);
        let handle = |lcore| MasterHandle { lcore, orders: Arc::clone(&orders), told: tell.clone() };
        let handles = (0..lcores).map(handle).collect();
        Ok((Self { listener, limits, clock, orders, told, register: Register::default() }, handles))
    }

    /// Which applications there are.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Ends it later.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.orders))
    }

    /// Serves until it is stopped. `lcores` are as many as the server was made for. An application belongs to one of
    /// them, the one that had the fewest applications when it came.
    pub fn run(self, lcores: &[LcoreEnds]) {
        let mut running = Running {
            limits: self.limits,
            clock: self.clock,
            lcores,
            register: self.register,
            connections: BTreeMap::new(),
            clients: BTreeMap::new(),
            waiting: lcores.iter().map(|_| VecDeque::new()).collect(),
            next: 0,
            leaving: false,
        };
        while !self.orders.stop.load(Ordering::Acquire) {
            running.leaving = self.orders.leaving.load(Ordering::Acquire);
            while let Ok((lcore, event)) = self.told.try_recv() {
                running.event(lcore, event);
            }
            running.send_away_the_slow();
            running.flush();
            running.wait(self.listener.as_fd(), &self.orders);
        }
    }
}

/// The server while it runs.
struct Running<'a> {
    limits: ApplicationLimits,
    clock: Clock,
    lcores: &'a [LcoreEnds],
    register: Register,
    connections: BTreeMap<u64, Connection>,
    /// The connection of each client of the master of each lcore.
    clients: BTreeMap<(usize, ClientId), u64>,
    /// For each lcore, commands that found no room in its mailbox.
    waiting: Vec<VecDeque<ServingCommand>>,
    next: u64,
    leaving: bool,
}

impl Running<'_> {
    fn command(&mut self, lcore: usize, command: ServingCommand) {
        if let Some(waiting) = self.waiting.get_mut(lcore) {
            waiting.push_back(command);
        }
        self.flush();
    }

    fn flush(&mut self) {
        for (LcoreEnds { commands, .. }, waiting) in self.lcores.iter().zip(&mut self.waiting) {
            while let Some(command) = waiting.pop_front() {
                if let Err(command) = commands.try_send(command) {
                    // A closed mailbox is an lcore that has ended: the process ends, too.
                    if !commands.is_closed() {
                        waiting.push_front(command);
                    }
                    break;
                }
            }
        }
    }

    /// How many applications an lcore has.
    fn places(&self, lcore: usize) -> usize {
        let is_there = |connection: &&Connection| connection.has_place() && connection.lcore == lcore;
        self.connections.values().filter(is_there).count()
    }

    /// The lcore with the fewest applications.
    fn least(&self) -> usize {
        (0..self.lcores.len()).min_by_key(|lcore| self.places(*lcore)).unwrap_or(0)
    }

    /// Sleeps until there is something to do, and does what sockets have.
    fn wait(&mut self, listener: BorrowedFd<'_>, orders: &Orders) {
        let now = self.clock.now();
        let deadline = self.connections.values().filter_map(Connection::deadline).min();
        let is_waiting = self.waiting.iter().any(|waiting| !waiting.is_empty());
        let retry = is_waiting.then_some(now + RETRY);
        let until = deadline.into_iter().chain(retry).min();
        let timeout = until.map(|until| {
            let left = until.saturating_sub(now);
            Timespec { tv_sec: (left / SECOND) as i64, tv_nsec: (left % SECOND) as i64 }
        });
        let may_accept = self.connections.len() < usize::from(self.limits.clients) + SPARE;
        let mut numbers = Vec::with_capacity(self.connections.len());
        let mut ready = {
            let accepts = if may_accept { PollFlags::IN } else { PollFlags::empty() };
            let mut fds = vec![
                PollFd::from_borrowed_fd(orders.wake.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(listener, accepts),
            ];
            for (number, connection) in &self.connections {
                numbers.push(*number);
                fds.push(PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::IN));
            }
            // Interrupted, or out of kernel memory: nothing is ready, and the loop comes again.
            let _ = poll(&mut fds, timeout.as_ref());
            fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<bool>>().into_iter()
        };
        if ready.next() == Some(true) {
            let _ = rustix::io::read(&orders.wake, &mut [0u8; 8]);
        }
        if ready.next() == Some(true) {
            self.accept(listener);
        }
        for number in numbers.into_iter().zip(ready).filter_map(|(number, ready)| ready.then_some(number)) {
            self.read(number);
        }
    }

    fn accept(&mut self, listener: BorrowedFd<'_>) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = match accept_with(listener, flags) {
            Ok(accepted) => accepted,
            // Somebody came and went, or no descriptor is left: the next one is told.
            Err(error) => return tracing::debug!("no application was accepted: {error}"),
        };
        let who = socket_peercred(&accepted).map_or((0, u32::MAX), |who| (pid(&who), who.uid.as_raw()));
        self.next += 1;
        let connection = Connection::new(accepted, self.next, who, self.clock.now());
        self.connections.insert(self.next, connection);
    }

    fn read(&mut self, number: u64) {
        for _ in 0..AT_ONCE {
            let served = self.connections.values().filter(|connection| connection.has_place()).count();
            let room = Room { is_full: served >= usize::from(self.limits.clients), leaving: self.leaving };
            let least = self.least();
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let lcore = if connection.has_place() { connection.lcore } else { least };
            let Some(LcoreEnds { bells, .. }) = self.lcores.get(lcore) else { return };
            let step = match transfer::receive(&connection.socket) {
                Incoming::Message(message) => connection.take(message, &self.limits, (lcore, bells), room),
                Incoming::Nothing => return,
                Incoming::Closed => Step::Close(None, "it has closed its socket".to_owned()),
            };
            self.step(number, step);
        }
    }

    fn step(&mut self, number: u64, step: Step) {
        match step {
            Step::Answer(message) => self.answer(number, &message),
            Step::Command(command, answer) => {
                let lcore = self.connections.get(&number).map_or(0, |connection| connection.lcore);
                self.command(lcore, command);
                if let Some(message) = answer {
                    self.answer(number, &message);
                }
            }
            Step::Close(message, why) => {
                if let Some(message) = message {
                    self.answer(number, &message);
                }
                self.close(number, &why);
            }
        }
    }

    fn answer(&mut self, number: u64, message: &Message) {
        let Some(connection) = self.connections.get(&number) else { return };
        let offer =
            connection.offer().filter(|_| matches!(message.body, channel::message::MessageBody::Welcome { .. }));
        let sent = match offer {
            Some(offer) => transfer::send(&connection.socket, message, &offer.descriptors()),
            None => transfer::send(&connection.socket, message, &[]),
        };
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.close(number, "it does not read its messages");
            }
            Err(error) => self.close(number, &error.to_string()),
        }
    }

    fn close(&mut self, number: u64, why: &str) {
        let Some(connection) = self.connections.remove(&number) else { return };
        self.register.remove(number);
        if let Some(client) = connection.client() {
            self.clients.remove(&(connection.lcore, client));
            self.command(connection.lcore, ServingCommand::Detach(client));
            tracing::info!("{} is gone: {why}", connection.describe());
        } else {
            tracing::warn!("{} got no channel: {why}", connection.describe());
        }
    }

    /// Connections that never ask for a channel must not take the places of others.
    fn send_away_the_slow(&mut self) {
        let now = self.clock.now();
        let is_late = |connection: &Connection| connection.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> =
            self.connections.iter().filter(|(_, connection)| is_late(connection)).map(|(number, _)| *number).collect();
        for number in late {
            self.close(number, "it did not take its channel in time");
        }
    }

    fn event(&mut self, lcore: usize, event: Told) {
        match event {
            Told::Serving(ServingEvent::Attached(number, client)) => self.attached(lcore, number, client),
            Told::Serving(ServingEvent::Broken(client, why)) => {
                if let Some(number) = self.clients.get(&(lcore, client)).copied() {
                    self.close(number, &why.to_string());
                }
            }
            Told::Master(event) => self.master_event(lcore, event),
        }
    }

    fn attached(&mut self, lcore: usize, number: u64, client: Option<ClientId>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            // It went meanwhile.
            if let Some(client) = client {
                self.command(lcore, ServingCommand::Detach(client));
            }
            return;
        };
        let step = connection.attached(client, &self.limits);
        if let Some(client) = client {
            if let Some(entry) = &connection.entry {
                self.register.add(number, Arc::clone(entry));
                let (quota, shared) = (u64::from(entry.quota) * 2, entry.shared >> 20);
                tracing::info!(
                    "{} has a channel: {shared} MiB shared, at most {quota} MiB of slaves",
                    connection.describe()
                );
            }
            self.clients.insert((lcore, client), number);
        }
        self.step(number, step);
    }

    /// The connection of a client of an lcore.
    fn of(&mut self, lcore: usize, client: ClientId) -> Option<(u64, &mut Connection)> {
        let number = *self.clients.get(&(lcore, client))?;
        Some((number, self.connections.get_mut(&number)?))
    }

    fn master_event(&mut self, lcore: usize, event: MasterEvent) {
        // Masters of several lcores tell the same of a gateway: each says which one it is.
        let who = if self.lcores.len() > 1 { format!("lcore {lcore}: ") } else { String::new() };
        match event {
            MasterEvent::Allocated { client, tag, extents } => {
                if let Some((number, connection)) = self.of(lcore, client)
                    && let Some(step) = connection.allocated(tag, Ok(extents))
                {
                    self.step(number, step);
                }
            }
            MasterEvent::NotAllocated { client, tag, why } => {
                if let Some((number, connection)) = self.of(lcore, client)
                    && let Some(step) = connection.allocated(tag, Err(refusal(why)))
                {
                    self.step(number, step);
                }
            }
            MasterEvent::ExtentLost { client, extent, loss } => {
                let status: ChannelStatus = channel_status(PageStatus::from(loss));
                if let Some((number, _)) = self.of(lcore, client) {
                    self.answer(number, &Connection::lost(extent, status));
                }
            }
            MasterEvent::ExtentRecalled { client, extent, until } => {
                let within = until.saturating_sub(self.clock.now());
                if let Some((number, _)) = self.of(lcore, client) {
                    self.answer(number, &Connection::recalled(extent, within));
                }
            }
            MasterEvent::ClientAdded(..) | MasterEvent::BufferAdded(..) | MasterEvent::ClientRemoved(_) => {}
            MasterEvent::SlaveConnected { .. } => tracing::info!("{who}{event}"),
            MasterEvent::Gateway(_, ref of_gateway) if is_good(of_gateway) => tracing::info!("{who}{event}"),
            MasterEvent::Gateway(..) | MasterEvent::SlaveRefused { .. } | MasterEvent::SlaveLost { .. } => {
                tracing::warn!("{who}{event}");
            }
        }
    }
}

/// The process id in a socket's credentials.
fn pid(who: &rustix::net::UCred) -> u32 {
    u32::try_from(who.pid.as_raw_pid()).unwrap_or(0)
}

/// Whether an event of a gateway is what an operator wants to see.
fn is_good(event: &link::NodeEvent) -> bool {
    use link::NodeEvent::{Draining, MtuProven, Registered};
    matches!(event, Registered { .. } | MtuProven { .. } | Draining)
}

/// Why an allocation failed, as applications are told.
fn refusal(why: AllocationRefusal) -> (RefusedFor, u64) {
    let reason = match why {
        AllocationRefusal::NoSuchClient => RefusedFor::NO_SUCH_CLIENT,
        AllocationRefusal::Quota => RefusedFor::QUOTA,
        AllocationRefusal::Count => RefusedFor::COUNT,
        AllocationRefusal::Extents => RefusedFor::EXTENTS,
        AllocationRefusal::NoMemory => RefusedFor::NO_MEMORY,
    };
    (reason, 0)
}
