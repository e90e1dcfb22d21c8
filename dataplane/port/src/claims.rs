//! What the queues of a raw port take beside packets to their own UDP port.

/// The UDP ports of the lcores of a process, when each lcore has one: a row of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LcorePorts {
    /// The UDP port of lcore 0.
    pub first: u16,
    /// How many lcores there are.
    pub lcores: u16,
    /// The lcore that polls the queue.
    pub own: u16,
}

impl LcorePorts {
    /// The UDP port of this lcore.
    pub const fn udp_port(&self) -> u16 {
        self.first.wrapping_add(self.own)
    }

    /// The lcore whose UDP port this is, if it is another one.
    pub const fn other(&self, udp_port: u16) -> Option<u16> {
        let lcore = udp_port.wrapping_sub(self.first);
        if lcore < self.lcores && lcore != self.own { Some(lcore) } else { None }
    }

    /// The lcore for which an Ethernet frame is, if it is another one.
    pub fn other_of(&self, frame: &[u8]) -> Option<u16> {
        // After the Ethernet header, with or without a tag, and an IPv4 header without options.
        let at = if frame.get(12..14) == Some(&[0x81, 0]) { 40 } else { 36 };
        frame.get(at..).and_then(<[u8]>::first_chunk).and_then(|port| self.other(u16::from_be_bytes(*port)))
    }
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// RoCEv2, with [`frame::Peer::ROCE`] in [`frame::Peer::local`].
    pub roce: bool,
    /// Packets of other lcores, with their number in [`frame::Peer::lcore`].
    pub lcores: Option<LcorePorts>,
}

impl Claims {
    /// RoCEv2 alone.
    pub const ROCE: Self = Self { roce: true, lcores: None };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_port_belongs_to_one_lcore() {
        let ports = LcorePorts { first: 9999, lcores: 3, own: 1 };
        assert_eq!(ports.udp_port(), 10_000);
        let others: Vec<_> = (9998..10_003).map(|port| ports.other(port)).collect();
        assert_eq!(others, [None, Some(0), None, Some(2), None]);
    }
}
