//! Messages of strangers and faulty nodes: a counter must count each, and it must change nothing.

use crate::check;
use crate::cluster::Cluster;
use crate::ledger::Wrong;
use crate::packet;
use crate::place::{Place, Who};
use crate::plan::Plan;
use frame::time::MILLISECOND;
use link::ClusterKey;
use std::collections::BTreeMap;
use wire::link::{Cookie, Heartbeat, HeartbeatAck, NodeId, SpeedClass};
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType, Record, SlaveId, Walk, echo, tag};

/// The counter of link control that masters refused.
const MASTER_REFUSED: &str = "master.refused";
/// The counter of link control that farms refused.
const FARM_REFUSED: &str = "farm.acks_refused";
/// The challenge of the stranger's own heartbeats.
const CHALLENGE: u64 = 1;

/// Offset of the major version in a record of link control.
const MAJOR_AT: usize = tag::TAG_END;

/// A cookie that no gateway gave.
const MADE_UP: Cookie = Cookie([1; Cookie::LEN]);

/// One attack or mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// A heartbeat without a tag.
    Unsigned,
    /// A heartbeat with a tag of another key.
    Forged,
    /// A heartbeat of another machine, from the stranger's address.
    ReplayedElsewhere,
    /// A heartbeat that was there before, with the address of its sender.
    Replayed,
    /// A heartbeat of any start of a machine, with the address of its sender.
    ReplayedOld,
    /// An answer or MEMBERS to any start of a machine, with the address of the gateway.
    ReplayedAnswer,
    /// A heartbeat of a slave, with its key, from the stranger's address, which was given no cookie.
    Unproven,
    /// A heartbeat of a slave whose shard is another gateway's.
    ForeignHeartbeat,
    /// A heartbeat of another version.
    Version,
    /// A heartbeat that is too short.
    Malformed,
    /// A heartbeat with bytes behind it that are not a record.
    BadRecord,
    /// A master's heartbeat on the port of the slaves.
    MasterPort,
    /// A second machine with a slave's id, its key, and a cookie for its own address.
    Duplicate,
    /// Link control that ends at nodes.
    Unexpected,
    /// A slave's cargo from the stranger's address.
    SpoofedUp,
    /// A master's cargo from the stranger's address.
    SpoofedDown,
    /// Cargo of a slave that is not there.
    Unregistered,
    /// A master's cargo for a slave of another gateway.
    ForeignCargo,
    /// A master's cargo of two shards in one datagram.
    MixedShards,
    /// Link control behind a master's cargo.
    MixedLink,
    /// A record that is larger than its slave takes.
    TooLarge,
    /// A master's cargo for a slave that is not there.
    NoSlave,
    /// A slave's cargo for a master that is not there.
    NoMaster,
    /// A master's bytes that are not a record.
    Magic,
    /// A master's record that is cut off in its header.
    Truncated,
    /// A master's record that says that it is longer than it is.
    Length,
    /// A master's record for a slave id that is out of range.
    SlaveId,
    /// A stranger's bytes that are not a record.
    StrangersMagic,
    /// An answer to a heartbeat, from the stranger's address, to a farm.
    AckToFarm,
    /// An unsigned MEMBERS under the address of a gateway, to a master.
    MembersToMaster,
}

use Attack::*;

/// All attacks.
pub const ATTACKS: [Attack; 30] = [
    Unsigned,
    Forged,
    ReplayedElsewhere,
    Replayed,
    ReplayedOld,
    ReplayedAnswer,
    Unproven,
    ForeignHeartbeat,
    Version,
    Malformed,
    BadRecord,
    MasterPort,
    Duplicate,
    Unexpected,
    SpoofedUp,
    SpoofedDown,
    Unregistered,
    ForeignCargo,
    MixedShards,
    MixedLink,
    TooLarge,
    NoSlave,
    NoMaster,
    Magic,
    Truncated,
    Length,
    SlaveId,
    StrangersMagic,
    AckToFarm,
    MembersToMaster,
];

/// A frame, and the counters that must count its records.
struct Shot {
    to: Place,
    frame: Vec<u8>,
    counters: &'static [&'static str],
    records: u64,
}

fn record(msg_type: MsgType, slave: u32, master: u16, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN + payload];
    let header = RecordHeader::new(msg_type, slave, req_id(master, 0xbad), payload as u32);
    echo::emit(&header, &echo::EchoHeader::new(0, 7), &mut bytes).expect("there is room for stamp and sequence");
    bytes
}

