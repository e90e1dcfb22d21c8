//! A gateway and its nodes on a virtual clock. The test carries every datagram.
#![allow(dead_code, reason = "each test file uses its part of this")]

use frame::time::{MILLISECOND, SECOND};
use frame::{More, Peer, PortId, Time, Vlan};
use link::{
    AckRefusal, ChallengeSecret, ClusterKey, Health, MemberTable, MembersRefusal, Node, NodeConfig, NodeEvent, Notice,
    Registrar, RegistrarConfig, RegistrarEvent, RouteChange, ShardRanges, Sink,
};
use std::collections::BTreeMap;
use wire::link::{Heartbeat, HeartbeatAck, Member, MemberState, NodeId};
use wire::{MsgType, Record, Scale, Walk};

pub(crate) const START: Time = 100 * SECOND;

pub(crate) fn key() -> ClusterKey {
    ClusterKey::from_bytes([0x42; 32])
}

pub(crate) fn scale() -> Scale {
    Scale::new(6, 4).unwrap()
}

/// A gateway of shard 1 (slaves 16 to 31) with a key.
pub(crate) fn config() -> RegistrarConfig {
    RegistrarConfig {
        scale: scale(),
        shards: "1".parse::<ShardRanges>().unwrap(),
        keys: key().into(),
        secret: [9; 32],
        epoch: 77,
        ..RegistrarConfig::default()
    }
}

pub(crate) fn node_config() -> NodeConfig {
    booted(5)
}

/// The configuration of a start of a node, with its own challenges.
pub(crate) fn booted(boot_epoch: u64) -> NodeConfig {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&boot_epoch.to_le_bytes());
    NodeConfig {
        scale: scale(),
        boot_epoch,
        challenges: ChallengeSecret::new(secret),
        pages_total: 1000,
        pages_free: 1000,
        vcpus: 2,
        ..NodeConfig::default()
    }
}

pub(crate) fn slave(id: u32) -> NodeId {
    NodeId::slave(Scale::default().slave_id(id).unwrap())
}

/// An address behind port 0.
pub(crate) fn address(last: u8) -> Peer {
    Peer::ipv4(PortId(0), [10, 0, 0, last], 49152, Vlan::UNTAGGED, [2, 0, 0, 0, 0, last])
}

/// The gateway as nodes know it, and the address from which its answers come.
pub(crate) fn gateway_peer() -> Peer {
    Peer::ipv4(PortId(0), [10, 0, 0, 254], wire::GATEWAY_PORT, Vlan::UNTAGGED, [2, 0, 0, 0, 0, 254])
}

/// The outputs of a registrar.
#[derive(Default)]
pub(crate) struct Out {
    pub replies: Vec<(Peer, Vec<u8>)>,
    pub routes: Vec<RouteChange>,
    pub notices: Vec<Notice>,
    /// The events of the registrar, in order.
    pub events: Vec<RegistrarEvent>,
    /// How many notices were left out, as the counts in the other notices say.
    pub untold: u64,
}

impl Sink for Out {
    fn reply(&mut self, to: &Peer, datagram: &[u8], records: u16) {
        assert_eq!(Walk::new(datagram, Scale::default()).filter(Result::is_ok).count(), usize::from(records));
        self.replies.push((*to, datagram.to_vec()));
    }

    fn route(&mut self, change: RouteChange) {
        self.routes.push(change);
    }

    fn notice(&mut self, notice: Notice, more: More) {
        assert!(!notice.to_string().is_empty());
        self.notices.push(notice);
        self.untold += more.0;
    }

    fn event(&mut self, event: RegistrarEvent) {
        assert!(!event.to_string().is_empty());
        self.events.push(event);
    }
}

pub(crate) struct Gateway {
    pub registrar: Registrar,
    pub out: Out,
}

impl Gateway {
    pub(crate) fn new(config: RegistrarConfig, now: Time) -> Self {
        Self { registrar: Registrar::new(config, now).unwrap(), out: Out::default() }
    }

