//! The process's ports, built from their specifications. They are examined together, because all share lcores, arenas
//! and copy mode.

use super::cores::{Lcores, cores};
use super::dpdk::{self, DpdkNic};
use super::limits::limits;
use super::nic::{self, Agreed, Found, Nic};
use super::offloads;
use crate::ending;
use common::exit::Failure;
use common::sockets::directory;
use frame::pool::{LARGEST_CHUNK, chunk_for};
use frame::{Pool, PoolConfig, PortId};
use host::hugepages::{self, MemoryNeed};
use host::pci;
use host::privilege::{Confinement, Needs, Places, Thread, capability};
use port::Port as _;
use port::any::AnyPort;
use port::claims::LcorePorts;
use port::dpdk::{Environment, smallest_chunk};
use port::rate::Limit;
use port::spec::{DpdkSpec, MTUS, SocketSpec, XdpMode};
use port::udp::{OwnAddresses, UdpOptions, UdpPort, UdpSockets};
use port::watch::{Subject, Watcher};
use port::xdp::{Umem, XdpError, can_zero_copy, has_chains, largest_packet, largest_packet_zero_copy};
use rustix::thread::CapabilitySet;
use settings::config::Common;
use settings::flags::Switch;
use settings::neighbor::NeighborSpec;
use settings::plan::PortPlan;
use settings::static_routes::PortFacts;
use std::iter;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The possible ring sizes of one socket.
const RINGS: std::ops::RangeInclusive<u32> = 64..=2048;

/// The default MTU of a device of DPDK: Ethernet's.
const DEVICE_MTU: u16 = 1500;

/// The time in which interfaces are released. The kernel may first handle all other interfaces, one after the other.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(8);

/// The source of one port of every lcore.
#[derive(Clone)]
enum Source {
    Socket(Sockets),
    Nic(Arc<Nic>),
    Dpdk(Arc<DpdkNic>),
}

/// The sockets of one port on all lcores.
#[derive(Clone)]
struct Sockets {
    address: SocketAddr,
    /// The addresses of this host that they know.
    own: Arc<OwnAddresses>,
    /// Follows the interface that has the address.
    watcher: Arc<Watcher>,
    /// The sockets of lcores that have not taken theirs: the first lcore opens all.
    opened: Arc<Mutex<Vec<UdpSockets>>>,
}

impl Sockets {
    /// Opens the sockets of one lcore that has a UDP port of its own.
    fn open_own(&self, lcore: u16, options: UdpOptions) -> Result<UdpSockets, Failure> {
        let mut address = self.address;
        if address.port() != 0 {
            // The settings were checked: there are so many.
            address.set_port(address.port().saturating_add(lcore));
        }
        UdpSockets::open(address, 0, options).map(|(own, _)| own).map_err(Failure::Udp)
    }

    /// Takes the sockets of one lcore.
    fn take(&self, lcore: u16, lcores: usize, options: UdpOptions) -> Result<UdpSockets, Failure> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if lcore == 0 {
            let (first, others) = UdpSockets::open(self.address, lcores - 1, options).map_err(Failure::Udp)?;
            *opened = others;
            return Ok(first);
        }
        opened.pop().ok_or_else(|| Failure::Internal("an lcore has no sockets".to_owned()))
    }
}

/// All ports of the process, ready for its lcores to open them.
#[derive(Clone)]
pub struct Ports {
    sources: Vec<Source>,
    /// The rates of ports that have one, by the numbers of the ports.
    limits: Vec<Option<Limit>>,
    /// One lcore for each, pinned to this core; `None` leaves the choice to the scheduler.
    pub cores: Vec<Option<usize>>,
    /// Shape of each lcore's arena.
    pub pool: PoolConfig,
    /// The address bits that all devices of DPDK can use, if an IOMMU limits them.
    pub address_bits: Option<u32>,
    /// The requested largest IP packet, in bytes.
    mtu: Option<u16>,
    /// DPDK, if a port needs it.
    environment: Option<Environment>,
    /// How the threads of the process are confined after set-up.
    pub confinement: Confinement,
    /// Whether each lcore has a UDP port of its own.
    own_ports: bool,
    /// Whether they receive RoCEv2: NIC queues in addition to their own UDP port, sockets instead of it.
    roce: bool,
}

