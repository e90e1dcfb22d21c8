//! Where the master is, and what its answers mean for a command.

use crate::cli::PageMasterArgs;
use common::exit::Failure;
use common::sockets;
use pages::{PagesError, RefusedFor};
use std::path::PathBuf;

/// The socket of the master.
pub(super) fn socket(args: &PageMasterArgs) -> PathBuf {
    args.socket.clone().unwrap_or_else(|| sockets::directory().join("master.pages"))
}

/// What a failure of the library means for a command.
pub(super) fn failure(error: PagesError) -> Failure {
    let text = error.to_string();
    match error {
        error if error.has_no_server() => Failure::Client(text),
        PagesError::Refused { reason: RefusedFor::AREA_IN_USE | RefusedFor::AREA_EXISTS, .. } => {
            Failure::AreaInUse(text)
        }
        PagesError::Refused { reason: RefusedFor::AREA_NAME, .. } => Failure::Usage(text),
        _ => Failure::Pages(text),
    }
}
