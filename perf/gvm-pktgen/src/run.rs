//! Runs a generator on an lcore of its own, and watches it.

use crate::cli::{Cli, DownName};
use crate::counters::{Counters, Phase};
use crate::generator::{Event, Generator, GeneratorCommand, GeneratorConfig, Via};
use crate::histogram::Histogram;
use crate::report::{Report, duration};
use crate::size::Sizes;
use frame::time::SECOND;
use frame::{Hugepages, Peer, Pool, PoolConfig, PortId};
use lcore::thread::{End, LcoreHandle, ThreadConfig, cpu_ns};
use lcore::{Clock, Lcore, mailbox::mailbox};
use link::{ChallengeSecret, ClusterKey, Credential, KeyRing, NodeConfig, NodeKey};
use port::Port;
use port::any::AnyPort;
use port::rate::Limit;
use port::spec::{PortSpec, SocketSpec};
use port::udp::{UdpOptions, UdpPort};
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wire::{Scale, ScaleError};
use zeroize::Zeroizing;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The scale cannot be.
    #[error("{0}")]
    Scale(ScaleError),
    /// A slave id that the scale does not have.
    #[error("slave id {last} does not exist: at this scale the slave ids are 0 to {}; ask fewer, or change \
        --slave-bits", .slaves - 1)]
    Slaves {
        /// The highest id that was asked.
        last: u64,
        /// How many there are.
        slaves: u32,
    },
    /// A fixed size that no datagram has room for.
    #[error(
        "a payload of {payload} bytes does not fit a packet of {mtu} bytes: choose at most {most}, or a larger --mtu"
    )]
    Size {
        /// Bytes that were asked for.
        payload: usize,
        /// Largest packet, in bytes.
        mtu: u16,
        /// Bytes that fit.
        most: usize,
    },
    /// A key file that cannot be used.
    #[error("key file {path}: {cause}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// More keys than count at a time.
    #[error("{0} key files are too many: name one, or two while the cluster changes its key, the old one first")]
    Keys(usize),
    /// A kind of port that the generator cannot use.
    #[error("--port {0}: this generator runs over udp:ADDR:PORT")]
    Port(String),
    /// The lcore could not be started.
    #[error("{0}")]
    Start(String),
    /// Not registered, or slaves missing, in time.
    #[error("{0}")]
    NotReady(String),
    /// The lcore ended before the run did.
    #[error("the lcore ended before the run did: {0}")]
    Ended(String),
}

/// Runs what the command line says. Progress lines and events go to `say`.
///
/// # Errors
/// [`RunError::Scale`], [`RunError::Slaves`], [`RunError::Size`], [`RunError::Key`], [`RunError::Keys`] and
/// [`RunError::Port`] name what cannot be done as the command line says. The error is [`RunError::Start`] when the
/// lcore cannot be started. It is [`RunError::NotReady`] when nodes are missing after the timeout. It is
/// [`RunError::Ended`] when the lcore ends before the run does.
pub fn run(cli: &Cli, say: impl Fn(&str) + Clone + Send + 'static) -> Result<Report, RunError> {
    let config = configure(cli)?;
    let clock = Clock::start();
    let pool = PoolConfig { frames: cli.frames, chunk: chunk(cli.mtu), hugepages: Hugepages::Prefer, reserve: 64 };
    let (order, commands) = mailbox(4).map_err(|error| RunError::Start(error.to_string()))?;
    let (give, shared) = std::sync::mpsc::channel();
    let tell = say.clone();
    let build = move |port: fn(&SocketSpec, Pool) -> Result<AnyPort, String>, spec: SocketSpec| {
        move || {
            let pool = Pool::new(pool).map_err(|error| error.to_string())?;
            let port = port(&spec, pool.clone())?;
            tell(&port.describe());
            let told = move |event: Event| tell(&format!("gateway {}: {}", event.gateway.address(), event.event));
            let generator = Generator::new(config, clock.now(), told);
            // The receiver waits for it below.
            let _ = give.send((Arc::clone(generator.counters()), Arc::clone(generator.latency())));
            Ok::<_, String>(Lcore::new(0, generator, vec![port], pool, commands, None))
        }
    };
    let thread = ThreadConfig { index: 0, core: cli.lcore, mode: cli.rx_mode, clock };
    let starting = match &cli.port {
        PortSpec::Udp(spec) => lcore::thread::start(thread, build(open_udp, *spec), || ()),
        other => return Err(RunError::Port(other.to_string())),
    };
    let start = |error: lcore::thread::StartError<String>| RunError::Start(error.to_string());
    let running = starting.map_err(start)?.wait().map_err(start)?;
    let (counters, latency) = shared.recv().map_err(|error| RunError::Start(error.to_string()))?;
    watch(cli, &running, &counters, &latency, &say)?;
    let mut report = Report::new(&counters, &latency, cli.targets().count, cli.down == DownName::Echo);
    let view = running.view();
    report.cpu_seconds = cpu_ns(view.tid).map_or(0.0, |ns| ns as f64 / SECOND as f64);
    report.down.dropped_tx = view.outbox.down.records_dropped_tx.get();
    report.received.rx_lost = view.lcore.rx_lost.get();
    if order.try_send(GeneratorCommand::Drain).is_err() {
        running.stop();
    }
    match running.join() {
        End::Panicked { stage, message } => Err(RunError::Ended(format!("panic in {stage:?}: {message}"))),
        End::Drained | End::Stopped { .. } => Ok(report),
    }
}

