//! The end of every benchmark: where and when it ran, the range of its ratios, its last line, and its JSON. Also
//! numbers in a readable form.

use crate::conditions::{Conditions, Machine};
use crate::ratios::Ratios;
use std::path::Path;

/// The figure that a benchmark stands for.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the benchmark.
    pub name: &'static str,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Ours divided by the baseline of the same run.
    pub ratios: Ratios,
    /// Everything that was measured.
    pub details: serde_json::Value,
}

impl Report {
    /// The closing lines. The last one stands for the figure; that of a quick run says so in its name.
    pub fn text(&self, machine: &Machine, conditions: &Conditions, quick: bool) -> String {
        let Self { name, value, unit, ratios, .. } = self;
        let (suffix, warning) = match (quick, conditions.is_quiet()) {
            (true, _) => ("-quick", "a quick run: what went through was checked, the figures mean nothing\n"),
            (false, true) => ("", ""),
            (false, false) => {
                ("", "NOT A MEASUREMENT: the machine was busy, and ratios on a busy machine are others\n")
            }
        };
        let ratio = ratios.median;
        format!(
            "{warning}machine: {machine}\nconditions: {conditions}\nratios: {ratios}\n\
             name={name}{suffix} value={value:.3} unit={unit} ratio={ratio:.3}\n"
        )
    }

    /// Writes everything to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path, machine: &Machine, conditions: &Conditions, quick: bool) -> anyhow::Result<()> {
        let Self { name, value, unit, ratios, details } = self;
        let json = serde_json::json!({
            "name": name, "quick": quick, "value": value, "unit": unit, "ratio": ratios.median, "ratios": ratios.json(),
            "machine": machine, "conditions": conditions, "details": details
        });
        Ok(std::fs::write(file, serde_json::to_string_pretty(&json)? + "\n")?)
    }
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_last_line_is_the_figure_and_those_before_say_what_it_is_worth() {
        let ratios = Ratios::of(vec![1.5, 2.0, 1.75]);
        let report = Report { name: "tap", value: 351.25, unit: "ns/record", ratios, details: serde_json::Value::Null };
        let conditions = Conditions {
            load_before: 0.1,
            load_after: 1.0,
            steal_percent: 0.5,
            others_percent: Some(1.0),
            seconds: 12.0,
        };
        let text = report.text(&Machine::this(), &conditions, false);
        let lines: Vec<_> = text.lines().collect();
        let &[machine, when, range, last] = &lines[..] else { panic!("{text}") };
        assert!(machine.starts_with("machine: ") && machine.contains(" cores of "), "{machine}");
        assert!(when.starts_with("conditions: quiet, load 0.10 before and 1.00 after, steal 0.5 %"), "{when}");
        assert_eq!(range, "ratios: median 1.750, 1.500 to 2.000 in 3 rounds");
        assert_eq!(last, "name=tap value=351.250 unit=ns/record ratio=1.750");
        let last = format!("{last}\n");
        let busy = Conditions { steal_percent: 4.5, ..conditions.clone() };
        let text = report.text(&Machine::this(), &busy, false);
        assert!(text.starts_with("NOT A MEASUREMENT: ") && text.ends_with(&last), "{text}");
        let quick = report.text(&Machine::this(), &conditions, true);
        assert!(quick.starts_with("a quick run: ") && quick.contains("\nname=tap-quick value="), "{quick}");
    }
}
