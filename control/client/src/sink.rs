//! An output that is written by its own thread: a file, a pipe or stdout.
//!
//! Opening a pipe waits for its reader, and writing to it waits for room. The task that has the bytes listens to
//! signals and to the process that sends them, so it must not wait for the pipe.

use hyper::body::Bytes;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};

/// How many pieces may wait for the thread.
const PIECES: usize = 16;

/// The channel to the thread that writes. When this is dropped, the thread still writes what it has, if the reader
/// takes it.
pub(crate) struct OutputFile {
    pieces: mpsc::Sender<Bytes>,
    written: oneshot::Receiver<io::Result<()>>,
}

impl OutputFile {
    /// Opens a new file that only this user can read, or stdout for `-`. An error of opening is reported at the end.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (pieces, waiting) = mpsc::channel(PIECES);
        let (tell, written) = oneshot::channel();
        let path = path.to_owned();
        // The receiver may be gone.
        let body = move || drop(tell.send(write(path, waiting)));
        std::thread::Builder::new().name("writer".to_owned()).spawn(body)?;
        Ok(Self { pieces, written })
    }

    /// Hands a piece over as soon as there is room for it. Returns `false` if no piece is accepted any more: see
    /// [`ended`](Self::ended).
    pub(crate) async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until no piece is accepted any more, and returns the reason. Do not call it again after that.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        let gone = || io::Error::other("the thread that writes has ended");
        (&mut self.written).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Waits until all pieces are written.
    pub(crate) async fn finish(self) -> io::Result<()> {
        let Self { pieces, written } = self;
        drop(pieces);
        Self { pieces: mpsc::channel(1).0, written }.ended().await
    }
}

/// Where the system shows the descriptors of this process: links that no user made.
const OWN_DESCRIPTORS: [&str; 5] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"];

/// Opens an output that only this user can read. An existing file is emptied.
///
/// # Errors
/// The output cannot be opened, is a symbolic link, or others could read what is written there.
fn create(path: &Path) -> io::Result<File> {
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let own = OWN_DESCRIPTORS.iter().any(|own| path.starts_with(own));
    // It is not truncated before its owner is known.
    let mut options = OpenOptions::new();
    options.write(true).create(!own).truncate(false).mode(0o600);
    let file = match options.custom_flags(if own { 0 } else { libc::O_NOFOLLOW }).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return refused("it is a symbolic link: name the file that it leads to".to_owned());
        }
        file => file?,
    };
    if own {
        // The process that started this one opened it.
        return Ok(file);
    }
    let metadata = file.metadata()?;
    let (owner, this) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != this && (metadata.is_file() || owner != 0) {
        return refused(format!(
            "it is there already and belongs to user {owner}, who could read what is captured: remove it, or name \
             another one"
        ));
    }
    if metadata.is_file() {
        if metadata.nlink() > 1 {
            return refused("it has another name as well (a hard link): remove it, or name another one".to_owned());
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    Ok(file)
}

fn write(path: PathBuf, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut to: Box<dyn Write> =
        if path == Path::new("-") { Box::new(stdio::out::Stdout) } else { Box::new(create(&path)?) };
    // Each piece is flushed at once: somebody may be reading.
    while let Some(piece) = pieces.blocking_recv() {
        to.write_all(&piece)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::runtime::runtime;

    #[test]
    fn all_of_it_is_there_or_the_error_is() {
        let path = std::env::temp_dir().join(format!("gvm-dp-sink-{}", std::process::id()));
        runtime().unwrap().block_on(async {
            let sink = OutputFile::open(&path).unwrap();
            for number in 0..100 {
                assert!(sink.write(format!("{number} ").into()).await);
            }
            sink.finish().await.unwrap();
            let mut nowhere = OutputFile::open(Path::new("/no/such/directory/file")).unwrap();
            assert_eq!(nowhere.ended().await.unwrap_err().kind(), io::ErrorKind::NotFound);
            assert!(!nowhere.write(Bytes::new()).await);
            let full = OutputFile::open(Path::new("/dev/full")).unwrap();
            assert!(full.write("x".into()).await);
            assert_eq!(full.finish().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(text.starts_with("0 1 2 ") && text.ends_with(" 98 99 "), "{text}");
        std::fs::remove_file(&path).unwrap();
    }

    /// A directory for a test.
    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("gvm-dp-sink-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_is_private_and_no_link_to_another_one() {
        let place = place("private");
        let (file, link, second) = (place.join("file"), place.join("link"), place.join("second"));
        std::fs::write(&file, "precious").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let error = create(&link).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        std::fs::hard_link(&file, &second).unwrap();
        let error = create(&file).unwrap_err().to_string();
        assert!(error.contains("hard link"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        std::fs::remove_file(&second).unwrap();
        drop(create(&file).unwrap());
        let metadata = std::fs::metadata(&file).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (0, 0o600));
        if rustix::process::geteuid().is_root() {
            std::fs::write(&file, "another's").unwrap();
            std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
            let error = create(&file).unwrap_err().to_string();
            assert!(error.contains("belongs to user 65534"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "another's");
        }
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn devices_pipes_and_own_descriptors_stay_what_they_are() {
        let place = place("pipes");
        let pipe = place.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        create(&pipe).unwrap().write_all(b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        drop(create(Path::new("/dev/null")).unwrap());
        let (mut read, write) = io::pipe().unwrap();
        use std::os::fd::AsRawFd as _;
        for place in ["/dev/fd", "/proc/self/fd"] {
            let own = PathBuf::from(place).join(write.as_raw_fd().to_string());
            create(&own).unwrap().write_all(b"x").unwrap();
        }
        drop(write);
        assert_eq!(io::read_to_string(&mut read).unwrap(), "xx");
        std::fs::remove_dir_all(&place).unwrap();
    }
}
