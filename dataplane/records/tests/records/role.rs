//! Endpoints as roles: master and slave, and datagrams carried from one outbox to the other.

use frame::pool::chunk_for_data;
use frame::time::{MILLISECOND, SECOND};
use frame::{Burst, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time};
use records::{End, RecordCommand, RecordRole};
use transport::{
    Access, Config, Endpoint, Local, Op, PathId, Qpn, ReadyToReceive, ReadyToSend, Region, Remote, Status, Work,
};
use wire::rc::{IcrcSeed, PathMtu, Psn, RnrTimer};
use wire::record::FRAG_PUSH;
use wire::{HEADER_LEN, MsgType, Record, RecordHeader, Scale, Walk};

const MASTER: u16 = 1;
const SLAVE: u32 = 17;

fn gateway() -> Peer {
    Peer::socket(PortId(0), "10.0.0.1:9999".parse().unwrap())
}

struct Node {
    role: RecordRole<Vec<u8>>,
    out: Outbox,
    qpn: Qpn,
    key: u32,
}

impl Node {
    fn new(end: End, other: u32, mtu: u16) -> Self {
        let config = Config { paths: 64, ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0).unwrap();
        let fill = if matches!(end, End::Master(_)) { 0 } else { 0x5a };
        let memory: Vec<u8> = (0..1u32 << 18).map(|at| (at ^ at >> 8) as u8 ^ fill).collect();
        let region = Region { base: 0x1000, len: 1 << 18, access: Access::ALL, domain: 0, memory };
        let key = endpoint.register(0x1234_5600, region).unwrap();
        let qpn = endpoint.create(0x00ab_cd00, 0).unwrap();
        endpoint.init(qpn).unwrap();
        let mut role = RecordRole::new(endpoint, end, Scale::default(), config.paths).unwrap();
        let chunk = chunk_for_data(u32::from(mtu));
        let pool = PoolConfig { frames: 256, chunk, hugepages: Hugepages::Never, reserve: 0 };
        let mut out = Outbox::new(Pool::new(pool).unwrap(), 1);
        role.command(0, RecordCommand::Route { path: PathId(other), peer: gateway(), mtu }, &mut out);
        Self { role, out, qpn, key }
    }

    fn connect(&mut self, other: u32, peer: Qpn, mtu: PathMtu) {
        let path = PathId(other);
        let (psn, rnr_timer) = (Psn::new(0xff_fff0), RnrTimer::new(1));
        let receive = ReadyToReceive { path, peer, psn, mtu, read_depth: 128, rnr_timer };
        self.role.endpoint().ready_to_receive(self.qpn, &receive).unwrap();
        self.role.endpoint().ready_to_send(self.qpn, &ReadyToSend::usual(psn, 128)).unwrap();
    }

    /// The datagrams that it sends now.
    fn send(&mut self, now: Time) -> Vec<Datagram> {
        self.role.advance(now, &mut self.out);
        let queue = self.out.queue(PortId(0)).unwrap();
        let sent: Vec<Datagram> = std::iter::from_fn(|| queue.take()).collect();
        for datagram in &sent {
            let records = Walk::new(datagram.frame.data(), Scale::default()).filter(Result::is_ok).count();
            assert_eq!((datagram.peer, usize::from(datagram.records)), (gateway(), records));
        }
        sent
    }

    fn receive(&mut self, now: Time, from: Peer, bytes: &[u8]) {
        let mut burst = Burst::new();
        let mut frame = self.out.alloc().unwrap();
        assert!(frame.append(bytes));
        burst.push(Datagram::new(frame, from, frame::Class::Down, 0)).unwrap();
        self.role.receive(now, PortId(0), &mut burst, &mut self.out);
        assert!(burst.is_empty());
    }

    fn balance(&self) -> bool {
        let counters = self.role.counters();
        let dropped = [
            &counters.refused_source,
            &counters.dropped_not_ours,
            &counters.dropped_unknown_type,
            &counters.dropped_bad,
        ];
        counters.records_in.get() == counters.rc_records_in.get() + dropped.iter().map(|c| c.get()).sum::<u64>()
    }
}

