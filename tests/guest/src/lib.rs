//! Tests against software of others in virtual machines: the RoCE driver `rdma_rxe` of a Linux kernel as a peer,
//! network cards of real kinds with their drivers, behind an IOMMU ([`nics`]), and a guest that swaps to a disk on
//! slaves' memory ([`swapping`]).
//!
//! With rxe the guest's network card is a stream of frames to the test itself, so the test *is* the wire: it checks the
//! ICRC of every packet in both directions with code of its own, writes them to a file for tshark, and drops,
//! duplicates and delays some, by a seed. At the other end of the wire is a [`world::Host`]: packets made by hand, our
//! transport, or the whole binary behind a tap.
//!
//! Needs root, QEMU, a static busybox, the verbs library and Debian's kernel package, which `scripts/setup.sh` fetches;
//! without them a test says SKIPPED, or fails when the environment has `GVM_TESTS=require`. QEMU emulates the
//! processor: no KVM is needed. Processes that a test starts end with it, also when the test is killed.
#![forbid(unsafe_code)]

pub mod check;
pub mod content;
pub mod cpio;
pub mod fault;
pub mod image;
pub mod kernel;
pub mod link;
pub mod machine;
pub mod nics;
pub mod pcap;
mod program;
pub mod roce;
pub mod rxe;
pub mod shell;
pub mod swapping;
mod trunk;
pub mod verbs;
pub mod world;

use std::process::{Command, Stdio};

/// The guest's address.
pub const GUEST: [u8; 4] = [10, 9, 2, 1];
/// The address at the other end of the wire.
pub const HOST: [u8; 4] = [10, 9, 2, 254];
/// The guest's Ethernet address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 9, 2, 1];
/// The Ethernet address at the other end of the wire.
pub const HOST_MAC: [u8; 6] = [0x52, 0x54, 0, 9, 2, 0xfe];

/// Whether a guest can run here. If not, says so on standard error, or panics with `GVM_TESTS=require`.
pub fn available() -> bool {
    if !netns::available() {
        return false;
    }
    let Some(reason) = missing() else { return true };
    netns::skip(&reason);
    false
}

fn missing() -> Option<String> {
    for (program, package) in [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("dpkg-deb", "dpkg"),
        ("cc", "gcc"),
        ("rdma", "iproute2"),
        ("setpriv", "util-linux"),
    ] {
        let started = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if started.is_err() {
            return Some(format!("`{program}` is not installed: scripts/setup.sh installs {package}"));
        }
    }
    kernel::package().err()
}
