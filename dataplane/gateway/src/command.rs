//! What other threads tell a gateway.

use crate::trace::Tracer;
use frame::{Peer, Time};
use link::RouteChange;

/// See the module's documentation.
#[derive(Debug)]
pub enum GatewayCommand {
    /// A slave or master came, went or moved.
    Route(RouteChange),
    /// The registrar's answer to link control: whole records, to be sent as one datagram.
    Reply {
        /// Where the answer is sent.
        peer: Peer,
        /// The records.
        bytes: Box<[u8]>,
    },
    /// A new hold, in nanoseconds.
    SetHold(Time),
    /// Early flush on or off.
    SetEarly(bool),
    /// Reports what happens to the records of one slave.
    Trace(Box<Tracer>),
    /// Hands over all records that are held, and holds none from then on.
    Drain,
}
