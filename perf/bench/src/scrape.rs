//! `scrape`: the cost of reading an lcore's counters, for the lcore.
//!
//! A gateway lcore polls at full load on memory ports, on a thread and core of its own. In some slices of time another
//! thread reads everything that a scrape and `gvm-dp stats` read, far more often than once a second; in the slices
//! between it rests. The cost is nanoseconds of busy polls for each record. The cost of one reading follows from the
//! difference.

use crate::account;
use crate::aggregate;
use crate::input::{self, Shape};
use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::unavailable::needs;
use gateway::GatewayCounters;
use lcore::thread::{LcoreHandle, ThreadConfig, start};
use lcore::{Clock, RxMode};
use serve::board::{Board, LcoreBoard, RoleCounters};
use serve::metrics::collect;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What was found.
#[derive(Clone, Debug)]
pub struct Table {
    /// Nanoseconds per record while nobody reads.
    pub alone: f64,
    /// The same while somebody reads.
    pub read: f64,
    /// The ratios of neighbouring slices.
    pub ratios: Ratios,
    /// Readings in a second, in the slices with readings.
    pub hz: f64,
    /// Bytes of one answer to a scrape.
    pub bytes: usize,
    /// What one reading takes the reader, in nanoseconds.
    pub reading_ns: f64,
}

impl Table {
    /// The share of the poll loop that readings once a second take, in millionths.
    pub fn ppm_at_1_hz(&self) -> f64 {
        (self.ratios.median - 1.0) / self.hz * 1e6
    }
}

/// A busy lcore on a thread, and what others see of it.
struct Subject {
    board: Board,
    counters: Arc<GatewayCounters>,
    running: LcoreHandle,
}

impl Subject {
    fn start(core: Option<usize>) -> anyhow::Result<Self> {
        let shape = Shape { slaves: 1024, payload: 64, records: 1, packets: 65_536, up: false, scattered: false };
        let clock = Clock::start();
        let config = ThreadConfig { index: 0, core, mode: RxMode::Polling, clock };
        let (tell, told) = mpsc::channel();
        let build = move || {
            let lcore = aggregate::lcore(0, &shape, &input::packets(&shape), 32)?;
            tell.send(Arc::clone(lcore.role().counters()))?;
            Ok(lcore)
        };
        let starting = start::<_, anyhow::Error>(config, build, || {}).map_err(|error| anyhow::anyhow!("{error}"))?;
        let running = starting.wait().map_err(|error| anyhow::anyhow!("{error}"))?;
        let counters: Arc<GatewayCounters> = told.recv()?;
        let lcore = LcoreBoard::new(running.view().clone(), RoleCounters::Gateway(Arc::clone(&counters)));
        let board = Board::new("gateway", "bench".to_owned(), wire::Scale::default(), clock, vec![lcore]);
        Ok(Self { board, counters, running })
    }

    /// Nanoseconds of busy polls and records so far.
    fn now(&self) -> (u64, u64) {
        let busy = self.board.lcores().iter().map(|lcore| lcore.view.lcore.busy_ns.get()).sum();
        (busy, self.counters.down.records_in.get())
    }

    /// Nanoseconds per record while `body` runs.
    fn slice(&self, body: impl FnOnce()) -> f64 {
        let before = self.now();
        body();
        let after = self.now();
        (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64
    }

    /// Ends it, and sees that all that came in went its way.
    fn end(self) -> anyhow::Result<()> {
        let view = self.running.view().clone();
        self.running.stop();
        self.running.join();
        let ports = view.ports.into_iter().map(|port| port.counters);
        account::counters(false, &self.counters, &view.outbox, ports).map(drop)
    }

    /// Reads all that a scrape and `gvm-dp stats` read; returns the bytes of the scrape.
    fn read(&self) -> usize {
        let text = collect::all(&self.board);
        let stats = self.board.stats(None);
        std::hint::black_box(&stats);
        std::hint::black_box(&text).len()
    }
}

/// Measures `rounds` rounds of slices, of `slice` each, with a reading every `every`; prints and returns the result.
///
/// # Errors
/// The error is [`Unavailable`](crate::unavailable::Unavailable) when the machine has one core alone. It is another one
/// when the lcore cannot be started, or a record is lost.
pub fn table(rounds: usize, slice: Duration, every: Duration) -> anyhow::Result<Table> {
    let cores = std::thread::available_parallelism()?.get();
    needs(cores >= 2, "the reader needs a core of its own: this machine has one")?;
    let subject = Subject::start(Some(1))?;
    // Buffers fill to all levels.
    std::thread::sleep(Duration::from_millis(500));
    let (mut alone, mut read, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut readings, mut bytes, mut reading) = (0u32, 0, Duration::ZERO);
    for _ in 0..rounds {
        let without = subject.slice(|| std::thread::sleep(slice));
        let with = subject.slice(|| {
            let began = Instant::now();
            while began.elapsed() < slice {
                let one = Instant::now();
                bytes = subject.read();
                reading += one.elapsed();
                readings += 1;
                std::thread::sleep(every.saturating_sub(one.elapsed()));
            }
        });
        let again = subject.slice(|| std::thread::sleep(slice));
        ratios.push(2.0 * with / (without + again));
        alone.push(without);
        read.push(with);
    }
    subject.end()?;
    let seconds = slice.as_secs_f64() * rounds as f64;
    let table = Table {
        alone: median(alone),
        read: median(read),
        ratios: Ratios::of(ratios),
        hz: f64::from(readings) / seconds,
        bytes,
        reading_ns: reading.as_nanos() as f64 / f64::from(readings.max(1)),
    };
    println!("scrape: one gateway lcore at full load on memory ports, {rounds} rounds of 3 slices of {slice:?}");
    println!(
        "{:>16} {:>12} {:>12} {:>8} {:>12} {:>14} {:>12}",
        "readings/s", "ns/rec alone", "ns/rec read", "ratio", "of rounds", "bytes/scrape", "us/reading"
    );
    println!(
        "{:>16.0} {:>12.1} {:>12.1} {:>8.4} {:>12} {:>14} {:>12.1}",
        table.hz,
        table.alone,
        table.read,
        table.ratios.median,
        table.ratios.range(),
        table.bytes,
        table.reading_ns / 1e3
    );
    println!("one reading a second takes {:.2} millionths of the poll loop", table.ppm_at_1_hz());
    Ok(table)
}

/// The benchmark; see [`table`] for `slice` and `every`.
///
/// # Errors
/// There is one core only, or records are missing.
pub fn report(rounds: Option<usize>, slice: Duration, every: Duration, quick: bool) -> anyhow::Result<Report> {
    let table = table(rounds.unwrap_or(if quick { 4 } else { 100 }), slice, every)?;
    let details = serde_json::json!({
        "readings_per_second": table.hz, "ns_per_record_alone": table.alone, "ns_per_record_read": table.read,
        "ratio": table.ratios.median, "bytes_per_scrape": table.bytes, "reading_ns": table.reading_ns
    });
    let (value, unit) = (table.ppm_at_1_hz(), "ppm-of-the-poll-loop-at-1-Hz");
    Ok(Report { name: "scrape", value, unit, ratios: table.ratios, details })
}
