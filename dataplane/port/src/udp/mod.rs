//! Datagrams through a socket of the kernel: works everywhere, also without privileges.
//!
//! Datagrams are received straight into frames with `recvmmsg` and sent straight from frames with `sendmmsg`, 64 to a
//! call. Several datagrams of one sender that the kernel has coalesced are cut up, and several to one receiver can
//! leave as one message (`udp::train`). The calls are our own, since `quinn-udp` sends to one destination per call.
//!
//! The socket sets DF on everything (`IP_MTU_DISCOVER`), so that a datagram larger than the path is an error here and
//! not a fragment there.
//!
//! Destinations behind slow links have separate sockets: see `udp::slow`.
//!
//! For a socket that is bound to all addresses of the host, the kernel reports the destination address of each datagram
//! (`IP_PKTINFO`), and the answer leaves from that address: see [`OwnAddresses`]. A socket that is bound to an address
//! does not need this.

mod about;
mod batch;
mod drops;
mod landed;
mod own;
mod receive;
mod slow;
mod socket;
mod train;
mod transmit;

use crate::spec::SOCKET_MTU;
use crate::udp::about::{Range, UdpAbout};
use crate::udp::batch::Batch;
use crate::udp::drops::{Drops, Settled};
use crate::udp::landed::Landed;
use crate::udp::slow::Slow;
use crate::udp::train::Trains;
use crate::watch::{Link, Seen};
use crate::{About, Port};
use frame::counter::CounterSet;
use frame::outbox::SLOW_QUEUES;
use frame::time::MILLISECOND;
use frame::{BURST, Burst, Frame, Peer, Pool, PortId, Time, TxQueue};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub use own::{MAX_OWN_ADDRESSES, OwnAddresses};
pub use socket::{UdpError, UdpOptions, UdpSockets};

frame::counters! {
    /// What a socket counts.
    pub struct UdpCounters {
        /// Datagrams received, also those that were dropped as truncated.
        rx_datagrams,
        /// Bytes of UDP payload received.
        rx_bytes,
        /// Trains received: several datagrams of one sender that the kernel handed over at once (UDP_GRO).
        rx_trains,
        /// Datagrams longer than a frame; dropped.
        rx_dropped_truncated: drop,
        /// Datagrams from a source that no sender can have; dropped.
        rx_dropped_source: drop,
        /// Datagrams with a wrong UDP checksum that the kernel dropped after it had queued them for the socket.
        rx_dropped_checksum: drop,
        /// Datagrams that the socket dropped because its receive buffer was full; a train counts as one.
        rx_lost,
        /// Polls that found no free frame to receive into; the datagrams waited in the socket.
        rx_no_frame,
        /// Datagrams to an own address beyond the 127 that are remembered; answered from one that the kernel chooses.
        rx_beyond_addresses,
        /// Errors of receive calls.
        rx_errors,
        /// Datagrams sent.
        tx_datagrams,
        /// Bytes of UDP payload sent.
        tx_bytes,
        /// Trains sent: several datagrams to one receiver that the kernel took at once (UDP_SEGMENT).
        tx_trains,
        /// Trains that the kernel refused; their datagrams were sent one by one.
        tx_trains_refused,
        /// Datagrams larger than the path's MTU; dropped.
        tx_dropped_too_long: drop,
        /// Datagrams without a route, behind a next hop that does not answer, or from an own address that is gone; dropped.
        tx_dropped_unreachable: drop,
        /// Datagrams that a firewall rule or a missing permission forbade; dropped.
        tx_dropped_not_permitted: drop,
        /// Datagrams to an IPv6 address on an IPv4 socket; dropped.
        tx_dropped_family: drop,
        /// Datagrams that the kernel refused for another reason; dropped.
        tx_dropped_other: drop,
        /// Times that the send buffer was full; the datagrams waited.
        tx_full,
        /// Destinations that have a send buffer of their own now, because theirs filled the common one.
        tx_slow_destinations: gauge,
        /// Times that a destination was given a send buffer of its own, because the common one filled.
        tx_slow_found,
        /// Times that a send buffer of slow destinations was full; their datagrams waited, or were dropped (`*_dropped_slow`).
        tx_slow_full,
        /// ICMP errors reported by the kernel: an earlier datagram found nobody.
        icmp_errors,
        /// Times that the interface with the socket's address was taken down, lost its carrier or the address.
        link_downs,
        /// 1 while the interface with the socket's address is up and has a carrier.
        link_up: gauge,
        /// Receive buffer that the kernel granted, in bytes.
        rcvbuf: gauge,
        /// Send buffer that the kernel granted, in bytes.
        sndbuf: gauge,
    }
}

