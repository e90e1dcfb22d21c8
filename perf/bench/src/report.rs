//! The last line of every benchmark, and its JSON.

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
    pub ratio: f64,
}

impl Report {
    /// Prints the last line.
    pub fn print(&self) {
        println!("name={} value={:.3} unit={} ratio={:.3}", self.name, self.value, self.unit, self.ratio);
    }

    /// Writes the figure and `details` to a file, if one was asked for.
    pub fn write(&self, file: Option<&Path>, details: serde_json::Value) -> anyhow::Result<()> {
        if let Some(file) = file {
            let Self { name, value, unit, ratio } = self;
            let json = serde_json::json!({
                "name": name, "value": value, "unit": unit, "ratio": ratio, "details": details
            });
            std::fs::write(file, serde_json::to_string_pretty(&json)? + "\n")?;
        }
        Ok(())
    }
}
