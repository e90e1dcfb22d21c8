//! Many queue pairs of one endpoint: numbers, states, limits, and the order in which they wait.

use frame::Time;
use transport::{
    Access, Arrival, Config, Endpoint, Error, Local, Op, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Receive,
    Region, Remote, Room, Sink, State, Status, Work,
};
use wire::rc::{IcrcSeed, PathMtu, Psn, RnrTimer};

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&wire::RecordHeader::new(wire::MsgType::RC, 17, 1 << 48, len as u32))
}

#[derive(Default)]
struct Packets {
    open: (u32, Vec<u8>),
    sent: Vec<(u32, Vec<u8>)>,
}

impl Sink for Packets {
    fn open(&mut self, path: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        self.open = (path.0, vec![0xee; len]);
        Some(Room { bytes: &mut self.open.1, seed: seed(len) })
    }

    fn close(&mut self) {
        self.sent.push(std::mem::take(&mut self.open));
    }
}

struct Side {
    endpoint: Endpoint<Vec<u8>>,
    key: u32,
    qps: Vec<Qpn>,
}

fn side(config: Config, qps: u32, fill: u8) -> Side {
    let mut endpoint = Endpoint::new(config, 0).unwrap();
    let memory = vec![fill; 1 << 16];
    let region = Region { base: 0, len: 1 << 16, access: Access::ALL, domain: 1, memory };
    let key = endpoint.register(0x7777_7700, region).unwrap();
    let made = (0..qps).map(|number| endpoint.create(number.wrapping_mul(0x9E37_79B9), 1).unwrap());
    let qps = made.collect();
    Side { endpoint, key, qps }
}

fn receive_attributes(path: u32, peer: Qpn) -> ReadyToReceive {
    let (psn, mtu, rnr_timer) = (Psn::new(0), PathMtu::B4096, RnrTimer::new(1));
    ReadyToReceive { path: PathId(path), peer, psn, mtu, read_depth: 16, rnr_timer }
}

fn connect(side: &mut Side, peers: &[Qpn]) {
    for (path, (&qpn, &peer)) in side.qps.iter().zip(peers).enumerate() {
        side.endpoint.init(qpn).unwrap();
        side.endpoint.ready_to_receive(qpn, &receive_attributes(path as u32, peer)).unwrap();
        side.endpoint.ready_to_send(qpn, &ReadyToSend::usual(Psn::new(0), 16)).unwrap();
    }
}

fn pair(config: Config, qps: u32) -> (Side, Side) {
    let (mut a, mut b) = (side(config, qps, 0), side(config, qps, 9));
    connect(&mut a, &b.qps);
    connect(&mut b, &a.qps);
    (a, b)
}

/// Carries packets both ways until neither side sends any more.
fn carry(now: Time, a: &mut Side, b: &mut Side) {
    loop {
        let (mut to_b, mut to_a) = (Packets::default(), Packets::default());
        let moved = a.endpoint.transmit(now, &mut to_b) + b.endpoint.transmit(now, &mut to_a);
        for (packets, to) in [(to_b, &mut *b), (to_a, &mut *a)] {
            for (path, bytes) in packets.sent {
                let arrival = Arrival { path: PathId(path), ce: false, seed: seed(bytes.len()), bytes: &bytes };
                to.endpoint.receive(now, &arrival);
            }
        }
        if moved == 0 {
            return;
        }
    }
}

fn read(side: &mut Side, at: usize, rkey: u32) {
    let (qpn, address) = (side.qps[at], at as u64 * 1024);
    let local = Local { key: side.key, address, len: 1024 };
    let work = Work { id: at as u64, op: Op::Read(Remote { address, key: rkey }), local };
    side.endpoint.post(qpn, work).unwrap();
}

#[test]
fn who_waits_for_room_is_woken_also_behind_those_that_failed() {
    let config = Config { total_window: 1, replays: 1 << 16, ..Config::default() };
    let (mut a, mut b) = pair(config, 60);
    (0..60).for_each(|at| read(&mut a, at, b.key));
    // The first requests are under way, and all others wait.
    let mut lost = Packets::default();
    let sent = a.endpoint.transmit(1000, &mut lost);
    assert_eq!((sent, a.endpoint.counters().window_waits.get()), (7, 53));
    for at in 10..50 {
        a.endpoint.fail(2000, a.qps[at]).unwrap();
    }
    let mut flushed = 0;
    while let Some(completion) = a.endpoint.poll() {
        assert_eq!(completion.status, Status::WrFlushErr);
        flushed += 1;
    }
    assert_eq!(flushed, 40);
    // No answer to the first requests came. The timers ask again, and then all requests end.
    let mut now = 10_000_000;
    let mut done = Vec::new();
    while done.len() < 20 {
        a.endpoint.advance(now);
        carry(now, &mut a, &mut b);
        while let Some(completion) = a.endpoint.poll() {
            assert_eq!(completion.status, Status::Success);
            done.push(completion.id);
        }
        now += 1_000_000;
        assert!(now < 1_000_000_000, "{done:?}");
    }
    done.sort_unstable();
    assert_eq!(done, (0..10).chain(50..60).collect::<Vec<u64>>());
    assert_eq!(a.endpoint.counters().bytes_in_flight.get(), 0);
}

