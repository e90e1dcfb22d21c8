//! What can go wrong, and what helps.

use channel::message::{MessageError, RefusedFor};
use channel::{ChannelBroken, LayoutError};
use frame::shared::SharedError;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong, other than a single request: that has a [`Status`](crate::Status).
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// There is no socket.
    #[error("there is no socket {}: start gvm-dp master, or name the socket that it was given", .0.display())]
    NoSocket(PathBuf),
    /// There is a socket, and nobody listens.
    #[error("nobody listens at {}: the server of pages is not running, so start it", .0.display())]
    NobodyListens(PathBuf),
    /// This user may not connect.
    #[error("no permission to connect to {}: add this user to the group of the socket, then log in anew", .0.display())]
    Permission(PathBuf),
    /// Another program's socket.
    #[error("{} is not a socket for pages: name the socket of gvm-dp master", .0.display())]
    OtherSocket(PathBuf),
    /// Another server has the socket.
    #[error("another server of pages listens at {}: end it, or choose another path", .0.display())]
    InUse(PathBuf),
    /// The kernel refuses.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's error.
        source: Errno,
    },
    /// The server does not do it.
    #[error("the server of pages refuses: {reason}{}", behind(*.limit))]
    Refused {
        /// Why.
        reason: RefusedFor,
        /// The limit that the reason is about, or 0.
        limit: u64,
    },
    /// The server did not answer.
    #[error("the server of pages did not answer within {} s: see its log, or wait longer (ClientOptions::patience)",
        .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The server is gone.
    #[error("the server of pages is gone: connect again when it runs; extents of this connection are freed")]
    ServerGone,
    /// No channel can be as asked.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What the server sent is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The server gave memory that cannot be used.
    #[error(transparent)]
    Memory(#[from] SharedError),
    /// The rings make no sense any more.
    #[error(transparent)]
    Broken(#[from] ChannelBroken),
    /// A fault of the server: a message or a completion that fits nothing.
    #[error("the server of pages sent {0}: it has a fault, so report it")]
    Nonsense(&'static str),
    /// No piece of the buffers is large enough.
    #[error("no {0} bytes of buffers are free in one piece: drop buffers, or connect with larger buffers")]
    NoBuffer(usize),
    /// Bytes outside of a buffer.
    #[error("bytes {at} to {end} are not in a buffer of {len} bytes")]
    OutsideBuffer {
        /// The first of them.
        at: usize,
        /// Behind the last of them.
        end: usize,
        /// Bytes of the buffer.
        len: usize,
    },
    /// The buffer of another connection.
    #[error("a request has the buffer of another connection: take buffers from the client that posts")]
    ForeignBuffer,
}

/// The limit behind a refusal, if there is one.
fn behind(limit: u64) -> String {
    if limit == 0 { String::new() } else { format!(" (limit {limit})") }
}

impl PagesError {
    /// Whether the connection failed because no server of pages can be reached at the path. What helps then is another
    /// path, a server that runs, or a permission.
    pub const fn has_no_server(&self) -> bool {
        matches!(self, Self::NoSocket(_) | Self::NobodyListens(_) | Self::Permission(_) | Self::OtherSocket(_))
    }

    pub(crate) fn system(what: &'static str) -> impl Fn(Errno) -> Self {
        move |source| Self::System { what, source }
    }

    /// Why a socket cannot be connected to.
    pub(crate) fn connect(path: &Path, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NoSocket(path),
            Errno::CONNREFUSED => Self::NobodyListens(path),
            Errno::ACCESS | Errno::PERM => Self::Permission(path),
            Errno::PROTOTYPE => Self::OtherSocket(path),
            source => Self::System { what: "connect to the socket of the server of pages", source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_names_the_path_and_what_helps() {
        let path = Path::new("/run/gvm-dp/pages.sock");
        for (errno, remedy) in [
            (Errno::NOENT, "start gvm-dp master"),
            (Errno::CONNREFUSED, "start it"),
            (Errno::ACCESS, "add this user to the group"),
            (Errno::PROTOTYPE, "name the socket of gvm-dp master"),
        ] {
            let error = PagesError::connect(path, errno);
            let text = error.to_string();
            assert!(text.contains("/run/gvm-dp/pages.sock") && text.contains(remedy), "{text}");
            assert!(error.has_no_server(), "{text}");
        }
        let error = PagesError::connect(path, Errno::NOMEM);
        assert!(!error.has_no_server());
        let text = error.to_string();
        assert!(text.starts_with("cannot connect to the socket of the server of pages: "), "{text}");
        let refused = PagesError::Refused { reason: RefusedFor::QUOTA, limit: 8 }.to_string();
        assert!(refused.ends_with("raise its quota (limit 8)"), "{refused}");
    }
}
