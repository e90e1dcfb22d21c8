//! Changes under load, on a cluster that is otherwise calm: a gateway with a twin drains, crashes or is cut off, and
//! the cluster changes its key. Every lost record is accounted for; a drain and a new key lose nothing.

use crate::account::{Account, Balance};
use crate::cluster::Cluster;
use crate::ledger::Wrong;
use crate::master;
use crate::place::Who;
use crate::plan::{Plan, Trial};
use frame::time::{MILLISECOND, SECOND};
use link::standing::STEADY_INTERVALS;
use link::{ClusterKey, Credential, KeyRing, SILENT_INTERVALS};
use slave::TrafficConfig;
use wire::link::NodeId;

/// The gateway that goes away.
const FIRST: usize = 0;
const WHO: Who = Who::Gateway(FIRST as u16);

/// The load is so light that no ring of any cluster overflows.
const TRAIN: u64 = 4;
const TRAIN_GAP: u64 = 10 * MILLISECOND;
const UPWARD: u64 = 100;
const PAYLOAD: u64 = 64;

/// This is longer than any frame needs on its way while all is calm.
const SETTLE: u64 = 30 * MILLISECOND;

/// The longest drain.
const DRAIN_WITHIN: u64 = 8 * SECOND;

impl Cluster {
    fn intervals(&self, count: u64) -> u64 {
        count * self.plan.interval
    }

    fn pass(&mut self, time: u64) -> Result<(), Wrong> {
        self.run_until(self.now + time)
    }

    /// Masters and farms send a few records all the time. Returns the account before.
    fn load(&mut self) -> Result<Account, Wrong> {
        let before = self.account();
        for i in 0..self.masters.len() {
            self.tell_master(i, master::Command::Trains { records: TRAIN, payload: PAYLOAD, gap: TRAIN_GAP });
        }
        for i in 0..self.farms.len() {
            let traffic = TrafficConfig {
                master: Plan::master_id((i % self.masters.len()) as u16),
                payload: PAYLOAD as u16,
                rate: Some(UPWARD),
                burst: 1.try_into().expect("it is not zero"),
                pack: 4.try_into().expect("it is not zero"),
                records: None,
            };
            self.tell_farm(i, slave::FarmCommand::StartTraffic(traffic));
        }
        self.pass(self.intervals(1))?;
        Ok(before)
    }

    /// Nobody sends any more, and what was under way has arrived.
    fn unload(&mut self, before: &Account) -> Result<Balance, Wrong> {
        for i in 0..self.masters.len() {
            self.tell_master(i, master::Command::Quiet);
        }
        for i in 0..self.farms.len() {
            self.tell_farm(i, slave::FarmCommand::StopTraffic);
        }
        self.pass(SETTLE)?;
        let balance = self.balance_since(before)?;
        if balance.lost != balance.accounted {
            return Err(format!("records are lost without an account: {balance:?}"));
        }
        if balance.made == 0 {
            return Err("there was no load".to_owned());
        }
        Ok(balance)
    }

    fn unload_whole(&mut self, before: &Account, what: &str) -> Result<(), Wrong> {
        let balance = self.unload(before)?;
        if balance.lost > 0 { Err(format!("{what} lost records: {balance:?}")) } else { Ok(()) }
    }

    fn moves(&self) -> (u64, u64) {
        let farms = self.farms.iter().flatten().map(|core| core.lcore.role().counters().gateway_moves.get());
        let masters = self.masters.iter().flatten().map(|core| core.lcore.role().counters().shard_moves.get());
        (farms.sum(), masters.sum())
    }

    /// Shards of the first gateway whose cargo a master still has to take there.
    fn late_moves(&self) -> u64 {
        let late = |role: &master::Master| {
            let used = self.plan.gateways[FIRST].shards.iter().filter_map(|shard| role.used_for(*shard));
            used.filter(|used| *used != FIRST).count() as u64
        };
        self.masters.iter().flatten().map(|core| late(core.lcore.role())).sum()
    }

