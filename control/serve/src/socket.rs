//! Where control sockets are, and which process owns one.
//!
//! `/run/gvm-dp/NAME.sock` for root, else `$XDG_RUNTIME_DIR/gvm-dp/NAME.sock`; `GVM_DP_RUN_DIR` names another
//! directory. Directory and sockets are private to their user. A socket that a crash left behind is replaced. A socket
//! that answers is an error, and so is any other file at its path.

use common::exit::Failure;
use common::sockets::{OTHERS_WRITE, directory, path_of};
use host::unix_socket::{NoUnixSocket, SocketFile, listen_at};
use rustix::fs::{FlockOperation, flock};
use rustix::net::SocketType;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;

/// This process's control socket; removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    /// `None` at the end.
    file: Option<SocketFile>,
}

/// Locks the directory. Processes that start or end at the same time do so one after the other.
fn lock(directory: &Path) -> io::Result<File> {
    let lock = File::open(directory)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// Tries to lock the directory for a tenth of a second.
fn lock_soon(directory: &Path) -> Option<File> {
    let lock = File::open(directory).ok()?;
    for _ in 0..100 {
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(lock);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    None
}

/// The directory, into which nobody else can write. It is made if it does not exist.
fn private_directory() -> Result<PathBuf, Failure> {
    let directory = directory();
    let failed = |source| Failure::Socket { path: directory.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
    let metadata = std::fs::symlink_metadata(&directory).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a directory of this user")));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(Failure::ExposedDirectory { path: directory, mode });
    }
    Ok(directory)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket has at most 107 bytes")
}

impl ControlSocket {
    /// Makes the socket of the process with this name. Replaces a socket whose process is gone.
    ///
    /// # Errors
    /// The error is [`Failure::NameInUse`] when a process with this name answers. It is [`Failure::NoSocket`] when
    /// another file is at the path. It is [`Failure::ExposedDirectory`] when other users can write into the directory.
    /// It is [`Failure::Socket`] for any other refusal of the kernel.
    pub fn claim(name: &str) -> Result<Self, Failure> {
        let (directory, path) = (private_directory()?, path_of(name));
        let failed = |source| Failure::Socket { path: path.clone(), source };
        // Another process that waits for the lock then finds this one alive.
        let _lock = lock(&directory).map_err(|source| Failure::Socket { path: directory.clone(), source })?;
        let (listener, file) = listen_at(&path, SocketType::STREAM, None, BACKLOG).map_err(|error| match error {
            NoUnixSocket::InUse => Failure::NameInUse { name: name.to_owned(), socket: path.clone() },
            NoUnixSocket::OtherFile => Failure::NoSocket(path.clone()),
            NoUnixSocket::Refused(source) => failed(source),
            NoUnixSocket::TooLong | NoUnixSocket::NoGroup(_) => failed(too_long()),
        })?;
        tracing::debug!("the control socket is {}", path.display());
        Ok(Self { path, listener: listener.into(), file: Some(file) })
    }

    /// Whether clients can find this process by its name: nobody has removed the file or replaced it.
    pub fn is_found(&self) -> bool {
        self.file.as_ref().is_some_and(SocketFile::is_found)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A listener for the runtime in which this is called.
    pub(super) fn listen(&self) -> Result<tokio::net::UnixListener, Failure> {
        let listener = self.listener.try_clone().and_then(tokio::net::UnixListener::from_std);
        listener.map_err(|source| Failure::Socket { path: self.path.clone(), source })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // By now the path may hold another process's socket. A process that starts at this moment waits for the lock;
        // an end waits only a short time.
        let lock = self.path.parent().and_then(lock_soon);
        match (self.file.take(), &lock) {
            // Otherwise the next process with this name replaces it.
            (Some(file), None) => file.leave(),
            (file, _) => drop(file),
        }
    }
}
