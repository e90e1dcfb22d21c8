//! N slave ids in one process, behind one or more gateways.

use crate::counters::FarmCounters;
use crate::echo::{Server, refuse};
use crate::ids::{Ids, IdsError};
use crate::inside::Inside;
use crate::lending::{Lending, LendingConfig, LendingError, LendingView};
use crate::report::{EventSink, FarmEvent};
use crate::roster::Roster;
use crate::sequence::Streams;
use crate::site::{Common, Site, is_gateway};
use crate::traffic::{Traffic, TrafficConfig};
use frame::{Burst, Class, Datagram, Outbox, Peer, PortId, Role, Time};
use lease::ConnectKeys;
use link::{Credential, NodeConfig};
use std::sync::Arc;
use wire::{Record, Scale};

/// The configuration of a farm.
pub struct FarmConfig {
    /// The slaves, grouped by the gateways that each registers with. A slave's cargo goes to the first live gateway in
    /// this order. Ids without a gateway are served but not announced, which makes sense only with `answer_any`.
    pub slaves: Vec<(Vec<Peer>, Ids)>,
    /// What each of them announces, and the scale.
    pub node: NodeConfig,
    /// The key or keys with which they sign.
    pub credential: Credential,
    /// Answer cargo from any address, and send the answer there. This is for measuring without a gateway.
    pub answer_any: bool,
    /// How many streams of PATTERN records are distinguished for each slave, at least 1: one for each master.
    pub streams: u8,
    /// The memory that the slaves lend, if they lend any.
    pub lending: Option<LendingConfig>,
}

impl FarmConfig {
    /// A farm behind one gateway, without a key, with defaults.
    pub fn new(gateway: Peer, ids: Ids) -> Self {
        let node = NodeConfig { scale: ids.scale(), ..NodeConfig::default() };
        Self {
            slaves: vec![(vec![gateway], ids)],
            node,
            credential: Credential::None,
            answer_any: false,
            streams: DEFAULT_STREAMS,
            lending: None,
        }
    }

    /// A farm that registers with no gateway and answers everybody.
    pub fn direct(ids: Ids) -> Self {
        let node = NodeConfig { scale: ids.scale(), ..NodeConfig::default() };
        Self {
            slaves: vec![(Vec::new(), ids)],
            node,
            credential: Credential::None,
            answer_any: true,
            streams: DEFAULT_STREAMS,
            lending: None,
        }
    }
}

/// The default number of streams of each slave.
pub const DEFAULT_STREAMS: u8 = 2;

/// The most gateways that one slave registers with.
pub const MAX_GATEWAYS: usize = 16;

/// Why there is no farm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FarmError {
    /// The ids are not a valid set of ids.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// An id is in two groups.
    #[error("slave id {0} is given twice: name all its gateways in one list")]
    Twice(u32),
    /// A gateway stands twice in the list of one slave.
    #[error("gateway {0} is given twice: name each gateway once, the preferred one first")]
    SameGateway(String),
    /// A slave has more gateways than it can register with.
    #[error("{0} gateways are too many for one slave: name at most {MAX_GATEWAYS}")]
    Gateways(usize),
    /// The ids were made for another scale.
    #[error("the slave ids were made for another scale than the farm has: use one scale for both")]
    Scale,
    /// Slaves that nobody can reach.
    #[error("a slave without a gateway answers nobody: name its gateway, or answer any address")]
    Unreachable,
    /// It cannot lend as it is configured.
    #[error(transparent)]
    Lending(#[from] LendingError),
}

/// Commands of other threads for a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarmCommand {
    /// Stop traffic and heartbeats. A farm that lends nothing holds nothing, so it is drained at once. A farm that
    /// lends recalls everything first, and announces itself until all has come back and is scrubbed. Records that still
    /// come are answered.
    Drain,
    /// Send PATTERN records upward; replaces running traffic. The sizes must have been checked, see
    /// [`TrafficConfig::check`]; with wrong sizes nothing is sent.
    StartTraffic(TrafficConfig),
    /// Stop the traffic.
    StopTraffic,
    /// Use other keys from the next heartbeats on: both keys while the cluster changes its key.
    SetCredential(Credential),
    /// Use other connect keys from the next message of a lease on: both keys while the cluster changes its key.
    SetConnectKeys(ConnectKeys),
    /// The free pages of each slave, in 4 KiB pages. The next heartbeats announce them.
    SetPagesFree(u64),
    /// The largest IP packet that each slave can take from now on, in bytes, at least 576. The next heartbeats announce
    /// it.
    SetMtu(u16),
    /// The farm lends at most so many units from now on. What is lent beyond that is recalled, and taken by force at
    /// the end of the time.
    LendLimit {
        /// Units of 64 MiB, of all slaves of the farm together.
        units: u32,
        /// How long masters have to give units back, in nanoseconds.
        within: Time,
    },
    /// This unit of the memory is zero again.
    Scrubbed(u32),
}

