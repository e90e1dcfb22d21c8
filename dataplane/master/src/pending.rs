//! Requests that are not complete, and those that are complete and not polled: one table of fixed size.
//!
//! A request has one entry from its acceptance until its completion is polled. So there is always room for its
//! completion, and it has exactly one.

use crate::request::{PageCompletion, PageRequest, PageStatus};
use frame::Time;

const NONE: u32 = u32::MAX;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The entry is free.
    Free,
    /// It was accepted, or waits for a session or for room in a queue pair.
    Waiting,
    /// A queue pair has it.
    Posted,
    /// It is complete, and not polled yet.
    Complete(PageStatus),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) request: PageRequest,
    pub(crate) submitted: Time,
    pub(crate) stage: Stage,
    /// It counts for the quota of its client.
    pub(crate) is_counted: bool,
    /// The path to the slave that has its extent; `None` if it was refused at once.
    pub(crate) path: Option<u32>,
    /// What its failures so far weigh.
    pub(crate) failures: u8,
    next: u32,
}

/// A list of requests, first in first out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    first: u32,
    last: u32,
}

impl Waiting {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }
}

/// All requests.
#[derive(Debug)]
pub(crate) struct Pending {
    list: Box<[Entry]>,
    free: Waiting,
    complete: Waiting,
    /// Entries that are in use.
    len: u32,
    /// Of these, requests that are not complete.
    under_way: u32,
}

impl Pending {
    pub(crate) fn new(count: u32, blank: PageRequest) -> Self {
        let entry = Entry {
            request: blank,
            submitted: 0,
            stage: Stage::Free,
            is_counted: false,
            path: None,
            failures: 0,
            next: NONE,
        };
        let mut pending = Self {
            list: vec![entry; count as usize].into(),
            free: Waiting::EMPTY,
            complete: Waiting::EMPTY,
            len: 0,
            under_way: 0,
        };
        let mut free = Waiting::EMPTY;
        (0..count).for_each(|index| pending.push(&mut free, index));
        pending.free = free;
        pending
    }

    /// Entries that are free.
    pub(crate) fn room(&self) -> u32 {
        self.list.len() as u32 - self.len
    }

