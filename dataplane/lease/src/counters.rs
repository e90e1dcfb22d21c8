//! The counters of both ends.

frame::counters! {
    /// What the leases of all slaves of a farm count. Each refused message is in one of the counters
    /// `connects_refused` and `lease_dropped_*`.
    pub struct LenderCounters {
        /// CONNECT records that came in.
        connects_in,
        /// CONNECTs that opened, resumed, renewed or changed a lease.
        connects_accepted,
        /// CONNECTs that repeated the one before, and were answered again.
        connects_repeated,
        /// CONNECTs that were answered with a cookie.
        connects_challenged,
        /// CONNECTs that were answered with another refusal than a cookie.
        connects_refused,
        /// CONNECTs that are older than the last one of their lease.
        lease_dropped_stale: drop,
        /// Messages of leases whose fields contradict each other or their ranges, or of another version.
        lease_dropped_malformed: drop,
        /// Messages of leases without the tag of the connect key.
        lease_dropped_forged: drop,
        /// Messages of leases of strangers beyond the budget, whose tags were not verified.
        lease_dropped_budget: drop,
        /// Messages of leases that are for another slave, or of a type or role that no slave takes.
        lease_dropped_unexpected: drop,
        /// DISCONNECT records that came in.
        disconnects_in,
        /// Leases that were opened.
        leases_opened,
        /// Leases that were resumed.
        leases_resumed,
        /// Leases that ended because they were not renewed.
        leases_expired,
        /// Leases that ended in another way.
        leases_ended,
        /// Units that were taken back by force at the end of a recall.
        units_taken,
        /// Leases that are there.
        leases: gauge,
        /// Units that are in leases.
        units_leased: gauge,
        /// Units that must be scrubbed before they are lent again.
        units_dirty: gauge,
        /// Units that are recalled and not given back yet.
        units_recalled: gauge,
    }
}

frame::counters! {
    /// What a master's leases count. No program shows them yet.
    pub struct LoanCounters {
        /// CONNECT records that were sent, with repetitions.
        connects_out,
        /// CONNECTs among connects_out that repeat the one before.
        connects_out_again,
        /// Answers that were accepted.
        replies_accepted,
        /// Answers to another CONNECT than the last one, or older than an answer that was accepted.
        replies_dropped_stale: drop,
        /// Messages of slaves whose fields contradict each other or their ranges, or of another version.
        replies_dropped_malformed: drop,
        /// Messages of slaves without the tag of the connect key.
        replies_dropped_forged: drop,
        /// Units of memory that were lost: their slave has restarted, left, or took them back.
        units_lost,
    }
}
