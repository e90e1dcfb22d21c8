//! The socket's file: who may connect, and whether another process has it.

use common::exit::Failure;
use host::unix_socket::{NoUnixSocket, SocketFile, listen_at};
use rustix::net::SocketType;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 16;

/// Why there is no socket for applications.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A process answers there.
    #[error(
        "the socket for applications {} is in use: a master runs already; end it, or choose another --socket",
        .0.display()
    )]
    InUse(PathBuf),
    /// Another file is there.
    #[error(
        "{} is not a socket, and gvm-dp removes no file that is not its own: move it away, or choose another --socket",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// The path is too long for a socket.
    #[error("--socket {}: a socket's path has at most 107 bytes: choose a shorter one", .0.display())]
    TooLong(PathBuf),
    /// There is no such group.
    #[error("--socket-group {0}: this machine has no such group: `getent group` lists them")]
    NoGroup(String),
    /// The kernel refuses.
    #[error("cannot make the socket for applications {}: {source}; can this user write there?", .path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        let text = error.to_string();
        match error {
            SocketError::InUse(_) => Self::ApplicationsInUse(text),
            SocketError::TooLong(_) | SocketError::NoGroup(_) => Self::Usage(text),
            SocketError::NoSocket(_) | SocketError::Refused { .. } => Self::Machine(text),
        }
    }
}

/// The socket, whose file is removed when this is dropped.
#[derive(Debug)]
pub struct ApplicationSocket {
    // Before the socket is closed, its file is gone.
    file: SocketFile,
    listener: OwnedFd,
}

impl ApplicationSocket {
    /// Makes the socket. Only this user may connect, or also the members of a group. A socket whose process is gone is
    /// replaced.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let named = |error| match error {
            NoUnixSocket::InUse => SocketError::InUse(path.to_owned()),
            NoUnixSocket::OtherFile => SocketError::NoSocket(path.to_owned()),
            NoUnixSocket::TooLong => SocketError::TooLong(path.to_owned()),
            NoUnixSocket::NoGroup(name) => SocketError::NoGroup(name),
            NoUnixSocket::Refused(source) => SocketError::Refused { path: path.to_owned(), source },
        };
        let (listener, file) = listen_at(path, SocketType::SEQPACKET, group, BACKLOG).map_err(named)?;
        Ok(Self { listener, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The listening socket.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("gvm-applications-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn the_socket_is_private_and_goes_with_its_owner() {
        let directory = directory("private");
        let path = directory.join("m.pages");
        let socket = ApplicationSocket::bind(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(ApplicationSocket::bind(&path, None), Err(SocketError::InUse(_))));
        drop(socket);
        assert!(!path.exists());
        let own = rustix::process::getegid().as_raw().to_string();
        let socket = ApplicationSocket::bind(&path, Some(&own)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        // Somebody else's file of the same name stays.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        drop(socket);
        assert!(path.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_crash_left_is_replaced_and_other_files_stay() {
        let directory = directory("crash");
        let gone = directory.join("gone.pages");
        let socket = ApplicationSocket::bind(&gone, None).unwrap();
        // As a process that is killed leaves it: the file stays, and nobody listens.
        let kept = directory.join("kept");
        std::fs::hard_link(&gone, &kept).unwrap();
        drop(socket);
        std::fs::rename(&kept, &gone).unwrap();
        ApplicationSocket::bind(&gone, None).unwrap();
        let file = directory.join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(ApplicationSocket::bind(&file, None), Err(SocketError::NoSocket(_))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_wrong_path_or_group_is_said() {
        let directory = directory("wrong");
        let long = directory.join("x".repeat(120));
        assert!(matches!(ApplicationSocket::bind(&long, None), Err(SocketError::TooLong(_))));
        let error = ApplicationSocket::bind(&directory.join("m"), Some("no such group")).unwrap_err();
        assert!(error.to_string().contains("getent group"), "{error}");
        let error = ApplicationSocket::bind(&directory.join("none/m"), None).unwrap_err();
        assert!(error.to_string().contains("can this user write there?"), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
