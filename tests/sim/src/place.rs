//! The address of every machine, which follows from its kind and number.

use frame::{Peer, PortId, Vlan};
use port::headers::Local;
use std::fmt;
use wire::GATEWAY_PORT;

/// A machine of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A master, counted from 0; its id on the wire is one more.
    Master(u16),
    /// A farm of slaves.
    Farm(u16),
    /// A gateway process.
    Gateway(u16),
    /// A machine that does not belong to the cluster.
    Stranger,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(i) => write!(f, "master {i}"),
            Self::Farm(i) => write!(f, "farm {i}"),
            Self::Gateway(i) => write!(f, "gateway {i}"),
            Self::Stranger => f.write_str("stranger"),
        }
    }
}

/// One port of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The machine.
    pub who: Who,
    /// Which of its ports.
    pub port: u8,
}

impl Place {
    /// The first port of a machine.
    pub const fn first(who: Who) -> Self {
        Self { who, port: 0 }
    }

    /// Its IP address.
    pub fn ip(self) -> [u8; 4] {
        let (net, number) = match self.who {
            Who::Master(i) => (1, i),
            Who::Farm(i) => (2, i),
            Who::Gateway(i) => (3 + self.port, i),
            Who::Stranger => (9, 0),
        };
        let [low, high] = number.to_le_bytes();
        [10, net, high, low]
    }

    /// The machine that has an IP address, if any.
    pub fn of(ip: [u8; 4]) -> Option<Self> {
        let [10, net, high, low] = ip else { return None };
        let number = u16::from_le_bytes([low, high]);
        let (who, port) = match net {
            1 => (Who::Master(number), 0),
            2 => (Who::Farm(number), 0),
            3 | 4 => (Who::Gateway(number), net - 3),
            9 if number == 0 => (Who::Stranger, 0),
            _ => return None,
        };
        Some(Self { who, port })
    }

    /// Its Ethernet address.
    pub fn mac(self) -> [u8; 6] {
        let [a, b, c, d] = self.ip();
        [2, 0, a, b, c, d]
    }

    /// The addresses that its port answers to.
    pub fn local(self) -> Local {
        Local { mac: self.mac(), ip: self.ip(), udp_port: GATEWAY_PORT }
    }

    /// Its peer, as seen by machines with one port.
    pub fn peer(self, vlan: Vlan) -> Peer {
        Peer::ipv4(PortId(0), self.ip(), GATEWAY_PORT, vlan, self.mac())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_to_their_places() {
        let all = [Who::Master(0), Who::Farm(300), Who::Gateway(2), Who::Stranger].map(Place::first);
        for place in all.into_iter().chain([Place { who: Who::Gateway(2), port: 1 }]) {
            assert_eq!(Place::of(place.ip()), Some(place));
        }
        assert_eq!((Place::of([192, 0, 2, 1]), Place::of([10, 7, 0, 0])), (None, None));
    }
}
