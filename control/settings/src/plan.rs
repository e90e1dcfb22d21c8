//! How each port is opened, derived from its text.

use common::exit::Failure;
use common::faults::Faults;
use host::machine;
use host::pci::{self, DriverWay};
use port::rate::Rate;
use port::spec::{DpdkDevice, DpdkSpec, PciSpec, PortSpec, SocketSpec, XdpSpec};
use std::fmt;
use std::net::IpAddr;

/// How a port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPlan {
    /// With sockets of the kernel.
    Udp(SocketSpec),
    /// On the queues of an interface.
    Xdp(XdpSpec),
    /// On the queues of a device of DPDK.
    Dpdk(DpdkSpec),
}

impl fmt::Display for PortPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(spec) => spec.fmt(f),
            Self::Xdp(spec) => spec.fmt(f),
            Self::Dpdk(spec) => spec.fmt(f),
        }
    }
}

impl PortPlan {
    /// The most that the port sends, if that is limited.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            Self::Udp(spec) => spec.rate,
            Self::Xdp(spec) => spec.rate,
            Self::Dpdk(spec) => spec.host.rate,
        }
    }

    /// The resource that two ports would both need for themselves, if there is one.
    fn clash(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Udp(SocketSpec { address: one, .. }), Self::Udp(SocketSpec { address: two, .. }))
                if one.port() != 0 && one.port() == two.port() =>
            {
                let hears = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
                let (one, two) = (one.ip(), two.ip());
                let same = one == two || hears(one, two) || hears(two, one);
                same.then(|| "the same address and UDP port".to_owned())
            }
            (Self::Xdp(one), Self::Xdp(two)) if one.ifname == two.ifname => {
                Some(format!("the interface {}", one.ifname))
            }
            (Self::Dpdk(one), Self::Dpdk(two)) if one.device == two.device => {
                Some(format!("the device {}", one.device))
            }
            _ => None,
        }
    }
}

/// The named ports. No port may be named twice.
pub(crate) fn ports(specs: &[PortSpec], role: &str) -> Result<Vec<PortPlan>, Failure> {
    if specs.is_empty() {
        return Err(Failure::Usage(machine::no_port(role)));
    }
    let mut faults = Faults::default();
    let plans: Vec<PortPlan> = specs.iter().filter_map(|spec| faults.take(plan(spec))).collect();
    for (index, port) in plans.iter().enumerate() {
        for (other, what) in plans[..index].iter().filter_map(|other| Some((other, port.clash(other)?))) {
            let text = format!("{port} is named twice: it needs {what}, and so does {other}; name each once");
            faults.add(Failure::Setting { name: "port", text });
        }
    }
    faults.finish(Some(plans))
}

/// How this version opens a port.
fn plan(spec: &PortSpec) -> Result<PortPlan, Failure> {
    let xdp = |ifname: String| PortPlan::Xdp(XdpSpec::new(ifname));
    match spec {
        PortSpec::Udp(spec) => Ok(PortPlan::Udp(*spec)),
        PortSpec::Xdp(spec) => Ok(PortPlan::Xdp(spec.clone())),
        PortSpec::Interface(name) => Ok(xdp(name.clone())),
        PortSpec::Pci(PciSpec { device, host }) => match pci::way(*device)? {
            DriverWay::Interface(name) if host.is_empty() => {
                Ok(PortPlan::Xdp(XdpSpec { vlans: host.vlans.clone(), rate: host.rate, ..XdpSpec::new(name) }))
            }
            DriverWay::Interface(name) => Err(Failure::Usage(format!(
                "--port {spec}: its kernel driver makes the interface {name}, whose addresses and MTU it has. For \
                 AF_XDP set \
                 them there (`ip address add ADDR/BITS dev {name}`) and write --port {device}; for DPDK bind it first: \
                     `ip link \
                 set dev {name} down && {}`",
                pci::bind(*device)
            ))),
            DriverWay::Dpdk => {
                let (device, host) = (DpdkDevice::Pci(*device), host.clone());
                with_address(DpdkSpec { device, arguments: Vec::new(), host }, spec)
            }
        },
        PortSpec::Dpdk(dpdk) => {
            match &dpdk.device {
                DpdkDevice::Pci(device) => pci::check_dpdk(&spec.to_string(), *device)?,
                // Some virtual devices use an interface of the kernel.
                DpdkDevice::Vdev(_) => dpdk
                    .arguments
                    .iter()
                    .filter_map(|argument| argument.strip_prefix("iface="))
                    .try_for_each(|interface| pci::check_spare(&spec.to_string(), interface))?,
            }
            with_address(dpdk.clone(), spec)
        }
    }
}

/// Checks that a port without a kernel has its own address.
fn with_address(dpdk: DpdkSpec, spec: &PortSpec) -> Result<PortPlan, Failure> {
    // The Ethernet address belongs to the device, which is not open yet.
    dpdk.host.config(&format!("--port {spec}"), [0; 6]).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(PortPlan::Dpdk(dpdk))
}
