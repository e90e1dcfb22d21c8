//! What a client asks of a capture.

use crate::error::{ApiError, Code};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which way through the ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What is received.
    Rx,
    /// What is sent.
    Tx,
    /// All.
    #[default]
    Both,
}

/// The body of `POST /v1/capture`; all of it may be left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureOrder {
    /// The filter for datagrams; empty for all.
    pub filter: String,
    /// Only this port.
    pub port: Option<u8>,
    /// Only this direction.
    pub direction: Direction,
    /// How many bytes of each datagram are captured.
    pub snaplen: u32,
    /// The capture ends after this many datagrams.
    pub count: Option<u64>,
    /// The capture ends after this many milliseconds.
    pub duration_ms: Option<u64>,
}

impl Default for CaptureOrder {
    fn default() -> Self {
        let direction = Direction::default();
        Self { filter: String::new(), port: None, direction, snaplen: 65_535, count: None, duration_ms: None }
    }
}

/// What `POST /v1/capture/stop` answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether a capture was running.
    pub stopped: bool,
}

impl CaptureOrder {
    /// Whether this process, which has this many ports, can run this capture.
    ///
    /// # Errors
    /// The error has [`Code::BadValue`]: the process has no such port, or `snaplen` is not from 1 to 65535.
    pub fn check(&self, ports: usize) -> Result<(), ApiError> {
        match self.port {
            Some(port) if usize::from(port) >= ports => Err(ApiError::new(
                Code::BadValue,
                format!("there is no port {port}"),
                format!("the process has {ports}, counted from 0"),
            )),
            _ if self.snaplen == 0 || self.snaplen > 65_535 => Err(ApiError::new(
                Code::BadValue,
                format!("a snaplen of {} bytes", self.snaplen),
                "give 1 to 65535; 23 shows the first record's header",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_everything() {
        let order: CaptureOrder = serde_json::from_str("{}").unwrap();
        assert_eq!((order.direction, order.snaplen, order.port), (Direction::Both, 65_535, None));
        assert!(serde_json::from_str::<CaptureOrder>(r#"{"fliter": "up"}"#).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let order = CaptureOrder { port: Some(2), ..CaptureOrder::default() };
        assert!(order.check(2).unwrap_err().message.contains("no port 2") && order.check(3).is_ok());
        assert!(CaptureOrder { snaplen: 0, ..CaptureOrder::default() }.check(1).is_err());
    }
}
