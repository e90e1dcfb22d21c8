//! A farm on a virtual clock, and a gateway that has only the parts that a farm can see.

use frame::time::{MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time};
use proptest::prelude::*;
use slave::{Farm, FarmCommand, FarmConfig, FarmError, FarmEvent, Ids, IdsError, TrafficConfig};
use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::{Arc, Mutex};
use wire::link::{Cookie, CookieFault, Heartbeat, HeartbeatAck, ShardRange};
use wire::record::{RecordHeader, emit, req_id};
use wire::{HEADER_LEN, MsgType, Record, Scale, Walk, echo};

const COOKIE: Cookie = Cookie([0xc0; Cookie::LEN]);

fn peer(address: &str) -> Peer {
    Peer::socket(PortId(0), address.parse().unwrap())
}

fn gateway() -> Peer {
    peer("10.0.0.1:9999")
}

fn ids(first: u32, count: u32) -> Ids {
    Ids::range(Scale::default(), first, count).unwrap()
}

/// A farm, its outbox, and its messages to the operator.
struct Rig {
    farm: Farm,
    out: Outbox,
    now: Time,
    told: Arc<Mutex<Vec<FarmEvent>>>,
}

impl Rig {
    fn new(config: FarmConfig) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        let farm = Farm::new(config, 0, move |event| listener.lock().unwrap().push(event)).unwrap();
        let pool = PoolConfig { frames: 2048, hugepages: Hugepages::Never, ..PoolConfig::default() };
        Self { farm, out: Outbox::new(Pool::new(pool).unwrap(), 1), now: 0, told }
    }

    fn deliver(&mut self, from: Peer, bytes: &[u8]) {
        let mut burst = Burst::new();
        let mut frame = self.out.alloc().unwrap();
        assert!(frame.append(bytes));
        burst.push(Datagram::new(frame, from, Class::Link, 0)).unwrap();
        self.farm.receive(self.now, PortId(0), &mut burst, &mut self.out);
        assert!(burst.is_empty());
    }

    /// The datagrams that the farm sends: destination, class and bytes.
    fn sent(&mut self) -> Vec<(Peer, Class, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(datagram) = self.out.queue(PortId(0)).unwrap().take() {
            let records = Walk::new(datagram.frame.data(), Scale::default()).filter(Result::is_ok).count();
            assert_eq!(records, usize::from(datagram.records));
            sent.push((datagram.peer, datagram.class, datagram.frame.data().to_vec()));
        }
        sent
    }

    fn poll(&mut self) -> Vec<(Peer, Class, Vec<u8>)> {
        self.farm.advance(self.now, &mut self.out);
        self.sent()
    }
}

fn heartbeats(bytes: &[u8]) -> Vec<Heartbeat> {
    Walk::new(bytes, Scale::default()).map(|item| Heartbeat::parse(&item.unwrap().1).unwrap()).collect()
}

/// Answers as a gateway does. A stranger gets a cookie; a slave that sends the cookie back is registered.
pub(crate) fn answer(heartbeat: &Heartbeat) -> Vec<u8> {
    answer_with(heartbeat, 1280)
}

/// A slave that sends the cookie back gets this MTU, or the larger one that it proves now.
fn answer_with(heartbeat: &Heartbeat, mtu: u16) -> Vec<u8> {
    let registered = heartbeat.cookie == COOKIE;
    let ack = HeartbeatAck {
        node: heartbeat.node,
        draining: false,
        duplicate_id: false,
        registered,
        newer_key: false,
        lanes: false,
        slave_bits: 17,
        gw_bits: 13,
        mtu: if registered && heartbeat.padded { heartbeat.max_ip_packet } else { mtu },
        seq: heartbeat.seq,
        challenge: heartbeat.challenge,
        cookie: COOKIE,
        gateway_epoch: 7,
        hold_ns: 50_000,
        cookie_fault: (!registered).then_some(CookieFault::Unknown),
        ranges: [ShardRange { first: 0, last: 15 }].into_iter().collect(),
    };
    let mut out = vec![0; ack.record_len()];
    assert_eq!(ack.emit(None, &mut out), Some(out.len()));
    out
}

