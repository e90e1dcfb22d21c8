//! `bulk`: READs that nobody waits for, of 1,000 slaves: how many of the packets from the master to its gateway records
//! save.
//!
//! The master, the gateway, its registrar and the slaves are the product's; the wire and the clock are not real, so
//! that every run is the same. Everybody is polled each microsecond. The baseline is one datagram for each record.

mod cluster;

use crate::ratios::Ratios;
use crate::report::{Report, grouped};
use anyhow::{Context as _, ensure};
use cluster::{BulkCluster, SPEED};
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use master::{
    Allocate, BufferKey, ClientId, ClientQuota, EXTENT_LEN, ExtentId, MasterEvent, PageOp, PageRequest, PageStatus,
    Urgency,
};

/// Bytes of a page.
const PAGE: u32 = 4096;

/// Allocations of extents on half as many slaves, until enough slaves have one; a unit has 32.
const ALLOCATIONS: usize = 60;

/// The order in which pages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageOrder {
    /// Neighbouring pages are on different slaves.
    Striped,
    /// Neighbouring pages are on one slave, 2 MiB on each.
    InTurn,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct BulkCase {
    name: &'static str,
    order: PageOrder,
    /// READs outstanding.
    depth: u32,
    /// Picoseconds of a byte on the master's link.
    ps_per_byte: u64,
}

/// The first one is what the benchmark stands for.
const CASES: [BulkCase; 6] = [
    BulkCase {
        name: "a page of each slave in turn, 4,096 outstanding",
        order: PageOrder::Striped,
        depth: 4096,
        ps_per_byte: 800,
    },
    BulkCase {
        name: "2 MiB of each slave in turn, 4,096 outstanding",
        order: PageOrder::InTurn,
        depth: 4096,
        ps_per_byte: 800,
    },
    BulkCase { name: "a page of each slave, 256 outstanding", order: PageOrder::Striped, depth: 256, ps_per_byte: 800 },
    BulkCase { name: "a page of each slave, 64 outstanding", order: PageOrder::Striped, depth: 64, ps_per_byte: 800 },
    BulkCase {
        name: "a page of each slave, 4,096, no limit of the link",
        order: PageOrder::Striped,
        depth: 4096,
        ps_per_byte: 0,
    },
    BulkCase { name: "2 MiB of each slave, 64 outstanding", order: PageOrder::InTurn, depth: 64, ps_per_byte: 800 },
];

/// The share of packets that the first case must save. The clock is virtual, so that every run gives the same.
const LEAST_SAVED: f64 = 0.9;

/// What a case came to.
#[derive(Clone, Copy, Debug)]
struct Saved {
    pages: u64,
    records: u64,
    datagrams: u64,
    /// How long it took, by the virtual clock.
    seconds: f64,
}

impl Saved {
    /// The share of packets that were saved.
    fn share(&self) -> f64 {
        1.0 - self.datagrams as f64 / self.records.max(1) as f64
    }

    /// Thousand pages a second, by the virtual clock.
    fn speed(&self) -> f64 {
        self.pages as f64 / self.seconds / 1e3
    }
}

/// A cluster with one client, which has an extent of each slave.
struct Bulk {
    cluster: BulkCluster,
    client: ClientId,
    buffer: BufferKey,
    /// An extent of each slave, by slave.
    extents: Vec<ExtentId>,
    depth: u32,
}

impl Bulk {
    fn new(slaves: u32, depth: u32) -> anyhow::Result<Self> {
        // The master chooses slaves at random, so some of those that are there get nothing for long.
        let there = slaves + slaves / 10;
        let mut cluster = BulkCluster::new(there, 2 * depth)?;
        wait(&mut cluster, "the slaves", |cluster| cluster.master().members().count() == there as usize)?;
        let quota = ClientQuota { extents: 32 * slaves, requests: depth, buffers: 1 };
        let client = cluster.master().add_client(quota).context("a client")?;
        let memory = vec![0x5a; (depth * PAGE) as usize];
        let buffer = cluster.master().add_buffer(client, 0, memory).context("a buffer")?;
        let mut of = vec![None; there as usize];
        for _ in 0..ALLOCATIONS {
            if of.iter().flatten().count() >= slaves as usize {
                break;
            }
            let now = cluster.now;
            cluster.master().allocate(now, Allocate { client, tag: 0, count: slaves / 2, apart: false });
            let mut more = None;
            wait(&mut cluster, "extents", |cluster| {
                for event in cluster.events.try_iter() {
                    match event {
                        MasterEvent::Allocated { extents, .. } => more = Some(extents),
                        MasterEvent::NotAllocated { .. } => more = Some(Vec::new()),
                        _ => {}
                    }
                }
                more.is_some()
            })?;
            for extent in more.into_iter().flatten() {
                let slave = cluster.master().slave_of(client, extent).context("an extent is somewhere")?;
                *of.get_mut(slave as usize).context("a slave of ours")? = Some(extent);
            }
            // Slaves announce what they have left with their heartbeats.
            let later = cluster.now + 2 * SECOND;
            wait(&mut cluster, "heartbeats", |cluster| cluster.now >= later)?;
        }
        let extents: Vec<_> = of.into_iter().flatten().take(slaves as usize).collect();
        ensure!(extents.len() == slaves as usize, "only {} slaves have an extent", extents.len());
        Ok(Self { cluster, client, buffer, extents, depth })
    }

