//! The control thread's view of a running process: handles to counters that the lcores write.

use super::changes::Changes;
use super::counters::ControlCounters;
use super::facts::ProcessFacts;
use api::applications::ServingStats;
use api::disk::ServedDisk;
use api::lending::LendingStats;
use api::stats::{
    Bucket, DeviceStats, Direction, HistogramStats, Histograms, InterfaceStats, LcoreStats, Membership, PortStats,
    Sets, Stats,
};
use blockmap::DiskStats;
use frame::Time;
use frame::counter::CounterSet;
use frame::histogram::HistogramSet;
use frame::time::SECOND;
use gateway::GatewayCounters;
use lcore::Clock;
use lcore::handover::HandoverCounters;
use lcore::thread::{View, cores_of, cpu_ns};
use lcore::watchdog::Finding;
use link::RegistrarCounters;
use link::registrar::Summary;
use master::MasterStats;
use slave::FarmCounters;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An interface whose queues are ports, seen from outside.
pub trait InterfaceView: Send + Sync {
    /// Its current state.
    fn stats(&self) -> InterfaceStats;
}

/// A device of DPDK whose queues are ports, seen from outside.
pub trait DeviceView: Send + Sync {
    /// Its state at this time of the process's clock.
    fn stats(&self, now: Time) -> DeviceStats;
}

/// Memory that a slave lends, seen from outside.
pub trait LentMemoryView: Send + Sync {
    /// Its state at this time of the process's clock.
    fn stats(&self, now: Time) -> LendingStats;
}

/// Whom a master serves, seen from outside.
pub trait ServingView: Send + Sync {
    /// The applications and areas that there are now.
    fn stats(&self) -> ServingStats;
}

/// A disk, seen from outside.
pub trait DiskView: Send + Sync {
    /// What it has now.
    fn stats(&self) -> ServedDisk;
}

/// The counters of a role.
#[derive(Clone)]
pub enum RoleCounters {
    /// A gateway.
    Gateway(Arc<GatewayCounters>),
    /// A slave, or a farm.
    Farm(FarmView),
    /// A master.
    Master(ServedMaster),
    /// A disk.
    Disk(DiskStats),
}

/// A master, seen from outside.
#[derive(Clone)]
pub struct ServedMaster {
    /// Its counters.
    pub master: MasterStats,
    /// What its lcore received for others, or others for it.
    pub handed: Arc<HandoverCounters>,
}

/// A farm, seen from outside.
#[derive(Clone)]
pub struct FarmView {
    /// Its counters.
    pub farm: Arc<FarmCounters>,
    /// What it lends, if anything.
    pub lending: Option<Arc<slave::LendingView>>,
}

impl FarmView {
    fn sets(&self) -> Vec<(&'static str, &dyn CounterSet)> {
        let mut sets: Vec<(&'static str, &dyn CounterSet)> = vec![("farm", &*self.farm)];
        if let Some(lending) = &self.lending {
            let of_leases: [(&str, &dyn CounterSet); 3] =
                [("lender", &*lending.leases), ("record", &*lending.records), ("transport", &*lending.transport)];
            sets.extend(of_leases);
        }
        sets
    }
}

impl RoleCounters {
    fn sets(&self) -> Vec<(&'static str, &dyn CounterSet)> {
        match self {
            Self::Gateway(gateway) => vec![("down", &gateway.down), ("up", &gateway.up), ("flush", &gateway.flush)],
            Self::Farm(farm) => farm.sets(),
            Self::Master(ServedMaster { master, handed }) => {
                let MasterStats { counters, loans, transport, records, .. } = master;
                vec![
                    ("master", &**counters),
                    ("loan", &**loans),
                    ("transport", &**transport),
                    ("record", &**records),
                    ("handover", &**handed),
                ]
            }
            Self::Disk(disk) => vec![("disk", &*disk.counters)],
        }
    }

