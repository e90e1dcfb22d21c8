//! The messages of leases.

use super::{COOKIE, block, header_of, key, only};
use wire::lease::{
    Connect, ConnectAnswer, ConnectReply, Disconnect, Grant, LeaseEnd, LeaseEnds, LeaseError, PairEnd, Recall, Refusal,
    UnitSet,
};
use wire::link::{Cookie, Role};
use wire::rc::{PathMtu, Psn, RnrTimer};

const ENDS: LeaseEnds = LeaseEnds { slave: 17, master: 1 };
const SLAVE_EPOCH: u64 = 0x1122_3344_5566_7788;
const MASTER_EPOCH: u64 = 0x0102_0304_0506_0708;
const SESSION: u64 = 0x5e55_105e_5510_0001;
const REQ_ID: u64 = 0x0001_0000_0000_0000;

fn secret(first: u8) -> [u8; 16] {
    std::array::from_fn(|at| first + at as u8)
}

fn lock(secret: [u8; 16]) -> [u8; 16] {
    let hash = blake3::derive_key("gvm-dp lease lock 1", &secret);
    *hash.first_chunk().unwrap()
}

fn pair(qpn: u32, psn: u32, read_depth: u8) -> PairEnd {
    PairEnd { qpn, psn: Psn::new(psn), read_depth, rnr_timer: RnrTimer::new(12) }
}

fn open() -> Connect {
    Connect {
        ends: ENDS,
        slave_epoch: SLAVE_EPOCH,
        master_epoch: MASTER_EPOCH,
        seq: 2,
        session: 0,
        cookie: COOKIE,
        lock: lock(secret(0x40)),
        resume: None,
        pairs: [pair(0x77, 7, 16), pair(0x78, 0x80_0008, 128)],
        path_mtu: PathMtu::B1024,
        want: 16,
        keep: UnitSet::EMPTY,
    }
}

fn reply(seq: u64, reply_seq: u64, cookie: Cookie, free: u32, lease_ms: u32, answer: ConnectAnswer) -> ConnectReply {
    ConnectReply {
        ends: ENDS,
        slave_epoch: SLAVE_EPOCH,
        master_epoch: MASTER_EPOCH,
        seq,
        reply_seq,
        cookie,
        free,
        lease_ms,
        answer,
    }
}

#[test]
fn connect() {
    let resume = Connect {
        seq: 1,
        lock: lock(secret(0x60)),
        resume: Some(secret(0x40)),
        keep: (0..12).chain([17]).collect(),
        ..open()
    };
    for (label, payload, expected) in [("connect-open", 136, open()), ("connect-resume", 139, resume)] {
        let bytes = block(label);
        let record = only(&bytes);
        assert_eq!(header_of(&record), (0x0004, 17, REQ_ID, payload, 0));
        assert_eq!(Connect::parse(&record), Ok(expected));
        let mut out = vec![0xee; bytes.len()];
        assert_eq!(expected.emit(Some(&key()), &mut out), Some(bytes.len()));
        assert_eq!(out, bytes);
    }
}

#[test]
fn connect_reply() {
    let grant = Grant {
        session: SESSION,
        rkey: 0x1bad_cafe,
        pairs: [pair(0x55, 9, 16), pair(0x56, 0xff_fffe, 128)],
        path_mtu: PathMtu::B1024,
        units: (0..16).collect(),
        recall: Recall { units: 4, within_ms: 30_000 },
    };
    let granted = reply(2, 9, Cookie::NONE, 174, 60_000, ConnectAnswer::Granted(grant));
    let refused = reply(1, 8, COOKIE, 190, 0, ConnectAnswer::Refused(Refusal::Cookie));
    for (label, payload, expected) in [("connect-reply-granted", 130, granted), ("connect-reply-cookie", 128, refused)]
    {
        let bytes = block(label);
        let record = only(&bytes);
        assert_eq!(header_of(&record), (0x0005, 17, REQ_ID, payload, 0));
        assert_eq!(ConnectReply::parse(&record), Ok(expected));
        let mut out = vec![0xee; bytes.len()];
        assert_eq!(expected.emit(Some(&key()), &mut out), Some(bytes.len()));
        assert_eq!(out, bytes);
    }
}

