//! The records of a datagram that end inside the farm, other than PATTERN.

use crate::counters::FarmCounters;
use crate::echo::Others;
use crate::lending::{Lending, Way};
use crate::report::EventSink;
use crate::roster::Roster;
use crate::site::{Common, Site};
use frame::{Outbox, Peer, Time};
use link::NodeConfig;
use wire::{MsgType, Record};

/// Takes them, for one datagram.
pub(crate) struct Inside<'a> {
    pub(crate) now: Time,
    pub(crate) node: &'a NodeConfig,
    pub(crate) roster: &'a Roster,
    pub(crate) sites: &'a mut [Site],
    pub(crate) counters: &'a FarmCounters,
    pub(crate) sink: &'a mut EventSink,
    pub(crate) lending: Option<&'a mut Lending>,
    pub(crate) out: &'a mut Outbox,
    /// The gateway that the datagram came from; `None` if the farm answers anybody.
    pub(crate) gateway: Option<Peer>,
    /// Where it came from.
    pub(crate) from: Peer,
    /// Where answers go.
    pub(crate) back: Peer,
    /// Whether it was marked by a congested switch or gateway.
    pub(crate) ce: bool,
}

impl Inside<'_> {
    /// Where a record of the slave with this number came from, and where its answer goes.
    #[inline]
    fn way(&self, index: u32) -> Way {
        let mtu = match self.gateway {
            Some(_) => {
                let site = self.roster.group(index).and_then(|(site, local)| Some((self.sites.get(site)?, local)));
                site.and_then(|(site, local)| site.mtu_towards(self.node, local, &self.back))
            }
            None => Some(self.node.max_ip_packet),
        };
        Way { back: self.back, mtu, is_vouched: self.gateway.is_some(), ce: self.ce }
    }
}

impl Others for Inside<'_> {
    fn acknowledge(&mut self, index: u32, record: &Record<'_>) {
        let Self { now, node, roster, sites, counters, sink, gateway, from, .. } = self;
        let site = roster.group(index).and_then(|(site, local)| Some((sites.get_mut(site)?, local)));
        let common = &mut Common { config: node, now: *now, counters, sink };
        let is_known = match (site, gateway) {
            (Some((site, local)), Some(gateway)) => site.acknowledge(common, local, gateway, from, record),
            _ => false,
        };
        if !is_known {
            counters.acks_refused.add(1);
        }
    }

    #[inline]
    fn lend(&mut self, index: u32, record: &Record<'_>) -> bool {
        if self.lending.is_none() {
            return false;
        }
        let way = self.way(index);
        let Some(lending) = &mut self.lending else { return false };
        if record.header().msg_type() == MsgType::RC {
            lending.packet(self.now, index, &way, record);
        } else if !lending.message(self.now, index, &way, record, self.out) {
            self.counters.lease_unanswered.add(1);
        }
        true
    }
}
