//! The open buffers in opening order.
//!
//! All buffers have the same hold, so they fall due in opening order: the due ones are at the head, however many slaves
//! there are, and no scan is needed. It is a doubly linked list in a slab, allocated once with room for every frame of
//! the pool.

use frame::{Table, TableError, Time};

/// Index of a list entry; [`NIL`] is none.
pub type Entry = u32;

/// No entry.
pub const NIL: Entry = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    opened: Time,
    destination: u32,
    previous: Entry,
    next: Entry,
}

/// The list.
#[derive(Debug)]
pub struct OpeningOrder {
    nodes: Table<Node>,
    free: Vec<Entry>,
    head: Entry,
    tail: Entry,
}

impl OpeningOrder {
    /// A list for at most `capacity` open buffers.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(capacity: u32) -> Result<Self, TableError> {
        let node = Node { opened: 0, destination: 0, previous: NIL, next: NIL };
        Ok(Self {
            nodes: Table::new(capacity as usize, |_| node)?,
            free: (0..capacity).rev().collect(),
            head: NIL,
            tail: NIL,
        })
    }

    /// Appends a buffer that opens now; `None` when the list is full.
    #[inline]
    pub fn push(&mut self, now: Time, destination: u32) -> Option<Entry> {
        let entry = self.free.pop()?;
        let previous = self.tail;
        *self.nodes.get_mut(entry as usize)? = Node { opened: now, destination, previous, next: NIL };
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = entry,
            None => self.head = entry,
        }
        self.tail = entry;
        Some(entry)
    }

    /// Removes a buffer at any position. Returns when it opened.
    #[inline]
    pub fn remove(&mut self, entry: Entry) -> Option<Time> {
        let &Node { opened, previous, next, .. } = self.nodes.get(entry as usize)?;
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => self.head = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(node) => node.previous = previous,
            None => self.tail = previous,
        }
        self.free.push(entry);
        Some(opened)
    }

    /// Asks the second-level cache for an entry that will be removed.
    #[inline]
    pub fn prefetch_far(&self, entry: Entry) {
        frame::copy::prefetch_far_element(&self.nodes, entry as usize);
    }

    /// When a buffer opened.
    pub fn opened(&self, entry: Entry) -> Option<Time> {
        self.nodes.get(entry as usize).map(|node| node.opened)
    }

    /// When the oldest buffer opened, and its destination.
    #[inline]
    pub fn oldest(&self) -> Option<(Time, u32)> {
        self.nodes.get(self.head as usize).map(|node| (node.opened, node.destination))
    }

    /// Number of open buffers.
    #[inline]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether no buffer is open.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == NIL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_queue_with_holes(steps in proptest::collection::vec((any::<bool>(),
            any::<prop::sample::Index>()), 1..300)) {
            let mut list = OpeningOrder::new(32).unwrap();
            let mut model: Vec<(Entry, Time, u32)> = Vec::new();
            for (now, (push, which)) in steps.into_iter().enumerate() {
                let now = now as Time;
                if push {
                    match list.push(now, now as u32 + 7) {
                        Some(entry) => model.push((entry, now, now as u32 + 7)),
                        None => prop_assert_eq!(model.len(), 32),
                    }
                } else if !model.is_empty() {
                    let (entry, opened, _) = model.remove(which.index(model.len()));
                    prop_assert_eq!(list.remove(entry), Some(opened));
                }
                prop_assert_eq!(list.oldest(), model.first().map(|&(_, opened, whose)| (opened, whose)));
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
