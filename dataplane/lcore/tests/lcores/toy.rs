//! A port made of two vectors, and a role that gives every datagram back after a while.

use frame::counter::CounterSet;
use frame::{
    Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Precedence, Role, Time, TxQueue,
};
use lcore::{ControlReceiver, Lcore, control_mailbox, mailbox};
use port::Port;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

frame::counters! {
    /// What a toy port counts.
    pub struct ToyCounters {
        /// Bursts that found nothing.
        rx_empty,
    }
}

/// What is behind a toy port.
#[derive(Default)]
pub(crate) struct Wire {
    /// Datagrams that the port will receive.
    pub to_port: VecDeque<Vec<u8>>,
    /// Datagrams that the port has sent.
    pub from_port: Vec<Vec<u8>>,
    /// Room in its TX ring.
    pub room: usize,
}

/// A port over a [`Wire`]. A sent frame is held for one poll, as a device holds it until completion.
pub(crate) struct ToyPort {
    id: PortId,
    wire: Arc<Mutex<Wire>>,
    pool: Pool,
    completing: Vec<Datagram>,
    completed: Vec<Datagram>,
    full: bool,
    readable: Option<OwnedFd>,
    /// What [`Port::asks_the_kernel`] says.
    pub asks: bool,
    counters: Arc<ToyCounters>,
}

impl ToyPort {
    pub(crate) fn new(id: u8, pool: &Pool, wire: &Arc<Mutex<Wire>>, readable: Option<OwnedFd>) -> Self {
        Self {
            id: PortId(id),
            wire: Arc::clone(wire),
            pool: pool.clone(),
            completing: Vec::new(),
            completed: Vec::new(),
            full: false,
            readable,
            asks: false,
            counters: Arc::default(),
        }
    }
}

impl Port for ToyPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx_burst(&mut self, _now: Time, burst: &mut Burst) -> usize {
        let mut wire = self.wire.lock().unwrap();
        let before = burst.len();
        while burst.room() > 0
            && !wire.to_port.is_empty()
            && let Some(mut frame) = self.pool.alloc()
        {
            let bytes = wire.to_port.pop_front().unwrap();
            assert!(frame.append(&bytes));
            let mut peer = Peer::socket(self.id, "192.0.2.1:9".parse().unwrap());
            if let [FOR_LCORE, lcore, ..] = bytes[..] {
                peer.lcore = lcore;
            }
            burst.push(Datagram::new(frame, peer, Class::Up, 1)).unwrap();
        }
        if let Some(fd) = self.readable.as_ref().filter(|_| wire.to_port.is_empty()) {
            let _ = rustix::io::read(fd, &mut [0u8; 8]);
        }
        if burst.len() == before {
            self.counters.rx_empty.add(1);
        }
        burst.len() - before
    }

    fn tx_burst(&mut self, _now: Time, queue: &mut TxQueue) -> usize {
        let mut wire = self.wire.lock().unwrap();
        let mut sent = 0;
        while wire.room > 0
            && let Some(datagram) = queue.take()
        {
            wire.room -= 1;
            wire.from_port.push(datagram.frame.data().to_vec());
            self.completing.push(datagram);
            sent += 1;
        }
        self.full = !queue.is_empty();
        sent
    }

    fn housekeep(&mut self, _now: Time) {
        self.completed.clear();
        std::mem::swap(&mut self.completing, &mut self.completed);
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.readable.as_ref().map(AsFd::as_fd)
    }

    fn wants_writable(&self) -> bool {
        false
    }

    fn asks_the_kernel(&self) -> bool {
        self.asks
    }

    fn frames_held(&self) -> usize {
        self.completing.len() + self.completed.len()
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn rx_lost(&self) -> u64 {
        0
    }

    fn describe(&self) -> String {
        format!("toy port {}", self.id.0)
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::clone(&self.counters) as Arc<dyn CounterSet>
    }
}

