//! Machines: how they are made from the plan, start, crash, and get commands.

use crate::cluster::{Cluster, GatewayNode};
use crate::core::{Core, Sizes};
use crate::desk::Desk;
use crate::ledger::{Ledger, Wrong};
use crate::master::{self, Master};
use crate::place::{Place, Who};
use crate::plan::Plan;
use crate::trace::Happened;
use frame::Vlan;
use frame::time::{FOREVER, SECOND};
use gateway::{Gateway, GatewayConfig};
use lcore::control_mailbox;
use lcore::watchdog::Watchdog;
use link::{ClusterKey, Credential, Node, Registrar, RegistrarConfig};
use slave::{Farm, FarmConfig, Ids, TrafficConfig};
use std::sync::Arc;
use wire::Shard;
use wire::link::NodeId;

/// Records with PUSH of a slave that have an effect in a second: few, so that seeds come to the end of a budget.
const PUSH_RATE: u32 = 500;

/// Places for masters at each gateway.
pub(crate) const MASTERS: u16 = 8;

impl Cluster {
    /// Starts a machine that does not run.
    pub fn start(&mut self, who: Who) {
        self.update(who);
        let boot = (self.boot_epoch(self.is_old(who)), self.rng.secret());
        let started = match who {
            Who::Master(i) => {
                let i = usize::from(i);
                let started = self.masters[i].is_none();
                if started {
                    self.masters[i] = Some(self.make_master(i, boot));
                }
                started
            }
            Who::Farm(i) => {
                let i = usize::from(i);
                let started = self.farms[i].is_none();
                if started {
                    self.farms[i] = Some(self.make_farm(i, boot));
                }
                started
            }
            Who::Gateway(i) => {
                let i = usize::from(i);
                let started = self.gateways[i].is_none();
                if started {
                    self.gateways[i] = Some(self.make_gateway(i, boot.0));
                    self.wake_desk(i as u16, self.now);
                }
                started
            }
            Who::Stranger => false,
        };
        if !started {
            return;
        }
        self.secrets.insert(who, boot.1);
        self.trace.note(self.now, &Happened::Turn(who, "starts"));
        if let Who::Gateway(i) = who {
            self.wake_all(i, self.now);
        } else {
            self.wake(who, 0, self.now);
        }
        if !self.quiet {
            match who {
                Who::Master(i) => {
                    let Plan { train: records, payload, train_gap: gap, .. } = self.plan;
                    self.tell_master(usize::from(i), master::Command::Trains { records, payload, gap });
                }
                Who::Farm(i) => self.start_traffic(usize::from(i)),
                Who::Gateway(_) | Who::Stranger => {}
            }
        }
    }

    /// An epoch by a clock that is right, years ahead, an hour behind, running backwards, or none at all.
    /// Version 1 needs a right one.
    fn boot_epoch(&mut self, is_old: bool) -> u64 {
        const YEAR: u64 = 365 * 24 * 3600 * SECOND;
        let right = 50 * YEAR + self.now;
        match if is_old { 0 } else { self.rng.below(5) } {
            0 => right,
            1 => right + self.rng.between(1, 100) * YEAR,
            2 => right - 3600 * SECOND,
            3 => u64::MAX - self.now,
            _ => self.rng.bits().max(1),
        }
    }

    fn start_traffic(&mut self, farm: usize) {
        // A payload that never fits would never be sent.
        let fits = u64::from(self.plan.farms[farm].mtu.min(wire::UNPROVEN_MTU)) - 28 - wire::HEADER_LEN as u64;
        let low = wire::echo::MIN_LEN as u64;
        let high = self.plan.payload.min(fits).max(low);
        let traffic = TrafficConfig {
            master: Plan::master_id(self.rng.below(self.plan.masters.len() as u64) as u16),
            payload: self.rng.between(low, high) as u16,
            rate: Some(self.plan.upward),
            burst: (self.rng.between(1, 8) as u32).try_into().expect("it is not zero"),
            pack: (self.rng.between(1, 16) as u16).try_into().expect("it is not zero"),
            records: None,
        };
        if self.plan.upward > 0 {
            self.tell_farm(farm, slave::FarmCommand::StartTraffic(traffic));
        }
    }

