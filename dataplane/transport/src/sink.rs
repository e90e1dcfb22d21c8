//! The destination of packets: they are written directly into frames.

use crate::PathId;
use wire::rc::{Bth, IcrcSeed, packet};

/// Gives places for packets, one after the other.
pub trait Sink {
    /// A place of exactly `len` bytes for a packet to a peer, with the bytes of the framing that its ICRC covers.
    /// `None` if there is no place now: nothing more is asked for until
    /// [`Endpoint::transmit`](crate::Endpoint::transmit) is called again.
    ///
    /// `push` says that the packet ends a request or an answer of an urgent queue pair: somebody waits for it, and it
    /// should not wait on its way for others.
    ///
    /// A place that is not closed when the next one is opened is not sent.
    fn open(&mut self, path: PathId, len: usize, push: bool) -> Option<Room<'_>>;

    /// The packet in the place that was opened last is complete.
    fn close(&mut self);
}

/// A place for one packet.
#[derive(Debug)]
pub struct Room<'a> {
    /// Exactly as many bytes as were asked for; their content does not matter.
    pub bytes: &'a mut [u8],
    /// What the ICRC covers before the BTH.
    pub seed: IcrcSeed,
}

/// The result for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emitted<E> {
    /// It is in the sink.
    Sent,
    /// The sink has no room.
    Full,
    /// Its payload could not be read.
    Failed(E),
}

/// Where a packet goes, and whether somebody waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) path: PathId,
    pub(crate) push: bool,
}

/// Builds one packet in a sink. `fill` writes the payload, if there is any: it gets the CRC of what comes before, and
/// returns the CRC of both.
#[inline]
pub(crate) fn emit<S: Sink, E>(
    sink: &mut S,
    way: Way,
    bth: Bth,
    headers: [&[u8]; 2],
    payload: usize,
    fill: impl FnOnce(u32, &mut [u8]) -> Result<u32, E>,
) -> Emitted<E> {
    let extension: usize = headers.iter().map(|header| header.len()).sum();
    let len = wire::rc::bth::BTH_LEN + extension + payload + packet::pad_of(payload) + wire::rc::ICRC_LEN;
    let Some(Room { bytes, seed }) = sink.open(way.path, len, way.push) else { return Emitted::Full };
    let Some(opened) = packet::open(bth, headers, payload, bytes) else {
        frame::never!("a sink opened less room than it was asked for");
        return Emitted::Full;
    };
    let mut crc = seed.crc(opened.head);
    if payload > 0 {
        crc = match fill(crc, opened.payload) {
            Ok(crc) => crc,
            Err(error) => return Emitted::Failed(error),
        };
    }
    opened.seal(crc);
    sink.close();
    Emitted::Sent
}
