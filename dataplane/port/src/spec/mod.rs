//! The text form of a port, as in `--port` and the configuration file.

mod device;
mod socket;

pub use device::{DpdkDevice, DpdkSpec, HostSpec, MTUS, PciSpec, SOCKET_MTU};
pub use socket::SocketSpec;

use crate::host::NetAddressError;
use crate::rate::{Rate, RateError};
use crate::vlans::{Vlans, VlansError};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// How an AF_XDP socket moves packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum XdpMode {
    /// Zero-copy if the driver can do it, otherwise copy; never generic mode.
    #[default]
    Auto,
    /// Zero-copy, or an error.
    ZeroCopy,
    /// The driver's XDP hook, and the kernel copies each packet.
    Copy,
    /// The generic hook, for drivers without XDP: slow, works everywhere.
    Skb,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::ZeroCopy => "zc",
            Self::Copy => "copy",
            Self::Skb => "skb",
        })
    }
}

impl FromStr for XdpMode {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "auto" => Ok(Self::Auto),
            "zc" => Ok(Self::ZeroCopy),
            "copy" => Ok(Self::Copy),
            "skb" => Ok(Self::Skb),
            _ => Err(SpecError::Mode(text.to_owned())),
        }
    }
}

/// An AF_XDP port: `xdp:IFACE[,queues=N][,mode=auto|zc|copy|skb][,vlans=LIST][,rate=BITS]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct XdpSpec {
    /// Name of the interface.
    pub ifname: String,
    /// How many of its receive queues to use; `None` means all.
    pub queues: Option<u16>,
    /// How packets move.
    pub mode: XdpMode,
    /// The VLANs that it takes packets from.
    pub vlans: Vlans,
    /// The most that it sends.
    pub rate: Option<Rate>,
}

impl XdpSpec {
    /// An interface without options.
    pub fn new(ifname: String) -> Self {
        Self { ifname, queues: None, mode: XdpMode::Auto, vlans: Vlans::UNTAGGED, rate: None }
    }
}

/// The address of a PCI device: `0000:01:00.0`, or `01:00.0` in domain 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PciAddress {
    /// Domain.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        // `pad` also supports columns.
        f.pad(&format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
    }
}

impl FromStr for PciAddress {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
            let hex = |part: &str, max: u16| {
                let fits = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
                fits.then(|| u16::from_str_radix(part, 16).ok()).flatten().filter(|&value| value <= max)
            };
            Some(Self {
                domain: hex(domain, u16::MAX)?,
                bus: hex(bus, 0xff)? as u8,
                device: hex(device, 31)? as u8,
                function: hex(function, 7)? as u8,
            })
        };
        parse().ok_or_else(|| SpecError::Pci(text.to_owned()))
    }
}

/// A port, in its text form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortSpec {
    /// `udp:ADDR:PORT`: sockets of the kernel.
    Udp(SocketSpec),
    /// `xdp:IFACE`: the queues of an interface through AF_XDP.
    Xdp(XdpSpec),
    /// `IFACE`: an interface, used as its driver allows.
    Interface(String),
    /// `0000:01:00.0`: a PCI device, used as the driver that it is bound to allows.
    Pci(PciSpec),
    /// `dpdk:0000:01:00.0`, `dpdk:net_null0`: a device through DPDK.
    Dpdk(DpdkSpec),
}

