//! Completions: the script that a shell loads, and the program's answer to it.

use crate::bash::Bash;
use clap::Command;
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use std::ffi::OsStr;
use std::io;

/// The environment variable that tells a program to answer a shell instead of doing its work.
pub const VARIABLE: &str = "GVM_COMPLETE";

/// Bash's script is our own, see [`crate::bash`]; the others come from the library.
const SHELLS: [&dyn EnvCompleter; 5] = [&Bash, &Elvish, &Fish, &Powershell, &Zsh];

/// Answers a shell that asks for completions of this process's arguments. Returns whether a shell asked. Then the
/// process has nothing else to do.
///
/// # Errors
/// The shell is unknown, or does not read the answer.
pub fn answer(program: fn() -> Command) -> Result<bool, clap::Error> {
    let current = std::env::current_dir().ok();
    let engine = CompleteEnv::with_factory(program).var(VARIABLE).shells(Shells(&SHELLS));
    engine.try_complete(std::env::args_os(), current.as_deref())
}

/// The script with which a shell completes a program.
///
/// # Errors
/// The shell has no completions.
pub fn script(shell: Shell, program: &str) -> io::Result<String> {
    let shell = shell.to_string();
    let completer = Shells(&SHELLS);
    let completer =
        completer.completer(&shell).ok_or_else(|| io::Error::other(format!("no completions for {shell}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, program, program, program, &mut script)?;
    String::from_utf8(script).map_err(io::Error::other)
}

/// Fixed values, for an argument whose type is not an enum of clap's.
pub fn values(values: &'static [&'static str]) -> ArgValueCandidates {
    ArgValueCandidates::new(move || values.iter().map(CompletionCandidate::new).collect())
}

/// Values that are looked up when a shell asks.
pub fn lookup(values: impl Fn() -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let fits = |value: &String| current.to_str().is_some_and(|current| value.starts_with(current));
        values().into_iter().filter(fits).map(CompletionCandidate::new).collect()
    })
}

/// Values that are looked up when a shell asks, and behind a comma the names of their options. `options` returns those
/// of a value. An option that stands there already is not offered again.
pub fn with_options(
    values: impl Fn() -> Vec<String> + Send + Sync + 'static,
    options: impl Fn(&str) -> &'static [&'static str] + Send + Sync + 'static,
) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let current = current.to_str().unwrap_or_default();
        let Some(comma) = current.rfind(',') else {
            let fits = values().into_iter().filter(|value| value.starts_with(current));
            return fits.map(CompletionCandidate::new).collect();
        };
        let (before, last) = current.split_at(comma + 1);
        let value = before.split(',').next().unwrap_or_default();
        let is_new = |option: &&&str| option.starts_with(last) && !before.contains(&format!(",{option}"));
        let fits = options(value).iter().filter(is_new);
        fits.map(|option| CompletionCandidate::new(format!("{before}{option}"))).collect()
    })
}

/// Values for the last item of a list with commas; the items before it are kept.
pub fn list(values: impl Fn() -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let current = current.to_str().unwrap_or_default();
        let (before, last) = current.rfind(',').map_or(("", current), |comma| current.split_at(comma + 1));
        let named = |value: &str| before.split(',').any(|word| word == value);
        let fits = |value: &String| value.starts_with(last) && !named(value);
        values().into_iter().filter(fits).map(|value| CompletionCandidate::new(format!("{before}{value}"))).collect()
    })
}
