//! `POST /v1/trace`: what happens to the next records of one slave, a line of JSON for each.
//!
//! The gateways report what they do ([`gateway::trace`]). Here the two halves of each record's report are joined. The
//! trace ends when it has as many records as were asked for, when its time is over, when the client goes away, or with
//! the process. One trace runs at a time.
//!
//! With `?notes=true` there are also lines about the trace itself: the slave's state at the gateway when the trace
//! begins, and why it ends. Without it there are lines of records only, as in older versions.

use super::refusal::Refusal;
use super::request::ControlRequest;
use super::single::Permit;
use super::state::ServerState;
use super::stream::Stream;
use api::error::{ApiError, Code};
use api::trace::{Leaving, Moment, Standing, TraceNote, TraceOrder, TracedRecord, Why};
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use frame::Peer;
use gateway::trace::{Event, Fate, Trace};
use hyper::body::Bytes;
use lcore::watchdog::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The most records of one trace.
pub(crate) const MOST: u32 = 10_000;

/// How often events are polled.
const LOOK: Duration = Duration::from_millis(10);

/// How many lines may wait for the client.
const LINES: usize = 256;

/// The query of the request.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct TraceQuery {
    /// Whether lines about the trace itself are wanted.
    #[serde(default)]
    notes: bool,
}

/// Begins a trace.
pub(super) async fn begin(
    State(state): State<ServerState>,
    query: Result<Query<TraceQuery>, QueryRejection>,
    order: Result<Json<TraceOrder>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Query(TraceQuery { notes }) = query?;
    let Json(order) = order?;
    let bad = |message: String, remedy: String| ApiError::new(Code::BadValue, message, remedy);
    let slave = state.board.scale().slave_id(order.slave).ok_or_else(|| {
        let most = state.board.scale().slaves() - 1;
        bad(format!("there is no slave {}", order.slave), format!("the last one is {most}"))
    })?;
    if order.count == 0 || order.count > MOST {
        return Err(bad(format!("{} records", order.count), format!("ask for 1 to {MOST}")).into());
    }
    let permit = state.traces.claim().ok_or_else(|| {
        ApiError::new(Code::Busy, "another trace runs in this process", "end it with Ctrl-C where it runs")
    })?;
    let trace = state.request(|answer| ControlRequest::Trace { slave, count: order.count, answer }).await?.ok_or_else(
        || {
            ApiError::new(
                Code::WrongRole,
                "only a gateway traces records",
                "ask a gateway: gvm-dp trace --name GATEWAY",
            )
        },
    )?;
    let (lines, stream) = mpsc::channel(LINES);
    let session = Session { state, order, slave, trace, notes, lines, told: 0 };
    tokio::spawn(session.run(permit));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(Stream::new(stream))).into_response())
}

/// A trace that runs.
struct Session {
    state: ServerState,
    order: TraceOrder,
    slave: wire::SlaveId,
    trace: Trace,
    notes: bool,
    lines: mpsc::Sender<Bytes>,
    told: u32,
}

/// The client is gone.
struct Gone;

impl Session {
    /// Sends record by record.
    async fn run(mut self, permit: Permit) {
        let slave = self.order.slave;
        tracing::info!("trace begins: slave {slave}");
        let end = self.tell().await;
        // The client that reads the end may begin another trace.
        drop(permit);
        let why = match end {
            Ok(why) => {
                // A client that is gone now has all the records.
                let _ = self.note(Moment::Ended, Some(why)).await;
                why.text()
            }
            Err(Gone) => "the client went away",
        };
        tracing::info!("trace ends: slave {slave}, {} records: {why}", self.told);
    }

    /// Sends records until there are enough, or the trace is over.
    async fn tell(&mut self) -> Result<Why, Gone> {
        let deadline = self.order.duration_ms.map(|limit| Instant::now() + Duration::from_millis(limit));
        let clock = self.state.board.clock();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let offset = (since.as_nanos() as u64).saturating_sub(clock.now());
        let mut waiting = BTreeMap::new();
        self.note(Moment::Begun, None).await?;
        let why = loop {
            // Checked before the events are read, so that nothing comes after the end.
            let end = if self.state.board.views().all(|view| view.pulse.stage() == Stage::Stopped) {
                Some(Why::Process)
            } else {
                deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(Why::Duration)
            };
            while let Some(event) = self.trace.take() {
                if let Some(record) = story(event, offset, &mut waiting) {
                    self.record(&record).await?;
                }
            }
            if self.told >= self.order.count {
                return Ok(Why::Count);
            }
            if let Some(why) = end {
                break why;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.lines.closed() => return Err(Gone),
            }
        };
        // These records still wait: they are sent with what is known of them.
        for record in waiting.into_values() {
            self.record(&record).await?;
        }
        Ok(why)
    }

