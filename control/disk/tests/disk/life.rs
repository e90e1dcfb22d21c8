//! What clients do all day.

use crate::client::*;
use crate::support::{Running, Wants, until};
use lcore::thread::End;
use proptest::prelude::*;

const EXTENT: u64 = 2 << 20;

/// Bytes that are different at each place.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

#[test]
fn what_is_written_is_read_back_and_trimmed_memory_goes_back() {
    for structured in [false, true] {
        let disk = Running::new(Wants::default());
        let mut client = NbdClient::new(disk.stream(), structured);
        assert_eq!(client.read(0, 1 << 20).unwrap(), vec![0; 1 << 20]);
        assert_eq!(disk.counters().extents_held.get(), 0, "a READ allocates nothing");
        // Over the border of two extents, and not in whole blocks.
        let data = bytes(1, 3 << 19);
        assert_eq!(client.write(EXTENT - 700 * 512, &data), 0);
        assert_eq!(client.read(EXTENT - 700 * 512, data.len() as u32).unwrap(), data);
        let around = client.read(EXTENT - 704 * 512, 8 * 512).unwrap();
        assert_eq!((&around[..4 * 512], &around[4 * 512..]), (&[0; 2048][..], &data[..4 * 512]));
        assert_eq!(disk.counters().extents_held.get(), 2);
        assert_eq!(client.plain(FLUSH, 0, 0, 0), 0);
        assert_eq!(client.plain(CACHE, 0, 0, 4096), 0);
        assert_eq!(client.plain(TRIM, 0, EXTENT, EXTENT as u32), 0);
        assert_eq!(client.read(EXTENT, 4096).unwrap(), vec![0; 4096]);
        assert_eq!(client.read(EXTENT - 4096, 4096).unwrap(), &data[692 * 512..700 * 512]);
        until("the extent is freed", || disk.counters().extents_held.get() == 1);
        assert_eq!(client.plain(WRITE_ZEROES, 0, 0, 64 << 20), 0);
        until("all extents are freed", || disk.counters().extents_held.get() == 0);
        assert_eq!(disk.counters().blocks_present.get(), 0);
        assert_eq!(client.read(0, 2 << 20).unwrap(), vec![0; 2 << 20]);
    }
}

#[test]
fn zeros_for_parts_of_blocks_are_written() {
    let disk = Running::new(Wants::default());
    let mut client = NbdClient::new(disk.stream(), true);
    let mut data = bytes(2, 64 << 10);
    assert_eq!(client.write(0, &data), 0);
    // Parts of blocks alone are no faster than a WRITE.
    assert_eq!(client.plain(WRITE_ZEROES, FAST_ZERO, 512, 1024), 95);
    assert_eq!(client.plain(WRITE_ZEROES, FAST_ZERO, 1 << 20, 1024), 0, "there are zeros already");
    for (offset, len) in [(512, 1024), (8192 - 512, 1024), (20 << 10, 4096), (30 << 10, 20 << 10)] {
        let flags = if len >= 4096 { FAST_ZERO } else { 0 };
        assert_eq!(client.plain(WRITE_ZEROES, flags, offset, len), 0);
        data[offset as usize..(offset + u64::from(len)) as usize].fill(0);
        assert_eq!(client.read(0, 64 << 10).unwrap(), data);
    }
}

#[test]
fn the_state_of_blocks_is_known() {
    let disk = Running::new(Wants::default());
    let mut client = NbdClient::new(disk.stream(), true);
    let states = |client: &mut NbdClient, flags, offset, len| client.full(BLOCK_STATUS, flags, offset, len).states;
    assert_eq!(states(&mut client, 0, 0, 64 << 20), [(64 << 20, 3)]);
    assert_eq!(client.write(EXTENT + 4096, &bytes(3, 8192)), 0);
    let extent = EXTENT as u32;
    assert_eq!(
        states(&mut client, 0, 0, 3 * extent),
        [(extent, 3), (4096, 2), (8192, 0), (extent - 12288, 2), (extent, 3)]
    );
    assert_eq!(states(&mut client, REQ_ONE, EXTENT, 2 * extent), [(4096, 2)]);
    assert_eq!(states(&mut client, REQ_ONE, EXTENT + 8192, 512), [(512, 0)]);
    // With NO_HOLE there is memory for zeros.
    assert_eq!(client.plain(WRITE_ZEROES, NO_HOLE, EXTENT, 3 * extent), 0);
    assert_eq!(states(&mut client, 0, 0, 5 * extent), [(extent, 3), (3 * extent, 2), (extent, 3)]);
    assert_eq!(client.plain(TRIM, 0, 0, 5 * extent), 0);
    assert_eq!(states(&mut client, 0, 0, 5 * extent), [(5 * extent, 3)]);
    // Without the context nobody may ask.
    assert_eq!(NbdClient::new(disk.stream(), false).plain(BLOCK_STATUS, 0, 0, 4096), 22);
}

