//! A benchmark that cannot run here: not a failure, unless the caller says that it must run.

use ebpf::SteerError;
use port::dpdk::DpdkError;
use std::fmt;

/// Why a benchmark cannot run on this machine or as this user, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// As [`anyhow::ensure!`], for what a benchmark needs of the machine.
///
/// # Errors
/// It is not there.
pub fn needs(is_there: bool, why: impl Into<String>) -> anyhow::Result<()> {
    if is_there { Ok(()) } else { Err(Unavailable(why.into()).into()) }
}

/// What benchmarks need that drive two AF_XDP ports in network namespaces, each on its own core.
///
/// # Errors
/// It is not there.
pub fn needs_two_cores_and_namespaces() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    needs(cores >= 2, "it needs two cores, and this process may use one")?;
    netns::missing().map_or(Ok(()), |reason| Err(Unavailable(reason).into()))
}

/// Why a benchmark could not run here, because something is not installed or not permitted. `None` for everything else,
/// which is a failure.
pub fn reason(error: &anyhow::Error) -> Option<String> {
    let is_missing = error.is::<Unavailable>()
        || matches!(error.downcast_ref(), Some(SteerError::Permission(_)))
        || matches!(error.downcast_ref(), Some(DpdkError::NoPlugin(_) | DpdkError::Empty(_)));
    is_missing.then(|| format!("{error:#}"))
}

/// Whether a benchmark that cannot run must fail: the environment has `GVM_TESTS=require`, as in CI.
pub fn is_failure() -> bool {
    std::env::var_os("GVM_TESTS").is_some_and(|value| value == "require")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn what_is_missing_is_told_apart_from_what_failed() {
        needs(true, "").unwrap();
        let missing = needs(false, "two cores").context("the benchmark").unwrap_err();
        assert_eq!(reason(&missing).as_deref(), Some("the benchmark: two cores"));
        let no_plugin = anyhow::Error::from(DpdkError::Empty("/x.so".into()));
        assert!(reason(&no_plugin).is_some_and(|why| why.contains("built without DPDK")));
        for failed in [anyhow::anyhow!("records are missing"), DpdkError::Started.into()] {
            assert_eq!(reason(&failed), None, "{failed}");
        }
    }
}
