//! The source of the bytes of `gvm-dp qp write`, and its length, which is known before the first byte is written.

use common::exit::Failure;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Bytes that are moved at a time. So the memory need does not depend on the total.
pub const PIECE: u64 = 4 << 20;

/// A file, or the output of another process.
pub struct Input {
    from: File,
    name: PathBuf,
    /// Bytes of a file from its current position on; unknown for a pipe.
    length: Option<u64>,
}

/// An input with known length.
pub struct Measured {
    /// Bytes.
    pub length: u64,
    bytes: Bytes,
    name: PathBuf,
}

enum Bytes {
    /// Still in the file: this many bytes.
    There(io::Take<File>),
    /// Already read.
    Here(VecDeque<Vec<u8>>),
}

impl Input {
    /// Opens a file, or the standard input for `-`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(name: &Path) -> Result<Self, Failure> {
        let (from, name) = match name == Path::new("-") {
            true => {
                (rustix::io::dup(io::stdin()).map(File::from).map_err(io::Error::from), "the standard input".as_ref())
            }
            false => (File::open(name), name),
        };
        let opened = from.and_then(|mut from| {
            let metadata = from.metadata()?;
            // A file whose content the kernel makes at the time of reading has no length.
            let length = match metadata.is_file() && metadata.len() > 0 {
                // The standard input may be a file whose position is not at its start.
                true => Some(metadata.len().saturating_sub(io::Seek::stream_position(&mut from)?)),
                false => None,
            };
            Ok(Self { from, name: name.to_owned(), length })
        });
        opened.map_err(|error| unreadable(name, &error))
    }

    /// The next bytes: a piece, or fewer if there are fewer; none at the end.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn piece(&mut self) -> Result<Vec<u8>, Failure> {
        self.take(PIECE)
    }

    /// At most this many of the next bytes.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn take(&mut self, most: u64) -> Result<Vec<u8>, Failure> {
        read(&mut self.from, most).map_err(|error| unreadable(&self.name, &error))
    }

    /// Bytes from the position on at which it was opened; `None` if that is not known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Its name.
    pub fn name(&self) -> impl std::fmt::Display {
        self.name.display()
    }

    /// Finds out its length. An input that is not a file is read to its end for that, but at most one byte beyond
    /// `most`.
    ///
    /// # Errors
    /// It cannot be read, or is longer than `most`. `refuse` makes the error in the second case; its argument describes
    /// the length.
    pub async fn measure(self, most: u64, refuse: impl Fn(&str) -> Failure) -> Result<Measured, Failure> {
        let Self { from, name, length } = self;
        if let Some(length) = length {
            if length > most {
                return Err(refuse(&format!("{} has {length} bytes", name.display())));
            }
            return Ok(Measured { length, bytes: Bytes::There(from.take(length)), name });
        }
        let (mut pieces, mut length) = (VecDeque::new(), 0);
        let mut coming = pump(from, most.saturating_add(1));
        while let Some(piece) = coming.recv().await {
            let piece = piece.map_err(|error| unreadable(&name, &error))?;
            length += piece.len() as u64;
            if length > most {
                return Err(refuse(&format!("{} has more than {most} bytes", name.display())));
            }
            pieces.push_back(piece);
        }
        Ok(Measured { length, bytes: Bytes::Here(pieces), name })
    }
}

impl Measured {
    /// The next bytes: a piece, or fewer if there are fewer; none at the end.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn piece(&mut self) -> Result<Vec<u8>, Failure> {
        match &mut self.bytes {
            Bytes::Here(pieces) => Ok(pieces.pop_front().unwrap_or_default()),
            Bytes::There(file) => {
                let piece = read(file, PIECE).map_err(|error| unreadable(&self.name, &error))?;
                if piece.is_empty() && file.limit() > 0 {
                    return Err(Failure::Machine(format!(
                        "{} became shorter while it was read: {} of {} bytes were written",
                        self.name.display(),
                        self.length - file.limit(),
                        self.length
                    )));
                }
                Ok(piece)
            }
        }
    }
}

fn read(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.by_ref().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads in its own thread, and nobody waits for that thread: a pipe may be silent for ever, and signals must still
/// work.
fn pump(from: File, most: u64) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (tell, told) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut from = from.take(most);
        loop {
            let piece = read(&mut from, PIECE);
            let is_last = !matches!(&piece, Ok(piece) if !piece.is_empty());
            let is_end = matches!(&piece, Ok(piece) if piece.is_empty());
            if is_end || tell.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    told
}

/// A file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Machine(format!("cannot read {}: {error}; check the path and that this user may read it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn measure(input: Input, most: u64) -> Result<Measured, Failure> {
        let refuse = |what: &str| Failure::QueuePair(what.to_owned());
        runtime().block_on(input.measure(most, refuse))
    }

    fn all(mut measured: Measured) -> Vec<u8> {
        let pieces = std::iter::from_fn(|| Some(measured.piece().unwrap()).filter(|piece| !piece.is_empty()));
        pieces.flatten().collect()
    }

    /// A file of one test.
    struct Name(PathBuf);

    impl Name {
        fn new(name: &str, content: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("gvm-dp-input-{name}-{}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A pipe into which a thread writes this.
    fn pipe(content: Vec<u8>) -> Input {
        let (reader, mut writer) = io::pipe().unwrap();
        std::thread::spawn(move || writer.write_all(&content));
        Input { from: File::from(OwnedFd::from(reader)), name: "pipe".into(), length: None }
    }

    #[test]
    fn a_file_says_how_long_it_is() {
        let name = Name::new("file", &[7; 1000]);
        let open = || Input::open(&name.0).unwrap();
        assert_eq!(all(measure(open(), 1000).unwrap()), [7; 1000]);
        let refused = measure(open(), 999).map(drop).unwrap_err();
        assert!(refused.to_string().contains("has 1000 bytes"), "{refused}");
        let mut second = open();
        second.take(600).unwrap();
        // Its length was found when it was opened.
        assert_eq!(second.length, Some(1000));
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let name = Name::new("changes", &[7; 1000]);
        let mut longer = measure(Input::open(&name.0).unwrap(), 1000).unwrap();
        std::fs::write(&name.0, [8; 2000]).unwrap();
        assert_eq!((longer.piece().unwrap().len(), longer.piece().unwrap().len()), (1000, 0));
        let mut shorter = measure(Input::open(&name.0).unwrap(), 2000).unwrap();
        std::fs::write(&name.0, [8; 500]).unwrap();
        assert_eq!(shorter.piece().unwrap().len(), 500);
        let complaint = shorter.piece().unwrap_err().to_string();
        assert!(complaint.contains("became shorter while it was read: 500 of 2000 bytes"), "{complaint}");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_no_further_than_there_is_room() {
        let long = vec![9; PIECE as usize + 5];
        let measured = measure(pipe(long.clone()), PIECE + 5).unwrap();
        assert_eq!(measured.length, PIECE + 5);
        assert!(all(measured) == long);
        let refused = measure(pipe(long), PIECE + 4).map(drop).unwrap_err();
        assert!(refused.to_string().contains(&format!("pipe has more than {} bytes", PIECE + 4)), "{refused}");
        assert!(all(measure(pipe(Vec::new()), 0).unwrap()).is_empty());
        // An input without an end.
        let zeros = measure(Input::open(Path::new("/dev/zero")).unwrap(), 10).map(drop).unwrap_err();
        assert!(zeros.to_string().contains("/dev/zero has more than 10 bytes"), "{zeros}");
    }
}
