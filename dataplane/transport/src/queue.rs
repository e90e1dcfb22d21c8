//! Lists of queue pairs: each is in at most one list of a set of links.

use crate::slab::NONE;

/// Not in any list.
const UNLISTED: u32 = u32::MAX - 1;

/// First and last of a list, or [`NONE`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// The links of all queue pairs, for lists that exclude each other.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Links {
    next: Vec<u32>,
}

impl Links {
    pub(crate) fn new(count: u32) -> Self {
        Self { next: vec![UNLISTED; count as usize] }
    }

    #[cfg(test)]
    fn is_listed(&self, index: u32) -> bool {
        self.next.get(index as usize).is_some_and(|&next| next != UNLISTED)
    }

    /// Adds an entry at the end, unless it is in a list already. Returns whether it was added.
    #[inline]
    pub(crate) fn push(&mut self, list: &mut List, index: u32) -> bool {
        match self.next.get_mut(index as usize) {
            Some(next) if *next == UNLISTED => *next = NONE,
            _ => return false,
        }
        match self.next.get_mut(list.tail as usize) {
            Some(next) => *next = index,
            None => list.head = index,
        }
        list.tail = index;
        true
    }

    /// Adds an entry at the front, unless it is in a list already.
    pub(crate) fn push_front(&mut self, list: &mut List, index: u32) {
        match self.next.get_mut(index as usize) {
            Some(next) if *next == UNLISTED => *next = list.head,
            _ => return,
        }
        list.head = index;
        if list.tail == NONE {
            list.tail = index;
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self, list: &mut List) -> Option<u32> {
        let index = list.head;
        let next = self.next.get_mut(index as usize)?;
        list.head = std::mem::replace(next, UNLISTED);
        if list.head == NONE {
            list.tail = NONE;
        }
        Some(index)
    }

    /// Removes an entry from the middle; walks the list.
    pub(crate) fn remove(&mut self, list: &mut List, index: u32) {
        let mut kept = List::EMPTY;
        while let Some(other) = self.pop(list) {
            if other != index {
                self.push(&mut kept, other);
            }
        }
        *list = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_at_a_time_and_in_order() {
        let mut links = Links::new(4);
        let (mut one, mut two) = (List::EMPTY, List::EMPTY);
        assert!(links.push(&mut one, 2) && links.push(&mut one, 0) && !links.push(&mut two, 2));
        assert!(links.push(&mut two, 1) && links.is_listed(1) && !links.is_listed(3) && !links.push(&mut one, 9));
        links.push_front(&mut one, 3);
        links.push_front(&mut one, 2);
        links.remove(&mut one, 2);
        assert!(!links.is_listed(2));
        assert_eq!([links.pop(&mut one), links.pop(&mut one), links.pop(&mut one)], [Some(3), Some(0), None]);
        assert!(one.is_empty() && !two.is_empty());
        links.push_front(&mut one, 0);
        assert!(links.push(&mut one, 3));
        assert_eq!([links.pop(&mut one), links.pop(&mut one), links.pop(&mut two)], [Some(0), Some(3), Some(1)]);
    }
}
