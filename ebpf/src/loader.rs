//! Loads the XDP program, attaches it to an interface, and fills its maps.

use crate::error::{SteerError, load_error, missing, os_error};
use crate::interface;
use crate::layout::{LOCAL_WORDS, NEIGHBOR_WORDS, NO_PORT, SHARD_MINE, SHARD_NEIGHBORS, SHARD_NONE, VLAN_WORDS};
use crate::local::Local;
use crate::neighbor::{Neighbor, Slots};
use crate::verdict::Verdict;
use aya::maps::{Array, DevMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use wire::net::Mac;
use wire::{Shard, ShardSet};

static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Where in the interface's receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before the kernel makes a socket buffer: needed for speed.
    Driver,
    /// In the network stack, for drivers without XDP: works on every interface, slowly.
    Generic,
}

/// The set of VLANs that contains only packets without a tag.
pub const UNTAGGED: [u32; VLAN_WORDS] = {
    let mut words = [0; VLAN_WORDS];
    words[0] = 1;
    words
};

/// The settings of the program.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// The shards that this gateway serves, and the scale that they belong to.
    pub shards: &'a ShardSet,
    /// The UDP port whose datagrams are judged.
    pub udp_port: u16,
    /// How many ports in a row are judged, from that one on: each lcore of a master has one.
    pub udp_ports: u16,
    /// Accept packets in several pieces, as jumbo frames come. The sockets must accept them too (`XDP_USE_SG`), or they
    /// are lost.
    pub frags: bool,
    /// Give RoCEv2 packets to the sockets; otherwise the kernel keeps them.
    pub claim_roce: bool,
    /// A bit for each VLAN id whose packets are accepted, 32 to a word; id 0 means no tag.
    pub vlans: [u32; VLAN_WORDS],
    /// The gateways of other shards.
    pub neighbors: Vec<Neighbor>,
}

impl<'a> Config<'a> {
    /// For a gateway of these shards on its usual port, without neighbours, for packets in one piece and without a tag.
    pub const fn new(shards: &'a ShardSet) -> Self {
        Self {
            shards,
            udp_port: wire::GATEWAY_PORT,
            udp_ports: 1,
            frags: false,
            claim_roce: false,
            vlans: UNTAGGED,
            neighbors: Vec::new(),
        }
    }
}

/// The XDP program of one interface. It is detached when this is dropped, or when the process dies in any way.
pub struct Steer {
    ebpf: Ebpf,
    attached: Option<(String, FdLink)>,
    entry: &'static str,
    local: Local,
    shards: ShardSet,
    slots: Slots,
}

impl Steer {
    /// Loads the program. It sees no packet before [`Steer::attach`], and takes none before [`Steer::set_addresses`].
    ///
    /// Takes about a microsecond for each shard that is served.
    ///
    /// # Errors
    /// The error is [`SteerError::Permission`] when the process lacks the capabilities. It is [`SteerError::Load`] when
    /// the kernel refuses the program or its table of shards. It is [`SteerError::Os`] when the kernel refuses to write
    /// the program's memory. A neighbour fails as in [`Steer::set_neighbor`].
    pub fn load(config: &Config<'_>) -> Result<Self, SteerError> {
        let scale = config.shards.scale();
        let claimed_port = if config.claim_roce { wire::ROCE_PORT.into() } else { NO_PORT };
        let mut ebpf = EbpfLoader::new()
            // The program needs none of the kernel's types; reading them takes most of the time of a load.
            .btf(None)
            .override_global("udp_port", &config.udp_port, true)
            .override_global("udp_ports", &u32::from(config.udp_ports), true)
            .override_global("claimed_port", &claimed_port, true)
            .override_global("gw_bits", &u32::from(scale.gw_bits()), true)
            .override_global("vlans", &config.vlans, true)
            .map_max_entries("shards", scale.shards())
            .load(PROGRAM)
            .map_err(load_error)?;
        let entry = if config.frags { "steer_frags" } else { "steer" };
        program(&mut ebpf, entry)?.load().map_err(load_error)?;
        let (shards, slots) = (config.shards.clone(), Slots::new());
        let mut steer = Self { ebpf, attached: None, entry, local: Local::new(), shards, slots };
        // Without this, zeros would not mean that no address is ours.
        steer.write_local()?;
        let mut table = array::<u32>(&mut steer.ebpf, "shards")?;
        for shard in config.shards.iter() {
            table.set(shard.0, SHARD_MINE, 0).map_err(load_error)?;
        }
        for neighbor in &config.neighbors {
            steer.set_neighbor(neighbor)?;
        }
        Ok(steer)
    }