fn open_udp(spec: &SocketSpec, pool: Pool) -> Result<AnyPort, String> {
    let port =
        UdpPort::open(PortId(0), spec.address, pool, UdpOptions::default()).map_err(|error| error.to_string())?;
    let port = AnyPort::from(port);
    // The generator has one lcore.
    Ok(match spec.rate.and_then(|rate| Limit::new(rate, 1)) {
        Some(limit) => port.limited(limit),
        None => port,
    })
}

/// The size of chunks in which a packet of this size fits, wherever its data begins.
fn chunk(mtu: u16) -> u32 {
    (u32::from(mtu) + 512).next_multiple_of(64).max(2048)
}

/// The checked settings of the command line.
fn configure(cli: &Cli) -> Result<GeneratorConfig, RunError> {
    let scale = Scale::new(cli.slave_bits, cli.gw_bits).map_err(RunError::Scale)?;
    let targets = cli.targets();
    let last = u64::from(targets.first) + u64::from(targets.count) - 1;
    if last >= u64::from(scale.slaves()) {
        return Err(RunError::Slaves { last, slaves: scale.slaves() });
    }
    let most = usize::from(cli.mtu - wire::IPV4_UDP_LEN) - wire::HEADER_LEN;
    match cli.size {
        Sizes::Fixed(payload) if payload > most => return Err(RunError::Size { payload, mtu: cli.mtu, most }),
        _ => {}
    }
    let peer = |address: SocketAddr| Peer::socket(PortId(0), address);
    let via = match cli.direct {
        Some(farm) => Via::Direct { farm: peer(farm), mtu: cli.mtu, scale },
        None => Via::Gateways {
            gateways: cli.gateway.iter().copied().map(peer).collect(),
            node: NodeConfig {
                scale,
                interval: cli.interval(),
                boot_epoch: getrandom::u64().map_err(no_random)?,
                challenges: ChallengeSecret::new(secret()?),
                max_ip_packet: cli.mtu,
                fixed_port: matches!(cli.port, PortSpec::Udp(_)),
                ..NodeConfig::default()
            },
            credential: credential(cli)?,
        },
    };
    Ok(GeneratorConfig {
        targets,
        master: cli.id,
        run: getrandom::u64().map_err(no_random)?,
        via,
        down: cli.down.into(),
        sizes: cli.size,
        distribution: cli.distribution,
        seed: cli.seed,
        rate: cli.rate.map(|rate| rate.get()),
        window: cli.in_flight(),
        window_timeout: cli.window_timeout(),
        pack: cli.pack,
        duration: cli.duration(),
        records: cli.records,
        expect_members: cli.members(),
    })
}

fn no_random(error: getrandom::Error) -> RunError {
    RunError::Start(format!("no random numbers: {error}"))
}

/// A secret of this start alone.
fn secret() -> Result<[u8; 32], RunError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(no_random)?;
    Ok(secret)
}

fn credential(cli: &Cli) -> Result<Credential, RunError> {
    // As gvm-dp does: other processes of this user do not look into one with keys. The kernel has no reason to refuse.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if !cli.cluster_key_files.is_empty() {
        return read_ring::<ClusterKey>(&cli.cluster_key_files).map(Credential::Cluster);
    }
    match cli.key_files.is_empty() {
        true => Ok(Credential::None),
        false => read_ring::<NodeKey>(&cli.key_files).map(Credential::Node),
    }
}

fn read_ring<K>(paths: &[PathBuf]) -> Result<KeyRing<K>, RunError>
where
    K: std::str::FromStr<Err: std::fmt::Display> + PartialEq,
{
    let keys = paths.iter().map(|path| read_key(path)).collect::<Result<Vec<K>, _>>()?;
    KeyRing::from_keys(keys).ok_or(RunError::Keys(paths.len()))
}

