//! The account of one gateway lcore: every copy of a record that came in left once, or is in one named counter, or is
//! still there.
//!
//! The ledger reads the frames that the wire puts into the RX rings and takes out of the TX rings. It knows nothing of
//! the gateway but its counters. Copies of one flow (direction, slave, master) are in a queue, in the order in which
//! the lcore took them. A record that leaves must have the bytes of one of them; the copies before it can never leave
//! any more. So one check covers order, content and "at most once".

use crate::packet;
use crate::place::{Place, Who};
use crate::plan::Plan;
use crate::slow::SlowPort;
use crate::trace::Fold;
use frame::counter::CounterSet;
use gateway::Gateway;
use lcore::Lcore;
use port::Port;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use wire::Walk;
use wire::net::ipv4::ECN_CE;

/// A fault: it ends the run.
pub type Wrong = String;

/// Direction, slave, master; the source is in the entries.
type Flow = (bool, u32, u16);

struct Copied {
    bytes: Box<[u8]>,
    from: Who,
    ce: bool,
}

/// A frame in an RX ring.
struct Waiting {
    frame: Vec<u8>,
    broken: bool,
}

/// One port of the lcore.
struct Ring {
    place: Place,
    waiting: VecDeque<Waiting>,
    collected: u64,
    counters: Arc<dyn CounterSet>,
    /// Broken frames that the port took, all of which it must refuse.
    broken: u64,
}

/// What a memory port counts.
#[derive(Clone, Copy, Debug, Default)]
struct PortCounts {
    ring_full: u64,
    refused: u64,
    tx_packets: u64,
}

impl Ring {
    fn counts(&self) -> PortCounts {
        let mut counts = PortCounts::default();
        self.counters.visit(&mut |name, _, value| match name.as_bytes() {
            b"rx_ring_full" => counts.ring_full = value,
            b"rx_malformed" | b"rx_not_ours" | b"rx_bad_checksum" => counts.refused += value,
            b"tx_packets" => counts.tx_packets = value,
            _ => {}
        });
        counts
    }
}

/// Sums over the life of one or more lcores. Records are records of cargo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Frames that reached an RX ring, also a full one.
    pub frames: u64,
    /// Frames that a full ring or an empty pool refused.
    pub ring_full: u64,
    /// Broken frames that the ports refused.
    pub refused: u64,
    /// Frames in a ring when their node crashed, or ended after it had drained.
    pub left_in_ring: u64,
    /// Records of cargo in those.
    pub records_in_ring: u64,
    /// Records that the gateway took; a bad remainder counts as one.
    pub records: u64,
    /// Bad remainders among them.
    pub bad: u64,
    /// Records of link control that the gateway took.
    pub links: u64,
    /// Records that left, once each.
    pub left: u64,
    /// Datagrams of cargo that left.
    pub datagrams: u64,
    /// Records in counters of the gateway.
    pub dropped: u64,
    /// Records that were held when their node crashed.
    pub crashed: u64,
}

impl Sums {
    /// Adds another lcore's.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.ring_full += other.ring_full;
        self.refused += other.refused;
        self.left_in_ring += other.left_in_ring;
        self.records_in_ring += other.records_in_ring;
        self.records += other.records;
        self.bad += other.bad;
        self.links += other.links;
        self.left += other.left;
        self.datagrams += other.datagrams;
        self.dropped += other.dropped;
        self.crashed += other.crashed;
    }
}

/// The account of one gateway lcore.
pub struct Ledger {
    who: Who,
    lcore: u16,
    rings: Vec<Ring>,
    flows: HashMap<Flow, VecDeque<Copied>, BuildHasherDefault<Fold>>,
    sums: Sums,
    /// Congestion marks can be checked: no copy is there twice.
    unique: bool,
    /// Datagrams that left with a mark which none of their records brought.
    marked: u64,
}

/// A gateway's lcore in the simulator.
pub type GatewayLcore = Lcore<Gateway, SlowPort>;

impl Ledger {
    /// An empty account for an lcore that has taken nothing yet.
    pub fn new(who: Who, lcore: &GatewayLcore, plan: &Plan) -> Self {
        let ring = |port: &SlowPort| Ring {
            place: Place { who, port: port.id().0 },
            waiting: VecDeque::new(),
            collected: 0,
            counters: port.counters(),
            broken: 0,
        };
        Self {
            who,
            lcore: lcore.index(),
            rings: lcore.ports().iter().map(ring).collect(),
            flows: HashMap::default(),
            sums: Sums::default(),
            unique: plan.faults.duplicate == 0,
            marked: 0,
        }
    }

    /// The wire gave a frame to a port; notes whether the port took it.
    pub fn arrived(&mut self, port: u8, frame: Vec<u8>, broken: bool, taken: bool) {
        self.sums.frames += 1;
        if taken {
            self.rings[usize::from(port)].waiting.push_back(Waiting { frame, broken });
        } else {
            self.sums.ring_full += 1;
        }
    }