    async fn record(&mut self, record: &TracedRecord) -> Result<(), Gone> {
        self.lines.send(line(record)).await.map_err(|_| Gone)?;
        self.told += 1;
        Ok(())
    }

    /// Sends a line about the trace itself, if the client wants them.
    async fn note(&mut self, note: Moment, why: Option<Why>) -> Result<(), Gone> {
        if !self.notes {
            return Ok(());
        }
        let slave = self.slave;
        // A process that is about to end has no slaves any more.
        let standing = self
            .state
            .request(|answer| ControlRequest::Standing { slave, answer })
            .await
            .unwrap_or(Standing::Unregistered);
        let note = TraceNote { note, slave: standing, records: self.told, why };
        self.lines.send(line(&note)).await.map_err(|_| Gone)
    }
}

fn line(line: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// The record that an event completes.
fn story(event: Event, offset: u64, waiting: &mut BTreeMap<u32, TracedRecord>) -> Option<TracedRecord> {
    match event {
        Event::Arrived { number, time, lcore, peer, offset: at, datagram, msg_type, req_id, len, fate } => {
            let mut record = TracedRecord {
                number,
                time_ns: time + offset,
                lcore,
                port: peer.port.0,
                peer: peer.address().to_string(),
                offset: at,
                datagram_bytes: datagram,
                msg_type,
                req_id: format!("{req_id:#x}"),
                bytes: len,
                fate: String::new(),
                reason: None,
                open_ns: None,
                buffer_records: None,
                buffer_bytes: None,
                left: None,
            };
            let (name, buffer) = match fate {
                Fate::Registrar => ("registrar", None),
                Fate::Dropped(reason) => {
                    record.reason = Some(reason.name().to_owned());
                    ("dropped", None)
                }
                Fate::Opened(records, bytes) => ("opened", Some((0, records, bytes))),
                Fate::Adopted(records, bytes) => ("adopted", Some((0, records, bytes))),
                Fate::Appended(open, records, bytes) => ("appended", Some((open, records, bytes))),
                Fate::Forwarded(records, bytes, to) => {
                    record.left = Some(leaving(0, "order", 0, records, bytes, Some(to)));
                    ("forwarded", None)
                }
            };
            record.fate = name.to_owned();
            let Some((open, records, bytes)) = buffer else { return Some(record) };
            record.open_ns = Some(open);
            record.buffer_records = Some(records);
            record.buffer_bytes = Some(bytes);
            waiting.insert(number, record);
            None
        }
        Event::Left { number, time, cause, open, records, bytes, peer } => {
            let mut record = waiting.remove(&number)?;
            let after = (time + offset).saturating_sub(record.time_ns);
            record.left = Some(leaving(after, cause, open, records, bytes, peer));
            Some(record)
        }
    }
}

fn leaving(after_ns: u64, cause: &str, open_ns: u64, records: u16, bytes: usize, peer: Option<Peer>) -> Leaving {
    let (cause, port) = (cause.to_owned(), peer.map(|peer| peer.port.0));
    let peer = peer.map(|peer| peer.address().to_string());
    Leaving { after_ns, cause, open_ns, records, bytes, peer, port }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::PortId;

    #[test]
    fn the_two_halves_of_a_story_are_put_together() {
        let peer = Peer::socket(PortId(1), "192.0.2.1:7".parse().unwrap());
        let arrived = |number, fate| Event::Arrived {
            number,
            time: 100,
            lcore: 2,
            peer,
            offset: 23,
            datagram: 90,
            msg_type: 0x10,
            req_id: 0x2a,
            len: 33,
            fate,
        };
        let mut waiting = BTreeMap::new();
        assert_eq!(story(arrived(0, Fate::Appended(5, 2, 66)), 1000, &mut waiting), None);
        let dropped = story(arrived(1, Fate::Dropped(gateway::DropReason::Spoofed)), 1000, &mut waiting).unwrap();
        assert_eq!((dropped.number, dropped.fate.as_str(), dropped.reason.as_deref()), (1, "dropped", Some("spoofed")));
        let left =
            Event::Left { number: 0, time: 150, cause: "hold", open: 55, records: 3, bytes: 99, peer: Some(peer) };
        let record = story(left, 1000, &mut waiting).unwrap();
        assert_eq!((record.time_ns, record.lcore, record.port, record.req_id.as_str()), (1100, 2, 1, "0x2a"));
        assert_eq!((record.open_ns, record.buffer_records, record.buffer_bytes), (Some(5), Some(2), Some(66)));
        let left = record.left.clone().unwrap();
        assert_eq!((left.after_ns, left.cause.as_str(), left.peer.as_deref()), (50, "hold", Some("192.0.2.1:7")));
        let line = line(&record);
        assert_eq!(serde_json::from_slice::<TracedRecord>(&line).unwrap(), record);
        assert!(waiting.is_empty());
    }
}