    /// Attaches the program to an interface of the calling thread's network namespace, and takes packets to its MAC.
    ///
    /// # Errors
    /// The error is [`SteerError::Attached`] when the program is on an interface already. It is
    /// [`SteerError::NoInterface`] when this interface is not here. It is [`SteerError::Busy`] when the interface has
    /// another program. [`SteerError::NoDriverXdp`], [`SteerError::Mtu`] and [`SteerError::NoLink`] say that driver,
    /// MTU or kernel do not allow it. It is [`SteerError::Permission`] when the process lacks the capabilities. It is
    /// [`SteerError::Os`] for any other refusal.
    pub fn attach(&mut self, ifname: &str, hook: Hook) -> Result<(), SteerError> {
        if let Some((name, _)) = &self.attached {
            return Err(SteerError::Attached(name.clone()));
        }
        let name = ifname.to_owned();
        let mac = interface::mac(ifname).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => SteerError::NoInterface(name.clone()),
            _ => SteerError::Os { action: format!("read the MAC of {name}"), source: error.into() },
        })?;
        self.set_mac(mac)?;
        let mode = match hook {
            Hook::Driver => XdpMode::Driver,
            Hook::Generic => XdpMode::Skb,
        };
        let xdp = program(&mut self.ebpf, self.entry)?;
        let id = xdp.attach(ifname, mode).map_err(|error| match (&error, os_error(&error)) {
            (ProgramError::UnknownInterface { .. }, _) | (_, Some(libc::ENODEV)) => {
                SteerError::NoInterface(name.clone())
            }
            (_, Some(libc::EPERM | libc::EACCES)) => SteerError::Permission("attach the XDP program"),
            (_, Some(libc::EBUSY | libc::EEXIST)) => SteerError::Busy(name.clone()),
            (_, Some(libc::EOPNOTSUPP)) => SteerError::NoDriverXdp(name.clone()),
            (_, Some(libc::ERANGE)) => SteerError::Mtu(name.clone()),
            _ => SteerError::Os { action: format!("attach the XDP program to {name}"), source: error.into() },
        })?;
        let link = xdp.take_link(id).map_err(load_error)?;
        // The attach method of old kernels would leave the program behind if this process were killed.
        let link = FdLink::try_from(link).map_err(|_| SteerError::NoLink(name.clone()))?;
        self.attached = Some((name, link));
        Ok(())
    }

    /// Takes packets to this MAC. [`Steer::attach`] does it with the interface's own, which may change later.
    ///
    /// # Errors
    /// The error is [`SteerError::Os`] when the kernel refuses to write the program's memory. It is
    /// [`SteerError::Load`] when the program has no such memory.
    pub fn set_mac(&mut self, mac: Mac) -> Result<(), SteerError> {
        self.local.set_mac(mac);
        self.write_local()
    }

    /// Takes packets to these IPv4 addresses, at most [`MAX_ADDRESSES`](crate::MAX_ADDRESSES), and to no others.
    ///
    /// # Errors
    /// The error is [`SteerError::Addresses`] when there are too many addresses. It is [`SteerError::Os`] when the
    /// kernel refuses to write the program's memory.
    pub fn set_addresses(&mut self, addresses: &[Ipv4Addr]) -> Result<(), SteerError> {
        self.local.set_addresses(addresses)?;
        self.write_local()
    }

    fn write_local(&mut self) -> Result<(), SteerError> {
        let words = self.local.words();
        array::<[u32; LOCAL_WORDS]>(&mut self.ebpf, ".bss")?
            .set(0, words, 0)
            .map_err(|error| write_error("the interface's addresses", error))
    }

    /// From now on, sends the cargo of a shard that is not served here to its gateway, new or at a new place.
    ///
    /// Call it again when the interface was deleted and made anew: until then its packets are dropped.
    ///
    /// # Errors
    /// The error is [`SteerError::NoShard`] when the scale does not have the shard. It is [`SteerError::OwnShard`] when
    /// it is served here. It is [`SteerError::Neighbors`] when no slot is free. It is
    /// [`SteerError::NoNeighborInterface`] when the interface is not here. It is [`SteerError::Os`] for any other
    /// refusal of the kernel.
    pub fn set_neighbor(&mut self, neighbor: &Neighbor) -> Result<(), SteerError> {
        let &Neighbor { shard, ifindex, .. } = neighbor;
        let shards = self.shards.scale().shards();
        if shard.0 >= shards {
            return Err(SteerError::NoShard { shard, shards });
        }
        if self.shards.contains(shard) {
            return Err(SteerError::OwnShard(shard));
        }
        let slot = self.slots.next(shard)?;
        let write_error = |error| write_error(format_args!("the neighbour of shard {shard}"), error);
        let ports = self.ebpf.map_mut("ports").ok_or_else(|| missing("ports"))?;
        let mut ports = DevMap::try_from(ports).map_err(load_error)?;
        ports.set(slot, ifindex, None, 0).map_err(|error| match os_error(&error) {
            Some(libc::EINVAL | libc::ENODEV) => SteerError::NoNeighborInterface { shard, ifindex },
            _ => SteerError::Os { action: format!("open the port to shard {shard}"), source: error.into() },
        })?;
        array::<[u32; NEIGHBOR_WORDS]>(&mut self.ebpf, "neighbors")?
            .set(slot, neighbor.words(), 0)
            .map_err(write_error)?;
        // Everything is in place before the program can find it.
        array::<u32>(&mut self.ebpf, "shards")?.set(shard.0, SHARD_NEIGHBORS + slot, 0).map_err(write_error)?;
        self.slots.commit(shard);
        Ok(())
    }

    /// From now on, drops the cargo of a shard that is served elsewhere; returns whether it had a neighbour.
    ///
    /// # Errors
    /// The error is [`SteerError::Os`] when the kernel refuses to write the table of shards. The neighbour then stays.
    pub fn remove_neighbor(&mut self, shard: Shard) -> Result<bool, SteerError> {
        if !self.slots.contains(shard) {
            return Ok(false);
        }
        array::<u32>(&mut self.ebpf, "shards")?
            .set(shard.0, SHARD_NONE, 0)
            .map_err(|error| write_error(format_args!("shard {shard}"), error))?;
        Ok(self.slots.release(shard))
    }

    /// Gives the packets of a receive queue to an AF_XDP socket, which is bound to the same interface and queue.
    ///
    /// # Errors
    /// The error is [`SteerError::Queue`] when the map has no place for the queue. It is [`SteerError::Os`] when the
    /// kernel refuses the socket.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        self.sockets()?.set(queue, socket.as_raw_fd(), 0).map_err(|error| queue_error(queue, error))
    }

    /// Drops the packets of a receive queue from now on.
    ///
    /// # Errors
    /// The error is [`SteerError::Queue`] when the map has no place for the queue. It is [`SteerError::Os`] when the
    /// kernel refuses to empty its place.
    pub fn clear_socket(&mut self, queue: u32) -> Result<(), SteerError> {
        self.sockets()?.unset(queue).map_err(|error| queue_error(queue, error))
    }

    fn sockets(&mut self) -> Result<XskMap<&mut MapData>, SteerError> {
        let map = self.ebpf.map_mut("sockets").ok_or_else(|| missing("sockets"))?;
        XskMap::try_from(map).map_err(load_error)
    }

    /// Packets with this verdict since the program was loaded, summed over all CPUs.
    ///
    /// # Errors
    /// The error is [`SteerError::Os`] when the kernel does not give the counters. It is [`SteerError::Load`] when the
    /// program has none.
    pub fn packets(&self, verdict: Verdict) -> Result<u64, SteerError> {
        let map = self.ebpf.map("verdicts").ok_or_else(|| missing("verdicts"))?;
        let verdicts: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(load_error)?;
        let cpus = verdicts
            .get(&(verdict as u32), 0)
            .map_err(|error| SteerError::Os { action: "read the verdicts".to_owned(), source: error.into() })?;
        Ok(cpus.iter().sum())
    }

    /// Visits the name, the help and the packets of every verdict, in the order of [`Verdict::ALL`].
    ///
    /// # Errors
    /// It fails as [`Steer::packets`] does. The verdicts before the one that failed were visited.
    pub fn visit(&self, visitor: &mut dyn FnMut(&'static str, &'static str, u64)) -> Result<(), SteerError> {
        for verdict in Verdict::ALL {
            visitor(verdict.name(), verdict.help(), self.packets(verdict)?);
        }
        Ok(())
    }

    /// The program, for [`aya::programs::TestRun`] and [`Xdp::info`].
    ///
    /// # Errors
    /// The error is [`SteerError::Load`] when the object does not have the program.
    pub fn program(&mut self) -> Result<&mut Xdp, SteerError> {
        program(&mut self.ebpf, self.entry)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, SteerError> {
    ebpf.program_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(load_error)
}

fn array<'a, T: Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, T>, SteerError> {
    let map: &mut Map = ebpf.map_mut(name).ok_or_else(|| missing(name))?;
    Array::try_from(map).map_err(load_error)
}

fn write_error(what: impl std::fmt::Display, error: MapError) -> SteerError {
    SteerError::Os { action: format!("tell the XDP program {what}"), source: error.into() }
}

fn queue_error(queue: u32, error: MapError) -> SteerError {
    match error {
        MapError::OutOfBounds { .. } => SteerError::Queue(queue),
        error => SteerError::Os { action: format!("set the socket of queue {queue}"), source: error.into() },
    }
}
