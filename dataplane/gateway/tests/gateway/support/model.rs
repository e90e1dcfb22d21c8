//! What a gateway should do, without any of its shortcuts: one record at a time, in ordered maps.

use super::{Counts, Rig, scale};
use frame::pool::payload_room;
use frame::{Class, Datagram, Peer, PortId, Role, Time};
use gateway::GatewayConfig;
use link::Route;
use std::collections::{BTreeMap, VecDeque};
use wire::{IPV4_UDP_LEN, MsgType, SlaveId};

/// Who gets a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum To {
    Slave(u32),
    Master(u16),
}

impl To {
    fn direction(self) -> &'static str {
        match self {
            Self::Slave(_) => "down",
            Self::Master(_) => "up",
        }
    }
}

/// An admitted record that has not left yet.
#[derive(Clone, Debug)]
struct Waiting {
    since: Time,
    ce: bool,
    bytes: Vec<u8>,
}

/// A record that was read from its bytes without using `wire`.
struct Parsed<'a> {
    kind: u16,
    slave: u32,
    master: u16,
    bytes: &'a [u8],
}

/// The first record of some bytes, whatever its id, or why there is none.
fn parse_any_id(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    if bytes.len() < 23 {
        return Err("dropped_truncated");
    }
    if bytes[..4] != [0x58, 0x4d, 0x56, 0x47] {
        return Err("dropped_bad_magic");
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let len = 23 + u64::from(u32_at(18));
    if len > bytes.len() as u64 {
        return Err("dropped_bad_length");
    }
    Ok(Parsed { kind: u16_at(4), slave: u32_at(6), master: u16_at(16), bytes: &bytes[..len as usize] })
}

/// The first record of some bytes, or why there is none.
fn parse(bytes: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let record = parse_any_id(bytes)?;
    if record.slave < scale().slaves() { Ok(record) } else { Err("dropped_bad_slave_id") }
}

fn is_link(kind: u16) -> bool {
    [MsgType::HEARTBEAT, MsgType::HEARTBEAT_ACK, MsgType::MEMBERS].contains(&MsgType(kind))
}

fn is_at(route: &Route, peer: &Peer) -> bool {
    let registered = &route.peer;
    (peer.ip(), peer.vlan, peer.port) == (registered.ip(), registered.vlan, registered.port)
        && (!route.fixed_port || peer.udp_port == registered.udp_port)
}

/// The reference: routes, records that were admitted and not yet sent, and the right value of every counter.
pub(crate) struct Model {
    config: GatewayConfig,
    chunk: usize,
    slaves: BTreeMap<u32, Route>,
    masters: BTreeMap<u16, Route>,
    waiting: BTreeMap<To, VecDeque<Waiting>>,
    counts: Counts,
    last_received: Time,
    draining: bool,
    /// Cargo that was seen in the queue of each port: destination and bytes.
    queued: [VecDeque<(Peer, Vec<u8>)>; 2],
    /// Answers that wait in the queue of each port.
    answers: [VecDeque<Vec<u8>>; 2],
    /// A route was changed since the last comparison: a marked buffer may have been cut into smaller datagrams, all of
    /// which keep the mark.
    route_changed: bool,
    /// Where records with PUSH go that were admitted since the last comparison.
    pushed: Vec<To>,
    /// Records with PUSH that had no effect, of all at the last comparison.
    ignored: u64,
    /// Datagrams with a mark that none of their records brought: at least, and those after a change of a route.
    marked: [u64; 2],
    /// Admitted records that were found missing, by direction. Each must be a drop because there was no frame, or
    /// because a share was used up.
    missing: BTreeMap<&'static str, u64>,
}

impl Model {
    pub(crate) fn new(config: GatewayConfig, chunk: u32) -> Self {
        Self {
            config,
            chunk: chunk as usize,
            slaves: BTreeMap::new(),
            masters: BTreeMap::new(),
            waiting: BTreeMap::new(),
            counts: Counts::new(),
            last_received: 0,
            draining: false,
            queued: Default::default(),
            answers: Default::default(),
            route_changed: false,
            pushed: Vec::new(),
            ignored: 0,
            marked: [0; 2],
            missing: BTreeMap::new(),
        }
    }

    pub(crate) fn slave(&self, id: u32) -> Option<&Route> {
        self.slaves.get(&id)
    }

    pub(crate) fn master(&self, id: u16) -> Option<&Route> {
        self.masters.get(&id)
    }

    pub(crate) fn set_hold(&mut self, hold: Time) {
        self.config.hold = hold;
    }

    pub(crate) fn set_early(&mut self, early: bool) {
        self.config.early = early;
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// An answer of the registrar that was handed to the gateway, if a frame was left for it.
    pub(crate) fn answer(&mut self, peer: Peer, bytes: Vec<u8>) {
        self.answers[usize::from(peer.port.0)].push_back(bytes);
    }

    fn count(&mut self, direction: &str, counter: &str, by: u64) {
        *self.counts.entry(format!("{direction}.{counter}")).or_default() += by;
    }

    fn serves(&self, id: SlaveId) -> bool {
        self.config.shards.contains(scale().shard(id))
    }

    fn route(&self, to: To) -> Option<&Route> {
        match to {
            To::Slave(id) => self.slaves.get(&id),
            To::Master(id) => self.masters.get(&id),
        }
    }

    /// The most bytes that a datagram to there may have.
    fn limit(&self, to: To) -> Option<usize> {
        let smallest_room = payload_room(self.chunk as u32) as usize;
        self.route(to).map(|route| usize::from(route.mtu - IPV4_UDP_LEN).min(smallest_room))
    }

    /// A route change, which the gateway has made already.
    pub(crate) fn set_route(&mut self, rig: &Rig, to: To, route: Option<Route>) {
        let known = match to {
            To::Slave(id) => self.serves(scale().slave_id(id).unwrap()),
            To::Master(id) => self.masters.contains_key(&id) || self.masters.len() < usize::from(self.config.masters),
        };
        if !known {
            return;
        }
        self.route_changed = true;
        match (to, route) {
            (To::Slave(id), Some(route)) => drop(self.slaves.insert(id, route)),
            (To::Slave(id), None) => drop(self.slaves.remove(&id)),
            (To::Master(id), Some(route)) => drop(self.masters.insert(id, route)),
            (To::Master(id), None) => drop(self.masters.remove(&id)),
        }
        if route.is_none() {
            // Records that found no frame are still in this list. The others waited.
            let name = format!("{}.dropped_route_removed", to.direction());
            let before = self.counts.get(&name).copied().unwrap_or(0);
            let dropped = rig.counts()[&name] - before;
            let waited = self.waiting.remove(&to).map_or(0, |list| list.len() as u64);
            assert!(dropped <= waited, "{dropped} records of {to:?} dropped with its route, but only {waited} waited");
            *self.missing.entry(to.direction()).or_default() += waited - dropped;
            self.count(to.direction(), "dropped_route_removed", dropped);
        }
        self.drop_what_became_too_large(rig, to);
    }

    /// After a change to a smaller MTU the waiting records are sent in smaller datagrams. A record that is too large
    /// alone is dropped.
    fn drop_what_became_too_large(&mut self, rig: &Rig, to: To) {
        let (Some(limit), Some(list)) = (self.limit(to), self.waiting.get_mut(&to)) else { return };
        let before = list.len();
        list.retain(|waiting| waiting.bytes.len() <= limit);
        let too_large = (before - list.len()) as u64;
        let name = format!("{}.dropped_too_large", to.direction());
        let dropped = rig.counts()[&name] - self.counts.get(&name).copied().unwrap_or(0);
        assert!(dropped <= too_large, "{dropped} records of {to:?} dropped, but only {too_large} became too large");
        *self.missing.entry(to.direction()).or_default() += too_large - dropped;
        self.count(to.direction(), "dropped_too_large", dropped);
    }

    /// A datagram that the gateway received.
    pub(crate) fn receive(&mut self, now: Time, from: &Peer, bytes: &[u8], ce: bool) {
        self.last_received = now;
        if bytes.is_empty() {
            return self.count("flush", "empty_datagrams", 1);
        }
        let first = match parse_any_id(bytes) {
            Ok(first) => first,
            Err(reason) => {
                let from_master = self.masters.values().any(|route| is_at(route, from));
                let direction = if from_master { "down" } else { "up" };
                self.datagram_in(direction, bytes);
                return self.bad(direction, reason, bytes.len());
            }
        };
        if is_link(first.kind) {
            self.count("flush", "link_datagrams_in", 1);
            let mut rest = bytes;
            while let Ok(record) = parse(rest) {
                self.count("flush", "link_records_in", 1);
                rest = &rest[record.bytes.len()..];
            }
            return;
        }
        let down = self.masters.get(&first.master).is_some_and(|route| is_at(route, from));
        let direction = if down { "down" } else { "up" };
        self.datagram_in(direction, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let record = match parse(rest) {
                Ok(record) => record,
                Err(reason) => return self.bad(direction, reason, rest.len()),
            };
            rest = &rest[record.bytes.len()..];
            self.count(direction, "records_in", 1);
            let verdict = if down { self.judge_down(from, &first, &record) } else { self.judge_up(from, &record) };
            match verdict {
                Err(reason) => self.count(direction, reason, 1),
                Ok(to) => {
                    let waiting = Waiting { since: now, ce, bytes: record.bytes.to_vec() };
                    self.waiting.entry(to).or_default().push_back(waiting);
                    if record.bytes[22] & 4 != 0 {
                        self.pushed.push(to);
                    }
                }
            }
        }
    }

    fn datagram_in(&mut self, direction: &str, bytes: &[u8]) {
        self.count(direction, "datagrams_in", 1);
        self.count(direction, "bytes_in", bytes.len() as u64);
    }

    fn bad(&mut self, direction: &str, reason: &str, remainder: usize) {
        self.count(direction, "records_in", 1);
        self.count(direction, reason, 1);
        self.count(direction, "bad_bytes", remainder as u64);
    }

    fn judge_down(&self, from: &Peer, first: &Parsed<'_>, record: &Parsed<'_>) -> Result<To, &'static str> {
        let id = scale().slave_id(record.slave).unwrap();
        let same_shard = scale().shard(id) == scale().shard(scale().slave_id(first.slave).unwrap());
        if is_link(record.kind) {
            return Err("dropped_mixed_link");
        }
        if !same_shard {
            return Err("dropped_mixed_shards");
        }
        if !self.serves(id) {
            return Err("dropped_foreign_shard");
        }
        if !self.masters.get(&record.master).is_some_and(|route| is_at(route, from)) {
            return Err("dropped_spoofed");
        }
        self.fits(To::Slave(record.slave), record)
    }

    fn judge_up(&self, from: &Peer, record: &Parsed<'_>) -> Result<To, &'static str> {
        if is_link(record.kind) {
            return Err("dropped_mixed_link");
        }
        if !self.serves(scale().slave_id(record.slave).unwrap()) {
            return Err("dropped_foreign_shard");
        }
        match self.slaves.get(&record.slave) {
            None => Err("dropped_unregistered_source"),
            Some(route) if !is_at(route, from) => Err("dropped_spoofed"),
            Some(_) => self.fits(To::Master(record.master), record),
        }
    }

    fn fits(&self, to: To, record: &Parsed<'_>) -> Result<To, &'static str> {
        match self.limit(to) {
            None => Err("dropped_no_route"),
            Some(limit) if record.bytes.len() > limit => Err("dropped_too_large"),
            Some(_) => Ok(to),
        }
    }

    /// Checks the datagrams that the gateway queued since the last call: destination, size, and that their records are
    /// the oldest that wait for that destination. Then compares every counter.
    pub(crate) fn compare(&mut self, rig: &mut Rig) {
        for port in 0..2 {
            let seen = self.queued[port].len();
            let queue = rig.out.queue(PortId(port as u8)).unwrap();
            let cargo = queue.iter_mut().filter(|datagram| datagram.class != Class::Link);
            for datagram in cargo.skip(seen) {
                self.queue_one(datagram);
                self.queued[port].push_back((datagram.peer, datagram.frame.data().to_vec()));
            }
        }
        self.compare_marks(rig);
        self.route_changed = false;
        self.too_large_without_a_frame(rig);
        self.compare_counts(rig);
        self.compare_waiting(rig);
    }

    /// A record that is too large may be counted with the run of records that found no frame.
    fn too_large_without_a_frame(&mut self, rig: &Rig) {
        for direction in ["down", "up"] {
            let name = format!("{direction}.dropped_too_large");
            let counted = rig.counts()[&name];
            let expected = self.counts.entry(name).or_default();
            assert!(counted <= *expected, "{direction}: {counted} were too large, not {expected}");
            *self.missing.entry(direction).or_default() += *expected - counted;
            *expected = counted;
        }
    }

    fn queue_one(&mut self, datagram: &Datagram) {
        let bytes = datagram.frame.data();
        let first = parse(bytes).expect("a datagram begins with a record");
        let to = match datagram.class {
            Class::Down => To::Slave(first.slave),
            Class::Up => To::Master(first.master),
            Class::Link => unreachable!("filtered out"),
        };
        let route = self.route(to).unwrap_or_else(|| panic!("a datagram for {to:?}, which has no route"));
        assert_eq!(super::without_source(datagram.peer), route.peer, "a datagram for {to:?}");
        let limit = self.limit(to).unwrap();
        assert!(bytes.len() <= limit, "{} bytes for {to:?}, whose route takes {limit}", bytes.len());
        let (mut rest, mut records, mut ce) = (bytes, 0, false);
        while !rest.is_empty() {
            let record = parse(rest).expect("a datagram consists of records");
            rest = &rest[record.bytes.len()..];
            records += 1;
            let same = match to {
                To::Slave(id) => record.slave == id,
                To::Master(id) => record.master == id,
            };
            assert!(same, "a datagram for {to:?} has a record of another destination");
            let list = self.waiting.entry(to).or_default();
            let place = list.iter().position(|waiting| waiting.bytes == record.bytes);
            let place = place.unwrap_or_else(|| panic!("a record for {to:?} is invented, repeated or out of order"));
            ce |= list[place].ce;
            list.drain(..=place);
            *self.missing.entry(to.direction()).or_default() += place as u64;
        }
        assert_eq!(datagram.records, records, "records of a datagram for {to:?}");
        assert!(datagram.ce || !ce, "the CE mark of a datagram for {to:?} is gone");
        self.marked[usize::from(self.route_changed)] += u64::from(datagram.ce != ce);
    }

    fn compare_counts(&self, rig: &Rig) {
        for (name, value) in rig.counts() {
            // The model does not decide which link control goes first: `tests/link.rs` and `budget` test that.
            let flush = ["flush.link_datagrams_in", "flush.link_records_in", "flush.empty_datagrams"];
            let ours = ["down.", "up."].iter().any(|direction| name.starts_with(direction)) || flush.contains(&&*name);
            // Held records, records without a frame and records beyond their share are compared with the list of
            // waiting records. `tests/push.rs` checks whose PUSH has no effect.
            let compared_there = [".held", ".dropped_no_frame", ".dropped_fair_share", ".push_ignored"];
            if ours && !compared_there.iter().any(|end| name.ends_with(end)) {
                assert_eq!(value, self.counts.get(&name).copied().unwrap_or(0), "{name}");
            }
        }
    }

    /// Admitted records that found no frame, or were beyond their share, and were not yet found missing.
    fn not_yet_missing(&self, rig: &Rig, direction: &str) -> u64 {
        let count = |reason: &str| rig.counts()[&format!("{direction}.dropped_{reason}")];
        let dropped = count("no_frame") + count("fair_share");
        let missing = self.missing.get(direction).copied().unwrap_or(0);
        assert!(missing <= dropped, "{direction}: {missing} records are missing, but {dropped} were dropped");
        dropped - missing
    }

    /// A marked buffer that is cut again marks more datagrams than one; otherwise a mark is that of a record, or was
    /// counted.
    fn compare_marks(&self, rig: &Rig) {
        let counted = rig.counts()["tx.down_ce_marked"] + rig.counts()["tx.up_ce_marked"];
        let [least, cut] = self.marked;
        assert!((least..=least + cut).contains(&counted), "{least} to {} marks, and {counted} counted", least + cut);
    }

    fn compare_waiting(&mut self, rig: &Rig) {
        let mut exact = true;
        for (direction, held) in [("down", rig.held().0), ("up", rig.held().1)] {
            let lists = self.waiting.iter().filter(|(to, _)| to.direction() == direction);
            let waiting: usize = lists.map(|(_, list)| list.len()).sum();
            let lost = self.not_yet_missing(rig, direction);
            assert_eq!(held + lost, waiting as u64, "{direction}: {held} held, {lost} lost");
            exact &= lost == 0;
        }
        let pushed = std::mem::take(&mut self.pushed);
        let ignored = ["down", "up"].map(|way| rig.counts()[&format!("{way}.push_ignored")]).iter().sum();
        let obeyed = std::mem::replace(&mut self.ignored, ignored) == ignored;
        if !exact {
            return;
        }
        for to in pushed.iter().filter(|_| obeyed) {
            assert!(self.waiting.get(to).is_none_or(VecDeque::is_empty), "records wait for {to:?} after PUSH");
        }
        let oldest = self.waiting.values().filter_map(|list| Some(list.front()?.since)).min();
        let open = self.waiting.values().filter(|list| !list.is_empty()).count();
        assert_eq!(rig.gateway.frames_held(), open, "a buffer exists only while records wait in it");
        let due = oldest.map(|oldest| {
            let early = self.last_received.saturating_add(self.config.hold / 4);
            let hold = oldest.saturating_add(self.config.hold);
            if self.config.early { hold.min(early) } else { hold }
        });
        assert_eq!(rig.gateway.deadline(), due);
        assert_eq!(rig.gateway.is_drained(), self.draining && open == 0);
    }

    /// After an advance nothing may be overdue.
    pub(crate) fn advanced(&self, rig: &Rig) {
        let deadline = rig.gateway.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > rig.now), "due at {deadline:?}, now {}", rig.now);
        if self.draining {
            assert_eq!((rig.held(), rig.gateway.frames_held()), ((0, 0), 0));
        }
    }

    /// A port takes, or fails to send, at most `most` datagrams: the oldest first, link control before cargo.
    pub(crate) fn transmit(&mut self, rig: &mut Rig, port: u8, most: usize, fails: bool) {
        for _ in 0..most {
            let queue = rig.out.queue(PortId(port)).unwrap();
            let Some(datagram) = (if fails { queue.fail() } else { queue.take() }) else { break };
            match self.answers[usize::from(port)].pop_front() {
                Some(answer) => assert_eq!((datagram.class, datagram.frame.data()), (Class::Link, &answer[..])),
                None => {
                    let (peer, bytes) = self.queued[usize::from(port)].pop_front().expect("it was seen in the queue");
                    assert_eq!((datagram.peer, datagram.frame.data()), (peer, &bytes[..]), "changed while it waited");
                }
            }
        }
        rig.out.queue(PortId(port)).unwrap().rewind();
    }

    /// At the end nothing is held. So every record that is left in the lists found no frame.
    pub(crate) fn finished(&self, rig: &Rig) {
        assert_eq!(rig.held(), (0, 0));
        assert!(self.queued.iter().all(VecDeque::is_empty) && self.answers.iter().all(VecDeque::is_empty));
        assert!(rig.out.is_empty());
    }
}