    /// The lcore polled and did something: what it took, and whether its own equations hold.
    ///
    /// # Errors
    /// The rings do not have the frames that were put there, a frame that nobody broke has wrong checksums, or the
    /// equations of the lcore do not hold.
    pub fn polled(&mut self, lcore: &GatewayLcore, plan: &Plan) -> Result<(), Wrong> {
        for at in 0..self.rings.len() {
            let ring = &self.rings[at];
            let held = lcore.ports()[at].frames_held();
            let in_rx =
                ring.counts().tx_packets.checked_sub(ring.collected).and_then(|tx| held.checked_sub(tx as usize));
            let Some(taken) = in_rx.and_then(|in_rx| ring.waiting.len().checked_sub(in_rx)) else {
                return Err(self.wrong("the rings do not have the frames that were put there".to_owned()));
            };
            for _ in 0..taken {
                if let Some(waiting) = self.rings[at].waiting.pop_front() {
                    self.took(at, &waiting, plan)?;
                }
            }
        }
        self.check(lcore)
    }

    fn took(&mut self, at: usize, waiting: &Waiting, plan: &Plan) -> Result<(), Wrong> {
        if waiting.broken {
            self.rings[at].broken += 1;
            self.sums.refused += 1;
            return Ok(());
        }
        let Some(read) = packet::read(&waiting.frame) else {
            return Err(self.wrong("a frame that nobody broke has no right checksums".to_owned()));
        };
        let payload = packet::payload(&waiting.frame, &read);
        if !packet::is_cargo(payload)
            && wire::Record::first(payload).is_ok_and(|r| plan.scale.slave_id(r.header().slave_id()).is_some())
        {
            self.sums.links += Walk::new(payload, plan.scale).filter(Result::is_ok).count() as u64;
            return Ok(());
        }
        let from = Place::of(read.src_ip).map_or(Who::Stranger, |place| place.who);
        let down = matches!(from, Who::Master(_));
        for item in Walk::new(payload, plan.scale) {
            self.sums.records += 1;
            match item {
                Err(_) => self.sums.bad += 1,
                Ok((id, record)) => {
                    let copied = Copied { bytes: record.bytes().into(), from, ce: read.ecn == ECN_CE };
                    let flow = (down, id.get(), record.header().master_id());
                    self.flows.entry(flow).or_default().push_back(copied);
                }
            }
        }
        Ok(())
    }

    /// The wire took a frame from a TX ring.
    ///
    /// # Errors
    /// The frame has wrong headers, goes to the wrong place or is too large. Or its congestion mark is wrong, or it has
    /// a record that did not come in, came in later, or has left already.
    pub fn left(&mut self, port: u8, frame: &[u8], plan: &Plan) -> Result<(), Wrong> {
        let ring = &mut self.rings[usize::from(port)];
        ring.collected += 1;
        let place = ring.place;
        let Some(read) = packet::read(frame) else {
            return Err(self.wrong(format!("a frame left with wrong headers or checksums: {frame:02x?}")));
        };
        let to = Place::of(read.dst_ip).map_or(Who::Stranger, |place| place.who);
        let payload = packet::payload(frame, &read);
        let mtu = plan.node(to).map_or(u16::MAX, |node| node.mtu);
        if read.src_ip != place.ip() || read.src_mac != place.mac() {
            return Err(self.wrong(format!("a frame to {to} left with another source than {place:?}")));
        }
        if !packet::is_cargo(payload) {
            return Ok(());
        }
        let node_vlan = plan.node(to).and_then(|node| node.vlan);
        if read.vlan != node_vlan || Place::first(to).mac() != read.dst_mac || read.dst_port != wire::GATEWAY_PORT {
            return Err(self.wrong(format!("cargo left to {to} with tag {:?} to port {}", read.vlan, read.dst_port)));
        }
        if payload.len() + 28 > usize::from(mtu) {
            return Err(self.wrong(format!("{} bytes left to {to}, which takes packets of {mtu}", payload.len() + 28)));
        }
        let mut ce = false;
        for item in Walk::new(payload, plan.scale) {
            match item {
                Ok((id, record)) => ce |= self.match_copy(id.get(), &record, to, plan)?,
                Err(bad) => return Err(self.wrong(format!("a datagram left to {to} that is no cargo: {bad}"))),
            }
            self.sums.left += 1;
        }
        self.sums.datagrams += 1;
        if self.unique && ce && read.ecn != ECN_CE {
            return Err(self.wrong(format!("a datagram left to {to} without CE, and one of its records came with it")));
        }
        self.marked += u64::from(self.unique && !ce && read.ecn == ECN_CE);
        Ok(())
    }

