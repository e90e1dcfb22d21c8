//! The servers that are compared, each at a Unix socket: `nbdkit memory`, a disk over a server of pages in this
//! process, and a disk over a master, a gateway and slaves.

use super::content;
use crate::conditions::process_seconds;
use anyhow::{Context as _, ensure};
use netns::product::{Place, Process, until};
use netns::{End, Namespace, join, real_checksums};
use pages::local::{LocalOptions, LocalServer};
use std::path::PathBuf;

/// Slaves, each of which lends a part.
const SLAVES: u64 = 2;

/// MTU of the links: a record of 4 KiB is one packet.
const MTU: u32 = 9000;

/// Memory of a slave comes in units of so many bytes.
const UNIT: u64 = 64 << 20;

/// Bytes of an extent.
const EXTENT: u64 = 2 << 20;

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskServerKind {
    /// The baseline.
    Nbdkit,
    /// A disk whose extents are memory of this process: what the NBD server costs.
    Local,
    /// A disk of slaves' memory.
    Slaves,
}

impl DiskServerKind {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Self; 3] = [Self::Nbdkit, Self::Local, Self::Slaves];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nbdkit => "nbdkit memory",
            Self::Local => "disk, memory of one process",
            Self::Slaves => "disk, memory of slaves",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Nbdkit => "nbdkit",
            Self::Local => "local",
            Self::Slaves => "slaves",
        }
    }
}

/// Processor time of processes, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DiskCpu {
    /// The NBD server.
    pub(super) server: f64,
    /// The processes that have or bring its memory.
    pub(super) behind: f64,
}

/// All servers, with disks of the same content.
pub(super) struct DiskWorld {
    // Processes end before what they use.
    /// In the order of [`DiskServerKind::ALL`]: the server, and the numbers of the processes behind it.
    servers: Vec<(Process, Vec<u32>)>,
    _behind: Vec<Process>,
    _local: LocalServer,
    place: Place,
    size: u64,
    /// Where the master and the disks are.
    host: Namespace,
    _others: [Namespace; 2],
}

impl DiskWorld {
    /// Starts all of them, and writes all bytes of their disks.
    ///
    /// # Errors
    /// A program does not start, or a byte cannot be written.
    pub(super) fn new(size: u64) -> anyhow::Result<Self> {
        let (place, host, middle, far) = (Place::new(), Namespace::new(), Namespace::new(), Namespace::new());
        let cables = [
            (End { namespace: &host, name: "m", address: "10.96.1.2/24" }, "masters", "10.96.1.1/24"),
            (End { namespace: &far, name: "s", address: "10.96.2.2/24" }, "slaves", "10.96.2.1/24"),
        ];
        for (end, name, address) in cables {
            let gateway = End { namespace: &middle, name, address };
            join(&end, &gateway, 1);
            for end in [&end, &gateway] {
                end.namespace.ip(&format!("link set dev {} mtu {MTU}", end.name));
                real_checksums(end);
            }
        }
        let ports = "--port xdp:masters --port xdp:slaves";
        let gateway = place.start(&middle, &format!("gvm-dp gateway --name gateway --lcores 0 {ports} --frames 8192"));
        gateway.says(&["gateway \"", "control socket"]);
        let lent = (size / SLAVES).next_multiple_of(UNIT) + 3 * UNIT;
        let slave = |id: u64| {
            let line = format!(
                "gvm-dp slave --name slave-{id} --id {id} --domain {id} --port udp:10.96.2.2:0 --mtu {MTU} --gateway \
                 10.96.2.1:9999 --memory {}M --memory-pages ordinary --keep-free 0 --frames 4096",
                lent >> 20
            );
            place.start(&far, &line)
        };
        let slaves: Vec<Process> = (1..=SLAVES).map(slave).collect();
        // A slave says how much it lends when it has looked at its host's memory.
        let free = format!("\"pages_free\":{}", lent / 4096);
        until("the slaves lend", || {
            let routes = place.run(&middle, "gvm-dp routes --json --name gateway");
            let text: String = String::from_utf8_lossy(&routes.stdout).split_whitespace().collect();
            (text.matches(&free).count() as u64 == SLAVES).then_some(())
        });
        let quota = (size >> 20) + 16;
        let master = place.start(
            &host,
            &format!(
                "gvm-dp master --name master --id 1 --port xdp:m --gateway 10.96.1.1:9999 --frames 8192 --quota \
                 {quota}M"
            ),
        );
        master.says(&["control socket"]);
        place.until_stats("master", "the slaves at the master", |stats| {
            stats["total"]["master"]["slaves_known"].as_u64() == Some(SLAVES)
        });
        let options = LocalOptions { extents: (size / EXTENT) as u32 + 8, ..LocalOptions::default() };
        let local = LocalServer::start(place.path("local.pages"), options)?;
        let mut behind = vec![gateway, master];
        behind.extend(slaves);
        let all: Vec<u32> = behind.iter().map(Process::pid).collect();
        let mut this =
            Self { place, size, host, servers: Vec::new(), _behind: behind, _local: local, _others: [middle, far] };
        for (kind, behind) in DiskServerKind::ALL.into_iter().zip([Vec::new(), vec![std::process::id()], all]) {
            let server = this.start(kind);
            this.servers.push((server, behind));
            content::write(&this.socket(kind), size).with_context(|| kind.name())?;
        }
        Ok(this)
    }