/// How often the port checks whether the interface is up.
const LOOK: Time = 10 * MILLISECOND;

/// One UDP socket.
pub struct UdpPort {
    id: PortId,
    socket: UdpSocket,
    local: SocketAddr,
    range: Range,
    /// The interface with its address, if somebody follows it.
    seen: Option<Arc<Seen>>,
    /// Its link at the last check.
    link: Link,
    look_at: Time,
    pool: Pool,
    /// Empty frames to receive into; the last one is used first.
    fill: Vec<Frame>,
    /// What the kernel said of received messages. It is needed while they wait in `landed`, whatever is sent meanwhile.
    incoming: Batch,
    outgoing: Batch,
    /// What was received and is not in a burst yet.
    landed: Landed,
    /// The datagrams for this socket that the kernel dropped.
    drops: Drops,
    blocked: bool,
    slow: Slow,
    /// How many datagrams wait for each separate socket, as of the last burst.
    waiting: [usize; SLOW_QUEUES],
    /// The [`Peer::local`] of all received datagrams: [`Peer::ROCE`], or nothing.
    number: u8,
    /// Our addresses to which datagrams came, for a socket that is bound to none of them.
    own: Option<Arc<OwnAddresses>>,
    /// The address to which the last datagram came, with its number.
    last_own: (IpAddr, u8),
    counters: Arc<UdpCounters>,
}

impl UdpPort {
    /// Opens a socket on `address` (port 0: any) that receives into frames of `pool`.
    ///
    /// # Errors
    /// The address cannot be bound, or the pool's chunks are too small for datagrams.
    pub fn open(id: PortId, address: SocketAddr, pool: Pool, options: UdpOptions) -> Result<Self, UdpError> {
        let (sockets, _) = UdpSockets::open(address, 0, options)?;
        Self::on(id, sockets, pool, options)
    }

