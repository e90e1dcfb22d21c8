//! The extents of one application or area, in their order.

use channel::ChannelStatus;
use channel::message::{MOST_EXTENTS, MessageBody};
use frame::Time;
use frame::time::MILLISECOND;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

/// What is known of one extent, other than its number.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// Why it is lost.
    lost: Option<ChannelStatus>,
    /// Until when the slave wants it back.
    recalled: Option<Time>,
}

/// Extents, in the order in which they were allocated.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// By the number of the allocation, which begins at 1 and only grows.
    order: BTreeMap<u64, u64>,
    /// By extent: the number of its allocation, and its fate.
    extents: HashMap<u64, (u64, Fate)>,
    last: u64,
    lost: u32,
}

/// Some extents, with what is to be said of them before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) notices: Vec<MessageBody>,
    pub(crate) listed: MessageBody,
}

impl Holdings {
    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.extents.len() as u32
    }

    /// How many of them are lost.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    /// These are allocated.
    pub(crate) fn add(&mut self, extents: &[u64]) {
        for extent in extents {
            self.last += 1;
            self.order.insert(self.last, *extent);
            self.extents.insert(*extent, (self.last, Fate::default()));
        }
    }

    /// One is freed. Returns whether it was there.
    pub(crate) fn remove(&mut self, extent: u64) -> bool {
        let Some((number, fate)) = self.extents.remove(&extent) else { return false };
        self.order.remove(&number);
        self.lost -= u32::from(fate.lost.is_some());
        true
    }

    /// One is lost.
    pub(crate) fn lose(&mut self, extent: u64, status: ChannelStatus) {
        if let Some((_, fate)) = self.extents.get_mut(&extent)
            && fate.lost.replace(status).is_none()
        {
            self.lost += 1;
        }
    }

    /// The slave wants one back.
    pub(crate) fn recall(&mut self, extent: u64, until: Time) {
        if let Some((_, fate)) = self.extents.get_mut(&extent) {
            fate.recalled = Some(until);
        }
    }

    /// Those behind a number that an earlier page gave, or the first ones for 0.
    pub(crate) fn page(&self, from: u64, now: Time) -> Page {
        let mut rest = self.order.range((Excluded(from), Unbounded));
        let page: Vec<(u64, u64)> =
            rest.by_ref().take(MOST_EXTENTS).map(|(number, extent)| (*number, *extent)).collect();
        let next = page.last().filter(|_| rest.next().is_some()).map_or(0, |(number, _)| *number);
        let extents: Vec<u64> = page.into_iter().map(|(_, extent)| extent).collect();
        let (mut lost, mut recalled) = (BTreeMap::<u32, Vec<u64>>::new(), (Time::MAX, Vec::new()));
        for extent in &extents {
            match self.extents.get(extent).map(|(_, fate)| fate) {
                Some(Fate { lost: Some(status), .. }) => lost.entry(status.number()).or_default().push(*extent),
                Some(Fate { recalled: Some(until), .. }) if *until > now => {
                    // One message for all of them: nobody has more time than it says.
                    recalled.0 = recalled.0.min(*until);
                    recalled.1.push(*extent);
                }
                _ => {}
            }
        }
        let mut notices: Vec<_> =
            lost.into_iter().map(|(status, extents)| MessageBody::Lost { status, extents }).collect();
        if !recalled.1.is_empty() {
            let within_ms = u32::try_from((recalled.0 - now) / MILLISECOND).unwrap_or(u32::MAX);
            notices.push(MessageBody::Recalled { within_ms, extents: recalled.1 });
        }
        Page { notices, listed: MessageBody::Listed { next, extents } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(page: &Page) -> (u64, &[u64]) {
        match &page.listed {
            MessageBody::Listed { next, extents } => (*next, extents),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_have_all_extents_once_in_their_order_also_when_some_are_freed_meanwhile() {
        let mut holdings = Holdings::default();
        assert_eq!(listed(&holdings.page(0, 0)), (0, &[][..]));
        // Numbers of extents are in no order.
        let all: Vec<u64> = (0..2500).map(|number| number * 7919 % 2503).collect();
        holdings.add(&all);
        let first = holdings.page(0, 0);
        let (next, extents) = listed(&first);
        assert_eq!((extents, extents.len()), (&all[..1024], 1024));
        // Also the one at which the next page begins.
        assert!(holdings.remove(all[1023]) && !holdings.remove(all[1023]) && holdings.remove(all[1024]));
        let second = holdings.page(next, 0);
        let (next, extents) = listed(&second);
        assert_eq!(extents, &all[1025..2049]);
        let third = holdings.page(next, 0);
        assert_eq!(listed(&third), (0, &all[2049..]));
        assert_eq!(listed(&holdings.page(u64::MAX, 0)), (0, &[][..]));
        assert_eq!(holdings.len(), 2498);
    }

    #[test]
    fn a_page_that_is_full_and_the_last_one_says_so() {
        let mut holdings = Holdings::default();
        holdings.add(&(0..1024).collect::<Vec<_>>());
        assert_eq!(listed(&holdings.page(0, 0)).0, 0);
        holdings.add(&[5000]);
        assert_eq!(listed(&holdings.page(0, 0)).0, 1024);
        assert_eq!(listed(&holdings.page(1024, 0)), (0, &[5000][..]));
    }

    #[test]
    fn losses_and_recalls_are_told_with_their_page() {
        let mut holdings = Holdings::default();
        holdings.add(&[10, 11, 12, 13, 14]);
        holdings.lose(11, ChannelStatus::SLAVE_GONE);
        holdings.lose(11, ChannelStatus::SLAVE_GONE);
        holdings.lose(13, ChannelStatus::RECALLED);
        holdings.lose(99, ChannelStatus::RECALLED);
        holdings.recall(10, 5000 * MILLISECOND);
        holdings.recall(12, 3000 * MILLISECOND);
        // Its time is over.
        holdings.recall(14, 900 * MILLISECOND);
        assert_eq!(holdings.lost(), 2);
        let page = holdings.page(0, 1000 * MILLISECOND);
        let lost = |status: ChannelStatus, extent| MessageBody::Lost { status: status.number(), extents: vec![extent] };
        let recalled = MessageBody::Recalled { within_ms: 2000, extents: vec![10, 12] };
        assert_eq!(page.notices, [lost(ChannelStatus::SLAVE_GONE, 11), lost(ChannelStatus::RECALLED, 13), recalled]);
        assert!(holdings.remove(11));
        assert_eq!((holdings.lost(), holdings.len()), (1, 4));
    }
}
