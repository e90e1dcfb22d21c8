//! What `/v1/settings` and `/v1/reload` answer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings with the values that they shall have; `null` is what the configuration says.
pub type Wanted = BTreeMap<String, serde_json::Value>;

/// The settings of a process, or those that it would have.
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
    /// A text, a list of texts, or nothing.
    pub value: serde_json::Value,
    /// default, file, environment, command line or set.
    pub from: String,
    /// Where it stands in the file.
    pub place: Option<String>,
    /// How it changes: live, reload or restart.
    pub changes: String,
    /// What it will be after a restart, if that is something else.
    pub after_restart: Option<serde_json::Value>,
    /// What it does.
    pub help: String,
}

/// What `PATCH /v1/settings` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// What is different now.
    pub changed: Vec<ChangeAnswer>,
}

/// What `POST /v1/reload` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The configuration file that was read.
    pub file: Option<String>,
    /// What is different now.
    pub changed: Vec<ChangeAnswer>,
    /// What the configuration says, and will hold after a restart.
    pub needs_restart: Vec<ChangeAnswer>,
}

/// A setting that changed. Of keys, values are fingerprints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeAnswer {
    /// The setting.
    pub name: String,
    /// What it was.
    pub from: serde_json::Value,
    /// What it is, or will be.
    pub to: serde_json::Value,
}
