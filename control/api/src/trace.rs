//! The request of `POST /v1/trace`, and its answer: a line of JSON for each record.

use serde::{Deserialize, Serialize};

/// The body of `POST /v1/trace`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceOrder {
    /// The slave whose records are traced.
    pub slave: u32,
    /// How many records.
    pub count: u32,
    /// Ends after this many milliseconds.
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

/// The state of a slave at a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is registered.
    Registered,
    /// It is registered, and fell silent together with many others.
    Suspect,
    /// It has a route of --static-routes.
    Static,
    /// It is not registered.
    Unregistered,
    /// This gateway does not serve its shard.
    ForeignShard,
}

impl Standing {
    /// Why it has no route here, as the end of a sentence about it. `None` if it has one.
    pub const fn absent(self) -> Option<&'static str> {
        match self {
            Self::Registered | Self::Suspect | Self::Static => None,
            Self::Unregistered => Some("is not registered here (gvm-dp routes lists who is)"),
            Self::ForeignShard => Some("is in a shard that this gateway does not serve"),
        }
    }
}

/// The subject of a line about the trace itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Its beginning: the first line.
    Begun,
    /// Its end: the last line.
    Ended,
}

/// Why a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It has shown as many records as were asked for.
    Count,
    /// Its time is over.
    Duration,
    /// The process ends.
    Process,
}

impl Why {
    /// The text for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Count => "as many as were asked for",
            Self::Duration => "its time is over",
            Self::Process => "the process ends",
        }
    }
}

/// A line about the trace itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceNote {
    /// Its subject.
    pub note: Moment,
    /// The state of the slave at this gateway.
    pub slave: Standing,
    /// Records shown so far.
    pub records: u32,
    /// Why it ended; null in the first line.
    pub why: Option<Why>,
}

/// What became of one record: a line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedRecord {
    /// Its number in this trace, from 0.
    pub number: u32,
    /// When it came in, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The lcore that received it.
    pub lcore: u16,
    /// The port that received it.
    pub port: u8,
    /// The address that it came from.
    pub peer: String,
    /// Where it began in its datagram, in bytes.
    pub offset: usize,
    /// Bytes of the datagram.
    pub datagram_bytes: usize,
    /// Its message type.
    pub msg_type: u16,
    /// Its request id, with 0x.
    pub req_id: String,
    /// Its bytes, header included.
    pub bytes: usize,
    /// `opened`, `adopted`, `appended`, `forwarded`, `dropped` or `registrar`.
    pub fate: String,
    /// Why it was dropped, as the counter names it.
    pub reason: Option<String>,
    /// How long its buffer or datagram had been open then, in nanoseconds.
    pub open_ns: Option<u64>,
    /// Records in that buffer or datagram then.
    pub buffer_records: Option<u16>,
    /// Bytes in it then.
    pub buffer_bytes: Option<usize>,
    /// How it left; null if it did not wait, or still waits.
    pub left: Option<Leaving>,
}

/// How the buffer of a record left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// How long after the record came, in nanoseconds.
    pub after_ns: u64,
    /// Why: a flush cause, or `route_removed`.
    pub cause: String,
    /// How long the buffer was open, in nanoseconds.
    pub open_ns: u64,
    /// Records in it.
    pub records: u16,
    /// Bytes in it.
    pub bytes: usize,
    /// The destination; null if the content of the buffer was dropped.
    pub peer: Option<String>,
    /// The port that sent it.
    pub port: Option<u8>,
}
