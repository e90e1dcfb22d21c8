//! An lcore on a thread of its own: pinned, named, and built on that thread.
//!
//! Frames and ports never leave their thread, so a closure builds the lcore inside it. The parts that others need (its
//! counters, its pulse) come back as a [`View`].

use crate::clock::Clock;
use crate::cores::{CoreError, CoreList, MAX_CORE};
use crate::counters::{LcoreCounters, PoolCounters, StageSamples};
use crate::mailbox::Waker;
use crate::poll::Lcore;
use crate::pulse::{Pulse, Stage};
use crate::tap::TapSlot;
use crate::wait::{RxMode, Waiter};
use frame::counter::CounterSet;
use frame::outbox::OutboxCounters;
use frame::{Backing, PortId, Role};
use port::{About, Port};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// How an lcore's thread runs.
#[derive(Clone, Copy, Debug)]
pub struct ThreadConfig {
    /// Its place among the process's lcores, from 0; part of its thread's name.
    pub index: u16,
    /// The core to pin it to; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// How it waits at first; see [`LcoreHandle::set_rx_mode`].
    pub mode: RxMode,
    /// The process's clock.
    pub clock: Clock,
}

/// Why an lcore did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError<E> {
    /// The thread could not be started.
    #[error("cannot start a thread for lcore {index}: {source}")]
    Spawn {
        /// The lcore.
        index: u16,
        /// The kernel's error.
        source: io::Error,
    },
    /// The thread may not run on its core.
    #[error("cannot pin lcore {index} to core {core}: choose a core that this process may use (taskset, cgroups)")]
    Pin {
        /// The lcore.
        index: u16,
        /// The core.
        core: usize,
    },
    /// The closure that builds it failed.
    #[error(transparent)]
    Build(E),
    /// The closure that builds it panicked.
    #[error("lcore {index} panicked while it was built: {message}")]
    Panicked {
        /// The lcore.
        index: u16,
        /// The panic's message.
        message: String,
    },
}

/// A port of an lcore, as others see it.
#[derive(Clone)]
pub struct PortView {
    /// Which of the process's ports.
    pub id: PortId,
    /// What it is and how it works, its MTU, and its own address: the present values at each call.
    pub about: Arc<dyn About>,
    /// Its counters.
    pub counters: Arc<dyn CounterSet>,
}

/// The parts of a running lcore that others may see. Clones show the same lcore.
#[derive(Clone)]
pub struct View {
    /// Its place among the process's lcores.
    pub index: u16,
    /// The core it is pinned to, if any.
    pub core: Option<usize>,
    /// The kernel's id of its thread; see [`cpu_ns`].
    pub tid: i32,
    /// The kind of memory of its frames.
    pub backing: Backing,
    /// The poll loop's counters.
    pub lcore: Arc<LcoreCounters>,
    /// The gauges of its pool.
    pub pool: Arc<PoolCounters>,
    /// The counters of its outbox.
    pub outbox: Arc<OutboxCounters>,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// Its pulse, for a [`crate::watchdog::Watchdog`].
    pub pulse: Arc<Pulse>,
    /// The watchdog's samples of where it was.
    pub stages: Arc<StageSamples>,
    /// The place for a new tap.
    pub tap_slot: Arc<TapSlot>,
}

impl View {
    /// The view of a loop that is no [`Lcore`]: it has no ports and no frames.
    pub fn of_loop(index: u16, core: Option<usize>, lcore: &Arc<LcoreCounters>, pulse: &Arc<Pulse>) -> Self {
        Self {
            index,
            core,
            tid: rustix::thread::gettid().as_raw_pid(),
            backing: Backing::OrdinaryPages,
            lcore: Arc::clone(lcore),
            pool: Arc::default(),
            outbox: Arc::default(),
            ports: Vec::new(),
            pulse: Arc::clone(pulse),
            stages: Arc::default(),
            tap_slot: Arc::default(),
        }
    }

    fn of<R: Role, P: Port>(lcore: &Lcore<R, P>, core: Option<usize>) -> Self {
        let view = |port: &P| PortView { id: port.id(), about: port.about(), counters: port.counters() };
        Self {
            index: lcore.index(),
            core,
            tid: rustix::thread::gettid().as_raw_pid(),
            backing: lcore.outbox().pool().backing(),
            lcore: Arc::clone(lcore.counters()),
            pool: Arc::clone(lcore.pool_counters()),
            outbox: Arc::clone(lcore.outbox().counters()),
            ports: lcore.ports().iter().map(view).collect(),
            pulse: Arc::clone(lcore.pulse()),
            stages: Arc::default(),
            tap_slot: Arc::clone(lcore.tap_slot()),
        }
    }
}

/// How an lcore's loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its role was told to drain, and nothing is left.
    Drained,
    /// It was told to stop at once; the records that it held are lost.
    Stopped {
        /// Frames that the role still held.
        role_frames: usize,
        /// Datagrams that still waited to be sent.
        outbox_frames: usize,
    },
    /// It panicked.
    Panicked {
        /// Where it was.
        stage: Stage,
        /// The panic's message.
        message: String,
    },
}

