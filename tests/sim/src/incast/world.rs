//! The machines and the links between them.

use super::client::{IncastClient, Load};
use super::link::{Link, LinkSpec};
use crate::host::{GatewayHost, Host, Sent};
use crate::rng::Rng;
use frame::time::{MICROSECOND, SECOND};
use frame::{Hugepages, Peer, PortId, Time, UnitMemory};
use lease::ConnectKey;
use link::{ChallengeSecret, NodeConfig};
use master::{Master, MasterConfig, MasterEvent};
use slave::{Farm, FarmConfig, Ids, LendingConfig};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use wire::Scale;
use wire::lease::UNIT_SHIFT;

/// Units of each slave for each master.
const UNITS: u32 = 2;

/// Machines are polled at most once in this time.
const POLL: Time = 2 * MICROSECOND;

/// Bytes that a NIC takes ahead: what more is to be sent waits in the outbox.
const NIC_RING: u64 = 32 << 10;

/// One master.
#[derive(Clone, Copy, Debug)]
pub struct MasterSpec {
    /// Its link.
    pub link: LinkSpec,
    /// The speed that it believes its link to have, in Mbit/s; 0 if it does not know.
    pub claimed_mbit: u32,
    /// How long packets may wait in queues; 0 is a window that follows nothing.
    pub queue_target: Time,
    /// When its load begins, after that of the first master.
    pub later: Time,
}

/// A world.
#[derive(Clone, Debug)]
pub struct IncastSpec {
    /// Masters.
    pub masters: Vec<MasterSpec>,
    /// Gateways, and their links.
    pub gateways: usize,
    /// The link of each gateway.
    pub gateway_link: LinkSpec,
    /// Slaves: each is a machine of its own, and registered with one gateway.
    pub slaves: u32,
    /// The link of each slave. Slaves whose number is a multiple of `slow_every` have a tenth of its rate.
    pub slave_link: LinkSpec,
    /// 0: no slave is slow.
    pub slow_every: u32,
    /// Machines are polled up to this much late, as on hosts whose processors have other work.
    pub late: Time,
    /// The largest IP packet.
    pub mtu: u16,
    /// What clients ask for.
    pub load: Load,
}

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Computer {
    /// A master.
    Master(usize),
    /// A gateway.
    Gateway(usize),
    /// A slave.
    Slave(usize),
}

impl Computer {
    fn peer(self) -> Peer {
        let address = match self {
            Self::Master(number) => format!("10.1.0.{}:7000", 1 + number),
            Self::Gateway(number) => format!("10.0.0.{}:9999", 1 + number),
            Self::Slave(number) => format!("10.2.{}.{}:7000", number / 200, 1 + number % 200),
        };
        Peer::socket(PortId(0), address.parse().expect("an address"))
    }
}

/// The two directions of a machine's link.
#[derive(Clone, Copy, Debug)]
pub struct Cable {
    /// From the machine to the switch: what does not fit waits in the machine.
    pub up: Link,
    /// From the switch to the machine: what does not fit is lost.
    pub down: Link,
}

/// A master with its client.
pub struct IncastMaster {
    /// The master.
    pub host: Host<Master<Vec<u8>>>,
    events: Receiver<MasterEvent>,
    /// Its client.
    pub client: IncastClient,
}

enum Event {
    /// A machine is polled.
    Poll(Computer),
    /// A datagram is at the switch.
    Switch(Computer, Flight),
    /// A datagram arrives.
    Arrive(Computer, Flight),
}

struct Flight {
    from: Peer,
    bytes: Vec<u8>,
    ce: bool,
}

/// See the module's documentation.
pub struct IncastWorld {
    /// The time.
    pub now: Time,
    /// Masters.
    pub masters: Vec<IncastMaster>,
    /// Gateways.
    pub gateways: Vec<GatewayHost>,
    /// Slaves.
    pub slaves: Vec<Host<Farm>>,
    /// Links.
    pub cables: HashMap<Computer, Cable>,
    names: HashMap<SocketAddr, Computer>,
    /// When each machine was polled last, and when it is polled next.
    polls: HashMap<Computer, (Time, Time)>,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    what: HashMap<u64, Event>,
    made: u64,
    late: Time,
    /// Datagrams that machines had no frame for.
    pub no_frame: u64,
    /// Datagrams that left machines, and those that arrived.
    pub sent: u64,
    /// Datagrams that arrived.
    pub arrived: u64,
    rng: Rng,
}

fn key() -> Option<ConnectKey> {
    Some(ConnectKey::of_cluster(&[0x5a; 32]))
}

