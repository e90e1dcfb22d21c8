//! Two sets of counters as one.

use frame::counter::{CounterSet, Kind, Visitor};
use std::sync::Arc;

/// The counters of a port and of a part of it, as one set. It has the name of the first, and no two counters have the
/// same name.
pub(crate) struct Both {
    pub first: Arc<dyn CounterSet>,
    pub second: Arc<dyn CounterSet>,
}

impl CounterSet for Both {
    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn visit(&self, visitor: &mut Visitor<'_>) {
        self.first.visit(visitor);
        self.second.visit(visitor);
    }

    fn kind(&self, counter: &str) -> Kind {
        // A set does not know the counters of others, and takes them for counters that grow.
        match self.second.kind(counter) {
            Kind::Counter => self.first.kind(counter),
            kind => kind,
        }
    }
}
