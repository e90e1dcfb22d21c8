//! One poll loop's end of a host: frames in, answers and questions out.

use super::claim::Say;
use super::table::{Change, Step};
use super::{Inner, Ip4, Mac, Shared};
use crate::neighbour::{NextHop, NextHops};
use crate::source::{is_card, is_host4};
use frame::time::{MILLISECOND, SECOND};
use frame::{Frame, Time};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use wire::net::arp::{Arp, Operation};
use wire::net::ethernet::{self, Ethernet, MacText};
use wire::net::{BROADCAST, NetError, icmp, ipv4};

frame::counters! {
    /// What the IPv4 host of a port without a kernel counts.
    pub struct HostCounters {
        /// ARP packets received.
        arp_rx,
        /// Questions for an address of ours that were answered.
        arp_replies_tx,
        /// Questions sent: for neighbours, and for and of our own addresses.
        arp_requests_tx,
        /// ARP packets that were malformed, or came from an impossible address; dropped.
        arp_dropped_malformed: drop,
        /// ICMP echo requests that were answered.
        icmp_replies_tx,
        /// ICMP packets to us that were malformed; dropped.
        icmp_dropped_malformed: drop,
        /// ICMP packets that are not answered: to others, from nobody, or no echo requests.
        icmp_ignored,
        /// ARP and ICMP packets of a VLAN that the port does not take packets from; dropped.
        host_dropped_vlan: drop,
        /// ARP and ICMP packets beyond 1,000 a second on one queue; dropped.
        host_dropped_rate: drop,
        /// ARP packets whose news was lost because another queue was at the table of neighbours; it will be asked for again.
        host_busy,
        /// Packets of other protocols, such as IPv6 and LLDP; nobody here is meant.
        host_ignored,
        /// Neighbours that became known.
        neighbours_learned,
        /// Neighbours that were found at another Ethernet address than before.
        neighbours_moved,
        /// Neighbours that did not answer in 16 seconds.
        neighbours_failed,
        /// Neighbours for which there was no room; datagrams to them are dropped.
        neighbours_full,
        /// Datagrams to an address that is in no subnet of ours, without a gateway for it.
        neighbours_no_route,
        /// ARP packets of another host that has one of our addresses.
        duplicate_addresses,
    }
}

/// The shortest Ethernet frame, without its checksum.
const SHORTEST: usize = 60;
/// Packets that a queue answers, and questions that it sends, at once.
const BURST: u64 = 64;
/// After that, one more is allowed in each period of this length.
const PACE: Time = MILLISECOND;
/// Addresses that were asked for recently and need not be asked for again, by their hash.
const ASKED: usize = 64;
/// How long "recently" is.
const MOMENT: Time = SECOND;

/// The result for a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It carries UDP, and is unchanged: [`crate::headers::Reader::receive_into`] reads it, or counts what is wrong
    /// with it.
    Datagram,
    /// It has become an answer, a whole Ethernet frame, to be sent on the port that received it.
    Reply,
    /// Nothing more is to be done with it.
    Consumed,
}

/// A token bucket: some things at once, and more at a steady pace.
struct Bucket {
    left: u64,
    at: Time,
}

impl Bucket {
    const fn new() -> Self {
        Self { left: BURST, at: 0 }
    }

    fn take(&mut self, now: Time) -> bool {
        let came = now.saturating_sub(self.at) / PACE;
        if came > 0 {
            self.left = self.left.saturating_add(came).min(BURST);
            self.at = now;
        }
        let some = self.left > 0;
        self.left -= u64::from(some);
        some
    }
}

/// A neighbour whose address is known.
#[derive(Clone, Copy)]
struct Known {
    ip: Ip4,
    mac: Mac,
    /// Whether the host must be told when the address is used, because it is no longer sure of it.
    tell: bool,
}

/// See the module's documentation in [`super`].
pub struct HostQueue {
    shared: Arc<Shared>,
    generation: u64,
    /// In the order of their addresses.
    known: Vec<Known>,
    /// Addresses that are not known and were asked for, and when.
    asked: [(Ip4, Time); ASKED],
    answers: Bucket,
    questions: Bucket,
    wants: Bucket,
    counters: Arc<HostCounters>,
}

/// The table, if nobody else uses it. A poll loop waits for no lock.
fn try_lock(shared: &Shared) -> Option<MutexGuard<'_, Inner>> {
    shared.inner.try_lock().ok()
}

fn count(change: Change, counters: &HostCounters) {
    match change {
        Change::Nothing => {}
        Change::Learned => counters.neighbours_learned.add(1),
        Change::Moved => counters.neighbours_moved.add(1),
        Change::Full => counters.neighbours_full.add(1),
    }
}

