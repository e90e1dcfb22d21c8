//! `gvm-dp qp read` and `gvm-dp qp write`: bytes of a peer's region to a file, and back.

use super::link::Link;
use super::own::Own;
use super::serve::{unreadable, unwritable};
use super::{runtime, until_told};
use crate::cli::{QpReadArgs, QpWriteArgs};
use crate::exit::Failure;
use roce::Work;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

/// Bytes that are moved at a time, whatever the whole: this much memory it takes.
const PIECE: u64 = 4 << 20;

/// Bytes of one work request.
const MESSAGE: u32 = 64 << 10;

/// `gvm-dp qp read`.
///
/// # Errors
/// See [`Failure`]; also when bytes differ that should not.
pub fn read(args: &QpReadArgs) -> Result<(), Failure> {
    let mut sink = match &args.verify {
        Some(path) => Sink::Compare(Compared::new(path)?),
        None => Sink::file(&args.out)?,
    };
    let own = Own::start(&args.own, None, 1)?;
    let work = async {
        let link = Link::open(&own, &args.peer).await?;
        let rest = link.region.length.saturating_sub(args.offset.0);
        let length = args.length.map_or(rest, |length| length.0);
        let first = link.part(args.offset.0, length)?;
        let began = Instant::now();
        for (at, len) in pieces(length) {
            let work = Work::Read { va: first + at, len, message: MESSAGE };
            let bytes = link.work(&own, work).await?.bytes;
            sink.take(&bytes)?;
        }
        sink.end(length)?;
        report("read", length, began);
        link.close(&own).await
    };
    let runtime = runtime()?;
    runtime.block_on(until_told(work))?;
    runtime.block_on(own.end()).map(drop)
}

/// `gvm-dp qp write`.
///
/// # Errors
/// See [`Failure`]; also when what is read back differs.
pub fn write(args: &QpWriteArgs) -> Result<(), Failure> {
    let mut input = Input::open(&args.input)?;
    let own = Own::start(&args.own, None, 1)?;
    let work = async {
        let link = Link::open(&own, &args.peer).await?;
        let began = Instant::now();
        let mut offset = args.offset.0;
        loop {
            let bytes = input.piece()?;
            if bytes.is_empty() {
                break;
            }
            let len = bytes.len() as u64;
            let va = link.part(offset, len)?;
            let written = link.work(&own, Work::Write { va, bytes, message: MESSAGE }).await?.bytes;
            if args.verify {
                let work = Work::Read { va, len: len as u32, message: MESSAGE };
                let back = link.work(&own, work).await?.bytes;
                if let Some(at) = first_difference(&written, &back) {
                    return Err(Failure::QueuePair(format!(
                        "byte {} of the region is not what was written: does somebody else write there?",
                        offset + at as u64
                    )));
                }
            }
            offset += len;
        }
        report(if args.verify { "wrote and read back" } else { "wrote" }, offset - args.offset.0, began);
        link.close(&own).await
    };
    let runtime = runtime()?;
    runtime.block_on(until_told(work))?;
    runtime.block_on(own.end()).map(drop)
}

/// So many bytes in pieces: where each begins, and its length.
fn pieces(length: u64) -> impl Iterator<Item = (u64, u32)> {
    (0..length.div_ceil(PIECE)).map(move |piece| {
        let at = piece * PIECE;
        (at, (length - at).min(PIECE) as u32)
    })
}

fn report(what: &str, bytes: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(
        "{what} {bytes} bytes in {:.3} ms, {:.1} MB/s",
        seconds * 1e3,
        bytes as f64 / 1e6 / seconds.max(1e-9)
    );
}

/// Where two runs of bytes differ first.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let both = a.iter().zip(b).position(|(a, b)| a != b);
    Some(both.unwrap_or(a.len().min(b.len())))
}

/// Where bytes come from.
struct Input {
    from: Box<dyn Read>,
    name: String,
}

impl Input {
    fn open(path: &Path) -> Result<Self, Failure> {
        let from: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(path).map_err(|error| unreadable(path, &error))?)
        };
        Ok(Self { from, name: path.display().to_string() })
    }

    /// The next bytes, a piece if there are so many; none at the end.
    fn piece(&mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(PIECE).read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(|error| unreadable(Path::new(&self.name), &error))
    }
}

/// Where bytes go.
enum Sink {
    Write(Box<dyn Write>, String),
    Compare(Compared),
}

/// A file that the bytes must be equal to.
struct Compared {
    with: Input,
    at: u64,
}

impl Compared {
    fn new(path: &Path) -> Result<Self, Failure> {
        Ok(Self { with: Input::open(path)?, at: 0 })
    }

    fn differ(&self, at: u64) -> Failure {
        Failure::QueuePair(format!("byte {at} of what was read is not that of {}", self.with.name))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut expected = Vec::with_capacity(bytes.len());
        let read = self.with.from.by_ref().take(bytes.len() as u64).read_to_end(&mut expected);
        read.map_err(|error| unreadable(Path::new(&self.with.name), &error))?;
        if let Some(at) = first_difference(&expected, bytes) {
            return Err(self.differ(self.at + at as u64));
        }
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Sink {
    fn file(path: &Path) -> Result<Self, Failure> {
        let to: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path).map_err(|error| unwritable(path, &error))?)
        };
        Ok(Self::Write(to, path.display().to_string()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Write(to, name) => to.write_all(bytes).map_err(|error| unwritable(Path::new(name), &error)),
            Self::Compare(compared) => compared.take(bytes),
        }
    }

    fn end(&mut self, length: u64) -> Result<(), Failure> {
        match self {
            Self::Write(to, name) => to.flush().map_err(|error| unwritable(Path::new(name), &error)),
            Self::Compare(compared) => match compared.with.piece()?.is_empty() {
                true => Ok(()),
                false => Err(Failure::QueuePair(format!(
                    "{} goes on after the {length} bytes that were read",
                    compared.with.name
                ))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole() {
        assert_eq!(pieces(0).count(), 0);
        assert_eq!(pieces(1).collect::<Vec<_>>(), [(0, 1)]);
        let long: Vec<_> = pieces(2 * PIECE + 5).collect();
        assert_eq!(long, [(0, PIECE as u32), (PIECE, PIECE as u32), (2 * PIECE, 5)]);
    }

    #[test]
    fn differences_are_found_where_they_begin() {
        assert_eq!(first_difference(b"same", b"same"), None);
        assert_eq!(first_difference(b"same", b"sane"), Some(2));
        assert_eq!(first_difference(b"same", b"sam"), Some(3));
    }

    #[test]
    fn what_is_read_is_compared_with_a_file() {
        let path = std::env::temp_dir().join(format!("gvm-dp-compare-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let compared = || Sink::Compare(Compared::new(&path).unwrap());
        let mut right = compared();
        right.take(b"01234").and_then(|()| right.take(b"56789")).and_then(|()| right.end(10)).unwrap();
        let mut short = compared();
        short.take(b"01234").unwrap();
        assert!(short.end(5).unwrap_err().to_string().contains("goes on after the 5 bytes"));
        let mut wrong = compared();
        wrong.take(b"01234").unwrap();
        let complaint = wrong.take(b"5x789").unwrap_err();
        assert!(complaint.to_string().contains("byte 6 of what was read") && complaint.code() == 8, "{complaint}");
        let mut long = compared();
        assert!(long.take(b"0123456789!").unwrap_err().to_string().contains("byte 10"));
        std::fs::remove_file(&path).unwrap();
    }
}
