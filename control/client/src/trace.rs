//! `gvm-dp trace`: what happens to the next records of one slave.

use super::Target;
use super::printer::{Goes, Printer};
use crate::args::TraceArgs;
use api::trace::{Moment, TraceNote, TraceOrder, TracedRecord, Why};
use common::exit::Failure;
use common::plain;
use common::units::Duration;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use std::fmt::Write as _;
use wire::MsgType;

/// A line of the answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Record(Box<TracedRecord>),
    Note(TraceNote),
}

/// The progress of a trace.
struct Progress<'a> {
    target: &'a Target,
    args: &'a TraceArgs,
    told: u32,
    /// The last line about the trace itself; `None` if the process sends no such lines.
    note: Option<TraceNote>,
}

/// Prints record after record, and at the end why there are no more.
///
/// # Errors
/// It fails as [`Target::find`] does. The error is [`Failure::Usage`] when the process refuses the order. It is
/// [`Failure::Client`] when the process goes away. It is [`Failure::Output`] when stdout does not take a record.
pub fn run(args: &TraceArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let duration_ms = args.duration.map(|duration| (duration.0 / MILLISECOND).max(1));
    let order = TraceOrder { slave: args.slave, count: args.count, duration_ms };
    let body = serde_json::to_vec(&order).map_err(|error| Failure::Internal(error.to_string()))?;
    super::runtime()?.block_on(async {
        let mut printer = Printer::start()?;
        let Some(opened) = printer.unless_ended(target.open(Method::POST, "/v1/trace?notes=true", body.into())).await
        else {
            return Ok(());
        };
        let (answer, _talking) = opened?;
        let mut progress = Progress { target: &target, args, told: 0, note: None };
        let why = progress.follow(answer.into_body(), &mut printer).await?;
        let TraceArgs { slave, count, .. } = args;
        progress.say(&format!("trace of slave {slave} ends after {} of {count} records: {why}", progress.told));
        Ok(())
    })
}

impl Progress<'_> {
    /// Prints what comes until the answer ends; returns why it did.
    async fn follow(&mut self, mut pieces: Incoming, printer: &mut Printer) -> Result<String, Failure> {
        let mut rest = Vec::new();
        loop {
            let Some(piece) = printer.unless_ended(pieces.frame()).await else { return Ok("interrupted".into()) };
            let Some(piece) = piece else { return self.over() };
            let Ok(piece) = piece else { return Err(self.broken()) };
            rest.extend_from_slice(&piece.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                match self.line(&line, printer).await? {
                    Goes::On => {}
                    Goes::ReaderLeft => return Ok("nobody reads it any more".into()),
                    Goes::Interrupted => return Ok("interrupted".into()),
                }
            }
        }
    }

    async fn line(&mut self, line: &[u8], printer: &mut Printer) -> Result<Goes, Failure> {
        let record = match self.target.read(line)? {
            Line::Record(record) => record,
            Line::Note(note) => {
                if note.note == Moment::Begun
                    && let Some(absent) = note.slave.absent()
                {
                    self.say(&format!(
                        "slave {} {absent}: what is shown of it will be what is dropped",
                        self.args.slave
                    ));
                }
                self.note = Some(note);
                return Ok(Goes::On);
            }
        };
        let text = if self.args.json { plain::json(line) } else { text(&record) };
        let goes = printer.print(text).await?;
        self.told += 1;
        Ok(goes)
    }

    /// Why the answer ended.
    fn over(&self) -> Result<String, Failure> {
        match &self.note {
            None => Ok("no reason given".to_owned()),
            Some(TraceNote { why: None, .. }) => Err(self.broken()),
            Some(TraceNote { why: Some(why), slave, .. }) => {
                let absent = slave.absent().filter(|_| *why == Why::Duration);
                let absent = absent.map(|absent| format!("; the slave {absent}"));
                Ok(format!("{}{}", why.text(), absent.unwrap_or_default()))
            }
        }
    }

    fn broken(&self) -> Failure {
        let (told, count) = (self.told, self.args.count);
        self.target.failed(&format!("went away in the middle of the trace: {told} of {count} records were told"))
    }

    /// Prints text for people that is not a record.
    fn say(&self, text: &str) {
        stdio::err::line(&format!("{}: {text}", self.target.name));
    }
}

/// A time span in three or four digits.
fn span(nanoseconds: u64) -> String {
    let unit = match nanoseconds {
        ..MICROSECOND => 1,
        MICROSECOND..MILLISECOND => 10,
        MILLISECOND..SECOND => 10 * MICROSECOND,
        _ => 10 * MILLISECOND,
    };
    let rounded = nanoseconds / unit * unit;
    let (whole, name) = match rounded {
        ..MICROSECOND => return Duration(rounded).to_string(),
        MICROSECOND..MILLISECOND => (MICROSECOND, "us"),
        MILLISECOND..SECOND => (MILLISECOND, "ms"),
        _ => (SECOND, "s"),
    };
    format!("{:.2}{name}", rounded as f64 / whole as f64)
}

fn text(record: &TracedRecord) -> String {
    let TracedRecord { number, time_ns, lcore, port, peer, offset, datagram_bytes, req_id, bytes, .. } = record;
    let seconds = time_ns / SECOND % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = time_ns % SECOND / MICROSECOND;
    let msg_type = MsgType(record.msg_type);
    let name = capture::filter::type_name(msg_type).map_or(format!("{:#06x}", msg_type.0), str::to_uppercase);
    let mut text = format!(
        "#{number} {hours:02}:{minutes:02}:{seconds:02}.{micros:06} lcore {lcore}, port {port}, from {peer}: {name} of \
         {bytes} \
         bytes at byte {offset} of {datagram_bytes}, request {req_id}\n"
    );
    let (records, held) = (record.buffer_records.unwrap_or(0), record.buffer_bytes.unwrap_or(0));
    let _ = match record.fate.as_str() {
        "registrar" => writeln!(text, "   link control: to the registrar"),
        "dropped" => writeln!(text, "   dropped: {}", record.reason.as_deref().unwrap_or("unknown")),
        "forwarded" => writeln!(text, "   forwarded whole, without a copy"),
        "adopted" => writeln!(text, "   its datagram became the buffer: {records} records, {held} bytes"),
        "opened" => writeln!(text, "   opened a buffer: {records} records, {held} bytes"),
        _ => {
            let open = span(record.open_ns.unwrap_or(0));
            writeln!(text, "   appended to a buffer open for {open}: {records} records, {held} bytes")
        }
    };
    match &record.left {
        Some(left) => {
            let to = match (&left.peer, left.port) {
                (Some(peer), Some(port)) => format!("to {peer} on port {port}"),
                _ => "dropped".to_owned(),
            };
            let _ = writeln!(
                text,
                "   left after {}, {}: {} records, {} bytes, {to}",
                span(left.after_ns),
                left.cause,
                left.records,
                left.bytes
            );
        }
        None if record.buffer_records.is_some() => text.push_str("   waits still\n"),
        None => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (nanoseconds, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (12_345, "12.34us"),
            (50_000, "50.00us"),
            (1_234_567, "1.23ms"),
            (SECOND, "1.00s"),
        ] {
            assert_eq!(span(nanoseconds), text);
        }
    }
}
