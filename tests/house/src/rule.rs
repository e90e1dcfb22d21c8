//! The table "who may use whom" of `docs/architecture.md`.
//!
//! The table is under the heading [`HEADING`] and has five columns: crate, directory, the crates of the house that it
//! may use, the crates of others that it may use, and the sentence that says why.

use std::fmt;

/// The heading under which the table stands.
pub const HEADING: &str = "## Who may use whom";

/// The heading under which a table of the same shape has the crates that are planned.
pub const RESERVED: &str = "### Reserved rows";

/// The crates that a crate may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every crate.
    Everything,
    /// These alone; none, if the table says "nothing".
    Only(Vec<String>),
}

impl Allowed {
    /// Whether `name` is among them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(names) => names.iter().any(|allowed| allowed == name),
        }
    }

    fn parse(cell: &str) -> Option<Self> {
        match cell {
            "everything" => return Some(Self::Everything),
            "nothing" => return Some(Self::Only(Vec::new())),
            _ => {}
        }
        let name = |part: &str| part.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        cell.split(',').map(name).collect::<Option<_>>().map(Self::Only)
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The crate's name in the document.
    pub name: String,
    /// Its directory, or a directory and `/*` for all in it.
    pub place: String,
    /// Which crates of the house it may use.
    pub house: Allowed,
    /// Which crates of others it may use.
    pub others: Allowed,
    /// The reason, which is printed when the rule is broken.
    pub sentence: String,
    /// The crate is planned, and need not be there yet.
    pub is_reserved: bool,
}

impl Rule {
    /// Whether the row is about the crate in this directory.
    pub fn is_about(&self, place: &str) -> bool {
        match self.place.strip_suffix("/*") {
            Some(parent) => place.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/')),
            None => self.place == place,
        }
    }
}

/// The reason why the table cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// The heading is not there, or no table follows it.
    NoTable,
    /// A row that cannot be understood.
    Row(String),
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => write!(f, "docs/architecture.md has no table under \"{HEADING}\""),
            Self::Row(row) => write!(
                f,
                "this row of docs/architecture.md is not | `crate` | `directory` | may use | of others | why |: {row}"
            ),
        }
    }
}

impl std::error::Error for RuleError {}

/// Reads the table out of the document's text, and behind it the reserved rows, if there are any.
///
/// # Errors
/// The error is [`RuleError::NoTable`] when the heading or the table below it is missing. It is [`RuleError::Row`] when
/// a row cannot be understood.
pub fn parse(document: &str) -> Result<Vec<Rule>, RuleError> {
    let mut rules = table(document, HEADING)?;
    if rules.is_empty() {
        return Err(RuleError::NoTable);
    }
    let reserved = table(document, RESERVED)?;
    rules.extend(reserved.into_iter().map(|rule| Rule { is_reserved: true, ..rule }));
    Ok(rules)
}

/// The rows of the table under a heading; none without the heading.
fn table(document: &str, heading: &str) -> Result<Vec<Rule>, RuleError> {
    let lines = document.lines().skip_while(|line| line.trim_end() != heading).skip(1);
    let table = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    // The head of the table and the line under it.
    table.skip(2).map(row).collect()
}

fn row(line: &str) -> Result<Rule, RuleError> {
    let wrong = || RuleError::Row(line.to_owned());
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [name, place, house, others, sentence] = cells[..] else { return Err(wrong()) };
    let word = |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
    let (Some(name), Some(place)) = (word(name), word(place)) else { return Err(wrong()) };
    let (Some(house), Some(others)) = (Allowed::parse(house), Allowed::parse(others)) else { return Err(wrong()) };
    if sentence.is_empty() {
        return Err(wrong());
    }
    Ok(Rule { name, place, house, others, sentence: sentence.to_owned(), is_reserved: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# A\n\n| x |\n|---|\n| y |\n\n## Who may use whom\n\nText.\n\n\
        | crate | where | uses | of others | why |\n|---|---|---|---|---|\n\
        | `wire` | `dataplane/wire` | nothing | `zerocopy` | The formats know nobody. |\n\
        | `link` | `dataplane/link` | `wire`, `frame` | everything | Below the roles. |\n\
        | `tests` | `tests/*` | everything | everything | Tests see all. |\n\nMore.\n| not | this |\n";

    #[test]
    fn the_table_is_read() {
        let rules = parse(TABLE).unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0].house, Allowed::Only(vec![]));
        assert!(rules[0].others.has("zerocopy") && !rules[0].others.has("libc"));
        assert!(rules[1].house.has("frame") && !rules[1].house.has("port"));
        assert_eq!(rules[1].sentence, "Below the roles.");
        assert!(rules[2].is_about("tests/sim") && !rules[2].is_about("testsuite") && !rules[2].is_about("tests"));
        assert!(!rules[1].is_about("dataplane/linked"));
    }

    #[test]
    fn reserved_rows_are_told_from_others() {
        let more = "### Reserved rows\n\n| a |\n|---|\n| `ring` | `dataplane/ring` | `frame` | nothing | Later. |\n";
        let rules = parse(&format!("{TABLE}\n{more}")).unwrap();
        let reserved: Vec<&str> = rules.iter().filter(|rule| rule.is_reserved).map(|rule| rule.name.as_str()).collect();
        assert_eq!((rules.len(), reserved), (4, vec!["ring"]));
    }

    #[test]
    fn a_missing_table_and_a_broken_row_are_errors() {
        assert_eq!(parse("# Nothing\n| a |\n"), Err(RuleError::NoTable));
        let broken = TABLE.replace("`wire`, `frame`", "wire and frame");
        assert!(matches!(parse(&broken), Err(RuleError::Row(row)) if row.contains("wire and frame")));
        let mute = TABLE.replace("Below the roles.", "");
        assert!(matches!(parse(&mute), Err(RuleError::Row(_))));
    }
}
