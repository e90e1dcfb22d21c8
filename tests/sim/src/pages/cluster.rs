//! The roles, and the wire between them.

use super::client::Clients;
use crate::host::{GatewayHost, Host, Sent};
use crate::rng::Rng;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{Hugepages, Peer, PortId, Time, UnitMemory};
use lease::{ConnectKey, LeaseSecrets};
use link::{ChallengeSecret, NodeConfig};
use master::{Master, MasterConfig, MasterEvent};
use slave::{Farm, FarmCommand, FarmConfig, Ids, LendingConfig};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use wire::Scale;
use wire::lease::UNIT_SHIFT;

/// How many there are of each, and ids of each farm.
pub const MASTERS: usize = 2;
/// Farms.
pub const FARMS: usize = 3;
/// Gateways; all nodes are registered with both.
pub const GATEWAYS: usize = 2;
const IDS: u32 = 2;
/// Units of each slave.
const UNITS: u32 = 2;
const MTU: u16 = 1500;
/// Frames of a machine.
const FRAMES: u32 = 2048;

fn peer(address: String) -> Peer {
    Peer::socket(PortId(0), address.parse().expect("an address"))
}

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A master.
    Master(usize),
    /// A gateway.
    Gateway(usize),
    /// A farm.
    Farm(usize),
}

impl Machine {
    fn peer(self) -> Peer {
        match self {
            Self::Master(number) => peer(format!("10.1.0.{}:7000", 1 + number)),
            Self::Gateway(number) => peer(format!("10.0.0.{}:9999", 1 + number)),
            Self::Farm(number) => peer(format!("10.2.0.{}:7000", 1 + number)),
        }
    }
}

/// A farm with the memory that it lends.
pub struct FarmHost {
    /// The farm.
    pub host: Host<Farm>,
    memory: Arc<UnitMemory>,
    dirty: Arc<Mutex<Vec<u32>>>,
    scrubbed: BTreeMap<Time, Vec<u32>>,
}

/// A master with its clients.
pub struct MasterHost {
    /// The master.
    pub host: Host<Master<Vec<u8>>>,
    /// What it tells.
    events: Receiver<MasterEvent>,
    /// Its clients.
    pub clients: Clients,
}

/// What the wire does, in one of a million datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireFaults {
    /// It is lost.
    pub lost: u32,
    /// It comes twice.
    pub doubled: u32,
    /// It comes later than others.
    pub late: u32,
    /// A byte of it is another one.
    pub damaged: u32,
}

struct Flight {
    from: Peer,
    to: Machine,
    bytes: Vec<u8>,
    ce: bool,
}

/// See the module's documentation.
pub struct PagesCluster {
    /// The time.
    pub now: Time,
    /// What the wire does.
    pub faults: WireFaults,
    /// Machines that nothing reaches, and that reach nobody.
    pub cut: Vec<Machine>,
    /// Masters.
    pub masters: Vec<MasterHost>,
    /// How often each master has started again.
    starts: [u64; MASTERS],
    gateways: Vec<GatewayHost>,
    /// Farms.
    pub farms: Vec<FarmHost>,
    flights: BTreeMap<(Time, u64), Flight>,
    sent: u64,
    scale: Scale,
    /// Random numbers.
    pub rng: Rng,
}

fn key() -> Option<ConnectKey> {
    Some(ConnectKey::of_cluster(&[0x5a; 32]))
}

impl PagesCluster {
    /// A cluster whose machines have all just started.
    ///
    /// # Errors
    /// A role cannot be made.
    pub fn new(seed: u64) -> Result<Self, String> {
        let mut cluster = Self {
            now: SECOND,
            faults: WireFaults::default(),
            cut: Vec::new(),
            masters: Vec::new(),
            starts: [0; MASTERS],
            gateways: Vec::new(),
            farms: Vec::new(),
            flights: BTreeMap::new(),
            sent: 0,
            scale: Scale::new(6, 6).map_err(|error| error.to_string())?,
            rng: Rng::new(seed),
        };
        for _ in 0..GATEWAYS {
            let gateway = GatewayHost::new(FRAMES, cluster.scale, cluster.now, &mut cluster.rng);
            cluster.gateways.push(gateway);
        }
        for number in 0..MASTERS {
            let master = cluster.master(number, Clients::new(1000 * number as u64))?;
            cluster.masters.push(master);
        }
        for number in 0..FARMS {
            let farm = cluster.farm(number)?;
            cluster.farms.push(farm);
        }
        Ok(cluster)
    }

