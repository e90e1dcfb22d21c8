//! What the command line means: checked settings, from which a role is assembled.

use crate::address;
use crate::cli::{CommonArgs, GatewayArgs, SlaveArgs, Switch};
use crate::exit::Failure;
use crate::keyfile;
use crate::machine;
use crate::neighbor::NeighborSpec;
use crate::pci::{self, Way};
use crate::privilege::seccomp;
use crate::serve::metrics::MetricsAddress;
use crate::static_routes::StaticRoutes;
use frame::pool::chunk_for_data;
use frame::{PoolConfig, PortId};
use lcore::{CoreList, RxMode};
use link::{ClusterKey, Credential, KeyRing};
use port::spec::{DpdkDevice, DpdkSpec, MTUS, PciSpec, PortSpec, XdpMode, XdpSpec};
use slave::{Ids, MAX_GATEWAYS, TrafficConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use wire::{GATEWAY_PORT, IPV4_UDP_LEN, Scale};

/// The fewest frames with which an lcore does anything sensible.
const LEAST_FRAMES: u32 = 512;

/// The largest IP packet of a socket, where nothing else was said: Ethernet's.
const SOCKET_MTU: u16 = 1500;

/// How a port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPlan {
    /// With sockets of the kernel.
    Udp(SocketAddr),
    /// On the queues of an interface.
    Xdp(XdpSpec),
    /// On the queues of a device of DPDK.
    Dpdk(DpdkSpec),
}

/// Settings of every role.
#[derive(Clone, Debug)]
pub struct Common {
    /// One lcore for each, pinned to it; `None` when nothing was said.
    pub cores: Option<Vec<usize>>,
    /// The ports; the first is port 0.
    pub ports: Vec<PortPlan>,
    /// How lcores wait.
    pub rx_mode: RxMode,
    /// Name of the process.
    pub name: String,
    /// Heartbeat interval, in nanoseconds.
    pub interval: u64,
    /// Shape of each lcore's arena.
    pub pool: PoolConfig,
    /// Largest IP packet to send or take, in bytes, if that was said.
    pub mtu: Option<u16>,
    /// How large the system is.
    pub scale: Scale,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<MetricsAddress>,
    /// What becomes of system calls that nothing needs.
    pub seccomp: seccomp::Mode,
    /// Whether settings may name hosts, which are looked up when the configuration is read again.
    pub names: bool,
}

/// Settings of a gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// As of every role.
    pub common: Common,
    /// The longest time that a record waits, in nanoseconds.
    pub hold: u64,
    /// Whether buffers leave early.
    pub early: bool,
    /// The served shards, as the poll loops number them.
    pub shards: wire::ShardSet,
    /// The served shards, as nodes are told of them.
    pub announced: link::ShardRanges,
    /// The gateways of other shards.
    pub neighbors: Vec<NeighborSpec>,
    /// The cluster key, or both while the cluster changes it.
    pub keys: KeyRing<ClusterKey>,
    /// Routes to generators that cannot register.
    pub static_routes: Option<StaticRoutes>,
}

/// The largest number of masters of a gateway.
pub const MASTERS: u16 = 64;

/// Settings of a slave or a farm.
#[derive(Clone, Debug)]
pub struct Slave {
    /// As of every role; one lcore, one port.
    pub common: Common,
    /// The gateways, the preferred one first.
    pub gateways: Vec<SocketAddr>,
    /// Who it is.
    pub ids: Ids,
    /// Memory that each id lends, in 4 KiB pages.
    pub pages: u64,
    /// What the ids sign with.
    pub credential: Credential,
    /// Traffic of its own, from the start.
    pub traffic: Option<TrafficConfig>,
}

impl Common {
    /// The largest IP packet that is sent or taken on a port which can send one of `able` bytes.
    pub fn mtu_of(&self, port: PortId, able: u16) -> u16 {
        let is_socket = matches!(self.ports.get(usize::from(port.0)), Some(PortPlan::Udp(_)));
        able.min(self.mtu.unwrap_or(if is_socket { SOCKET_MTU } else { able }))
    }

    /// The largest IP packet that frames must hold whatever interfaces can do, in bytes.
    pub fn mtu_of_frames(&self) -> u16 {
        self.mtu.unwrap_or(SOCKET_MTU)
    }