/// The memory that a process with these settings needs.
///
/// # Errors
/// It fails as [`check`] does.
pub fn memory(common: &Common) -> Result<MemoryNeed, Failure> {
    let looked = look(common, Lcores::UpTo(usize::MAX))?;
    Ok(memory_of(common, &looked))
}

fn memory_of(common: &Common, looked: &Looked) -> MemoryNeed {
    let pool = looked.largest_pool();
    let Looked { found, cores, .. } = looked;
    let node = |found: &Found| {
        let file = format!("/sys/class/net/{}/device/numa_node", found.interface.name);
        std::fs::read_to_string(file).ok()?.trim().parse::<u32>().ok()
    };
    let mut nodes = found.iter().map(node);
    let first = nodes.next().flatten();
    let node = first.filter(|_| nodes.all(|node| node == first));
    let queues = devices(common).count() * cores.len();
    let dpdk = if queues == 0 { 0 } else { dpdk::memory(queues, &pool) };
    MemoryNeed { lcores: cores.len(), frames: pool.frames, chunk: pool.chunk, node, dpdk }
}

/// Examines all ports as a start would, and opens nothing. Returns what each can do.
///
/// # Errors
/// It fails as [`Found::find`] does. The error is [`Failure::Usage`] when the ports exclude each other, or a packet
/// fits no frame. It is [`Failure::Machine`] when an interface has fewer receive queues than there are cores.
pub fn check(common: &Common, lcores: Lcores) -> Result<Vec<PortFacts>, Failure> {
    let Looked { found, .. } = look(common, lcores)?;
    let mut interfaces = found.iter();
    let facts = common.ports.iter().zip(0..).map(|(plan, id)| {
        let able = match plan {
            PortPlan::Udp(_) => u16::MAX,
            PortPlan::Xdp(_) => interfaces.next().map_or(u16::MAX, |found| found.interface.mtu.min(65_535) as u16),
            PortPlan::Dpdk(spec) => spec.host.mtu.unwrap_or(DEVICE_MTU),
        };
        PortFacts::new(plan, common.mtu_of(PortId(id), able))
    });
    Ok(facts.collect())
}

/// Ports that were examined together, but not changed.
struct Looked {
    found: Vec<Found>,
    /// The names and the number of receive queues of ports on interfaces.
    queues: Vec<(String, usize)>,
    cores: Vec<Option<usize>>,
    limits: Vec<Option<Limit>>,
    /// The arena in copy mode.
    copying: PoolConfig,
    /// The arena with zero-copy, whose frames are larger: NICs count their buffers in KiB.
    zero_copy: PoolConfig,
}

fn look(common: &Common, lcores: Lcores) -> Result<Looked, Failure> {
    let mut found = Vec::new();
    for (id, plan) in common.ports.iter().enumerate() {
        if let PortPlan::Xdp(spec) = plan {
            found.push(Found::find(PortId(id as u8), spec)?);
        }
    }
    if let Some(twice) = found.iter().find(|a| found.iter().any(|b| a.id < b.id && same_device(a, b))) {
        return Err(Failure::Usage(format!(
            "--port {}: {} is named twice: a gateway on one interface has one --port",
            twice.spec, twice.interface.name
        )));
    }
    let asked: Vec<_> = found.iter().map(|found| (found.interface.name.clone(), found.spec.mode)).collect();
    one_mode(&asked)?;
    let queues: Vec<_> = found.iter().map(|f| (f.interface.name.clone(), f.interface.rx_queues as usize)).collect();
    let cores = cores(common.cores.as_deref(), &queues, lcores)?;
    let limits = limits(&common.ports, cores.len())?;
    let copying = pool(common, &found, false)?;
    let zero_copy = pool(common, &found, true)?;
    Ok(Looked { found, queues, cores, limits, copying, zero_copy })
}

