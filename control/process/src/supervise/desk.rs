//! The registrar's desk on the control thread: its mailboxes, its wake-up, its log. The work itself is in
//! [`gateway::desk`].

use api::routes::StaticRoute;
use api::trace::Standing;
use frame::Time;
use gateway::GatewayCommand;
use gateway::desk::{Line, Mail, Word};
use gateway::leave::{Leave, Stage};
use lcore::mailbox::Sender;
use lcore::{ControlMail, ControlReceiver, ControlSender, control_mailbox};
use link::registrar::Health;
use link::{ClusterKey, KeyRing, Registrar, Route, RouteChange};
use std::sync::Arc;
use tokio::sync::Notify;
use wire::SlaveId;
use wire::link::MemberState;

/// Where lcores put link control, and the wake-up that follows.
pub struct Inbox {
    mails: ControlReceiver,
    bell: Arc<Notify>,
}

impl Inbox {
    /// An inbox with room for this many datagrams of registered nodes, and for others, and the sender for it.
    pub fn new(capacity: usize) -> (ControlSender, Self) {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let (sender, mails) = control_mailbox(capacity, move || rung.notify_one());
        (sender, Self { mails, bell })
    }
}

/// The mailbox of one lcore.
struct Lcore(Sender<GatewayCommand>);

