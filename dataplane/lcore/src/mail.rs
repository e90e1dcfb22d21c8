//! Link control on its way from an lcore to the registrar.
//!
//! Frames never leave their lcore, so the bytes are copied. That costs nothing that matters: a node speaks once per
//! second.

use frame::{Datagram, Peer};

/// Bytes that travel inside the mailbox itself; what is longer (a heartbeat padded to a jumbo MTU) gets memory of its
/// own, of which there is never more than the mailbox has places.
pub const INLINE: usize = 1536;

/// A datagram of link control that an lcore received.
pub struct ControlMail {
    /// The lcore that received it, counted from 0 in the order of the core list. An answer may leave through any lcore
    /// that has the peer's port; this one has it.
    pub lcore: u16,
    /// Who sent it.
    pub peer: Peer,
    len: usize,
    inline: [u8; INLINE],
    large: Option<Box<[u8]>>,
}

impl ControlMail {
    /// Copies a datagram.
    pub fn new(lcore: u16, datagram: &Datagram) -> Self {
        let data = datagram.frame.data();
        let mut mail = Self { lcore, peer: datagram.peer, len: data.len(), inline: [0; INLINE], large: None };
        match mail.inline.get_mut(..data.len()) {
            Some(place) => place.copy_from_slice(data),
            None => mail.large = Some(data.into()),
        }
        mail
    }

    /// The datagram's bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.large {
            Some(bytes) => bytes,
            None => &self.inline[..self.len],
        }
    }
}

impl std::fmt::Debug for ControlMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlMail({} bytes of {} by lcore {})", self.bytes().len(), self.peer, self.lcore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Hugepages, Pool, PoolConfig, PortId};

    #[test]
    fn bytes_of_any_length_arrive() {
        let config = PoolConfig { frames: 4, chunk: 16_384, hugepages: Hugepages::Never, reserve: 0 };
        let pool = Pool::new(config).unwrap();
        let peer = Peer::socket(PortId(3), "127.0.0.1:7".parse().unwrap());
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 9000] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&data));
            let mail = ControlMail::new(2, &Datagram::new(frame, peer, Class::Link, 1));
            assert_eq!((mail.bytes(), mail.peer, mail.lcore), (&data[..], peer, 2));
        }
    }
}
