//! The thread that scrubs units which came back: it makes their bytes zero before another master gets them.
//!
//! It works in pieces, with the lowest priority, and never on a core of an lcore's choice: memory that waits to be
//! scrubbed is only lent a little later.

use common::exit::Failure;
use frame::arena::HUGEPAGE;
use frame::{UNIT, UnitMemory};
use host::privilege::{Confinement, Thread};
use rustix::thread::CapabilitySet;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};

/// Bytes that are scrubbed at a time. On ordinary pages the kernel holds a lock of the process meanwhile.
const PIECE: usize = HUGEPAGE;

/// The priority of the thread: every other program goes first.
const NICE: i32 = 19;

/// Starts the thread, confined. Returns where units that came back are handed over, which never blocks: each unit waits
/// at most once. `scrubbed` is called with each unit that is zero; the thread ends when it returns `false`, or when
/// nobody can hand over units any more.
///
/// # Errors
/// The error is [`Failure::Machine`]: the kernel lacks a thread, or the thread cannot be confined.
pub fn start(
    memory: Arc<UnitMemory>,
    confinement: &Confinement,
    mut scrubbed: impl FnMut(u32) -> bool + Send + 'static,
) -> Result<SyncSender<u32>, Failure> {
    let (hand_over, units) = mpsc::sync_channel(memory.units() as usize);
    let (tell, confined) = mpsc::channel();
    let confinement = confinement.clone();
    let body = move || {
        // Without the priority it works, too.
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
            tracing::debug!("the scrubbing thread keeps its priority: {error}");
        }
        let result = confinement.enter(Thread::Scrub, CapabilitySet::empty());
        let is_confined = result.is_ok();
        // The receiver waits for it.
        let _ = tell.send(result);
        while is_confined && let Ok(unit) = units.recv() {
            scrub(&memory, unit);
            if !scrubbed(unit) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(body);
    thread.map_err(|error| Failure::Machine(format!("cannot start the thread that scrubs memory: {error}")))?;
    confined.recv().map_err(|_| Failure::Internal("the thread that scrubs memory has ended".to_owned()))??;
    Ok(hand_over)
}

/// Between pieces it does not yield: by its priority the kernel lets others go first. A yield waits until all others of
/// the core had their turn, and 32 of them took 0.3 to 0.7 s for a unit on a host with a load of 9 to 10, while an
/// allocation may wait for it.
fn scrub(memory: &UnitMemory, unit: u32) {
    for from in (0..UNIT).step_by(PIECE) {
        if memory.scrub(unit, from, PIECE).is_err() {
            frame::never!("a unit that came back is not one of the lent memory");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Hugepages;
    use host::privilege::{Needs, seccomp::Mode};

    #[test]
    fn what_is_handed_over_is_zero_when_it_is_reported() {
        let memory = Arc::new(UnitMemory::new(3, Hugepages::Never, None).unwrap());
        for unit in 0..3 {
            assert!(memory.write(unit, 0, b"secret") && memory.write(unit, UNIT - 6, b"secret"));
        }
        let confinement = Confinement::new(Mode::On, Needs::default(), None).unwrap();
        let (tell, told) = mpsc::channel();
        let hand_over = start(Arc::clone(&memory), &confinement, move |unit| tell.send(unit).is_ok()).unwrap();
        let read = |unit| {
            let mut out = [0; 12];
            assert!(memory.read(unit, 0, &mut out[..6]) && memory.read(unit, UNIT - 6, &mut out[6..]));
            out
        };
        for unit in [2, 0] {
            hand_over.try_send(unit).unwrap();
            assert_eq!((told.recv(), read(unit)), (Ok(unit), [0; 12]));
        }
        assert_eq!(&read(1), b"secretsecret");
        // All at once fit, and the thread ends with those who hand over.
        for unit in 0..3 {
            hand_over.try_send(unit).unwrap();
        }
        drop(hand_over);
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
