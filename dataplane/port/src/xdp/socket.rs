//! One AF_XDP socket: its rings, binding it to a queue, and the two system calls that wake the kernel.

use crate::sockopt;
use crate::spec::XdpMode;
use crate::xdp::ledger::bind;
use crate::xdp::mode::{BoundMode, bind_flags};
use crate::xdp::ring::{Consumer, Producer};
use crate::xdp::{Interface, Umem, XdpError, interface};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many packets one TX kick moves in copy mode. libc does not have the option yet.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
const TX_BUDGET: i32 = 256;

/// How long a queue may be busy: a socket that was just closed releases it a moment later.
const BUSY: Duration = Duration::from_secs(2);

/// A socket whose rings are mapped. Closed, with all mappings, when it is dropped.
pub(super) struct Socket {
    pub(super) rx: Consumer<libc::xdp_desc>,
    pub(super) tx: Producer<libc::xdp_desc>,
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    fd: Rc<OwnedFd>,
    /// The socket whose UMEM this one shares; alive until this one is bound.
    sharer: Option<Rc<OwnedFd>>,
}

impl Socket {
    /// A socket on the arena with rings of `size` entries, not yet bound.
    pub(super) fn new(umem: &Umem, ifname: &str, size: u32) -> Result<Self, XdpError> {
        let failed = |action| move |source| XdpError::os(ifname, action, source);
        let socket = interface::xdp_socket().map_err(failed("make an AF_XDP socket"))?;
        let fd = socket.as_fd();
        let sharer = umem.sharer();
        if sharer.is_none() {
            umem.register(fd).map_err(|source| XdpError::register(umem.pool().len(), source))?;
        }
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING] {
            sockopt::set(fd, libc::SOL_XDP, ring, size as libc::c_int).map_err(failed("make its rings"))?;
        }
        // Kernels without the option move 32 packets a kick; that is slower, but not an error.
        let _ = sockopt::set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_BUDGET);
        let layout: libc::xdp_mmap_offsets =
            sockopt::get(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS).map_err(failed("read the layout of its rings"))?;
        let map = failed("map its rings");
        let (fill_at, completion_at) = (libc::XDP_UMEM_PGOFF_FILL_RING, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        Ok(Self {
            rx: Consumer::map(fd, libc::XDP_PGOFF_RX_RING, &layout.rx, size).map_err(map)?,
            tx: Producer::map(fd, libc::XDP_PGOFF_TX_RING, &layout.tx, size).map_err(map)?,
            fill: Producer::map(fd, fill_at as i64, &layout.fr, size).map_err(map)?,
            completion: Consumer::map(fd, completion_at as i64, &layout.cr, size).map_err(map)?,
            fd: Rc::new(socket),
            sharer,
        })
    }

    /// Binds the socket to a queue of an interface; waits a moment for one that was just closed.
    pub(super) fn bind(
        &mut self,
        umem: &Umem,
        interface: &Interface,
        queue: u32,
        mode: XdpMode,
    ) -> Result<(), XdpError> {
        let (flags, sharer) = match &self.sharer {
            // The first socket decides mode, wakeup and chains.
            Some(sharer) => (libc::XDP_SHARED_UMEM, sharer.as_raw_fd() as u32),
            None => (bind_flags(mode, umem.has_chains()), 0),
        };
        let deadline = Instant::now() + BUSY;
        loop {
            match bind(self.as_fd(), interface.index, queue, flags, sharer) {
                Ok(()) => break,
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => {
                    // A socket that shares the UMEM requests nothing that could be missing.
                    let chains = umem.has_chains() && self.sharer.is_none();
                    return Err(XdpError::bind(&interface.name, interface.rx_queues, queue, chains, error));
                }
            }
        }
        umem.add(&self.fd);
        self.sharer = None;
        Ok(())
    }

    /// The mode that a bound socket got.
    pub(super) fn mode(&self) -> io::Result<BoundMode> {
        let options: libc::xdp_options = sockopt::get(self.as_fd(), libc::SOL_XDP, libc::XDP_OPTIONS)?;
        Ok(BoundMode::from_options(options.flags))
    }

    /// The kernel's statistics of the socket.
    pub(super) fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        sockopt::get(self.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS)
    }

    /// Wakes the kernel for the TX ring.
    #[inline]
    pub(super) fn kick_tx(&self) -> io::Result<()> {
        // SAFETY: no buffer and no address: the call only wakes the kernel.
        let result = unsafe { libc::sendto(self.fd.as_raw_fd(), null_mut(), 0, libc::MSG_DONTWAIT, null_mut(), 0) };
        if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Wakes the kernel for the fill ring.
    #[inline]
    pub(super) fn kick_rx(&self) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: no buffer and no address: the call only wakes the kernel.
        let result = unsafe { libc::recvfrom(self.fd.as_raw_fd(), null_mut(), 0, flags, null_mut(), null_mut()) };
        if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Splits the kernel's drops (`rx_dropped`): returns how many packets were lost because no frame waited in the fill
/// ring, and how many were larger than a frame.
///
/// The first number means that we are too slow. The second says nothing about us: such a packet is mostly several
/// packets that the sender's kernel left together (GSO) on the way to a port in mode `skb`. A packet without a frame
/// finds the fill ring empty, which the kernel counts first. With chains a packet can find too few frames in a ring
/// that is not empty; but then no packet is too long for the kernel.
pub(super) fn split_drops(statistics: &libc::xdp_statistics, chains: bool) -> (u64, u64) {
    let dropped = statistics.rx_dropped;
    let lost = if chains { dropped } else { dropped.min(statistics.rx_fill_ring_empty_descs) };
    (lost, dropped - lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockopt::OptionValue;

    #[test]
    fn a_packet_that_is_too_long_is_not_lost() {
        let drops = |rx_dropped, rx_fill_ring_empty_descs, chains| {
            let zeros = libc::xdp_statistics::zeroed();
            split_drops(&libc::xdp_statistics { rx_dropped, rx_fill_ring_empty_descs, ..zeros }, chains)
        };
        assert_eq!(drops(7, 0, false), (0, 7));
        assert_eq!(drops(7, 7, false), (7, 0));
        assert_eq!(drops(9, 4, false), (4, 5));
        // A driver with zero-copy finds the ring empty before a packet comes.
        assert_eq!(drops(3, 50, false), (3, 0));
        assert_eq!(drops(7, 0, true), (7, 0));
    }
}
