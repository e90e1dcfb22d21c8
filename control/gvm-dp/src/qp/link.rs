//! A queue pair with a peer that we call, or whose data stand on the command line.

use super::exchange::{Access, Offer, OfferedRegion, SETUP_PORT, SetupLine};
use super::own::Own;
use super::talk;
use crate::cli::QpPeerArgs;
use common::address;
use common::exit::Failure;
use roce::{Job, Outcome, Retry, RoceCommand, Work};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpStream;
use transport::Status;

/// A queue pair, and the region that the peer lends through it.
pub struct PeerLink {
    /// The connection of the set-up. While it is open, the peer knows that we are there.
    _stream: Option<TcpStream>,
    qpn: u32,
    peer: String,
    /// The peer's region.
    pub region: OfferedRegion,
    /// Bytes of payload in a packet.
    pub path_mtu: u16,
}

/// The address of a peer's set-up.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    address::resolve(text, SETUP_PORT).ok_or_else(|| {
        let text = format!("{text}: no address and no known host name: write 192.0.2.1 or 192.0.2.1:{SETUP_PORT}");
        Failure::Setting { name: "peer", text }
    })
}

/// The peer that the command line describes by hand; `None` if it must be called.
fn by_hand(args: &QpPeerArgs, ours: &Offer) -> Result<Option<Offer>, Failure> {
    let (Some(qpn), Some(rkey), Some(va), Some(length)) = (args.qpn, args.rkey, args.va, args.region) else {
        return Ok(None);
    };
    let ip: Ipv4Addr = args.peer.parse().map_err(|_| Failure::Setting {
        name: "peer",
        text: format!("{}: with --qpn this is the peer's IPv4 address, as 192.0.2.1", args.peer),
    })?;
    if va.checked_add(length.0).is_none() {
        let text = format!("{va:#x}: the region would end beyond 2^64: correct --va or --region");
        return Err(Failure::Setting { name: "va", text });
    }
    let access = Access { read: true, write: true, atomic: true };
    let region = Some(OfferedRegion { rkey, va, length: length.0, access });
    Ok(Some(Offer { qpn, psn: args.psn.unwrap_or(0), path_mtu: ours.path_mtu, reads: ours.reads, ip, region }))
}

impl PeerLink {
    /// Sets up a queue pair.
    ///
    /// # Errors
    /// The peer does not answer, refuses, or lends nothing.
    pub async fn open(own: &Own, args: &QpPeerArgs) -> Result<Self, Failure> {
        let ours = Offer { region: None, ..own.create().await? };
        let retry = Retry { timeout: args.timeout.0, retries: args.retries, rnr_retries: args.rnr_retries };
        let (stream, theirs) = match by_hand(args, &ours)? {
            Some(theirs) => (None, theirs),
            None => {
                let address = address(&args.peer)?;
                let (stream, theirs) = call(address, &ours).await.map_err(|error| match error {
                    talk::TalkError::Connect { .. } => Failure::Client(error.to_string()),
                    error => Failure::QueuePair(error.to_string()),
                })?;
                (Some(stream), theirs)
            }
        };
        let nothing = || Failure::QueuePair(format!("{} lends no region: what should be read or written?", args.peer));
        let mut region = theirs.region.ok_or_else(nothing)?;
        region.rkey = args.rkey.unwrap_or(region.rkey);
        own.connect(&ours, &theirs, retry).await?;
        tracing::info!("ours: {ours}");
        tracing::info!("{}: {theirs}", args.peer);
        let path_mtu = ours.path_mtu.min(theirs.path_mtu);
        Ok(Self { _stream: stream, qpn: ours.qpn, peer: args.peer.clone(), region, path_mtu })
    }

    /// The address of a part of the region.
    ///
    /// # Errors
    /// The region does not have this part.
    pub fn part(&self, offset: u64, length: u64) -> Result<u64, Failure> {
        match offset.checked_add(length) {
            Some(end) if end <= self.region.length => Ok(self.region.va + offset),
            _ => Err(Failure::QueuePair(format!(
                "{} lends {} bytes, and {length} from {offset} on are not all among them: correct --offset and \
                 --length",
                self.peer, self.region.length
            ))),
        }
    }

    /// How many bytes the region has from an offset on, when an input of unknown length is written.
    ///
    /// # Errors
    /// The offset is beyond its end.
    pub fn room(&self, offset: u64) -> Result<u64, Failure> {
        self.part(offset, 0)?;
        Ok(self.region.length - offset)
    }

    /// The failure when an input does not fit behind an offset.
    pub fn too_small(&self, what: &str, offset: u64, room: u64) -> Failure {
        Failure::QueuePair(format!(
            "{what}, and {} lends {} bytes, {room} of them from --offset {offset} on: nothing was written; write less, \
             or              have it lend more",
            self.peer, self.region.length
        ))
    }

    /// Gives the lcore some work, and waits for the outcome.
    ///
    /// # Errors
    /// A work request did not complete; the error has its verbs status.
    pub async fn work(&self, own: &Own, work: Work) -> Result<Outcome, Failure> {
        let job = Job { qpn: self.qpn, rkey: self.region.rkey, work };
        let done = own.ask(|answer| RoceCommand::Work(job, answer)).await?;
        done.map_err(|failed| {
            let remedy = remedy(failed.status);
            Failure::QueuePair(format!("{}: {failed}: {remedy}", self.peer))
        })
    }

    /// Closes the queue pair.
    ///
    /// # Errors
    /// The lcore is gone.
    pub async fn close(self, own: &Own) -> Result<(), Failure> {
        own.ask(|answer| RoceCommand::Close(self.qpn, answer)).await
    }
}

/// What to do about a status.
fn remedy(status: Status) -> &'static str {
    match status {
        Status::RetryExcErr => {
            "the peer did not answer; is it still there, does a firewall drop UDP 4791, and do path MTU and PSNs agree?"
        }
        Status::RemAccessErr => "the peer refuses: wrong rkey, not all inside of its region, or not permitted there",
        Status::RemInvReqErr => "the peer cannot serve such a request: fewer --reads, or another operation",
        Status::RemOpErr => "the peer could not access its own memory",
        Status::RnrRetryExcErr => "the peer was not ready for too long: it has no receive posted",
        Status::WrFlushErr => "the queue pair ended before",
        Status::LocLenErr | Status::LocProtErr | Status::Success => "this is a fault of gvm-dp, please report it",
    }
}

/// The set-up from the calling side.
async fn call(address: SocketAddr, ours: &Offer) -> Result<(TcpStream, Offer), talk::TalkError> {
    let stream = talk::connect(address).await?;
    talk::say(&stream, address, &SetupLine::Offer(*ours)).await?;
    let theirs = talk::hear(&stream, address).await?;
    Ok((stream, theirs))
}