    fn slaves_of_first(&self) -> u64 {
        self.plan.gateways[FIRST].slaves.len() as u64
    }

    /// Waits until the first gateway is used again by everybody, and checks that it is.
    fn come_home(&mut self) -> Result<(), Wrong> {
        self.wait_until_whole()?;
        self.pass(self.intervals(STEADY_INTERVALS + 1))?;
        let (twin, before) = (self.plan.twin.map(Who::Gateway), self.load()?);
        let since = self.now;
        self.pass(self.intervals(1))?;
        let last = twin.and_then(|twin| self.sent_to.get(&twin).copied()).unwrap_or(0);
        self.unload_whole(&before, "coming home")?;
        if last > since && self.slaves_of_first() > 0 {
            return Err("cargo goes to the twin although the preferred gateway is steady".to_owned());
        }
        Ok(())
    }

    /// The first gateway goes, its twin takes over, it comes back and is used again.
    pub(crate) fn fail_over(&mut self) -> Result<(), Wrong> {
        self.phase("all at the preferred gateway");
        self.come_home()?;
        let ((farms, masters), late) = (self.moves(), self.late_moves());
        let before = self.load()?;
        self.counted.entry(format!("trial.{:?}", self.plan.trial).to_lowercase()).and_modify(|n| *n += 1).or_insert(1);
        match self.plan.trial {
            Trial::Drain => {
                self.phase("a drain with a twin");
                self.drain_with_twin()?;
                self.pass(self.intervals(1))?;
                self.unload_whole(&before, "a drain")?;
                self.start(WHO);
            }
            Trial::Kill => {
                self.phase("a crash with a twin");
                self.crash(WHO)?;
                self.go_without()?;
                self.unload(&before)?;
                self.start(WHO);
            }
            Trial::Cut => {
                self.phase("a cut with a twin");
                let until = self.now + self.intervals(5);
                self.cut.insert(WHO, until);
                self.go_without()?;
                self.unload(&before)?;
                self.run_until(until.max(self.now))?;
            }
        }
        self.phase("back to the preferred gateway");
        self.come_home()?;
        // Cargo moves away and back, once each: it does not flap. A master moves a shard with the next record for it.
        // If it sent no record for a shard since the preferred gateway became steady, it moves that shard home in this
        // trial (seed 260).
        let (now_farms, now_masters) = self.moves();
        let shards = self.plan.gateways[FIRST].shards.len() as u64 * self.masters.len() as u64;
        let most = (2 * self.slaves_of_first(), 2 * shards + late);
        if now_farms - farms > most.0 || now_masters - masters > most.1 {
            let moves = (now_farms - farms, now_masters - masters);
            return Err(format!("slaves and shards moved to and fro: {moves:?} times, {most:?} are enough"));
        }
        Ok(())
    }

    /// The preferred gateway does not answer: after a short time nobody sends to it.
    fn go_without(&mut self) -> Result<(), Wrong> {
        let gone = self.now;
        self.pass(self.intervals(SILENT_INTERVALS + 1))?;
        let last = self.sent_to.get(&WHO).copied().unwrap_or(0);
        if last > gone + self.intervals(SILENT_INTERVALS) {
            let late = (last - gone) / MILLISECOND;
            return Err(format!("cargo was sent to a gateway that was gone for {late} ms"));
        }
        // From then on nothing is lost any more.
        let calm = self.account();
        self.pass(self.intervals(1))?;
        let now = self.account();
        if now.lost_by_name() != calm.lost_by_name() {
            return Err(format!("records are lost although all know that the gateway is gone: {calm:?} {now:?}"));
        }
        Ok(())
    }

