//! N slave ids in one process, behind one or more gateways.

use crate::counters::FarmCounters;
use crate::echo::{Server, refuse};
use crate::group::{Context, Group};
use crate::ids::{Ids, IdsError};
use crate::report::{EventSink, FarmEvent};
use crate::roster::Roster;
use crate::sequence::Streams;
use crate::traffic::{Traffic, TrafficConfig};
use frame::{Burst, Class, Datagram, Outbox, Peer, PortId, Role, Time};
use link::{Credential, NodeConfig};
use std::sync::Arc;
use wire::{Record, Scale};

/// What a farm is made of.
pub struct FarmConfig {
    /// The slaves, by the gateway that each registers with. Ids without a gateway are served but announced to nobody,
    /// which makes sense only with `answer_any`.
    pub slaves: Vec<(Option<Peer>, Ids)>,
    /// What each of them announces, and the scale.
    pub node: NodeConfig,
    /// What they sign with.
    pub credential: Credential,
    /// Answer cargo from any address at that address, not only from gateways: for measuring without one.
    pub answer_any: bool,
    /// Streams of PATTERN records that are told apart for each slave, at least 1: one for each master.
    pub streams: u8,
}

impl FarmConfig {
    /// A farm behind one gateway, without a key, with defaults.
    pub fn new(gateway: Peer, ids: Ids) -> Self {
        let node = NodeConfig { scale: ids.scale(), ..NodeConfig::default() };
        Self {
            slaves: vec![(Some(gateway), ids)],
            node,
            credential: Credential::None,
            answer_any: false,
            streams: DEFAULT_STREAMS,
        }
    }

    /// A farm that no gateway knows of and that answers everybody.
    pub fn direct(ids: Ids) -> Self {
        let node = NodeConfig { scale: ids.scale(), ..NodeConfig::default() };
        Self {
            slaves: vec![(None, ids)],
            node,
            credential: Credential::None,
            answer_any: true,
            streams: DEFAULT_STREAMS,
        }
    }
}

/// Streams of each slave, if nothing else is said.
pub const DEFAULT_STREAMS: u8 = 2;

/// Why there is no farm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FarmError {
    /// The ids are no set of ids.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// An id is behind two gateways.
    #[error("slave id {0} is given to two gateways: each id registers with one")]
    TwoGateways(u32),
    /// The ids were made for another scale.
    #[error("the slave ids were made for another scale than the farm has: use one scale for both")]
    Scale,
    /// Slaves that nobody could reach.
    #[error("a slave without a gateway answers nobody: name its gateway, or answer any address")]
    Unreachable,
}

/// What other threads may tell a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop traffic and heartbeats; a farm holds nothing, so it is drained at once. What still comes is answered.
    Drain,
    /// Send PATTERN records upward; replaces traffic that runs. The sizes must have been checked, see
    /// [`TrafficConfig::check`]; a wrong one sends nothing.
    StartTraffic(TrafficConfig),
    /// Send none any more.
    StopTraffic,
    /// What each slave has left, in 4 KiB pages: goes out with the next heartbeats.
    SetPagesFree(u64),
}

/// Slaves that answer ECHO, check PATTERN, and announce themselves.
pub struct Farm {
    node: NodeConfig,
    roster: Roster,
    /// As the roster's groups; `None` for ids that no gateway knows of.
    groups: Vec<Option<Group>>,
    streams: Streams,
    traffic: Traffic,
    answer_any: bool,
    draining: bool,
    counters: Arc<FarmCounters>,
    sink: EventSink,
}

/// A farm of one.
pub type Slave = Farm;

impl Farm {
    /// Builds the farm; its first heartbeats are due at once. Events of its nodes go to `sink`, which must not block.
    pub fn new(config: FarmConfig, now: Time, sink: impl FnMut(FarmEvent) + Send + 'static) -> Result<Self, FarmError> {
        let FarmConfig { slaves, node, credential, answer_any, streams } = config;
        if slaves.is_empty() {
            return Err(IdsError::Empty.into());
        }
        if slaves.iter().any(|(_, ids)| ids.scale() != node.scale) {
            return Err(FarmError::Scale);
        }
        if !answer_any && slaves.iter().any(|(gateway, _)| gateway.is_none()) {
            return Err(FarmError::Unreachable);
        }
        let groups = slaves
            .iter()
            .map(|(gateway, ids)| gateway.map(|gateway| Group::new(gateway, ids, &credential, &node, now)))
            .collect();
        let sets = slaves.into_iter().map(|(_, ids)| ids).collect();
        let roster = Roster::new(node.scale, sets).map_err(FarmError::TwoGateways)?;
        Ok(Self {
            streams: Streams::new(roster.len(), streams),
            traffic: Traffic::new(roster.len(), node.boot_epoch),
            node,
            roster,
            groups,
            answer_any,
            draining: false,
            counters: Arc::default(),
            sink: Box::new(sink),
        })
    }

