//! Every way in which three requests can pass a network that may lose, repeat and reorder each packet.
//!
//! The test visits all states of two endpoints and of the packets between them, within a budget of losses, repetitions,
//! overtaking packets and early timeouts. Each end sends when it wants, also after it took several packets. At most
//! four packets are under way in one direction. In every state: each completion occurred once, in order and with the
//! right bytes; a NAK that is sent has the PSN that is expected then, so that no finished request is asked for again;
//! and if nothing more goes wrong, everything completes.

use super::Endpoint;
use crate::path::Path;
use crate::qp::{NEVER, Qp, Shared};
use crate::queue::{Links, Turns};
use crate::sink::{Room, Sink};
use crate::slab::{Chain, NONE, Slab};
use crate::{
    Access, Arrival, Completion, Config, Local, Op, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Receive,
    Region, Remote, Status, Work,
};
use frame::Time;
use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use wire::rc::{IcrcSeed, Packet, PathMtu, Psn, RnrTimer, Syndrome};
use wire::{MsgType, RecordHeader};

/// The most packets under way in one direction.
const WINDOW: usize = 4;
const BASE: u64 = 0x1000;
const SIZE: usize = 2048;

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, 1 << 48, len as u32))
}

/// A sink that takes one packet.
#[derive(Default)]
struct One {
    packet: Vec<u8>,
    closed: bool,
}

impl Sink for One {
    fn open(&mut self, _: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        if self.closed {
            return None;
        }
        self.packet = vec![0; len];
        Some(Room { bytes: &mut self.packet, seed: seed(len) })
    }

    fn close(&mut self) {
        self.closed = true;
    }
}

/// Everything in an endpoint that changes; the wheel is not used.
#[derive(Clone)]
struct Snapshot {
    qps: Vec<Qp>,
    paths: Vec<Path>,
    shared: Shared<Vec<u8>>,
    ready: Turns,
    links: [Links; 2],
}

fn save(end: &Endpoint<Vec<u8>>) -> Snapshot {
    let links = [end.ready_links.clone(), end.wait_links.clone()];
    let (qps, paths) = (end.qps.to_vec(), end.paths.to_vec());
    Snapshot { qps, paths, shared: end.shared.clone(), ready: end.ready, links }
}

fn load(end: &mut Endpoint<Vec<u8>>, from: &Snapshot) {
    end.qps.copy_from_slice(&from.qps);
    end.paths.copy_from_slice(&from.paths);
    end.shared = from.shared.clone();
    end.ready = from.ready;
    [end.ready_links, end.wait_links] = from.links.clone();
}

/// What may still go wrong.
#[derive(Clone, Copy, Hash)]
struct Budget {
    losses: u8,
    repeats: u8,
    overtakes: u8,
    timeouts: u8,
}

/// A state: requester and responder, and the packets that each has sent, the oldest first.
#[derive(Clone)]
struct World {
    ends: [Snapshot; 2],
    wires: [Vec<Vec<u8>>; 2],
    done: Vec<Completion>,
    received: Vec<Completion>,
    receives: u8,
    now: Time,
    budget: Budget,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(usize),
    /// A packet of a wire arrives; if it is not the first, it overtakes others.
    Deliver(usize, usize),
    /// The first packet of a wire is lost.
    Lose(usize),
    /// The first packet of a wire comes once more, after all others.
    Repeat(usize),
    Timeout,
    PostReceive,
}

/// The scenario: the requests, and the expected result.
struct Scenario {
    requests: [Op; 3],
    lens: [u32; 3],
    depth: u8,
    receives: u8,
    budget: Budget,
    is_urgent: bool,
}

struct Explorer {
    ends: [Endpoint<Vec<u8>>; 2],
    qpns: [Qpn; 2],
    keys: [u32; 2],
    scenario: Scenario,
    /// Memory of both ends when all is done.
    expected: [Vec<u8>; 2],
}

