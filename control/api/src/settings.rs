//! What `/v1/settings` and `/v1/reload` answer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings with their wanted values; `null` means the value of the configuration.
pub type Wanted = BTreeMap<String, serde_json::Value>;

/// The settings that a process has, or would have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingsAnswer {
    /// gateway or slave.
    pub role: String,
    /// The configuration file that was read.
    pub file: Option<String>,
    /// Every setting, in the order of `--help`.
    pub settings: Vec<SettingAnswer>,
}

/// One setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingAnswer {
    /// The flag without its dashes, and the key in the file.
    pub name: String,
    /// A text, a list of texts, or null.
    pub value: serde_json::Value,
    /// default, file, environment, command line or set.
    pub from: String,
    /// Where it stands in the file, if it comes from there.
    pub place: Option<String>,
    /// How it changes: live, reload or restart.
    pub changes: String,
    /// Its value after a restart, if that differs.
    pub after_restart: Option<serde_json::Value>,
    /// What it does.
    pub help: String,
}

/// What `PATCH /v1/settings` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The settings that are different now.
    pub changed: Vec<ChangeAnswer>,
}

/// What `POST /v1/reload` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The configuration file that was read.
    pub file: Option<String>,
    /// The settings that are different now.
    pub changed: Vec<ChangeAnswer>,
    /// The settings that the configuration changes, but only after a restart.
    pub needs_restart: Vec<ChangeAnswer>,
}

/// A setting that changed. The values of keys are their fingerprints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeAnswer {
    /// The setting.
    pub name: String,
    /// What it was.
    pub from: serde_json::Value,
    /// What it is, or will be.
    pub to: serde_json::Value,
}
