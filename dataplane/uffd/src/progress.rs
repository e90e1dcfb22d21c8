//! How far a call came, and what stopped it.

use std::fmt;
use std::io;

/// Why a call did not do all of its range. The kernel's answer, as it is: what it means for a page is the caller's
/// decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// EAGAIN. With no byte done: an event other than a page fault is unread, or its cause has not gone on yet; or, of
    /// MOVE, a page changed meanwhile. Behind some bytes: the next call, which begins there, names the reason.
    Again,
    /// EEXIST: the destination has a page.
    Exists,
    /// ENOENT. Of MOVE: the source has no page. Of all: the destination is not in a range that this userfaultfd has.
    NotFound,
    /// EBUSY. Of MOVE: the page is pinned, belongs to a parent or a child of a fork as well, or KSM has merged it.
    Busy,
    /// EINVAL: the range is not aligned or not mapped; or, of MOVE, one side is locked, shared or special.
    Invalid,
    /// ENOMEM: no memory, or the memory cgroup is at its limit.
    NoMemory,
    /// ESRCH: the process that had the memory has ended.
    NoProcess,
    /// Any other error number.
    Other(i32),
}

impl Obstacle {
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EAGAIN => Self::Again,
            libc::EEXIST => Self::Exists,
            libc::ENOENT => Self::NotFound,
            libc::EBUSY => Self::Busy,
            libc::EINVAL => Self::Invalid,
            libc::ENOMEM => Self::NoMemory,
            libc::ESRCH => Self::NoProcess,
            other => Self::Other(other),
        }
    }

    /// The kernel's error number.
    pub fn errno(self) -> i32 {
        match self {
            Self::Again => libc::EAGAIN,
            Self::Exists => libc::EEXIST,
            Self::NotFound => libc::ENOENT,
            Self::Busy => libc::EBUSY,
            Self::Invalid => libc::EINVAL,
            Self::NoMemory => libc::ENOMEM,
            Self::NoProcess => libc::ESRCH,
            Self::Other(errno) => errno,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno()).fmt(f)
    }
}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Progress {
    /// Bytes from the beginning of the range that were done: whole pages.
    pub bytes: u64,
    /// What stopped it; `None` when all was done.
    pub obstacle: Option<Obstacle>,
}

impl Progress {
    /// Of the call's answer, and of the field in which the kernel writes the bytes, or a negative error number.
    pub(crate) fn new(answer: Result<(), i32>, field: u64) -> Self {
        let bytes = u64::try_from(field.cast_signed()).unwrap_or(0);
        Self { bytes, obstacle: answer.err().map(Obstacle::from_errno) }
    }

    /// Whether all was done.
    pub fn is_all(self) -> bool {
        self.obstacle.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_an_error() {
        let partial = Progress::new(Err(libc::EAGAIN), 8192);
        assert_eq!(partial, Progress { bytes: 8192, obstacle: Some(Obstacle::Again) });
        // The kernel writes the error into the field, too, when nothing was done.
        let nothing = Progress::new(Err(libc::EEXIST), (-i64::from(libc::EEXIST)).cast_unsigned());
        assert_eq!(nothing, Progress { bytes: 0, obstacle: Some(Obstacle::Exists) });
        assert!(Progress::new(Ok(()), 4096).is_all());
    }

    #[test]
    fn numbers_of_errors_are_kept() {
        let all = [libc::EAGAIN, libc::EEXIST, libc::ENOENT, libc::EBUSY, libc::EINVAL, libc::ENOMEM, libc::ESRCH];
        for errno in all.into_iter().chain([libc::EFAULT]) {
            assert_eq!(Obstacle::from_errno(errno).errno(), errno);
        }
    }
}
