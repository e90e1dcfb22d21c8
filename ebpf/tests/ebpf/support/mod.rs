//! A loaded program, packets for it, and their verdicts, by BPF_PROG_TEST_RUN. Needs CAP_BPF, CAP_PERFMON,
//! CAP_NET_ADMIN and CAP_NET_RAW.

use ebpf::Steer;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;

mod packet;
mod socket;
pub(crate) use packet::*;
pub(crate) use socket::socket;

/// Gives the program a socket on a queue. The socket is there until the returned descriptor is dropped.
pub(crate) fn serve(steer: &mut Steer, queue: u32) -> OwnedFd {
    let socket = socket();
    steer.set_socket(queue, socket.as_fd()).unwrap();
    socket
}

/// Moves the calling thread into a new network namespace. The threads and processes that it starts are in it, too, and
/// the namespace ends with the last of them.
pub(crate) fn enter_own_namespace() -> Option<()> {
    // SAFETY: no memory is involved; only this thread moves.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        skip(format_args!("no network namespace: {}", io::Error::last_os_error()));
        return None;
    }
    if let Err(error) = Command::new("ip").arg("-Version").output() {
        skip(format_args!("cannot run `ip` ({error}): `apt-get install -y iproute2`"));
        return None;
    }
    Some(())
}

/// Runs `ip` in the thread's namespace, with arguments separated by blanks; returns what it printed.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The index of an interface of the thread's namespace.
pub(crate) fn index(name: &str) -> u32 {
    let line = ip(&format!("-oneline link show dev {name}"));
    line.split(':').next().and_then(|number| number.parse().ok()).expect("ip begins with the index")
}
