//! The counters of the generator, and the phases of its run.
//!
//! Always: `records_in = link_consumed + refused_source + dropped_bad + dropped_unexpected + ` the sum of `echo_*` and
//! `up_*` without the two gaps.

frame::counters! {
    /// Counters of one generator.
    pub struct Counters {
        /// Records that were made, downward.
        sent_records,
        /// Datagrams that they were packed into.
        sent_datagrams,
        /// Bytes of payload of those records.
        sent_bytes,
        /// Datagrams that came in.
        datagrams_in,
        /// Datagrams among them with answers or PATTERN records.
        cargo_datagrams_in,
        /// Records that came in; what follows a bad record in its datagram counts as one with it.
        records_in,
        /// HEARTBEAT_ACK and MEMBERS.
        link_consumed,
        /// Link control that was refused: wrong tag, old, not understood.
        link_refused,
        /// Link control among link_refused that answers another challenge: of another start of the generator, or of another gateway.
        link_refused_challenge,
        /// Records from another address than those that were asked.
        refused_source,
        /// Records that are none, or whose slave id is out of range.
        dropped_bad: drop,
        /// Records of another run, another type, or a slave that was not asked.
        dropped_unexpected: drop,
        /// ECHO_REPLYs with the right content, in order or first after a gap.
        echo_ok,
        /// ECHO_REPLYs with the right content that came after later ones.
        echo_reordered,
        /// ECHO_REPLYs that came twice.
        echo_duplicate,
        /// ECHO_REPLYs 64 or more behind: whether they came twice is not known.
        echo_late,
        /// ECHO_REPLYs whose bytes are not those of their slave and sequence.
        echo_corrupted,
        /// Sequence numbers of ECHO_REPLYs that were jumped over.
        echo_gap,
        /// PATTERN records of slaves with the right content, in order or first after a gap.
        up_ok,
        /// PATTERN records with the right content that came after later ones.
        up_reordered,
        /// PATTERN records that came twice.
        up_duplicate,
        /// PATTERN records 64 or more behind: whether they came twice is not known.
        up_late,
        /// PATTERN records whose bytes are not those of their slave and sequence.
        up_corrupted,
        /// Sequence numbers of PATTERN records that were jumped over.
        up_gap,
        /// Unanswered ECHOs that were given up, so that the window could move on.
        window_given_up,
        /// Times that sending waited for a free frame.
        no_frame,
        /// Gateways that have registered the generator.
        gateways_registered: gauge,
        /// Times that a shard's cargo took another gateway than before: the one before drained, fell silent, or a preferred one was back.
        shard_moves,
        /// The longest time that a slave's answers stayed away, in nanoseconds: between two of them, while sending.
        echo_gap_ns: gauge,
        /// The longest time that a slave's own PATTERN records stayed away, in nanoseconds: between two of them.
        up_gap_ns: gauge,
        /// Shards of the slaves asked that no registered gateway serves.
        shards_missing: gauge,
        /// Slaves asked that the gateway of their shard has named as members.
        members_known: gauge,
        /// Those of them that do not take packets of the size asked, as far as gateways have proof.
        members_too_small: gauge,
        /// The smallest MTU of the ways to gateways, in bytes.
        route_mtu: gauge,
        /// Where the run is: 0 waiting, 1 sending, 2 waiting for stragglers, 3 done.
        phase: gauge,
        /// Nanoseconds between the first and the last record that were sent.
        sending_ns,
    }
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Waits until all gateways have registered it, or for three intervals only those that serve the requested slaves,
    /// and until enough slaves are known.
    Waiting,
    /// For the time, or as many records, as was asked.
    Sending,
    /// Until nothing has come for a while.
    Stragglers,
    /// Nothing more will be sent.
    Done,
}

impl Phase {
    /// All phases, in the order of a run.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Sending, Self::Stragglers, Self::Done];
}

impl Counters {
    /// Where the run is.
    pub fn phase(&self) -> Phase {
        Phase::ALL.get(self.phase.get() as usize).copied().unwrap_or(Phase::Done)
    }

    /// ECHO_REPLYs that answered something: all but duplicates.
    pub fn answered(&self) -> u64 {
        self.echo_ok.get() + self.echo_reordered.get() + self.echo_late.get() + self.echo_corrupted.get()
    }

    /// PATTERN records that gateways or slaves lost on the way up, as far as later ones show.
    pub fn up_lost(&self) -> u64 {
        self.up_gap.get().saturating_sub(self.up_reordered.get() + self.up_late.get())
    }

    /// Records of slaves that came in, of both kinds.
    pub fn cargo_in(&self) -> u64 {
        self.answered()
            + self.echo_duplicate.get()
            + self.up_ok.get()
            + self.up_reordered.get()
            + self.up_duplicate.get()
            + self.up_late.get()
            + self.up_corrupted.get()
    }

    /// Whether every record that came in is accounted for.
    pub fn balance(&self) -> bool {
        let else_where = self.link_consumed.get()
            + self.refused_source.get()
            + self.dropped_bad.get()
            + self.dropped_unexpected.get();
        self.records_in.get() == self.cargo_in() + else_where
    }
}
