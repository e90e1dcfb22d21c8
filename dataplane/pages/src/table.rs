//! The requests under way: each ends once, whatever the server says.

use crate::buffer::Buffer;
use crate::error::PagesError;
use crate::work::{Ended, Extent, Work};
use channel::{ChannelCompletion, ChannelRequest, ChannelStatus};

#[derive(Debug)]
struct UnderWay {
    extent: Extent,
    tag: u64,
    len: u32,
    buffer: Buffer,
}

#[derive(Debug, Default)]
struct Slot {
    /// Grows with each request, so that a completion that comes twice fits no later request.
    turn: u32,
    request: Option<UnderWay>,
}

/// The requests under way. On the ring a request has the number of its slot and turn as tag.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Table {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { slots: (0..capacity).map(|_| Slot::default()).collect(), free: (0..capacity).rev().collect() }
    }

    /// Requests under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a request in; gives it back if all slots are in use.
    pub(crate) fn begin(&mut self, work: Work) -> Result<ChannelRequest, Work> {
        let Some(place) = self.free.pop() else { return Err(work) };
        let Some(slot) = self.slots.get_mut(place as usize) else { return Err(work) };
        slot.turn = slot.turn.wrapping_add(1);
        let request = ChannelRequest {
            tag: u64::from(place) | u64::from(slot.turn) << 32,
            transfer: work.transfer,
            lane: work.lane,
            extent: work.extent.number(),
            offset: work.offset,
            len: work.len,
            buffer: work.buffer.at() + u64::from(work.skip),
        };
        slot.request = Some(UnderWay { extent: work.extent, tag: work.tag, len: work.len, buffer: work.buffer });
        Ok(request)
    }

    /// Ends the request that a completion belongs to.
    pub(crate) fn end(&mut self, completion: &ChannelCompletion) -> Result<Ended, PagesError> {
        let (place, turn) = (completion.tag as u32, (completion.tag >> 32) as u32);
        let slot = self.slots.get_mut(place as usize).filter(|slot| slot.turn == turn);
        let request = slot.and_then(|slot| slot.request.take());
        let request = request.ok_or(PagesError::Nonsense("a completion of no request that is under way"))?;
        self.free.push(place);
        Ok(Ended {
            tag: request.tag,
            extent: request.extent,
            status: completion.status,
            len: completion.len.min(request.len),
            buffer: request.buffer,
        })
    }

    /// Ends all requests.
    pub(crate) fn end_all(&mut self, status: ChannelStatus, out: &mut Vec<Ended>) {
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if let Some(UnderWay { extent, tag, buffer, .. }) = slot.request.take() {
                out.push(Ended { tag, extent, status, len: 0, buffer });
                self.free.push(place as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::BufferArea;
    use channel::ChannelLayout;
    use frame::{Hugepages, Shared};
    use std::sync::Arc;

    #[test]
    fn a_completion_that_comes_twice_ends_no_later_request() {
        let layout = ChannelLayout::new(2, 4096).unwrap();
        let memory = Arc::new(Shared::new(layout.bytes() as usize, Hugepages::Never).unwrap());
        let area = Arc::new(BufferArea::new(memory, &layout));
        let mut table = Table::new(2);
        let work = |tag| Work::read(Extent::from_number(9), 0, area.allocate(8).unwrap()).tagged(tag);
        let done = |tag| ChannelCompletion { tag, status: ChannelStatus::DONE, len: 99 };
        let first = table.begin(work(1)).unwrap();
        let ended = table.end(&done(first.tag)).unwrap();
        // No more bytes are said to be there than were asked for.
        assert_eq!((ended.tag, ended.len, table.len()), (1, 8, 0));
        assert!(table.end(&done(first.tag)).is_err());
        // The next request has the same slot.
        let second = table.begin(work(2)).unwrap();
        assert_eq!(first.tag as u32, second.tag as u32);
        assert!(table.end(&done(first.tag)).is_err() && table.end(&done(5)).is_err());
        let third = table.begin(work(3)).unwrap();
        assert!(table.begin(work(4)).is_err() && table.len() == 2);
        assert_eq!(table.end(&done(third.tag)).unwrap().tag, 3);
        let mut out = Vec::new();
        table.end_all(ChannelStatus::SERVER_GONE, &mut out);
        assert_eq!((out.len(), out[0].tag, table.len()), (1, 2, 0));
    }
}
