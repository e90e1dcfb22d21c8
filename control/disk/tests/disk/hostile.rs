//! Clients that do not keep to the protocol, or do not read: they lose their connection, and others do not notice.

use crate::client::*;
use crate::life::bytes;
use crate::support::{Running, Wants, until};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// The disk for all cases of a property.
fn disk() -> Running {
    Running::new(Wants { size: 16 << 20, connections: 64, ..Wants::default() })
}

/// Sends bytes in two parts, says that no more come, and reads until the server closes the connection.
fn send(mut stream: UnixStream, bytes: &[u8], cut: usize) -> Vec<u8> {
    let cut = cut % (bytes.len() + 1);
    // The server may close at any time.
    let _ = stream.write_all(&bytes[..cut]).and_then(|()| stream.write_all(&bytes[cut..]));
    let _ = stream.shutdown(Shutdown::Write);
    let mut came = Vec::new();
    let _ = stream.read_to_end(&mut came);
    came
}

/// Any bytes instead of a negotiation, or behind a good one. The disk serves the next client.
#[test]
fn any_bytes() {
    let disk = disk();
    let config = ProptestConfig::with_cases(200);
    proptest!(config, |(rubbish in vec(any::<u8>(), 0..300), cut in any::<usize>(), good in 0u8..4)| {
        let begin = match good {
            0 => Vec::new(),
            1 => 3u32.to_be_bytes().to_vec(),
            2 => [&3u32.to_be_bytes()[..], b"IHAVEOPT"].concat(),
            _ => [&3u32.to_be_bytes()[..], b"IHAVEOPT", &[0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0]].concat(),
        };
        send(disk.stream(), &[begin, rubbish].concat(), cut);
        prop_assert_eq!(NbdClient::new(disk.stream(), true).read(0, 512).map(|data| data.len()), Ok(512));
    });
}

/// Requests with any fields: each is answered, or the connection ends.
#[test]
fn any_requests() {
    let disk = disk();
    let offset = prop_oneof![0u64..100, any::<u64>()];
    let request = (0u16..9, prop_oneof![Just(0u16), 0u16..64], offset, 0u32..5000);
    let config = ProptestConfig::with_cases(200);
    proptest!(config, |(requests in vec(request, 1..20), cut in any::<usize>(), structured in any::<bool>())| {
        let mut input = 3u32.to_be_bytes().to_vec();
        let option = |number: u32, data: &[u8]| {
            [&b"IHAVEOPT"[..], &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
        };
        if structured {
            input.extend(option(8, &[]));
        }
        input.extend(option(7, &[0; 6]));
        for (cookie, (kind, flags, offset, len)) in requests.into_iter().enumerate() {
            let offset = if offset < 100 { offset * 512 } else { offset };
            let len = if len < 2500 { len / 8 * 512 } else { len };
            input.extend(NbdClient::head(kind, flags, cookie as u64, offset, len));
            if kind == WRITE {
                input.extend(vec![0xcc; len as usize]);
            }
        }
        send(disk.stream(), &input, cut);
        prop_assert!(NbdClient::new(disk.stream(), structured).read(0, 512).is_ok());
    });
}

#[test]
fn a_client_that_lost_its_place_loses_its_connection() {
    let disk = Running::new(Wants::default());
    let mut good = NbdClient::new(disk.stream(), true);
    let mut bad = NbdClient::new(disk.stream(), true);
    let cookie = bad.send(WRITE, 0, 0, 4096, &bytes(1, 4096));
    assert_eq!(bad.wait(cookie).error, 0);
    bad.stream.write_all(&[0x25; 28]).unwrap();
    assert!(bad.receive().is_err());
    until("it is counted", || disk.counters().connections_faulty.get() == 1);
    assert_eq!(good.read(0, 4096).unwrap(), bytes(1, 4096));
}

#[test]
fn a_client_that_goes_in_the_middle_leaves_nothing_behind() {
    let disk = Running::new(Wants::default());
    for round in 0..30u64 {
        let mut client = NbdClient::new(disk.stream(), round % 2 == 0);
        for at in 0..20 {
            client.send(WRITE, 0, at << 16, 1 << 16, &bytes(round, 1 << 16));
            client.send(READ, 0, at << 16, 1 << 16, &[]);
        }
        // In the middle of the bytes of a WRITE.
        let mut head = NbdClient::head(WRITE, 0, 9999, 0, 1 << 20);
        head.extend(bytes(round, 100_000));
        client.stream.write_all(&head).unwrap();
        if round % 3 == 0 {
            client.stream.shutdown(Shutdown::Both).unwrap();
        }
    }
    until("all are gone", || disk.counters().connections.get() == 0 && disk.counters().requests_pending.get() == 0);
    let mut client = NbdClient::new(disk.stream(), true);
    let data = client.read(1 << 16, 1 << 16).unwrap();
    assert!((0..30).any(|round| data == bytes(round, 1 << 16)));
    // All buffers are free again: the largest request needs half of them.
    assert_eq!(client.write(4 << 20, &bytes(2, 2 << 20)), 0);
    assert_eq!(client.full(READ, DF, 4 << 20, 2 << 20).data, bytes(2, 2 << 20));
}

#[test]
fn a_client_that_reads_nothing_does_not_keep_others_waiting() {
    let disk = Running::new(Wants { buffers: 4 << 20, ..Wants::default() });
    let mut good = NbdClient::new(disk.stream(), true);
    for at in 0..8 {
        assert_eq!(good.write(at << 20, &bytes(at, 1 << 20)), 0);
    }
    // Its replies take all buffers.
    let mut bad = NbdClient::new(disk.stream(), true);
    for at in 0..8 {
        bad.send(READ, 0, at << 20, 1 << 20, &[]);
    }
    until("its replies wait", || disk.counters().buffer_waits.get() > 0);
    for at in 0..8 {
        assert_eq!(good.read(at << 20, 1 << 20).unwrap(), bytes(at, 1 << 20));
    }
    assert_eq!(disk.counters().connections_stalled.get(), 1);
}