    /// The port of one lcore on sockets that were opened with the same options.
    ///
    /// # Errors
    /// The pool's chunks are too small for datagrams.
    pub fn on(id: PortId, sockets: UdpSockets, pool: Pool, options: UdpOptions) -> Result<Self, UdpError> {
        let UdpSockets { socket, apart, local } = sockets;
        // The data for which any fresh frame has room, wherever it begins; in both directions, because answers are as
        // large as requests.
        let room = pool.payload_room();
        if room < 512 {
            return Err(UdpError::Chunk { address: local, chunk: pool.chunk() });
        }
        let headers = if local.is_ipv6() { 48 } else { 28 };
        let largest = u16::try_from(room + headers).unwrap_or(u16::MAX);
        let counters = Arc::new(UdpCounters::default());
        counters.rcvbuf.set(u64::from(socket::buffer_size(socket.as_fd(), libc::SO_RCVBUF)));
        counters.sndbuf.set(u64::from(socket::buffer_size(socket.as_fd(), libc::SO_SNDBUF)));
        let got = counters.rcvbuf.get();
        if got < u64::from(options.rcvbuf) {
            tracing::warn!(
                "udp:{local}: receive buffer of {got} bytes, not {}: raise it with `sysctl -w net.core.rmem_max={}`",
                options.rcvbuf,
                options.rcvbuf / 2
            );
        }
        counters.link_up.set(1);
        let slow = Slow::new(apart, counters.sndbuf.get());
        let trains = Trains::enable(socket.as_fd(), options.coalesce, options.segment);
        let start = socket::mtu(socket.as_fd(), local.ip(), options.mtu);
        tracing::debug!(
            "udp:{local}: a socket of port {}, MTU {}, receive buffer of {got} bytes, send buffer of {} bytes, {} \
             sockets apart for slow destinations, trains {}",
            id.0,
            start.min(largest),
            counters.sndbuf.get(),
            slow.sockets(),
            match (trains.receives, trains.sends) {
                (true, true) => "received and sent",
                (true, false) => "received, not sent",
                (false, true) => "sent, not received",
                (false, false) => "neither received nor sent",
            }
        );
        Ok(Self {
            id,
            range: Range { local, start, largest, asked: options.mtu.unwrap_or(SOCKET_MTU) },
            seen: None,
            link: Link::Up,
            look_at: 0,
            socket,
            local,
            pool,
            fill: Vec::with_capacity(BURST),
            incoming: Batch::new(Trains { sends: false, ..trains }),
            outgoing: Batch::new(Trains { receives: false, ..trains }),
            landed: Landed::default(),
            drops: Drops::new(local.is_ipv6()),
            blocked: false,
            slow,
            waiting: [0; SLOW_QUEUES],
            number: if options.roce { Peer::ROCE } else { 0 },
            own: local.ip().is_unspecified().then(Arc::default),
            last_own: (local.ip(), 0),
            counters,
        })
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Has the port's other sockets give the same numbers to the host's own addresses, because they share routes. Has
    /// no effect on a socket that is bound to one address.
    pub fn share_addresses(&mut self, own: &Arc<OwnAddresses>) {
        if let Some(mine) = &mut self.own {
            *mine = Arc::clone(own);
            self.last_own.1 = 0;
        }
    }

    /// The number of our address to which a datagram came; 0 if the socket has only one, or no number is left.
    fn number_of(&mut self, own: Option<IpAddr>) -> u8 {
        let (Some(ip), Some(table)) = (own, &self.own) else { return 0 };
        let (last, number) = self.last_own;
        if number != 0 && last == ip {
            return number;
        }
        let Some(number) = table.number_of(ip) else {
            self.counters.rx_beyond_addresses.add(1);
            return 0;
        };
        self.last_own = (ip, number);
        number
    }

    /// From now on the port uses the link and the MTU of the followed interface that has its address.
    pub fn follow(&mut self, seen: &Arc<Seen>) {
        self.seen = Some(Arc::clone(seen));
    }

    /// Takes over the present state of the interface.
    #[cold]
    fn look(&mut self) {
        let link = self.seen.as_ref().map_or(Link::Up, |seen| seen.link());
        let was = std::mem::replace(&mut self.link, link);
        self.counters.link_up.set(u64::from(link == Link::Up));
        self.counters.link_downs.add(u64::from(was == Link::Up && link != Link::Up));
    }

    /// Counts the datagrams that the kernel dropped, once the reason is known.
    fn settle_drops(&mut self, now: Time) {
        if let Some(Settled { lost, damaged }) = self.drops.settle(now) {
            self.counters.rx_lost.add(lost);
            self.counters.rx_dropped_checksum.add(damaged);
        }
    }
}

/// Whether an error that ICMP reported belongs to an earlier datagram; reading it cleared it.
fn is_about_earlier(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECONNREFUSED)
}

impl Port for UdpPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        self.receive(now, burst)
    }

    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        self.transmit(now, queue)
    }

    fn housekeep(&mut self, now: Time) {
        if now >= self.look_at {
            self.look_at = now.saturating_add(LOOK);
            self.look();
            if self.slow.has_members() {
                self.review(now);
            }
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn wants_writable(&self) -> bool {
        self.blocked
    }

    fn has_received(&self) -> bool {
        !self.landed.is_empty()
    }

    fn asks_the_kernel(&self) -> bool {
        true
    }

    fn frames_held(&self) -> usize {
        self.fill.len()
    }

    fn mtu(&self) -> u16 {
        self.range.mtu(self.seen.as_deref())
    }

    fn rx_lost(&self) -> u64 {
        self.counters.rx_lost.get()
    }

    fn own_end(&self) -> Option<Peer> {
        Some(Peer::socket(self.id, self.local))
    }

    fn describe(&self) -> String {
        self.about().describe()
    }

    fn about(&self) -> Arc<dyn About> {
        let (rcvbuf, sndbuf) = (self.counters.rcvbuf.get(), self.counters.sndbuf.get());
        Arc::new(UdpAbout { id: self.id, range: self.range, rcvbuf, sndbuf, seen: self.seen.clone() })
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::clone(&self.counters) as Arc<dyn CounterSet>
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod train_tests;
