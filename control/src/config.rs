//! What the command line means: checked settings, from which a role is assembled.

use crate::address;
use crate::cli::{CommonArgs, GatewayArgs, SlaveArgs, Switch};
use crate::domain::Domain;
use crate::exit::Failure;
use crate::faults::Faults;
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
use port::spec::{DpdkDevice, DpdkSpec, MTUS, PciSpec, PortSpec, SOCKET_MTU, XdpSpec};
use slave::{Ids, MAX_GATEWAYS, TrafficConfig};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use wire::{GATEWAY_PORT, IPV4_UDP_LEN, Scale};

/// The fewest frames with which an lcore does anything sensible.
const LEAST_FRAMES: u32 = 512;

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

impl fmt::Display for PortPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Xdp(spec) => spec.fmt(f),
            Self::Dpdk(spec) => spec.fmt(f),
        }
    }
}

impl PortPlan {
    /// What two ports would both need for themselves, if they need the same.
    fn clash(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Udp(one), Self::Udp(two)) if one.port() != 0 && one.port() == two.port() => {
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
    /// Whether paths are restricted, where the kernel can do that.
    pub landlock: Switch,
    /// Files that are read again while the process runs.
    pub reads: Vec<PathBuf>,
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
    /// Nodes of version 1 of link control are let in.
    pub accept_v1: bool,
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
    /// Their failure domain.
    pub domain: Domain,
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
        let mut faults = Faults::default();
        let scale = faults.take(Scale::new(args.slave_bits, args.gw_bits).map_err(Failure::Scale));
        if args.frames < LEAST_FRAMES {
            faults.add(wrong("frames", format!("{}: an lcore needs at least {LEAST_FRAMES}", args.frames)));
        }
        if let Some(mtu) = args.mtu.filter(|mtu| !MTUS.contains(mtu)) {
            let (least, most) = (MTUS.start(), MTUS.end());
            faults.add(wrong("mtu", format!("{mtu}: choose {least} to {most}")));
        }
        if args.heartbeat.0 < frame::time::MILLISECOND || args.heartbeat.0 > 3600 * frame::time::SECOND {
            faults.add(wrong("heartbeat", format!("{}: choose 1ms to 3600s", args.heartbeat)));
        }
        let name = args.name.unwrap_or_else(|| role.to_owned());
        if !is_name(&name) {
            faults.add(wrong("name", format!("\"{name}\": use up to 64 letters, digits, and - _ .")));
        }
        let cores = faults.take(args.lcores.as_ref().map(cores).transpose());
        let ports = faults.take(ports(&args.ports, role));
        let (Some(scale), Some(cores), Some(ports)) = (scale, cores, ports) else { return faults.finish(None) };
        faults.check()?;
        let largest = args.mtu.unwrap_or(SOCKET_MTU);
        let chunk = chunk_for_data(u32::from(largest - IPV4_UDP_LEN));
        let pool = PoolConfig { frames: args.frames, chunk, ..PoolConfig::default() };
        let (rx_mode, interval, mtu, metrics) = (args.rx_mode, args.heartbeat.0, args.mtu, args.metrics);
        let (seccomp, landlock) = (args.seccomp, args.landlock);
        let (reads, names) = (Vec::new(), false);
        Ok(Self { cores, ports, rx_mode, name, interval, pool, mtu, scale, metrics, seccomp, landlock, reads, names })
    }
}

/// Whether a process can have this name.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.len() <= 64 && name.chars().all(is_plain)
}

/// The cores that were named, if this process may use them.
fn cores(list: &CoreList) -> Result<Vec<usize>, Failure> {
    let existing = CoreList::of_this_process().map_err(Failure::Core)?;
    list.check(&existing).map_err(Failure::Core)?;
    Ok(list.iter().collect())
}

