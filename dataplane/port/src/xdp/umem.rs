//! An arena as AF_XDP sees it: one UMEM that all sockets of an lcore share.

use crate::sockopt;
use crate::xdp::XdpError;
use crate::xdp::places::Places;
use frame::Pool;
use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};

/// The pool of one lcore, for its AF_XDP sockets.
///
/// The first socket registers the memory; further ones refer to a socket that is already bound. That socket decides
/// between zero-copy and copy for all. So all ports of one lcore that share an arena have one mode.
///
/// The kernel accepts chunks of at most a page. Larger frames, for jumbo packets, are several chunks for the kernel;
/// then a large packet comes and goes as a chain of descriptors.
pub struct Umem {
    pool: Pool,
    places: Places,
    bound: RefCell<Vec<Weak<OwnedFd>>>,
}

impl Umem {
    /// A UMEM of all the pool's chunks, which must be of 2048 bytes or a multiple of 4096.
    ///
    /// # Errors
    /// The error is [`XdpError::Chunk`] when the pool's chunks have another size.
    pub fn new(pool: &Pool) -> Result<Rc<Self>, XdpError> {
        let places = Places::of(pool.chunk()).ok_or_else(|| XdpError::Chunk(pool.chunk()))?;
        Ok(Rc::new(Self { pool: pool.clone(), places, bound: RefCell::new(Vec::new()) }))
    }

    /// Where frames are for the kernel.
    pub(super) fn places(&self) -> Places {
        self.places
    }

    /// Whether packets come in several descriptors, because a frame is larger than a kernel chunk.
    pub fn has_chains(&self) -> bool {
        self.places.has_chains()
    }

    /// The frames.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A bound socket that has the memory registered, if one is open.
    pub(super) fn sharer(&self) -> Option<Rc<OwnedFd>> {
        self.bound.borrow().iter().find_map(Weak::upgrade)
    }

    /// Registers the memory with the first socket.
    pub(super) fn register(&self, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        register(socket, self.pool.base().as_ptr() as u64, self.pool.len() as u64, self.places.unit())
    }

    /// Remembers a socket for others to share with, and forgets those that are closed.
    pub(super) fn add(&self, socket: &Rc<OwnedFd>) {
        let mut bound = self.bound.borrow_mut();
        bound.retain(|socket| socket.strong_count() > 0);
        bound.push(Rc::downgrade(socket));
    }
}

/// Registers page-aligned memory as the UMEM of a socket. The kernel pins the pages.
pub(super) fn register(socket: BorrowedFd<'_>, addr: u64, len: u64, chunk: u32) -> std::io::Result<()> {
    let region = libc::xdp_umem_reg { addr, len, chunk_size: chunk, headroom: 0, flags: 0, tx_metadata_len: 0 };
    sockopt::set(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, region)
}
