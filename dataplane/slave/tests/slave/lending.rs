//! Slaves that lend, and masters that borrow, on a virtual clock behind one gateway.

use crate::borrower::Borrower;
use crate::farm::answer;
use frame::time::{MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time, UNIT, UnitMemory};
use lease::{ConnectKey, ConnectKeys, LoanEnd, LoanEvent};
use slave::{Farm, FarmCommand, FarmConfig, FarmError, Ids, LeaseView, LendingConfig, LendingError};
use std::sync::{Arc, Mutex};
use transport::Status;
use wire::lease::{LeaseEnd, Refusal, UNIT_SHIFT};
use wire::link::Heartbeat;
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType, Scale, Walk};

/// Slaves 100 and 101 lend 3 units each, to 2 masters at most.
const FIRST: u32 = 100;
const UNITS: u32 = 3;
const EPOCH: u64 = 0xb007;
const PAGE: u64 = 4096;

fn peer(address: &str) -> Peer {
    Peer::socket(PortId(0), address.parse().unwrap())
}

fn gateway() -> Peer {
    peer("10.0.0.1:9999")
}

fn key() -> Option<ConnectKey> {
    Some(ConnectKey::of_cluster(&[9; 32]))
}

/// The address of a byte of a lease.
fn at(index: u64, offset: u64) -> u64 {
    index << UNIT_SHIFT | offset
}

struct Rig {
    farm: Farm,
    out: Outbox,
    now: Time,
    memory: Arc<UnitMemory>,
    dirty: Arc<Mutex<Vec<u32>>>,
    borrowers: Vec<Borrower>,
    heartbeats: u64,
    /// Cargo that went to a master without a borrower.
    strays: u64,
}

fn lending(memory: &Arc<UnitMemory>, dirty: &Arc<Mutex<Vec<u32>>>) -> LendingConfig {
    let sink = Arc::clone(dirty);
    LendingConfig {
        memory: Arc::clone(memory),
        units_per_slave: UNITS,
        keys: key().into(),
        quota: UNITS,
        leases: 2,
        leave_within: 10 * SECOND,
        secret: [3; 32],
        scrub: Box::new(move |unit| sink.lock().unwrap().push(unit)),
    }
}

impl Rig {
    /// Both slaves are registered.
    fn new() -> Self {
        let memory = Arc::new(UnitMemory::new(2 * UNITS, Hugepages::Never, None).unwrap());
        let dirty: Arc<Mutex<Vec<u32>>> = Arc::default();
        let mut config = FarmConfig::new(gateway(), Ids::range(Scale::default(), FIRST, 2).unwrap());
        config.node.boot_epoch = EPOCH;
        config.lending = Some(lending(&memory, &dirty));
        let pool = PoolConfig { frames: 512, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let out = Outbox::new(Pool::new(pool).unwrap(), 1);
        let farm = Farm::new(config, 0, |_| {}).unwrap();
        let mut rig = Self { farm, out, now: 0, memory, dirty, borrowers: Vec::new(), heartbeats: 0, strays: 0 };
        rig.run(2 * SECOND);
        assert_eq!(rig.farm.registered(), 2);
        rig
    }

    fn deliver(&mut self, from: Peer, bytes: &[u8]) {
        let mut burst = Burst::new();
        let mut frame = self.out.alloc().unwrap();
        assert!(frame.append(bytes));
        burst.push(Datagram::new(frame, from, Class::Link, 0)).unwrap();
        self.farm.receive(self.now, PortId(0), &mut burst, &mut self.out);
    }

    /// One millisecond for everybody.
    fn step(&mut self) {
        self.now += MILLISECOND;
        let now = self.now;
        let sent: Vec<_> = self.borrowers.iter_mut().flat_map(|borrower| borrower.poll(now)).collect();
        sent.iter().for_each(|datagram| self.deliver(gateway(), datagram));
        self.farm.advance(now, &mut self.out);
        let queue = self.out.queue(PortId(0)).unwrap();
        let sent: Vec<Datagram> = std::iter::from_fn(|| queue.take()).collect();
        queue.rewind();
        for datagram in sent {
            assert_eq!(datagram.peer, gateway());
            for item in Walk::new(datagram.frame.data(), Scale::default()) {
                let (_, record) = item.unwrap();
                if datagram.class == Class::Link {
                    self.heartbeats += 1;
                    let heartbeat = Heartbeat::parse(&record).unwrap();
                    self.deliver(gateway(), &answer(&heartbeat));
                    continue;
                }
                assert_eq!(datagram.class, Class::Up);
                let (slave, master) = (record.header().slave_id(), record.header().master_id());
                let is_to = |borrower: &&mut Borrower| (borrower.ends.slave, borrower.ends.master) == (slave, master);
                match self.borrowers.iter_mut().find(is_to) {
                    Some(borrower) => borrower.take(now, &record),
                    None => self.strays += 1,
                }
            }
        }
        assert!(self.farm.counters().balance());
    }

    fn run(&mut self, time: Time) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Until a condition holds.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + 30 * SECOND;
        while !holds(self) {
            assert!(self.now < end, "not within 30 s: {what}");
            self.step();
        }
    }

