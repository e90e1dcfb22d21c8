//! The counters and histograms that the sources define, and the part of `docs/operating.md` that lists them.

use crate::tree::TextFile;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Marks the generated part of the document.
pub const BEGIN: &str = "<!-- counters: begin; made by `cargo run -p gvm-house --example counters` -->";
/// Marks the end of the generated part.
pub const END: &str = "<!-- counters: end -->";

/// Sets of counters that only tests and benchmarks ever see.
const NOT_FOR_USERS: [&str; 2] = ["MemoryCounters", "ReplayCounters"];

/// The beginnings of a definition of a set.
const MACROS: [&str; 3] = ["frame::counters! {", "crate::counters! {", "frame::histograms! {"];

/// A set of counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// The name of its type.
    pub name: String,
    /// What it is.
    pub help: String,
    /// The file that defines it.
    pub path: String,
    /// Its counters: name and meaning.
    pub counters: Vec<(String, String)>,
    /// The sets that it has, while the file is read: their types, and the prefixes of their counters.
    nested: Vec<(String, String)>,
}

/// All sets that a user can see, in the order of their files.
pub fn sets(files: &[TextFile]) -> Vec<Set> {
    let sources = files.iter().filter(|file| file.path.ends_with(".rs"));
    let ours = sources.filter(|file| !file.path.starts_with("tests/") && !file.path.contains("/tests/"));
    ours.flat_map(read).filter(|set| !NOT_FOR_USERS.contains(&&*set.name)).collect()
}

/// Puts the counters of sets that another set of the file has into that set, under the names that users see.
fn nest(mut found: Vec<Set>) -> Vec<Set> {
    let mut inner = BTreeSet::new();
    for at in 0..found.len() {
        let nested = std::mem::take(&mut found[at].nested);
        for (name, prefix) in nested {
            let set = found.iter().find(|set| set.name == name);
            let counters = set.into_iter().flat_map(|set| &set.counters);
            let counters: Vec<_> = counters.map(|(name, help)| (format!("{prefix}{name}"), help.clone())).collect();
            found[at].counters.extend(counters);
            inner.insert(name);
        }
    }
    found.retain(|set| !inner.contains(&set.name));
    found
}

/// The sets that one file defines.
fn read(file: &TextFile) -> Vec<Set> {
    let mut found = Vec::new();
    let mut set: Option<Set> = None;
    let mut help = String::new();
    for line in file.text.lines() {
        let text = line.trim();
        match &mut set {
            None if MACROS.contains(&line) => {
                set = Some(Set { path: file.path.clone(), ..Set::default() });
                help.clear();
            }
            None => {}
            Some(_) if line == "}" => found.extend(set.take()),
            Some(open) => {
                if let Some(comment) = text.strip_prefix("///") {
                    if !help.is_empty() {
                        help.push(' ');
                    }
                    help.push_str(comment.trim());
                } else if let Some(rest) = text.strip_prefix("pub struct ") {
                    open.name = rest.trim_end_matches(" {").to_owned();
                    open.help = std::mem::take(&mut help);
                } else if let Some(name) = text.strip_suffix([',', ';']) {
                    // The name of a counter may be followed by its kind, that of a histogram by its type, and that of a
                    // set by its type and the prefix of its counters.
                    let (name, kind) = name.split_once(": ").unwrap_or((name, ""));
                    let help = std::mem::take(&mut help);
                    if let Some((set, prefix)) = kind.split_once(" as ") {
                        open.nested.push((set.to_owned(), prefix.trim_matches('"').to_owned()));
                        continue;
                    }
                    let help = if kind == "gauge" { as_gauge(&help) } else { help };
                    open.counters.push((name.to_owned(), help));
                }
            }
        }
    }
    nest(found)
}

/// The meaning of a counter that goes up and down, as documents say it.
fn as_gauge(help: &str) -> String {
    let (text, end) = if let Some(text) = help.strip_suffix('.') { (text, ".") } else { (help, "") };
    format!("{text} (a gauge){end}")
}

/// The generated part of the document, from [`BEGIN`] to [`END`].
pub fn tables(sets: &[Set]) -> String {
    let mut text = format!("{BEGIN}\n");
    for set in sets {
        let head = wrapped(&format!("{} (`{}`)", set.help, set.path));
        let _ = write!(text, "\n### {}\n\n{head}\n\n| counter | meaning |\n|---|---|\n", set.name);
        for (name, help) in &set.counters {
            let _ = writeln!(text, "| `{name}` | {} |", help.replace('|', "\\|"));
        }
    }
    let _ = write!(text, "\n{END}");
    text
}