/// Runs farm and gateway for this time. Returns the numbers of heartbeats and of datagrams in each interval of 10 ms.
fn run(rig: &mut Rig, time: u64) -> Vec<(usize, usize)> {
    let (end, mut seen) = (rig.now + time, Vec::new());
    while rig.now < end {
        let (mut count, mut datagrams) = (0, 0);
        for _ in 0..10 {
            for (to, class, bytes) in rig.poll() {
                assert_eq!((to, class), (gateway(), Class::Link));
                datagrams += 1;
                for heartbeat in heartbeats(&bytes) {
                    count += 1;
                    rig.deliver(gateway(), &answer(&heartbeat));
                }
            }
            rig.now += MILLISECOND;
        }
        seen.push((count, datagrams));
    }
    seen
}

fn pattern(id: u32, sequence: u64) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN + 64];
    let header = RecordHeader::new(MsgType::PATTERN, id, req_id(1, 5), 64);
    echo::emit(&header, &echo::EchoHeader::new(0, sequence), &mut out).unwrap();
    out
}

fn record(msg_type: MsgType, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN + payload.len()];
    emit(&RecordHeader::new(msg_type, id, req_id(1, 9), payload.len() as u32), payload, &mut out).unwrap();
    out
}

#[test]
fn heartbeats_of_a_small_mtu_are_packed_into_small_datagrams() {
    let mut config = FarmConfig::new(gateway(), ids(0, 23));
    config.node.max_ip_packet = 576;
    let sizes: Vec<usize> = Rig::new(config).poll().iter().map(|(_, _, bytes)| bytes.len()).collect();
    assert!(sizes.iter().all(|len| len + 28 <= 576), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 23 * Heartbeat::RECORD_LEN);
}

#[test]
fn a_slave_registers_and_says_so() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(17, 1)));
    let first = rig.poll();
    assert_eq!(first.len(), 1);
    let heartbeat = heartbeats(&first[0].2)[0];
    assert_eq!((heartbeat.node.id, heartbeat.seq, heartbeat.cookie), (17, 1, Cookie::NONE));
    run(&mut rig, SECOND);
    // The first answer is lost with the first poll above; later ones register.
    run(&mut rig, SECOND);
    assert_eq!(rig.farm.registered(), 1);
    let told = rig.told.lock().unwrap();
    assert_eq!(told[0].to_string(), "slave 17, gateway 10.0.0.1:9999: registered: hold 50 us, MTU 1280");
    assert!(told.iter().any(|event| event.to_string().ends_with("packets of 1500 bytes get through")), "{told:?}");
}

#[test]
fn a_farm_registers_in_packed_datagrams_and_then_spreads_its_heartbeats() {
    let mut config = FarmConfig::new(gateway(), ids(0, 8_192));
    config.node.max_ip_packet = 1280;
    let mut rig = Rig::new(config);
    let start = run(&mut rig, SECOND / 4);
    assert_eq!(rig.farm.registered(), 8_192);
    let (sum, datagrams) = start.iter().fold((0, 0), |(a, b), &(c, d)| (a + c, b + d));
    // Two heartbeats each, for the cookie; 8 of 151 bytes fit in 1252.
    assert!(sum == 2 * 8_192 && datagrams <= sum / 7, "{sum} in {datagrams}");
    run(&mut rig, 3 * SECOND);
    for (count, datagrams) in run(&mut rig, 3 * SECOND) {
        // On average 82 heartbeats come in 10 ms.
        assert!((60..=105).contains(&count) && datagrams <= 20, "{count} in {datagrams}");
    }
    assert_eq!(rig.farm.registered(), 8_192);
    assert_eq!(rig.farm.counters().acks_refused.get(), 0);
    assert!(rig.farm.counters().balance());
    assert_eq!(rig.out.pool().in_use(), 0);
}

#[test]
fn larger_packets_are_proven_a_few_at_a_time() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(0, 2_000)));
    let (mut padded, mut mtus) = (0, [1280; 2_000]);
    let mut end = 30 * SECOND;
    while rig.now < end {
        let mut now = 0;
        for (_, _, bytes) in rig.poll() {
            for heartbeat in heartbeats(&bytes) {
                assert!(!heartbeat.padded || bytes.len() == 1472, "a padded heartbeat is alone and full");
                let mtu = &mut mtus[heartbeat.node.id as usize];
                if heartbeat.padded {
                    now += 1;
                    *mtu = 1500;
                }
                rig.deliver(gateway(), &answer_with(&heartbeat, *mtu));
            }
        }
        assert!(now <= 1, "{now} at once");
        if padded < 2_000 && padded + now == 2_000 {
            // The proven MTU is reported, and no other size is tried.
            end = rig.now + 2 * SECOND;
        }
        padded += now;
        rig.now += MILLISECOND;
    }
    assert_eq!((rig.farm.registered(), padded), (2_000, 2_000));
    let proven: u32 = {
        let told = rig.told.lock().unwrap();
        told.iter().filter(|event| event.event.to_string().contains("get through")).map(|event| event.count).sum()
    };
    assert_eq!(proven, 2_000);
}