    /// A master with a lease of so many units of slave 100 or 101; its number.
    fn lease(&mut self, slave: u32, master: u16, want: u32) -> usize {
        let mut borrower = Borrower::new(slave, master, key(), gateway());
        borrower.open(self.now, EPOCH, want, false);
        self.borrowers.push(borrower);
        let number = self.borrowers.len() - 1;
        self.until("a lease", |rig| rig.borrowers[number].loan.is_open());
        number
    }

    /// The status of the next completion of a borrower.
    fn completion(&mut self, number: usize) -> Status {
        self.until("a completion", |rig| !rig.borrowers[number].done.is_empty());
        self.borrowers[number].done.remove(0).status
    }

    fn write(&mut self, number: usize, class: usize, to: u64, bytes: &[u8]) {
        self.borrowers[number].write(class, 1, to, bytes);
        assert_eq!(self.completion(number), Status::Success);
    }

    fn read(&mut self, number: usize, class: usize, from: u64, len: usize) -> Vec<u8> {
        self.borrowers[number].read(class, 2, from, len);
        assert_eq!(self.completion(number), Status::Success);
        self.borrowers[number].buffer(len)
    }

    /// Scrubs all units that wait for it, and says so. Returns which.
    fn scrub(&mut self) -> Vec<u32> {
        let units = std::mem::take(&mut *self.dirty.lock().unwrap());
        for &unit in &units {
            self.memory.scrub(unit, 0, UNIT).unwrap();
            self.farm.command(self.now, FarmCommand::Scrubbed(unit), &mut self.out);
        }
        units
    }

    fn leases(&self) -> Vec<LeaseView> {
        self.farm.lending().unwrap().leases().collect()
    }

    fn counter(&self, name: &str) -> u64 {
        let view = self.farm.lending().unwrap();
        let mut found = None;
        let mut look = |other: &str, _: &str, value| found = if other == name { Some(value) } else { found };
        frame::counter::CounterSet::visit(&*view.leases, &mut look);
        frame::counter::CounterSet::visit(&*view.records, &mut look);
        frame::counter::CounterSet::visit(&*view.transport, &mut look);
        found.unwrap_or_else(|| panic!("no counter {name}"))
    }
}

fn page(seed: u8) -> Vec<u8> {
    (0..PAGE).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect()
}

#[test]
fn what_a_master_writes_is_in_its_units_and_is_read_back() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST + 1, 7, 2);
    let expected = LeaseView { slave: FIRST + 1, master: 7, units: 2, recalled: 0 };
    assert_eq!(rig.leases(), [expected]);
    rig.write(one, 0, at(1, 5 * PAGE), &page(1));
    rig.write(one, 1, at(0, 64 * 1024 * 1024 - 100), &page(2)[..200]);
    assert!(rig.read(one, 1, at(1, 5 * PAGE), 4096) == page(1));
    assert_eq!(rig.read(one, 0, at(1, 0), 100), page(2)[100..200]);
    // Slave 101 has the units 3 to 5 of the farm.
    let mut found = vec![0; 4096];
    assert!(rig.memory.read(4, 5 * PAGE as usize, &mut found) && found == page(1));
    let view = rig.farm.lending().unwrap();
    assert_eq!((view.units(), view.limit(), rig.counter("units_leased"), rig.counter("leases")), (6, 6, 2, 1));
    assert_eq!(rig.out.pool().in_use(), 0);
}

