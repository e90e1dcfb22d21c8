//! Checks from outside: counters by name, and whether all nodes are there.

use crate::cluster::{Cluster, GatewayNode};
use crate::ledger::Wrong;
use crate::place::{Place, Who};
use frame::Role;
use frame::counter::CounterSet;
use port::Port;
use std::collections::BTreeMap;
use wire::link::MemberState;

/// Adds the counters of a gateway process, by name.
pub fn count(node: &GatewayNode, into: &mut BTreeMap<String, u64>) {
    let mut add = |prefix: &str, set: &dyn CounterSet| {
        set.visit(&mut |name, _, value| *into.entry(format!("{prefix}{name}")).or_default() += value);
    };
    for core in &node.cores {
        let counters = core.lcore.role().counters();
        add("down.", &counters.down);
        add("up.", &counters.up);
        add("", &counters.flush);
        add("", core.lcore.outbox().counters().as_ref());
        add("lcore.", core.lcore.counters().as_ref());
        core.lcore.ports().iter().for_each(|port| add("port.", port.counters().as_ref()));
    }
    add("link.", node.desk.registrar().counters().as_ref());
}

/// Adds the counters of a farm or master, by name.
pub fn count_node(prefix: &str, set: &dyn CounterSet, into: &mut BTreeMap<String, u64>) {
    set.visit(&mut |name, _, value| {
        // A damaged sequence number skips any number of them.
        if name != "pattern_gap" {
            *into.entry(format!("{prefix}{name}")).or_default() += value;
        }
    });
}

impl Cluster {
    /// Adds what farms and masters that run have counted.
    pub fn count_ends(&mut self) {
        for core in self.farms.iter().flatten() {
            count_node("farm.", core.lcore.role().counters().as_ref(), &mut self.counted);
        }
        for core in self.masters.iter().flatten() {
            count_node("master.", core.lcore.role().counters(), &mut self.counted);
        }
    }

    /// The first reason why not all nodes are there at a gateway, or `None`.
    pub fn missing_at(&self, gateway: usize) -> Option<String> {
        let Some(node) = &self.gateways[gateway] else { return Some("it does not run".to_owned()) };
        let registrar = node.desk.registrar();
        for &slave in &self.plan.gateways[gateway].slaves {
            let id = self.plan.scale.slave_id(slave)?;
            let state = registrar.state(id);
            if state != MemberState::Here {
                return Some(format!("slave {slave} is {state:?}"));
            }
            let home = self.plan.farm_of(slave).map(|farm| Place::first(Who::Farm(farm)).ip());
            if registrar.peer(id).and_then(|peer| peer.ipv4_octets()) != home {
                return Some(format!("slave {slave} is registered at {:?}", registrar.peer(id)));
            }
        }
        // A node that was last heard during the trouble may still be found silent.
        if let Some(old) = registrar.members().find(|member| member.heard < self.calm_since) {
            return Some(format!("slave {} was not heard since the calm began", old.member.id));
        }
        let masters = registrar.masters().filter(|master| master.heard >= self.calm_since).count();
        if masters != self.masters.len() {
            return Some(format!("{masters} of {} masters are there", self.masters.len()));
        }
        node.desk.is_waiting().then(|| "routes wait for an lcore".to_owned())
    }

    /// The first thing that a master does not know yet, or `None`.
    pub fn missing_for(&self, master: usize) -> Option<String> {
        let Some(core) = &self.masters[master] else { return Some("it does not run".to_owned()) };
        for (gateway, plan) in self.plan.gateways.iter().enumerate() {
            if !core.lcore.role().is_registered(gateway) {
                return Some(format!("gateway {gateway} has not answered"));
            }
            let mut expected = plan.slaves.clone();
            expected.sort_unstable();
            let known: Vec<u32> = core.lcore.role().members(gateway).collect();
            if known != expected {
                return Some(format!("{} of {} slaves of gateway {gateway} are known", known.len(), expected.len()));
            }
        }
        None
    }

    /// The first reason why the cluster is not whole, or `None`.
    pub fn missing(&self) -> Option<String> {
        let mut gateways = 0..self.gateways.len();
        let mut masters = 0..self.masters.len();
        let at = gateways.find_map(|i| Some(format!("gateway {i}: {}", self.missing_at(i)?)));
        let at = at.or_else(|| masters.find_map(|i| Some(format!("master {i}: {}", self.missing_for(i)?))));
        at.or_else(|| {
            self.farms.iter().enumerate().find_map(|(i, core)| {
                let Some(core) = core else { return Some(format!("farm {i} does not run")) };
                let (here, all) = (core.lcore.role().registered(), core.lcore.role().len());
                (here != u64::from(all)).then(|| format!("farm {i}: {here} of {all} slaves are registered"))
            })
        })
    }

    /// Checks that masters and slaves got only records that were sent.
    ///
    /// # Errors
    /// The records of a farm do not balance. Or a farm or a master got other content than was sent, or a farm got a
    /// record twice, in a plan whose network does not do that.
    pub fn check_ends(&self) -> Result<(), Wrong> {
        for (i, core) in self.farms.iter().enumerate() {
            let Some(core) = core else { continue };
            let counters = core.lcore.role().counters();
            if !counters.balance() {
                return Err(format!("farm {i}: its records do not balance: {counters:?}"));
            }
            let bad = counters.pattern_bad_content.get();
            if bad > 0 && self.plan.faults.damage == 0 {
                return Err(format!("farm {i}: {bad} records have another content than was sent"));
            }
            let twice = counters.pattern_duplicate.get();
            if twice > 0 && self.plan.faults.duplicate == 0 {
                return Err(format!("farm {i}: {twice} records came twice"));
            }
        }
        for (i, core) in self.masters.iter().enumerate() {
            let bad = core.as_ref().map_or(0, |core| core.lcore.role().counters().bad_content.get());
            if bad > 0 && self.plan.faults.damage == 0 {
                return Err(format!("master {i}: {bad} records have another content than was sent"));
            }
        }
        Ok(())
    }

    /// Checks that nobody holds anything: all pools are full, and nothing waits.
    ///
    /// # Errors
    /// A gateway still holds records or frames, or a farm or a master does not have all its frames back.
    pub fn check_empty(&self) -> Result<(), Wrong> {
        for (i, node) in self.gateways.iter().enumerate() {
            for core in node.iter().flat_map(|node| &node.cores) {
                let (role, lcore) = (core.lcore.role(), core.lcore.index());
                let held = role.counters().down.held.get() + role.counters().up.held.get();
                if held != 0 || role.frames_held() != 0 || !core.is_whole() || !core.lcore.is_idle_and_drained() {
                    let at = core.lcore.conservation();
                    return Err(format!("gateway {i} lcore {lcore} has not drained: {held} records held, {at:?}"));
                }
            }
        }
        let farms = self.farms.iter().flatten().map(|core| (core.is_whole(), core.lcore.conservation()));
        let masters = self.masters.iter().flatten().map(|core| (core.is_whole(), core.lcore.conservation()));
        match farms.chain(masters).find(|(is_whole, _)| !is_whole) {
            Some((_, at)) => Err(format!("a farm or master has not all its frames back: {at:?}")),
            None => Ok(()),
        }
    }
}