impl HostQueue {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            generation: 0,
            known: Vec::with_capacity(super::MAX_NEIGHBOURS),
            asked: [([0; 4], 0); ASKED],
            answers: Bucket::new(),
            questions: Bucket::new(),
            wants: Bucket::new(),
            counters: Arc::default(),
        }
    }

    /// The counters of this queue.
    pub fn counters(&self) -> &Arc<HostCounters> {
        &self.counters
    }

    /// Handles a received Ethernet frame that is not the usual datagram.
    #[cold]
    pub fn receive(&mut self, now: Time, frame: &mut Frame) -> Received {
        let Ok((ethernet, packet)) = Ethernet::parse(frame.data()) else {
            self.counters.host_ignored.add(1);
            return Received::Consumed;
        };
        let is_heard = self.shared.config.vlans.has(ethernet.vlan.map(|tag| tag & 0xfff));
        match (ethernet.ethertype, packet.get(9)) {
            // In a VLAN that is not ours nobody is answered, and another host with our address there does not matter.
            (ethernet::IPV4, Some(&ipv4::ICMP)) | (ethernet::ARP, _) if !is_heard => {
                self.counters.host_dropped_vlan.add(1);
                Received::Consumed
            }
            (ethernet::IPV4, Some(&ipv4::UDP)) => Received::Datagram,
            (ethernet::IPV4, Some(&ipv4::ICMP)) => {
                let ends = packet.get(12..20).and_then(|ends| ends.as_chunks().0.first_chunk::<2>().copied());
                match ends {
                    Some([from, to]) => self.echo(now, frame, &ethernet, from, to),
                    None => {
                        self.counters.icmp_dropped_malformed.add(1);
                        Received::Consumed
                    }
                }
            }
            (ethernet::ARP, _) => match Arp::parse(packet) {
                Ok(arp) => self.arp(now, frame, &ethernet, &arp),
                Err(_) => {
                    self.counters.arp_rx.add(1);
                    self.counters.arp_dropped_malformed.add(1);
                    Received::Consumed
                }
            },
            _ => {
                self.counters.host_ignored.add(1);
                Received::Consumed
            }
        }
    }

    /// Answers a ping.
    fn echo(&mut self, now: Time, frame: &mut Frame, ethernet: &Ethernet, from: Ip4, to: Ip4) -> Received {
        let config = &self.shared.config;
        let ours = ethernet.dst == config.mac && config.is_ours(to);
        if !ours || !is_card(ethernet.src) || !is_host4(from) || config.is_ours(from) {
            self.counters.icmp_ignored.add(1);
            return Received::Consumed;
        }
        if !self.answers.take(now) {
            self.counters.host_dropped_rate.add(1);
            return Received::Consumed;
        }
        match icmp::reply_in_place(frame.data_mut(), config.mac) {
            Ok(len) => {
                self.counters.icmp_replies_tx.add(1);
                pad(frame, len);
                Received::Reply
            }
            // Another message than an echo request, or one with a wrong checksum: ICMP does not tell them apart here.
            Err(NetError::Icmp) => {
                self.counters.icmp_ignored.add(1);
                Received::Consumed
            }
            Err(_) => {
                self.counters.icmp_dropped_malformed.add(1);
                Received::Consumed
            }
        }
    }

    /// Learns from an ARP packet, and answers it if it asks for one of our addresses.
    fn arp(&mut self, now: Time, frame: &mut Frame, ethernet: &Ethernet, arp: &Arp) -> Received {
        let (config, counters) = (&self.shared.config, &self.counters);
        counters.arp_rx.add(1);
        let nobody = arp.sender_ip == [0; 4];
        if arp.sender_mac == config.mac {
            // Our own packet, which came back.
            return Received::Consumed;
        }
        if !is_card(arp.sender_mac) || !is_card(ethernet.src) || !(nobody || is_host4(arp.sender_ip)) {
            counters.arp_dropped_malformed.add(1);
            return Received::Consumed;
        }
        if !self.answers.take(now) {
            counters.host_dropped_rate.add(1);
            return Received::Consumed;
        }
        if config.is_ours(arp.sender_ip) {
            self.contested(now, arp.sender_ip, arp.sender_mac);
            return Received::Consumed;
        }
        let asks_us = arp.operation == Operation::Request && config.is_ours(arp.target_ip);
        let on_link = config.addresses.iter().any(|net| net.has(arp.sender_ip));
        // Peers behind a tag are heard before they are answered; only those of the untagged network are asked for.
        if on_link && ethernet.vlan.is_none_or(|tci| tci & 0xfff == 0) {
            match try_lock(&self.shared) {
                Some(mut inner) => {
                    let change = if arp.operation == Operation::Reply && arp.target_mac == config.mac {
                        inner.table.answered(now, arp.sender_ip, arp.sender_mac)
                    } else {
                        inner.table.heard(now, arp.sender_ip, arp.sender_mac, asks_us)
                    };
                    count(change, counters);
                    self.shared.publish(&mut inner);
                    drop(inner);
                    self.note(change, arp);
                }
                None => counters.host_busy.add(1),
            }
        }
        let Some(reply) = arp.reply(config.mac).filter(|_| asks_us) else { return Received::Consumed };
        // The answer is no longer than the question that it overwrites.
        let Some(len) = reply.emit_frame(ethernet.vlan, frame.data_mut()) else { return Received::Consumed };
        counters.arp_replies_tx.add(1);
        pad(frame, len);
        Received::Reply
    }

    /// Logs what was learned. ARP is not on the path of cargo, and comes at a bounded rate.
    fn note(&self, change: Change, arp: &Arp) {
        let what = match change {
            Change::Nothing => return,
            Change::Learned => "is at",
            Change::Moved => "moved to",
            Change::Full => "has no room in the table of neighbours; it is at",
        };
        let (ip, mac) = (Ipv4Addr::from(arp.sender_ip), MacText(arp.sender_mac));
        tracing::debug!("{}: {ip} {what} {mac}", self.shared.config.name);
    }

    /// Another host claims one of our addresses.
    fn contested(&mut self, now: Time, ip: Ip4, mac: Mac) {
        self.counters.duplicate_addresses.add(1);
        let Some(mut inner) = try_lock(&self.shared) else { return };
        let complain = inner.claims.contested(now, ip, mac);
        self.shared.publish(&mut inner);
        drop(inner);
        if let Some(more) = complain {
            tracing::error!(
                "{}: another host, {}, has our address {}: give one of the two \
                 another address{more}",
                self.shared.config.name,
                MacText(mac),
                Ipv4Addr::from(ip)
            );
        }
    }

    /// The next Ethernet frame to be sent besides answers and datagrams; `None` when nothing is due. Call it once per
    /// poll until it returns `None`, as long as there is room to send.
    #[inline]
    pub fn next_request(&mut self, now: Time) -> Option<[u8; SHORTEST]> {
        if now < self.shared.due.load(Ordering::Relaxed) { None } else { self.make_request(now) }
    }

    #[cold]
    fn make_request(&mut self, now: Time) -> Option<[u8; SHORTEST]> {
        if !self.questions.take(now) {
            return None;
        }
        let mut inner = try_lock(&self.shared)?;
        let config = &self.shared.config;
        let request = loop {
            if let Some(say) = inner.claims.advance(now) {
                break Some(match say {
                    Say::Probe(ip) => (Arp::request(config.mac, [0; 4], ip), BROADCAST),
                    Say::Announce(ip) => (Arp::request(config.mac, ip, ip), BROADCAST),
                });
            }
            match inner.table.advance(now) {
                Step::Ask(question) => {
                    // Only neighbours in our subnets are in the table.
                    let Some((_, source)) = config.route(question.ip) else { continue };
                    let request = Arp::request(config.mac, source, question.ip);
                    tracing::trace!("{}: asks for {}", config.name, Ipv4Addr::from(question.ip));
                    break Some((request, question.to.unwrap_or(BROADCAST)));
                }
                Step::Failed => self.counters.neighbours_failed.add(1),
                Step::Rest => break None,
            }
        };
        self.shared.publish(&mut inner);
        let (request, to) = request?;
        let mut frame = [0; SHORTEST];
        request.emit_frame(None, &mut frame)?;
        if let Some(dst) = frame.first_chunk_mut::<6>() {
            *dst = to;
        }
        self.counters.arp_requests_tx.add(1);
        Some(frame)
    }

    /// Takes over what has become known since the last call.
    #[cold]
    fn refresh(&mut self) {
        let Some(inner) = try_lock(&self.shared) else { return };
        self.generation = self.shared.generation.load(Ordering::Acquire);
        self.known.clear();
        let known = inner.table.entries().iter().filter(|entry| entry.is_known());
        self.known.extend(known.map(|entry| Known {
            ip: entry.ip,
            mac: entry.mac,
            tell: entry.state == super::State::Stale,
        }));
    }

    /// Tells the host that something is to be sent to a neighbour; `false` when the host could not be told.
    fn want(&mut self, now: Time, ip: Ip4) -> bool {
        if !self.wants.take(now) {
            return false;
        }
        let Some(mut inner) = try_lock(&self.shared) else { return false };
        count(inner.table.want(now, ip), &self.counters);
        self.shared.publish(&mut inner);
        true
    }
}

