//! The role's counters. Its endpoint has its own.
//!
//! Always: `datagrams_in = dropped_other_port + dropped_headers + dropped_not_peer + dropped_identification + ` the
//! endpoint's `packets_in`.

frame::counters! {
    /// Counters of one RoCEv2 role.
    pub struct RoceCounters {
        /// Datagrams that came in.
        datagrams_in,
        /// Datagrams that came to another port than RoCEv2's.
        dropped_other_port: drop,
        /// Datagrams whose sender is not an IPv4 address, or without the headers that an ICRC covers.
        dropped_headers: drop,
        /// Packets for a queue pair from another address than its peer's, or to another one of ours.
        dropped_not_peer: drop,
        /// Packets from a socket that only headers explain which their sender's last ones do not let expect.
        dropped_identification: drop,
        /// Packets that arrived with the mark Congestion Experienced.
        marked_ce,
        /// Packets from a socket whose IPv4 identification had to be solved for, to explain the ICRC.
        solved_identification,
        /// Packets from a socket whose sender keeps to no order in its IPv4 identifications: checked by 16 bits only.
        unpredictable_identification,
        /// Times that packets waited because no frame was free.
        no_frame,
        /// Times that packets waited because many were waiting for the port already.
        port_full,
    }
}
