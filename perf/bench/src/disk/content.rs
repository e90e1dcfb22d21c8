//! What the disks have: other bytes in each block. It is written and compared through `nbdcopy`.

use anyhow::{Context as _, ensure};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The program.
pub(super) const NBDCOPY: &str = "nbdcopy";

/// Bytes that are made at once.
const CHUNK: usize = 1 << 20;

/// The bytes from this one of the disk on: words that depend on their place, and are not zero.
fn fill(at: u64, chunk: &mut [u8]) {
    for (word, bytes) in (at / 8..).zip(chunk.chunks_exact_mut(8)) {
        let mixed = (word ^ word >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        bytes.copy_from_slice(&mixed.to_le_bytes());
    }
}

fn start(arguments: [&str; 2], copies_in: bool) -> anyhow::Result<Child> {
    let mut command = Command::new(NBDCOPY);
    command.args(arguments);
    command.stdin(if copies_in { Stdio::piped() } else { Stdio::null() });
    command.stdout(if copies_in { Stdio::null() } else { Stdio::piped() });
    command.spawn().context("cannot run nbdcopy")
}

fn uri(socket: &Path) -> String {
    format!("nbd+unix:///?socket={}", socket.display())
}

/// Writes all bytes of the disk at a socket.
///
/// # Errors
/// `nbdcopy` fails.
pub(super) fn write(socket: &Path, size: u64) -> anyhow::Result<()> {
    let mut copy = start(["-", &uri(socket)], true)?;
    let mut input = copy.stdin.take().context("no pipe")?;
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        fill(at, &mut chunk);
        // When the copy has ended too early, its status says so.
        if input.write_all(&chunk).is_err() {
            break;
        }
        at += CHUNK as u64;
    }
    drop(input);
    let status = copy.wait()?;
    ensure!(status.success() && at >= size, "nbdcopy to {} failed: {status}", socket.display());
    Ok(())
}

/// Compares all bytes of the disk at a socket.
///
/// # Errors
/// `nbdcopy` fails, or a byte is another one.
pub(super) fn compare(socket: &Path, size: u64) -> anyhow::Result<()> {
    let mut copy = start([&uri(socket), "-"], false)?;
    let mut output = copy.stdout.take().context("no pipe")?;
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut wrong = None;
    for at in (0..size).step_by(CHUNK) {
        output.read_exact(&mut chunk).with_context(|| format!("the disk at {} ends at {at}", socket.display()))?;
        fill(at, &mut expected);
        if wrong.is_none() && chunk != expected {
            wrong = Some(at);
        }
    }
    let status = copy.wait()?;
    ensure!(status.success(), "nbdcopy from {} failed: {status}", socket.display());
    ensure!(wrong.is_none(), "{} has other bytes in the MiB from {wrong:?} on", socket.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_other_bytes_and_none_are_zero() {
        let mut chunk = vec![0; 64 << 10];
        fill(1 << 20, &mut chunk);
        let blocks: std::collections::HashSet<&[u8]> = chunk.chunks(4096).collect();
        assert_eq!(blocks.len(), 16);
        assert!(chunk.chunks(8).all(|word| word != [0; 8]));
        let mut again = vec![0; 8];
        fill((1 << 20) + 4096, &mut again);
        assert_eq!(again, chunk[4096..4104]);
    }
}
