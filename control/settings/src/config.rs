//! The meaning of the command line: checked settings, from which a role is assembled.

use crate::MetricsAddress;
use crate::catalog::RoleName;
use crate::domain::Domain;
use crate::flags::{CommonArgs, GatewayArgs, ProcessArgs, SlaveArgs, Switch};
use crate::id_range::IdRange;
use crate::keyfile;
use crate::lending::LendingSettings;
use crate::neighbor::NeighborSpec;
use crate::node_keys;
use crate::plan::{PortPlan, ports};
use crate::static_routes::StaticRoutes;
use common::address;
use common::exit::Failure;
use common::faults::Faults;
use common::sockets::is_name;
use frame::pool::chunk_for_data;
use frame::{PoolConfig, PortId};
use host::privilege::seccomp;
use lcore::{CoreList, RxMode};
use link::{ClusterKey, Credential, KeyRing};
use port::spec::{MTUS, PortSpec, SOCKET_MTU};
use slave::{Ids, MAX_GATEWAYS, TrafficConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use wire::link::Role;
use wire::{GATEWAY_PORT, IPV4_UDP_LEN, Scale};

/// The smallest number of frames with which an lcore is useful.
const LEAST_FRAMES: u32 = 512;

/// The settings of every command that has ports and lcores.
#[derive(Clone, Copy, Debug)]
pub struct Basics<'a> {
    /// Cores; each has one lcore, pinned to it.
    pub lcores: Option<&'a CoreList>,
    /// The ports; the first is port 0.
    pub ports: &'a [PortSpec],
    /// How lcores wait.
    pub rx_mode: RxMode,
    /// Frames in each lcore's arena.
    pub frames: u32,
    /// Largest IP packet to send or take, in bytes.
    pub mtu: Option<u16>,
}

/// Settings of every role.
#[derive(Clone, Debug)]
pub struct Common {
    /// Cores; each has one lcore, pinned to it. `None` if none were named.
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
    /// Largest IP packet to send or take, in bytes, if it was given.
    pub mtu: Option<u16>,
    /// How large the system is.
    pub scale: Scale,
    /// Where metrics are served, if at all.
    pub metrics: Option<MetricsAddress>,
    /// What happens to system calls that nothing needs.
    pub seccomp: seccomp::Mode,
    /// Whether paths are restricted, if the kernel can do that.
    pub landlock: Switch,
    /// Files that are read again while the process runs.
    pub reads: Vec<PathBuf>,
    /// The socket for applications, if the role takes some.
    pub applications: Option<PathBuf>,
    /// Whether settings may name hosts, which are looked up when the configuration is read again.
    pub names: bool,
}

/// Settings of a gateway.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// The settings of every role.
    pub common: Common,
    /// The longest time that a record waits, in nanoseconds.
    pub hold: u64,
    /// Whether buffers leave early.
    pub early: bool,
    /// Records with PUSH of each slave that have an effect in a second.
    pub push_rate: u32,
    /// The most masters at a time.
    pub max_masters: u16,
    /// The served shards, numbered as the poll loops number them.
    pub shards: wire::ShardSet,
    /// The served shards, in the form that nodes are told.
    pub announced: link::ShardRanges,
    /// The gateways of other shards.
    pub neighbors: Vec<NeighborSpec>,
    /// The cluster key, or both while the cluster changes it.
    pub keys: KeyRing<ClusterKey>,
    /// Whether nodes of version 1 of link control are accepted.
    pub accept_v1: bool,
    /// Routes to generators that cannot register.
    pub static_routes: Option<StaticRoutes>,
}

/// Settings of a slave or a farm.
#[derive(Clone, Debug)]
pub struct SlaveSettings {
    /// The settings of every role; one lcore, one port.
    pub common: Common,
    /// The gateways, the preferred one first.
    pub gateways: Vec<SocketAddr>,
    /// Its ids.
    pub ids: Ids,
    /// What it lends, if anything.
    pub lending: Option<LendingSettings>,
    /// The failure domain of the ids.
    pub domain: Domain,
    /// The key or keys with which the ids sign.
    pub credential: Credential,
    /// Its own traffic from the start, if any.
    pub traffic: Option<TrafficConfig>,
}

