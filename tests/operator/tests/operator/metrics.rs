//! Metrics, rules and the queries of the documents, checked by Prometheus' own tool.

use netns::shell::{Machine, project};
use operator::document::all_blocks;
use operator::has_tool;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The answer of a gateway to a scrape.
fn scraped() -> String {
    let mut machine = Machine::new();
    machine.run("sudo scripts/install.sh");
    let set = |name: &str, value: &str| {
        format!("sudo sed -i 's|^#* *{name} *=.*|{name} = \"{value}\"|' /etc/gvm-dp/gvm-dp.toml")
    };
    machine.run(&set("port", "udp:127.0.0.1:9999"));
    machine.run(&set("metrics", "127.0.0.1:9998"));
    machine.run("sudo systemctl start gvm-dp");
    let text = machine.run("curl --silent --show-error --fail http://127.0.0.1:9998/metrics");
    machine.run("sudo systemctl stop gvm-dp");
    text
}

/// The output of `promtool check WHAT` for a text; empty if it finds no fault.
fn checked(what: &[&str], text: &str) -> String {
    let mut tool = Command::new("promtool");
    tool.arg("check").args(what).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = tool.spawn().unwrap();
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { said } else { format!("{}: {said}", output.status) }
}

/// Names of our metrics in a text, without the suffixes that histograms add.
fn names(text: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut names: Vec<&str> =
        text.split(|letter| !is_part(letter)).filter(|word| word.starts_with("gvm_dp_")).collect();
    for name in &mut names {
        for end in ["_bucket", "_sum", "_count"] {
            *name = name.strip_suffix(end).unwrap_or(name);
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Names have base units, and nothing else that Prometheus' linter rejects. The linter itself checks them, if it is
/// installed.
#[test]
fn the_linter_of_metrics_has_nothing_to_say() {
    let text = scraped();
    let known = names(&text);
    assert!(known.len() > 80, "only {} metrics", known.len());
    for name in &known {
        let ends: Vec<&str> = name.split('_').collect();
        let abbreviated = ends.iter().find(|word| ["ns", "us", "ms", "s", "kb", "mb", "kib", "mib"].contains(word));
        assert!(abbreviated.is_none(), "{name}: write the unit in words, and the base unit");
    }
    let blocks: Vec<_> = all_blocks().into_iter().filter(|block| block.language == "promql").collect();
    assert!(!blocks.is_empty());
    for name in blocks.iter().flat_map(|block| names(&block.text)) {
        assert!(known.contains(&name), "the documents ask for {name}, which nobody has");
    }
    if !has_tool("promtool", false) {
        return;
    }
    assert_eq!(checked(&["metrics"], &text), "");
    // Queries are checked as parts of rules.
    let directory = std::env::temp_dir().join(format!("gvm-promtool-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut rules = String::from("groups:\n  - name: documents\n    rules:\n");
    for (number, query) in blocks.iter().flat_map(|block| block.text.lines()).enumerate() {
        let query = query.split(" #").next().unwrap().trim();
        rules.push_str(&format!("      - record: query_{number}\n        expr: {query:?}\n"));
    }
    let path = directory.join("rules.yml");
    std::fs::write(&path, rules).unwrap();
    for file in [path, project().join("docs/prometheus/gvm-dp.rules.yml")] {
        let output = Command::new("promtool").args(["check", "rules"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}: {said}", file.display());
    }
    for (number, block) in all_blocks().into_iter().filter(|block| block.language == "yaml").enumerate() {
        let path = directory.join(format!("prometheus-{number}.yml"));
        std::fs::write(&path, &block.text).unwrap();
        let output = Command::new("promtool").args(["check", "config"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {}", block.place, String::from_utf8_lossy(&output.stderr));
    }
    let _ = std::fs::remove_dir_all(&directory);
}
