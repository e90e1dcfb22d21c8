//! `qp`: what READs and WRITEs of 4 KiB cost, requester and responder together, in GVM records from memory to memory.
//!
//! Two roles, each with an endpoint, an arena and a region on hugepages, hand each other the frames that they send:
//! neither sockets nor Ethernet are timed, everything else is, with the ICRC made and checked on every packet. The
//! floor copies the same bytes in the same order from region to frame and from frame to region, and computes a CRC over
//! them once per side.

use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::stopwatch::Stopwatch;
use anyhow::Context;
use frame::pool::chunk_for_data;
use frame::{Burst, Datagram, Guarded, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role};
use records::{End, RecordCommand, RecordRole};
use transport::{
    Access, Config, Endpoint, Local, Op, PathId, Qpn, ReadyToReceive, ReadyToSend, Region, Remote, Status, Work,
};
use wire::Scale;
use wire::rc::{PathMtu, Psn, RnrTimer};

const MASTER: u16 = 1;
const SLAVE: u32 = 17;
const PAGE: u32 = 4096;
/// Requests of a round, each for another page.
pub const REQUESTS: u32 = 4096;
/// Requests that are posted at once, and frames that are handed over at once.
const AT_ONCE: u32 = 64;
/// READs that are outstanding, at most.
const DEPTH: u8 = 128;
const BASE: u64 = 1 << 32;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// READ at path MTU 4096, two answers in a datagram of MTU 9000
    #[value(name = "read_4096")]
    Read4096,
    /// WRITE at path MTU 4096, two in a datagram of MTU 9000
    #[value(name = "write_4096")]
    Write4096,
    /// READ at path MTU 1024, a packet in a datagram of MTU 1500
    #[value(name = "read_1024")]
    Read1024,
    /// READ at path MTU 4096 into a ring of as many pages as are outstanding, as `gvm-dp qp bench` does it
    #[value(name = "read_ring")]
    ReadRing,
    /// READ at path MTU 4096 of few pages, which stay in the caches
    #[value(name = "read_near")]
    ReadNear,
}

impl Case {
    /// All of them; the first is the one that the benchmark stands for.
    pub const ALL: [Self; 5] = [Self::Read4096, Self::Write4096, Self::Read1024, Self::ReadRing, Self::ReadNear];

    fn mtu(self) -> (PathMtu, u16) {
        match self {
            Self::Read4096 | Self::Write4096 | Self::ReadRing | Self::ReadNear => (PathMtu::B4096, 9000),
            Self::Read1024 => (PathMtu::B1024, 1500),
        }
    }

    /// In a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read4096 => "READ, path MTU 4096",
            Self::Write4096 => "WRITE, path MTU 4096",
            Self::Read1024 => "READ, path MTU 1024",
            Self::ReadRing => "READ into a ring",
            Self::ReadNear => "READ of 512 KiB, a ring",
        }
    }

    /// Pages that are asked for.
    const fn pages(self) -> u32 {
        match self {
            Self::ReadNear => DEPTH as u32,
            _ => REQUESTS,
        }
    }

    /// The page of a request: all of them, in an order that no prefetcher knows.
    const fn page(self, request: u32) -> u64 {
        (request.wrapping_mul(0x9E37_79B1) % self.pages()) as u64 * PAGE as u64
    }

    /// Pages of the requester.
    const fn own_pages(self) -> u32 {
        match self {
            Self::ReadRing | Self::ReadNear => DEPTH as u32,
            _ => REQUESTS,
        }
    }

    /// The requester's page for it.
    const fn own_page(self, request: u32) -> u64 {
        match self {
            Self::ReadRing | Self::ReadNear => (request % DEPTH as u32) as u64 * PAGE as u64,
            _ => self.page(request),
        }
    }
}

struct Node {
    role: RecordRole<Guarded>,
    out: Outbox,
    burst: Burst,
    qpn: Qpn,
    key: u32,
}

