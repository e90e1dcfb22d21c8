//! All connections of a disk, and its event loop: one turn at a time.

use crate::area::{DiskChannels, KeptDisk};
use crate::connection::{Connection, Ends, Pause};
use crate::engine::{Delivery, Engine};
use crate::master::MasterLink;
use crate::output::Part;
use crate::slab::Slab;
use crate::socket::DiskSocket;
use crate::store::MapStore;
use blockmap::{BlockMap, DiskStats};
use common::exit::Failure;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use lcore::mailbox::Receiver;
use nbd::Export;
use pages::{Client, Extent, ExtentNotice};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The data of events that are no connection's: those are larger.
const LISTENER: u64 = 0;
const MAILBOX: u64 = 1;
const MASTER: u64 = 2;

/// Events of one turn.
const EVENTS: usize = 64;

/// How long a client may take to negotiate, and to read a reply while others wait for buffers, in nanoseconds.
const PATIENCE: Time = 30 * SECOND;

/// How long a client may take to read its last replies while the disk drains, in nanoseconds.
const DRAIN_PATIENCE: Time = 3 * SECOND;

/// How often slow clients are looked for, in nanoseconds.
const LOOK: Time = SECOND;

/// After a failure to accept: what is lacking may be there again, in nanoseconds.
const REST: Time = 100 * MILLISECOND;

/// What the process tells a disk.
#[derive(Debug)]
pub enum DiskCommand {
    /// Connections to a master.
    Connected(Box<DiskChannels>),
    /// Take nothing more, end what is under way, close.
    Drain,
}

