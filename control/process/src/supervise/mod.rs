//! A running process: what its control thread does while the lcores poll.
//!
//! It is one thread with one runtime: the registrar's desk, the watchdog, the control socket, signals and the drain. No
//! packet passes through this code.

mod applications;
pub mod changes;
pub mod desk;
mod disk;
mod drain;
mod dropped;
mod farm;
pub mod live;
mod role;
mod tally;

use crate::assemble::devices::Devices;
use crate::ending;
use api::stats::KEY_FINGERPRINT;
use api::trace::Standing;
pub use applications::{MasterControl, Served};
use changes::MachineWatch;
use common::exit::Failure;
use common::runtime::{SPARE, have_descriptors, runtime};
use common::signal::{self, Signal, Signals};
pub use disk::{DiskControl, ShownDisk};
use drain::Drain;
use dropped::Dropped;
pub use farm::FarmControl;
use frame::time::{MILLISECOND, SECOND};
use host::notify::Notifier;
use host::privilege::{Confinement, Thread};
use lcore::Clock;
use lcore::thread::LcoreHandle;
use lcore::watchdog::{Finding, Watchdog};
use link::registrar::Health;
use live::{LiveSettings, LiveTargets};
pub use role::RoleControl;
use serve::board::Board;
use serve::metrics::MetricsListener;
use serve::socket::ControlSocket;
use serve::{self, ControlRequest, Serving};
use slave::FarmEvent;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::sync::mpsc;

/// How often the watchdog checks, and the registrar is told that the gateway is well, in nanoseconds.
const LOOK: u64 = 200 * MILLISECOND;

/// An lcore that begins no poll for this time stands still, in nanoseconds.
const PATIENCE: u64 = SECOND;

/// The time limit for the end of the control socket; its clients have a second.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// The time limit for the final accounts, for which devices are asked for their counters.
const BOOKS_WITHIN: Duration = Duration::from_secs(4);

/// How many questions of clients may wait.
const REQUESTS: usize = 32;

/// The parts of a process.
pub struct Parts {
    /// What the control thread does for its role.
    pub role: RoleControl,
    /// The poll loops.
    pub lcores: Vec<LcoreHandle>,
    /// Receives the number of each lcore that ends.
    pub ended: mpsc::UnboundedReceiver<u16>,
    /// What others may see of the process.
    pub board: Board,
    /// The devices whose queues are its ports.
    pub devices: Devices,
    /// Its control socket.
    pub socket: ControlSocket,
    /// Where metrics are served, if at all.
    pub metrics: Option<MetricsListener>,
    /// The reports of a farm.
    pub reports: mpsc::Receiver<FarmEvent>,
    /// The rights that the control thread drops after set-up.
    pub confinement: Confinement,
    /// The current settings.
    pub settings: LiveSettings,
    /// Checks for changes of the machine.
    pub watch: MachineWatch,
}

/// Runs the control thread until every lcore has ended.
///
/// # Errors
/// The error is [`Failure::Lost`] (exit code 7) when an lcore ended without having drained. It is [`Failure::Internal`]
/// (exit code 1) when an lcore panicked, or the records do not add up. It is [`Failure::Machine`] or
/// [`Failure::Socket`] (exit code 3) when the kernel has no thread, descriptor or signal handler for the control
/// thread.
pub fn run(parts: Parts) -> Result<(), Failure> {
    let Parts { role, lcores, ended, board, devices, socket, metrics, reports, confinement, settings, watch } = parts;
    let runtime = runtime()?;
    let (requests_in, requests) = mpsc::channel(REQUESTS);
    let board = Arc::new(board);
    runtime.block_on(async {
        let notifier = Notifier::from_env();
        let serving = serve::start(&socket, Arc::clone(&board), requests_in)?;
        if let Some(metrics) = metrics {
            metrics.start(Arc::clone(&board))?;
        }
        let signals = Signals::listen()?;
        ending::watch(signal::ends(), &confinement)?;
        have_descriptors(SPARE).map_err(|error| {
            Failure::Machine(format!("cannot keep {SPARE} file descriptors free for commands and metrics: {error}"))
        })?;
        let keeps = devices.nics.iter().map(|nic| nic.keeps()).collect();
        confinement.enter(Thread::Control, keeps)?;
        tracing::info!("{}", confinement.describe());
        let process =
            Process { role, lcores, clock: board.clock(), board, devices, settings, watch, drain: None, notifier };
        let result = process.supervise(&serving, &socket, signals, ended, requests, reports).await;
        let late = "clients of the control socket still wait for their answers".to_owned();
        ending::step(ANSWERS_WITHIN, &Failure::Unfinished(late));
        serving.finish().await;
        result
    })
}

