//! The gateway of another shard, as text: `3=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03`.

use common::exit::Failure;
use ebpf::Neighbor;
use port::xdp::Interface;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use wire::Shard;
use wire::net::ethernet::MacText;

/// Where cargo goes if another gateway serves its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighborSpec {
    /// The shard.
    pub shard: Shard,
    /// The interface that leads to its gateway.
    pub ifname: String,
    /// The gateway's address.
    pub ip: Ipv4Addr,
    /// The Ethernet address of the next hop towards it.
    pub mac: [u8; 6],
}

/// Why a text does not name a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part} is wrong or missing: write SHARD=IFACE,ip=ADDR,mac=MAC, as in 3=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03"
)]
pub struct NeighborError {
    part: &'static str,
}

impl FromStr for NeighborSpec {
    type Err = NeighborError;

    fn from_str(text: &str) -> Result<Self, NeighborError> {
        let wrong = |part| NeighborError { part };
        let mut parts = text.split(',');
        let (shard, ifname) = parts.next().and_then(|part| part.split_once('=')).ok_or(wrong("SHARD=IFACE"))?;
        let shard = shard.parse().map(Shard).map_err(|_| wrong("the shard"))?;
        if !(1..=15).contains(&ifname.len()) {
            return Err(wrong("the interface"));
        }
        let (mut ip, mut mac) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("ip", value)) => ip = Some(value.parse().map_err(|_| wrong("the IPv4 address"))?),
                Some(("mac", value)) => mac = Some(read_mac(value).ok_or(wrong("the MAC"))?),
                _ => return Err(wrong("an option")),
            }
        }
        let (ip, mac) = (ip.ok_or(wrong("ip="))?, mac.ok_or(wrong("mac="))?);
        Ok(Self { shard, ifname: ifname.to_owned(), ip, mac })
    }
}

/// Six bytes in hexadecimal, with colons.
pub(crate) fn read_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // A group address is not the address of a host.
    (parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

impl fmt::Display for NeighborSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, ifname, ip, mac } = self;
        write!(f, "{}={ifname},ip={ip},mac={}", shard.0, MacText(*mac))
    }
}

impl NeighborSpec {
    /// The neighbour for the XDP program, with the kernel's data about the interface.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]: the interface does not exist here, or has no Ethernet headers.
    pub fn resolve(&self) -> Result<Neighbor, Failure> {
        let interface =
            Interface::find(&self.ifname).map_err(|error| Failure::Machine(format!("--neighbor {self}: {error}")))?;
        interface.check_ethernet().map_err(|error| {
            Failure::Machine(format!(
                "--neighbor {self}: {error}; name the Ethernet interface that leads to that gateway"
            ))
        })?;
        Ok(self.by(&interface))
    }

    /// The neighbour at a later time, and the current name of its interface. It follows the interface that led there
    /// `before`, even if that was renamed. Once that interface is gone, another one with its name takes its place;
    /// `None` until then.
    pub fn follow(&self, before: Option<&Neighbor>) -> Option<(String, Neighbor)> {
        let same = before.and_then(|before| Interface::numbered(before.ifindex).ok().flatten());
        let interface =
            same.or_else(|| Interface::find(&self.ifname).ok().filter(|now| now.check_ethernet().is_ok()))?;
        let neighbor = self.by(&interface);
        Some((interface.name, neighbor))
    }

    fn by(&self, interface: &Interface) -> Neighbor {
        Neighbor {
            shard: self.shard,
            ifindex: interface.index,
            src_mac: interface.mac,
            dst_mac: self.mac,
            dst_ip: self.ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_written_as_it_is_read() {
        let text = "3=eth1,ip=10.0.0.3,mac=02:00:00:0a:0b:03";
        let spec: NeighborSpec = text.parse().unwrap();
        assert_eq!((spec.shard, &*spec.ifname, spec.mac), (Shard(3), "eth1", [2, 0, 0, 10, 11, 3]));
        assert_eq!(spec.to_string(), text);
        assert_eq!("3=eth1,mac=02:00:00:0A:0b:03,ip=10.0.0.3".parse(), Ok(spec));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "SHARD=IFACE"),
            ("x=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03", "the shard"),
            ("3=,ip=10.0.0.3,mac=02:00:00:00:00:03", "the interface"),
            ("3=eth1,ip=10.0.0,mac=02:00:00:00:00:03", "the IPv4 address"),
            ("3=eth1,ip=10.0.0.3,mac=02:00:00:00:00", "the MAC"),
            ("3=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03:04", "the MAC"),
            ("3=eth1,ip=10.0.0.3,mac=ff:ff:ff:ff:ff:ff", "the MAC"),
            ("3=eth1,ip=10.0.0.3", "mac="),
            ("3=eth1,mac=02:00:00:00:00:03", "ip="),
            ("3=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03,x", "an option"),
        ] {
            let error = text.parse::<NeighborSpec>().unwrap_err();
            assert_eq!(error.part, part, "{text}");
            assert!(error.to_string().contains("as in 3=eth1,ip=10.0.0.3"));
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_the_flag() {
        let spec: NeighborSpec = "3=no-such-if,ip=10.0.0.3,mac=02:00:00:00:00:03".parse().unwrap();
        let complaint = spec.resolve().unwrap_err().to_string();
        assert!(complaint.contains("--neighbor 3=no-such-if") && complaint.contains("ip -brief link"), "{complaint}");
        assert_eq!(spec.follow(None), None);
    }

    #[test]
    fn an_interface_is_followed_by_its_number_and_not_by_its_name() {
        let spec: NeighborSpec = "3=lo,ip=10.0.0.3,mac=02:00:00:00:00:03".parse().unwrap();
        let known = spec.resolve().unwrap();
        let renamed = NeighborSpec { ifname: "no-such-if".to_owned(), ..spec };
        assert_eq!(renamed.follow(Some(&known)), Some(("lo".to_owned(), known)));
        let gone = Neighbor { ifindex: i32::MAX as u32, ..known };
        assert_eq!(renamed.follow(Some(&gone)), None);
    }
}
