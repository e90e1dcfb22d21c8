//! Bytes between sockets and memory that processes share, without a copy in between.
//!
//! The kernel reads and writes the memory by itself, so no Rust reference points there.

use crate::shared::Shared;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The most parts of one call.
pub const MOST_PARTS: usize = 64;

/// A part of what is sent.
#[derive(Clone, Copy, Debug)]
pub enum SharedPart<'a> {
    /// Bytes of this process.
    Bytes(&'a [u8]),
    /// Bytes of shared memory. Whoever writes there meanwhile mixes them.
    Memory {
        /// The memory.
        memory: &'a Shared,
        /// The first byte.
        at: u64,
        /// How many.
        len: usize,
    },
}

const NOTHING: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "bytes that are not in the shared memory")
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn header(parts: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeros is a valid msghdr: no name, no parts, no control messages.
    let mut header = unsafe { std::mem::zeroed::<libc::msghdr>() };
    (header.msg_iov, header.msg_iovlen) = (parts.as_mut_ptr(), parts.len());
    header
}

/// Sends parts through a socket, the first [`MOST_PARTS`] of them, and does not wait. Returns how many bytes went.
///
/// # Errors
/// The kernel's: [`io::ErrorKind::WouldBlock`] if the socket has no room. [`io::ErrorKind::InvalidInput`] if bytes are
/// not in their memory.
pub fn send(socket: impl AsFd, parts: &[SharedPart<'_>]) -> io::Result<usize> {
    let mut all = [NOTHING; MOST_PARTS];
    for (to, part) in all.iter_mut().zip(parts) {
        *to = match *part {
            SharedPart::Bytes(bytes) => {
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            }
            SharedPart::Memory { memory, at, len } => {
                let place = memory.place(at, len).ok_or_else(outside)?;
                libc::iovec { iov_base: place.cast(), iov_len: len }
            }
        };
    }
    let header = header(&mut all[..parts.len().min(MOST_PARTS)]);
    // SAFETY: each part is in memory that `parts` borrows, and the kernel only reads it.
    count(unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

impl Shared {
    /// Receives from a socket, and does not wait: first `len` bytes from the byte `at` on, then `behind`. Returns how
    /// many bytes came; 0 at the end of the stream.
    ///
    /// # Errors
    /// As [`send`].
    pub fn receive(&self, socket: impl AsFd, at: u64, len: usize, behind: &mut [u8]) -> io::Result<usize> {
        let place = self.place(at, len).ok_or_else(outside)?;
        let mut parts = [
            libc::iovec { iov_base: place.cast(), iov_len: len },
            libc::iovec { iov_base: behind.as_mut_ptr().cast(), iov_len: behind.len() },
        ];
        let mut header = header(&mut parts);
        // SAFETY: so many bytes are mapped at `place`, where only atomic words point, and `behind` is borrowed for
        // writing.
        count(unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut header, libc::MSG_DONTWAIT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hugepages;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_go_through_a_socket_in_order_and_never_from_outside() {
        let memory = Shared::new(4096, Hugepages::Never).unwrap();
        let end = memory.len() as u64 * 8;
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        assert!(memory.write_bytes(3, b"shared"));
        let part = |at, len| SharedPart::Memory { memory: &memory, at, len };
        assert_eq!(send(&theirs, &[SharedPart::Bytes(b"own "), part(3, 6), SharedPart::Bytes(b"")]).unwrap(), 10);
        let mut came = [0; 10];
        ours.read_exact(&mut came).unwrap();
        assert_eq!(&came, b"own shared");
        for (at, len) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (0, usize::MAX)] {
            assert_eq!(send(&theirs, &[part(at, len)]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(memory.receive(&theirs, at, len, &mut []).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(memory.receive(&theirs, 0, 8, &mut []).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        ours.write_all(b"0123456789").unwrap();
        let mut behind = [0; 4];
        assert_eq!(memory.receive(&theirs, end - 8, 8, &mut behind).unwrap(), 10);
        let mut inside = [0; 8];
        assert!(memory.read_bytes(end - 8, &mut inside));
        assert_eq!((&inside, &behind), (b"01234567", b"89\0\0"));
        drop(ours);
        assert_eq!(memory.receive(&theirs, 0, 8, &mut []).unwrap(), 0);
    }

    #[test]
    fn more_parts_than_fit_are_left() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let parts = vec![SharedPart::Bytes(b"x"); MOST_PARTS + 9];
        assert_eq!(send(&theirs, &parts).unwrap(), MOST_PARTS);
        drop(theirs);
        let mut came = Vec::new();
        ours.read_to_end(&mut came).unwrap();
        assert_eq!(came.len(), MOST_PARTS);
    }
}
