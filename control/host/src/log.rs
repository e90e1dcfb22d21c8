//! The messages of a process on stderr. A filter chooses them, and can be changed while the process runs.

use crate::privilege::{Confinement, Needs, Places, Thread, seccomp};
use common::exit::Failure;
use rustix::thread::CapabilitySet;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use stdio::err::{Lines, StartError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt as lines, reload};

/// Which messages are written: a level (`info`), or levels by target (`info,lcore=debug`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// A text that is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a log filter: write error, warn, info, debug or trace, or levels by target as in info,lcore=debug"
)]
pub struct LogFilterError(String);

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let error = || LogFilterError(text.to_owned());
        // A word without a level would be a target with all its messages, and would silence the rest. It is a typing
        // error.
        let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let mut directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        if directives.any(|directive| !directive.contains(['=', '[']) && !is_level(directive)) {
            return Err(error());
        }
        EnvFilter::builder().parse(text).map(|_| Self(text.to_owned())).map_err(|_| error())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LogFilter {
    /// The filter of commands that end soon: `RUST_LOG`, or the default.
    pub fn from_env() -> Self {
        let from_env = std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok());
        from_env.unwrap_or_else(|| Self("info".to_owned()))
    }

    fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log on stderr. Only the first call has an effect.
///
/// In the process of a role the thread that writes the messages is confined from its start; in commands that end soon
/// it is not.
///
/// # Errors
/// The thread cannot be started or confined.
pub fn start(filter: &LogFilter, confine: Option<(seccomp::Mode, bool)>) -> Result<(), Failure> {
    let places = |landlock| bool::then(landlock, Places::default);
    let confinement = confine.map(|(mode, landlock)| Confinement::new(mode, Needs::default(), places(landlock)));
    let confinement = confinement.transpose()?;
    let confine = move || match confinement {
        Some(confinement) => confinement.enter(Thread::Log, CapabilitySet::empty()),
        None => Ok(()),
    };
    match stdio::err::start(confine) {
        Ok(()) => {}
        Err(StartError::Confine(failure)) => return Err(failure),
        Err(StartError::Spawn(error)) => {
            return Err(Failure::Machine(format!("cannot start a thread for the log: {error}")));
        }
    }
    let (layer, handle) = reload::Layer::new(filter.filter());
    let stderr = lines::layer().with_writer(Lines::default).with_ansi(stdio::err::is_terminal()).with_target(false);
    if HANDLE.set(handle).is_ok() {
        tracing_subscriber::registry().with(layer).with(stderr).init();
    }
    Ok(())
}

/// Replaces the filter.
pub fn set(filter: &LogFilter) {
    if let Some(handle) = HANDLE.get() {
        // This fails only when the subscriber is gone. Then nothing writes messages.
        let _ = handle.reload(filter.filter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_written_as_they_are_read() {
        for text in ["info", "off", "debug", "info,lcore=debug", "warn,serve::metrics=trace", ""] {
            assert_eq!(text.parse::<LogFilter>().unwrap().to_string(), text);
        }
        for text in ["loud", "debg", "lcore=loud", "info,lcore"] {
            let error = text.parse::<LogFilter>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("as in info,lcore=debug"), "{error}");
        }
    }
}
