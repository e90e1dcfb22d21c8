//! Rules about source files: where `unsafe` may be, how long a file may be, what stands in the root, and that nothing
//! depends on the machine it was written on.

use crate::tree::TextFile;

/// Directories of the crates that may hold `unsafe`: memory, devices and system calls.
pub const UNSAFE_ALLOWED: [&str; 7] = [
    "dataplane/frame",
    "dataplane/ring",
    "dataplane/port",
    "dataplane/pages-c",
    "ebpf",
    "dataplane/uffd",
    "dataplane/vcpu",
];

/// The test that tries, as an intruder would, system calls that no safe function makes.
const INTRUDER: &str = "tests/inside";

/// The prefix of DPDK's crates, which may hold `unsafe`, too.
const UNSAFE_PREFIX: &str = "dataplane/dpdk-";

/// Lines above which a source file is too long to hold one idea. Up to [`TOO_LONG`] there is only a warning.
pub const LONG: usize = 600;

/// Lines above which a source file fails.
pub const TOO_LONG: usize = 650;

/// The names in the root, without those that begin with a dot.
pub const TOP_LEVEL: [&str; 15] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "control",
    "dataplane",
    "docs",
    "ebpf",
    "nic-profiles",
    "perf",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
];

/// This one is allowed in the root, too.
pub const TESTS: &str = "tests";

/// A directory of the machine that the project was written on.
const FOREIGN: &str = concat!("/wo", "rk/");

/// Whether the crate in this directory may hold `unsafe`.
pub fn may_be_unsafe(place: &str) -> bool {
    UNSAFE_ALLOWED.contains(&place) || place == INTRUDER || place.starts_with(UNSAFE_PREFIX)
}

/// Whether a crate's root forbids `unsafe`, or is one file that only calls its library and has none.
pub fn forbids_unsafe(root: &str) -> bool {
    let is_alone = !root.lines().any(|line| line.starts_with("mod ") || line.starts_with("pub mod "));
    root.lines().any(|line| line == "#![forbid(unsafe_code)]") || (is_alone && !has_unsafe(root))
}

/// Whether code, not a comment, opens an unsafe block or declares something unsafe. The type of a function that is
/// unsafe to call is neither.
pub fn has_unsafe(text: &str) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    code.into_iter().any(|line| {
        let line = line.replace(concat!("unsafe", " extern \"C\" fn("), "");
        ["{", "fn", "impl", "extern", "trait"].iter().any(|what| line.contains(&format!("{} {what}", "unsafe")))
    })
}

/// Files that are too long to hold one idea: path and lines of each source file above [`LONG`].
pub fn long_files(files: &[TextFile]) -> Vec<(String, usize)> {
    let sources = files.iter().filter(|file| [".rs", ".c", ".sh"].iter().any(|end| file.path.ends_with(end)));
    sources.map(|file| (file.path.clone(), file.text.lines().count())).filter(|(_, lines)| *lines > LONG).collect()
}

/// The most columns of a line.
pub const WIDTH: usize = 120;

/// How a definition of counters or histograms begins; it ends with a brace at the start of a line.
const COUNTERS: [&str; 4] =
    ["frame::counters! {", "crate::counters! {", "frame::histograms! {", "crate::histograms! {"];