#[test]
fn slaves_that_take_less_say_so_and_send_less_at_once() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(0, 3)));
    let (burst, pack) = (NonZeroU32::new(16).unwrap(), NonZeroU16::new(16).unwrap());
    let traffic = TrafficConfig { master: 1, payload: 64, rate: Some(50_000), burst, pack, records: None };
    // The largest datagram of cargo, and the MTU in the heartbeats.
    let second = |rig: &mut Rig| {
        let (mut cargo, mut claimed) = (0, Vec::new());
        for _ in 0..1000 {
            for (_, class, bytes) in rig.poll() {
                if class == Class::Link {
                    for heartbeat in heartbeats(&bytes) {
                        claimed.push(heartbeat.max_ip_packet);
                        rig.deliver(gateway(), &answer_with(&heartbeat, heartbeat.max_ip_packet.min(1400)));
                    }
                } else {
                    cargo = cargo.max(bytes.len());
                }
            }
            rig.now += MILLISECOND;
        }
        claimed.dedup();
        (cargo, claimed)
    };
    second(&mut rig);
    rig.farm.command(rig.now, FarmCommand::StartTraffic(traffic), &mut rig.out);
    let (before, claimed) = second(&mut rig);
    assert!(before > 700 && claimed == [1500], "{before} {claimed:?}");
    rig.farm.command(rig.now, FarmCommand::SetMtu(700), &mut rig.out);
    let (after, claimed) = second(&mut rig);
    assert!(after > 500 && after <= 700 - 28 && claimed == [700], "{after} {claimed:?}");
    // Never less than a heartbeat and a record need.
    rig.farm.command(rig.now, FarmCommand::SetMtu(100), &mut rig.out);
    assert_eq!(second(&mut rig).1, [wire::MIN_MTU]);
}

#[test]
fn unanswered_heartbeats_hold_the_others_back_and_the_silence_is_told() {
    let mut config = FarmConfig::new(gateway(), ids(0, 10_000));
    config.node.max_ip_packet = 1280;
    let mut rig = Rig::new(config);
    for _ in 0..10 {
        rig.poll();
    }
    assert_eq!(rig.farm.counters().heartbeats_out.get(), 512);
    assert_eq!(rig.farm.deadline(), Some(20 * MILLISECOND));
    rig.now = 40 * MILLISECOND;
    rig.poll();
    assert_eq!(rig.farm.counters().heartbeats_out.get(), 512 + 384);
    while rig.now < 8 * SECOND {
        rig.poll();
        rig.now += MILLISECOND;
    }
    let told = rig.told.lock().unwrap();
    assert!(told[0].to_string().contains("no answer from the gateway: check its address"), "{told:?}");
    assert_eq!(told.iter().map(|event| event.count).sum::<u32>(), 10_000);
}

#[test]
fn a_slow_gateway_costs_no_registration_and_a_stop_is_not_followed_by_a_flood() {
    let mut config = FarmConfig::new(gateway(), ids(0, 20_000));
    config.node.max_ip_packet = 1280;
    let mut rig = Rig::new(config);
    run(&mut rig, 3 * SECOND);
    assert_eq!(rig.farm.registered(), 20_000);
    let mut late = VecDeque::new();
    for _ in 0..10_000 {
        for (_, _, bytes) in rig.poll() {
            late.extend(heartbeats(&bytes).iter().map(|heartbeat| (rig.now + 300 * MILLISECOND, answer(heartbeat))));
        }
        while late.front().is_some_and(|(due, _)| *due <= rig.now) {
            let (_, answer) = late.pop_front().unwrap();
            rig.deliver(gateway(), &answer);
        }
        rig.now += MILLISECOND;
        assert_eq!(rig.farm.registered(), 20_000);
    }
    rig.now += SECOND;
    let at_once: usize = (0..100).flat_map(|_| rig.poll()).map(|(_, _, bytes)| heartbeats(&bytes).len()).sum();
    // An even rate is 19 in each millisecond. In one slot of time twice that and 64 more may leave.
    assert!((64..=120).contains(&at_once), "{at_once}");
}