#[test]
fn a_reply_comes_in_pieces_unless_the_client_wants_it_whole() {
    let disk = Running::new(Wants::default());
    let mut client = NbdClient::new(disk.stream(), true);
    let data = bytes(4, 8192);
    assert_eq!(client.write(4096, &data), 0);
    let expected = [&[0; 4096][..], &data, &[0; 8192]].concat();
    let sparse = client.full(READ, 0, 0, 20480);
    assert_eq!((sparse.error, sparse.chunks, &sparse.data), (0, (1, 2), &expected));
    let whole = client.full(READ, DF, 0, 20480);
    assert_eq!((whole.error, whole.chunks, &whole.data), (0, (1, 0), &expected));
}

#[test]
fn errors_are_those_of_the_protocol_and_the_connection_goes_on() {
    let disk = Running::new(Wants { extents: 2, ..Wants::default() });
    for structured in [false, true] {
        let mut client = NbdClient::new(disk.stream(), structured);
        let end = 64 << 20;
        for (kind, flags, offset, len, error) in [
            (READ, 0, end, 512, 22),
            (READ, 0, 0, 0, 22),
            (READ, 0, 3, 512, 22),
            (READ, 2, 0, 512, 22),
            (READ, 0, 0, 4 << 20, if structured { 75 } else { 22 }),
            (TRIM, 0, end - 512, 1024, 22),
            (WRITE_ZEROES, 0, end - 512, 1024, 28),
            (FLUSH, 0, 512, 0, 22),
            (CACHE, 4, 0, 512, 22),
            (99, 0, 0, 512, 22),
        ] {
            assert_eq!(client.plain(kind, flags, offset, len), error, "{kind} {flags} {offset} {len}");
        }
        // The bytes of a WRITE that is refused are skipped.
        let cookie = client.send(WRITE, 0, end - 512, 1 << 20, &bytes(5, 1 << 20));
        assert_eq!(client.wait(cookie).error, 28);
        // The server of pages gives two extents to this disk.
        assert_eq!(client.write(0, &bytes(6, 512)), 0);
        assert_eq!(client.write(EXTENT, &bytes(6, 512)), 0);
        assert_eq!(client.write(2 * EXTENT, &bytes(6, 512)), 28);
        assert_eq!(client.plain(WRITE_ZEROES, NO_HOLE, 3 * EXTENT, 512), 28);
        assert_eq!(client.plain(WRITE_ZEROES, 0, 3 * EXTENT + 512, 512), 0);
        assert_eq!(client.read(0, 512).unwrap(), bytes(6, 512));
    }
    assert!(disk.counters().requests_failed_no_space.get() >= 4);
    assert_eq!(disk.counters().connections_faulty.get(), 0);
}

#[test]
fn thousands_of_requests_are_pipelined_by_several_connections() {
    let disk = Running::new(Wants { size: 256 << 20, buffers: 1 << 20, ..Wants::default() });
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let disk = &disk;
            scope.spawn(move || {
                let client = NbdClient::new(disk.stream(), thread % 2 == 0);
                let base = thread * (8 << 20);
                let (mut writer, mut client) = (client.stream.try_clone().unwrap(), client);
                // One thread sends all, the other one receives.
                const COUNT: u64 = 8000;
                for at in 0..COUNT {
                    let kind = if at < 1000 { WRITE } else { READ };
                    client.expect(at, kind, base + at % 1000 * 4096, if kind == READ { 4096 } else { 0 });
                }
                let sender = scope.spawn(move || {
                    for at in 0..COUNT {
                        let offset = base + at % 1000 * 4096;
                        let data = bytes(offset, 4096);
                        let kind = if at < 1000 { WRITE } else { READ };
                        let mut head = NbdClient::head(kind, 0, at + 1, offset, 4096);
                        if kind == WRITE {
                            head.extend(data);
                        }
                        std::io::Write::write_all(&mut writer, &head).unwrap();
                    }
                });
                for cookie in 1..=COUNT {
                    let answer = client.wait(cookie);
                    assert_eq!(answer.error, 0);
                    // READs may have come before the WRITE of their block had ended.
                    if cookie > 4000 {
                        let expected = bytes(base + (cookie - 1) % 1000 * 4096, 4096);
                        assert!(answer.data == expected || answer.data == [0; 4096], "{cookie}");
                    }
                }
                sender.join().unwrap();
                assert_eq!(client.read(base + 999 * 4096, 4096).unwrap(), bytes(base + 999 * 4096, 4096));
            });
        }
    });
    assert_eq!(disk.counters().connections_accepted.get(), 4);
}