    /// Requests that are not complete.
    pub(crate) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// All that are in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.list.iter().filter(|entry| entry.stage != Stage::Free)
    }

    #[inline]
    pub(crate) fn push(&mut self, list: &mut Waiting, index: u32) {
        if let Some(entry) = self.list.get_mut(index as usize) {
            entry.next = NONE;
        }
        match self.list.get_mut(list.last as usize) {
            Some(last) => last.next = index,
            None => list.first = index,
        }
        list.last = index;
    }

    #[inline]
    pub(crate) fn pop(&mut self, list: &mut Waiting) -> Option<u32> {
        let index = list.first()?;
        list.first = self.list.get(index as usize)?.next;
        if list.first == NONE {
            list.last = NONE;
        }
        Some(index)
    }

    /// All of `later` follows what is in `list`.
    pub(crate) fn append(&mut self, list: &mut Waiting, later: Waiting) {
        match (self.list.get_mut(list.last as usize), later.first()) {
            (_, None) => {}
            (None, Some(_)) => *list = later,
            (Some(last), Some(first)) => (last.next, list.last) = (first, later.last),
        }
    }

    /// An entry for a request; `None` if all are in use.
    #[inline]
    pub(crate) fn take(&mut self, now: Time, request: &PageRequest) -> Option<u32> {
        let mut free = self.free;
        let index = self.pop(&mut free)?;
        self.free = free;
        let entry = self.list.get_mut(index as usize)?;
        entry.request = *request;
        (entry.submitted, entry.stage, entry.failures) = (now, Stage::Waiting, 0);
        (entry.is_counted, entry.path) = (false, None);
        self.len += 1;
        self.under_way += 1;
        Some(index)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Entry> {
        self.list.get(index as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.list.get_mut(index as usize)
    }

    /// A request ends. It is in no list.
    #[inline]
    pub(crate) fn complete(&mut self, index: u32, status: PageStatus) {
        match self.list.get_mut(index as usize) {
            Some(entry) if matches!(entry.stage, Stage::Waiting | Stage::Posted) => {
                entry.stage = Stage::Complete(status);
            }
            _ => return frame::never!("a request ends that is not under way"),
        }
        self.under_way -= 1;
        let mut complete = self.complete;
        self.push(&mut complete, index);
        self.complete = complete;
    }

    /// The oldest completion, and whether it counted for its client's quota.
    #[inline]
    pub(crate) fn poll(&mut self) -> Option<(PageCompletion, bool)> {
        let mut complete = self.complete;
        let index = self.pop(&mut complete)?;
        self.complete = complete;
        let entry = self.list.get_mut(index as usize)?;
        let Stage::Complete(status) = std::mem::replace(&mut entry.stage, Stage::Free) else {
            frame::never!("a completion is not of a complete request");
            return None;
        };
        let PageRequest { client, tag, op, len, .. } = entry.request;
        let len = if status == PageStatus::Done { len } else { 0 };
        let polled = (PageCompletion { client, tag, op, status, len }, entry.is_counted);
        let mut free = self.free;
        self.push(&mut free, index);
        (self.free, self.len) = (free, self.len - 1);
        Some(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{BufferKey, ClientId, ExtentId, PageOp, Urgency};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn request(tag: u64) -> PageRequest {
        PageRequest {
            client: ClientId::new(0, 0),
            tag,
            op: PageOp::Read,
            urgency: Urgency::Demand,
            extent: ExtentId::new(0, 0),
            offset: 0,
            len: 8,
            buffer: BufferKey(0),
            address: 0,
        }
    }

    #[test]
    #[should_panic(expected = "a request ends that is not under way")]
    fn a_request_ends_once() {
        let mut pending = Pending::new(2, request(0));
        let index = pending.take(0, &request(1)).unwrap();
        pending.complete(index, PageStatus::Done);
        pending.complete(index, PageStatus::Done);
    }

    #[test]
    fn lists_are_joined_in_their_order() {
        let mut pending = Pending::new(4, request(0));
        let (mut first, mut second) = (Waiting::EMPTY, Waiting::EMPTY);
        for tag in 0..4 {
            let index = pending.take(0, &request(tag)).unwrap();
            pending.push(if tag < 2 { &mut second } else { &mut first }, index);
        }
        pending.append(&mut first, Waiting::EMPTY);
        pending.append(&mut first, second);
        let mut joined = Waiting::EMPTY;
        pending.append(&mut joined, first);
        let order: Vec<u64> = std::iter::from_fn(|| pending.pop(&mut joined))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|index| pending.get(index).unwrap().request.tag)
            .collect();
        assert_eq!(order, [2, 3, 0, 1]);
    }

    proptest! {
        /// As many requests are taken as there are entries, and each that was taken is polled once, in the order of
        /// the ends.
        #[test]
        fn each_request_is_polled_once(steps in proptest::collection::vec((0u8..4, 0usize..8), 1..300)) {
            let mut pending = Pending::new(8, request(0));
            let (mut list, mut waiting) = (Waiting::EMPTY, VecDeque::new());
            let (mut ended, mut tag) = (VecDeque::new(), 0);
            for (what, _) in steps {
                match what {
                    0 | 1 => match pending.take(0, &request(tag)) {
                        Some(index) => {
                            pending.push(&mut list, index);
                            waiting.push_back(tag);
                            tag += 1;
                        }
                        None => prop_assert_eq!(waiting.len() + ended.len(), 8),
                    },
                    2 => if let Some(index) = pending.pop(&mut list) {
                        prop_assert_eq!(Some(pending.get(index).unwrap().request.tag), waiting.pop_front());
                        ended.push_back(pending.get(index).unwrap().request.tag);
                        pending.complete(index, PageStatus::Flushed);
                    },
                    _ => {
                        let polled = pending.poll().map(|(completion, _)| completion.tag);
                        prop_assert_eq!(polled, ended.pop_front());
                    }
                }
                prop_assert_eq!(pending.room() as usize, 8 - waiting.len() - ended.len());
                prop_assert_eq!(pending.under_way() as usize, waiting.len());
                prop_assert_eq!(list.is_empty(), waiting.is_empty());
            }
        }
    }
}
