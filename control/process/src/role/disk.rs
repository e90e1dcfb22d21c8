//! A disk's process: one loop with the sockets of its clients and the channel of its master, and a thread that
//! connects to the master again.

use super::Start;
use crate::assemble::devices::Devices;
use crate::supervise::changes::MachineWatch;
use crate::supervise::live::LiveSettings;
use crate::supervise::{self, DiskControl, Parts, RoleControl, ShownDisk};
use blockmap::DiskStats;
use common::exit::Failure;
use common::units::Size;
use disk::{DiskAreaError, DiskConnector, DiskLoop, DiskOptions, DiskServer, DiskSocket};
use host::privilege::{Confinement, Needs, Places, Thread};
use lcore::mailbox;
use lcore::thread::{ThreadConfig, start};
use nbd::Export;
use pages::ClientOptions;
use rustix::thread::CapabilitySet;
use serve::board::{Board, LcoreBoard, RoleCounters};
use settings::RunningSettings;
use settings::disk::DiskSettings;
use settings::flags::Switch;
use settings::listen::ListenAddress;
use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::mpsc;

/// Commands that may wait for the loop.
const MAILBOX: usize = 64;

/// The most requests to extents under way.
const REQUESTS: u32 = 1024;

/// The most bytes of a request that every client may send.
const MOST_PAYLOAD: u64 = 32 << 20;

/// How long a master may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a disk until it has drained.
///
/// # Errors
/// Before it runs it fails as [`ControlSocket::claim`](serve::socket::ControlSocket::claim),
/// [`MetricsListener::bind`](serve::metrics::MetricsListener::bind) and [`DiskSocket`] do. It is [`Failure::Client`]
/// when no master answers, and [`Failure::Pages`] when it refuses. Then it fails as
/// [`supervise::run`] does.
pub fn run(config: DiskSettings, settings: RunningSettings) -> Result<(), Failure> {
    let DiskSettings { common, size, listen, socket: master, .. } = &config;
    let start_of = Start::new(common)?;
    let clock = start_of.clock;
    let mut socket = match listen {
        ListenAddress::Unix(path) => DiskSocket::unix(path, config.listen_group.as_deref())?,
        ListenAddress::Tcp(address) => {
            if !address.ip().is_loopback() {
                tracing::warn!("tcp:{address}: whoever reaches this address may read and write the disk");
            }
            DiskSocket::tcp(*address)?
        }
    };
    let options = ClientOptions {
        requests: REQUESTS,
        buffers: config.buffers,
        extents: 0,
        name: format!("disk {}", common.name).chars().take(32).collect(),
        patience: PATIENCE,
        ..ClientOptions::default()
    };
    let connector = DiskConnector { options, area: config.area.clone() };
    let mut channels = connector.connect(master).map_err(DiskAreaError::from)?;
    let kept = match &config.area {
        Some(area) => disk::area::restore(&mut channels, area, *size)?,
        None => None,
    };
    let buffers = channels.data.buffers();
    let found = kept.as_ref().zip(config.area.as_ref()).map(|(kept, area)| {
        if kept.is_new { format!(", new in area {area}") } else { format!(", found in area {area}") }
    });
    let export = Export {
        name: common.name.clone(),
        description: format!("{} of slaves' memory", Size(*size)),
        size: *size,
        least: 512,
        preferred: blockmap::BLOCK,
        most: (buffers / 2).min(MOST_PAYLOAD) as u32,
        is_read_only: false,
    };
    let needs = Needs { disk: true, ..Needs::default() };
    let directories = iter::once(common::sockets::directory()).chain(socket.directory().map(Path::to_owned));
    let places = Places { reads: common.reads.clone(), sockets: directories.collect(), names: false };
    let confinement = Confinement::new(common.seccomp, needs, (common.landlock == Switch::On).then_some(places))?;
    let failed = |error: std::io::Error| Failure::Machine(format!("cannot run a disk: {error}"));
    let (commands, mailbox) = mailbox::mailbox(MAILBOX).map_err(failed)?;
    let (wants_master, stats) = (Arc::new(AtomicBool::new(false)), DiskStats::default());
    let (at, file) = (socket.at().to_owned(), socket.take_file());
    let (wanted, shown, confined) = (Arc::clone(&wants_master), stats.clone(), confinement.clone());
    let server = DiskOptions { export, connections: config.connections.into() };
    let build = move || {
        let disk = DiskServer::new(server, socket, (channels, kept), mailbox, wanted, shown)?;
        confined.enter(Thread::Lcore, CapabilitySet::empty())?;
        Ok::<_, Failure>(DiskLoop::new(disk))
    };
    let core = common.cores.as_ref().and_then(|cores| cores.first().copied());
    let (ends, ended) = mpsc::unbounded_channel();
    let config_of = ThreadConfig { index: 0, core, mode: common.rx_mode, clock };
    // Nobody listens only when the process is already ending.
    let ended_at = move || {
        let _ = ends.send(0);
    };
    let running = start(config_of, build, ended_at)?.wait()?;
    tracing::info!(
        "\"{}\": a disk of {} at {at}{}, memory of the master at {}, control socket {}",
        common.name,
        Size(*size),
        found.unwrap_or_default(),
        master.display(),
        start_of.socket.path().display()
    );
    let lcore = LcoreBoard::new(running.view().clone(), RoleCounters::Disk(stats.clone()));
    let mut board = Board::new("disk", common.name.clone(), common.scale, clock, vec![lcore]);
    board.disk = Some(Arc::new(ShownDisk {
        size: *size,
        listen: at.clone(),
        master: master.clone(),
        area: config.area.clone(),
        stats: stats.clone(),
    }));
    for (name, value) in [
        ("rx_mode", common.rx_mode.to_string()),
        ("size", Size(*size).to_string()),
        ("listen", at),
        ("socket", master.display().to_string()),
        ("buffers", Size(buffers).to_string()),
    ] {
        board.settings.insert(name, value);
    }
    let control = DiskControl::new(commands, wants_master, (master.clone(), connector), &confinement, stats, file)?;
    supervise::run(Parts {
        role: RoleControl::Disk(Box::new(control)),
        lcores: vec![running],
        ended,
        board,
        devices: Devices { nics: Vec::new(), dpdk: Vec::new() },
        socket: start_of.socket,
        metrics: start_of.metrics,
        reports: mpsc::channel(1).1,
        confinement,
        settings: LiveSettings::new(settings),
        watch: MachineWatch::new(common, Vec::new()),
    })
}
