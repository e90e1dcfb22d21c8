//! `gvm-dp page`: remote memory by hand.

use clap::{Args, Subcommand};
use common::units::{Duration, Size};
use shell::number;
use std::path::PathBuf;

/// `gvm-dp page ...`.
#[derive(Debug, Subcommand)]
pub enum PageCommand {
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