impl IncastWorld {
    /// Machines that have all just started.
    ///
    /// # Errors
    /// A role cannot be made.
    pub fn new(spec: &IncastSpec, seed: u64) -> Result<Self, String> {
        let scale = Scale::new(10, 10).map_err(|error| error.to_string())?;
        let mut world = Self {
            now: SECOND,
            masters: Vec::new(),
            gateways: Vec::new(),
            slaves: Vec::new(),
            cables: HashMap::new(),
            names: HashMap::new(),
            polls: HashMap::new(),
            events: BinaryHeap::new(),
            what: HashMap::new(),
            made: 0,
            late: spec.late,
            no_frame: 0,
            sent: 0,
            arrived: 0,
            rng: Rng::new(seed),
        };
        for number in 0..spec.gateways {
            let gateway = GatewayHost::new(8192, scale, world.now, &mut world.rng);
            world.gateways.push(gateway);
            world.plug(Computer::Gateway(number), spec.gateway_link);
        }
        for (number, master) in spec.masters.iter().enumerate() {
            let made = world.master(number, master, spec, scale)?;
            world.masters.push(made);
            world.plug(Computer::Master(number), master.link);
        }
        for number in 0..spec.slaves {
            let farm = world.farm(number, spec, scale)?;
            world.slaves.push(farm);
            let is_slow = spec.slow_every > 0 && number % spec.slow_every == 0;
            let mbit = if is_slow { (spec.slave_link.mbit / 10).max(1) } else { spec.slave_link.mbit };
            world.plug(Computer::Slave(number as usize), LinkSpec { mbit, ..spec.slave_link });
        }
        Ok(world)
    }

    fn plug(&mut self, computer: Computer, spec: LinkSpec) {
        // A NIC marks nothing.
        let up = Link::new(LinkSpec { queue: u64::MAX, mark: None, ..spec });
        self.cables.insert(computer, Cable { up, down: Link::new(spec) });
        self.names.insert(computer.peer().address(), computer);
        self.polls.insert(computer, (0, Time::MAX));
        self.poll_at(computer, self.now);
    }

    fn node(&mut self, scale: Scale, mtu: u16) -> NodeConfig {
        NodeConfig {
            scale,
            boot_epoch: self.rng.bits().max(1),
            challenges: ChallengeSecret::new(self.rng.secret()),
            max_ip_packet: mtu,
            ..NodeConfig::default()
        }
    }

    fn master(
        &mut self,
        number: usize,
        spec: &MasterSpec,
        of: &IncastSpec,
        scale: Scale,
    ) -> Result<IncastMaster, String> {
        let gateways = (0..of.gateways).map(|at| Computer::Gateway(at).peer()).collect();
        let config = MasterConfig {
            node: self.node(scale, of.mtu),
            connect_keys: key().into(),
            seed: self.rng.secret(),
            slaves: of.slaves,
            clients: 1,
            extents: 4096,
            requests: of.load.depth + of.load.demands,
            buffers: 1,
            speed_mbit: spec.claimed_mbit,
            queue_target: spec.queue_target,
            ..MasterConfig::new(1 + number as u16, gateways)
        };
        let (events, told) = channel();
        let master = Master::new(config, self.now, move |event| drop(events.send(event)));
        let mut master = master.map_err(|error| error.to_string())?;
        let rng = self.rng.fork(number as u64);
        let client = IncastClient::new(number as u64, of.load, &mut master, rng)?;
        Ok(IncastMaster { host: Host::new(8192, |_| master, self.now), events: told, client })
    }

    fn farm(&mut self, number: u32, spec: &IncastSpec, scale: Scale) -> Result<Host<Farm>, String> {
        let units = UNITS * spec.masters.len() as u32;
        let memory = UnitMemory::new(units, Hugepages::Never, None).map_err(|error| error.to_string())?;
        let ids = Ids::range(scale, number, 1).map_err(|error| error.to_string())?;
        let gateway = Computer::Gateway(number as usize % spec.gateways).peer();
        let mut config = FarmConfig::new(gateway, ids);
        let pages = u64::from(units) << (UNIT_SHIFT - 12);
        let node = self.node(scale, spec.mtu);
        config.node = NodeConfig { pages_total: pages, pages_free: pages, domain: 1 + number, ..node };
        config.lending = Some(LendingConfig {
            memory: Arc::new(memory),
            units_per_slave: units,
            keys: key().into(),
            quota: UNITS,
            leases: spec.masters.len() as u16,
            leave_within: 5 * SECOND,
            secret: self.rng.secret(),
            scrub: Box::new(|_| {}),
        });
        let farm = Farm::new(config, self.now, |_| {}).map_err(|error| error.to_string())?;
        Ok(Host::new(1024, |_| farm, self.now))
    }

    fn push(&mut self, at: Time, event: Event) {
        self.made += 1;
        self.events.push(Reverse((at, self.made)));
        self.what.insert(self.made, event);
    }

    /// A machine is polled at this time, or before.
    pub fn poll_at(&mut self, computer: Computer, at: Time) {
        let (now, late) = (self.now, self.rng.below(self.late));
        if let Some((last, next)) = self.polls.get_mut(&computer) {
            let at = at.max(*last + POLL).max(now).saturating_add(late);
            if at < *next {
                *next = at;
                self.push(at, Event::Poll(computer));
            }
        }
    }