#[test]
fn a_client_leaves_and_a_disk_drains() {
    let mut disk = Running::new(Wants::default());
    let mut client = NbdClient::new(disk.stream(), true);
    let cookie = client.send(WRITE, 1, 0, 1 << 20, &bytes(7, 1 << 20));
    client.send(DISC, 0, 0, 0, &[]);
    // What was under way is answered before the connection ends.
    assert_eq!(client.wait(cookie).error, 0);
    assert!(client.receive().is_err());
    until("the connection ends", || disk.counters().connections.get() == 0);
    let mut client = NbdClient::new(disk.stream(), true);
    // So small that it waits in the socket until it is read.
    let cookie = client.send(READ, 0, 0, 32 << 10, &[]);
    until("the request has come", || disk.counters().reads.get() > 0 || disk.counters().requests_pending.get() > 0);
    assert_eq!(disk.drain(), End::Drained);
    assert_eq!(client.wait(cookie).data, bytes(7, 32 << 10));
    assert!(!disk.path().exists());
}

#[test]
fn there_are_no_more_connections_than_allowed() {
    let disk = Running::new(Wants { connections: 2, ..Wants::default() });
    let clients = [(); 2].map(|()| NbdClient::new(disk.stream(), true));
    let mut third = disk.stream();
    assert_eq!(std::io::Read::read(&mut third, &mut [0; 8]).unwrap_or(0), 0);
    drop(clients);
    until("they are gone", || disk.counters().connections.get() == 0);
    assert_eq!(NbdClient::new(disk.stream(), true).read(0, 512).unwrap(), [0; 512]);
    assert_eq!(disk.counters().connections_refused.get(), 1);
}

#[derive(Clone, Debug)]
enum Act {
    Write(u64, u32),
    Zeros(u64, u32, u16),
    Trim(u64, u32),
    Read(u64, u32, bool),
}

fn act() -> impl Strategy<Value = Act> {
    // Sectors around the border of two extents, and long requests.
    let place = (prop_oneof![0u64..64, 4064u64..4128, 8190u64..8200], prop_oneof![1u32..40, 1u32..3000]);
    (place, 0u8..4, any::<bool>(), prop::sample::select(vec![0, NO_HOLE, FAST_ZERO])).prop_map(
        |((sector, count), kind, whole, flags)| {
            let (at, len) = (sector * 512, count * 512);
            match kind {
                0 => Act::Write(at, len),
                1 => Act::Zeros(at, len, flags),
                2 => Act::Trim(at, len),
                _ => Act::Read(at, len, whole),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// One request after the other: the disk has what a memory would have. Whole blocks that were trimmed are zeros.
    #[test]
    fn a_disk_is_a_memory(acts in proptest::collection::vec(act(), 1..60), structured in any::<bool>()) {
        let disk = Running::new(Wants { size: 8 << 20, ..Wants::default() });
        let mut client = NbdClient::new(disk.stream(), structured);
        let mut model = vec![0u8; 8 << 20];
        for (turn, act) in acts.into_iter().enumerate() {
            match act {
                Act::Write(at, len) => {
                    let data = bytes(turn as u64 + 9, len as usize);
                    prop_assert_eq!(client.write(at, &data), 0);
                    model[at as usize..at as usize + data.len()].copy_from_slice(&data);
                }
                Act::Zeros(at, len, flags) => {
                    let error = client.plain(WRITE_ZEROES, flags, at, len);
                    prop_assert!(error == 0 || (error == 95 && flags == FAST_ZERO), "{}", error);
                    if error == 0 {
                        model[at as usize..at as usize + len as usize].fill(0);
                    }
                }
                Act::Trim(at, len) => {
                    prop_assert_eq!(client.plain(TRIM, 0, at, len), 0);
                    let (first, end) = (at.next_multiple_of(4096) as usize, (at as usize + len as usize) / 4096 * 4096);
                    if first < end {
                        model[first..end].fill(0);
                    }
                }
                Act::Read(at, len, whole) => {
                    let answer = client.full(READ, if whole && structured { DF } else { 0 }, at, len);
                    prop_assert!(answer.error == 0 && answer.data == model[at as usize..][..len as usize]);
                }
            }
        }
        for at in (0..8 << 20).step_by(1 << 20) {
            prop_assert!(client.read(at, 1 << 20).unwrap() == model[at as usize..][..1 << 20]);
        }
    }
}
