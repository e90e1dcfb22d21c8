//! What a master knows of one gateway's slaves: it applies MEMBERS.

use crate::{KeyRing, Node, NodeKey};
use frame::time::FOREVER;
use frame::{Peer, Time};
use std::collections::BTreeMap;
use thiserror::Error;
use wire::link::{LinkError, Member, MemberState, Members, NodeId};
use wire::{Record, Scale, tag};

/// After a restart of the gateway, slaves that it does not name again are gone after this many intervals.
const GRACE_INTERVALS: u64 = 10;

/// Why a MEMBERS record was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MembersRefusal {
    /// Not a MEMBERS record, or one that contradicts itself.
    #[error("{0}")]
    Malformed(LinkError),
    /// It names a slave id that the scale does not have.
    #[error("it names slave {0}, which is out of range: compare slave-bits on both ends")]
    SlaveId(u32),
    /// It addresses another master.
    #[error("it addresses another master")]
    OtherMaster,
    /// It does not come from the master's gateway.
    #[error("it does not come from the gateway")]
    OtherSource,
    /// It has no tag, although the master has a key.
    #[error("it is not signed: give the gateway the cluster key")]
    Unsigned,
    /// Its tag is not the one that the master's key makes.
    #[error("it is signed with another key: compare the fingerprints")]
    Forged,
    /// It answers another challenge than the master's: that of another start of the master, or one to another gateway.
    #[error("it answers another start of this master, or is of another gateway")]
    Challenge,
    /// It is of another start of the gateway than the one that registered the master.
    #[error("it is of another start of the gateway")]
    Epoch,
    /// Its changes were applied already.
    #[error("it was applied already")]
    Stale,
    /// Earlier changes are missing; the gateway will send them again.
    #[error("something before it is missing")]
    Gap,
}

struct Entry {
    member: Member,
    /// Known from before a restart of the gateway, and not named since.
    stale: bool,
}

/// The slaves behind one gateway, according to its MEMBERS records. At most one entry for each id of the scale.
pub struct MemberTable {
    scale: Scale,
    grace: u64,
    epoch: u64,
    generation: u64,
    members: BTreeMap<u32, Entry>,
    sweep: Time,
}

impl MemberTable {
    /// An empty table, for nodes with this heartbeat interval.
    pub fn new(scale: Scale, interval: u64) -> Self {
        let grace = GRACE_INTERVALS.saturating_mul(interval);
        Self { scale, grace, epoch: 0, generation: 0, members: BTreeMap::new(), sweep: FOREVER }
    }

    /// The epoch of the gateway that the generation belongs to; zero before anything was applied.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The generation that the table has; zero before anything was applied.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The slaves that are here or suspect, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> + '_ {
        self.members.values().map(|entry| &entry.member)
    }

    /// A slave that is here or suspect.
    pub fn get(&self, id: u32) -> Option<&Member> {
        self.members.get(&id).map(|entry| &entry.member)
    }

    /// How many slaves are here or suspect.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether no slave is here or suspect.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a MEMBERS record that came from `from` for the master `node`. Calls `changed` with each slave that has
    /// changed (for a slave that is gone, this is the last call), and lets `node` acknowledge promptly.
    ///
    /// After a restart of the gateway, slaves that were here turn suspect until the gateway names them again. So a
    /// restart does not count as a mass death; see [`advance`](Self::advance).
    ///
    /// # Errors
    /// The error is [`MembersRefusal::Malformed`] when the record is no MEMBERS, or contradicts itself. The other kinds
    /// say which check it failed: address, source, tag, challenge, epoch, generation or a slave's id. Nothing of a
    /// refused record is applied.
    pub fn receive(
        &mut self,
        now: Time,
        node: &mut Node,
        from: &Peer,
        record: &Record<'_>,
        mut changed: impl FnMut(&Member),
    ) -> Result<(), MembersRefusal> {
        let members = Members::parse(record).map_err(MembersRefusal::Malformed)?;
        if NodeId::master(members.head.master) != node.id() {
            return Err(MembersRefusal::OtherMaster);
        }
        if !from.is_same_origin(node.gateway(), true) {
            return Err(MembersRefusal::OtherSource);
        }
        verify(node.keys(), record)?;
        let head = &members.head;
        if head.challenge != node.challenge() {
            node.heard_old_answer();
            return Err(MembersRefusal::Challenge);
        }
        if head.gateway_epoch != node.gateway_epoch() || !node.is_registered() {
            return Err(MembersRefusal::Epoch);
        }
        let known = head.gateway_epoch == self.epoch && self.generation != 0;
        if known && (head.snapshot || head.to_generation <= self.generation) {
            return Err(MembersRefusal::Stale);
        }
        let ours = if known { self.generation } else { 0 };
        if head.from_generation != ours || (!known && !head.snapshot) {
            // The gateway sends a lost record again as soon as it hears of the loss.
            node.set_membership(now, self.epoch, self.generation);
            return Err(MembersRefusal::Gap);
        }
        if let Some(member) = members.entries().find(|member| self.scale.slave_id(member.id).is_none()) {
            return Err(MembersRefusal::SlaveId(member.id));
        }
        if head.snapshot {
            self.suspect_all(now, &mut changed);
        }
        for member in members.entries() {
            self.apply(member, &mut changed);
        }
        self.epoch = head.gateway_epoch;
        self.generation = head.to_generation;
        node.set_membership(now, self.epoch, self.generation);
        Ok(())
    }

    /// Declares slaves gone that a restarted gateway has not named again in 10 intervals.
    pub fn advance(&mut self, now: Time, mut changed: impl FnMut(&Member)) {
        if now < self.sweep {
            return;
        }
        self.sweep = FOREVER;
        self.members.retain(|_, entry| {
            if entry.stale {
                entry.member.state = MemberState::Gone;
                changed(&entry.member);
            }
            !entry.stale
        });
    }

    /// When [`advance`](Self::advance) has work.
    pub fn deadline(&self) -> Option<Time> {
        (self.sweep != FOREVER).then_some(self.sweep)
    }

    fn suspect_all(&mut self, now: Time, changed: &mut impl FnMut(&Member)) {
        for entry in self.members.values_mut() {
            entry.stale = true;
            if entry.member.state != MemberState::Suspect {
                entry.member.state = MemberState::Suspect;
                changed(&entry.member);
            }
        }
        if !self.members.is_empty() {
            self.sweep = now.saturating_add(self.grace);
        }
    }

    fn apply(&mut self, member: Member, changed: &mut impl FnMut(&Member)) {
        let known = if member.state == MemberState::Gone {
            match self.members.remove(&member.id) {
                Some(entry) => Some(entry.member),
                // The slave never was here, as far as this master knows.
                None => return,
            }
        } else {
            self.members.insert(member.id, Entry { member, stale: false }).map(|entry| entry.member)
        };
        if known != Some(member) {
            changed(&member);
        }
    }
}

/// MEMBERS may be signed with the key of an earlier heartbeat: any of the node's keys is valid.
fn verify(keys: &KeyRing<NodeKey>, record: &Record<'_>) -> Result<(), MembersRefusal> {
    if keys.is_empty() {
        Ok(())
    } else if tag::is_unsigned(record.bytes()) {
        Err(MembersRefusal::Unsigned)
    } else if keys.signer(record.bytes()).is_none() {
        Err(MembersRefusal::Forged)
    } else {
        Ok(())
    }
}
