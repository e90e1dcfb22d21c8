//! The server while it runs: connections, and what applications ask for.

use crate::areas::Areas;
use crate::connection::{Connection, Step, Wanted, full, refused, senseless};
use crate::holdings::Holdings;
use crate::lcores::LcoreEnds;
use crate::limits::ApplicationLimits;
use crate::register::Register;
use crate::transfer::{self, Incoming};
use channel::message::{MOST_AREAS, Message, MessageBody, MessageError, RefusedFor, VERSION};
use channel::{AreaName, AreaUse};
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use lcore::Clock;
use master::{ClientId, ServingCommand};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Messages of one application that are read before the others have their turn.
const AT_ONCE: usize = 32;

/// Connections beyond the applications that are served: those that are only told why not.
const SPARE: usize = 16;

/// How soon commands that found no room are tried again.
const RETRY: Time = MILLISECOND;

/// An area that an application gets, and the lcore that has it, if it is there already.
type Judged = (Option<AreaName>, Option<usize>);

/// A client of the master of an lcore.
pub(crate) type OwnerKey = (usize, ClientId);

/// What a client of a master has: a connection, an area, or both.
#[derive(Default)]
pub(crate) struct Owner {
    pub(crate) connection: Option<u64>,
    pub(crate) area: Option<AreaName>,
    pub(crate) holdings: Holdings,
}

/// The server while it runs.
pub(crate) struct Running<'a> {
    pub(crate) limits: ApplicationLimits,
    pub(crate) clock: Clock,
    pub(crate) lcores: &'a [LcoreEnds],
    pub(crate) register: Register,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) owners: BTreeMap<OwnerKey, Owner>,
    pub(crate) areas: Areas,
    /// For each lcore, commands that found no room in its mailbox.
    waiting: Vec<VecDeque<ServingCommand>>,
    next: u64,
    pub(crate) leaving: bool,
}

impl<'a> Running<'a> {
    pub(crate) fn new(limits: ApplicationLimits, clock: Clock, lcores: &'a [LcoreEnds], register: Register) -> Self {
        Self {
            limits,
            clock,
            lcores,
            register,
            connections: BTreeMap::new(),
            owners: BTreeMap::new(),
            areas: Areas::default(),
            waiting: lcores.iter().map(|_| VecDeque::new()).collect(),
            next: 0,
            leaving: false,
        }
    }

    pub(crate) fn command(&mut self, lcore: usize, command: ServingCommand) {
        if let Some(waiting) = self.waiting.get_mut(lcore) {
            waiting.push_back(command);
        }
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
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

    /// How many applications, and areas without one, an lcore has; without an lcore, all of them.
    fn places(&self, lcore: Option<usize>) -> usize {
        let is_of = |of: usize| lcore.is_none_or(|lcore| lcore == of);
        let is_there = |connection: &&Connection| connection.has_place() && is_of(connection.lcore);
        self.connections.values().filter(is_there).count() + self.areas.kept(lcore)
    }

    /// The lcore with the fewest of them.
    fn least(&self) -> usize {
        (0..self.lcores.len()).min_by_key(|lcore| self.places(Some(*lcore))).unwrap_or(0)
    }

    /// Sleeps until there is something to do, and does what sockets have.
    pub(crate) fn wait(&mut self, listener: BorrowedFd<'_>, orders: BorrowedFd<'_>) {
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
            let mut fds =
                vec![PollFd::from_borrowed_fd(orders, PollFlags::IN), PollFd::from_borrowed_fd(listener, accepts)];
            for (number, connection) in &self.connections {
                numbers.push(*number);
                fds.push(PollFd::from_borrowed_fd(connection.socket.as_fd(), PollFlags::IN));
            }
            // Interrupted, or out of kernel memory: nothing is ready, and the loop comes again.
            let _ = poll(&mut fds, timeout.as_ref());
            fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<bool>>().into_iter()
        };
        if ready.next() == Some(true) {
            let _ = rustix::io::read(orders, &mut [0u8; 8]);
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
            let Some(connection) = self.connections.get(&number) else { return };
            let step = match transfer::receive(&connection.socket) {
                Incoming::Message(Ok(message)) => self.take(number, message),
                Incoming::Message(Err(error)) => {
                    let (reason, limit) = match error {
                        MessageError::Version(_) => (RefusedFor::VERSION, VERSION.into()),
                        MessageError::NoMessage | MessageError::Malformed(_) => (RefusedFor::MALFORMED, 0),
                    };
                    Step::Close(Some(refused(0, reason, limit)), error.to_string())
                }
                Incoming::Nothing => return,
                Incoming::Closed => Step::Close(None, "it has closed its socket".to_owned()),
            };
            self.step(number, step);
        }
    }

