//! Standard error.
//!
//! The reader of standard error may stop: a pager, a full disk, a log collector that hangs, a terminal after Ctrl-S.
//! Then the kernel blocks a writer for as long as that lasts. So a line is only put into a bounded queue, and one
//! thread, for which nobody waits, writes the lines. Lines for which the queue has no room are lost and counted, and a
//! message says so in their place.
//!
//! `O_NONBLOCK` is no solution: it belongs to the open file, which other processes share, and would make their writes
//! fail. Asking `poll` for room is no solution either: another process may fill it in between.
//!
//! Before [`start`], and if the thread cannot be started, lines are written at once.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of lines that may wait.
pub const ROOM: usize = 256 << 10;

/// The cost of each waiting line in addition to its bytes, so that empty lines are bounded as well.
const OVERHEAD: usize = 64;

/// Bytes of one write. A pipe takes that many at once or none, so that they never mix with those of other writers.
const PIECE: usize = 4096;

/// If no byte is taken for this time, nobody reads.
const STUCK: Duration = Duration::from_millis(500);

/// The limit of [`finish`], however slowly lines are read.
const SLOW: Duration = Duration::from_secs(5);

/// Lines that were lost: the queue had no room for them, or the write failed.
static DROPPED: AtomicU64 = AtomicU64::new(0);

static QUEUE: Queue = Queue { waiting: Mutex::new(Waiting::new()), filled: Condvar::new(), written: Condvar::new() };

struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when there is a line.
    filled: Condvar,
    /// Notified when some bytes were taken, or the last line.
    written: Condvar,
}

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// How much of [`ROOM`] the lines take.
    taken: usize,
    /// Lines that were lost after the waiting ones.
    lost: u64,
    /// Whether the thread that writes is running.
    is_started: bool,
    /// Whether the thread is writing a line.
    is_writing: bool,
    /// Bytes that were written. If it grows, somebody reads.
    progress: u64,
}

impl Waiting {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), taken: 0, lost: 0, is_started: false, is_writing: false, progress: 0 }
    }

    /// Whether everything is written.
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }

    /// Adds a line, with a message before it if lines are missing there. Returns whether there was room.
    fn put(&mut self, line: &[u8]) -> bool {
        let gap = (self.lost > 0).then(|| gap(self.lost));
        let need = |line: &[u8]| line.len() + OVERHEAD;
        let needed = need(line) + gap.as_deref().map_or(0, need);
        if self.taken + needed > ROOM {
            self.lost += 1;
            return false;
        }
        self.taken += needed;
        self.lost = 0;
        self.lines.extend(gap);
        self.lines.push_back(line.to_vec());
        true
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let line = self.lines.pop_front()?;
        self.taken -= line.len() + OVERHEAD;
        Some(line)
    }
}

/// The message in the place of missing lines.
fn gap(lost: u64) -> Vec<u8> {
    let lines = if lost == 1 { "1 line was".to_owned() } else { format!("{lost} lines were") };
    format!("-- {lines} lost here: whoever reads this was too slow, or away, or its disk full --\n").into_bytes()
}

fn lock() -> MutexGuard<'static, Waiting> {
    QUEUE.waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the thread that writes cannot be started.
#[derive(Debug)]
pub enum StartError<E> {
    /// The kernel has no thread for it.
    Spawn(io::Error),
    /// It could not be confined.
    Confine(E),
}

/// Starts the thread that writes. It first calls `confine`, so that it can drop rights that it does not need: it calls
/// `write`, `poll` and `futex`. Only the first start has an effect.
///
/// # Errors
/// There is no thread, or `confine` failed; then lines are still written at once.
pub fn start<E: Send + 'static>(confine: impl FnOnce() -> Result<(), E> + Send + 'static) -> Result<(), StartError<E>> {
    if lock().is_started {
        return Ok(());
    }
    let (tell, confined) = std::sync::mpsc::channel();
    let body = move || {
        let result = confine();
        let is_confined = result.is_ok();
        lock().is_started = is_confined;
        // The caller waits for it.
        let _ = tell.send(result);
        if is_confined {
            write_on();
        }
    };
    std::thread::Builder::new().name("stderr".to_owned()).spawn(body).map_err(StartError::Spawn)?;
    match confined.recv() {
        Ok(result) => result.map_err(StartError::Confine),
        Err(gone) => Err(StartError::Spawn(io::Error::other(gone))),
    }
}

