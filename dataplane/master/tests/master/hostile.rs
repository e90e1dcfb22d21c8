//! What strangers, and slaves that lie, can do: nothing.

use crate::life::{fill, request, run};
use crate::rng::Rng;
use crate::world::{MASTER, World, gateway_peer};
use frame::time::SECOND;
use frame::{Peer, PortId};
use master::{PageOp, PageStatus};
use wire::lease::{
    ConnectAnswer, ConnectReply, Disconnect, Grant, LeaseEnd, LeaseEnds, PairEnd, Recall, Refusal, UnitSet,
};
use wire::link::{Cookie, Member, MemberState, MembersBuilder, MembersHead, Role, SpeedClass};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::record::req_id;
use wire::{HEADER_LEN, MsgType, RecordHeader};

/// The bytes of a record with this header and payload.
fn record(header: &RecordHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = wire::record::MAGIC.to_le_bytes().to_vec();
    bytes.extend_from_slice(&header.msg_type().0.to_le_bytes());
    bytes.extend_from_slice(&header.slave_id().to_le_bytes());
    bytes.extend_from_slice(&header.req_id().to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.push(0);
    bytes.extend_from_slice(payload);
    bytes
}

fn stranger() -> Peer {
    Peer::socket(PortId(0), "10.9.9.9:9999".parse().unwrap())
}

fn reply(rng: &mut Rng, answer: ConnectAnswer) -> Vec<u8> {
    let reply = ConnectReply {
        ends: LeaseEnds { slave: 17, master: MASTER },
        slave_epoch: rng.bits(),
        master_epoch: rng.bits(),
        seq: 1 + rng.below(4),
        reply_seq: rng.bits(),
        cookie: Cookie::NONE,
        free: 9,
        lease_ms: 60_000,
        answer,
    };
    let mut out = vec![0; ConnectReply::MAX_LEN];
    let len = reply.emit(Some(&[1; 32]), &mut out).unwrap();
    out.truncate(len);
    out
}

fn members(state: MemberState, challenge: u64) -> Vec<u8> {
    let head = MembersHead {
        master: MASTER,
        snapshot: false,
        challenge,
        gateway_epoch: 1,
        from_generation: 1,
        to_generation: 99,
    };
    let member = Member {
        id: 17,
        state,
        mtu: 1500,
        vcpus: 1,
        speed_class: SpeedClass::UNKNOWN,
        domain: 0,
        epoch: 5,
        pages_total: 1 << 20,
        pages_free: 1 << 20,
    };
    let mut out = vec![0; 256];
    let mut builder = MembersBuilder::new(head, &mut out).unwrap();
    assert!(builder.push(&member));
    let len = builder.finish(None);
    out.truncate(len);
    out
}

#[test]
fn forged_messages_change_nothing() {
    let mut world = World::new(31, &[1], 1);
    world.start();
    let (client, buffer) = world.client(8);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let bytes = fill(&mut world, buffer, 0, 4096, 9);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Write)), PageStatus::Done);
    let mut rng = Rng::new(31);
    let pair = PairEnd { qpn: 5, psn: Psn::new(1), read_depth: 9, rnr_timer: RnrTimer::new(0) };
    let grant = Grant {
        session: 9,
        rkey: 1,
        pairs: [pair; 2],
        path_mtu: PathMtu::B1024,
        units: UnitSet::EMPTY,
        recall: Recall { units: 1, within_ms: 0 },
    };
    for round in 0..200u64 {
        let from = if round % 3 == 0 { stranger() } else { gateway_peer(0) };
        let refusals = [Refusal::Epoch, Refusal::Session, Refusal::Secret, Refusal::Leaving];
        let disconnect = Disconnect {
            ends: LeaseEnds { slave: 17, master: MASTER },
            from: Role::Slave,
            answer: false,
            reason: LeaseEnd::Leaving,
            slave_epoch: rng.bits(),
            master_epoch: rng.bits(),
            session: rng.bits(),
        };
        let mut farewell = vec![0; Disconnect::LEN];
        disconnect.emit(None, &mut farewell).unwrap();
        let packet: Vec<u8> = (0..12 + rng.below(1200)).map(|_| rng.bits() as u8).collect();
        let header = RecordHeader::new(MsgType::RC, 17, req_id(MASTER, 0), packet.len() as u32);
        for forged in [
            reply(&mut rng, ConnectAnswer::Granted(grant)),
            reply(&mut rng, ConnectAnswer::Refused(refusals[round as usize % 4])),
            farewell,
            members(MemberState::Gone, rng.bits()),
            record(&header, &packet),
            record(&RecordHeader::new(MsgType::ECHO, 17, 0, 0), &[]),
            vec![0x58; HEADER_LEN],
        ] {
            world.give_master(from, &forged);
        }
        world.books();
    }
    fill(&mut world, buffer, 0, 4096, 0xee);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
    let stats = world.master.stats();
    assert_eq!(stats.counters.master_refused_source.get(), 67 * 7);
    assert!(stats.counters.members_refused.get() >= 133);
    assert!(stats.counters.master_dropped_unknown_type.get() >= 133);
    assert!(stats.loans.replies_dropped_stale.get() + stats.loans.replies_dropped_forged.get() >= 3 * 133);
    assert!(stats.transport.balance());
}