#[test]
fn an_index_without_a_unit_is_refused_and_gives_no_bytes() {
    for from in [at(1, 0), at(2, 100), at(0, UNIT as u64 - 50), at(3, 0), at(4000, 0), u64::MAX - 200] {
        let mut rig = Rig::new();
        let one = rig.lease(FIRST, 7, 1);
        rig.borrowers[one].read(0, 1, from, 100);
        let status = rig.completion(one);
        assert!(matches!(status, Status::RemOpErr | Status::RemAccessErr), "{from:#x}: {status:?}");
        assert_eq!(rig.borrowers[one].buffer(100), [0xee; 100]);
        // The other queue pair of the lease goes on.
        rig.write(one, 1, at(0, 0), b"still there");
    }
}

#[test]
fn a_unit_is_scrubbed_before_another_master_has_it() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST, 7, 3);
    rig.write(one, 0, at(2, 0), &page(1));
    let now = rig.now;
    rig.borrowers[one].loan.close(now);
    rig.until("the end of the lease", |rig| rig.leases().is_empty());
    assert_eq!(rig.borrowers[one].events.last(), Some(&LoanEvent::Ended(LoanEnd::Done)));
    let two = rig.lease(FIRST, 8, 3);
    assert!(rig.borrowers[two].loan.held().is_empty(), "all units are dirty");
    let mut units = rig.scrub();
    units.sort_unstable();
    assert_eq!(units, [0, 1, 2]);
    rig.until("the units", |rig| rig.borrowers[two].loan.held().len() == 3);
    for index in 0..3 {
        assert!(rig.read(two, 0, at(index, 0), 4096) == [0; 4096]);
    }
    assert_eq!((rig.counter("units_dirty"), rig.counter("leases"), rig.counter("leases_opened")), (0, 1, 2));
}

#[test]
fn another_masters_key_and_queue_pair_reach_nothing() {
    let mut rig = Rig::new();
    let (one, two) = (rig.lease(FIRST, 7, 1), rig.lease(FIRST, 8, 1));
    rig.write(one, 0, at(0, 0), &page(1));
    // The rkey of the other lease, on its own queue pair.
    let theirs = rig.borrowers[one].rkey;
    rig.borrowers[two].read_by(0, 1, at(0, 0), 4096, theirs);
    assert_eq!(rig.completion(two), Status::RemAccessErr);
    assert!(rig.borrowers[two].buffer(4096) == [0xee; 4096]);
    // A packet for the other's queue pair under its own name, and under the name of a master without a lease.
    let before = rig.counter("packets_in");
    rig.borrowers[one].read(0, 3, at(0, 0), 100);
    let now = rig.now;
    let asked = rig.borrowers[one].poll(now).concat();
    for (master, counter) in [(8_u16, "rc_dropped_wrong_path"), (9, "dropped_not_ours")] {
        let mut forged = asked.clone();
        let header = RecordHeader::new(MsgType::RC, FIRST, req_id(master, 0), (asked.len() - HEADER_LEN) as u32);
        wire::record::emit(&header, &asked[HEADER_LEN..], &mut forged).unwrap();
        assert!(wire::rc::IcrcSeed::record(&header).seal(&mut forged[HEADER_LEN..]));
        rig.deliver(gateway(), &forged);
        assert_eq!(rig.counter(counter), 1, "{counter}");
    }
    assert_eq!(rig.counter("packets_in"), before + 1);
    // From an address that is no gateway, the packet itself.
    let refused = rig.farm.counters().refused_source.get();
    rig.deliver(peer("10.0.0.66:9999"), &asked);
    assert_eq!(rig.farm.counters().refused_source.get(), refused + 1);
    // The READ itself is sent again.
    assert_eq!(rig.completion(one), Status::Success);
    // Any rkey that is not the own one, bit by bit.
    for bit in 0..32 {
        let now = rig.now;
        rig.borrowers[two].open(now, EPOCH, 1, true);
        rig.until("a session", |rig| rig.borrowers[two].loan.is_open());
        let wrong = rig.borrowers[two].rkey ^ 1 << bit;
        rig.borrowers[two].read_by(0, 1, at(0, 0), 64, wrong);
        assert_eq!(rig.completion(two), Status::RemAccessErr, "bit {bit}");
    }
    assert!(rig.read(one, 1, at(0, 0), 4096) == page(1));
}

