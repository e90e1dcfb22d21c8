//! The only form in which a setting's value is written, whatever was typed: `1000us` becomes `1ms`. So equal values
//! have equal texts.

use crate::MetricsAddress;
use crate::domain::Domain;
use crate::flags::Switch;
use crate::id_range::IdRange;
use crate::listen::ListenAddress;
use crate::memory::{KeepFree, MemoryPages};
use crate::neighbor::NeighborSpec;
use crate::traffic::Traffic;
use clap::ArgMatches;
use common::units::{Duration, Size};
use host::log::LogFilter;
use host::privilege::seccomp;
use lcore::{CoreList, RxMode};
use port::spec::PortSpec;
use std::any::Any;
use std::path::PathBuf;

/// The texts of values of one type; `None` if the values are of another type.
type Texts = fn(&ArgMatches, &str) -> Option<Vec<String>>;

/// All types of settings. A test fails when a flag has another one.
const TYPES: &[Texts] = &[
    of::<bool>,
    of::<u8>,
    of::<u16>,
    of::<u32>,
    of::<u64>,
    of::<String>,
    of::<Domain>,
    of::<IdRange>,
    of::<CoreList>,
    of::<PortSpec>,
    of::<RxMode>,
    of::<Switch>,
    of::<Duration>,
    of::<Size>,
    of::<NeighborSpec>,
    of::<Traffic>,
    of::<LogFilter>,
    of::<MetricsAddress>,
    of::<seccomp::Mode>,
    of::<KeepFree>,
    of::<MemoryPages>,
    of::<ListenAddress>,
    paths,
];

fn paths(matches: &ArgMatches, id: &str) -> Option<Vec<String>> {
    with(matches, id, |path: &PathBuf| path.display().to_string())
}

fn of<T: ToString + Any + Clone + Send + Sync>(matches: &ArgMatches, id: &str) -> Option<Vec<String>> {
    with(matches, id, T::to_string)
}

fn with<T: Any + Clone + Send + Sync>(
    matches: &ArgMatches,
    id: &str,
    text: impl Fn(&T) -> String,
) -> Option<Vec<String>> {
    let values = matches.try_get_many::<T>(id).ok()?;
    Some(values.into_iter().flatten().map(text).collect())
}

/// The values of an argument in their only form; `None` if its type is not in the list.
pub(super) fn texts(matches: &ArgMatches, id: &str) -> Option<Vec<String>> {
    TYPES.iter().find_map(|texts| texts(matches, id))
}