#[test]
fn disconnect() {
    let asked = Disconnect {
        ends: ENDS,
        from: Role::Master,
        answer: false,
        reason: LeaseEnd::Done,
        slave_epoch: SLAVE_EPOCH,
        master_epoch: MASTER_EPOCH,
        session: SESSION,
    };
    let confirmed = Disconnect { from: Role::Slave, answer: true, ..asked };
    for (label, expected) in [("disconnect", asked), ("disconnect-answer", confirmed)] {
        let bytes = block(label);
        let record = only(&bytes);
        assert_eq!(header_of(&record), (0x0006, 17, REQ_ID, 48, 0));
        assert_eq!(Disconnect::parse(&record), Ok(expected));
        let mut out = vec![0xee; bytes.len()];
        assert_eq!(expected.emit(Some(&key()), &mut out), Some(bytes.len()));
        assert_eq!(out, bytes);
    }
}

/// The record of a block with some bytes changed; `at` counts from the start of its payload.
fn changed(label: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = block(label);
    record[wire::HEADER_LEN + at..][..bytes.len()].copy_from_slice(bytes);
    record
}

#[test]
fn what_is_wrong_is_said() {
    let connect = |at, bytes: &[u8]| Connect::parse(&only(&changed("connect-resume", at, bytes))).err();
    let reply = |at, bytes: &[u8]| ConnectReply::parse(&only(&changed("connect-reply-granted", at, bytes))).err();
    let end = |at, bytes: &[u8]| Disconnect::parse(&only(&changed("disconnect", at, bytes))).err();
    for (at, bytes, error) in [
        (16, &[2][..], LeaseError::Version(2)),
        (18, &[1], LeaseError::Key(1)),
        (40, &[0; 8], LeaseError::Layout),
        (104, &[1, 0, 0, 0], LeaseError::Layout),
        (107, &[1], LeaseError::Layout),
        (123, &[1], LeaseError::Layout),
        (125, &[32], LeaseError::Layout),
        (128, &[1], LeaseError::Layout),
        (130, &[135], LeaseError::Layout),
        (130, &[137], LeaseError::TooShort),
        (132, &[4], LeaseError::TooShort),
    ] {
        assert_eq!(connect(at, bytes), Some(error), "byte {at}");
    }
    for (at, bytes, error) in [
        (16, &[2][..], LeaseError::Version(2)),
        (18, &[1], LeaseError::Key(1)),
        (48, &[0; 8], LeaseError::Layout),
        (108, &[0; 4], LeaseError::Layout),
        (120, &[0; 2], LeaseError::Layout),
        (122, &[127], LeaseError::Layout),
        (124, &[3], LeaseError::TooShort),
    ] {
        assert_eq!(reply(at, bytes), Some(error), "byte {at}");
    }
    for (at, bytes, error) in
        [(16, &[0][..], LeaseError::Version(0)), (18, &[9], LeaseError::Key(9)), (20, &[3], LeaseError::Layout)]
    {
        assert_eq!(end(at, bytes), Some(error), "byte {at}");
    }
    // Fields that a refusal does not use are not read.
    for at in 96..122 {
        let bytes = changed("connect-reply-cookie", at, &[0xff]);
        assert!(ConnectReply::parse(&only(&bytes)).is_ok(), "byte {at}");
    }
    assert!(LeaseError::Version(2).to_string().contains("run the same major version"));
}

#[test]
fn a_bitmap_of_more_units_than_a_lease_has_is_refused() {
    let full = Connect { keep: (0..4096).collect(), ..open() };
    let mut out = vec![0; Connect::MAX_LEN + 1];
    assert_eq!(full.emit(None, &mut out), Some(Connect::MAX_LEN));
    assert_eq!(Connect::parse(&only(&out[..Connect::MAX_LEN])), Ok(full));
    out[18..20].copy_from_slice(&(136u16 + 513).to_le_bytes());
    out[wire::HEADER_LEN + 132..][..2].copy_from_slice(&513u16.to_le_bytes());
    assert_eq!(Connect::parse(&only(&out)).err(), Some(LeaseError::Layout));
}

#[test]
fn messages_of_leases_name_their_two_ends_and_no_request_and_are_whole() {
    for (at, value) in [(10, 1), (22, 1), (22, 2), (4, 0x10)] {
        for label in ["connect-open", "connect-reply-granted", "disconnect"] {
            let mut bytes = block(label);
            bytes[at] = value;
            let record = only(&bytes);
            let found =
                [Connect::parse(&record).err(), ConnectReply::parse(&record).err(), Disconnect::parse(&record).err()];
            assert_eq!(found, [Some(LeaseError::Layout); 3], "{label}, byte {at}");
        }
    }
}