    /// A farm of one slave, behind one gateway.
    pub fn slave(
        gateway: Peer,
        scale: Scale,
        id: u32,
        now: Time,
        sink: impl FnMut(FarmEvent) + Send + 'static,
    ) -> Result<Self, FarmError> {
        Self::new(FarmConfig::new(gateway, Ids::range(scale, id, 1)?), now, sink)
    }

    /// The counters, to be read by others.
    pub fn counters(&self) -> &Arc<FarmCounters> {
        &self.counters
    }

    /// How many slaves there are.
    pub fn len(&self) -> u32 {
        self.roster.len()
    }

    /// Never true: a farm has at least one slave.
    pub fn is_empty(&self) -> bool {
        self.roster.len() == 0
    }

    /// How many slaves are registered now.
    pub fn registered(&self) -> u64 {
        self.counters.registered.get()
    }

    fn take(&mut self, now: Time, datagram: Datagram, out: &mut Outbox) {
        let Datagram { mut frame, peer, .. } = datagram;
        self.counters.datagrams_in.add(1);
        let gateway = self.groups.iter().flatten().find(|group| group.is_source(&peer)).map(|group| *group.gateway());
        // A gateway's raw port sends from its lanes and listens elsewhere; the way back is that of what came.
        let mut back = peer;
        match gateway {
            Some(gateway) => back.udp_port = gateway.udp_port,
            None if self.answer_any => {}
            None => return refuse(&self.counters, frame.data()),
        }
        let Self { node, roster, groups, streams, counters, sink, .. } = self;
        let acknowledge = |index: u32, record: &Record<'_>| {
            let group = roster.group(index).and_then(|(group, local)| Some((groups.get_mut(group)?.as_mut()?, local)));
            match group {
                Some((group, local)) => {
                    group.acknowledge(&mut Context { config: node, now, counters, sink }, local, &peer, record);
                }
                None => counters.acks_refused.add(1),
            }
        };
        let replies = Server { roster, streams, counters }.serve(&mut frame, acknowledge);
        if replies > 0 {
            out.send(Datagram::new(frame, back, Class::Up, replies));
        }
    }
}

impl Role for Farm {
    type Command = Command;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, out: &mut Outbox) {
        for datagram in burst.drain() {
            self.take(now, datagram, out);
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if self.draining {
            return;
        }
        let mut context = Context { config: &self.node, now, counters: &self.counters, sink: &mut self.sink };
        for group in self.groups.iter_mut().flatten() {
            group.advance(&mut context, out);
        }
        let (roster, groups) = (&self.roster, &self.groups);
        let route = |index| {
            let (group, local) = roster.group(index)?;
            let group = groups.get(group)?.as_ref()?;
            Some((*group.gateway(), group.mtu(local)?))
        };
        self.traffic.advance(now, roster, route, &self.counters, out);
    }

    fn deadline(&self) -> Option<Time> {
        if self.draining {
            return None;
        }
        self.groups.iter().flatten().filter_map(Group::deadline).chain(self.traffic.deadline()).min()
    }

    fn command(&mut self, now: Time, command: Command, _out: &mut Outbox) {
        match command {
            Command::Drain => {
                self.traffic.stop();
                self.draining = true;
            }
            Command::StartTraffic(config) if config.check().is_ok() && !self.draining => {
                self.traffic.start(now, config);
            }
            Command::StartTraffic(_) | Command::StopTraffic => self.traffic.stop(),
            Command::SetPagesFree(pages) => self.node.pages_free = pages.min(self.node.pages_total),
        }
    }

    fn is_drained(&self) -> bool {
        self.draining
    }

    fn frames_held(&self) -> usize {
        // Answers leave in the frame that they came in, and what is made in a poll is sent in it.
        0
    }
}

impl std::fmt::Debug for Farm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gateways: Vec<_> = self.groups.iter().flatten().map(Group::gateway).collect();
        f.debug_struct("Farm").field("slaves", &self.len()).field("gateways", &gateways).finish_non_exhaustive()
    }
}
