//! `gvm-dp qp serve`: lends a region of memory to whoever connects.

use super::exchange::SETUP_PORT;
use super::exchange::{Offer, SetupLine};
use super::input::unreadable;
use super::own::Own;
use super::talk;
use super::told::QUEUE_PAIR;
use super::whole::WholeFile;
use crate::cli::QpServeArgs;
use common::address;
use common::exit::Failure;
use common::output::print_whole;
use common::runtime::runtime;
use common::signal::{self, Signal, Signals};
use frame::{Guarded, Hugepages, Repeats};
use roce::{Lent, Retry, RoceCommand};
use serve::callers::{Callers, origin};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

/// How many peers may be in their set-up at the same time.
const CALLERS: usize = 256;

/// How many of them may have the same address.
const SHARE: usize = 64;

/// How many addresses have their own limit for complaints in the log.
const COMPLAINTS: usize = 32;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &QpServeArgs) -> Result<(), Failure> {
    // If the region cannot be saved at the end, it is not lent.
    let save = args.save.as_deref().map(WholeFile::prepare).transpose()?;
    let lent = lent(args)?;
    let length = lent.bytes.len();
    if let Some(save) = &save {
        save.reserve(length as u64)?;
    }
    let own = Own::start(&args.own, Some(lent), args.peers)?;
    let serve = async {
        tracing::info!("port 0: {}", own.describe());
        let signals = Signals::listen()?;
        let (listener, address) = listen(&own, args).await?;
        set_up_by_hand(&own, args).await?;
        tracing::info!("lends {length} bytes; peers set up their queue pairs at {address}");
        let server = Rc::new(Server::new(own, args.peers));
        // Whatever the result is, the region is saved.
        let attended = attend_all(&server, listener, signals).await;
        let server = Rc::into_inner(server).ok_or_else(|| Failure::Internal("a peer was not dismissed".to_owned()))?;
        let own = server.own;
        let facts = own.facts().clone();
        let memory = own.end().await?;
        tracing::info!("ended; {}", super::own::summary(&facts));
        if let (Some(mut save), Some(memory)) = (save, memory) {
            save.write(&memory)?;
            save.finish()?;
        }
        attended
    };
    runtime()?.block_on(LocalSet::new().run_until(serve))
}

fn lent(args: &QpServeArgs) -> Result<Lent, Failure> {
    let bytes = match (&args.file, args.memory) {
        (Some(path), _) => {
            let content = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
            let mut bytes = zeros(args, content.len() as u64)?;
            bytes.copy_from_slice(&content);
            bytes
        }
        (None, Some(size)) => zeros(args, size.0)?,
        (None, None) => {
            let text = "no --memory and no --file: say what is lent, as in --memory 1G";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let writable = !args.read_only;
    Ok(Lent { bytes, write: writable, atomic: writable })
}

fn zeros(args: &QpServeArgs, size: u64) -> Result<Guarded, Failure> {
    super::own::announce(&args.own, size)?;
    let lacking = || Failure::Lacking { name: "memory", text: format!("{size} bytes: there is not so much memory") };
    let size = usize::try_from(size).map_err(|_| lacking())?;
    Guarded::new(size, Hugepages::Prefer).map_err(|_| lacking())
}

/// The address on which the set-up listens.
fn listen_address(args: &QpServeArgs, own: &Own) -> Result<SocketAddr, Failure> {
    let Some(text) = &args.listen else { return Ok(SocketAddr::new(own.facts().ip.into(), SETUP_PORT)) };
    address::read(text, SETUP_PORT).ok_or_else(|| Failure::Setting {
        name: "listen",
        text: format!("{text}: write an address of this machine, as 192.0.2.1 or 192.0.2.1:{SETUP_PORT}"),
    })
}

/// Listens on that address.
async fn listen(own: &Own, args: &QpServeArgs) -> Result<(TcpListener, SocketAddr), Failure> {
    let address = listen_address(args, own)?;
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::ListenInUse(address),
        _ => {
            Failure::Machine(format!("--listen {address}: {error}; `ip -brief address` lists this machine's addresses"))
        }
    })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

/// Sets up the peer that the command line describes, if it does.
async fn set_up_by_hand(own: &Own, args: &QpServeArgs) -> Result<(), Failure> {
    if let (Some(ip), Some(qpn), Some(psn)) = (args.peer, args.qpn, args.psn) {
        let ours = own.create().await?;
        let theirs = Offer { qpn, psn, ip, region: None, ..ours };
        own.connect(&ours, &theirs, Retry::default()).await?;
        tracing::info!("{ip} is set up by hand: {theirs}");
        // The user needs this line for the other side of a set-up by hand: without it there is no queue pair.
        print_whole(&SetupLine::Offer(ours).to_string())?;
    }
    Ok(())
}

/// Serves callers until a signal ends the process.
async fn attend_all(server: &Rc<Server>, listener: TcpListener, mut signals: Signals) -> Result<(), Failure> {
    let heard = signal::insist(QUEUE_PAIR)?;
    let mut callers = JoinSet::new();
    let ended = loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let server = Rc::clone(server);
                    callers.spawn_local(async move { server.attend(Rc::new(stream), peer).await });
                }
                // There are no descriptors, or the caller went away: the next attempt may succeed.
                Err(error) => {
                    let nobody = IpAddr::from([0; 4]);
                    server.warn(nobody, "accept", format_args!("cannot take a call: {error}"));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(ended) = callers.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => break Err(failure),
                Err(panic) => break Err(Failure::Internal(format!("a peer's set-up panicked: {panic}"))),
            },
            signal = signals.next() => match signal {
                Signal::End(name) => {
                    heard.set();
                    tracing::info!("{name}: ending");
                    break Ok(());
                }
                Signal::Reload(name) => tracing::info!("{name}: there is no configuration to be read again"),
                Signal::Nothing(name) => tracing::info!("{name} means nothing to gvm-dp: ignored"),
            },
        }
    };
    callers.shutdown().await;
    ended
}

