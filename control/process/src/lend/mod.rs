//! The memory that a slave lends, on the control thread: how much of it may be lent, and who has it.
//!
//! | module | what |
//! |---|---|
//! | [`limit`] | the decision how much may be lent |
//! | [`scrub`] | the thread that makes units zero which came back |
//!
//! Once a second the control thread reads how much memory the host has left. What follows from that is decided by
//! [`limit::Limiter`]. Hugepages are an exception: the host does not get them back, so nothing would be gained by
//! lending less of them.

pub mod limit;
pub mod scrub;

use api::lending::{LeaseStats, LendingStats};
use common::exit::Failure;
use common::units::Size;
use frame::time::SECOND;
use frame::{Backing, Time, UNIT, UnitMemory};
use host::hugepages;
use host::memory::MemoryFiles;
use host::privilege::Confinement;
use lcore::mailbox::Sender;
use limit::{Change, Limiter, Look};
use serve::board::LentMemoryView;
use settings::lending::LendingSettings;
use settings::memory::{KeepFree, MemoryPages};
use slave::{FarmCommand, LendingConfig};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often the host's memory is looked at, in nanoseconds.
const EVERY: Time = SECOND;

/// How long the scrubbing thread waits for room in a mailbox.
const FULL: Duration = Duration::from_millis(1);

/// Pages of 4 KiB in a unit, as heartbeats count them.
pub const UNIT_PAGES: u64 = UNIT as u64 / 4096;

/// Registers the hugepages that lent memory needs, before the ports say what all need together.
pub fn announce(lending: Option<&LendingSettings>) {
    if let Some(lending) = lending.filter(|lending| lending.pages != MemoryPages::Ordinary) {
        hugepages::lend(u64::from(lending.units) * UNIT as u64);
    }
}

/// The most leases of each slave id, one for each master.
const LEASES: u16 = 16;

/// Memory that was mapped, and the thread that scrubs it.
pub struct Mapped {
    memory: Arc<UnitMemory>,
    /// Units that were handed over to be scrubbed, and are not zero yet.
    dirty: Arc<AtomicU32>,
    hand_over: SyncSender<u32>,
    /// Whom the thread tells.
    farm: Arc<OnceLock<Sender<FarmCommand>>>,
}

impl Mapped {
    /// Maps the memory that is lent, if possible on a NUMA node, and starts the thread that scrubs it.
    ///
    /// # Errors
    /// The error is [`Failure::Lent`] when the host does not have the memory, and otherwise as for [`scrub::start`].
    pub fn new(lending: &LendingSettings, node: Option<u32>, confinement: &Confinement) -> Result<Self, Failure> {
        let memory = UnitMemory::new(lending.units, lending.pages.into(), node).map_err(Failure::Lent)?;
        let memory = Arc::new(memory);
        let (dirty, farm) = (Arc::<AtomicU32>::default(), Arc::<OnceLock<Sender<FarmCommand>>>::default());
        let (left, told) = (Arc::clone(&dirty), Arc::clone(&farm));
        let scrubbed = move |unit| {
            // Nothing is lent before the farm has a mailbox.
            let is_told = told.get().is_some_and(|farm| tell(farm, FarmCommand::Scrubbed(unit)));
            left.fetch_sub(1, Ordering::Relaxed);
            is_told
        };
        let hand_over = scrub::start(Arc::clone(&memory), confinement, scrubbed)?;
        Ok(Self { memory, dirty, hand_over, farm })
    }

    /// What a farm must know to lend it. `secret` is random.
    pub fn config(&self, lending: &LendingSettings, secret: [u8; 32]) -> LendingConfig {
        let (dirty, hand_over) = (Arc::clone(&self.dirty), self.hand_over.clone());
        LendingConfig {
            memory: Arc::clone(&self.memory),
            units_per_slave: lending.units_per_slave,
            keys: lending.keys.clone(),
            quota: lending.quota,
            leases: LEASES,
            leave_within: lending.drain_within,
            secret,
            scrub: Box::new(move |unit| {
                dirty.fetch_add(1, Ordering::Relaxed);
                if hand_over.try_send(unit).is_err() {
                    frame::never!("a unit that came back cannot be scrubbed");
                }
            }),
        }
    }
}

/// Puts a command into the mailbox of an lcore, when there is room; `false` if the lcore has ended.
fn tell(farm: &Sender<FarmCommand>, mut command: FarmCommand) -> bool {
    while let Err(back) = farm.try_send(command) {
        if farm.is_closed() {
            return false;
        }
        command = back;
        std::thread::sleep(FULL);
    }
    true
}

