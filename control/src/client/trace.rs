//! `gvm-dp trace`: what becomes of the next records of one slave.

use super::{Target, print};
use crate::cli::TraceArgs;
use crate::exit::Failure;
use crate::serve::trace::{TraceOrder, TracedRecord};
use crate::units::Duration;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use http_body_util::BodyExt;
use hyper::Method;
use std::fmt::Write as _;
use wire::MsgType;

/// Prints record after record.
pub fn run(args: &TraceArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let duration_ms = args.duration.map(|duration| (duration.0 / MILLISECOND).max(1));
    let order = TraceOrder { slave: args.slave, count: args.count, duration_ms };
    let body = serde_json::to_vec(&order).map_err(|error| Failure::Internal(error.to_string()))?;
    super::runtime()?.block_on(async {
        let (answer, _talking) = target.open(Method::POST, "/v1/trace", body.into()).await?;
        let mut pieces = answer.into_body();
        let mut rest = Vec::new();
        while let Some(piece) = pieces.frame().await {
            let piece = piece.map_err(|error| target.failed(&error))?;
            rest.extend_from_slice(&piece.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let is_read = match args.json {
                    true => print(&String::from_utf8_lossy(&line)),
                    false => print(&text(&target.read(&line)?)),
                };
                if !is_read {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

/// A time span to look at, in three or four digits.
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
        "#{number} {hours:02}:{minutes:02}:{seconds:02}.{micros:06} lcore {lcore}, port {port}, from {peer}: {name} of {bytes} \
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
