//! Checks the project against its own rules.

use house::module::Modules;
use house::{check, counter, graph, message, name, root, rule, source, tree};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn fail_with(what: &[String]) {
    assert!(what.is_empty(), "\n  {}", what.join("\n  "));
}

#[test]
fn who_uses_whom_is_as_the_architecture_says() {
    let rules = rule::parse(&document("docs/architecture.md")).unwrap_or_else(|error| panic!("{error}"));
    let crates = graph::read(&root()).unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    assert!(crates.len() >= 14, "cargo metadata knows {} crates only", crates.len());
    fail_with(&check::check(&rules, &crates));
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let (files, mut wrong, mut seen) = (tree::texts(&root()).unwrap(), Vec::new(), 0);
    for krate in graph::read(&root()).unwrap_or_else(|error| panic!("cargo metadata: {error}")) {
        let modules = Modules::read(&files, &format!("{}/src/", krate.place));
        seen += modules.len();
        let circles = modules.circles().into_iter();
        wrong.extend(
            circles.map(|circle| format!("{}: these files use each other: {}", krate.place, circle.join(", "))),
        );
    }
    assert!(seen > 300, "only {seen} files found");
    fail_with(&wrong);
}

#[test]
fn one_type_name_means_one_thing() {
    let doubles = name::doubles(&tree::texts(&root()).unwrap());
    let new = doubles.iter().filter(|(name, _)| !name::KNOWN.contains(&name.as_str()));
    let new = new.map(|(name, files)| format!("several public types are called {name}: {}", files.join(", ")));
    let gone = name::KNOWN.iter().filter(|name| !doubles.contains_key(**name));
    let gone = gone.map(|name| format!("one public type alone is called {name} now: take it out of name::KNOWN"));
    fail_with(&new.chain(gone).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_where_the_hot_path_rules_allow_it() {
    let crates = graph::read(&root()).unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let files = tree::texts(&root()).unwrap();
    let mut wrong = Vec::new();
    for krate in crates.iter().filter(|krate| !source::may_be_unsafe(&krate.place)) {
        for root in &krate.roots {
            if !source::forbids_unsafe(&fs::read_to_string(root).unwrap()) {
                wrong.push(format!("{} must say #![forbid(unsafe_code)]", root.display()));
            }
        }
        let own = |path: &str| path.ends_with(".rs") && Path::new(path).starts_with(&krate.place);
        for file in files.iter().filter(|file| own(&file.path) && !file.path.starts_with("tests/house/")) {
            if source::has_unsafe(&file.text) {
                wrong.push(format!("{} holds unsafe code", file.path));
            }
        }
    }
    fail_with(&wrong);
}

#[test]
fn a_file_holds_one_idea() {
    let (mut wrong, files) = (Vec::new(), tree::texts(&root()).unwrap());
    for (path, lines) in source::long_files(&files) {
        if lines > source::TOO_LONG {
            wrong.push(format!("{path} has {lines} lines; split it at {}", source::LONG));
        } else {
            eprintln!("warning: {path} has {lines} lines");
        }
    }
    fail_with(&wrong);
}

#[test]
fn a_line_fits_a_screen_and_a_module_is_found_where_it_is_looked_for() {
    let files = tree::texts(&root()).unwrap();
    let wide = source::wide_lines(&files).into_iter();
    let say = |place| format!("{place} is wider than {} columns", source::WIDTH);
    fail_with(&wide.map(say).chain(source::modules_beside_their_directory(&files)).collect::<Vec<_>>());
}

/// Each program is linked with everything below its crate.
#[test]
fn a_crate_has_one_program_for_its_integration_tests() {
    let files = tree::texts(&root()).unwrap();
    let mut programs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in &files {
        // `tests/house/tests/house.rs`, or `dataplane/link/tests/link/main.rs`.
        if let Some((home, name)) = file.path.rsplit_once("/tests/")
            && (!name.contains('/') || name.split_once('/').is_some_and(|(_, rest)| rest == "main.rs"))
            && name.ends_with(".rs")
            && !home.contains("/src/")
        {
            programs.entry(home).or_default().push(&file.path);
        }
    }
    assert!(programs.len() >= 15, "only {} crates with integration tests found", programs.len());
    let several = programs.values().filter(|programs| programs.len() > 1);
    fail_with(&several.map(|programs| format!("several programs: {}", programs.join(", "))).collect::<Vec<_>>());
}

#[test]
fn the_top_level_is_as_the_architecture_says() {
    fail_with(&source::wrong_top_level(&tree::top_level(&root()).unwrap()));
}

#[test]
fn nothing_depends_on_the_machine_it_was_written_on() {
    fail_with(&source::foreign_paths(&tree::texts(&root()).unwrap()));
}

#[test]
fn everything_is_printed_in_one_way() {
    let files = tree::texts(&root()).unwrap();
    let product: Vec<_> = files.iter().filter(|file| source::is_product(&file.path)).collect();
    assert!(product.len() > 150, "only {} files of the product found", product.len());
    let others = product.iter().filter(|file| !file.path.starts_with(source::PRINTER));
    let wrong =
        others.flat_map(|file| source::prints(&file.text).into_iter().map(|line| format!("{}:{line}", file.path)));
    let say =
        |place| format!("{place} prints in its own way: common::output, stdio::out and stdio::err never panic or wait");
    fail_with(&wrong.map(say).collect::<Vec<_>>());
}

#[test]
fn every_counter_is_explained() {
    let sets = counter::sets(&tree::texts(&root()).unwrap());
    assert!(sets.len() >= 8, "only {} sets of counters found", sets.len());
    let (operating, troubleshooting) = (document("docs/operating.md"), document("docs/troubleshooting.md"));
    let section = counter::section(&operating).expect("docs/operating.md has the marks around its counter tables");
    let mut wrong = Vec::new();
    for (name, help) in sets.iter().flat_map(|set| &set.counters) {
        if !section.contains(&format!("| `{name}` | {} |", help.replace('|', "\\|"))) {
            wrong.push(format!("docs/operating.md does not list `{name}`: cargo run -p gvm-house --example counters"));
        }
        if counter::needs_remedy(name) && !counter::is_named(&troubleshooting, name) {
            wrong.push(format!("docs/troubleshooting.md does not say what to do about `{name}` ({help})"));
        }
    }
    let known = |name: &str| sets.iter().any(|set| set.counters.iter().any(|(counter, _)| counter == name));
    for name in section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()) {
        if !known(name) {
            wrong.push(format!(
                "docs/operating.md lists `{name}`, which nobody counts: cargo run -p gvm-house --example counters"
            ));
        }
    }
    fail_with(&wrong);
}

/// Whether a text has a function with this beginning right behind the mark of a test.
fn has_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| matches!(pair, ["#[test]", line] if line.starts_with(function)))
}

