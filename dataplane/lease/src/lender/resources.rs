//! What a lender needs of its role: queue pairs, a region for each lease, and the memory of units.

use wire::lease::PairEnd;
use wire::rc::PathMtu;

/// A session that is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The place of the lease, below [`LenderConfig::leases`](super::LenderConfig::leases): dense, so it is the number
    /// of the path to this master, and of the lease's protection domain.
    pub place: u16,
    /// The master.
    pub master: u16,
    /// The master's ends of the demand and the bulk queue pair.
    pub pairs: [PairEnd; 2],
    /// The path MTU of both.
    pub path_mtu: PathMtu,
}

/// A session that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct OpenedSession {
    /// The own ends of the demand and the bulk queue pair. Their numbers and PSNs are random.
    pub pairs: [PairEnd; 2],
    /// The key of a region without units. It is random.
    pub rkey: u32,
}

/// The queue pairs, regions and memory of a slave. What is asked for here takes effect at once, other than scrubbing.
pub trait Resources {
    /// Makes two queue pairs, ready to send, and a region without units; `None` if that is not possible.
    fn open(&mut self, opening: &Opening) -> Option<OpenedSession>;

    /// Ends the queue pairs and the region of a place. From now on nobody reaches a unit through them.
    fn close(&mut self, place: u16);

    /// A unit of the own memory becomes the unit `index` of the region of a place.
    fn add(&mut self, place: u16, index: u16, unit: u32);

    /// A unit leaves the region of a place, if that is open, and must be scrubbed. From now on nobody reaches it. When
    /// it is scrubbed, which may take long, [`Lender::scrubbed`](super::Lender::scrubbed) is told.
    fn remove(&mut self, place: u16, index: u16, unit: u32);
}