#[test]
fn queue_pairs_take_turns() {
    let (mut a, mut b) = pair(Config { replays: 1 << 16, ..Config::default() }, 2);
    for _ in 0..16 {
        (0..2).for_each(|at| read(&mut a, at, b.key));
    }
    let long = Local { key: a.key, address: 0, len: 1 << 16 };
    let work = |id| Work { id, op: Op::Write(Remote { address: 0, key: b.key }), local: long };
    (0..2).for_each(|at| a.endpoint.post(a.qps[at], work(99)).unwrap());
    let mut packets = Packets::default();
    a.endpoint.transmit(1000, &mut packets);
    let turns: Vec<u32> = packets.sent.iter().map(|(path, _)| *path).collect();
    assert_eq!(turns[..32], [[0; 16], [1; 16]].concat());
    carry(2000, &mut a, &mut b);
}

#[test]
fn a_number_is_not_reached_after_its_queue_pair_ended() {
    let (mut a, mut b) = pair(Config { replays: 1 << 16, ..Config::default() }, 3);
    read(&mut a, 1, b.key);
    let mut packets = Packets::default();
    a.endpoint.transmit(1000, &mut packets);
    let old = b.qps[1];
    b.endpoint.destroy(1000, old).unwrap();
    assert_eq!((b.endpoint.state(old), b.endpoint.destroy(1000, old)), (None, Err(Error::NoSuchQp)));
    let again = b.endpoint.create(0x00c0_ffee, 1).unwrap();
    assert_ne!(again, old);
    let (path, bytes) = &packets.sent[0];
    let arrival = Arrival { path: PathId(*path), ce: false, seed: seed(bytes.len()), bytes };
    b.endpoint.receive(2000, &arrival);
    assert_eq!(b.endpoint.counters().rc_dropped_no_qp.get(), 1);
    assert_eq!(b.endpoint.counters().qps.get(), 3);
}

#[test]
fn a_reset_queue_pair_holds_nothing_and_can_be_connected_again() {
    let config = Config { replays: 32, work: 20, receives: 4, ..Config::default() };
    let (mut a, mut b) = pair(config, 2);
    for _ in 0..20 {
        read(&mut a, 0, b.key);
    }
    assert_eq!(a.endpoint.free_work(), 0);
    let receive = Receive { id: 1, local: Local { key: a.key, address: 0, len: 8 } };
    a.endpoint.post_receive(a.qps[0], receive).unwrap();
    a.endpoint.transmit(1000, &mut Packets::default());
    assert!(a.endpoint.counters().bytes_in_flight.get() > 0);
    a.endpoint.reset(2000, a.qps[0]).unwrap();
    assert_eq!((a.endpoint.free_work(), a.endpoint.poll(), a.endpoint.state(a.qps[0])), (20, None, Some(State::Reset)));
    assert_eq!(a.endpoint.counters().bytes_in_flight.get(), 0);
    a.endpoint.advance(1_000_000_000);
    assert_eq!(a.endpoint.transmit(1_000_000_000, &mut Packets::default()), 0);
    b.endpoint.reset(2000, b.qps[0]).unwrap();
    let only = |side: &mut Side, peer: Qpn| {
        let qpn = side.qps[0];
        side.endpoint.init(qpn).unwrap();
        side.endpoint.ready_to_receive(qpn, &receive_attributes(0, peer)).unwrap();
        side.endpoint.ready_to_send(qpn, &ReadyToSend::usual(Psn::new(0), 16)).unwrap();
    };
    only(&mut a, b.qps[0]);
    only(&mut b, a.qps[0]);
    read(&mut a, 0, b.key);
    carry(1_000_000_000, &mut a, &mut b);
    assert_eq!(a.endpoint.poll().map(|completion| completion.status), Some(Status::Success));
}

