//! The registrar's desk of a gateway, as control has it: link control comes in from all lcores, route changes and answers
//! go out to them. A route change is said once and must reach every lcore, so whatever finds a mailbox full waits here,
//! in order, and while something waits no further mail is read.

use frame::time::MILLISECOND;
use frame::{Peer, Time};
use gateway::Command;
use lcore::ControlMail;
use lcore::mailbox::{Receiver, Sender};
use link::registrar::Health;
use link::{Registrar, RouteChange, Sink};
use std::collections::VecDeque;

/// Datagrams that are read before other duties.
const MAILS_PER_TURN: usize = 256;

/// How soon a full mailbox is tried again.
const RETRY: u64 = MILLISECOND;

struct Line {
    commands: Sender<Command>,
    waiting: VecDeque<Command>,
}

impl Line {
    fn put(&mut self, command: Command) {
        let refused = if self.waiting.is_empty() { self.commands.try_send(command) } else { Err(command) };
        self.waiting.extend(refused.err());
    }

    fn flush(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(command) = self.commands.try_send(command) {
                self.waiting.push_front(command);
                break;
            }
        }
    }
}

/// See the module's documentation.
pub struct Desk {
    registrar: Registrar,
    mails: Receiver<ControlMail>,
    lines: Vec<Line>,
}

struct Out<'a> {
    lines: &'a mut [Line],
    lcore: usize,
}

impl Sink for Out<'_> {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _records: u16) {
        self.lines[self.lcore].put(Command::Reply { peer: *to, bytes: datagram.into() });
    }

    fn route(&mut self, change: RouteChange) {
        self.lines.iter_mut().for_each(|line| line.put(Command::Route(change)));
    }
}

impl Desk {
    /// A desk for the lcores behind `commands`, in the order of their indices.
    pub fn new(registrar: Registrar, mails: Receiver<ControlMail>, commands: Vec<Sender<Command>>) -> Self {
        let lines = commands.into_iter().map(|commands| Line { commands, waiting: VecDeque::new() }).collect();
        Self { registrar, mails, lines }
    }

    /// The registrar.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// Whether mail waits to be read.
    pub fn has_mail(&self) -> bool {
        !self.mails.is_empty()
    }

    /// Whether something waits for room in a mailbox.
    pub fn is_waiting(&self) -> bool {
        self.lines.iter().any(|line| !line.waiting.is_empty())
    }

    /// Works off what is due and what came in. Returns when to come again at the latest.
    pub fn work(&mut self, now: Time, health: Health) -> Time {
        self.lines.iter_mut().for_each(Line::flush);
        if !self.is_waiting() {
            self.registrar.advance(now, health, &mut Out { lines: &mut self.lines, lcore: 0 });
        }
        for _ in 0..MAILS_PER_TURN {
            if self.is_waiting() {
                return now + RETRY;
            }
            let Some(mail) = self.mails.try_recv() else {
                return self.registrar.deadline().unwrap_or(Time::MAX);
            };
            let mut out = Out { lines: &mut self.lines, lcore: usize::from(mail.lcore) };
            self.registrar.receive(now, &mail.peer, mail.bytes(), &mut out);
        }
        now
    }

    /// Tells every lcore something, after all that it was told before.
    pub fn tell(&mut self, command: impl Fn() -> Command) {
        self.lines.iter_mut().for_each(|line| line.put(command()));
    }

    /// Tells nodes that the gateway is about to leave, and every lcore to drain.
    pub fn drain(&mut self, now: Time) {
        self.registrar.leave(now);
        self.tell(|| Command::Drain);
    }
}
