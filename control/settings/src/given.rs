//! A value from the file, or from JSON over the control socket. Both become the text that the flag takes, so they have
//! the same meaning.

use super::catalog::{Catalog, Setting, ValueKind};
use clap::error::ErrorKind;
use std::error::Error as _;

/// A value with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A text.
    Text(String),
    /// A whole number, in decimal.
    Number(String),
    /// true or false.
    Bool(bool),
    /// A list.
    List(Vec<Given>),
    /// A type that no setting has, by its name.
    Other(&'static str),
}

impl Given {
    const fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(what) => what,
        }
    }

    /// The value as it is written in TOML.
    fn written(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Number(number) => number.clone(),
            Self::Bool(value) => value.to_string(),
            Self::List(_) | Self::Other(_) => self.describe().to_owned(),
        }
    }
}

impl From<&serde_json::Value> for Given {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) if number.is_f64() => Self::Other("a fraction"),
            Value::Number(number) => Self::Number(number.to_string()),
            Value::Bool(value) => Self::Bool(*value),
            Value::Array(values) => Self::List(values.iter().map(Self::from).collect()),
            Value::Object(_) => Self::Other("an object"),
            Value::Null => Self::Other("null"),
        }
    }
}

impl Catalog {
    /// The texts that the flag would get, one for each time that it is given; an empty list leaves the flag out. An
    /// error says what is wrong and what to write.
    ///
    /// # Errors
    /// The value has another type than the setting, or the setting does not take it.
    pub fn texts(&self, setting: &Setting, given: &Given) -> Result<Vec<String>, String> {
        let texts = match given {
            Given::List(values) if setting.many => {
                values.iter().map(|value| text(setting, value)).collect::<Result<Vec<_>, _>>()?
            }
            value => vec![text(setting, value)?],
        };
        if setting.kind == ValueKind::Flag {
            // `false` means that the flag is not given.
            return Ok(texts.into_iter().filter(|text| text == "true").collect());
        }
        self.check(setting, &texts)?;
        Ok(texts)
    }

    /// Lets clap check the texts of one setting.
    fn check(&self, setting: &Setting, texts: &[String]) -> Result<(), String> {
        for text in texts {
            let error = match self.command.clone().try_get_matches_from([format!("--{}={text}", setting.name)]) {
                Ok(_) => continue,
                Err(error) => error,
            };
            return Err(match (error.kind(), error.source()) {
                (ErrorKind::ValueValidation, Some(source)) if setting.kind == ValueKind::Number => {
                    format!("{text} is not a value of {}: {source}", setting.name)
                }
                (ErrorKind::ValueValidation, Some(source)) => source.to_string(),
                (ErrorKind::InvalidValue, _) if text.is_empty() => {
                    "it is empty: write a value, or remove the line".to_owned()
                }
                _ => plain(&error),
            });
        }
        Ok(())
    }
}

/// clap's message in one line, without its introduction and its hints.
pub(super) fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let text = lines.join(" ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

fn text(setting: &Setting, given: &Given) -> Result<String, String> {
    let Setting { name, kind, many, .. } = setting;
    let wrong = |remedy: String| Err(format!("{name} is not {}: {remedy}", given.describe()));
    match (kind, given) {
        (_, Given::List(_)) if !many => wrong(format!("it takes one value, as {name} = {}", sample(setting))),
        (ValueKind::Number | ValueKind::Text, Given::Number(number)) => Ok(number.clone()),
        (ValueKind::Text | ValueKind::Switch, Given::Text(text)) => Ok(text.clone()),
        (ValueKind::Switch, Given::Bool(on)) => Ok(if *on { "on" } else { "off" }.to_owned()),
        (ValueKind::Flag, Given::Bool(value)) => Ok(value.to_string()),
        (ValueKind::Number, Given::Text(text)) if text.parse::<u64>().is_ok() => {
            wrong(format!("write {name} = {text}, without quotes"))
        }
        (ValueKind::Number, _) => wrong(format!("write a number without quotes, as {name} = {}", sample(setting))),
        (ValueKind::Text, _) => wrong(format!("write it in quotes, as {name} = {}", sample(setting))),
        (ValueKind::Switch, _) => {
            wrong(format!("write {name} = \"on\" or {name} = \"off\" instead of {}", given.written()))
        }
        (ValueKind::Flag, _) => wrong(format!("write {name} = true instead of {}", given.written())),
    }
}

/// A value of the setting as it is written in the file.
fn sample(setting: &Setting) -> String {
    let value = setting.default.as_deref().unwrap_or(&setting.value_name);
    match setting.kind {
        ValueKind::Number => value.to_owned(),
        ValueKind::Text | ValueKind::Switch => format!("{value:?}"),
        ValueKind::Flag => "true".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::RoleName;
    use super::*;
    use serde_json::json;

    fn texts(name: &str, value: serde_json::Value) -> Result<Vec<String>, String> {
        let catalog = Catalog::of(RoleName::Gateway);
        catalog.texts(catalog.find(name).unwrap(), &Given::from(&value))
    }

    #[test]
    fn values_become_the_text_of_the_flag() {
        let ok = |texts: &[&str]| Ok(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(texts("hold", json!("20us")), ok(&["20us"]));
        assert_eq!(texts("lcores", json!(2)), ok(&["2"]));
        assert_eq!(texts("early", json!(false)), ok(&["off"]));
        assert_eq!(texts("early", json!("on")), ok(&["on"]));
        assert_eq!(texts("port", json!(["udp:127.0.0.1:1", "eth0"])), ok(&["udp:127.0.0.1:1", "eth0"]));
        assert_eq!(texts("port", json!("eth0")), ok(&["eth0"]));
        assert_eq!(texts("port", json!([])), ok(&[]));
        assert_eq!(texts("mtu", json!(9000)), ok(&["9000"]));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        for (name, value, part) in [
            ("hold", json!(50), "\"50\" is not a duration: write a number and ns, us, ms or s"),
            ("hold", json!(true), "hold is not true or false: write it in quotes, as hold = \"50us\""),
            ("hold", json!(["1us"]), "hold is not a list: it takes one value"),
            ("hold", json!(0.5), "hold is not a fraction"),
            ("mtu", json!("1500"), "write mtu = 1500, without quotes"),
            ("mtu", json!("large"), "write a number without quotes, as mtu = BYTES"),
            ("mtu", json!(70_000), "70000 is not a value of mtu: write a whole number from 0 to 65535"),
            ("early", json!("maybe"), "invalid value 'maybe'"),
            ("early", json!(1), "write early = \"on\" or early = \"off\" instead of 1"),
            ("port", json!(["udp:9999"]), "write udp:ADDR:PORT"),
            ("port", json!([["eth0"]]), "port is not a list"),
            ("port", json!({"a": 1}), "port is not an object"),
        ] {
            let error = texts(name, value.clone()).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{name} = {value}: {error}");
        }
    }
}
