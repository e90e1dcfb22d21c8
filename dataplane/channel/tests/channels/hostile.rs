//! The client writes what it likes, whenever it likes.

use crate::pairs::{READ, done, ends};
use channel::{ChannelBroken, ChannelRequest, ChannelStatus, EXTENT, Taken};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

/// Words of the memory that the client writes to, of a channel with four places.
const REQUESTS: usize = 24;
const COMPLETIONS: usize = 48;

#[test]
fn what_is_refused_is_completed_with_its_fault_and_only_once() {
    let (mut client, mut server, _) = ends(4);
    let bad = [
        ChannelRequest { tag: 1, len: 0, ..READ },
        ChannelRequest { tag: 2, offset: EXTENT - 8, ..READ },
        ChannelRequest { tag: 3, buffer: 4104, ..READ },
        ChannelRequest { tag: 4, offset: 1, ..READ },
    ];
    client.post(&bad).unwrap();
    let mut burst = [READ; 8];
    assert_eq!(server.take(&mut burst), Ok(Taken { count: 0, refused: 4, ring: false }));
    assert_eq!(server.under_way(), 0);
    let mut out = [done(0); 8];
    assert_eq!(client.poll(&mut out), Ok(4));
    let ends: Vec<_> = out[..4].iter().map(|completion| (completion.tag, completion.status, completion.len)).collect();
    let (range, buffer, form) = (ChannelStatus::OUT_OF_RANGE, ChannelStatus::BAD_BUFFER, ChannelStatus::MALFORMED);
    assert_eq!(ends, [(1, range, 0), (2, range, 0), (3, buffer, 0), (4, form, 0)]);
}

#[test]
fn what_was_taken_does_not_change_with_the_memory() {
    let (mut client, mut server, memory) = ends(4);
    client.post(&[READ]).unwrap();
    let mut burst = [READ; 1];
    server.take(&mut burst).unwrap();
    for word in REQUESTS..REQUESTS + 4 {
        memory[word].store(u64::MAX, Ordering::Relaxed);
    }
    assert_eq!(burst, [READ]);
}

#[test]
fn a_client_that_does_not_poll_may_not_post_more() {
    let (mut client, mut server, memory) = ends(4);
    client.post(&[READ; 4]).unwrap();
    server.take(&mut [READ; 4]).unwrap();
    server.complete(&[done(0); 4]).unwrap();
    // It has polled nothing and posts a fifth request, past its own end of the channel.
    memory[0].store(5, Ordering::Release);
    assert_eq!(server.take(&mut [READ; 4]), Err(ChannelBroken::TooManyRequests));
}

#[test]
fn a_client_may_not_post_more_while_all_its_requests_are_under_way() {
    let (mut client, mut server, memory) = ends(4);
    client.post(&[READ; 4]).unwrap();
    server.take(&mut [READ; 4]).unwrap();
    // The ring of completions is empty, and all its places are promised.
    memory[0].store(5, Ordering::Release);
    assert_eq!(server.take(&mut [READ; 4]), Err(ChannelBroken::TooManyRequests));
    assert_eq!(server.complete(&[done(0); 4]), Ok(false));
}

#[test]
fn a_client_that_takes_back_what_it_polled_is_broken() {
    let (mut client, mut server, memory) = ends(4);
    let head = COMPLETIONS - 8;
    for _ in 0..2 {
        client.post(&[READ; 4]).unwrap();
        server.take(&mut [READ; 4]).unwrap();
        server.complete(&[done(0); 4]).unwrap();
        client.poll(&mut [done(0); 4]).unwrap();
    }
    client.post(&[READ; 4]).unwrap();
    server.take(&mut [READ; 4]).unwrap();
    // The server knows how far the client was; from here on it need not look, and its completions have room.
    let at = (0..memory.len()).find(|word| *word > REQUESTS && memory[*word].load(Ordering::Relaxed) == 8).unwrap();
    assert!(at >= head, "the first word with this number behind the requests is the ring's");
    memory[at + 8].store(0, Ordering::Relaxed);
    server.complete(&[done(0); 4]).unwrap();
    memory[0].store(13, Ordering::Release);
    assert_eq!(server.take(&mut [READ; 4]), Err(ChannelBroken::Ring));
}

#[test]
fn numbers_that_jump_are_broken() {
    for tail in [5, u64::MAX, 1 << 40] {
        let (_, mut server, memory) = ends(4);
        memory[0].store(tail, Ordering::Relaxed);
        assert_eq!(server.take(&mut [READ; 4]), Err(ChannelBroken::Ring));
    }
}

#[test]
fn a_server_that_completes_what_was_not_posted_is_broken() {
    let (mut client, mut server, memory) = ends(4);
    client.post(&[READ]).unwrap();
    server.take(&mut [READ; 4]).unwrap();
    server.complete(&[done(0)]).unwrap();
    // The number of posted completions: the last one that is 1.
    let at = (REQUESTS..memory.len()).find(|word| memory[*word].load(Ordering::Relaxed) == 1 && *word > 39).unwrap();
    memory[at].store(2, Ordering::Release);
    assert_eq!(client.poll(&mut [done(0); 4]), Err(ChannelBroken::TooManyCompletions));
}

proptest! {
    /// Whatever the client writes over rings and buffers: the server hands out only what lies inside, never has more
    /// under way than the capacity, always has room for completions, and writes nothing outside of its rings.
    #[test]
    fn rubbish_is_survived(
        rubbish in proptest::collection::vec(
            (0usize..128, prop_oneof![0u64..12, any::<u64>(), Just(0x0101 << 48), Just(4096 << 32)], any::<bool>()),
            1..200)) {
        let (_, mut server, memory) = ends(4);
        let buffers = server.layout().buffers_at() as usize / 8;
        let mut burst = [READ; 8];
        for (at, value, complete) in rubbish {
            memory[at].store(value, Ordering::Relaxed);
            match server.take(&mut burst) {
                Ok(taken) => {
                    prop_assert!(taken.count + taken.refused <= 4 && server.under_way() <= 4);
                    for request in &burst[..taken.count] {
                        prop_assert!(request.len > 0 && request.offset <= EXTENT - request.len);
                        prop_assert!(request.buffer + u64::from(request.len) <= server.layout().buffers());
                    }
                }
                // The channel would be closed.
                Err(_) => break,
            }
            if complete && server.under_way() > 0 && server.complete(&[done(1)]).is_err() {
                break;
            }
        }
        prop_assert!(memory[buffers..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
