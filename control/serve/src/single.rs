//! Things that only one client can have at a time: the capture, the trace.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// The one that runs, if any.
#[derive(Clone, Default)]
pub(crate) struct Single {
    stop: Arc<Mutex<Option<Arc<Notify>>>>,
}

/// The permission to run the only capture; given back when dropped.
pub(crate) struct Permit {
    running: Single,
    /// Notified when the capture shall end.
    pub(crate) stop: Arc<Notify>,
}

impl Single {
    fn current(&self) -> std::sync::MutexGuard<'_, Option<Arc<Notify>>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The permission, if nobody has it.
    pub(crate) fn claim(&self) -> Option<Permit> {
        let mut current = self.current();
        if current.is_some() {
            return None;
        }
        let stop = Arc::new(Notify::new());
        *current = Some(Arc::clone(&stop));
        Some(Permit { running: self.clone(), stop })
    }

    /// Tells the capture to end; returns whether one ran.
    pub(crate) fn stop(&self) -> bool {
        let current = self.current();
        current.as_ref().inspect(|stop| stop.notify_one()).is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.running.current() = None;
    }
}