/// Our end, and the connected peers.
struct Server {
    own: Own,
    callers: RefCell<Callers<IpAddr, Rc<TcpStream>>>,
    /// How many queue pairs were set up over TCP, and how many there may be.
    present: Cell<u16>,
    most: u16,
    /// Complaints by address and subject.
    complaints: RefCell<Repeats<(IpAddr, &'static str)>>,
    began: Instant,
}

impl Server {
    fn new(own: Own, most: u16) -> Self {
        Self {
            own,
            callers: RefCell::new(Callers::new(CALLERS, SHARE)),
            present: Cell::new(0),
            most,
            complaints: RefCell::new(Repeats::new(COMPLAINTS)),
            began: Instant::now(),
        }
    }

    /// Warns of something that strangers can cause as often as they like: the number of log lines is limited.
    fn warn(&self, ip: IpAddr, about: &'static str, what: fmt::Arguments<'_>) {
        let now = self.began.elapsed().as_nanos() as u64;
        if let Some(more) = self.complaints.borrow_mut().hear(now, (origin(ip), about)) {
            tracing::warn!("{what}{more}");
        }
    }

    /// Sends a refusal with its reason.
    async fn refuse(&self, stream: &TcpStream, peer: SocketAddr, about: &'static str, reason: String) {
        self.warn(peer.ip(), about, format_args!("{peer}: {reason}"));
        // It does not matter whether the peer still reads it.
        let _ = talk::say(stream, peer, &SetupLine::Refusal(reason)).await;
    }

    /// Reads a new caller's line. `None` if the caller was refused.
    async fn hear(&self, stream: &Rc<TcpStream>, peer: SocketAddr) -> Option<Offer> {
        const TOO_MANY: &str = "too many set-ups at the same time: say the line at once, or try again later";
        let silent = |stream: &Rc<TcpStream>| talk::is_silent(stream);
        let turn = self.callers.borrow_mut().admit(origin(peer.ip()), Rc::clone(stream), silent);
        let Some(mut turn) = turn else {
            self.refuse(stream, peer, "no place", TOO_MANY.to_owned()).await;
            return None;
        };
        let heard = tokio::select! {
            biased;
            heard = talk::hear(stream, peer) => Some(heard),
            _ = &mut turn.over => None,
        };
        self.callers.borrow_mut().leave(turn.number);
        match heard {
            Some(Ok(theirs)) => return Some(theirs),
            Some(Err(error)) => self.refuse(stream, peer, "set-up", error.to_string()).await,
            None => self.refuse(stream, peer, "gives way", TOO_MANY.to_owned()).await,
        }
        None
    }

    /// Serves one peer, from its call to its end. Only the end of our own lcore is an error.
    async fn attend(&self, stream: Rc<TcpStream>, peer: SocketAddr) -> Result<(), Failure> {
        if let Err(error) = talk::watch(&stream) {
            self.refuse(&stream, peer, "watch", format!("the connection cannot be watched: {error}")).await;
            return Ok(());
        }
        let Some(theirs) = self.hear(&stream, peer).await else { return Ok(()) };
        let own = &self.own;
        if self.present.get() >= self.most {
            let reason = format!("{} queue pairs are in use: raise --peers, or try again later", self.most);
            self.refuse(&stream, peer, "in use", reason).await;
            return Ok(());
        }
        let opened = async {
            let ours = own.create().await?;
            let connected = own.connect(&ours, &theirs, Retry::default()).await;
            if connected.is_err() {
                own.ask(|answer| RoceCommand::Close(ours.qpn, answer)).await?;
            }
            connected.map(|()| ours)
        };
        let ours = match opened.await {
            Ok(ours) => ours,
            Err(failure @ Failure::Internal(_)) => return Err(failure),
            Err(failure) => {
                self.refuse(&stream, peer, "refused", failure.to_string()).await;
                return Ok(());
            }
        };
        self.present.set(self.present.get() + 1);
        tracing::info!("{peer}: {theirs}; QP {:#08x}", ours.qpn);
        if talk::say(&stream, peer, &SetupLine::Offer(ours)).await.is_ok() {
            talk::until_gone(&stream).await;
        }
        own.ask(|answer| RoceCommand::Close(ours.qpn, answer)).await?;
        self.present.set(self.present.get() - 1);
        tracing::info!("{peer}: gone; QP {:#08x} closed", ours.qpn);
        Ok(())
    }
}
