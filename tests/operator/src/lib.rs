//! Tests that use the product as an operator does. Lines are typed into a real shell, documents are followed as they
//! are written, and the distribution's own tools check the packages.
#![forbid(unsafe_code)]

pub mod document;
pub mod terminal;
pub mod typed;
pub mod words;

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Whether a tool is installed that a test needs. If not, says so on standard error. Panics instead with
/// `GVM_TESTS=require`, if `scripts/setup.sh` installs the tool.
///
/// # Panics
/// When the tool is missing although `scripts/setup.sh` installs it, and `GVM_TESTS` is `require`.
pub fn has_tool(program: &str, from_setup: bool) -> bool {
    let probe = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).stdin(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return true;
    }
    let required = from_setup && std::env::var("GVM_TESTS").as_deref() == Ok("require");
    assert!(!required, "GVM_TESTS=require, but `{program}` is not installed: scripts/setup.sh");
    // Written directly, because the test runner hides what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: `{program}` is not installed");
    false
}