struct Process {
    role: RoleControl,
    lcores: Vec<LcoreHandle>,
    board: Arc<Board>,
    devices: Devices,
    clock: Clock,
    settings: LiveSettings,
    watch: MachineWatch,
    drain: Option<Drain>,
    notifier: Notifier,
}

impl Process {
    async fn supervise(
        mut self,
        serving: &Serving,
        socket: &ControlSocket,
        mut signals: Signals,
        mut ended: mpsc::UnboundedReceiver<u16>,
        mut requests: mpsc::Receiver<ControlRequest>,
        mut reports: mpsc::Receiver<FarmEvent>,
    ) -> Result<(), Failure> {
        let mut watchdog = Watchdog::new(self.clock.now(), PATIENCE, self.lcores.iter().map(LcoreHandle::view));
        let mut dropped = Dropped::new(self.board.ports());
        let mut look_at = 0;
        let mut tally = Tally::default();
        let (lcores, mut gone) = (self.lcores.len(), BTreeSet::new());
        let (mut ready, mut is_found) = (false, true);
        while gone.len() < lcores {
            let now = self.clock.now();
            let (rx_lost, mail_lost) = (self.board.rx_lost(), self.board.mail_lost());
            let health = Health { polling: watchdog.all_move(), rx_lost, mail_lost };
            if now >= look_at {
                look_at = now + LOOK;
                self.board.control.log_lines_dropped.set(stdio::err::dropped());
                self.board.control.invariants_broken.set(frame::never::count());
                for finding in watchdog.check(now) {
                    self.board.note(&finding);
                    say(&finding);
                }
                for line in dropped.check(now, &self.board, &self.devices) {
                    tracing::warn!("{line}");
                }
                if is_found && !socket.is_found() {
                    is_found = false;
                    let (path, pid) = (socket.path().display(), std::process::id());
                    tracing::warn!(
                        "the control socket {path} was removed or replaced: no command reaches this process any more; \
                         SIGTERM still drains it (kill {pid})"
                    );
                }
                if let RoleControl::Gateway(desk) = &mut self.role {
                    desk.note_health(now, health);
                }
                if let Some(mtus) = self.watch.check(&self.board, &self.devices)
                    && self.role.set_port_mtus(&mtus)
                {
                    self.watch.set_mtus(&self.board, mtus);
                }
                tally.log_growth(now, &self.board);
                if ready && self.drain.is_none() {
                    self.notifier.status(&self.state(&watchdog));
                }
            }
            let mut next = look_at;
            if let Some(drain) = &mut self.drain {
                if drain.is_moving() && self.role.drains(now, self.board.records_in()) {
                    drain.flush(now);
                }
                if drain.is_moving() {
                    next = next.min(now + drain::LOOK);
                }
                drain.advance(now, &self.lcores, &self.devices);
                if drain.is_over(now) {
                    break;
                }
            }
            self.notifier.alive(now, ready && watchdog.all_move());
            let mut next = self.role.work(now, health).min(next).min(self.notifier.due().max(now + MILLISECOND));
            if !ready {
                ready = self.lcores.iter().all(|lcore| lcore.view().pulse.beats() > 0);
                if ready {
                    self.notifier.ready(&self.state(&watchdog));
                }
                next = next.min(now + MILLISECOND);
            }
            let wait = Duration::from_nanos(next.saturating_sub(now));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.role.mail() => {}
                signal = signals.next() => match signal {
                    Signal::End(name) => self.end(name),
                    Signal::Reload(name) => serving.reload(name),
                    Signal::Nothing(name) => tracing::info!("{name} means nothing to gvm-dp: ignored"),
                },
                Some(request) = requests.recv() => self.answer(request),
                Some(event) = reports.recv() => report(&event, self.board.settings.get(KEY_FINGERPRINT).as_deref()),
                Some(index) = ended.recv() => {
                    gone.insert(index);
                    if self.drain.is_none() {
                        tracing::error!("lcore {index} ended by itself; the others drain");
                        self.end("its end");
                    }
                }
            }
        }
        drain::verdict(self.lcores, &gone, &self.devices)?;
        ending::step(BOOKS_WITHIN, &Failure::Unfinished("a device does not say what it counts".to_owned()));
        drain::balance(&self.board)
    }

    /// The state of the process, in one line for the service manager.
    fn state(&self, watchdog: &Watchdog) -> String {
        let lcores = match self.lcores.len() {
            1 => "1 lcore".to_owned(),
            lcores => format!("{lcores} lcores"),
        };
        let standing = if watchdog.all_move() { "" } else { "; an lcore stands still" };
        format!("{}: {lcores}, {}{standing}", self.board.name, self.role.describe())
    }

    /// Begins to drain; at the second call, ends at once.
    fn end(&mut self, why: &str) {
        ending::heard();
        match &mut self.drain {
            None => {
                tracing::info!("{why}: draining");
                self.board.set_draining();
                self.notifier.stopping(&format!("{}: draining", self.board.name));
                self.role.drain(self.clock.now());
                self.drain = Some(Drain::begin(self.role.drains_within()));
            }
            Some(drain) => {
                tracing::warn!("{why} while draining: ending at once");
                drain.hurry(self.clock.now(), &self.lcores);
            }
        }
    }

    fn answer(&mut self, request: ControlRequest) {
        // A client that has gone away needs no answer.
        match (request, &self.role) {
            (ControlRequest::Settings(answer), _) => drop(answer.send(self.settings.show())),
            (ControlRequest::Sources(answer), _) => drop(answer.send(self.settings.sources())),
            (ControlRequest::Set(wanted, answer), _) => {
                let targets = LiveTargets { role: &mut self.role, lcores: &self.lcores, board: &self.board };
                let _ = answer.send(self.settings.set(targets, &wanted));
            }
            (ControlRequest::Reload(fresh, answer), _) => {
                let targets = LiveTargets { role: &mut self.role, lcores: &self.lcores, board: &self.board };
                self.notifier.reloading();
                let _ = answer.send(self.settings.reload(targets, *fresh));
                if self.drain.is_none() {
                    self.notifier.reloaded();
                }
            }
            (ControlRequest::Drain(answer), _) => {
                if self.drain.is_none() {
                    self.end("told by gvm-dp drain");
                }
                let _ = answer.send(());
            }
            (ControlRequest::Membership(answer), RoleControl::Gateway(desk)) => {
                let _ = answer.send(Some(desk.registrar().summary()));
            }
            (ControlRequest::Membership(answer), _) => drop(answer.send(None)),
            (ControlRequest::Routes(answer), RoleControl::Gateway(desk)) => {
                let _ = answer.send(Some(serve::routes::of(desk.registrar(), &desk.fixed().shown, self.clock.now())));
            }
            (ControlRequest::Routes(answer), _) => drop(answer.send(None)),
            (ControlRequest::Masters(answer), RoleControl::Gateway(desk)) => {
                let registered = desk.registrar().masters().map(|master| master.route);
                let _ = answer.send(registered.chain(desk.fixed().masters.iter().copied()).collect());
            }
            (ControlRequest::Masters(answer), _) => drop(answer.send(Vec::new())),
            (ControlRequest::Trace { slave, count, answer }, _) => drop(answer.send(match &mut self.role {
                RoleControl::Gateway(desk) => Some(desk.trace(slave, count)),
                RoleControl::Slave(_) | RoleControl::Master(_) | RoleControl::Disk(_) => None,
            })),
            (ControlRequest::Standing { slave, answer }, RoleControl::Gateway(desk)) => {
                let _ = answer.send(desk.standing(slave));
            }
            (ControlRequest::Standing { answer, .. }, _) => {
                let _ = answer.send(Standing::Unregistered);
            }
        }
    }
}

fn say(finding: &Finding) {
    match finding {
        Finding::Stalled { .. } => tracing::error!("{finding}"),
        Finding::Recovered { .. } => tracing::info!("{finding}"),
    }
}

fn report(event: &FarmEvent, fingerprint: Option<&str>) {
    use link::NodeEvent::{Draining, MtuProven, NoAnswer, Registered};
    match event.event {
        Registered { .. } | MtuProven { .. } | Draining => tracing::info!("{event}"),
        NoAnswer => match fingerprint {
            Some(fingerprint) => tracing::warn!("{event}; our key's fingerprint is {fingerprint}"),
            None => tracing::warn!("{event}; we have no key"),
        },
        _ => tracing::warn!("{event}"),
    }
}