impl Cluster {
    /// A stranger sends something; the result does not matter.
    pub(crate) fn annoy(&mut self) {
        let attack = self.rng.pick(&ATTACKS);
        // A slave that is silent for long may lose its id to a node that has its key: this is not an attack.
        if attack != Duplicate
            && let Some(gateway) = self.any_gateway()
            && let Some(shot) = self.shot(attack, gateway)
        {
            self.transmit(Place::first(Who::Stranger), shot.frame);
        }
    }

    /// Every attack in turn, on a calm cluster: only its counter changes, and no registration changes.
    ///
    /// # Errors
    /// An attack counts elsewhere than in its counter, or changes who is registered or what a node knows. It fails as
    /// [`Cluster::run_until`] does, too.
    pub fn attack(&mut self) -> Result<(), Wrong> {
        for attack in ATTACKS {
            let Some(gateway) = self.any_gateway() else { return Ok(()) };
            let Some(shot) = self.shot(attack, gateway) else { continue };
            let (before, members, nodes) = (self.refusals(gateway), self.members(gateway), self.nodes_know());
            self.transmit(Place::first(Who::Stranger), shot.frame);
            self.run_until(self.now + self.plan.latency + 5 * MILLISECOND)?;
            let after = self.refusals(gateway);
            let moved = after.iter().map(|(name, value)| (name, value - before.get(name).copied().unwrap_or(0)));
            // Nodes also refuse repetitions: messages that a gateway sends twice, and answers to a replay.
            let noise = |name: &str| [MASTER_REFUSED, FARM_REFUSED].contains(&name) && !shot.counters.contains(&name);
            let moved: Vec<(&String, u64)> = moved.filter(|(name, more)| *more > 0 && !noise(name)).collect();
            let right: u64 = moved.iter().filter(|(name, _)| shot.counters.contains(&name.as_str())).map(|c| c.1).sum();
            let all: u64 = moved.iter().map(|counter| counter.1).sum();
            let is_of_node = [[MASTER_REFUSED], [FARM_REFUSED]].iter().any(|one| shot.counters == one);
            let at_least = is_of_node && right > shot.records;
            if right != all || !(right == shot.records || at_least) {
                let Shot { counters, records, to, .. } = shot;
                return Err(format!(
                    "{attack:?} on {to:?}: {records} in {counters:?} were to count, but {moved:?} did"
                ));
            }
            let now = self.members(gateway);
            if let Some(other) = now.iter().find(|member| !members.contains(member)).or(members.get(now.len())) {
                return Err(format!("{attack:?} changed who is registered at gateway {gateway}: {other:?}"));
            }
            if nodes != self.nodes_know() {
                return Err(format!("{attack:?} changed what a node knows"));
            }
        }
        Ok(())
    }

    /// How many slaves of each farm are registered, and the slaves that each master knows of behind each gateway.
    fn nodes_know(&self) -> (Vec<Option<u64>>, Vec<Vec<u32>>) {
        let farms = self.farms.iter().map(|farm| Some(farm.as_ref()?.lcore.role().registered())).collect();
        let masters = self.masters.iter().flatten().map(|core| core.lcore.role());
        let known = masters.flat_map(|master| (0..self.gateways.len()).map(|at| master.members(at).collect()));
        (farms, known.collect())
    }

    fn any_gateway(&mut self) -> Option<usize> {
        let gateway = self.rng.below(self.gateways.len() as u64) as usize;
        self.gateways[gateway].is_some().then_some(gateway)
    }

