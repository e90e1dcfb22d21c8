//! The data of the last accepted heartbeat of a node, and whether another heartbeat may replace it.

use crate::{Route, ip_udp_len};
use frame::{Peer, PortId, Time, Vlan};
use wire::UNPROVEN_MTU;
use wire::link::Heartbeat;

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It never was there.
    Never,
    Here,
    Suspect,
    /// It was there; its boot epoch and seq are remembered against replays.
    Gone,
}

/// The data of the last accepted heartbeat of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    pub(super) boot_epoch: u64,
    pub(super) seq: u64,
    /// The challenge of its last heartbeat, which the answer repeats.
    pub(super) challenge: u64,
    pub(super) heard: Time,
    pub(super) peer: Peer,
    /// Largest IP packet that both ends can take, in bytes.
    limit: u16,
    /// Largest IP packet that arrived padded from its address, in bytes.
    proven: u16,
    pub(super) vcpus: u16,
    pub(super) fixed_port: bool,
    /// Whether it signed with the older one of two keys.
    pub(super) old_key: bool,
    /// Whether it has heard that the gateway is about to leave.
    pub(super) left: bool,
    /// Whether it speaks version 1 of link control.
    pub(super) v1: bool,
    pub(super) state: State,
}

/// The result of judging a heartbeat with a valid tag and cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A new node, a new boot, another address, or a node that was gone and came back: the proven MTU is forgotten.
    New,
    /// The next heartbeat of a node that is there.
    Next,
    /// A live node at another address has the id.
    Duplicate,
    /// An old seq of the same boot.
    Replayed,
    /// Another boot, whose cookie is older than the last heartbeat of the known boot.
    OtherBoot,
    /// An earlier boot, of version 1.
    OlderBoot,
    /// A heartbeat of version 1, while a node of version 2 has the id.
    Downgrade,
}

impl Presence {
    pub(super) fn never() -> Self {
        Self {
            boot_epoch: 0,
            seq: 0,
            challenge: 0,
            heard: 0,
            peer: Peer::ipv4(PortId(0), [0; 4], 0, Vlan::UNTAGGED, [0; 6]),
            limit: 0,
            proven: 0,
            vcpus: 0,
            fixed_port: false,
            old_key: false,
            left: false,
            v1: false,
            state: State::Never,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        matches!(self.state, State::Here | State::Suspect)
    }

    /// What is new about a node whose heartbeat does not continue the earlier ones, as a text for people.
    pub(super) fn news(&self, from: &Peer) -> &'static str {
        match self.state {
            State::Never => "for the first time",
            State::Gone => "again, after it was gone",
            State::Here | State::Suspect if from.is_same_origin(&self.peer, self.fixed_port) => {
                "again, after a restart"
            }
            State::Here | State::Suspect => "at another address",
        }
    }

    /// Judges a heartbeat whose cookie was issued at `issued`. `is_free` says that the node was silent for so long that
    /// another address may have its id.
    ///
    /// Boot epochs have no order. The cookies show which of two boots is the later one, because a cookie is for one
    /// boot: the heartbeats of an earlier boot have cookies from before the later boot was heard.
    pub(super) fn judge(&self, heartbeat: &Heartbeat, from: &Peer, issued: Time, is_free: bool) -> Verdict {
        if self.state == State::Never {
            return Verdict::New;
        }
        let same = from.is_same_origin(&self.peer, self.fixed_port || heartbeat.fixed_port);
        let same_boot = heartbeat.boot_epoch == self.boot_epoch;
        if !same && self.is_present() && !is_free {
            Verdict::Duplicate
        } else if same_boot && heartbeat.seq <= self.seq {
            Verdict::Replayed
        } else if !same_boot && issued <= self.heard {
            Verdict::OtherBoot
        } else if same && same_boot && self.is_present() {
            Verdict::Next
        } else {
            Verdict::New
        }
    }

