//! One heartbeat: the check, the consequences, and the answer.

use super::Registrar;
use super::keys::Signed;
use super::master::master_id;
use super::packer::Packer;
use super::presence::{Presence, State, Verdict};
use crate::{Notice, RegistrarEvent, RouteChange, Sink};
use frame::{Peer, PortId, Time};
use wire::link::{CookieFault, Heartbeat, HeartbeatAck, LinkError, NodeId, Role, v1};
use wire::{MIN_MTU, MsgType, Record, UNPROVEN_MTU, tag};

/// How long a cookie proves that its node receives at its address, in intervals.
const COOKIE_INTERVALS: u64 = 10;
/// How long a cookie is fresh, in intervals: a node with a fresh cookie may be sent more bytes than it sends.
const FRESH_INTERVALS: u64 = 3;

/// A heartbeat with correct form and tag, and what is needed to judge and answer it.
struct Call<'a> {
    now: Time,
    from: &'a Peer,
    heartbeat: Heartbeat,
    signed: Option<Signed>,
    /// Bytes of the record.
    record_len: usize,
    /// Bytes of its datagram.
    datagram_len: usize,
    /// When its cookie was issued, or what is wrong with the cookie.
    proof: Result<Time, CookieFault>,
    /// Its cookie was issued a short time ago.
    is_fresh: bool,
    /// It is of version 1.
    is_v1: bool,
}

impl Call<'_> {
    fn node(&self) -> NodeId {
        self.heartbeat.node
    }

    /// The key that signed it, which also signs the answer.
    fn key(&self) -> Option<&wire::Key> {
        self.signed.as_ref().map(|signed| signed.key.as_bytes())
    }

    /// Whether the older one of two keys signed it.
    fn old_key(&self) -> bool {
        self.signed.as_ref().is_some_and(|signed| signed.old)
    }

    /// Whether the sender can receive at its address.
    fn is_proven(&self) -> bool {
        self.proof.is_ok()
    }
}

/// What an answer says about the node.
#[derive(Clone, Copy)]
enum Standing {
    Stranger,
    Duplicate,
    /// Another start of the node was heard after the cookie was issued.
    OtherBoot,
    Registered {
        mtu: u16,
    },
}

impl Registrar {
    /// Takes one record that came to the registrar.
    pub(super) fn take(
        &mut self,
        now: Time,
        from: &Peer,
        record: &Record<'_>,
        datagram_len: usize,
        packer: &mut Packer,
        sink: &mut impl Sink,
    ) {
        if record.header().msg_type() != MsgType::HEARTBEAT {
            self.counters.refused_unexpected.add(1);
            sink.event(RegistrarEvent::Refused { node: None, from: *from, why: "unexpected" });
            return;
        }
        self.counters.heartbeats_in.add(1);
        let Some(call) = self.screen(now, from, record, datagram_len, sink) else {
            return;
        };
        let Some(standing) = self.judge(&call, sink) else {
            return;
        };
        let mtu = call.heartbeat.max_ip_packet.min(self.config.mtu_of(from.port));
        packer.push(from, mtu, &self.ack(&call, standing), call.is_v1, call.key(), sink);
        self.counters.acks_out.add(1);
        let is_registered = matches!(standing, Standing::Registered { .. });
        if is_registered && call.node().role == Role::Master {
            // The ACK leaves first: a master applies only MEMBERS of an epoch that it knows from an ACK.
            packer.flush(from, sink);
            if let Some(at) = master_id(call.node()).and_then(|id| self.known_master(id)) {
                self.membership_of(at, &call.heartbeat, call.is_fresh, now, sink);
            }
        }
    }