    /// Visits every set, with its direction if it has one.
    pub fn visit(&self, visitor: &mut dyn FnMut(Option<&'static str>, &dyn CounterSet)) {
        for (name, set) in self.sets() {
            visitor(matches!(name, "down" | "up").then_some(name), set);
        }
    }

    /// Its histograms, if it has any.
    pub fn histograms(&self) -> Option<&dyn HistogramSet> {
        match self {
            Self::Gateway(gateway) => Some(&gateway.left),
            Self::Farm(_) => None,
            Self::Master(view) => Some(&*view.master.histograms),
            Self::Disk(disk) => Some(&*disk.histograms),
        }
    }
}

/// One lcore of the process.
pub struct LcoreBoard {
    /// Its public state.
    pub view: View,
    /// The counters of its role.
    pub role: RoleCounters,
    standing: AtomicBool,
}

/// See the module's documentation.
pub struct Board {
    /// gateway, slave, master or disk.
    pub role: &'static str,
    /// Name of the process.
    pub name: String,
    clock: Clock,
    scale: wire::Scale,
    lcores: Vec<LcoreBoard>,
    draining: AtomicBool,
    /// The counters of the control thread.
    pub control: ControlCounters,
    /// The registrar's counters, in a gateway.
    pub link: Option<Arc<RegistrarCounters>>,
    /// Interfaces whose queues are ports. They stay in use until the board is dropped.
    pub interfaces: Vec<Arc<dyn InterfaceView>>,
    /// Devices of DPDK whose queues are ports. They stay in use until the board is dropped.
    pub devices: Vec<Arc<dyn DeviceView>>,
    /// The ids of this process, in a slave.
    pub members: u64,
    /// What it lends, in a slave that does.
    pub lending: Option<Arc<dyn LentMemoryView>>,
    /// Whom it serves, in a master.
    pub serving: Option<Arc<dyn ServingView>>,
    /// What it has, in a disk.
    pub disk: Option<Arc<dyn DiskView>>,
    /// The settings of the process, as text.
    pub settings: ProcessFacts,
    /// Changes of the machine that the process does not follow.
    pub changes: Changes,
}

impl Board {
    /// A board for these lcores. It has no settings yet.
    pub fn new(role: &'static str, name: String, scale: wire::Scale, clock: Clock, lcores: Vec<LcoreBoard>) -> Self {
        Self {
            role,
            name,
            clock,
            scale,
            lcores,
            draining: AtomicBool::new(false),
            control: ControlCounters::default(),
            link: None,
            interfaces: Vec::new(),
            devices: Vec::new(),
            members: 0,
            lending: None,
            serving: None,
            disk: None,
            settings: ProcessFacts::default(),
            changes: Changes::default(),
        }
    }

    /// The lcores.
    pub fn views(&self) -> impl Iterator<Item = &View> + Clone {
        self.lcores.iter().map(|lcore| &lcore.view)
    }

    /// How many ports every lcore has.
    pub fn ports(&self) -> usize {
        self.views().next().map_or(0, |view| view.ports.len())
    }

    /// The process's scale.
    pub fn scale(&self) -> wire::Scale {
        self.scale
    }

    /// Whether it is a gateway.
    pub fn is_gateway(&self) -> bool {
        self.role == "gateway"
    }

    /// From now on the process drains.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The process's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Seconds since the process started.
    pub fn uptime_seconds(&self) -> f64 {
        self.clock.now() as f64 / SECOND as f64
    }

    /// The lcores, by index.
    pub fn lcores(&self) -> &[LcoreBoard] {
        &self.lcores
    }

    /// Stores what the watchdog found.
    pub fn note(&self, finding: &Finding) {
        let (lcore, standing) = match *finding {
            Finding::Stalled { lcore, .. } => {
                self.control.watchdog_stalls.add(1);
                (lcore, true)
            }
            Finding::Recovered { lcore, stood } => {
                self.control.watchdog_stalled_ns.add(stood);
                (lcore, false)
            }
        };
        if let Some(lcore) = self.lcores.get(lcore) {
            lcore.standing.store(standing, Ordering::Relaxed);
        }
    }

    /// Records of cargo that a gateway received, in both directions.
    pub fn records_in(&self) -> u64 {
        let gateways = self.lcores.iter().filter_map(|lcore| match &lcore.role {
            RoleCounters::Gateway(gateway) => Some(gateway.down.records_in.get() + gateway.up.records_in.get()),
            RoleCounters::Farm(_) | RoleCounters::Master(_) | RoleCounters::Disk(_) => None,
        });
        gateways.sum()
    }