/// Whether a file of this name has this test.
fn exists(files: &[tree::TextFile], test: &str) -> bool {
    let Some((topic, name)) = test.rsplit_once("::") else { return false };
    let (file, function) = (format!("/{topic}.rs"), format!("fn {name}("));
    files.iter().any(|text| text.path.ends_with(&file) && has_test(&text.text, &function))
}

#[test]
fn every_attack_has_its_test() {
    let (document, files) = (document("docs/security.md"), tree::texts(&root()).unwrap());
    let section = document.split("## Attacks, and what holds them").nth(1).expect("docs/security.md lists attacks");
    let table = section.split("\n##").next().unwrap_or_default();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 15, "only {} attacks found", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let tests = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("docs/security.md has an attack without a test: {row}"));
        }
        let missing = names.into_iter().filter(|name| !exists(&files, name));
        wrong.extend(missing.map(|name| format!("docs/security.md names the test `{name}`, which does not exist")));
    }
    fail_with(&wrong);
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    let file = |path: &str, text: &str| tree::TextFile { path: path.to_owned(), text: text.to_owned() };
    let files = [file("a/tests/door.rs", "#[test]\nfn it_is_shut() {}\nfn it_is_open() {}\n"), file("window.rs", "")];
    assert!(exists(&files, "door::it_is_shut"));
    for other in ["door::it_is_open", "door::it_is", "window::it_is_shut", "oor::it_is_shut", "it_is_shut", "door::"] {
        assert!(!exists(&files, other), "{other}");
    }
}

#[test]
fn every_rule_of_the_transport_has_its_test() {
    let (document, files) = (document("docs/transport.md"), tree::texts(&root()).unwrap());
    let table = document.split("## The rules, and their tests").nth(1).expect("docs/transport.md lists its rules");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ") && line.contains("::")).collect();
    assert!(rows.len() >= 30, "only {} rules found", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        for test in row.split('`').skip(1).step_by(2) {
            let (topic, name) = test.split_once("::").unwrap_or((test, ""));
            let (file, function) = (format!("/{topic}.rs"), format!("fn {name}("));
            let is_there = |text: &tree::TextFile| {
                let places = ["dataplane/transport/tests/", "dataplane/records/tests/", "tests/sim/tests/"];
                places.iter().any(|place| text.path.starts_with(place))
                    && text.path.ends_with(&file)
                    && has_test(&text.text, &function)
            };
            if !files.iter().any(is_there) {
                wrong.push(format!("docs/transport.md names the test `{test}`, which does not exist"));
            }
        }
    }
    fail_with(&wrong);
}

#[test]
fn every_exit_code_is_explained() {
    let (codes, troubleshooting) = (document("control/common/src/exit.rs"), document("docs/troubleshooting.md"));
    let rows = codes.lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" |").next()?.parse::<u8>().ok());
    let rows: Vec<u8> = rows.collect();
    assert!(rows.len() >= 8, "control/common/src/exit.rs documents its exit codes in a table, not {rows:?}");
    let missing = rows.iter().filter(|code| !troubleshooting.contains(&format!("\n### Exit code {code}:")));
    let missing: Vec<String> =
        missing.map(|code| format!("docs/troubleshooting.md has no heading \"### Exit code {code}: ...\"")).collect();
    fail_with(&missing);
}

#[test]
fn every_error_is_explained() {
    let messages = message::messages(&tree::texts(&root()).unwrap());
    assert!(messages.len() >= 100, "only {} messages of errors found", messages.len());
    let phrases = message::phrases(&document("docs/troubleshooting.md"));
    let unexplained = messages.iter().filter(|message| !phrases.iter().any(|phrase| phrase.explains(message)));
    let say = |message: &message::Message| {
        format!("docs/troubleshooting.md does not say what to do about \"{}\" ({})", message.text(), message.path)
    };
    fail_with(&unexplained.map(say).collect::<Vec<_>>());
}