    /// Checks form, version and tag, and whether masters may send to this port.
    fn screen<'a>(
        &mut self,
        now: Time,
        from: &'a Peer,
        record: &Record<'_>,
        datagram_len: usize,
        sink: &mut impl Sink,
    ) -> Option<Call<'a>> {
        let (heartbeat, is_v1) = match self.read(record) {
            Ok(read) if read.0.max_ip_packet >= MIN_MTU => read,
            Err(LinkError::Version(major)) => {
                self.counters.refused_version.add(1);
                sink.event(RegistrarEvent::Refused { node: None, from: *from, why: "version" });
                self.notice(now, Notice::Version { major, from: *from }, sink);
                return None;
            }
            Ok(_) | Err(_) => {
                self.counters.refused_malformed.add(1);
                sink.event(RegistrarEvent::Refused { node: None, from: *from, why: "malformed" });
                return None;
            }
        };
        let node = heartbeat.node;
        let mut signed = None;
        if !self.config.keys.is_empty() {
            if tag::is_unsigned(record.bytes()) {
                self.counters.refused_unsigned.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from: *from, why: "unsigned" });
                self.notice(now, Notice::Unsigned { node, from: *from }, sink);
                return None;
            }
            signed = self.signer(node, record.bytes());
            if signed.is_none() {
                self.counters.refused_forged.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from: *from, why: "forged" });
                self.notice(now, Notice::Forged { node, from: *from }, sink);
                return None;
            }
        }
        if self.config.two_port && node.role == Role::Master && from.port != PortId(0) {
            self.counters.refused_master_port.add(1);
            sink.event(RegistrarEvent::Refused { node: Some(node), from: *from, why: "master_port" });
            self.notice(now, Notice::MasterPort { node, from: *from }, sink);
            return None;
        }
        let age = |issued| now.saturating_sub(issued);
        let issued = match is_v1 {
            // Its cookie has no time, and is valid as long as this gateway runs.
            true => (heartbeat.cookie == self.secret.version_1(from, node)).then_some(now),
            false => self.secret.issued(heartbeat.cookie, from, node, heartbeat.boot_epoch),
        };
        let proof = issued.ok_or(CookieFault::Unknown).and_then(|issued| {
            let is_valid = age(issued) <= self.intervals(COOKIE_INTERVALS) && !self.may_be_forgotten(node, issued);
            is_valid.then_some(issued).ok_or(CookieFault::Expired)
        });
        let is_fresh = proof.is_ok_and(|issued| age(issued) <= self.intervals(FRESH_INTERVALS));
        let record_len = record.bytes().len();
        Some(Call { now, from, heartbeat, signed, record_len, datagram_len, proof, is_fresh, is_v1 })
    }

    /// Whether a heartbeat, with a cookie that was issued at `issued`, may be a repetition from a master that was
    /// forgotten.
    fn may_be_forgotten(&self, node: NodeId, issued: Time) -> bool {
        self.forgotten.may_have_used(issued) && master_id(node).is_some_and(|id| self.known_master(id).is_none())
    }

    /// Registers the node or refuses it. Returns `None` when there is not an answer.
    fn judge(&mut self, call: &Call<'_>, sink: &mut impl Sink) -> Option<Standing> {
        let node = call.node();
        let slave = match node.role {
            Role::Master => None,
            Role::Slave => {
                // The walk checked that the id is in range.
                let id = self.config.scale.slave_id(node.id)?;
                let Some(at) = self.served.index(id) else {
                    self.counters.refused_foreign_shard.add(1);
                    sink.event(RegistrarEvent::Refused { node: Some(node), from: *call.from, why: "foreign_shard" });
                    self.notice(call.now, Notice::ForeignShard { node, from: *call.from }, sink);
                    return Some(Standing::Stranger);
                };
                Some((id, at))
            }
        };
        let issued = match call.proof {
            Ok(issued) => issued,
            Err(fault) => {
                self.counters.heartbeats_challenged.add(1);
                self.counters.cookies_expired.add(u64::from(fault == CookieFault::Expired));
                sink.event(RegistrarEvent::Challenged { node, from: *call.from, fault });
                return Some(Standing::Stranger);
            }
        };
        match slave {
            Some((id, at)) => {
                let mut presence = self.table.get(at).presence;
                let was = presence;
                let standing = self.admit(call, issued, &mut presence, sink)?;
                if let Standing::Registered { mtu } = standing {
                    let capacity = self.capacity(call.now, at, call.from, &call.heartbeat, sink);
                    let entry = self.table.get_mut(at);
                    entry.presence = presence;
                    let capacity_changed = entry.set_capacity(capacity, &call.heartbeat);
                    self.table.place(at, &was);
                    let before = (was.state, was.mtu(), was.vcpus, was.boot_epoch);
                    if capacity_changed || before != (State::Here, mtu, presence.vcpus, presence.boot_epoch) {
                        self.note_change(at);
                    }
                    let route = presence.route();
                    if route != was.route() {
                        sink.route(RouteChange::Slave { id, route });
                    }
                }
                Some(standing)
            }
            None => {
                let Some(at) = master_id(node).and_then(|id| self.master_at(id)) else {
                    self.counters.refused_masters_full.add(1);
                    sink.event(RegistrarEvent::Refused { node: Some(node), from: *call.from, why: "masters_full" });
                    self.notice(call.now, Notice::MastersFull { node, from: *call.from }, sink);
                    return Some(Standing::Stranger);
                };
                let mut presence = self.masters[at].presence;
                let was = presence.route();
                let standing = self.admit(call, issued, &mut presence, sink)?;
                self.masters[at].presence = presence;
                let route = presence.route();
                if route != was {
                    sink.route(RouteChange::Master { id: self.masters[at].id, route });
                }
                Some(standing)
            }
        }
    }

    /// Judges a heartbeat with a valid cookie, issued at `issued`, against the last accepted one, and accepts it if it
    /// is newer.
    fn admit(
        &mut self,
        call: &Call<'_>,
        issued: Time,
        presence: &mut Presence,
        sink: &mut impl Sink,
    ) -> Option<Standing> {
        let (node, heartbeat, from) = (call.node(), &call.heartbeat, *call.from);
        let is_free = self.is_free(presence.heard, call.now, call.signed.is_some());
        let verdict = match call.is_v1 {
            true if self.forgotten.has_spoken_2(node) => Verdict::Downgrade,
            true => presence.judge_v1(heartbeat, call.from, is_free, call.signed.is_some()),
            false => presence.judge(heartbeat, call.from, issued, is_free),
        };
        match verdict {
            Verdict::Duplicate => {
                self.counters.refused_duplicate.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from, why: "duplicate" });
                let notice = Notice::DuplicateId { node, registered: presence.peer, claimant: from };
                self.notice(call.now, notice, sink);
                return Some(Standing::Duplicate);
            }
            Verdict::Replayed => {
                self.counters.refused_replayed.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from, why: "replayed" });
                return None;
            }
            Verdict::OtherBoot => {
                self.counters.refused_other_boot.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from, why: "other_boot" });
                self.notice(call.now, Notice::OtherBoot { node, from }, sink);
                return Some(Standing::OtherBoot);
            }
            Verdict::OlderBoot => {
                self.counters.refused_replayed.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from, why: "replayed" });
                self.notice(call.now, Notice::OlderBoot { node, from }, sink);
                return None;
            }
            Verdict::Downgrade => {
                self.counters.refused_downgrade.add(1);
                sink.event(RegistrarEvent::Refused { node: Some(node), from, why: "downgrade" });
                self.notice(call.now, Notice::Downgrade { node, from }, sink);
                return None;
            }
            Verdict::New | Verdict::Next => {}
        }
        self.counters.heartbeats_accepted.add(1);
        if call.is_v1 {
            self.counters.heartbeats_v1.add(1);
            self.notice(call.now, Notice::OldVersion { node, from }, sink);
        }
        let (claimed, ours) = (heartbeat.max_ip_packet, self.config.mtu_of(call.from.port));
        if verdict == Verdict::New && claimed > ours {
            self.notice(call.now, Notice::MtuDiffers { node, from, claimed, ours }, sink);
        }
        let why = presence.news(call.from);
        presence.accept(heartbeat, call.from, call.now, verdict, call.datagram_len, ours);
        presence.old_key = call.old_key();
        presence.v1 = call.is_v1;
        presence.left = heartbeat.left && self.is_draining();
        if heartbeat.padded {
            self.paths.prove(call.from, presence.proven());
        } else if presence.mtu() < claimed.min(ours)
            && let Some(packet) = self.paths.proven(call.from)
        {
            presence.prove(packet);
        }
        let mtu = presence.mtu();
        sink.event(match verdict {
            Verdict::Next => RegistrarEvent::Renewed { node, from, seq: heartbeat.seq },
            _ => RegistrarEvent::Registered { node, from, mtu, why },
        });
        Some(Standing::Registered { mtu })
    }

    fn ack(&self, call: &Call<'_>, standing: Standing) -> HeartbeatAck {
        let mut ack = HeartbeatAck {
            node: call.node(),
            draining: self.is_draining(),
            duplicate_id: matches!(standing, Standing::Duplicate),
            registered: matches!(standing, Standing::Registered { .. }),
            newer_key: call.old_key(),
            lanes: call.from.is_raw(),
            slave_bits: self.config.scale.slave_bits(),
            gw_bits: self.config.scale.gw_bits(),
            mtu: match standing {
                Standing::Registered { mtu } => mtu,
                Standing::Stranger | Standing::Duplicate | Standing::OtherBoot => UNPROVEN_MTU,
            },
            seq: call.heartbeat.seq,
            challenge: call.heartbeat.challenge,
            cookie: match call.is_v1 {
                true => self.secret.version_1(call.from, call.node()),
                false => self.secret.issue(call.now, call.from, call.node(), call.heartbeat.boot_epoch),
            },
            gateway_epoch: self.config.epoch,
            hold_ns: self.config.hold_ns,
            cookie_fault: match standing {
                Standing::OtherBoot => Some(CookieFault::OtherBoot),
                Standing::Stranger => call.proof.err(),
                Standing::Duplicate | Standing::Registered { .. } => None,
            },
            ranges: self.config.shards.ranges().iter().copied().collect(),
        };
        // A node that has not proven its address never gets more bytes than came from it.
        let len = if call.is_v1 { v1::ack_len(&ack) } else { ack.record_len() };
        if !call.is_proven() && len > call.record_len {
            ack.ranges.clear();
        }
        ack
    }
}
