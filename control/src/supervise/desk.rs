//! The registrar's desk: link control comes in from all lcores, route changes and answers go out to them.
//!
//! A route change is said once by the registrar and must reach every lcore, so whatever finds a mailbox full waits
//! here, in order. While something waits no further mail is read: the lcores then keep link control in their own
//! bounded queues, and nodes try again. So what waits is bounded by the number of routes.

use frame::{Peer, Time};
use gateway::Command;
use lcore::ControlMail;
use lcore::mailbox::{Receiver, Sender, mailbox_with_call};
use link::registrar::Health;
use link::{Notice, Registrar, RouteChange, Sink};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Datagrams that are read before the desk looks at its other duties.
const MAILS_PER_TURN: usize = 256;

/// How soon the desk tries a full mailbox again, in nanoseconds.
const RETRY: u64 = frame::time::MILLISECOND;

/// Where lcores put link control, and what rings when they do.
pub struct Inbox {
    mails: Receiver<ControlMail>,
    bell: Arc<Notify>,
}

impl Inbox {
    /// An inbox with room for so many datagrams, and the way to put them in.
    pub fn new(capacity: usize) -> (Sender<ControlMail>, Self) {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let (sender, mails) = mailbox_with_call(capacity, move || rung.notify_one());
        (sender, Self { mails, bell })
    }
}

/// One lcore, as seen from the desk.
struct Line {
    commands: Sender<Command>,
    waiting: VecDeque<Command>,
}

impl Line {
    fn put(&mut self, command: Command) {
        let refused = if self.waiting.is_empty() { self.commands.try_send(command) } else { Err(command) };
        if let Err(command) = refused {
            self.waiting.push_back(command);
        }
    }
}

/// See the module's documentation.
pub struct Desk {
    registrar: Registrar,
    mails: Receiver<ControlMail>,
    lines: Vec<Line>,
    bell: Arc<Notify>,
}

/// Where the registrar's output goes while it handles one datagram.
struct Out<'a> {
    lines: &'a mut [Line],
    /// The lcore that received what is answered: it has the peer's port. What nobody asked for leaves through the first.
    lcore: usize,
}

impl Sink for Out<'_> {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _records: u16) {
        let lcore = if self.lcore < self.lines.len() { self.lcore } else { 0 };
        if let Some(line) = self.lines.get_mut(lcore) {
            line.put(Command::Reply { peer: *to, bytes: datagram.into() });
        }
    }

    fn route(&mut self, change: RouteChange) {
        self.lines.iter_mut().for_each(|line| line.put(Command::Route(change)));
    }

    fn notice(&mut self, notice: Notice) {
        tracing::warn!("{notice}");
    }
}

impl Desk {
    /// A desk for the lcores behind `commands`, in the order of their indices.
    pub fn new(registrar: Registrar, inbox: Inbox, commands: Vec<Sender<Command>>) -> Self {
        let lines = commands.into_iter().map(|commands| Line { commands, waiting: VecDeque::new() }).collect();
        Self { registrar, mails: inbox.mails, lines, bell: inbox.bell }
    }

