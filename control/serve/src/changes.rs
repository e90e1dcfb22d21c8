//! Changes of the machine that a running process does not follow, as the control thread saw them last.

use api::changes::Change;
use std::sync::{Mutex, PoisonError};

/// All current changes, as the control thread saw them last.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Vec<Change>>);

impl Changes {
    /// A copy of the list.
    pub fn all(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the list. Returns the old one.
    pub fn replace(&self, changes: Vec<Change>) -> Vec<Change> {
        // The list is complete even if a thread panicked while it held the lock.
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), changes)
    }
}