/// Slaves that answer ECHO, check PATTERN, and announce themselves.
pub struct Farm {
    node: NodeConfig,
    roster: Roster,
    /// Indexed like the roster's groups.
    sites: Vec<Site>,
    /// Whether some slaves have more than one gateway.
    has_a_choice: bool,
    streams: Streams,
    traffic: Traffic,
    lending: Option<Box<Lending>>,
    answer_any: bool,
    draining: bool,
    counters: Arc<FarmCounters>,
    sink: EventSink,
}

/// A farm of one.
pub type Slave = Farm;

impl Farm {
    /// Builds the farm; its first heartbeats are due at once. Events of its nodes go to `sink`, which must not block.
    ///
    /// # Errors
    /// The error is [`FarmError::Ids`] when there is no slave. It is [`FarmError::Twice`] when an id is in two lists.
    /// It is [`FarmError::Scale`] when ids are of another scale. [`FarmError::Unreachable`], [`FarmError::Gateways`]
    /// and [`FarmError::SameGateway`] say that a list of gateways is empty, is too long, or names one twice. It is
    /// [`FarmError::Lending`] when the farm cannot lend as it is configured.
    pub fn new(config: FarmConfig, now: Time, sink: impl FnMut(FarmEvent) + Send + 'static) -> Result<Self, FarmError> {
        let FarmConfig { slaves, node, credential, answer_any, streams, lending } = config;
        if slaves.is_empty() {
            return Err(IdsError::Empty.into());
        }
        if slaves.iter().any(|(_, ids)| ids.scale() != node.scale) {
            return Err(FarmError::Scale);
        }
        if !answer_any && slaves.iter().any(|(gateways, _)| gateways.is_empty()) {
            return Err(FarmError::Unreachable);
        }
        for (gateways, _) in &slaves {
            check_gateways(gateways)?;
        }
        let site = |(gateways, ids): &(Vec<Peer>, Ids)| Site::new(gateways, ids, &credential, &node, now);
        let sites: Vec<Site> = slaves.iter().map(site).collect();
        let sets = slaves.into_iter().map(|(_, ids)| ids).collect();
        let roster = Roster::new(node.scale, sets).map_err(FarmError::Twice)?;
        let lending = match lending {
            Some(lending) => {
                let ids = (0..roster.len()).filter_map(|index| Some(roster.id(index)?.get())).collect();
                Some(Box::new(Lending::new(lending, node.scale, node.boot_epoch, ids, now)?))
            }
            None => None,
        };
        Ok(Self {
            streams: Streams::new(roster.len(), streams),
            lending,
            traffic: Traffic::new(roster.len(), node.boot_epoch),
            node,
            roster,
            has_a_choice: sites.iter().any(Site::has_a_choice),
            sites,
            answer_any,
            draining: false,
            counters: Arc::default(),
            sink: Box::new(sink),
        })
    }

    /// A farm of one slave, behind one gateway.
    ///
    /// # Errors
    /// The error is [`FarmError::Ids`] when the scale does not have the id.
    pub fn slave(
        gateway: Peer,
        scale: Scale,
        id: u32,
        now: Time,
        sink: impl FnMut(FarmEvent) + Send + 'static,
    ) -> Result<Self, FarmError> {
        Self::new(FarmConfig::new(gateway, Ids::range(scale, id, 1)?), now, sink)
    }

    /// The counters, for others to read.
    pub fn counters(&self) -> &Arc<FarmCounters> {
        &self.counters
    }

