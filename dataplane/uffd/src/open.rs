//! How a userfaultfd is made, and why it may not be.

use crate::abi;
use crate::features::FeatureSet;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Which way of the kernel made the userfaultfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenWay {
    /// `USERFAULTFD_IOC_NEW` on `/dev/userfaultfd` (Linux 6.1): who may open the device decides.
    Device,
    /// The system call userfaultfd(2): for CAP_SYS_PTRACE, or for all with `vm.unprivileged_userfaultfd`.
    SystemCall,
}

/// Why there is no userfaultfd.
#[derive(Debug, thiserror::Error)]
pub enum UffdError {
    /// Neither way is permitted.
    #[error(
        "userfaultfd is not permitted (/dev/userfaultfd: {device}; system call: {call}): let this user open \
         /dev/userfaultfd, for example by a group (chgrp GROUP /dev/userfaultfd; chmod 660 /dev/userfaultfd), or give \
         the program CAP_SYS_PTRACE, or set the sysctl vm.unprivileged_userfaultfd to 1; in a container, its seccomp \
         profile must allow userfaultfd, too"
    )]
    NotPermitted {
        /// What the device said.
        device: io::Error,
        /// What the system call said.
        call: io::Error,
    },
    /// The kernel does not know the system call.
    #[error(
        "there is no userfaultfd here: the kernel was built without CONFIG_USERFAULTFD, or the seccomp profile of a \
         container hides it"
    )]
    NotThere,
    /// The kernel is too old, or was built without something.
    #[error("the kernel's userfaultfd lacks {missing} (it has {has}): Linux 6.8 or later has all that is needed")]
    Lacks {
        /// What was asked for and is not there.
        missing: FeatureSet,
        /// What there is.
        has: FeatureSet,
    },
    /// Only privileged programs hear of forks.
    #[error("EVENT_FORK of userfaultfd is for programs with CAP_SYS_PTRACE: run as root, or without forks")]
    ForkNotPermitted,
    /// Anything else, for example no more descriptors.
    #[error("cannot make a userfaultfd: {0}")]
    System(io::Error),
}

/// Makes a userfaultfd without a handshake. It does not block, and is closed by exec.
pub(crate) fn create(only_user_mode: bool) -> Result<(OwnedFd, OpenWay), UffdError> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | if only_user_mode { abi::USER_MODE_ONLY } else { 0 };
    let device = match by_device(flags) {
        Ok(descriptor) => return Ok((descriptor, OpenWay::Device)),
        Err(error) => error,
    };
    let call = match by_call(flags) {
        Ok(descriptor) => return Ok((descriptor, OpenWay::SystemCall)),
        Err(error) => error,
    };
    Err(match call.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => UffdError::NotPermitted { device, call },
        Some(libc::ENOSYS) => UffdError::NotThere,
        _ => UffdError::System(call),
    })
}

fn by_device(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path ends with a zero byte; the call touches no other memory.
    let device = unsafe { libc::open(c"/dev/userfaultfd".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    let device = owned(device)?;
    // SAFETY: the argument is flags, no address.
    owned(unsafe { libc::ioctl(device.as_raw_fd(), abi::NEW, flags) })
}

fn by_call(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the argument is flags, no address.
    let made = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    owned(i32::try_from(made).unwrap_or(-1))
}

/// The owner of a descriptor that the kernel has just made.
fn owned(answer: i32) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel gave this number out to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_told_all_that_helps() {
        let no = || io::Error::from_raw_os_error(libc::EACCES);
        let text = UffdError::NotPermitted { device: no(), call: no() }.to_string();
        for remedy in ["/dev/userfaultfd", "group", "CAP_SYS_PTRACE", "vm.unprivileged_userfaultfd", "seccomp"] {
            assert!(text.contains(remedy), "{text}");
        }
        let missing = FeatureSet::MOVE;
        let text = UffdError::Lacks { missing, has: FeatureSet::NONE }.to_string();
        assert!(text.contains("lacks MOVE (it has none)"), "{text}");
    }
}