impl Looked {
    /// The largest arena that may be needed: the mode of the ports is known when their sockets are bound.
    fn largest_pool(&self) -> PoolConfig {
        let may = |found: &Found| {
            // Only a device can write to memory itself; virtual interfaces like veth have none.
            let device = Path::new("/sys/class/net").join(&found.interface.name).join("device");
            matches!(found.spec.mode, XdpMode::Auto | XdpMode::ZeroCopy) && device.exists()
        };
        if !self.found.is_empty() && self.found.iter().all(may) { self.zero_copy } else { self.copying }
    }
}

impl Ports {
    /// Examines all ports, and attaches the XDP program to those that need it, with this steering and the gateways of
    /// other shards.
    ///
    /// # Errors
    /// It fails as [`check`] does before anything has changed. Then it fails as [`Nic::attach`], [`dpdk::start`] and
    /// [`DpdkNic::open`] do. The error is [`Failure::Machine`] when the process lacks capabilities. It is
    /// [`Failure::Xdp`] when a port asks for zero-copy and cannot have it.
    pub fn prepare(
        common: &Common,
        steering: &ebpf::Config<'_>,
        neighbors: &[NeighborSpec],
        lcores: Lcores,
    ) -> Result<Self, Failure> {
        offloads::restore_left_off();
        let looked = look(common, lcores)?;
        looked.found.iter().try_for_each(|found| capability::check_xdp(&found.spec.to_string()))?;
        hugepages::announce(&memory_of(common, &looked));
        let Looked { found, queues, cores, limits, copying, zero_copy } = looked;
        let on_devices = devices(common).map(|(_, spec)| (spec.device.to_string(), cores.len()));
        let all: Vec<_> = queues.iter().cloned().chain(on_devices).collect();
        let ring = ring(copying.frames, &all, cores.len());
        let asked: Vec<_> = found.iter().map(|found| (found.interface.name.clone(), found.spec.mode)).collect();
        let chains = has_chains(zero_copy.chunk);
        let (mode, why) = agree(&asked, |index| {
            let interface = &found[index].interface;
            let can = |chains| can_zero_copy(interface, 0, chains).map_err(|error| nic::taken(interface.index, error));
            Ok(match can(chains)? {
                true => ZeroCopy::Works,
                false if !chains => ZeroCopy::None,
                false if can(false)? => ZeroCopy::SmallPackets,
                false => ZeroCopy::NotLarge,
            })
        })?;
        let pool = if mode == XdpMode::ZeroCopy { zero_copy } else { copying };
        let own_ports = lcores.has_own_ports();
        let udp_ports = if own_ports { u16::try_from(cores.len()).unwrap_or(u16::MAX) } else { 1 };
        let steering = &ebpf::Config { frags: has_chains(pool.chunk), udp_ports, ..steering.clone() };
        if let Some(why) = &why {
            tracing::info!("copy mode on all xdp: ports: {why}");
        }
        let devices: Vec<&DpdkSpec> = devices(common).map(|(_, spec)| spec).collect();
        let needs = Needs {
            xdp: !found.is_empty(),
            dpdk: !devices.is_empty(),
            applications: common.applications.is_some(),
            disk: false,
            names: common.names,
        };
        let beside = common.applications.as_deref().and_then(Path::parent).map(Path::to_owned);
        let sockets = iter::once(directory()).chain(beside).collect();
        let places = Places { reads: common.reads.clone(), sockets, names: common.names };
        let confinement = Confinement::new(common.seccomp, needs, (common.landlock == Switch::On).then_some(places))?;
        let environment = if devices.is_empty() { None } else { Some(dpdk::start(&devices, &cores, &pool)?) };
        let room = if mode == XdpMode::ZeroCopy { largest_packet_zero_copy } else { largest_packet };
        let agreed = Agreed { mode, why_copy: why, ring, largest: room(pool.chunk) };
        let mut found = found.into_iter();
        let mut sources = Vec::with_capacity(common.ports.len());
        for (id, plan) in common.ports.iter().enumerate() {
            sources.push(match plan {
                PortPlan::Udp(SocketSpec { address, .. }) => {
                    let confined = confinement.clone();
                    let prepare = move || confined.try_enter(Thread::Addresses, CapabilitySet::empty());
                    let watcher = Watcher::start(Subject::Address(address.ip()), prepare, |_, _| ());
                    Source::Socket(Sockets {
                        address: *address,
                        own: Arc::default(),
                        watcher: Arc::new(watcher.map_err(Failure::Neighbours)?),
                        opened: Arc::default(),
                    })
                }
                PortPlan::Xdp(_) => {
                    let found = found.next().ok_or_else(|| Failure::Internal("a port went missing".to_owned()))?;
                    let agreed = agreed.clone();
                    Source::Nic(Arc::new(Nic::attach(found, steering, neighbors, agreed, &confinement)?))
                }
                PortPlan::Dpdk(spec) => {
                    let Some(environment) = &environment else {
                        return Err(Failure::Internal("a port of DPDK without DPDK".to_owned()));
                    };
                    let id = PortId(id as u8);
                    Source::Dpdk(Arc::new(DpdkNic::open(
                        id,
                        spec,
                        environment,
                        (cores.len(), own_ports),
                        &pool,
                        ring,
                        &confinement,
                    )?))
                }
            });
        }
        let address_bits = devices.iter().filter_map(|spec| spec.pci()).filter_map(pci::address_bits).min();
        let (mtu, roce) = (common.mtu, steering.claim_roce);
        Ok(Self { sources, limits, cores, pool, address_bits, mtu, environment, confinement, own_ports, roce })
    }