fn pattern(end: usize) -> Vec<u8> {
    (0..SIZE).map(|at| (at as u8).wrapping_mul(7) ^ (at >> 8) as u8 ^ if end == 0 { 0x11 } else { 0xa0 }).collect()
}

/// The address of a request's local bytes, and of its target at the other end.
fn place(request: usize) -> u64 {
    BASE + 512 * request as u64
}

fn remote(key: u32, request: usize) -> Remote {
    Remote { address: place(request), key }
}

/// The values of chained elements, without their places.
fn contents<T: Copy>(slab: &Slab<T>, chain: Chain, mut visit: impl FnMut(u32, &T)) {
    let mut at = chain.head;
    while let Some(value) = slab.get(at) {
        visit(at, value);
        at = slab.next(at);
    }
}

struct Hashed(DefaultHasher);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Snapshot {
    fn hash(&self, into: &mut Hashed, key: u32) {
        for qp in &self.qps {
            let (mut work, mut replays) = (Vec::new(), Vec::new());
            contents(&self.shared.work, qp.requester.queue, |at, wqe| work.push((at, wqe.work.id)));
            contents(&self.shared.replays, qp.responder.replays, |at, replay| replays.push((at, *replay)));
            let in_work = |at| work.iter().position(|&(place, _)| place == at).map_or(NONE, |at| at as u32);
            let in_replays = |at| replays.iter().position(|&(place, _)| place == at).map_or(NONE, |at| at as u32);
            let (requester, responder) = (qp.requester.essence(in_work), qp.responder.essence(in_replays));
            let timer = qp.timer != NEVER;
            write!(into, "{requester:?} {responder:?} {timer} {:?} {:?} {}", qp.state, qp.wait, qp.notify).unwrap();
            work.iter().for_each(|(_, id)| id.hash(&mut into.0));
            replays.iter().for_each(|(_, replay)| write!(into, "{replay:?}").unwrap());
        }
        self.shared.regions.get(key).unwrap().memory.hash(&mut into.0);
    }
}