    /// A machine loses everything.
    ///
    /// # Errors
    /// It fails as [`Cluster::close`] does, when the machine is a gateway.
    pub fn crash(&mut self, who: Who) -> Result<(), Wrong> {
        self.trace.note(self.now, &Happened::Turn(who, "crashes"));
        match who {
            Who::Master(i) => self.masters[usize::from(i)] = None,
            Who::Farm(i) => self.farms[usize::from(i)] = None,
            Who::Gateway(i) => self.close(usize::from(i))?,
            Who::Stranger => {}
        }
        Ok(())
    }

    /// Ends a gateway and closes its accounts.
    ///
    /// # Errors
    /// It fails as [`Ledger::close`] does, for the first lcore that fails.
    pub fn close(&mut self, gateway: usize) -> Result<(), Wrong> {
        let Some(node) = self.gateways[gateway].take() else { return Ok(()) };
        crate::check::count(&node, &mut self.counted);
        for (core, ledger) in node.cores.iter().zip(node.ledgers) {
            self.closed.add(&ledger.close(&core.lcore)?);
        }
        Ok(())
    }

    fn credential(&self) -> Credential {
        self.plan.key.map_or(Credential::None, |key| Credential::Cluster(ClusterKey::from_bytes(key).into()))
    }

    /// The place of a gateway to which nodes of a kind send.
    pub(crate) fn door(&self, gateway: usize, who: Who) -> Place {
        let two_port = self.plan.gateways[gateway].two_port;
        let port = u8::from(two_port && matches!(who, Who::Farm(_)));
        Place { who: Who::Gateway(gateway as u16), port }
    }

    fn node_sizes(&self, mtu: u16) -> Sizes {
        Sizes {
            frames: 512 * 2048 / self.plan.chunk,
            chunk: self.plan.chunk,
            mtus: [mtu; 2],
            rx_ring: 256,
            tx_ring: 256,
            mailbox: 16,
        }
    }

    fn make_master(&mut self, i: usize, boot: (u64, [u8; 32])) -> Core<Master> {
        let plan = &self.plan.masters[i];
        let mtu = plan.mtu;
        let (who, vlan) = (Who::Master(i as u16), plan.vlan.map_or(Vlan::UNTAGGED, Vlan::tagged));
        let config = master::node_config(self.plan.scale, self.plan.interval, boot, plan.mtu, plan.fixed_port);
        let id = NodeId::master(Plan::master_id(i as u16));
        let key = self.credential().node_keys(id);
        let node = |gateway| Node::new(id, key.clone(), self.door(gateway, who).peer(vlan), &config, self.now);
        let nodes = (0..self.gateways.len()).map(node).collect();
        let rng = self.rng.fork(boot.0 ^ (i as u64) << 48);
        let master = Master::new(Plan::master_id(i as u16), config, nodes, rng);
        Core::new(0, &[Place::first(who)], self.node_sizes(mtu), None, |_| master)
    }

    fn make_farm(&mut self, i: usize, boot: (u64, [u8; 32])) -> Core<Farm> {
        let plan = &self.plan.farms[i];
        let mtu = plan.mtu;
        let (who, vlan) = (Who::Farm(i as u16), plan.vlan.map_or(Vlan::UNTAGGED, Vlan::tagged));
        let with_slaves = plan.slaves.iter().enumerate().filter(|(_, ids)| !ids.is_empty());
        let slaves = with_slaves.map(|(gateway, ids)| {
            let ids = Ids::list(self.plan.scale, ids).expect("the ids are in range and different");
            let ways = self.plan.ways(gateway).into_iter().map(|gateway| self.door(gateway, who).peer(vlan));
            (ways.collect(), ids)
        });
        let config = FarmConfig {
            slaves: slaves.collect(),
            node: master::node_config(self.plan.scale, self.plan.interval, boot, plan.mtu, plan.fixed_port),
            credential: self.credential(),
            answer_any: false,
            streams: 4,
            lending: None,
        };
        let farm = Farm::new(config, self.now, |_| {}).expect("the farm is right");
        Core::new(0, &[Place::first(who)], self.node_sizes(mtu), None, |_| farm)
    }

