//! A test master: registered at every gateway, it sends ECHO and PATTERN downward, packed by shard, and checks the
//! answers.

use crate::rng::Rng;
use frame::time::{FOREVER, MICROSECOND};
use frame::{Burst, Class, Datagram, Frame, Outbox, Peer, PortId, Role, Time};
use link::standing::choose;
use link::{
    AckRefusal, ChallengeSecret, KeyRing, MemberTable, MembersRefusal, Node, NodeConfig, NodeKey, Standing,
    datagram_room,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::link::{Member, MemberState};
use wire::record::{FRAG_PUSH, RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType, Record, Scale, Walk, echo};

/// How soon a record that found no frame is tried again.
const RETRY: u64 = 50 * MICROSECOND;

/// Time between two groups of questions of [`Command::Ask`].
const ASK_GAP: u64 = 200 * MICROSECOND;

/// Questions of one group.
const ASK_GROUP: usize = 8;
/// One record of so many has PUSH; so has its answer.
const PUSH_EVERY: u64 = 7;

frame::counters! {
    /// What a master counts.
    pub struct MasterCounters {
        /// Records of cargo that were sent.
        sent,
        /// ECHO_REPLYs with the content of their question.
        answers,
        /// PATTERN records of slaves with the right content.
        patterns,
        /// Records whose content is not what was sent.
        bad_content,
        /// Records that a master does not expect, or from a wrong place.
        unexpected,
        /// Link control that was refused: forged, replayed, of another start.
        refused,
        /// Of these, the answers to another challenge.
        refused_challenge,
        /// Slaves that a gateway called suspect.
        told_suspect,
        /// Slaves that a gateway called gone.
        told_gone,
        /// Times that a shard's cargo took another gateway than before.
        shard_moves,
    }
}

/// The commands for a master.
#[derive(Clone, Debug)]
pub enum Command {
    /// Send trains of records: at most `records` in a train, with at most `payload` bytes, `gap` apart.
    Trains {
        /// Records of a train at most.
        records: u64,
        /// Bytes of payload at most.
        payload: u64,
        /// Nanoseconds between two trains.
        gap: u64,
    },
    /// Send no trains any more.
    Quiet,
    /// Ask each of these slaves one question.
    Ask(Vec<u32>),
    /// Other keys from the next heartbeat on.
    SetKeys(KeyRing<NodeKey>),
    /// No trains, no questions, no heartbeats any more.
    Drain,
}

struct Gate {
    node: Node,
    table: MemberTable,
    /// Largest packets that its slaves take, by id: those that may be sent to.
    slaves: Vec<(u32, u16)>,
}

struct Open {
    frame: Frame,
    to: Peer,
    shard: u32,
    room: usize,
    records: u16,
}

struct Trains {
    records: u64,
    payload: u64,
    gap: u64,
    next: Time,
}

/// See the module's documentation.
pub struct Master {
    id: u16,
    config: NodeConfig,
    gates: Vec<Gate>,
    /// For each shard the gate that its cargo went to last.
    uses: BTreeMap<u32, usize>,
    rng: Rng,
    trains: Option<Trains>,
    questions: VecDeque<u32>,
    next_question: Time,
    unanswered: BTreeSet<u32>,
    asked: u64,
    sequence: u64,
    retry_at: Time,
    draining: bool,
    open: Option<Open>,
    counters: MasterCounters,
}

impl Master {
    /// A master with an id of its own at these gateways.
    pub fn new(id: u16, config: NodeConfig, nodes: Vec<Node>, rng: Rng) -> Self {
        let table = || MemberTable::new(config.scale, config.interval);
        let gates = nodes.into_iter().map(|node| Gate { node, table: table(), slaves: Vec::new() }).collect();
        Self {
            id,
            gates,
            uses: BTreeMap::new(),
            rng,
            trains: None,
            questions: VecDeque::new(),
            next_question: 0,
            unanswered: BTreeSet::new(),
            // A different number after each start, so that an answer to an earlier start does not count.
            asked: (config.boot_epoch & 0xffff) << 24,
            config,
            sequence: 0,
            retry_at: 0,
            draining: false,
            open: None,
            counters: MasterCounters::default(),
        }
    }

    /// What it counts.
    pub fn counters(&self) -> &MasterCounters {
        &self.counters
    }

    /// The slaves that were asked and have not answered.
    pub fn unanswered(&self) -> &BTreeSet<u32> {
        &self.unanswered
    }

    /// Whether all that was to be asked was asked.
    pub fn has_asked(&self) -> bool {
        self.questions.is_empty()
    }

    /// The slaves that it knows of behind a gateway, ascending.
    pub fn members(&self, gateway: usize) -> impl Iterator<Item = u32> + '_ {
        self.gates[gateway].table.iter().map(|member| member.id)
    }

    /// The gateway that a shard's cargo went to last.
    pub fn used_for(&self, shard: u32) -> Option<usize> {
        self.uses.get(&shard).copied()
    }

    /// Whether a gateway has registered it.
    pub fn is_registered(&self, gateway: usize) -> bool {
        self.gates[gateway].node.is_registered()
    }

    fn announce(&mut self, now: Time, out: &mut Outbox) {
        for gate in &mut self.gates {
            gate.node.poll_event(&self.config, now);
            if now < self.retry_at {
                continue;
            }
            for probe in [false, true] {
                let due = if probe { gate.node.wants_probe(&self.config, now) } else { gate.node.is_due(now) };
                if !due {
                    continue;
                }
                let Some(mut frame) = out.alloc_link() else {
                    self.retry_at = now + RETRY;
                    continue;
                };
                let room = frame.tail_mut();
                let len = match probe {
                    true => gate.node.transmit_probe(&self.config, now, room),
                    false => gate.node.transmit(&self.config, now, room),
                };
                if let Some(len) = len {
                    frame.set_range(frame.headroom(), len);
                    out.send(Datagram::new(frame, *gate.node.gateway(), Class::Link, 1));
                }
            }
            let mut gone = false;
            gate.table.advance(now, |_| gone = true);
            if gone {
                gate.list();
            }
        }
    }

    /// Appends one record to the open datagram; if the record does not belong in it, that datagram leaves first.
    fn put(&mut self, now: Time, msg_type: MsgType, slave: u32, payload: u64, out: &mut Outbox) -> bool {
        let standings = self.gates.iter().map(|gate| match gate.mtu_of(slave) {
            Some(_) => gate.node.standing(&self.config, now),
            None => Standing::Away,
        });
        let shard = slave >> self.config.scale.gw_bits();
        let used = self.uses.get(&shard).copied();
        let Some(chosen) = choose(now, self.config.interval, used, standings) else { return false };
        let was = self.uses.insert(shard, chosen);
        self.counters.shard_moves.add(u64::from(was.is_some_and(|was| was != chosen)));
        let gate = &self.gates[chosen];
        let Some(mtu) = gate.mtu_of(slave) else { return false };
        let to = *gate.node.gateway();
        let room = datagram_room(&to, gate.node.mtu().min(self.config.max_ip_packet));
        let most = room.min(datagram_room(&to, mtu)).saturating_sub(HEADER_LEN);
        let payload = (payload as usize).min(most).max(echo::MIN_LEN);
        let fits =
            |open: &Open| open.to == to && open.shard == shard && open.frame.len() + HEADER_LEN + payload <= open.room;
        if !self.open.as_ref().is_some_and(fits) {
            self.flush(out);
            if out.backlog(PortId(0)) > 64 {
                return false;
            }
            let Some(frame) = out.alloc() else { return false };
            let room = room.min(frame.tailroom());
            self.open = Some(Open { frame, to, shard, room, records: 0 });
        }
        let Some(open) = &mut self.open else { return false };
        let request = if msg_type == MsgType::ECHO {
            self.asked += 1;
            req_id(self.id, self.asked)
        } else {
            req_id(self.id, self.config.boot_epoch)
        };
        self.sequence += 1;
        let push = if self.sequence.is_multiple_of(PUSH_EVERY) { FRAG_PUSH } else { 0 };
        let header = RecordHeader::new(msg_type, slave, request, payload as u32).with_frag(push);
        let Some(len) = echo::emit(&header, &echo::EchoHeader::new(now, self.sequence), open.frame.tail_mut()) else {
            return false;
        };
        open.frame.set_range(open.frame.headroom(), open.frame.len() + len);
        open.records += 1;
        self.counters.sent.add(1);
        true
    }

    fn flush(&mut self, out: &mut Outbox) {
        if let Some(Open { frame, to, records, .. }) = self.open.take()
            && records > 0
        {
            out.send(Datagram::new(frame, to, Class::Down, records));
        }
    }

    fn train(&mut self, now: Time, out: &mut Outbox) {
        let Some(trains) = &mut self.trains else { return };
        if now < trains.next {
            return;
        }
        trains.next = now + self.rng.between(trains.gap / 2, trains.gap * 3 / 2);
        let (records, payload) = (self.rng.between(1, trains.records), trains.payload);
        let mut picks = Vec::with_capacity(records as usize);
        while (picks.len() as u64) < records {
            let gate = self.rng.below(self.gates.len() as u64) as usize;
            let slaves = &self.gates[gate].slaves;
            if slaves.is_empty() {
                break;
            }
            let (slave, _) = slaves[self.rng.below(slaves.len() as u64) as usize];
            let in_a_row = self.rng.between(1, 8);
            picks.extend((0..in_a_row).map(|_| slave));
        }
        // Records of one shard share datagrams.
        picks.sort_unstable();
        for slave in picks {
            let msg_type = if self.rng.one_in(2) { MsgType::ECHO } else { MsgType::PATTERN };
            let payload = self.rng.between(echo::MIN_LEN as u64, payload.max(echo::MIN_LEN as u64));
            if !self.put(now, msg_type, slave, payload, out) {
                break;
            }
        }
        self.flush(out);
    }

    fn ask(&mut self, now: Time, out: &mut Outbox) {
        if self.questions.is_empty() || now < self.next_question {
            return;
        }
        self.next_question = now + ASK_GAP;
        for _ in 0..ASK_GROUP {
            let Some(slave) = self.questions.pop_front() else { break };
            self.unanswered.insert(slave);
            self.put(now, MsgType::ECHO, slave, 24, out);
        }
        self.flush(out);
    }

    fn take(&mut self, now: Time, datagram: &Datagram) {
        let Some(gate) = self.gates.iter_mut().find(|gate| datagram.peer.is_same_origin(gate.node.gateway(), false))
        else {
            return self.counters.unexpected.add(1);
        };
        for item in Walk::new(datagram.frame.data(), self.config.scale) {
            let Ok((id, record)) = item else {
                self.counters.unexpected.add(1);
                continue;
            };
            match record.header().msg_type() {
                MsgType::HEARTBEAT_ACK => {
                    if let Err(refusal) = gate.node.handle(&self.config, now, &datagram.peer, &record) {
                        self.counters.refused.add(1);
                        self.counters.refused_challenge.add(u64::from(refusal == AckRefusal::Challenge));
                    }
                }
                MsgType::MEMBERS => {
                    let told = |member: &Member| match member.state {
                        MemberState::Here => {}
                        MemberState::Suspect => self.counters.told_suspect.add(1),
                        MemberState::Gone => self.counters.told_gone.add(1),
                    };
                    match gate.table.receive(now, &mut gate.node, &datagram.peer, &record, told) {
                        Ok(()) => gate.list(),
                        Err(refusal) => {
                            self.counters.refused.add(1);
                            self.counters.refused_challenge.add(u64::from(refusal == MembersRefusal::Challenge));
                        }
                    }
                }
                MsgType::ECHO_REPLY if is_ours(self.id, &record) => {
                    self.unanswered.remove(&id.get());
                    self.counters.answers.add(1);
                }
                MsgType::PATTERN if is_ours(self.id, &record) => self.counters.patterns.add(1),
                MsgType::ECHO_REPLY | MsgType::PATTERN => self.counters.bad_content.add(1),
                _ => self.counters.unexpected.add(1),
            }
        }
    }
}

