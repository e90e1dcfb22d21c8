//! Unix sockets with a file: who may connect, whether another process listens there, and what a crash left.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Why there is no listening socket. The caller knows the flags that the remedy names.
#[derive(Debug)]
pub enum NoUnixSocket {
    /// A process listens there.
    InUse,
    /// Another file is there.
    OtherFile,
    /// The path is too long for a socket.
    TooLong,
    /// There is no such group on this machine.
    NoGroup(String),
    /// The kernel refuses.
    Refused(io::Error),
}

impl From<io::Error> for NoUnixSocket {
    fn from(error: io::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Errno> for NoUnixSocket {
    fn from(error: Errno) -> Self {
        Self::Refused(error.into())
    }
}

/// The file of a Unix socket, which is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode. They distinguish it from another file of the same name.
    is: (u64, u64),
    /// Nobody wants it to be left.
    removes: bool,
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this file is still there: nobody has removed or replaced it.
    pub fn is_found(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.is)
    }

    /// Leaves the file where it is. The next process replaces it.
    pub fn leave(mut self) {
        self.removes = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.removes && self.is_found() {
            // Otherwise the next process replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at a Unix socket, without blocking; at most `backlog` connections wait to be accepted. Only this user may
/// connect, or also the members of a group: a name out of `/etc/group`, or a number. A socket at which nobody listens
/// any more is replaced.
///
/// # Errors
/// [`NoUnixSocket`].
pub fn listen_at(
    path: &Path,
    kind: SocketType,
    group: Option<&str>,
    backlog: i32,
) -> Result<(OwnedFd, SocketFile), NoUnixSocket> {
    let address = SocketAddrUnix::new(path).map_err(|_| NoUnixSocket::TooLong)?;
    let group = group.map(|name| group_id(name).ok_or_else(|| NoUnixSocket::NoGroup(name.to_owned()))).transpose()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = || socket_with(AddressFamily::UNIX, kind, flags, None);
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => match connect(socket()?, &address) {
            Err(Errno::CONNREFUSED) => std::fs::remove_file(path)?,
            // A process that has as many connections waiting as it may is there, too. A socket of another type is not
            // ours.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => return Err(NoUnixSocket::InUse),
            Err(error) => return Err(error.into()),
        },
        Ok(_) => return Err(NoUnixSocket::OtherFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(error.into()),
    }
    let listener = socket()?;
    // Nobody else may connect, from the moment when the socket exists.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&listener, &address);
    rustix::process::umask(mask);
    bound?;
    let metadata = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), is: (metadata.dev(), metadata.ino()), removes: true };
    if let Some(group) = group {
        chown(path, None, Some(group))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    }
    listen(&listener, backlog)?;
    Ok((listener, file))
}

/// The number of a group of this machine: out of `/etc/group`, or the number itself.
fn group_id(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    text.lines().find_map(of_line).or_else(|| name.parse().ok())
}
