//! Addresses as people write them, where the port may be left out.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Reads `ADDR` or `ADDR:PORT`; an IPv6 address stands in brackets before a port, and may without one.
pub fn read(text: &str, port: u16) -> Option<SocketAddr> {
    let ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    text.parse().ok().or_else(|| ip(text))
}

/// As [`read`], and with the name of a host in the place of `ADDR`, which may take the resolver a while.
pub fn resolve(text: &str, port: u16) -> Option<SocketAddr> {
    read(text, port).or_else(|| match text.contains(':') {
        true => text.to_socket_addrs().ok()?.next(),
        false => (text, port).to_socket_addrs().ok()?.next(),
    })
}