    /// Packets lost before any port saw them.
    pub fn rx_lost(&self) -> u64 {
        self.lcores.iter().map(|lcore| lcore.view.lcore.rx_lost.get()).sum()
    }

    /// Link control of registered nodes that was lost because the registrar's mailbox was full.
    pub fn mail_lost(&self) -> u64 {
        self.lcores.iter().map(|lcore| lcore.view.outbox.link_dropped_mailbox_full.get()).sum()
    }

    /// All statistics, now.
    pub fn stats(&self, membership: Option<Summary>) -> Stats {
        let mut total = Sets::new();
        let mut histograms = Histograms::new();
        let mut lcores = Vec::with_capacity(self.lcores.len());
        for lcore in &self.lcores {
            let stats = lcore.stats();
            for (name, histogram) in &stats.histograms {
                histograms.entry(name.clone()).or_default().merge(histogram);
            }
            add(&mut total, &stats.sets);
            lcores.push(stats);
        }
        if let Some(link) = &self.link {
            total.insert("link".to_owned(), read(&**link));
        }
        total.insert("control".to_owned(), read(&self.control));
        Stats {
            name: self.name.clone(),
            role: self.role.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.uptime_seconds(),
            changes: self.changes.all(),
            state: if self.is_draining() { "draining" } else { "running" }.to_owned(),
            settings: self.settings.all(),
            membership: membership.map(|summary| self.membership(&summary)).or_else(|| self.farm_membership(&total)),
            lending: self.lending.as_ref().map(|lending| lending.stats(self.clock.now())),
            serving: self.serving.as_ref().map(|serving| serving.stats()),
            disk: self.disk.as_ref().map(|disk| disk.stats()),
            cpu_seconds: lcores.iter().map(|lcore| lcore.cpu_seconds).sum(),
            directions: self.directions(),
            total,
            histograms,
            interfaces: self.interfaces.iter().map(|interface| interface.stats()).collect(),
            devices: self.devices.iter().map(|device| device.stats(self.clock.now())).collect(),
            lcores,
        }
    }

    fn membership(&self, summary: &Summary) -> Membership {
        Membership {
            ids: u64::from(summary.served),
            registered: u64::from(summary.here),
            suspect: u64::from(summary.suspect),
            masters: u64::from(summary.masters),
            generation: summary.generation,
            epoch: summary.epoch,
        }
    }

    fn farm_membership(&self, total: &Sets) -> Option<Membership> {
        let registered = *total.get("farm")?.get("registered")?;
        Some(Membership { ids: self.members, registered, ..Membership::default() })
    }

    /// All sets, summed over the lcores.
    pub fn totals(&self) -> Sets {
        let mut total = Sets::new();
        self.lcores.iter().for_each(|lcore| add(&mut total, &lcore.sets()));
        total
    }

    /// Cargo of a gateway, by direction.
    pub fn directions(&self) -> BTreeMap<String, Direction> {
        match self.role {
            "gateway" => ["down", "up"].into_iter().map(|name| (name.to_owned(), self.direction(name))).collect(),
            _ => BTreeMap::new(),
        }
    }