impl Line for Lcore {
    fn try_send(&self, command: GatewayCommand) -> Result<(), GatewayCommand> {
        self.0.try_send(command)
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// See the module's documentation.
pub struct RegistrarDesk {
    desk: gateway::desk::Desk<Lcore>,
    mails: ControlReceiver,
    bell: Arc<Notify>,
    leave: Option<Leave>,
    fixed: Fixed,
}

/// Routes that were configured, not registered.
#[derive(Default)]
pub struct Fixed {
    /// The addresses of the masters among them.
    pub masters: Vec<Route>,
    /// All of them, in the form that people see.
    pub shown: Vec<StaticRoute>,
}

impl RegistrarDesk {
    /// A desk for the lcores behind `commands`, in the order of their indices.
    pub fn new(registrar: Registrar, inbox: Inbox, commands: Vec<Sender<GatewayCommand>>) -> Self {
        let desk = gateway::desk::Desk::new(registrar, commands.into_iter().map(Lcore));
        Self { desk, mails: inbox.mails, bell: inbox.bell, leave: None, fixed: Fixed::default() }
    }

    /// Gives every lcore routes that hold from now on, whichever nodes register under these ids.
    pub fn fix(&mut self, routes: Vec<RouteChange>, shown: Vec<StaticRoute>) {
        let master = |change: &RouteChange| match change {
            RouteChange::Master { route, .. } => *route,
            RouteChange::Slave { .. } => None,
        };
        self.fixed = Fixed { masters: routes.iter().filter_map(master).collect(), shown };
        self.desk.fix(routes);
    }

    /// The configured routes.
    pub fn fixed(&self) -> &Fixed {
        &self.fixed
    }

    /// The state of a slave at this gateway.
    pub fn standing(&self, slave: SlaveId) -> Standing {
        let is_fixed = |route: &StaticRoute| route.role == "slave" && (route.first..=route.last).contains(&slave.get());
        let config = self.registrar().config();
        match self.registrar().state(slave) {
            MemberState::Here => Standing::Registered,
            MemberState::Suspect => Standing::Suspect,
            MemberState::Gone if self.fixed.shown.iter().any(is_fixed) => Standing::Static,
            MemberState::Gone if !config.shards.contains(config.scale.shard(slave)) => Standing::ForeignShard,
            MemberState::Gone => Standing::Unregistered,
        }
    }

    /// The registrar, for display.
    pub fn registrar(&self) -> &Registrar {
        self.desk.registrar()
    }

    /// The registrar, for new settings.
    pub fn registrar_mut(&mut self) -> &mut Registrar {
        self.desk.registrar_mut()
    }

    /// Sends every lcore a command, after all earlier ones.
    pub fn tell(&mut self, command: impl Fn() -> GatewayCommand) {
        self.desk.tell(command);
    }

    /// Does what is due and handles mail. Returns when it must be called again at the latest.
    pub fn work(&mut self, now: Time, health: Health) -> Time {
        let Self { desk, mails, .. } = self;
        desk.work(now, health, || mails.try_recv(), open, log)
    }

    /// Tells the registrar whether the gateway is well, also when nothing is due.
    pub fn note_health(&mut self, now: Time, health: Health) {
        self.desk.note_health(now, health, log);
    }

    /// From now on the ports take IP packets of at most this many bytes. `false` if that could not be passed on yet.
    pub fn set_port_mtus(&mut self, mtus: &[u16]) -> bool {
        self.desk.set_port_mtus(mtus, log)
    }

    /// Waits until there is mail. While commands wait for a busy lcore, no mail is read.
    pub async fn mail(&mut self) {
        if self.desk.is_held_up() {
            return std::future::pending().await;
        }
        if self.mails.arm() {
            // A wake-up before this line is not lost.
            self.bell.notified().await;
        }
        self.mails.disarm();
    }

    /// Makes every lcore report what happens to the next records of a slave.
    pub fn trace(&mut self, slave: wire::SlaveId, count: u32) -> gateway::trace::Trace {
        self.desk.trace(slave, count)
    }

    /// Tells nodes that the gateway is about to leave. [`leaving`](Self::leaving) does the rest.
    pub fn leave(&mut self, now: Time) {
        let interval = self.registrar().config().interval;
        self.desk.registrar_mut().leave(now);
        self.leave.get_or_insert_with(|| Leave::begin(now, interval));
    }

    /// Sets another hold for every lcore, in nanoseconds, and tells nodes.
    pub fn set_hold(&mut self, hold: Time) {
        tracing::debug!(target: "gateway", "every lcore is told a hold of {hold} ns, and nodes with their next \
            heartbeat");
        self.desk.registrar_mut().set_hold(u32::try_from(hold).unwrap_or(u32::MAX));
        self.desk.tell(|| GatewayCommand::SetHold(hold));
    }

    /// Turns early flush on or off for every lcore.
    pub fn set_early(&mut self, early: bool) {
        tracing::debug!(target: "gateway", "every lcore is told early flush {}", if early { "on" } else { "off" });
        self.desk.tell(|| GatewayCommand::SetEarly(early));
    }

    /// Replaces the keys; members stay members.
    pub fn set_keys(&mut self, keys: KeyRing<ClusterKey>) {
        self.desk.registrar_mut().set_keys(keys);
    }

    /// Continues leaving; `records` have come in so far. Once nodes have moved and no more records come, every lcore is
    /// told to drain. Returns whether that was done.
    pub fn leaving(&mut self, now: Time, records: u64) -> bool {
        let unheard = self.registrar().unheard();
        let Some(leave) = &mut self.leave else { return false };
        match leave.advance(now, unheard, records) {
            Some(Stage::Quiet) if unheard == 0 => tracing::info!("all nodes have heard that this gateway leaves"),
            Some(Stage::Quiet) => {
                tracing::warn!("{unheard} nodes have not said that they heard that this gateway leaves")
            }
            Some(Stage::Flushing) => {
                tracing::info!("what is held leaves");
                self.desk.tell(|| GatewayCommand::Drain);
            }
            Some(Stage::Moving) | None => {}
        }
        self.leave.is_some_and(|leave| leave.stage() == Stage::Flushing)
    }
}

fn open(mail: &ControlMail) -> Mail<'_> {
    Mail { lcore: mail.lcore, peer: &mail.peer, precedence: mail.precedence, bytes: mail.bytes() }
}

/// The registrar and the desk have no log of their own. Their messages are logged here, under the names of their
/// crates.
fn log(word: Word) {
    match word {
        Word::Notice(notice, more) => tracing::warn!("{notice}{more}"),
        Word::Event(event) if event.is_routine() => tracing::trace!(target: "link", "{event}"),
        Word::Event(event) => tracing::debug!(target: "link", "{event}"),
        Word::Route(change) => tracing::debug!(target: "gateway", "{change}"),
    }
}
