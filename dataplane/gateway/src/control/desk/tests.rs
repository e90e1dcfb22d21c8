use super::queue::{Clock, MANY, Queue};
use super::*;
use frame::PortId;
use link::{Node, NodeConfig, RegistrarConfig};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use wire::link::NodeId;
use wire::{Scale, Walk};

/// An lcore's mailbox with room for this many commands.
#[derive(Clone)]
struct Lcore(Rc<RefCell<VecDeque<GatewayCommand>>>, usize, Rc<Cell<bool>>);

impl Lcore {
    fn next(&self) -> Option<GatewayCommand> {
        self.0.borrow_mut().pop_front()
    }
}

impl Line for Lcore {
    fn try_send(&self, command: GatewayCommand) -> Result<(), GatewayCommand> {
        if self.0.borrow().len() >= self.1 {
            return Err(command);
        }
        self.0.borrow_mut().push_back(command);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.2.get()
    }
}

struct World {
    desk: Desk<Lcore>,
    lcores: [Lcore; 2],
    mails: VecDeque<(u16, Peer, Vec<u8>)>,
}

impl World {
    fn new(room: usize) -> Self {
        let lcores = [0, 1].map(|_| Lcore(Rc::default(), room, Rc::default()));
        let registrar = Registrar::new(RegistrarConfig::default(), 0).unwrap();
        Self { desk: Desk::new(registrar, lcores.iter().cloned()), lcores, mails: VecDeque::new() }
    }

    fn work(&mut self, now: Time) -> Time {
        let Self { desk, mails, .. } = self;
        desk.work(now, Health::GOOD, || mails.pop_front(), read, drop)
    }

    fn send(&mut self, node: &mut Node, now: Time, lcore: u16) {
        let mut bytes = [0; 256];
        let len = node.transmit(&NodeConfig::default(), now, &mut bytes).unwrap();
        let peer = Peer::socket(PortId(0), "192.0.2.1:7".parse().unwrap());
        self.mails.push_back((lcore, peer, bytes[..len].to_vec()));
    }
}

fn read(mail: &(u16, Peer, Vec<u8>)) -> Mail<'_> {
    Mail { lcore: mail.0, peer: &mail.1, precedence: Precedence::Member, bytes: &mail.2 }
}

fn gateway() -> Peer {
    Peer::socket(PortId(0), "192.0.2.9:9999".parse().unwrap())
}

/// Registers slave 17 through lcore 1; returns the node and when it was last heard.
fn registered(world: &mut World) -> (Node, Time) {
    let mut node = first_heartbeat(world);
    let now = node.deadline(&NodeConfig::default());
    world.send(&mut node, now, 1);
    for turn in 0..10 {
        world.lcores.iter().for_each(|lcore| while lcore.next().is_some() {});
        world.work(now + turn);
    }
    assert_eq!(world.desk.registrar().summary().here, 1);
    (node, now)
}

/// Registers slave 17 through lcore 1; returns the commands that each lcore got from the last heartbeat on.
fn register(world: &mut World) -> [Vec<GatewayCommand>; 2] {
    let mut node = first_heartbeat(world);
    let now = node.deadline(&NodeConfig::default());
    world.send(&mut node, now, 1);
    world.work(now);
    let mut told = [Vec::new(), Vec::new()];
    for turn in 0..10 {
        for (lcore, told) in world.lcores.iter().zip(&mut told) {
            told.extend(lcore.next());
        }
        world.work(now + turn);
    }
    told
}

/// Slave 17 with a cookie, which it got through lcore 1.
fn first_heartbeat(world: &mut World) -> Node {
    let config = NodeConfig::default();
    let id = NodeId::slave(Scale::default().slave_id(17).unwrap());
    let mut node = Node::new(id, None, gateway(), &NodeConfig::default(), 0);
    world.send(&mut node, 0, 1);
    world.work(0);
    let Some(GatewayCommand::Reply { bytes, .. }) = world.lcores[1].next() else { panic!("no cookie") };
    assert!(world.lcores[0].next().is_none(), "only the lcore that got the heartbeat sends the answer");
    let (_, record) = Walk::new(&bytes, Scale::default()).next().unwrap().unwrap();
    node.handle(&config, 0, &gateway(), &record).unwrap();
    node
}

