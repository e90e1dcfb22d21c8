//! Ports that are named by their device: a PCI address, `dpdk:` with one, or a virtual device of DPDK.

use super::{PciAddress, SpecError, set_rate, write_rate, write_vlans};
use crate::host::{HostConfig, HostError, Ipv4Net};
use crate::rate::Rate;
use crate::vlans::Vlans;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The network settings of a port without a kernel behind it: `,ip=ADDR/BITS` (several), `,gw=ADDR`, `,mtu=BYTES`,
/// `,vlans=LIST`, `,rate=BITS`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct HostSpec {
    /// Its addresses.
    pub addresses: Vec<Ipv4Net>,
    /// The gateway for everything beyond its subnets.
    pub gateway: Option<Ipv4Addr>,
    /// The largest IP packet of its link, in bytes.
    pub mtu: Option<u16>,
    /// The VLANs that it takes packets from.
    pub vlans: Vlans,
    /// The most that it sends.
    pub rate: Option<Rate>,
}

/// The sizes that a link's largest IP packet may have, in bytes: the largest fits the largest frame.
pub const MTUS: std::ops::RangeInclusive<u16> = wire::MIN_MTU..=32_000;

/// The default size of the largest IP packet of a socket: that of Ethernet.
pub const SOCKET_MTU: u16 = 1500;

impl HostSpec {
    /// Whether all settings that a kernel would provide are absent; VLANs and a rate do not count.
    pub fn is_empty(&self) -> bool {
        *self == Self { vlans: self.vlans.clone(), rate: self.rate, ..Self::default() }
    }

    /// Takes one option, if it is of this kind.
    fn take(&mut self, option: &str) -> Result<bool, SpecError> {
        match option.split_once('=') {
            Some(("ip", net)) => self.addresses.push(net.parse().map_err(SpecError::Ip)?),
            Some(("gw", address)) => {
                let gateway = address.parse().map_err(|_| SpecError::Gateway(address.to_owned()))?;
                if self.gateway.replace(gateway).is_some() {
                    return Err(SpecError::Twice("gw"));
                }
            }
            Some(("mtu", mtu)) => {
                let digits = mtu.bytes().all(|b| b.is_ascii_digit());
                let bytes = mtu.parse().ok().filter(|bytes| digits && MTUS.contains(bytes));
                if self.mtu.replace(bytes.ok_or_else(|| SpecError::Mtu(mtu.to_owned()))?).is_some() {
                    return Err(SpecError::Twice("mtu"));
                }
            }
            Some(("vlans", vlans)) => self.vlans = vlans.parse()?,
            Some(("rate", rate)) => set_rate(&mut self.rate, rate)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The settings for the host of the port. `name` is the port's, for the log and for errors.
    ///
    /// # Errors
    /// There is not an address, one is given twice, or the gateway is in no subnet of them.
    pub fn config(&self, name: &str, mac: [u8; 6]) -> Result<HostConfig, HostError> {
        let gateway = self.gateway.map(|gateway| gateway.octets());
        let (addresses, vlans) = (self.addresses.clone(), self.vlans.clone());
        let config = HostConfig { name: name.to_owned(), mac, addresses, gateway, vlans };
        config.check()?;
        Ok(config)
    }
}

impl fmt::Display for HostSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addresses.iter().try_for_each(|net| write!(f, ",ip={net}"))?;
        if let Some(gateway) = self.gateway {
            write!(f, ",gw={gateway}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, ",mtu={mtu}")?;
        }
        write_vlans(&self.vlans, f)?;
        write_rate(self.rate, f)
    }
}

/// A PCI device, used as its driver allows: `0000:01:00.0[,ip=10.0.0.2/24][,gw=10.0.0.1][,mtu=9000][,vlans=10]`, and
/// `[,rate=10G]`. With a network driver of the kernel, it has the addresses of its interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PciSpec {
    /// The device.
    pub device: PciAddress,
    /// Its network, if no kernel is behind it.
    pub host: HostSpec,
}

impl FromStr for PciSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split(',');
        let device = parts.next().unwrap_or("").parse()?;
        let mut host = HostSpec::default();
        for part in parts {
            if !host.take(part)? {
                return Err(SpecError::DeviceOption(part.to_owned()));
            }
        }
        Ok(Self { device, host })
    }
}

impl fmt::Display for PciSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.device, self.host)
    }
}

/// A device that DPDK drives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DpdkDevice {
    /// A PCI device.
    Pci(PciAddress),
    /// A virtual device by its name: `net_` and its kind.
    Vdev(String),
}

impl fmt::Display for DpdkDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(device) => device.fmt(f),
            Self::Vdev(name) => f.write_str(name),
        }
    }
}

/// A port through DPDK: `dpdk:DEVICE[,ip=10.0.0.2/24][,gw=10.0.0.1][,mtu=9000][,vlans=10][,rate=10G][,ARGUMENT...]`.
/// All other arguments after the device are for its driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DpdkSpec {
    /// The device.
    pub device: DpdkDevice,
    /// The arguments for its driver, as DPDK writes them.
    pub arguments: Vec<String>,
    /// Its network.
    pub host: HostSpec,
}

impl DpdkSpec {
    /// The device with the arguments for its driver, as EAL's `-a` and `--vdev` take it.
    pub fn devargs(&self) -> String {
        self.arguments.iter().fold(self.device.to_string(), |text, argument| text + "," + argument)
    }