    /// All counters that say that something was refused or dropped.
    fn refusals(&self, gateway: usize) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        self.gateways[gateway].iter().for_each(|node| check::count(node, &mut counted));
        counted.retain(|name, _| {
            (name.contains("dropped") || name.contains("refused") || name.contains("challenged"))
                && !name.starts_with("port.")
        });
        let farms = self.farms.iter().flatten().map(|core| core.lcore.role().counters());
        counted.insert("farm.refused_source".to_owned(), farms.map(|counters| counters.refused_source.get()).sum());
        let farms = self.farms.iter().flatten().map(|core| core.lcore.role().counters());
        counted.insert(FARM_REFUSED.to_owned(), farms.map(|counters| counters.acks_refused.get()).sum());
        let masters = self.masters.iter().flatten().map(|core| core.lcore.role().counters());
        counted.insert(MASTER_REFUSED.to_owned(), masters.map(|counters| counters.refused.get()).sum());
        counted
    }

    fn members(&self, gateway: usize) -> Vec<(u32, frame::Peer)> {
        self.routes(gateway).into_iter().map(|(id, route)| (id, route.peer)).collect()
    }

    fn routes(&self, gateway: usize) -> Vec<(u32, link::Route)> {
        let registrar = self.gateways[gateway].as_ref().map(|node| node.desk.registrar());
        registrar.into_iter().flat_map(|r| r.members()).map(|view| (view.member.id, view.route)).collect()
    }

    fn heartbeat(&self, node: NodeId, cookie: Cookie, key: Option<&[u8; 32]>) -> Vec<u8> {
        let heartbeat = Heartbeat {
            node,
            fixed_port: false,
            padded: false,
            left: false,
            boot_epoch: u64::MAX,
            seq: 1 << 60,
            challenge: CHALLENGE,
            cookie,
            members_generation: 0,
            members_epoch: 0,
            pages_total: 1,
            pages_free: 1,
            domain: 0,
            vcpus: 1,
            max_ip_packet: 1500,
            speed_class: SpeedClass::UNKNOWN,
        };
        let mut bytes = vec![0; Heartbeat::RECORD_LEN];
        heartbeat.emit(key, &mut bytes);
        bytes
    }

    /// Whether a cookie has expired: its first bytes are the time at which it was issued.
    fn is_expired(&self, cookie: Cookie) -> bool {
        let issued = cookie.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        issued + 9 * self.plan.interval < self.now
    }

    /// A cookie that a gateway gave the stranger for its own address, and for which of its slaves.
    fn cookie_of_stranger(&self, gateway: usize) -> Option<(Place, SlaveId, Cookie)> {
        let epoch = self.gateways[gateway].as_ref()?.desk.registrar().config().epoch;
        self.answers.iter().rev().find_map(|frame| {
            let read = packet::read(frame)?;
            let from = Place::of(read.src_ip).filter(|from| from.who == Who::Gateway(gateway as u16))?;
            let acks = Walk::new(packet::payload(frame, &read), self.plan.scale).flatten();
            acks.filter_map(|(id, record)| Some((id, HeartbeatAck::parse(&record).ok()?)))
                .filter(|(id, ack)| ack.gateway_epoch == epoch && ack.node == NodeId::slave(*id))
                .filter(|(_, ack)| ack.challenge == CHALLENGE && !self.is_expired(ack.cookie))
                .find(|(id, _)| self.plan.gateways[gateway].slaves.contains(&id.get()))
                .map(|(id, ack)| (from, id, ack.cookie))
        })
    }

    /// Something that was recorded a while ago, for such a place.
    fn recording(&mut self, is_for: impl Fn(Place) -> bool) -> Option<(frame::Time, Place, Place, Vec<u8>)> {
        let old = self.now.checked_sub(2 * self.plan.interval)?;
        let all: Vec<usize> =
            (0..self.recorded.len()).filter(|&at| self.recorded[at].0 < old && is_for(self.recorded[at].2)).collect();
        let at = *all.get(self.rng.below(all.len() as u64) as usize)?;
        self.recorded.get(at).cloned()
    }

    /// The frame of an attack on a gateway, if the cluster is one in which it can be made.
    fn shot(&mut self, attack: Attack, gateway: usize) -> Option<Shot> {
        let scale = self.plan.scale;
        let slaves = &self.plan.gateways[gateway].slaves;
        let victim = *slaves.get(self.rng.below(slaves.len() as u64) as usize)?;
        let empty = |id: &u32| self.plan.serves(gateway, *id) && self.plan.farm_of(*id).is_none();
        let nobody = (0..scale.slaves()).find(empty);
        let foreign = (0..scale.slaves()).find(|id| !self.plan.serves(gateway, *id));
        let farm = self.plan.farm_of(victim)?;
        let node_key =
            |id: SlaveId| self.plan.key.map(|key| *ClusterKey::from_bytes(key).node_key(NodeId::slave(id)).as_bytes());
        let victims_id = scale.slave_id(victim)?;
        let signed = self.heartbeat(NodeId::slave(victims_id), MADE_UP, node_key(victims_id).as_ref());
        let one = Plan::master_id(0);

        let stranger = |payload: Vec<u8>, counters: &'static [&'static str]| {
            let to = Place::first(Who::Gateway(gateway as u16));
            let frame = packet::build(Place::first(Who::Stranger), to, None, wire::GATEWAY_PORT, &payload);
            Some(Shot { to, frame, counters, records: 1 })
        };
        let under = |who: Who, payload: Vec<u8>, counters: &'static [&'static str]| {
            let (from, to) = (Place::first(who), self.door(gateway, who));
            let vlan = self.plan.node(who)?.vlan;
            let frame = packet::build(from, to, vlan, wire::GATEWAY_PORT, &payload);
            Some(Shot { to, frame, counters, records: 1 })
        };
        let master = |payload, counters| under(Who::Master(0), payload, counters);
        match attack {
            Unsigned => {
                self.plan.key?;
                stranger(self.heartbeat(NodeId::slave(victims_id), MADE_UP, None), &["link.refused_unsigned"])
            }
            Forged => {
                self.plan.key?;
                stranger(self.heartbeat(NodeId::slave(victims_id), MADE_UP, Some(&[7; 32])), &["link.refused_forged"])
            }
            ReplayedElsewhere | Replayed => {
                let at = |(_, to, _): &&(Place, Place, Vec<u8>)| to.who == Who::Gateway(gateway as u16);
                let (from, to, seen) = self.heartbeats.iter().rev().find(at)?.clone();
                let read = packet::read(&seen)?;
                let payload = packet::payload(&seen, &read).to_vec();
                let records = Walk::new(&payload, scale).filter(Result::is_ok).count() as u64;
                let elsewhere = attack == ReplayedElsewhere;
                if from.who == Who::Stranger || (elsewhere && to.port != 0) {
                    return None;
                }
                let frame = if elsewhere {
                    packet::build(Place::first(Who::Stranger), to, None, wire::GATEWAY_PORT, &payload)
                } else {
                    seen
                };
                let counters: &[&str] = if elsewhere {
                    &["link.heartbeats_challenged"]
                } else {
                    &["link.refused_replayed", "link.heartbeats_challenged", "link.refused_downgrade"]
                };
                Some(Shot { to, frame, counters, records })
            }
            ReplayedOld => {
                let (_, _, to, seen) = self.recording(|to| to.who == Who::Gateway(gateway as u16))?;
                let read = packet::read(&seen)?;
                let payload = packet::payload(&seen, &read);
                let records = Walk::new(payload, scale).filter(Result::is_ok).count() as u64;
                let counters = &[
                    // The key may have been replaced since.
                    "link.refused_forged",
                    "link.refused_replayed",
                    "link.refused_other_boot",
                    "link.refused_downgrade",
                    "link.heartbeats_challenged",
                ];
                Some(Shot { to, frame: seen, counters, records })
            }
            ReplayedAnswer => {
                let (_, from, to, seen) = self.recording(|to| matches!(to.who, Who::Farm(_) | Who::Master(_)))?;
                let read = packet::read(&seen)?;
                let payload = packet::payload(&seen, &read);
                let records = Walk::new(payload, scale).filter(Result::is_ok).count() as u64;
                let is_master = matches!(to.who, Who::Master(_));
                let counters: &[&str] = if is_master { &[MASTER_REFUSED] } else { &[FARM_REFUSED] };
                // Recorded messages deceive version 1: this is the reason for version 2.
                let is_new = from.who == Who::Gateway(gateway as u16) && !self.is_old(to.who);
                is_new.then_some(Shot { to, frame: seen, counters, records })
            }
            Unproven => stranger(signed, &["link.heartbeats_challenged"]),
            ForeignHeartbeat => {
                let id = scale.slave_id(foreign?)?;
                stranger(
                    self.heartbeat(NodeId::slave(id), MADE_UP, node_key(id).as_ref()),
                    &["link.refused_foreign_shard"],
                )
            }
            Version => {
                let mut bytes = signed;
                bytes[MAJOR_AT] = 3;
                stranger(bytes, &["link.refused_version"])
            }
            Malformed => {
                let payload = 30;
                let mut bytes = signed[..HEADER_LEN + payload].to_vec();
                bytes[wire::record::offset::PAYLOAD_LEN] = payload as u8;
                stranger(bytes, &["link.refused_malformed"])
            }
            BadRecord => {
                let bytes = [record(MsgType::HEARTBEAT_ACK, victim, 0, 64), vec![0; 5]].concat();
                let counters = &["link.refused_bad_record", "link.refused_unexpected"];
                Some(Shot { records: 2, ..stranger(bytes, counters)? })
            }
            MasterPort => {
                let (from, to) = (Place::first(Who::Stranger), self.door(gateway, Who::Farm(0)));
                let id = NodeId::master(one);
                let key = self.plan.key.map(|key| *ClusterKey::from_bytes(key).node_key(id).as_bytes());
                let bytes = self.heartbeat(id, MADE_UP, key.as_ref());
                let frame = packet::build(from, to, None, wire::GATEWAY_PORT, &bytes);
                (to.port == 1).then_some(Shot { to, frame, counters: &["link.refused_master_port"], records: 1 })
            }
            Duplicate => {
                let (at, slave, cookie) = self.cookie_of_stranger(gateway)?;
                let bytes = self.heartbeat(NodeId::slave(slave), cookie, node_key(slave).as_ref());
                let frame = packet::build(Place::first(Who::Stranger), at, None, wire::GATEWAY_PORT, &bytes);
                Some(Shot { to: at, frame, counters: &["link.refused_duplicate"], records: 1 })
            }
            Unexpected => {
                let bytes = record(MsgType::HEARTBEAT_ACK, victim, 0, HeartbeatAck::PAYLOAD_LEN);
                stranger(bytes, &["link.refused_unexpected"])
            }
            SpoofedUp => stranger(record(MsgType::PATTERN, victim, one, 64), &["up.dropped_spoofed"]),
            SpoofedDown => stranger(record(MsgType::ECHO, victim, one, 64), &["up.dropped_spoofed"]),
            Unregistered => stranger(record(MsgType::PATTERN, nobody?, one, 64), &["up.dropped_unregistered_source"]),
            ForeignCargo => master(record(MsgType::ECHO, foreign?, one, 64), &["down.dropped_foreign_shard"]),
            MixedShards => {
                let shard = |id: u32| id >> scale.gw_bits();
                let other = (0..scale.slaves()).find(|&id| shard(id) != shard(victim))?;
                let records = [record(MsgType::ECHO, victim, one, 64), record(MsgType::ECHO, other, one, 64)];
                master(records.concat(), &["down.dropped_mixed_shards"])
            }
            MixedLink => {
                let records = [record(MsgType::ECHO, victim, one, 64), signed];
                master(records.concat(), &["down.dropped_mixed_link"])
            }
            TooLarge => {
                let limit = self.routes(gateway).iter().find(|(id, _)| *id == victim)?.1.mtu;
                let payload = usize::from(limit) - 28 - HEADER_LEN + 1;
                master(record(MsgType::ECHO, victim, one, payload), &["down.dropped_too_large"])
            }
            NoSlave => master(record(MsgType::ECHO, nobody?, one, 64), &["down.dropped_no_route"]),
            NoMaster => {
                let bytes = record(MsgType::PATTERN, victim, 999, 64);
                under(Who::Farm(farm), bytes, &["up.dropped_no_route"])
            }
            Magic => master(vec![0; 100], &["down.dropped_bad_magic"]),
            Truncated => master(record(MsgType::ECHO, victim, one, 64)[..22].to_vec(), &["down.dropped_truncated"]),
            Length => master(record(MsgType::ECHO, victim, one, 64)[..80].to_vec(), &["down.dropped_bad_length"]),
            SlaveId => master(record(MsgType::ECHO, scale.slaves(), one, 64), &["down.dropped_bad_slave_id"]),
            StrangersMagic => stranger(vec![1; 100], &["up.dropped_bad_magic"]),
            AckToFarm => {
                let to = Place::first(Who::Farm(farm));
                let bytes = record(MsgType::HEARTBEAT_ACK, victim, 0, HeartbeatAck::PAYLOAD_LEN);
                let frame = packet::build(Place::first(Who::Stranger), to, None, wire::GATEWAY_PORT, &bytes);
                Some(Shot { to, frame, counters: &["farm.refused_source"], records: 1 })
            }
            MembersToMaster => {
                self.plan.key?;
                let (from, to) = (self.door(gateway, Who::Master(0)), Place::first(Who::Master(0)));
                let mut bytes = record(MsgType::MEMBERS, 0, one, wire::link::Members::PAYLOAD_LEN);
                bytes[wire::record::offset::REQ_ID] = 0;
                bytes[wire::record::offset::REQ_ID + 1] = 0;
                bytes[HEADER_LEN..].fill(0);
                bytes[MAJOR_AT] = wire::link::VERSION_MAJOR;
                // The size of an entry says 40 bytes, and there is no entry.
                bytes[HEADER_LEN + 22] = 40;
                debug_assert!(Record::first(&bytes).is_ok());
                let vlan = self.plan.node(Who::Master(0))?.vlan;
                let frame = packet::build(from, to, vlan, wire::GATEWAY_PORT, &bytes);
                Some(Shot { to, frame, counters: &[MASTER_REFUSED], records: 1 })
            }
        }
    }
}