/// What others may know of lent memory.
struct LendingBoard {
    backing: Backing,
    units: u32,
    units_per_id: u32,
    limit: AtomicU32,
    keep_free: AtomicU64,
    available: AtomicU64,
    /// Until when masters have time to give memory back while the process drains; 0 if it does not.
    drains_until: AtomicU64,
    dirty: Arc<AtomicU32>,
    leases: Arc<slave::LendingView>,
}

/// Units by their state, while the lcore goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    leases: u32,
    leased: u32,
    recalled: u32,
    dirty: u32,
}

impl LendingBoard {
    fn count(&self) -> Counted {
        let dirty = self.dirty.load(Ordering::Relaxed);
        let counted = Counted { leases: 0, leased: 0, recalled: 0, dirty };
        let mut counted = self.leases.leases().fold(counted, |sum, lease| Counted {
            leases: sum.leases + 1,
            leased: sum.leased + lease.units,
            recalled: sum.recalled + lease.recalled,
            ..sum
        });
        // A unit that comes back is seen in both places for a moment.
        counted.leased = counted.leased.min(self.units);
        counted.dirty = dirty.min(self.units - counted.leased);
        counted
    }
}

impl LentMemoryView for LendingBoard {
    fn stats(&self, now: Time) -> LendingStats {
        let Counted { leased, recalled, dirty, .. } = self.count();
        let lease = |lease: slave::LeaseView| LeaseStats {
            id: lease.slave,
            master: lease.master,
            units: lease.units,
            recalled: lease.recalled,
        };
        let of_host =
            |bytes: &AtomicU64| (self.backing == Backing::OrdinaryPages).then(|| bytes.load(Ordering::Relaxed));
        let until = self.drains_until.load(Ordering::Relaxed);
        LendingStats {
            pages: self.backing.to_string(),
            unit_bytes: UNIT as u64,
            units: self.units.into(),
            units_per_id: self.units_per_id.into(),
            limit: self.limit.load(Ordering::Relaxed).into(),
            free: (self.units - leased - dirty).into(),
            dirty: dirty.into(),
            leased: leased.into(),
            recalled: recalled.into(),
            keep_free_bytes: of_host(&self.keep_free),
            host_available_bytes: of_host(&self.available),
            drain_seconds: (until > 0).then(|| until.saturating_sub(now) as f64 / SECOND as f64),
            leases: self.leases.leases().map(lease).collect(),
        }
    }
}

/// See the module's documentation.
pub struct Lending {
    board: Arc<LendingBoard>,
    files: MemoryFiles,
    /// `None` on hugepages.
    limiter: Option<Limiter>,
    /// What the process had in memory before anything was lent, in bytes.
    own: u64,
    next: Time,
    is_readable: bool,
    drain_within: Time,
    /// The units that were leased when that was logged last.
    said: Option<u32>,
    /// Nobody has looked yet.
    is_first: bool,
}

impl Lending {
    /// Watches over memory that was just mapped, and of which nothing is lent yet. `leases` are those of the farm,
    /// which has this mailbox.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]: the kernel does not say how much memory is available.
    pub fn new(
        settings: &LendingSettings,
        mapped: &Mapped,
        leases: Arc<slave::LendingView>,
        farm: Sender<FarmCommand>,
    ) -> Result<Self, Failure> {
        let backing = mapped.memory.backing();
        // Once in a process.
        let _ = mapped.farm.set(farm);
        let files = MemoryFiles::of_this_process();
        let host = files.read()?;
        let keep_free = settings.keep_free.bytes(host.total);
        tracing::info!("{}, on {backing}", settings.describe());
        if settings.keys.is_empty() {
            tracing::warn!(
                "NO CONNECT KEY: whoever reaches this slave can lease its memory. Give it --connect-key-file (gvm-dp \
                 key derive --connect), or as a farm --cluster-key-file"
            );
        }
        let limiter = match backing {
            Backing::OrdinaryPages => Some(Limiter::new(settings.units, keep_free)),
            Backing::Hugepages => {
                tracing::info!("the host does not get hugepages back before the end: --keep-free has no effect");
                None
            }
        };
        let limit = if limiter.is_some() { 0 } else { settings.units };
        let board = LendingBoard {
            backing,
            units: settings.units,
            units_per_id: settings.units_per_slave,
            limit: AtomicU32::new(limit),
            keep_free: AtomicU64::new(keep_free),
            available: AtomicU64::new(host.available),
            drains_until: AtomicU64::new(0),
            dirty: Arc::clone(&mapped.dirty),
            leases,
        };
        Ok(Self {
            board: Arc::new(board),
            files,
            limiter,
            own: host.resident,
            next: 0,
            is_readable: true,
            drain_within: settings.drain_within,
            said: None,
            is_first: true,
        })
    }

