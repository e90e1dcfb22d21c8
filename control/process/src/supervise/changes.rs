//! Changes of the machine under the process, checked together with the watchdog. The process follows the changes that
//! it can follow. The others are named in the log, in `stats`, in metrics and by `/ready`.
//!
//! The ports themselves follow links and addresses (`port::watch`). This module is about the process as a whole: the
//! MTU, which routes follow, and changes that only a restart or an administrator can correct.

use crate::assemble::devices::Devices;
use api::changes::{Change, Part};
use frame::PortId;
use serve::board::{Board, LcoreBoard};
use settings::config::Common;
use wire::MIN_MTU;

/// Checks the machine, and remembers the last result.
pub struct MachineWatch {
    common: Common,
    /// The largest IP packet of each port, as the role knows it.
    mtus: Vec<u16>,
}

impl MachineWatch {
    /// A watch for a process whose role knows these largest packets of its ports.
    pub fn new(common: &Common, mtus: Vec<u16>) -> Self {
        Self { common: common.clone(), mtus }
    }

    /// Checks the machine, and logs what changed. Returns the largest IP packet of each port if it differs from what
    /// the role knows; see [`MachineWatch::set_mtus`].
    pub fn check(&self, board: &Board, devices: &Devices) -> Option<Vec<u16>> {
        let changes: Vec<Change> =
            queues(devices).chain(too_small(board)).chain(too_large(devices)).chain(cores(board)).collect();
        board.control.queues_unserved.set(unserved(devices));
        board.control.lcores_moved.set(changes.iter().filter(|change| change.part == Part::Core).count() as u64);
        let before = board.changes.replace(changes.clone());
        for change in changes.iter().filter(|change| !before.contains(change)) {
            tracing::warn!("{}", change.text);
        }
        for change in before.iter().filter(|change| !changes.iter().any(|now| now.is_about(change))) {
            tracing::info!("{}", over(change));
        }
        let mtus = port_mtus(&self.common, board.views());
        (mtus != self.mtus).then_some(mtus)
    }

    /// The role now knows these largest packets.
    pub fn set_mtus(&mut self, board: &Board, mtus: Vec<u16>) {
        for (id, (now, was)) in mtus.iter().zip(&self.mtus).enumerate().filter(|(_, (now, was))| now != was) {
            let what =
                if board.is_gateway() { "routes follow" } else { "its gateways hear of it with the next heartbeats" };
            tracing::info!("port {id}: the largest packet has {now} bytes from now on, it had {was}: {what}");
            board.control.mtu_changes.add(1);
        }
        self.mtus = mtus;
    }
}

/// The largest IP packet of each port: what its queues on all lcores can send now, limited by the setting.
pub fn port_mtus<'a>(common: &Common, views: impl Iterator<Item = &'a lcore::thread::View> + Clone) -> Vec<u16> {
    let able = |id: PortId| {
        let ports = views.clone().flat_map(|view| &view.ports);
        ports.filter(|port| port.id == id).map(|port| port.about.mtu()).min()
    };
    let ids = (0..common.ports.len()).map(|id| PortId(id as u8));
    ids.map(|id| common.mtu_of(id, able(id).unwrap_or_else(|| common.mtu_of_frames()))).collect()
}

/// Number of queues that no lcore serves.
fn unserved(devices: &Devices) -> u64 {
    devices.nics.iter().map(|nic| u64::from(nic.seen().rx_queues().saturating_sub(nic.queues()))).sum()
}

fn queues(devices: &Devices) -> impl Iterator<Item = Change> {
    devices.nics.iter().filter(|nic| nic.seen().rx_queues() > nic.queues()).map(|nic| {
        let (name, has, served) = (nic.seen().name(), nic.seen().rx_queues(), nic.queues());
        Change {
            part: Part::Queues,
            port: Some(nic.id().0),
            lcore: None,
            loses: true,
            text: format!(
                "port {} (xdp:{name}): {name} has {has} receive queues now, and gvm-dp serves the {served} of its \
                 start: whoever's \
                 packets come on the others is unreachable. {}",
                nic.id().0,
                queues_remedy(&name, served, if nic.is_generic() { "" } else { nic.driver() })
            ),
        }
    })
}