impl NextHops for HostQueue {
    fn lookup(&mut self, now: Time, ip: [u8; 4]) -> Option<NextHop> {
        if self.generation != self.shared.generation.load(Ordering::Acquire) {
            self.refresh();
        }
        let Some((hop, source)) = self.shared.config.route(ip) else {
            self.counters.neighbours_no_route.add(1);
            return None;
        };
        if let Ok(at) = self.known.binary_search_by_key(&hop, |known| known.ip) {
            let Known { mac, tell, .. } = self.known[at];
            if tell && self.want(now, hop) {
                self.known[at].tell = false;
            }
            return Some(NextHop { mac, source: Some(source) });
        }
        let place = u32::from_ne_bytes(hop).wrapping_mul(0x9e37_79b1) >> (u32::BITS - ASKED.trailing_zeros());
        let (asked, at) = self.asked[place as usize];
        if (asked != hop || now >= at.saturating_add(MOMENT)) && self.want(now, hop) {
            self.asked[place as usize] = (hop, now);
        }
        None
    }
}

/// Cuts an answer to its length, and pads it to the length of the shortest frame.
fn pad(frame: &mut Frame, len: usize) {
    frame.truncate(len);
    let missing = SHORTEST.saturating_sub(len);
    // The chunk of a received frame has room for the shortest one.
    let _ = frame.append(&[0; SHORTEST][..missing]);
}