#[test]
fn messages_of_a_slave_without_a_lease_or_for_another_master_are_dropped() {
    let mut world = World::new(32, &[1], 1);
    world.start();
    let mut rng = Rng::new(32);
    let refused = reply(&mut rng, ConnectAnswer::Refused(Refusal::Held));
    world.give_master(gateway_peer(0), &refused);
    let packet = record(&RecordHeader::new(MsgType::RC, 17, req_id(MASTER, 0), 0), &[7; 40]);
    world.give_master(gateway_peer(0), &packet);
    let stats = world.master.stats();
    assert_eq!((stats.counters.master_dropped_not_ours.get(), stats.records.dropped_not_ours.get()), (1, 1));
    let (client, _) = world.client(8);
    world.allocate(client, 1, false).unwrap();
    let other = record(&RecordHeader::new(MsgType::RC, 17, req_id(MASTER + 1, 0), 0), &[7; 40]);
    world.give_master(gateway_peer(0), &other);
    assert_eq!(stats.records.dropped_not_ours.get(), 2);
}

#[test]
fn a_slave_that_breaks_every_session_ends_requests_and_not_the_master() {
    let mut world = World::new(33, &[1, 1], 1);
    world.start();
    let (client, buffer) = world.client(64);
    let extents = world.allocate(client, 64, false).unwrap();
    let bad = world.slaves[0].id;
    let of = |world: &mut World, slave: u32| {
        extents.iter().copied().find(|extent| world.master.slave_of(client, *extent) == Some(slave)).unwrap()
    };
    let (lost, good) = (of(&mut world, bad), of(&mut world, bad + 1));
    let mut requests = vec![request(client, buffer, lost, PageOp::Read); 16];
    requests.extend([request(client, buffer, good, PageOp::Read); 4]);
    world.master.submit(world.now, &requests);
    let mut done = Vec::new();
    world.run_until(60 * SECOND, "all ended", |world| {
        let now = world.now;
        world.slaves[0].break_pairs(now);
        done.extend(std::iter::from_fn(|| world.master.poll()));
        done.len() == 20
    });
    assert!(done[..4].iter().all(|one| one.status == PageStatus::Done), "the other slave is not held up");
    let named = [PageStatus::Refused, PageStatus::Flushed, PageStatus::NoAnswer, PageStatus::Done];
    assert!(done.iter().all(|one| named.contains(&one.status)));
    assert!(done.iter().any(|one| one.status != PageStatus::Done));
}

#[test]
fn a_slave_that_gives_a_wrong_key_serves_nothing_and_ends_each_request() {
    let mut world = World::new(34, &[1], 1);
    world.start();
    world.slaves[0].set_lies(true);
    let (client, buffer) = world.client(64);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let before = fill(&mut world, buffer, 0, 4096, 0xee);
    world.master.submit(world.now, &[request(client, buffer, extent, PageOp::Read); 8]);
    let done = world.completions(8);
    let named = [PageStatus::Refused, PageStatus::Flushed];
    assert!(done.iter().all(|one| named.contains(&one.status)), "{done:?}");
    assert_eq!(done[0].status, PageStatus::Refused);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &before[..]);
    world.slaves[0].set_lies(false);
    let now = world.now;
    world.slaves[0].break_pairs(now);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
}

#[test]
fn a_slave_that_does_not_answer_does_not_hold_up_allocations() {
    let mut world = World::new(35, &[8, 1], 1);
    world.start();
    world.slaves[0].is_old = true;
    let (client, _) = world.client(64);
    let extents = world.allocate(client, 32, false).unwrap();
    let slaves: Vec<_> = extents.iter().map(|extent| world.master.slave_of(client, *extent)).collect();
    assert!(slaves.iter().all(|slave| *slave == Some(18)), "{slaves:?}");
    assert_eq!(world.allocate(client, 1, false), Err(master::AllocationRefusal::NoMemory));
}
