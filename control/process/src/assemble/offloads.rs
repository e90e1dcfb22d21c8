//! Receive offloads that are off while a process runs. A file remembers them, so that they do not stay off when the
//! process is killed.
//!
//! The file is beside the control sockets. Its name has the network namespace and the index of the interface, which
//! stays when the interface is renamed. The process holds a lock on the file, and the kernel releases it however the
//! process ends. So a file that can be locked was left behind.

use common::sockets::directory;
use port::xdp::{Interface, Offloads, XdpError};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use wire::net::ethernet::MacText;

/// The prefix of the files' names.
const PREFIX: &str = "offloads";

/// The offloads of one interface, off until this is dropped.
pub struct Restoring {
    offloads: Offloads,
    /// The file that remembers them.
    note: Option<(PathBuf, File)>,
}

impl Restoring {
    /// Turns off the offloads that break the path, and remembers them.
    ///
    /// # Errors
    /// One of them stays on.
    pub fn turn_off(interface: &Interface) -> Result<Self, XdpError> {
        let mut note = None;
        let offloads = Offloads::turn_off(interface, |options| {
            let path = path_of(interface.index);
            match remember(&path, interface, options) {
                Ok(file) => note = Some((path, file)),
                Err(error) => tracing::warn!(
                    "{}: cannot write {}: {error}. If this process is killed, turn {} on again with `ethtool -K`",
                    interface.name,
                    path.display(),
                    options.join(" and ")
                ),
            }
        })?;
        Ok(Self { offloads, note })
    }

    /// The offloads that were turned off, named as in `ethtool -K`.
    pub fn turned_off(&self) -> impl Iterator<Item = &'static str> {
        self.offloads.turned_off()
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if self.offloads.restore()
            && let Some((path, _)) = &self.note
        {
            // If the file stays, the next start turns on offloads that are on already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Turns on the offloads that killed processes left off, on interfaces of this network namespace.
pub fn restore_left_off() {
    let Some(prefix) = prefix() else { return };
    for entry in std::fs::read_dir(directory()).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(&prefix))
            && let Some(left) = Left::behind(&path)
        {
            left.restore();
            // The file is kept if the kernel refused: the next start tries again.
        }
    }
}

/// The file of a killed process.
struct Left<'a> {
    path: &'a Path,
    text: String,
    /// Locked while this lives.
    _file: File,
}

impl<'a> Left<'a> {
    /// `None` if the process that wrote the file is alive.
    fn behind(path: &'a Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Some(Self { path, text, _file: file })
    }

    fn restore(&self) {
        let mut lines = self.text.lines();
        let (index, name, mac) = (lines.next().and_then(|line| line.parse().ok()), lines.next(), lines.next());
        let options: Vec<&str> = lines.collect();
        // Indices are reused after a boot and in another namespace. So the name or the address must be the same.
        let is_same =
            |now: &Interface| name == Some(&*now.name) || mac.is_some_and(|mac| mac == MacText(now.mac).to_string());
        let done = match index.map(Interface::numbered) {
            Some(Ok(Some(now))) if is_same(&now) => {
                let done = Offloads::turn_on(&now, options.iter().copied());
                if done {
                    let (ifname, options) = (&now.name, options.join(", "));
                    tracing::info!("{ifname}: on again, since a process that was killed had left it off: {options}");
                }
                done
            }
            // The kernel did not say: the next start asks again.
            Some(Err(_)) => false,
            // The interface is gone, or another interface has its index. There is nothing to restore.
            Some(Ok(_)) | None => true,
        };
        if done {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// The prefix of the file names of this network namespace; `None` if the kernel does not identify it.
fn prefix() -> Option<String> {
    let namespace = std::fs::read_link("/proc/self/ns/net").ok()?;
    let number: String = namespace.to_str()?.chars().filter(char::is_ascii_digit).collect();
    Some(format!("{PREFIX}-{number}-"))
}

fn path_of(index: u32) -> PathBuf {
    directory().join(format!("{}{index}", prefix().unwrap_or_else(|| format!("{PREFIX}--"))))
}

/// Writes the file and locks it, for as long as the descriptor is open.
fn remember(path: &Path, interface: &Interface, options: &[&str]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    writeln!(file, "{}\n{}\n{}", interface.index, interface.name, MacText(interface.mac))?;
    options.iter().try_for_each(|option| writeln!(file, "{option}"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_left_behind_only_when_nobody_holds_it() {
        let lo = Interface::find("lo").unwrap();
        let directory = std::env::temp_dir().join(format!("gvm-offloads-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("lo");
        let held = remember(&path, &lo, &["rxvlan", "lro"]).unwrap();
        assert!(Left::behind(&path).is_none());
        assert!(remember(&path, &lo, &["rxvlan"]).is_err());
        drop(held);
        let left = Left::behind(&path).unwrap();
        assert_eq!(left.text, "1\nlo\n00:00:00:00:00:00\nrxvlan\nlro\n");
        // The loopback interface has none of these offloads, so there is nothing to do.
        left.restore();
        assert!(!path.exists());
        drop(left);
        for text in ["999999\nlo\n00:00:00:00:00:00\nrxvlan\n", "1\neth7\n02:00:00:00:00:01\nrxvlan\n", "rubbish", ""] {
            std::fs::write(&path, text).unwrap();
            Left::behind(&path).unwrap().restore();
            assert!(!path.exists(), "{text}");
        }
        std::fs::remove_dir(&directory).unwrap();
    }
}
