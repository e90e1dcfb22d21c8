//! Which NUMA node memory comes from: the kernel's memory policies, for one mapping.

use std::io;
use std::ptr::NonNull;

/// Allocate on a node, and elsewhere when that node has no memory left.
const MPOL_PREFERRED: libc::c_int = 1;
/// Returns the number of the node that has the page at an address.
const MPOL_F_NODE_OF_ADDRESS: libc::c_ulong = 1 | 2;
/// Number of nodes that a mask has room for: the most that Linux is built for.
const MOST_NODES: usize = 1024;

/// Makes future pages of a mapping come from `node`, while the node has any.
pub(crate) fn prefer(base: NonNull<u8>, len: usize, node: u32) -> io::Result<()> {
    let mut mask = [0u64; MOST_NODES / 64];
    let bit = node as usize;
    *mask.get_mut(bit / 64).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))? |= 1 << (bit % 64);
    // SAFETY: the mask has the stated size, one bit more than is read. A policy changes where fresh pages come from and
    // never the contents of memory.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            base.as_ptr(),
            len,
            MPOL_PREFERRED,
            mask.as_ptr(),
            MOST_NODES as libc::c_ulong,
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The node of the page at an address, which must have been touched; `None` on kernels without NUMA and where a sandbox
/// forbids the system call.
pub(crate) fn node_of(address: NonNull<u8>) -> Option<u32> {
    let mut node: libc::c_int = -1;
    // SAFETY: the kernel writes one integer to `node`; without a mask nothing else is written.
    let done = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            std::ptr::null_mut::<u64>(),
            0,
            address.as_ptr(),
            MPOL_F_NODE_OF_ADDRESS,
        )
    };
    if done == 0 { u32::try_from(node).ok() } else { None }
}
