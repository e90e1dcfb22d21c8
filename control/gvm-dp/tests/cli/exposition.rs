//! A strict reader of Prometheus text: what it does not understand fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Gauges that may be negative.
const SIGNED: [&str; 1] = ["gvm_dp_records_unaccounted"];

/// One family.
#[derive(Debug)]
pub(crate) struct Family {
    pub help: String,
    pub kind: String,
    /// Values by name and labels, as written.
    pub samples: BTreeMap<String, f64>,
}

/// All families, by name.
pub(crate) type Families = BTreeMap<String, Family>;

/// Reads a whole answer.
pub(crate) fn read(text: &str) -> Families {
    assert!(text.ends_with('\n'), "the last line ends");
    let mut families = Families::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(is_name(name), "{line}");
            current = name.to_owned();
            let family = Family { help: help.to_owned(), kind: String::new(), samples: BTreeMap::new() };
            assert!(families.insert(current.clone(), family).is_none(), "{name} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| (name, labels));
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("no family: {line}"));
            let suffix = name.strip_prefix(&*current).unwrap_or_else(|| panic!("{line} stands under {current}"));
            let suffixes: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            check_labels(labels, line);
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(value.is_finite() && (value >= 0.0 || SIGNED.contains(&name)), "{line}");
            assert!(family.samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    families.iter().for_each(|(name, family)| check_family(name, family));
    families
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase()) && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `a="x",b="y"}`, with escapes.
fn check_labels(labels: &str, line: &str) {
    let mut rest = labels;
    let mut names = BTreeSet::new();
    while !rest.is_empty() {
        let (name, of) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(name) && names.insert(name), "{line}");
        let mut escaped = false;
        let end = of.find(|c| {
            let ends = c == '"' && !escaped;
            assert!(!escaped || ['\\', '"', 'n'].contains(&c), "{line}");
            escaped = c == '\\' && !escaped;
            ends
        });
        let after = &of[end.unwrap_or_else(|| panic!("{line}")) + 1..];
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None => {
                assert_eq!(after, "}", "{line}");
                ""
            }
        };
    }
}

fn check_family(name: &str, family: &Family) {
    assert!(!family.samples.is_empty(), "{name} has no sample");
    assert!(family.help.ends_with('.'), "{name}: {}", family.help);
    assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name} is a {}", family.kind);
    for (series, count) in family.samples.iter().filter(|(series, _)| series.starts_with(&format!("{name}_count"))) {
        let labels = series.trim_start_matches(&format!("{name}_count")).trim_matches(['{', '}']);
        let prefix = format!("{name}_bucket{{{labels}");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (bucket, value) in family.samples.iter().filter(|(series, _)| series.starts_with(&prefix)) {
            let (_, bound) = bucket.rsplit_once("le=\"").unwrap();
            let bound = bound.trim_end_matches("\"}");
            buckets.push((if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, *value));
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{series} is not cumulative: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
    }
}

/// The sum of a family's samples whose labels have all of these parts.
pub(crate) fn sum(families: &Families, name: &str, labels: &[&str]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no {name}"));
    let chosen = family.samples.iter().filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
    chosen.map(|(_, value)| value).sum()
}

/// Fails where a counter or a bucket fell from one scrape to the next.
pub(crate) fn check_growth(before: &Families, after: &Families) {
    for (name, family) in before.iter().filter(|(_, family)| family.kind != "gauge") {
        for (series, value) in &family.samples {
            let now = after[name].samples.get(series).unwrap_or_else(|| panic!("{series} is gone"));
            assert!(now >= value, "{series} fell from {value} to {now}");
        }
    }
}
