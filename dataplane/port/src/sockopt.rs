//! Socket options, typed: the only place where a value becomes a pointer and a length.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Values that may be socket options: plain data, of which every bit pattern is valid.
///
/// # Safety
/// All bytes of a value are initialised (no padding that matters), and any bytes make a value.
pub(crate) unsafe trait OptionValue: Copy {
    /// A value of zeros.
    fn zeroed() -> Self {
        // SAFETY: any bytes make a value, so zeros do.
        unsafe { std::mem::zeroed() }
    }
}

/// The result of `SO_MEMINFO`, the memory of a socket: `SK_MEMINFO_VARS` numbers and more.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct MemInfo([u32; 9]);

impl MemInfo {
    /// Bytes that were sent and that no device has taken yet (`SK_MEMINFO_WMEM_ALLOC`).
    pub(crate) fn wmem_alloc(&self) -> u32 {
        self.0[2]
    }
}

// SAFETY: integers only.
unsafe impl OptionValue for MemInfo {}
// SAFETY: an integer.
unsafe impl OptionValue for libc::c_int {}
// SAFETY: integers only.
unsafe impl OptionValue for libc::xdp_umem_reg {}
// SAFETY: integers only.
unsafe impl OptionValue for libc::xdp_mmap_offsets {}
// SAFETY: integers only.
unsafe impl OptionValue for libc::xdp_statistics {}
// SAFETY: integers only.
unsafe impl OptionValue for libc::xdp_options {}

/// Sets an option.
pub(crate) fn set<T: OptionValue>(fd: BorrowedFd<'_>, level: i32, name: i32, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from a live value of that size; it checks level, name and length.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option. Fields that an older kernel does not fill stay zero.
pub(crate) fn get<T: OptionValue>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = T::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to a live value of that size, of which any bytes are valid.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