    fn make_gateway(&mut self, i: usize, epoch: u64) -> GatewayNode {
        let plan = &self.plan.gateways[i];
        let who = Who::Gateway(i as u16);
        let shards: Vec<Shard> = plan.shards.iter().map(|&shard| Shard(shard)).collect();
        let served = wire::ShardSet::new(self.plan.scale, &shards).expect("the shards exist");
        let (hold, early) = if self.quiet { self.plan.calm_hold() } else { (self.plan.hold, self.plan.early) };
        let config = GatewayConfig {
            hold,
            early,
            masters: MASTERS,
            push_rate: PUSH_RATE,
            interval: self.plan.interval,
            ..GatewayConfig::new(served)
        };
        let registrar = RegistrarConfig {
            scale: self.plan.scale,
            shards: link::ShardRanges::from_shards(shards).expect("there are few shards"),
            keys: self.plan.key.map(ClusterKey::from_bytes).into(),
            secret: self.rng.secret(),
            epoch,
            interval: self.plan.interval,
            hold_ns: u32::try_from(hold).unwrap_or(u32::MAX),
            mtu: plan.mtu,
            port_mtus: if plan.two_port { vec![plan.mtu, plan.slave_mtu] } else { Vec::new() },
            two_port: plan.two_port,
            max_masters: MASTERS.into(),
            accept_v1: self.accepts_v1,
        };
        let (to_registrar, mails) = control_mailbox(plan.mailbox, || {});
        let places: Vec<Place> = (0..=u8::from(plan.two_port)).map(|port| Place { who, port }).collect();
        let sizes = Sizes {
            frames: if self.plan.chunk > 2048 { plan.frames.min(128) } else { plan.frames },
            chunk: self.plan.chunk,
            mtus: [plan.mtu, plan.slave_mtu],
            rx_ring: plan.rx_ring,
            tx_ring: plan.tx_ring,
            mailbox: plan.mailbox,
        };
        let core = |index| {
            let make = |pool: &frame::Pool| Gateway::new(config.clone(), pool).expect("memory");
            Core::new(index, &places, sizes, Some(to_registrar.clone()), make)
        };
        let mut cores: Vec<Core<Gateway>> = (0..plan.lcores).map(core).collect();
        if !self.quiet && !self.plan.slow.is_empty() {
            let ports = cores.iter_mut().flat_map(|core| core.lcore.ports_mut());
            ports.for_each(|port| port.set_slow(&self.plan.slow));
        }
        let ledgers = cores.iter().map(|core| Ledger::new(who, &core.lcore, &self.plan)).collect();
        let registrar = Registrar::new(registrar, self.now).expect("the settings are right");
        let desk = Desk::new(registrar, mails, cores.iter().map(|core| core.commands.clone()).collect());
        let watchdog = Watchdog::new(self.now, SECOND, cores.iter().map(|core| Arc::clone(core.lcore.pulse())));
        GatewayNode { cores, ledgers, desk, desk_wake: FOREVER, watchdog, looked: self.now, busy: 0 }
    }

    /// Sends a command to a master.
    pub fn tell_master(&mut self, i: usize, command: master::Command) {
        if let Some(core) = &self.masters[i] {
            assert!(core.commands.try_send(command).is_ok(), "a master is told little");
            self.wake(Who::Master(i as u16), 0, self.now);
        }
    }

    /// Sends a command to a farm.
    pub fn tell_farm(&mut self, i: usize, command: slave::FarmCommand) {
        if let Some(core) = &self.farms[i] {
            assert!(core.commands.try_send(command).is_ok(), "a farm is told little");
            self.wake(Who::Farm(i as u16), 0, self.now);
        }
    }
}
