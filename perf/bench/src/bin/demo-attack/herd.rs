//! A member that floods the registrar: every heartbeat is signed and valid, and there are very many.

use anyhow::{Context, ensure};
use clap::Args as Flags;
use frame::{Peer, PortId};
use link::{ChallengeSecret, ClusterKey, KeyRing, Node, NodeConfig};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::Record;
use wire::link::NodeId;

#[derive(Flags)]
pub(crate) struct Args {
    /// The gateway
    #[arg(long, value_name = "ADDR:PORT")]
    gateway: SocketAddr,
    /// The master's id
    #[arg(long)]
    id: u16,
    /// The cluster key, from which the master's own is derived
    #[arg(long, value_name = "FILE")]
    cluster_key_file: PathBuf,
    /// Heartbeats a second
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Where the result goes, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: PathBuf,
}

/// What was sent, and what came back.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Herd {
    pub heartbeats: u64,
    pub bytes: u64,
    pub answers: u64,
    pub answer_bytes: u64,
    pub seconds: f64,
}

struct Master {
    socket: UdpSocket,
    node: Node,
    config: NodeConfig,
    gateway: Peer,
    /// A clock of its own, on which every heartbeat is due.
    now: u64,
    done: Herd,
}

impl Master {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let path = &args.cluster_key_file;
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let cluster: ClusterKey = text.trim().parse().with_context(|| path.display().to_string())?;
        let socket = UdpSocket::bind(if args.gateway.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(args.gateway)?;
        let (id, gateway) = (NodeId::master(args.id), Peer::socket(PortId(0), args.gateway));
        let keys = KeyRing::from(cluster).node_keys(id);
        let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as u64;
        // An attacker needs no secret that others cannot guess.
        let challenges = ChallengeSecret::new([epoch as u8; 32]);
        let config = NodeConfig { boot_epoch: epoch, challenges, fixed_port: true, ..NodeConfig::default() };
        let node = Node::new(id, keys, gateway, &config, 0);
        Ok(Self { socket, node, config, gateway, now: 0, done: Herd::default() })
    }

    fn send(&mut self) {
        let mut datagram = [0; 2048];
        self.now += self.config.interval;
        let Some(len) = self.node.transmit(&self.config, self.now, &mut datagram) else { return };
        // Datagrams that a full buffer or an ICMP error stops are not counted.
        if self.socket.send(&datagram[..len]).is_ok() {
            self.done.heartbeats += 1;
            self.done.bytes += len as u64;
        }
    }

    /// Receives for this time. It never reports its membership, so that it is sent all members again and again.
    fn hear(&mut self, time: Duration) -> anyhow::Result<()> {
        let (until, mut datagram) = (Instant::now() + time, [0; 65_536]);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
            let Ok(len) = self.socket.recv(&mut datagram) else {
                if left.is_zero() {
                    return Ok(());
                }
                continue;
            };
            self.done.answers += 1;
            self.done.answer_bytes += len as u64;
            if let Ok(record) = Record::first(&datagram[..len]) {
                // Answers that are late for their heartbeat are refused, which does no harm.
                let _ = self.node.handle(&self.config, self.now, &self.gateway, &record);
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Herd> {
    let mut master = Master::new(args)?;
    for _ in 0..50 {
        master.send();
        master.hear(Duration::from_millis(100))?;
        if master.node.is_registered() {
            break;
        }
    }
    ensure!(master.node.is_registered(), "master {} is not registered at {}", args.id, args.gateway);
    let (began, length) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    master.done = Herd::default();
    let mut refreshed = began;
    while began.elapsed() < length {
        let due = (began.elapsed().as_secs_f64() * args.rate as f64) as u64;
        // Only a limited number in a row, so that answers are read.
        for _ in 0..due.saturating_sub(master.done.heartbeats).min(200) {
            master.send();
        }
        master.hear(Duration::from_micros(500))?;
        if refreshed.elapsed() > Duration::from_secs(1) {
            // Cookies expire: a cookie that is answered while nothing else is under way brings a new one.
            master.hear(Duration::from_millis(20))?;
            master.send();
            master.hear(Duration::from_millis(20))?;
            refreshed = Instant::now();
        }
    }
    master.done.seconds = began.elapsed().as_secs_f64();
    Ok(master.done)
}
