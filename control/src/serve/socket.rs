//! Where control sockets are, and who owns one.
//!
//! `/run/gvm-dp/NAME.sock` for root, else `$XDG_RUNTIME_DIR/gvm-dp/NAME.sock`; `GVM_DP_RUN_DIR` names another
//! directory. Directory and sockets are private to their user. A socket that a crash left behind is taken over; one
//! that answers is an error, and so is whatever else stands there.

use crate::config::is_name;
use crate::exit::Failure;
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::net::sockopt::socket_peercred;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The directory of this user's control sockets.
pub fn directory() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let uid = rustix::process::geteuid();
    match from("GVM_DP_RUN_DIR") {
        Some(directory) => directory,
        None if uid.is_root() => PathBuf::from("/run/gvm-dp"),
        None => match from("XDG_RUNTIME_DIR") {
            Some(runtime) => runtime.join("gvm-dp"),
            // Sessions without a login manager (containers, cron) have none.
            None => std::env::temp_dir().join(format!("gvm-dp-{}", uid.as_raw())),
        },
    }
}

/// The socket of the process with this name.
pub fn path_of(name: &str) -> PathBuf {
    directory().join(format!("{name}.sock"))
}

/// The name of the process behind a socket.
pub fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(".sock")
}

/// This process's control socket; removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of the file, by which it is known from another one of the same name.
    file: (u64, u64),
}

/// Permission bits by which others could put files into a directory, or take them away.
const OTHERS_WRITE: u32 = 0o022;

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Of those that start or end at the same time, one has the directory at a time.
fn lock(directory: &Path) -> io::Result<File> {
    let lock = File::open(directory)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// The same for a tenth of a second.
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

/// The directory, made if it is not there, into which nobody else can write.
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

impl ControlSocket {
    /// Makes the socket of the process with this name, in the place of one whose process is gone.
    pub fn claim(name: &str) -> Result<Self, Failure> {
        let (directory, path) = (private_directory()?, path_of(name));
        let failed = |source| Failure::Socket { path: path.clone(), source };
        // The other one then finds this one alive.
        let _lock = lock(&directory).map_err(|source| Failure::Socket { path: directory.clone(), source })?;
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => match UnixStream::connect(&path) {
                Ok(_) => return Err(Failure::NameInUse { name: name.to_owned(), socket: path }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(&path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
            Ok(_) => return Err(Failure::NoSocket(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // From its first moment nobody else may connect.
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(&path);
        rustix::process::umask(mask);
        let listener = listener.map_err(failed)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        tracing::debug!("the control socket is {}", path.display());
        let file = identity(&std::fs::symlink_metadata(&path).map_err(failed)?);
        Ok(Self { path, listener, file })
    }

    /// Whether clients that look for this process by its name find it: nobody has removed the file, or put another one there.
    pub fn is_found(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.file)
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
        // What stands there by now may be another process's. Who starts in this moment waits for the lock; an end waits for
        // nobody for long.
        let lock = self.path.parent().and_then(lock_soon);
        if lock.is_some() && self.is_found() {
            // Whoever finds it later takes it over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether this user trusts another one with what it asks and is told: itself and root. Root trusts the user to whom the
/// directory of the sockets belongs, which is the one that the service runs as.
fn is_trusted(user: u32, owner: Option<u32>) -> bool {
    let this = rustix::process::geteuid();
    user == 0 || user == this.as_raw() || (this.is_root() && owner == Some(user))
}

/// The directory of control sockets, for a client: if it is there, nobody can have put a socket into it whom this user does
/// not trust.
pub fn trusted_directory() -> Result<PathBuf, Failure> {
    let directory = directory();
    let metadata = match std::fs::symlink_metadata(&directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(directory),
        Err(error) => return Err(Failure::Client(format!("{}: {error}", directory.display()))),
    };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_dir() || !is_trusted(owner, Some(owner)) {
        return Err(Failure::Client(format!(
            "{} is no directory of this user or of root (it belongs to user {owner}): whoever answers there may be anybody. \
             Name another one with GVM_DP_RUN_DIR",
            directory.display()
        )));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(Failure::ExposedDirectory { path: directory, mode });
    }
    Ok(directory)
}

/// Whether whoever serves a socket is one whom this user trusts. To be asked before anything is sent.
pub fn check_peer(stream: impl AsFd, socket: &Path) -> Result<(), Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::Client(format!("{}: {what}", socket.display()));
    let user = socket_peercred(stream).map_err(|error| failed(&error))?.uid.as_raw();
    let owner = socket.parent().and_then(|directory| std::fs::symlink_metadata(directory).ok()).map(|it| it.uid());
    if is_trusted(user, owner) {
        return Ok(());
    }
    Err(failed(&format!(
        "user {user} answers there, who is neither this one nor root: nothing was sent. Remove that socket, and look who \
         made it"
    )))
}

/// The sockets in a directory whose processes answer and are trusted, by name.
pub fn running(directory: PathBuf) -> Vec<(String, PathBuf)> {
    let answers = |path: &Path| UnixStream::connect(path).is_ok_and(|stream| check_peer(stream, path).is_ok());
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((name_of(&entry.path())?.to_owned(), entry.path())))
        .filter(|(name, path)| is_name(name) && answers(path))
        .collect();
    found.sort();
    found
}
