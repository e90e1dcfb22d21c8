//! What a farm counts.
//!
//! Always: `records_in = echo_replied + link_consumed + pattern_consumed + lending_consumed + refused_source + ` the
//! sum of `dropped_*`.
//! And `pattern_consumed = pattern_ok + pattern_bad_content + pattern_reordered + pattern_duplicate + pattern_late`.

frame::counters! {
    /// Counters of one farm.
    pub struct FarmCounters {
        /// Datagrams that came in.
        datagrams_in,
        /// Records that came in; what follows a bad record in its datagram counts as one with it.
        records_in,
        /// ECHO records that were answered.
        echo_replied,
        /// Link control that ended here.
        link_consumed,
        /// PATTERN records that ended here.
        pattern_consumed,
        /// Messages of leases and packets of queue pairs that ended here; what became of them is counted by both.
        lending_consumed,
        /// Messages of leases among lending_consumed that were not read: no frame was free for the answer, or the slave is not registered with the gateway. Masters repeat them.
        lease_unanswered,
        /// Records that came from another address than that of a gateway of ours.
        refused_source,
        /// Records for a slave id that is not ours.
        dropped_not_ours: drop,
        /// Records of a type that a slave does not serve.
        dropped_unknown_type: drop,
        /// Remainders shorter than a record header.
        dropped_truncated: drop,
        /// Remainders that do not begin with the magic.
        dropped_magic: drop,
        /// Remainders whose payload_len points past the end of the datagram.
        dropped_length: drop,
        /// Remainders whose slave id is out of range.
        dropped_slave_id: drop,
        /// PATTERN records with the right content, each seen for the first time and none later missing before them.
        pattern_ok,
        /// PATTERN records whose bytes are not those of their slave and sequence.
        pattern_bad_content,
        /// Sequence numbers that were jumped over; those that came later count as pattern_reordered too.
        pattern_gap,
        /// PATTERN records that came after later ones of their stream.
        pattern_reordered,
        /// PATTERN records that came twice.
        pattern_duplicate,
        /// PATTERN records so far behind their stream that it is not known whether they came twice.
        pattern_late,
        /// HEARTBEAT records that were sent.
        heartbeats_out,
        /// HEARTBEAT_ACK records that a node accepted.
        acks_accepted,
        /// HEARTBEAT_ACK records that a node refused: wrong tag, old seq, not understood.
        acks_refused,
        /// HEARTBEAT_ACK records among acks_refused that answer another challenge: of another start of the node, or of another gateway.
        acks_refused_challenge,
        /// Slave ids that are registered now, with one gateway or more.
        registered: gauge,
        /// Registrations of slave ids, with all gateways.
        registrations: gauge,
        /// Times that a slave's cargo took another gateway than before: the one before drained, fell silent, or a preferred one was back.
        gateway_moves,
        /// Datagrams of answers that did not go back to the gateway of their questions, because it drained or was silent.
        answers_elsewhere,
        /// Times that a slave with two keys took the other one.
        keys_switched,
        /// Heartbeats that were put off because no frame was free.
        heartbeats_no_frame,
        /// PATTERN records of the farm's own traffic.
        traffic_records,
        /// Datagrams of the farm's own traffic.
        traffic_datagrams,
        /// Turns of slaves that had to be skipped: not registered, or the record is larger than the acknowledged MTU.
        traffic_skipped,
        /// Turns of traffic that were put off because no frame was free.
        traffic_no_frame,
    }
}

impl FarmCounters {
    /// Records that were dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        [
            &self.refused_source,
            &self.dropped_not_ours,
            &self.dropped_unknown_type,
            &self.dropped_truncated,
            &self.dropped_magic,
            &self.dropped_length,
            &self.dropped_slave_id,
        ]
        .iter()
        .map(|counter| counter.get())
        .sum()
    }

    /// Whether every record that came in is accounted for.
    pub fn balance(&self) -> bool {
        let consumed = self.link_consumed.get() + self.pattern_consumed.get() + self.lending_consumed.get();
        self.records_in.get() == self.echo_replied.get() + consumed + self.dropped()
    }
}
