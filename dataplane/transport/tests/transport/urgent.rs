//! Urgent queue pairs beside others: PUSH, turns, and their share of the windows.

use frame::Time;
use frame::time::MICROSECOND;
use transport::{
    Access, Arrival, Config, Endpoint, Error, Local, Op, PathId, Qpn, ReadyToReceive, ReadyToSend, Region, Remote,
    Room, Sink, Status, Work,
};
use wire::rc::{Bth, IcrcSeed, PathMtu, Psn, RnrTimer};

const MTU: PathMtu = PathMtu::B1024;
const URGENT: usize = 0;
const BULK: usize = 1;

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&wire::RecordHeader::new(wire::MsgType::RC, 17, 1 << 48, len as u32))
}

struct Sent {
    path: u32,
    push: bool,
    bytes: Vec<u8>,
}

impl Sent {
    fn to(&self) -> u32 {
        <Bth as zerocopy::FromBytes>::ref_from_prefix(&self.bytes).unwrap().0.destination()
    }
}

struct Packets {
    sent: Vec<Sent>,
    open: Sent,
    room: usize,
}

impl Packets {
    fn with_room(room: usize) -> Self {
        Self { sent: Vec::new(), open: Sent { path: 0, push: false, bytes: Vec::new() }, room }
    }
}

impl Sink for Packets {
    fn open(&mut self, path: PathId, len: usize, push: bool) -> Option<Room<'_>> {
        if self.sent.len() == self.room {
            return None;
        }
        self.open = Sent { path: path.0, push, bytes: vec![0; len] };
        Some(Room { bytes: &mut self.open.bytes, seed: seed(len) })
    }

    fn close(&mut self) {
        let next = Sent { path: 0, push: false, bytes: Vec::new() };
        self.sent.push(std::mem::replace(&mut self.open, next));
    }
}

struct Side {
    endpoint: Endpoint<Vec<u8>>,
    key: u32,
    /// The urgent and the bulk queue pair of each path.
    qps: Vec<[Qpn; 2]>,
    now: Time,
}

impl Side {
    fn new(config: Config) -> Self {
        let mut endpoint = Endpoint::new(config, 0).unwrap();
        let region = Region { base: 0, len: 4 << 20, access: Access::ALL, domain: 1, memory: vec![7; 4 << 20] };
        let key = endpoint.register(0x7777_7700, region).unwrap();
        let mut make = |random: u32, is_urgent: bool| {
            let qpn = endpoint.create(random << 8, 1).unwrap();
            if is_urgent {
                endpoint.make_urgent(qpn).unwrap();
            }
            endpoint.init(qpn).unwrap();
            qpn
        };
        let qps = (0..config.paths).map(|path| [make(2 * path + 1, true), make(2 * path + 2, false)]).collect();
        Self { endpoint, key, qps, now: MICROSECOND }
    }

    fn connect(&mut self, peers: &[[Qpn; 2]]) {
        for (path, (ours, theirs)) in self.qps.clone().iter().zip(peers).enumerate() {
            for (&qpn, &peer) in ours.iter().zip(theirs) {
                let (path, psn, rnr_timer) = (PathId(path as u32), Psn::new(0), RnrTimer::new(1));
                let receive = ReadyToReceive { path, peer, psn, mtu: MTU, read_depth: 128, rnr_timer };
                self.endpoint.ready_to_receive(qpn, &receive).unwrap();
                self.endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, 128)).unwrap();
            }
        }
    }

    fn post(&mut self, path: usize, class: usize, id: u64, op: fn(Remote) -> Op, len: u32, key: u32) {
        let local = Local { key: self.key, address: 0, len };
        let work = Work { id, op: op(Remote { address: 0, key }), local };
        self.endpoint.post(self.qps[path][class], work).unwrap();
    }

    fn send(&mut self, room: usize) -> Vec<Sent> {
        let mut packets = Packets::with_room(room);
        self.endpoint.transmit(self.now, &mut packets);
        packets.sent
    }

    fn receive(&mut self, packets: &[Sent]) {
        for Sent { path, bytes, .. } in packets {
            let arrival = Arrival { path: PathId(*path), ce: false, seed: seed(bytes.len()), bytes };
            self.endpoint.receive(self.now, &arrival);
        }
    }
}