/// Why a text does not name a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nothing, or a kind that does not exist.
    #[error(
        "`{0}` is not a port: write udp:ADDR:PORT, xdp:IFACE, an interface's name, or a PCI address like 0000:01:00.0"
    )]
    Kind(String),
    /// Not an address and port.
    #[error("`{0}` is not a UDP address: write udp:ADDR:PORT, like udp:0.0.0.0:9999 or udp:[::]:9999")]
    Udp(String),
    /// The kernel would not accept it as the name of an interface.
    #[error("`{0}` cannot be an interface's name (1 to 15 characters, no `/` or blank): `ip -brief link` lists them")]
    Interface(String),
    /// An option that a socket does not have.
    #[error("`{0}` is not an option of a udp: port: it takes rate=BITS, like rate=1G")]
    UdpOption(String),
    /// The name of an interface, and options.
    #[error("`{0}`: an interface by its name alone takes no options: write xdp:{0}")]
    InterfaceOption(String),
    /// An option that an XDP port does not have.
    #[error(
        "`{0}` is not an option of an xdp: port: it takes queues=N, mode=auto|zc|copy|skb, vlans=LIST and rate=BITS"
    )]
    Option(String),
    /// Not a number of queues.
    #[error("queues={0} is not a number of queues: write 1 or more, or leave it out to use all")]
    Queues(String),
    /// Not a mode.
    #[error("mode={0} is not an AF_XDP mode: write auto, zc, copy or skb")]
    Mode(String),
    /// Not a PCI address.
    #[error("`{0}` is not a PCI address: write DOMAIN:BUS:DEVICE.FUNCTION as `lspci -D` shows it, like 0000:01:00.0")]
    Pci(String),
    /// Not a device of DPDK.
    #[error(
        "dpdk:{0} is neither a PCI address nor a virtual device of DPDK: write dpdk:0000:01:00.0 (`lspci -D` lists \
         them), \
         or dpdk:net_NAME"
    )]
    Dpdk(String),
    /// An option that a PCI port does not have.
    #[error(
        "`{0}` is not an option of a port that is a device: it takes ip=ADDR/BITS, gw=ADDR, mtu=BYTES, vlans=LIST and \
         rate=BITS"
    )]
    DeviceOption(String),
    /// Not an address of a port.
    #[error("ip=: {0}")]
    Ip(NetAddressError),
    /// Not a gateway's address.
    #[error("gw={0} is not an IPv4 address: write that of the router, like gw=10.0.0.1")]
    Gateway(String),
    /// Not an MTU.
    #[error("mtu={0}: choose 576 to 32000 bytes, like mtu=9000")]
    Mtu(String),
    /// Not a list of VLANs.
    #[error(transparent)]
    Vlans(#[from] VlansError),
    /// Not a rate.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// A socket with a list of VLANs.
    #[error(
        "`{0}`: a udp: port has no VLANs, since the kernel takes tags off: leave vlans= out, and bind it to an address \
         of the \
         VLAN's own interface (`ip link add link eth1 name eth1.10 type vlan id 10` makes one)"
    )]
    UdpVlans(String),
    /// An option that may be given only once.
    #[error("{0}= stands there twice: it is one for the whole port")]
    Twice(&'static str),
}

fn ifname(text: &str) -> Result<String, SpecError> {
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    if fits && text.bytes().all(|b| b.is_ascii_graphic() && !b"/:,".contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err(SpecError::Interface(text.to_owned()))
    }
}

impl FromStr for XdpSpec {
    type Err = SpecError;

    /// Reads the text after `xdp:`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split(',');
        let mut spec = Self::new(ifname(parts.next().unwrap_or(""))?);
        for part in parts {
            match part.split_once('=') {
                Some(("queues", n)) => {
                    let queues = n.parse().ok().filter(|&n: &u16| n > 0);
                    spec.queues = Some(queues.ok_or_else(|| SpecError::Queues(n.to_owned()))?);
                }
                Some(("mode", mode)) => spec.mode = mode.parse()?,
                Some(("vlans", vlans)) => spec.vlans = vlans.parse()?,
                Some(("rate", rate)) => set_rate(&mut spec.rate, rate)?,
                _ => return Err(SpecError::Option(part.to_owned())),
            }
        }
        Ok(spec)
    }
}

impl FromStr for PortSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if let Some(socket) = text.strip_prefix("udp:") {
            return socket.parse().map(Self::Udp);
        }
        if let Some(rest) = text.strip_prefix("xdp:") {
            return rest.parse().map(Self::Xdp);
        }
        if let Some(device) = text.strip_prefix("dpdk:") {
            return device.parse().map(Self::Dpdk);
        }
        if text.contains(':') {
            // A letter before the first colon that is not a hexadecimal digit means another kind of port.
            let kind = text.split(':').next().unwrap_or("");
            return match text.parse() {
                Ok(device) => Ok(Self::Pci(device)),
                Err(error) if kind.bytes().all(|b| b.is_ascii_hexdigit()) && !kind.is_empty() => Err(error),
                Err(_) => Err(SpecError::Kind(text.to_owned())),
            };
        }
        if text.is_empty() || text.parse::<Ipv4Addr>().is_ok() {
            return Err(SpecError::Kind(text.to_owned()));
        }
        match text.split_once(',') {
            Some((name, _)) if ifname(name).is_ok() => Err(SpecError::InterfaceOption(text.to_owned())),
            _ => ifname(text).map(Self::Interface),
        }
    }
}

impl fmt::Display for XdpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xdp:{}", self.ifname)?;
        if let Some(queues) = self.queues {
            write!(f, ",queues={queues}")?;
        }
        if self.mode != XdpMode::Auto {
            write!(f, ",mode={}", self.mode)?;
        }
        write_vlans(&self.vlans, f)?;
        write_rate(self.rate, f)
    }
}

