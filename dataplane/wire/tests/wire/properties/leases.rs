//! The messages of leases.

use super::tagged;
use proptest::prelude::*;
use wire::lease::{
    Connect, ConnectAnswer, ConnectReply, Disconnect, Grant, LeaseEnd, LeaseEnds, LeaseError, PairEnd, Recall, Refusal,
    UnitSet,
};
use wire::link::{Cookie, Role};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{HEADER_LEN, Key, Record, RecordHeader};

prop_compose! {
    fn ends()((slave, master) in any::<(u32, u16)>()) -> LeaseEnds {
        LeaseEnds { slave, master }
    }
}

prop_compose! {
    fn pair()(qpn in 2u32..1 << 24, psn in any::<u32>(), (read_depth, rnr_timer) in any::<(u8, u8)>()) -> PairEnd {
        PairEnd { qpn, psn: Psn::new(psn), read_depth, rnr_timer: RnrTimer::new(rnr_timer) }
    }
}

fn path_mtu() -> impl Strategy<Value = PathMtu> {
    prop::sample::select(&PathMtu::ALL[..])
}

fn units() -> impl Strategy<Value = UnitSet> {
    prop_oneof![
        Just(UnitSet::EMPTY),
        (0u16..=4096).prop_map(|all| (0..all).collect()),
        proptest::collection::vec(0u16..4096, 0..20).prop_map(|indexes| indexes.into_iter().collect()),
    ]
}

prop_compose! {
    fn connect()(
        ends in ends(),
        (slave_epoch, master_epoch, session, cookie) in any::<(u64, u64, u64, [u8; 16])>(),
        seq in 1u64..,
        (lock, resume, want) in any::<([u8; 16], Option<[u8; 16]>, u32)>(),
        pairs in [pair(), pair()],
        path_mtu in path_mtu(),
        keep in units(),
    ) -> Connect {
        let cookie = Cookie(cookie);
        Connect { ends, slave_epoch, master_epoch, seq, session, cookie, lock, resume, pairs, path_mtu, want, keep }
    }
}

prop_compose! {
    fn granted()(
        session in 1u64..,
        (rkey, recalled, within_ms) in any::<(u32, u32, u32)>(),
        pairs in [pair(), pair()],
        path_mtu in path_mtu(),
        units in units(),
    ) -> ConnectAnswer {
        let recall = Recall { units: recalled, within_ms };
        ConnectAnswer::Granted(Grant { session, rkey, pairs, path_mtu, units, recall })
    }
}

fn refused() -> impl Strategy<Value = ConnectAnswer> {
    let known = [Refusal::Cookie, Refusal::Held, Refusal::Epoch, Refusal::Session, Refusal::Secret, Refusal::NoRoom];
    let known = prop::sample::select(known.to_vec());
    prop_oneof![known, Just(Refusal::Leaving), (8u8..).prop_map(Refusal::Other)].prop_map(ConnectAnswer::Refused)
}

prop_compose! {
    fn reply()(
        ends in ends(),
        (slave_epoch, master_epoch, seq, reply_seq) in any::<(u64, u64, u64, u64)>(),
        (cookie, free, lease_ms) in any::<([u8; 16], u32, u32)>(),
        answer in prop_oneof![granted(), refused()],
    ) -> ConnectReply {
        let cookie = Cookie(cookie);
        ConnectReply { ends, slave_epoch, master_epoch, seq, reply_seq, cookie, free, lease_ms, answer }
    }
}

prop_compose! {
    fn disconnect()(
        ends in ends(),
        from in prop_oneof![Just(Role::Slave), Just(Role::Master)],
        reason in prop_oneof![Just(LeaseEnd::Done), Just(LeaseEnd::Leaving), (3u8..).prop_map(LeaseEnd::Other)],
        (answer, slave_epoch, master_epoch, session) in any::<(bool, u64, u64, u64)>(),
    ) -> Disconnect {
        Disconnect { ends, from, answer, reason, slave_epoch, master_epoch, session }
    }
}

/// Whether the bitmap of these units has the largest possible number of bytes.
fn is_longest(units: &UnitSet) -> bool {
    (4088..4096).any(|index| units.contains(index))
}

/// The same record with bytes of a later minor version at its end.
fn grown(record: &Record<'_>, tail: &[u8]) -> Vec<u8> {
    let old = record.header();
    let payload = [record.payload(), tail].concat();
    let header = RecordHeader::new(old.msg_type(), old.slave_id(), old.req_id(), payload.len() as u32);
    let mut longer = vec![0; HEADER_LEN + payload.len()];
    wire::record::emit(&header, &payload, &mut longer).unwrap();
    longer[HEADER_LEN + 17] = 1;
    longer
}

