//! Our own end: one lcore, one port, and the role with the queue pairs.

use super::exchange::{self, Offer, OfferedRegion};
use crate::cli::QpOwnArgs;
use common::exit::Failure;
use frame::{Guarded, PortId};
use host::hugepages;
use lcore::Clock;
use lcore::thread::End;
use port::Port as _;
use port::any::AnyPort;
use port::spec::{PortSpec, SocketSpec};
use process::assemble::cores::Lcores;
use process::assemble::ports::{self, Ports};
use process::assemble::{LcoreLinks, Started, start_lcores};
use roce::{Lent, QpSpec, Remote, Retry, Roce, RoceCommand, RoceConfig, RoceCounters, RoceFraming};
use settings::config::{Basics, Common};
use settings::plan::PortPlan;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use transport::TransportCounters;
use wire::rc::PathMtu;

/// Bytes of IPv4 and UDP headers, and the largest RoCEv2 overhead in addition to the payload.
const HEADERS: u16 = 64;

/// Our end, running.
pub struct Own {
    ports: Ports,
    lcore: Started<RoceCommand, LcoreFacts>,
    ended: mpsc::UnboundedReceiver<u16>,
    reads: u16,
    own: (Option<u32>, Option<u32>),
}

/// The properties of the lcore.
#[derive(Clone)]
pub struct LcoreFacts {
    /// Our address, which ICRCs cover.
    pub ip: Ipv4Addr,
    /// The largest path MTU of the port, or less if the user asked for less.
    pub path_mtu: PathMtu,
    /// The region that we lend, as peers address it.
    pub region: Option<OfferedRegion>,
    /// The counters of the role.
    pub role: Arc<RoceCounters>,
    /// The counters of its queue pairs.
    pub transport: Arc<TransportCounters>,
}

/// The settings that roles have, too.
fn common(args: &QpOwnArgs) -> Result<Common, Failure> {
    // The frames of an interface are as large as its packets.
    let is_socket = matches!(args.port, PortSpec::Udp(_));
    let largest = (args.path_mtu.unwrap_or(4096) + HEADERS).max(wire::MIN_MTU);
    let basics = Basics {
        lcores: args.lcores.as_ref(),
        ports: std::slice::from_ref(&args.port),
        rx_mode: args.rx_mode,
        frames: args.frames,
        mtu: is_socket.then_some(largest),
    };
    let common = Common::of(&basics, "qp")?;
    if common.cores.as_ref().is_some_and(|cores| cores.len() > 1) {
        return Err(Failure::Usage("--lcores: a queue pair has one lcore: name one core".to_owned()));
    }
    if let Some(PortPlan::Udp(spec)) = common.ports.first() {
        check_socket(spec.address)?;
    }
    Ok(common)
}

/// Checks the address: an ICRC covers the sender's address, and RoCEv2 has one port.
fn check_socket(address: SocketAddr) -> Result<(), Failure> {
    let usable = matches!(address.ip(), IpAddr::V4(ip) if !ip.is_unspecified());
    if usable && address.port() == wire::ROCE_PORT {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--port udp:{address}: RoCEv2 needs one IPv4 address of this machine, and UDP port {}: write udp:ADDR, as in \
         udp:192.0.2.1",
        wire::ROCE_PORT
    )))
}

/// A random number of 24 bits.
fn random_24() -> Result<u32, Failure> {
    Ok(random_32()? >> 8)
}

/// A random number of 32 bits.
fn random_32() -> Result<u32, Failure> {
    getrandom::u32().map_err(|error| Failure::Machine(format!("the kernel gives no random numbers: {error}")))
}

/// Registers how many hugepages the lcore and a region of this size need together, before either is made.
pub(super) fn announce(args: &QpOwnArgs, region: u64) -> Result<(), Failure> {
    hugepages::lend(region);
    hugepages::announce(&ports::memory(&common(args)?)?);
    Ok(())
}

