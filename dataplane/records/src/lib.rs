//! Packets of reliable connections inside GVM records, between own peers.
//!
//! A [`Framing`] is a part of a role. It knows which slave and which master a path connects, where the path's packets
//! go, and how many records share a datagram. The role decides which record belongs to which path, and from whom it
//! takes records. [`RecordRole`] is the smallest such role: one end with its endpoint.
//!
//! | module | what |
//! |---|---|
//! | [`framing`] | records to packets, packets to records |
//! | [`routes`] | the two ends of a path, and where its packets go |
//! | [`role`] | an endpoint as a role of its own |
//! | `sink` | puts records into datagrams |
#![forbid(unsafe_code)]

pub mod framing;
pub mod role;
pub mod routes;
mod sink;

pub use framing::Framing;
pub use role::{End, RecordCommand, RecordRole};
pub use routes::{PathEnds, Side};

frame::counters! {
    /// Counters of the framing of reliable connections in GVM records.
    ///
    /// Always: `records_in = rc_records_in + ` the sum of `dropped_*` and `refused_source`. In a role that serves other
    /// records, too, only records of reliable connections count as `records_in`, and that role counts datagrams.
    pub struct RecordCounters {
        /// Datagrams that came in.
        datagrams_in,
        /// Records that came in; what follows a bad record in its datagram counts as one with it.
        records_in,
        /// Records with a packet of a reliable connection that were handed on.
        rc_records_in,
        /// Records that went out.
        rc_records_out,
        /// Datagrams that went out.
        datagrams_out,
        /// Records that came from another address than that of a peer or gateway of ours.
        refused_source,
        /// Records for another slave or master than this one, or of a peer that has no route.
        dropped_not_ours: drop,
        /// Records of another type, or parts of larger messages.
        dropped_unknown_type: drop,
        /// Remainders that are no record: too short, wrong magic, wrong length, slave id out of range.
        dropped_bad: drop,
        /// Packets that could not leave because their peer has no route; they are sent again.
        rc_dropped_no_route: drop,
        /// Packets that could not leave because they are larger than their route's MTU allows; they are sent again.
        rc_dropped_too_large: drop,
        /// Times that sending waited for a free frame, or for room in a port's queue.
        rc_no_frame,
    }
}
