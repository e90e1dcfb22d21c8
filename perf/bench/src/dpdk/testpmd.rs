//! `dpdk-testpmd` in its io mode: it sends the packets of one device on the other and reads none.
//!
//! From a file it sends everything to a device that drops it. With two rings it first fills both with packets of its
//! own, and these then go round for ever: each is received from one ring and sent into the other.

use super::source::Source;
use crate::unavailable::needs;
use anyhow::Context as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The end of its prompt.
const PROMPT: &str = "testpmd> ";
/// Mempool objects that it needs beside those of the file.
const OBJECTS: usize = 16_384;
/// A worker that forwards nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The order that starts it with packets of its own: bursts of 64 into each ring, which has 1,024 places.
const FILL_AND_START: &str = "start tx_first 8";

/// Whether `dpdk-testpmd` is there.
///
/// # Errors
/// It is not.
pub(super) fn needs_testpmd() -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join("dpdk-testpmd").is_file());
    needs(is_there, "dpdk-testpmd is not installed: `apt-get install -y --no-install-recommends dpdk-dev`")
}

/// A running `dpdk-testpmd`, which forwards only while it is measured.
pub(super) struct Testpmd {
    child: Child,
    orders: ChildStdin,
    words: BufReader<ChildStdout>,
    /// The order that starts forwarding.
    start: &'static str,
    /// The numbers of the devices whose received packets count.
    counted: &'static [u32],
}

impl Testpmd {
    /// Starts it between two devices, with its worker on the second of these cores.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub(super) fn start(
        source: Source<'_>,
        packets: usize,
        [main, core]: [usize; 2],
        hugepages: bool,
    ) -> anyhow::Result<Self> {
        let (devices, start, counted): (_, _, &[u32]) = match source {
            Source::File(file) => {
                let input = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
                ([input, "net_null0,no-rx=1".to_owned()], "start", &[0])
            }
            Source::Ring(_) => (["net_ring0", "net_ring1"].map(str::to_owned), FILL_AND_START, &[0, 1]),
        };
        // Without `stdbuf` its output to a pipe would be buffered.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "dpdk-testpmd"]);
        command.arg(format!("--lcores=0@{main},1@{core}")).args(["--main-lcore=0", "--iova-mode=va", "--no-pci"]);
        if hugepages {
            command.arg("--in-memory");
        } else {
            command.args(["--no-huge", "--no-shconf", "-m", "768"]);
        }
        command
            .args(devices.map(|device| format!("--vdev={device}")))
            .args(["--", "-i", "--nb-cores=1", "--forward-mode=io", "--burst=64"])
            .arg(format!("--total-num-mbufs={}", packets + OBJECTS))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("stdbuf does not run: `apt-get install coreutils`")?;
        let orders = child.stdin.take().context("piped")?;
        let words = BufReader::new(child.stdout.take().context("piped")?);
        let mut testpmd = Self { child, orders, words, start, counted };
        testpmd.answer("").context("dpdk-testpmd did not start; try its command line by hand")?;
        Ok(testpmd)
    }

    /// Gives an order, and returns what it printed from `sign` up to the prompt: it also echoes its input after a
    /// prompt.
    fn order(&mut self, order: &str, sign: &str) -> anyhow::Result<String> {
        writeln!(self.orders, "{order}")?;
        self.answer(sign)
    }

    fn answer(&mut self, sign: &str) -> anyhow::Result<String> {
        let mut said = Vec::new();
        loop {
            let before = said.len();
            self.words.read_until(b' ', &mut said)?;
            anyhow::ensure!(said.len() > before, "dpdk-testpmd ended and never said `{sign}`");
            if said.ends_with(PROMPT.as_bytes()) {
                let text = String::from_utf8_lossy(&said);
                if text.contains(sign) {
                    return Ok(text.into_owned());
                }
            }
        }
    }

    /// Packets received so far, and nanoseconds that its worker ran.
    fn look(&mut self) -> anyhow::Result<(f64, f64)> {
        let mut packets = 0.0;
        for device in self.counted {
            let said = self.order(&format!("show port stats {device}"), "TX-bytes:")?;
            let received = said.split("RX-packets:").nth(1).and_then(|rest| rest.split_whitespace().next());
            let received: Option<f64> = received.and_then(|number| number.parse().ok());
            packets += received.context("dpdk-testpmd counts packets")?;
        }
        let tasks = format!("/proc/{}/task", self.child.id());
        for task in std::fs::read_dir(tasks)?.flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.contains("worker-1") {
                let time = std::fs::read_to_string(task.path().join("schedstat"))?;
                let ran = time.split_whitespace().next().and_then(|number| number.parse().ok());
                return Ok((packets, ran.context("the kernel counts the time of threads")?));
            }
        }
        anyhow::bail!("dpdk-testpmd has no worker")
    }

    /// Million packets per CPU second of its worker, for a while.
    ///
    /// # Errors
    /// It has ended, or says nothing.
    pub(super) fn measure(&mut self, time: Duration) -> anyhow::Result<f64> {
        self.order(self.start, "packet forwarding")?;
        let (packets, ran) = self.look()?;
        // On a busy machine its worker may not run in this time at all.
        let began = Instant::now();
        let (more, longer) = loop {
            std::thread::sleep(time);
            let seen = self.look()?;
            if (seen.0 > packets && seen.1 > ran) || began.elapsed() > PATIENCE {
                break seen;
            }
        };
        self.order("stop", "Done.")?;
        anyhow::ensure!(more > packets && longer > ran, "dpdk-testpmd forwards nothing");
        Ok((more - packets) * 1e3 / (longer - ran))
    }

    /// Ends it.
    ///
    /// # Errors
    /// It does not end.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        writeln!(self.orders, "quit")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