    /// The registrar, to be shown to people.
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// Works off what is due and what came in. Returns when to come again at the latest.
    pub fn work(&mut self, now: Time, health: Health) -> Time {
        self.flush();
        if !self.is_waiting() && self.registrar.deadline().is_some_and(|deadline| deadline <= now) {
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

    /// Lets the registrar see that the gateway is well, also when nothing is due.
    pub fn look(&mut self, now: Time, health: Health) {
        if !self.is_waiting() {
            self.registrar.advance(now, health, &mut Out { lines: &mut self.lines, lcore: 0 });
        }
    }

    /// Waits until mail is there. Only while nothing waits to go out is mail read at all.
    pub async fn mail(&mut self) {
        if self.is_waiting() {
            return std::future::pending().await;
        }
        if self.mails.arm() {
            // A ring before this line is kept for it.
            self.bell.notified().await;
        }
        self.mails.disarm();
    }

    /// Tells nodes that the gateway is about to leave, and every lcore to drain, after all that they were told before.
    pub fn drain(&mut self, now: Time) {
        self.registrar.leave(now);
        self.lines.iter_mut().for_each(|line| line.put(Command::Drain));
    }

    fn is_waiting(&self) -> bool {
        self.lines.iter().any(|line| !line.waiting.is_empty())
    }

    fn flush(&mut self) {
        for line in &mut self.lines {
            // An lcore that has ended needs no routes.
            if line.commands.is_closed() {
                line.waiting.clear();
            }
            while let Some(command) = line.waiting.pop_front() {
                if let Err(command) = line.commands.try_send(command) {
                    line.waiting.push_front(command);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Datagram, Hugepages, Pool, PoolConfig, PortId};
    use lcore::mailbox::mailbox_without_doorbell;
    use link::{Node, NodeConfig, RegistrarConfig};
    use wire::link::NodeId;
    use wire::{Scale, Walk};

    struct World {
        desk: Desk,
        mails: Sender<ControlMail>,
        lcores: Vec<Receiver<Command>>,
        pool: Pool,
    }

    impl World {
        /// Two lcores with mailboxes for `room` commands each.
        fn new(room: usize) -> Self {
            let (mails, inbox) = Inbox::new(64);
            let (senders, lcores) = (0..2).map(|_| mailbox_without_doorbell(room)).unzip();
            let registrar = Registrar::new(RegistrarConfig::default(), 0).unwrap();
            let pool = PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() };
            Self { desk: Desk::new(registrar, inbox, senders), mails, lcores, pool: Pool::new(pool).unwrap() }
        }

        fn send(&self, node: &mut Node, config: &NodeConfig, now: Time, lcore: u16) {
            let mut bytes = [0; 256];
            let len = node.transmit(config, now, &mut bytes).unwrap();
            let mut frame = self.pool.alloc().unwrap();
            assert!(frame.append(&bytes[..len]));
            let peer = Peer::socket(PortId(0), "192.0.2.1:7".parse().unwrap());
            let mail = ControlMail::new(lcore, &Datagram::new(frame, peer, Class::Link, 1));
            assert!(self.mails.try_send(mail).is_ok());
        }
    }

    /// Registers slave 17 through lcore 1; returns what each lcore was told from the last heartbeat on.
    fn register(world: &mut World) -> Vec<Vec<Command>> {
        let config = NodeConfig::default();
        let gateway = Peer::socket(PortId(0), "192.0.2.9:9999".parse().unwrap());
        let id = NodeId::slave(Scale::default().slave_id(17).unwrap());
        let mut node = Node::new(id, None, gateway, 0);
        let mut now = 0;
        world.send(&mut node, &config, now, 1);
        world.desk.work(now, Health::GOOD);
        let Some(Command::Reply { bytes, .. }) = world.lcores[1].try_recv() else { panic!("no cookie") };
        assert!(world.lcores[0].try_recv().is_none(), "the answer leaves where the question came in");
        let (_, record) = Walk::new(&bytes, Scale::default()).next().unwrap().unwrap();
        node.handle(&config, now, &gateway, &record).unwrap();
        now = node.deadline(&config);
        world.send(&mut node, &config, now, 1);
        world.desk.work(now, Health::GOOD);
        let mut told: Vec<Vec<Command>> = vec![Vec::new(), Vec::new()];
        for turn in 0..10 {
            for (lcore, told) in world.lcores.iter_mut().zip(&mut told) {
                told.extend(lcore.try_recv());
            }
            world.desk.work(now + turn, Health::GOOD);
        }
        told
    }

    #[test]
    fn every_lcore_is_told_of_a_route_and_one_answers() {
        // With room for one command, the rest waits at the desk and arrives in order.
        for room in [1, 64] {
            let mut world = World::new(room);
            let told = register(&mut world);
            assert!(matches!(told[0][..], [Command::Route(RouteChange::Slave { route: Some(_), .. })]), "{told:?}");
            assert!(matches!(told[1][..], [Command::Route(_), Command::Reply { .. }]), "{told:?}");
            assert_eq!(world.desk.registrar().summary().here, 1);
        }
    }

    #[test]
    fn while_routes_wait_no_mail_is_read_and_drain_comes_last() {
        let mut world = World::new(1);
        register(&mut world);
        world.desk.lines[0].put(Command::SetEarly(true));
        world.desk.lines[0].put(Command::SetEarly(false));
        world.desk.drain(0);
        let node =
            &mut Node::new(NodeId::master(1), None, Peer::socket(PortId(0), "192.0.2.9:9999".parse().unwrap()), 0);
        world.send(node, &NodeConfig::default(), 0, 0);
        assert_eq!(world.desk.work(5, Health::GOOD), 5 + RETRY);
        assert!(!world.desk.mails.is_empty());
        let mut told = Vec::new();
        for now in 6..12 {
            told.extend(world.lcores[0].try_recv());
            while world.lcores[1].try_recv().is_some() {}
            world.desk.work(now, Health::GOOD);
        }
        assert!(
            matches!(
                told[..],
                [Command::SetEarly(true), Command::SetEarly(false), Command::Drain, Command::Reply { .. }]
            ),
            "{told:?}"
        );
        assert!(world.desk.registrar().summary().draining);
    }

    #[test]
    fn an_lcore_that_ended_holds_nobody_up() {
        let mut world = World::new(1);
        world.lcores.remove(0);
        let now = 3;
        world.desk.lines[0].put(Command::SetEarly(true));
        assert_eq!(world.desk.work(now, Health::GOOD), Time::MAX);
    }
}
