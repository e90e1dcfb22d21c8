//! What `POST /v1/trace` is asked for, and answers: a line of JSON for each record.

use serde::{Deserialize, Serialize};

/// The body of `POST /v1/trace`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceOrder {
    /// Whose records.
    pub slave: u32,
    /// How many.
    pub count: u32,
    /// Ends after so many milliseconds.
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

/// How a slave stands with a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is registered.
    Registered,
    /// It is registered, and fell silent together with many others.
    Suspect,
    /// It has a route of --static-routes.
    Static,
    /// It is not there.
    Unregistered,
    /// Its shard is not served here.
    ForeignShard,
}

impl Standing {
    /// Why it has no route here, if it has none, as the end of a sentence about it.
    pub const fn absent(self) -> Option<&'static str> {
        match self {
            Self::Registered | Self::Suspect | Self::Static => None,
            Self::Unregistered => Some("is not registered here (gvm-dp routes lists who is)"),
            Self::ForeignShard => Some("is in a shard that this gateway does not serve"),
        }
    }
}

/// What a line about the trace itself is about.
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
    /// As many records were told as were asked for.
    Count,
    /// Its time is over.
    Duration,
    /// The process ends.
    Process,
}

impl Why {
    /// For people.
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
    /// What it is about.
    pub note: Moment,
    /// How the slave stands with this gateway.
    pub slave: Standing,
    /// Records told so far.
    pub records: u32,
    /// Why it ended; nothing at the beginning.
    pub why: Option<Why>,
}

/// What became of one record: a line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedRecord {
    /// Its number in this trace, from 0.
    pub number: u32,
    /// When it came in, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Through which lcore.
    pub lcore: u16,
    /// Through which port.
    pub port: u8,
    /// From where.
    pub peer: String,
    /// Where in its datagram it began, in bytes.
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
    /// Of the buffer or datagram in which it then was: how long it had been open, in nanoseconds.
    pub open_ns: Option<u64>,
    /// Of the same: records in it.
    pub buffer_records: Option<u16>,
    /// Of the same: bytes in it.
    pub buffer_bytes: Option<usize>,
    /// How it left; nothing when it did not wait, or still does.
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
    /// Where to; nothing when what it held was dropped.
    pub peer: Option<String>,
    /// Through which port.
    pub port: Option<u8>,
}
