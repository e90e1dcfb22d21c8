//! Key files: one key as 64 hex digits, readable by the owner only.

use common::exit::Failure;
use link::key_ring::MAX_KEYS;
use link::{KeyError, KeyRing};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// How many bytes of a key file are read at most: the keys of hundreds of nodes, a line for each.
const LONGEST: usize = 64 << 10;

/// Reads a key. Refuses a file that every user may read or write, and a file whose owner is neither this user nor root.
///
/// # Errors
/// The error is [`Failure::KeyFile`] when the file cannot be read. It is [`Failure::KeyForeign`] or
/// [`Failure::KeyExposed`] when its owner or its mode is refused. It is [`Failure::KeyText`] when it does not hold such
/// a key.
pub fn read<K: FromStr<Err = KeyError>>(path: &Path) -> Result<K, Failure> {
    read_with(path, |text| text.parse().map_err(|source| Failure::KeyText { path: path.to_owned(), source }))
}

/// Lets `parse` read the text of a key file, which is overwritten afterwards.
pub(crate) fn read_with<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Failure>) -> Result<T, Failure> {
    let failed = |source| Failure::KeyFile { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    // The metadata of the open file, so that nobody can replace the file between the check and the read.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    let (owner, this) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != this {
        return Err(Failure::KeyForeign { path: path.to_owned(), owner });
    }
    if metadata.is_file() && mode & 0o007 != 0 {
        return Err(Failure::KeyExposed { path: path.to_owned(), mode });
    }
    // The text is the key: the buffer is overwritten when this returns.
    let (mut bytes, mut len) = (Zeroizing::new(vec![0; LONGEST]), 0);
    while len < LONGEST {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let text = str::from_utf8(&bytes[..len]).map_err(|error| failed(std::io::Error::other(error)))?;
    tracing::debug!("key file {}: read, mode {mode:03o}", path.display());
    parse(text)
}

/// Reads the key. While the cluster changes its key there are two: the old one, then the new one.
///
/// # Errors
/// It fails as [`read`] does, for the first file that fails. The error is [`Failure::Usage`] when there are more than
/// [`MAX_KEYS`] files.
pub fn read_ring<K: FromStr<Err = KeyError> + PartialEq>(paths: &[PathBuf]) -> Result<KeyRing<K>, Failure> {
    let keys = paths.iter().map(|path| read(path)).collect::<Result<Vec<K>, _>>()?;
    KeyRing::from_keys(keys).ok_or_else(|| {
        Failure::Usage(format!(
            "{} key files are too many: name one, or {MAX_KEYS} while the cluster changes its key, the old one first",
            paths.len()
        ))
    })
}

/// Key fingerprints for people: of one key, or of the old and the new one.
pub fn fingerprints(of: &[link::Fingerprint]) -> Option<String> {
    match of {
        [] => None,
        [one] => Some(one.to_string()),
        [old, new, ..] => Some(format!("{old} (old) and {new} (new)")),
    }
}

/// Writes a key into a new file that only its owner may read. Refuses to overwrite a file.
///
/// # Errors
/// The error is [`Failure::KeyUnwritten`]: the file exists already, or the kernel refuses to make or to write it.
pub fn write(path: &Path, key: &impl Display) -> Result<(), Failure> {
    let failed = |source| Failure::KeyUnwritten { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let text = Zeroizing::new(format!("{key}\n"));
    file.write_all(text.as_bytes()).map_err(failed)
}