    fn node(&mut self) -> NodeConfig {
        NodeConfig {
            scale: self.scale,
            boot_epoch: self.rng.bits().max(1),
            challenges: ChallengeSecret::new(self.rng.secret()),
            max_ip_packet: MTU,
            ..NodeConfig::default()
        }
    }

    fn master(&mut self, number: usize, clients: Clients) -> Result<MasterHost, String> {
        let config = MasterConfig {
            node: self.node(),
            connect_keys: key().into(),
            seed: self.rng.secret(),
            lease_secrets: LeaseSecrets::new(&[number as u8; 32], self.starts[number]),
            slaves: 8,
            clients: 5,
            extents: 512,
            requests: 96,
            buffers: 8,
            ..MasterConfig::new(1 + number as u16, (0..GATEWAYS).map(|at| Machine::Gateway(at).peer()).collect())
        };
        let (events, told) = channel();
        let master = Master::new(config, self.now, move |event| drop(events.send(event)));
        let master = master.map_err(|error| error.to_string())?;
        Ok(MasterHost { host: Host::new(FRAMES, |_| master, self.now), events: told, clients })
    }

    fn farm(&mut self, number: usize) -> Result<FarmHost, String> {
        let units = IDS * UNITS;
        let memory = UnitMemory::new(units, Hugepages::Never, None).map_err(|error| error.to_string())?;
        let (memory, dirty) = (Arc::new(memory), Arc::<Mutex<Vec<u32>>>::default());
        let ids = Ids::range(self.scale, 10 * number as u32, IDS).map_err(|error| error.to_string())?;
        let mut config = FarmConfig::new(Machine::Gateway(0).peer(), ids.clone());
        config.slaves = vec![((0..GATEWAYS).map(|at| Machine::Gateway(at).peer()).collect(), ids)];
        let pages = u64::from(UNITS) << (UNIT_SHIFT - 12);
        let domain = 1 + number as u32;
        config.node = NodeConfig { pages_total: pages, pages_free: pages, domain, ..self.node() };
        let sink = Arc::clone(&dirty);
        config.lending = Some(LendingConfig {
            memory: Arc::clone(&memory),
            units_per_slave: UNITS,
            keys: key().into(),
            quota: UNITS,
            leases: 3,
            leave_within: 5 * SECOND,
            secret: self.rng.secret(),
            scrub: Box::new(move |unit| {
                if let Ok(mut dirty) = sink.lock() {
                    dirty.push(unit);
                }
            }),
        });
        let farm = Farm::new(config, self.now, |_| {}).map_err(|error| error.to_string())?;
        Ok(FarmHost { host: Host::new(FRAMES, |_| farm, self.now), memory, dirty, scrubbed: BTreeMap::new() })
    }

    /// A machine starts again, and knows nothing of before.
    ///
    /// # Errors
    /// A role cannot be made.
    pub fn restart(&mut self, machine: Machine) -> Result<(), String> {
        match machine {
            Machine::Gateway(number) => {
                self.gateways[number] = GatewayHost::new(FRAMES, self.scale, self.now, &mut self.rng);
            }
            Machine::Master(number) => {
                let mut clients = std::mem::take(&mut self.masters[number].clients);
                clients.forget();
                self.starts[number] += 1;
                self.masters[number] = self.master(number, clients)?;
            }
            Machine::Farm(number) => self.farms[number] = self.farm(number)?,
        }
        Ok(())
    }

    /// A farm lends at most so many units from now on.
    pub fn limit(&mut self, farm: usize, units: u32, within: Time) {
        self.farms[farm].host.command(self.now, FarmCommand::LendLimit { units, within });
    }

    /// Units of a farm.
    pub fn units(&self) -> u32 {
        IDS * UNITS
    }

