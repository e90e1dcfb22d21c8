//! What an operator has in hand, tried as an operator would: lines are typed into a real shell, documents are followed
//! as they are written, packages are looked at by the distribution's own tools.
#![forbid(unsafe_code)]

pub mod document;
pub mod terminal;
pub mod typed;
pub mod words;

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Whether a tool is here that a test needs. If not, says so where one sees it, or panics with `GVM_TESTS=require`
/// where `scripts/setup.sh` installs it.
///
/// # Panics
/// When the tool is missing, must not be, and `GVM_TESTS` is `require`.
pub fn has_tool(program: &str, from_setup: bool) -> bool {
    let probe = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).stdin(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return true;
    }
    let required = from_setup && std::env::var("GVM_TESTS").as_deref() == Ok("require");
    assert!(!required, "GVM_TESTS=require, but `{program}` is not installed: scripts/setup.sh");
    // Past the test runner, which shows nothing that a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: `{program}` is not installed");
    false
}