    /// What it lends, for others to read; `None` if it lends nothing.
    pub fn lending(&self) -> Option<Arc<LendingView>> {
        Some(Arc::clone(self.lending.as_ref()?.view()))
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

    /// The gateway that a datagram came from: the one at exactly this address, or else one that sends cargo for the
    /// slave of the first record from here.
    fn source(&self, from: &Peer, data: &[u8]) -> Option<Peer> {
        let mut all = self.sites.iter().flat_map(Site::gateways);
        all.find(|gateway| is_gateway(from, gateway)).or_else(|| self.gateway_of_lane(from, data)).copied()
    }

    /// The gateway that sends cargo from the port of the slave's lane. Such a datagram is for one slave.
    fn gateway_of_lane(&self, from: &Peer, data: &[u8]) -> Option<&Peer> {
        if !wire::is_lane_port(from.udp_port) {
            return None;
        }
        let first = Record::first(data).ok()?.header().slave_id();
        let (site, local) = self.roster.group(self.roster.index(first)?)?;
        self.sites.get(site)?.gateway_of_lane(local, from)
    }

    /// Where answers go if they should not return to the source of the questions.
    fn elsewhere(&mut self, now: Time, source: &Peer, questions: &[u8]) -> Option<Peer> {
        if !self.has_a_choice {
            return None;
        }
        // A gateway sends a datagram to one slave, or to one address that has all of them behind the same gateways.
        let first = Record::first(questions).ok()?.header().slave_id();
        let Self { node, roster, sites, counters, sink, .. } = self;
        let (site, local) = roster.group(roster.index(first)?)?;
        let common = &mut Common { config: node, now, counters, sink };
        sites.get_mut(site)?.way_back(common, local, source, questions.len())
    }

    fn take(&mut self, now: Time, datagram: Datagram, out: &mut Outbox) {
        let Datagram { mut frame, peer, ce, .. } = datagram;
        self.counters.datagrams_in.add(1);
        let gateway = self.source(&peer, frame.data());
        // A gateway's raw port sends from its lanes and listens on another port; answers use the path of the questions.
        let mut back = peer;
        let mut is_elsewhere = false;
        match &gateway {
            Some(gateway) => {
                back.udp_port = gateway.udp_port;
                if let Some(elsewhere) = self.elsewhere(now, gateway, frame.data()) {
                    (back, is_elsewhere) = (elsewhere, true);
                }
            }
            None if self.answer_any => {}
            None => return refuse(&self.counters, frame.data()),
        }
        let Self { node, roster, sites, streams, counters, sink, lending, .. } = self;
        let lending = lending.as_deref_mut();
        let mut inside =
            Inside { now, node, roster, sites, counters, sink, lending, out, gateway, from: peer, back, ce };
        let replies = Server { roster, streams, counters }.serve(&mut frame, &mut inside);
        if replies > 0 {
            counters.answers_elsewhere.add(u64::from(is_elsewhere));
            out.send(Datagram::new(frame, back, Class::Up, replies));
        }
    }
}

fn check_gateways(gateways: &[Peer]) -> Result<(), FarmError> {
    if gateways.len() > MAX_GATEWAYS {
        return Err(FarmError::Gateways(gateways.len()));
    }
    let twice = gateways.iter().enumerate().find(|(at, gateway)| gateways[..*at].contains(gateway));
    twice.map_or(Ok(()), |(_, gateway)| Err(FarmError::SameGateway(gateway.address().to_string())))
}

impl Role for Farm {
    type Command = FarmCommand;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, out: &mut Outbox) {
        for datagram in burst.drain() {
            self.take(now, datagram, out);
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        let is_done = self.is_drained();
        let Self { node, roster, sites, traffic, counters, sink, lending, .. } = self;
        let common = &mut Common { config: node, now, counters, sink };
        // While something is lent, its masters must reach it.
        if !is_done {
            sites.iter_mut().for_each(|site| site.advance(common, out));
        }
        let mut route = |index| {
            let (site, local) = roster.group(index)?;
            sites.get_mut(site)?.route(common, local)
        };
        if let Some(lending) = lending {
            lending.advance(now, &mut route, out);
        }
        traffic.advance(now, roster, route, counters, out);
    }

    fn deadline(&self) -> Option<Time> {
        if self.is_drained() {
            return None;
        }
        let lending = self.lending.as_ref().and_then(|lending| lending.deadline());
        self.sites.iter().filter_map(Site::deadline).chain(self.traffic.deadline()).chain(lending).min()
    }

    fn command(&mut self, now: Time, command: FarmCommand, _out: &mut Outbox) {
        match command {
            FarmCommand::Drain => {
                self.traffic.stop();
                self.draining = true;
                if let Some(lending) = &mut self.lending {
                    lending.leave(now);
                }
            }
            FarmCommand::LendLimit { units, within } => {
                // A farm that leaves lends nothing more.
                if let Some(lending) = self.lending.as_mut().filter(|_| !self.draining) {
                    lending.set_limit(now, units, within);
                }
            }
            FarmCommand::Scrubbed(unit) => {
                if let Some(lending) = &mut self.lending {
                    lending.scrubbed(now, unit);
                }
            }
            FarmCommand::StartTraffic(config) if config.check().is_ok() && !self.draining => {
                self.traffic.start(now, config);
            }
            FarmCommand::StartTraffic(_) | FarmCommand::StopTraffic => self.traffic.stop(),
            FarmCommand::SetCredential(credential) => {
                self.sites.iter_mut().for_each(|site| site.set_credential(&credential));
            }
            FarmCommand::SetConnectKeys(keys) => {
                if let Some(lending) = &mut self.lending {
                    lending.set_keys(&keys);
                }
            }
            FarmCommand::SetPagesFree(pages) => self.node.pages_free = pages.min(self.node.pages_total),
            FarmCommand::SetMtu(mtu) => {
                self.node.max_ip_packet = mtu.max(wire::MIN_MTU);
                self.sites.iter_mut().for_each(|site| site.probe_again(&self.node));
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.draining && self.lending.as_ref().is_none_or(|lending| lending.is_drained())
    }

    fn frames_held(&self) -> usize {
        // Answers leave in the frame in which the questions came, and frames that a poll makes are sent in the same
        // poll.
        0
    }
}

impl std::fmt::Debug for Farm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gateways: Vec<_> = self.sites.iter().flat_map(Site::gateways).collect();
        f.debug_struct("Farm").field("slaves", &self.len()).field("gateways", &gateways).finish_non_exhaustive()
    }
}
