//! The error messages that the sources define, and the phrases with which `docs/troubleshooting.md` explains them.
//!
//! A message is a template in which each pair of braces is a hole. A phrase is a text between backticks in the
//! document, in which `...` or a word of capitals (`N`, `FILE`) stands for a part that differs. A phrase explains a
//! message if the message has all pieces of the phrase in their order.

use crate::tree::TextFile;

/// Stands for the part that differs from one occurrence of a message to another.
const HOLE: char = '\u{0}';

/// The least number of letters and digits that a phrase must share with a message.
const ENOUGH: usize = 10;

/// Variants of `common::exit::Failure` whose text is written where they are made. `Internal` is left out, because its
/// remedy is always to report it.
const WRITTEN_WHERE_MADE: [&str; 6] = [
    "Failure::Usage(",
    "Failure::Setting {",
    "Failure::Lacking {",
    "Failure::Machine(",
    "Failure::Client(",
    "Failure::Lost(",
];

/// An error's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The file that has it.
    pub path: String,
    /// The template, each pair of braces a hole.
    template: String,
}

impl Message {
    /// The message with `...` for each hole.
    pub fn text(&self) -> String {
        self.template.replace(HOLE, "...")
    }
}

/// The messages of errors that users of the product may see, in the order of their files.
pub fn messages(files: &[TextFile]) -> Vec<Message> {
    let ours = files.iter().filter(|file| {
        let crates = ["control/", "dataplane/", "ebpf/src/"];
        file.path.ends_with(".rs")
            && crates.iter().any(|start| file.path.starts_with(start))
            && file.path.contains("/src/")
            && !file.path.ends_with("tests.rs")
            && !file.path.contains("/tests/")
    });
    ours.flat_map(read).collect()
}

/// The messages of one file.
fn read(file: &TextFile) -> Vec<Message> {
    let code = file.text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let mut found = Vec::new();
    for (mark, end) in std::iter::once(("#[error(", ")]")).chain(WRITTEN_WHERE_MADE.map(|mark| (mark, ";"))) {
        for (at, _) in code.match_indices(mark) {
            let rest = code.get(at + mark.len()..).unwrap_or("");
            let Some(from) = rest.find('"').filter(|&from| rest.find(end).is_none_or(|end| from < end)) else {
                continue;
            };
            let template = template(rest.get(from + 1..).unwrap_or(""));
            if said(&template) >= ENOUGH {
                found.push(Message { path: file.path.clone(), template });
            }
        }
    }
    found
}

/// Reads a string literal of Rust behind its opening quote, with holes for its arguments.
fn template(literal: &str) -> String {
    let (mut text, mut chars) = (String::new(), literal.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(c) => text.push(c),
                None => break,
            },
            '{' if chars.next_if_eq(&'{').is_some() => text.push('{'),
            '}' if chars.next_if_eq(&'}').is_some() => text.push('}'),
            '{' => {
                chars.by_ref().find(|&c| c == '}');
                text.push(HOLE);
            }
            c => text.push(c),
        }
    }
    text
}

/// Letters and digits of a text.
fn said(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

/// A phrase of the document: the pieces between the parts that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase(Vec<String>);

/// The texts between backticks that are long enough to name a message.
pub fn phrases(document: &str) -> Vec<Phrase> {
    let spans = document.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.map(phrase).filter(|phrase| phrase.0.iter().map(|piece| said(piece)).sum::<usize>() >= ENOUGH).collect()
}

fn phrase(span: &str) -> Phrase {
    let differs = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        !bare.is_empty()
            && bare.len() <= 9
            && bare.chars().all(|c| c.is_ascii_uppercase())
            && ![
                "CAP", "MTU", "XDP", "DPDK", "NUMA", "UDP", "TOML", "KEY", "NO", "AF_XDP", "PCI", "ARP", "QP", "TCP",
                "RDMA",
            ]
            .contains(&bare)
    };
    // One space for each hole, so that pieces neither end nor begin with one.
    let words = span.split(' ').map(|word| if differs(word) { "..." } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    Phrase(text.split("...").map(|piece| piece.trim().to_owned()).filter(|piece| !piece.is_empty()).collect())
}

impl Phrase {
    /// Whether all pieces stand in the message, in their order.
    pub fn explains(&self, message: &Message) -> bool {
        let mut rest = message.template.as_str();
        self.0.iter().all(|piece| match rest.find(piece.as_str()) {
            Some(at) => {
                rest = rest.get(at + piece.len()..).unwrap_or("");
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Gone.
    #[error("interface {0} is gone: plug \
             it in")]
    Gone(String),
    /// Passed on.
    #[error("{0}")]
    Other(Cause),
    #[error(transparent)]
    More(Cause),
}
fn f() -> Failure {
    return Failure::Usage(format!("no {{such}} thing as {name}: write another"));
    Failure::Machine(error.to_string());
    let unrelated = "some other string that is long";
}
#[cfg(test)]
mod tests {
    #[error("of tests only, never seen")]
}
"#;

    fn found() -> Vec<Message> {
        messages(&[
            TextFile { path: "control/host/src/a.rs".to_owned(), text: SOURCE.to_owned() },
            TextFile { path: "perf/src/b.rs".to_owned(), text: SOURCE.to_owned() },
        ])
    }

    #[test]
    fn messages_are_read_as_rust_reads_them() {
        let texts: Vec<String> = found().iter().map(Message::text).collect();
        assert_eq!(texts, ["interface ... is gone: plug it in", "no {such} thing as ...: write another"]);
    }

    #[test]
    fn a_phrase_explains_what_it_is_part_of() {
        let explains = |document: &str| {
            let phrases = phrases(document);
            found().iter().map(|message| phrases.iter().any(|phrase| phrase.explains(message))).collect::<Vec<_>>()
        };
        assert_eq!(explains("| `interface IFACE is gone` | plug it in |"), [true, false]);
        assert_eq!(explains("`... thing as ...: write another`"), [false, true]);
        // The other way round, too short to say anything, or no phrase at all.
        assert_eq!(explains("`plug it in ... interface`, `interface`, `gone`, interface ... is gone"), [false, false]);
    }
}
