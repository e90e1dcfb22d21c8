//! Ports that are sockets of the kernel.

use super::{SpecError, set_rate, write_rate};
use crate::rate::Rate;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Sockets of the kernel: `udp:ADDR:PORT[,rate=BITS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketSpec {
    /// Their address; the UDP port may be 0 for any.
    pub address: SocketAddr,
    /// The most that they send.
    pub rate: Option<Rate>,
}

impl FromStr for SocketSpec {
    type Err = SpecError;

    /// Reads the text after `udp:`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let whole = || format!("udp:{text}");
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or("").parse().map_err(|_| SpecError::Udp(whole()))?;
        let mut spec = Self { address, rate: None };
        for part in parts {
            match part.split_once('=') {
                Some(("rate", rate)) => set_rate(&mut spec.rate, rate)?,
                Some(("vlans", _)) => return Err(SpecError::UdpVlans(whole())),
                _ => return Err(SpecError::UdpOption(part.to_owned())),
            }
        }
        Ok(spec)
    }
}

impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp:{}", self.address)?;
        write_rate(self.rate, f)
    }
}
