//! A bell that other processes ring, too.

use crate::toy::{ToyPort, pool};
use frame::time::SECOND;
use frame::{Burst, Outbox, PortId, Role, Time};
use lcore::bells::Bells;
use lcore::mailbox::{Bell, mailbox_with};
use lcore::thread::{End, ThreadConfig, start};
use lcore::{Clock, Lcore, RxMode};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn rang(bells: &Bells) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(bells.descriptor().unwrap(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

/// An eventfd, and the descriptor of it that a client has.
fn client() -> (OwnedFd, OwnedFd) {
    let bell = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let of_client = bell.try_clone().unwrap();
    (bell, of_client)
}

fn ring(client: &OwnedFd, by: u64) {
    let _ = rustix::io::write(client, &by.to_ne_bytes());
}

#[test]
fn each_ring_of_each_client_wakes_once() {
    let bells = Bells::new().unwrap();
    let ((one, of_one), (two, of_two)) = (client(), client());
    let (_one, two) = (bells.add(one).unwrap(), bells.add(two).unwrap());
    assert!(!rang(&bells));
    for of_client in [&of_one, &of_two, &of_one] {
        ring(of_client, 1);
        assert!(rang(&bells) && rang(&bells), "a ring stays until it is silenced");
        bells.silence();
        assert!(!rang(&bells), "nobody has read the eventfd, and it wakes nobody again");
    }
    bells.ring();
    assert!(rang(&bells));
    bells.silence();
    drop(two);
    ring(&of_two, 1);
    assert!(!rang(&bells), "the other process still has its eventfd, and it is watched no more");
    ring(&of_one, 1);
    assert!(rang(&bells));
}

#[test]
fn a_client_that_writes_and_reads_as_it_likes_harms_only_itself() {
    let bells = Bells::new().unwrap();
    let ((one, of_one), (two, of_two)) = (client(), client());
    let (_one, _two) = (bells.add(one).unwrap(), bells.add(two).unwrap());
    // Its counter is full: it cannot ring any more, and all others can.
    ring(&of_one, u64::MAX - 1);
    bells.silence();
    ring(&of_one, 1);
    bells.silence();
    ring(&of_two, 1);
    assert!(rang(&bells));
    bells.silence();
    // What it takes back had rung before.
    ring(&of_two, 1);
    rustix::io::read(&of_two, &mut [0u8; 8]).unwrap();
    bells.silence();
    bells.ring();
    assert!(rang(&bells));
}

#[test]
fn more_rings_than_one_call_takes_are_not_lost() {
    let bells = Bells::new().unwrap();
    let clients: Vec<_> = (0..100).map(|_| client()).collect();
    let (watched, of_clients): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
    let _watched: Vec<_> = watched.into_iter().map(|bell| bells.add(bell).unwrap()).collect();
    of_clients.iter().for_each(|of_client| ring(of_client, 1));
    bells.silence();
    assert!(rang(&bells), "the other 36 end the next sleep");
    bells.silence();
    assert!(!rang(&bells));
}

#[test]
fn a_mailbox_rings_it_as_its_own() {
    let bells = Bells::new().unwrap();
    let (sender, mut receiver) = mailbox_with(4, Arc::new(bells.clone()));
    assert!(receiver.arm());
    sender.try_send(1).unwrap();
    assert!(rang(&bells) && receiver.doorbell().is_some());
    receiver.disarm();
    assert!(!rang(&bells));
    assert_eq!(receiver.try_recv(), Some(1));
}

/// What an lcore calls, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Doze,
    Advance,
    Wake,
}

/// A role with work of its own: numbers that another thread asks for.
struct Answering {
    asked: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Answering {
    fn log(&self, call: Call) {
        let mut calls = self.calls.lock().unwrap();
        // An lcore that spins makes many polls: two in a row show as much as all.
        if calls.len() < 2 || calls[calls.len() - 2..] != [call, call] {
            calls.push(call);
        }
    }
}

impl Role for Answering {
    type Command = ();

    fn receive(&mut self, _: Time, _: PortId, burst: &mut Burst, _: &mut Outbox) {
        burst.clear();
    }

    fn advance(&mut self, _: Time, _: &mut Outbox) {
        self.log(Call::Advance);
        self.answered.store(self.asked.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn command(&mut self, _: Time, (): (), _: &mut Outbox) {}

    fn doze(&mut self) {
        self.log(Call::Doze);
    }

    fn wake(&mut self) {
        self.log(Call::Wake);
    }

    fn is_drained(&self) -> bool {
        false
    }

    fn frames_held(&self) -> usize {
        0
    }
}

#[test]
fn an_lcore_polls_once_more_after_its_role_dozes_and_a_ring_ends_its_sleep() {
    let (asked, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let calls = Arc::new(Mutex::new(Vec::new()));
    let role = Answering { asked: Arc::clone(&asked), answered: Arc::clone(&answered), calls: Arc::clone(&calls) };
    let bells = Bells::new().unwrap();
    let (watched, of_client) = client();
    let _watched = bells.add(watched).unwrap();
    let (_orders, mailbox) = mailbox_with::<()>(4, Arc::new(bells));
    let build = move || Ok::<_, std::io::Error>(Lcore::new(0, role, Vec::<ToyPort>::new(), pool(64), mailbox, None));
    let config = ThreadConfig { index: 0, core: None, mode: RxMode::Adaptive, clock: Clock::start() };
    let running = start(config, build, || {}).unwrap().wait().unwrap();
    let clock = Clock::start();
    for number in 1..=200 {
        // The poll after `doze` found nothing: it sleeps, or is about to.
        while !calls.lock().unwrap().ends_with(&[Call::Doze, Call::Advance]) {
            assert!(clock.now() < 60 * SECOND, "it does not sleep any more");
            std::thread::yield_now();
        }
        asked.store(number, Ordering::SeqCst);
        ring(&of_client, 1);
        while answered.load(Ordering::SeqCst) < number {
            assert!(clock.now() < 60 * SECOND, "it does not answer any more");
            std::thread::yield_now();
        }
    }
    running.stop();
    assert_eq!(running.join(), End::Stopped { role_frames: 0, outbox_frames: 0 });
    let calls = calls.lock().unwrap();
    let dozes = calls.iter().enumerate().filter(|(_, call)| **call == Call::Doze);
    for (at, _) in dozes {
        assert_eq!(calls.get(at + 1..at + 3), Some(&[Call::Advance, Call::Wake][..]), "after the call {at}");
    }
    assert!(calls.contains(&Call::Doze));
}
