//! A fixed number of elements, chained into queues: the state that a queue pair has only while it is busy.

/// No element.
pub(crate) const NONE: u32 = u32::MAX;

/// A queue of elements of one slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// The oldest element, or [`NONE`].
    pub(crate) head: u32,
    /// The newest element, or [`NONE`].
    pub(crate) tail: u32,
    /// How many there are.
    pub(crate) len: u32,
}

impl Chain {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE, len: 0 };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    value: T,
    next: u32,
}

/// Elements that are allocated at the start; each is free or in one chain.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    used: u32,
}

impl<T: Copy> Slab<T> {
    /// A slab of `capacity` elements that all look like `blank` until they are taken.
    pub(crate) fn new(capacity: u32, blank: T) -> Self {
        let next = |index: u32| if index + 1 < capacity { index + 1 } else { NONE };
        let entries = (0..capacity).map(|index| Entry { value: blank, next: next(index) }).collect();
        Self { entries, free: if capacity == 0 { NONE } else { 0 }, used: 0 }
    }

    /// Elements that are free.
    #[inline]
    pub(crate) fn free(&self) -> u32 {
        self.entries.len() as u32 - self.used
    }

    /// Puts a value at the end of a chain; `None` when no element is free.
    #[inline]
    pub(crate) fn push(&mut self, chain: &mut Chain, value: T) -> Option<u32> {
        let index = self.free;
        let entry = self.entries.get_mut(index as usize)?;
        self.free = entry.next;
        *entry = Entry { value, next: NONE };
        match self.entries.get_mut(chain.tail as usize) {
            Some(tail) => tail.next = index,
            None => chain.head = index,
        }
        chain.tail = index;
        chain.len += 1;
        self.used += 1;
        Some(index)
    }

    /// Takes the oldest value out of a chain.
    #[inline]
    pub(crate) fn pop(&mut self, chain: &mut Chain) -> Option<T> {
        let index = chain.head;
        let entry = self.entries.get_mut(index as usize)?;
        chain.head = entry.next;
        chain.len -= 1;
        if chain.head == NONE {
            chain.tail = NONE;
        }
        entry.next = self.free;
        self.free = index;
        self.used -= 1;
        Some(entry.value)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        Some(&self.entries.get(index as usize)?.value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        Some(&mut self.entries.get_mut(index as usize)?.value)
    }

    /// The element after this one in its chain, or [`NONE`].
    #[inline]
    pub(crate) fn next(&self, index: u32) -> u32 {
        self.entries.get(index as usize).map_or(NONE, |entry| entry.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_queues_and_elements_come_back() {
        let mut slab = Slab::new(3, 0);
        let (mut one, mut two) = (Chain::EMPTY, Chain::EMPTY);
        let first = slab.push(&mut one, 10).unwrap();
        assert!(slab.push(&mut two, 20).is_some() && slab.push(&mut one, 11).is_some());
        assert!(slab.push(&mut one, 12).is_none());
        assert_eq!((slab.free(), one.len, slab.get(slab.next(first))), (0, 2, Some(&11)));
        *slab.get_mut(first).unwrap() = 15;
        assert_eq!((slab.pop(&mut one), slab.pop(&mut one), slab.pop(&mut one)), (Some(15), Some(11), None));
        assert!(one.is_empty() && slab.next(NONE) == NONE && slab.free() == 2);
        assert!(slab.push(&mut one, 1).is_some() && slab.push(&mut one, 2).is_some());
        assert_eq!((slab.pop(&mut one), slab.pop(&mut two), slab.pop(&mut one)), (Some(1), Some(20), Some(2)));
        assert_eq!(slab.free(), 3);
        assert!(Slab::new(0, ()).push(&mut one, ()).is_none());
    }
}