    /// What others may know of it.
    pub fn view(&self) -> Arc<dyn LentMemoryView> {
        Arc::clone(&self.board) as Arc<dyn LentMemoryView>
    }

    /// The units that could be granted now.
    pub fn grantable(&self) -> u32 {
        let Counted { leased, dirty, .. } = self.board.count();
        self.limit().saturating_sub(leased + dirty)
    }

    /// The units that may be lent now.
    pub fn limit(&self) -> u32 {
        self.board.limit.load(Ordering::Relaxed)
    }

    /// How long masters may take to give memory back when the process drains, in nanoseconds.
    pub fn drain_within(&self) -> Time {
        self.drain_within
    }

    /// When the next look is due.
    pub fn due(&self) -> Time {
        self.next
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let size = |units: u32| Size(u64::from(units) * UNIT as u64);
        format!("lends {} of {}", size(self.board.count().leased), size(self.board.units))
    }

    /// Looks at the host's memory. Returns a new limit and the time for masters, if the limit changes.
    pub fn look(&mut self, now: Time) -> Option<Change> {
        self.next = now + EVERY;
        if self.is_leaving() {
            return None;
        }
        let limiter = self.limiter.as_mut()?;
        let host = match self.files.read() {
            Ok(host) => host,
            Err(failure) => {
                if std::mem::replace(&mut self.is_readable, false) {
                    tracing::warn!("how much is lent stays as it is: {failure}");
                }
                return None;
            }
        };
        self.is_readable = true;
        self.board.available.store(host.available, Ordering::Relaxed);
        let counted = self.board.count();
        let used = counted.leased + counted.dirty;
        // Nobody else makes this process grow by much.
        let taken = host.resident.saturating_sub(self.own).min(u64::from(used) * UNIT as u64);
        let look = Look { available: host.available, taken, stalled: host.stalled, used };
        let change = limiter.decide(now, &look);
        if std::mem::replace(&mut self.is_first, false) && change.is_none() {
            let (left, percent) = (look.available >> 20, f64::from(look.stalled.unwrap_or(0)) / 100.0);
            tracing::warn!(
                "nothing is lent yet: the host has {left} MiB left, and programs waited for memory {percent:.1} % of \
                 the time; see --keep-free"
            );
        }
        let change = change?;
        self.board.limit.store(change.units, Ordering::Relaxed);
        match change.cause {
            limit::Cause::Low | limit::Cause::Pressure => tracing::warn!("{change}"),
            limit::Cause::Room => tracing::info!("{change}"),
            // While the host is nearly full this changes all the time.
            limit::Cause::Short => tracing::debug!("{change}"),
        }
        Some(change)
    }

    /// From now on the host keeps so much memory free.
    pub fn set_keep_free(&mut self, keep: KeepFree) {
        let Some(limiter) = &mut self.limiter else {
            tracing::warn!("keep-free has no effect: the host does not get hugepages back before the end");
            return;
        };
        let Ok(host) = self.files.read() else { return };
        let bytes = keep.bytes(host.total);
        limiter.set_keep_free(bytes);
        self.board.keep_free.store(bytes, Ordering::Relaxed);
        self.next = 0;
    }

    /// Nothing is lent any more, and masters have until `drain_within` to give back what they have.
    pub fn leave(&mut self, now: Time) {
        let until = now.saturating_add(self.drain_within).max(1);
        self.board.drains_until.store(until, Ordering::Relaxed);
        self.board.limit.store(0, Ordering::Relaxed);
    }

    fn is_leaving(&self) -> bool {
        self.board.drains_until.load(Ordering::Relaxed) > 0
    }

    /// Whether masters gave everything back, or have no more time. Logs how much is left.
    pub fn has_left(&mut self, now: Time) -> bool {
        let until = self.board.drains_until.load(Ordering::Relaxed);
        let Counted { leased, leases, .. } = self.board.count();
        if leased == 0 {
            return true;
        }
        let lent = Size(u64::from(leased) * UNIT as u64);
        if now >= until {
            tracing::warn!("masters did not give {lent} of {leases} leases back in time: it is taken from them");
            return true;
        }
        if self.said != Some(leased) {
            self.said = Some(leased);
            let seconds = (until - now).div_ceil(SECOND);
            tracing::info!("draining: masters have {lent} of {leases} leases, and {seconds} s to give it back");
        }
        false
    }
}