#[test]
fn packets_of_an_earlier_session_find_nothing() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST, 7, 1);
    rig.write(one, 0, at(0, 0), &page(1));
    rig.borrowers[one].write(0, 2, at(0, 0), &page(9));
    let now = rig.now;
    let old = rig.borrowers[one].poll(now);
    rig.borrowers[one].open(now, EPOCH, 1, true);
    rig.until("the session that is resumed", |rig| rig.borrowers[one].loan.is_open());
    let before = rig.counter("rc_dropped_no_qp");
    let records = old.iter().map(|datagram| Walk::new(datagram, Scale::default()).count() as u64).sum::<u64>();
    old.iter().for_each(|datagram| rig.deliver(gateway(), datagram));
    assert_eq!(rig.counter("rc_dropped_no_qp"), before + records);
    assert!(rig.read(one, 0, at(0, 0), 4096) == page(1));
    assert_eq!(rig.counter("leases_resumed"), 1);
}

#[test]
fn a_flood_of_connects_costs_no_frame_and_no_lease() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST, 7, 1);
    rig.write(one, 0, at(0, 0), &page(1));
    let sent = rig.strays;
    for number in 0..5_000_u64 {
        // Of masters without the key, and then the recorded one of a master again and again.
        let mut stranger = Borrower::new(FIRST, 1000 + (number % 50_000) as u16, None, gateway());
        stranger.open(rig.now, EPOCH, 3, false);
        let datagram = stranger.poll(rig.now).concat();
        rig.deliver(gateway(), &datagram);
        if number % 500 == 0 {
            rig.step();
        }
    }
    let (forged, beyond) = (rig.counter("lease_dropped_forged"), rig.counter("lease_dropped_budget"));
    assert_eq!(forged + beyond, 5_000);
    assert!(forged < 200, "{forged} tags were verified");
    assert_eq!((rig.strays, rig.leases().len(), rig.out.pool().in_use()), (sent, 1, 0));
    // The lease goes on, and is renewed.
    let accepted = rig.counter("connects_accepted");
    rig.run(11 * SECOND);
    assert!(rig.counter("connects_accepted") > accepted);
    assert!(rig.read(one, 0, at(0, 0), 4096) == page(1));
}

#[test]
fn places_are_bounded_and_a_quota_holds() {
    let mut rig = Rig::new();
    let (one, two) = (rig.lease(FIRST, 7, 2), rig.lease(FIRST, 8, 4096));
    assert_eq!((rig.borrowers[one].loan.held().len(), rig.borrowers[two].loan.held().len()), (2, 1));
    let mut third = Borrower::new(FIRST, 9, key(), gateway());
    third.open(rig.now, EPOCH, 1, false);
    rig.borrowers.push(third);
    rig.until("a refusal", |rig| !rig.borrowers[2].events.is_empty());
    assert_eq!(rig.borrowers[2].events, [LoanEvent::Ended(LoanEnd::Refused(Refusal::NoRoom))]);
    // The other slave has places.
    rig.lease(FIRST + 1, 9, 3);
}

#[test]
fn other_connect_keys_hold_from_the_next_message_on_and_leases_go_on() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST, 7, 2);
    rig.write(one, 0, at(1, 0), &page(1));
    let next = ConnectKey::of_cluster(&[10; 32]);
    let both = ConnectKeys::changing(key().unwrap(), next.clone());
    rig.farm.command(rig.now, FarmCommand::SetConnectKeys(both.clone()), &mut rig.out);
    rig.borrowers[one].loan.set_keys(both);
    let mut other = Borrower::new(FIRST, 8, Some(next.clone()), gateway());
    other.open(rig.now, EPOCH, 1, false);
    rig.borrowers.push(other);
    rig.until("a lease with the new key", |rig| rig.borrowers[1].loan.is_open());
    rig.farm.command(rig.now, FarmCommand::SetConnectKeys(next.into()), &mut rig.out);
    // Both are renewed with the new key.
    rig.run(65 * SECOND);
    assert!(rig.borrowers.iter().all(|borrower| borrower.loan.is_open()));
    assert!(rig.read(one, 0, at(1, 0), 4096) == page(1));
    assert_eq!((rig.counter("leases_opened"), rig.counter("leases_expired")), (2, 0));
    let mut late = Borrower::new(FIRST + 1, 7, key(), gateway());
    late.open(rig.now, EPOCH, 1, false);
    rig.borrowers.push(late);
    rig.run(SECOND);
    assert!(!rig.borrowers[2].loan.is_open() && rig.counter("lease_dropped_forged") > 0);
}