fn is_ours(id: u16, record: &Record<'_>) -> bool {
    record.header().master_id() == id && echo::check(record).is_some()
}

impl Gate {
    fn list(&mut self) {
        self.slaves = self.table.iter().map(|member| (member.id, member.mtu)).collect();
    }

    fn mtu_of(&self, slave: u32) -> Option<u16> {
        let at = self.slaves.binary_search_by_key(&slave, |slave| slave.0).ok()?;
        self.node.is_registered().then(|| self.slaves[at].1)
    }
}

impl Role for Master {
    type Command = Command;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, _out: &mut Outbox) {
        for datagram in burst.drain() {
            self.take(now, &datagram);
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if self.draining {
            return;
        }
        self.announce(now, out);
        self.train(now, out);
        self.ask(now, out);
    }

    fn deadline(&self) -> Option<Time> {
        if self.draining {
            return None;
        }
        let nodes = self.gates.iter().map(|gate| {
            let sweep = gate.table.deadline().unwrap_or(FOREVER);
            gate.node.deadline(&self.config).max(self.retry_at).min(sweep)
        });
        let train = self.trains.as_ref().map(|trains| trains.next);
        let question = (!self.questions.is_empty()).then_some(self.next_question);
        nodes.chain(train).chain(question).min()
    }

    fn command(&mut self, now: Time, command: Command, _out: &mut Outbox) {
        match command {
            Command::Trains { records, payload, gap } => {
                self.trains = Some(Trains { records, payload, gap, next: now });
            }
            Command::Quiet => self.trains = None,
            Command::SetKeys(keys) => self.gates.iter_mut().for_each(|gate| gate.node.set_keys(keys.clone())),
            Command::Ask(slaves) => self.questions.extend(slaves),
            Command::Drain => {
                self.draining = true;
                self.trains = None;
                self.questions.clear();
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.draining
    }

    fn frames_held(&self) -> usize {
        0
    }
}

/// What all nodes of a process announce; `boot` is the boot epoch and the secret of its challenges.
pub fn node_config(scale: Scale, interval: u64, boot: (u64, [u8; 32]), mtu: u16, fixed_port: bool) -> NodeConfig {
    NodeConfig {
        scale,
        interval,
        boot_epoch: boot.0,
        challenges: ChallengeSecret::new(boot.1),
        pages_total: 1 << 20,
        pages_free: 1 << 19,
        vcpus: 2,
        max_ip_packet: mtu,
        fixed_port,
        ..NodeConfig::default()
    }
}