const RUN: u8 = 0;
const FINISH: u8 = 1;
const STOP: u8 = 2;

/// What a loop is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopOrder {
    /// Go on.
    Run,
    /// Receive nothing any more, and end when all that is held has left.
    Finish,
    /// End at once.
    Stop,
}

/// Orders to a loop, which it reads once per poll. They are rarely written, and on cache lines of their own, so that
/// they stay in the lcore's cache.
#[repr(align(128))]
pub struct Orders {
    state: AtomicU8,
    mode: AtomicU8,
}

impl Orders {
    fn new(mode: RxMode) -> Self {
        Self { state: AtomicU8::new(RUN), mode: AtomicU8::new(mode.encode()) }
    }

    /// The present order.
    pub fn order(&self) -> LoopOrder {
        match self.state.load(Ordering::Relaxed) {
            RUN => LoopOrder::Run,
            FINISH => LoopOrder::Finish,
            _ => LoopOrder::Stop,
        }
    }

    /// How the loop shall wait.
    pub fn mode(&self) -> RxMode {
        RxMode::decode(self.mode.load(Ordering::Relaxed))
    }
}

/// A running lcore. Dropping it stops the lcore at once and waits for its thread.
pub struct LcoreHandle {
    view: View,
    orders: Arc<Orders>,
    waker: Waker,
    thread: Option<JoinHandle<End>>,
}

impl LcoreHandle {
    /// The parts of it that others may see.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// From now on it receives nothing. With a role that was told to drain, the loop then ends however much still
    /// arrives.
    pub fn stop_receiving(&self) {
        self.orders.state.fetch_max(FINISH, Ordering::Relaxed);
        self.waker.wake();
    }

    /// From its next poll on, the lcore waits in this way; a sleeping one wakes up for the change.
    pub fn set_rx_mode(&self, mode: RxMode) {
        self.orders.mode.store(mode.encode(), Ordering::Relaxed);
        self.waker.wake();
        tracing::debug!("lcore {} is told to wait as {mode}", self.view.index);
    }

    /// How it waits, according to the last setting.
    pub fn rx_mode(&self) -> RxMode {
        self.orders.mode()
    }

    /// Ends the loop after the current poll, whatever is held.
    pub fn stop(&self) {
        self.orders.state.store(STOP, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Whether the loop has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the loop's end.
    pub fn join(mut self) -> End {
        self.join_thread()
    }

    /// Abandons the thread because it does not return from a call of its port. The thread may use all its resources
    /// until the process ends.
    pub fn leave(mut self) {
        self.thread = None;
    }

    fn join_thread(&mut self) -> End {
        // The thread catches its panics, so a failed join means a panic in the little code around that.
        let lost = |_| End::Panicked { stage: self.view.pulse.stage(), message: "in the thread's frame".to_owned() };
        self.thread.take().map_or(End::Drained, |thread| thread.join().unwrap_or_else(lost))
    }
}

impl Drop for LcoreHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
            self.join_thread();
        }
    }
}

/// An lcore whose thread was started and may still be building it: [`wait`](Self::wait) for it. Several can be built at
/// once, each touching its own arena.
pub struct Starting<E> {
    index: u16,
    orders: Arc<Orders>,
    thread: JoinHandle<End>,
    built: mpsc::Receiver<Result<(View, Waker), StartError<E>>>,
}

impl<E> Starting<E> {
    /// Waits until the lcore polls, or returns why it does not.
    ///
    /// # Errors
    /// The error is [`StartError::Pin`] when the thread may not run on its core. It is [`StartError::Build`] when the
    /// closure that builds the lcore fails. It is [`StartError::Panicked`] when that closure panics.
    pub fn wait(self) -> Result<LcoreHandle, StartError<E>> {
        match self.built.recv() {
            Ok(Ok((view, waker))) => Ok(LcoreHandle { view, orders: self.orders, waker, thread: Some(self.thread) }),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => {
                let message = match self.thread.join() {
                    Ok(End::Panicked { message, .. }) => message,
                    _ => "in the thread's frame".to_owned(),
                };
                Err(StartError::Panicked { index: self.index, message })
            }
        }
    }
}

/// What runs on the thread of an lcore: an [`Lcore`], or the loop of a role that has no ports.
pub trait ThreadLoop {
    /// The parts that others may see. Called on the thread.
    fn view(&self, core: Option<usize>) -> View;

    /// Wakes the loop when it sleeps, for a new order.
    fn waker(&self) -> Waker;

    /// Runs until all is drained, or the orders end it.
    fn run(&mut self, config: ThreadConfig, orders: &Orders) -> End;
}

impl<R: Role, P: Port> ThreadLoop for Lcore<R, P> {
    fn view(&self, core: Option<usize>) -> View {
        View::of(self, core)
    }

    fn waker(&self) -> Waker {
        self.mailbox().waker()
    }

