//! The machines of a run, the wire between them, and the checks.

use super::Borrower;
use super::gateways::{
    GATEWAYS, HOSTILE, INTERVAL, LeaseGateway, MASTERS, Wanted, at_port, farm_peer, gateway_peer, make_gateway,
    master_peer, pool, secrets, ways,
};
use crate::rng::Rng;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, PortId, Precedence, Role, Time, UNIT, UnitMemory};
use gateway::GatewayCommand;
use lease::{ConnectKey, LeaseSecrets};
use link::registrar::Health;
use records::{Framing, PathEnds};
use slave::{Farm, FarmCommand, FarmConfig, Ids, LendingConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use wire::rc::{IcrcSeed, PathMtu};
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType, Scale, Walk};

/// Slave ids; two masters borrow of each.
const FIRST: u32 = 40;
const SLAVES: u32 = 2;
const UNITS: u32 = 4;
const STEP: Time = 100 * MICROSECOND;
/// How long masters have to give everything back at the end.
const LEAVE: Time = 500 * MILLISECOND;
/// The time with faults.
const TROUBLE: Time = 150 * MILLISECOND;

/// A datagram on its way.
struct Flight {
    time: Time,
    from: Peer,
    to: Peer,
    ce: bool,
    bytes: Vec<u8>,
}

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A gateway starts again, after some time without one.
    Gateway(usize, Time),
    Farm,
    Limit(u32, Time),
    /// A master does nothing for some time.
    Pause(usize, Time),
    /// A master starts again, and knows nothing but the seed of its secrets.
    Master(usize),
}

/// See the module's documentation.
pub struct World {
    /// Virtual time.
    pub now: Time,
    rng: Rng,
    mtu: u16,
    key: Option<ConnectKey>,
    gateways: Vec<LeaseGateway>,
    farm: Farm,
    farm_out: Outbox,
    memory: Arc<UnitMemory>,
    dirty: Arc<Mutex<Vec<u32>>>,
    /// Units that are being scrubbed, and when each is done.
    scrubbing: Vec<(Time, u32)>,
    epoch: u64,
    borrowers: Vec<Borrower>,
    /// How often each of them has started again.
    starts: Vec<u64>,
    flights: Vec<Flight>,
    /// Faults of the wire in a million: loss, repetition, lateness, marks.
    rates: [u32; 4],
    script: Vec<(Time, Fault)>,
    /// Until then more units may be lent than the limit says.
    limit_from: Time,
    seen: BTreeMap<&'static str, u64>,
}

type Dirty = Arc<Mutex<Vec<u32>>>;

fn make_farm(
    rng: &mut Rng,
    mtu: u16,
    key: Option<&ConnectKey>,
    now: Time,
) -> Result<(Farm, Arc<UnitMemory>, Dirty, u64), String> {
    let memory = UnitMemory::new(SLAVES * UNITS, Hugepages::Never, None).map_err(|error| error.to_string())?;
    let (memory, dirty, epoch) = (Arc::new(memory), Dirty::default(), rng.bits() | 1);
    let sink = Arc::clone(&dirty);
    let ids = Ids::range(Scale::default(), FIRST, SLAVES).map_err(|error| error.to_string())?;
    let mut config = FarmConfig::new(gateway_peer(0, 1), ids.clone());
    config.slaves = vec![((0..GATEWAYS).map(|gateway| gateway_peer(gateway, 1)).collect(), ids)];
    (config.node.boot_epoch, config.node.interval, config.node.max_ip_packet) = (epoch, INTERVAL, mtu);
    config.lending = Some(LendingConfig {
        memory: Arc::clone(&memory),
        units_per_slave: UNITS,
        keys: key.cloned().into(),
        quota: UNITS / 2,
        leases: 2,
        leave_within: LEAVE,
        secret: rng.secret(),
        scrub: Box::new(move |unit| sink.lock().expect("one thread").push(unit)),
    });
    let farm = Farm::new(config, now, |_| {}).map_err(|error| error.to_string())?;
    Ok((farm, memory, dirty, epoch))
}

