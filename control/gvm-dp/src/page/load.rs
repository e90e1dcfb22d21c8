//! Many requests under way.

use super::master::failure;
use super::pattern::{fill, wrong_bytes};
use common::exit::Failure;
use indicatif::ProgressBar;
use pages::{Buffer, Client, EXTENT, Ended, Extent, Status, Work};
use roce::Latencies;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How long nothing may end before the run is given up: longer than a lease.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a request is repeated that ended because a session did.
const REPEATS: u32 = 100;

/// Remote memory of one run, in blocks.
pub(super) struct Memory {
    pub(super) extents: Vec<Extent>,
    /// Bytes of a block.
    pub(super) block: u32,
    /// Differs in each run.
    pub(super) run: u64,
}

impl Memory {
    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.extents.len() as u64 * u64::from(EXTENT / self.block)
    }

    /// The extent of a block, and the offset there.
    fn place(&self, block: u64) -> Option<(Extent, u32)> {
        let per = u64::from(EXTENT / self.block);
        let extent = *self.extents.get(usize::try_from(block / per).ok()?)?;
        // Smaller than an extent.
        Some((extent, (block % per) as u32 * self.block))
    }
}

/// What is done with each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Write,
    Verify,
    Read,
}

/// What came of a load.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) done: u64,
    pub(super) repeated: u64,
    pub(super) wrong_bytes: u64,
    pub(super) elapsed: Duration,
    pub(super) latencies: Latencies,
    /// How many requests ended otherwise, by status.
    pub(super) failed: BTreeMap<u32, u64>,
}

impl Outcome {
    /// Requests that failed for good.
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// A load while it runs.
pub(super) struct Load<'a> {
    pub(super) client: &'a mut Client,
    pub(super) memory: &'a Memory,
    /// Requests under way, no more than there are blocks.
    pub(super) depth: u32,
}

impl Load<'_> {
    /// Does something with blocks, as many at a time as the depth says, in the order in which they are named. One that
    /// is under way is passed over. It ends when all are done, or soon after a request has failed for good.
    pub(super) fn run(
        &mut self,
        action: Action,
        mut blocks: impl Iterator<Item = u64>,
        bar: &ProgressBar,
    ) -> Result<Outcome, Failure> {
        let buffer = |_| self.client.buffer(self.memory.block as usize);
        let mut buffers: Vec<Buffer> = (0..self.depth).map(buffer).collect::<Result<_, _>>().map_err(failure)?;
        let mut outcome = Outcome::default();
        let (mut batch, mut ended) = (Vec::new(), Vec::new());
        // When each block under way was asked for, and how often.
        let mut asked: HashMap<u64, (Instant, u32)> = HashMap::new();
        let (begin, mut last) = (Instant::now(), Instant::now());
        loop {
            while outcome.failed.is_empty()
                && let Some(buffer) = buffers.pop()
            {
                let Some(block) = blocks.by_ref().find(|block| !asked.contains_key(block)) else {
                    buffers.push(buffer);
                    break;
                };
                batch.push(self.work(action, block, buffer)?);
                asked.insert(block, (Instant::now(), 0));
            }
            self.client.post(&mut batch).map_err(failure)?;
            if batch.is_empty() && self.client.under_way() == 0 {
                break;
            }
            let got = self.client.wait(&mut ended, Some(Duration::from_secs(1))).map_err(failure)?;
            if got > 0 {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                return Err(Failure::Pages(format!(
                    "no request has ended for {} s: are slaves and gateways running? `gvm-dp stats` of the master says \
                     what it waits for",
                    PATIENCE.as_secs()
                )));
            }
            for end in ended.drain(..) {
                let began = asked.remove(&end.tag);
                if let Some((began, repeats)) = began
                    && matches!(end.status, Status::FLUSHED | Status::NO_ANSWER)
                    && repeats < REPEATS
                {
                    outcome.repeated += 1;
                    asked.insert(end.tag, (began, repeats + 1));
                    batch.push(self.work(action, end.tag, end.buffer)?);
                    continue;
                }
                self.count(action, &end, began.map(|(began, _)| began), &mut outcome);
                bar.inc(1);
                buffers.push(end.buffer);
            }
        }
        outcome.elapsed = begin.elapsed();
        Ok(outcome)
    }

    fn work(&self, action: Action, block: u64, mut buffer: Buffer) -> Result<Work, Failure> {
        let Some((extent, offset)) = self.memory.place(block) else {
            return Err(Failure::Internal(format!("there is no block {block}")));
        };
        let work = match action {
            Action::Write => {
                fill(&mut buffer, self.memory.run, block * u64::from(self.memory.block)).map_err(failure)?;
                Work::write(extent, offset, buffer)
            }
            Action::Verify | Action::Read => Work::read(extent, offset, buffer),
        };
        Ok(work.tagged(block))
    }

    fn count(&self, action: Action, end: &Ended, began: Option<Instant>, outcome: &mut Outcome) {
        if !end.status.is_done() {
            *outcome.failed.entry(end.status.number()).or_default() += 1;
            return;
        }
        outcome.done += 1;
        if let Some(began) = began {
            outcome.latencies.record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        if action != Action::Write {
            let place = end.tag * u64::from(self.memory.block);
            outcome.wrong_bytes += wrong_bytes(&end.buffer, self.memory.run, place);
        }
    }
}
