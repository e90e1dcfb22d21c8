//! Two roles over a wire of sockets: reads, writes, refusals, and a peer that is gone.

use crate::support;

use frame::time::MILLISECOND;
use frame::{Role, Time};
use roce::{Failed, Job, Lent, Load, OpenError, RoceCommand, Work};
use support::{End, PORT, Wire, lent, pattern, peer};
use transport::Status;

#[test]
fn bytes_are_read_and_written_and_come_back_at_the_end() {
    let mut wire = Wire::new(lent(100_000));
    let region = wire.lent();
    let read = wire.work(region.rkey, Work::Read { va: region.va + 10, len: 90_001, message: 5000 }).unwrap();
    assert!(read.bytes == pattern(100_000)[10..90_011] && read.latencies.count() == 19);
    let bytes: Vec<u8> = pattern(70_000).into_iter().map(|byte| !byte).collect();
    let work = Work::Write { va: region.va + 3, bytes: bytes.clone(), message: 65_536 };
    assert_eq!(wire.work(region.rkey, work).unwrap().bytes, bytes);
    let memory = wire.ends[1].command(0, RoceCommand::End).recv().unwrap().unwrap();
    assert!(memory[3..70_003] == bytes && memory[..3] == pattern(3) && memory[70_003..] == pattern(100_000)[70_003..]);
    assert!(wire.ends[1].role.is_drained() && wire.ends[1].role.region().is_none());
    for end in &wire.ends {
        assert_eq!((end.out.pool().in_use() as usize, end.role.transport().dropped()), (end.out.frames(), 0));
    }
}

#[test]
fn nothing_is_lost_on_a_wire_that_loses() {
    let mut wire = Wire::new(lent(300_000));
    wire.loss = 20;
    let region = wire.lent();
    let read = wire.work(region.rkey, Work::Read { va: region.va, len: 300_000, message: 30_000 }).unwrap();
    assert!(read.bytes == pattern(300_000));
    let bytes: Vec<u8> = pattern(300_000).into_iter().rev().collect();
    let work = Work::Write { va: region.va, bytes: bytes.clone(), message: 30_000 };
    wire.work(region.rkey, work).unwrap();
    let memory = wire.ends[1].command(0, RoceCommand::End).recv().unwrap().unwrap();
    assert!(*memory == *bytes);
    assert!(wire.ends[0].role.transport().rewinds.get() > 0);
}

#[test]
fn loads_end_by_count_and_by_time() {
    let mut wire = Wire::new(lent(10_000));
    let region = wire.lent();
    let load = Load { va: region.va, span: region.len, size: 100, depth: 5, count: 333, duration: Time::MAX };
    for work in [Work::LoadRead(load), Work::LoadWrite(load), Work::LoadFetchAdd(load)] {
        let outcome = wire.work(region.rkey, work).unwrap();
        assert_eq!((outcome.latencies.count(), outcome.bytes.len()), (333, 0));
    }
    let began = wire.now;
    let timed = Load { count: u64::MAX, duration: 5 * MILLISECOND, ..load };
    let outcome = wire.work(region.rkey, Work::LoadRead(timed)).unwrap();
    assert!(outcome.latencies.count() > 100 && wire.now - began < 50 * MILLISECOND, "{}", wire.now - began);
}

#[test]
fn a_wrong_key_is_refused_by_name_and_the_queue_pair_fails() {
    let mut wire = Wire::new(lent(5000));
    let region = wire.lent();
    let read = |va, len| Work::Read { va, len, message: 1000 };
    let failed = wire.work(region.rkey ^ 0x100, read(region.va, 5000)).unwrap_err();
    assert_eq!(failed, Failed { status: Status::RemAccessErr, complete: 0 });
    let failed = wire.work(region.rkey, read(region.va, 5000)).unwrap_err();
    assert_eq!(failed.status, Status::WrFlushErr, "the queue pair has failed");
    let mut wire = Wire::new(Lent { write: false, ..lent(5000) });
    let region = wire.lent();
    assert!(wire.work(region.rkey, read(region.va, 5000)).is_ok());
    let write = Work::Write { va: region.va, bytes: vec![1; 10], message: 10 };
    assert_eq!(wire.work(region.rkey, write).unwrap_err().status, Status::RemAccessErr);
}