/// Writes a line, and adds its end if that is missing. Once the thread runs, this never waits for the reader.
pub fn line(text: &str) {
    put(text.as_bytes());
}

fn put(bytes: &[u8]) {
    let ended;
    let line = match bytes.last() {
        Some(b'\n') => bytes,
        _ => {
            ended = [bytes, b"\n"].concat();
            &ended
        }
    };
    let mut waiting = lock();
    if !waiting.is_started {
        drop(waiting);
        if write_all(line, |_| ()).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    } else if waiting.put(line) {
        QUEUE.filled.notify_one();
    } else {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many lines were lost since the process began.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Whether standard error is a terminal.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Waits until all lines are written, unless nobody reads them. Call it before the process ends.
pub fn finish() {
    let began = Instant::now();
    let mut waiting = lock();
    while waiting.is_started && !waiting.is_empty() && began.elapsed() < SLOW {
        let before = waiting.progress;
        let waited = QUEUE.written.wait_timeout(waiting, STUCK).unwrap_or_else(PoisonError::into_inner);
        waiting = waited.0;
        if waited.1.timed_out() && waiting.progress == before {
            return;
        }
    }
}

/// From now on the message of a panic is a line like others, with its backtrace if `RUST_BACKTRACE` asks for one. The
/// thread that panics waits, as in [`finish`], until it is written.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
        match backtrace.status() {
            BacktraceStatus::Captured => text.push_str(&format!("stack backtrace:\n{backtrace}")),
            BacktraceStatus::Disabled => text.push_str("RUST_BACKTRACE=1 in the environment shows a backtrace\n"),
            _ => {}
        }
        line(&text);
        finish();
    }));
}