    /// Checks what every role takes.
    pub(crate) fn new(args: CommonArgs, role: &str) -> Result<Self, Failure> {
        let scale = Scale::new(args.slave_bits, args.gw_bits).map_err(Failure::Scale)?;
        if args.frames < LEAST_FRAMES {
            return Err(wrong("frames", format!("{}: an lcore needs at least {LEAST_FRAMES}", args.frames)));
        }
        if let Some(mtu) = args.mtu.filter(|mtu| !MTUS.contains(mtu)) {
            let (least, most) = (MTUS.start(), MTUS.end());
            return Err(wrong("mtu", format!("{mtu}: choose {least} to {most}")));
        }
        if args.heartbeat.0 < frame::time::MILLISECOND || args.heartbeat.0 > 3600 * frame::time::SECOND {
            return Err(wrong("heartbeat", format!("{}: choose 1ms to 3600s", args.heartbeat)));
        }
        let name = args.name.unwrap_or_else(|| role.to_owned());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.chars().all(is_plain) {
            return Err(wrong("name", format!("\"{name}\": use up to 64 letters, digits, and - _ .")));
        }
        let cores = match args.lcores {
            None => None,
            Some(list) => {
                let existing = CoreList::of_this_process().map_err(Failure::Core)?;
                list.check(&existing).map_err(Failure::Core)?;
                Some(list.iter().collect())
            }
        };
        if args.ports.is_empty() {
            return Err(Failure::Usage(machine::no_port(role)));
        }
        let ports = args.ports.iter().map(plan).collect::<Result<_, _>>()?;
        let largest = args.mtu.unwrap_or(SOCKET_MTU);
        let chunk = chunk_for_data(u32::from(largest - IPV4_UDP_LEN));
        let pool = PoolConfig { frames: args.frames, chunk, ..PoolConfig::default() };
        let (rx_mode, interval, mtu, metrics) = (args.rx_mode, args.heartbeat.0, args.mtu, args.metrics);
        Ok(Self {
            cores,
            ports,
            rx_mode,
            name,
            interval,
            pool,
            mtu,
            scale,
            metrics,
            seccomp: args.seccomp,
            names: false,
        })
    }
}

/// A setting's value cannot be used.
fn wrong(name: &'static str, text: String) -> Failure {
    Failure::Setting { name, text }
}

/// A setting without which nothing can be done was not given.
fn missing(name: &str, flag: &str, what: &str) -> Failure {
    let key = flag.trim_start_matches('-').replacen(' ', " = ", 1);
    Failure::Usage(format!("no --{name}: say {what}, as in {flag}, or in the configuration file ({key} under [slave])"))
}