#[test]
fn a_gateway_that_fell_silent_costs_the_registration() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(5, 3)));
    run(&mut rig, 2 * SECOND);
    assert_eq!(rig.farm.registered(), 3);
    let until = rig.now + 4 * SECOND;
    while rig.now < until {
        rig.poll();
        rig.now += MILLISECOND;
    }
    assert_eq!(rig.farm.registered(), 0);
    assert!(rig.told.lock().unwrap().iter().any(|event| event.to_string().contains("the gateway fell silent")));
    run(&mut rig, 2 * SECOND);
    assert_eq!(rig.farm.registered(), 3);
}

#[test]
fn echo_goes_back_to_the_gateway_and_strangers_are_refused() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(10, 2)));
    let question = [record(MsgType::ECHO, 10, b"one"), record(MsgType::ECHO, 11, b"two")].concat();
    let reply = [record(MsgType::ECHO_REPLY, 10, b"one"), record(MsgType::ECHO_REPLY, 11, b"two")].concat();
    rig.deliver(gateway(), &question);
    assert_eq!(rig.sent(), [(gateway(), Class::Up, reply)]);
    for stranger in ["10.0.0.2:9999", "10.0.0.1:9998", "10.0.0.1:48000"] {
        rig.deliver(peer(stranger), &question);
        rig.deliver(
            peer(stranger),
            &answer(&heartbeats(&Rig::new(FarmConfig::new(gateway(), ids(10, 1))).poll()[0].2)[0]),
        );
    }
    assert_eq!(rig.sent(), []);
    let counters = rig.farm.counters();
    assert_eq!((counters.refused_source.get(), counters.echo_replied.get()), (9, 2));
    assert!(counters.balance());
}

/// Lets the gateway register the farm. The gateway says whether its cargo leaves from the ports of lanes.
fn register(rig: &mut Rig, lanes: bool) {
    for _ in 0..2 {
        for (_, _, bytes) in rig.poll() {
            for heartbeat in heartbeats(&bytes) {
                let mut answer = answer(&heartbeat);
                answer[HEADER_LEN + 18] |= if lanes { 1 << 4 } else { 0 };
                rig.deliver(gateway(), &answer);
            }
        }
        rig.now += SECOND;
    }
    assert_eq!(rig.farm.registered(), u64::from(rig.farm.len()));
}

#[test]
fn cargo_comes_from_the_gateways_port_or_from_the_lane_that_it_uses() {
    // The lane of slave 10 is 10, and that of slave 1035 is 11.
    for (lanes, id, from, is_taken) in [
        (false, 10, "10.0.0.1:9999", true),
        (false, 10, "10.0.0.1:49162", false),
        (true, 10, "10.0.0.1:9999", true),
        (true, 10, "10.0.0.1:49162", true),
        (true, 1035, "10.0.0.1:49163", true),
        // The lane of another slave, the first and the last lane, no lane, and another host.
        (true, 10, "10.0.0.1:49163", false),
        (true, 1035, "10.0.0.1:49162", false),
        (true, 10, "10.0.0.1:49152", false),
        (true, 10, "10.0.0.1:50175", false),
        (true, 10, "10.0.0.1:50186", false),
        (true, 10, "10.0.0.1:9998", false),
        (true, 10, "10.0.0.2:49162", false),
    ] {
        let mut rig = Rig::new(FarmConfig::new(gateway(), Ids::list(Scale::default(), &[10, 1035]).unwrap()));
        register(&mut rig, lanes);
        rig.deliver(peer(from), &record(MsgType::ECHO, id, b"question"));
        // The answer goes to the address on which the gateway listens, whatever the source of the question.
        let reply = (gateway(), Class::Up, record(MsgType::ECHO_REPLY, id, b"question"));
        let expected = if is_taken { vec![reply] } else { vec![] };
        assert_eq!(rig.sent(), expected, "{id} from {from}, lanes {lanes}");
        assert_eq!(rig.farm.counters().refused_source.get(), u64::from(!is_taken), "{id} from {from}, lanes {lanes}");
    }
    // Link control is never taken from a lane.
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(10, 1)));
    register(&mut rig, true);
    let accepted = rig.farm.counters().acks_accepted.get();
    let heartbeat = heartbeats(&rig.poll()[0].2)[0];
    rig.deliver(peer("10.0.0.1:49162"), &answer(&heartbeat));
    assert_eq!(rig.farm.counters().acks_accepted.get(), accepted);
    assert_eq!(rig.farm.counters().acks_refused.get(), 1);
}

