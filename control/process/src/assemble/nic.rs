//! An interface whose queues are ports: its XDP program, its neighbours, its offloads. All lcores share it.

use super::offloads::Restoring;
use super::steering::Steering;
use api::stats::InterfaceStats;
use common::exit::Failure;
use ebpf::{Config, Hook, Steer, SteerError, Verdict};
use frame::PortId;
use host::owner;
use host::privilege::{Confinement, Thread, capability};
use port::Port;
use port::claims::LcorePorts;
use port::neighbour::Resolver;
use port::spec::{XdpMode, XdpSpec};
use port::vlans::Vlans;
use port::watch::{Seen, Subject, Watcher};
use port::xdp::{BoundMode, FlowRules, Interface, Umem, XdpConfig, XdpError, XdpPort, XdpQueues};
use rustix::thread::CapabilitySet;
use serve::board::InterfaceView as _;
use settings::neighbor::NeighborSpec;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for another attached program to go: the program of a process that was just killed goes with it.
const BUSY: Duration = Duration::from_secs(2);

/// An interface that was examined, but not changed.
#[derive(Clone, Debug)]
pub struct Found {
    /// The number of its port.
    pub id: PortId,
    /// Its port as the user specified it.
    pub spec: XdpSpec,
    /// What the kernel reports about it.
    pub interface: Interface,
}

impl Found {
    /// Examines the interface.
    ///
    /// # Errors
    /// The error is [`Failure::Xdp`] when there is no such interface, or it has no Ethernet headers or no IPv4 address.
    /// It is [`Failure::Machine`] when its MTU or its number of receive queues does not suit.
    pub fn find(id: PortId, spec: &XdpSpec) -> Result<Self, Failure> {
        let interface = Interface::find(&spec.ifname).map_err(Failure::Xdp)?;
        interface.check_ethernet().map_err(|error| Failure::Xdp(error.into()))?;
        let found = Self { id, spec: spec.clone(), interface };
        if found.interface.ipv4.is_none() {
            return Err(Failure::Xdp(XdpError::NoAddress(found.spec.ifname)));
        }
        found.check_mtu()?;
        found.check_queues()?;
        Ok(found)
    }

    fn check_mtu(&self) -> Result<(), Failure> {
        let (name, mtu) = (&self.interface.name, self.interface.mtu);
        let most = u32::from(*port::spec::MTUS.end());
        if mtu < u32::from(wire::MIN_MTU) {
            return Err(Failure::Machine(format!(
                "--port {}: the MTU of {name} is {mtu}, too small for records and heartbeats: `ip link set dev {name} \
                 mtu \
                 1500`",
                self.spec
            )));
        }
        if mtu > most {
            return Err(Failure::Machine(format!(
                "--port {}: the MTU of {name} is {mtu}, and a frame holds at most {most}: `ip link set dev \
                 {name} mtu {most}` (on both ends of a veth, and the same for all hosts of that network)",
                self.spec
            )));
        }
        Ok(())
    }

    fn check_queues(&self) -> Result<(), Failure> {
        let Interface { name, rx_queues, .. } = &self.interface;
        match self.spec.queues {
            Some(asked) if u32::from(asked) != *rx_queues => Err(Failure::Machine(format!(
                "--port {}: {name} has {rx_queues} receive queues, and packets of each that gvm-dp does not serve \
                 would be \
                 lost: `ethtool -L {name} combined {asked}`, or leave queues= out",
                self.spec
            ))),
            _ => Ok(()),
        }
    }
}

/// An error of an interface's queues. If another process uses them, the error has that process's name.
pub fn taken(interface: u32, error: XdpError) -> Failure {
    match error {
        XdpError::Busy { ifname, queue } => match owner::of_xdp(interface) {
            Some(owner) => Failure::Occupied { ifname, owner },
            None => Failure::Xdp(XdpError::Busy { ifname, queue }),
        },
        error => Failure::Xdp(error),
    }
}

/// What all interfaces of a process have in common, because they share its memory.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// How packets move between the NICs and the memory.
    pub mode: XdpMode,
    /// Why that is not zero-copy; `None` if it is.
    pub why_copy: Option<String>,
    /// Entries of each ring of each queue.
    pub ring: u32,
    /// The largest IP packet that frames hold, in bytes.
    pub largest: u16,
}

