//! A slave that lends: a lender, an endpoint, and memory that is zero where nobody wrote.

use crate::rng::Rng;
use frame::{Outbox, Peer, PortId, Time};
use lease::{ConnectKey, Lender, LenderConfig, OpenedSession, Opening, Resources};
use link::{ChallengeSecret, Node, NodeConfig};
use records::{Framing, PathEnds, Side};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use transport::{
    Access, Config, Endpoint, Memory, MemoryError, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Region,
};
use wire::lease::{Connect, PairEnd, UNIT_SHIFT};
use wire::link::NodeId;
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{MsgType, Record, Scale, Walk};

const BLOCK: u64 = 4096;
const LEASES: u16 = 3;

/// Bytes of units, in blocks of 4 KiB; what is not there is zero.
type Store = Rc<RefCell<BTreeMap<(u32, u64), Vec<u8>>>>;

/// The region of a lease: units by index.
pub(crate) struct LeaseMemory {
    units: BTreeMap<u16, u32>,
    store: Store,
}

impl LeaseMemory {
    /// Calls `visit` with each block that a range touches: its key, where in it, and which bytes of the range.
    fn blocks(
        &self,
        offset: u64,
        len: usize,
        mut visit: impl FnMut((u32, u64), usize, std::ops::Range<usize>),
    ) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let unit = *self.units.get(&((at >> UNIT_SHIFT) as u16)).ok_or(MemoryError)?;
            let (inside, within) = (at & ((1 << UNIT_SHIFT) - 1), (at % BLOCK) as usize);
            let part = (len - done).min(BLOCK as usize - within);
            visit((unit, inside / BLOCK), within, done..done + part);
            done += part;
        }
        Ok(())
    }
}

impl Memory for LeaseMemory {
    fn len(&self) -> u64 {
        4096 << UNIT_SHIFT
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let store = self.store.borrow();
        self.blocks(offset, out.len(), |block, within, range| match store.get(&block) {
            Some(bytes) => out[range.clone()].copy_from_slice(&bytes[within..within + range.len()]),
            None => out[range].fill(0),
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let mut store = self.store.borrow_mut();
        self.blocks(offset, bytes.len(), |block, within, range| {
            let to = store.entry(block).or_insert_with(|| vec![0; BLOCK as usize]);
            to[within..within + range.len()].copy_from_slice(&bytes[range]);
        })
    }
}

/// What the lender asks of its role.
struct Lent {
    slave: u32,
    endpoint: Endpoint<LeaseMemory>,
    framing: Framing,
    open: BTreeMap<u16, ([Qpn; 2], u32)>,
    dirty: BTreeSet<u32>,
    store: Store,
    /// Where the message that is being handled came from.
    from: Peer,
    rng: Rng,
    /// There are no queue pairs for the next sessions.
    has_no_pairs: bool,
    /// The next sessions are given another key than that of their region.
    lies: bool,
}

impl Lent {
    fn pair(&mut self, place: u16, peer: &PairEnd, mtu: PathMtu) -> (Qpn, PairEnd) {
        let qpn = self.endpoint.create(self.rng.bits() as u32, place.into()).unwrap();
        self.endpoint.init(qpn).unwrap();
        let psn = Psn::new(self.rng.bits() as u32);
        let own = PairEnd { qpn: qpn.0, psn, read_depth: 16, rnr_timer: RnrTimer::new(12) };
        let receive = ReadyToReceive {
            path: PathId(place.into()),
            peer: Qpn(peer.qpn),
            psn: peer.psn,
            mtu,
            read_depth: own.read_depth,
            rnr_timer: own.rnr_timer,
        };
        self.endpoint.ready_to_receive(qpn, &receive).unwrap();
        self.endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, peer.read_depth)).unwrap();
        (qpn, own)
    }
}

impl Resources for Lent {
    fn open(&mut self, opening: &Opening) -> Option<OpenedSession> {
        if self.has_no_pairs {
            return None;
        }
        let path = PathId(opening.place.into());
        self.endpoint.set_path(path, PeerKind::Own).unwrap();
        self.framing.set_route(path, PathEnds { slave: self.slave, master: opening.master }, self.from, 1500);
        let [demand, bulk] = [0, 1].map(|at: usize| self.pair(opening.place, &opening.pairs[at], opening.path_mtu));
        let memory = LeaseMemory { units: BTreeMap::new(), store: Rc::clone(&self.store) };
        let access = Access::REMOTE_READ.and(Access::REMOTE_WRITE);
        let region = Region { base: 0, len: memory.len(), access, domain: opening.place.into(), memory };
        let rkey = self.endpoint.register(self.rng.bits() as u32, region).unwrap();
        assert!(self.open.insert(opening.place, ([demand.0, bulk.0], rkey)).is_none());
        let told = if self.lies { rkey ^ 0x8000_0000 } else { rkey };
        Some(OpenedSession { pairs: [demand.1, bulk.1], rkey: told })
    }

