//! `docs/grafana` and `docs/prometheus`: dashboard and alert rules ask for what gvm-dp exposes.

use crate::exposition::{self, Families, Family};
use crate::metrics::{everything, lcore, project};
use lcore::Clock;
use serde_json::Value;
use serve::board::Board;
use serve::metrics::collect;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Command;

/// What gvm-dp exposes: every set that it has, and a gateway.
fn exposed() -> Families {
    let board = Board::new("gateway", "g".to_owned(), wire::Scale::default(), Clock::start(), vec![lcore(0, 1)]);
    let mut families = exposition::read(&collect::all(&board));
    families.extend(everything());
    families
}

/// The names in a query that are ours.
fn names(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("gvm_dp_")).collect()
}

/// The family of a name; a histogram has three names.
fn family<'a>(families: &'a Families, name: &str) -> Option<&'a Family> {
    let part = |suffix: &&str| families.get(name.strip_suffix(suffix)?);
    let histogram = || ["_bucket", "_sum", "_count"].iter().find_map(part);
    families.get(name).or_else(|| histogram().filter(|family| family.kind == "histogram"))
}

fn has_label(family: &Family, label: &str) -> bool {
    family.samples.keys().any(|series| series.contains(&format!("{label}=\"")))
}

/// What stands in parentheses behind a word, as in `by (a, b)`.
fn lists<'a>(query: &'a str, word: &str) -> Vec<Vec<&'a str>> {
    let begins = format!("{word} (");
    let behind = query.split(&begins).skip(1);
    behind.map(|rest| rest.split(')').next().unwrap().split(", ").collect()).collect()
}

/// Fails unless every name is exposed, counters are rated and gauges are not, and labels are there.
fn check(families: &Families, query: &str) {
    for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
        let count = |c: char| query.matches(c).count();
        assert_eq!(count(open), count(close), "{open} and {close} do not match: {query}");
    }
    let of: Vec<&Family> = names(query)
        .into_iter()
        .map(|name| family(families, name).unwrap_or_else(|| panic!("nobody exposes {name}: {query}")))
        .collect();
    for name in names(query) {
        let family = family(families, name).unwrap();
        let grows = family.kind != "gauge";
        let rated = ["rate", "increase"].iter().any(|function| query.contains(&format!("{function}({name}")));
        assert_eq!(grows, rated, "{name} is a {}: {query}", family.kind);
    }
    for label in ["by", "on"].iter().flat_map(|word| lists(query, word)).flatten() {
        // Prometheus itself adds the instance and the job.
        let exists = of.iter().any(|family| has_label(family, label)) || ["instance", "job"].contains(&label);
        assert!(exists, "nothing has the label {label}: {query}");
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let families = exposed();
    let path = project().join("docs/grafana/gvm-dp.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 80, "{} queries", queries.len());
    let lists = [&dashboard["templating"]["list"], &dashboard["annotations"]["list"]];
    let others = lists.iter().flat_map(|list| list.as_array().unwrap());
    queries.extend(others.flat_map(|other| [other["query"].as_str(), other["expr"].as_str()]).flatten());
    queries.iter().for_each(|query| check(&families, query));
    // Each set of a gateway has its place on the dashboard; what each of its counters says stands in the help.
    for set in
        ["lcore", "pool", "outbox", "direction", "flush", "registrar", "udp", "xdp", "dpdk", "control", "stage_samples"]
    {
        let asked = queries.iter().any(|query| query.contains(&format!("gvm_dp_{set}_")));
        assert!(asked, "no panel shows a counter of {set}");
    }
    // No panel lies on another one, and each has a number of its own.
    let mut places = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let place = |what: &str| panel["gridPos"][what].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(places.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn whoever_is_woken_by_an_alert_sees_it_on_the_dashboard() {
    let read = |path: &str| std::fs::read_to_string(project().join(path)).unwrap();
    let (dashboard, rules) = (read("docs/grafana/gvm-dp.json"), alerts(&read("docs/prometheus/gvm-dp.rules.yml")));
    let shown = names(&dashboard);
    for rule in &rules {
        let missing: Vec<_> = names(&rule.expr).into_iter().filter(|name| !shown.contains(name)).collect();
        assert!(missing.is_empty(), "{}: no panel shows {missing:?}", rule.name);
    }
}

/// An alert rule.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expr: String,
    wait: String,
    severity: String,
    summary: String,
    description: String,
}

/// Reads the rules, strictly: what does not look like the others is an error. Nothing in the file needs more of YAML.
fn alerts(text: &str) -> Vec<Alert> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    for expected in ["groups:", "  - name: gvm-dp", "    rules:"] {
        assert_eq!(lines.next(), Some(expected));
    }
    let quoted = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let inner = inner.unwrap_or_else(|| panic!("{text} stands in quotes"));
        assert!(!inner.contains(['"', '\\']), "{text}");
        inner.to_owned()
    };
    let mut alerts = Vec::new();
    while let Some(line) = lines.next() {
        let mut next = |before: &str| {
            let line = lines.next().unwrap_or_else(|| panic!("{before} is missing"));
            let rest = line.strip_prefix(before).unwrap_or_else(|| panic!("\"{line}\" is not {before}"));
            // A plain scalar of YAML: none of these begins something else.
            let is_plain = !rest.contains(": ")
                && !rest.contains(" #")
                && !rest.starts_with(['{', '[', '&', '*', '!', '|', '>', '%']);
            assert!(rest.starts_with('"') || is_plain, "{line} needs quotes");
            rest.to_owned()
        };
        let name = line.strip_prefix("      - alert: ").unwrap_or_else(|| panic!("{line}"));
        let expr = next("        expr: ");
        let wait = next("        for: ");
        next("        labels:");
        let severity = next("          severity: ");
        next("        annotations:");
        let (summary, description) = (quoted(&next("          summary: ")), quoted(&next("          description: ")));
        alerts.push(Alert { name: name.to_owned(), expr, wait, severity, summary, description });
    }
    alerts
}

