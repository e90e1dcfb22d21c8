//! The failure domain of a node, and the speed of its link. A master should know both before it keeps two copies of
//! something on two nodes.

use crate::plan::PortPlan;
use host::machine;
use std::fmt;
use std::str::FromStr;
use wire::link::SpeedClass;

/// The kernel's id of this boot of this host. It is the same in all containers of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A failure domain, as `--domain` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The host on which the process runs.
    Auto,
    /// A number; 0 is unknown and means that each id has its own domain.
    Number(u32),
}

impl Domain {
    /// The number that is announced.
    pub fn number(self) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Auto => std::fs::read_to_string(BOOT_ID).map_or(0, |boot| of_boot(boot.trim())),
        }
    }
}

/// A number for a boot of a host; never 0.
fn of_boot(boot_id: &str) -> u32 {
    // FNV-1a, 32 bits. Among 10,000 hosts two have the same number with a probability of 1 %: masters then count them
    // as one.
    boot_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Number).map_err(|_| {
                format!(
                    "{text} is not a failure domain: write auto for one of each host, or a number up to {}",
                    u32::MAX
                )
            }),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// The speed of the link under a port, if the kernel knows it; `device_mbits` is the speed that DPDK reports for its
/// device.
pub fn speed_of(port: &PortPlan, device_mbits: Option<u64>) -> SpeedClass {
    let mbits = match port {
        PortPlan::Xdp(spec) => machine::mbits_of(&spec.ifname),
        PortPlan::Udp(spec) => {
            let interfaces = machine::interfaces();
            let under = interfaces.iter().find(|interface| interface.addresses.contains(&spec.address.ip()));
            under.and_then(|interface| machine::mbits_of(&interface.name))
        }
        PortPlan::Dpdk(_) => device_mbits.and_then(|mbits| u32::try_from(mbits).ok()),
    };
    SpeedClass::of_mbit(mbits.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_number_or_that_of_the_host() {
        assert_eq!("auto".parse(), Ok(Domain::Auto));
        assert_eq!("7".parse(), Ok(Domain::Number(7)));
        for text in ["", "-1", "4294967296", "host"] {
            assert!(text.parse::<Domain>().unwrap_err().contains("write auto"), "{text}");
        }
        assert_eq!((Domain::Number(0).number(), Domain::Number(9).number()), (0, 9));
        assert_ne!(Domain::Auto.number(), 0, "this host has a boot id");
        assert_eq!(Domain::Auto.number(), Domain::Auto.number());
    }

    #[test]
    fn boots_have_numbers_of_their_own() {
        let boots = ["5f8f1e0c-3f4d-4a58-9d51-0c8a3d0a7c11", "5f8f1e0c-3f4d-4a58-9d51-0c8a3d0a7c12", ""];
        let numbers = boots.map(of_boot);
        assert!(numbers[0] != numbers[1] && numbers.iter().all(|number| *number != 0), "{numbers:?}");
    }

    #[test]
    fn loopback_has_no_speed() {
        let udp = |text: &str| PortPlan::Udp(text.parse().unwrap());
        assert_eq!(speed_of(&udp("127.0.0.1:0"), None), SpeedClass::UNKNOWN);
        assert_eq!(speed_of(&udp("192.0.2.77:0"), None), SpeedClass::UNKNOWN, "no interface has it");
    }
}
