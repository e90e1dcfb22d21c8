//! Receive offloads of a NIC that hide or change packets for an XDP program. They are turned off, and turned on again
//! at the end, or by the process that follows one that was killed.
//!
//! A driver that strips VLAN tags hides them from XDP, so that a peer behind a tag would be answered without one. A
//! driver that merges packets (LRO, GRO in hardware) delivers packets that are no longer ours; many refuse XDP together
//! with it.

use crate::xdp::interface::{asking_socket, request};
use crate::xdp::number::{by_name, name_of};
use crate::xdp::{Interface, XdpError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Features that break the path: the kernel's name, and the one that `ethtool -K` takes.
const UNWANTED: [(&str, &str); 3] = [("rx-vlan-hw-parse", "rxvlan"), ("rx-lro", "lro"), ("rx-gro-hw", "rx-gro-hw")];

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name.
const NAME: usize = 32;

/// The receive offloads of an interface that were turned off. Dropping this turns them on again.
pub struct Offloads {
    device: Device,
    /// How many features the kernel knows.
    count: usize,
    off: Vec<(usize, &'static str)>,
}

impl Offloads {
    /// Turns off the offloads that break the path. Before that, it calls `before` with those that are on, by their
    /// `ethtool -K` names; not when none is.
    ///
    /// # Errors
    /// One of them is on and stays on; the error names it.
    pub fn turn_off(interface: &Interface, before: impl FnOnce(&[&'static str])) -> Result<Self, XdpError> {
        let ifname = &interface.name;
        let device = Device::new(interface)?;
        let mut offloads = Self { device, count: 0, off: Vec::new() };
        let failed = |source| XdpError::Os { ifname: ifname.clone(), action: "read the names of its features", source };
        let names = offloads.device.names().map_err(failed)?;
        offloads.count = names.len();
        let bits = UNWANTED.iter().filter_map(|(name, option)| Some((bit_of(&names, name)?, *option)));
        let on: Vec<_> = bits.filter(|(bit, _)| offloads.device.is_on(names.len(), *bit)).collect();
        let options: Vec<&str> = on.iter().map(|(_, option)| *option).collect();
        if !options.is_empty() {
            before(&options);
        }
        for (bit, option) in on {
            let result = offloads.device.set(names.len(), bit, false);
            if result.is_err() || offloads.device.is_on(names.len(), bit) {
                return Err(XdpError::Offload { ifname: ifname.clone(), option });
            }
            offloads.off.push((bit, option));
        }
        if !options.is_empty() {
            tracing::info!("{ifname}: turned off until the end: {}", options.join(", "));
        }
        Ok(offloads)
    }

    /// The offloads that were turned off, by their `ethtool -K` names.
    pub fn turned_off(&self) -> impl Iterator<Item = &'static str> {
        self.off.iter().map(|(_, option)| *option)
    }

    /// Turns them on again, whatever the present name of the interface. `false` when that failed; the log has the
    /// reason.
    pub fn restore(&mut self) -> bool {
        let off = std::mem::take(&mut self.off);
        let failed = off.iter().find(|(bit, _)| !self.device.turn_on(self.count, *bit));
        if let Some((_, option)) = failed {
            self.device.complain(option);
        }
        failed.is_none()
    }

    /// Turns options on again that another process turned off and could not turn on itself; other names are skipped.
    /// `false` when that failed; the log has the reason.
    pub fn turn_on<'a>(interface: &Interface, options: impl IntoIterator<Item = &'a str>) -> bool {
        let named = Device::new(interface).map_err(|error| error.to_string()).and_then(|device| {
            let names = device.names().map_err(|error| format!("{}: its features: {error}", interface.name))?;
            Ok((device, names))
        });
        let (device, names) = match named {
            Ok(named) => named,
            Err(error) => {
                tracing::warn!("{error}");
                return false;
            }
        };
        let mut all = true;
        for option in options {
            let known = UNWANTED.iter().find(|(_, known)| *known == option);
            let Some(bit) = known.and_then(|(name, _)| bit_of(&names, name)) else { continue };
            if !device.turn_on(names.len(), bit) {
                device.complain(option);
                all = false;
            }
        }
        all
    }
}

impl Drop for Offloads {
    fn drop(&mut self) {
        self.restore();
    }
}

fn bit_of(names: &[String], name: &str) -> Option<usize> {
    names.iter().position(|known| known == name)
}

/// An interface by its number, and a socket for asking about it. Ethtool's calls take names; each call looks up the
/// name.
struct Device {
    socket: OwnedFd,
    index: u32,
    /// The name that it had.
    name: String,
}

impl Device {
    fn new(interface: &Interface) -> Result<Self, XdpError> {
        let (index, name) = (interface.index, interface.name.clone());
        match asking_socket() {
            Ok(socket) => Ok(Self { socket, index, name }),
            Err(source) => Err(XdpError::Os { ifname: name, action: "make a socket", source }),
        }
    }

    fn complain(&self, option: &str) {
        let now = name_of(self.socket.as_fd(), self.index).ok().flatten();
        let ifname = now.as_ref().unwrap_or(&self.name);
        tracing::warn!("{ifname}: cannot turn {option} on again: `ethtool -K {ifname} {option} on`");
    }

    /// Turns a feature on; also true when the interface is gone.
    fn turn_on(&self, count: usize, bit: usize) -> bool {
        match self.set(count, bit, true) {
            Err(error) => error.raw_os_error() == Some(libc::ENODEV),
            Ok(()) => true,
        }
    }

    /// Calls ethtool's ioctl on a command of words.
    ///
    /// # Safety
    /// The command does not make the kernel write past the end of the words.
    unsafe fn ethtool(&self, words: &mut [u32]) -> io::Result<()> {
        by_name(self.socket.as_fd(), self.index, |name| {
            // SAFETY: the caller guarantees it.
            unsafe { ethtool(self.socket.as_fd(), name, words) }
        })
    }

    /// The names of all features, by their bit. A driver without features has none; so has an interface that is gone.
    fn names(&self) -> io::Result<Vec<String>> {
        match self.read_names() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => Ok(Vec::new()),
            names => names,
        }
    }

    fn read_names(&self) -> io::Result<Vec<String>> {
        // `ethtool_sset_info`: command, reserved, a mask of 64 bits, one answer for each bit that is set in the mask.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        // SAFETY: one bit is set, and there is room for one answer.
        unsafe { self.ethtool(&mut info) }?;
        let count = info[4] as usize;
        if info[2] == 0 || count == 0 {
            return Ok(Vec::new());
        }
        // `ethtool_gstrings`: command, set, count, the names. The kernel fills as many as it has just reported.
        let mut strings = vec![0u32; 3 + count * NAME / 4];
        (strings[0], strings[1], strings[2]) = (ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32);
        // SAFETY: the number of features is fixed in a running kernel, and there is room for it.
        unsafe { self.ethtool(&mut strings) }?;
        let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        Ok(bytes.chunks_exact(NAME).map(name).collect())
    }

    /// Whether a feature is active.
    fn is_on(&self, count: usize, bit: usize) -> bool {
        // `ethtool_gfeatures`: command, how many blocks, and for each 32 features: available, requested, active, never
        // changed.
        let blocks = count.div_ceil(32);
        let mut words = vec![0u32; 2 + blocks * 4];
        (words[0], words[1]) = (ETHTOOL_GFEATURES, blocks as u32);
        // SAFETY: the kernel writes at most as many blocks as there is room for.
        let result = unsafe { self.ethtool(&mut words) };
        result.is_ok() && words.get(2 + bit / 32 * 4 + 2).is_some_and(|active| active & (1 << (bit % 32)) != 0)
    }

    /// Asks for a feature to be on or off.
    fn set(&self, count: usize, bit: usize, on: bool) -> io::Result<()> {
        // `ethtool_sfeatures`: command, how many blocks, and for each 32 features: which ones to change, and their new
        // values.
        let blocks = count.div_ceil(32);
        let mut words = vec![0u32; 2 + blocks * 2];
        (words[0], words[1]) = (ETHTOOL_SFEATURES, blocks as u32);
        let (at, mask) = (2 + bit / 32 * 2, 1 << (bit % 32));
        words[at] = mask;
        words[at + 1] = if on { mask } else { 0 };
        // SAFETY: the kernel only reads the words.
        unsafe { self.ethtool(&mut words) }
    }
}

/// Calls ethtool's ioctl on a command of words.
///
/// # Safety
/// The command does not make the kernel write past the end of the words.
pub(super) unsafe fn ethtool(socket: BorrowedFd<'_>, ifname: &str, words: &mut [u32]) -> io::Result<()> {
    let mut request = request(ifname.as_bytes());
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the call reads the name; the caller guarantees that it reads and writes behind `ifru_data` only inside
    // the words.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_features_and_none_of_these() {
        let lo = Interface::find("lo").unwrap();
        let device = Device::new(&lo).unwrap();
        let names = device.names().unwrap();
        assert!(UNWANTED.iter().all(|(name, _)| names.iter().any(|known| known == name)), "{names:?}");
        let bit = names.iter().position(|name| name == "loopback").unwrap();
        assert!(device.is_on(names.len(), bit));
        let mut offloads = Offloads::turn_off(&lo, |options| panic!("{options:?}")).unwrap();
        assert_eq!(offloads.turned_off().count(), 0);
        assert!(offloads.restore() && Offloads::turn_on(&lo, ["loopback", "no-such-option"]));
    }
}
