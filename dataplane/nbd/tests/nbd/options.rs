//! The negotiation, option by option.

use super::export;
use nbd::{NbdFault, Negotiated, Negotiation, NegotiationStep};

const MORE: NegotiationStep = NegotiationStep::More;

/// A reply to an option: the option, the kind, the data.
type Reply = (u32, u32, Vec<u8>);

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

/// The data of GO and INFO.
fn go(name: &str, asked: &[u16]) -> Vec<u8> {
    let mut data = text(name);
    data.extend((asked.len() as u16).to_be_bytes());
    asked.iter().for_each(|one| data.extend(one.to_be_bytes()));
    data
}

/// The data of the options about metadata contexts.
fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = text(name);
    data.extend((queries.len() as u32).to_be_bytes());
    queries.iter().for_each(|query| data.extend(text(query)));
    data
}

fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes[..8], 0x0003_e889_0455_65a9u64.to_be_bytes());
        let len = number(16) as usize;
        replies.push((number(8), number(12), bytes[20..20 + len].to_vec()));
        bytes = &bytes[20 + len..];
    }
    replies
}

fn fixed() -> Negotiation {
    let mut negotiation = Negotiation::new(export());
    assert_eq!(negotiation.take(&3u32.to_be_bytes(), &mut Vec::new()), Ok((4, MORE)));
    negotiation
}

/// Sends an option, and returns its replies.
fn ask(negotiation: &mut Negotiation, number: u32, data: &[u8]) -> (NegotiationStep, Vec<Reply>) {
    let (bytes, mut out) = (option(number, data), Vec::new());
    let (taken, step) = negotiation.take(&bytes, &mut out).unwrap();
    assert_eq!(taken, bytes.len());
    (step, replies(&out))
}

const ACK: u32 = 1;
const UNSUP: u32 = 1 << 31 | 1;
const POLICY: u32 = 1 << 31 | 2;
const INVALID: u32 = 1 << 31 | 3;
const UNKNOWN: u32 = 1 << 31 | 6;
const TOO_BIG: u32 = 1 << 31 | 9;

fn kinds(replies: &[Reply]) -> Vec<u32> {
    replies.iter().map(|(_, kind, _)| *kind).collect()
}

