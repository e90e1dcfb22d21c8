//! Lcores on threads of their own.

use crate::toy::{Order, ToyPort, ToyRole, Wire, pool};
use frame::time::{FOREVER, SECOND};
use lcore::thread::{End, LcoreHandle, StartError, ThreadConfig, cpu_ns, start};
use lcore::{Clock, Lcore, RxMode, Stage, mailbox};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, mpsc};

/// For how long a toy role lets its lcore stay away: long, because timers of a busy machine are late.
const ABSENCE: u64 = 20 * frame::time::MILLISECOND;

struct World {
    running: LcoreHandle,
    wire: Arc<Mutex<Wire>>,
    readable: OwnedFd,
    orders: mailbox::Sender<Order>,
    ended: mpsc::Receiver<()>,
    /// What the role was told of absences.
    told: Arc<Mutex<Vec<u64>>>,
}

impl World {
    fn start(mode: RxMode, hold: u64) -> Self {
        Self::with(mode, hold, false)
    }

    /// An lcore that may nap, if `asks`, because its port asks the kernel for each packet.
    fn with(mode: RxMode, hold: u64, asks: bool) -> Self {
        let wire = Arc::new(Mutex::new(Wire { room: usize::MAX, ..Wire::default() }));
        let readable = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let (orders, mailbox) = mailbox::mailbox(16).unwrap();
        let (ends, ended) = mpsc::channel();
        let (port_wire, port_fd) = (Arc::clone(&wire), readable.try_clone().unwrap());
        let told = Arc::<Mutex<Vec<u64>>>::default();
        let role_told = Arc::clone(&told);
        let build = move || {
            let pool = pool(64);
            let mut port = ToyPort::new(0, &pool, &port_wire, Some(port_fd));
            port.asks = asks;
            let mut role = ToyRole::new(hold);
            (role.absence, role.told) = (ABSENCE, role_told);
            Ok::<_, std::io::Error>(Lcore::new(7, role, vec![port], pool, mailbox, None))
        };
        let config = ThreadConfig { index: 7, core: None, mode, clock: Clock::start() };
        let running = start(config, build, move || ends.send(()).unwrap()).unwrap().wait().unwrap();
        Self { running, wire, readable, orders, ended, told }
    }

    fn put(&self, bytes: &[u8]) {
        self.wire.lock().unwrap().to_port.push_back(bytes.to_vec());
        rustix::io::write(&self.readable, &1u64.to_ne_bytes()).unwrap();
    }

    /// Waits until `condition` is true; a minute is for ever.
    fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let clock = Clock::start();
        while !condition(self) {
            assert!(clock.now() < 60 * SECOND, "{what} never came");
            std::thread::yield_now();
        }
    }

    fn end(self) -> End {
        self.ended.recv().unwrap();
        self.running.join()
    }
}

#[test]
fn an_lcore_polls_sleeps_wakes_and_drains() {
    for mode in [RxMode::Polling, RxMode::Adaptive] {
        let world = World::start(mode, FOREVER);
        if mode == RxMode::Adaptive {
            world.until("sleep", |world| world.running.view().lcore.sleeps.get() > 0);
        }
        world.put(b"a packet wakes it");
        world.until("the packet", |world| world.running.view().lcore.rx_datagrams.get() == 1);
        assert!(world.orders.try_send(Order::Drain).is_ok());
        let wire = Arc::clone(&world.wire);
        assert_eq!(world.end(), End::Drained);
        assert_eq!(wire.lock().unwrap().from_port, [b"a packet wakes it"]);
    }
}

#[test]
fn the_way_of_waiting_changes_while_it_runs() {
    let world = World::start(RxMode::Adaptive, 0);
    let lcore = Arc::clone(&world.running.view().lcore);
    world.until("sleep", |_| lcore.sleeps.get() > 0);
    world.running.set_rx_mode(RxMode::Polling);
    assert_eq!(world.running.rx_mode(), RxMode::Polling);
    // The sleep that was under way is the last one: many polls later there was no other.
    let polls = lcore.polls.get();
    world.until("polls", |_| lcore.polls.get() > polls + 1000);
    let sleeps = lcore.sleeps.get();
    let polls = lcore.polls.get();
    world.until("polls", |_| lcore.polls.get() > polls + 10_000);
    assert_eq!(lcore.sleeps.get(), sleeps);
    world.running.set_rx_mode(RxMode::Adaptive);
    world.until("sleep", |_| lcore.sleeps.get() > sleeps);
}

