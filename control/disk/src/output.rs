//! What a connection is to send, in order. Bytes of the disk are sent from the buffers of the channel.

use crate::pool::{BufferPool, Pooled};
use pages::{MOST_PARTS, SharedPart};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

/// Zeros that are sent for blocks that are absent.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The longest head of a reply without a text.
const HEAD: usize = 32;

/// A part of what is sent.
#[derive(Debug)]
pub(crate) enum Part {
    /// A short head.
    Head([u8; HEAD], usize),
    /// A long one, with a text or a list.
    Bytes(Vec<u8>),
    /// Bytes of the disk: the first ones of the buffer.
    Buffer(Pooled, usize),
    /// So many zeros.
    Zeros(usize),
}

impl Part {
    /// The bytes of a head.
    pub(crate) fn head(bytes: &[u8]) -> Self {
        let mut head = [0; HEAD];
        match head.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Self::Head(head, bytes.len())
            }
            None => Self::Bytes(bytes.to_vec()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Head(_, len) | Self::Buffer(_, len) | Self::Zeros(len) => *len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// What is left of it from a byte on.
    fn rest(&self, at: usize) -> Option<SharedPart<'_>> {
        match self {
            Self::Head(bytes, len) => bytes.get(at..*len).map(SharedPart::Bytes),
            Self::Bytes(bytes) => bytes.get(at..).map(SharedPart::Bytes),
            Self::Buffer(pooled, len) => pooled.buffer.part(at, len.saturating_sub(at)).ok(),
            Self::Zeros(len) => ZEROS.get(..len.saturating_sub(at).min(ZEROS.len())).map(SharedPart::Bytes),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Output {
    parts: VecDeque<Part>,
    /// Bytes of the first part that are sent.
    sent: usize,
    /// Bytes that are to be sent.
    bytes: usize,
}

impl Output {
    pub(crate) fn push(&mut self, part: Part) {
        self.bytes += part.len();
        self.parts.push_back(part);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes and parts that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.bytes, self.parts.len())
    }

    /// Sends what the socket takes. Returns whether something was sent, and whether the socket is full.
    pub(crate) fn flush(&mut self, socket: impl AsFd, pool: &mut BufferPool) -> io::Result<(bool, bool)> {
        let mut is_moving = false;
        while !self.parts.is_empty() {
            let mut parts = [SharedPart::Bytes(&[]); MOST_PARTS];
            let (mut count, mut offered, mut at) = (0, 0, self.sent);
            for (place, part) in parts.iter_mut().zip(&self.parts) {
                let Some(rest) = part.rest(at) else { return Err(io::ErrorKind::InvalidData.into()) };
                let len = match rest {
                    SharedPart::Bytes(bytes) => bytes.len(),
                    SharedPart::Memory { len, .. } => len,
                };
                (*place, count, offered) = (rest, count + 1, offered + len);
                // Only the begin of many zeros is offered, so that nothing can follow them.
                if at + len < part.len() {
                    break;
                }
                at = 0;
            }
            let sent = match pages::send(&socket, parts.get(..count).unwrap_or_default()) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((is_moving, true)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            is_moving |= sent > 0;
            self.sent_some(sent, pool);
            if sent < offered {
                return Ok((is_moving, true));
            }
        }
        Ok((is_moving, false))
    }

    fn sent_some(&mut self, sent: usize, pool: &mut BufferPool) {
        self.bytes -= sent;
        self.sent += sent;
        while let Some(first) = self.parts.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            if let Some(Part::Buffer(pooled, _)) = self.parts.pop_front() {
                pool.give(pooled);
            }
        }
    }
}
