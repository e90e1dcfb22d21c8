//! What the machine changed under a running process that it does not follow, as the control thread saw it last.

use api::changes::Change;
use std::sync::{Mutex, PoisonError};

/// All of them, as the control thread saw them last.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Vec<Change>>);

impl Changes {
    /// All of them.
    pub fn all(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These are all now. Returns those that were there before.
    pub fn replace(&self, changes: Vec<Change>) -> Vec<Change> {
        // A list is whole whatever panicked.
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), changes)
    }
}
