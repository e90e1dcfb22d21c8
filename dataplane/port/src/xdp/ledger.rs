//! Which frames the kernel has, so that each comes back exactly once.

use crate::sockopt;
use crate::xdp::{interface, umem};
use frame::{Arena, Frame, Hugepages, Pool};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a closed socket may keep its queue before its frames are given up.
const CLOSING: Duration = Duration::from_secs(5);

/// The frames of a pool that one socket's rings, or the device behind them, own: a bit for each chunk.
///
/// When it is dropped it takes all of them back; the socket is closed before that.
pub(super) struct Ledger {
    pool: Pool,
    given: Box<[u64]>,
    count: usize,
    /// An unused socket of the namespace that the interface is in: binding it shows when the kernel is done.
    probe: OwnedFd,
    ifindex: u32,
    queue: u32,
    /// Whether a device may know the frames; before that only unread rings do.
    bound: bool,
}

impl Ledger {
    pub(super) fn new(pool: Pool, ifindex: u32, queue: u32) -> io::Result<Self> {
        let words = (pool.capacity() as usize).div_ceil(64);
        Ok(Self {
            given: vec![0; words].into(),
            count: 0,
            probe: interface::xdp_socket()?,
            pool,
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
        self.count
    }

    /// Whether the kernel has this chunk.
    pub(super) fn has(&self, index: u32) -> bool {
        self.given.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Gives a frame away. Returns the address of its data in the UMEM, and the length.
    #[inline]
    pub(super) fn give(&mut self, frame: Frame) -> (u64, u32) {
        let (index, offset, len) = frame.into_index();
        self.given[index as usize / 64] |= 1 << (index % 64);
        self.count += 1;
        (u64::from(index) * u64::from(self.pool.chunk()) + u64::from(offset), u32::from(len))
    }

    /// Asks the cache for the first lines of what the kernel wrote at `address`.
    #[inline]
    pub(super) fn prefetch(&self, address: u64) {
        let chunk = u64::from(self.pool.chunk());
        self.pool.chunks().prefetch::<3>((address / chunk) as u32, (address % chunk) as u16);
    }

    /// Takes a frame back whose data is now `len` bytes at `address`; `None` if the kernel does not have that frame.
    ///
    /// # Safety
    /// The kernel returned this address in an RX or completion ring: it is done with the chunk.
    #[inline]
    pub(super) unsafe fn take(&mut self, address: u64, len: u32) -> Option<Frame> {
        let chunk = u64::from(self.pool.chunk());
        let (index, offset) = (address / chunk, address % chunk);
        let (word, bit) = (self.given.get_mut((index / 64) as usize)?, 1 << (index % 64));
        if *word & bit == 0 || offset + u64::from(len) > chunk {
            return None;
        }
        *word &= !bit;
        self.count -= 1;
        // SAFETY: the bit says that `give` had the index from `into_index` of a frame of this pool, and it is cleared,
        // so nobody takes it twice; the caller says that the kernel is done with it. The range was checked.
        Some(unsafe { self.pool.from_index(index as u32, offset as u16, len as u16) })
    }

    /// Waits until the kernel let go of the interface's queue, after the socket was closed.
    ///
    /// Closing returns before the kernel has taken its buffers back from the device. As long as it has not, the queue
    /// cannot be bound again: a bind that works, or finds no interface any more, is the proof that it has.
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
        if self.count == 0 {
            return;
        }
        if self.bound
            && let Err(error) = self.await_release()
        {
            // Never hand out memory that a device may still write to.
            tracing::error!("{} frames are lost: the kernel did not release them: {error}", self.count);
            return;
        }
        for index in 0..u64::from(self.pool.capacity()) {
            // SAFETY: the socket is closed, and the kernel let go of its queue or never had it: it is done with every
            // chunk.
            drop(unsafe { self.take(index * u64::from(self.pool.chunk()), 0) });
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
    use frame::PoolConfig;
    use std::io::Write as _;

    #[test]
    fn a_frame_comes_back_once_and_only_if_it_was_given() {
        let config = PoolConfig { frames: 100, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let pool = Pool::new(config).unwrap();
        let mut ledger = match Ledger::new(pool.clone(), 1, 0) {
            Ok(ledger) => ledger,
            Err(error) if std::env::var("GVM_TESTS").as_deref() != Ok("require") => {
                let _ = writeln!(io::stderr(), "SKIPPED: cannot make an AF_XDP socket: {error}");
                return;
            }
            Err(error) => panic!("cannot make an AF_XDP socket: {error}"),
        };
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