fn pair(config: Config) -> (Side, Side) {
    let (mut a, mut b) = (Side::new(config), Side::new(config));
    a.connect(&b.qps);
    b.connect(&a.qps);
    (a, b)
}

fn config(paths: u32) -> Config {
    Config { queue_pairs: 2 * paths, paths, replays: 256 * paths, ..Config::default() }
}

fn pushes(packets: &[Sent]) -> Vec<bool> {
    packets.iter().map(|packet| packet.push).collect()
}

#[test]
fn demand_requests_and_the_ends_of_their_answers_carry_push_and_bulk_never() {
    for (class, push) in [(URGENT, true), (BULK, false)] {
        let (mut a, mut b) = pair(config(1));
        // One packet asks, and three answer.
        a.post(0, class, 1, Op::Read, 3000, b.key);
        let asked = a.send(100);
        assert_eq!(pushes(&asked), [push]);
        b.receive(&asked);
        let answers = b.send(100);
        assert_eq!(pushes(&answers), [false, false, push]);
        a.receive(&answers);
        // Three packets write, and one acknowledges.
        a.post(0, class, 2, Op::Write, 3000, b.key);
        let written = a.send(100);
        assert_eq!(pushes(&written), [false, false, push]);
        b.receive(&written);
        let acks = b.send(100);
        assert_eq!(pushes(&acks), [push]);
        a.receive(&acks);
        // A word is asked for and answered by one packet each.
        a.post(0, class, 3, |remote| Op::FetchAdd { remote, add: 1 }, 8, b.key);
        let asked = a.send(100);
        b.receive(&asked);
        assert_eq!((pushes(&asked), pushes(&b.send(100))), (vec![push], vec![push]));
        let done: Vec<_> = std::iter::from_fn(|| a.endpoint.poll()).map(|done| (done.id, done.status)).collect();
        assert_eq!(done, [(1, Status::Success), (2, Status::Success)]);
    }
}

#[test]
fn a_refusal_of_a_demand_request_carries_push_too() {
    let (mut a, mut b) = pair(config(1));
    a.post(0, URGENT, 1, Op::Read, 100, b.key ^ 0x100);
    let asked = a.send(100);
    b.receive(&asked);
    assert_eq!(pushes(&b.send(100)), [true]);
}

/// So many bulk requests that a window is full, of this path.
fn fill(a: &mut Side, path: usize, op: fn(Remote) -> Op, len: u32, key: u32) -> Vec<Sent> {
    (0..40).for_each(|id| a.post(path, BULK, id, op, len, key));
    let sent = a.send(10_000);
    assert!(a.endpoint.counters().window_waits.get() > 0, "a window is full");
    assert!(sent.iter().all(|packet| !packet.push));
    sent
}

#[test]
fn a_bulk_stream_does_not_fill_what_a_demand_read_needs() {
    // WRITEs that fill the window, and READs each of which is larger than the first window.
    for (op, len) in [(Op::Write as fn(Remote) -> Op, 64 << 10), (Op::Read, 1 << 20)] {
        for window in [8_392, 64 << 10, 1 << 20] {
            let (mut a, b) = pair(Config { path_window: window, ..config(1) });
            fill(&mut a, 0, op, len, b.key);
            a.post(0, URGENT, 99, Op::Read, 4096, b.key);
            let sent = a.send(10_000);
            let to = b.qps[0][URGENT].0;
            assert!(sent.iter().any(|packet| packet.to() == to && packet.push), "window {window}");
        }
    }
}

#[test]
fn nor_what_a_demand_read_of_another_peer_needs_in_total() {
    let (mut a, b) = pair(Config { total_window: 100_000, ..config(40) });
    for path in 0..39 {
        a.post(path, BULK, 1, Op::Write, 64 << 10, b.key);
    }
    a.send(10_000);
    assert!(a.endpoint.counters().bytes_in_flight.get() > 80_000);
    a.post(39, URGENT, 99, Op::Read, 4096, b.key);
    assert!(a.send(10_000).iter().any(|packet| packet.to() == b.qps[39][URGENT].0));
}

