//! CPU time of this thread, which other programs on a shared machine do not change.

use rustix::time::{ClockId, clock_gettime};

/// Measures the CPU time that the calling thread spends.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(f64);

fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self(now())
    }

    /// Nanoseconds of CPU time since the start.
    pub fn nanoseconds(&self) -> f64 {
        now() - self.0
    }
}
