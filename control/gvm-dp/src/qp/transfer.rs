//! `gvm-dp qp read` and `gvm-dp qp write`: copy bytes of a peer's region to a file, and back.

use super::input::{Input, PIECE};
use super::link::PeerLink;
use super::own::Own;
use super::told::until_told;
use super::whole::{WholeFile, unwritable};
use crate::cli::{QpReadArgs, QpWriteArgs};
use common::exit::Failure;
use common::runtime::runtime;
use roce::Work;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use stdio::out::Stdout;

/// Bytes of one work request.
const MESSAGE: u32 = 64 << 10;

/// `gvm-dp qp read`.
///
/// # Errors
/// See [`Failure`]; also if the bytes differ from the file that they are compared with.
pub fn read(args: &QpReadArgs) -> Result<(), Failure> {
    let mut sink = match &args.verify {
        Some(path) => Sink::Compare(Compared::new(path)?),
        None => Sink::file(&args.out)?,
    };
    let own = Own::start(&args.own, None, 1)?;
    let work = async {
        let link = PeerLink::open(&own, &args.peer).await?;
        let rest = link.region.length.saturating_sub(args.offset.0);
        let length = args.length.map_or(rest, |length| length.0);
        let first = link.part(args.offset.0, length)?;
        sink.reserve(length)?;
        let began = Instant::now();
        for (at, len) in pieces(length) {
            let work = Work::Read { va: first + at, len, message: MESSAGE };
            let bytes = link.work(&own, work).await?.bytes;
            sink.take(&bytes)?;
        }
        let taken = began.elapsed();
        sink.end(length)?;
        report("read", length, taken);
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
    let input = Input::open(&args.input)?;
    let own = Own::start(&args.own, None, 1)?;
    let work = async {
        let link = PeerLink::open(&own, &args.peer).await?;
        let mut offset = args.offset.0;
        let room = link.room(offset)?;
        let mut input = input.measure(room, |what| link.too_small(what, offset, room)).await?;
        let began = Instant::now();
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
        report(if args.verify { "wrote and read back" } else { "wrote" }, input.length, began.elapsed());
        link.close(&own).await
    };
    let runtime = runtime()?;
    runtime.block_on(until_told(work))?;
    runtime.block_on(own.end()).map(drop)
}

/// Splits a length into pieces: the beginning of each, and its length.
fn pieces(length: u64) -> impl Iterator<Item = (u64, u32)> {
    (0..length.div_ceil(PIECE)).map(move |piece| {
        let at = piece * PIECE;
        (at, (length - at).min(PIECE) as u32)
    })
}

fn report(what: &str, bytes: u64, taken: Duration) {
    let seconds = taken.as_secs_f64();
    tracing::info!(
        "{what} {bytes} bytes in {:.3} ms, {:.1} MB/s",
        seconds * 1e3,
        bytes as f64 / 1e6 / seconds.max(1e-9)
    );
}

/// The first position at which two byte slices differ.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let both = a.iter().zip(b).position(|(a, b)| a != b);
    Some(both.unwrap_or(a.len().min(b.len())))
}

/// The destination of the bytes.
enum Sink {
    Stdout(Stdout),
    File(WholeFile),
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
        Failure::QueuePair(format!("byte {at} of what was read is not that of {}", self.with.name()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let expected = self.with.take(bytes.len() as u64)?;
        if let Some(at) = first_difference(&expected, bytes) {
            return Err(self.differ(self.at + at as u64));
        }
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Sink {
    fn file(path: &Path) -> Result<Self, Failure> {
        match path == Path::new("-") {
            true => Ok(Self::Stdout(Stdout)),
            false => WholeFile::prepare(path).map(Self::File),
        }
    }

    /// Reserves room for this many bytes.
    fn reserve(&self, length: u64) -> Result<(), Failure> {
        if let Self::File(file) = self { file.reserve(length) } else { Ok(()) }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(stdout) => {
                stdout.write_all(bytes).map_err(|error| unwritable(Path::new("the standard output"), &error))
            }
            Self::File(file) => file.write(bytes),
            Self::Compare(compared) => compared.take(bytes),
        }
    }

    fn end(self, length: u64) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().map_err(|error| unwritable(Path::new("the standard output"), &error))
            }
            Self::File(file) => file.finish(),
            Self::Compare(mut compared) => match compared.with.piece()?.is_empty() {
                true => Ok(()),
                false => Err(Failure::QueuePair(format!(
                    "{} goes on after the {length} bytes that were read",
                    compared.with.name()
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
