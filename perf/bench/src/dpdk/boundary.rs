//! The cost of having the device behind a plugin: calls that cannot be inlined, and descriptions of frames.

use crate::ratios::median;
use crate::stopwatch::Stopwatch;
use port::dpdk::LoadedPlugin;
use port_abi::Frame;
use std::hint::black_box;

/// Records of a burst.
const BURST: usize = 32;
/// Bursts that are timed at once, usually.
pub const BURSTS: usize = 1_000_000;

/// Nanoseconds per record at bursts of 32: medians over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Boundary {
    /// Three calls through the plugin's table: one describes the frames of a burst, two describe none, as receiving,
    /// sending and exchanging chunks do.
    pub table: f64,
    /// The same frames described in place.
    pub inline: f64,
}

impl Boundary {
    /// The cost of the boundary.
    pub fn cost(&self) -> f64 {
        self.table - self.inline
    }
}

/// Uses what was described, as a port does.
#[inline(always)]
fn use_up(frames: &[Frame]) -> u64 {
    frames.iter().map(|frame| u64::from(frame.chunk) + u64::from(frame.offset) + u64::from(frame.len)).sum()
}

/// Measures both in turns, `bursts` bursts at once.
///
/// # Errors
/// The plugin of DPDK is not there or cannot be loaded, or it describes another number of frames than it was asked for.
pub fn boundary(rounds: usize, bursts: usize) -> anyhow::Result<Boundary> {
    let plugin = LoadedPlugin::find()?;
    let mut frames = [Frame::default(); BURST];
    let (mut table, mut inline) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let watch = Stopwatch::start();
        for _ in 0..bursts {
            let count = plugin.rehearse(&mut frames);
            anyhow::ensure!(count == BURST, "the plugin describes {count} of {BURST} frames");
            black_box(use_up(&frames[..count.min(BURST)]));
            black_box(plugin.rehearse(&mut frames[..0]));
            black_box(plugin.rehearse(&mut frames[..0]));
        }
        table.push(watch.nanoseconds() / (bursts * BURST) as f64);
        let watch = Stopwatch::start();
        for _ in 0..bursts {
            for (chunk, frame) in (0..).zip(frames.iter_mut()) {
                *frame = Frame { chunk, offset: 128, len: 64, flags: 0 };
            }
            black_box(&mut frames);
            black_box(use_up(&frames));
        }
        inline.push(watch.nanoseconds() / (bursts * BURST) as f64);
    }
    Ok(Boundary { table: median(table), inline: median(inline) })
}