impl Node {
    fn new(end: End, other: u32, mtu: u16, pages: u32) -> anyhow::Result<Self> {
        let config = Config { paths: 64, ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0)?;
        let fill = if matches!(end, End::Master(_)) { 0 } else { 0x5a };
        let len = pages * PAGE;
        let mut memory = Guarded::new(len as usize, Hugepages::Prefer)?;
        for (at, byte) in (0..len).zip(memory.iter_mut()) {
            *byte = (at ^ at >> 8 ^ at >> 16) as u8 ^ fill;
        }
        let region = Region { base: BASE, len: len.into(), access: Access::ALL, domain: 1, memory };
        let key = endpoint.register(0x1234_5600, region)?;
        let qpn = endpoint.create(0x00ab_cd00, 1)?;
        endpoint.init(qpn)?;
        let mut role = RecordRole::new(endpoint, end, Scale::default(), config.paths)?;
        let chunk = chunk_for_data(u32::from(mtu));
        let pool = Pool::new(PoolConfig { frames: 1024, chunk, hugepages: Hugepages::Prefer, reserve: 0 })?;
        let mut out = Outbox::new(pool, 1);
        let peer = Peer::socket(PortId(0), "10.0.0.1:9999".parse()?);
        role.command(0, RecordCommand::Route { path: PathId(other), peer, mtu }, &mut out);
        Ok(Self { role, out, burst: Burst::new(), qpn, key })
    }

    fn connect(&mut self, other: u32, peer: Qpn, mtu: PathMtu) -> anyhow::Result<()> {
        let (path, psn) = (PathId(other), Psn::new(0xff_fff0));
        let receive = ReadyToReceive { path, peer, psn, mtu, read_depth: DEPTH, rnr_timer: RnrTimer::new(1) };
        self.role.endpoint().ready_to_receive(self.qpn, &receive)?;
        Ok(self.role.endpoint().ready_to_send(self.qpn, &ReadyToSend::usual(psn, DEPTH))?)
    }

    fn packets(&mut self) -> u64 {
        let counters = self.role.endpoint().counters();
        counters.packets_in.get() + counters.packets_out.get()
    }

    fn take(&mut self) -> Option<Datagram> {
        let queue = self.out.queue(PortId(0))?;
        queue.take().or_else(|| {
            queue.rewind();
            None
        })
    }
}

/// Nanoseconds of one round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Of both ends together.
    pub all: f64,
    /// Of each end, where they were timed apart.
    pub ends: [f64; 2],
}

/// Two ends, ready to ask.
pub struct Bench {
    requester: Node,
    responder: Node,
    case: Case,
    now: u64,
}

impl Bench {
    /// Two ends that are connected.
    ///
    /// # Errors
    /// The machine has no memory for the regions and the frames, or an end refuses its region or its queue pair.
    pub fn new(case: Case) -> anyhow::Result<Self> {
        let (path_mtu, mtu) = case.mtu();
        let mut requester = Node::new(End::Master(MASTER), SLAVE, mtu, case.pages())?;
        let mut responder = Node::new(End::Slave(SLAVE), MASTER.into(), mtu, case.pages())?;
        requester.connect(SLAVE, responder.qpn, path_mtu)?;
        responder.connect(MASTER.into(), requester.qpn, path_mtu)?;
        Ok(Self { requester, responder, case, now: 1000 })
    }

    /// The requester's turn: takes what is in its burst, polls completions, posts up to `left`, sends. Returns how many
    /// requests were completed and posted.
    #[inline(never)]
    fn requester(&mut self, next: u32, outstanding: u32) -> anyhow::Result<(u32, u32)> {
        let Node { role, out, burst, qpn, key } = &mut self.requester;
        role.receive(self.now, PortId(0), burst, out);
        let endpoint = role.endpoint();
        let mut completed = 0;
        while let Some(completion) = endpoint.poll() {
            anyhow::ensure!(completion.status == Status::Success, "{completion:?}");
            completed += 1;
        }
        let room = u32::from(DEPTH) - (outstanding - completed);
        let posted = room.min(AT_ONCE).min(REQUESTS - next);
        for request in next..next + posted {
            let address = BASE + self.case.own_page(request);
            let remote = Remote { address: BASE + self.case.page(request), key: self.responder.key };
            let op = if self.case == Case::Write4096 { Op::Write(remote) } else { Op::Read(remote) };
            endpoint.post(*qpn, Work { id: request.into(), op, local: Local { key: *key, address, len: PAGE } })?;
        }
        role.advance(self.now, out);
        Ok((completed, posted))
    }

    /// The responder's turn.
    #[inline(never)]
    fn responder(&mut self) {
        let Node { role, out, burst, .. } = &mut self.responder;
        role.receive(self.now, PortId(0), burst, out);
        role.advance(self.now, out);
    }