    fn start(&self, kind: DiskServerKind) -> Process {
        let (socket, size) = (self.socket(kind).display().to_string(), self.size);
        let disk = |more: &str| {
            let name = kind.file();
            let line = format!("gvm-dp disk --name {name} --size {}M --listen unix:{socket} {more}", size >> 20);
            let disk = self.place.start(&self.host, &line);
            disk.says(&["a disk of "]);
            disk
        };
        match kind {
            DiskServerKind::Nbdkit => {
                let server = self.place.start(&self.host, &format!("nbdkit -f -U {socket} memory {size}"));
                until("nbdkit listens", || self.socket(kind).exists().then_some(()));
                server
            }
            DiskServerKind::Local => disk(&format!("--socket {}", self.place.path("local.pages").display())),
            DiskServerKind::Slaves => disk(""),
        }
    }

    /// Where a server listens.
    pub(super) fn socket(&self, kind: DiskServerKind) -> PathBuf {
        self.place.path(&format!("{}.nbd", kind.file()))
    }

    /// Bytes of each disk.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// What a server and the processes behind it have used since they started.
    ///
    /// # Errors
    /// One of them has ended.
    pub(super) fn cpu(&self, kind: DiskServerKind) -> anyhow::Result<DiskCpu> {
        let (server, behind) = &self.servers[kind as usize];
        let behind = behind.iter().map(|pid| process_seconds(*pid)).sum::<anyhow::Result<f64>>()?;
        Ok(DiskCpu { server: process_seconds(server.pid())?, behind })
    }

    /// Bytes that a disk of ours has brought from extents so far.
    ///
    /// # Errors
    /// A request failed, or bytes came from nowhere.
    pub(super) fn brought(&self, kind: DiskServerKind) -> anyhow::Result<u64> {
        let stats = self.place.stats(kind.file());
        let count = |name: &str| stats["total"]["disk"][name].as_u64().with_context(|| format!("no counter {name}"));
        for wrong in ["disk_bytes_read_as_zeros", "requests_failed_io", "requests_failed_no_space", "extents_lost"] {
            ensure!(count(wrong)? == 0, "{}: {wrong} is {}", kind.name(), count(wrong)?);
        }
        let (present, blocks) = (count("blocks_present")?, self.size / 4096);
        ensure!(present == blocks, "{} of {blocks} blocks are in extents", present);
        count("disk_bytes_read")
    }
}
