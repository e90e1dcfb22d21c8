//! Addresses as people write them. The port may be left out.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Reads `ADDR` or `ADDR:PORT`. An IPv6 address needs brackets when a port follows; without a port it may omit them.
pub fn read(text: &str, port: u16) -> Option<SocketAddr> {
    let ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    text.parse().ok().or_else(|| ip(text))
}

/// As [`read`], but the name of a host may stand in the place of `ADDR`. Looking up a name may take a while.
pub fn resolve(text: &str, port: u16) -> Option<SocketAddr> {
    read(text, port).or_else(|| match text.contains(':') {
        true => text.to_socket_addrs().ok()?.next(),
        false => (text, port).to_socket_addrs().ok()?.next(),
    })
}
