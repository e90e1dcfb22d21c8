//! What a process was told and what follows from that, by name: for `stats` and for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's documentation. Only the control thread changes it, and nobody on a packet's way reads it.
#[derive(Debug, Default)]
pub struct ProcessFacts(Mutex<BTreeMap<String, String>>);

impl ProcessFacts {
    /// Says something, instead of what was said under this name.
    pub fn insert(&self, name: &str, value: impl Into<String>) {
        self.lock().insert(name.replace('-', "_"), value.into());
    }

    /// What was said under this name.
    pub fn get(&self, name: &str) -> Option<String> {
        self.lock().get(name).cloned()
    }

    /// Says nothing more under this name.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Everything that was said.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // A map is whole whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_as_metrics_can_name_them() {
        let facts = ProcessFacts::default();
        facts.insert("rx-mode", "polling");
        facts.insert("rx-mode", "adaptive");
        assert_eq!(facts.get("rx_mode").as_deref(), Some("adaptive"));
        facts.remove("rx_mode");
        assert!(facts.all().is_empty());
    }
}