/// A writer of lines: each write is one line, and no write fails or waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The loop of the thread.
fn write_on() {
    let mut waiting = lock();
    loop {
        let Some(line) = waiting.take() else {
            waiting = QUEUE.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        waiting.is_writing = true;
        drop(waiting);
        let written = write_all(&line, |bytes| {
            lock().progress += bytes as u64;
            QUEUE.written.notify_all();
        });
        waiting = lock();
        if written.is_err() {
            // The waiting lines come after this gap. It does not matter which of the two gaps counts the line.
            waiting.lost += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
        } else if waiting.lines.is_empty() && waiting.lost > 0 {
            // There may be no further line for a long time.
            let lost = std::mem::take(&mut waiting.lost);
            let gap = gap(lost);
            waiting.taken += gap.len() + OVERHEAD;
            waiting.lines.push_back(gap);
        }
        waiting.is_writing = false;
        QUEUE.written.notify_all();
    }
}

/// Writes all bytes without the lock of `std::io::stderr`, which must not be held for long.
fn write_all(mut bytes: &[u8], progress: impl Fn(usize)) -> io::Result<()> {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        match rustix::io::write(stderr.as_fd(), piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                progress(written);
            }
            Err(Errno::INTR) => {}
            // Another process that shares the open file made it non-blocking.
            Err(Errno::AGAIN) => wait_for_room(stderr.as_fd())?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_for_room(stderr: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter, Read, Write};
    use std::process::{Child, Command};

    /// The environment variable that names the task of a copy of this test program.
    const DO: &str = "GVM_STDIO_TEST_DO";

    /// Has an effect only in the copy.
    #[test]
    fn do_it() {
        let Ok(what) = std::env::var(DO) else { return };
        catch_panics();
        let _ = crate::survive_file_size_limit();
        start(|| Ok::<_, ()>(())).unwrap();
        let (what, number) = what.split_once(' ').unwrap();
        match what {
            "say" => (0..number.parse().unwrap()).for_each(|i| line(&format!("line {i}"))),
            "long" => line(&"x".repeat(number.parse().unwrap())),
            "panic" => drop(std::thread::spawn(|| panic!("on purpose")).join()),
            other => panic!("{other}"),
        }
        finish();
        // The exit code reports lost lines, because nobody reads standard error here.
        std::process::exit(i32::from(dropped() > 0));
    }

    fn copy(what: &str, stderr: impl Into<std::process::Stdio>) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "err::tests::do_it", "--quiet", "--nocapture"]).env(DO, what);
        child.stdout(std::process::Stdio::null()).stderr(stderr).spawn().unwrap()
    }

    /// A pipe without room for a single byte, and how much is in it.
    fn full_pipe() -> (PipeReader, PipeWriter, usize) {
        let (reader, mut writer) = io::pipe().unwrap();
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut filled = 0;
        while let Ok(written) = writer.write(&[b'.'; PIECE]) {
            filled += written;
        }
        rustix::fs::fcntl_setfl(&writer, flags).unwrap();
        (reader, writer, filled)
    }

    #[test]
    fn what_somebody_reads_is_there_to_the_last_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut child = copy("say 2000", writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines.first(), lines.last()), (2000, Some(&"line 0"), Some(&"line 1999")));
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (_reader, writer, _) = full_pipe();
        let mut child = copy("say 20000", writer);
        assert_eq!(child.wait().unwrap().code(), Some(1), "lines are lost, and counted");
    }

    #[test]
    fn what_is_lost_is_said_where_it_is_missing() {
        let mut waiting = Waiting::new();
        let line = [b'x'; 4096 - OVERHEAD];
        let mut lines = 0;
        while waiting.put(&line) {
            lines += 1;
        }
        assert_eq!((lines, waiting.lost), (ROOM / 4096, 1));
        assert!(!waiting.put(&line));
        assert_eq!(waiting.take().as_deref(), Some(&line[..]));
        assert!(!waiting.put(&line), "there must be room for the gap, too");
        waiting.take();
        assert!(waiting.put(b"last\n"));
        let rest: Vec<_> = std::iter::from_fn(|| waiting.take()).collect();
        assert_eq!(rest.len(), lines - 2 + 2);
        let gap = text(&rest[lines - 2]);
        assert!(gap.starts_with("-- 3 lines were lost here"), "{gap}");
        assert_eq!((text(&rest[lines - 1]).as_str(), waiting.taken, waiting.lost), ("last\n", 0, 0));
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn a_panic_is_said_like_a_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut child = copy("panic 0", writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert!(said.contains("thread '<unnamed>' panicked at ") && said.contains("on purpose\n"), "{said}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let (_reader, writer, _) = full_pipe();
        assert_eq!(copy("panic 0", writer).wait().unwrap().code(), Some(0), "it goes on, and nothing is lost yet");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(copy("say 3", full()).wait().unwrap().code(), Some(1));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(copy("say 3", writer).wait().unwrap().code(), Some(1));
    }

    #[test]
    fn a_line_longer_than_the_queue_is_lost_and_others_are_not() {
        let long = (ROOM + 1).to_string();
        let (mut reader, writer) = io::pipe().unwrap();
        let mut child = copy(&format!("long {long}"), writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.len()), (Some(1), 0));
        let (mut reader, writer) = io::pipe().unwrap();
        let mut child = copy("long 100000", writer);
        reader.read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.len()), (Some(0), 100_001));
    }

    #[test]
    fn the_open_file_stays_as_other_processes_have_it() {
        let (mut reader, writer, filled) = full_pipe();
        let shared = writer.try_clone().unwrap();
        let mut child = copy("say 1", writer);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let flags = rustix::fs::fcntl_getfl(&shared).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
        drop(shared);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), filled, "the line was under way, and no part of it is there");
    }
}
