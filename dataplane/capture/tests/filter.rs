//! Filters: a printed filter is read back as the same expression, and the compiled form gives the answers of the
//! expression.

use capture::filter::{Expr, Filter, MAX_DEPTH, MAX_TERMS, Seen, Term};
use frame::{Class, Peer, PortId};
use proptest::prelude::*;
use wire::record::emit;
use wire::{MsgType, RecordHeader, Scale};

fn peer(address: &str, port: u8) -> Peer {
    Peer::socket(PortId(port), address.parse().unwrap())
}

fn record(msg_type: MsgType, slave: u32, req: u64) -> Vec<u8> {
    let mut bytes = vec![0; 26];
    emit(&RecordHeader::new(msg_type, slave, req, 3), b"abc", &mut bytes).unwrap();
    bytes
}

/// Whether the filter picks a datagram that was received upward from 192.0.2.1:9999 on port 1.
fn picks(filter: &str, datagram: &[u8]) -> bool {
    let peer = peer("192.0.2.1:9999", 1);
    let seen = Seen { received: true, direction: Some(Class::Up), peer: &peer };
    filter.parse::<Filter>().unwrap().picks(Scale::default(), &seen, datagram)
}

#[test]
fn each_term_asks_what_it_says() {
    let datagram = [record(MsgType::ECHO, 17, 0x0001_0000_0000_002a), record(MsgType(0x8001), 18, 7)].concat();
    for filter in [
        "",
        "  ",
        "slave 17",
        "slave 10-17",
        "type echo",
        "type ECHO",
        "type 0x8001",
        "type pattern",
        "type 16",
        "req 0x100000000002a",
        "req 0-7",
        "master 1",
        "host 192.0.2.1",
        "udp 9999",
        "port 1",
        "cargo",
        "up",
        "rx",
        "slave 17 and type echo",
        "slave 1 or slave 18",
        "not slave 17",
        "!slave 17",
        "not (slave 17 and slave 18)",
        "slave 99 or up && !tx",
        "(slave 18)and(type pattern)",
    ] {
        assert!(picks(filter, &datagram), "{filter}");
    }
    for filter in [
        "slave 16",
        "slave 19-99",
        "type rc",
        "req 8-41",
        "master 2",
        "host 192.0.2.2",
        "host ::1",
        "udp 9998",
        "port 0",
        "link",
        "bad",
        "down",
        "tx",
        "slave 17 and type pattern",
        "not slave 17-18",
        "not up",
    ] {
        assert!(!picks(filter, &datagram), "{filter}");
    }
    assert!(picks("link", &record(MsgType::HEARTBEAT, 1, 0)) && !picks("cargo", &record(MsgType::HEARTBEAT, 1, 0)));
}

#[test]
fn what_is_no_record_is_bad_and_nothing_else() {
    let broken = [record(MsgType::ECHO, 17, 1), b"rubbish".to_vec()].concat();
    assert!(picks("bad", &broken) && picks("slave 17", &broken) && picks("not cargo", &broken));
    assert!(picks("bad", b"x") && picks("bad", &record(MsgType::ECHO, 131_072, 1)));
    assert!(!picks("bad", b"") && !picks("cargo", b"") && !picks("up", b"") && picks("not cargo", b""));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, place, part) in [
        ("slave", 6, "expected a slave id as 17"),
        ("slave x", 7, "(\"x\")"),
        ("slave 9-3", 7, "a range as 0-99"),
        ("slave 4294967296", 7, "a slave id"),
        ("type nonsense", 6, "heartbeat, heartbeat_ack"),
        ("master 65536", 8, "below 65536"),
        ("host example.org", 6, "an IP address"),
        ("up and", 7, "expected one of slave ID"),
        ("up down", 4, "expected \"and\", \"or\" or the end"),
        ("(up", 4, "expected \")\""),
        ("up)", 3, "or the end"),
        ("req 0x", 5, "a request id"),
        ("req +1", 5, "a request id"),
        ("UP", 1, "expected one of"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.at, place, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let terms = |count| vec!["up"; count].join(" or ");
    assert!(terms(MAX_TERMS).parse::<Filter>().is_ok());
    assert!(terms(MAX_TERMS + 1).parse::<Filter>().unwrap_err().to_string().contains("more than 64 terms"));
    let nested = |depth| format!("{}up", "not ".repeat(depth));
    assert!(nested(MAX_DEPTH - 1).parse::<Filter>().is_ok());
    assert!(nested(MAX_DEPTH).parse::<Filter>().unwrap_err().to_string().contains("more than 32 deep"));
}

fn term() -> impl Strategy<Value = Term> {
    // Few values, so that terms often match records.
    let range = (0u32..6, 0u32..6).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        range.clone().prop_map(|(a, b)| Term::Slave(a, b)),
        range.prop_map(|(a, b)| Term::Req(u64::from(a) << 48, u64::from(b) << 48)),
        prop_oneof![Just(0x10u16), Just(0x11), Just(1), Just(0x8001), Just(0x9999)]
            .prop_map(|t| Term::Type(MsgType(t))),
        (0u16..4).prop_map(Term::Master),
        prop_oneof![Just("10.0.0.1"), Just("10.0.0.2"), Just("2001:db8::1")]
            .prop_map(|ip| Term::Host(ip.parse().unwrap())),
        (1u16..4).prop_map(Term::Udp),
        (0u8..3).prop_map(Term::Port),
        prop_oneof![
            Just(Term::Link),
            Just(Term::Cargo),
            Just(Term::Bad),
            Just(Term::Up),
            Just(Term::Down),
            Just(Term::Rx),
            Just(Term::Tx)
        ],
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    term().prop_map(Expr::Term).prop_recursive(6, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| Expr::Not(Box::new(a))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
        ]
    })
}

