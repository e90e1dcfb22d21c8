//! A model of `crossbeam_queue::ArrayQueue`: the same steps on loom's atomics, with weaker orderings. So the proof does
//! not depend on the orderings of the real queue.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

struct Slot<T> {
    /// The turn in which the slot may be filled. One more than that turn: the slot is full.
    stamp: AtomicUsize,
    /// Never contended, because the stamp says whose turn it is. Loom does not see this mutex, so the mutex orders
    /// nothing.
    value: Mutex<Option<T>>,
}

/// A bounded queue of many senders and one receiver.
pub(crate) struct Queue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Vec<Slot<T>>,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let slot = |turn| Slot { stamp: AtomicUsize::new(2 * turn), value: Mutex::new(None) };
        Self { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots: (0..capacity).map(slot).collect() }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        loop {
            let turn = self.tail.load(Ordering::Relaxed);
            let slot = &self.slots[turn % self.slots.len()];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == 2 * turn {
                let claim = self.tail.compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed);
                if claim.is_ok() {
                    *slot.value.try_lock().unwrap() = Some(value);
                    slot.stamp.store(2 * turn + 1, Ordering::Release);
                    return Ok(());
                }
            } else if stamp < 2 * turn {
                return Err(value);
            }
            loom::thread::yield_now();
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let turn = self.head.load(Ordering::Relaxed);
        let slot = &self.slots[turn % self.slots.len()];
        if slot.stamp.load(Ordering::Acquire) != 2 * turn + 1 {
            return None;
        }
        self.head.store(turn + 1, Ordering::Relaxed);
        let value = slot.value.try_lock().unwrap().take();
        slot.stamp.store(2 * (turn + self.slots.len()), Ordering::Release);
        value
    }

    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed) == head
    }

    pub(crate) fn is_full(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed) - head >= self.slots.len()
    }
}
