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
            buffer: work.buffer.at(),
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
