//! Messages over a `SOCK_SEQPACKET` socket, with descriptors. Nothing here waits for longer than it is told.

use crate::error::PagesError;
use channel::message::{DESCRIPTORS, MOST_BYTES, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What came over a socket.
pub(crate) enum Came {
    /// A message, and the descriptors with it.
    Bytes(Vec<u8>, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other end is gone.
    End,
}

/// Sends a message with descriptors, and does not wait.
pub(crate) fn send(socket: &OwnedFd, message: &Message, with: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&message.emit())], &mut control, flags).map(drop)
}

/// Receives a message, and does not wait.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Came, Errno> {
    let mut bytes = vec![0; MOST_BYTES + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let found = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(found) => found,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Came::Nothing),
        Err(Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN) => return Ok(Came::End),
        Err(errno) => return Err(errno),
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = message {
            descriptors.extend(found);
        }
    }
    if found.bytes == 0 {
        return Ok(Came::End);
    }
    // What was cut is no message: its parser will say so.
    bytes.truncate(if found.flags.contains(ReturnFlags::TRUNC) { 0 } else { found.bytes });
    Ok(Came::Bytes(bytes, descriptors))
}

/// A time for the kernel; `None` is for ever.
pub(crate) fn timespec(time: Option<Duration>) -> Option<Timespec> {
    time.map(|time| Timespec { tv_sec: time.as_secs().min(1 << 40) as i64, tv_nsec: time.subsec_nanos().into() })
}

/// What is left of a time.
pub(crate) fn left(until: Option<Instant>) -> Option<Duration> {
    until.map(|until| until.saturating_duration_since(Instant::now()))
}

/// Waits until a descriptor is ready, or the time is over; whether it is ready.
pub(crate) fn ready(what: impl AsFd, flags: PollFlags, until: Option<Instant>) -> Result<bool, Errno> {
    loop {
        match poll(&mut [PollFd::new(&what, flags)], timespec(left(until)).as_ref()) {
            Ok(found) => return Ok(found > 0),
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno),
        }
    }
}

/// Sends a message, and waits until the socket takes it.
pub(crate) fn send_until(
    socket: &OwnedFd,
    message: &Message,
    patience: Duration,
    until: Option<Instant>,
) -> Result<(), PagesError> {
    loop {
        match send(socket, message, &[]) {
            Ok(()) => return Ok(()),
            Err(Errno::AGAIN) => {
                if !ready(socket, PollFlags::OUT, until).map_err(PagesError::system("wait for the server"))? {
                    return Err(PagesError::NoAnswer(patience));
                }
            }
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(PagesError::ServerGone),
            Err(source) => return Err(PagesError::System { what: "send to the server of pages", source }),
        }
    }
}