fn pair(mtu: u16, path_mtu: PathMtu) -> (Node, Node) {
    let mut master = Node::new(End::Master(MASTER), SLAVE, mtu);
    let mut slave = Node::new(End::Slave(SLAVE), MASTER.into(), mtu);
    master.connect(SLAVE, slave.qpn, path_mtu);
    slave.connect(MASTER.into(), master.qpn, path_mtu);
    (master, slave)
}

fn carry(now: Time, sent: &[Datagram], to: &mut Node) {
    for datagram in sent {
        to.receive(now, gateway(), datagram.frame.data());
    }
}

fn read(node: &mut Node, other: u32, id: u64, len: u32) {
    let at = 0x1000 + id * u64::from(len);
    let local = Local { key: node.key, address: at, len };
    let remote = Remote { address: at, key: other };
    node.role.endpoint().post(node.qpn, Work { id, op: Op::Read(remote), local }).unwrap();
}

#[test]
fn requests_share_a_datagram_and_pages_arrive() {
    let (mut master, mut slave) = pair(1500, PathMtu::B1024);
    (0..30).for_each(|id| read(&mut master, slave.key, id, 1024));
    let asked = master.send(1000);
    // 55 bytes each in 1472.
    assert_eq!(asked.iter().map(|datagram| datagram.records).collect::<Vec<_>>(), [26, 4]);
    carry(2000, &asked, &mut slave);
    let answers = slave.send(2000);
    assert_eq!(answers.len(), 30);
    carry(3000, &answers, &mut master);
    for id in 0..30 {
        let completion = master.role.endpoint().poll().unwrap();
        assert_eq!((completion.id, completion.status, completion.len), (id, Status::Success, 1024));
    }
    let bytes = |node: &mut Node| node.role.endpoint().region(node.key).unwrap().memory[..30 * 1024].to_vec();
    let (key, slave_key) = (master.key, slave.key);
    assert_eq!((key, bytes(&mut master)), (slave_key, bytes(&mut slave)));
    assert!(master.balance() && slave.balance());
    drop((asked, answers));
    assert_eq!((master.out.pool().in_use(), slave.out.pool().in_use()), (0, 0));
}

#[test]
fn slaves_of_two_shards_share_no_datagram() {
    let scale = Scale::new(6, 4).unwrap();
    let config = Config { paths: 64, ..Config::default() };
    let mut endpoint = Endpoint::new(config, 0).unwrap();
    let region = Region { base: 0, len: 4096, access: Access::ALL, domain: 0, memory: vec![0; 4096] };
    let key = endpoint.register(0, region).unwrap();
    let mut role = RecordRole::new(endpoint, End::Master(MASTER), scale, config.paths).unwrap();
    let pool = PoolConfig { frames: 64, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(pool).unwrap(), 1);
    // Shard 1, shard 1, shard 2.
    for slave in [17, 18, 33] {
        let path = PathId(slave);
        role.command(0, RecordCommand::Route { path, peer: gateway(), mtu: 1500 }, &mut out);
        let qpn = role.endpoint().create(slave << 8, 0).unwrap();
        let (psn, mtu, rnr_timer) = (Psn::new(0), PathMtu::B1024, RnrTimer::new(1));
        let attributes = ReadyToReceive { path, peer: Qpn(5), psn, mtu, read_depth: 1, rnr_timer };
        role.endpoint().init(qpn).unwrap();
        role.endpoint().ready_to_receive(qpn, &attributes).unwrap();
        role.endpoint().ready_to_send(qpn, &ReadyToSend::usual(psn, 1)).unwrap();
        let local = Local { key, address: 0, len: 8 };
        role.endpoint().post(qpn, Work { id: 1, op: Op::Read(Remote { address: 0, key: 7 }), local }).unwrap();
    }
    role.advance(1000, &mut out);
    let queue = out.queue(PortId(0)).unwrap();
    let sent: Vec<u16> = std::iter::from_fn(|| queue.take()).map(|datagram| datagram.records).collect();
    assert_eq!(sent, [2, 1]);
}