impl Own {
    /// Starts the lcore with the region that it lends.
    ///
    /// # Errors
    /// The requested settings are not possible, or the machine does not have what they name.
    pub fn start(args: &QpOwnArgs, lent: Option<Lent>, queue_pairs: u16) -> Result<Self, Failure> {
        let clock = Clock::start();
        let common = common(args)?;
        let shards = wire::ShardSet::all(common.scale);
        let steering = ebpf::Config { claim_roce: true, ..ebpf::Config::new(&shards) };
        let ports = Ports::prepare(&common, &steering, &[], Lcores::UpTo(1))?;
        let addresses = || {
            let of_nics = ports.nics().map(|nic| nic.first_address());
            of_nics.chain(ports.devices().map(|device| device.first_address()))
        };
        let (framing, ip) = match (common.ports.first(), addresses().next()) {
            (Some(PortPlan::Udp(SocketSpec { address: SocketAddr::V4(address), .. })), _) => {
                (RoceFraming::Socket, *address.ip())
            }
            (_, Some(ip)) => {
                let none = || Failure::Internal("an interface without an address was taken".to_owned());
                (RoceFraming::Raw, ip.ok_or_else(none)?)
            }
            _ => return Err(Failure::Internal("no port was taken".to_owned())),
        };
        let (rkey, seed) = (random_32()?, random_32()?);
        let wanted = args.path_mtu;
        let reads = args.reads;
        // The role is built once, on the lcore's thread.
        let lent = Arc::new(std::sync::Mutex::new(lent));
        let make = move |_: u16, _: &frame::Pool, opened: &[AnyPort]| {
            let mtu = opened.first().map_or(0, |port| port.mtu());
            let path_mtu = path_mtu(mtu, wanted)?;
            let lent = lent.lock().ok().and_then(|mut lent| lent.take());
            let config =
                RoceConfig { port: PortId(0), ip: ip.octets(), framing, path_mtu, rkey, seed, queue_pairs, reads };
            let roce = Roce::new(config, lent).map_err(|error| match error {
                transport::Error::NoMemory(error) => Failure::Table(error),
                error => Failure::Internal(error.to_string()),
            })?;
            let region = roce.region().map(|lent| exchange::region(&lent));
            let (role, transport) = (Arc::clone(roce.counters()), Arc::clone(roce.transport()));
            Ok((roce, LcoreFacts { ip, path_mtu, region, role, transport }))
        };
        let (ends, ended) = mpsc::unbounded_channel();
        let links = LcoreLinks { registrar: None, bells: None, ended: &ends };
        let lcores = start_lcores(&ports, common.rx_mode, clock, links, make)?;
        let mut lcores = lcores.into_iter();
        let lcore = lcores.next().ok_or_else(|| Failure::Internal("no lcore was started".to_owned()))?;
        let LcoreFacts { ip, path_mtu, region, .. } = &lcore.counters;
        tracing::debug!(target: "roce", "the role runs on {ip}, {framing:?}, path MTU {}, region \
            {region:?}", path_mtu.bytes());
        Ok(Self { ports, lcore, ended, reads, own: (args.own_qpn, args.own_psn) })
    }

    /// The properties of the lcore.
    pub fn facts(&self) -> &LcoreFacts {
        &self.lcore.counters
    }

    /// One line that describes the opened port.
    pub fn describe(&self) -> String {
        match self.ports.nics().next() {
            Some(nic) => nic.describe(1),
            None => self.lcore.running.view().ports.first().map_or(String::new(), |port| port.about.describe()),
        }
    }

    /// Makes a queue pair that is not connected yet. Its numbers are the requested ones, or random.
    ///
    /// # Errors
    /// There is no room, or the number is not available.
    pub async fn create(&self) -> Result<Offer, Failure> {
        let facts = self.facts();
        let (qpn, psn) = self.own;
        let psn = psn.map_or_else(random_24, Ok)?;
        let created = self.ask(|answer| RoceCommand::Create(qpn, answer)).await?;
        let qpn = created.map_err(|error| Failure::QueuePair(error.to_string()))?;
        let path_mtu = facts.path_mtu.bytes() as u16;
        tracing::debug!(target: "transport", "QP {qpn:#08x} is made: PSN {psn:#08x}, path MTU {path_mtu}, {} \
            READs", self.reads);
        Ok(Offer { qpn, psn, path_mtu, reads: self.reads, ip: facts.ip, region: facts.region })
    }

    /// Connects a queue pair with the peer's. Then it is ready to receive and to send.
    ///
    /// # Errors
    /// The peer's offer is not possible.
    pub async fn connect(&self, ours: &Offer, theirs: &Offer, retry: Retry) -> Result<(), Failure> {
        let path_mtu = PathMtu::exactly(u32::from(ours.path_mtu.min(theirs.path_mtu)));
        let path_mtu = path_mtu.ok_or_else(|| Failure::Internal("a path MTU that is none".to_owned()))?;
        let remote = Remote { ip: theirs.ip.octets(), qpn: theirs.qpn, psn: theirs.psn, reads: theirs.reads };
        let spec = QpSpec { qpn: ours.qpn, psn: ours.psn, reads: ours.reads, path_mtu, remote, retry };
        let connected = self.ask(|answer| RoceCommand::Connect(spec, answer)).await?;
        tracing::debug!(
            target: "transport",
            "QP {:#08x} towards {} QP {:#08x}: path MTU {}, {retry:?}: {}",
            ours.qpn,
            theirs.ip,
            theirs.qpn,
            path_mtu.bytes(),
            connected.as_ref().map_or_else(ToString::to_string, |()| "connected".to_owned())
        );
        connected.map_err(|error| Failure::QueuePair(error.to_string()))
    }

