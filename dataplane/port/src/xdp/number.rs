//! Interfaces by their number. The number stays as long as the interface exists; the name is for people, and may
//! change.

use crate::xdp::interface::{ask, asking_socket, request, rx_queues};
use crate::xdp::{Interface, XdpError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// An interface may be renamed between two calls that take its name, but not many times.
const TRIES: usize = 4;

impl Interface {
    /// The present data of the interface with this number, whatever its name; `None` when it does not exist any more.
    ///
    /// # Errors
    /// The kernel does not report them.
    pub fn numbered(index: u32) -> Result<Option<Self>, XdpError> {
        let failed = |source| XdpError::Os { ifname: format!("interface {index}"), action: "read its name", source };
        let socket = asking_socket().map_err(failed)?;
        for _ in 0..TRIES {
            let Some(name) = name_of(socket.as_fd(), index).map_err(failed)? else { return Ok(None) };
            match Self::find(&name) {
                Ok(interface) if interface.index == index => return Ok(Some(interface)),
                // It has been renamed.
                Ok(_) | Err(XdpError::NoInterface(_)) => {}
                // It was removed in between.
                Err(XdpError::Os { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Err(failed(io::ErrorKind::Interrupted.into()))
    }
}

/// How many receive queues of an interface are in use; `None` when it does not exist any more.
pub(crate) fn rx_queues_of(index: u32) -> io::Result<Option<u32>> {
    let socket = asking_socket()?;
    match by_name(socket.as_fd(), index, |name| Ok(rx_queues(socket.as_fd(), name.as_bytes()))) {
        Ok(queues) => Ok(Some(queues)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The present name of an interface; `None` when it does not exist.
pub(super) fn name_of(socket: BorrowedFd<'_>, index: u32) -> io::Result<Option<String>> {
    let mut request = request(b"");
    request.ifr_ifru.ifru_ifindex = index as i32;
    // SAFETY: the call reads the number and writes the name of a live `ifreq`, and nothing else.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) };
    if result != 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENODEV) { Ok(None) } else { Err(error) };
    }
    let bytes: Vec<u8> = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Calls `call` with the present name of an interface; again if it was renamed meanwhile.
///
/// # Errors
/// The error of `call`, or `ENODEV` when the interface does not exist any more.
pub(super) fn by_name<T>(
    socket: BorrowedFd<'_>,
    index: u32,
    mut call: impl FnMut(&str) -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..TRIES {
        let Some(name) = name_of(socket, index)? else { break };
        let result = call(&name);
        // SAFETY: the call succeeded and filled this member of the union, an integer.
        let is = ask(socket, name.as_bytes(), libc::SIOCGIFINDEX).map(|now| unsafe { now.ifr_ifru.ifru_ifindex });
        if is.is_ok_and(|now| now as u32 == index) {
            return result;
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_by_its_number_and_nobody_by_that_of_none() {
        assert_eq!(Interface::numbered(1).unwrap(), Some(Interface::find("lo").unwrap()));
        assert_eq!(Interface::numbered(i32::MAX as u32).unwrap(), None);
        let socket = asking_socket().unwrap();
        assert_eq!((rx_queues_of(1).unwrap(), rx_queues_of(i32::MAX as u32).unwrap()), (Some(1), None));
        assert_eq!(by_name(socket.as_fd(), 1, |name| Ok(name.to_owned())).unwrap(), "lo");
        let error = by_name(socket.as_fd(), i32::MAX as u32, |_| Ok(())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
