//! Circles among the files of a crate. A file that uses another one must not be used by it, directly or through other
//! files.
//!
//! The uses of a file are read from its `use` declarations and from paths that begin with `crate`, `self`, `super` or
//! the name of a module below it. A name that another file only re-exports with `pub use` is looked up where it is
//! defined, so that a crate's root may re-export its modules. Tests are left out: they may use everything.

use crate::tree::TextFile;
use std::collections::{BTreeMap, BTreeSet};

/// A module, as its path in the crate: empty for the root.
type Module = Vec<String>;

/// A path from the root of the crate: modules, and a name in the last of them.
type Path = Vec<String>;

/// The files of one crate, and who uses whom among them.
#[derive(Debug, Default)]
pub struct Modules {
    uses: BTreeMap<Module, BTreeSet<Module>>,
}

/// For each module, its re-exported names and the paths that they stand for.
type HandedOn = BTreeMap<Module, BTreeMap<String, Path>>;

impl Modules {
    /// Reads the files below `sources`, which is a crate's `src` and ends with `/`.
    pub fn read(files: &[TextFile], sources: &str) -> Self {
        let of_crate =
            files.iter().filter_map(|file| Some((module(file.path.strip_prefix(sources)?)?, code(&file.text))));
        let texts: BTreeMap<Module, String> = of_crate.collect();
        let handed_on: HandedOn = texts
            .iter()
            .map(|(module, text)| {
                let names = declared(text).into_iter().filter(|(is_public, ..)| *is_public);
                let names = names.filter_map(|(_, path, name)| Some((name, absolute(&texts, module, &path)?)));
                (module.clone(), names.collect())
            })
            .collect();
        let uses = texts.iter().map(|(module, text)| {
            let private = declared(text).into_iter().filter(|(is_public, ..)| !is_public).map(|(_, path, _)| path);
            let paths = private.chain(in_expressions(text)).filter_map(|path| absolute(&texts, module, &path));
            let used = paths.map(|path| defined_in(&texts, &handed_on, &path, 8));
            (module.clone(), used.filter(|used| used != module).collect())
        });
        Self { uses: uses.collect() }
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Every set of files that use each other, by name.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let reachable: BTreeMap<&Module, BTreeSet<&Module>> =
            self.uses.keys().map(|module| (module, self.reachable(module))).collect();
        let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
        for (module, reached) in reachable.iter().filter(|(module, reached)| reached.contains(*module)) {
            let members = reached.iter().filter(|other| reachable[*other].contains(module));
            circles.insert(members.map(|member| name(member)).collect());
        }
        circles.into_iter().collect()
    }

    /// All files that a file uses, directly or through other files.
    fn reachable<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(module) = left.pop() {
            let new = self.uses[module].iter().filter(|used| reached.insert(*used));
            left.extend(new.collect::<Vec<_>>());
        }
        reached
    }
}

fn name(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("::") }
}

/// The module of a file below `src`; nothing for files of tests and of no module.
fn module(path: &str) -> Option<Module> {
    let mut parts: Module = path.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if parts.iter().any(|part| part == "tests" || part == "bin") {
        return None;
    }
    if matches!(parts.last().map(String::as_str), Some("lib" | "main" | "mod")) {
        parts.pop();
    }
    Some(parts)
}

/// A file's text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let before_tests = before_tests.split("#[cfg(all(test").next().unwrap_or_default();
    let lines = before_tests.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The `use` declarations of a text: whether they re-export, the path, and the name that it has here.
fn declared(text: &str) -> Vec<(bool, Path, String)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("use ") {
        let line = text[..start].rsplit('\n').next().unwrap_or_default().trim_start();
        if !(line.is_empty() || line.starts_with("pub")) {
            continue;
        }
        let tree = text[start + 4..].split(';').next().unwrap_or_default();
        let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        for path in expand(&tree) {
            let (path, name) = match path.split_once(" as ") {
                Some((path, name)) => (path.to_owned(), Some(name.trim().to_owned())),
                None => (path, None),
            };
            let segments = segments(&path);
            let last = segments.last().cloned().unwrap_or_default();
            found.push((line.starts_with("pub"), segments, name.unwrap_or(last)));
        }
    }
    found
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(character);
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(expand).map(|rest| format!("{}{rest}", head.trim_start())).collect()
}