    /// Takes a message of an application.
    fn take(&mut self, number: u64, message: Message) -> Step {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(&number) else { return senseless(0) };
        let tag = message.tag;
        let key = connection.client().map(|client| (connection.lcore, client));
        match (key, message.body) {
            (None, MessageBody::Hello { capacity, extents, buffers, name, area }) if !connection.has_place() => {
                connection.name = name;
                self.hello(number, tag, (capacity, extents, buffers), area)
            }
            (_, MessageBody::Areas { after }) => self.list_areas(number, tag, &after),
            (Some(_), MessageBody::Allocate { .. }) if self.leaving => leaving(tag),
            (Some(key), MessageBody::Remove) => self.remove_area(number, tag, key),
            (Some(key), body) => {
                let Some(owner) = self.owners.get_mut(&key) else { return senseless(tag) };
                let is_free = matches!(body, MessageBody::Free(_));
                let step = connection.take(Message { tag, body }, &mut owner.holdings, now);
                if is_free {
                    self.note(key);
                }
                step
            }
            (None, body) => connection.take(Message { tag, body }, &mut Holdings::default(), now),
        }
    }

    /// An application wants a channel, and maybe an area.
    fn hello(&mut self, number: u64, tag: u64, wanted: Wanted, area: Option<(String, AreaUse)>) -> Step {
        let Some(connection) = self.connections.get(&number) else { return senseless(tag) };
        let user = connection.who.1;
        if self.leaving {
            return leaving(tag);
        }
        let (area, known) = match area {
            None => (None, None),
            Some((name, how)) => {
                let mut judged = self.judge(&name, how, user);
                if matches!(judged, Err(RefusedFor::AREA_IN_USE)) {
                    // Its connection may have ended, and nobody has looked yet.
                    self.read_holder(&name);
                    judged = self.judge(&name, how, user);
                }
                match judged {
                    Ok(area) => area,
                    Err(reason) => {
                        let why = format!("area \"{}\": {reason}", common::plain::line(&name));
                        return Step::Close(Some(refused(tag, reason, 0)), why);
                    }
                }
            }
        };
        // An area that is there has its place.
        if known.is_none() && self.is_full() {
            return full(tag, &self.limits);
        }
        let lcore = known.unwrap_or_else(|| self.least());
        let Some(LcoreEnds { bells, .. }) = self.lcores.get(lcore) else { return senseless(tag) };
        let Some(connection) = self.connections.get_mut(&number) else { return senseless(tag) };
        let step = connection.offer_channel(tag, wanted, &self.limits, (lcore, bells));
        if let (Step::Answer(_), Some(name)) = (&step, area) {
            self.areas.claim(&name, (connection.who.1, lcore), number);
            connection.area = Some(name);
        }
        step
    }

    /// Whether there are as many applications and areas as may be. Those that have ended, and of which nobody knows
    /// yet, do not count.
    fn is_full(&mut self) -> bool {
        let most = usize::from(self.limits.clients);
        if self.places(None) >= most {
            let with_place = self.connections.iter().filter(|(_, connection)| connection.has_place());
            let numbers: Vec<u64> = with_place.map(|(number, _)| *number).collect();
            numbers.into_iter().for_each(|number| self.read(number));
        }
        self.places(None) >= most
    }