impl World {
    /// The machines of a seed.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(seed: u64) -> Result<Self, String> {
        let mut rng = Rng::new(seed).fork(7);
        let mtu = rng.pick(&[1500, 1500, 9000]);
        let key = rng.one_in(2).then(|| ConnectKey::of_cluster(&rng.secret()));
        let gateways = (0..GATEWAYS).map(|_| make_gateway(&mut rng, mtu, 0)).collect::<Result<Vec<_>, _>>()?;
        let (farm, memory, dirty, epoch) = make_farm(&mut rng, mtu, key.as_ref(), 0)?;
        let mut borrowers = Vec::new();
        for slave in FIRST..FIRST + SLAVES {
            for master in MASTERS {
                let ends = PathEnds { slave, master };
                let stream = rng.fork(u64::from(slave) << 16 | u64::from(master));
                borrowers.push(Borrower::new(ends, key.clone(), secrets(ends, 0), ways(), mtu, stream)?);
            }
        }
        let rough = rng.one_in(2);
        let rates = if rough { [30_000, 20_000, 60_000, 20_000] } else { [2_000, 1_000, 5_000, 1_000] };
        let mut script = Vec::new();
        for _ in 0..rng.below(6) {
            let at = INTERVAL + rng.below(TROUBLE);
            let fault = match rng.below(10) {
                0 | 1 => Fault::Gateway(rng.below(GATEWAYS as u64) as usize, rng.below(60) * MILLISECOND),
                2 | 3 => Fault::Farm,
                4 => Fault::Master(rng.below(borrowers.len() as u64) as usize),
                5..=7 => Fault::Limit(rng.below(u64::from(SLAVES * UNITS) + 1) as u32, rng.below(60) * MILLISECOND),
                _ => Fault::Pause(rng.below(borrowers.len() as u64) as usize, rng.below(40) * MILLISECOND),
            };
            script.push((at, fault));
        }
        script.sort_by_key(|(at, _)| *at);
        let farm_out = Outbox::new(pool(512, mtu)?, 1);
        Ok(Self {
            now: 0,
            rng,
            mtu,
            key,
            gateways,
            farm,
            farm_out,
            memory,
            dirty,
            scrubbing: Vec::new(),
            epoch,
            starts: vec![0; borrowers.len()],
            borrowers,
            flights: Vec::new(),
            rates,
            script,
            limit_from: 0,
            seen: BTreeMap::new(),
        })
    }

    /// How often what happened, of all masters together.
    pub fn seen(&self) -> BTreeMap<&'static str, u64> {
        let mut seen = self.seen.clone();
        for (what, times) in self.borrowers.iter().flat_map(|borrower| &borrower.seen) {
            *seen.entry(what).or_default() += times;
        }
        seen
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The whole run: trouble, in some seeds a minute of silence, calm, and the end.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run(&mut self) -> Result<(), String> {
        let end = INTERVAL + TROUBLE;
        while self.now < end {
            self.faults()?;
            self.strangers();
            self.step(STEP)?;
        }
        if self.rng.one_in(8) {
            self.expire()?;
        }
        self.rates = [0; 4];
        self.farm.command(self.now, FarmCommand::LendLimit { units: u32::MAX, within: 0 }, &mut self.farm_out);
        self.until("every master has a lease and reads it", |world| world.borrowers.iter().all(Borrower::is_well))?;
        let before = self.seen().get("read").copied().unwrap_or(0);
        self.until("pages are read", |world| world.seen().get("read").copied().unwrap_or(0) > before + 20)?;
        // Either the masters leave, or the slaves do.
        if self.rng.one_in(2) {
            self.borrowers.iter_mut().for_each(|borrower| borrower.leaves = true);
            self.until("all is given back", |world| world.lent() == 0)?;
        }
        self.limit_from = self.now + LEAVE + 5 * MILLISECOND;
        self.farm.command(self.now, FarmCommand::Drain, &mut self.farm_out);
        self.until("the farm has drained", |world| world.farm.is_drained())?;
        self.all_is_zero()
    }

    /// Nobody renews for a minute; one master starts again without its secrets.
    fn expire(&mut self) -> Result<(), String> {
        let until = self.now + 61 * SECOND;
        self.borrowers.iter_mut().for_each(|borrower| borrower.silent_until = until);
        let at = self.rng.below(self.borrowers.len() as u64) as usize;
        let (ends, stream) = (self.borrowers[at].ends, self.rng.fork(self.now));
        let others = LeaseSecrets::new(&[0xee; 32], 1);
        let mut again = Borrower::new(ends, self.key.clone(), others, ways(), self.mtu, stream)?;
        again.silent_until = self.now + SECOND;
        self.borrowers[at] = again;
        while self.now < until {
            self.step(if self.flights.is_empty() { 10 * MILLISECOND } else { STEP })?;
        }
        self.saw("silence");
        let is_other = |lease: &slave::LeaseView| (lease.slave, lease.master) != (ends.slave, ends.master);
        match self.farm.lending().is_some_and(|view| view.leases().any(|lease| is_other(&lease))) {
            true => Err("a lease outlived a minute without renewal".into()),
            false => Ok(()),
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = self.now + 75 * SECOND;
        while !holds(self) {
            if self.now > end {
                let leases: Vec<_> =
                    self.farm.lending().iter().flat_map(|view| view.leases().collect::<Vec<_>>()).collect();
                let state: Vec<_> = self.borrowers.iter().map(Borrower::state).collect();
                return Err(format!("not within 75 s: {what}; {leases:?}; {state:?}"));
            }
            self.step(STEP)?;
        }
        Ok(())
    }

    fn lent(&self) -> u64 {
        self.farm.lending().map_or(0, |view| view.leases.units_leased.get() + view.leases.units_dirty.get())
    }

    fn faults(&mut self) -> Result<(), String> {
        while let Some(&(at, fault)) = self.script.first()
            && at <= self.now
        {
            self.script.remove(0);
            match fault {
                Fault::Gateway(number, down) => {
                    self.saw("gateway restart");
                    let gateway = make_gateway(&mut self.rng, self.mtu, self.now + down)?;
                    self.gateways[number] = gateway;
                }
                Fault::Master(at) => {
                    self.saw("master restart");
                    self.starts[at] += 1;
                    let (ends, stream) = (self.borrowers[at].ends, self.rng.fork(self.now));
                    let secrets = secrets(ends, self.starts[at]);
                    let mut seen = std::mem::take(&mut self.borrowers[at].seen);
                    let again = Borrower::new(ends, self.key.clone(), secrets, ways(), self.mtu, stream)?;
                    self.borrowers[at] = again;
                    self.borrowers[at].seen.append(&mut seen);
                }
                Fault::Farm => {
                    self.saw("farm restart");
                    self.farm_out = Outbox::new(pool(512, self.mtu)?, 1);
                    (self.farm, self.memory, self.dirty, self.epoch) =
                        make_farm(&mut self.rng, self.mtu, self.key.as_ref(), self.now)?;
                    self.scrubbing.clear();
                    self.limit_from = 0;
                }
                Fault::Limit(units, within) => {
                    self.saw("limit");
                    self.limit_from = self.limit_from.max(self.now + within + 5 * MILLISECOND);
                    self.farm.command(self.now, FarmCommand::LendLimit { units, within }, &mut self.farm_out);
                }
                Fault::Pause(at, time) => {
                    self.saw("pause");
                    self.borrowers[at].silent_until = self.now + time;
                }
            }
        }
        Ok(())
    }

    /// A registered master sends packets for queue pairs, keys and leases that are not its own.
    fn strangers(&mut self) {
        if !self.rng.one_in(8) {
            return;
        }
        let slave = FIRST + self.rng.below(u64::from(SLAVES) + 1) as u32;
        let master = if self.rng.one_in(2) { HOSTILE } else { self.rng.pick(&MASTERS) };
        let msg_type = self.rng.pick(&[MsgType::RC, MsgType::RC, MsgType::CONNECT, MsgType::DISCONNECT]);
        let len = self.rng.between(0, 300) as usize;
        let header = RecordHeader::new(msg_type, slave, req_id(master, 0), len as u32);
        let mut bytes = vec![0; HEADER_LEN + len];
        let noise: Vec<u8> = (0..len).map(|_| self.rng.bits() as u8).collect();
        if wire::record::emit(&header, &noise, &mut bytes).is_none() {
            return;
        }
        if msg_type == MsgType::RC && len >= 32 {
            // A READ or WRITE for a queue pair with a small place, with a right ICRC.
            let packet = &mut bytes[HEADER_LEN..];
            packet[0] = self.rng.pick(&[0x0a, 0x0c, 0x06, 0x10]);
            (packet[1], packet[2], packet[3]) = (packet[1] & 0xc0, 0xff, 0xff);
            IcrcSeed::record(&header).seal(packet);
        }
        self.saw("stranger");
        // What a gateway lets through: it checks where a record comes from only upward.
        let from = master_peer(HOSTILE);
        let to = self.rng.pick(&ways());
        self.flights.push(Flight { time: self.now, from, to, ce: false, bytes });
    }

    /// Everybody's turn, some time later.
    fn step(&mut self, time: Time) -> Result<(), String> {
        self.now += time;
        let now = self.now;
        let due: Vec<Flight> = self.flights.extract_if(.., |flight| flight.time <= now).collect();
        for flight in due {
            self.arrive(flight)?;
        }
        self.scrub()?;
        for number in 0..GATEWAYS {
            if now >= self.gateways[number].down_until {
                let LeaseGateway { gateway, out, .. } = &mut self.gateways[number];
                gateway.advance(now, out);
                self.link_control(number);
            }
        }
        self.farm.advance(now, &mut self.farm_out);
        let path_mtu = Framing::path_mtu(&gateway_peer(0, 0), self.mtu).unwrap_or(PathMtu::B256);
        for at in 0..self.borrowers.len() {
            let from = master_peer(self.borrowers[at].ends.master);
            let sent = self.borrowers[at].poll(now, self.epoch, path_mtu)?;
            let to = gateway_peer(self.borrowers[at].gateway, 0);
            for bytes in sent {
                self.send(from, to, false, bytes);
            }
        }
        while let Some(datagram) = self.farm_out.queue(PortId(0)).and_then(|queue| queue.take()) {
            self.send(farm_peer(), datagram.peer, datagram.ce, datagram.frame.data().to_vec());
        }
        for (number, port) in (0..GATEWAYS).flat_map(|number| [(number, 0), (number, 1)]) {
            let from = gateway_peer(number, port);
            while let Some(datagram) = self.gateways[number].out.queue(PortId(port)).and_then(|queue| queue.take()) {
                self.send(from, datagram.peer, datagram.ce, datagram.frame.data().to_vec());
            }
        }
        self.check()
    }

    /// Puts a datagram on the wire.
    fn send(&mut self, from: Peer, to: Peer, ce: bool, bytes: Vec<u8>) {
        let [loss, repeat, late, mark] = self.rates;
        if self.rng.chance(loss) {
            return;
        }
        let copies = 1 + u32::from(self.rng.chance(repeat));
        for _ in 0..copies {
            let late = if self.rng.chance(late) { self.rng.between(1, 2_000) } else { self.rng.below(20) };
            let (time, ce) = (self.now + 20 * MICROSECOND + late * MICROSECOND, ce || self.rng.chance(mark));
            self.flights.push(Flight { time, from, to, ce, bytes: bytes.clone() });
        }
    }

    fn arrive(&mut self, flight: Flight) -> Result<(), String> {
        let Flight { from, to, ce, bytes, .. } = flight;
        let [.., port, _, host] = to.ip_octets();
        let gateway = (0..GATEWAYS).find(|number| 254 - *number as u8 == host);
        if gateway.is_some_and(|number| self.now < self.gateways[number].down_until) {
            return Ok(());
        }
        let mut burst = Burst::new();
        let (out, from) = match (port, gateway) {
            // As the gateway sees the sender.
            (_, Some(number)) => (&self.gateways[number].out, at_port(from, port)),
            (1, _) => (&self.farm_out, from),
            _ => {
                for item in Walk::new(&bytes, Scale::default()) {
                    let Ok((_, record)) = item else { return Err("a gateway sends what is no record".into()) };
                    let ends = PathEnds::of(record.header());
                    if let Some(borrower) = self.borrowers.iter_mut().find(|borrower| borrower.ends == ends) {
                        borrower.take(self.now, ce, &record)?;
                    } else if ends.master != HOSTILE {
                        return Err(format!("a record for nobody: {ends:?}"));
                    }
                }
                return Ok(());
            }
        };
        let Some(mut frame) = out.alloc() else { return Err("no frame is free".into()) };
        if !frame.append(&bytes) {
            return Err("a datagram is larger than a frame".into());
        }
        let datagram = Datagram { ce, ..Datagram::new(frame, from, Class::Link, 0) };
        if burst.push(datagram).is_err() {
            return Err("a burst is full".into());
        }
        match gateway {
            Some(number) => {
                let LeaseGateway { gateway, out, .. } = &mut self.gateways[number];
                gateway.receive(self.now, PortId(port), &mut burst, out);
            }
            None => self.farm.receive(self.now, PortId(0), &mut burst, &mut self.farm_out),
        }
        Ok(())
    }

    /// The registrar reads heartbeats, answers, and changes routes.
    fn link_control(&mut self, number: usize) {
        let LeaseGateway { gateway, out, registrar, .. } = &mut self.gateways[number];
        let mut wanted = Wanted::default();
        for precedence in Precedence::ALL {
            while let Some(datagram) = out.next_control(precedence) {
                registrar.receive(self.now, &datagram.peer, datagram.frame.data(), &mut wanted);
            }
        }
        registrar.advance(self.now, Health::GOOD, &mut wanted);
        for change in wanted.routes {
            gateway.command(self.now, GatewayCommand::Route(change), out);
        }
        for (to, bytes) in wanted.replies {
            self.send(gateway_peer(number, to.port.0), to, false, bytes);
        }
    }

    fn scrub(&mut self) -> Result<(), String> {
        let units: Vec<u32> = std::mem::take(&mut *self.dirty.lock().expect("one thread"));
        for unit in units {
            let at = self.now + self.rng.below(20) * MILLISECOND;
            self.scrubbing.push((at, unit));
        }
        let now = self.now;
        let done: Vec<_> = self.scrubbing.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, unit) in done {
            self.saw("scrubbed");
            self.memory.scrub(unit, 0, UNIT).map_err(|error| error.to_string())?;
            self.farm.command(now, FarmCommand::Scrubbed(unit), &mut self.farm_out);
        }
        Ok(())
    }

    /// The books of frames, units and leases.
    fn check(&self) -> Result<(), String> {
        let held = (self.farm_out.pool().in_use(), self.farm.frames_held());
        if held != (0, 0) {
            return Err(format!("the farm holds frames: {held:?}"));
        }
        for LeaseGateway { gateway, out, .. } in &self.gateways {
            let (used, held) = (out.pool().in_use(), gateway.frames_held());
            if used as usize != held {
                return Err(format!("a gateway's pool lacks {used} frames, and it holds {held}"));
            }
        }
        if !self.farm.counters().balance() {
            return Err("the farm's records do not add up".into());
        }
        let Some(view) = self.farm.lending() else { return Err("the farm lends nothing".into()) };
        let (leases, units) = view.leases().fold((0, 0), |(leases, units), lease| (leases + 1, units + lease.units));
        let gauges = [view.leases.leases.get(), view.leases.units_leased.get(), view.leases.units_dirty.get()];
        let dirty = self.scrubbing.len() + self.dirty.lock().expect("one thread").len();
        if gauges != [leases, units.into(), dirty as u64] {
            return Err(format!("leases, units and dirty units are {leases}, {units}, {dirty}, counted {gauges:?}"));
        }
        if self.now >= self.limit_from && units > view.limit() {
            return Err(format!("{units} units are lent, and at most {} may be", view.limit()));
        }
        let records = &view.records;
        let dropped =
            records.refused_source.get() + records.dropped_not_ours.get() + records.dropped_unknown_type.get();
        if records.records_in.get() != records.rc_records_in.get() + dropped {
            return Err("records of queue pairs do not add up".into());
        }
        if !view.transport.balance() || view.transport.packets_in.get() != records.rc_records_in.get() {
            return Err("packets of queue pairs do not add up".into());
        }
        if view.transport.qps.get() > 2 * leases {
            return Err(format!("{} queue pairs for {leases} leases", view.transport.qps.get()));
        }
        if !self.borrowers.iter().all(|borrower| borrower.endpoint.counters().balance()) {
            return Err("a master's packets do not add up".into());
        }
        Ok(())
    }

    /// At the end every unit was scrubbed.
    fn all_is_zero(&self) -> Result<(), String> {
        if self.lent() != 0 {
            return Err("a drained farm lends something".into());
        }
        let mut page = vec![1; 64 << 10];
        for unit in 0..SLAVES * UNITS {
            for offset in [0, UNIT - page.len()] {
                if !self.memory.read(unit, offset, &mut page) || page.iter().any(|&byte| byte != 0) {
                    return Err(format!("unit {unit} was not scrubbed"));
                }
            }
        }
        Ok(())
    }
}