/// Orders to a toy role.
pub(crate) enum Order {
    Drain,
    Panic,
}

/// A toy port takes datagrams with this first byte for those of another lcore, and the second byte for [`Peer::lcore`].
pub(crate) const FOR_LCORE: u8 = b'>';

/// A toy role takes datagrams with this first byte for link control.
pub(crate) const LINK: u8 = b'L';

/// Holds each datagram for `hold`, then sends it back; link control goes to the registrar.
pub(crate) struct ToyRole {
    hold: u64,
    held: VecDeque<(Time, Datagram)>,
    draining: bool,
    /// What [`Role::may_stay_away`] says.
    pub absence: u64,
    /// The last values of [`Role::stays_away`].
    pub told: Arc<Mutex<Vec<u64>>>,
}

impl ToyRole {
    pub(crate) fn new(hold: u64) -> Self {
        Self { hold, held: VecDeque::new(), draining: false, absence: 0, told: Arc::default() }
    }
}

impl Role for ToyRole {
    type Command = Order;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, out: &mut Outbox) {
        for datagram in burst.drain() {
            if datagram.frame.data().first() == Some(&LINK) {
                out.control(Precedence::Member, datagram);
            } else {
                let datagram = Datagram { class: Class::Up, records: 1, ..datagram };
                self.held.push_back((now.saturating_add(self.hold), datagram));
            }
        }
        // The role's part of backpressure: held datagrams leave when the pool runs low.
        while out.pool().free() < out.pool().capacity() / 2
            && let Some((_, datagram)) = self.held.pop_front()
        {
            out.send(datagram);
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        while self.held.front().is_some_and(|(due, _)| self.draining || *due <= now) {
            out.send(self.held.pop_front().unwrap().1);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.held.front().map(|(due, _)| *due)
    }

    fn may_stay_away(&self) -> u64 {
        self.absence
    }

    fn stays_away(&mut self, ns: u64) {
        let mut told = self.told.lock().unwrap();
        if told.last() != Some(&ns) {
            told.push(ns);
        }
    }

    fn command(&mut self, _now: Time, order: Order, _out: &mut Outbox) {
        match order {
            Order::Drain => self.draining = true,
            Order::Panic => panic!("as ordered"),
        }
    }

    fn is_drained(&self) -> bool {
        self.draining && self.held.is_empty()
    }

    fn frames_held(&self) -> usize {
        self.held.len()
    }
}

/// A pool of small ordinary pages.
pub(crate) fn pool(frames: u32) -> Pool {
    Pool::new(PoolConfig { frames, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
}

/// An lcore in a simulation: no thread, no doorbell, no clock.
pub(crate) struct Bench {
    pub lcore: Lcore<ToyRole, ToyPort>,
    pub wires: Vec<Arc<Mutex<Wire>>>,
    pub orders: mailbox::Sender<Order>,
    pub registrar: ControlReceiver,
}

impl Bench {
    pub(crate) fn new(frames: u32, ports: u8, hold: u64) -> Self {
        let pool = pool(frames);
        let wires: Vec<_> = (0..ports).map(|_| Arc::new(Mutex::new(Wire::default()))).collect();
        let ports = wires.iter().enumerate().map(|(id, wire)| ToyPort::new(id as u8, &pool, wire, None)).collect();
        let (orders, mailbox) = mailbox::mailbox_without_doorbell(256);
        let (to_registrar, registrar) = control_mailbox(4, || {});
        let lcore = Lcore::new(0, ToyRole::new(hold), ports, pool, mailbox, Some(to_registrar));
        Self { lcore, wires, orders, registrar }
    }

    pub(crate) fn put(&self, port: usize, bytes: &[u8]) {
        self.wires[port].lock().unwrap().to_port.push_back(bytes.to_vec());
    }

    pub(crate) fn room(&self, room: usize) {
        self.wires.iter().for_each(|wire| wire.lock().unwrap().room = room);
    }
}
