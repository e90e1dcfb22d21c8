//! All interleavings of both ends with up to three preemptions, and the orderings that the memory model allows.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use ring::{Poller, Poster, SharedWord, Words, words_for};
use std::process::Command;
use std::sync::atomic::Ordering;

/// A word of the model; without its fence if `FENCED` is false.
struct Model<const FENCED: bool>(loom::sync::atomic::AtomicU64);

impl<const FENCED: bool> SharedWord for Model<FENCED> {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn fence() {
        if FENCED {
            loom::sync::atomic::fence(Ordering::SeqCst);
        }
    }
}

#[derive(Clone)]
struct Memory<const FENCED: bool>(Arc<Vec<Model<FENCED>>>);

impl<const FENCED: bool> Words for Memory<FENCED> {
    type Word = Model<FENCED>;

    fn words(&self) -> &[Model<FENCED>] {
        &self.0
    }
}

/// A bell that keeps a ring until the receiver takes it, as an eventfd does.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }

    /// Waits for a ring. Loom fails if none comes any more.
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

const ENTRIES: u64 = 2;

/// One end posts entries one by one, and rings when `post` says so. The other end polls until it has all entries, and
/// sleeps in between.
fn pass<const FENCED: bool>(capacity: usize) {
    let words = (0..words_for(capacity, 1)).map(|_| Model(loom::sync::atomic::AtomicU64::new(0)));
    let memory = Memory::<FENCED>(Arc::new(words.collect()));
    let bell = Arc::new(Bell::default());
    let poster = {
        let (memory, bell) = (memory.clone(), bell.clone());
        thread::spawn(move || {
            let mut poster = Poster::<_, 1>::new(memory, 0, capacity).unwrap();
            let mut next = 1;
            while next <= ENTRIES {
                let posted = poster.post(&[[next]]).unwrap();
                if posted.ring {
                    bell.ring();
                }
                match posted.count {
                    // Full: the poller is awake, or was rung for.
                    0 => thread::yield_now(),
                    _ => next += 1,
                }
            }
        })
    };
    let mut poller = Poller::<_, 1>::new(memory, 0, capacity).unwrap();
    let (mut last, mut out) = (0, [[0; 1]; 2]);
    while last < ENTRIES {
        let count = poller.poll(&mut out).unwrap();
        for [entry] in &out[..count] {
            assert_eq!(*entry, last + 1, "an entry is lost, doubled or torn");
            last = *entry;
        }
        if last < ENTRIES && count == 0 && poller.sleep().unwrap() {
            bell.wait();
            poller.wake().unwrap();
        }
    }
    poster.join().unwrap();
}

fn all_interleavings<const FENCED: bool>(capacity: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || pass::<FENCED>(capacity));
}

#[test]
fn all_arrives_and_nobody_sleeps_for_ever() {
    all_interleavings::<true>(2);
}

#[test]
fn a_place_is_used_again_only_after_it_was_polled() {
    all_interleavings::<true>(1);
}

#[test]
#[ignore = "it fails, as it must: the next test runs it"]
fn unfenced() {
    all_interleavings::<false>(2);
}

/// The test runs in a process of its own, because loom may abort after a failure.
#[test]
fn without_the_fences_a_bell_is_lost() {
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this).args(["--exact", "interleavings::unfenced", "--ignored", "--nocapture"]).output();
    let run = run.unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("deadlock"), "{said}");
}