    /// The interfaces among them.
    pub fn nics(&self) -> impl Iterator<Item = &Arc<Nic>> {
        self.sources.iter().filter_map(|source| match source {
            Source::Nic(nic) => Some(nic),
            Source::Socket(_) | Source::Dpdk(_) => None,
        })
    }

    /// The rate of a port, if it has one.
    pub fn limit(&self, port: PortId) -> Option<Limit> {
        self.limits.get(usize::from(port.0)).copied().flatten()
    }

    /// Makes NICs send packets to the lcore that they are for, where each has a UDP port of its own.
    pub fn steer_lcores(&self) {
        if self.own_ports {
            self.nics().for_each(|nic| nic.steer_lcores(u16::try_from(self.cores.len()).unwrap_or(u16::MAX)));
        }
    }

    /// The devices of DPDK among them.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<DpdkNic>> {
        self.sources.iter().filter_map(|source| match source {
            Source::Dpdk(device) => Some(device),
            Source::Socket(_) | Source::Nic(_) => None,
        })
    }

    /// Confines DPDK's own threads, after all devices were started.
    ///
    /// # Errors
    /// The error is [`Failure::Dpdk`] when a thread of DPDK does not answer. It is [`Failure::Machine`] when the kernel
    /// refuses to confine it.
    pub fn confine_devices(&self) -> Result<(), Failure> {
        let Some(environment) = &self.environment else { return Ok(()) };
        let mut keeps = CapabilitySet::empty();
        let detaches = self.devices().any(|device| device.has_program());
        keeps.set(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN, detaches);
        let (ours, theirs) = (self.confinement.clone(), self.confinement.clone());
        environment.call(move || ours.enter(Thread::Devices, keeps)).map_err(Failure::Dpdk)??;
        let interrupts = move || theirs.enter(Thread::Devices, CapabilitySet::empty());
        environment.call_interrupts(interrupts).map_err(Failure::Dpdk)?
    }

    /// Opens the ports of one lcore on the lcore's own thread. Lcore 0 comes first.
    ///
    /// # Errors
    /// It fails as [`Nic::open`] and [`DpdkNic::open_queue`] do. The error is [`Failure::Udp`] when a socket cannot be
    /// opened. It is [`Failure::Xdp`] when AF_XDP cannot use the chunks of the pool. It is [`Failure::Internal`] when
    /// no sockets are left for the lcore.
    pub fn open(&self, lcore: u16, pool: &Pool) -> Result<Vec<AnyPort>, Failure> {
        let lcores = self.cores.len();
        let options = UdpOptions { roce: self.roce, mtu: self.mtu, ..UdpOptions::default() };
        let umem = self.nics().next().map(|_| Umem::new(pool)).transpose().map_err(Failure::Xdp)?;
        let open = |(id, source): (usize, &Source)| match (source, &umem) {
            (Source::Socket(sockets), _) => {
                let own = if self.own_ports {
                    sockets.open_own(lcore, options)?
                } else {
                    sockets.take(lcore, lcores, options)?
                };
                let mut port = UdpPort::on(PortId(id as u8), own, pool.clone(), options).map_err(Failure::Udp)?;
                port.share_addresses(&sockets.own);
                port.follow(sockets.watcher.seen());
                Ok(AnyPort::from(port))
            }
            (Source::Nic(nic), Some(umem)) => {
                // There are at most 64 of them.
                let all = LcorePorts { first: wire::GATEWAY_PORT, lcores: lcores as u16, own: lcore };
                let own_ports = self.own_ports.then_some(all);
                nic.open(u32::from(lcore), lcores as u32, own_ports, umem).map(AnyPort::from)
            }
            (Source::Dpdk(device), _) => device.open_queue(lcore, pool, self.roce).map(AnyPort::from),
            (Source::Nic(_), None) => Err(Failure::Internal("an xdp: port without memory".to_owned())),
        };
        let limited = |port: AnyPort| match self.limit(port.id()) {
            Some(limit) => port.limited(limit),
            None => port,
        };
        self.sources.iter().enumerate().map(|source| open(source).map(limited)).collect()
    }

    /// Releases what the ports use, after all lcores stopped polling them: interfaces first, then devices of DPDK,
    /// whose drivers may hang.
    pub fn close(self) {
        let devices: Vec<Arc<DpdkNic>> = self.devices().cloned().collect();
        let late = "an interface is not given back: the kernel does not come back from taking its XDP program off or \
            turning its \
                    offloads on; the next start does both, and `dmesg` may say why";
        ending::step(GIVEN_BACK_WITHIN, &Failure::Unfinished(late.to_owned()));
        drop(self);
        devices.iter().for_each(|device| device.close());
    }
}