    fn run(&mut self, config: ThreadConfig, orders: &Orders) -> End {
        run(self, config, orders)
    }
}

/// Starts a thread, pins it, builds an lcore or another loop on it and runs that until it has drained or is told to
/// stop.
///
/// `ended` is called on the thread when its loop has ended for any reason, so that nobody needs to poll for the end.
///
/// # Errors
/// The error is [`StartError::Spawn`] when the kernel gives no thread. What fails on the thread itself comes out of
/// [`Starting::wait`].
pub fn start<L, E>(
    config: ThreadConfig,
    build: impl FnOnce() -> Result<L, E> + Send + 'static,
    ended: impl FnOnce() + Send + 'static,
) -> Result<Starting<E>, StartError<E>>
where
    L: ThreadLoop,
    E: Send + 'static,
{
    let index = config.index;
    let orders = Arc::new(Orders::new(config.mode));
    let (report, built) = mpsc::channel();
    let told = Arc::clone(&orders);
    let body = move || {
        let mut pulse = None;
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mut lcore = match pin(config).and_then(|()| build().map_err(StartError::Build)) {
                Ok(lcore) => lcore,
                Err(error) => {
                    // An error here means that nobody waits for the result.
                    let _ = report.send(Err(error));
                    return End::Stopped { role_frames: 0, outbox_frames: 0 };
                }
            };
            let view = lcore.view(config.core);
            pulse = Some(Arc::clone(&view.pulse));
            let core = config.core.map_or_else(|| "no core of its own".to_owned(), |core| format!("core {core}"));
            let (tid, ports) = (view.tid, view.ports.len());
            let s = if ports == 1 { "" } else { "s" };
            tracing::debug!("lcore {index} polls {ports} port{s}, thread {tid}, {core}, {}", config.mode);
            if report.send(Ok((view, lcore.waker()))).is_err() {
                return End::Stopped { role_frames: 0, outbox_frames: 0 };
            }
            lcore.run(config, &told)
        }));
        let stage = pulse.as_ref().map_or(Stage::Starting, |pulse| pulse.stage());
        if let Some(pulse) = pulse {
            pulse.enter(Stage::Stopped);
        }
        let end = end.unwrap_or_else(|panic| End::Panicked { stage, message: message_of(&*panic) });
        tracing::debug!("lcore {index} has ended: {end:?}");
        ended();
        end
    };
    let spawned = std::thread::Builder::new().name(format!("lcore-{index}")).spawn(body);
    let thread = spawned.map_err(|source| StartError::Spawn { index, source })?;
    Ok(Starting { index, orders, thread, built })
}

fn pin<E>(config: ThreadConfig) -> Result<(), StartError<E>> {
    let Some(core) = config.core else { return Ok(()) };
    // Beyond its range `core_affinity` does not return an error, it panics.
    if core <= MAX_CORE && core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Ok(())
    } else {
        Err(StartError::Pin { index: config.index, core })
    }
}

fn run<R: Role, P: Port>(lcore: &mut Lcore<R, P>, config: ThreadConfig, orders: &Orders) -> End {
    let mut waiter = Waiter::new(config.mode);
    loop {
        waiter.set_mode(orders.mode());
        match orders.order() {
            LoopOrder::Run => {}
            LoopOrder::Finish => lcore.stop_receiving(),
            LoopOrder::Stop => {
                lcore.publish();
                let at = lcore.conservation();
                return End::Stopped { role_frames: at.role, outbox_frames: at.outbox };
            }
        }
        let polled = lcore.poll_once(config.clock.now());
        if lcore.is_idle_and_drained() {
            lcore.publish();
            return End::Drained;
        }
        waiter.after(lcore, polled, &config.clock);
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// The scheduler's account of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Nanoseconds that it ran since it began.
    pub ran: u64,
    /// Whether it runs or wants to run; `false` when it waits in the kernel or is stopped.
    pub runnable: bool,
}

impl Account {
    /// The account of a thread of this process; `None` when the thread is gone, or on a kernel without such accounts.
    pub fn of(tid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?;
        // The state follows the name, which is in parentheses and may contain parentheses.
        let (_, after) = stat.rsplit_once(") ")?;
        Some(Self { ran: cpu_ns(tid)?, runnable: after.starts_with('R') })
    }
}

/// The cores on which a thread of this process may run now: its own choice, within the limits of a cpuset.
///
/// # Errors
/// The kernel does not report them, or the thread is gone.
pub fn cores_of(tid: i32) -> Result<CoreList, CoreError> {
    let thread = rustix::thread::Pid::from_raw(tid).ok_or(CoreError::NoCores)?;
    let cores = rustix::thread::sched_getaffinity(Some(thread)).map_err(|_| CoreError::NoCores)?;
    CoreList::of((0..=MAX_CORE).filter(|core| cores.is_set(*core)))
}

/// CPU time that a thread of this process has used, in nanoseconds; `None` when the thread is gone.
pub fn cpu_ns(tid: i32) -> Option<u64> {
    let schedstat = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).ok()?;
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}
