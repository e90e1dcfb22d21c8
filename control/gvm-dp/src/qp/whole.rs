//! A file that is written as a whole or not at all.
//!
//! It is known before the first byte moves that the file can be written. Bytes go to a temporary file beside it, which
//! replaces it at the end. Until then, and after a failure, an existing file stays as it was. Devices and pipes are
//! written directly. So is a file in a directory where no file can be made, from its first byte on.

use common::exit::Failure;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Temporary files of one process in one directory.
const TEMPORARIES: u32 = 100;

/// See the module's documentation.
pub struct WholeFile {
    file: File,
    /// The name as it was given.
    name: PathBuf,
    way: Way,
    written: u64,
}

/// How the bytes get to their place.
enum Way {
    /// This temporary file replaces that file, with the mode and owner of the old one.
    Replace(Temporary, PathBuf, Option<Traits>),
    /// It is a file and is overwritten: at the end it is cut off after the last byte.
    Over,
    /// It is no file: bytes are written directly.
    Through,
}

/// What a file keeps when another one replaces it.
struct Traits {
    permissions: Permissions,
    user: u32,
    group: u32,
}

/// Removed when dropped, unless it was kept.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl WholeFile {
    /// Prepares a file: checks that it can be written, and changes nothing yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn prepare(name: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unwritable(name, &error);
        let existing = match fs::metadata(name) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let whole = |file, way| Self { file, name: name.to_owned(), way, written: 0 };
        let Some(metadata) = existing else {
            let place = place(name);
            let (file, temporary) = temporary(&place, 0o666).map_err(failed)?;
            return Ok(whole(file, Way::Replace(temporary, place, None)));
        };
        // A user who may not write to the file may not replace it either.
        let file = OpenOptions::new().write(true).open(name).map_err(failed)?;
        if !metadata.is_file() {
            return Ok(whole(file, Way::Through));
        }
        let place = fs::canonicalize(name).map_err(failed)?;
        match temporary(&place, 0o600) {
            Ok((file, temporary)) => {
                let (permissions, user, group) = (metadata.permissions(), metadata.uid(), metadata.gid());
                Ok(whole(file, Way::Replace(temporary, place, Some(Traits { permissions, user, group }))))
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Ok(whole(file, Way::Over))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Reserves room for this many bytes, if the file system can do that.
    ///
    /// # Errors
    /// There is not enough room.
    pub fn reserve(&self, bytes: u64) -> Result<(), Failure> {
        if bytes == 0 || matches!(self.way, Way::Through) {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(error @ (Errno::NOSPC | Errno::FBIG | Errno::DQUOT)) => Err(unwritable(&self.name, &error.into())),
            // The file system cannot reserve room: writing will show whether there is enough.
            _ => Ok(()),
        }
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.name, &error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the writing: the file is in its place then.
    ///
    /// # Errors
    /// The file is not in its place; the text says where the bytes are.
    pub fn finish(self) -> Result<(), Failure> {
        let Self { file, name, way, written } = self;
        let failed = |error: io::Error| unwritable(&name, &error);
        let (mut temporary, place, before) = match way {
            Way::Through => return Ok(()),
            Way::Over => return file.set_len(written).and_then(|()| file.sync_all()).map_err(failed),
            Way::Replace(temporary, place, before) => (temporary, place, before),
        };
        file.sync_all().map_err(failed)?;
        if let Some(before) = before {
            // Only root may change the owner. It comes first, because a change of owner removes special mode bits.
            let _ = fchown(&file, Some(before.user), Some(before.group));
            file.set_permissions(before.permissions).map_err(failed)?;
        }
        temporary.kept = true;
        fs::rename(&temporary.path, &place).map_err(|error| {
            Failure::Machine(format!(
                "cannot replace {}: {error}; what was to be written is in {}",
                name.display(),
                temporary.path.display()
            ))
        })
    }
}

/// The path of a file that does not exist yet. A symbolic link without a target names it.
fn place(name: &Path) -> PathBuf {
    match fs::read_link(name) {
        Ok(to) => name.parent().map_or(to.clone(), |directory| directory.join(to)),
        Err(_) => name.to_owned(),
    }
}

/// Makes a new file in the directory of another one.
fn temporary(beside: &Path, mode: u32) -> io::Result<(File, Temporary)> {
    let directory = match beside.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let mut number = 0;
    loop {
        let path = directory.join(format!(".gvm-dp-{}-{number}.part", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
            Ok(file) => return Ok((file, Temporary { path, kept: false })),
            // It belongs to a killed process with the same id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < TEMPORARIES => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A file that cannot be written.
pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Machine(format!(
        "cannot write {}: {error}; check the path and that this user may write there",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A directory of one test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gvm-dp-whole-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(name: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let mut whole = WholeFile::prepare(name)?;
        whole.reserve(bytes.len() as u64)?;
        whole.write(bytes)?;
        whole.finish()
    }

    #[test]
    fn a_file_stays_as_it_was_until_all_is_written() {
        let place = Place::new("stays");
        let name = place.0.join("file");
        fs::write(&name, "as it was").unwrap();
        fs::set_permissions(&name, fs::Permissions::from_mode(0o640)).unwrap();
        let mut whole = WholeFile::prepare(&name).unwrap();
        whole.reserve(1 << 20).unwrap();
        whole.write(b"half").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"as it was");
        drop(whole);
        assert_eq!((fs::read(&name).unwrap(), place.names()), (b"as it was".to_vec(), vec!["file".to_owned()]));
        write(&name, b"new").unwrap();
        assert_eq!((fs::read(&name).unwrap(), place.names()), (b"new".to_vec(), vec!["file".to_owned()]));
        assert_eq!(fs::metadata(&name).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_new_file_is_there_at_the_end_and_not_before() {
        let place = Place::new("new");
        let name = place.0.join("file");
        let whole = WholeFile::prepare(&name).unwrap();
        assert!(!name.exists());
        drop(whole);
        assert!(place.names().is_empty());
        write(&name, b"").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"");
        // The mode of any new file.
        let other = place.0.join("other");
        File::create(&other).unwrap();
        assert_eq!(fs::metadata(&name).unwrap().mode(), fs::metadata(&other).unwrap().mode());
    }

    #[test]
    fn a_link_stays_a_link() {
        let place = Place::new("link");
        let [file, link, nowhere, later] = ["file", "link", "nowhere", "later"].map(|name| place.0.join(name));
        fs::write(&file, "long as it was").unwrap();
        symlink("file", &link).unwrap();
        symlink("later", &nowhere).unwrap();
        write(&link, b"new").unwrap();
        write(&nowhere, b"newer").unwrap();
        assert_eq!((fs::read(&file).unwrap(), fs::read(&later).unwrap()), (b"new".to_vec(), b"newer".to_vec()));
        assert!([&link, &nowhere].iter().all(|name| fs::symlink_metadata(name).unwrap().is_symlink()));
    }

    #[test]
    fn what_is_no_file_is_written_as_it_is() {
        write(Path::new("/dev/null"), b"nothing").unwrap();
        let full = write(Path::new("/dev/full"), b"nothing").unwrap_err();
        assert!(full.to_string().contains("cannot write /dev/full: No space left on device"), "{full}");
        assert!(fs::symlink_metadata("/dev/null").unwrap().mode() & 0o170_000 == 0o020_000);
    }

    #[test]
    fn what_cannot_be_written_is_known_at_once() {
        let place = Place::new("cannot");
        for name in ["/no/such/directory/file".as_ref(), place.0.as_path(), &place.0.join("file/below")] {
            let refused = WholeFile::prepare(name).map(drop).unwrap_err();
            assert!(refused.to_string().starts_with("cannot write") && refused.code() == 3, "{refused}");
        }
        fs::write(place.0.join("file"), "").unwrap();
        assert!(WholeFile::prepare(&place.0.join("file/below")).is_err());
        let whole = WholeFile::prepare(&place.0.join("file")).unwrap();
        let large = whole.reserve(1 << 62).unwrap_err();
        assert!(large.to_string().contains("cannot write"), "{large}");
    }

    #[test]
    fn what_cannot_be_put_in_its_place_is_not_lost() {
        let place = Place::new("lost");
        let name = place.0.join("file");
        let mut whole = WholeFile::prepare(&name).unwrap();
        whole.write(b"precious").unwrap();
        // Another process makes a directory of that name in the meantime.
        fs::create_dir_all(name.join("below")).unwrap();
        let complaint = whole.finish().unwrap_err().to_string();
        let (_, kept) = complaint.split_once("what was to be written is in ").unwrap();
        assert_eq!(fs::read(kept).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_is_written_over_is_cut_at_its_end() {
        let place = Place::new("over");
        let name = place.0.join("file");
        fs::write(&name, "as it was").unwrap();
        let file = OpenOptions::new().write(true).open(&name).unwrap();
        let mut whole = WholeFile { file, name: name.clone(), way: Way::Over, written: 0 };
        whole.reserve(100).unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"as it was");
        whole.write(b"new").unwrap();
        whole.finish().unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"new");
    }
}