/// The widest line of a document, in columns.
const WIDTH: usize = 120;

/// A paragraph in lines that a document may have.
fn wrapped(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// The generated part of a document as it is now; `None` when the marks are not there.
pub fn section(document: &str) -> Option<&str> {
    let from = document.find(BEGIN)?;
    let to = document.find(END)? + END.len();
    document.get(from..to)
}

/// Whether a counter that grows means that something was lost or refused: it needs an entry with its remedy.
pub fn needs_remedy(name: &str) -> bool {
    let parts = ["dropped", "refused", "lost", "error", "unreachable", "malformed", "bad_", "no_frame"];
    // Totals of bytes need no remedy, because their counter of records has it.
    parts.iter().any(|part| name.contains(part)) && name != "bad_bytes"
}

/// Whether a text names a counter as code.
pub fn is_named(document: &str, name: &str) -> bool {
    document.contains(&format!("`{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_cut_between_words() {
        let word = "x".repeat(59);
        assert_eq!(wrapped(&format!("{word} {word} y")), format!("{word} {word}\ny"));
        assert_eq!(wrapped(&format!("a {}", "x".repeat(119))), format!("a\n{}", "x".repeat(119)));
    }

    const SOURCE: &str = "\
frame::counters! {
    /// What a thing counts. And
    /// more of it.
    pub struct ThingCounters {
        /// Records | that came in.
        records_in,
        /// Lost ones.
        dropped_here: drop,
        /// Those that wait.
        waiting: gauge,
    }
}

frame::counters! {
    /// What a side counts.
    pub struct SideCounters {
        /// Those that stand there.
        there: gauge,
    }
}

frame::counters! {
    /// What a pair counts.
    pub struct PairCounters {
        /// Pairs.
        pairs;
        /// The left side.
        left: SideCounters as \"left_\",
        /// The right side.
        right: SideCounters as \"right_\",
    }
}

frame::counters! {
    /// Other.
    pub struct MemoryCounters {
        /// Never seen.
        hidden,
    }
}

frame::histograms! {
    /// How long things wait.
    pub struct ThingHistograms {
        /// Nanoseconds of a wait.
        wait_ns: Histogram<10, 22>,
    }
}
";

    fn file(path: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: SOURCE.to_owned() }
    }

    #[test]
    fn sets_are_read_as_the_macro_reads_them() {
        let found = sets(&[file("a/src/x.rs"), file("a/tests/y.rs"), file("tests/z.rs"), file("notes.md")]);
        assert_eq!(found.len(), 3);
        assert_eq!((&*found[0].name, &*found[0].help), ("ThingCounters", "What a thing counts. And more of it."));
        let names: Vec<&str> = found[0].counters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["records_in", "dropped_here", "waiting"]);
        assert_eq!(found[0].counters[2].1, "Those that wait (a gauge).");
        let pair: Vec<&str> = found[1].counters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((&*found[1].name, pair), ("PairCounters", vec!["pairs", "left_there", "right_there"]));
        assert_eq!(found[1].counters[2].1, "Those that stand there (a gauge).");
        assert_eq!(found[2].counters, [("wait_ns".to_owned(), "Nanoseconds of a wait.".to_owned())]);
    }

    #[test]
    fn the_section_is_found_again() {
        let tables = tables(&sets(&[file("a/src/x.rs")]));
        assert!(tables.contains("| `records_in` | Records \\| that came in. |"), "{tables}");
        let document = format!("# Before\n\n{tables}\n\nAfter.\n");
        assert_eq!(section(&document), Some(&*tables));
        assert_eq!(section("# Nothing"), None);
    }

    #[test]
    fn losses_need_a_remedy() {
        assert!(needs_remedy("dropped_no_route") && needs_remedy("up_records_dropped_tx") && needs_remedy("rx_lost"));
        assert!(!needs_remedy("records_in") && !needs_remedy("flush_full") && !needs_remedy("bad_bytes"));
        assert!(is_named("see `rx_lost`.", "rx_lost") && !is_named("see `rx_lost_kernel`", "rx_lost"));
    }
}