    /// Whether a user gets the area with this name; and the lcore that has it, if it is there.
    fn judge(&self, name: &str, how: AreaUse, user: u32) -> Result<Judged, RefusedFor> {
        let name = AreaName::new(name)?;
        let known = self.areas.judge(&name, how, user)?;
        Ok((Some(name), known))
    }

    /// Reads what the connection that has an area has sent: maybe its end.
    fn read_holder(&mut self, name: &str) {
        let area = AreaName::new(name).ok().and_then(|name| self.areas.get(&name)?.connection);
        if let Some(number) = area {
            self.read(number);
        }
    }

    /// Which areas there are, for the user of this application.
    fn list_areas(&mut self, number: u64, tag: u64, after: &str) -> Step {
        let Some(connection) = self.connections.get_mut(&number) else { return senseless(tag) };
        connection.has_asked = true;
        let user = connection.who.1;
        let mut areas = self.register.areas_after(after, MOST_AREAS + 1, |area| user == 0 || area.user == user);
        let more = areas.len() > MOST_AREAS;
        areas.truncate(MOST_AREAS);
        Step::Answer(Message { tag, body: MessageBody::AreaList { more, areas } })
    }

    pub(crate) fn step(&mut self, number: u64, step: Step) {
        match step {
            Step::Answer(message) => self.answer(number, &message),
            Step::Answers(messages) => messages.iter().for_each(|message| self.answer(number, message)),
            Step::Command(command, answer) => {
                let lcore = self.connections.get(&number).map_or(0, |connection| connection.lcore);
                self.command(lcore, command);
                if let Some(message) = answer {
                    self.answer(number, &message);
                }
            }
            Step::Attach(attachment) => self.attach(number, attachment),
            Step::Close(message, why) => {
                if let Some(message) = message {
                    self.answer(number, &message);
                }
                self.close(number, &why);
            }
        }
    }

    pub(crate) fn answer(&mut self, number: u64, message: &Message) {
        let Some(connection) = self.connections.get(&number) else { return };
        let offer = connection.offer().filter(|_| matches!(message.body, MessageBody::Welcome { .. }));
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

    /// A connection has ended, or is ended.
    pub(crate) fn close(&mut self, number: u64, why: &str) {
        let Some(connection) = self.connections.remove(&number) else { return };
        self.register.remove(number);
        let (lcore, client) = (connection.lcore, connection.client());
        match (&connection.area, client) {
            (Some(name), _) => self.leave_area(name, client),
            (None, Some(client)) => {
                self.owners.remove(&(lcore, client));
                self.command(lcore, ServingCommand::Detach(client));
            }
            (None, None) => {}
        }
        if client.is_some() {
            tracing::info!("{} is gone: {why}", connection.describe());
        } else if connection.has_asked {
            tracing::debug!("{} asked for areas, and is gone: {why}", connection.describe());
        } else {
            tracing::warn!("{} got no channel: {why}", connection.describe());
        }
    }

    /// Connections that never ask for a channel must not take the places of others.
    pub(crate) fn send_away_the_slow(&mut self) {
        let now = self.clock.now();
        let is_late = |connection: &Connection| connection.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> =
            self.connections.iter().filter(|(_, connection)| is_late(connection)).map(|(number, _)| *number).collect();
        for number in late {
            match self.waits_for_area(number) {
                Some(tag) => {
                    self.answer(number, &refused(tag, RefusedFor::AREA_IN_USE, 0));
                    self.close(number, "requests of the connection that had its area before have not ended");
                }
                None => self.close(number, "it did not take its channel in time"),
            }
        }
    }
}

/// The process id in a socket's credentials.
fn pid(who: &rustix::net::UCred) -> u32 {
    u32::try_from(who.pid.as_raw_pid()).unwrap_or(0)
}

/// The end of a connection that asks a master that is about to stop.
fn leaving(tag: u64) -> Step {
    Step::Close(Some(refused(tag, RefusedFor::LEAVING, 0)), "the master is about to stop".to_owned())
}