/// The ports that were named, none of them twice.
fn ports(specs: &[PortSpec], role: &str) -> Result<Vec<PortPlan>, Failure> {
    if specs.is_empty() {
        return Err(Failure::Usage(machine::no_port(role)));
    }
    let mut faults = Faults::default();
    let plans: Vec<PortPlan> = specs.iter().filter_map(|spec| faults.take(plan(spec))).collect();
    for (index, port) in plans.iter().enumerate() {
        for (other, what) in plans[..index].iter().filter_map(|other| Some((other, port.clash(other)?))) {
            faults.add(wrong(
                "port",
                format!("{port} is named twice: it needs {what}, and so does {other}; name each once"),
            ));
        }
    }
    faults.finish(Some(plans))
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
    let xdp = |ifname: String| PortPlan::Xdp(XdpSpec::new(ifname));
    match spec {
        PortSpec::Udp(address) => Ok(PortPlan::Udp(*address)),
        PortSpec::Xdp(spec) => Ok(PortPlan::Xdp(spec.clone())),
        PortSpec::Interface(name) => Ok(xdp(name.clone())),
        PortSpec::Pci(PciSpec { device, host }) => match pci::way(*device)? {
            Way::Interface(name) if host.is_empty() => {
                Ok(PortPlan::Xdp(XdpSpec { vlans: host.vlans.clone(), ..XdpSpec::new(name) }))
            }
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
    /// Checks a gateway's command line. All that is wrong is said at once.
    pub fn new(args: GatewayArgs) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let scale = Scale::new(args.common.slave_bits, args.common.gw_bits).ok();
        let common = faults.take(Common::new(args.common, "gateway"));
        if common.as_ref().is_some_and(|common| common.ports.len() > 2) {
            faults.add(Failure::Usage(
                "a gateway has one --port, or two: the first faces the masters, the second the slaves".to_owned(),
            ));
        }
        let parse = |scale| wire::ShardSet::parse(scale, &args.shards).map_err(Failure::Shards);
        let shards = scale.and_then(|scale| faults.take(parse(scale)));
        if let (Some(neighbor), Some(common)) = (args.neighbors.first(), &common)
            && !common.ports.iter().any(|port| matches!(port, PortPlan::Xdp(_)))
        {
            faults.add(wrong(
                "neighbor",
                format!("{neighbor}: cargo is sent on by the XDP program, and no --port is an interface"),
            ));
        }
        if let Some(shards) = &shards {
            check_neighbors(&args.neighbors, shards, &mut faults);
        }
        let ranges = |shards: &wire::ShardSet| link::ShardRanges::from_shards(shards.iter());
        let announced = shards.as_ref().map(|shards| ranges(shards).map_err(|error| Failure::Usage(error.to_string())));
        let announced = announced.and_then(|announced| faults.take(announced));
        let keys = faults.take(keyfile::read_ring(&args.key_files));
        let mut static_routes = Some(None);
        if let (Some(path), Some(key)) = (&args.static_routes, args.key_files.first()) {
            faults.add(wrong(
                "static-routes",
                format!(
                    "{}: not together with --key-file {}: a cluster with a key lets in who proves that it belongs to it, and \
                     nobody proves anything here. Leave one of them out",
                    path.display(),
                    key.display()
                ),
            ));
        } else if let (Some(path), Some(shards), Some(common)) = (&args.static_routes, &shards, &common) {
            static_routes = faults.take(StaticRoutes::read(path, shards, common.ports.len(), MASTERS).map(Some));
        }
        let (Some(common), Some(shards), Some(announced), Some(keys), Some(static_routes)) =
            (common, shards, announced, keys, static_routes)
        else {
            return faults.finish(None);
        };
        let (hold, early, neighbors, accept_v1) =
            (args.hold.0, args.early == Switch::On, args.neighbors, args.accept_v1);
        faults.finish(Some(Self { common, hold, early, shards, announced, neighbors, keys, accept_v1, static_routes }))
    }
}

/// A neighbour is the gateway of another one's shard, and each shard has one.
fn check_neighbors(neighbors: &[NeighborSpec], served: &wire::ShardSet, faults: &mut Faults) {
    let last = served.scale().shards() - 1;
    for (index, neighbor) in neighbors.iter().enumerate() {
        let shard = neighbor.shard;
        let text = if shard.0 > last {
            format!("there is no shard {shard} for a neighbour: at this scale the shards are 0 to {last}")
        } else if served.contains(shard) {
            format!(
                "shard {shard} is served by this gateway: a neighbour is for the shards of another; leave one of them away"
            )
        } else if neighbors[..index].iter().any(|other| other.shard == shard) {
            format!("shard {shard} has a neighbour already: name one for each shard")
        } else {
            continue;
        };
        faults.add(wrong("neighbor", format!("{neighbor}: {text}")));
    }
}

impl Slave {
    /// Checks a slave's command line. All that is wrong is said at once.
    pub fn new(args: SlaveArgs) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let scale = Scale::new(args.common.slave_bits, args.common.gw_bits).ok();
        let common = faults.take(Common::new(args.common, "slave")).map(|common| Common { names: true, ..common });
        if let Some(common) = &common
            && (common.cores.as_ref().is_some_and(|cores| cores.len() > 1) || common.ports.len() > 1)
        {
            faults.add(Failure::Usage(
                "a slave has one lcore and one --port; start several with an --id each".to_owned(),
            ));
        }
        let id = faults.take(args.id.ok_or_else(|| missing("id", "--id 17", "which slave this is")));
        let range = |scale, id| Ids::range(scale, id, args.count).map_err(|error| Failure::Usage(error.to_string()));
        let ids = scale.zip(id).and_then(|(scale, id)| faults.take(range(scale, id)));
        let credential = faults.take(credential(&args.key_files, &args.cluster_key_files, args.count));
        let gateways = faults.take(gateway_addresses(&args.gateways));
        if let (Some(gateways), Some(common)) = (&gateways, &common)
            && let Some(gateway) = gateways.iter().find(|gateway| gateway.is_ipv6())
            && common.ports.iter().any(|port| !matches!(port, PortPlan::Udp(_)))
        {
            faults.add(wrong("gateway", format!("{gateway}: only a udp: port speaks IPv6: use one")));
        }
        let pages = args.memory.0 / 4096;
        if pages > link::MOST_PAGES {
            let most = link::MOST_PAGES >> 28;
            faults.add(wrong("memory", format!("a slave lends at most {most} TiB, and gateways believe no more")));
        }
        let traffic = args.traffic.map(|traffic| traffic.0);
        let (Some(common), Some(ids), Some(credential), Some(gateways)) = (common, ids, credential, gateways) else {
            return faults.finish(None);
        };
        faults.finish(Some(Self { common, gateways, ids, pages, domain: args.domain, credential, traffic }))
    }
}

/// What a slave or farm signs with.
fn credential(own: &[PathBuf], cluster: &[PathBuf], count: u32) -> Result<Credential, Failure> {
    match (own, cluster) {
        ([], []) => Ok(Credential::None),
        ([], cluster) => Ok(Credential::Cluster(keyfile::read_ring(cluster)?)),
        _ if count > 1 => {
            let text = "is the key of one slave: a farm derives its keys, give it --cluster-key-file";
            Err(wrong("key-file", text.to_owned()))
        }
        (own, _) => Ok(Credential::Node(keyfile::read_ring(own)?)),
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
