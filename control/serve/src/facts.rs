//! Facts about a process by name, its settings and what follows from them: for `stats` and for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's documentation. Only the control thread changes the facts, and no poll loop reads them.
#[derive(Debug, Default)]
pub struct ProcessFacts(Mutex<BTreeMap<String, String>>);

impl ProcessFacts {
    /// Sets a fact.
    pub fn insert(&self, name: &str, value: impl Into<String>) {
        self.lock().insert(name.replace('-', "_"), value.into());
    }

    /// A fact.
    pub fn get(&self, name: &str) -> Option<String> {
        self.lock().get(name).cloned()
    }

    /// Removes a fact.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// All facts.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // The map is complete even if a thread panicked while it held the lock.
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