    fn close(&mut self, place: u16) {
        let Some((qpns, rkey)) = self.open.remove(&place) else { return };
        qpns.into_iter().for_each(|qpn| self.endpoint.destroy(0, qpn).unwrap());
        self.endpoint.deregister(rkey).unwrap();
    }

    fn add(&mut self, place: u16, index: u16, unit: u32) {
        assert!(!self.store.borrow().keys().any(|(of, _)| *of == unit) || self.open.contains_key(&place));
        let rkey = self.open[&place].1;
        assert!(self.endpoint.memory_mut(rkey).unwrap().units.insert(index, unit).is_none());
    }

    fn remove(&mut self, place: u16, index: u16, unit: u32) {
        if let Some((_, rkey)) = self.open.get(&place) {
            assert_eq!(self.endpoint.memory_mut(*rkey).unwrap().units.remove(&index), Some(unit));
        }
        assert!(self.dirty.insert(unit));
    }
}

/// See the module's documentation.
pub(crate) struct TestSlave {
    pub(crate) id: u32,
    pub(crate) peer: Peer,
    pub(crate) config: NodeConfig,
    /// One for each gateway.
    pub(crate) nodes: Vec<Node>,
    pub(crate) lender: Lender,
    lent: Lent,
    out: Outbox,
    units: u32,
    /// It does not know messages of leases.
    pub(crate) is_old: bool,
}

impl TestSlave {
    pub(crate) fn new(
        id: u32,
        units: u32,
        domain: u32,
        gateways: &[Peer],
        key: Option<ConnectKey>,
        now: Time,
        rng: &mut Rng,
    ) -> Self {
        let address = format!("10.2.{}.{}:7000", id >> 8, id & 255);
        let config = NodeConfig {
            boot_epoch: rng.bits(),
            challenges: ChallengeSecret::new(rng.secret()),
            pages_total: u64::from(units) << (UNIT_SHIFT - 12),
            pages_free: u64::from(units) << (UNIT_SHIFT - 12),
            domain,
            max_ip_packet: 1500,
            ..NodeConfig::default()
        };
        let slave = Scale::default().slave_id(id).unwrap();
        let node = |gateway: &Peer| Node::new(NodeId::slave(slave), link::KeyRing::none(), *gateway, &config, now);
        let transport = Config { queue_pairs: 16, paths: 8, regions: 8, ..Config::default() };
        let lender = LenderConfig {
            slave: id,
            epoch: config.boot_epoch,
            units,
            leases: LEASES,
            quota: units,
            path_mtu: PathMtu::B1024,
            keys: key.into(),
        };
        Self {
            id,
            peer: Peer::socket(PortId(0), address.parse().unwrap()),
            nodes: gateways.iter().map(node).collect(),
            lender: Lender::new(lender, rng.secret()),
            lent: Lent {
                slave: id,
                endpoint: Endpoint::new(transport, now).unwrap(),
                framing: Framing::new(Side::Slave, Scale::default(), 8).unwrap(),
                open: BTreeMap::new(),
                dirty: BTreeSet::new(),
                store: Store::default(),
                from: gateways[0],
                rng: Rng::new(rng.bits()),
                has_no_pairs: false,
                lies: false,
            },
            out: crate::world::outbox(),
            units,
            is_old: false,
            config,
        }
    }

    /// The bytes of a unit that are there, for tests that change them behind everybody's back.
    pub(crate) fn flip_a_byte(&mut self) -> bool {
        let mut store = self.lent.store.borrow_mut();
        let Some(block) = store.values_mut().next() else { return false };
        block[1234] ^= 1;
        true
    }

    /// Whether it has queue pairs and memory for sessions.
    pub(crate) fn set_room(&mut self, has_room: bool) {
        self.lent.has_no_pairs = !has_room;
    }

    /// Whether it gives masters a wrong key from now on.
    pub(crate) fn set_lies(&mut self, lies: bool) {
        self.lent.lies = lies;
    }

