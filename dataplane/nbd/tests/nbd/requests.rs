//! Requests and replies.

use super::export;
use nbd::reply::{self, BlockState};
use nbd::{Export, NbdError, NbdFault, NbdOperation, Negotiated, RequestHead};

const SIMPLE: Negotiated = Negotiated { structured: false, allocation: false };
const ALL: Negotiated = Negotiated { structured: true, allocation: true };

fn head(kind: u16, flags: u16, offset: u64, len: u32) -> RequestHead {
    RequestHead { flags, kind, cookie: 7, offset, len }
}

fn bytes(head: &RequestHead) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&0x2560_9513u32.to_be_bytes());
    bytes[4..6].copy_from_slice(&head.flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&head.kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&head.cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&head.offset.to_be_bytes());
    bytes[24..].copy_from_slice(&head.len.to_be_bytes());
    bytes
}

#[test]
fn a_head_is_read_or_the_connection_ends() {
    let wanted = head(1, 1, 4096, 512);
    assert_eq!(RequestHead::parse(&bytes(&wanted)), Ok(wanted));
    assert_eq!((wanted.payload(), head(0, 0, 0, 512).payload()), (512, 0));
    let mut wrong = bytes(&wanted);
    wrong[3] = 0x14;
    assert_eq!(RequestHead::parse(&wrong), Err(NbdFault::RequestMagic(0x2560_9514)));
}

#[test]
fn requests_are_checked_as_the_protocol_says() {
    use NbdError::{Invalid, NoSpace, NotPermitted, Overflow};
    let export = export();
    let (size, most) = (export.size, export.most);
    let large = Export { size: 1 << 40, ..(*export).clone() };
    for (agreed, head, result) in [
        (SIMPLE, head(0, 0, 0, 512), Ok(NbdOperation::Read { whole: false })),
        (SIMPLE, head(0, 1, size - 512, 512), Ok(NbdOperation::Read { whole: false })),
        (ALL, head(0, 4, 0, 512), Ok(NbdOperation::Read { whole: true })),
        (SIMPLE, head(0, 4, 0, 512), Err(Invalid)),
        (ALL, head(0, 2, 0, 512), Err(Invalid)),
        (ALL, head(0, 0, 0, 0), Err(Invalid)),
        (ALL, head(0, 0, 0, 511), Err(Invalid)),
        (ALL, head(0, 0, 1, 512), Err(Invalid)),
        (ALL, head(0, 0, size, 512), Err(Invalid)),
        (ALL, head(0, 0, u64::MAX - 511, 512), Err(Invalid)),
        (SIMPLE, head(1, 1, 0, 512), Ok(NbdOperation::Write)),
        (SIMPLE, head(1, 0, size - 512, 1024), Err(NoSpace)),
        (SIMPLE, head(1, 8, 0, 512), Err(Invalid)),
        (SIMPLE, head(2, 0xffff, 1, 1), Ok(NbdOperation::Disconnect)),
        (SIMPLE, head(3, 0, 0, 0), Ok(NbdOperation::Flush)),
        (SIMPLE, head(3, 0, 512, 0), Err(Invalid)),
        (SIMPLE, head(4, 1, 0, 512), Ok(NbdOperation::Trim)),
        (SIMPLE, head(4, 0, size, 512), Err(Invalid)),
        (SIMPLE, head(5, 0, 0, 512), Ok(NbdOperation::Cache)),
        (SIMPLE, head(5, 2, 0, 512), Err(Invalid)),
        (SIMPLE, head(6, 0, 0, 512), Ok(NbdOperation::WriteZeroes { no_hole: false, fast: false })),
        (SIMPLE, head(6, 0x13, 0, 512), Ok(NbdOperation::WriteZeroes { no_hole: true, fast: true })),
        (SIMPLE, head(6, 0, size, 512), Err(NoSpace)),
        (SIMPLE, head(7, 0, 0, 512), Err(Invalid)),
        (ALL, head(7, 8, 0, 512), Ok(NbdOperation::BlockStatus { one: true })),
        (ALL, head(7, 0, size, 512), Err(Invalid)),
        (ALL, head(8, 0, 0, 512), Err(Invalid)),
        (ALL, head(0xffff, 0, 0, 512), Err(Invalid)),
    ] {
        assert_eq!(head.check(&export, agreed), result, "{head:?} {agreed:?}");
    }
    for (agreed, kind, result) in [(ALL, 0, Overflow), (SIMPLE, 0, Invalid), (ALL, 1, Invalid)] {
        assert_eq!(head(kind, 0, 0, most + 512).check(&large, agreed), Err(result));
        assert!(head(kind, 0, 0, most).check(&large, agreed).is_ok());
    }
    // Requests without bytes may be as long as their field allows.
    for kind in [4, 5, 6, 7] {
        assert!(head(kind, 0, 0, 0xffff_fe00).check(&large, ALL).is_ok());
    }
    let read_only = Export { is_read_only: true, ..(*export).clone() };
    for kind in [1, 4, 6] {
        assert_eq!(head(kind, 0, 0, 512).check(&read_only, ALL), Err(NotPermitted));
    }
    assert!(head(0, 0, 0, 512).check(&read_only, ALL).is_ok());
}

#[test]
fn replies_have_their_bytes() {
    let one = |make: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        make(&mut out);
        out
    };
    assert_eq!(
        one(&|out| reply::simple(out, 0x0102_0304_0506_0708, Some(NbdError::Io))),
        [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8]
    );
    let chunk = |flags: u8, kind: [u8; 2], payload: &[u8]| {
        let mut bytes = vec![0x66, 0x8e, 0x33, 0xef, 0, flags, kind[0], kind[1], 0, 0, 0, 0, 0, 0, 0, 9];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    };
    assert_eq!(one(&|out| reply::done(out, 9)), chunk(1, [0, 0], &[]));
    let offset = 0x1_0000_0200u64.to_be_bytes();
    let mut with_data = one(&|out| reply::data(out, 9, false, 0x1_0000_0200, 3));
    with_data.extend([1, 2, 3]);
    assert_eq!(with_data, chunk(0, [0, 1], &[&offset[..], &[1, 2, 3]].concat()));
    let hole = one(&|out| reply::hole(out, 9, true, 0x1_0000_0200, 512));
    assert_eq!(hole, chunk(1, [0, 2], &[&offset[..], &512u32.to_be_bytes()].concat()));
    let error = one(&|out| reply::error(out, 9, NbdError::NoSpace, "no"));
    assert_eq!(error, chunk(1, [0x80, 1], &[0, 0, 0, 28, 0, 2, b'n', b'o']));
    assert_eq!(one(&|out| reply::error(out, 9, NbdError::Io, &"x".repeat(9999))).len(), 20 + 6 + 4096);
    let states = [
        BlockState { len: 512, hole: false, zero: false },
        BlockState { len: 4096, hole: true, zero: true },
        BlockState { len: 512, hole: false, zero: true },
    ];
    let status = one(&|out| reply::block_status(out, 9, &states));
    let numbers = [1u32, 512, 0, 4096, 3, 512, 2].map(u32::to_be_bytes).concat();
    assert_eq!(status, chunk(1, [0, 5], &numbers));
}