    /// Goes on until this time.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn run_until(&mut self, end: Time) -> Result<(), String> {
        while let Some(&Reverse((at, number))) = self.events.peek()
            && at <= end
        {
            self.events.pop();
            self.now = at;
            match self.what.remove(&number) {
                Some(Event::Poll(computer)) => self.poll(computer)?,
                Some(Event::Switch(to, flight)) => self.switch(to, flight),
                Some(Event::Arrive(to, flight)) => self.arrive(to, flight),
                None => {}
            }
        }
        self.now = end;
        Ok(())
    }

    fn switch(&mut self, to: Computer, flight: Flight) {
        let Some(cable) = self.cables.get_mut(&to) else { return };
        if let Some((at, marked)) = cable.down.take(self.now, flight.bytes.len()) {
            let ce = flight.ce || marked;
            self.push(at, Event::Arrive(to, Flight { ce, ..flight }));
        }
    }

    fn arrive(&mut self, to: Computer, flight: Flight) {
        let Flight { from, bytes, ce } = flight;
        self.arrived += 1;
        let taken = match to {
            Computer::Master(number) => self.masters[number].host.receive(self.now, from, &bytes, ce),
            Computer::Gateway(number) => self.gateways[number].host.receive(self.now, from, &bytes, ce),
            Computer::Slave(number) => self.slaves[number].receive(self.now, from, &bytes, ce),
        };
        self.no_frame += u64::from(!taken);
        self.poll_at(to, self.now);
    }

    fn poll(&mut self, computer: Computer) -> Result<(), String> {
        let now = self.now;
        match self.polls.get_mut(&computer) {
            Some((last, next)) if *next <= now => (*last, *next) = (now, Time::MAX),
            // It was polled before that, and again later.
            _ => return Ok(()),
        }
        let due = match computer {
            Computer::Master(number) => {
                let IncastMaster { host, events, client } = &mut self.masters[number];
                client.poll(now, &mut host.role)?;
                for event in events.try_iter() {
                    client.hear(event, &mut host.role)?;
                }
                client.act(now, &mut host.role);
                host.work(now);
                client.poll(now, &mut host.role)?;
                client.act(now, &mut host.role);
                host.check()?;
                host.due.min(client.demand_at)
            }
            Computer::Gateway(number) => {
                let gateway = &mut self.gateways[number];
                gateway.work(now);
                gateway.host.check()?;
                gateway.due()
            }
            Computer::Slave(number) => {
                let farm = &mut self.slaves[number];
                farm.work(now);
                farm.check()?;
                farm.due
            }
        };
        self.poll_at(computer, due);
        self.send(computer);
        Ok(())
    }

    /// A machine's NIC takes what it has room for.
    fn send(&mut self, from: Computer) {
        let now = self.now;
        let out = match from {
            Computer::Master(number) => &mut self.masters[number].host.out,
            Computer::Gateway(number) => &mut self.gateways[number].host.out,
            Computer::Slave(number) => &mut self.slaves[number].out,
        };
        let (Some(queue), Some(cable)) = (out.queue(PortId(0)), self.cables.get_mut(&from)) else { return };
        let mut sent = Vec::new();
        while cable.up.waiting(now) < NIC_RING
            && let Some(datagram) = queue.take()
        {
            let datagram = Sent::new(&datagram);
            if let Some((at, _)) = cable.up.take(now, datagram.bytes.len()) {
                sent.push((at, datagram));
            }
        }
        queue.rewind();
        if !queue.is_empty() {
            let at = cable.up.has_room_at(NIC_RING - 1);
            self.poll_at(from, at);
        }
        for (at, Sent { to, bytes, ce }) in sent {
            self.sent += 1;
            if let Some(&to) = self.names.get(&to.address()) {
                self.push(at, Event::Switch(to, Flight { from: from.peer(), bytes, ce }));
            }
        }
    }

    /// Whether all gateways and slaves count each datagram and record once.
    ///
    /// # Errors
    /// A book does not balance.
    pub fn check(&self) -> Result<(), String> {
        for (number, slave) in self.slaves.iter().enumerate() {
            if !slave.role.counters().balance() {
                return Err(format!("the counters of slave {number} do not balance"));
            }
        }
        for (number, master) in self.masters.iter().enumerate() {
            master.host.role.check().map_err(|error| format!("master {number}: {error}"))?;
            if !master.host.role.stats().transport.balance() {
                return Err(format!("the packets of master {number} do not balance"));
            }
        }
        let flying = self.what.values().filter(|event| !matches!(event, Event::Poll(_))).count() as u64;
        let lost: u64 = self.cables.values().map(|cable| cable.down.lost).sum();
        if self.sent != self.arrived + lost + flying {
            return Err(format!(
                "{} datagrams left, {} arrived, {lost} were lost, {flying} fly",
                self.sent, self.arrived
            ));
        }
        Ok(())
    }
}