#[test]
fn the_greeting_offers_fixed_newstyle() {
    assert_eq!(Negotiation::greeting(), b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn what_was_not_offered_ends_the_connection() {
    let mut negotiation = Negotiation::new(export());
    assert_eq!(negotiation.take(&7u32.to_be_bytes(), &mut Vec::new()), Err(NbdFault::ClientFlags(7)));
    let mut negotiation = fixed();
    let mut bad = option(7, &[]);
    bad[0] = b'X';
    assert!(matches!(negotiation.take(&bad, &mut Vec::new()), Err(NbdFault::OptionMagic(_))));
}

#[test]
fn go_says_size_and_sizes_of_requests() {
    let mut negotiation = fixed();
    let (step, replies) = ask(&mut negotiation, 7, &go("disk", &[3, 1, 2, 99]));
    assert_eq!(step, NegotiationStep::Transmission(Negotiated::default()));
    assert_eq!(kinds(&replies), [3, 3, 3, 3, ACK]);
    let export_info = &replies[0].2;
    assert_eq!(export_info[..10], [&[0, 0][..], &(10u64 << 20).to_be_bytes()].concat());
    // HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN, CACHE, FAST_ZERO; no DF without structured replies.
    assert_eq!(export_info[10..], 0b1101_0110_1101u16.to_be_bytes());
    let sizes = [&[0, 3][..], &512u32.to_be_bytes(), &4096u32.to_be_bytes(), &(1u32 << 25).to_be_bytes()].concat();
    assert_eq!(replies[1].2, sizes);
    assert_eq!(replies[2].2, b"\0\x01disk");
    assert_eq!(replies[3].2, b"\0\x02a disk for tests");
}

#[test]
fn info_does_not_begin_and_a_wrong_name_is_refused() {
    let mut negotiation = fixed();
    assert_eq!(ask(&mut negotiation, 6, &go("", &[])).0, MORE);
    for number in [6, 7] {
        let (step, replies) = ask(&mut negotiation, number, &go("other", &[]));
        assert_eq!((step, kinds(&replies)), (MORE, vec![UNKNOWN]));
        for data in [&b""[..], &[0, 0, 0, 9, b'd'], &go("disk", &[1])[..9], &[go("", &[]), vec![0]].concat()] {
            let (step, replies) = ask(&mut negotiation, number, data);
            assert_eq!((step, kinds(&replies)), (MORE, vec![INVALID]), "{data:?}");
        }
    }
}

#[test]
fn structured_replies_and_the_context_are_agreed_on() {
    let mut negotiation = fixed();
    let query = contexts("", &["qemu:dirty-bitmap:x", "base:allocation"]);
    // Not without structured replies.
    assert_eq!(kinds(&ask(&mut negotiation, 10, &query).1), [INVALID]);
    assert_eq!(kinds(&ask(&mut negotiation, 8, &[1]).1), [INVALID]);
    assert_eq!(kinds(&ask(&mut negotiation, 8, &[]).1), [ACK]);
    for (number, queries, found) in [
        (9, &[][..], true),
        (9, &["base:"], true),
        (9, &["x:", "base:other"], false),
        (10, &["base:"], false),
        (10, &[], false),
        (10, &["base:allocation", "base:allocation"], true),
    ] {
        let (_, replies) = ask(&mut negotiation, number, &contexts("disk", queries));
        assert_eq!(kinds(&replies), if found { vec![4, ACK] } else { vec![ACK] }, "{number} {queries:?}");
        if found {
            let id = u32::from(number == 10);
            assert_eq!(replies[0].2, [&id.to_be_bytes(), &b"base:allocation"[..]].concat());
        }
    }
    let (step, replies) = ask(&mut negotiation, 7, &go("", &[]));
    assert_eq!(step, NegotiationStep::Transmission(Negotiated { structured: true, allocation: true }));
    // Now with DF.
    assert_eq!(replies[0].2[10..], 0b1101_1110_1101u16.to_be_bytes());
}

#[test]
fn a_context_that_fails_forgets_the_one_before() {
    let mut negotiation = fixed();
    ask(&mut negotiation, 8, &[]);
    ask(&mut negotiation, 10, &contexts("", &["base:allocation"]));
    assert_eq!(kinds(&ask(&mut negotiation, 10, &contexts("other", &["base:allocation"])).1), [UNKNOWN]);
    let (step, _) = ask(&mut negotiation, 7, &go("", &[]));
    assert_eq!(step, NegotiationStep::Transmission(Negotiated { structured: true, allocation: false }));
}

#[test]
fn list_abort_tls_and_what_is_unknown() {
    let mut negotiation = fixed();
    let (_, replies) = ask(&mut negotiation, 3, &[]);
    assert_eq!(replies, [(3, 2, text("disk")), (3, ACK, vec![])]);
    assert_eq!(kinds(&ask(&mut negotiation, 3, &[1]).1), [INVALID]);
    assert_eq!(kinds(&ask(&mut negotiation, 5, &[]).1), [POLICY]);
    for unknown in [0, 4, 11, 99, u32::MAX] {
        assert_eq!(kinds(&ask(&mut negotiation, unknown, &[1, 2, 3]).1), [UNSUP]);
    }
    assert_eq!(ask(&mut negotiation, 2, b"bye"), (NegotiationStep::End, vec![(2, ACK, vec![])]));
}

#[test]
fn the_old_option_has_its_old_answer() {
    for (flags, zeroes) in [(1u32, 124), (3, 0), (0, 124), (2, 0)] {
        let mut negotiation = Negotiation::new(export());
        let bytes = [&flags.to_be_bytes()[..], &option(1, b"disk")].concat();
        let mut out = Vec::new();
        let (taken, step) = negotiation.take(&bytes, &mut out).unwrap();
        assert_eq!((taken, step), (bytes.len(), NegotiationStep::Transmission(Negotiated::default())));
        assert_eq!((out.len(), &out[..8]), (10 + zeroes, &(10u64 << 20).to_be_bytes()[..]));
    }
    let wrong = [&3u32.to_be_bytes()[..], &option(1, b"other")].concat();
    assert_eq!(Negotiation::new(export()).take(&wrong, &mut Vec::new()), Err(NbdFault::NoSuchExport));
    let old = [&0u32.to_be_bytes()[..], &option(7, &go("", &[]))].concat();
    assert_eq!(Negotiation::new(export()).take(&old, &mut Vec::new()), Err(NbdFault::NotFixed(7)));
}

#[test]
fn too_much_data_is_skipped_or_ends_the_connection() {
    let mut negotiation = fixed();
    let mut bytes = option(7, &vec![0; 100_000]);
    bytes.extend(option(3, &[]));
    let (mut out, mut at) = (Vec::new(), 0);
    // In small parts: what was not taken comes again.
    for end in (0..bytes.len()).step_by(1000).chain([bytes.len()]) {
        let (taken, step) = negotiation.take(&bytes[at..end], &mut out).unwrap();
        assert_eq!(step, MORE);
        at += taken;
        assert!(end - at <= Negotiation::MOST_NEEDED);
    }
    assert_eq!((at, kinds(&replies(&out))), (bytes.len(), vec![TOO_BIG, 2, ACK]));
    let mut endless = option(9, &[]);
    endless[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    let fault = fixed().take(&endless, &mut Vec::new());
    assert_eq!(fault, Err(NbdFault::OptionLength { option: 9, len: u32::MAX }));
    let mut negotiation = fixed();
    let mut fault = Ok((0, MORE));
    for _ in 0..300 {
        fault = negotiation.take(&option(3, &[]), &mut Vec::new());
        if fault.is_err() {
            break;
        }
    }
    assert!(matches!(fault, Err(NbdFault::OptionCount(_))));
}
