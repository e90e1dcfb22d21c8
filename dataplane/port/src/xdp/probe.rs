//! Finds out whether a driver has zero-copy, before the arenas' sockets are bound: the first socket decides for all.

use crate::sockopt;
use crate::spec::XdpMode;
use crate::xdp::ledger::bind;
use crate::xdp::mode::bind_flags;
use crate::xdp::{Interface, XdpError, interface, umem};
use frame::{Arena, Hugepages};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long the queue may be busy: a socket that was just closed releases it a moment later.
const BUSY: Duration = Duration::from_secs(2);

/// The size of the temporary memory.
const SCRATCH: usize = 64 * 4096;

/// Binds a socket of its own to a queue for a moment, and returns whether that worked with zero-copy; with `chains`,
/// for packets in several descriptors.
///
/// # Errors
/// The queue is in use, or there are no AF_XDP sockets.
pub fn can_zero_copy(interface: &Interface, queue: u32, chains: bool) -> Result<bool, XdpError> {
    let ifname = &interface.name;
    let failed = |action| move |source| XdpError::os(ifname, action, source);
    let scratch = Arena::new(SCRATCH, Hugepages::Never).map_err(|error| XdpError::Os {
        ifname: ifname.clone(),
        action: "find out whether it has zero-copy",
        source: std::io::Error::other(error),
    })?;
    let socket = interface::xdp_socket().map_err(failed("make an AF_XDP socket"))?;
    let fd = socket.as_fd();
    umem::register(fd, scratch.base().as_ptr() as u64, SCRATCH as u64, 4096)
        .map_err(|source| XdpError::register(SCRATCH, source))?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING] {
        sockopt::set(fd, libc::SOL_XDP, ring, 64).map_err(failed("make its rings"))?;
    }
    let deadline = Instant::now() + BUSY;
    loop {
        let flags = bind_flags(XdpMode::ZeroCopy, chains);
        match bind(fd, interface.index, queue, flags, 0) {
            Ok(()) => return Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EBUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Some(libc::EBUSY | libc::ENODEV | libc::EPERM) => {
                    return Err(XdpError::bind(&interface.name, interface.rx_queues, queue, false, error));
                }
                // Most drivers return EOPNOTSUPP; some return other errors. Copy mode then reports the real fault.
                _ => return Ok(false),
            },
        }
    }
}
