//! `--metrics ADDR[:PORT]`.

use common::address;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The TCP port if none is written.
pub(crate) const DEFAULT_PORT: u16 = 9998;

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsAddress(pub SocketAddr);

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        address::read(text, DEFAULT_PORT).map(Self).ok_or_else(|| {
            format!(
                "\"{text}\" is not an address to listen on: write an address of this machine, with a TCP port if it is \
                 not {DEFAULT_PORT}, as 127.0.0.1 or 192.0.2.1:{DEFAULT_PORT} or [::]:{DEFAULT_PORT}"
            )
        })
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:9998"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("::1", "[::1]:9998"),
            ("[::]", "[::]:9998"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(text.parse::<MetricsAddress>().unwrap().to_string(), address);
        }
        for text in ["", "9998", "localhost", "127.0.0.1:x", ":9998"] {
            assert!(text.parse::<MetricsAddress>().unwrap_err().contains("as 127.0.0.1 or"), "{text}");
        }
    }
}