/// What to do about queues that nobody serves, given the driver into which the XDP program was put.
fn queues_remedy(name: &str, served: u32, driver: &str) -> String {
    match driver {
        // It wants one more for each processor to send what XDP sends, and refuses `ethtool -L` from then on.
        "virtio_net" => format!(
            "virtio_net takes more queues when XDP begins, unless it has all: end gvm-dp, `ethtool -L {name} combined \
             N` with the largest N that `ethtool -l {name}` shows, and start gvm-dp again"
        ),
        _ => format!(
            "`ethtool -L {name} combined {served}` (or `rx {served}`), or restart gvm-dp, which then serves all"
        ),
    }
}

fn too_small(board: &Board) -> impl Iterator<Item = Change> {
    let ports = board.views().next().into_iter().flat_map(|view| &view.ports);
    ports.filter(|port| port.about.mtu() < MIN_MTU).map(|port| {
        let (id, mtu, description) = (port.id.0, port.about.mtu(), port.about.describe());
        let text = format!(
            "port {id} ({description}): an MTU of {mtu} is too small for records and heartbeats: `ip link set dev \
             IFACE mtu \
             1500`"
        );
        Change { part: Part::Mtu, port: Some(id), lcore: None, loses: true, text }
    })
}

fn too_large(devices: &Devices) -> impl Iterator<Item = Change> {
    devices.nics.iter().filter(|nic| nic.seen().mtu() > u32::from(nic.largest_packet())).map(|nic| {
        let (id, name, mtu, most) = (nic.id().0, nic.seen().name(), nic.seen().mtu(), nic.largest_packet());
        let text = format!(
            "port {id} (xdp:{name}): the MTU of {name} is {mtu} now, and frames hold packets of {most} bytes: larger \
             ones are \
             dropped. Restart gvm-dp, or `ip link set dev {name} mtu {most}`"
        );
        Change { part: Part::Mtu, port: Some(id), lcore: None, loses: false, text }
    })
}

fn cores(board: &Board) -> impl Iterator<Item = Change> {
    let moved = |lcore: &&LcoreBoard| lcore.is_moved();
    board.lcores().iter().filter(moved).map(|lcore| {
        let (index, tid, asked) = (lcore.view.index, lcore.view.tid, lcore.view.core.unwrap_or_default());
        let cores = lcore.cores();
        Change {
            part: Part::Core,
            port: None,
            lcore: Some(index),
            loses: false,
            text: format!(
                "lcore {index} was pinned to core {asked} and may run on {cores} now: a cpuset (cgroup) or taskset \
                 moved it. Give \
                 it core {asked} back (`taskset -pc {asked} {tid}`, once its cpuset has it), or restart gvm-dp with \
                     other \
                 --lcores"
            ),
        }
    })
}

/// The message when it is over.
fn over(change: &Change) -> String {
    let whose = match (change.port, change.lcore) {
        (Some(port), _) => format!("port {port}"),
        (None, Some(lcore)) => format!("lcore {lcore}"),
        (None, None) => "the process".to_owned(),
    };
    let what = match change.part {
        Part::Queues => "all receive queues of the interface are served again",
        Part::Mtu => "the MTU of the interface is one that frames hold again",
        Part::Core => "it is pinned to its core again",
    };
    format!("{whose}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_queues_is_one_that_the_driver_takes() {
        let usual = queues_remedy("eth0", 2, "igb");
        assert!(usual.starts_with("`ethtool -L eth0 combined 2` (or `rx 2`), or restart gvm-dp"), "{usual}");
        let virtio = queues_remedy("eth0", 1, "virtio_net");
        assert!(
            virtio.contains("end gvm-dp, `ethtool -L eth0 combined N`") && !virtio.contains("combined 1"),
            "{virtio}"
        );
    }
}
