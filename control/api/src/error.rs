//! What the control socket answers when it cannot do what was asked: always a code, a message and a remedy.

use serde::{Deserialize, Serialize};

/// Why a request failed, for programs. The status follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not what its route takes.
    BadRequest,
    /// There is no such route.
    NotFound,
    /// The route does not know the method.
    MethodNotAllowed,
    /// This role does not have what was asked for.
    WrongRole,
    /// There is no such setting.
    UnknownSetting,
    /// The setting does not take this value.
    BadValue,
    /// The setting does not change while the process runs.
    NeedsRestart,
    /// The configuration file cannot be used; nothing was changed.
    BadFile,
    /// Somebody else does something that only one client can do at a time.
    Busy,
    /// The process is about to end.
    Ending,
    /// A fault of gvm-dp.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BadRequest,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::WrongRole,
        Self::UnknownSetting,
        Self::BadValue,
        Self::NeedsRestart,
        Self::BadFile,
        Self::Busy,
        Self::Ending,
        Self::Internal,
    ];

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound | Self::WrongRole | Self::UnknownSetting => 404,
            Self::MethodNotAllowed => 405,
            Self::NeedsRestart | Self::Busy => 409,
            Self::BadValue | Self::BadFile => 422,
            Self::Internal => 500,
            Self::Ending => 503,
        }
    }

    /// Whether the fault is in what the user typed or wrote into the file.
    pub const fn is_usage(self) -> bool {
        matches!(self, Self::BadRequest | Self::UnknownSetting | Self::BadValue | Self::NeedsRestart | Self::BadFile)
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl ApiError {
    /// An error of this kind.
    pub fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into() }
    }

    /// The control thread no longer answers.
    pub fn ending() -> Self {
        Self::new(Code::Ending, "the process is about to end", "start it again, then ask")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        let document = include_str!("../../../docs/troubleshooting.md");
        for code in Code::ALL {
            let name = serde_json::to_value(code).unwrap();
            let name = format!("`{}`", name.as_str().unwrap());
            assert!(document.contains(&name), "docs/troubleshooting.md does not explain {name}");
        }
    }

    #[test]
    fn every_code_is_an_error_and_has_a_name() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{code:?}");
            let name = serde_json::to_value(code).unwrap();
            assert_eq!(serde_json::from_value::<Code>(name).unwrap(), code);
        }
    }
}