    /// One round. `apart` times each end by itself, which costs some time of its own.
    ///
    /// # Errors
    /// An end refuses a request, or a request completes with another status than success.
    pub fn run(&mut self, apart: bool) -> anyhow::Result<Spent> {
        let whole = Stopwatch::start();
        let mut ends = [0.0; 2];
        let (mut posted, mut completed) = (0, 0);
        while completed < REQUESTS {
            self.now += 1000;
            let start = apart.then(Stopwatch::start);
            let (done, more) = self.requester(posted, posted - completed)?;
            (completed, posted) = (completed + done, posted + more);
            ends[0] += start.map_or(0.0, |start| start.nanoseconds());
            self.carry(true);
            let start = apart.then(Stopwatch::start);
            self.responder();
            ends[1] += start.map_or(0.0, |start| start.nanoseconds());
            self.carry(false);
        }
        Ok(Spent { all: whole.nanoseconds(), ends })
    }

    /// Moves the datagrams of one end into the other's burst.
    fn carry(&mut self, down: bool) {
        let (from, to) = match down {
            true => (&mut self.requester, &mut self.responder),
            false => (&mut self.responder, &mut self.requester),
        };
        while to.burst.len() < frame::BURST
            && let Some(datagram) = from.take()
        {
            // There is room.
            drop(to.burst.push(datagram));
        }
    }

    /// Packets that each end received and sent.
    fn packets(&mut self) -> [u64; 2] {
        [self.requester.packets(), self.responder.packets()]
    }

    /// Checks that all pages that were not overwritten since are those that were asked for, and that nothing was sent
    /// twice.
    fn check(&mut self) -> anyhow::Result<()> {
        let endpoint = self.requester.role.endpoint();
        anyhow::ensure!(endpoint.counters().rewinds.get() == 0, "something was sent twice");
        let ours = endpoint.region(self.requester.key).context("no region")?;
        let theirs = self.responder.role.endpoint().region(self.responder.key).context("no region")?;
        let page = |memory: &[u8], at: u64| memory.get(at as usize..at as usize + PAGE as usize).map(<[u8]>::to_vec);
        for request in REQUESTS - self.case.own_pages()..REQUESTS {
            let (here, there) = (self.case.own_page(request), self.case.page(request));
            let (here, there) = (page(&ours.memory, here), page(&theirs.memory, there));
            anyhow::ensure!(here.is_some() && here == there, "the content of request {request} is wrong");
        }
        Ok(())
    }
}

/// The floor: nanoseconds of copies and of CRCs of one round.
pub struct Floor {
    case: Case,
    from: Guarded,
    to: Guarded,
    frames: Vec<Vec<u8>>,
    sum: u32,
}

impl Floor {
    /// Regions and frames of their own.
    ///
    /// # Errors
    /// The machine has no memory for the regions.
    pub fn new(case: Case) -> anyhow::Result<Self> {
        let memory = |pages| Guarded::new((pages * PAGE) as usize, Hugepages::Prefer);
        let (mut from, mut to) = (memory(case.pages())?, memory(case.own_pages())?);
        from.iter_mut().zip(0_u32..).for_each(|(byte, at)| *byte = (at ^ at >> 8) as u8);
        to.fill(1);
        let frames = (0..AT_ONCE).map(|_| vec![0; PAGE as usize]).collect();
        Ok(Self { case, from, to, frames, sum: 0 })
    }

    /// One round: each page is copied into a frame and out of it, and its CRC computed at both ends. Without `crc` only
    /// the copies.
    #[inline(never)]
    pub fn run(&mut self, crc: bool) -> f64 {
        let start = Stopwatch::start();
        for first in (0..REQUESTS).step_by(AT_ONCE as usize) {
            for (at, frame) in self.frames.iter_mut().enumerate() {
                let page = self.case.page(first + at as u32) as usize;
                frame.copy_from_slice(&self.from[page..page + PAGE as usize]);
                if crc {
                    self.sum ^= crc32fast::hash(frame);
                }
            }
            for (at, frame) in self.frames.iter().enumerate() {
                let page = self.case.own_page(first + at as u32) as usize;
                if crc {
                    self.sum ^= crc32fast::hash(frame);
                }
                self.to[page..page + PAGE as usize].copy_from_slice(frame);
            }
        }
        std::hint::black_box((&self.to, self.sum));
        start.nanoseconds()
    }
}

/// One line of the table. Times are nanoseconds, medians of the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What was asked.
    pub case: Case,
    /// Of a request, both ends together.
    pub request: f64,
    /// Of a packet at each end.
    pub packet: [f64; 2],
    /// Packets of a request at each end, received and sent.
    pub packets: [f64; 2],
    /// The floor's, of a request.
    pub floor: f64,
    /// Of it, the copies.
    pub copy: f64,
    /// Requests per second of ours, divided by those of the floor.
    pub ratios: Ratios,
}

