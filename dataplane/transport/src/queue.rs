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

/// A list for each kind of queue pair: urgent ones, and others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Classes {
    urgent: List,
    bulk: List,
}

impl Classes {
    pub(crate) const EMPTY: Self = Self { urgent: List::EMPTY, bulk: List::EMPTY };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    #[inline]
    pub(crate) fn has_no_bulk(&self) -> bool {
        self.bulk.is_empty()
    }

    #[inline]
    pub(crate) fn of(&mut self, is_urgent: bool) -> &mut List {
        if is_urgent { &mut self.urgent } else { &mut self.bulk }
    }
}

/// Of this many turns, one is for queue pairs that are not urgent.
const ROUND: u8 = 8;

/// Queue pairs that have something to send. Urgent ones go first, but the others have a turn in each round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    lists: Classes,
    /// Turns of urgent queue pairs since the last other one that had to wait for them.
    urgent: u8,
}

impl Turns {
    pub(crate) const EMPTY: Self = Self { lists: Classes::EMPTY, urgent: 0 };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    #[inline]
    pub(crate) fn push(&mut self, links: &mut Links, place: u32, is_urgent: bool) {
        links.push(self.lists.of(is_urgent), place);
    }

    pub(crate) fn push_front(&mut self, links: &mut Links, place: u32, is_urgent: bool) {
        links.push_front(self.lists.of(is_urgent), place);
    }

    /// The queue pair whose turn it is, and whether it is urgent.
    #[inline]
    pub(crate) fn pop(&mut self, links: &mut Links) -> Option<(u32, bool)> {
        if !self.lists.urgent.is_empty() && (self.urgent + 1 < ROUND || self.lists.bulk.is_empty()) {
            // Only turns for which others waited count.
            self.urgent = if self.lists.bulk.is_empty() { 0 } else { self.urgent + 1 };
            return Some((links.pop(&mut self.lists.urgent)?, true));
        }
        self.urgent = 0;
        Some((links.pop(&mut self.lists.bulk)?, false))
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
    fn urgent_ones_go_first_and_the_others_have_one_turn_of_eight() {
        let (mut links, mut turns) = (Links::new(4), Turns::EMPTY);
        turns.push(&mut links, 0, false);
        turns.push(&mut links, 1, true);
        let mut order = Vec::new();
        for _ in 0..20 {
            let (place, is_urgent) = turns.pop(&mut links).unwrap();
            order.push(place);
            turns.push(&mut links, place, is_urgent);
        }
        let expected: Vec<u32> = (1..=20).map(|turn| u32::from(turn % 8 != 0)).collect();
        assert_eq!(order, expected);
        // Turns for which nobody waits do not count.
        let (mut links, mut turns) = (Links::new(4), Turns::EMPTY);
        turns.push(&mut links, 1, true);
        for _ in 0..20 {
            assert_eq!(turns.pop(&mut links), Some((1, true)));
            turns.push(&mut links, 1, true);
        }
        turns.push(&mut links, 0, false);
        assert_eq!(turns.pop(&mut links), Some((1, true)));
        assert_eq!((turns.pop(&mut links), turns.pop(&mut links), turns.is_empty()), (Some((0, false)), None, true));
    }

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