#[test]
fn two_pages_share_a_jumbo_datagram() {
    let (mut master, mut slave) = pair(9000, PathMtu::B4096);
    (0..4).for_each(|id| read(&mut master, slave.key, id, 4096));
    let asked = master.send(1000);
    assert_eq!(asked.iter().map(|datagram| datagram.records).collect::<Vec<_>>(), [4]);
    carry(2000, &asked, &mut slave);
    let answers = slave.send(2000);
    assert_eq!(answers.iter().map(|datagram| datagram.records).collect::<Vec<_>>(), [2, 2]);
    carry(3000, &answers, &mut master);
    assert_eq!(master.role.endpoint().completions(), 4);
}

#[test]
fn a_record_of_another_slave_does_not_pass_as_ours() {
    let (mut master, mut slave) = pair(1500, PathMtu::B1024);
    read(&mut master, slave.key, 0, 100);
    let asked = master.send(1000);
    let mut bytes = asked[0].frame.data().to_vec();
    // The record is for slave 18, so not for us. With the id of slave 17 and the packet for 18 the ICRC would be wrong.
    bytes[6] = 18;
    slave.receive(2000, gateway(), &bytes);
    assert_eq!(slave.role.counters().dropped_not_ours.get(), 1);
    bytes[6] = 17;
    bytes[10] = 1;
    slave.receive(2000, gateway(), &bytes);
    assert_eq!(slave.role.endpoint().counters().rc_dropped_icrc.get(), 1);
    bytes[10] = 0;
    slave.receive(2000, Peer::socket(PortId(0), "10.0.0.2:9999".parse().unwrap()), &bytes);
    assert_eq!(slave.role.counters().refused_source.get(), 1);
    assert!(slave.send(2000).is_empty());
    // The record is accepted from another UDP port of the gateway, and from another gateway after that one is known.
    slave.receive(2000, Peer::socket(PortId(0), "10.0.0.1:50000".parse().unwrap()), &bytes);
    assert_eq!(slave.send(2000).len(), 1);
    let other = Peer::socket(PortId(0), "10.0.0.2:9999".parse().unwrap());
    slave.role.command(0, RecordCommand::Gateway(other), &mut slave.out);
    slave.receive(2000, other, &bytes);
    assert_eq!(slave.role.endpoint().counters().duplicates_in.get(), 1);
    assert!(slave.balance());
}

#[test]
fn other_records_are_counted() {
    let (mut master, _) = pair(1500, PathMtu::B1024);
    let mut bytes = vec![0; 100];
    let header = RecordHeader::new(MsgType::ECHO_REPLY, SLAVE, 1 << 48, 10);
    wire::record::emit(&header, &[0; 10], &mut bytes).unwrap();
    master.receive(1000, gateway(), &bytes);
    let header = RecordHeader::new(MsgType::RC, SLAVE, 1 << 48, 10).with_frag(1);
    wire::record::emit(&header, &[0; 10], &mut bytes).unwrap();
    master.receive(1000, gateway(), &bytes[..33]);
    let header = RecordHeader::new(MsgType::RC, 99, 1 << 48, 10);
    wire::record::emit(&header, &[0; 10], &mut bytes).unwrap();
    master.receive(1000, gateway(), &bytes[..33]);
    let counters = master.role.counters();
    assert_eq!(
        (counters.dropped_unknown_type.get(), counters.dropped_bad.get(), counters.dropped_not_ours.get()),
        (2, 1, 1)
    );
    assert!(master.balance());
}

#[test]
fn a_record_with_push_is_read_as_one_without_it() {
    let (mut master, mut slave) = pair(1500, PathMtu::B1024);
    read(&mut master, slave.key, 0, 100);
    let mut bytes = master.send(1000)[0].frame.data().to_vec();
    let (head, packet) = bytes.split_at_mut(HEADER_LEN);
    head[HEADER_LEN - 1] = FRAG_PUSH;
    // The ICRC covers the header.
    assert!(IcrcSeed::record(Record::header_of(head).unwrap()).seal(packet));
    slave.receive(2000, gateway(), &bytes);
    assert_eq!(slave.send(2000).len(), 1);
    assert!(slave.balance());
}