proptest! {
    #[test]
    fn connects(connect in connect(), key in any::<Option<Key>>(), tail in any::<[u8; 9]>()) {
        let mut out = vec![0xee; 700];
        let len = connect.emit(key.as_ref(), &mut out).unwrap();
        prop_assert!(len <= Connect::MAX_LEN);
        prop_assert_eq!(len == Connect::MAX_LEN, is_longest(&connect.keep));
        let record = tagged(&out, key.as_ref());
        prop_assert_eq!(record.bytes().len(), len);
        prop_assert_eq!(Connect::parse(&record), Ok(connect));
        prop_assert_eq!(Connect::parse(&Record::first(&grown(&record, &tail)).unwrap()), Ok(connect));
        prop_assert_eq!(connect.emit(None, &mut out[..len - 1]), None);
    }

    #[test]
    fn replies(reply in reply(), key in any::<Option<Key>>(), tail in any::<[u8; 9]>()) {
        let mut out = vec![0xee; 700];
        let len = reply.emit(key.as_ref(), &mut out).unwrap();
        prop_assert!(len <= ConnectReply::MAX_LEN);
        let granted = match &reply.answer {
            ConnectAnswer::Granted(grant) => grant.units,
            ConnectAnswer::Refused(_) => UnitSet::EMPTY,
        };
        prop_assert_eq!(len == ConnectReply::MAX_LEN, is_longest(&granted));
        let record = tagged(&out, key.as_ref());
        prop_assert_eq!(record.bytes().len(), len);
        prop_assert_eq!(ConnectReply::parse(&record), Ok(reply));
        prop_assert_eq!(ConnectReply::parse(&Record::first(&grown(&record, &tail)).unwrap()), Ok(reply));
        prop_assert_eq!(reply.emit(None, &mut out[..len - 1]), None);
    }

    #[test]
    fn disconnects(disconnect in disconnect(), key in any::<Option<Key>>(), tail in any::<[u8; 9]>()) {
        let mut out = vec![0xee; 100];
        prop_assert_eq!(disconnect.emit(key.as_ref(), &mut out), Some(Disconnect::LEN));
        let record = tagged(&out, key.as_ref());
        prop_assert_eq!(Disconnect::parse(&record), Ok(disconnect));
        prop_assert_eq!(Disconnect::parse(&Record::first(&grown(&record, &tail)).unwrap()), Ok(disconnect));
        prop_assert_eq!(disconnect.emit(None, &mut out[..Disconnect::LEN - 1]), None);
    }

    #[test]
    fn a_message_that_was_cut_is_too_short(connect in connect(), reply in reply(), disconnect in disconnect(),
        at in any::<prop::sample::Index>()) {
        let mut out = vec![0; 700];
        for message in 0..3 {
            let len = match message {
                0 => connect.emit(None, &mut out),
                1 => reply.emit(None, &mut out),
                _ => disconnect.emit(None, &mut out),
            };
            let payload = len.unwrap() - HEADER_LEN;
            let cut = at.index(payload) as u32;
            out[18..22].copy_from_slice(&cut.to_le_bytes());
            let record = Record::first(&out).unwrap();
            let found = match message {
                0 => Connect::parse(&record).err(),
                1 => ConnectReply::parse(&record).err(),
                _ => Disconnect::parse(&record).err(),
            };
            prop_assert_eq!(found, Some(LeaseError::TooShort));
        }
    }

    #[test]
    fn sets_of_units_are_what_they_hold(a in units(), b in units()) {
        let (in_a, in_b) = (|index: &u16| a.contains(*index), |index: &u16| b.contains(*index));
        prop_assert_eq!(a.len() as usize, a.iter().count());
        prop_assert_eq!(a.is_empty(), a.iter().next().is_none());
        prop_assert!(a.iter().all(|index| in_a(&index)));
        prop_assert_eq!(a.and(&b), a.iter().filter(in_b).collect());
        prop_assert_eq!(a.without(&b), a.iter().filter(|index| !in_b(index)).collect());
        prop_assert_eq!(a.and(&b), b.iter().filter(in_a).collect());
        prop_assert_eq!(UnitSet::read(a.bitmap()), Some(a));
        prop_assert!(a.bitmap().last() != Some(&0));
    }
}