impl Common {
    /// The largest IP packet that is sent or taken on a port whose device can send `able` bytes.
    pub fn mtu_of(&self, port: PortId, able: u16) -> u16 {
        let is_socket = matches!(self.ports.get(usize::from(port.0)), Some(PortPlan::Udp(_)));
        able.min(self.mtu.unwrap_or(if is_socket { SOCKET_MTU } else { able }))
    }

    /// The largest IP packet that frames must hold, whatever interfaces can send, in bytes.
    pub fn mtu_of_frames(&self) -> u16 {
        self.mtu.unwrap_or(SOCKET_MTU)
    }

    /// Checks the settings of every role.
    pub(crate) fn new(args: CommonArgs, role: &str) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let scale = faults.take(Scale::new(args.slave_bits, args.gw_bits).map_err(Failure::Scale));
        if args.heartbeat.0 < frame::time::MILLISECOND || args.heartbeat.0 > 3600 * frame::time::SECOND {
            faults.add(wrong("heartbeat", format!("{}: choose 1ms to 3600s", args.heartbeat)));
        }
        let process = args.process;
        let name = faults.take(name(process.name, role));
        let basics = Basics {
            lcores: process.lcores.as_ref(),
            ports: &args.ports,
            rx_mode: process.rx_mode,
            frames: args.frames,
            mtu: args.mtu,
        };
        let common = faults.take(Self::of(&basics, role));
        let (Some(scale), Some(common), Some(name)) = (scale, common, name) else { return faults.finish(None) };
        let ProcessArgs { metrics, seccomp, landlock, .. } = process;
        let interval = args.heartbeat.0;
        faults.finish(Some(Self { name, scale, interval, metrics, seccomp, landlock, ..common }))
    }

    /// Checks the settings of a role without ports.
    pub(crate) fn without_ports(process: ProcessArgs, role: &str) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let name = faults.take(name(process.name, role));
        let cores = faults.take(process.lcores.as_ref().map(cores).transpose());
        let (Some(name), Some(cores)) = (name, cores) else { return faults.finish(None) };
        let ProcessArgs { rx_mode, metrics, seccomp, landlock, .. } = process;
        Ok(Self {
            cores,
            ports: Vec::new(),
            rx_mode,
            name,
            interval: frame::time::SECOND,
            pool: PoolConfig::default(),
            mtu: None,
            scale: Scale::default(),
            metrics,
            seccomp,
            landlock,
            reads: Vec::new(),
            applications: None,
            names: false,
        })
    }

    /// Checks the settings of every command that has ports and lcores. Settings of roles have their defaults.
    ///
    /// # Errors
    /// Some of them are not possible, or the machine does not have what they name. All faults are reported at once.
    pub fn of(basics: &Basics<'_>, role: &str) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let Basics { frames, mtu, rx_mode, .. } = *basics;
        if frames < LEAST_FRAMES {
            faults.add(wrong("frames", format!("{frames}: an lcore needs at least {LEAST_FRAMES}")));
        }
        if let Some(mtu) = mtu.filter(|mtu| !MTUS.contains(mtu)) {
            let (least, most) = (MTUS.start(), MTUS.end());
            faults.add(wrong("mtu", format!("{mtu}: choose {least} to {most}")));
        }
        let cores = faults.take(basics.lcores.map(cores).transpose());
        let ports = faults.take(ports(basics.ports, role));
        let (Some(cores), Some(ports)) = (cores, ports) else { return faults.finish(None) };
        faults.check()?;
        let largest = mtu.unwrap_or(SOCKET_MTU);
        let chunk = chunk_for_data(u32::from(largest - IPV4_UDP_LEN));
        Ok(Self {
            cores,
            ports,
            rx_mode,
            name: role.to_owned(),
            interval: frame::time::SECOND,
            pool: PoolConfig { frames, chunk, ..PoolConfig::default() },
            mtu,
            scale: Scale::default(),
            metrics: None,
            seccomp: seccomp::Mode::On,
            landlock: Switch::On,
            reads: Vec::new(),
            applications: None,
            names: false,
        })
    }
}

