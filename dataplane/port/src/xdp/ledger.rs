//! Which frames the kernel has, so that each comes back exactly once.

use crate::lent::Lent;
use crate::sockopt;
use crate::xdp::places::Places;
use crate::xdp::{Umem, interface, umem};
use frame::{Arena, Frame, Hugepages};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a closed socket may keep its queue before its frames are given up.
const CLOSING: Duration = Duration::from_secs(5);

/// The frames of a pool that one socket's rings, or the device behind them, own.
///
/// When the ledger is dropped it takes all of them back; the socket is closed before that.
pub(super) struct Ledger {
    lent: Lent,
    places: Places,
    /// For each frame that the kernel has as a chain, the number of descriptors that have not come back. Empty without
    /// chains.
    chained: Box<[u8]>,
    /// An unused socket of the interface's namespace: whether it can be bound shows that the kernel is done.
    probe: OwnedFd,
    ifindex: u32,
    queue: u32,
    /// Whether a device may know the frames; before that, only unread rings have them.
    bound: bool,
}

impl Ledger {
    pub(super) fn new(umem: &Umem, ifindex: u32, queue: u32) -> io::Result<Self> {
        let (lent, places) = (Lent::new(umem.pool().clone()), umem.places());
        let frames = lent.pool().slots() as usize;
        Ok(Self {
            places,
            chained: vec![0; if places.has_chains() { frames } else { 0 }].into(),
            probe: interface::xdp_socket()?,
            lent,
            ifindex,
            queue,
            bound: false,
        })
    }

    /// From now on the kernel works with the frames.
    pub(super) fn bound(&mut self) {
        self.bound = true;
    }

    /// How many frames the kernel has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.lent.len()
    }

    /// Whether the kernel has this chunk.
    pub(super) fn has(&self, index: u32) -> bool {
        self.lent.has(index)
    }

    /// Gives a frame to the kernel. Returns the address of its data in the UMEM, and the length.
    #[inline]
    pub(super) fn give(&mut self, frame: Frame) -> (u64, u32) {
        let (index, offset, len) = frame.into_index();
        self.lent.note(index);
        (self.places.start(index) + u64::from(offset), u32::from(len))
    }

    /// Gives a frame to the kernel for receiving. Returns the address of its chunk.
    #[inline]
    pub(super) fn give_whole(&mut self, frame: Frame) -> u64 {
        let start = self.places.start(frame.index());
        self.give(frame);
        start
    }

    /// Whether a frame may take several descriptors.
    #[inline]
    pub(super) fn has_chains(&self) -> bool {
        self.places.has_chains()
    }

    /// How many descriptors a frame needs whose data is `len` bytes at `headroom`.
    pub(super) fn descriptors(&self, headroom: usize, len: usize) -> u32 {
        // Each frame begins at the start of a kernel chunk.
        let unit = self.places.unit() as usize;
        ((headroom + len).div_ceil(unit) - headroom / unit).max(1) as u32
    }

    /// Gives a frame to the kernel for sending, in as many descriptors as it needs.
    pub(super) fn give_chain(&mut self, frame: Frame, mut push: impl FnMut(libc::xdp_desc)) {
        let index = frame.index() as usize;
        let (mut addr, mut left) = self.give(frame);
        let mut pieces = 0;
        loop {
            let len = left.min(self.places.room(addr));
            left -= len;
            let options = if left > 0 { libc::XDP_PKT_CONTD } else { 0 };
            push(libc::xdp_desc { addr, len, options });
            addr += u64::from(len);
            pieces += 1;
            if left == 0 {
                break;
            }
        }
        if let Some(chained) = self.chained.get_mut(index) {
            *chained = pieces;
        }
    }

    /// Where the bytes are that the kernel names by `address`; meaningless if it names none.
    #[inline]
    pub(super) fn address(&self, address: u64) -> *const u8 {
        self.lent.pool().base().as_ptr().wrapping_add(address as usize)
    }

    /// Takes a frame back whose data is now `len` bytes at `address`; `None` if the kernel does not have that frame.
    ///
    /// # Safety
    /// The kernel returned this address in an RX or completion ring: it no longer uses the chunk.
    #[inline]
    pub(super) unsafe fn take(&mut self, address: u64, len: u32) -> Option<Frame> {
        let (index, offset) = self.places.find(address);
        // SAFETY: the caller guarantees that the kernel no longer uses the chunk.
        unsafe { self.lent.take(index, offset, len) }
    }

    /// Takes back one descriptor of a frame that was sent. The frame is returned with the last of its descriptors; the
    /// kernel may return them in any order. An error when the kernel does not have that frame.
    ///
    /// # Safety
    /// The kernel returned this address in the completion ring: it no longer uses the bytes there.
    #[inline]
    pub(super) unsafe fn take_sent(&mut self, address: u64) -> Result<Option<Frame>, ()> {
        if self.places.has_chains()
            && let Some(left) = self.chained.get_mut(self.places.find(address).0 as usize)
        {
            *left = left.saturating_sub(1);
            if *left > 0 {
                return Ok(None);
            }
        }
        // SAFETY: the caller guarantees it for this descriptor, and did so for all others of the frame.
        unsafe { self.take(address, 0) }.map(Some).ok_or(())
    }

    /// Waits until the kernel has released the interface's queue, after the socket was closed.
    ///
    /// Closing returns before the kernel has taken its buffers back from the device. Until then the queue cannot be
    /// bound again. A bind that works, or that finds no interface any more, proves that the kernel is done.
    fn await_release(&self) -> io::Result<()> {
        let scratch = Arena::new(4096, Hugepages::Never).map_err(io::Error::other)?;
        let probe = self.probe.as_fd();
        umem::register(probe, scratch.base().as_ptr() as u64, 4096, 4096)?;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
            sockopt::set(probe, libc::SOL_XDP, ring, 2)?;
        }
        let deadline = Instant::now() + CLOSING;
        loop {
            match bind(probe, self.ifindex, self.queue, libc::XDP_COPY, 0) {
                Ok(()) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENODEV) => return Ok(()),
                    Some(libc::EBUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                    _ => return Err(error),
                },
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.lent.len() == 0 {
            return;
        }
        if self.bound
            && let Err(error) = self.await_release()
        {
            // Memory that a device may still write to is never reused.
            tracing::error!("{} frames are lost: the kernel did not release them: {error}", self.lent.len());
            return;
        }
        for index in 0..self.lent.pool().slots() {
            // SAFETY: the socket is closed, and the kernel has released its queue or never had it: it no longer uses
            // any chunk.
            drop(unsafe { self.lent.take(index.into(), 0, 0) });
        }
    }
}