fn segments(path: &str) -> Path {
    path.split("::").map(|segment| segment.trim().to_owned()).collect()
}

/// Every path outside of declarations: two names or more with `::` between them.
fn in_expressions(text: &str) -> Vec<Path> {
    let without = text.split(';').map(|part| {
        let declares = part.trim_start().trim_start_matches("pub ").starts_with("use ");
        if declares { "" } else { part }
    });
    let text = without.collect::<Vec<_>>().join(";");
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_part(c)).filter(|word| word.contains("::") && !word.starts_with(':'));
    words.map(|word| segments(word.trim_end_matches(':'))).collect()
}

/// A path as it is from the root of the crate; nothing when it begins in another crate.
fn absolute(texts: &BTreeMap<Module, String>, module: &Module, path: &[String]) -> Option<Path> {
    let join = |base: &[String], rest: &[String]| [base, rest].concat();
    match path.first().map(String::as_str)? {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some(join(module, &path[1..])),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            let base = module.get(..module.len().checked_sub(ups)?)?;
            Some(join(base, &path[ups..]))
        }
        first => {
            let below = join(module, &[first.to_owned()]);
            texts.contains_key(&below).then(|| join(module, path))
        }
    }
}

/// The file that defines the item of a path, behind at most `most` files that re-export it.
fn defined_in(texts: &BTreeMap<Module, String>, handed_on: &HandedOn, path: &[String], most: usize) -> Module {
    let module = (0..=path.len()).rev().map(|length| path[..length].to_vec()).find(|module| texts.contains_key(module));
    let module = module.unwrap_or_default();
    let named = path.get(module.len()).and_then(|name| handed_on.get(&module)?.get(name));
    match named {
        Some(path) if most > 0 => defined_in(texts, handed_on, path, most - 1),
        _ => module,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let file = |(path, text): &(&str, &str)| TextFile { path: format!("a/src/{path}"), text: (*text).to_owned() };
        Modules::read(&files.iter().map(file).collect::<Vec<_>>(), "a/src/").circles()
    }

    #[test]
    fn files_that_use_each_other_are_a_circle() {
        for (a, b) in [
            ("use crate::b::B;", "use super::a::A;"),
            ("use crate::{b, c};\nfn f() { b::g() }", "fn g() { crate::a::f() }"),
            ("use super::b::{self, B};", "pub struct B(\n    crate::a::A,\n);"),
        ] {
            let found = circles(&[("lib.rs", "mod a;\nmod b;\nmod c;"), ("a.rs", a), ("b.rs", b), ("c.rs", "")]);
            assert_eq!(found, [["a", "b"]], "{a} and {b}");
        }
        let long = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")];
        assert_eq!(circles(&long), [["a", "b", "c"]]);
    }

    #[test]
    fn a_module_and_what_is_below_it_can_be_a_circle() {
        let below = "use super::Whole;";
        let found = circles(&[("a/mod.rs", "mod b;\nuse b::B;\npub struct Whole(B);"), ("a/b.rs", below)]);
        assert_eq!(found, [["a", "a::b"]]);
        let root = [("lib.rs", "mod a;\npub struct Whole(a::A);"), ("a.rs", "use crate::Whole;")];
        assert_eq!(circles(&root), [["the root", "a"]]);
    }

    #[test]
    fn what_is_handed_on_belongs_to_the_file_that_defines_it() {
        let face = "mod a;\nmod b;\npub use a::A;\npub use b::{B, C as D};";
        assert!(circles(&[("lib.rs", face), ("a.rs", "use crate::B;"), ("b.rs", "")]).is_empty());
        assert_eq!(circles(&[("lib.rs", face), ("a.rs", "use crate::D;"), ("b.rs", "use crate::A;")]), [["a", "b"]]);
    }

    #[test]
    fn tests_comments_and_other_crates_are_left_out() {
        let a = "use b_of_others::b::B;\nuse std::io;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n";
        let b = "// use crate::b::B;\nuse crate::a::A;\n";
        assert!(circles(&[("a.rs", a), ("b.rs", b), ("a/tests.rs", "use crate::b::B;")]).is_empty());
    }
}
