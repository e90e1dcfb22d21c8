//! All interleavings of both ends with up to two preemptions, over both rings. `ring` has the tests of one ring, with
//! its bell; what is new here is the room for completions, which depends on the order of stores to two rings.

use channel::{ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, ClientEnd, Lane, ServerEnd, Transfer};
use loom::sync::Arc;
use loom::thread;
use ring::{SharedWord, Words};
use std::sync::atomic::Ordering;

/// A word of the model.
struct Model(loom::sync::atomic::AtomicU64);

impl SharedWord for Model {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn fence() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Memory(Arc<Vec<Model>>);

impl Words for Memory {
    type Word = Model;

    fn words(&self) -> &[Model] {
        &self.0
    }
}

const REQUESTS: u64 = 3;

fn request(tag: u64) -> ChannelRequest {
    let (transfer, lane) = (Transfer::Read, Lane::Demand);
    ChannelRequest { tag, transfer, lane, extent: tag, offset: 0, len: 8, buffer: 0 }
}

/// The smallest channel has two places, and three requests go through it: the third one needs the place of a completion
/// that was polled.
fn pass() {
    let layout = ChannelLayout::new(2, 4096).unwrap();
    let words = (0..layout.completions_at() + 28).map(|_| Model(loom::sync::atomic::AtomicU64::new(0)));
    let memory = Memory(Arc::new(words.collect()));
    let server = {
        let memory = memory.clone();
        thread::spawn(move || {
            let mut server = ServerEnd::new(memory, layout).unwrap();
            let mut next = 1;
            while next <= REQUESTS {
                let mut burst = [request(0); 2];
                let taken = server.take(&mut burst).expect("a client that keeps the rules is not refused");
                for request in &burst[..taken.count] {
                    assert_eq!((request.tag, request.extent), (next, next), "a request is lost, doubled or torn");
                    next += 1;
                    let done = ChannelCompletion { tag: request.tag, status: ChannelStatus::DONE, len: 8 };
                    server.complete(&[done]).expect("a completion finds room");
                }
                if taken.count == 0 {
                    thread::yield_now();
                }
            }
        })
    };
    let mut client = ClientEnd::new(memory, layout).unwrap();
    let (mut posted, mut ended) = (0, 0);
    while ended < REQUESTS {
        while posted < REQUESTS && client.post(&[request(posted + 1)]).expect("the server keeps the rules").count > 0 {
            posted += 1;
        }
        let mut burst = [ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 0 }; 2];
        let found = client.poll(&mut burst).expect("the server keeps the rules");
        for completion in &burst[..found] {
            ended += 1;
            assert_eq!(completion.tag, ended, "a completion is lost, doubled or torn");
        }
        if found == 0 {
            thread::yield_now();
        }
    }
    server.join().unwrap();
}

#[test]
fn a_completion_finds_room_whatever_the_order() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_branches = 10_000;
    model.check(pass);
}