#[test]
fn states_are_gone_through_in_order() {
    let mut a = side(Config::default(), 1, 0);
    let qpn = a.qps[0];
    let local = Local { key: a.key, address: 0, len: 8 };
    let work = Work { id: 1, op: Op::Send, local };
    let receive = Receive { id: 1, local };
    let (to_receive, to_send) = (receive_attributes(0, qpn), ReadyToSend::usual(Psn::new(0), 1));
    assert_eq!(a.endpoint.state(qpn), Some(State::Reset));
    assert_eq!(a.endpoint.post_receive(qpn, receive), Err(Error::State));
    assert_eq!(a.endpoint.ready_to_receive(qpn, &to_receive), Err(Error::State));
    a.endpoint.init(qpn).unwrap();
    assert_eq!((a.endpoint.state(qpn), a.endpoint.init(qpn)), (Some(State::Init), Err(Error::State)));
    a.endpoint.post_receive(qpn, receive).unwrap();
    assert_eq!(a.endpoint.post(qpn, work), Err(Error::State));
    assert_eq!(a.endpoint.ready_to_send(qpn, &to_send), Err(Error::State));
    a.endpoint.ready_to_receive(qpn, &to_receive).unwrap();
    assert_eq!((a.endpoint.state(qpn), a.endpoint.post(qpn, work)), (Some(State::Rtr), Err(Error::State)));
    a.endpoint.ready_to_send(qpn, &to_send).unwrap();
    assert_eq!((a.endpoint.state(qpn), a.endpoint.post(qpn, work)), (Some(State::Rts), Ok(())));
    assert_eq!(a.endpoint.set_path(PathId(0), PeerKind::Roce), Err(Error::State));
    a.endpoint.fail(0, qpn).unwrap();
    assert_eq!(a.endpoint.state(qpn), Some(State::Error));
    assert_eq!(a.endpoint.completions(), 2);
    a.endpoint.reset(0, qpn).unwrap();
    assert_eq!(a.endpoint.set_path(PathId(0), PeerKind::Roce), Ok(()));
    // A queue pair that was never connected flushes its receives, too.
    a.endpoint.init(qpn).unwrap();
    a.endpoint.post_receive(qpn, receive).unwrap();
    a.endpoint.fail(0, qpn).unwrap();
    assert_eq!(a.endpoint.completions(), 3);
}

#[test]
fn limits_are_kept_and_named() {
    let config = Config { queue_pairs: 2, paths: 1, replays: 20, completions: 2, queue_depth: 1, ..Config::default() };
    let mut a = side(config, 2, 0);
    assert_eq!(a.endpoint.create(0, 1), Err(Error::NoQp));
    let [one, two] = a.qps[..] else { panic!("two queue pairs") };
    a.endpoint.init(one).unwrap();
    a.endpoint.init(two).unwrap();
    assert_eq!(a.endpoint.ready_to_receive(one, &receive_attributes(1, two)), Err(Error::NoSuchPath));
    a.endpoint.ready_to_receive(one, &receive_attributes(0, two)).unwrap();
    assert_eq!(a.endpoint.ready_to_receive(two, &receive_attributes(0, one)), Err(Error::NoReplays));
    let receive = Receive { id: 1, local: Local { key: a.key, address: 0, len: 8 } };
    a.endpoint.post_receive(one, receive).unwrap();
    assert_eq!(a.endpoint.post_receive(one, receive), Err(Error::QueueFull));
    a.endpoint.post_receive(two, receive).unwrap();
    a.endpoint.reset(0, one).unwrap();
    // Its reserved READs are free again, and so is the place of its completion.
    a.endpoint.ready_to_receive(two, &receive_attributes(0, one)).unwrap();
    a.endpoint.init(one).unwrap();
    a.endpoint.post_receive(one, receive).unwrap();
    a.endpoint.fail(0, one).unwrap();
    assert_eq!(a.endpoint.post_receive(one, receive), Err(Error::CompletionsFull));
    assert!(a.endpoint.poll().is_some());
    assert_eq!(a.endpoint.post_receive(one, receive), Ok(()));
    assert_eq!(a.endpoint.init(Qpn(0)), Err(Error::NoSuchQp));
}

#[test]
fn one_gone_peer_fails_its_own_queue_pairs_alone() {
    let mut a = side(Config { replays: 1 << 16, ..Config::default() }, 6, 0);
    for (at, &qpn) in a.qps.iter().enumerate() {
        a.endpoint.init(qpn).unwrap();
        a.endpoint.ready_to_receive(qpn, &receive_attributes(at as u32 % 2, Qpn(5))).unwrap();
    }
    // Removes queue pairs from the middle and from the end of the path's list.
    a.endpoint.destroy(0, a.qps[2]).unwrap();
    a.endpoint.destroy(0, a.qps[1]).unwrap();
    a.endpoint.peer_gone(0, PathId(0));
    let states: Vec<_> = a.qps.iter().map(|&qpn| a.endpoint.state(qpn)).collect();
    let (failed, fine) = (Some(State::Error), Some(State::Rtr));
    assert_eq!(states, [failed, None, None, fine, failed, fine]);
    a.endpoint.peer_gone(0, PathId(77));
}

#[test]
fn an_idle_queue_pair_costs_no_more_than_was_promised() {
    eprintln!("{} bytes for each queue pair", transport::BYTES_PER_IDLE_QP);
    let slabs = Config { work: 0, receives: 0, replays: 0, completions: 0, regions: 0, ..Config::default() };
    let mut endpoint = Endpoint::<Vec<u8>>::new(Config { queue_pairs: 131_072, paths: 131_072, ..slabs }, 0).unwrap();
    let made: std::collections::HashSet<u32> =
        std::iter::from_fn(|| endpoint.create(0x00ff_ffff, 1).ok().map(|qpn| qpn.0)).collect();
    assert_eq!(made.len(), 131_072);
}