#[test]
fn a_lower_limit_recalls_and_then_takes_by_force() {
    let mut rig = Rig::new();
    let (one, two) = (rig.lease(FIRST, 7, 3), rig.lease(FIRST + 1, 7, 2));
    rig.write(one, 0, at(2, 0), &page(1));
    rig.farm.command(rig.now, FarmCommand::LendLimit { units: 2, within: 5 * SECOND }, &mut rig.out);
    rig.until("recalls", |rig| [one, two].iter().all(|&number| rig.borrowers[number].loan.recall().is_some()));
    let recalled: Vec<_> = rig.leases().iter().map(|lease| (lease.slave, lease.units, lease.recalled)).collect();
    assert_eq!(recalled, [(FIRST, 3, 2), (FIRST + 1, 2, 1)]);
    // The first gives one back. What both owe then is taken, the highest indexes first.
    let given = [2].into_iter().collect();
    rig.borrowers[one].loan.want(2);
    rig.borrowers[one].loan.give_back(&given);
    rig.until("units that came back", |rig| rig.leases().iter().map(|lease| lease.units).sum::<u32>() == 2);
    assert_eq!((rig.counter("units_recalled"), rig.counter("units_taken")), (0, 2));
    rig.borrowers[one].read(0, 1, at(2, 0), 64);
    assert_eq!(rig.completion(one), Status::RemOpErr);
    rig.scrub();
    // Nothing more is granted until the limit rises.
    rig.borrowers[two].loan.want(3);
    rig.run(SECOND);
    assert_eq!(rig.leases().iter().map(|lease| lease.units).sum::<u32>(), 2);
    rig.farm.command(rig.now, FarmCommand::LendLimit { units: 6, within: 0 }, &mut rig.out);
    rig.until("more units", |rig| rig.borrowers[two].loan.held().len() == 3);
}

#[test]
fn a_farm_that_drains_stays_until_all_is_given_back_and_scrubbed() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST, 7, 2);
    rig.farm.command(rig.now, FarmCommand::Drain, &mut rig.out);
    let heartbeats = rig.heartbeats;
    rig.run(3 * SECOND);
    assert!(!rig.farm.is_drained() && rig.heartbeats > heartbeats);
    assert_eq!(rig.borrowers[one].loan.recall().map(|(units, _)| units), Some(2));
    // Until its end the lease works.
    rig.write(one, 0, at(1, 0), &page(1));
    let all = *rig.borrowers[one].loan.held();
    rig.borrowers[one].loan.want(0);
    rig.borrowers[one].loan.give_back(&all);
    rig.until("the farewell", |rig| {
        rig.borrowers[one].events.contains(&LoanEvent::Ended(LoanEnd::Left(LeaseEnd::Leaving)))
    });
    assert!(!rig.farm.is_drained(), "two units are dirty");
    assert_eq!(rig.scrub().len(), 2);
    rig.until("the drain", |rig| rig.farm.is_drained());
    let heartbeats = rig.heartbeats;
    rig.run(3 * SECOND);
    assert_eq!((rig.heartbeats, rig.farm.deadline(), rig.farm.frames_held()), (heartbeats, None, 0));
}

#[test]
fn a_farm_that_drains_takes_what_does_not_come_back() {
    let mut rig = Rig::new();
    let one = rig.lease(FIRST, 7, 3);
    rig.farm.command(rig.now, FarmCommand::Drain, &mut rig.out);
    rig.run(11 * SECOND);
    assert_eq!((rig.counter("units_taken"), rig.leases().len()), (3, 0));
    assert!(rig.borrowers[one].loan.held().is_empty());
    rig.scrub();
    rig.until("the drain", |rig| rig.farm.is_drained());
    // An idle farm that lends drains at once.
    let mut rig = Rig::new();
    rig.farm.command(rig.now, FarmCommand::Drain, &mut rig.out);
    assert!(rig.farm.is_drained());
}