/// The requested devices of DPDK.
fn devices(common: &Common) -> impl Iterator<Item = (usize, &DpdkSpec)> {
    common.ports.iter().enumerate().filter_map(|(id, plan)| match plan {
        PortPlan::Dpdk(spec) => Some((id, spec)),
        PortPlan::Udp(_) | PortPlan::Xdp(_) => None,
    })
}

fn same_device(a: &Found, b: &Found) -> bool {
    a.interface.index == b.interface.index
}

/// The arena, with frames that hold the largest packet of any port; with `zero_copy`, as NICs need it.
fn pool(common: &Common, found: &[Found], zero_copy: bool) -> Result<PoolConfig, Failure> {
    let of_devices = devices(common)
        .map(|(_, spec)| smallest_chunk(spec.host.mtu.unwrap_or(DEVICE_MTU).max(common.mtu_of_frames())));
    let chunk = of_devices.max().unwrap_or(0).max(common.pool.chunk);
    let Some(mtu) = found.iter().map(|found| found.interface.mtu).max() else {
        return Ok(PoolConfig { chunk, ..common.pool });
    };
    let largest = mtu.max(u32::from(common.mtu_of_frames()));
    let room = if zero_copy { largest_packet_zero_copy } else { largest_packet };
    let fits = |chunk: &u32| u32::from(room(*chunk).min(*MTUS.end())) >= largest;
    let sizes = std::iter::successors(Some(chunk_for(chunk)), |chunk| Some(chunk_for(chunk + 1)));
    let chunk = sizes.take_while(|chunk| *chunk < LARGEST_CHUNK).find(fits).unwrap_or(LARGEST_CHUNK);
    if !fits(&chunk) {
        let most = room(LARGEST_CHUNK).min(*MTUS.end());
        return Err(Failure::Usage(format!("--mtu {largest}: a frame of AF_XDP holds at most {most}")));
    }
    Ok(PoolConfig { chunk, ..common.pool })
}

