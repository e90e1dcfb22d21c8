//! A file, a pipe or stdout that is filled by a thread of its own.
//!
//! To open a pipe waits for its reader, and to write into it for room. Whoever has the bytes listens to signals and to
//! the process that sends them, and must not wait for that.

use hyper::body::Bytes;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};

/// Pieces that may wait for the thread.
const PIECES: usize = 16;

/// The way to the thread that writes. When it is dropped, the thread writes what it has, if somebody takes it.
pub struct Sink {
    pieces: mpsc::Sender<Bytes>,
    written: oneshot::Receiver<io::Result<()>>,
}

impl Sink {
    /// Opens a file, anew, or with `-` stdout; whether that worked is seen at the end.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (pieces, waiting) = mpsc::channel(PIECES);
        let (tell, written) = oneshot::channel();
        let path = path.to_owned();
        // Whoever opened it may have ended.
        let body = move || drop(tell.send(write(path, waiting)));
        std::thread::Builder::new().name("writer".to_owned()).spawn(body)?;
        Ok(Self { pieces, written })
    }

    /// Hands a piece over, as soon as there is room for it; `false` when no piece is taken any more: see
    /// [`ended`](Self::ended).
    pub async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until it takes no piece any more, and says why. It is not to be asked again then.
    pub async fn ended(&mut self) -> io::Result<()> {
        let gone = || io::Error::other("the thread that writes has ended");
        (&mut self.written).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Waits until all pieces are written.
    pub async fn finish(self) -> io::Result<()> {
        let Self { pieces, written } = self;
        drop(pieces);
        Self { pieces: mpsc::channel(1).0, written }.ended().await
    }
}

fn write(path: PathBuf, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut to: Box<dyn Write> =
        if path == Path::new("-") { Box::new(stdio::out::Stdout) } else { Box::new(File::create(path)?) };
    // Each piece is shown at once: somebody may be looking.
    while let Some(piece) = pieces.blocking_recv() {
        to.write_all(&piece)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::runtime;

    #[test]
    fn all_of_it_is_there_or_the_error_is() {
        let path = std::env::temp_dir().join(format!("gvm-dp-sink-{}", std::process::id()));
        runtime().unwrap().block_on(async {
            let sink = Sink::open(&path).unwrap();
            for number in 0..100 {
                assert!(sink.write(format!("{number} ").into()).await);
            }
            sink.finish().await.unwrap();
            let mut nowhere = Sink::open(Path::new("/no/such/directory/file")).unwrap();
            assert_eq!(nowhere.ended().await.unwrap_err().kind(), io::ErrorKind::NotFound);
            assert!(!nowhere.write(Bytes::new()).await);
            let full = Sink::open(Path::new("/dev/full")).unwrap();
            assert!(full.write("x".into()).await);
            assert_eq!(full.finish().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("0 1 2 ") && text.ends_with(" 98 99 "), "{text}");
        std::fs::remove_file(&path).unwrap();
    }
}
