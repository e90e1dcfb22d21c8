//! The largest packet of a port may change while the gateway runs, when somebody changes the MTU of its interface.

use super::Registrar;
use crate::{RouteChange, Sink};
use wire::MIN_MTU;

impl Registrar {
    /// Sets the largest IP packets of the ports from now on, in bytes, beginning with the first port; none is below
    /// 576.
    ///
    /// Routes that are too large shrink at once, and their nodes hear of it with the answer to their next heartbeat.
    /// Routes grow with that heartbeat, up to the size that a padded heartbeat has proven.
    pub fn set_port_mtus(&mut self, mtus: &[u16], sink: &mut impl Sink) {
        self.config.port_mtus = mtus.iter().map(|mtu| (*mtu).max(MIN_MTU)).collect();
        self.config.mtu = self.config.port_mtus.iter().copied().min().unwrap_or(self.config.mtu);
        for at in 0..self.table.len() {
            let presence = self.table.get(at).presence;
            let ours = self.config.mtu_of(presence.peer.port);
            let was = presence.route();
            let entry = self.table.get_mut(at);
            entry.presence.shrink(ours);
            let route = entry.presence.route();
            if route != was
                && let Some(id) = self.served.slave(at)
            {
                self.note_change(at);
                sink.route(RouteChange::Slave { id, route });
            }
        }
        for master in &mut self.masters {
            let was = master.presence.route();
            master.presence.shrink(self.config.mtu_of(master.presence.peer.port));
            let route = master.presence.route();
            if route != was {
                sink.route(RouteChange::Master { id: master.id, route });
            }
        }
    }
}