#[test]
fn a_master_that_is_silent_loses_its_lease_after_a_minute() {
    let mut rig = Rig::new();
    rig.lease(FIRST, 7, 2);
    let borrower = rig.borrowers.pop().unwrap();
    rig.run(59 * SECOND);
    assert_eq!(rig.leases().len(), 1);
    rig.run(2 * SECOND);
    assert_eq!((rig.leases().len(), rig.counter("leases_expired"), rig.dirty.lock().unwrap().len()), (0, 1, 2));
    // What it sends afterwards finds nothing.
    let mut borrower = borrower;
    borrower.read(0, 1, at(0, 0), 64);
    let asked = borrower.poll(rig.now).pop().unwrap();
    rig.deliver(gateway(), &asked);
    assert_eq!(rig.counter("dropped_not_ours"), 1);
}

#[test]
fn without_a_free_frame_a_connect_is_not_read_and_comes_again() {
    let mut rig = Rig::new();
    let mut borrower = Borrower::new(FIRST, 7, key(), gateway());
    borrower.open(rig.now, EPOCH, 1, false);
    let asked = borrower.poll(rig.now).concat();
    let mut burst = Burst::new();
    let mut frame = rig.out.alloc().unwrap();
    assert!(frame.append(&asked));
    burst.push(Datagram::new(frame, gateway(), Class::Link, 0)).unwrap();
    let held: Vec<_> = std::iter::from_fn(|| rig.out.alloc()).collect();
    rig.farm.receive(rig.now, PortId(0), &mut burst, &mut rig.out);
    assert_eq!((rig.farm.counters().lease_unanswered.get(), rig.counter("connects_in")), (1, 0));
    drop(held);
    rig.borrowers.push(borrower);
    rig.until("a lease", |rig| rig.borrowers[0].loan.is_open());
}

#[test]
fn a_farm_without_gateways_answers_where_the_connect_came_from() {
    let memory = Arc::new(UnitMemory::new(2 * UNITS, Hugepages::Never, None).unwrap());
    let dirty: Arc<Mutex<Vec<u32>>> = Arc::default();
    let mut config = FarmConfig::direct(Ids::range(Scale::default(), FIRST, 2).unwrap());
    config.node.boot_epoch = EPOCH;
    config.lending = Some(lending(&memory, &dirty));
    let pool = PoolConfig { frames: 512, hugepages: Hugepages::Never, ..PoolConfig::default() };
    let out = Outbox::new(Pool::new(pool).unwrap(), 1);
    let farm = Farm::new(config, 0, |_| {}).unwrap();
    let mut rig = Rig { farm, out, now: SECOND, memory, dirty, borrowers: Vec::new(), heartbeats: 0, strays: 0 };
    let one = rig.lease(FIRST, 7, 1);
    rig.write(one, 0, at(0, 0), &page(1));
    // Packets of the lease come from where its CONNECT came from.
    rig.borrowers[one].read(0, 2, at(0, 0), 64);
    let now = rig.now;
    let asked = rig.borrowers[one].poll(now).concat();
    rig.deliver(peer("10.0.0.66:9999"), &asked);
    assert_eq!(rig.counter("refused_source"), 1);
    rig.deliver(gateway(), &asked);
    assert_eq!(rig.completion(one), Status::Success);
}

#[test]
fn what_cannot_be_lent_is_refused_with_the_reason() {
    let memory = Arc::new(UnitMemory::new(2 * UNITS, Hugepages::Never, None).unwrap());
    let dirty: Arc<Mutex<Vec<u32>>> = Arc::default();
    let refusal = |change: &dyn Fn(&mut LendingConfig)| {
        let mut config = FarmConfig::direct(Ids::range(Scale::default(), FIRST, 2).unwrap());
        let mut lending = lending(&memory, &dirty);
        change(&mut lending);
        config.lending = Some(lending);
        Farm::new(config, 0, |_| {}).err()
    };
    assert_eq!(refusal(&|_| {}), None);
    let memory = LendingError::Memory { slaves: 2, each: 4, units: 6 };
    assert_eq!(refusal(&|lending| lending.units_per_slave = 4), Some(FarmError::Lending(memory)));
    let nothing = Some(FarmError::Lending(LendingError::Nothing));
    assert_eq!(refusal(&|lending| lending.units_per_slave = 0), nothing);
    assert_eq!(refusal(&|lending| lending.leases = 0), nothing);
}
