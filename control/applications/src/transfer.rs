//! Messages over sockets, without waiting: an application that does not read must not stop the others.

use channel::message::{DESCRIPTORS, MOST_BYTES, Message, MessageError};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// What came over a socket.
pub(crate) enum Incoming {
    /// A message, or why it is none.
    Message(Result<Message, MessageError>),
    /// Nothing now.
    Nothing,
    /// The other end is gone.
    Closed,
}

/// The next message, if one is there. Descriptors that come with it are closed by the kernel: there is no room for
/// them.
pub(crate) fn receive(socket: impl AsFd) -> Incoming {
    // One byte more than the longest message: a longer one is cut, and no message then.
    let mut bytes = [0; MOST_BYTES + 1];
    loop {
        return match recv(&socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Incoming::Closed,
            Ok((len, _)) => Incoming::Message(Message::parse(&bytes[..len])),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Incoming::Nothing,
            Err(_) => Incoming::Closed,
        };
    }
}

/// Sends a message, with descriptors.
///
/// # Errors
/// The socket takes no more now, or the other end is gone.
pub(crate) fn send(socket: impl AsFd, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = message.emit();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        return match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}
