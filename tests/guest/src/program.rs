//! Programs of this machine.

use std::process::{Command, Stdio};

/// Runs a program to its end.
///
/// # Errors
/// The text that it wrote to stderr.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
