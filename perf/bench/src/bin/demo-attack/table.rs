//! A table as a person reads it.

use std::fmt::Write as _;

/// One line.
pub(crate) struct Row {
    pub who: String,
    pub tried: String,
    pub became: String,
    pub holds: bool,
}

/// The lines, in columns.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<32}{:<38}{:<50}\n", "who", "what it tried, or was to be", "what became of it");
    for Row { who, tried, became, holds } in rows {
        let mark = if *holds { "holds" } else { "DOES NOT HOLD" };
        let _ = writeln!(text, "{who:<32}{tried:<38}{became:<50}{mark}");
    }
    text
}
