//! What a kernel can do, and what a user asks for: bits of `UFFDIO_API`.

use std::fmt;

/// A set of features. Its text has the kernel's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeatureSet(u64);

/// The names of the header, by bit.
const NAMES: [&str; 17] = [
    "PAGEFAULT_FLAG_WP",
    "EVENT_FORK",
    "EVENT_REMAP",
    "EVENT_REMOVE",
    "MISSING_HUGETLBFS",
    "MISSING_SHMEM",
    "EVENT_UNMAP",
    "SIGBUS",
    "THREAD_ID",
    "MINOR_HUGETLBFS",
    "MINOR_SHMEM",
    "EXACT_ADDRESS",
    "WP_HUGETLBFS_SHMEM",
    "WP_UNPOPULATED",
    "POISON",
    "WP_ASYNC",
    "MOVE",
];

impl FeatureSet {
    /// None.
    pub const NONE: Self = Self(0);
    /// Write-protection of anonymous memory.
    pub const WRITE_PROTECT: Self = Self(1 << 0);
    /// A fork is told, with a userfaultfd of the child. Needs CAP_SYS_PTRACE.
    pub const EVENT_FORK: Self = Self(1 << 1);
    /// mremap is told.
    pub const EVENT_REMAP: Self = Self(1 << 2);
    /// MADV_DONTNEED, MADV_FREE and MADV_REMOVE are told.
    pub const EVENT_REMOVE: Self = Self(1 << 3);
    /// Missing pages of shared memory.
    pub const MISSING_SHMEM: Self = Self(1 << 5);
    /// munmap is told.
    pub const EVENT_UNMAP: Self = Self(1 << 6);
    /// A fault has the id of its thread.
    pub const THREAD_ID: Self = Self(1 << 8);
    /// Pages of shared memory that exist, and are not mapped.
    pub const MINOR_SHMEM: Self = Self(1 << 10);
    /// A fault has the exact address, not that of its page.
    pub const EXACT_ADDRESS: Self = Self(1 << 11);
    /// The call POISON.
    pub const POISON: Self = Self(1 << 14);
    /// The call MOVE.
    pub const MOVE: Self = Self(1 << 16);

    /// The set of these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits, as `UFFDIO_API` has them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let mut between = "";
        for bit in (0..64).filter(|bit| self.0 & (1 << bit) != 0) {
            match NAMES.get(bit) {
                Some(name) => write!(f, "{between}{name}")?,
                None => write!(f, "{between}bit {bit}")?,
            }
            between = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_header() {
        let some = FeatureSet::EVENT_FORK.with(FeatureSet::MOVE).with(FeatureSet::from_bits(1 << 40));
        assert_eq!(some.to_string(), "EVENT_FORK, MOVE, bit 40");
        assert_eq!(FeatureSet::NONE.to_string(), "none");
        let named = [
            (FeatureSet::WRITE_PROTECT, "PAGEFAULT_FLAG_WP"),
            (FeatureSet::EVENT_REMAP, "EVENT_REMAP"),
            (FeatureSet::EVENT_REMOVE, "EVENT_REMOVE"),
            (FeatureSet::MISSING_SHMEM, "MISSING_SHMEM"),
            (FeatureSet::EVENT_UNMAP, "EVENT_UNMAP"),
            (FeatureSet::THREAD_ID, "THREAD_ID"),
            (FeatureSet::MINOR_SHMEM, "MINOR_SHMEM"),
            (FeatureSet::EXACT_ADDRESS, "EXACT_ADDRESS"),
            (FeatureSet::POISON, "POISON"),
        ];
        for (feature, name) in named {
            assert_eq!(feature.to_string(), name);
        }
    }

    #[test]
    fn sets_are_sets() {
        let both = FeatureSet::MOVE.with(FeatureSet::POISON);
        assert!(both.has(FeatureSet::MOVE) && both.has(FeatureSet::NONE) && !FeatureSet::MOVE.has(both));
        assert_eq!(both.without(FeatureSet::MOVE), FeatureSet::POISON);
    }
}
