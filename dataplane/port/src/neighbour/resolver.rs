//! The thread that asks the kernel, so that poll loops do not.

use super::known::{MAX_PEERS, Neighbours, NextHop, Shared};
use crate::lock::lock;
use crate::netlink::{self, Ip4, Netlink};
use crate::worker::{Bell, ResolverError, Wait, Worker};
use std::io;
use std::sync::Arc;
use wire::net::ethernet::MacText;

/// How often all asked-for addresses are checked again: routes change without a message to us, and the kernel asks
/// again on the wire for neighbours of which it is no longer sure.
const REFRESH: Wait = Wait::milliseconds(1000);

/// Looks up peers of one interface, on a thread of its own. Dropping it ends the thread; the results stay known.
pub struct Resolver {
    shared: Arc<Shared>,
    _worker: Worker,
}

impl Resolver {
    /// Starts the thread, in the network namespace of the caller. It first calls `prepare`, which may give up
    /// privileges that a look-up does not need. A look-up needs only netlink, and CAP_NET_ADMIN to have the kernel ask
    /// on the wire.
    ///
    /// # Errors
    /// There is no netlink socket, or no thread, or `prepare` failed.
    pub fn start(
        interface: u32,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, ResolverError> {
        let failed = |action| move |source| ResolverError { action, source };
        let bell = Arc::new(Bell::new().map_err(failed("make an eventfd"))?);
        let shared = Arc::new(Shared::new(Arc::clone(&bell)));
        let netlink = Netlink::open().map_err(failed("open a netlink socket"))?;
        let changes = netlink::changes(libc::RTMGRP_NEIGH).map_err(failed("listen to its changes"))?;
        let mut table = Table { interface, netlink, peers: Vec::new() };
        let theirs = Arc::clone(&shared);
        let work = move || {
            table.take_asked(&theirs);
            theirs.publish(&table.resolve());
            if table.peers.is_empty() { Wait::FOR_EVER } else { REFRESH }
        };
        let worker = Worker::start("neighbours", bell, changes, prepare, Wait::NOT, work)?;
        Ok(Self { shared, _worker: worker })
    }

    /// A look-up for one poll loop.
    pub fn neighbours(&self) -> Neighbours {
        Neighbours::new(Arc::clone(&self.shared))
    }
}

/// A peer that was asked for.
struct Peer {
    ip: Ip4,
    hop: Option<NextHop>,
    /// Whether the log already has that it cannot be found.
    said: bool,
}

struct Table {
    interface: u32,
    netlink: Netlink,
    peers: Vec<Peer>,
}

impl Table {
    fn take_asked(&mut self, shared: &Shared) {
        // The lock is released before anything is logged, so that poll loops do not find it held.
        let asked: Vec<Ip4> = lock(&shared.asked).drain(..).collect();
        for ip in asked {
            if self.peers.len() < MAX_PEERS && self.peers.iter().all(|peer| peer.ip != ip) {
                let [a, b, c, d] = ip;
                let Self { interface, netlink, .. } = self;
                tracing::debug!(
                    "{}: a poll loop asks for the next hop towards {a}.{b}.{c}.{d}",
                    name_of(netlink, *interface)
                );
                self.peers.push(Peer { ip, hop: None, said: false });
            }
        }
    }

    /// Looks up all peers; returns the known ones.
    fn resolve(&mut self) -> Vec<(Ip4, NextHop)> {
        let Self { interface, netlink, peers } = self;
        for peer in peers {
            let [a, b, c, d] = peer.ip;
            match find(netlink, *interface, peer.ip) {
                Ok(hop) => {
                    let mac = |hop: Option<NextHop>| hop.map(|hop| hop.mac);
                    match hop {
                        Some(hop) if mac(peer.hop) != Some(hop.mac) => {
                            let mac = MacText(hop.mac);
                            tracing::debug!("{}: {a}.{b}.{c}.{d} is reached by {mac}", name_of(netlink, *interface));
                        }
                        None if peer.hop.is_some() => {
                            tracing::debug!(
                                "{}: {a}.{b}.{c}.{d} has no known next hop any more",
                                name_of(netlink, *interface)
                            );
                        }
                        _ => {}
                    }
                    peer.hop = hop;
                    peer.said = false;
                }
                Err(error) => {
                    peer.hop = None;
                    if !std::mem::replace(&mut peer.said, true) {
                        let ifname = name_of(netlink, *interface);
                        tracing::warn!(
                            "{ifname}: no next hop towards {a}.{b}.{c}.{d}: {error}; see `ip route get {a}.{b}.{c}.{d} \
                             oif \
                             {ifname}`"
                        );
                    }
                }
            }
        }
        self.peers.iter().filter_map(|peer| Some((peer.ip, peer.hop?))).collect()
    }
}

/// The present name of an interface.
fn name_of(netlink: &mut Netlink, interface: u32) -> String {
    let device = netlink.device(interface).ok().flatten();
    device.map_or_else(|| format!("interface {interface}, which is gone"), |device| device.name)
}

/// The next hop towards an address; the kernel asks on the wire if necessary.
fn find(netlink: &mut Netlink, interface: u32, ip: Ip4) -> io::Result<Option<NextHop>> {
    let hop = netlink.next_hop(interface, ip)?;
    let found = netlink.neighbour(interface, hop.ip)?;
    if !found.is_some_and(|neighbour| neighbour.fresh) {
        netlink.seek(interface, hop.ip)?;
    }
    Ok(found.map(|neighbour| NextHop { mac: neighbour.mac, source: hop.source }))
}