#[test]
fn a_window_without_urgent_queue_pairs_is_used_whole() {
    let most = |with_urgent: bool| {
        let (mut a, b) = pair(Config { total_window: 64 << 10, ..config(1) });
        if !with_urgent {
            a.endpoint.destroy(0, a.qps[0][URGENT]).unwrap();
        }
        fill(&mut a, 0, Op::Write, 64 << 10, b.key);
        a.endpoint.counters().bytes_in_flight.get()
    };
    let (with, without) = (most(true), most(false));
    assert!(with <= (64 << 10) / 8 * 7 && with > (64 << 10) / 8 * 7 - 1124, "{with}");
    assert!(without > (64 << 10) - 1124, "{without}");
}

#[test]
fn urgent_packets_leave_first_and_others_have_a_turn_in_eight() {
    let (mut a, b) = pair(config(1));
    (0..30).for_each(|id| a.post(0, BULK, id, Op::Write, 1024, b.key));
    a.post(0, URGENT, 99, Op::Read, 4096, b.key);
    // A port with room for one packet.
    let first = a.send(1);
    assert_eq!(first[0].to(), b.qps[0][URGENT].0);
    // A flood of demand requests, 16 packets a turn: of 8 turns one is for others.
    (0..400).for_each(|id| a.post(0, URGENT, id, Op::Read, 1, b.key));
    let mut others = 0;
    let mut packets = 0;
    while packets < 256 {
        let sent = a.send(1);
        let Some(packet) = sent.first() else { break };
        others += usize::from(packet.to() == b.qps[0][BULK].0);
        packets += 1;
    }
    assert!(others >= packets / 16, "{others} of {packets}");
}

#[test]
fn nobody_waits_for_ever_while_both_kinds_send_all_they_can() {
    let (mut a, mut b) = pair(Config { path_window: 16 << 10, total_window: 16 << 10, ..config(2) });
    let (mut posted, mut done) = ([0_u64; 4], [0_u64; 4]);
    for _ in 0..3_000 {
        a.now += 20 * MICROSECOND;
        b.now = a.now;
        for path in 0..2 {
            for class in 0..2 {
                let at = 2 * path + class;
                while posted[at] - done[at] < 20 {
                    let op = if posted[at].is_multiple_of(3) { Op::Write as fn(Remote) -> Op } else { Op::Read };
                    a.post(path, class, at as u64, op, 4096, b.key);
                    posted[at] += 1;
                }
            }
        }
        let sent = a.send(8);
        b.receive(&sent);
        let answers = b.send(8);
        a.receive(&answers);
        a.endpoint.advance(a.now);
        while let Some(completion) = a.endpoint.poll() {
            assert_eq!(completion.status, Status::Success);
            done[completion.id as usize] += 1;
        }
    }
    assert!(done.iter().all(|&done| done > 100), "{done:?}");
}

#[test]
fn a_queue_pair_becomes_urgent_before_it_is_connected_and_until_it_is_reset() {
    let (mut a, b) = pair(config(1));
    let [urgent, bulk] = a.qps[0];
    assert_eq!(a.endpoint.make_urgent(bulk), Err(Error::State));
    assert_eq!(a.endpoint.make_urgent(Qpn(0x99_9999)), Err(Error::NoSuchQp));
    a.endpoint.reset(a.now, urgent).unwrap();
    a.endpoint.init(urgent).unwrap();
    let (psn, rnr_timer) = (Psn::new(0), RnrTimer::new(1));
    let receive = ReadyToReceive { path: PathId(0), peer: b.qps[0][0], psn, mtu: MTU, read_depth: 1, rnr_timer };
    a.endpoint.ready_to_receive(urgent, &receive).unwrap();
    a.endpoint.ready_to_send(urgent, &ReadyToSend::usual(psn, 1)).unwrap();
    a.post(0, URGENT, 1, Op::Read, 100, b.key);
    assert_eq!(pushes(&a.send(10)), [false]);
}
