//! The disk on a thread of its own: it waits as lcores do, and shows what they show.

use crate::server::DiskServer;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use lcore::mailbox::Waker;
use lcore::thread::{End, LoopOrder, Orders, ThreadConfig, ThreadLoop, View};
use lcore::{LcoreCounters, Pulse, RxMode, Stage};
use rustix::event::Timespec;
use std::sync::Arc;

/// Empty turns before the loop sleeps: while requests to extents are under way, and when none are.
const SPINS: (u32, u32) = (32, 4);

/// The longest sleep, so that the watchdog sees a pulse, in nanoseconds.
const LONGEST_SLEEP: Time = 100 * MILLISECOND;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// See the module's documentation.
#[derive(Debug)]
pub struct DiskLoop {
    server: DiskServer,
    counters: Arc<LcoreCounters>,
    pulse: Arc<Pulse>,
}

impl DiskLoop {
    /// A loop of this disk.
    pub fn new(server: DiskServer) -> Self {
        Self { server, counters: Arc::default(), pulse: Arc::default() }
    }

    fn turn(&mut self, wait: Timespec, config: &ThreadConfig) -> bool {
        self.pulse.enter(Stage::Advance);
        let worked = self.server.turn(wait, || config.clock.now());
        self.pulse.enter(Stage::Waiting);
        worked
    }

    /// Sleeps until something comes.
    fn sleep(&mut self, config: &ThreadConfig) -> bool {
        if !self.server.arm() {
            return self.turn(NOW, config);
        }
        let before = config.clock.now();
        let most = self.server.deadline().saturating_sub(before).min(LONGEST_SLEEP);
        let wait = Timespec { tv_sec: (most / SECOND) as i64, tv_nsec: (most % SECOND) as i64 };
        self.counters.sleeps.add(1);
        let (counters, clock) = (Arc::clone(&self.counters), config.clock);
        // The clock is read when the wait is over.
        let worked = self.server.turn(wait, move || {
            let now = clock.now();
            counters.asleep_ns.add(now.saturating_sub(before));
            now
        });
        self.server.mailbox().disarm();
        worked
    }
}

impl ThreadLoop for DiskLoop {
    fn view(&self, core: Option<usize>) -> View {
        View::of_loop(0, core, &self.counters, &self.pulse)
    }

    fn waker(&self) -> Waker {
        self.server.mailbox_waker()
    }

    fn run(&mut self, config: ThreadConfig, orders: &Orders) -> End {
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let mut empty = 0;
        loop {
            match orders.order() {
                LoopOrder::Run => (),
                LoopOrder::Finish => self.server.drain(),
                LoopOrder::Stop => return End::Stopped { role_frames: 0, outbox_frames: 0 },
            }
            self.pulse.beat();
            self.counters.polls.add(1);
            let before = config.clock.now();
            let spins = if self.server.is_busy() { SPINS.0 } else { SPINS.1 };
            let sleeps = orders.mode() == RxMode::Adaptive && empty >= spins;
            let worked = if sleeps { self.sleep(&config) } else { self.turn(NOW, &config) };
            if self.server.is_drained() {
                return End::Drained;
            }
            if worked {
                empty = 0;
                if !sleeps {
                    self.counters.busy_ns.add(config.clock.now().saturating_sub(before));
                }
            } else {
                empty += 1;
                self.counters.empty_polls.add(1);
                std::hint::spin_loop();
            }
        }
    }
}
