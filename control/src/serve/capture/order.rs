//! What a client asks of a capture.

use super::super::error::{ApiError, Code};
use clap::ValueEnum;
use frame::PortId;
use lcore::tap::TapConfig;
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
    /// Which datagrams; empty for all.
    pub filter: String,
    /// Only this port.
    pub port: Option<u8>,
    /// Only this way.
    pub direction: Direction,
    /// Bytes of each datagram.
    pub snaplen: u32,
    /// Ends after so many datagrams.
    pub count: Option<u64>,
    /// Ends after so many milliseconds.
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
    /// Whether a capture ran.
    pub stopped: bool,
}

/// Bytes that all taps of a capture together copy into.
const MEMORY: usize = 32 << 20;

/// Datagrams that may wait for the capture in one lcore.
const SLOTS: std::ops::RangeInclusive<usize> = 256..=8192;

/// What a slot takes beside the bytes that it copies.
const SLOT: usize = 128;

impl CaptureOrder {
    /// Whether this process, which has so many ports, can do it.
    pub(super) fn check(&self, ports: usize) -> Result<(), ApiError> {
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

    /// Taps for so many lcores, whose ports send IP packets of up to `mtu` bytes.
    pub(super) fn taps(&self, lcores: usize, mtu: u16) -> TapConfig {
        // A frame has no room for more.
        let longest = usize::from(mtu).next_power_of_two().max(2048);
        let snaplen = (self.snaplen as usize).min(longest);
        let slots = MEMORY / lcores.max(1) / (snaplen + SLOT);
        TapConfig {
            slots: slots.clamp(*SLOTS.start(), *SLOTS.end()),
            snaplen,
            rx: self.direction != Direction::Tx,
            tx: self.direction != Direction::Rx,
            port: self.port.map(PortId),
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
    fn memory_is_bounded_whatever_is_asked() {
        for (snaplen, lcores, mtu) in [(65_535, 1, 1500), (23, 1, 1500), (65_535, 64, 9000), (1, 1, u16::MAX)] {
            let order = CaptureOrder { snaplen, ..CaptureOrder::default() };
            let taps = order.taps(lcores, mtu);
            let bytes = lcores * taps.slots * (taps.snaplen + SLOT);
            assert!(bytes <= MEMORY || taps.slots == *SLOTS.start(), "{bytes}");
            assert!(SLOTS.contains(&taps.slots) && taps.snaplen <= 65_536, "{taps:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let order = CaptureOrder { port: Some(2), ..CaptureOrder::default() };
        assert!(order.check(2).unwrap_err().message.contains("no port 2") && order.check(3).is_ok());
        assert!(CaptureOrder { snaplen: 0, ..CaptureOrder::default() }.check(1).is_err());
    }
}
