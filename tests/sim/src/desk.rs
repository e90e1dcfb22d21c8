//! The registrar's desk of a gateway: [`gateway::desk`] over the mailboxes of the simulated lcores.

use frame::Time;
use gateway::GatewayCommand;
use gateway::desk::{Line, Mail};
use gateway::leave::{Leave, Stage};
use lcore::mailbox::Sender;
use lcore::{ControlMail, ControlReceiver};
use link::Registrar;
use link::registrar::Health;

/// The mailbox of one lcore.
struct Mailbox(Sender<GatewayCommand>);

impl Line for Mailbox {
    fn try_send(&self, command: GatewayCommand) -> Result<(), GatewayCommand> {
        self.0.try_send(command)
    }
}

/// See the module's documentation.
pub struct Desk {
    desk: gateway::desk::Desk<Mailbox>,
    mails: ControlReceiver,
    leave: Option<Leave>,
}

impl Desk {
    /// A desk for the lcores behind `commands`, in the order of their indices.
    pub fn new(registrar: Registrar, mails: ControlReceiver, commands: Vec<Sender<GatewayCommand>>) -> Self {
        Self { desk: gateway::desk::Desk::new(registrar, commands.into_iter().map(Mailbox)), mails, leave: None }
    }

    /// The registrar.
    pub fn registrar(&self) -> &Registrar {
        self.desk.registrar()
    }

    /// The registrar, for changing its settings.
    pub fn registrar_mut(&mut self) -> &mut Registrar {
        self.desk.registrar_mut()
    }

    /// Whether mail waits to be read.
    pub fn has_mail(&self) -> bool {
        !self.mails.is_empty()
    }

    /// Whether something waits for room in a mailbox.
    pub fn is_waiting(&self) -> bool {
        self.desk.is_waiting()
    }

    /// Lets the registrar see whether the gateway is well, as the control thread does now and then.
    pub fn note_health(&mut self, now: Time, health: Health) {
        self.desk.note_health(now, health, drop);
    }

    /// Does the work that is due and reads the mail. Returns the latest time of the next call, and how many datagrams
    /// were read.
    pub fn work(&mut self, now: Time, health: Health) -> (Time, u64) {
        let Self { desk, mails, .. } = self;
        let mut read = 0;
        let next = || {
            let mail = mails.try_recv();
            read += u64::from(mail.is_some());
            mail
        };
        (desk.work(now, health, next, open, drop), read)
    }

    /// Sends every lcore a command, after all commands that it got before.
    pub fn tell(&mut self, command: impl Fn() -> GatewayCommand) {
        self.desk.tell(command);
    }

    /// Tells nodes that the gateway is about to leave, and every lcore to drain at once.
    pub fn drain(&mut self, now: Time) {
        self.desk.registrar_mut().leave(now);
        self.tell(|| GatewayCommand::Drain);
    }

    /// Tells nodes that the gateway is about to leave; [`leaving`](Self::leaving) does the rest.
    pub fn leave(&mut self, now: Time) {
        let interval = self.registrar().config().interval;
        self.desk.registrar_mut().leave(now);
        self.leave = Some(Leave::begin(now, interval));
    }

    /// Continues to leave, as the control thread does. Returns whether lcores were told to drain.
    pub fn leaving(&mut self, now: Time, records: u64) -> bool {
        let unheard = self.registrar().unheard();
        let Some(leave) = &mut self.leave else { return false };
        if leave.advance(now, unheard, records) == Some(Stage::Flushing) {
            self.desk.tell(|| GatewayCommand::Drain);
        }
        self.leave.is_some_and(|leave| leave.stage() == Stage::Flushing)
    }
}

fn open(mail: &ControlMail) -> Mail<'_> {
    Mail { lcore: mail.lcore, peer: &mail.peer, precedence: mail.precedence, bytes: mail.bytes() }
}