impl Row {
    /// Million requests per CPU second of both ends together.
    pub fn rate(&self) -> f64 {
        1e3 / self.request
    }
}

/// Runs only this many rounds of one case, for a profiler.
///
/// # Errors
/// It fails as [`Bench::new`] and [`Bench::run`] do, or when something was sent twice or a page has other content than
/// was asked for.
pub fn rounds(case: Case, rounds: usize) -> anyhow::Result<f64> {
    let mut bench = Bench::new(case)?;
    let mut all = Vec::new();
    for _ in 0..rounds {
        all.push(bench.run(false)?.all / f64::from(REQUESTS));
    }
    bench.check()?;
    Ok(median(all))
}

/// Measures one case in turns with the floor.
///
/// # Errors
/// It fails as [`Bench::new`], [`Bench::run`] and [`Floor::new`] do, or when something was sent twice or a page has
/// other content than was asked for.
pub fn measure(case: Case, rounds: usize) -> anyhow::Result<Row> {
    let (mut bench, mut floor) = (Bench::new(case)?, Floor::new(case)?);
    for _ in 0..2 {
        bench.run(false)?;
        floor.run(true);
    }
    let each = |nanoseconds: f64| nanoseconds / f64::from(REQUESTS);
    let (mut ours, mut ends, mut floors, mut copies, mut ratios) = (vec![], [vec![], vec![]], vec![], vec![], vec![]);
    let before = bench.packets();
    for _ in 0..rounds {
        let (us, them) = (each(bench.run(false)?.all), each(floor.run(true)));
        ours.push(us);
        floors.push(them);
        ratios.push(them / us);
        copies.push(each(floor.run(false)));
        let apart = bench.run(true)?;
        for (ends, end) in ends.iter_mut().zip(apart.ends) {
            ends.push(each(end));
        }
    }
    let after = bench.packets();
    bench.check()?;
    let requests = f64::from(REQUESTS) * 2.0 * rounds as f64;
    let packets = [0, 1].map(|end| (after[end] - before[end]) as f64 / requests);
    let [first, second] = ends;
    let packet = [median(first) / packets[0], median(second) / packets[1]];
    let (request, floor, copy) = (median(ours), median(floors), median(copies));
    Ok(Row { case, request, packet, packets, floor, copy, ratios: Ratios::of(ratios) })
}

/// The whole table, as text on standard output and as a value.
///
/// # Errors
/// It fails as [`measure`] does, for the first case that fails.
pub fn table(rounds: usize) -> anyhow::Result<Vec<Row>> {
    println!("qp: 4 KiB in GVM records, {DEPTH} outstanding, requester and responder on one core, ICRC on");
    println!(
        "{:<22} {:>9} {:>9} {:>16} {:>16} {:>9} {:>7} {:>7} {:>7} {:>12}",
        "",
        "M/CPU-s",
        "ns each",
        "requester ns/pkt",
        "responder ns/pkt",
        "floor ns",
        "ICRC",
        "copy",
        "ratio",
        "of rounds"
    );
    let mut rows = Vec::new();
    for case in Case::ALL {
        let row = measure(case, rounds)?;
        println!(
            "{:<22} {:>9.3} {:>9.1} {:>16.1} {:>16.1} {:>9.1} {:>6.1}% {:>6.1}% {:>7.3} {:>12}",
            case.name(),
            row.rate(),
            row.request,
            row.packet[0],
            row.packet[1],
            row.floor,
            (row.floor - row.copy) / row.request * 100.0,
            row.copy / row.request * 100.0,
            row.ratios.median,
            row.ratios.range()
        );
        rows.push(row);
    }
    Ok(rows)
}

/// The benchmark.
///
/// # Errors
/// A page is wrong, or something was sent twice.
pub fn report(rounds: Option<usize>, quick: bool) -> anyhow::Result<Report> {
    let rows = table(rounds.unwrap_or(if quick { 2 } else { 15 }))?;
    let row = rows.first().context("nothing was measured")?;
    let details = rows.iter().map(|row| {
        serde_json::json!({
            "case": row.case.name(), "million_per_cpu_second": row.rate(), "ns": row.request,
            "requester_ns_per_packet": row.packet[0], "responder_ns_per_packet": row.packet[1],
            "requester_packets": row.packets[0], "responder_packets": row.packets[1],
            "floor_ns": row.floor, "copy_ns": row.copy, "ratio": row.ratios.median, "ratios": row.ratios.json()
        })
    });
    let details = details.collect();
    Ok(Report { name: "qp", value: row.rate(), unit: "MREADs/CPU-s", ratios: row.ratios, details })
}