    /// Finds the copy that left; returns whether it arrived marked.
    fn match_copy(&mut self, id: u32, record: &wire::Record<'_>, to: Who, plan: &Plan) -> Result<bool, Wrong> {
        let header = record.header();
        let down = matches!(to, Who::Farm(_));
        let master = header.master_id();
        let what = || format!("type {:#06x} slave {id} req {:x} to {to}", header.msg_type().0, header.req_id());
        let farm = plan.farm_of(id).map(Who::Farm);
        let owner = master.checked_sub(1).map(Who::Master);
        let (source, right) = if down { (owner, farm) } else { (farm, owner) };
        if right != Some(to) {
            return Err(self.wrong(format!("a record left to a wrong place: {}", what())));
        }
        let flow = self.flows.entry((down, id, master)).or_default();
        while let Some(copied) = flow.pop_front() {
            if *copied.bytes == *record.bytes() {
                if Some(copied.from) != source {
                    let from = copied.from;
                    return Err(self.wrong(format!("a record of {from} was let through: {}", what())));
                }
                return Ok(copied.ce);
            }
        }
        Err(self.wrong(format!("a record left that did not come in, or twice, or out of order: {}", what())))
    }

    /// The equations that hold at every moment.
    fn check(&self, lcore: &GatewayLcore) -> Result<(), Wrong> {
        let at = lcore.conservation();
        if !at.holds() {
            return Err(self.wrong(format!("frames are lost: {at:?}")));
        }
        let (counters, out) = (lcore.role().counters(), lcore.outbox().counters());
        let marked = out.down.ce_marked.get() + out.up.ce_marked.get();
        if self.marked > marked {
            return Err(self.wrong(format!("{} datagrams left with a mark of ours, {marked} were marked", self.marked)));
        }
        let (mut records, mut bad, mut sent) = (0, 0, 0);
        let mut elsewhere = 0;
        for (name, direction, left) in [("down", &counters.down, &out.down), ("up", &counters.up, &out.up)] {
            let (queued, dropped) = (left.records_queued.get(), direction.dropped() + left.dropped());
            let (came, went, held) = (direction.records_in.get(), left.records_out.get(), direction.held.get());
            if came != went + held + queued + dropped {
                let sum = format!("{came} != out {went} + held {held} + queued {queued} + dropped {dropped}");
                return Err(self.wrong(format!("{name}: records_in {sum}")));
            }
            records += came;
            sent += went;
            elsewhere += held + queued + dropped;
            bad += direction.dropped_truncated.get()
                + direction.dropped_bad_magic.get()
                + direction.dropped_bad_length.get()
                + direction.dropped_bad_slave_id.get();
        }
        let links = counters.flush.link_records_in.get();
        if (records, bad, links) != (self.sums.records, self.sums.bad, self.sums.links) {
            let expected = (self.sums.records, self.sums.bad, self.sums.links);
            let said = (records, bad, links);
            return Err(self.wrong(format!("records, bad ones and link control: counted {said:?}, came {expected:?}")));
        }
        let in_tx: u64 = self.rings.iter().map(|ring| ring.counts().tx_packets.saturating_sub(ring.collected)).sum();
        let unseen = sent.checked_sub(self.sums.left);
        if unseen.is_none_or(|unseen| in_tx == 0 && unseen != 0) || self.sums.records != sent + elsewhere {
            return Err(self.wrong(format!("{sent} records are said to be out, {} left", self.sums.left)));
        }
        for ring in &self.rings {
            let counts = ring.counts();
            if counts.refused != ring.broken {
                let said = format!("refused {} frames, {} were broken", counts.refused, ring.broken);
                return Err(self.wrong(format!("port {} {said}", ring.place.port)));
            }
        }
        Ok(())
    }

    /// The end of the lcore: by a crash, or after it had drained. The records that it held are lost.
    ///
    /// # Errors
    /// The equations of the lcore do not hold at its end, or its rings say that another number of frames is lost than
    /// is.
    pub fn close(mut self, lcore: &GatewayLcore) -> Result<Sums, Wrong> {
        self.check(lcore)?;
        let out = lcore.outbox().counters();
        let counters = lcore.role().counters();
        let dropped_tx = out.down.dropped() + out.up.dropped();
        self.sums.dropped = counters.down.dropped() + counters.up.dropped() + dropped_tx;
        self.sums.crashed = self.sums.records - self.sums.left - self.sums.dropped;
        self.sums.left_in_ring = self.rings.iter().map(|ring| ring.waiting.len() as u64).sum();
        let waiting = self.rings.iter().flat_map(|ring| &ring.waiting).filter(|waiting| !waiting.broken);
        self.sums.records_in_ring = waiting.map(|waiting| packet::records(&waiting.frame)).sum();
        let ring_full: u64 = self.rings.iter().map(|ring| ring.counts().ring_full).sum();
        if ring_full != self.sums.ring_full {
            return Err(self.wrong(format!("{ring_full} frames are said to be lost, {} were", self.sums.ring_full)));
        }
        Ok(self.sums)
    }

    /// The sums so far.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    fn wrong(&self, what: String) -> Wrong {
        format!("{} lcore {}: {what}", self.who, self.lcore)
    }
}