/// Lines that are wider than [`WIDTH`]: in Rust, and in documents outside of tables, figures and commands.
pub fn wide_lines(files: &[TextFile]) -> Vec<String> {
    let mut wide = Vec::new();
    for file in files {
        let is_document = file.path.ends_with(".md");
        if !is_document && !file.path.ends_with(".rs") {
            continue;
        }
        // The macros of counters need one line for each counter.
        let (mut is_fenced, mut is_counters) = (false, false);
        for (number, line) in file.text.lines().enumerate() {
            is_fenced ^= is_document && line.trim_start().starts_with("```");
            is_counters = COUNTERS.contains(&line) || (is_counters && line != "}");
            let comment = line.trim_start().trim_start_matches(['/', '!']).trim_start();
            let is_free = is_fenced || is_counters || comment.starts_with('|');
            // A comment of one word cannot be broken, for example a web address.
            let is_word = comment.split_whitespace().count() <= 1;
            if line.chars().count() > WIDTH && !is_free && !is_word {
                wide.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    wide
}

/// Modules that stand beside a directory of their name: everywhere the module is the directory's `mod.rs`.
pub fn modules_beside_their_directory(files: &[TextFile]) -> Vec<String> {
    let sources = files.iter().map(|file| file.path.as_str()).filter(|path| path.contains("/src/"));
    let paths: Vec<&str> = sources.filter(|path| path.ends_with(".rs")).collect();
    let has_directory = |path: &&&str| {
        let directory = path.trim_end_matches(".rs");
        paths.iter().any(|other| other.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
    };
    paths.iter().filter(has_directory).map(|path| format!("{path} is its directory's mod.rs elsewhere")).collect()
}

/// Names in the root that do not belong there, and names that are missing.
pub fn wrong_top_level(names: &[String]) -> Vec<String> {
    let is_known = |name: &str| TOP_LEVEL.contains(&name) || name == TESTS;
    let unknown = names.iter().filter(|name| !is_known(name)).map(|name| format!("{name} does not belong there"));
    let known = TOP_LEVEL.iter().chain([&TESTS]);
    let missing = known.filter(|name| !names.iter().any(|n| n == *name)).map(|name| format!("{name} is missing"));
    unknown.chain(missing).collect()
}

/// Ways to print that a test program may use and the product may not.
const PRINTS: [&str; 6] = [
    concat!("print", "!("),
    concat!("println", "!("),
    concat!("eprint", "!("),
    concat!("eprintln", "!("),
    concat!("stdout", "()"),
    concat!("stderr", "()"),
];

/// The crate that prints for all others.
pub const PRINTER: &str = "dataplane/stdio/";

/// A file of tests that lies among the sources of its crate.
const TEST_IN_SOURCES: &str = "dataplane/transport/src/endpoint/explore.rs";

/// Whether this file is part of a program that people run: not of tests, benchmarks, examples or builds.
pub fn is_product(path: &str) -> bool {
    let places = ["control/", "dataplane/", "ebpf/src/", "perf/gvm-pktgen/src/"];
    let is_source = path.ends_with(".rs") && path.contains("/src/") && !path.contains("/tests/");
    let is_test = path.ends_with("/tests.rs") || path == TEST_IN_SOURCES;
    places.iter().any(|place| path.starts_with(place)) && is_source && !is_test
}

/// Lines of the code before its tests that print in their own way, with their numbers.
pub fn prints(text: &str) -> Vec<usize> {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let numbered = code.enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")));
    let has = |line: &str, print: &str| {
        let is_word = |(at, _)| !line[..at].ends_with(|before: char| before == '_' || before.is_alphanumeric());
        line.match_indices(print).any(is_word)
    };
    numbered.filter(|(_, line)| PRINTS.iter().any(|print| has(line, print))).map(|(number, _)| number).collect()
}

/// Files that name a directory of the machine that they were written on.
pub fn foreign_paths(files: &[TextFile]) -> Vec<String> {
    files.iter().filter(|file| file.text.contains(FOREIGN)).map(|file| file.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn unsafe_code_is_found_and_comments_are_not() {
        assert!(has_unsafe("let x = unsafe { y };") && has_unsafe("    unsafe impl Send for X {}"));
        assert!(has_unsafe("unsafe extern \"C\" fn f() {}") && !has_unsafe("f: unsafe extern \"C\" fn(u16) -> i32,"));
        assert!(!has_unsafe("//! no unsafe { } here\n#![forbid(unsafe_code)]\n/// unsafe fn"));
        assert!(forbids_unsafe("//! X\n#![forbid(unsafe_code)]\npub mod a;\n"));
        assert!(!forbids_unsafe("//! X\npub mod a;\n"));
        assert!(forbids_unsafe("fn main() { lib::main() }\n"));
        assert!(!forbids_unsafe("fn main() { unsafe { gone() } }\n"));
    }

    #[test]
    fn only_some_crates_may_be_unsafe() {
        assert!(may_be_unsafe("dataplane/port") && may_be_unsafe("dataplane/dpdk-sys"));
        assert!(!may_be_unsafe("dataplane/gateway") && !may_be_unsafe("control/host"));
    }

    #[test]
    fn long_files_are_named() {
        let long = file("a/b.rs", &"x\n".repeat(LONG + 1));
        let short = file("a/c.rs", &"x\n".repeat(LONG));
        let text = file("docs/d.md", &"x\n".repeat(LONG + 1));
        assert_eq!(long_files(&[long, short, text]), [("a/b.rs".to_owned(), LONG + 1)]);
    }

    #[test]
    fn the_top_level_is_fixed() {
        let mut names: Vec<String> = TOP_LEVEL.iter().chain([&TESTS]).map(|&name| name.to_owned()).collect();
        assert!(wrong_top_level(&names).is_empty());
        names.push("notes.txt".to_owned());
        names.retain(|name| name != "docs");
        assert_eq!(wrong_top_level(&names), ["notes.txt does not belong there", "docs is missing"]);
    }

    #[test]
    fn prints_are_found_before_the_tests() {
        let [print, eprint] = [concat!("println", "!(\"x\");"), concat!("eprint", "!(\"x\");")];
        let handle = concat!("    std::io::stdout", "().write_all(b)?;");
        let text = format!("{print}\n// {print}\n{eprint}\n{handle}\n#[cfg(test)]\nmod tests {{\n{print}\n}}\n");
        assert_eq!(prints(&text), [1, 3, 4]);
        assert!(
            prints("stdio::out::print(text)?;\nprint(&text)?;\nchild.stdout(pipe);\nanswer.use_stderr();\n").is_empty()
        );
        for (path, is) in [
            ("control/serve/src/lib.rs", true),
            ("perf/gvm-pktgen/src/main.rs", true),
            ("dataplane/port/src/udp/mod.rs", true),
            ("perf/bench/src/main.rs", false),
            ("control/gvm-dp/tests/cli/main.rs", false),
            ("control/settings/src/tests.rs", false),
            ("dataplane/dpdk-sys/build.rs", false),
        ] {
            assert_eq!(is_product(path), is, "{path}");
        }
    }

    #[test]
    fn foreign_paths_are_found() {
        let path = format!("see {FOREIGN}notes");
        assert_eq!(foreign_paths(&[file("a.rs", &path), file("b.rs", "see ./notes")]), ["a.rs"]);
    }

    #[test]
    fn wide_lines_are_found_where_they_can_be_broken() {
        let wide = "word ".repeat(30);
        let text = |path: &str, text: String| TextFile { path: path.to_owned(), text };
        let files = [
            text("a/x.rs", format!("fine\n// {wide}\n/// | {wide} |\n")),
            text("a/y.md", format!("{wide}\n| {wide} |\n```\n{wide}\n```\nhttps://{}\n", "a".repeat(130))),
            text("a/z.toml", wide.clone()),
        ];
        assert_eq!(wide_lines(&files), ["a/x.rs:2", "a/y.md:1"]);
    }

    #[test]
    fn a_module_beside_its_directory_is_found() {
        let file = |path: &str| TextFile { path: path.to_owned(), text: String::new() };
        let files = ["a/src/one.rs", "a/src/one/two.rs", "a/src/three/mod.rs", "a/src/three/four.rs"].map(file);
        assert_eq!(modules_beside_their_directory(&files), ["a/src/one.rs is its directory's mod.rs elsewhere"]);
    }
}
