//! Flow rules of a NIC: packets to a UDP port come to one receive queue, whatever RSS would choose. `ethtool -N` sets
//! the same rules.
//!
//! A process that is killed leaves its rules behind. The next one with the same ports finds and keeps them.

use crate::xdp::interface::asking_socket;
use crate::xdp::number::by_name;
use crate::xdp::offload::ethtool;
use crate::xdp::{Interface, XdpError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const ETHTOOL_GRXCLSRLCNT: u32 = 0x2e;
const ETHTOOL_GRXCLSRULE: u32 = 0x2f;
const ETHTOOL_GRXCLSRLALL: u32 = 0x30;
const ETHTOOL_SRXCLSRLDEL: u32 = 0x31;
const ETHTOOL_SRXCLSRLINS: u32 = 0x32;
const UDP_V4_FLOW: u32 = 2;
/// In the answer about the number of rules: the driver chooses locations itself.
const RX_CLS_LOC_SPECIAL: u64 = 0x8000_0000;
const RX_CLS_LOC_ANY: u32 = 0xffff_ffff;

/// The most rules of a NIC that are looked through.
const MOST_RULES: u32 = 65_536;

/// `struct ethtool_rxnfc` in words. Two words are one number of 64 bits.
mod word {
    pub(super) const CMD: usize = 0;
    pub(super) const DATA: usize = 2;
    pub(super) const FLOW_TYPE: usize = 4;
    /// The source and the destination port of the header, then of the mask.
    pub(super) const PORTS: usize = 7;
    pub(super) const PORTS_MASK: usize = 25;
    pub(super) const RING: usize = 42;
    pub(super) const LOCATION: usize = 44;
    pub(super) const RULE_COUNT: usize = 46;
    /// As many as there are rules.
    pub(super) const RULE_LOCATIONS: usize = 47;
    pub(super) const ALL: usize = 48;
}

/// A destination port, with the source port before it, as the kernel has both in one word.
fn destination(udp_port: u16) -> u32 {
    let [a, b] = udp_port.to_be_bytes();
    u32::from_ne_bytes([0, 0, a, b])
}

/// The words of a command.
fn command(cmd: u32, rules: usize) -> Vec<u32> {
    let mut words = vec![0; word::ALL + rules];
    words[word::CMD] = cmd;
    words
}

fn long(words: &[u32], at: usize) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (words[at].to_ne_bytes(), words[at + 1].to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The rule that sends packets to a UDP port to a queue.
fn rule(udp_port: u16, queue: u32, location: u32) -> Vec<u32> {
    let mut words = command(ETHTOOL_SRXCLSRLINS, 0);
    words[word::FLOW_TYPE] = UDP_V4_FLOW;
    words[word::PORTS] = destination(udp_port);
    words[word::PORTS_MASK] = destination(u16::MAX);
    let [a, b, c, d, e, f, g, h] = u64::from(queue).to_ne_bytes();
    words[word::RING] = u32::from_ne_bytes([a, b, c, d]);
    words[word::RING + 1] = u32::from_ne_bytes([e, f, g, h]);
    words[word::LOCATION] = location;
    words
}

/// Whether two rules do the same, wherever they are.
fn is_same(one: &[u32], other: &[u32]) -> bool {
    one[word::FLOW_TYPE..word::LOCATION] == other[word::FLOW_TYPE..word::LOCATION]
}

/// Rules that were set. Dropping this removes them.
pub struct FlowRules {
    socket: OwnedFd,
    index: u32,
    /// Where in the NIC they are.
    locations: Vec<u32>,
}

impl FlowRules {
    /// Sends packets to `lcores` UDP ports in a row, from `first` on, to the queues from 0 on. All rules are set, or
    /// none.
    ///
    /// # Errors
    /// The driver has no such rules (`EOPNOTSUPP`), they are turned off (`ethtool -K IFACE ntuple on`), or there is no
    /// room for them.
    pub fn set(interface: &Interface, first: u16, lcores: u16) -> Result<Self, XdpError> {
        let failed = |action| move |source| XdpError::Os { ifname: interface.name.clone(), action, source };
        let socket = asking_socket().map_err(failed("make a socket"))?;
        let mut rules = Self { socket, index: interface.index, locations: Vec::new() };
        let table = rules.table().map_err(failed("read its flow rules"))?;
        for lcore in 0..lcores {
            // What is set already is removed when this is dropped.
            rules.add(&table, first.wrapping_add(lcore), lcore.into()).map_err(failed("set a flow rule"))?;
        }
        Ok(rules)
    }

    fn add(&mut self, table: &RuleTable, udp_port: u16, queue: u32) -> io::Result<()> {
        let location = match table.chooses {
            true => RX_CLS_LOC_ANY,
            false => table.free(&self.locations).ok_or(io::ErrorKind::StorageFull)?,
        };
        let mut words = rule(udp_port, queue, location);
        if let Some((location, _)) = table.rules.iter().find(|(_, known)| is_same(known, &words)) {
            self.locations.push(*location);
            return Ok(());
        }
        self.call(&mut words)?;
        // A driver that chooses has written its choice there.
        self.locations.push(words[word::LOCATION]);
        Ok(())
    }

    /// The rules that there are.
    fn table(&self) -> io::Result<RuleTable> {
        let mut words = command(ETHTOOL_GRXCLSRLCNT, 0);
        self.call(&mut words)?;
        let chooses = long(&words, word::DATA) & RX_CLS_LOC_SPECIAL != 0;
        let count = words[word::RULE_COUNT].min(MOST_RULES);
        let mut words = command(ETHTOOL_GRXCLSRLALL, count as usize);
        words[word::RULE_COUNT] = count;
        self.call(&mut words)?;
        let size = u32::try_from(long(&words, word::DATA) & !RX_CLS_LOC_SPECIAL).unwrap_or(u32::MAX);
        let locations = words.iter().skip(word::RULE_LOCATIONS).take(count as usize);
        let rules = locations.filter_map(|location| {
            let mut words = command(ETHTOOL_GRXCLSRULE, 0);
            words[word::LOCATION] = *location;
            // Another program may have removed it meanwhile.
            self.call(&mut words).ok().map(|()| (*location, words))
        });
        Ok(RuleTable { chooses, size, rules: rules.collect() })
    }

    fn call(&self, words: &mut [u32]) -> io::Result<()> {
        by_name(self.socket.as_fd(), self.index, |name| {
            // SAFETY: the kernel writes no more than the structure, and as many locations behind it as the count in it
            // says, for which there is room.
            unsafe { ethtool(self.socket.as_fd(), name, words) }
        })
    }
}

impl Drop for FlowRules {
    fn drop(&mut self) {
        for location in std::mem::take(&mut self.locations) {
            let mut words = command(ETHTOOL_SRXCLSRLDEL, 0);
            words[word::LOCATION] = location;
            match self.call(&mut words) {
                Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                    tracing::warn!(
                        "flow rule {location} stays: {error}; `ethtool -N IFACE delete {location}` removes it"
                    );
                }
                _ => {}
            }
        }
    }
}

/// The rules of a NIC.
struct RuleTable {
    /// The driver chooses locations itself.
    chooses: bool,
    /// How many locations there are.
    size: u32,
    /// With their locations.
    rules: Vec<(u32, Vec<u32>)>,
}

impl RuleTable {
    /// The last free location: earlier ones go before later ones, and these rules need no precedence.
    fn free(&self, also_used: &[u32]) -> Option<u32> {
        let is_used =
            |location: &u32| also_used.contains(location) || self.rules.iter().any(|(used, _)| used == location);
        (0..self.size).rev().find(|location| !is_used(location))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_laid_out_as_the_kernel_reads_it() {
        let bytes: Vec<u8> = rule(9999, 3, 7).iter().flat_map(|word| word.to_ne_bytes()).collect();
        // linux/ethtool.h: `ethtool_rxnfc` has the flow specification at 16; that has the header at 4, the mask at 76,
        // the ring at 152 and the location at 160. `ethtool_tcpip4_spec` has the destination port at 10.
        assert_eq!(bytes.len(), 192);
        assert_eq!(bytes[..4], 0x32_u32.to_ne_bytes());
        assert_eq!(bytes[16..20], 2_u32.to_ne_bytes());
        assert_eq!((&bytes[16 + 4 + 10..][..2], &bytes[16 + 76 + 10..][..2]), (&[0x27, 0x0f][..], &[0xff, 0xff][..]));
        assert_eq!(bytes[16 + 152..][..8], 3_u64.to_ne_bytes());
        assert_eq!(bytes[16 + 160..][..4], 7_u32.to_ne_bytes());
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 8);
    }

    #[test]
    fn free_locations_are_taken_from_the_end_and_equal_rules_are_known() {
        let table = RuleTable { chooses: false, size: 4, rules: vec![(3, rule(1, 0, 3)), (0, rule(9999, 1, 0))] };
        assert_eq!((table.free(&[]), table.free(&[2]), table.free(&[1, 2])), (Some(2), Some(1), None));
        assert!(is_same(&table.rules[1].1, &rule(9999, 1, RX_CLS_LOC_ANY)));
        assert!(!is_same(&table.rules[1].1, &rule(9999, 0, 0)) && !is_same(&table.rules[1].1, &rule(9998, 1, 0)));
    }

    #[test]
    fn an_interface_without_rules_says_so() {
        let lo = Interface::find("lo").unwrap();
        let Err(XdpError::Os { ifname, source, .. }) = FlowRules::set(&lo, 9999, 2) else { panic!("lo has no rules") };
        // Without privileges the kernel refuses earlier.
        assert_eq!(ifname, "lo");
        assert!(matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)), "{source}");
    }
}
