//! What `/v1/settings` and `/v1/reload` answer. The client reads the same types.

use super::error::{ApiError, Code};
use super::{Ask, Office};
use crate::settings::catalog::Setting;
use crate::settings::running::{Change, Fresh, KEY_FILES};
use crate::settings::{Origin, Running, Sources};
use crate::supervise::live;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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

/// A value as it is shown: a list of what takes a list, else a text, or nothing.
fn shown(many: bool, texts: &[String]) -> serde_json::Value {
    match texts {
        texts if many => texts.into(),
        [] => serde_json::Value::Null,
        texts => texts.join(" ").into(),
    }
}

impl SettingsAnswer {
    /// The settings of a process that runs, or would run.
    pub fn of(running: &Running) -> Self {
        let role = running.sources().catalog().role;
        let settings = running.values().map(|(Setting { name, many, help, .. }, value, pending)| {
            let (from, place) = match &value.origin {
                Origin::Default => ("default", None),
                Origin::File(place) => ("file", Some(place.to_string())),
                Origin::Environment => ("environment", None),
                Origin::CommandLine => ("command line", None),
                Origin::Set => ("set", None),
            };
            let changes = match () {
                () if live::is_live(name) => "live",
                () if KEY_FILES.contains(&&**name) => "reload",
                () => "restart",
            };
            SettingAnswer {
                name: name.clone(),
                value: shown(*many, &value.texts),
                from: from.to_owned(),
                place,
                changes: changes.to_owned(),
                after_restart: pending.map(|texts| shown(*many, texts)),
                help: help.clone(),
            }
        });
        Self {
            role: role.to_string(),
            file: running.file().map(|file| file.path.display().to_string()),
            settings: settings.collect(),
        }
    }
}

/// Changes as they are shown.
pub fn changes(running: &Running, changes: Vec<Change>) -> Vec<ChangeAnswer> {
    let many = |name: &str| running.sources().catalog().find(name).is_some_and(|setting| setting.many);
    let change = |Change { name, from, to }: Change| ChangeAnswer {
        from: shown(many(&name), &from),
        to: shown(many(&name), &to),
        name,
    };
    changes.into_iter().map(change).collect()
}

pub(super) async fn show(State(office): State<Office>) -> Result<Json<SettingsAnswer>, ApiError> {
    office.ask(Ask::Settings).await.map(Json)
}

pub(super) async fn set(
    State(office): State<Office>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Changed>, ApiError> {
    let Json(wanted) = wanted?;
    if wanted.is_empty() {
        return Err(ApiError::new(Code::BadRequest, "no setting is named", "send {\"NAME\": VALUE}"));
    }
    office.ask(|answer| Ask::Set(wanted, answer)).await?.map(Json)
}

pub(super) async fn reload(State(office): State<Office>) -> Result<Json<Reloaded>, ApiError> {
    let permit = Arc::clone(&office.reloads.one).try_acquire_owned().map_err(|_| {
        ApiError::new(
            Code::Busy,
            "a reload is still under way",
            "if it does not end, reading a file of the configuration hangs: is it on a file system that is away, or a pipe?",
        )
    })?;
    again(&office, permit).await.map(Json)
}

/// Reloads, of which one runs at a time.
#[derive(Clone)]
pub(super) struct Reloads {
    /// The right to be the one.
    pub one: Arc<Semaphore>,
    /// Whether a SIGHUP waits for it. Another one would want the same: the files as they will be by then.
    pub waits: Arc<AtomicBool>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { one: Arc::new(Semaphore::new(1)), waits: Arc::default() }
    }
}

/// Reads the configuration again beside the control thread, and has the control thread take it over.
pub(super) async fn again(office: &Office, permit: OwnedSemaphorePermit) -> Result<Reloaded, ApiError> {
    let sources: Sources = office.ask(Ask::Sources).await?;
    let (tell, told) = oneshot::channel();
    // Not on a thread of the runtime: that would wait for it at the end of the process.
    let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
        // Whoever asked may have gone away.
        let _ = tell.send((Fresh::read(sources), permit));
    });
    thread.map_err(|error| {
        let message = format!("cannot start a thread to read the configuration: {error}");
        ApiError::new(Code::BadFile, message, "nothing was changed: is there a limit on processes (ulimit -u)?")
    })?;
    let (fresh, _permit) = told.await.map_err(|_| {
        ApiError::new(Code::Internal, "reading the configuration panicked", "please report it with the log")
    })?;
    let fresh = fresh.map_err(|failure| {
        let remedy = "nothing was changed: correct it, look at it with gvm-dp config check, and reload again";
        ApiError::new(Code::BadFile, failure.to_string(), remedy)
    })?;
    office.ask(|answer| Ask::Reload(Box::new(fresh), answer)).await
}
