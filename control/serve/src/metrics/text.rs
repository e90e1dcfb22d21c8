//! The text format that Prometheus reads, version 0.0.4.
//!
//! A sample belongs to a family. A family has one help and one type, and its samples stand together. Families are
//! sorted by name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{Display, Write as _};

/// The content type of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels of a sample, in their order.
pub type Labels<'a> = [(&'a str, &'a str)];

struct Family {
    kind: Type,
    help: String,
    samples: String,
}

/// All families of one answer.
#[derive(Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

impl Exposition {
    /// Adds one sample. The family's help and type are those of its first sample.
    pub fn sample(&mut self, name: &str, kind: Type, help: &str, labels: &Labels<'_>, value: impl Display) {
        let family = self.family(name, kind, help);
        write_sample(&mut family.samples, name, "", labels, value);
    }

    /// Adds one sample of a family whose last label distinguishes its members. The help of the family has a sentence
    /// for each of them.
    pub fn member(&mut self, name: &str, kind: Type, help: &str, labels: &Labels<'_>, value: impl Display) {
        let (label, member) = labels.last().copied().unwrap_or_default();
        let family = self.family(name, kind, &format!("By {label}."));
        let sentence = format!(" {member}: {help}");
        if !family.help.contains(&sentence) {
            family.help.push_str(&sentence);
        }
        write_sample(&mut family.samples, name, "", labels, value);
    }

    /// Adds one histogram: its buckets by their inclusive upper bounds, each with its own values only, and the sum of
    /// all values.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &Labels<'_>,
        buckets: impl IntoIterator<Item = (Option<impl Display>, u64)>,
        sum: impl Display,
    ) {
        let samples = &mut self.family(name, Type::Histogram, help).samples;
        let mut below = 0;
        let mut line = |bound: &str, count: u64| {
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
            write_sample(samples, name, "_bucket", &labels, count);
        };
        for (bound, count) in buckets {
            below += count;
            if let Some(bound) = bound {
                line(&bound.to_string(), below);
            }
        }
        line("+Inf", below);
        write_sample(samples, name, "_sum", labels, sum);
        write_sample(samples, name, "_count", labels, below);
    }

    fn family(&mut self, name: &str, kind: Type, help: &str) -> &mut Family {
        match self.families.entry(name.to_owned()) {
            Entry::Occupied(family) => family.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Family { kind, help: help.to_owned(), samples: String::with_capacity(128) })
            }
        }
    }

    /// The whole answer.
    pub fn finish(self) -> String {
        let size = self.families.values().map(|family| family.samples.len() + family.help.len() + 128).sum();
        let mut text = String::with_capacity(size);
        for (name, Family { kind, help, samples }) in self.families {
            let _ = writeln!(text, "# HELP {name} {}", help.replace('\\', "\\\\").replace('\n', "\\n"));
            let _ = writeln!(text, "# TYPE {name} {}", kind.name());
            text.push_str(&samples);
        }
        text
    }
}

fn write_sample(text: &mut String, name: &str, suffix: &str, labels: &Labels<'_>, value: impl Display) {
    let _ = write!(text, "{name}{suffix}");
    for (index, (label, of)) in labels.iter().enumerate() {
        let _ = write!(text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
        for c in of.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_text_is_escaped() {
        let mut text = Exposition::default();
        text.sample("b", Type::Gauge, "Back\\slash\nand line.", &[("x", "a\"b\\c\nd"), ("y", "")], 1.5);
        text.sample("a_total", Type::Counter, "First.", &[], 7);
        text.sample("b", Type::Gauge, "Not again.", &[], 2);
        assert_eq!(
            text.finish(),
            "# HELP a_total First.\n# TYPE a_total counter\na_total 7\n\
             # HELP b Back\\\\slash\\nand line.\n# TYPE b gauge\n\
             b{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 1.5\nb 2\n"
        );
    }

    #[test]
    fn members_explain_themselves_once() {
        let mut text = Exposition::default();
        for lcore in ["0", "1"] {
            text.member("d_total", Type::Counter, "It was bad.", &[("lcore", lcore), ("reason", "bad")], 1);
            text.member("d_total", Type::Counter, "It was old.", &[("lcore", lcore), ("reason", "old")], 2);
        }
        let text = text.finish();
        assert!(text.starts_with("# HELP d_total By reason. bad: It was bad. old: It was old.\n# TYPE"), "{text}");
        assert!(text.ends_with("d_total{lcore=\"1\",reason=\"old\"} 2\n"), "{text}");
        assert_eq!(text.lines().count(), 6);
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut text = Exposition::default();
        text.histogram("h", "How long.", &[("lcore", "0")], [(Some(1), 3), (Some(2), 0), (None, 4)], 99);
        assert_eq!(
            text.finish(),
            "# HELP h How long.\n# TYPE h histogram\nh_bucket{lcore=\"0\",le=\"1\"} 3\nh_bucket{lcore=\"0\",le=\"2\"} \
             3\n\
             h_bucket{lcore=\"0\",le=\"+Inf\"} 7\nh_sum{lcore=\"0\"} 99\nh_count{lcore=\"0\"} 7\n"
        );
    }
}
