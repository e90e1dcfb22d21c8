//! The bare loop as a child: the same input, one round at a time. See `bare/main.c` for what is said over the pipes.

use super::case::{Case, ROOM, Warmth};
use crate::input;
use anyhow::{Context as _, bail, ensure};
use frame::Backing;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Where the build script put it.
const PROGRAM: &str = concat!(env!("OUT_DIR"), "/bare");

/// Other work of a gateway, which the bare loop can do, too: each part alone, and all parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    /// Nothing.
    None = 0,
    /// The list of VLANs, asked for each sender that is not the last one.
    Vlans = 1,
    /// The fair share of each slave, as while a port is contended.
    Budgets = 2,
    /// A bound on the datagrams that wait for one destination.
    Bounds = 4,
    /// All of these.
    Every = 7,
}

/// A bare loop with its input, which waits for a command.
pub(super) struct BareLoop {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    is_cold: bool,
}

impl BareLoop {
    /// Starts it with the input of a case in chunks as the product has them.
    ///
    /// # Errors
    /// It does not start, or has no memory.
    pub(super) fn new(case: &Case, packets: &[Vec<u8>], extra: Extra) -> anyhow::Result<Self> {
        let mut child = Command::new(PROGRAM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the bare loop {PROGRAM}"))?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        let mut bare = Self { child, commands, answers, is_cold: case.warmth == Warmth::Cold };
        bare.set_up(case, packets, extra)?;
        Ok(bare)
    }

    /// From now on nothing is taken out of the caches before a round: the round before has left there what fits.
    pub(super) fn leave_caches(&mut self) {
        self.is_cold = false;
    }

    fn set_up(&mut self, case: &Case, packets: &[Vec<u8>], extra: Extra) -> anyhow::Result<()> {
        let shape = case.shape();
        // For its numbers alone: the bare loop has memory of its own.
        let pool = input::pool(packets.len() as u32, input::chunk(packets))?;
        let chunks = input::arrange(&pool, shape.scattered);
        let numbers = [
            shape.slaves,
            shape.up.into(),
            shape.records as u32,
            packets.len() as u32,
            packets.first().map_or(0, Vec::len) as u32,
            pool.chunk(),
            pool.slots(),
            ROOM.into(),
            case.round() as u32,
            (pool.backing() == Backing::Hugepages).into(),
            extra as u32,
        ];
        drop(pool);
        let mut to = BufWriter::new(self.commands.as_mut().context("its input is open")?);
        for number in numbers.into_iter().chain(chunks) {
            to.write_all(&number.to_ne_bytes())?;
        }
        for packet in packets {
            to.write_all(packet)?;
        }
        to.flush()?;
        drop(to);
        let answer = self.answer()?;
        ensure!(answer == "ready", "the bare loop said: {answer}");
        Ok(())
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn command(&mut self, command: u8) -> anyhow::Result<f64> {
        self.commands.as_mut().context("its input is open")?.write_all(&[command])?;
        let answer = self.answer()?;
        answer.parse().with_context(|| format!("the bare loop said: {answer}"))
    }

    /// Passes the input until buffers are filled to all levels.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn fill(&mut self, case: &Case) -> anyhow::Result<()> {
        (0..case.passes_to_fill()).try_for_each(|_| self.command(b'w').map(drop))
    }

    /// One round: nanoseconds per record.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn run(&mut self) -> anyhow::Result<f64> {
        // Takes what is in the caches out of them, or brings the input into them.
        self.command(if self.is_cold { b'e' } else { b'w' })?;
        self.command(b't')
    }

    /// Lets it check its books and end; returns how many records came in.
    ///
    /// # Errors
    /// A record or a frame is missing, or a packet that it sent is wrong.
    pub(super) fn check(mut self) -> anyhow::Result<u64> {
        self.commands = None;
        let answer = self.answer()?;
        let status = self.child.wait()?;
        let words: Vec<_> = answer.split(' ').collect();
        match words[..] {
            ["in", records, ..] if status.success() => Ok(records.parse()?),
            _ => bail!("the bare loop said: {answer} ({status})"),
        }
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        self.commands = None;
        // The child ends at the end of its input. Nobody reads its output any more.
        let _ = self.child.wait();
    }
}