/// What a disk is.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The disk that clients see.
    pub export: Export,
    /// The most connections at once.
    pub connections: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct DiskServer {
    epoll: std::os::fd::OwnedFd,
    socket: Option<DiskSocket>,
    mailbox: Mailbox,
    export: Arc<Export>,
    most: usize,
    engine: Engine,
    connections: Slab<Connection>,
    /// Connections that are to be served in this turn.
    run: Vec<u64>,
    /// Connections that wait for buffers, in their order.
    waiting: VecDeque<u64>,
    /// Connections with something to send.
    full: Vec<u64>,
    /// Somebody must connect to a master.
    wants_master: Arc<AtomicBool>,
    is_draining: bool,
    look_at: Time,
    accept_at: Option<Time>,
    ended: Vec<pages::Ended>,
    /// Extents that were lost since the log said so, and why.
    losses: (usize, &'static str),
}

/// The mailbox, which shows nothing.
struct Mailbox(Receiver<DiskCommand>);

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

fn numbered(extents: Vec<u64>) -> Vec<Extent> {
    extents.into_iter().map(Extent::from_number).collect()
}

fn failed(error: rustix::io::Errno) -> Failure {
    Failure::Machine(format!("cannot watch the sockets of a disk: {error}"))
}

impl DiskServer {
    /// A disk that listens at a socket, and has its extents from a master; with what its area says about it, if it has
    /// one. `wants_master` becomes true when the master is gone; then send [`DiskCommand::Connected`].
    ///
    /// # Errors
    /// [`Failure::Machine`]: the kernel has no descriptors left.
    pub fn new(
        options: DiskOptions,
        socket: DiskSocket,
        (channels, kept): (DiskChannels, Option<KeptDisk>),
        mailbox: Receiver<DiskCommand>,
        wants_master: Arc<AtomicBool>,
        stats: DiskStats,
    ) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let data = epoll::EventData::new_u64;
        epoll::add(&epoll, socket.listener(), data(LISTENER), epoll::EventFlags::IN).map_err(failed)?;
        if let Some(bell) = mailbox.doorbell() {
            epoll::add(&epoll, bell, data(MAILBOX), epoll::EventFlags::IN).map_err(failed)?;
        }
        let export = Arc::new(options.export);
        let DiskChannels { mut data, map: map_client } = channels;
        let mut map = BlockMap::new(export.size, Arc::clone(&stats.counters));
        let store = kept.zip(map_client).map(|(kept, mut client)| {
            let extents: Vec<u64> = data.extents().iter().map(|extent| extent.number()).collect();
            // Servers that are gone have freed them.
            let _ = data.ask_free(&numbered(kept.map.fill(&mut map, &extents)));
            let _ = client.ask_free(&numbered(kept.map.unused));
            MapStore::new(kept.map.keeper, client)
        });
        let engine = Engine::new(map, MasterLink::new(Arc::clone(&stats.counters)), store, stats);
        let mut this = Self {
            epoll,
            socket: Some(socket),
            mailbox: Mailbox(mailbox),
            export,
            most: options.connections,
            engine,
            connections: Slab::default(),
            run: Vec::new(),
            waiting: VecDeque::new(),
            full: Vec::new(),
            wants_master,
            is_draining: false,
            look_at: 0,
            accept_at: None,
            ended: Vec::new(),
            losses: (0, ""),
        };
        this.connected(data);
        Ok(this)
    }

    /// Other connections to a master are there. What its area has is older than what this process knows.
    fn connected_again(&mut self, channels: DiskChannels) {
        let DiskChannels { mut data, map } = channels;
        if let Some((store, client)) = self.engine.store.as_mut().zip(map) {
            let old = data.extents().to_vec();
            if !old.is_empty() {
                let _ = data.ask_free(&old);
            }
            store.connected(client, &self.engine.map);
        }
        self.connected(data);
    }

    fn connected(&mut self, client: Client) {
        let flags = epoll::EventFlags::IN;
        let data = epoll::EventData::new_u64(MASTER);
        let map = self.engine.store.as_mut().and_then(MapStore::client_mut);
        let heard = map.map_or(Ok(()), |map| epoll::add(&self.epoll, map.as_fd(), data, flags));
        if let Err(error) = heard.and_then(|()| epoll::add(&self.epoll, client.as_fd(), data, flags)) {
            tracing::error!("cannot hear the master: {error}");
            self.wants_master.store(true, Ordering::Release);
            return;
        }
        let (extents, size) = (u64::from(client.quota()), self.export.size);
        self.engine.stats.counters.extents_allowed.set(extents);
        if extents * u64::from(blockmap::EXTENT) < size {
            tracing::warn!(
                "the master lets this disk have {extents} extents of 2 MiB, and all of its {} MiB need {}: writes fail \
                 with ENOSPC when they are used up. Raise --quota of the master, or take a smaller --size",
                size >> 20,
                size.div_ceil(blockmap::EXTENT.into())
            );
        }
        self.engine.master.set(client);
        self.engine.connected();
    }

    pub(crate) fn mailbox(&mut self) -> &mut Receiver<DiskCommand> {
        &mut self.mailbox.0
    }

    pub(crate) fn mailbox_waker(&self) -> lcore::mailbox::Waker {
        self.mailbox.0.waker()
    }

    /// Whether all that was under way has ended after [`DiskCommand::Drain`].
    pub(crate) fn is_drained(&self) -> bool {
        self.is_draining && self.connections.len() == 0 && self.engine.pending() == 0
    }

    /// Whether requests to extents are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.engine.is_busy()
    }

    /// Takes nothing more; what is under way ends.
    pub(crate) fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        // A socket that is closed is not watched any more.
        self.socket = None;
        for number in self.connections.numbers() {
            if let Some(connection) = self.connections.get_mut(number) {
                connection.leave(&mut self.engine);
                self.full.push(number);
            }
        }
    }

    /// Prepares to sleep. False if something came already.
    pub(crate) fn arm(&mut self) -> bool {
        let is_quiet = self.run.is_empty() && self.full.is_empty();
        let may = is_quiet && self.mailbox.0.arm();
        let map = self.engine.store.as_mut().and_then(MapStore::client_mut);
        let mut clients = map.into_iter().chain(self.engine.master.client_mut());
        let may = may && clients.all(|client| client.arm().unwrap_or(false));
        if !may {
            self.mailbox.0.disarm();
        }
        may
    }

    /// When there is something to do at the latest.
    pub(crate) fn deadline(&self) -> Time {
        let engine = self.engine.deadline().unwrap_or(Time::MAX);
        let looks = self.connections.len() > 0 || self.losses.0 > 0;
        let look = if looks { self.look_at } else { Time::MAX };
        engine.min(look).min(self.accept_at.unwrap_or(Time::MAX))
    }

    /// Does all that there is to do, and waits at most this long for the first event. Returns whether something was
    /// done. `now` is asked after the wait.
    pub(crate) fn turn(&mut self, wait: Timespec, now: impl Fn() -> Time) -> bool {
        let mut events = Vec::with_capacity(EVENTS);
        // An interruption is as good as no event.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait));
        let now = now();
        self.engine.set_now(now);
        let mut worked = self.take_events(&events, now);
        worked |= self.hear_master();
        for number in std::mem::take(&mut self.run) {
            worked = true;
            self.serve(number, true);
        }
        worked |= self.engine.step();
        worked |= self.deliver();
        self.serve_waiting();
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.end_stalled(now);
            self.say_losses();
        }
        let (counters, pending) = (&self.engine.stats.counters, self.engine.pending());
        counters.requests_pending.set(pending as u64);
        counters.connections.set(self.connections.len() as u64);
        worked
    }

    fn take_events(&mut self, events: &[epoll::Event], now: Time) -> bool {
        if self.accept_at.is_some_and(|at| now >= at) {
            self.accept(now);
        }
        for event in events {
            let (number, flags) = (event.data.u64(), event.flags);
            match number {
                LISTENER => self.accept(now),
                MAILBOX => self.mailbox.0.disarm(),
                MASTER => (),
                _ => {
                    let Some(connection) = self.connections.get_mut(number) else { continue };
                    if flags.intersects(epoll::EventFlags::OUT) {
                        connection.is_full = false;
                        if !connection.output.is_empty() {
                            self.full.push(number);
                        }
                    }
                    let hangs = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                    connection.is_hung |= flags.intersects(hangs);
                    if flags.intersects(epoll::EventFlags::IN | hangs) {
                        connection.is_readable = true;
                        if matches!(connection.pause, Pause::Socket) {
                            self.run.push(number);
                        }
                    }
                }
            }
        }
        let mut worked = false;
        while let Some(command) = self.mailbox.0.try_recv() {
            worked = true;
            match command {
                DiskCommand::Drain => self.drain(),
                DiskCommand::Connected(client) => {
                    self.connected_again(*client);
                    tracing::info!("a master serves the disk again; what was lost is lost until it is written anew");
                }
            }
        }
        worked
    }

    fn accept(&mut self, now: Time) {
        self.accept_at = None;
        let counters = Arc::clone(&self.engine.stats.counters);
        while let Some(socket) = &self.socket {
            let (stream, peer) = match socket.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    self.accept_at = Some(now + REST);
                    return;
                }
            };
            if self.connections.len() >= self.most {
                counters.connections_refused.add(1);
                tracing::warn!("{peer} is refused: there are {} connections, raise --connections", self.most);
                continue;
            }
            let number = self.connections.insert(Connection::new(stream, peer, Arc::clone(&self.export), now));
            let Some(connection) = self.connections.get_mut(number) else { continue };
            connection.number = number;
            let flags =
                epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(number);
            if let Err(error) = epoll::add(&self.epoll, &connection.socket, data, flags) {
                tracing::warn!("cannot watch a connection: {error}");
                self.connections.remove(number);
                continue;
            }
            counters.connections_accepted.add(1);
            tracing::debug!("{}: connected", connection.peer);
            self.run.push(number);
            self.full.push(number);
        }
    }

    /// Takes what came from the master.
    fn hear_master(&mut self) -> bool {
        let Some(client) = self.engine.master.client_mut() else { return false };
        let mut ended = std::mem::take(&mut self.ended);
        let mut result = client.poll(&mut ended);
        if client.has_notices() {
            match client.notices() {
                Ok(notices) => notices.into_iter().for_each(|notice| self.notice(notice)),
                Err(error) => result = result.and(Err(error)),
            }
        }
        let mut worked = !ended.is_empty();
        for end in ended.drain(..) {
            self.engine.ended(end);
        }
        self.ended = ended;
        if let Some(store) = &mut self.engine.store {
            match store.hear() {
                Ok(heard) => worked |= heard,
                // Without its map the disk cannot go on in its area: what is under way ends, and all begins anew.
                Err(error) => {
                    tracing::error!("the connection for the map of the disk is gone: {error}");
                    if let Some(client) = self.engine.master.client_mut() {
                        client.give_up();
                    }
                    worked = true;
                }
            }
        }
        if let Err(error) = result {
            let extents = self.engine.master_gone();
            tracing::error!(
                "the master is gone ({error}): {extents} extents ({} MiB) of the disk are lost. READs of what was \
                 written fail with EIO until it is written again or trimmed",
                extents << 1
            );
            self.wants_master.store(true, Ordering::Release);
            return true;
        }
        worked
    }

    fn notice(&mut self, notice: ExtentNotice) {
        match notice {
            ExtentNotice::Lost { status, extents } => {
                let lost = extents.iter().filter(|extent| self.engine.map.lost(extent.number()).is_some()).count();
                if lost > 0 {
                    self.losses.0 += lost;
                    self.losses.1 = status.name();
                }
            }
            ExtentNotice::Recalled { within, extents } => {
                let ours = extents.iter().filter(|extent| self.engine.map.recalled(extent.number()).is_some()).count();
                if ours > 0 {
                    tracing::info!("{ours} extents of the disk are recalled, and move within {} s", within.as_secs());
                }
            }
        }
    }

    /// One line for all losses of a second: a slave has many extents.
    fn say_losses(&mut self) {
        let (lost, why) = std::mem::take(&mut self.losses);
        if lost > 0 {
            tracing::error!(
                "{lost} extents ({} MiB) of the disk are lost: {why}. READs of what was written there fail with EIO \
                 until it is written again or trimmed",
                lost << 1
            );
        }
    }

    /// Serves a connection. Who needs buffers waits behind those that wait already.
    fn serve(&mut self, number: u64, queues: bool) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        if connection.pause == Pause::Over {
            return;
        }
        if queues && !self.waiting.is_empty() && !connection.is_filling() {
            if !self.waiting.contains(&number) {
                self.waiting.push_back(number);
                connection.pause = Pause::Buffers;
            }
            return;
        }
        let result = connection.serve(&mut self.engine);
        let (pause, is_over) = (connection.pause, connection.is_over());
        if let Err(end) = result {
            return self.end_faulty(number, &end);
        }
        match pause {
            Pause::Turn => self.run.push(number),
            Pause::Buffers if queues => self.waiting.push_back(number),
            _ => (),
        }
        if is_over || !connection.output.is_empty() {
            self.full.push(number);
        }
    }

    fn serve_waiting(&mut self) {
        while let Some(number) = self.waiting.front().copied() {
            self.serve(number, false);
            let waits = self.connections.get_mut(number).is_some_and(|connection| connection.pause == Pause::Buffers);
            if waits {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Moves replies to their connections, and sends what the sockets take.
    fn deliver(&mut self) -> bool {
        while let Some(Delivery { connection: number, parts, is_last }) = self.engine.deliveries.pop_front() {
            match self.connections.get_mut(number) {
                Some(connection) => {
                    parts.into_iter().for_each(|part| connection.output.push(part));
                    connection.pending -= u32::from(is_last);
                    if self.full.last() != Some(&number) {
                        self.full.push(number);
                    }
                }
                None => {
                    for part in parts {
                        if let Part::Buffer(pooled, _) = part {
                            self.engine.pool.give(pooled);
                        }
                    }
                }
            }
        }
        let mut worked = false;
        let now_full = std::mem::take(&mut self.full);
        for number in now_full {
            let Some(connection) = self.connections.get_mut(number) else { continue };
            if !connection.output.is_empty() && !connection.is_full {
                match connection.output.flush(&connection.socket, &mut self.engine.pool) {
                    Ok((moved, full)) => {
                        worked |= moved;
                        connection.is_full = full;
                        if !connection.is_negotiating() {
                            match (full, moved) {
                                (false, _) | (_, true) => connection.stalls_since = None,
                                (true, false) => (),
                            }
                        }
                    }
                    Err(error) => {
                        self.end_faulty(number, &Ends::Io(error));
                        continue;
                    }
                }
            }
            if connection.is_over() {
                tracing::debug!("{}: ended", connection.peer);
                self.connections.remove(number);
            } else if connection.may_go_on() {
                connection.pause = Pause::Turn;
                self.run.push(number);
            }
        }
        worked
    }

    /// Ends a connection that cannot go on. What it began goes on without replies.
    fn end_faulty(&mut self, number: u64, end: &Ends) {
        let Some(mut connection) = self.connections.remove(number) else { return };
        connection.leave(&mut self.engine);
        match end {
            Ends::Fault(fault) => {
                self.engine.stats.counters.connections_faulty.add(1);
                // What was said before may help the client.
                let _ = connection.output.flush(&connection.socket, &mut self.engine.pool);
                tracing::warn!("{}: the connection is closed: {fault}", connection.peer);
            }
            Ends::Io(error) => tracing::debug!("{}: the connection broke: {error}", connection.peer),
        }
    }

    /// Ends connections that keep others waiting, and those that do not negotiate.
    fn end_stalled(&mut self, now: Time) {
        for number in self.connections.numbers() {
            let Some(connection) = self.connections.get_mut(number) else { continue };
            if connection.is_full && connection.stalls_since.is_none() {
                connection.stalls_since = Some(now);
            }
            let patience = if self.is_draining { DRAIN_PATIENCE } else { PATIENCE };
            let is_late = connection.stalls_since.is_some_and(|since| now >= since + patience);
            let is_negotiating = connection.is_negotiating();
            if !is_late || !(is_negotiating || !self.waiting.is_empty() || self.is_draining) {
                continue;
            }
            let what = if is_negotiating { "did not negotiate" } else { "read no reply, while others wait," };
            tracing::warn!("{}: the connection is closed: it {what} for {} s", connection.peer, patience / SECOND);
            self.engine.stats.counters.connections_stalled.add(1);
            if let Some(mut connection) = self.connections.remove(number) {
                connection.leave(&mut self.engine);
            }
        }
    }
}
