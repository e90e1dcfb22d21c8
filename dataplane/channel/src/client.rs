//! The client's end: requests go in, completions come out.

use crate::entry::{ChannelCompletion, ChannelRequest};
use crate::layout::{COMPLETION_WORDS, ChannelLayout, REQUEST_WORDS};
use crate::{ChannelBroken, MOST_AT_ONCE};
use ring::{Poller, Posted, Poster, TooSmall, Words};

/// The client's end of a channel.
#[derive(Debug)]
pub struct ClientEnd<M> {
    layout: ChannelLayout,
    requests: Poster<M, REQUEST_WORDS>,
    completions: Poller<M, COMPLETION_WORDS>,
    /// Requests whose completions were not polled yet.
    under_way: usize,
}

impl<M: Words + Clone> ClientEnd<M> {
    /// The client's end of a channel that nobody has used yet, in memory with at least [`ChannelLayout::bytes`].
    ///
    /// # Errors
    /// [`TooSmall`].
    pub fn new(memory: M, layout: ChannelLayout) -> Result<Self, TooSmall> {
        let capacity = layout.capacity() as usize;
        Ok(Self {
            layout,
            requests: Poster::new(memory.clone(), layout.requests_at(), capacity)?,
            completions: Poller::new(memory, layout.completions_at(), capacity)?,
            under_way: 0,
        })
    }

    /// Where everything lies.
    pub const fn layout(&self) -> &ChannelLayout {
        &self.layout
    }

    /// Requests whose completions were not polled yet.
    pub const fn under_way(&self) -> usize {
        self.under_way
    }

    /// How many requests can be posted now.
    pub const fn room(&self) -> usize {
        self.layout.capacity() as usize - self.under_way
    }

    /// Posts requests, as many as may be under way and at most [`MOST_AT_ONCE`]. If `ring` of the answer is true, the
    /// server sleeps: ring its bell now.
    ///
    /// # Errors
    /// [`ChannelBroken`].
    #[inline]
    pub fn post(&mut self, burst: &[ChannelRequest]) -> Result<Posted, ChannelBroken> {
        let mut entries = [[0; REQUEST_WORDS]; MOST_AT_ONCE];
        let most = burst.len().min(MOST_AT_ONCE).min(self.room());
        for (entry, request) in entries.iter_mut().zip(&burst[..most]) {
            *entry = request.encode();
        }
        let posted = self.requests.post(&entries[..most])?;
        // The server has polled all requests whose completions came, so there is room for all others.
        if posted.count != most {
            return Err(ChannelBroken::Ring);
        }
        self.under_way += most;
        Ok(posted)
    }

    /// Polls completions, at most [`MOST_AT_ONCE`] and at most as many as `burst` has, and returns how many.
    ///
    /// # Errors
    /// [`ChannelBroken`].
    #[inline]
    pub fn poll(&mut self, burst: &mut [ChannelCompletion]) -> Result<usize, ChannelBroken> {
        let mut entries = [[0; COMPLETION_WORDS]; MOST_AT_ONCE];
        let most = burst.len().min(MOST_AT_ONCE);
        let found = self.completions.poll(&mut entries[..most])?;
        for (completion, entry) in burst.iter_mut().zip(&entries[..found]) {
            *completion = ChannelCompletion::decode(entry);
        }
        self.under_way = self.under_way.checked_sub(found).ok_or(ChannelBroken::TooManyCompletions)?;
        Ok(found)
    }

    /// Says that the client is about to sleep. If the answer is true, it may: completions that are posted from now on
    /// ring its bell. If it is false, there is something to poll.
    ///
    /// # Errors
    /// [`ChannelBroken`].
    pub fn sleep(&mut self) -> Result<bool, ChannelBroken> {
        Ok(self.completions.sleep()?)
    }

    /// Says that the client is awake.
    ///
    /// # Errors
    /// [`ChannelBroken`].
    pub fn wake(&mut self) -> Result<(), ChannelBroken> {
        Ok(self.completions.wake()?)
    }
}
