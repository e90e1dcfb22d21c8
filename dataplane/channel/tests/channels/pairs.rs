//! What is posted is taken once, and what is completed is polled once.

use channel::{
    ChannelBroken, ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, ClientEnd, EXTENT, Lane, ServerEnd,
    Taken, Transfer,
};
use frame::{Hugepages, Shared};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// Both ends, each with a mapping of its own, as two processes have them.
pub(crate) fn ends(capacity: u32) -> (ClientEnd<Arc<Shared>>, ServerEnd<Arc<Shared>>, Arc<Shared>) {
    let layout = ChannelLayout::new(capacity, 8192).unwrap();
    let made = Arc::new(Shared::new(layout.bytes() as usize, Hugepages::Never).unwrap());
    let adopted = Shared::adopt(made.file().try_clone_to_owned().unwrap(), 1 << 30).unwrap();
    made.freeze().unwrap();
    let server = ServerEnd::new(made.clone(), layout).unwrap();
    (ClientEnd::new(Arc::new(adopted), layout).unwrap(), server, made)
}

pub(crate) const READ: ChannelRequest =
    ChannelRequest { tag: 0, transfer: Transfer::Read, lane: Lane::Demand, extent: 1, offset: 0, len: 4096, buffer: 0 };

pub(crate) fn done(tag: u64) -> ChannelCompletion {
    ChannelCompletion { tag, status: ChannelStatus::DONE, len: 4096 }
}

#[test]
fn a_request_goes_there_and_its_completion_back() {
    let (mut client, mut server, _) = ends(4);
    let write = ChannelRequest {
        tag: 9,
        transfer: Transfer::Write,
        lane: Lane::Bulk,
        extent: u64::MAX,
        offset: EXTENT - 8,
        len: 8,
        buffer: 8184,
    };
    assert_eq!(client.post(&[READ, write]).map(|posted| (posted.count, posted.ring)), Ok((2, false)));
    let mut burst = [READ; 8];
    assert_eq!(server.take(&mut burst), Ok(Taken { count: 2, refused: 0, ring: false }));
    assert_eq!((&burst[..2], server.under_way(), client.under_way()), (&[READ, write][..], 2, 2));
    let failed = ChannelCompletion { tag: 9, status: ChannelStatus::SLAVE_GONE, len: 0 };
    assert_eq!(server.complete(&[failed, done(0)]), Ok(false));
    let mut ended = [done(77); 8];
    assert_eq!(client.poll(&mut ended), Ok(2));
    assert_eq!((&ended[..2], server.under_way(), client.under_way()), (&[failed, done(0)][..], 0, 0));
}

#[test]
fn no_more_is_posted_than_there_is_room_for_completions() {
    let (mut client, mut server, _) = ends(2);
    assert_eq!(client.post(&[READ; 3]).map(|posted| posted.count), Ok(2));
    server.take(&mut [READ; 2]).unwrap();
    // The server has taken both, so there is room in its ring; the completions are still to come.
    assert_eq!((client.room(), client.post(&[READ]).map(|posted| posted.count)), (0, Ok(0)));
    server.complete(&[done(0)]).unwrap();
    client.poll(&mut [done(0); 2]).unwrap();
    assert_eq!(client.post(&[READ; 3]).map(|posted| posted.count), Ok(1));
    assert_eq!(server.take(&mut [READ; 2]).map(|taken| taken.count), Ok(1));
    assert_eq!(server.complete(&[done(0), done(0)]), Ok(false));
}

#[test]
fn more_completions_than_requests_are_a_fault_of_the_server() {
    let (mut client, mut server, _) = ends(2);
    client.post(&[READ]).unwrap();
    server.take(&mut [READ; 2]).unwrap();
    assert_eq!(server.complete(&[done(0), done(0)]), Err(ChannelBroken::TooManyCompletions));
    assert_eq!((server.complete(&[done(0)]), client.poll(&mut [done(0); 4])), (Ok(false), Ok(1)));
    assert_eq!(server.complete(&[done(0)]), Err(ChannelBroken::TooManyCompletions));
}

#[test]
fn who_sleeps_is_rung_for() {
    let (mut client, mut server, _) = ends(4);
    assert_eq!((server.sleep(), client.sleep()), (Ok(true), Ok(true)));
    assert_eq!(client.post(&[READ]).map(|posted| posted.ring), Ok(true));
    assert_eq!(client.post(&[READ]).map(|posted| posted.ring), Ok(false));
    server.take(&mut [READ; 4]).unwrap();
    assert_eq!((server.complete(&[done(0)]), server.complete(&[done(0)])), (Ok(true), Ok(false)));
    // What is refused rings, too.
    client.poll(&mut [done(0); 4]).unwrap();
    assert_eq!(client.sleep(), Ok(true));
    client.post(&[ChannelRequest { len: 0, ..READ }]).unwrap();
    assert_eq!(server.take(&mut [READ; 4]), Ok(Taken { count: 0, refused: 1, ring: true }));
    assert_eq!(client.sleep(), Ok(false), "there is something to poll");
    assert_eq!((server.wake(), client.wake()), (Ok(()), Ok(())));
}

proptest! {
    /// Both ends at random paces, the server completes in any order: each request ends once, and nothing is refused.
    #[test]
    fn each_request_ends_once(capacity in 1u32..4,
        acts in proptest::collection::vec((0u8..4, 0usize..12, any::<proptest::sample::Index>()), 1..200)) {
        let capacity = 1 << capacity;
        let (mut client, mut server, _) = ends(capacity);
        let (mut next, mut ended) = (0, std::collections::BTreeSet::new());
        let mut taken: VecDeque<u64> = VecDeque::new();
        for (act, burst, place) in acts {
            match act {
                0 => {
                    let numbered = |at| ChannelRequest { tag: next + at, ..READ };
                    let requests: Vec<_> = (0..burst as u64).map(numbered).collect();
                    next += client.post(&requests).unwrap().count as u64;
                }
                1 => {
                    let mut out = vec![READ; burst];
                    let found = server.take(&mut out).unwrap();
                    prop_assert_eq!(found.refused, 0);
                    taken.extend(out[..found.count].iter().map(|request| request.tag));
                }
                2 => {
                    let mut out = Vec::new();
                    while out.len() < burst && !taken.is_empty() {
                        out.extend(taken.remove(place.index(taken.len())).map(done));
                    }
                    server.complete(&out).unwrap();
                }
                _ => {
                    let mut out = vec![done(0); burst];
                    let found = client.poll(&mut out).unwrap();
                    prop_assert!(out[..found].iter().all(|completion| ended.insert(completion.tag)));
                }
            }
            prop_assert_eq!(client.under_way() as u64, next - ended.len() as u64);
            prop_assert!(client.under_way() <= capacity as usize && server.under_way() == taken.len());
        }
        // Nothing is stuck.
        while ended.len() < next as usize {
            let mut out = [READ; 64];
            let found = server.take(&mut out).unwrap().count;
            taken.extend(out[..found].iter().map(|request| request.tag));
            let out: Vec<_> = taken.drain(..).map(done).collect();
            server.complete(&out).unwrap();
            let mut out = [done(0); 64];
            let found = client.poll(&mut out).unwrap();
            prop_assert!(found > 0 && out[..found].iter().all(|completion| ended.insert(completion.tag)));
        }
    }
}