    fn send(&mut self, from: Machine, sent: Vec<Sent>) {
        if self.cut.contains(&from) {
            return;
        }
        for Sent { to, bytes, ce } in sent {
            let all = (0..MASTERS).map(Machine::Master).chain((0..FARMS).map(Machine::Farm));
            let mut all = all.chain((0..GATEWAYS).map(Machine::Gateway));
            let Some(to) = all.find(|machine| machine.peer().is_same_origin(&to, true)) else { continue };
            let WireFaults { lost, doubled, late, damaged } = self.faults;
            let copies = if self.rng.chance(lost) { 0 } else { 1 + u32::from(self.rng.chance(doubled)) };
            for _ in 0..copies {
                let mut delay = MICROSECOND * self.rng.between(5, 25);
                if self.rng.chance(late) {
                    delay += self.rng.below(20 * MILLISECOND);
                }
                let mut bytes = bytes.clone();
                if self.rng.chance(damaged) {
                    let at = self.rng.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << self.rng.below(8);
                }
                let ce = ce || self.rng.chance(late / 10);
                self.sent += 1;
                self.flights.insert((self.now + delay, self.sent), Flight { from: from.peer(), to, bytes, ce });
            }
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight { from, to, bytes, ce } = flight;
        if self.cut.contains(&to) {
            return;
        }
        match to {
            Machine::Master(number) => self.masters[number].host.receive(self.now, from, &bytes, ce),
            Machine::Gateway(number) => self.gateways[number].host.receive(self.now, from, &bytes, ce),
            Machine::Farm(number) => self.farms[number].host.receive(self.now, from, &bytes, ce),
        };
    }

    /// Polls all machines that are due, and checks all books.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn poll(&mut self) -> Result<(), String> {
        let now = self.now;
        for number in 0..MASTERS {
            if self.masters[number].host.due <= now {
                let sent = self.masters[number].host.advance(now);
                self.send(Machine::Master(number), sent);
                self.serve_clients(number)?;
            }
        }
        for number in 0..GATEWAYS {
            if self.gateways[number].due() <= now {
                let sent = self.gateways[number].advance(now);
                self.send(Machine::Gateway(number), sent);
                self.gateways[number].host.check()?;
            }
        }
        for number in 0..FARMS {
            self.scrub(number)?;
            if self.farms[number].host.due <= now {
                let sent = self.farms[number].host.advance(now);
                self.send(Machine::Farm(number), sent);
                self.farms[number].host.check()?;
                if !self.farms[number].host.role.counters().balance() {
                    return Err(format!("the counters of farm {number} do not balance"));
                }
            }
        }
        Ok(())
    }

    fn serve_clients(&mut self, number: usize) -> Result<(), String> {
        let MasterHost { host, events, clients } = &mut self.masters[number];
        clients.poll(self.now, &mut host.role)?;
        for event in events.try_iter() {
            clients.hear(self.now, event, &mut host.role, &mut self.rng)?;
        }
        // What a program wants of the master then does not wait for the next timer.
        if clients.has_asked() {
            host.due = self.now;
        }
        host.check()?;
        host.role.check().map_err(|error| format!("master {number}: {error}"))?;
        Ok(())
    }

    /// Units are scrubbed some time after they are dirty.
    fn scrub(&mut self, number: usize) -> Result<(), String> {
        let (now, farm) = (self.now, &mut self.farms[number]);
        let dirty = farm.dirty.lock().map(|mut dirty| std::mem::take(&mut *dirty)).unwrap_or_default();
        if !dirty.is_empty() {
            farm.scrubbed.insert(now + self.rng.below(50 * MILLISECOND), dirty);
        }
        while let Some(units) = farm.scrubbed.first_entry().filter(|entry| *entry.key() <= now).map(|it| it.remove()) {
            for unit in units {
                farm.memory.scrub(unit, 0, 1 << UNIT_SHIFT).map_err(|error| error.to_string())?;
                farm.host.command(now, FarmCommand::Scrubbed(unit));
            }
        }
        Ok(())
    }

    /// One step: to the next moment at which something happens, at most until `end`.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    pub fn step(&mut self, end: Time) -> Result<(), String> {
        self.poll()?;
        let dues = self.masters.iter().map(|master| master.host.due);
        let dues = dues.chain(self.gateways.iter().map(GatewayHost::due));
        let dues = dues.chain(self.farms.iter().map(|farm| farm.host.due));
        let scrubs = self.farms.iter().filter_map(|farm| Some(*farm.scrubbed.first_key_value()?.0));
        let flights = self.flights.first_key_value().map(|(at, _)| at.0);
        let next = dues.chain(scrubs).chain(flights).min().unwrap_or(end);
        self.now = next.min(end).max(self.now + 500);
        while let Some(flight) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flight = flight.remove();
            self.deliver(flight);
        }
        Ok(())
    }

    /// Units that masters have of farms, dirty ones included.
    pub fn lent(&self) -> u64 {
        let views = self.farms.iter().filter_map(|farm| farm.host.role.lending());
        views.map(|view| view.leases.units_leased.get() + view.leases.units_dirty.get()).sum()
    }
}
