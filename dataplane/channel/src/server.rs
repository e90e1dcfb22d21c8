//! The server's end: checked requests come out, completions go in.
//!
//! The client may write anything at any time. An entry is copied once out of the shared memory; the copy is checked and
//! used, and the entry is not looked at again.
//!
//! **A completion finds room always.** The client may have as many requests under way as the ring of completions has
//! places, and a request is under way until the client has polled its completion. The server holds clients to this
//! rule when it takes requests: who posts more is [`ChannelBroken::TooManyRequests`]. A client that keeps the rule is
//! never refused, because it stores how far it polled before it stores how far it posted, both with release.

use crate::ChannelBroken;
use crate::entry::{ChannelCompletion, ChannelRequest};
use crate::layout::{COMPLETION_WORDS, ChannelLayout, REQUEST_WORDS};
use crate::{MOST_AT_ONCE, status::ChannelStatus};
use ring::{Poller, Poster, TooSmall, Words};

/// What came of [`ServerEnd::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Taken {
    /// So many requests were taken, from the begin of the burst on.
    pub count: usize,
    /// So many more were refused, and are completed already.
    pub refused: usize,
    /// The client sleeps, and a refused request was completed: ring its bell now.
    pub ring: bool,
}

/// The server's end of a channel.
#[derive(Debug)]
pub struct ServerEnd<M> {
    layout: ChannelLayout,
    requests: Poller<M, REQUEST_WORDS>,
    completions: Poster<M, COMPLETION_WORDS>,
    /// Requests that were taken and not completed.
    under_way: usize,
}

impl<M: Words + Clone> ServerEnd<M> {
    /// The server's end of a channel in fresh memory, which has at least [`ChannelLayout::bytes`].
    ///
    /// # Errors
    /// [`TooSmall`].
    pub fn new(memory: M, layout: ChannelLayout) -> Result<Self, TooSmall> {
        let capacity = layout.capacity() as usize;
        Ok(Self {
            layout,
            requests: Poller::new(memory.clone(), layout.requests_at(), capacity)?,
            completions: Poster::new(memory, layout.completions_at(), capacity)?,
            under_way: 0,
        })
    }

    /// Where everything lies.
    pub const fn layout(&self) -> &ChannelLayout {
        &self.layout
    }

    /// Requests that were taken and not completed yet: at most the capacity.
    pub const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Takes requests of the client, at most [`MOST_AT_ONCE`] and at most as many as `burst` has. Each of them lies
    /// inside of an extent and inside of the buffers; whether the client has the extent is the caller's question. What
    /// does not is refused: it is completed at once with the status of its fault.
    ///
    /// # Errors
    /// [`ChannelBroken`]: close the channel. No completion is owed any more.
    #[inline]
    pub fn take(&mut self, burst: &mut [ChannelRequest]) -> Result<Taken, ChannelBroken> {
        let mut entries = [[0; REQUEST_WORDS]; MOST_AT_ONCE];
        let most = burst.len().min(MOST_AT_ONCE);
        let found = self.requests.poll(&mut entries[..most])?;
        if found == 0 {
            return Ok(Taken::default());
        }
        // This load comes after that of how far the client posted.
        let wanted = self.under_way + found;
        if self.completions.room_for(wanted)? < wanted {
            return Err(ChannelBroken::TooManyRequests);
        }
        let mut taken = Taken::default();
        for entry in &entries[..found] {
            match ChannelRequest::decode(entry, &self.layout) {
                Ok(request) => {
                    burst[taken.count] = request;
                    taken.count += 1;
                }
                Err(status) => {
                    taken.ring |= self.refuse(entry[0], status)?;
                    taken.refused += 1;
                }
            }
        }
        self.under_way += taken.count;
        Ok(taken)
    }

    #[cold]
    fn refuse(&mut self, tag: u64, status: ChannelStatus) -> Result<bool, ChannelBroken> {
        self.post(&[ChannelCompletion { tag, status, len: 0 }.encode()])
    }

    fn post(&mut self, entries: &[[u64; COMPLETION_WORDS]]) -> Result<bool, ChannelBroken> {
        let posted = self.completions.post(entries)?;
        // There was room when the requests were taken, and a client cannot take room back unnoticed.
        if posted.count == entries.len() { Ok(posted.ring) } else { Err(ChannelBroken::Ring) }
    }

    /// Completes requests that were taken, each of them once, in any order. If the answer is true, the client sleeps:
    /// ring its bell now.
    ///
    /// # Errors
    /// [`ChannelBroken`]: close the channel. [`ChannelBroken::TooManyCompletions`] is a fault of the caller; nothing of
    /// the burst is completed then.
    #[inline]
    pub fn complete(&mut self, burst: &[ChannelCompletion]) -> Result<bool, ChannelBroken> {
        if burst.len() > self.under_way {
            return Err(ChannelBroken::TooManyCompletions);
        }
        let mut ring = false;
        let mut entries = [[0; COMPLETION_WORDS]; MOST_AT_ONCE];
        for part in burst.chunks(MOST_AT_ONCE) {
            for (entry, completion) in entries.iter_mut().zip(part) {
                *entry = completion.encode();
            }
            ring |= self.post(&entries[..part.len()])?;
            self.under_way -= part.len();
        }
        Ok(ring)
    }

    /// Says that the server is about to sleep. If the answer is true, it may: requests that are posted from now on ring
    /// its bell. If it is false, there is something to take.
    ///
    /// # Errors
    /// [`ChannelBroken`].
    pub fn sleep(&mut self) -> Result<bool, ChannelBroken> {
        Ok(self.requests.sleep()?)
    }

    /// Says that the server is awake.
    ///
    /// # Errors
    /// [`ChannelBroken`].
    pub fn wake(&mut self) -> Result<(), ChannelBroken> {
        Ok(self.requests.wake()?)
    }
}