impl Explorer {
    fn new(scenario: Scenario) -> Self {
        let config = Config {
            queue_pairs: 1,
            paths: 1,
            regions: 1,
            work: 3,
            receives: 3,
            replays: 4,
            completions: 8,
            queue_depth: 4,
            ..Config::default()
        };
        let mut ends = [0, 1].map(|_| Endpoint::new(config, 0).unwrap());
        let (mut qpns, mut keys) = ([Qpn(0); 2], [0; 2]);
        for (at, end) in ends.iter_mut().enumerate() {
            end.set_path(PathId(0), PeerKind::Roce).unwrap();
            let region = Region { base: BASE, len: SIZE as u64, access: Access::ALL, domain: 0, memory: pattern(at) };
            keys[at] = end.register(0x1234_5670, region).unwrap();
            qpns[at] = end.create(0x7700, 0).unwrap();
            if scenario.is_urgent {
                end.make_urgent(qpns[at]).unwrap();
            }
            end.init(qpns[at]).unwrap();
        }
        for (at, end) in ends.iter_mut().enumerate() {
            let (path, psn, rnr_timer) = (PathId(0), Psn::new(0xff_ffff), RnrTimer::new(1));
            let receive = ReadyToReceive {
                path,
                peer: qpns[1 - at],
                psn,
                mtu: PathMtu::B256,
                read_depth: scenario.depth,
                rnr_timer,
            };
            end.ready_to_receive(qpns[at], &receive).unwrap();
            end.ready_to_send(qpns[at], &ReadyToSend { timeout: 1, ..ReadyToSend::usual(psn, scenario.depth) })
                .unwrap();
            // The wheel never fires: the timer is a separate action.
            end.qps.iter_mut().for_each(|qp| qp.scheduled = 0);
        }
        let mut expected = [pattern(0), pattern(1)];
        for (request, op) in scenario.requests.iter().enumerate() {
            let at = 512 * request;
            let range = at..at + scenario.lens[request] as usize;
            let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().unwrap());
            let [ours, theirs] = &mut expected;
            match op {
                Op::Read(_) => ours[range.clone()].copy_from_slice(&theirs[range]),
                Op::Write(_) => theirs[range.clone()].copy_from_slice(&ours[range]),
                // Sends go to the end of the peer's memory, in order; their places distinguish them.
                Op::Send | Op::SendImm(_) | Op::WriteImm(..) => {
                    let to = 1536 + if request == 0 { 0 } else { 256 };
                    let bytes = ours[range.clone()].to_vec();
                    theirs[to..to + range.len()].copy_from_slice(&bytes);
                }
                // All of them use the same word.
                Op::CompareSwap { .. } | Op::FetchAdd { .. } => {
                    let before = word(&theirs[1024..]);
                    let after = match *op {
                        Op::FetchAdd { add, .. } => before.wrapping_add(add),
                        _ => before ^ u64::MAX,
                    };
                    theirs[1024..1032].copy_from_slice(&after.to_le_bytes());
                    ours[at..at + 8].copy_from_slice(&before.to_le_bytes());
                }
            }
        }
        Self { ends, qpns, keys, scenario, expected }
    }

    fn start(&mut self) -> World {
        let word = |bytes: &[u8]| u64::from_le_bytes(*bytes[1024..].first_chunk().unwrap());
        let mut before = word(&pattern(1));
        for request in 0..3 {
            let to = remote(self.keys[1], request);
            let meeting = Remote { address: BASE + 1024, ..to };
            let op = match self.scenario.requests[request] {
                Op::Read(_) => Op::Read(to),
                Op::Write(_) => Op::Write(to),
                Op::CompareSwap { .. } => Op::CompareSwap { remote: meeting, compare: before, swap: before ^ u64::MAX },
                Op::FetchAdd { add, .. } => Op::FetchAdd { remote: meeting, add },
                other => other,
            };
            match op {
                Op::CompareSwap { swap, .. } => before = swap,
                Op::FetchAdd { add, .. } => before = before.wrapping_add(add),
                _ => {}
            }
            let local = Local { key: self.keys[0], address: place(request), len: self.scenario.lens[request] };
            self.ends[0].post(self.qpns[0], Work { id: request as u64, op, local }).unwrap();
        }
        World {
            ends: [save(&self.ends[0]), save(&self.ends[1])],
            wires: [Vec::new(), Vec::new()],
            done: Vec::new(),
            received: Vec::new(),
            receives: self.scenario.receives,
            now: 1,
            budget: self.scenario.budget,
        }
    }

    fn fingerprint(&self, world: &World) -> u64 {
        let mut hashed = Hashed(DefaultHasher::new());
        for (end, &key) in world.ends.iter().zip(&self.keys) {
            end.hash(&mut hashed, key);
        }
        (&world.wires, world.done.len(), world.received.len(), world.receives, world.budget).hash(&mut hashed.0);
        hashed.0.finish()
    }

    fn acts(&self, world: &World) -> Vec<Act> {
        let mut acts = Vec::new();
        for side in 0..2 {
            let wire = &world.wires[side];
            if !world.ends[side].ready.is_empty() && wire.len() < WINDOW {
                acts.push(Act::Send(side));
            }
            let overtakes = if world.budget.overtakes > 0 { wire.len() } else { wire.len().min(1) };
            acts.extend((0..overtakes).map(|at| Act::Deliver(side, at)));
            if world.budget.losses > 0 && !wire.is_empty() {
                acts.push(Act::Lose(side));
            }
            if world.budget.repeats > 0 && !wire.is_empty() {
                acts.push(Act::Repeat(side));
            }
        }
        if world.ends[0].qps[0].timer != NEVER && world.budget.timeouts > 0 {
            acts.push(Act::Timeout);
        }
        if world.receives > 0 {
            acts.push(Act::PostReceive);
        }
        acts
    }

    /// The state after an action.
    fn act(&mut self, world: &World, act: Act) -> World {
        let mut next = world.clone();
        match act {
            Act::Send(side) => {
                let end = &mut self.ends[side];
                load(end, &world.ends[side]);
                let mut one = One::default();
                end.transmit(world.now, &mut one);
                if one.closed {
                    let packet = Packet::parse(&one.packet).expect("what is sent is a packet");
                    if packet.aeth().is_some_and(|aeth| !matches!(aeth.syndrome(), Some(Syndrome::Ack { .. }))) {
                        let expected = world.ends[side].qps[0].responder.expected();
                        assert_eq!(packet.bth().psn(), expected, "a NAK is for what is expected");
                    }
                    next.wires[side].push(one.packet);
                }
                next.ends[side] = save(end);
            }
            Act::Deliver(side, at) => {
                let packet = next.wires[side].remove(at);
                next.budget.overtakes -= u8::from(at > 0);
                let end = &mut self.ends[1 - side];
                load(end, &world.ends[1 - side]);
                let seed = seed(packet.len());
                end.receive(world.now, &Arrival { path: PathId(0), ce: false, seed, bytes: &packet });
                let to = if side == 0 { &mut next.received } else { &mut next.done };
                to.extend(std::iter::from_fn(|| end.poll()));
                next.ends[1 - side] = save(end);
            }
            Act::Lose(side) => {
                next.budget.losses -= 1;
                next.wires[side].remove(0);
            }
            Act::Repeat(side) => {
                next.budget.repeats -= 1;
                let packet = next.wires[side][0].clone();
                next.wires[side].push(packet);
            }
            Act::Timeout => {
                let end = &mut self.ends[0];
                load(end, &world.ends[0]);
                // The end of an RNR wait does not count as early.
                let timeouts = end.counters().timeouts.get();
                next.now = world.now.max(world.ends[0].qps[0].timer);
                end.context(0, next.now).unwrap().on_timer();
                end.settle(0);
                next.done.extend(std::iter::from_fn(|| end.poll()));
                next.budget.timeouts =
                    world.budget.timeouts.saturating_sub((end.counters().timeouts.get() - timeouts) as u8);
                next.ends[0] = save(end);
            }
            Act::PostReceive => {
                let end = &mut self.ends[1];
                load(end, &world.ends[1]);
                let number = self.scenario.receives - world.receives;
                let (address, len) = (BASE + 1536 + 256 * u64::from(number), 256);
                let receive = Receive { id: number.into(), local: Local { key: self.keys[1], address, len } };
                end.post_receive(self.qpns[1], receive).unwrap();
                next.receives -= 1;
                next.ends[1] = save(end);
            }
        }
        next
    }

    /// Checks that each completion occurred once, in order, with the right bytes.
    fn check(&self, world: &World) {
        for (at, done) in world.done.iter().enumerate() {
            assert_eq!((done.id, done.status), (at as u64, Status::Success), "{done:?}");
            let ours = &world.ends[0].shared.regions.get(self.keys[0]).unwrap().memory;
            let range = 512 * at..512 * at + self.scenario.lens[at] as usize;
            assert_eq!(ours[range.clone()], self.expected[0][range], "request {at} completed with wrong bytes");
        }
        for (at, received) in world.received.iter().enumerate() {
            assert_eq!((received.id, received.status), (at as u64, Status::Success), "{received:?}");
        }
    }

    /// From here on nothing goes wrong: everything completes, and both memories are right. A state that leads to one in
    /// `good` is good, too.
    fn finish(&mut self, world: &World, good: &mut HashSet<u64>) {
        let mut world = world.clone();
        let mut way = Vec::new();
        for _ in 0..400 {
            // Recovery may need timeouts.
            world.budget = Budget { losses: 0, repeats: 0, overtakes: 0, timeouts: u8::MAX };
            let here = self.fingerprint(&world);
            if good.contains(&here) {
                good.extend(way);
                return;
            }
            way.push(here);
            let acts = self.acts(&world);
            let rank = |act: &Act| match act {
                Act::PostReceive => 0,
                Act::Deliver(..) => 1,
                Act::Send(_) => 2,
                _ => 3,
            };
            let Some(next) = acts.into_iter().min_by_key(rank) else { break };
            world = self.act(&world, next);
        }
        self.check(&world);
        assert_eq!(world.done.len(), 3, "not all completes");
        assert_eq!(world.received.len(), usize::from(self.scenario.receives));
        for (at, (end, &key)) in world.ends.iter().zip(&self.keys).enumerate() {
            let memory = &end.shared.regions.get(key).unwrap().memory;
            assert!(*memory == self.expected[at], "memory of end {at} is wrong");
        }
        good.extend(way);
    }

    /// Visits all states, and returns how many there are.
    fn explore(&mut self) -> usize {
        let start = self.start();
        let mut seen = HashSet::from([self.fingerprint(&start)]);
        let (mut open, mut good) = (vec![start], HashSet::new());
        while let Some(world) = open.pop() {
            self.check(&world);
            self.finish(&world, &mut good);
            for act in self.acts(&world) {
                let next = self.act(&world, act);
                assert!(seen.len() < 300_000, "too many");
                if seen.insert(self.fingerprint(&next)) {
                    open.push(next);
                }
            }
        }
        seen.len()
    }
}