    /// Sends the role a command, and waits for its answer.
    ///
    /// # Errors
    /// The lcore is gone.
    pub async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(roce::Answer<T>) -> RoceCommand,
    ) -> Result<T, Failure> {
        let gone = || Failure::Internal("the lcore has ended by itself".to_owned());
        let (tell, told) = oneshot::channel();
        let answer: roce::Answer<T> = Box::new(move |value| drop(tell.send(value)));
        let mut command = command(answer);
        // There are few commands, and the mailbox is large.
        while let Err(back) = self.lcore.commands.try_send(command) {
            if self.lcore.commands.is_closed() {
                return Err(gone());
            }
            command = back;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        told.await.map_err(|_| gone())
    }

    /// Ends the lcore, and returns the region that it lent.
    ///
    /// # Errors
    /// The lcore panicked.
    pub async fn end(mut self) -> Result<Option<Guarded>, Failure> {
        let memory = self.ask(RoceCommand::End).await?;
        // The loop ends when nothing is left to send.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), self.ended.recv()).await;
        self.lcore.running.stop();
        match self.lcore.running.join() {
            End::Panicked { stage, message } => {
                Err(Failure::Internal(format!("the lcore panicked in {stage:?}: {message}")))
            }
            End::Drained | End::Stopped { .. } => Ok(memory),
        }
    }
}

/// The path MTU of a port that carries IP packets of this many bytes.
fn path_mtu(ip_packet: u16, wanted: Option<u16>) -> Result<PathMtu, Failure> {
    let room = usize::from(ip_packet.saturating_sub(wire::IPV4_UDP_LEN));
    let largest = PathMtu::fitting(room).unwrap_or(PathMtu::B256);
    match wanted.and_then(|wanted| PathMtu::exactly(u32::from(wanted))) {
        None => Ok(largest),
        Some(wanted) if wanted <= largest => Ok(wanted),
        Some(wanted) => Err(Failure::Machine(format!(
            "--path-mtu {}: the port carries IP packets of {ip_packet} bytes, and RoCEv2 needs {} for it: raise the \
             link's MTU \
             (on both ends, and on all switches), or choose {} at most",
            wanted.bytes(),
            wanted.bytes() + u32::from(HEADERS),
            largest.bytes()
        ))),
    }
}

/// The counters of the port and the queue pairs, in one line.
pub(super) fn summary(facts: &LcoreFacts) -> String {
    let (role, transport) = (&facts.role, &facts.transport);
    let dropped =
        [&role.dropped_other_port, &role.dropped_headers, &role.dropped_not_peer, &role.dropped_identification];
    let dropped: u64 = dropped.iter().map(|counter| counter.get()).sum();
    format!(
        "packets: {} received, {} sent, {} with a wrong ICRC, {} for no queue pair, {} dropped otherwise, {} marked \
         CE; {} \
         timeouts, {} times sent again",
        role.datagrams_in.get(),
        transport.packets_out.get(),
        transport.rc_dropped_icrc.get(),
        transport.rc_dropped_no_qp.get(),
        dropped + transport.dropped() - transport.rc_dropped_icrc.get() - transport.rc_dropped_no_qp.get(),
        role.marked_ce.get(),
        transport.timeouts.get(),
        transport.rewinds.get()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_mtu_is_what_the_port_carries_or_less() {
        for (packet, bytes) in [(1500, 1024), (9000, 4096), (3500, 2048), (1280, 1024), (576, 512)] {
            assert_eq!(path_mtu(packet, None).unwrap().bytes(), bytes);
        }
        assert_eq!(path_mtu(9000, Some(256)).unwrap(), PathMtu::B256);
        let complaint = path_mtu(1500, Some(4096)).unwrap_err();
        assert!(complaint.to_string().contains("needs 4160 for it") && complaint.code() == 3, "{complaint}");
    }

    #[test]
    fn a_socket_has_one_address_and_the_port_of_rocev2() {
        for (address, right) in
            [("127.0.0.1:4791", true), ("127.0.0.1:9999", false), ("0.0.0.0:4791", false), ("[::1]:4791", false)]
        {
            let checked = check_socket(address.parse().unwrap());
            assert_eq!(checked.is_ok(), right, "{address}");
            if let Err(failure) = checked {
                assert!(failure.to_string().contains("as in udp:192.0.2.1") && failure.code() == 2, "{failure}");
            }
        }
    }
}
