//! The registrar's desk on the control thread: its mailboxes, its bell, its log. What it does is [`gateway::desk`]'s.

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

/// Where lcores put link control, and what rings when they do.
pub struct Inbox {
    mails: ControlReceiver,
    bell: Arc<Notify>,
}

impl Inbox {
    /// An inbox with room for so many datagrams of registered nodes, and for others, and the way to put them in.
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

/// Routes that were given, and not registered.
#[derive(Default)]
pub struct Fixed {
    /// Where the masters among them are.
    pub masters: Vec<Route>,
    /// All of them, as people see them.
    pub shown: Vec<StaticRoute>,
}

impl RegistrarDesk {
    /// A desk for the lcores behind `commands`, in the order of their indices.
    pub fn new(registrar: Registrar, inbox: Inbox, commands: Vec<Sender<GatewayCommand>>) -> Self {
        let desk = gateway::desk::Desk::new(registrar, commands.into_iter().map(Lcore));
        Self { desk, mails: inbox.mails, bell: inbox.bell, leave: None, fixed: Fixed::default() }
    }

    /// Tells every lcore routes that hold from now on, whoever registers under these ids.
    pub fn fix(&mut self, routes: Vec<RouteChange>, shown: Vec<StaticRoute>) {
        let master = |change: &RouteChange| match change {
            RouteChange::Master { route, .. } => *route,
            RouteChange::Slave { .. } => None,
        };
        self.fixed = Fixed { masters: routes.iter().filter_map(master).collect(), shown };
        self.desk.fix(routes);
    }

    /// The routes that were given.
    pub fn fixed(&self) -> &Fixed {
        &self.fixed
    }

    /// How a slave stands with this gateway.
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

    /// The registrar, to be shown to people.
    pub fn registrar(&self) -> &Registrar {
        self.desk.registrar()
    }

    /// The registrar, to be told settings.
    pub fn registrar_mut(&mut self) -> &mut Registrar {
        self.desk.registrar_mut()
    }

    /// Tells every lcore something, after all that it was told before.
    pub fn tell(&mut self, command: impl Fn() -> GatewayCommand) {
        self.desk.tell(command);
    }

    /// Works off what is due and what came in. Returns when to come again at the latest.
    pub fn work(&mut self, now: Time, health: Health) -> Time {
        let Self { desk, mails, .. } = self;
        desk.work(now, health, || mails.try_recv(), open, log)
    }

    /// Lets the registrar see whether the gateway is well, also when nothing is due.
    pub fn look(&mut self, now: Time, health: Health) {
        self.desk.look(now, health, log);
    }

    /// The ports take IP packets of at most so many bytes from now on. `false` when that could not be told yet.
    pub fn set_port_mtus(&mut self, mtus: &[u16]) -> bool {
        self.desk.set_port_mtus(mtus, log)
    }

    /// Waits until mail is there. Only while nothing waits for an lcore that will soon take it is mail read at all.
    pub async fn mail(&mut self) {
        if self.desk.is_held_up() {
            return std::future::pending().await;
        }
        if self.mails.arm() {
            // A ring before this line is kept for it.
            self.bell.notified().await;
        }
        self.mails.disarm();
    }

    /// Has every lcore say what becomes of the next records of a slave.
    pub fn trace(&mut self, slave: wire::SlaveId, count: u32) -> gateway::trace::Trace {
        self.desk.trace(slave, count)
    }

    /// Tells nodes that the gateway is about to leave; [`leaving`](Self::leaving) does the rest.
    pub fn leave(&mut self, now: Time) {
        let interval = self.registrar().config().interval;
        self.desk.registrar_mut().leave(now);
        self.leave.get_or_insert_with(|| Leave::begin(now, interval));
    }

    /// Another hold for every lcore, in nanoseconds; nodes are told of it.
    pub fn set_hold(&mut self, hold: Time) {
        tracing::debug!(target: "gateway", "every lcore is told a hold of {hold} ns, and nodes with their next heartbeat");
        self.desk.registrar_mut().set_hold(u32::try_from(hold).unwrap_or(u32::MAX));
        self.desk.tell(|| GatewayCommand::SetHold(hold));
    }

    /// Early flush on or off, for every lcore.
    pub fn set_early(&mut self, early: bool) {
        tracing::debug!(target: "gateway", "every lcore is told early flush {}", if early { "on" } else { "off" });
        self.desk.tell(|| GatewayCommand::SetEarly(early));
    }

    /// Other keys; members stay members.
    pub fn set_keys(&mut self, keys: KeyRing<ClusterKey>) {
        self.desk.registrar_mut().set_keys(keys);
    }

    /// Goes on with leaving, given how many records have come in so far: once nodes have moved and nothing comes any
    /// more, every lcore is told to drain. Whether it was.
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

/// The registrar and the desk have no log of their own: it is kept for them here, under the names of their crates.
fn log(word: Word) {
    match word {
        Word::Notice(notice, more) => tracing::warn!("{notice}{more}"),
        Word::Event(event) if event.is_routine() => tracing::trace!(target: "link", "{event}"),
        Word::Event(event) => tracing::debug!(target: "link", "{event}"),
        Word::Route(change) => tracing::debug!(target: "gateway", "{change}"),
    }
}
