//! What the last accepted heartbeat of a node said, and whether another one may replace it.

use crate::{Route, ip_udp_len};
use frame::{Peer, PortId, Time, Vlan};
use wire::UNPROVEN_MTU;
use wire::link::Heartbeat;

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Never was.
    Never,
    Here,
    Suspect,
    /// Was; its boot epoch and seq are remembered against replays.
    Gone,
}

/// What the last accepted heartbeat of a node said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    pub(super) boot_epoch: u64,
    pub(super) seq: u64,
    /// Of its last heartbeat, to be said back.
    pub(super) challenge: u64,
    pub(super) heard: Time,
    pub(super) peer: Peer,
    /// Largest IP packet that both ends can take, in bytes.
    limit: u16,
    /// Largest IP packet that arrived padded from its address, in bytes.
    proven: u16,
    pub(super) vcpus: u16,
    pub(super) fixed_port: bool,
    /// It signed with the older one of two keys.
    pub(super) old_key: bool,
    /// It has heard that the gateway is about to leave.
    pub(super) left: bool,
    /// It speaks version 1 of link control.
    pub(super) v1: bool,
    pub(super) state: State,
}

/// What a heartbeat with a valid tag and cookie is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A new node, a new boot, another address, or back from being gone: what was proven is forgotten.
    New,
    /// The next heartbeat of a node that is there.
    Next,
    /// The id is alive at another address.
    Duplicate,
    /// An old seq of the same boot.
    Replayed,
    /// Another boot, whose cookie is older than the last heartbeat of the one that is known.
    OtherBoot,
    /// An earlier boot, of version 1.
    OlderBoot,
    /// Of version 1, while version 2 has the id.
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

    /// What is new about a node whose heartbeat is not the next one of those before, for people.
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

    /// Judges a heartbeat whose cookie was issued at `issued`; `is_free` says that the node was silent for so long that
    /// another address may have its id.
    ///
    /// Boot epochs have no order. Which of two boots is the later one follows from the cookies, which are for one boot
    /// each: what an earlier boot sent has a cookie from before the later one was heard.
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

    /// Takes over what an accepted heartbeat says, which came in a datagram of `len` bytes to a gateway whose largest
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

    /// The gateway's largest packet towards it is `ours` from now on; what was proven stays.
    pub(super) fn shrink(&mut self, ours: u16) {
        self.limit = self.limit.min(ours);
    }

    /// A packet of so many bytes arrived from its address.
    pub(super) fn prove(&mut self, packet: u16) {
        self.proven = self.proven.max(packet);
    }

    /// Largest IP packet that is known to have arrived from its address, in bytes; 0 when none was padded.
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