#[test]
fn alert_rules_ask_for_what_there_is() {
    let families = exposed();
    let text = std::fs::read_to_string(project().join("docs/prometheus/gvm-dp.rules.yml")).unwrap();
    let document = std::fs::read_to_string(project().join("docs/operating.md")).unwrap();
    let alerts = alerts(&text);
    assert!(alerts.len() >= 25, "{} alerts", alerts.len());
    let mut seen = BTreeSet::new();
    for alert in &alerts {
        let Alert { name, expr, wait, severity, summary, description } = alert;
        check(&families, expr);
        assert!(name.starts_with("GvmDp") && seen.insert(name.clone()), "{name}");
        assert!(["critical", "warning", "info"].contains(&&**severity), "{name}: {severity}");
        assert!(!summary.is_empty() && !summary.ends_with('.') && description.ends_with('.'), "{alert:?}");
        let number = wait.trim_end_matches(['s', 'm', 'h']);
        assert!(number.parse::<u32>().is_ok() && wait.len() == number.len() + 1, "{name}: for {wait}");
        assert!(
            ["== ", "> ", "< "].iter().any(|operator| expr.contains(operator)) || expr.starts_with("absent("),
            "{name}"
        );
        // A label that is written out is one that the alert has.
        let kept = lists(expr, "by").into_iter().next();
        let exists = |label: &str| match &kept {
            Some(kept) => kept.contains(&label),
            None => {
                label == "instance" || names(expr).iter().any(|name| has_label(family(&families, name).unwrap(), label))
            }
        };
        for part in [summary, description].iter().flat_map(|text| text.split("{{ ").skip(1)) {
            let what = part.split_once(" }}").unwrap_or_else(|| panic!("{name}: {part}")).0;
            assert!(what == "$value" || what.strip_prefix("$labels.").is_some_and(exists), "{name}: {what}");
        }
        assert!(document.contains(&format!("| `{name}` |")), "docs/operating.md does not say what to do about {name}");
    }
    let rows = document.lines().filter(|line| line.starts_with("| `GvmDp")).count();
    assert_eq!(rows, alerts.len(), "docs/operating.md has rows of alerts that are no more");
}

/// What Prometheus itself says of the rules, and what they make of the series of `control/gvm-dp/tests/alerts.yml`.
#[test]
fn promtool_takes_the_rules_and_they_fire_when_they_should() {
    let tests = project().join("control/gvm-dp/tests");
    for arguments in [["check", "rules", "../../../docs/prometheus/gvm-dp.rules.yml"], ["test", "rules", "alerts.yml"]]
    {
        match Command::new("promtool").args(arguments).current_dir(&tests).output() {
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
            }
            // Past the test runner, which shows nothing that a passing test prints.
            Err(error) => drop(writeln!(std::io::stderr(), "SKIPPED: promtool cannot be started: {error}")),
        }
    }
}
