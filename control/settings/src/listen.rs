//! Where a disk takes its clients, as text.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of NBD.
const PORT: u16 = 10_809;

/// Where clients connect: `unix:PATH` or `tcp:ADDR[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// A text that is not a [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an address for clients: write unix:PATH, as unix:/run/gvm-dp/disk.nbd, or tcp:ADDR:PORT")]
pub struct ListenAddressError(String);

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let fail = || ListenAddressError(text.to_owned());
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => common::address::read(address, PORT).map(Self::Tcp).ok_or_else(fail),
            _ => Err(fail()),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for (text, written) in [
            ("unix:/run/d", "unix:/run/d"),
            ("unix:a:b", "unix:a:b"),
            ("tcp:127.0.0.1:7", "tcp:127.0.0.1:7"),
            ("tcp:::1", "tcp:[::1]:10809"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), written);
        }
        for text in ["", "unix:", "tcp:", "tcp:host", "udp:127.0.0.1:1", "/run/d"] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains("write unix:PATH"), "{error}");
        }
    }
}