    /// Takes a datagram and returns the answers.
    pub(crate) fn receive(&mut self, now: Time, from: &Peer, datagram: &[u8]) -> Vec<(Peer, Vec<u8>)> {
        self.registrar.receive(now, from, datagram, &mut self.out);
        std::mem::take(&mut self.out.replies)
    }

    pub(crate) fn advance(&mut self, now: Time) -> Vec<(Peer, Vec<u8>)> {
        self.registrar.advance(now, Health::GOOD, &mut self.out);
        std::mem::take(&mut self.out.replies)
    }

    pub(crate) fn routes(&mut self) -> Vec<RouteChange> {
        std::mem::take(&mut self.out.routes)
    }

    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.out.notices)
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let mut found = None;
        frame::counter::CounterSet::visit(&**self.registrar.counters(), &mut |other, _, value| {
            if other == name {
                found = Some(value);
            }
        });
        found.unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Sum of all `refused_*` counters.
    pub(crate) fn refused(&self) -> u64 {
        let mut sum = 0;
        frame::counter::CounterSet::visit(&**self.registrar.counters(), &mut |name, _, value| {
            if name.starts_with("refused_") {
                sum += value;
            }
        });
        // Each refusal had a notice with the name of its counter.
        let said = |name: &str| {
            let is_it = |event: &&RegistrarEvent| matches!(event, RegistrarEvent::Refused { why, .. } if *why == name);
            self.out.events.iter().filter(is_it).count() as u64
        };
        frame::counter::CounterSet::visit(&**self.registrar.counters(), &mut |name, _, value| {
            if let Some(why) = name.strip_prefix("refused_") {
                assert_eq!(said(why), value, "{name}");
            }
        });
        sum
    }
}

/// A node at an address.
pub(crate) struct Client {
    pub node: Node,
    pub config: NodeConfig,
    pub peer: Peer,
    pub table: MemberTable,
    pub events: Vec<NodeEvent>,
    pub refusals: Vec<AckRefusal>,
    pub members_refusals: Vec<MembersRefusal>,
    /// The table that results from the changes that the master's table yielded.
    pub mirror: BTreeMap<u32, Member>,
}

impl Client {
    pub(crate) fn new(id: NodeId, peer: Peer, now: Time) -> Self {
        Self::with(id, peer, node_config(), Some(key()), now)
    }

    pub(crate) fn with(id: NodeId, peer: Peer, config: NodeConfig, key: Option<ClusterKey>, now: Time) -> Self {
        Self {
            node: Node::new(id, key.map(|key| key.node_key(id)), gateway_peer(), &config, now),
            table: MemberTable::new(config.scale, config.interval),
            config,
            peer,
            events: Vec::new(),
            refusals: Vec::new(),
            members_refusals: Vec::new(),
            mirror: BTreeMap::new(),
        }
    }

    /// A heartbeat, if one is due; never a padded one.
    pub(crate) fn heartbeat(&mut self, now: Time) -> Option<Vec<u8>> {
        let mut out = [0; 1500];
        self.node.transmit(&self.config, now, &mut out).map(|len| out[..len].to_vec())
    }

    /// A padded heartbeat, if one is due.
    pub(crate) fn probe(&mut self, now: Time) -> Option<Vec<u8>> {
        let mut out = [0; 9000];
        self.node.transmit_probe(&self.config, now, &mut out).map(|len| out[..len].to_vec())
    }

    /// Takes those answers of the gateway that are for this address.
    pub(crate) fn take(&mut self, now: Time, answers: &[(Peer, Vec<u8>)]) {
        let own = self.peer;
        for (_, datagram) in answers.iter().filter(|(to, _)| *to == own) {
            for item in Walk::new(datagram, Scale::default()) {
                self.take_record(now, &gateway_peer(), &item.unwrap().1);
            }
        }
    }