/// The ring size: half of an arena is for received packets and packets that are being sent, the other half for held
/// records.
fn ring(frames: u32, ports: &[(String, usize)], lcores: usize) -> u32 {
    let sockets: usize = ports.iter().map(|(_, queues)| queues.div_ceil(lcores.max(1))).sum();
    let share = frames / (4 * sockets.max(1) as u32);
    let ring = if share.is_power_of_two() { share } else { share.next_power_of_two() / 2 };
    ring.clamp(*RINGS.start(), *RINGS.end())
}

/// The zero-copy ability of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZeroCopy {
    /// For all packets of the link.
    Works,
    /// For packets that fit a page, but the link has larger ones.
    SmallPackets,
    /// Not for packets larger than a page, which the link has. At this MTU newer kernels do not tell whether it works
    /// for small ones.
    NotLarge,
    /// No zero-copy.
    None,
}

/// The largest MTU whose packets fit one page with zero-copy.
fn most_in_a_page() -> u16 {
    largest_packet_zero_copy(4096)
}

/// Checks that all ports can have their requested mode. They share their memory, so that there is one choice.
fn one_mode(asked: &[(String, XdpMode)]) -> Result<(), Failure> {
    let zero = asked.iter().find(|(_, mode)| *mode == XdpMode::ZeroCopy);
    let copy = asked.iter().find(|(_, mode)| matches!(mode, XdpMode::Copy | XdpMode::Skb));
    let Some(((zero, _), (copy, mode))) = zero.zip(copy) else { return Ok(()) };
    Err(Failure::Usage(format!(
        "xdp:{zero} asks for mode=zc and xdp:{copy} for mode={mode}: ports share their memory, so that it is one \
         choice \
         for both"
    )))
}