#[test]
fn a_direct_farm_answers_everybody_and_announces_nothing() {
    let mut rig = Rig::new(FarmConfig::direct(ids(0, 4)));
    assert_eq!((rig.poll(), rig.farm.deadline()), (vec![], None));
    rig.deliver(peer("192.0.2.9:1234"), &record(MsgType::ECHO, 3, b"hello"));
    assert_eq!(rig.sent(), [(peer("192.0.2.9:1234"), Class::Up, record(MsgType::ECHO_REPLY, 3, b"hello"))]);
    rig.deliver(peer("192.0.2.9:1234"), &record(MsgType::HEARTBEAT_ACK, 3, b"hello"));
    assert_eq!((rig.sent(), rig.farm.counters().acks_refused.get()), (vec![], 1));
}

#[test]
fn answers_to_an_earlier_start_are_refused_and_counted_by_name() {
    let config = |secret: u8| {
        let mut config = FarmConfig::new(gateway(), ids(17, 1));
        config.node.challenges = link::ChallengeSecret::new([secret; 32]);
        config
    };
    // All answers of a gateway to an earlier start are sent as often as the later one sends a heartbeat.
    let mut earlier = Rig::new(config(1));
    let mut said = Vec::new();
    for _ in 0..50 {
        for (_, _, bytes) in earlier.poll() {
            let registered = Heartbeat { cookie: COOKIE, ..heartbeats(&bytes)[0] };
            said.extend([answer(&heartbeats(&bytes)[0]), answer(&registered)]);
            earlier.deliver(gateway(), &answer(&heartbeats(&bytes)[0]));
        }
        earlier.now += 100 * MILLISECOND;
    }
    assert_eq!(earlier.farm.registered(), 1);
    let mut rig = Rig::new(config(2));
    for _ in 0..50 {
        rig.poll();
        said.iter().for_each(|answer| rig.deliver(gateway(), answer));
        rig.now += 100 * MILLISECOND;
    }
    let counters = rig.farm.counters();
    let refused = (counters.acks_refused.get(), counters.acks_refused_challenge.get());
    assert_eq!((rig.farm.registered(), refused), (0, (50 * said.len() as u64, 50 * said.len() as u64)));
    assert!(counters.balance());
}

#[test]
fn pattern_is_checked_per_slave_and_stream() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(0, 2)));
    let datagram = [pattern(0, 0), pattern(1, 0), pattern(0, 2), pattern(0, 1), pattern(1, 0)].concat();
    rig.deliver(gateway(), &datagram);
    let counters = rig.farm.counters();
    assert_eq!((counters.pattern_ok.get(), counters.pattern_gap.get()), (3, 1));
    assert_eq!((counters.pattern_reordered.get(), counters.pattern_duplicate.get()), (1, 1));
    assert_eq!(rig.sent(), []);
}

#[test]
fn traffic_leaves_only_from_registered_slaves_and_stops_with_a_drain() {
    let mut rig = Rig::new(FarmConfig::new(gateway(), ids(100, 4)));
    let config = TrafficConfig {
        master: 2,
        payload: 64,
        rate: Some(10_000),
        burst: NonZeroU32::MIN,
        pack: NonZeroU16::MIN,
        records: None,
    };
    rig.farm.command(0, FarmCommand::StartTraffic(config), &mut rig.out);
    rig.now = 5 * MILLISECOND;
    assert!(rig.poll().iter().all(|(_, class, _)| *class == Class::Link));
    rig.farm.command(rig.now, FarmCommand::StopTraffic, &mut rig.out);
    run(&mut rig, 2 * SECOND);
    rig.farm.command(rig.now, FarmCommand::StartTraffic(config), &mut rig.out);
    rig.now += 5 * MILLISECOND;
    let mut next = BTreeMap::new();
    for (to, class, bytes) in rig.poll().into_iter().filter(|(_, class, _)| *class == Class::Up) {
        let record = Record::first(&bytes).unwrap();
        let sequence = echo::check(&record).unwrap().sequence();
        let expected = next.entry(record.header().slave_id()).or_insert(0);
        assert_eq!((to, class, sequence, record.header().master_id()), (gateway(), Class::Up, *expected, 2));
        *expected += 1;
    }
    assert_eq!(next.into_iter().collect::<Vec<_>>(), [(100, 13), (101, 13), (102, 12), (103, 12)]);
    assert!(!rig.farm.is_drained());
    rig.farm.command(rig.now, FarmCommand::Drain, &mut rig.out);
    rig.now += SECOND;
    assert_eq!((rig.poll(), rig.farm.deadline(), rig.farm.is_drained()), (vec![], None, true));
}

