//! `gvm-dp capture`: what goes through the ports of a running process, as pcapng.

use super::Target;
use crate::cli::CaptureArgs;
use crate::exit::Failure;
use crate::serve::capture::CaptureOrder;
use crate::signal::Signals;
use capture::pcapng::Census;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// How long the statistics may take to come after the capture was told to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Captures until it ends by itself, or a signal ends it.
pub fn run(args: &CaptureArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let order = CaptureOrder {
        filter: args.filter.clone().unwrap_or_default(),
        port: args.port,
        direction: args.direction,
        snaplen: args.snaplen,
        count: args.count,
        duration_ms: args.duration.map(|duration| (duration.0 / frame::time::MILLISECOND).max(1)),
    };
    let body = serde_json::to_vec(&order).map_err(|error| Failure::Internal(error.to_string()))?;
    let Captured { census, is_unread } = super::runtime()?.block_on(stream(&target, body.into(), args))?;
    if is_unread {
        eprintln!("{}: {} datagrams captured until nobody read them", target.name, census.packets);
        return Ok(());
    }
    eprintln!(
        "{}: {} datagrams captured, {} dropped for want of room, {} seen",
        target.name, census.packets, census.dropped, census.received
    );
    if !census.is_whole() || census.statistics == 0 {
        return Err(Failure::Client(format!(
            "\"{}\" went away in the middle: the file has no statistics",
            target.name
        )));
    }
    Ok(())
}

/// What came of a capture.
struct Captured {
    census: Census,
    /// Nobody reads the pipe any more.
    is_unread: bool,
}

/// Where the capture goes.
enum Sink {
    File(File),
    Stdout(io::Stdout),
}

impl Sink {
    fn open(args: &CaptureArgs) -> Result<Self, Failure> {
        if args.write.as_os_str() == "-" {
            return Ok(Self::Stdout(io::stdout()));
        }
        let file = File::create(&args.write);
        file.map(Self::File).map_err(|error| failed(args, &error))
    }

    /// Each piece is shown at once: somebody may be looking.
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(piece),
            Self::Stdout(stdout) => stdout.write_all(piece).and_then(|()| stdout.flush()),
        }
    }
}

fn failed(args: &CaptureArgs, error: &io::Error) -> Failure {
    Failure::Machine(format!("-w {}: {error}; is there room, and may this user write there?", args.write.display()))
}

async fn stream(target: &Target, body: Bytes, args: &CaptureArgs) -> Result<Captured, Failure> {
    let mut signals = Signals::listen()?;
    let (answer, _talking) = target.open(Method::POST, "/v1/capture", body).await?;
    // Opened when the capture runs, so that a mistyped filter spoils no file.
    let mut sink = Sink::open(args)?;
    let mut pieces: Incoming = answer.into_body();
    let mut census = Census::default();
    let mut told = false;
    loop {
        let next = async {
            match told {
                false => Ok(pieces.frame().await),
                true => tokio::time::timeout(PATIENCE, pieces.frame()).await,
            }
        };
        let piece = tokio::select! {
            piece = next => piece,
            _ = signals.next(), if !told => {
                told = true;
                let stop = target.open(Method::POST, "/v1/capture/stop", Bytes::new()).await?;
                drop(stop);
                continue;
            }
        };
        let Ok(Some(Ok(piece))) = piece else { return Ok(Captured { census, is_unread: false }) };
        let Ok(piece) = piece.into_data() else { continue };
        census.read(&piece).map_err(|broken| Failure::Internal(broken.to_string()))?;
        match sink.write(&piece) {
            Ok(()) => {}
            // Whoever looked has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Captured { census, is_unread: true }),
            Err(error) => return Err(failed(args, &error)),
        }
    }
}