/// How this version opens a port.
fn plan(spec: &PortSpec) -> Result<PortPlan, Failure> {
    let xdp = |ifname: String| PortPlan::Xdp(XdpSpec { ifname, queues: None, mode: XdpMode::Auto });
    match spec {
        PortSpec::Udp(address) => Ok(PortPlan::Udp(*address)),
        PortSpec::Xdp(spec) => Ok(PortPlan::Xdp(spec.clone())),
        PortSpec::Interface(name) => Ok(xdp(name.clone())),
        PortSpec::Pci(PciSpec { device, host }) => match pci::way(*device)? {
            Way::Interface(name) if host.is_empty() => Ok(xdp(name)),
            Way::Interface(name) => Err(Failure::Usage(format!(
                "--port {spec}: its kernel driver makes the interface {name}, whose addresses and MTU it has. For AF_XDP set \
                 them there (`ip address add ADDR/BITS dev {name}`) and write --port {device}; for DPDK bind it first: `ip link \
                 set dev {name} down && {}`",
                pci::bind(*device)
            ))),
            Way::Dpdk => {
                let (device, host) = (DpdkDevice::Pci(*device), host.clone());
                with_address(DpdkSpec { device, arguments: Vec::new(), host }, spec)
            }
        },
        PortSpec::Dpdk(dpdk) => {
            match &dpdk.device {
                DpdkDevice::Pci(device) => pci::check_dpdk(&spec.to_string(), *device)?,
                // Some virtual devices are an interface of the kernel's.
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

/// A port without a kernel behind it has an address of its own.
fn with_address(dpdk: DpdkSpec, spec: &PortSpec) -> Result<PortPlan, Failure> {
    // The Ethernet address is the device's, which is not open yet.
    dpdk.host.config(&format!("--port {spec}"), [0; 6]).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(PortPlan::Dpdk(dpdk))
}

impl Gateway {
    /// Checks a gateway's command line.
    pub fn new(args: GatewayArgs) -> Result<Self, Failure> {
        let common = Common::new(args.common, "gateway")?;
        if common.ports.len() > 2 {
            return Err(Failure::Usage(
                "a gateway has one --port, or two: the first faces the masters, the second the slaves".to_owned(),
            ));
        }
        let shards = wire::ShardSet::parse(common.scale, &args.shards).map_err(Failure::Shards)?;
        if let Some(neighbor) = args.neighbors.first()
            && !common.ports.iter().any(|port| matches!(port, PortPlan::Xdp(_)))
        {
            return Err(wrong(
                "neighbor",
                format!("{neighbor}: cargo is sent on by the XDP program, and no --port is an interface"),
            ));
        }
        let announced = link::ShardRanges::from_shards(shards.iter()).map_err(|e| Failure::Usage(e.to_string()))?;
        let keys = keyfile::read_ring(&args.key_files)?;
        if let (Some(path), Some(key)) = (&args.static_routes, args.key_files.first()) {
            return Err(wrong(
                "static-routes",
                format!(
                    "{}: not together with --key-file {}: a cluster with a key lets in who proves that it belongs to it, and \
                     nobody proves anything here. Leave one of them out",
                    path.display(),
                    key.display()
                ),
            ));
        }
        let read = |path: &PathBuf| StaticRoutes::read(path, &shards, common.ports.len(), MASTERS);
        let static_routes = args.static_routes.as_ref().map(read).transpose()?;
        let (hold, early, neighbors) = (args.hold.0, args.early == Switch::On, args.neighbors);
        Ok(Self { common, hold, early, shards, announced, neighbors, keys, static_routes })
    }
}

impl Slave {
    /// Checks a slave's command line.
    pub fn new(args: SlaveArgs) -> Result<Self, Failure> {
        let common = Common { names: true, ..Common::new(args.common, "slave")? };
        if common.cores.as_ref().is_some_and(|cores| cores.len() > 1) || common.ports.len() > 1 {
            return Err(Failure::Usage(
                "a slave has one lcore and one --port; start several with an --id each".to_owned(),
            ));
        }
        let id = args.id.ok_or_else(|| missing("id", "--id 17", "which slave this is"))?;
        let ids = Ids::range(common.scale, id, args.count).map_err(|e| Failure::Usage(e.to_string()))?;
        let credential = if args.key_files.is_empty() && args.cluster_key_files.is_empty() {
            Credential::None
        } else if args.key_files.is_empty() {
            Credential::Cluster(keyfile::read_ring(&args.cluster_key_files)?)
        } else if args.count > 1 {
            let text = "is the key of one slave: a farm derives its keys, give it --cluster-key-file";
            return Err(wrong("key-file", text.to_owned()));
        } else {
            Credential::Node(keyfile::read_ring(&args.key_files)?)
        };
        let gateways = gateway_addresses(&args.gateways)?;
        if let Some(gateway) = gateways.iter().find(|gateway| gateway.is_ipv6())
            && common.ports.iter().any(|port| !matches!(port, PortPlan::Udp(_)))
        {
            return Err(wrong("gateway", format!("{gateway}: only a udp: port speaks IPv6: use one")));
        }
        let traffic = args.traffic.map(|traffic| traffic.0);
        Ok(Self { common, gateways, ids, pages: args.memory.0 / 4096, credential, traffic })
    }
}

/// The gateways of a slave, each named once.
fn gateway_addresses(texts: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    if texts.is_empty() {
        return Err(missing("gateway", "--gateway 192.0.2.1", "where its gateway is"));
    }
    let mut gateways = Vec::with_capacity(texts.len());
    for text in texts {
        let gateway = gateway_address(text)?;
        if gateways.contains(&gateway) {
            let text = format!("{text}: this gateway is named twice: name each once, the preferred one first");
            return Err(wrong("gateway", text));
        }
        gateways.push(gateway);
    }
    if gateways.len() > MAX_GATEWAYS {
        let text = format!("{} are too many, name at most {MAX_GATEWAYS}", gateways.len());
        return Err(wrong("gateway", text));
    }
    Ok(gateways)
}

/// `ADDR`, `ADDR:PORT`, or a host name in the place of ADDR.
fn gateway_address(text: &str) -> Result<SocketAddr, Failure> {
    address::resolve(text, GATEWAY_PORT).ok_or_else(|| {
        let text =
            format!("{text}: no address and no known host name: write it as 192.0.2.1 or 192.0.2.1:{GATEWAY_PORT}");
        wrong("gateway", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_address_has_a_default_port() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:9999"),
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("::1", "[::1]:9999"),
            ("[::1]", "[::1]:9999"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(gateway_address(text).unwrap(), address.parse().unwrap(), "{text}");
        }
        let error = gateway_address("no such host!").unwrap_err();
        assert!(error.to_string().contains("write it as 192.0.2.1"), "{error}");
        assert_eq!(error.code(), 2);
    }
}