    fn request(&self, case: &BulkCase, number: u64) -> PageRequest {
        let slaves = self.extents.len() as u64;
        let each = u64::from(EXTENT_LEN / PAGE);
        let (slave, page) = match case.order {
            PageOrder::Striped => (number % slaves, number / slaves % each),
            PageOrder::InTurn => (number / each % slaves, number % each),
        };
        PageRequest {
            client: self.client,
            tag: number,
            op: PageOp::Read,
            urgency: Urgency::Bulk,
            extent: self.extents[slave as usize],
            offset: page as u32 * PAGE,
            len: PAGE,
            buffer: self.buffer,
            address: number % u64::from(self.depth) * u64::from(PAGE),
        }
    }

    fn run(&mut self, case: &BulkCase, pages: u64) -> anyhow::Result<Saved> {
        self.cluster.ps_per_byte = case.ps_per_byte;
        let stats = self.cluster.master().stats();
        let count = || (stats.records.rc_records_out.get(), stats.records.datagrams_out.get());
        // Windows open at first.
        let warm_up = pages / 4;
        let (mut posted, mut done) = (0, 0);
        let (mut began, mut before, mut arrived) = (self.cluster.now, count(), self.cluster.gateway_in());
        let mut is_warm = false;
        while done < warm_up + pages {
            if done >= warm_up && !is_warm {
                (began, before, arrived, is_warm) = (self.cluster.now, count(), self.cluster.gateway_in(), true);
            }
            while posted < warm_up + pages && posted - done < u64::from(case.depth) {
                let (now, request) = (self.cluster.now, self.request(case, posted));
                ensure!(self.cluster.master().submit(now, &[request]) == 1, "the master has no room");
                posted += 1;
            }
            self.cluster.poll(MICROSECOND)?;
            while let Some(completion) = self.cluster.master().poll() {
                ensure!(completion.status == PageStatus::Done, "a READ ended with {}", completion.status);
                done += 1;
            }
            ensure!(self.cluster.now < began + 100 * SECOND, "READs do not end");
        }
        let ((records, datagrams), (came, records_in)) = (count(), self.cluster.gateway_in());
        ensure!(stats.transport.rewinds.get() == 0, "something was sent twice");
        let (records, datagrams) = (records - before.0, datagrams - before.1);
        // What left last may still be on its way.
        let (came, records_in) = (came - arrived.0, records_in - arrived.1);
        let is_near = |came: u64, left: u64| came.abs_diff(left) <= u64::from(2 * self.depth);
        ensure!(is_near(came, datagrams), "{datagrams} datagrams left the master, and {came} came to the gateway");
        ensure!(
            is_near(records_in, records),
            "{records} records left the master, and {records_in} came to the gateway"
        );
        let memory = self.cluster.master().buffer_mut(self.buffer).context("the buffer")?;
        let read = memory.get(..(case.depth * PAGE) as usize).context("the buffer")?;
        ensure!(read.iter().all(|byte| *byte == 0), "memory that nobody wrote is not zero");
        Ok(Saved { pages, records, datagrams, seconds: (self.cluster.now - began) as f64 / 1e9 })
    }
}

/// Polls until something is so, in steps of 100 us.
fn wait(cluster: &mut BulkCluster, what: &str, mut is_so: impl FnMut(&mut BulkCluster) -> bool) -> anyhow::Result<()> {
    let until: Time = cluster.now + 30 * SECOND;
    while !is_so(cluster) {
        ensure!(cluster.now < until, "{what} do not come in 30 s");
        cluster.poll(MILLISECOND / 10)?;
    }
    Ok(())
}

/// The benchmark.
///
/// # Errors
/// A role cannot be made, a READ does not end well, or fewer packets are saved than must be.
pub fn report(quick: bool) -> anyhow::Result<Report> {
    let (slaves, pages, cases) = if quick { (100, 20_000, &CASES[..1]) } else { (1000, 200_000, &CASES[..]) };
    println!(
        "bulk: READs of 4 KiB, {} slaves, master to gateway, MTU 1500, a link of {} Gbit/s, virtual clock",
        grouped(slaves.into()),
        SPEED / 1000
    );
    println!("{:<52} {:>9} {:>10} {:>9} {:>8} {:>10}", "", "records", "datagrams", "in each", "saved", "k pages/s");
    let mut all = Vec::new();
    let mut bulk = Bulk::new(slaves, 4096)?;
    for case in cases {
        let saved = bulk.run(case, pages).with_context(|| case.name)?;
        println!(
            "{:<52} {:>9} {:>10} {:>9.1} {:>6.2} % {:>10.1}",
            case.name,
            grouped(saved.records),
            grouped(saved.datagrams),
            saved.records as f64 / saved.datagrams.max(1) as f64,
            100.0 * saved.share(),
            saved.speed()
        );
        all.push((case, saved));
    }
    let (case, first) = all.first().context("nothing was measured")?;
    ensure!(
        first.share() >= LEAST_SAVED,
        "{}: records save {:.2} % of the packets, and {:.0} % are wanted",
        case.name,
        100.0 * first.share(),
        100.0 * LEAST_SAVED
    );
    let (value, ratio) = (100.0 * first.share(), first.datagrams as f64 / first.records.max(1) as f64);
    let details = all.iter().map(|(case, saved)| {
        serde_json::json!({
            "case": case.name, "records": saved.records, "datagrams": saved.datagrams,
            "saved_percent": 100.0 * saved.share(), "kpages_per_second": saved.speed()
        })
    });
    let details = details.collect();
    // The clock is virtual: every round is the same.
    Ok(Report { name: "bulk", value, unit: "percent-saved", ratios: Ratios::exact(ratio), details })
}
