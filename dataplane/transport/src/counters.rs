//! The counters of an endpoint.
//!
//! Always: `packets_in = requests_in + responses_in + cnps_in + ` the sum of `dropped_*`.

frame::counters! {
    /// Counters of one endpoint of reliable connections. A packet in a `dropped_*` counter has changed nothing.
    pub struct TransportCounters {
        /// Packets of reliable connections that came in.
        packets_in,
        /// Packets of reliable connections that went out.
        packets_out,
        /// Requests that were taken, duplicates and those answered with a NAK included.
        requests_in,
        /// Responses that moved a request on, or asked for it again.
        responses_in,
        /// Congestion notifications that came in.
        cnps_in,
        /// Congestion notifications that went out, because packets arrived with a CE mark.
        cnps_out,
        /// Bytes of payload written to regions of this end: WRITEs and SENDs of peers, answers to READs.
        payload_bytes_in,
        /// Bytes of payload that went out, those that were sent again included.
        payload_bytes_out,
        /// Packets shorter than their headers and the ICRC.
        rc_dropped_short: drop,
        /// Packets with an opcode of another transport service, or with a reserved one and the PSN of what was done before.
        rc_dropped_opcode: drop,
        /// Packets of another version of the transport header.
        rc_dropped_version: drop,
        /// Packets with wrong pad, or with payload where none may be.
        rc_dropped_pad: drop,
        /// Packets with another partition key than the default one.
        rc_dropped_pkey: drop,
        /// Packets for a queue pair that does not exist; stale and forged ones end here.
        rc_dropped_no_qp: drop,
        /// Packets for a queue pair from another peer than its own.
        rc_dropped_wrong_path: drop,
        /// Packets whose ICRC is wrong.
        rc_dropped_icrc: drop,
        /// Packets for a queue pair that is not ready for them, or has failed.
        rc_dropped_state: drop,
        /// Responses to what was never asked, or longer ago than half of all PSNs.
        rc_dropped_response_window: drop,
        /// Responses to what is complete already.
        rc_dropped_response_stale: drop,
        /// Responses that came before ones that are missing; the missing ones are asked for again.
        rc_dropped_response_early: drop,
        /// Responses that do not fit their request: other kind, other length, reserved syndrome.
        rc_dropped_response_unfit: drop,
        /// Requests that came before ones that are missing; the first is answered with a NAK.
        rc_dropped_request_early: drop,
        /// READs and atomic operations that were done before, and are no longer or not so in the response cache.
        rc_dropped_duplicate_unknown: drop,
        /// Requests that were done before and are answered again.
        duplicates_in,
        /// READs that were answered before and asked for again, and whose bytes cannot be read any more: they are not answered.
        duplicates_unreadable,
        /// NAKs for a PSN sequence error that went out.
        naks_sequence_out,
        /// NAKs for an invalid request that went out.
        naks_invalid_out,
        /// NAKs for a remote access error that went out: wrong rkey, out of bounds, not permitted.
        naks_access_out,
        /// NAKs for a remote operational error that went out.
        naks_operation_out,
        /// RNR NAKs that went out: no receive was posted.
        naks_rnr_out,
        /// NAKs for a PSN sequence error that came in.
        naks_sequence_in,
        /// RNR NAKs that came in.
        naks_rnr_in,
        /// Times that a request was sent again because no answer came in time.
        timeouts,
        /// Times that requests were sent again, for whatever reason.
        rewinds,
        /// Work requests and receives that ended in success.
        completed,
        /// Work requests and receives that ended in an error.
        completed_in_error,
        /// Queue pairs that failed.
        qps_failed,
        /// Queue pairs that exist.
        qps: gauge,
        /// Bytes in flight to and from all peers.
        bytes_in_flight: gauge,
        /// Bytes that may be in flight to and from all peers, as the window of all paths was when it last changed.
        window_bytes: gauge,
        /// Times that the window of all paths shrank because most round trips waited in queues.
        window_shrunk_delay,
        /// Times that the window of all paths shrank because many packets came with CE marks, here or at peers.
        window_shrunk_mark,
        /// Times that the window of all paths shrank because many packets were lost.
        window_shrunk_loss,
        /// Times that a queue pair had to wait for room in a window.
        window_waits,
    }
}

impl TransportCounters {
    /// Packets that changed nothing, for any reason.
    pub fn dropped(&self) -> u64 {
        [
            &self.rc_dropped_short,
            &self.rc_dropped_opcode,
            &self.rc_dropped_version,
            &self.rc_dropped_pad,
            &self.rc_dropped_pkey,
            &self.rc_dropped_no_qp,
            &self.rc_dropped_wrong_path,
            &self.rc_dropped_icrc,
            &self.rc_dropped_state,
            &self.rc_dropped_response_window,
            &self.rc_dropped_response_stale,
            &self.rc_dropped_response_early,
            &self.rc_dropped_response_unfit,
            &self.rc_dropped_request_early,
            &self.rc_dropped_duplicate_unknown,
        ]
        .iter()
        .map(|counter| counter.get())
        .sum()
    }

    /// Whether every packet that came in is accounted for.
    pub fn balance(&self) -> bool {
        let taken = self.requests_in.get() + self.responses_in.get() + self.cnps_in.get();
        self.packets_in.get() == taken + self.dropped()
    }
}
