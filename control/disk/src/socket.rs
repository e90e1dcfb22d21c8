//! The socket on which a disk takes its clients.

use common::exit::Failure;
use host::unix_socket::{NoUnixSocket, SocketFile, listen_at};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay, socket_peercred};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, getpeername, listen, socket_with};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Why a disk has no socket.
#[derive(Debug, thiserror::Error)]
pub enum DiskSocketError {
    /// A process listens there.
    #[error("--listen {0} is in use: end the process that listens there, or choose another one")]
    InUse(String),
    /// Another file is there.
    #[error(
        "--listen unix:{}: that is not a socket, and gvm-dp removes no file that is not its own: move it away",
        .0.display()
    )]
    OtherFile(PathBuf),
    /// The path is too long for a socket.
    #[error("--listen unix:{}: a socket's path has at most 107 bytes: choose a shorter one", .0.display())]
    TooLong(PathBuf),
    /// There is no such group.
    #[error("--listen-group {0}: there is no such group on this machine: `getent group` lists them")]
    NoGroup(String),
    /// The kernel refuses.
    #[error("cannot listen at {at}: {source}")]
    Refused {
        /// Where.
        at: String,
        /// The kernel's error.
        source: io::Error,
    },
}

impl From<DiskSocketError> for Failure {
    fn from(error: DiskSocketError) -> Self {
        let text = error.to_string();
        match error {
            DiskSocketError::TooLong(_) | DiskSocketError::NoGroup(_) => Self::Usage(text),
            _ => Self::Machine(text),
        }
    }
}

/// The socket, with the file of a Unix socket.
#[derive(Debug)]
pub struct DiskSocket {
    listener: OwnedFd,
    at: String,
    file: Option<SocketFile>,
    is_unix: bool,
}

impl DiskSocket {
    /// Listens at a Unix socket. Only this user may connect, or also the members of a group. A socket at which nobody
    /// listens any more is replaced.
    ///
    /// # Errors
    /// [`DiskSocketError`].
    pub fn unix(path: &Path, group: Option<&str>) -> Result<Self, DiskSocketError> {
        let at = format!("unix:{}", path.display());
        let named = |error| match error {
            NoUnixSocket::InUse => DiskSocketError::InUse(at.clone()),
            NoUnixSocket::OtherFile => DiskSocketError::OtherFile(path.to_owned()),
            NoUnixSocket::TooLong => DiskSocketError::TooLong(path.to_owned()),
            NoUnixSocket::NoGroup(name) => DiskSocketError::NoGroup(name),
            NoUnixSocket::Refused(source) => DiskSocketError::Refused { at: at.clone(), source },
        };
        let (listener, file) = listen_at(path, SocketType::STREAM, group, BACKLOG).map_err(named)?;
        Ok(Self { listener, at, file: Some(file), is_unix: true })
    }

    /// Listens at a TCP address. Whoever reaches it may read and write the disk.
    ///
    /// # Errors
    /// [`DiskSocketError::InUse`] and [`DiskSocketError::Refused`].
    pub fn tcp(address: SocketAddr) -> Result<Self, DiskSocketError> {
        let at = format!("tcp:{address}");
        let failed = |error: Errno| match error {
            Errno::ADDRINUSE => DiskSocketError::InUse(at.clone()),
            error => DiskSocketError::Refused { at: at.clone(), source: error.into() },
        };
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let listener = socket_with(family, SocketType::STREAM, FLAGS, None).map_err(failed)?;
        set_socket_reuseaddr(&listener, true).map_err(failed)?;
        bind(&listener, &address).map_err(failed)?;
        listen(&listener, BACKLOG).map_err(failed)?;
        // A port that the kernel chose is named.
        let address = rustix::net::getsockname(&listener).ok().and_then(|name| SocketAddr::try_from(name).ok());
        let at = address.map_or(at.clone(), |address| format!("tcp:{address}"));
        Ok(Self { listener, at, file: None, is_unix: false })
    }

    /// Where it listens, as `--listen` names it.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// The directory of a Unix socket.
    pub fn directory(&self) -> Option<&Path> {
        self.file.as_ref().and_then(|file| file.path().parent())
    }

    /// Takes the file of a Unix socket, for a thread that may remove files.
    pub fn take_file(&mut self) -> Option<SocketFile> {
        self.file.take()
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The next connection, and who it is; `None` if nobody waits.
    pub(crate) fn accept(&self) -> Result<Option<(OwnedFd, String)>, Errno> {
        let socket = match accept_with(&self.listener, FLAGS) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let peer = if self.is_unix {
            socket_peercred(&socket)
                .map_or_else(|_| "a client".to_owned(), |client| format!("process {}", client.pid.as_raw_pid()))
        } else {
            // Replies are small, and each is waited for.
            let _ = set_tcp_nodelay(&socket, true);
            let address = getpeername(&socket).ok().flatten().and_then(|name| SocketAddr::try_from(name).ok());
            address.map_or_else(|| "a client".to_owned(), |address| address.to_string())
        };
        Ok(Some((socket, peer)))
    }
}