/// An interface in use. While this lives, packets for this process come to its sockets.
pub struct Nic {
    found: Found,
    agreed: Agreed,
    got: OnceLock<BoundMode>,
    /// Its driver in the kernel; empty if it has none.
    driver: String,
    /// Whether its queues receive RoCEv2, too.
    roce: bool,
    /// The VLANs that they take packets from.
    vlans: Arc<Vlans>,
    // The order of these fields is the order of the end: the program is detached before offloads are turned on again,
    // and nothing else uses it then.
    watcher: Watcher,
    steering: Arc<Mutex<Steering>>,
    resolver: Resolver,
    /// What sends packets to the UDP port of each lcore to its queue.
    rules: OnceLock<FlowRules>,
    offloads: Restoring,
}

impl Nic {
    /// Loads the XDP program and attaches it. All packets stay with the kernel until [`Nic::take_packets`].
    ///
    /// # Errors
    /// The error is [`Failure::Occupied`] when another process keeps its XDP program on the interface. It is
    /// [`Failure::Steer`] when the program cannot be loaded or attached. It is [`Failure::Xdp`] when an offload stays
    /// on. It is [`Failure::Neighbours`] when the kernel cannot be asked for next hops or addresses.
    pub fn attach(
        found: Found,
        config: &Config<'_>,
        neighbors: &[NeighborSpec],
        agreed: Agreed,
        confinement: &Confinement,
    ) -> Result<Self, Failure> {
        let Interface { name, index, .. } = &found.interface;
        let offloads = Restoring::turn_off(&found.interface).map_err(Failure::Xdp)?;
        let confined = confinement.clone();
        let resolver =
            Resolver::start(*index, move || confined.try_enter(Thread::Neighbours, CapabilitySet::NET_ADMIN));
        let resolver = resolver.map_err(Failure::Neighbours)?;
        let config = Config { vlans: *found.spec.vlans.words(), ..config.clone() };
        let mut steer = Steer::load(&config).map_err(Failure::Steer)?;
        let hook = if found.spec.mode == XdpMode::Skb { Hook::Generic } else { Hook::Driver };
        let deadline = Instant::now() + BUSY;
        loop {
            match steer.attach(name, hook) {
                Ok(()) => break,
                Err(SteerError::Busy(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Err(SteerError::Busy(ifname)) => {
                    return Err(match owner::of_xdp(*index) {
                        Some(owner) => Failure::Occupied { ifname, owner },
                        None => Failure::Steer(SteerError::Busy(ifname)),
                    });
                }
                Err(error) => return Err(Failure::Steer(error)),
            }
        }
        tracing::debug!(target: "ebpf", "{name}: the XDP program is attached ({hook:?}); it leaves packets to the \
            kernel as yet");
        let keep = keeps_bpf(&steer);
        let steering = Arc::new(Mutex::new(Steering::new(steer, neighbors)));
        let (theirs, confined) = (Arc::clone(&steering), confinement.clone());
        let watcher = Watcher::start(
            Subject::Interface(found.interface.clone()),
            move || confined.try_enter(Thread::Addresses, keep),
            move |ifname, table| lock(&theirs).follow(ifname, table),
        );
        let watcher = watcher.map_err(Failure::Neighbours)?;
        let roce = config.claim_roce;
        let (got, rules, vlans) = (OnceLock::new(), OnceLock::new(), Arc::new(found.spec.vlans.clone()));
        let driver = driver(name);
        Ok(Self { agreed, got, driver, roce, vlans, watcher, steering, resolver, rules, offloads, found })
    }

    /// The number of its port.
    pub fn id(&self) -> PortId {
        self.found.id
    }

    /// The name that the interface had at the start.
    pub fn name(&self) -> &str {
        &self.found.interface.name
    }

    /// The current state of its interface.
    pub fn seen(&self) -> &Arc<Seen> {
        self.watcher.seen()
    }

    /// Its first IPv4 address at the time when it was examined.
    pub fn first_address(&self) -> Option<Ipv4Addr> {
        self.found.interface.ipv4.map(Ipv4Addr::from)
    }

    /// The largest IP packet that frames hold, in bytes.
    pub fn largest_packet(&self) -> u16 {
        self.agreed.largest
    }

    /// Its driver in the kernel; empty if it has none, like a veth.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Whether its XDP program runs on the kernel's generic hook.
    pub fn is_generic(&self) -> bool {
        self.found.spec.mode == XdpMode::Skb
    }

    /// How many packets the driver has cut off; `None` if it cannot have done so, or if that is unknown.
    pub fn cut_off(&self) -> Option<u64> {
        self.got.get().filter(|mode| **mode == BoundMode::ZeroCopy)?;
        self.steering().steer().packets(Verdict::DropCutOff).ok()
    }

    /// How many of its receive queues have a socket: those that it had at the start.
    pub fn queues(&self) -> u32 {
        self.found.interface.rx_queues
    }

    /// Makes the NIC send packets to the UDP port of each lcore to its queue, if it can. Otherwise what arrives on the
    /// queue of another lcore is handed over.
    pub fn steer_lcores(&self, lcores: u16) {
        if lcores < 2 {
            return;
        }
        let (name, first) = (self.name(), wire::GATEWAY_PORT);
        match FlowRules::set(&self.found.interface, first, lcores) {
            Ok(rules) => {
                let last = first.saturating_add(lcores - 1);
                tracing::info!("{name}: flow rules send the UDP ports {first} to {last} to the queues of their lcores");
                let _ = self.rules.set(rules);
            }
            Err(error) => tracing::info!(
                "{name}: no flow rules ({error}): what arrives on the queue of another lcore is handed over, which \
                 costs two copies (rx_other_lcore); where the driver has such rules, `ethtool -K {name} ntuple on` \
                 turns them on"
            ),
        }
    }

    /// From now on packets for this process come to its sockets. All queues are open.
    ///
    /// # Errors
    /// The error is [`Failure::Steer`]: the XDP program does not take the addresses of the interface.
    pub fn take_packets(&self) -> Result<(), Failure> {
        // The watcher reports later changes, after this line.
        tracing::debug!(target: "ebpf", "{}: packets for us come to our sockets from now on", self.name());
        let mut steering = self.steering();
        steering.take(&self.seen().table()).map_err(Failure::Steer)
    }

    /// From now on all packets stay with the kernel.
    ///
    /// # Errors
    /// The error is [`Failure::Steer`]: the kernel refuses to write the memory of the XDP program.
    pub fn leave_packets(&self) -> Result<(), Failure> {
        tracing::debug!(target: "ebpf", "{}: all packets stay with the kernel from now on", self.name());
        self.steering().leave().map_err(Failure::Steer)
    }

    /// The capabilities that the control thread needs for it until the end: to turn offloads on again, to remove flow
    /// rules, and on older
    /// kernels to use the program's maps.
    pub fn keeps(&self) -> CapabilitySet {
        let mut keeps = keeps_bpf(self.steering().steer());
        let gives_back = self.offloads.turned_off().next().is_some() || self.rules.get().is_some();
        keeps.set(CapabilitySet::NET_ADMIN, gives_back);
        keeps
    }

    /// Opens the queues of one lcore, of `lcores`, which may have a UDP port each, on the lcore's own thread, and makes
    /// the XDP program feed them.
    ///
    /// # Errors
    /// The error is [`Failure::Xdp`] when a queue cannot be opened. It is [`Failure::Steer`] when the XDP program does
    /// not take the socket of a queue. It is [`Failure::Internal`] when no queue is left for the lcore.
    pub fn open(
        &self,
        lcore: u32,
        lcores: u32,
        own_ports: Option<LcorePorts>,
        umem: &Rc<Umem>,
    ) -> Result<XdpQueues, Failure> {
        let open = |queue: u32| {
            let config = XdpConfig::of(&self.found.interface, queue)?;
            // The generic hook has no NIC memory to share, whatever the agreed mode is.
            let mode = if self.is_generic() { XdpMode::Skb } else { self.agreed.mode };
            let mut config = XdpConfig { mode, ring: self.agreed.ring, vlans: Arc::clone(&self.vlans), ..config };
            if let Some(ports) = own_ports {
                config.local.udp_port = ports.udp_port();
            }
            let mut port = XdpPort::open(self.id(), config, umem)?;
            port.set_neighbours(self.resolver.neighbours());
            port.follow(self.seen());
            if self.roce {
                port.claim_roce();
            }
            if let Some(ports) = own_ports {
                port.claim_others(ports);
            }
            Ok(port)
        };
        let mut ports = Vec::new();
        for queue in (lcore..self.queues()).step_by(lcores.max(1) as usize) {
            let port = open(queue).map_err(Failure::Xdp)?;
            // All queues of all ports get the same mode: there is one choice.
            let _ = self.got.set(port.mode());
            if let Some(socket) = port.poll_fd() {
                self.steering().steer().set_socket(queue, socket).map_err(Failure::Steer)?;
            }
            ports.push(port);
        }
        let mut ports = ports.into_iter();
        let first = ports
            .next()
            .ok_or_else(|| Failure::Internal(format!("lcore {lcore} has no queue of {}", self.found.interface.name)))?;
        XdpQueues::new(first, ports.collect()).map_err(Failure::Xdp)
    }

    fn steering(&self) -> MutexGuard<'_, Steering> {
        lock(&self.steering)
    }

    /// Packets with this verdict of the XDP program so far; `None` if the kernel does not say.
    pub fn packets(&self, verdict: Verdict) -> u64 {
        self.steering().steer().packets(verdict).unwrap_or(0)
    }

    /// One line for start-up.
    pub fn describe(&self, lcores: usize) -> String {
        let stats = self.stats();
        let lcores = if lcores == 1 { "1 lcore".to_owned() } else { format!("{lcores} lcores") };
        let queues = if stats.queues == 1 { "1 queue".to_owned() } else { format!("{} queues", stats.queues) };
        format!(
            "xdp:{}: {queues} on {lcores}, {} (asked for {}), MTU {}, {}, VLANs {}, rings of {}",
            stats.name, stats.mode, stats.asked, stats.mtu, stats.address, stats.vlans, stats.ring
        )
    }
}

/// The kernel driver of an interface. For virtio the interface's device is the virtio device, so the driver is that
/// one's.
fn driver(interface: &str) -> String {
    let link = std::fs::read_link(format!("/sys/class/net/{interface}/device/driver"));
    let name = link.ok().and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_default()
}

impl serve::board::InterfaceView for Nic {
    fn stats(&self) -> InterfaceStats {
        let seen = self.seen();
        let address = |ip| format!("{}:{}", Ipv4Addr::from(ip), wire::GATEWAY_PORT);
        let addresses: Vec<String> = seen.table().ipv4().map(address).collect();
        let mut steering = self.steering();
        let steer = steering.steer();
        // If a map cannot be read, its counters are left out; they are never wrong.
        let count = |verdict: &Verdict| Some((verdict.name().to_owned(), steer.packets(*verdict).ok()?));
        let mode = match (self.got.get(), self.is_generic()) {
            (Some(got), true) => format!("{got}, generic hook"),
            (Some(got), _) => got.to_string(),
            (None, _) => "not open".to_owned(),
        };
        InterfaceStats {
            port: self.id().0,
            name: seen.name(),
            index: self.found.interface.index,
            link: seen.link().name().to_owned(),
            address: addresses.join(", "),
            mtu: seen.mtu(),
            queues: seen.rx_queues(),
            queues_served: self.queues(),
            ring: self.agreed.ring,
            asked: self.found.spec.mode.to_string(),
            mode,
            vlans: self.vlans.to_string(),
            why_copy: self.agreed.why_copy.clone(),
            driver: self.driver.clone(),
            turned_off: self.offloads.turned_off().map(str::to_owned).collect(),
            verdicts: Verdict::ALL.iter().filter_map(count).collect(),
        }
    }
}

/// The capability that the program's maps need: older kernels demand one of these for each use, newer ones only when a
/// map is made.
fn keeps_bpf(steer: &Steer) -> CapabilitySet {
    let mut keeps = CapabilitySet::empty();
    let bpf = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
    let reads = || steer.packets(Verdict::ALL[0]).is_ok();
    keeps.set(CapabilitySet::BPF, !capability::works_without(bpf, reads).unwrap_or(false));
    keeps
}

/// The maps and counters are consistent even if an lcore panicked: the kernel keeps them.
fn lock(steering: &Mutex<Steering>) -> MutexGuard<'_, Steering> {
    steering.lock().unwrap_or_else(PoisonError::into_inner)
}
