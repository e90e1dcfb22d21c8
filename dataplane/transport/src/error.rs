//! Errors of callers.

/// Why a call was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number belongs to no queue pair.
    #[error("no such queue pair: it was destroyed, or never made")]
    NoSuchQp,
    /// The call needs another state of the queue pair.
    #[error("the queue pair is in a state that does not allow this: go through RESET, INIT, RTR, RTS in order")]
    State,
    /// All queue pairs are in use.
    #[error("all queue pairs are in use: raise Config::queue_pairs")]
    NoQp,
    /// All regions are in use.
    #[error("all memory regions are in use: raise Config::regions")]
    NoRegion,
    /// The region is larger than its memory, or ends after the last address.
    #[error("the region is larger than its memory, or ends after the last address")]
    RegionBounds,
    /// The path's number is too large.
    #[error("the path's number is too large: raise Config::paths")]
    NoSuchPath,
    /// The queue pair's queue is full, or all elements of it are in use elsewhere.
    #[error(
        "the queue is full: poll completions first, or raise Config::work, Config::receives or Config::queue_depth"
    )]
    QueueFull,
    /// There is no room for more completions that wait or are expected.
    #[error("too many completions wait or are owed: poll them, or raise Config::completions")]
    CompletionsFull,
    /// The responder resources are all promised to other queue pairs.
    #[error("the READ depth is promised to other queue pairs: lower it, or raise Config::replays")]
    NoReplays,
    /// The local buffer is not in a region of the same domain, or not permitted there.
    #[error("the local buffer is not in a region of the queue pair's domain that allows this")]
    LocalAccess,
    /// A message of more than 2^31 bytes, or an atomic operation with other than 8 local bytes.
    #[error("the length cannot be: at most 2^31 bytes, 8 for an atomic operation")]
    Length,
    /// READs or atomic operations, and the queue pair was made ready to send with a depth of none.
    #[error("the queue pair was made ready to send with no outstanding READs")]
    NoReadDepth,
    /// There is no memory for the tables of an endpoint.
    #[error(transparent)]
    NoMemory(#[from] frame::TableError),
}
