//! What the status of a request to an extent means for the map.

use blockmap::Ending;
use pages::Status;

/// How a request to an extent ended, from its status.
pub(crate) fn ending(status: Status) -> Ending {
    let is_gone = matches!(status, Status::SERVER_GONE | Status::NO_SUCH_EXTENT | Status::NO_SUCH_CLIENT);
    match status {
        status if status.is_done() => Ending::Done,
        status if status.is_loss() || is_gone => Ending::Lost,
        _ => Ending::Failed,
    }
}
