//! `gvm-dp qp serve`: a region of memory for whoever connects.

use super::exchange::{Line, Offer};
use super::own::Own;
use super::{SETUP_PORT, runtime, talk};
use crate::address;
use crate::cli::QpServeArgs;
use crate::exit::Failure;
use crate::signal::{Signal, Signals};
use frame::{Guarded, Hugepages};
use roce::{Command, Lent, Retry};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

/// Peers that may be in the middle of their set-up beyond those that have a queue pair.
const CALLERS: usize = 16;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &QpServeArgs) -> Result<(), Failure> {
    let lent = lent(args)?;
    let length = lent.bytes.len();
    let own = Own::start(&args.own, Some(lent), args.peers)?;
    let serve = async {
        let own = Rc::new(own);
        tracing::info!("port 0: {}", own.describe());
        attend_all(&own, args, Signals::listen()?, length).await?;
        let own = Rc::try_unwrap(own);
        let own = own.map_err(|_| Failure::Internal("a peer was not dismissed".to_owned()))?;
        let facts = own.facts().clone();
        let memory = own.end().await?;
        tracing::info!("ended; {}", super::bench::summary(&facts));
        match (&args.save, memory) {
            (Some(path), Some(memory)) => {
                let saved = std::fs::write(path, &*memory);
                saved.map_err(|error| unwritable(path, &error))
            }
            _ => Ok(()),
        }
    };
    runtime()?.block_on(LocalSet::new().run_until(serve))
}

/// A file that cannot be written.
pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Machine(format!(
        "cannot write {}: {error}; check the path and that this user may write there",
        path.display()
    ))
}

/// A file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Machine(format!("cannot read {}: {error}; check the path and that this user may read it", path.display()))
}

fn lent(args: &QpServeArgs) -> Result<Lent, Failure> {
    let bytes = match (&args.file, args.memory) {
        (Some(path), _) => {
            let content = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
            let mut bytes = zeros(content.len() as u64)?;
            bytes.copy_from_slice(&content);
            bytes
        }
        (None, Some(size)) => zeros(size.0)?,
        (None, None) => {
            let text = "no --memory and no --file: say what is lent, as in --memory 1G";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let writable = !args.read_only;
    Ok(Lent { bytes, write: writable, atomic: writable })
}

fn zeros(size: u64) -> Result<Guarded, Failure> {
    let lacking = || Failure::Lacking { name: "memory", text: format!("{size} bytes: there is not so much memory") };
    let size = usize::try_from(size).map_err(|_| lacking())?;
    Guarded::new(size, Hugepages::Prefer).map_err(|_| lacking())
}

/// Where the set-up listens.
fn listen_address(args: &QpServeArgs, own: &Own) -> Result<SocketAddr, Failure> {
    let Some(text) = &args.listen else { return Ok(SocketAddr::new(own.facts().ip.into(), SETUP_PORT)) };
    address::read(text, SETUP_PORT).ok_or_else(|| Failure::Setting {
        name: "listen",
        text: format!("{text}: write an address of this machine, as 192.0.2.1 or 192.0.2.1:{SETUP_PORT}"),
    })
}

async fn attend_all(own: &Rc<Own>, args: &QpServeArgs, mut signals: Signals, length: usize) -> Result<(), Failure> {
    let address = listen_address(args, own)?;
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::ListenInUse(address),
        _ => {
            Failure::Machine(format!("--listen {address}: {error}; `ip -brief address` lists this machine's addresses"))
        }
    })?;
    let address = listener.local_addr().unwrap_or(address);
    if let (Some(ip), Some(qpn), Some(psn)) = (args.peer, args.qpn, args.psn) {
        let ours = own.create().await?;
        let theirs = Offer { qpn, psn, ip, region: None, ..ours };
        own.connect(&ours, &theirs, Retry::default()).await?;
        tracing::info!("{ip} is set up by hand: {theirs}");
        println!("{}", Line::Offer(ours).to_string().trim_end());
    }
    tracing::info!("lends {length} bytes; peers set up their queue pairs at {address}");
    let present = Rc::new(Cell::new(0));
    let mut callers = JoinSet::new();
    loop {
        let most = usize::from(args.peers) + CALLERS;
        tokio::select! {
            accepted = listener.accept(), if callers.len() < most => match accepted {
                Ok((stream, peer)) => {
                    let (own, present, peers) = (Rc::clone(own), Rc::clone(&present), args.peers);
                    callers.spawn_local(async move { attend(&own, stream, peer, &present, peers).await });
                }
                // Out of descriptors, or the caller went away: the next one may do better.
                Err(error) => {
                    tracing::warn!("cannot take a call: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(ended) = callers.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(panic) => return Err(Failure::Internal(format!("a peer's set-up panicked: {panic}"))),
            },
            signal = signals.next() => match signal {
                Signal::End(name) => {
                    tracing::info!("{name}: ending");
                    callers.shutdown().await;
                    return Ok(());
                }
                Signal::Reload(_) => tracing::info!("SIGHUP: there is no configuration to be read again"),
            },
        }
    }
}

/// One peer, from its call to its end. Only our own lcore's end is an error.
async fn attend(
    own: &Own,
    mut stream: TcpStream,
    peer: SocketAddr,
    present: &Cell<u16>,
    most: u16,
) -> Result<(), Failure> {
    let refuse = async |mut stream: TcpStream, reason: String| {
        tracing::warn!("{peer}: {reason}");
        // Whether it still hears that is its business.
        let _ = talk::say(&mut stream, peer, &Line::Refusal(reason)).await;
    };
    let theirs = match talk::hear(&mut stream, peer).await {
        Ok(theirs) => theirs,
        Err(error) => {
            refuse(stream, error.to_string()).await;
            return Ok(());
        }
    };
    if present.get() >= most {
        refuse(stream, format!("{most} queue pairs are in use: raise --peers, or try again later")).await;
        return Ok(());
    }
    let opened = async {
        let ours = own.create().await?;
        let connected = own.connect(&ours, &theirs, Retry::default()).await;
        if connected.is_err() {
            own.ask(|answer| Command::Close(ours.qpn, answer)).await?;
        }
        connected.map(|()| ours)
    };
    let ours = match opened.await {
        Ok(ours) => ours,
        Err(failure @ Failure::Internal(_)) => return Err(failure),
        Err(failure) => {
            refuse(stream, failure.to_string()).await;
            return Ok(());
        }
    };
    present.set(present.get() + 1);
    tracing::info!("{peer}: {theirs}; QP {:#08x}", ours.qpn);
    if talk::say(&mut stream, peer, &Line::Offer(ours)).await.is_ok() {
        talk::until_gone(&mut stream).await;
    }
    own.ask(|answer| Command::Close(ours.qpn, answer)).await?;
    present.set(present.get() - 1);
    tracing::info!("{peer}: gone; QP {:#08x} closed", ours.qpn);
    Ok(())
}
