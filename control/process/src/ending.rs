//! The end of a process has a time limit, whatever delays it.
//!
//! The control thread ends a process in steps: the drain, the final accounts, each device, the exit. Each of them may
//! wait for something that does not come back: a driver, the kernel, a file system. The control thread itself may be in
//! such a call before it notices a signal. So a separate thread, `end`, knows the current step and its time limit, and
//! receives signals itself. When a step takes longer, this thread names the step and ends the process.

use common::exit::Failure;
use common::output;
use host::privilege::{Confinement, Thread};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::CapabilitySet;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The control thread notices a signal in this time, also on a busy machine.
const HEARS_WITHIN: Duration = Duration::from_secs(10);

/// A user who sends another signal while the process ends does not want to wait longer.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// The time for the exit itself, in which libraries clean up.
const EXITS_WITHIN: Duration = Duration::from_secs(5);

/// The most threads that a message names.
const MOST_THREADS: usize = 24;

/// Names of signals that ask for the end, and whether one came that the control thread has not noticed.
type Came = [(&'static str, Arc<AtomicBool>)];

/// What the control thread does, and its time limit.
struct Step {
    until: Instant,
    within: Duration,
    /// What is not done at the time limit, and the exit code.
    late: String,
    code: u8,
}

#[derive(Default)]
struct State {
    step: Option<Step>,
    /// Since when a signal waits to be noticed.
    unheard: Option<Instant>,
    /// Threads that do not come back were left behind.
    left_threads: bool,
}

static STATE: Mutex<State> = Mutex::new(State { step: None, unheard: None, left_threads: false });
static CAME: OnceLock<Box<Came>> = OnceLock::new();
static BELL: OnceLock<UnixStream> = OnceLock::new();

fn lock() -> MutexGuard<'static, State> {
    // The state is consistent even if a thread panicked: each change is one assignment.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread, confined. It receives `signals`, given by their numbers and names. The caller has installed
/// handlers for them, so that they do not end the process by themselves.
///
/// # Errors
/// The kernel lacks a thread or descriptors, or the thread cannot be confined.
pub fn watch(signals: impl Iterator<Item = (i32, &'static str)>, confinement: &Confinement) -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::Machine(format!("cannot watch over the end of the process: cannot {what}: {error}"))
    };
    let (rung, bell) = UnixStream::pair().map_err(|error| failed("make a socket", error))?;
    rung.set_nonblocking(true).map_err(|error| failed("set a socket up", error))?;
    bell.set_nonblocking(true).map_err(|error| failed("set a socket up", error))?;
    let mut came = Vec::new();
    for (number, name) in signals {
        let flag: Arc<AtomicBool> = Arc::default();
        let listen = || -> std::io::Result<()> {
            // In this order, so that the thread finds the flag when it wakes up.
            signal_hook::flag::register(number, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(number, bell.try_clone()?)?;
            Ok(())
        };
        listen().map_err(|error| failed("listen to signals", error))?;
        came.push((name, flag));
    }
    // Once in a process.
    let (_, _) = (CAME.set(came.into()), BELL.set(bell));
    let (tell, confined) = mpsc::channel();
    let confinement = confinement.clone();
    let body = move || {
        let result = confinement.enter(Thread::End, CapabilitySet::empty());
        let is_confined = result.is_ok();
        // The receiver waits for it.
        let _ = tell.send(result);
        if is_confined {
            watch_on(&rung);
        }
    };
    let thread = std::thread::Builder::new().name("end".to_owned()).spawn(body);
    thread.map_err(|error| failed("start its thread", error))?;
    confined.recv().map_err(|_| Failure::Internal("the thread that watches over the end has ended".to_owned()))?
}

/// The control thread has noticed all signals that came so far.
pub fn heard() {
    CAME.get().into_iter().flat_map(|came| came.iter()).for_each(|(_, flag)| flag.store(false, Ordering::Relaxed));
}

/// Begins this step of the end and replaces the one before. If it takes longer than `within`, the process ends with
/// this failure.
pub fn step(within: Duration, late: &Failure) {
    begin(within, late.to_string(), late.code());
}

/// The last step: the process exits with this code.
pub fn exits(code: u8) {
    begin(EXITS_WITHIN, "what libraries do at the exit of the process is not done".to_owned(), code);
}

fn begin(within: Duration, late: String, code: u8) {
    // A process without the thread has no time limits, and needs none.
    let Some(bell) = BELL.get() else { return };
    lock().step = Some(Step { until: Instant::now() + within, within, late, code });
    // If there is no room, the thread is already awake.
    let _ = (&mut &*bell).write(&[0]);
}

/// A thread was left behind and may still use anything. So nothing of the process may be cleaned up any more.
pub fn leave_threads() {
    lock().left_threads = true;
}

/// Whether threads were left behind.
pub fn has_left_threads() -> bool {
    lock().left_threads
}

/// Ends the process without cleaning up.
pub fn at_once(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// The loop of the thread.
fn watch_on(rung: &UnixStream) {
    loop {
        let now = Instant::now();
        let came = came();
        let mut state = lock();
        state.unheard = came.map(|_| state.unheard.unwrap_or(now));
        let (until, end) = (state.until(), state.end(now, came));
        drop(state);
        if let Some((text, code)) = end {
            output::complain(&format!("gvm-dp: {text}{}", threads()));
            stdio::err::finish();
            at_once(code);
        }
        wait(rung, until.map(|until| until.saturating_duration_since(now)));
    }
}

/// The name of a signal that the control thread has not noticed.
fn came() -> Option<&'static str> {
    let mut came = CAME.get()?.iter();
    came.find(|(_, flag)| flag.load(Ordering::Relaxed)).map(|(name, _)| *name)
}

/// Waits for a wake-up, or until the time is over.
fn wait(rung: &UnixStream, longest: Option<Duration>) {
    let timeout = longest.map(|longest| Timespec {
        tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX),
        // A little longer, so that the time is over then.
        tv_nsec: i64::from(longest.subsec_nanos()).saturating_add(1_000_000).min(999_999_999),
    });
    // If the wait was interrupted, the caller checks and waits again.
    let _ = poll(&mut [PollFd::from_borrowed_fd(rung.as_fd(), PollFlags::IN)], timeout.as_ref());
    let mut rings = [0; 64];
    while (&mut &*rung).read(&mut rings).is_ok_and(|len| len > 0) {}
}

impl State {
    /// How long a signal may wait to be noticed.
    fn patience(&self) -> Duration {
        if self.step.is_some() { AGAIN_WITHIN } else { HEARS_WITHIN }
    }

    /// When the process ends if nothing changes.
    fn until(&self) -> Option<Instant> {
        let unheard = self.unheard.map(|since| since + self.patience());
        let step = self.step.as_ref().map(|step| step.until);
        unheard.into_iter().chain(step).min()
    }

    /// The message and the exit code, if the process must end now.
    fn end(&self, now: Instant, came: Option<&str>) -> Option<(String, u8)> {
        let deaf = self.unheard.is_some_and(|since| now >= since + self.patience());
        match (&self.step, came) {
            (Some(step), _) if now >= step.until => {
                Some((format!("ended at once, after {} s: {}", step.within.as_secs(), step.late), step.code))
            }
            (Some(step), Some(name)) if deaf => {
                Some((format!("{name} again: ended at once: {}", step.late), step.code))
            }
            (None, Some(name)) if deaf => {
                let seconds = HEARS_WITHIN.as_secs();
                let late = Failure::Lost(format!(
                    "{name}: the control thread did not hear it within {seconds} s, since a call does not come back: \
                     ended without \
                     having drained; what it held is lost"
                ));
                Some((late.to_string(), late.code()))
            }
            _ => None,
        }
    }
}

/// Where the threads of this process wait in the kernel, if the kernel says.
fn threads() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let place = |task: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).ok();
        let (name, place) = (read("comm")?, read("wchan")?);
        let place = if place.trim_matches('0').is_empty() { "no call" } else { place.trim() };
        Some(format!("{} in {place}", name.trim()))
    };
    let places: Vec<String> = tasks.filter_map(place).take(MOST_THREADS).collect();
    if places.is_empty() { String::new() } else { format!(" (threads: {})", places.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(began: Instant, milliseconds: u64) -> Instant {
        began + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_signal_that_nobody_hears_ends_the_process_in_the_end() {
        let began = Instant::now();
        let state = State { unheard: Some(began), ..State::default() };
        assert_eq!(
            (state.until(), state.end(after(began, 9_999), Some("SIGTERM"))),
            (Some(after(began, 10_000)), None)
        );
        let (text, code) = state.end(after(began, 10_000), Some("SIGTERM")).unwrap();
        assert!(text.starts_with("SIGTERM: the control thread did not hear it") && code == 7, "{text}");
        // Noticed at the last moment.
        assert_eq!(State::default().end(after(began, 10_000), None), None);
        assert_eq!(State::default().until(), None);
    }

    #[test]
    fn a_step_has_its_time_and_another_signal_shortens_it() {
        let began = Instant::now();
        let within = Duration::from_secs(8);
        let step = || Some(Step { until: began + within, within, late: "dpdk:x is not closed".to_owned(), code: 9 });
        let state = State { step: step(), ..State::default() };
        assert_eq!((state.until(), state.end(after(began, 7_999), None)), (Some(after(began, 8_000)), None));
        assert_eq!(
            state.end(after(began, 8_000), None),
            Some(("ended at once, after 8 s: dpdk:x is not closed".to_owned(), 9))
        );
        let state = State { step: step(), unheard: Some(after(began, 1_000)), ..State::default() };
        assert_eq!((state.until(), state.end(after(began, 2_999), Some("SIGINT"))), (Some(after(began, 3_000)), None));
        let (text, code) = state.end(after(began, 3_000), Some("SIGINT")).unwrap();
        assert!(text == "SIGINT again: ended at once: dpdk:x is not closed" && code == 9, "{text}");
    }

    #[test]
    fn threads_are_named_with_their_places() {
        let text = threads();
        assert!(text.starts_with(" (threads: ") && text.contains(" in "), "{text}");
    }
}
