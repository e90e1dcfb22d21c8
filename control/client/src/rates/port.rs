//! The traffic of one lcore's queue of a port.

use super::span::{Counters, Span, value};
use api::stats::{PortStats, Stats};

/// Whether packets can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortLink {
    /// The interface is up.
    Up,
    /// The interface is down.
    Down,
    /// The interface has vanished.
    Gone,
    /// The kernel does not say: a socket.
    Unknown,
}

impl PortLink {
    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "DOWN",
            Self::Gone => "GONE",
            Self::Unknown => "-",
        }
    }
}

/// How full a ring is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RingFill {
    /// Share of the ring that is in use, now or at most.
    pub share: f64,
    /// Entries in use.
    pub used: u64,
}

/// One lcore's queue of a port between two samples.
#[derive(Clone, Debug)]
pub struct PortRates {
    /// Which port.
    pub id: u8,
    /// Which lcore.
    pub lcore: u16,
    /// What it is: `udp:ADDR:PORT` or `xdp:IFACE queue N`.
    pub name: String,
    /// How it works: kernel socket, zero-copy, copy mode.
    pub mode: String,
    /// Whether packets can pass.
    pub link: PortLink,
    /// Packets received per second.
    pub rx: f64,
    /// Packets sent per second.
    pub tx: f64,
    /// Packets lost or dropped on the way in, per second.
    pub rx_lost: f64,
    /// Packets dropped on the way out, per second.
    pub tx_lost: f64,
    /// How often the TX ring or the send buffer was full, per second.
    pub tx_full: f64,
    /// The highest fill of its RX ring. Only NIC queues have one.
    pub rx_ring: Option<RingFill>,
    /// The fill of its TX ring. Only NIC queues have one.
    pub tx_ring: Option<RingFill>,
    /// Its losses and drops by counter: the rate per second, and the total since the start. Counters that are zero are
    /// left out.
    pub losses: Vec<(String, f64, u64)>,
}

impl PortRates {
    pub(super) fn all(before: Option<&Stats>, now: &Stats, span: Span) -> Vec<Self> {
        let mut rates = Vec::new();
        for lcore in &now.lcores {
            let earlier = before.and_then(|before| before.lcores.iter().find(|other| other.index == lcore.index));
            for port in &lcore.ports {
                let before = earlier.and_then(|before| before.ports.iter().find(|before| before.id == port.id));
                let ring = now.interfaces.iter().find(|interface| interface.port == port.id).map(|nic| nic.ring);
                rates.push(Self::new(lcore.index, before, port, ring, span));
            }
        }
        rates
    }

    fn new(lcore: u16, before: Option<&PortStats>, now: &PortStats, ring: Option<u32>, span: Span) -> Self {
        let rate = |name: &str| span.of(before.map(|before| &before.counters), &now.counters, name);
        let losses: Vec<_> = now
            .counters
            .iter()
            .filter(|(name, total)| is_loss(name) && **total > 0)
            .map(|(name, total)| (name.clone(), rate(name), *total))
            .collect();
        let lost = |way: &str| losses.iter().filter(|(name, ..)| name.starts_with(way)).map(|(_, rate, _)| rate).sum();
        let (name, about) = now.description.split_once(" (").unwrap_or((&now.description, ""));
        let fill = |counter: &str| {
            let used = now.counters.get(counter)?;
            Some(RingFill { share: *used as f64 / f64::from(ring.filter(|ring| *ring > 0)?), used: *used })
        };
        Self {
            id: now.id,
            lcore,
            name: name.to_owned(),
            mode: about.split([',', ')']).next().unwrap_or_default().to_owned(),
            link: link(&now.counters),
            rx: rate("rx_packets") + rate("rx_datagrams"),
            tx: rate("tx_packets") + rate("tx_datagrams"),
            rx_lost: lost("rx_"),
            tx_lost: lost("tx_"),
            tx_full: rate("tx_full"),
            rx_ring: fill("rx_ring_max"),
            tx_ring: fill("tx_frames"),
            losses,
        }
    }
}

/// Whether a counter of a port counts packets that were lost.
fn is_loss(name: &str) -> bool {
    name.contains("_dropped_") || name.starts_with("rx_lost") || name.ends_with("_bad_descriptors")
}

fn link(counters: &Counters) -> PortLink {
    match counters.get("link_up") {
        None => PortLink::Unknown,
        Some(_) if value(counters, "vanished") > 0 => PortLink::Gone,
        Some(0) => PortLink::Down,
        Some(_) => PortLink::Up,
    }
}
