//! Packs the answers to one datagram into as few datagrams as possible.

use crate::{Sink, datagram_room};
use frame::Peer;
use wire::UNPROVEN_MTU;
use wire::link::{HeartbeatAck, v1};

/// The answers that wait to be sent to one peer.
#[derive(Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
    len: usize,
    records: u16,
    /// Datagrams that were sent.
    pub(super) datagrams: u32,
}

impl Packer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; usize::from(UNPROVEN_MTU)], len: 0, records: 0, datagrams: 0 }
    }

    /// Adds an answer, in version 1 if `v1`. If it does not fit, sends the waiting answers first. Both ends take
    /// packets of `mtu` bytes.
    pub(super) fn push(
        &mut self,
        to: &Peer,
        mtu: u16,
        ack: &HeartbeatAck,
        v1: bool,
        key: Option<&wire::Key>,
        sink: &mut impl Sink,
    ) {
        let len = if v1 { v1::ack_len(ack) } else { ack.record_len() };
        if self.len + len > datagram_room(to, mtu.min(UNPROVEN_MTU)) {
            self.flush(to, sink);
        }
        // An ACK with all its ranges is much smaller than an empty datagram.
        let room = &mut self.bytes[self.len..];
        let emitted = if v1 { v1::emit_ack(ack, key, room) } else { ack.emit(key, room) };
        if let Some(len) = emitted {
            self.len += len;
            self.records += 1;
        }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, to: &Peer, sink: &mut impl Sink) {
        if self.records > 0 {
            sink.reply(to, &self.bytes[..self.len], self.records);
            self.datagrams = self.datagrams.wrapping_add(1);
        }
        self.len = 0;
        self.records = 0;
    }
}
