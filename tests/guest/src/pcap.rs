//! Files for tshark: the classic pcap format, Ethernet, nanoseconds.

use std::fs::File;
use std::io::{BufWriter, Result, Write as _};
use std::path::Path;

/// A file that grows.
pub struct Pcap {
    file: BufWriter<File>,
    packets: u64,
}

impl Pcap {
    /// A new file, in place of an old one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        // Magic for nanoseconds; version 2.4; UTC; accuracy; longest packet; Ethernet.
        file.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        file.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        file.write_all(&65_535_u32.to_le_bytes())?;
        file.write_all(&1_u32.to_le_bytes())?;
        Ok(Self { file, packets: 0 })
    }

    /// Adds a frame of a time in nanoseconds.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, now: u64, frame: &[u8]) -> Result<()> {
        let len = frame.len() as u32;
        for word in [(now / 1_000_000_000) as u32, (now % 1_000_000_000) as u32, len, len] {
            self.file.write_all(&word.to_le_bytes())?;
        }
        self.packets += 1;
        self.file.write_all(frame)
    }

    /// Frames so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}
