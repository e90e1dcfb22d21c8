//! Connections before they have a channel: how they are made, and what they can ask without one.

use crate::error::PagesError;
use crate::socket::{Came, left, ready, receive, send_until};
use channel::AreaInfo;
use channel::message::{Message, MessageBody};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two tries to connect to a server whose queue is full.
const PAUSE: Duration = Duration::from_millis(1);

/// The areas of a server: those of this user, and all of them for root. It takes no place of a client.
///
/// # Errors
/// As for [`Client::connect`](crate::Client::connect).
pub fn areas(path: impl AsRef<Path>, patience: Duration) -> Result<Vec<AreaInfo>, PagesError> {
    let until = Instant::now().checked_add(patience);
    let socket = connect_to(path.as_ref(), patience, until)?;
    let (mut all, mut tag) = (Vec::<AreaInfo>::new(), 0);
    loop {
        tag += 1;
        let after = all.last().map_or_else(String::new, |area| area.name.to_string());
        let (MessageBody::AreaList { more, areas }, _) =
            exchange(&socket, tag, MessageBody::Areas { after }, patience, until)?
        else {
            return Err(PagesError::Nonsense("another answer to AREAS"));
        };
        if more && areas.last().map(|area| &area.name) <= all.last().map(|area| &area.name) {
            return Err(PagesError::Nonsense("a list that goes back"));
        }
        all.extend(areas);
        if !more {
            return Ok(all);
        }
    }
}

/// A connected socket.
pub(crate) fn connect_to(path: &Path, patience: Duration, until: Option<Instant>) -> Result<OwnedFd, PagesError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(PagesError::system("make a socket"))?;
    let address = SocketAddrUnix::new(path).map_err(|errno| PagesError::connect(path, errno))?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The server's queue is full: it is slow to accept.
            Err(Errno::AGAIN) if left(until) != Some(Duration::ZERO) => std::thread::sleep(PAUSE),
            Err(Errno::AGAIN) => return Err(PagesError::NoAnswer(patience)),
            Err(errno) => return Err(PagesError::connect(path, errno)),
        }
    }
}

/// Asks while the connection is made, and returns the answer with its descriptors.
pub(crate) fn exchange(
    socket: &OwnedFd,
    tag: u64,
    body: MessageBody,
    patience: Duration,
    until: Option<Instant>,
) -> Result<(MessageBody, Vec<OwnedFd>), PagesError> {
    match send_until(socket, &Message { tag, body }, patience, until) {
        // It may have said why before it closed the socket.
        Ok(()) | Err(PagesError::ServerGone) => (),
        Err(error) => return Err(error),
    }
    loop {
        let came = receive(socket).map_err(PagesError::system("read from the server of pages"))?;
        match came {
            Came::End => return Err(PagesError::ServerGone),
            Came::Nothing => {
                let is_ready = ready(socket, PollFlags::IN, until).map_err(PagesError::system("wait for an answer"))?;
                if !is_ready {
                    return Err(PagesError::NoAnswer(patience));
                }
            }
            Came::Bytes(bytes, descriptors) => match Message::parse(&bytes)? {
                Message { body: MessageBody::Refused { reason, limit }, .. } => {
                    return Err(PagesError::Refused { reason, limit });
                }
                Message { tag: answered, body } if answered == tag => return Ok((body, descriptors)),
                _ => (),
            },
        }
    }
}