/// The name of a process.
fn name(given: Option<String>, role: &str) -> Result<String, Failure> {
    let name = given.unwrap_or_else(|| role.to_owned());
    let text = format!("\"{name}\": use up to 64 letters, digits, and - _ .");
    if is_name(&name) { Ok(name) } else { Err(wrong("name", text)) }
}

/// The named cores, if this process may use them.
fn cores(list: &CoreList) -> Result<Vec<usize>, Failure> {
    let existing = CoreList::of_this_process().map_err(Failure::Core)?;
    list.check(&existing).map_err(Failure::Core)?;
    Ok(list.iter().collect())
}

/// A setting's value cannot be used.
pub(crate) fn wrong(name: &'static str, text: String) -> Failure {
    Failure::Setting { name, text }
}

/// A necessary setting was not given.
pub(crate) fn missing(role: RoleName, name: &str, flag: &str, what: &str) -> Failure {
    let key = flag.trim_start_matches('-').replacen(' ', " = ", 1);
    let place = format!("in the configuration file ({key} under [{role}])");
    Failure::Usage(format!("no --{name}: say {what}, as in {flag}, or {place}"))
}

impl GatewaySettings {
    /// Checks a gateway's command line. All faults are reported at once.
    ///
    /// # Errors
    /// One fault is the error itself. Several are one [`Failure::Several`]. Faults are values that cannot be used or
    /// exclude each other, and files of keys and static routes that cannot be read.
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
                    "{}: not together with --key-file {}: a cluster with a key lets in who proves that it belongs to \
                     it, and \
                     nobody proves anything here. Leave one of them out",
                    path.display(),
                    key.display()
                ),
            ));
        } else if let (Some(path), Some(shards), Some(common)) = (&args.static_routes, &shards, &common) {
            static_routes =
                faults.take(StaticRoutes::read(path, shards, common.ports.len(), args.max_masters).map(Some));
        }
        let (Some(common), Some(shards), Some(announced), Some(keys), Some(static_routes)) =
            (common, shards, announced, keys, static_routes)
        else {
            return faults.finish(None);
        };
        faults.finish(Some(Self {
            common,
            hold: args.hold.0,
            early: args.early == Switch::On,
            push_rate: args.push_rate,
            max_masters: args.max_masters,
            shards,
            announced,
            neighbors: args.neighbors,
            keys,
            accept_v1: args.accept_v1,
            static_routes,
        }))
    }
}

/// Checks the gateways of other shards: none for a shard that is served here, and one for each shard.
fn check_neighbors(neighbors: &[NeighborSpec], served: &wire::ShardSet, faults: &mut Faults) {
    let last = served.scale().shards() - 1;
    for (index, neighbor) in neighbors.iter().enumerate() {
        let shard = neighbor.shard;
        let text = if shard.0 > last {
            format!("there is no shard {shard} for a neighbour: at this scale the shards are 0 to {last}")
        } else if served.contains(shard) {
            format!(
                "shard {shard} is served by this gateway: a neighbour is for the shards of another; leave one of them \
                 away"
            )
        } else if neighbors[..index].iter().any(|other| other.shard == shard) {
            format!("shard {shard} has a neighbour already: name one for each shard")
        } else {
            continue;
        };
        faults.add(wrong("neighbor", format!("{neighbor}: {text}")));
    }
}

impl SlaveSettings {
    /// Checks a slave's command line. All that is wrong is reported at once.
    ///
    /// # Errors
    /// A setting cannot be used, or the machine does not have what it names.
    pub fn new(args: SlaveArgs) -> Result<Self, Failure> {
        Self::checked(args, HostNames::LookUp)
    }