#[test]
fn a_peer_that_is_gone_is_noticed_in_bounded_time() {
    let mut wire = Wire::new(lent(5000));
    let region = wire.lent();
    wire.cut = true;
    let failed = wire.work(region.rkey, Work::Read { va: region.va, len: 5000, message: 1000 }).unwrap_err();
    assert_eq!(failed, Failed { status: Status::RetryExcErr, complete: 0 });
    // The first try and 7 retries, each of at most 4 times 1.05 ms.
    assert!(wire.now < 40 * MILLISECOND, "{}", wire.now);
}

#[test]
fn who_is_not_the_peer_is_not_heard() {
    let mut wire = Wire::new(lent(5000));
    let (region, qpn) = (wire.lent(), wire.qpns[0]);
    let job = Job { qpn, rkey: region.rkey, work: Work::Read { va: region.va, len: 10, message: 10 } };
    let told = wire.ends[0].command(0, |answer| RoceCommand::Work(job, answer));
    let request = wire.ends[0].out.queue(PORT).unwrap().take().unwrap();
    let [asker, server] = &mut wire.ends;
    let bytes = request.frame.data().to_vec();
    server.deliver(0, peer([192, 0, 2, 9]), &bytes);
    let mut elsewhere = peer(asker.ip);
    elsewhere.local = 0;
    server.deliver(0, elsewhere, &bytes);
    let mut unknown = bytes.clone();
    unknown[7] ^= 0xff;
    server.deliver(0, peer(asker.ip), &unknown);
    let mut broken = bytes.clone();
    broken[20] ^= 1;
    server.deliver(0, peer(asker.ip), &broken);
    server.deliver(0, peer(asker.ip), &[]);
    assert!(server.out.is_empty());
    let (role, transport) = (server.role.counters(), server.role.transport());
    assert_eq!((role.dropped_not_peer.get(), role.dropped_other_port.get(), role.datagrams_in.get()), (1, 1, 5));
    assert_eq!((transport.rc_dropped_no_qp.get(), transport.rc_dropped_icrc.get()), (1, 1));
    let given = transport.packets_in.get() + role.dropped_headers.get();
    assert_eq!((given, transport.requests_in.get()), (3, 0));
    server.deliver(0, peer(asker.ip), &bytes);
    assert_eq!(wire.until(|_| told.try_recv().ok()).unwrap().bytes, pattern(10));
}

#[test]
fn queue_pairs_are_bounded_and_numbers_can_be_chosen() {
    let mut end = End::new(1, None);
    let mut create = |wanted| end.command(0, |answer| RoceCommand::Create(wanted, answer)).recv().unwrap();
    assert_eq!(create(Some(0x1000)), Ok(0x1000));
    let Err(OpenError::Number { wanted: 0x2000, next }) = create(Some(0x2000)) else {
        panic!("the first place is taken")
    };
    assert_eq!(create(Some(next)), Ok(next));
    assert!(create(None).is_ok() && create(None).is_ok());
    assert_eq!(create(None), Err(OpenError::Full(4)));
    end.command(0, |answer| RoceCommand::Close(next, answer)).recv().unwrap();
    assert_eq!(end.command(0, |answer| RoceCommand::Create(Some(next), answer)).recv().unwrap(), Ok(next));
}

#[test]
fn whoever_waits_hears_that_its_queue_pair_was_closed() {
    let mut wire = Wire::new(lent(5000));
    let qpn = wire.qpns[0];
    let work = |va| Job { qpn, rkey: 1, work: Work::Read { va, len: 10, message: 10 } };
    let told = wire.ends[0].command(0, |answer| RoceCommand::Work(work(0), answer));
    // One job at a time.
    let second = wire.ends[0].command(0, |answer| RoceCommand::Work(work(0), answer));
    assert_eq!(second.recv().unwrap().unwrap_err().status, Status::WrFlushErr);
    wire.ends[0].command(0, |answer| RoceCommand::Close(qpn, answer)).recv().unwrap();
    assert_eq!(told.recv().unwrap().unwrap_err().status, Status::WrFlushErr);
    assert!(wire.ends[0].command(0, RoceCommand::End).recv().unwrap().is_none());
}
