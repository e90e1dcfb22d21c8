//! Packets for benchmarks, made and counted in the kernel: faster than any socket, and without CPU time of other
//! programs.
//!
//! [`Generator`] sends one packet again and again through `BPF_PROG_TEST_RUN` with live frames; a program gives each
//! its slave id and number. [`Sink`] counts what arrives at the other end, checks a sample, and drops it.

use aya::maps::PerCpuArray;
use aya::programs::tc::SchedClassifierLinkId;
use aya::programs::{SchedClassifier, TcAttachType, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use std::error::Error;

static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/generate.bpf.o"));

/// Packets that the kernel makes before it passes them on: the most that it supports.
const BATCH: u32 = 256;

/// Why a generator or a sink cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}; it needs root and Linux 6.6 or newer")]
pub struct GenerateError {
    action: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl GenerateError {
    fn new<E: Into<Box<dyn Error + Send + Sync>>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { action, source: source.into() }
    }
}

fn missing(name: &'static str) -> GenerateError {
    GenerateError::new("find the parts of the program")(name)
}

/// Which slave gets which packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Number of slaves, a power of two; each comes once before any comes again.
    pub slaves: u32,
    /// Packets in a row to one slave, a power of two.
    pub run: u32,
}

/// Sends packets out of an interface.
pub struct Generator {
    ebpf: Ebpf,
}

impl Generator {
    /// A generator for an interface of the calling thread's network namespace; use it on threads of that namespace.
    ///
    /// # Errors
    /// The kernel refuses the program.
    pub fn load(ifindex: u32, pattern: Pattern) -> Result<Self, GenerateError> {
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("out_ifindex", &ifindex, true)
            .override_global("id_mask", &pattern.slaves.next_power_of_two().wrapping_sub(1), true)
            .override_global("run_shift", &pattern.run.max(1).ilog2(), true)
            .load(PROGRAMS)
            .map_err(GenerateError::new("load the generator"))?;
        program(&mut ebpf)?.load().map_err(GenerateError::new("load the generator"))?;
        Ok(Self { ebpf })
    }

    /// Sends a packet `times` times and returns when all have left. The packet is a whole Ethernet frame with one
    /// record. Its slave id and the number after it are 0, and its payload has eight bytes 0xff from its fourth byte
    /// on. The program writes the complements there, so that the checksum stays right.
    ///
    /// # Errors
    /// The kernel has no live frames (before 5.18).
    pub fn send(&mut self, packet: &[u8], times: u32) -> Result<(), GenerateError> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.repeat = times;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        program(&mut self.ebpf)?.test_run(options).map_err(GenerateError::new("send live frames"))?;
        Ok(())
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, GenerateError> {
    let program = ebpf.program_mut("generate").ok_or_else(|| missing("generate"))?;
    program.try_into().map_err(GenerateError::new("load the generator"))
}

/// The counts of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Received {
    /// Datagrams of the gateway's UDP port.
    pub datagrams: u64,
    /// Records in them, by their length.
    pub records: u64,
    /// Datagrams in which every record was checked.
    pub sampled: u64,
    /// Datagrams that are not whole records, or whose records are not the generator's or not all for one slave.
    pub bad: u64,
}

// SAFETY: four integers without padding; any bytes are valid.
unsafe impl Pod for Received {}

/// Counts and drops what arrives at an interface.
pub struct Sink {
    ebpf: Ebpf,
    /// Detached when the program is unloaded.
    _link: SchedClassifierLinkId,
}

impl Sink {
    /// Attaches a sink to an interface of the calling thread's network namespace, for records of `record_len` bytes.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses the program.
    pub fn attach(ifname: &str, record_len: u32) -> Result<Self, GenerateError> {
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("record_len", &record_len, true)
            .load(PROGRAMS)
            .map_err(GenerateError::new("load the sink"))?;
        let program = ebpf.program_mut("count").ok_or_else(|| missing("count"))?;
        let program: &mut SchedClassifier = program.try_into().map_err(GenerateError::new("load the sink"))?;
        program.load().map_err(GenerateError::new("load the sink"))?;
        let link = program.attach(ifname, TcAttachType::Ingress).map_err(GenerateError::new("attach the sink"))?;
        Ok(Self { ebpf, _link: link })
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn received(&self) -> Result<Received, GenerateError> {
        let add = |a: Received, b: Received| Received {
            datagrams: a.datagrams + b.datagrams,
            records: a.records + b.records,
            sampled: a.sampled + b.sampled,
            bad: a.bad + b.bad,
        };
        Ok(cpus::<Received>(&self.ebpf, "received")?.into_iter().fold(Received::default(), add))
    }
}

/// The only entry of a map, of each CPU.
fn cpus<T: Pod>(ebpf: &Ebpf, name: &'static str) -> Result<Vec<T>, GenerateError> {
    let map = ebpf.map(name).ok_or_else(|| missing(name))?;
    let map: PerCpuArray<_, T> = PerCpuArray::try_from(map).map_err(GenerateError::new("read its counters"))?;
    let values = map.get(&0, 0).map_err(GenerateError::new("read its counters"))?;
    Ok(values.iter().copied().collect())
}