/// The records of a datagram as the test made them. `None` stands for bytes that are not a record; it is always the
/// last.
type Known = Vec<Option<(u16, u32, u64)>>;

#[derive(Clone, Debug)]
struct Case {
    records: Known,
    received: bool,
    direction: Option<Class>,
    peer: Peer,
}

fn case() -> impl Strategy<Value = Case> {
    let records =
        proptest::collection::vec((prop_oneof![Just(0x10u16), Just(1), Just(0x8001)], 0u32..6, 0u64..6), 0..5);
    let direction = prop_oneof![Just(None), Just(Some(Class::Link)), Just(Some(Class::Up)), Just(Some(Class::Down))];
    let address = prop_oneof![Just("10.0.0.1:1"), Just("10.0.0.2:2"), Just("[2001:db8::1]:3")];
    (records, any::<bool>(), any::<bool>(), direction, address, 0u8..3).prop_map(
        |(records, bad, received, direction, address, port)| {
            let known = records.into_iter().map(|(t, slave, req)| Some((t, slave, req << 48)));
            let records = known.chain(bad.then_some(None)).collect();
            Case { records, received, direction, peer: peer(address, port) }
        },
    )
}

/// The meaning of an expression, evaluated in the simplest way.
fn naive(expr: &Expr, case: &Case, record: Option<Option<(u16, u32, u64)>>) -> bool {
    let known = record.flatten();
    match expr {
        Expr::Not(a) => !naive(a, case, record),
        Expr::And(a, b) => naive(a, case, record) && naive(b, case, record),
        Expr::Or(a, b) => naive(a, case, record) || naive(b, case, record),
        Expr::Term(term) => match *term {
            Term::Slave(a, b) => known.is_some_and(|(_, slave, _)| slave >= a && slave <= b),
            Term::Type(wanted) => known.is_some_and(|(t, _, _)| t == wanted.0),
            Term::Req(a, b) => known.is_some_and(|(_, _, req)| req >= a && req <= b),
            Term::Master(id) => known.is_some_and(|(_, _, req)| req >> 48 == u64::from(id)),
            Term::Link => known.is_some_and(|(t, _, _)| (1..=3).contains(&t)),
            Term::Cargo => known.is_some_and(|(t, _, _)| !(1..=3).contains(&t)),
            Term::Bad => record == Some(None),
            Term::Host(ip) => case.peer.address().ip() == ip,
            Term::Udp(port) => case.peer.address().port() == port,
            Term::Port(port) => case.peer.port == PortId(port),
            Term::Up => case.direction == Some(Class::Up) && known.is_some_and(|(t, _, _)| !(1..=3).contains(&t)),
            Term::Down => case.direction == Some(Class::Down) && known.is_some_and(|(t, _, _)| !(1..=3).contains(&t)),
            Term::Rx => case.received,
            Term::Tx => !case.received,
        },
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(expr in expr()) {
        let text = expr.to_string();
        prop_assert_eq!(text.parse::<Expr>().unwrap(), expr.clone());
        prop_assert_eq!(Filter::new(expr).to_string(), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9 ()!&|x.:-]{0,60}") {
        if let Ok(expr) = text.parse::<Expr>() {
            prop_assert_eq!(expr.to_string().parse::<Expr>().unwrap(), expr);
        }
    }

    #[test]
    fn the_compiled_form_answers_as_the_expression(expr in expr(), case in case()) {
        let mut datagram = Vec::new();
        for record in &case.records {
            match *record {
                Some((t, slave, req)) => datagram.extend(self::record(MsgType(t), slave, req)),
                None => datagram.extend(b"XMVG but not enough"),
            }
        }
        let expected = if case.records.is_empty() {
            naive(&expr, &case, None)
        } else {
            case.records.iter().any(|record| naive(&expr, &case, Some(*record)))
        };
        let seen = Seen { received: case.received, direction: case.direction, peer: &case.peer };
        prop_assert_eq!(Filter::new(expr).picks(Scale::default(), &seen, &datagram), expected);
    }
}
