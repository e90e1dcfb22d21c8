//! `gvm-dp page`: remote memory by hand.

use clap::{Args, Subcommand};
use common::units::{Duration, Size};
use shell::number;
use std::path::PathBuf;

/// `gvm-dp page ...`.
#[derive(Debug, Subcommand)]
pub enum PageCommand {
    /// Make an area: remote memory with a name, which stays until it is freed, or its master ends
    Alloc(PageAllocArgs),
    /// Write a file, or the standard input, or a pattern into an area
    Write(PageWriteArgs),
    /// Read an area into a file, or to the standard output
    Read(PageReadArgs),
    /// Compare an area with a file, or the standard input, or a pattern, and name the bytes that differ
    Verify(PageVerifyArgs),
    /// Free an area
    Free(PageFreeArgs),
    /// Show the areas of this user; of all users for root
    List(PageListArgs),
    /// Allocate remote memory, write it, verify every byte, and measure reads
    Bench(Box<PageBenchArgs>),
}

/// The master.
#[derive(Args, Clone, Debug)]
pub struct PageMasterArgs {
    /// The socket of the master [default: master.pages beside the control sockets]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `gvm-dp page alloc`.
#[derive(Args, Clone, Debug)]
pub struct PageAllocArgs {
    /// The area: 1 to 32 letters, digits, dots, dashes and underscores
    #[arg(value_name = "NAME")]
    pub area: String,
    /// How much memory, in whole extents of 2M
    #[arg(value_name = "SIZE")]
    pub size: Size,
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
}

/// `gvm-dp page write`.
#[derive(Args, Clone, Debug)]
pub struct PageWriteArgs {
    /// The area
    #[arg(value_name = "NAME")]
    pub area: String,
    /// The bytes to write: a file, or - for the standard input
    #[arg(value_name = "FILE", default_value = "-", conflicts_with = "pattern")]
    pub file: PathBuf,
    /// The byte of the area at which to begin
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub offset: Size,
    /// Write a pattern of this number instead: every 8 bytes of every area are others
    #[arg(long, value_name = "SEED")]
    pub pattern: Option<u64>,
    /// How many bytes of the pattern [default: to the end of the area]
    #[arg(long, value_name = "SIZE", requires = "pattern")]
    pub size: Option<Size>,
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
}

/// `gvm-dp page read`.
#[derive(Args, Clone, Debug)]
pub struct PageReadArgs {
    /// The area
    #[arg(value_name = "NAME")]
    pub area: String,
    /// Where to write the bytes: a file, or - for the standard output
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// The byte of the area at which to begin
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub offset: Size,
    /// How many bytes [default: to the end of the area]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
}

/// `gvm-dp page verify`.
#[derive(Args, Clone, Debug)]
pub struct PageVerifyArgs {
    /// The area
    #[arg(value_name = "NAME")]
    pub area: String,
    /// What the bytes must be: a file, or - for the standard input
    #[arg(value_name = "FILE", default_value = "-", conflicts_with = "pattern")]
    pub file: PathBuf,
    /// The byte of the area at which to begin
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub offset: Size,
    /// How many bytes [default: all of the file; of a pattern, to the end of the area]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// They must be the pattern of this number, as `page write --pattern` writes it
    #[arg(long, value_name = "SEED")]
    pub pattern: Option<u64>,
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
}

/// `gvm-dp page free`.
#[derive(Args, Clone, Debug)]
pub struct PageFreeArgs {
    /// The area
    #[arg(value_name = "NAME")]
    pub area: String,
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
}

/// `gvm-dp page list`.
#[derive(Args, Clone, Debug)]
pub struct PageListArgs {
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp page bench`.
#[derive(Args, Clone, Debug)]
pub struct PageBenchArgs {
    /// The master.
    #[command(flatten)]
    pub master: PageMasterArgs,
    /// How much remote memory to allocate, write and verify
    #[arg(long, default_value = "256M", value_name = "SIZE")]
    pub size: Size,
    /// Bytes of a request: a multiple of 8 that divides 2M
    #[arg(long, default_value = "4K", value_name = "SIZE")]
    pub block: Size,
    /// Requests under way
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = number::<u32>(1..=4096))]
    pub depth: u32,
    /// How long random blocks are read at the end
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub duration: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