#[test]
fn farms_that_cannot_be_are_refused() {
    let build = |config| Farm::new(config, 0, |_| ()).map(|_| ());
    let mut config = FarmConfig::new(gateway(), ids(0, 10));
    config.slaves.push((vec![peer("10.0.0.2:9999")], ids(9, 1)));
    assert_eq!(build(config), Err(FarmError::Twice(9)));
    let mut config = FarmConfig::new(gateway(), ids(0, 1));
    config.slaves[0].0 = vec![gateway(), peer("10.0.0.2:9999"), gateway()];
    assert_eq!(build(config), Err(FarmError::SameGateway("10.0.0.1:9999".to_owned())));
    let mut config = FarmConfig::new(gateway(), ids(0, 1));
    config.slaves[0].0 = (0..17).map(|port| peer(&format!("10.0.0.1:{}", 100 + port))).collect();
    assert_eq!(build(config), Err(FarmError::Gateways(17)));
    let mut config = FarmConfig::direct(ids(0, 1));
    config.answer_any = false;
    assert_eq!(build(config), Err(FarmError::Unreachable));
    let mut config = FarmConfig::new(gateway(), ids(0, 1));
    config.node.scale = Scale::new(10, 5).unwrap();
    assert_eq!(build(config), Err(FarmError::Scale));
    let mut config = FarmConfig::new(gateway(), ids(0, 1));
    config.slaves.clear();
    assert_eq!(build(config), Err(FarmError::Ids(IdsError::Empty)));
    assert!(Farm::slave(gateway(), Scale::default(), 1 << 17, 0, |_| ()).is_err());
}

#[test]
fn slaves_register_with_the_gateway_that_they_were_given() {
    let other = peer("10.0.0.2:9999");
    let mut config = FarmConfig::new(gateway(), ids(0, 3));
    config.slaves.push((vec![other], ids(8_192, 2)));
    let mut rig = Rig::new(config);
    let sent = rig.poll();
    let seen: Vec<_> = sent
        .iter()
        .map(|(to, _, bytes)| (*to, heartbeats(bytes).iter().map(|heartbeat| heartbeat.node.id).collect()))
        .collect();
    assert_eq!(seen, [(gateway(), vec![0, 1, 2]), (other, vec![8_192, 8_193])]);
}

proptest! {
    #[test]
    fn no_datagram_panics_and_every_record_is_accounted_for(
        records in proptest::collection::vec(
            prop_oneof![
                (0u32..20, 0usize..50).prop_map(|(id, len)| record(MsgType::ECHO, id, &vec![1; len])),
                (0u32..20, 0u64..9).prop_map(|(id, sequence)| pattern(id, sequence)),
                (0u32..20, 0usize..90).prop_map(|(id, len)| record(MsgType::HEARTBEAT_ACK, id, &vec![1; len])),
                (0u32..20, any::<u16>()).prop_map(|(id, kind)| record(MsgType(kind), id, b"x")),
                proptest::collection::vec(any::<u8>(), 0..40),
            ],
            0..10,
        ),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        stranger in any::<bool>(),
    ) {
        let mut bytes = records.concat();
        for (at, value) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        let mut rig = Rig::new(FarmConfig::new(gateway(), ids(5, 10)));
        let from = if stranger { peer("10.9.9.9:9999") } else { gateway() };
        rig.deliver(from, &bytes);
        let counters = Arc::clone(rig.farm.counters());
        prop_assert!(counters.balance());
        let replied: usize = rig.sent().iter().map(|(_, _, bytes)| Walk::new(bytes, Scale::default()).count()).sum();
        prop_assert_eq!(replied as u64, counters.echo_replied.get());
        prop_assert!(!stranger || replied == 0);
        prop_assert_eq!(rig.out.pool().in_use(), 0);
    }
}
