//! What a disk counts.

use frame::histogram::Histogram;
use std::sync::Arc;

frame::counters! {
    /// A disk: its connections, requests, and extents.
    pub struct DiskCounters {
        /// Connections now.
        connections: gauge,
        /// Connections that were accepted.
        connections_accepted,
        /// Connections that were closed at once, because there were too many.
        connections_refused,
        /// Connections that ended because the client did not keep to the protocol; the log says how.
        connections_faulty,
        /// Connections that ended because the client did not read its replies while others waited for buffers, or did not negotiate in time.
        connections_stalled,
        /// READs that ended.
        reads,
        /// WRITEs that ended.
        writes,
        /// WRITE_ZEROES that ended.
        writes_of_zeros,
        /// TRIMs that ended.
        trims,
        /// FLUSHes, CACHEs and BLOCK_STATUSes that ended.
        other_requests,
        /// Requests under way.
        requests_pending: gauge,
        /// Bytes that READs brought, zeros of absent blocks included.
        disk_bytes_read,
        /// Bytes of READs that were zeros without a request to a slave.
        disk_bytes_read_as_zeros,
        /// Bytes that WRITEs brought.
        disk_bytes_written,
        /// Requests that a client should not have sent: answered EINVAL, EPERM, EOVERFLOW, ENOTSUP, or beyond the end ENOSPC.
        requests_refused,
        /// Requests that ended with EIO: a slave is lost or does not answer, or the master is gone.
        requests_failed_io,
        /// Requests that ended with ENOSPC: no slave had memory, or the quota is used up.
        requests_failed_no_space,
        /// Writes that were sent again to another extent, because theirs was lost.
        writes_repeated,
        /// Writes of a part of an absent block, which wrote the whole block.
        writes_filled,
        /// Bytes that were copied between the socket's buffer and those of the channel; all others were not copied by this process.
        bytes_copied,
        /// Times that a request waited because no buffers were free.
        buffer_waits,
        /// Extents of the disk now.
        extents_held: gauge,
        /// Extents that the master lets this disk have.
        extents_allowed: gauge,
        /// Extents that were allocated.
        extents_allocated,
        /// Extents that were freed because all their blocks were trimmed.
        extents_trimmed,
        /// Extents that were lost: their slave went, started again, or took its memory back.
        extents_lost,
        /// Extents that were recalled, and whose blocks were moved in time.
        extents_moved,
        /// Blocks of 4 KiB that are present.
        blocks_present: gauge,
        /// Blocks of 4 KiB that are lost: READs of them fail until they are written or trimmed.
        blocks_lost: gauge,
        /// Connections to a master that were made.
        master_connections,
        /// 1 while a master serves this disk.
        master_connected: gauge,
    }
}

frame::histograms! {
    /// How long requests of clients took, from the last byte of the request to the first of its reply that the socket can take.
    pub struct DiskHistograms {
        /// Nanoseconds that a READ took: up to 1.024 us, 2.048 us, and so on up to 17 s, and more.
        disk_read_ns: Histogram<10, 26>,
        /// Nanoseconds that a WRITE took.
        disk_write_ns: Histogram<10, 26>,
        /// Nanoseconds that another request took.
        disk_other_ns: Histogram<10, 26>,
    }
}

/// What a running disk shows to readers.
#[derive(Clone, Debug, Default)]
pub struct DiskStats {
    /// What it counts.
    pub counters: Arc<DiskCounters>,
    /// How long requests took.
    pub histograms: Arc<DiskHistograms>,
}