    pub(crate) fn take_record(&mut self, now: Time, from: &Peer, record: &Record<'_>) {
        if record.header().msg_type() == MsgType::MEMBERS {
            let mirror = &mut self.mirror;
            let result = self.table.receive(now, &mut self.node, from, record, |member| apply(mirror, member));
            self.members_refusals.extend(result.err());
        } else {
            match self.node.handle(&self.config, now, from, record) {
                Ok(event) => self.events.extend(event),
                Err(refusal) => self.refusals.push(refusal),
            }
        }
    }

    /// Sends what is due now and takes the answers, until nothing is due.
    pub(crate) fn exchange(&mut self, gateway: &mut Gateway, now: Time) {
        while let Some(datagram) = self.heartbeat(now) {
            let answers = gateway.receive(now, &self.peer, &datagram);
            self.take(now, &answers);
        }
        if let Some(datagram) = self.probe(now) {
            let answers = gateway.receive(now, &self.peer, &datagram);
            self.take(now, &answers);
        }
        let mirror = &mut self.mirror;
        self.table.advance(now, |member| apply(mirror, member));
        self.events.extend(self.node.poll_event(&self.config, now));
    }

    pub(crate) fn events(&mut self) -> Vec<NodeEvent> {
        std::mem::take(&mut self.events)
    }

    /// All events except those about the size of packets.
    pub(crate) fn events_but_mtu(&mut self) -> Vec<NodeEvent> {
        let mut events = self.events();
        events.retain(|event| !matches!(event, NodeEvent::MtuProven { .. } | NodeEvent::MtuReduced { .. }));
        events
    }
}

fn apply(mirror: &mut BTreeMap<u32, Member>, member: &Member) {
    if member.state == MemberState::Gone {
        assert!(mirror.remove(&member.id).is_some(), "slave {} was gone already", member.id);
    } else {
        assert_ne!(mirror.insert(member.id, *member), Some(*member), "a change that changes nothing");
    }
}

/// Lets time pass in steps of 10 ms from `from` until just before `to`.
pub(crate) fn run(gateway: &mut Gateway, clients: &mut [&mut Client], from: Time, to: Time) {
    let mut now = from;
    while now < to {
        for client in clients.iter_mut() {
            client.exchange(gateway, now);
        }
        for answer in gateway.advance(now) {
            let answers = [answer];
            for client in clients.iter_mut() {
                client.take(now, &answers);
            }
        }
        now += 10 * MILLISECOND;
    }
}

/// A heartbeat by hand, signed with the cluster's key for that node.
pub(crate) fn signed(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut out = [0; 256];
    let len = heartbeat.emit(Some(key().node_key(heartbeat.node).as_bytes()), &mut out).unwrap();
    out[..len].to_vec()
}

/// The heartbeat in a datagram.
pub(crate) fn heartbeat_in(datagram: &[u8]) -> Heartbeat {
    Heartbeat::parse(&Record::first(datagram).unwrap()).unwrap()
}

/// The first ACK in the first answer.
pub(crate) fn ack_in(answers: &[(Peer, Vec<u8>)]) -> HeartbeatAck {
    HeartbeatAck::parse(&Record::first(&answers[0].1).unwrap()).unwrap()
}

/// A slave that is registered, the last heartbeat that it sent, and its gateway.
pub(crate) fn registered(id: u32, now: Time) -> (Gateway, Client, Heartbeat) {
    let mut gateway = Gateway::new(config(), now);
    let mut client = Client::new(slave(id), address(1), now);
    let first = client.heartbeat(now).unwrap();
    let answers = gateway.receive(now, &client.peer, &first);
    client.take(now, &answers);
    let second = client.heartbeat(now).unwrap();
    let answers = gateway.receive(now, &client.peer, &second);
    client.take(now, &answers);
    assert!(client.node.is_registered());
    gateway.routes();
    client.events();
    (gateway, client, heartbeat_in(&second))
}
