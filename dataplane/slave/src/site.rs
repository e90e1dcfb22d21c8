//! Slaves that have the same gateways, and which gateway each of them uses.
//!
//! All slaves are registered with all gateways of their site. Each sends through the gateway that
//! [`link::standing::choose`] names, and takes cargo from any of them.

use crate::counters::FarmCounters;
use crate::group::{Context, Group};
use crate::ids::Ids;
use crate::report::EventSink;
use frame::{Outbox, Peer, Time};
use link::standing::choose;
use link::{Credential, NodeConfig, NodeEvent, Standing};
use wire::Record;

/// A slave that has not sent anything yet.
const NONE: u8 = u8::MAX;

/// Data that a site gets with every call.
pub(crate) struct Common<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) now: Time,
    pub(crate) counters: &'a FarmCounters,
    pub(crate) sink: &'a mut EventSink,
}

/// Whether a datagram from `from` is one of the gateway's: a gateway sends from the address where it listens.
pub(crate) fn is_gateway(from: &Peer, gateway: &Peer) -> bool {
    from.is_same_origin(gateway, true)
}

/// See the module's documentation.
pub(crate) struct Site {
    /// The gateways in the order of preference; none for ids that are not announced.
    groups: Vec<Group>,
    /// For each slave, how many gateways have registered it.
    here: Vec<u8>,
    /// For each slave, the gateway that it uses, or `NONE`.
    uses: Vec<u8>,
}

impl Site {
    pub(crate) fn new(gateways: &[Peer], ids: &Ids, credential: &Credential, config: &NodeConfig, now: Time) -> Self {
        let slaves = ids.len() as usize;
        Self {
            groups: gateways.iter().map(|&gateway| Group::new(gateway, ids, credential, config, now)).collect(),
            here: vec![0; slaves],
            uses: vec![NONE; if gateways.len() > 1 { slaves } else { 0 }],
        }
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = &Peer> + '_ {
        self.groups.iter().map(Group::gateway)
    }

    /// The gateway whose cargo for a slave comes from here: the port of that slave's lane, if the gateway announced
    /// that it uses lanes.
    pub(crate) fn gateway_of_lane(&self, local: u32, from: &Peer) -> Option<&Peer> {
        self.groups.iter().find(|group| group.is_lane(local, from)).map(Group::gateway)
    }

    pub(crate) fn has_a_choice(&self) -> bool {
        self.groups.len() > 1
    }

    /// Replaces the keys of all slaves.
    pub(crate) fn set_credential(&mut self, credential: &Credential) {
        self.groups.iter_mut().for_each(|group| group.set_credential(credential));
    }

    /// The largest packet of the configuration changed.
    pub(crate) fn probe_again(&mut self, config: &NodeConfig) {
        self.groups.iter_mut().for_each(|group| group.probe_again(config));
    }

    /// The gateway that a slave uses now; `None` while none has registered it.
    fn pick(&mut self, common: &mut Common<'_>, local: u32) -> Option<usize> {
        let Common { config, now, counters, sink } = common;
        let standings = self.groups.iter().map(|group| group.standing(config, *now, local));
        let uses = self.uses.get_mut(local as usize)?;
        let used = Some(usize::from(*uses)).filter(|_| *uses != NONE);
        let at = choose(*now, config.interval, used, standings)?;
        let was = std::mem::replace(uses, at as u8);
        if usize::from(was) != at && was != NONE {
            counters.gateway_moves.add(1);
            self.groups.get_mut(at)?.tell(*now, config, local, NodeEvent::Chosen, sink);
        }
        Some(at)
    }

    /// Where a slave's cargo goes, and the largest IP packet for it, in bytes.
    #[inline]
    pub(crate) fn route(&mut self, common: &mut Common<'_>, local: u32) -> Option<(Peer, u16)> {
        let at = if self.has_a_choice() { self.pick(common, local)? } else { 0 };
        let group = self.groups.get(at)?;
        // The gateway learns with the next heartbeat that this end takes less than before.
        Some((*group.gateway(), group.mtu(local)?.min(common.config.max_ip_packet)))
    }

    /// The largest IP packet of a slave's cargo towards a gateway, in bytes; `None` while it is not registered there.
    #[inline]
    pub(crate) fn mtu_towards(&self, config: &NodeConfig, local: u32, gateway: &Peer) -> Option<u16> {
        let group = self.groups.iter().find(|group| is_gateway(group.gateway(), gateway))?;
        Some(group.mtu(local)?.min(config.max_ip_packet))
    }

    /// Where answers of this many bytes go instead of back to `source`. `None` unless that gateway drains or is silent.
    pub(crate) fn way_back(&mut self, common: &mut Common<'_>, local: u32, source: &Peer, len: usize) -> Option<Peer> {
        let at = self.gateways().position(|gateway| gateway == source)?;
        if matches!(self.groups.get(at)?.standing(common.config, common.now, local), Standing::Live(_)) {
            return None;
        }
        let (peer, mtu) = self.route(common, local)?;
        (peer != *source && len <= link::datagram_room(&peer, mtu)).then_some(peer)
    }

    /// Takes a HEARTBEAT_ACK for a slave, from one of its gateways; `false` if it is from none of them.
    pub(crate) fn acknowledge(
        &mut self,
        common: &mut Common<'_>,
        local: u32,
        gateway: &Peer,
        from: &Peer,
        record: &Record<'_>,
    ) -> bool {
        let Self { groups, here, .. } = self;
        let Some(group) = groups.iter_mut().find(|group| group.gateway() == gateway) else { return false };
        group.acknowledge(&mut context(common, here), local, from, record);
        // A slave that has sent nothing yet has not moved either, whichever gateway answered first.
        if self.uses.get(local as usize).is_some_and(|&used| used != NONE) {
            self.pick(common, local);
        }
        true
    }

    /// Sends what is due.
    pub(crate) fn advance(&mut self, common: &mut Common<'_>, out: &mut Outbox) {
        let Self { groups, here, .. } = self;
        groups.iter_mut().for_each(|group| group.advance(&mut context(common, here), out));
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.groups.iter().filter_map(Group::deadline).min()
    }
}

fn context<'a>(common: &'a mut Common<'_>, here: &'a mut [u8]) -> Context<'a> {
    let Common { config, now, counters, sink } = common;
    Context { config, now: *now, counters, sink, here }
}
