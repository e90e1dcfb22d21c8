//! `/v1/settings` and `/v1/reload`: the settings in the form that clients see, and how they change while the process
//! runs.

use super::refusal::Refusal;
use super::request::ControlRequest;
use super::state::ServerState;
use api::error::{ApiError, Code};
use api::settings::{ChangeAnswer, Changed, Reloaded, SettingAnswer, SettingsAnswer, Wanted};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Json;
use settings::catalog::Setting;
use settings::live::is_live;
use settings::running::{Fresh, KEY_FILES, SettingChange};
use settings::{Origin, RunningSettings, Sources};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A value in the form that clients see: a list if the setting takes one, else a text, or null.
fn shown(many: bool, texts: &[String]) -> serde_json::Value {
    match texts {
        texts if many => texts.into(),
        [] => serde_json::Value::Null,
        texts => texts.join(" ").into(),
    }
}

/// The settings of a process that runs, or would run.
pub fn answer(running: &RunningSettings) -> SettingsAnswer {
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
            () if is_live(name) => "live",
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
    SettingsAnswer {
        role: role.to_string(),
        file: running.file().map(|file| file.path.display().to_string()),
        settings: settings.collect(),
    }
}

/// Changes in the form that clients see.
pub fn changes(running: &RunningSettings, changes: Vec<SettingChange>) -> Vec<ChangeAnswer> {
    let many = |name: &str| running.sources().catalog().find(name).is_some_and(|setting| setting.many);
    let change = |SettingChange { name, from, to }: SettingChange| ChangeAnswer {
        from: shown(many(&name), &from),
        to: shown(many(&name), &to),
        name,
    };
    changes.into_iter().map(change).collect()
}

pub(super) async fn show(State(state): State<ServerState>) -> Result<Json<SettingsAnswer>, Refusal> {
    Ok(Json(state.request(ControlRequest::Settings).await?))
}

pub(super) async fn set(
    State(state): State<ServerState>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Changed>, Refusal> {
    let Json(wanted) = wanted?;
    if wanted.is_empty() {
        return Err(ApiError::new(Code::BadRequest, "no setting is named", "send {\"NAME\": VALUE}").into());
    }
    Ok(Json(state.request(|answer| ControlRequest::Set(wanted, answer)).await??))
}

pub(super) async fn reload(State(state): State<ServerState>) -> Result<Json<Reloaded>, Refusal> {
    let permit = Arc::clone(&state.reloads.one).try_acquire_owned().map_err(|_| {
        ApiError::new(
            Code::Busy,
            "a reload is still under way",
            "if it does not end, reading a file of the configuration hangs: is it on a file system that is away, or a \
             pipe?",
        )
    })?;
    Ok(Json(again(&state, permit).await?))
}

/// Reads the configuration again beside the control thread, which then takes it over.
pub(super) async fn again(state: &ServerState, permit: OwnedSemaphorePermit) -> Result<Reloaded, ApiError> {
    let sources: Sources = state.request(ControlRequest::Sources).await?;
    let (tell, told) = oneshot::channel();
    // Not on a thread of the runtime: the runtime would wait for it at the end of the process.
    let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
        // The client may be gone.
        let _ = tell.send((Fresh::read(sources), permit));
    });
    thread.map_err(|error| {
        let message = format!("cannot start a thread to read the configuration: {error}");
        ApiError::new(
            Code::BadFile,
            message,
            "nothing was changed: is there a limit on processes (ulimit -u) or on memory (ulimit -v)?",
        )
    })?;
    let (fresh, _permit) = told.await.map_err(|_| {
        ApiError::new(Code::Internal, "reading the configuration panicked", "please report it with the log")
    })?;
    let fresh = fresh.map_err(|failure| {
        let remedy = "nothing was changed: correct it, look at it with gvm-dp config check, and reload again";
        ApiError::new(Code::BadFile, failure.to_string(), remedy)
    })?;
    state.request(|answer| ControlRequest::Reload(Box::new(fresh), answer)).await
}