    /// One direction of cargo, over all lcores.
    ///
    /// The counters are read while the lcores go on. So under load `unaccounted` is a small number of either sign. When
    /// nothing moves it is zero.
    fn direction(&self, name: &str) -> Direction {
        let mut direction = Direction::default();
        for lcore in &self.lcores {
            let RoleCounters::Gateway(gateway) = &lcore.role else { continue };
            let counters = if name == "down" { &gateway.down } else { &gateway.up };
            let outbox = read(&*lcore.view.outbox);
            let out = |what: &str| outbox.get(&format!("{name}_{what}")).copied().unwrap_or(0);
            direction.datagrams_in += counters.datagrams_in.get();
            direction.bytes_in += counters.bytes_in.get();
            direction.records_in += counters.records_in.get();
            direction.datagrams_out += out("datagrams_out");
            direction.bytes_out += out("bytes_out");
            direction.records_out += out("records_out");
            direction.held += counters.held.get() + out("records_queued");
            counters.visit_drops(&mut |reason, _, value| {
                let reason = reason.strip_prefix("dropped_").unwrap_or(reason);
                *direction.dropped.entry(reason.to_owned()).or_default() += value;
            });
            for reason in ["tx", "slow"] {
                *direction.dropped.entry(reason.to_owned()).or_default() += out(&format!("records_dropped_{reason}"));
            }
        }
        let dropped: u64 = direction.dropped.values().sum();
        let accounted = direction.records_out + direction.held + direction.consumed + dropped;
        direction.unaccounted = direction.records_in.wrapping_sub(accounted) as i64;
        if direction.records_out > 0 {
            let kept = direction.datagrams_out as f64 / direction.records_out as f64;
            direction.saved_percent = Some(100.0 * (1.0 - kept));
        }
        direction
    }
}

impl LcoreBoard {
    /// An lcore that does not stand still.
    pub fn new(view: View, role: RoleCounters) -> Self {
        Self { view, role, standing: AtomicBool::new(false) }
    }

    /// Whether the watchdog sees it standing still.
    pub fn is_standing(&self) -> bool {
        self.standing.load(Ordering::Relaxed)
    }

    /// The cores on which it may run now, as the kernel reports them: a cpuset may have changed them.
    pub fn cores(&self) -> String {
        cores_of(self.view.tid).map_or_else(|_| String::new(), |cores| cores.to_string())
    }

    /// The core that it is pinned to now, if it is.
    pub fn core(&self) -> Option<usize> {
        self.view.core?;
        let cores = cores_of(self.view.tid).ok()?;
        cores.iter().next().filter(|_| cores.len() == 1)
    }

    /// Whether it was given a core, and is no longer pinned to it.
    pub fn is_moved(&self) -> bool {
        self.view.core.is_some_and(|core| cores_of(self.view.tid).is_ok_and(|cores| !cores.iter().eq([core])))
    }

    /// CPU seconds of its thread.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_ns(self.view.tid).unwrap_or(0) as f64 / SECOND as f64
    }

    fn sets(&self) -> Sets {
        let View { lcore, pool, outbox, stages, .. } = &self.view;
        let fixed: [(&str, &dyn CounterSet); 4] =
            [("lcore", &**lcore), ("pool", &**pool), ("outbox", &**outbox), ("stage", &**stages)];
        fixed.into_iter().chain(self.role.sets()).map(|(name, set)| (name.to_owned(), read(set))).collect()
    }

    fn stats(&self) -> LcoreStats {
        let View { index, core: asked_core, backing, ports, pulse, .. } = &self.view;
        LcoreStats {
            index: *index,
            core: self.core(),
            asked_core: *asked_core,
            cores: self.cores(),
            stage: pulse.stage().to_string(),
            standing: self.is_standing(),
            cpu_seconds: self.cpu_seconds(),
            memory: backing.to_string(),
            sets: self.sets(),
            histograms: self.role.histograms().map(read_histograms).unwrap_or_default(),
            ports: ports
                .iter()
                .map(|port| PortStats {
                    id: port.id.0,
                    description: port.about.describe(),
                    mtu: port.about.mtu(),
                    counters: read(&*port.counters),
                })
                .collect(),
        }
    }
}

/// Adds the sets of one lcore to those of others.
fn add(total: &mut Sets, sets: &Sets) {
    for (set, counters) in sets {
        let sum = total.entry(set.clone()).or_default();
        for (name, value) in counters {
            *sum.entry(name.clone()).or_default() += value;
        }
    }
}

fn read(set: &dyn CounterSet) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    set.visit(&mut |name, _, value| {
        counters.insert(name.to_owned(), value);
    });
    counters
}

fn read_histograms(set: &dyn HistogramSet) -> Histograms {
    let mut histograms = Histograms::new();
    set.visit_histograms(&mut |name, _, snapshot| {
        let buckets = snapshot.buckets.iter().map(|bucket| Bucket { bound: bucket.bound, count: bucket.count });
        histograms.insert(name.to_owned(), HistogramStats { buckets: buckets.collect(), sum: snapshot.sum });
    });
    histograms
}