#[test]
fn an_lcore_on_sockets_naps_while_packets_come_and_drains() {
    let world = World::with(RxMode::Adaptive, 0, true);
    let lcore = Arc::clone(&world.running.view().lcore);
    let mut sent = 0;
    let clock = Clock::start();
    while lcore.naps.get() < 20 {
        assert!(clock.now() < 60 * SECOND, "no nap came");
        // More than 1,000 packets at once are a backlog, and no lcore naps then.
        if world.wire.lock().unwrap().to_port.len() < 1000 {
            world.put(b"x");
            sent += 1;
        }
        std::thread::sleep(std::time::Duration::from_micros(20));
    }
    assert_eq!(world.told.lock().unwrap().first(), Some(&ABSENCE), "the role knows before the first nap");
    // With no packets the naps end, and the role is told.
    world.until("sleep", |_| lcore.sleeps.get() > 0 && world.told.lock().unwrap().last() == Some(&0));
    assert!(world.orders.try_send(Order::Drain).is_ok());
    let wire = Arc::clone(&world.wire);
    assert_eq!(world.end(), End::Drained);
    assert_eq!(wire.lock().unwrap().from_port.len(), sent);
}

#[test]
fn an_lcore_that_polls_or_asks_no_kernel_does_not_nap() {
    for (mode, asks) in [(RxMode::Polling, true), (RxMode::Adaptive, false)] {
        let world = World::with(mode, 0, asks);
        let lcore = Arc::clone(&world.running.view().lcore);
        world.until("packets", |world| {
            if world.wire.lock().unwrap().to_port.is_empty() {
                (0..32).for_each(|_| world.put(b"x"));
            }
            lcore.rx_datagrams.get() > 1000
        });
        assert_eq!((lcore.naps.get(), world.told.lock().unwrap().len()), (0, 0), "{mode} {asks}");
    }
}

#[test]
fn a_deadline_ends_sleep() {
    let world = World::start(RxMode::Adaptive, frame::time::MILLISECOND);
    for number in 1..=5 {
        world.put(b"x");
        world.until("the datagram", |world| world.wire.lock().unwrap().from_port.len() == number);
    }
}

#[test]
fn a_view_shows_what_runs() {
    let world = World::start(RxMode::Adaptive, 0);
    let view = world.running.view();
    assert_eq!((view.index, view.core, view.ports.len()), (7, None, 1));
    assert_eq!((&*view.ports[0].about.describe(), view.ports[0].about.mtu()), ("toy port 0", 1500));
    assert!(cpu_ns(view.tid).is_some());
    world.until("a beat", |world| world.running.view().pulse.beats() > 0);
    world.until("the gauges", |world| world.running.view().pool.frames_capacity.get() == 64);
    world.running.stop();
    assert_eq!(world.end(), End::Stopped { role_frames: 0, outbox_frames: 0 });
}

#[test]
fn an_lcore_that_is_stopped_says_what_it_held() {
    let world = World::start(RxMode::Adaptive, FOREVER);
    world.put(b"held");
    world.until("the packet", |world| world.running.view().lcore.rx_datagrams.get() == 1);
    world.running.stop();
    assert_eq!(world.end(), End::Stopped { role_frames: 1, outbox_frames: 0 });
}

#[test]
fn a_panic_is_caught_and_says_where() {
    let world = World::start(RxMode::Adaptive, 0);
    let pulse = Arc::clone(&world.running.view().pulse);
    assert!(world.orders.try_send(Order::Panic).is_ok());
    assert_eq!(world.end(), End::Panicked { stage: Stage::Mailbox, message: "as ordered".to_owned() });
    assert_eq!(pulse.stage(), Stage::Stopped);
}

#[test]
fn a_drain_under_load_ends_when_receiving_stops() {
    let world = World::start(RxMode::Adaptive, 0);
    for _ in 0..100 {
        world.put(b"x");
    }
    assert!(world.orders.try_send(Order::Drain).is_ok());
    world.running.stop_receiving();
    assert_eq!(world.end(), End::Drained);
}

#[test]
fn what_fails_while_it_is_built_is_told() {
    let config = ThreadConfig { index: 0, core: None, mode: RxMode::Polling, clock: Clock::start() };
    let fails = || Err::<Lcore<ToyRole, ToyPort>, _>("no such port");
    let error = start(config, fails, || ()).unwrap().wait().err().unwrap();
    assert_eq!(error.to_string(), "no such port");
    let panics = || -> Result<Lcore<ToyRole, ToyPort>, &'static str> { panic!("no memory") };
    let error = start(config, panics, || ()).unwrap().wait().err().unwrap();
    assert_eq!(error.to_string(), "lcore 0 panicked while it was built: no memory");
    for core in [1023, 4000] {
        let error = start(ThreadConfig { core: Some(core), ..config }, fails, || ()).unwrap().wait().err().unwrap();
        assert!(matches!(error, StartError::Pin { .. }), "{error}");
        assert!(error.to_string().contains(&format!("cannot pin lcore 0 to core {core}")), "{error}");
    }
}
