//! Doubly linked lists inside an array: a position in a list costs eight bytes and no allocation.

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// An entry's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Links {
    pub(super) const NONE: Self = Self { prev: NIL, next: NIL };
}

/// First and last entry of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL };

    /// Appends `at`, which must not be in the list. `links` gives the links of an entry in this list.
    #[inline]
    pub(super) fn push_back<T>(&mut self, entries: &mut [T], at: u32, links: impl Fn(&mut T) -> &mut Links) {
        *links(&mut entries[at as usize]) = Links { prev: self.tail, next: NIL };
        match self.tail {
            NIL => self.head = at,
            tail => links(&mut entries[tail as usize]).next = at,
        }
        self.tail = at;
    }

    /// Takes out `at`, which must be in the list.
    #[inline]
    pub(super) fn remove<T>(&mut self, entries: &mut [T], at: u32, links: impl Fn(&mut T) -> &mut Links) {
        let Links { prev, next } = std::mem::replace(links(&mut entries[at as usize]), Links::NONE);
        match prev {
            NIL => self.head = next,
            prev => links(&mut entries[prev as usize]).next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => links(&mut entries[next as usize]).prev = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(first: u32, step: impl Fn(u32) -> u32) -> Vec<u32> {
        let mut seen = Vec::new();
        let mut at = first;
        while at != NIL {
            seen.push(at);
            at = step(at);
        }
        seen
    }

    proptest! {
        #[test]
        fn a_list_is_the_vector_that_it_replaces(moves in proptest::collection::vec((0u32..8, any::<bool>()), 0..64)) {
            let mut entries = [Links::NONE; 8];
            let mut list = List::EMPTY;
            let mut model: Vec<u32> = Vec::new();
            for (at, back_in) in moves {
                if model.contains(&at) {
                    list.remove(&mut entries, at, |e| e);
                    model.retain(|&other| other != at);
                }
                if back_in {
                    list.push_back(&mut entries, at, |e| e);
                    model.push(at);
                }
                prop_assert_eq!(&walk(list.head, |at| entries[at as usize].next), &model);
                let backwards = walk(list.tail, |at| entries[at as usize].prev);
                prop_assert_eq!(backwards, model.iter().rev().copied().collect::<Vec<_>>());
            }
        }
    }
}