fn read_key<K: std::str::FromStr<Err: std::fmt::Display>>(path: &Path) -> Result<K, RunError> {
    let failed = |cause: String| RunError::Key { path: path.display().to_string(), cause };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    // The metadata of the open file, so that nobody can exchange the file between the check and the read.
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    let (mode, owner) = (metadata.permissions().mode(), metadata.uid());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(failed(format!(
            "it belongs to user {owner}, who is neither this one nor root and could put another key there: `chown root \
             {}`, \
             or make a copy that is yours",
            path.display()
        )));
    }
    // The same rule as in gvm-dp: the group may be that of a service that reads the same file.
    if metadata.is_file() && mode & 0o007 != 0 {
        return Err(failed(format!(
            "it is open to every user of this machine (mode {:03o}): make it private with `chmod o= {}`",
            mode & 0o777,
            path.display()
        )));
    }
    // The text is the key: it is overwritten when this returns, and has not moved before.
    let mut text = Zeroizing::new(String::with_capacity(2 * LONGEST_KEY_FILE));
    let mut file = file.take(LONGEST_KEY_FILE as u64);
    file.read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    text.parse().map_err(|error: K::Err| failed(error.to_string()))
}

/// Bytes of a key file that are read at most.
const LONGEST_KEY_FILE: usize = 4096;

/// The interval between two reads of the counters.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the run's end, with a line each second.
fn watch(
    cli: &Cli,
    running: &LcoreHandle,
    counters: &Counters,
    latency: &Histogram,
    say: &impl Fn(&str),
) -> Result<(), RunError> {
    let began = std::time::Instant::now();
    let mut line = Line::default();
    loop {
        std::thread::sleep(LOOK);
        let phase = counters.phase();
        if phase == Phase::Done {
            return Ok(());
        }
        if running.is_finished() {
            return Err(RunError::Ended("see above".to_owned()));
        }
        let elapsed = began.elapsed();
        if phase == Phase::Waiting && elapsed >= Duration::from_secs(u64::from(cli.timeout)) {
            return Err(RunError::NotReady(not_ready(cli, counters)));
        }
        if !cli.quiet && elapsed.as_secs() > line.second {
            say(&line.next(elapsed.as_secs(), counters, latency));
        }
    }
}

/// What is missing, and what to do.
fn not_ready(cli: &Cli, counters: &Counters) -> String {
    let (registered, gateways) = (counters.gateways_registered.get(), cli.gateway.len());
    if registered < gateways as u64 {
        return format!(
            "{registered} of {gateways} gateways have registered master {} after {} s: check their addresses, \
             firewalls \
             (UDP), the keys on both ends, and their refused counters (gvm-dp stats)",
            cli.id, cli.timeout
        );
    }
    let missing = counters.shards_missing.get();
    if missing > 0 {
        return format!(
            "{missing} of the shards of the slaves asked are served by none of the gateways named: name their gateways \
             too (--gateway), or ask other slaves"
        );
    }
    let known = counters.members_known.get();
    if known < u64::from(cli.members()) {
        return format!(
            "gateways know {known} of the slaves asked after {} s, not {}: start the others, or wait for fewer \
             (--expect-members)",
            cli.timeout,
            cli.members()
        );
    }
    format!(
        "a payload of {} bytes does not fit the MTU of {} that gateways have acknowledged to us, or that of {} of the \
         slaves asked: choose a smaller --size, or give all ends and the network between them the same MTU",
        cli.size,
        counters.route_mtu.get(),
        counters.members_too_small.get()
    )
}

/// The progress line.
#[derive(Default)]
struct Line {
    second: u64,
    sent: u64,
    came: u64,
}

impl Line {
    fn next(&mut self, second: u64, counters: &Counters, latency: &Histogram) -> String {
        let seconds = second - std::mem::replace(&mut self.second, second);
        let (sent, came) = (counters.sent_records.get(), counters.cargo_in());
        let down = (sent - std::mem::replace(&mut self.sent, sent)) / seconds;
        let up = (came - std::mem::replace(&mut self.came, came)) / seconds;
        match counters.phase() {
            Phase::Waiting => format!(
                "{second:>4} s  waiting: {} gateways registered, {} slaves known, MTU {}",
                counters.gateways_registered.get(),
                counters.members_known.get(),
                counters.route_mtu.get()
            ),
            phase => format!(
                "{second:>4} s  {}: down {down}/s, up {up}/s, bad {}, p50 {}, p99 {}",
                if phase == Phase::Sending { "sending" } else { "stragglers" },
                counters.echo_corrupted.get() + counters.up_corrupted.get() + counters.dropped_bad.get(),
                duration(latency.quantile(0.5)),
                duration(latency.quantile(0.99))
            ),
        }
    }
}