#[test]
fn without_a_route_requests_are_lost_until_there_is_one() {
    let (mut master, mut slave) = pair(1500, PathMtu::B1024);
    master.role.command(0, RecordCommand::NoRoute(PathId(SLAVE)), &mut master.out);
    read(&mut master, slave.key, 0, 100);
    assert!(master.send(SECOND).is_empty());
    assert_eq!(master.role.counters().rc_dropped_no_route.get(), 1);
    let due = master.role.deadline().unwrap();
    assert!(due > SECOND && due < SECOND + 10 * MILLISECOND);
    let route = RecordCommand::Route { path: PathId(SLAVE), peer: gateway(), mtu: 1500 };
    master.role.command(0, route, &mut master.out);
    let asked = master.send(SECOND + 10 * MILLISECOND);
    carry(SECOND + 10 * MILLISECOND, &asked, &mut slave);
    let answers = slave.send(SECOND + 10 * MILLISECOND);
    carry(SECOND + 10 * MILLISECOND, &answers, &mut master);
    assert_eq!(master.role.endpoint().completions(), 1);
}

#[test]
fn an_mtu_that_is_too_small_loses_and_says_so() {
    let (mut master, mut slave) = pair(1500, PathMtu::B1024);
    let route = RecordCommand::Route { path: PathId(MASTER.into()), peer: gateway(), mtu: 600 };
    slave.role.command(0, route, &mut slave.out);
    read(&mut master, slave.key, 0, 1024);
    let asked = master.send(1000);
    carry(2000, &asked, &mut slave);
    assert!(slave.send(2000).is_empty());
    assert_eq!(slave.role.counters().rc_dropped_too_large.get(), 1);
    assert_eq!(slave.out.pool().in_use(), 0);
}

#[test]
fn without_frames_sending_waits_and_loses_nothing() {
    let (mut master, mut slave) = pair(1500, PathMtu::B1024);
    let held: Vec<_> = std::iter::from_fn(|| master.out.alloc()).collect();
    read(&mut master, slave.key, 0, 100);
    assert!(master.send(1000).is_empty());
    assert_eq!((master.role.counters().rc_no_frame.get(), master.role.deadline()), (1, Some(1000)));
    drop(held);
    let asked = master.send(2000);
    assert_eq!(asked.len(), 1);
    carry(3000, &asked, &mut slave);
    assert_eq!(slave.send(3000).len(), 1);
    assert_eq!(slave.role.endpoint().counters().requests_in.get(), 1);
}

#[test]
fn a_longer_hold_is_waited_out() {
    let (mut master, slave) = pair(1500, PathMtu::B1024);
    master.role.command(0, RecordCommand::Hold(10 * MILLISECOND), &mut master.out);
    read(&mut master, slave.key, 0, 100);
    assert_eq!(master.send(SECOND).len(), 1);
    assert!(master.send(SECOND + 39 * MILLISECOND).is_empty());
    assert_eq!(master.send(SECOND + 41 * MILLISECOND).len(), 1);
}

#[test]
fn a_gone_peer_fails_its_queue_pairs_and_a_drained_role_is_done() {
    let (mut master, slave) = pair(1500, PathMtu::B1024);
    read(&mut master, slave.key, 0, 100);
    assert_eq!(master.send(1000).len(), 1);
    assert!(!master.role.is_drained());
    master.role.command(2000, RecordCommand::Gone(PathId(SLAVE)), &mut master.out);
    assert_eq!(master.role.endpoint().poll().unwrap().status, Status::RetryExcErr);
    master.role.command(2000, RecordCommand::Drain, &mut master.out);
    assert!(master.role.is_drained() && master.role.frames_held() == 0);
}
