//! The duties of the control thread for its role.

use super::desk::RegistrarDesk;
use frame::Time;
use lcore::mailbox::Sender;
use link::registrar::Health;

/// See the module's documentation.
pub enum RoleControl {
    /// The registrar's desk.
    Gateway(Box<RegistrarDesk>),
    /// The mailboxes of a slave's lcores.
    Slave(Vec<Sender<slave::FarmCommand>>),
}

impl RoleControl {
    /// Begins to drain. A gateway first tells its nodes.
    pub(super) fn drain(&mut self, now: Time) {
        match self {
            Self::Gateway(desk) => desk.leave(now),
            // A farm gets few commands: there is always room for this one.
            Self::Slave(lcores) => lcores.iter().for_each(|lcore| drop(lcore.try_send(slave::FarmCommand::Drain))),
        }
    }

    /// Whether lcores were told to drain. `records` have come in so far.
    pub(super) fn drains(&mut self, now: Time, records: u64) -> bool {
        match self {
            Self::Gateway(desk) => desk.leaving(now, records),
            Self::Slave(_) => true,
        }
    }

    /// Does what is due; returns when it must be called again at the latest.
    pub(super) fn work(&mut self, now: Time, health: Health) -> Time {
        match self {
            Self::Gateway(desk) => desk.work(now, health),
            Self::Slave(_) => Time::MAX,
        }
    }

    /// From now on the ports take IP packets of at most this many bytes. `false` if that could not be passed on yet.
    pub(super) fn set_port_mtus(&mut self, mtus: &[u16]) -> bool {
        match self {
            Self::Gateway(desk) => desk.set_port_mtus(mtus),
            Self::Slave(lcores) => {
                let Some(&mtu) = mtus.iter().min() else { return true };
                // A farm gets few commands: there is always room for this one.
                lcores.iter().for_each(|lcore| drop(lcore.try_send(slave::FarmCommand::SetMtu(mtu))));
                true
            }
        }
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let number = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match self {
            Self::Gateway(desk) => {
                let members = desk.registrar().summary();
                format!("{}, {}", number(members.here + members.suspect, "slave"), number(members.masters, "master"))
            }
            Self::Slave(_) => "running".to_owned(),
        }
    }

    pub(super) async fn mail(&mut self) {
        match self {
            Self::Gateway(desk) => desk.mail().await,
            Self::Slave(_) => std::future::pending().await,
        }
    }
}
