//! The data of its interface that the program needs.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use wire::net::Mac;

/// The Ethernet address of an interface of the calling thread's network namespace; an error of `ENODEV` without one.
pub(crate) fn mac(ifname: &str) -> io::Result<Mac> {
    // SAFETY: an ifreq is plain bytes, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero, which ends the name.
    let room = request.ifr_name.len() - 1;
    if ifname.is_empty() || ifname.len() > room {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(ifname.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `request` is an ifreq that lives until the call returns, as this request demands.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that this member of the union is the one that the kernel wrote.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    Ok(std::array::from_fn(|i| address[i].cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_an_address_of_zeros_and_no_interface_has_none() {
        assert_eq!(mac("lo").unwrap(), [0; 6]);
        for name in ["", "no-such-if", "a-name-that-is-far-too-long"] {
            assert_eq!(mac(name).unwrap_err().raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
