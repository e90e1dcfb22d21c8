//! Standard output.

use std::io::{self, IsTerminal, Write};

/// Prints all of the text, and flushes it to the kernel.
///
/// # Errors
/// The kernel did not take all of it: the disk is full, or (`BrokenPipe`) nobody reads any more.
pub fn print(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

/// As [`print()`], for bytes that are not text.
///
/// # Errors
/// As for [`print()`].
pub fn write(bytes: &[u8]) -> io::Result<()> {
    hand_over(&mut io::stdout().lock(), bytes)
}

fn hand_over(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    // Buffered bytes would be silently lost at the end of the process.
    to.flush()
}

/// Standard output as a file: bytes go to the kernel at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::LineWriter;

    #[test]
    fn what_is_not_taken_is_an_error_also_without_an_end_of_line() {
        // Like `std::io::stdout`, this buffers text without an end of line.
        let print = |to: File, text: &str| hand_over(&mut LineWriter::new(to), text.as_bytes());
        for text in ["no end of line", "a line\n", "a line\nand a beginning"] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            assert_eq!(print(full, text).unwrap_err().kind(), io::ErrorKind::StorageFull, "{text:?}");
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            let closed = File::from(std::os::fd::OwnedFd::from(writer));
            assert_eq!(print(closed, text).unwrap_err().kind(), io::ErrorKind::BrokenPipe, "{text:?}");
            assert!(print(File::create("/dev/null").unwrap(), text).is_ok());
        }
    }
}