    /// Takes over the data of an accepted heartbeat. It came in a datagram of `len` bytes to a gateway whose largest
    /// packet is `ours`.
    pub(super) fn accept(
        &mut self,
        heartbeat: &Heartbeat,
        from: &Peer,
        now: Time,
        verdict: Verdict,
        len: usize,
        ours: u16,
    ) {
        if verdict == Verdict::New {
            self.proven = 0;
        }
        if heartbeat.padded {
            self.prove(u16::try_from(len).map_or(u16::MAX, |len| len.saturating_add(ip_udp_len(from))));
        }
        self.boot_epoch = heartbeat.boot_epoch;
        self.seq = heartbeat.seq;
        self.challenge = heartbeat.challenge;
        self.heard = now;
        self.peer = *from;
        self.limit = heartbeat.max_ip_packet.min(ours);
        self.vcpus = heartbeat.vcpus;
        self.fixed_port = heartbeat.fixed_port;
        self.state = State::Here;
    }

    /// The gateway's largest packet to it is `ours` from now on; the proven size stays.
    pub(super) fn shrink(&mut self, ours: u16) {
        self.limit = self.limit.min(ours);
    }

    /// A packet of `packet` bytes arrived from its address.
    pub(super) fn prove(&mut self, packet: u16) {
        self.proven = self.proven.max(packet);
    }

    /// Largest IP packet that is known to have arrived from its address, in bytes; 0 if no packet was padded.
    pub(super) fn proven(&self) -> u16 {
        self.proven
    }

    /// Largest IP packet that may be sent to it, in bytes.
    pub(super) fn mtu(&self) -> u16 {
        self.limit.min(self.proven.max(UNPROVEN_MTU))
    }

    /// Its route, while it is there.
    pub(super) fn route(&self) -> Option<Route> {
        self.is_present().then(|| Route { peer: self.peer, mtu: self.mtu(), fixed_port: self.fixed_port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::link::{Cookie, NodeId, SpeedClass};

    fn peer(last: u8) -> Peer {
        Peer::ipv4(PortId(0), [192, 0, 2, last], 9999, Vlan::UNTAGGED, [2; 6])
    }

    fn heartbeat(padded: bool) -> Heartbeat {
        Heartbeat {
            node: NodeId::master(1),
            fixed_port: false,
            padded,
            left: false,
            boot_epoch: 7,
            seq: 1,
            challenge: 9,
            cookie: Cookie::NONE,
            members_generation: 0,
            members_epoch: 0,
            pages_total: 0,
            pages_free: 0,
            domain: 0,
            vcpus: 0,
            max_ip_packet: 9000,
            speed_class: SpeedClass::UNKNOWN,
        }
    }

    #[test]
    fn a_proven_size_holds_until_the_node_registers_anew() {
        let mut presence = Presence::never();
        presence.accept(&heartbeat(true), &peer(1), 10, Verdict::New, 8972, 9000);
        assert_eq!((presence.proven(), presence.mtu()), (9000, 9000));
        presence.accept(&heartbeat(false), &peer(1), 20, Verdict::Next, 200, 9000);
        assert_eq!(presence.proven(), 9000, "it is the same start at the same address");
        presence.accept(&heartbeat(false), &peer(2), 30, Verdict::New, 200, 9000);
        assert_eq!((presence.proven(), presence.mtu()), (0, UNPROVEN_MTU), "nothing came from there yet");
    }

    #[test]
    fn people_are_told_what_is_new_about_a_node() {
        let mut presence = Presence::never();
        assert_eq!(presence.news(&peer(1)), "for the first time");
        presence.accept(&heartbeat(false), &peer(1), 10, Verdict::New, 200, 1500);
        assert_eq!(presence.news(&peer(1)), "again, after a restart");
        assert_eq!(presence.news(&peer(2)), "at another address");
        presence.state = State::Gone;
        assert_eq!(presence.news(&peer(1)), "again, after it was gone");
    }
}
