//! What a pager is made with.

use crate::MAX_REPLICAS;

/// Pages of 64 MiB: the reserve of a program with much memory.
const RESERVE: u64 = (64 << 20) / 4096;

/// The settings of one program.
#[derive(Clone, Debug)]
pub struct PagingConfig {
    /// Pages of local memory: those of the program, and those that come or leave. At least 2; a program makes progress
    /// with 64 or more, since an instruction may need several at once.
    pub local: u64,
    /// Landing buffers of one page, at least 8. They are not part of `local`.
    pub landings: u32,
    /// Runs of the staging area, each of [`RUN`](crate::RUN) pages, at least 2.
    pub staging_runs: u32,
    /// Copies of each page at slaves, 1 to 3.
    pub replicas: usize,
    /// The most pages that are fetched in advance at once, up to 32; 0 for none.
    pub window: u32,
    /// The key of the pages' hashes: a random number that nobody else knows.
    pub hash_key: u64,
}

/// Why a pager cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PagingConfigError {
    /// Too few pages.
    #[error("{0} pages of local memory are too few: at least 2, and for a program 64")]
    Local(u64),
    /// Too few buffers.
    #[error("{landings} landing buffers and {runs} staging runs are too few: at least 8 and 2")]
    Buffers {
        /// Landing buffers.
        landings: u32,
        /// Staging runs.
        runs: u32,
    },
    /// None, or too many.
    #[error("{0} replicas of a page: choose 1 to 3")]
    Replicas(usize),
    /// Too many.
    #[error("a window of {0} pages: choose 0 to 32")]
    Window(u32),
}

impl PagingConfig {
    /// Settings for so many pages of local memory; all else is usual.
    pub fn new(local: u64, hash_key: u64) -> Self {
        Self { local, landings: 256, staging_runs: 16, replicas: 1, window: 32, hash_key }
    }

    /// Whether all is in its range.
    pub(crate) fn check(&self) -> Result<(), PagingConfigError> {
        if self.local < 2 {
            return Err(PagingConfigError::Local(self.local));
        }
        if self.landings < 8 || self.staging_runs < 2 {
            return Err(PagingConfigError::Buffers { landings: self.landings, runs: self.staging_runs });
        }
        if self.replicas == 0 || self.replicas > MAX_REPLICAS {
            return Err(PagingConfigError::Replicas(self.replicas));
        }
        if self.window > 32 {
            return Err(PagingConfigError::Window(self.window));
        }
        Ok(())
    }

    /// Local pages that are kept free: a fiftieth or 64 MiB, whichever is more, and at most a quarter.
    pub fn reserve(&self) -> u64 {
        (self.local / 50).max(RESERVE).min(self.local / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let good = PagingConfig::new(64, 1);
        assert_eq!(good.check(), Ok(()));
        let wrong = [
            PagingConfig { local: 1, ..good.clone() },
            PagingConfig { landings: 7, ..good.clone() },
            PagingConfig { staging_runs: 1, ..good.clone() },
            PagingConfig { replicas: 4, ..good.clone() },
            PagingConfig { window: 33, ..good.clone() },
        ];
        assert!(wrong.iter().all(|config| config.check().is_err()));
    }

    #[test]
    fn the_reserve_is_a_fiftieth_or_64_mib_and_never_most_of_it() {
        let reserve = |local| PagingConfig::new(local, 1).reserve();
        assert_eq!((reserve(400), reserve(100_000), reserve(10_000_000)), (100, RESERVE, 200_000));
    }
}
