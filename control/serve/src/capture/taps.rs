//! The taps of a capture: what each lcore copies. The memory of all taps together is bounded.

use api::capture::{CaptureOrder, Direction};
use frame::PortId;
use lcore::tap::TapConfig;

/// Bytes of memory for the copies of all taps of a capture.
const MEMORY: usize = 32 << 20;

/// How many datagrams may wait for the capture in one lcore.
const SLOTS: std::ops::RangeInclusive<usize> = 256..=8192;

/// Bytes of a slot in addition to its copy.
const SLOT: usize = 128;

/// Taps for this many lcores, whose ports send IP packets of up to `mtu` bytes.
pub(super) fn of(order: &CaptureOrder, lcores: usize, mtu: u16) -> TapConfig {
    // A frame cannot be longer.
    let longest = usize::from(mtu).next_power_of_two().max(2048);
    let snaplen = (order.snaplen as usize).min(longest);
    let slots = MEMORY / lcores.max(1) / (snaplen + SLOT);
    TapConfig {
        slots: slots.clamp(*SLOTS.start(), *SLOTS.end()),
        snaplen,
        rx: order.direction != Direction::Tx,
        tx: order.direction != Direction::Rx,
        port: order.port.map(PortId),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_whatever_is_asked() {
        for (snaplen, lcores, mtu) in [(65_535, 1, 1500), (23, 1, 1500), (65_535, 64, 9000), (1, 1, u16::MAX)] {
            let order = CaptureOrder { snaplen, ..CaptureOrder::default() };
            let taps = of(&order, lcores, mtu);
            let bytes = lcores * taps.slots * (taps.snaplen + SLOT);
            assert!(bytes <= MEMORY || taps.slots == *SLOTS.start(), "{bytes}");
            assert!(SLOTS.contains(&taps.slots) && taps.snaplen <= 65_536, "{taps:?}");
        }
    }
}
