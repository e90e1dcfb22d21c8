//! Where control sockets are, and which answers are trusted.
//!
//! `/run/gvm-dp/NAME.sock` for root, else `$XDG_RUNTIME_DIR/gvm-dp/NAME.sock`; `GVM_DP_RUN_DIR` names another
//! directory.

use crate::exit::Failure;
use rustix::net::sockopt::socket_peercred;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
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

/// Whether a process can have this name.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.len() <= 64 && name.chars().all(is_plain)
}

/// The socket of the process with this name.
pub fn path_of(name: &str) -> PathBuf {
    directory().join(format!("{name}.sock"))
}

/// The name of the process behind a socket.
pub fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(".sock")
}

/// Permission bits that let others put files into a directory, or remove them.
pub const OTHERS_WRITE: u32 = 0o022;

/// Whether this user trusts another user with its requests and their answers. It trusts itself and root. Root also
/// trusts the user who owns the directory of the sockets, which is the user of the service.
fn is_trusted(user: u32, owner: Option<u32>) -> bool {
    let this = rustix::process::geteuid();
    user == 0 || user == this.as_raw() || (this.is_root() && owner == Some(user))
}

/// The directory of control sockets, for a client. If it exists, only users whom this user trusts can have put a socket
/// into it.
///
/// # Errors
/// The error is [`Failure::Client`] when the directory cannot be examined, or belongs to a user whom this one does not
/// trust. It is [`Failure::ExposedDirectory`] when other users can write into the directory.
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
            "{} is not a directory of this user or of root (it belongs to user {owner}): whoever answers there may be \
             anybody. \
             Name another one with GVM_DP_RUN_DIR",
            directory.display()
        )));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(Failure::ExposedDirectory { path: directory, mode });
    }
    Ok(directory)
}

/// Checks that this user trusts the process that serves a socket. Call it before anything is sent.
///
/// # Errors
/// The error is [`Failure::Client`] when the kernel does not say who serves the socket, or this user does not trust
/// that user.
pub fn check_peer(stream: impl AsFd, socket: &Path) -> Result<(), Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::Client(format!("{}: {what}", socket.display()));
    let user = socket_peercred(stream).map_err(|error| failed(&error))?.uid.as_raw();
    let owner = socket.parent().and_then(|directory| std::fs::symlink_metadata(directory).ok()).map(|it| it.uid());
    if is_trusted(user, owner) {
        return Ok(());
    }
    Err(failed(&format!(
        "user {user} answers there, who is neither this one nor root: nothing was sent. Remove that socket, and look \
         who \
         made it"
    )))
}

/// The sockets in a directory whose processes answer and are trusted, with their names.
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
