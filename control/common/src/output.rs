//! What a command prints. Nothing else of this crate writes to standard output, but for `top` on its terminal.

use crate::exit::Failure;
use std::convert::Infallible;
use std::io::{self, ErrorKind};

/// Whoever reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputReader {
    /// It takes what it gets.
    Reads,
    /// It has seen enough: `gvm-dp routes | head`. That is no error, and there is nobody to go on for.
    Left,
}

fn printed(result: io::Result<()>) -> Result<OutputReader, Failure> {
    match result {
        Ok(()) => Ok(OutputReader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(OutputReader::Left),
        Err(error) => Err(Failure::Output(error)),
    }
}

/// Prints what somebody may read, all of it or as much as they like.
///
/// # Errors
/// It cannot be written: the disk is full.
pub fn print(text: &str) -> Result<OutputReader, Failure> {
    printed(stdio::out::print(text))
}

/// Prints what is worth nothing unless somebody has all of it: a key, a completion script.
///
/// # Errors
/// Not all of it was taken.
pub fn print_whole(text: &str) -> Result<(), Failure> {
    stdio::out::print(text).map_err(Failure::Output)
}

/// Says why a command ends, also where nobody may read it.
pub fn complain(text: &str) {
    // A command that fails early has no thread for its log yet. Without one, the text is written at once.
    let _ = stdio::err::start(|| Ok::<_, Infallible>(()));
    stdio::err::line(text);
}

/// Prints what clap answers: help and the version are what was asked for, all else is a complaint. Returns its exit code.
///
/// # Errors
/// What was asked for cannot be written.
pub fn answer(answer: &clap::Error) -> Result<u8, Failure> {
    if answer.use_stderr() {
        let text = answer.render();
        let is_colourful =
            stdio::err::is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        complain(&if is_colourful { text.ansi().to_string() } else { text.to_string() });
    } else {
        printed(answer.print())?;
    }
    Ok(u8::try_from(answer.exit_code()).unwrap_or(2))
}
