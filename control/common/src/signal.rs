//! SIGTERM and SIGINT ask for a drain; a second one ends the process at once. SIGHUP: read the configuration again.
//!
//! Some signals are sent by mistake, to a process that is taken for another program (SIGUSR1 and the like). By default
//! they would end the process without a drain. They are ignored, and a message says so. SIGQUIT and the signals of
//! crashes keep their default: a core dump, if the limits allow one.

use crate::exit::Failure;
use crate::runtime::runtime;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To end.
    End(&'static str),
    /// To read the configuration again.
    Reload(&'static str),
    /// A request that this process does not know.
    Nothing(&'static str),
}

/// The signals that have a handler. SIGXCPU: the process has used all the CPU time that it may use (`ulimit -t`), and
/// is killed soon. SIGPWR: the machine is about to lose its power.
const SIGNALS: [(i32, Signal); 11] = [
    (libc::SIGTERM, Signal::End("SIGTERM")),
    (libc::SIGINT, Signal::End("SIGINT")),
    (libc::SIGXCPU, Signal::End("SIGXCPU")),
    (libc::SIGPWR, Signal::End("SIGPWR")),
    (libc::SIGHUP, Signal::Reload("SIGHUP")),
    (libc::SIGUSR1, Signal::Nothing("SIGUSR1")),
    (libc::SIGUSR2, Signal::Nothing("SIGUSR2")),
    (libc::SIGALRM, Signal::Nothing("SIGALRM")),
    (libc::SIGVTALRM, Signal::Nothing("SIGVTALRM")),
    (libc::SIGPROF, Signal::Nothing("SIGPROF")),
    (libc::SIGIO, Signal::Nothing("SIGIO")),
];

/// The signals that ask for the end: numbers and names.
pub fn ends() -> impl Iterator<Item = (i32, &'static str)> {
    SIGNALS.into_iter().filter_map(|(number, meaning)| match meaning {
        Signal::End(name) => Some((number, name)),
        Signal::Reload(_) | Signal::Nothing(_) => None,
    })
}

fn cannot(error: &std::io::Error) -> Failure {
    Failure::Machine(format!("cannot listen to signals: {error}"))
}

/// A flag that is set when a signal asks a command to end, for a command that polls it. SIGHUP sets it, too: the
/// terminal is gone.
///
/// # Errors
/// The process cannot have another handler.
pub fn asked() -> Result<Arc<AtomicBool>, Failure> {
    let asked: Arc<AtomicBool> = Arc::default();
    for number in ends().map(|(number, _)| number).chain([libc::SIGHUP]) {
        signal_hook::flag::register(number, Arc::clone(&asked)).map_err(|error| cannot(&error))?;
    }
    Ok(asked)
}

/// Whether SIGHUP came before [`Signals`] listened.
static EARLY: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on only the signals that ask for an end can end the process. Call it before a role is set up, which may
/// take seconds. A SIGHUP is kept for [`Signals`]. SIGTERM and SIGINT end the process at once: it holds nothing yet.
///
/// # Errors
/// The process cannot have another handler.
pub fn hold() -> Result<(), Failure> {
    let early = Arc::clone(EARLY.get_or_init(Arc::default));
    for (number, meaning) in SIGNALS {
        let flag = match meaning {
            Signal::End(_) => continue,
            Signal::Reload(_) => Arc::clone(&early),
            Signal::Nothing(_) => Arc::default(),
        };
        signal_hook::flag::register(number, flag).map_err(|error| cannot(&error))?;
    }
    Ok(())
}

/// The signals that a process listens to.
pub struct Signals {
    streams: Vec<(Signal, Stream)>,
    /// A signal that came before this listened.
    early: Option<Signal>,
}

impl Signals {
    /// Listens to the signals, so that they do not kill the process. Call it inside the runtime.
    ///
    /// # Errors
    /// The process cannot have another handler.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |(number, meaning)| Ok((meaning, signal(SignalKind::from_raw(number))?));
        let streams = SIGNALS.into_iter().map(listen).collect::<Result<_, _>>().map_err(|error| cannot(&error))?;
        let is_early = EARLY.get().is_some_and(|early| early.swap(false, Ordering::Relaxed));
        Ok(Self { streams, early: is_early.then_some(Signal::Reload("SIGHUP")) })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        if let Some(early) = self.early.take() {
            return early;
        }
        poll_fn(|cx| {
            let came = self.streams.iter_mut().find_map(|(meaning, stream)| {
                // A stream of signals has no end.
                matches!(stream.poll_recv(cx), Poll::Ready(_)).then_some(*meaning)
            });
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits for a signal that ends a command. SIGHUP ends it, too: a command has no configuration to read again, and
    /// its terminal is gone.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            if let Signal::End(name) | Signal::Reload(name) = self.next().await {
                return name;
            }
        }
    }

    /// Waits for a signal that asks for the end; returns its name.
    pub async fn end(&mut self) -> &'static str {
        loop {
            if let Signal::End(name) = self.next().await {
                return name;
            }
        }
    }
}