    /// The same for a configuration that is read again: gateways that are named by host names are left out.
    ///
    /// # Errors
    /// As [`SlaveSettings::new`].
    pub fn again(args: SlaveArgs) -> Result<Self, Failure> {
        Self::checked(args, HostNames::Skip)
    }

    fn checked(args: SlaveArgs, names: HostNames) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let scale = Scale::new(args.common.slave_bits, args.common.gw_bits).ok();
        let common =
            faults.take(Common::new(args.common.clone(), "slave")).map(|common| Common { names: true, ..common });
        if let Some(common) = &common
            && (common.cores.as_ref().is_some_and(|cores| cores.len() > 1) || common.ports.len() > 1)
        {
            faults.add(Failure::Usage(
                "a slave has one lcore and one --port; start several with an --id each".to_owned(),
            ));
        }
        let id = faults.take(args.id.ok_or_else(|| missing(RoleName::Slave, "id", "--id 17", "which slave this is")));
        let range = |scale, id| Ids::range(scale, id, args.count).map_err(|error| Failure::Usage(error.to_string()));
        let ids = scale.zip(id).and_then(|(scale, id)| faults.take(range(scale, id)));
        let own = IdRange::new(id.unwrap_or(0), args.count);
        let credential = faults.take(credential(&args.key_files, &args.cluster_key_files, Role::Slave, own));
        let gateways = faults.take(gateway_addresses(RoleName::Slave, &args.gateways, names));
        if let (Some(gateways), Some(common)) = (&gateways, &common) {
            faults.take(check_family(gateways, common));
        }
        let lending = credential.as_ref().and_then(|key| faults.take(LendingSettings::new(&args, args.count, key)));
        let traffic = args.traffic.map(|traffic| traffic.0);
        let (Some(common), Some(ids), Some(credential), Some(gateways), Some(lending)) =
            (common, ids, credential, gateways, lending)
        else {
            return faults.finish(None);
        };
        faults.finish(Some(Self { common, gateways, ids, lending, domain: args.domain, credential, traffic }))
    }
}

/// Checks that the ports can reach the gateways: only sockets speak IPv6.
pub(crate) fn check_family(gateways: &[SocketAddr], common: &Common) -> Result<(), Failure> {
    let is_raw = common.ports.iter().any(|port| !matches!(port, PortPlan::Udp(_)));
    match gateways.iter().find(|gateway| gateway.is_ipv6()) {
        Some(gateway) if is_raw => Err(wrong("gateway", format!("{gateway}: only a udp: port speaks IPv6: use one"))),
        _ => Ok(()),
    }
}

/// The keys with which the nodes of a process sign: ids of one role; `None` if there are no such ids, which another
/// error says.
pub(crate) fn credential(
    own: &[PathBuf],
    cluster: &[PathBuf],
    role: Role,
    ids: Option<IdRange>,
) -> Result<Credential, Failure> {
    match (own, cluster) {
        ([], []) => Ok(Credential::None),
        ([], cluster) => Ok(Credential::Cluster(keyfile::read_ring(cluster)?)),
        (own, _) => ids.map_or(Ok(Credential::None), |ids| node_keys::credential(own, role, ids)),
    }
}

/// Whether host names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostNames {
    /// They are.
    LookUp,
    /// They are not: a look-up takes sockets, which a confined process may not open.
    Skip,
}

/// The gateways of a node, each named once.
pub(crate) fn gateway_addresses(
    role: RoleName,
    texts: &[String],
    names: HostNames,
) -> Result<Vec<SocketAddr>, Failure> {
    if texts.is_empty() {
        return Err(missing(role, "gateway", "--gateway 192.0.2.1", "where its gateway is"));
    }
    let mut gateways = Vec::with_capacity(texts.len());
    for text in texts {
        if names == HostNames::Skip && address::read(text, GATEWAY_PORT).is_none() {
            continue;
        }
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
