//! The record of a run: a hash over all events, and lines for people on request.

use crate::place::{Place, Who};
use frame::Time;
use frame::time::{MICROSECOND, SECOND};
use lcore::Polled;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::{BufWriter, Stdout, Write, stdout};

/// Something that happened. Everything that a run does is one of these, so equal hashes are equal runs.
#[derive(Debug, Hash)]
pub enum Happened<'a> {
    /// A frame was put on the wire.
    Sent(Place, Place, &'a [u8]),
    /// The fate of a frame on the wire.
    Fate(Fate),
    /// A frame arrived at a port.
    Arrived(Place, usize, bool),
    /// An lcore did something.
    Polled(Who, u16, Did),
    /// A machine, a network or a person did something.
    Turn(Who, &'static str),
    /// A part of the run begins.
    Phase(&'static str),
}

/// What happened to a frame on the wire.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Fate {
    /// Gone.
    Dropped,
    /// It arrives twice.
    Duplicated,
    /// One bit is another.
    Corrupted,
    /// Its end is missing.
    Truncated,
    /// Its datagram was changed, with correct checksums.
    Damaged,
    /// It carries a congestion mark.
    Marked,
    /// Its place is cut off, or is not there.
    Unreachable,
}

/// What a poll did.
#[derive(Debug, Hash)]
pub struct Did {
    received: usize,
    sent: usize,
    commands: usize,
}

impl From<Polled> for Did {
    fn from(Polled { received, sent, commands }: Polled) -> Self {
        Self { received, sent, commands }
    }
}

impl fmt::Display for Happened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(from, to, frame) => {
                write!(f, "{} -> {}: {} bytes", from.who, to.who, frame.len())?;
                match crate::packet::read(frame) {
                    Some(read) => write!(f, ", {}", Content(crate::packet::payload(frame, &read))),
                    None => Ok(()),
                }
            }
            Self::Fate(fate) => write!(f, "    {fate:?}"),
            Self::Arrived(place, lcore, true) => write!(f, "{} port {} lcore {lcore}: arrived", place.who, place.port),
            Self::Arrived(place, lcore, false) => {
                write!(f, "{} port {} lcore {lcore}: lost, ring full or no frame", place.who, place.port)
            }
            Self::Polled(who, lcore, Did { received, sent, commands }) => {
                write!(f, "{who} lcore {lcore}: received {received}, sent {sent}, commands {commands}")
            }
            Self::Turn(who, what) => write!(f, "{who} {what}"),
            Self::Phase(name) => write!(f, "== {name}"),
        }
    }
}

/// A datagram in a few words.
struct Content<'a>(&'a [u8]);

impl fmt::Display for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut records, mut first) = (self.0, 0, None);
        while let Ok(record) = wire::Record::first(rest) {
            first = first.or(Some(record));
            records += 1;
            rest = rest.get(record.bytes().len()..).unwrap_or(&[]);
        }
        write!(f, "{records} records")?;
        if let Some(first) = first {
            let header = first.header();
            write!(f, " from type {:#06x} slave {} req {:x}", header.msg_type().0, header.slave_id(), header.req_id())?;
        }
        if rest.is_empty() { Ok(()) } else { write!(f, ", {} bytes that are none", rest.len()) }
    }
}

/// The hasher of all that happened: the same on every machine and in every build.
#[derive(Clone, Debug)]
pub struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fold {
    #[inline]
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for Fold {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 31)
    }
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Trace {
    fold: Fold,
    events: u64,
    /// Where lines go, until nobody reads them any more.
    print: Option<BufWriter<Stdout>>,
}

impl Trace {
    /// A trace that prints every event to standard output, or none.
    pub fn new(print: bool) -> Self {
        Self { print: print.then(|| BufWriter::new(stdout())), ..Self::default() }
    }

    /// Prints a text that is not an event.
    pub fn say(&mut self, text: impl fmt::Display) {
        if let Some(print) = &mut self.print
            && write!(print, "{text}").is_err()
        {
            self.print = None;
        }
    }

    /// Notes what happened at a time.
    #[inline]
    pub fn note(&mut self, now: Time, happened: &Happened<'_>) {
        self.events += 1;
        self.fold.write_u64(now);
        happened.hash(&mut self.fold);
        if self.print.is_some() {
            let (seconds, rest) = (now / SECOND, now % SECOND);
            let (micros, nanos) = (rest / MICROSECOND, rest % MICROSECOND);
            self.say(format_args!("{seconds:>3}.{micros:06}.{nanos:03}  {happened}\n"));
        }
    }

    /// A hash over all that happened.
    pub fn hash(&self) -> u64 {
        self.fold.finish()
    }

    /// How much happened.
    pub fn events(&self) -> u64 {
        self.events
    }
}