    /// All queue pairs fail, as after a fault of its host.
    pub(crate) fn break_pairs(&mut self, now: Time) {
        for (qpns, _) in self.lent.open.values() {
            qpns.iter().for_each(|qpn| self.lent.endpoint.fail(now, *qpn).unwrap());
        }
    }

    /// The units that have bytes of somebody.
    pub(crate) fn written(&self) -> BTreeSet<u32> {
        self.lent.store.borrow().keys().map(|(unit, _)| *unit).collect()
    }

    /// Takes a datagram, and gives the datagrams that answer it.
    pub(crate) fn take(&mut self, now: Time, from: &Peer, bytes: &[u8], ce: bool) -> Vec<(Peer, Vec<u8>)> {
        let mut sent = Vec::new();
        let mut listens = *from;
        listens.udp_port = 9999;
        self.lent.from = listens;
        for record in Walk::new(bytes, Scale::default()).filter_map(Result::ok).map(|(_, record)| record) {
            match record.header().msg_type() {
                MsgType::HEARTBEAT_ACK => {
                    if let Some(node) = self.nodes.iter_mut().find(|node| node.gateway() == from) {
                        node.handle(&self.config, now, from, &record).ok();
                    }
                }
                MsgType::CONNECT | MsgType::DISCONNECT if self.is_old => {}
                MsgType::CONNECT | MsgType::DISCONNECT => sent.extend(self.take_lease(now, &record)),
                MsgType::RC => {
                    let master = record.header().master_id();
                    let framing = &self.lent.framing;
                    let is_of = |path: &PathId| framing.ends(*path).is_some_and(|ends| ends.master == master);
                    let path = (0..LEASES).map(|place| PathId(place.into())).find(is_of);
                    if let Some(arrival) = self.lent.framing.accept(path, ce, &record, |_| true) {
                        self.lent.endpoint.receive(now, &arrival);
                    }
                }
                _ => {}
            }
        }
        sent
    }

    fn take_lease(&mut self, now: Time, record: &Record<'_>) -> Option<(Peer, Vec<u8>)> {
        let mut out = vec![0; Connect::MAX_LEN];
        let len = self.lender.receive(now, record, &mut self.lent, &mut out)?;
        out.truncate(len);
        Some((self.lent.from, out))
    }

    /// Does what time brings, and gives what it sends.
    pub(crate) fn advance(&mut self, now: Time) -> Vec<(Peer, Vec<u8>)> {
        let mut sent = Vec::new();
        self.lender.advance(now, &mut self.lent);
        let free = u64::from(self.lender.books().free) << (UNIT_SHIFT - 12);
        self.config.pages_free = free;
        for node in &mut self.nodes {
            node.poll_event(&self.config, now);
            for is_probe in [false, true] {
                let mut out = vec![0; 1472];
                let len = match is_probe {
                    true => node.transmit_probe(&self.config, now, &mut out),
                    false => node.transmit(&self.config, now, &mut out),
                };
                if let Some(len) = len {
                    out.truncate(len);
                    sent.push((*node.gateway(), out));
                }
            }
        }
        let gateway = self.nodes.iter().find(|node| node.is_registered()).map(|node| *node.gateway());
        let mut out = vec![0; Connect::MAX_LEN];
        while let Some(len) = self.lender.transmit(now, &mut out) {
            sent.extend(gateway.map(|gateway| (gateway, out[..len].to_vec())));
        }
        for unit in std::mem::take(&mut self.lent.dirty) {
            self.lent.store.borrow_mut().retain(|(of, _), _| *of != unit);
            self.lender.scrubbed(unit);
        }
        // Answers go where the slave is registered now.
        if let Some(gateway) = gateway {
            for place in self.lent.open.keys() {
                let path = PathId((*place).into());
                if let Some(ends) = self.lent.framing.ends(path) {
                    self.lent.framing.set_route(path, ends, gateway, 1500);
                }
            }
        }
        self.lent.endpoint.advance(now);
        self.lent.framing.transmit(now, &mut self.lent.endpoint, &mut self.out);
        sent.extend(crate::world::drain(&mut self.out));
        while self.lent.endpoint.poll().is_some() {}
        let books = self.lender.books();
        assert_eq!((books.units, books.free + books.dirty + books.leased), (self.units, self.units));
        sent
    }

    pub(crate) fn deadline(&self) -> Time {
        let nodes = self.nodes.iter().map(|node| node.deadline(&self.config));
        let output = self.lent.endpoint.has_output().then_some(0);
        nodes.chain(self.lender.deadline()).chain(self.lent.endpoint.deadline()).chain(output).min().unwrap()
    }
}