/// Reads the option, which may be given once.
fn set_rate(rate: &mut Option<Rate>, text: &str) -> Result<(), SpecError> {
    match rate.replace(text.parse()?) {
        Some(_) => Err(SpecError::Twice("rate")),
        None => Ok(()),
    }
}

/// Writes the option, if it is given.
fn write_rate(rate: Option<Rate>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    rate.map_or(Ok(()), |rate| write!(f, ",rate={rate}"))
}

/// Writes the option, unless it is the default.
fn write_vlans(vlans: &Vlans, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if *vlans == Vlans::UNTAGGED { Ok(()) } else { write!(f, ",vlans={vlans}") }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(spec) => spec.fmt(f),
            Self::Xdp(spec) => spec.fmt(f),
            Self::Interface(name) => f.write_str(name),
            Self::Pci(spec) => spec.fmt(f),
            Self::Dpdk(spec) => spec.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_reads_and_writes_itself() {
        for text in [
            "udp:0.0.0.0:9999",
            "udp:[::]:9999",
            "udp:[2001:db8::1]:5",
            "udp:[2001:db8::1]:5,rate=64K",
            "xdp:eth1",
            "xdp:eth1,queues=2",
            "xdp:enp1s0f0np0,queues=4,mode=zc",
            "xdp:v,mode=copy",
            "xdp:v,mode=skb",
            "xdp:v,vlans=0+10+20-29",
            "xdp:v,queues=2,mode=copy,vlans=any",
            "xdp:v,queues=2,vlans=5,rate=10G",
            "0000:01:00.0,vlans=5",
            "0000:01:00.0,rate=25G",
            "eth1",
            "0000:01:00.0",
            "dpdk:0000:0a:1f.7",
        ] {
            assert_eq!(text.parse::<PortSpec>().unwrap().to_string(), text);
        }
        assert_eq!("01:00.1".parse::<PortSpec>().unwrap().to_string(), "0000:01:00.1");
        assert_eq!("xdp:v,mode=auto".parse::<PortSpec>().unwrap().to_string(), "xdp:v");
    }

    #[test]
    fn errors_name_the_remedy() {
        for (text, part) in [
            ("", "is not a port: write udp:ADDR:PORT"),
            ("udp:9999", "write udp:ADDR:PORT, like udp:0.0.0.0:9999"),
            ("udp:::1:9999", "like udp:0.0.0.0:9999 or udp:[::]:9999"),
            ("192.0.2.1", "write udp:ADDR:PORT"),
            ("tcp:1.2.3.4:5", "is not a port"),
            ("xdp:", "cannot be an interface's name"),
            ("xdp:a/b", "`ip -brief link` lists them"),
            ("an-interface-too-long", "1 to 15 characters"),
            ("xdp:eth1,queues=0", "write 1 or more"),
            ("xdp:eth1,mode=fast", "write auto, zc, copy or skb"),
            ("xdp:eth1,zero", "queues=N, mode="),
            ("xdp:eth1,rate=fast", "write bits in a second from 64K to 1000G, like rate=200M"),
            ("xdp:eth1,rate=1G,rate=2G", "rate= stands there twice"),
            ("eth1,rate=1G", "takes no options: write xdp:eth1,rate=1G"),
            ("udp:10.0.0.1:9999,rate=", "rate= is not a rate"),
            ("udp:10.0.0.1:9999,rate=1G,rate=1G", "rate= stands there twice"),
            ("xdp:eth1,vlans=4095", "vlans=4095: write VLAN ids from 0 to 4094"),
            ("xdp:eth1,vlans=", "like vlans=0+10+20-29"),
            ("udp:10.0.0.1:9999,vlans=10", "leave vlans= out, and bind it to an address of the VLAN's own interface"),
            ("udp:10.0.0.1:9999,mtu=10", "`mtu=10` is not an option of a udp: port: it takes rate=BITS"),
            ("0000:01:00.8", "`lspci -D` shows it"),
            ("0000:01:20.0", "is not a PCI address"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_survives_its_own_text(text in
            "(udp:|udp:1.2.3.4:5,rate=|xdp:|xdp:v,rate=|dpdk:|dpdk:net_|01:00.0,|dpdk:01:00.0,ip=)?\
             [0-9a-f.:,=/\\[\\]queueszcipgwmtKMG]{0,24}") {
            if let Ok(spec) = text.parse::<PortSpec>() {
                prop_assert_eq!(spec.to_string().parse::<PortSpec>().unwrap(), spec);
            }
        }
    }
}
