//! What a master counts, and what readers see of it.

use frame::Histogram;
use lease::LoanCounters;
use records::RecordCounters;
use std::sync::Arc;
use transport::TransportCounters;

frame::counters! {
    /// What a master counts.
    ///
    /// Always: `requests = requests_done + requests_failed + requests_pending`.
    pub struct MasterCounters {
        /// HEARTBEAT records that a master sent.
        master_heartbeats_out,
        /// HEARTBEAT_ACK records that a master accepted.
        master_acks_accepted,
        /// HEARTBEAT_ACK records that a master refused: wrong tag, old seq, not understood.
        master_acks_refused,
        /// MEMBERS records that a master applied.
        members_accepted,
        /// MEMBERS records that a master refused: wrong tag, of another start, applied already, something missing before them.
        members_refused,
        /// Records for another master, or of a slave without a lease here.
        master_dropped_not_ours: drop,
        /// Records from another address than that of a gateway of this master.
        master_refused_source,
        /// Records of a type that no master takes.
        master_dropped_unknown_type: drop,
        /// Remainders that are no record: too short, wrong magic, wrong length, slave id out of range.
        master_dropped_bad: drop,
        /// Times that link control or a message of a lease waited because no frame was free.
        master_no_frame,
        /// Times that the cargo to a slave took another gateway than before.
        master_gateway_moves,
        /// Gateways that have registered this master.
        gateways_registered: gauge,
        /// Slaves that gateways name, here or suspect.
        slaves_known: gauge,
        /// Slaves with which there is a session.
        slaves_connected: gauge,
        /// Times that a session was opened anew because a queue pair failed or the path MTU shrank.
        sessions_renewed,
        /// Leases of an earlier start of this master that were found at slaves, and resumed to give their memory back.
        leases_found,
        /// Units of 64 MiB that slaves lend to this master.
        units_held: gauge,
        /// Extents of 2 MiB that clients have.
        extents_used: gauge,
        /// Extents of 2 MiB in the units held that nobody has.
        extents_free: gauge,
        /// Extents that were lost with their slave, or taken back by it.
        extents_lost,
        /// Extents whose clients were told to free them, because the slave wants the memory back.
        extents_recalled,
        /// Allocations of extents that succeeded.
        allocations_done,
        /// Allocations of extents that failed: no memory, or beyond a quota.
        allocations_failed,
        /// Clients that are there, parked ones included.
        clients: gauge,
        /// Clients that are parked: areas that nobody uses, which keep their extents.
        clients_parked: gauge,
        /// READs and WRITEs that were accepted, those that were refused at once included.
        requests,
        /// READs and WRITEs that ended well.
        requests_done,
        /// READs and WRITEs that ended with another status.
        requests_failed,
        /// READs and WRITEs that were sent again in a new session.
        requests_repeated,
        /// READs and WRITEs that are under way.
        requests_pending: gauge,
        /// Bytes of extents that were read.
        extent_bytes_read,
        /// Bytes of extents that were written.
        extent_bytes_written,
    }
}

frame::histograms! {
    /// How long requests took, from their acceptance to their end; only those that ended well.
    pub struct MasterHistograms {
        /// Nanoseconds that a demand request took: up to 1.024 us, 2.048 us, and so on up to 17 s, and more.
        demand_ns: Histogram<10, 26>,
        /// Nanoseconds that a bulk request took.
        bulk_ns: Histogram<10, 26>,
    }
}

/// What a running master shows to readers: all of it is counters that others may read.
#[derive(Clone, Debug)]
pub struct MasterStats {
    /// What the master counts.
    pub counters: Arc<MasterCounters>,
    /// How long requests took.
    pub histograms: Arc<MasterHistograms>,
    /// What its leases count.
    pub loans: Arc<LoanCounters>,
    /// What its queue pairs count.
    pub transport: Arc<TransportCounters>,
    /// What the framing of its packets counts.
    pub records: Arc<RecordCounters>,
}