#[test]
fn every_lcore_is_told_of_a_route_and_one_answers() {
    // With room for one command, the rest waits at the desk and arrives in order.
    for room in [1, 64] {
        let mut world = World::new(room);
        let told = register(&mut world);
        assert!(matches!(told[0][..], [GatewayCommand::Route(RouteChange::Slave { route: Some(_), .. })]), "{told:?}");
        assert!(matches!(told[1][..], [GatewayCommand::Route(_), GatewayCommand::Reply { .. }]), "{told:?}");
        assert_eq!(world.desk.registrar().summary().here, 1);
    }
}

#[test]
fn while_commands_wait_no_mail_is_read_and_nothing_overtakes() {
    let mut world = World::new(1);
    register(&mut world);
    world.desk.tell(|| GatewayCommand::SetEarly(true));
    world.desk.tell(|| GatewayCommand::SetEarly(false));
    world.desk.tell(|| GatewayCommand::Drain);
    world.send(&mut Node::new(NodeId::master(1), None, gateway(), &NodeConfig::default(), 0), 0, 0);
    assert_eq!((world.work(5), world.mails.len()), (5 + RETRY, 1));
    let mut told = Vec::new();
    for now in 6..12 {
        told.extend(world.lcores[0].next());
        while world.lcores[1].next().is_some() {}
        world.work(now);
    }
    assert!(
        matches!(
            told[..],
            [
                GatewayCommand::SetEarly(true),
                GatewayCommand::SetEarly(false),
                GatewayCommand::Drain,
                GatewayCommand::Reply { .. }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn a_fixed_route_stays_whoever_registers() {
    let mut world = World::new(64);
    let peer = Peer::socket(PortId(0), "192.0.2.77:9999".parse().unwrap());
    let fixed = |id: u32| RouteChange::Slave {
        id: Scale::default().slave_id(id).unwrap(),
        route: Some(link::Route { peer, mtu: 1500, fixed_port: false }),
    };
    world.desk.fix([fixed(17), fixed(18)]);
    for lcore in &world.lcores {
        let told = [lcore.next(), lcore.next()];
        assert!(matches!(told, [Some(GatewayCommand::Route(a)),
                Some(GatewayCommand::Route(b))] if a == fixed(17) && b == fixed(18)));
    }
    // Slave 17 registers and is answered; no other route is announced.
    let told = register(&mut world);
    assert!(told[0].is_empty() && matches!(told[1][..], [GatewayCommand::Reply { .. }]), "{told:?}");
}

#[test]
fn every_lcore_is_told_that_a_port_takes_less() {
    let mut world = World::new(1);
    register(&mut world);
    let shrunk = |command: Option<GatewayCommand>| match command {
        Some(GatewayCommand::Route(RouteChange::Slave { route: Some(route), .. })) => route.mtu == 700,
        _ => false,
    };
    // The command must not overtake waiting commands: a route change must stay behind an earlier change of the same
    // route.
    world.desk.tell(|| GatewayCommand::SetEarly(true));
    world.desk.tell(|| GatewayCommand::SetEarly(false));
    assert!(!world.desk.set_port_mtus(&[700], drop));
    for now in 0..4 {
        world.work(now);
        assert!(world.lcores.iter().all(|lcore| !shrunk(lcore.next())));
    }
    assert!(world.desk.set_port_mtus(&[700], drop));
    assert!(world.lcores.iter().all(|lcore| shrunk(lcore.next())));
}

#[test]
fn an_lcore_that_stands_still_holds_nobody_up() {
    let mut world = World::new(1);
    world.work(0);
    for _ in 0..2 {
        world.desk.tell(|| GatewayCommand::SetEarly(true));
    }
    while world.lcores[0].next().is_some() {
        world.work(0);
    }
    world.send(&mut Node::new(NodeId::master(1), None, gateway(), &NodeConfig::default(), 0), 0, 0);
    // Two heartbeat intervals after the lcore took its last command.
    let patience = 2 * RegistrarConfig::default().interval;
    assert_eq!((world.work(patience - 1), world.mails.len()), (patience - 1 + RETRY, 1));
    assert_eq!((world.work(patience), world.mails.len()), (patience + RETRY, 0));
    assert!(
        matches!(world.lcores[0].next(), Some(GatewayCommand::Reply { .. })),
        "a node that another lcore hears is answered"
    );
    // When the lcore goes on, it gets all commands. From then on it delays the others again when it is slow.
    let mut told = Vec::new();
    for turn in 0..4 {
        told.extend(world.lcores[1].next());
        world.work(patience + turn);
    }
    assert!(matches!(told[..], [GatewayCommand::SetEarly(true), GatewayCommand::SetEarly(true)]), "{told:?}");
    assert!(!world.desk.is_waiting());
    for _ in 0..3 {
        world.desk.tell(|| GatewayCommand::SetEarly(false));
    }
    assert!(world.desk.is_held_up());
}

/// A command is dropped only when too many wait and the lcore has taken none for too long. One of the two alone is not
/// enough.
#[test]
fn answers_wait_for_an_lcore_until_too_many_commands_wait_too_long() {
    for (commands, now, kept) in [(2 * MANY, 9, 2 * MANY), (MANY - 1, 10, MANY - 1), (MANY, 10, 0)] {
        let mut queue = Queue::new(Lcore(Rc::default(), 0, Rc::default()));
        for number in 0..commands {
            let now = if number == 0 { 0 } else { now };
            let reply = GatewayCommand::Reply { peer: gateway(), bytes: [7; 8].as_slice().into() };
            queue.put(Clock { now, patience: 10 }, reply);
        }
        assert_eq!(queue.waiting.len(), kept, "{commands} commands after {now}");
    }
}

#[test]
fn what_waits_for_an_lcore_that_stands_still_is_bounded_by_the_number_of_routes() {
    let mut world = World::new(1);
    let route = |id: u32, last: u8| {
        let peer = Peer::socket(PortId(0), format!("192.0.2.{last}:9999").parse().unwrap());
        let id = Scale::default().slave_id(id).unwrap();
        RouteChange::Slave { id, route: Some(link::Route { peer, mtu: 1500, fixed_port: false }) }
    };
    world.desk.tell(|| GatewayCommand::SetEarly(true));
    world.desk.tell(|| GatewayCommand::SetEarly(false));
    world.work(100 * RegistrarConfig::default().interval);
    for last in 1..=200 {
        for id in 0..100 {
            world.desk.tell(|| GatewayCommand::Route(route(id, last)));
            let reply = || GatewayCommand::Reply { peer: gateway(), bytes: [7; 8].as_slice().into() };
            world.desk.tell(reply);
        }
    }
    assert!(world.desk.queues.iter().all(|queue| queue.waiting.len() <= MANY), "it grows");
    // For each route, the last change is the last one that the lcore gets.
    let mut known = std::collections::BTreeMap::new();
    let mut early = None;
    for now in 0.. {
        match world.lcores[1].next() {
            Some(GatewayCommand::Route(change)) => drop(known.insert(Whose::of(&change), change)),
            Some(GatewayCommand::SetEarly(on)) => early = Some(on),
            Some(_) => {}
            None => break,
        }
        world.work(now);
    }
    assert_eq!((known.len(), early), (100, Some(false)));
    assert!((0..100).all(|id| known[&Whose::Slave(id)] == route(id, 200)));
}

#[test]
fn an_lcore_that_ended_holds_nobody_up() {
    let mut world = World::new(1);
    for _ in 0..2 {
        world.desk.tell(|| GatewayCommand::Drain);
    }
    assert_eq!(world.work(3), 3 + RETRY);
    world.lcores.iter().for_each(|lcore| lcore.2.set(true));
    assert_eq!(world.work(3), Time::MAX);
}

#[test]
fn a_line_that_says_nothing_is_open() {
    /// A mailbox that refuses the first command that it is offered.
    struct Plain(Cell<bool>, Rc<RefCell<Vec<GatewayCommand>>>);

    impl Line for Plain {
        fn try_send(&self, command: GatewayCommand) -> Result<(), GatewayCommand> {
            if !self.0.replace(true) {
                return Err(command);
            }
            self.1.borrow_mut().push(command);
            Ok(())
        }
    }

    let got: Rc<RefCell<Vec<GatewayCommand>>> = Rc::default();
    let registrar = Registrar::new(RegistrarConfig::default(), 0).unwrap();
    let mut desk = Desk::new(registrar, [Plain(Cell::new(false), Rc::clone(&got))]);
    desk.tell(|| GatewayCommand::Drain);
    assert!(desk.is_waiting() && got.borrow().is_empty());
    desk.work(1, Health::GOOD, || None::<(u16, Peer, Vec<u8>)>, read, drop);
    assert!(
        !desk.is_waiting() && matches!(got.borrow()[..], [GatewayCommand::Drain]),
        "the waiting command was not dropped"
    );
}

#[test]
fn an_lcore_that_is_none_is_answered_through_the_first() {
    for unknown in [2, 3, u16::MAX] {
        let mut world = World::new(64);
        world.send(&mut Node::new(NodeId::master(1), None, gateway(), &NodeConfig::default(), 0), 0, unknown);
        world.work(0);
        let told = [0, 1].map(|lcore| world.lcores[lcore].next());
        assert!(matches!(told, [Some(GatewayCommand::Reply { .. }), None]), "{unknown}: {told:?}");
    }
}

#[test]
fn what_people_should_know_reaches_them() {
    let config = RegistrarConfig { two_port: true, ..RegistrarConfig::default() };
    let mut desk = Desk::new(Registrar::new(config, 0).unwrap(), [Lcore(Rc::default(), 64, Rc::default())]);
    let mut bytes = [0; 256];
    let mut node = Node::new(NodeId::master(1), None, gateway(), &NodeConfig::default(), 0);
    let len = node.transmit(&NodeConfig::default(), 0, &mut bytes).unwrap();
    let peer = Peer::socket(PortId(1), "192.0.2.1:7".parse().unwrap());
    let mut mail = Some((0, peer, bytes[..len].to_vec()));
    let mut said = Vec::new();
    let mut hear = |word: Word| {
        if let Word::Notice(notice, _) = word {
            said.push(notice);
        }
    };
    desk.work(0, Health::GOOD, || mail.take(), read, &mut hear);
    assert!(matches!(said[..], [Notice::MasterPort { .. }]), "{said:?}");
}

#[test]
fn what_is_due_is_worked_off_when_it_is_due_and_not_before() {
    for late in [0, 7] {
        let mut world = World::new(64);
        register(&mut world);
        let due = world.desk.registrar().deadline().expect("somebody is there");
        assert_eq!(world.work(due - 1), due, "`work` returns the time of the next call");
        assert_eq!(world.desk.registrar().deadline(), Some(due), "the registrar was called too early");
        world.work(due + late);
        assert!(world.desk.registrar().deadline() > Some(due + late), "the registrar was not called");
    }
    // In the end every lcore has removed the route of a silent slave.
    let mut world = World::new(64);
    register(&mut world);
    let mut told = [0, 0];
    while let Some(due) = world.desk.registrar().deadline() {
        world.work(due);
        for (lcore, told) in world.lcores.iter().zip(&mut told) {
            while let Some(command) = lcore.next() {
                assert!(
                    matches!(command, GatewayCommand::Route(RouteChange::Slave { route: None, .. })),
                    "{command:?}"
                );
                *told += 1;
            }
        }
    }
    assert_eq!((told, world.desk.registrar().summary().here), ([1, 1], 0));
}

#[test]
fn nobody_is_gone_whose_heartbeat_waits_at_the_desk() {
    let interval = RegistrarConfig::default().interval;
    for strangers in [0, 3 * MAILS_PER_TURN] {
        let mut world = World::new(4096);
        let (mut node, heard) = registered(&mut world);
        // The control thread comes late, but not late enough for a pause. Meanwhile the node and many others have sent
        // heartbeats.
        world.desk.note_health(heard + interval * 11 / 10, Health::GOOD, drop);
        for _ in 0..MAILS_PER_TURN + 1 {
            world.send(&mut Node::new(NodeId::master(1), None, gateway(), &NodeConfig::default(), 0), 0, 0);
        }
        let now = heard + 3 * interval;
        world.send(&mut node, now, 1);
        assert!(world.desk.registrar().deadline().is_some_and(|due| due <= now));
        for _ in 0..strangers {
            world.send(&mut Node::new(NodeId::master(2), None, gateway(), &NodeConfig::default(), 0), 0, 0);
        }
        let mut calls = 0;
        while !world.mails.is_empty() {
            world.work(now);
            assert_eq!(world.desk.registrar().summary().here, 1);
            calls += 1;
        }
        assert!(calls > 1);
        world.work(now + interval);
        assert_eq!(world.desk.registrar().summary().here, 1, "the node's heartbeat counted");
    }
}

/// Mail that is not a record.
fn rubbish(mail: &(Peer, Precedence)) -> Mail<'_> {
    Mail { lcore: 0, peer: &mail.0, precedence: mail.1, bytes: &[0; 4] }
}

#[test]
fn mail_without_end_delays_what_is_due_by_a_quarter_of_an_interval() {
    let interval = RegistrarConfig::default().interval;
    for precedence in Precedence::ALL {
        let mut world = World::new(64);
        let gone_at = 3 * interval + registered(&mut world).1;
        for look in (1..=3).rev() {
            world.desk.note_health(gone_at - look * interval + interval - 1, Health::GOOD, drop);
        }
        assert_eq!(world.desk.registrar().deadline(), Some(gone_at));
        let peer = Peer::socket(PortId(0), "192.0.2.1:7".parse().unwrap());
        let mut here_at = |now| {
            let mail = || Some((peer, precedence));
            assert_eq!(world.desk.work(now, Health::GOOD, mail, rubbish, drop), now, "more mail waits");
            world.desk.registrar().summary().here
        };
        let late = gone_at + interval / 4;
        let expected = if precedence == Precedence::Member { [1, 1, 0] } else { [0; 3] };
        assert_eq!([here_at(gone_at), here_at(late - 1), here_at(late)], expected, "{precedence:?}");
    }
}

#[test]
fn a_look_needs_nothing_due_but_room() {
    let mut world = World::new(1);
    register(&mut world);
    let due = world.desk.registrar().deadline().expect("somebody is there");
    // Two commands for a mailbox with room for one.
    world.desk.tell(|| GatewayCommand::Drain);
    world.desk.tell(|| GatewayCommand::Drain);
    world.desk.note_health(due - 1, Health::GOOD, drop);
    assert_eq!(world.desk.registrar().deadline(), Some(due), "while a command waits nothing is done");
    for _ in 0..2 {
        while world.lcores.iter().filter_map(Lcore::next).count() > 0 {}
        world.work(due - 1);
    }
    world.desk.note_health(due - 1, Health::GOOD, drop);
    assert!(world.desk.registrar().deadline() > Some(due), "the registrar was not called");
}
