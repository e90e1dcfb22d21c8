//! Where control sockets are, and who owns one.
//!
//! `/run/gvm-dp/NAME.sock` for root, else `$XDG_RUNTIME_DIR/gvm-dp/NAME.sock`; `GVM_DP_RUN_DIR` names another
//! directory. Directory and sockets are private to their user. A socket that a crash left behind is taken over; one
//! that answers is an error.

use crate::exit::Failure;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
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
}

impl ControlSocket {
    /// Makes the socket of the process with this name, in the place of one whose process is gone.
    pub fn claim(name: &str) -> Result<Self, Failure> {
        let (directory, path) = (directory(), path_of(name));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Failure::Socket { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed(&directory))?;
        let metadata = std::fs::symlink_metadata(&directory).map_err(failed(&directory))?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
            let source = io::Error::new(io::ErrorKind::PermissionDenied, "it is not a directory of this user");
            return Err(Failure::Socket { path: directory, source });
        }
        // Of two that start at the same time, one looks first; the other then finds it alive.
        let lock = File::open(&directory).map_err(failed(&directory))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(&directory)(e.into()))?;
        match UnixStream::connect(&path) {
            Ok(_) => return Err(Failure::NameInUse { name: name.to_owned(), socket: path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&path).map_err(failed(&path))?;
            }
            Err(error) => return Err(failed(&path)(error)),
        }
        let listener = UnixListener::bind(&path).map_err(failed(&path))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed(&path))?;
        listener.set_nonblocking(true).map_err(failed(&path))?;
        Ok(Self { path, listener })
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
        // Whoever finds it later takes it over.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The sockets of this user's processes that answer, by name.
pub fn running() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(directory())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((name_of(&entry.path())?.to_owned(), entry.path())))
        .filter(|(_, path)| UnixStream::connect(path).is_ok())
        .collect();
    found.sort();
    found
}