/// How long a command may take to notice a signal. A command that takes longer waits for a file.
const DEAF: Duration = Duration::from_secs(1);

/// How long a command that noticed a signal may take to end: its lcore may hang, and so may the device that the lcore
/// polled.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// Tells [`insist`] that the command noticed the signal.
#[derive(Clone, Default)]
pub struct SignalHeard(Arc<AtomicBool>);

impl SignalHeard {
    /// The command has noticed the signal, and is about to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For a command that reads and writes files of any kind beside its own work. A signal asks for the end; the command
/// may not notice it within a second, since the kernel keeps it waiting for a pipe. Then this ends the process. It also
/// ends the process at the second signal, and when the command noticed the signal but does not end. `code` is the exit
/// code then.
///
/// # Errors
/// The kernel lacks a thread or descriptors.
pub fn insist(code: u8) -> Result<SignalHeard, Failure> {
    insist_and(code, || ())
}

/// As [`insist`]; before the process ends, `undone` reverts what must not stay.
///
/// # Errors
/// The kernel lacks a thread or descriptors.
pub fn insist_and(code: u8, undone: impl FnOnce() + Send + 'static) -> Result<SignalHeard, Failure> {
    let heard = SignalHeard::default();
    let is_heard = heard.clone();
    let (tell, listens) = std::sync::mpsc::channel();
    let body = move || {
        // The runtime is made here, since the calling thread may already run another one.
        let listening = runtime().and_then(|runtime| Ok((runtime.block_on(async { Signals::listen() })?, runtime)));
        let (mut signals, runtime) = match listening {
            Ok(listening) => listening,
            // The caller waits for the answer.
            Err(failure) => return drop(tell.send(Err(failure))),
        };
        let _ = tell.send(Ok(()));
        let why = runtime.block_on(async {
            let name = signals.end().await;
            tokio::select! {
                again = signals.end() => return format!("{again} after {name}: ended at once"),
                () = tokio::time::sleep(DEAF) => {}
            }
            if is_heard.0.load(Ordering::Relaxed) {
                tokio::select! {
                    again = signals.end() => return format!("{again} after {name}: ended at once"),
                    () = tokio::time::sleep(ENDS_WITHIN) => {}
                }
                return format!(
                    "{name}: ended at once, after {} s: its lcore, a device or a file does not come back; `dmesg` may \
                     say why",
                    ENDS_WITHIN.as_secs()
                );
            }
            format!("{name} before it was complete, while a file or a pipe kept it waiting")
        });
        undone();
        crate::output::complain(&format!("gvm-dp: {why}"));
        stdio::err::finish();
        std::process::exit(i32::from(code));
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(body);
    thread.map_err(|error| Failure::Machine(format!("cannot start a thread for signals: {error}")))?;
    listens.recv().map_err(|_| Failure::Internal("the thread for signals has ended".to_owned()))??;
    Ok(heard)
}