    /// Drains the first gateway as the control thread does.
    fn drain_with_twin(&mut self) -> Result<(), Wrong> {
        let end = self.now + DRAIN_WITHIN;
        if let Some(node) = &mut self.gateways[FIRST] {
            node.desk.leave(self.now);
        }
        loop {
            self.wake_desk(FIRST as u16, self.now);
            self.pass(2 * MILLISECOND)?;
            let Some(node) = &mut self.gateways[FIRST] else { return Ok(()) };
            let counters = node.cores.iter().map(|core| core.lcore.role().counters());
            let records = counters.map(|counters| counters.down.records_in.get() + counters.up.records_in.get()).sum();
            if node.desk.leaving(self.now, records) {
                break;
            }
            if self.now >= end {
                return Err("a drain does not come to its flush".to_owned());
            }
        }
        let unheard = self.gateways[FIRST].as_ref().map_or(0, |node| node.desk.registrar().unheard());
        if unheard > 0 {
            return Err(format!("{unheard} nodes did not hear that the gateway drains"));
        }
        self.end_gateway(FIRST)
    }

    /// The cluster takes another key under load: gateways first, then nodes, then the old one is forgotten.
    pub(crate) fn rotate_the_key(&mut self) -> Result<(), Wrong> {
        self.phase("key rotation");
        let Some(old) = self.plan.key.map(ClusterKey::from_bytes) else { return Ok(()) };
        let bytes = self.rng.secret();
        let new = ClusterKey::from_bytes(bytes);
        let (gone, before) = (self.refused(), self.load()?);
        for keys in [KeyRing::changing(old, new.clone()), new.into()] {
            let both = keys.len() > 1;
            // Nodes forget the old key before gateways do, and learn the new one after them.
            if both {
                self.set_gateway_keys(&keys)?;
                if self.members_on_old_key() == 0 {
                    return Err("nobody is said to sign with the old key".to_owned());
                }
            }
            self.set_node_keys(&keys);
            self.pass(self.intervals(3))?;
            if self.members_on_old_key() > 0 {
                return Err(format!("{} members still sign with the old key", self.members_on_old_key()));
            }
            if !both {
                self.set_gateway_keys(&keys)?;
                self.pass(self.intervals(2))?;
            }
        }
        self.unload_whole(&before, "a new key")?;
        if self.refused() != gone {
            return Err(format!("a new key made somebody refused or gone: {gone:?} {:?}", self.refused()));
        }
        self.plan.key = Some(bytes);
        self.counted.insert("trial.rotation".to_owned(), 1);
        // The heartbeats that strangers have recorded are of another key now.
        self.heartbeats.clear();
        self.answers.clear();
        Ok(())
    }

    fn set_gateway_keys(&mut self, keys: &KeyRing<ClusterKey>) -> Result<(), Wrong> {
        for gateway in 0..self.gateways.len() {
            if let Some(node) = &mut self.gateways[gateway] {
                node.desk.registrar_mut().set_keys(keys.clone());
            }
            self.pass(self.intervals(1) / 8)?;
        }
        Ok(())
    }

    fn set_node_keys(&mut self, keys: &KeyRing<ClusterKey>) {
        for i in 0..self.farms.len() {
            self.tell_farm(i, slave::FarmCommand::SetCredential(Credential::Cluster(keys.clone())));
        }
        for i in 0..self.masters.len() {
            let id = NodeId::master(Plan::master_id(i as u16));
            self.tell_master(i, master::Command::SetKeys(keys.node_keys(id)));
        }
    }

    fn members_on_old_key(&self) -> u64 {
        let registrars = self.gateways.iter().flatten().map(|node| node.desk.registrar());
        registrars.map(|registrar| registrar.counters().members_old_key.get()).sum()
    }

    /// Heartbeats that were refused for their key, and nodes that were declared gone.
    fn refused(&self) -> (u64, u64) {
        let counters = self.gateways.iter().flatten().map(|node| node.desk.registrar().counters());
        counters.fold((0, 0), |(forged, gone), c| (forged + c.refused_forged.get(), gone + c.nodes_gone.get()))
    }
}
