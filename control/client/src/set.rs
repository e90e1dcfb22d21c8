//! `gvm-dp set` and `gvm-dp reload`: change the settings of a running process.

use super::Target;
use crate::args::{ReloadArgs, SetArgs};
use api::settings::{ChangeAnswer, Changed, Reloaded, SettingAnswer, SettingsAnswer};
use common::exit::Failure;
use common::output::print;
use common::plain;
use hyper::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Sets one setting, or shows what can be set.
///
/// # Errors
/// It fails as [`Target::find`], [`Target::request_with`] and [`Target::read`] do. The error is [`Failure::Usage`] when
/// the setting does not change while the process runs, or does not take the value. It is [`Failure::Output`] when
/// stdout does not take the text.
pub fn set(args: &SetArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let value = match (&args.value, args.reset) {
        (Some(value), _) => Some(wanted(value)),
        (None, true) => Some(Value::Null),
        (None, false) => None,
    };
    let (Some(name), Some(value)) = (&args.setting, value) else {
        return list(&target, args.setting.as_deref(), args.json);
    };
    let body = target.request_with(Method::PATCH, "/v1/settings", &BTreeMap::from([(name, value)]))?;
    if args.json {
        return print(&format!("{}\n", plain::json(&body))).map(drop);
    }
    let Changed { changed } = target.read(&body)?;
    let text: String = changed.iter().map(change).collect();
    print(if text.is_empty() { "it is so already\n" } else { &text }).map(drop)
}

/// A number stays a number, so that settings that are numbers take it.
fn wanted(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

fn list(target: &Target, name: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut answer: SettingsAnswer = target.read(&target.request(Method::GET, "/v1/settings")?)?;
    answer.settings.retain(|setting| setting.changes == "live" && name.is_none_or(|name| setting.name == name));
    if let (Some(name), true) = (name, answer.settings.is_empty()) {
        return Err(Failure::Usage(format!(
            "\"{name}\" does not change while \"{}\" runs: gvm-dp set alone lists what can be set",
            target.name
        )));
    }
    let text = if json {
        format!("{}\n", serde_json::to_string(&answer).map_err(|error| Failure::Internal(error.to_string()))?)
    } else {
        answer.settings.iter().map(line).collect()
    };
    print(&text).map(drop)
}

fn line(setting: &SettingAnswer) -> String {
    let SettingAnswer { name, value, help, .. } = setting;
    format!("{name:<10} {:<10} {}\n", text(value), help.lines().next().unwrap_or_default())
}

/// Tells the process to read its configuration again.
///
/// # Errors
/// It fails as [`Target::find`], [`Target::request`] and [`Target::read`] do. The error is [`Failure::Output`] when
/// stdout does not take the text.
pub fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let body = target.request(Method::POST, "/v1/reload")?;
    if args.json {
        return print(&format!("{}\n", plain::json(&body))).map(drop);
    }
    let Reloaded { file, changed, needs_restart } = target.read(&body)?;
    let mut out = String::new();
    let _ = match file {
        Some(file) => writeln!(out, "{}: read {file}", target.name),
        None => writeln!(out, "{}: there is no configuration file", target.name),
    };
    if changed.is_empty() && needs_restart.is_empty() {
        out.push_str("nothing changed\n");
    }
    out.extend(changed.iter().map(change));
    out.extend(needs_restart.iter().map(|waiting| format!("needs a restart: {}", change(waiting))));
    print(&out).map(drop)
}

fn change(change: &ChangeAnswer) -> String {
    format!("{}: {} -> {}\n", change.name, text(&change.from), text(&change.to))
}

/// A value on one line.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(texts) if texts.is_empty() => "-".to_owned(),
        Value::Array(texts) => texts.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
