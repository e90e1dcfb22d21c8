//! The duties of the control thread for its role.

use super::applications::MasterControl;
use super::desk::RegistrarDesk;
use super::disk::DiskControl;
use super::farm::FarmControl;
use frame::Time;
use link::registrar::Health;

/// See the module's documentation.
pub enum RoleControl {
    /// The registrar's desk.
    Gateway(Box<RegistrarDesk>),
    /// The mailboxes of a slave's lcores, and what it lends.
    Slave(Box<FarmControl>),
    /// The mailboxes of a master's lcores, and the thread that takes its applications.
    Master(Box<MasterControl>),
    /// A disk's mailbox, and the thread that connects to its master.
    Disk(Box<DiskControl>),
}

impl RoleControl {
    /// Begins to drain. A gateway first tells its nodes, and a slave recalls what it lent.
    pub(super) fn drain(&mut self, now: Time) {
        match self {
            Self::Gateway(desk) => desk.leave(now),
            Self::Slave(farm) => farm.drain(now),
            Self::Master(master) => master.drain(now),
            Self::Disk(disk) => disk.drain(),
        }
    }

    /// Whether lcores were told to drain. `records` have come in so far.
    pub(super) fn drains(&mut self, now: Time, records: u64) -> bool {
        match self {
            Self::Gateway(desk) => desk.leaving(now, records),
            Self::Slave(farm) => farm.drains(now),
            Self::Master(_) | Self::Disk(_) => true,
        }
    }

    /// How long that may take in addition to what every process has for it, in nanoseconds.
    pub(super) fn drains_within(&self) -> Time {
        match self {
            Self::Gateway(_) | Self::Master(_) | Self::Disk(_) => 0,
            Self::Slave(farm) => farm.drains_within(),
        }
    }

    /// Does what is due; returns when it must be called again at the latest.
    pub(super) fn work(&mut self, now: Time, health: Health) -> Time {
        match self {
            Self::Gateway(desk) => desk.work(now, health),
            Self::Slave(farm) => farm.work(now),
            Self::Master(_) => Time::MAX,
            Self::Disk(disk) => {
                disk.work();
                Time::MAX
            }
        }
    }

    /// From now on the ports take IP packets of at most this many bytes. `false` if that could not be passed on yet.
    pub(super) fn set_port_mtus(&mut self, mtus: &[u16]) -> bool {
        match self {
            Self::Gateway(desk) => desk.set_port_mtus(mtus),
            Self::Slave(farm) => {
                let Some(&mtu) = mtus.iter().min() else { return true };
                farm.tell(&slave::FarmCommand::SetMtu(mtu));
                true
            }
            Self::Disk(_) => true,
            Self::Master(master) => {
                if let Some(&mtu) = mtus.iter().min() {
                    master.tell(|| master::MasterCommand::SetMtu(mtu));
                }
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
            Self::Slave(farm) => farm.describe(),
            Self::Master(master) => master.describe(),
            Self::Disk(disk) => disk.describe(),
        }
    }

    pub(super) async fn mail(&mut self) {
        match self {
            Self::Gateway(desk) => desk.mail().await,
            Self::Slave(_) | Self::Master(_) | Self::Disk(_) => std::future::pending().await,
        }
    }
}
