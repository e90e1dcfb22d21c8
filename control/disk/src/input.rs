//! Bytes that came over a connection and have no place yet.

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::os::fd::{AsFd, OwnedFd};

/// Bytes that are received at once: about two thousand heads of requests.
const SIZE: usize = 64 << 10;

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// So many bytes.
    Some(usize),
    /// Nothing yet.
    Nothing,
    /// The other end sends nothing any more.
    End,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: vec![0; SIZE].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// So many bytes have their place now.
    pub(crate) fn taken(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The place for bytes that come, if all earlier ones are taken; say how many came with [`Input::came`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    pub(crate) fn came(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Receives what is there.
    pub(crate) fn receive(&mut self, socket: &OwnedFd) -> Result<Came, Errno> {
        match recv(socket.as_fd(), self.room(), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Came::End),
            Ok((_, count)) => {
                self.came(count);
                Ok(Came::Some(count))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Came::Nothing),
            Err(errno) => Err(errno),
        }
    }
}