/// Binds a socket to a queue; `sharer` is the descriptor of the socket whose UMEM it shares, with `XDP_SHARED_UMEM`.
pub(super) fn bind(socket: BorrowedFd<'_>, ifindex: u32, queue: u32, flags: u16, sharer: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: sharer,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: a live address of the length that is given.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Pool, PoolConfig};
    use std::io::Write as _;

    fn ledger(pool: &Pool) -> Option<Ledger> {
        match Ledger::new(&Umem::new(pool).unwrap(), 1, 0) {
            Ok(ledger) => Some(ledger),
            Err(error) if std::env::var("GVM_TESTS").as_deref() != Ok("require") => {
                let _ = writeln!(io::stderr(), "SKIPPED: cannot make an AF_XDP socket: {error}");
                None
            }
            Err(error) => panic!("cannot make an AF_XDP socket: {error}"),
        }
    }

    #[test]
    fn a_large_frame_goes_as_a_chain_and_comes_back_with_its_last_descriptor() {
        let config = PoolConfig { frames: 20, chunk: 12_288, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let pool = Pool::new(config).unwrap();
        let Some(mut ledger) = ledger(&pool) else { return };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&[7; 9014]));
            let (index, headroom) = (frame.index(), frame.headroom());
            assert_eq!(ledger.descriptors(headroom, 9014), 3);
            let mut chain = Vec::new();
            ledger.give_chain(frame, |descriptor| chain.push(descriptor));
            let start = u64::from(index) * 12_288 + headroom as u64;
            let first = 4096 - headroom as u32;
            let told: Vec<_> = chain.iter().map(|piece| (piece.addr, piece.len, piece.options)).collect();
            let second = start + u64::from(first);
            assert_eq!(told, [(start, first, 1), (second, 4096, 1), (second + 4096, 9014 - first - 4096, 0)]);
            for (number, piece) in order.into_iter().enumerate() {
                // SAFETY: there is no kernel here: nobody but this test uses the chunks.
                let back = unsafe { ledger.take_sent(chain[piece].addr) }.unwrap();
                assert_eq!((back.is_some(), ledger.has(index)), (number == 2, number < 2));
            }
            // SAFETY: as above.
            assert!(unsafe { ledger.take_sent(start) }.is_err());
        }
        let mut small = pool.alloc().unwrap();
        assert!(small.append(b"small"));
        assert_eq!(ledger.descriptors(small.headroom(), small.len()), 1);
        let mut chain = Vec::new();
        ledger.give_chain(small, |descriptor| chain.push(descriptor));
        // SAFETY: as above.
        assert!(unsafe { ledger.take_sent(chain[0].addr) }.unwrap().is_some());
        // A frame for receiving comes back with its first descriptor, even if it was in a chain before.
        let whole = ledger.give_whole(pool.alloc().unwrap());
        // SAFETY: as above.
        assert_eq!(unsafe { ledger.take(whole + 256, 3840) }.unwrap().len(), 3840);
        assert_eq!(ledger.len(), 0);
    }

    #[test]
    fn a_frame_comes_back_once_and_only_if_it_was_given() {
        let config = PoolConfig { frames: 100, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let pool = Pool::new(config).unwrap();
        let Some(mut ledger) = ledger(&pool) else { return };
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"0123456789"));
        let (index, headroom) = (frame.index(), frame.headroom() as u64);
        let (address, len) = ledger.give(frame);
        assert_eq!((address, len), (u64::from(index) * 2048 + headroom, 10));
        assert!(ledger.has(index) && ledger.len() == 1);
        // SAFETY: there is no kernel here: nobody but this test uses the chunks.
        let mut take = |address, len| unsafe { ledger.take(address, len) };
        let chunk = address - address % 2048;
        // Not given, past the arena, past the end of the chunk.
        assert!(take((chunk + 2048) % (100 * 2048), 1).is_none());
        assert!(take(100 * 2048, 1).is_none() && take(u64::MAX, 0).is_none());
        assert!(take(chunk + 2047, 2).is_none());
        let frame = take(address + 2, 8).unwrap();
        assert_eq!(frame.data(), b"23456789");
        assert!(take(address, 10).is_none());
        ledger.give(frame);
        ledger.give(pool.alloc().unwrap());
        drop(ledger);
        assert_eq!(pool.free(), pool.capacity());
    }
}
