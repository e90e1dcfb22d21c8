//! The values that shells offer for flags of this crate whose type does not list them.

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use settings::RoleName;
use settings::catalog::Catalog;
use settings::live;
use settings::values::{LOG_LEVELS, RX_MODES};
use shell::complete::{lookup, values};

/// Path MTUs of RoCEv2.
pub(super) fn path_mtus() -> ArgValueCandidates {
    values(&["256", "512", "1024", "2048", "4096"])
}

/// Settings that can change while a process runs.
pub(super) fn settings() -> ArgValueCompleter {
    lookup(|| {
        let every = RoleName::ALL.into_iter().flat_map(|role| Catalog::of(role).settings);
        let mut names: Vec<String> = every.map(|setting| setting.name).filter(|name| live::is_live(name)).collect();
        names.sort();
        names.dedup();
        names
    })
}

/// Values of the setting whose name stands before the value on the command line.
pub(super) fn setting_values() -> ArgValueCompleter {
    lookup(|| {
        // A completer gets only the current word; the whole line is in this process's own arguments.
        let words: Vec<String> = std::env::args().collect();
        let known: &[&str] = match words.iter().rev().find_map(|word| setting_with_values(word)) {
            Some(values) => values,
            None => &[],
        };
        known.iter().map(|&value| value.to_owned()).collect()
    })
}

fn setting_with_values(word: &str) -> Option<&'static [&'static str]> {
    match word {
        "early" => Some(&["on", "off"]),
        "rx-mode" => Some(&RX_MODES),
        "log" => Some(&LOG_LEVELS),
        _ => None,
    }
}
