//! Core lists as DPDK's `-l`: `2-15`, `0,2,4-6`. One lcore is started on each core.

use std::fmt;
use std::str::FromStr;

/// The highest core number that a list may name: the kernel's `cpu_set_t`, as `core_affinity` uses it, ends there.
pub const MAX_CORE: usize = 1023;

/// The cores on which lcores run, in the order in which they were named; at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(Vec<usize>);

/// Why a text is not a list of cores, or why its cores cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// Not a number, or a range that ends before it begins.
    #[error("\"{0}\" is not a core or range of cores: write a list such as 2-15 or 0,2,4-6")]
    Syntax(String),
    /// The same core twice: two poll loops on one core would have to share it.
    #[error("core {0} is named twice: each lcore needs a core of its own")]
    Twice(usize),
    /// A core that this process may not run on.
    #[error(
        "core {core} does not exist or is not allowed here: choose from {existing} (taskset and cgroups limit them)"
    )]
    Unknown {
        /// The core that was asked for.
        core: usize,
        /// The cores that this process may use.
        existing: CoreList,
    },
    /// The kernel does not report which cores there are.
    #[error("the kernel does not say which cores this process may use: check that /proc and /sys are mounted")]
    NoCores,
}

impl CoreList {
    /// These cores, in this order.
    ///
    /// # Errors
    /// The error is [`CoreError::Twice`] when a core is named twice. It is [`CoreError::NoCores`] when none is named.
    pub fn of(cores: impl IntoIterator<Item = usize>) -> Result<Self, CoreError> {
        let mut list: Vec<usize> = Vec::new();
        for core in cores {
            if list.contains(&core) {
                return Err(CoreError::Twice(core));
            }
            list.push(core);
        }
        if list.is_empty() { Err(CoreError::NoCores) } else { Ok(Self(list)) }
    }

    /// The cores in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// How many there are: never 0.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: a list names at least one core.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cores that this process may run on.
    ///
    /// Call it before any thread is pinned: a pinned thread sees only its own core.
    ///
    /// # Errors
    /// The error is [`CoreError::NoCores`] when the kernel does not say which cores there are.
    pub fn of_this_process() -> Result<Self, CoreError> {
        let mut cores: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        cores.sort_unstable();
        if cores.is_empty() { Err(CoreError::NoCores) } else { Ok(Self(cores)) }
    }

    /// Refuses a core that is not among `existing`.
    ///
    /// # Errors
    /// The error is [`CoreError::Unknown`] with the first core that is missing.
    pub fn check(&self, existing: &Self) -> Result<(), CoreError> {
        match self.iter().find(|core| !existing.0.contains(core)) {
            Some(core) => Err(CoreError::Unknown { core, existing: existing.clone() }),
            None => Ok(()),
        }
    }
}

impl FromStr for CoreList {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let mut cores = Vec::new();
        for item in text.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&core| core <= MAX_CORE);
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(CoreError::Syntax(item.to_owned()));
            };
            if first > last {
                return Err(CoreError::Syntax(item.to_owned()));
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(CoreError::Twice(core));
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

impl fmt::Display for CoreList {
    /// Consecutive cores as ranges, as they are written on a command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for core in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == core => *last = core,
                _ => runs.push((core, core)),
            }
        }
        for (i, (first, last)) in runs.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_written_as_dpdk_writes_them() {
        for (text, cores) in [("2-5", vec![2, 3, 4, 5]), ("0,2,4-6", vec![0, 2, 4, 5, 6]), ("7", vec![7])] {
            let list: CoreList = text.parse().unwrap();
            assert_eq!((list.iter().collect::<Vec<_>>(), list.to_string()), (cores, text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_list_is_explained() {
        for text in ["", "a", "3-1", "1-", "1,,2", "1024", "0-99999999999"] {
            let error = text.parse::<CoreList>().unwrap_err();
            assert!(error.to_string().contains("write a list such as 2-15"), "{text}: {error}");
        }
        assert_eq!("1-3,2".parse::<CoreList>(), Err(CoreError::Twice(2)));
    }

    #[test]
    fn an_unknown_core_is_named_with_those_that_exist() {
        let machine: CoreList = "0-3".parse().unwrap();
        assert_eq!("1,3".parse::<CoreList>().unwrap().check(&machine), Ok(()));
        let error = "2-5".parse::<CoreList>().unwrap().check(&machine).unwrap_err().to_string();
        assert!(error.starts_with("core 4 does not exist or is not allowed here: choose from 0-3"), "{error}");
    }

    #[test]
    fn this_machine_has_cores() {
        let machine = CoreList::of_this_process().unwrap();
        assert!(!machine.is_empty());
        assert_eq!(machine.check(&machine), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(cores in proptest::collection::btree_set(0..=MAX_CORE, 1..40)) {
            let list = CoreList(cores.into_iter().collect());
            prop_assert_eq!(list.to_string().parse::<CoreList>(), Ok(list));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9,\\- x]{0,16}") {
            let _ = text.parse::<CoreList>();
        }
    }
}