/// Zero-copy or copy, and why it is not zero-copy. There is one choice for all ports, because they share their memory.
fn agree(
    asked: &[(String, XdpMode)],
    mut can: impl FnMut(usize) -> Result<ZeroCopy, Failure>,
) -> Result<(XdpMode, Option<String>), Failure> {
    one_mode(asked)?;
    let demands = asked.iter().find(|(_, mode)| *mode == XdpMode::ZeroCopy);
    let copies = asked.iter().find(|(_, mode)| matches!(mode, XdpMode::Copy | XdpMode::Skb));
    match (demands, copies) {
        (_, Some((copy, mode))) => Ok((XdpMode::Copy, Some(format!("xdp:{copy} asks for mode={mode}")))),
        (demands, None) => {
            for (index, (name, _)) in asked.iter().enumerate() {
                let (ifname, most) = (name.clone(), most_in_a_page());
                let (error, why) = match can(index)? {
                    ZeroCopy::Works => continue,
                    ZeroCopy::None => {
                        (XdpError::NoZeroCopy { ifname }, format!("the driver of {name} has no zero-copy"))
                    }
                    ZeroCopy::NotLarge => (
                        XdpError::NoZeroCopy { ifname },
                        format!(
                            "the driver of {name} has no zero-copy for packets larger than a page; `ip link set dev \
                             {name} mtu {most}` on all hosts of that network helps if it has it for small ones"
                        ),
                    ),
                    ZeroCopy::SmallPackets => (
                        XdpError::NoZeroCopyChains { ifname, most },
                        format!(
                            "the driver of {name} has zero-copy only for packets that fit a page: `ip link set dev \
                             {name} \
                             mtu {most}` on all hosts of that network gives it"
                        ),
                    ),
                };
                return if demands.is_some() { Err(Failure::Xdp(error)) } else { Ok((XdpMode::Copy, Some(why))) };
            }
            Ok((XdpMode::ZeroCopy, None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(queues: &[usize]) -> Vec<(String, usize)> {
        queues.iter().enumerate().map(|(i, queues)| (format!("eth{i}"), *queues)).collect()
    }

    #[test]
    fn rings_leave_half_of_the_frames() {
        assert_eq!(ring(16_384, &ports(&[2, 2]), 2), 2048);
        assert_eq!(ring(2048, &ports(&[2, 2]), 2), 256);
        assert_eq!(ring(2048, &ports(&[2, 2]), 1), 128);
        assert_eq!(ring(512, &ports(&[64]), 1), 64);
    }

    #[test]
    fn zero_copy_is_one_choice_and_the_port_that_forces_it_off_is_named() {
        let asked = |a: XdpMode, b: XdpMode| [("a".to_owned(), a), ("b".to_owned(), b)];
        let able = |can: bool| if can { ZeroCopy::Works } else { ZeroCopy::None };
        let both = |modes: &[(String, XdpMode)], can: [bool; 2]| agree(modes, |index| Ok(able(can[index])));
        let (auto, zero, copy) = (XdpMode::Auto, XdpMode::ZeroCopy, XdpMode::Copy);
        assert_eq!(both(&asked(auto, auto), [true, true]).unwrap(), (zero, None));
        let (mode, why) = both(&asked(auto, auto), [true, false]).unwrap();
        assert_eq!((mode, why.unwrap()), (copy, "the driver of b has no zero-copy".to_owned()));
        let (mode, why) = both(&asked(auto, XdpMode::Skb), [true, true]).unwrap();
        assert_eq!((mode, why.unwrap()), (copy, "xdp:b asks for mode=skb".to_owned()));
        let complaint = both(&asked(copy, zero), [true, true]).unwrap_err().to_string();
        assert!(complaint.contains("xdp:b asks for mode=zc and xdp:a for mode=copy"), "{complaint}");
        let complaint = both(&asked(zero, auto), [true, false]).unwrap_err().to_string();
        assert!(complaint.contains("b cannot do AF_XDP zero-copy"), "{complaint}");
        // The message for a driver that can do zero-copy, but not at this MTU, does not say that it cannot.
        let small = |modes: &[(String, XdpMode)]| agree(modes, |_| Ok(ZeroCopy::SmallPackets));
        let (mode, why) = small(&asked(auto, auto)).unwrap();
        assert_eq!(mode, copy);
        let (_, unknown) = agree(&asked(auto, auto), |_| Ok(ZeroCopy::NotLarge)).unwrap();
        let unknown = unknown.unwrap();
        assert!(
            unknown.contains("a has no zero-copy for packets larger than a page; `ip link set dev a mtu 3054`"),
            "{unknown}"
        );
        let complaint = small(&asked(zero, auto)).unwrap_err().to_string();
        for text in [why.unwrap(), complaint] {
            assert!(text.contains("page") && text.contains("`ip link set dev a mtu 3054`"), "{text}");
            assert!(!text.contains("no zero-copy") && !text.contains("cannot do"), "{text}");
        }
    }

    /// NICs round their buffers down to a KiB: a chunk of 2048 bytes would cut off packets above 1 KiB.
    #[test]
    fn frames_of_zero_copy_hold_a_whole_packet_after_the_driver_rounded() {
        for (mtu, chunk) in
            [(576, 2048), (1006, 2048), (1007, 4096), (1500, 4096), (3054, 4096), (3055, 8192), (9000, 12_288)]
        {
            let sizes = [2048, 4096, 8192, 12_288];
            assert_eq!(sizes.into_iter().find(|chunk| largest_packet_zero_copy(*chunk) >= mtu), Some(chunk), "{mtu}");
        }
    }
}
