//! One type name means one thing: the names of public types that stand in several places of the product.

use crate::source::is_product;
use crate::tree::TextFile;
use std::collections::BTreeMap;

/// Names that several public types have. A new name is added only with a reason that reviewers accept. A name that is
/// gone is removed. So the list shrinks.
pub const KNOWN: &[&str] = &[
    "Access",
    "Bucket",
    "Cause",
    "Change",
    "Cli",
    "Config",
    "Device",
    "Direction",
    "End",
    "Entry",
    "Event",
    "EventSink",
    "Fate",
    "Filter",
    "Frame",
    "Generator",
    "Headers",
    "Histogram",
    "Hugepages",
    "Interface",
    "Kind",
    "Known",
    "Local",
    "Packet",
    "Part",
    "Place",
    "Received",
    "Remote",
    "Role",
    "RoleName",
    "Route",
    "Routes",
    "Seen",
    "Sender",
    "Sink",
    "Stage",
    "Standing",
    "StartError",
    "State",
    "Subject",
    "Way",
    "Work",
];

/// The beginnings of a public type.
const KINDS: [&str; 5] = ["struct ", "enum ", "trait ", "type ", "union "];

/// Every name that several public types of the product have, with the files that define them.
pub fn doubles(files: &[TextFile]) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_product(&file.path)) {
        let code = file.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for name in code.lines().filter_map(defined) {
            places.entry(name).or_default().push(file.path.clone());
        }
    }
    places.retain(|_, files| files.len() > 1);
    places
}

/// The name of the public type that a line begins to define, outside of any block. Types inside a block belong to a
/// trait.
fn defined(line: &str) -> Option<String> {
    let rest = line.strip_prefix("pub ")?;
    let rest = KINDS.iter().find_map(|kind| rest.strip_prefix(kind))?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_name_of_two_public_types_is_found() {
        let files = [
            file("dataplane/a/src/lib.rs", "pub struct One;\npub enum Two {\n    A,\n}\npub(crate) struct Three;\n"),
            file(
                "control/b/src/x.rs",
                "pub type One<T> = Vec<T>;\npub struct Twofold;\nstruct Two;\npub struct Three;\n",
            ),
            file("dataplane/a/tests/t.rs", "pub struct Twofold;\n"),
        ];
        let found = doubles(&files);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["One"]);
        assert_eq!(found["One"], ["dataplane/a/src/lib.rs", "control/b/src/x.rs"]);
    }
}
