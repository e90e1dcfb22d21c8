//! What a command prints. All other code of this crate leaves standard output alone; only `top` draws on its terminal.

use crate::exit::Failure;
use std::convert::Infallible;
use std::io::{self, ErrorKind};

/// The reader of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputReader {
    /// It still reads.
    Reads,
    /// It has read enough and closed the pipe, as in `gvm-dp routes | head`. That is not an error; the command stops
    /// printing.
    Left,
}

fn printed(result: io::Result<()>) -> Result<OutputReader, Failure> {
    match result {
        Ok(()) => Ok(OutputReader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(OutputReader::Left),
        Err(error) => Err(Failure::Output(error)),
    }
}

/// Prints text of which a part is useful, too. The reader may stop reading at any point.
///
/// # Errors
/// It cannot be written: the disk is full.
pub fn print(text: &str) -> Result<OutputReader, Failure> {
    printed(stdio::out::print(text))
}

/// Prints text that is useless unless the reader gets all of it: a key, a completion script.
///
/// # Errors
/// The reader did not take all of it.
pub fn print_whole(text: &str) -> Result<(), Failure> {
    stdio::out::print(text).map_err(Failure::Output)
}

/// Writes to stderr why a command ends. It is not an error if that cannot be written.
pub fn complain(text: &str) {
    // A command that fails early has no thread for its log yet. Without one, the text is written at once.
    let _ = stdio::err::start(|| Ok::<_, Infallible>(()));
    stdio::err::line(text);
}

/// Prints clap's answer: help and the version go to stdout, everything else is an error message. Returns its exit code.
///
/// # Errors
/// Help or the version cannot be written.
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