const NOWHERE: Remote = Remote { address: 0, key: 0 };
const ADD: Op = Op::FetchAdd { remote: NOWHERE, add: 0x0102_0304_0506_0708 };
const SWAP: Op = Op::CompareSwap { remote: NOWHERE, compare: 0, swap: 0 };

/// Losses, repetitions, packets that overtake, early timeouts.
const BUDGETS: [[u8; 4]; 6] = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]];

fn explore(requests: [Op; 3], lens: [u32; 3], depth: u8, receives: u8, budgets: &[[u8; 4]]) {
    let mut visited = 0;
    for &[losses, repeats, overtakes, timeouts] in budgets {
        let budget = Budget { losses, repeats, overtakes, timeouts };
        // Whether somebody waits for an answer makes no difference to the states.
        let explore = |is_urgent| Scenario { requests, lens, depth, receives, budget, is_urgent };
        let states = Explorer::new(explore(false)).explore();
        if [losses, repeats, overtakes, timeouts] == budgets[0] {
            assert_eq!(Explorer::new(explore(true)).explore(), states);
        }
        println!("{requests:?}, {:?}: {states} states", [losses, repeats, overtakes, timeouts]);
        visited += states;
    }
    assert!(visited > 1000, "only {visited} states");
}

#[test]
fn a_write_of_two_packets_an_atomic_and_a_read() {
    explore([Op::Write(NOWHERE), ADD, Op::Read(NOWHERE)], [300, 8, 20], 2, 0, &BUDGETS);
}

#[test]
fn a_read_of_two_packets_a_write_and_an_atomic() {
    explore([Op::Read(NOWHERE), Op::Write(NOWHERE), SWAP], [300, 20, 8], 2, 0, &BUDGETS);
}

#[test]
fn atomics_with_one_outstanding() {
    explore([ADD, SWAP, ADD], [8, 8, 8], 1, 0, &[[3, 2, 2, 2]]);
}

#[test]
fn atomics_with_two_outstanding() {
    explore([SWAP, ADD, ADD], [8, 8, 8], 2, 0, &BUDGETS);
}

#[test]
fn sends_whose_receives_are_late() {
    explore([Op::Send, Op::Send, ADD], [100, 50, 8], 1, 2, &BUDGETS);
}
