//! `gvm-dp capture`: writes the datagrams of a running process's ports as pcapng.

use super::Target;
use crate::args::CaptureArgs;
use crate::sink::OutputFile;
use api::capture::CaptureOrder;
use capture::pcapng::Census;
use common::exit::Failure;
use common::signal::Signals;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};
use stdio::err::line as say;

/// How long the process may be silent after the capture was told to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is checked whether the capture makes progress.
const LOOK: Duration = Duration::from_millis(100);

/// How long the reader of the file may then stay without reading.
const READER_PATIENCE: Duration = Duration::from_secs(1);

/// Captures until it ends by itself, or a signal ends it.
///
/// # Errors
/// It fails as [`Target::find`] does. The error is [`Failure::Usage`] when the process refuses the order. It is
/// [`Failure::Client`] when the process goes away, or a signal comes before it has begun. It is [`Failure::Machine`]
/// when the file cannot be written. It is [`Failure::Lost`] when a second signal ends the capture at once.
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
        say(&format!("{}: {} datagrams captured until nobody read them", target.name, census.packets));
        return Ok(());
    }
    say(&format!(
        "{}: {} datagrams captured, {} dropped for want of room, {} seen",
        target.name, census.packets, census.dropped, census.received
    ));
    if !census.is_whole() || census.statistics == 0 {
        return Err(Failure::Client(format!(
            "\"{}\" went away in the middle: the file has no statistics",
            target.name
        )));
    }
    Ok(())
}

/// The result of a capture.
struct Captured {
    census: Census,
    /// Whether the reader of the pipe is gone.
    is_unread: bool,
}

fn failed(args: &CaptureArgs, error: &io::Error) -> Failure {
    // Errors of our own already say what to do.
    let hint = if error.get_ref().is_some() { "" } else { "; is there room, and may this user write there?" };
    Failure::Machine(format!("-w {}: {error}{hint}", args.write.display()))
}

/// What the capture waits for, and how often it made progress.
#[derive(Default)]
struct Progress {
    steps: Cell<u64>,
    waits_for_reader: Cell<bool>,
}

async fn stream(target: &Target, body: Bytes, args: &CaptureArgs) -> Result<Captured, Failure> {
    let mut signals = Signals::listen()?;
    let begin = target.open(Method::POST, "/v1/capture", body);
    let (answer, _talking) = tokio::select! {
        answer = begin => answer?,
        name = signals.stop() => {
            return Err(Failure::Client(format!("{name} before \"{}\" had begun to capture", target.name)));
        }
    };
    // The file is opened when the capture runs, so that a mistyped filter destroys no file.
    let sink = OutputFile::open(&args.write).map_err(|error| failed(args, &error))?;
    let progress = Progress::default();
    let mut pumping = std::pin::pin!(pump(answer.into_body(), sink, &progress));
    let name = tokio::select! {
        end = &mut pumping => return end.map_err(|stop| stop.failure(args)),
        name = signals.stop() => name,
    };
    // The process ends the stream with its statistics. Until then the stream must be read.
    let stop = target.open(Method::POST, "/v1/capture/stop", Bytes::new());
    let pumped = async {
        let (_, end) = tokio::join!(stop, pumping);
        end
    };
    let mut pumped = std::pin::pin!(pumped);
    let (mut steps, mut since) = (progress.steps.get(), Instant::now());
    loop {
        tokio::select! {
            end = &mut pumped => return end.map_err(|stop| stop.failure(args)),
            () = tokio::time::sleep(LOOK) => {}
            again = signals.stop() => {
                return Err(Failure::Lost(format!("{again} after {name}: ended at once, the capture is not whole")));
            }
        }
        if progress.steps.get() != steps {
            (steps, since) = (progress.steps.get(), Instant::now());
        }
        let patience = if progress.waits_for_reader.get() { READER_PATIENCE } else { PATIENCE };
        if since.elapsed() >= patience {
            return Err(gave_up(name, target, args, &progress));
        }
    }
}

/// The message when the capture does not end as it should.
fn gave_up(why: &str, target: &Target, args: &CaptureArgs, progress: &Progress) -> Failure {
    match progress.waits_for_reader.get() {
        true => Failure::Machine(format!(
            "{why}: the capture is not whole, since nobody takes what is written to -w {}",
            args.write.display()
        )),
        false => Failure::Client(format!("{why}: the capture is not whole, since \"{}\" does not end it", target.name)),
    }
}

/// Why the stream stopped early.
enum Stop {
    OutputFile(io::Error),
    Broken(String),
}

impl Stop {
    fn failure(self, args: &CaptureArgs) -> Failure {
        match self {
            Self::OutputFile(error) => failed(args, &error),
            Self::Broken(broken) => Failure::Internal(broken),
        }
    }
}

/// Copies pieces from the process to the output, until either ends.
async fn pump(mut pieces: Incoming, mut sink: OutputFile, progress: &Progress) -> Result<Captured, Stop> {
    let mut census = Census::default();
    let step = |waits_for_reader| {
        progress.steps.set(progress.steps.get() + 1);
        progress.waits_for_reader.set(waits_for_reader);
    };
    let written = loop {
        let piece = tokio::select! {
            piece = pieces.frame() => piece,
            ended = sink.ended() => break ended,
        };
        step(true);
        let Some(Ok(piece)) = piece else { break sink.finish().await };
        if let Ok(piece) = piece.into_data() {
            census.read(&piece).map_err(|broken| Stop::Broken(broken.to_string()))?;
            if !sink.write(piece).await {
                break sink.ended().await;
            }
        }
        step(false);
    };
    match written {
        Ok(()) => Ok(Captured { census, is_unread: false }),
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Captured { census, is_unread: true }),
        Err(error) => Err(Stop::OutputFile(error)),
    }
}
