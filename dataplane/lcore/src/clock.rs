//! Time for poll loops: nanoseconds since the process began.

use frame::Time;
use std::time::Instant;

/// The start of a process's time. Copies show the same time.
///
/// It reads `CLOCK_MONOTONIC` through the vDSO. On machines with an invariant TSC, that is `rdtsc` and a multiplication
/// in user space with the kernel's calibration, about 20 ns. Once per poll this is negligible, so there is no reason to
/// read and calibrate the TSC here.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins now, at 0.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Nanoseconds since the start; never backwards, on any thread.
    #[inline]
    pub fn now(&self) -> Time {
        // 64 bits of nanoseconds are 584 years.
        self.began.elapsed().as_nanos() as Time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_show_one_time_that_never_goes_back() {
        let clock = Clock::start();
        let copy = clock;
        let mut last = 0;
        for _ in 0..1000 {
            let (a, b) = (clock.now(), copy.now());
            assert!(last <= a && a <= b);
            last = b;
        }
    }
}
