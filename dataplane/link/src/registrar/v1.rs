//! Nodes of version 1 of link control, while they are being updated: `--accept-v1`.
//!
//! They keep the rules of version 1: a cookie without a time, and boot epochs that must grow. Messages from them and to
//! them can be replayed, as always in version 1. An id that a node of version 2 has registered is closed to version 1
//! until this gateway restarts. So a message that was recorded before an update registers nothing after it.

use super::Registrar;
use super::cookie::CookieSecret;
use super::presence::{Presence, State, Verdict};
use frame::Peer;
use wire::Record;
use wire::link::{Cookie, Heartbeat, LinkError, NodeId, v1};

impl CookieSecret {
    /// The cookie of version 1 of a node at an address; never zero, because zero means that a node has none.
    pub(super) fn version_1(&self, peer: &Peer, node: NodeId) -> Cookie {
        let mut input = [0; 26];
        input[..16].copy_from_slice(&peer.ip_octets());
        input[16..18].copy_from_slice(&peer.udp_port.to_le_bytes());
        // VLAN ids have 12 bits.
        input[18..20].copy_from_slice(&peer.vlan.vid().unwrap_or(u16::MAX).to_le_bytes());
        input[20] = peer.port.0;
        input[21] = node.role as u8;
        input[22..].copy_from_slice(&node.id.to_le_bytes());
        v1::cookie(self.mac_of(&input).to_le_bytes())
    }
}

impl Registrar {
    /// Reads a heartbeat; the second value says whether it is of version 1.
    pub(super) fn read(&self, record: &Record<'_>) -> Result<(Heartbeat, bool), LinkError> {
        match Heartbeat::parse(record) {
            Err(LinkError::Version(v1::VERSION_MAJOR)) if self.config.accept_v1 => {
                v1::parse_heartbeat(record).map(|heartbeat| (heartbeat, true))
            }
            parsed => parsed.map(|heartbeat| (heartbeat, false)),
        }
    }
}

impl Presence {
    /// Judges a heartbeat of version 1 with its cookie, as [`judge`](Self::judge) does for version 2.
    pub(super) fn judge_v1(&self, heartbeat: &Heartbeat, from: &Peer, is_free: bool, is_signed: bool) -> Verdict {
        if self.state == State::Never {
            return Verdict::New;
        }
        let same = from.is_same_origin(&self.peer, self.fixed_port || heartbeat.fixed_port);
        let same_boot = heartbeat.boot_epoch == self.boot_epoch;
        // Without a key anybody can claim a boot of the far future: that must not lock out the node itself for ever.
        let is_doubtful = !is_signed && (is_free || !self.is_present());
        if !self.v1 {
            Verdict::Downgrade
        } else if !same && self.is_present() && !is_free {
            Verdict::Duplicate
        } else if same_boot && heartbeat.seq <= self.seq {
            Verdict::Replayed
        } else if same && heartbeat.boot_epoch < self.boot_epoch && !is_doubtful {
            // Boots of two machines cannot be compared, so this is judged for one address only.
            Verdict::OlderBoot
        } else if same && same_boot && self.is_present() {
            Verdict::Next
        } else {
            Verdict::New
        }
    }
}