    /// The kernel's interfaces on which its driver sends and receives.
    pub fn interfaces(&self) -> Vec<&str> {
        let DpdkDevice::Vdev(name) = &self.device else { return Vec::new() };
        let options: &[&str] = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "net_af_packet" | "net_af_xdp" => &["iface"],
            "net_pcap" => &["iface", "rx_iface", "rx_iface_in", "tx_iface"],
            // `iface` of other drivers is an interface that they make themselves, or a path.
            _ => &[],
        };
        let pairs = self.arguments.iter().filter_map(|argument| argument.split_once('='));
        pairs.filter(|(option, _)| options.contains(option)).map(|(_, interface)| interface).collect()
    }

    /// The PCI device, if it is one.
    pub fn pci(&self) -> Option<PciAddress> {
        match self.device {
            DpdkDevice::Pci(device) => Some(device),
            DpdkDevice::Vdev(_) => None,
        }
    }
}

impl FromStr for DpdkSpec {
    type Err = SpecError;

    /// Reads the text after `dpdk:`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or("");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let device = match name.strip_prefix("net_") {
            Some(rest) if !rest.is_empty() && rest.bytes().all(is_plain) => DpdkDevice::Vdev(name.to_owned()),
            _ => DpdkDevice::Pci(name.parse().map_err(|_| SpecError::Dpdk(name.to_owned()))?),
        };
        let (mut host, mut arguments) = (HostSpec::default(), Vec::new());
        for part in parts {
            if part.is_empty() {
                return Err(SpecError::DeviceOption(part.to_owned()));
            }
            if !host.take(part)? {
                arguments.push(part.to_owned());
            }
        }
        Ok(Self { device, arguments, host })
    }
}

impl fmt::Display for DpdkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dpdk:{}{}", self.devargs(), self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PortSpec;
    use super::*;

    #[test]
    fn a_network_stands_behind_a_device() {
        for text in [
            "0000:01:00.0,ip=10.0.0.2/24",
            "dpdk:0000:01:00.0,ip=10.0.0.2/24,ip=10.0.1.2/16,gw=10.0.0.1,mtu=9000",
            "dpdk:net_pcap0,rx_pcap=/tmp/in.pcap,infinite_rx=1,ip=10.0.0.2/24",
            "dpdk:net_null0",
            "dpdk:0000:01:00.0,dv_flow_en=1",
            "dpdk:net_null0,ip=10.0.0.2/24,vlans=0+7",
            "dpdk:net_null0,size=100,ip=10.0.0.2/24,rate=1500M",
        ] {
            assert_eq!(text.parse::<PortSpec>().unwrap().to_string(), text);
        }
        let Ok(PortSpec::Dpdk(spec)) = "dpdk:net_memif0,ip=10.0.0.2/24,role=server,mtu=9000,id=1".parse() else {
            panic!("no DPDK port")
        };
        assert_eq!(spec.devargs(), "net_memif0,role=server,id=1");
        for (text, interfaces) in [
            ("dpdk:net_af_packet12,iface=eth1,qpairs=2", &["eth1"][..]),
            ("dpdk:net_af_xdp0,iface=eth1", &["eth1"]),
            ("dpdk:net_pcap0,rx_iface=eth1,tx_iface=eth2", &["eth1", "eth2"]),
            ("dpdk:net_tap0,iface=tap0", &[]),
            ("dpdk:0000:01:00.0,iface=eth1", &[]),
        ] {
            let Ok(PortSpec::Dpdk(spec)) = text.parse() else { panic!("no DPDK port: {text}") };
            assert_eq!(spec.interfaces(), interfaces, "{text}");
        }
        assert_eq!((spec.host.mtu, spec.host.gateway), (Some(9000), None));
        let config = spec.host.config("port 0", [2; 6]).unwrap();
        assert_eq!((&*config.name, config.addresses[0].address(), config.gateway), ("port 0", [10, 0, 0, 2], None));
    }

    #[test]
    fn errors_name_the_remedy() {
        for (text, part) in [
            ("0000:01:00.0,ip=10.0.0.2", "write ADDR/BITS, like 10.0.0.2/24"),
            ("0000:01:00.0,gw=10.0.0.0.1", "gw=10.0.0.0.1 is not an IPv4 address"),
            ("0000:01:00.0,gw=10.0.0.1,gw=10.0.0.3", "gw= stands there twice"),
            ("0000:01:00.0,mtu=70000", "mtu=70000: choose 576 to 32000"),
            ("0000:01:00.0,mtu=+900", "choose 576 to 32000"),
            ("0000:01:00.0,queues=4", "it takes ip=ADDR/BITS, gw=ADDR, mtu=BYTES, vlans=LIST and rate"),
            ("0000:01:00.0,rate=1T", "rate=1T is not a rate"),
            ("dpdk:eth1", "neither a PCI address nor a virtual device"),
            ("dpdk:net_", "neither a PCI address nor a virtual device"),
            ("dpdk:net_null0,,", "is not an option"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = HostSpec::default().config("dpdk:0000:01:00.0", [2; 6]).unwrap_err().to_string();
        assert_eq!(error, "dpdk:0000:01:00.0 has no kernel behind it and needs an address: add ,ip=10.0.0.2/24 to it");
    }
}
