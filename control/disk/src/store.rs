//! Keeps the map of a disk in an area, by a connection to the master of its own.

use crate::ending::ending;
use blockmap::{BlockMap, Ending, KeepEvent, KeepWrite, MapKeeper, MapRefusal};
use frame::Time;
use frame::time::SECOND;
use pages::{Client, Ended, Extent, ExtentNotice, PagesError, Question, RefusedFor, Status, Work};
use std::collections::HashMap;

/// Between two tries to keep what could not be kept, in nanoseconds.
const AGAIN: Time = SECOND;

/// The most requests under way.
pub(crate) const MAP_REQUESTS: u32 = 64;

/// How often a write is sent again after it failed for a reason that may pass.
const REPEATS: u8 = 3;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct MapStore {
    keeper: MapKeeper,
    client: Option<Client>,
    asked: Option<Question>,
    /// Writes under way by their tags, and how often each was sent again.
    flying: HashMap<u64, (KeepWrite, u8)>,
    tag: u64,
    batch: Vec<Work>,
    ended: Vec<Ended>,
    again: Option<Time>,
}

impl MapStore {
    pub(crate) fn new(keeper: MapKeeper, client: Client) -> Self {
        Self {
            keeper,
            client: Some(client),
            asked: None,
            flying: HashMap::new(),
            tag: 0,
            batch: Vec::new(),
            ended: Vec::new(),
            again: None,
        }
    }

    pub(crate) fn client_mut(&mut self) -> Option<&mut Client> {
        self.client.as_mut()
    }

    /// Whether changes can be kept: a master is there.
    pub(crate) const fn is_on(&self) -> bool {
        self.client.is_some()
    }

    /// Whether writes are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.flying.is_empty()
    }

    /// When [`MapStore::step`] has something to do at the latest.
    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.again
    }

    /// Takes what has changed in the map.
    pub(crate) fn note(&mut self, map: &mut BlockMap) {
        map.take_changed().into_iter().for_each(|slot| self.keeper.note(slot));
    }

    /// Whether the last change of a slot is not kept yet; then an event with this number follows.
    pub(crate) fn waits(&mut self, slot: u32, id: u64) -> bool {
        self.keeper.waits(slot, id)
    }

    pub(crate) fn next_event(&mut self) -> Option<KeepEvent> {
        self.keeper.next_event()
    }

    /// Extents of the disk that may be freed now.
    pub(crate) fn take_freed(&mut self, map: &mut BlockMap) -> Vec<u64> {
        for (slot, extent) in map.take_freed_of_slots() {
            self.keeper.free_later(slot, extent);
        }
        self.keeper.take_freed()
    }

    /// Writes what is to be kept, as far as that can be begun. Returns whether anything was done.
    pub(crate) fn step(&mut self, map: &mut BlockMap, now: Time) -> bool {
        self.note(map);
        let Some(client) = &mut self.client else { return false };
        if self.keeper.has_failed() {
            let at = *self.again.get_or_insert(now + AGAIN);
            if at <= now {
                self.again = None;
                self.keeper.try_again();
            }
        }
        let mut worked = false;
        if self.asked.is_none() && self.keeper.take_wanted() {
            match client.ask_allocate(1, false) {
                Ok(question) => self.asked = Some(question),
                Err(_) => self.keeper.allocated(Err(MapRefusal::NoServer)),
            }
            worked = true;
        }
        while self.flying.len() < MAP_REQUESTS as usize
            && let Some(write) = self.keeper.next_write(map)
        {
            worked = true;
            // There are buffers for all of them.
            let buffer = client.buffer(write.bytes.len()).and_then(|mut buffer| {
                buffer.write(0, &write.bytes)?;
                Ok(buffer)
            });
            let Ok(buffer) = buffer else {
                self.keeper.wrote(&write, Ending::Failed);
                break;
            };
            self.tag += 1;
            self.batch.push(Work::write(Extent::from_number(write.extent), write.offset, buffer).tagged(self.tag));
            self.flying.insert(self.tag, (write, 0));
        }
        if !self.batch.is_empty() {
            // What cannot be posted now is posted after the next completion. A server that is gone is heard of.
            worked |= client.post(&mut self.batch).is_ok_and(|posted| posted > 0);
        }
        let freed: Vec<Extent> = self.keeper.take_freed_of_map().into_iter().map(Extent::from_number).collect();
        if !freed.is_empty() {
            let _ = client.ask_free(&freed);
        }
        worked
    }

    /// Takes what came from the master. Returns whether anything did.
    ///
    /// # Errors
    /// The master is gone.
    pub(crate) fn hear(&mut self) -> Result<bool, PagesError> {
        let Some(client) = &mut self.client else { return Ok(false) };
        let mut ended = std::mem::take(&mut self.ended);
        let result = client.poll(&mut ended);
        let mut worked = !ended.is_empty();
        if self.asked.is_some() {
            for answer in client.answers() {
                if self.asked != Some(answer.question) {
                    continue;
                }
                self.asked = None;
                worked = true;
                let extent = match answer.extents {
                    Ok(extents) => extents.first().map(|extent| extent.number()).ok_or(MapRefusal::NoServer),
                    Err(PagesError::Refused { reason, .. }) if reason != RefusedFor::LEAVING => {
                        Err(MapRefusal::NoSpace)
                    }
                    Err(_) => Err(MapRefusal::NoServer),
                };
                if extent.is_err() {
                    tracing::warn!("no extent for the map of the disk: writes that need one fail");
                }
                self.keeper.allocated(extent);
            }
        }
        if client.has_notices() {
            for notice in client.notices()? {
                let (is_lost, extents) = match notice {
                    ExtentNotice::Lost { extents, .. } => (true, extents),
                    ExtentNotice::Recalled { extents, .. } => (false, extents),
                };
                for extent in extents {
                    if self.keeper.replace(extent.number()) {
                        let what = if is_lost { "lost" } else { "recalled" };
                        tracing::info!("an extent of the map of the disk is {what}: the map is written to another one");
                    }
                }
            }
        }
        for end in ended.drain(..) {
            self.end(end);
        }
        self.ended = ended;
        result.map(|_| worked)
    }

    fn end(&mut self, end: Ended) {
        let Some((write, repeats)) = self.flying.remove(&end.tag) else { return };
        if matches!(end.status, Status::FLUSHED | Status::NO_ANSWER) && repeats < REPEATS {
            let work = Work::write(Extent::from_number(write.extent), write.offset, end.buffer).tagged(end.tag);
            self.batch.push(work);
            self.flying.insert(end.tag, (write, repeats + 1));
            return;
        }
        let ending = ending(end.status);
        if ending == Ending::Failed {
            tracing::warn!("the map of the disk cannot be written, and is tried again: {}", end.status.name());
        }
        self.keeper.wrote(&write, ending);
    }

    /// The master is gone, and with it all extents.
    pub(crate) fn master_gone(&mut self) {
        self.client = None;
        self.asked = None;
        self.flying.clear();
        self.batch.clear();
        self.again = None;
        self.keeper.stop();
    }

    /// Another connection to a master is there. What it has in the area is older than the map of this process.
    pub(crate) fn connected(&mut self, mut client: Client, map: &BlockMap) {
        let old = client.extents().to_vec();
        if !old.is_empty() {
            let _ = client.ask_free(&old);
        }
        self.client = Some(client);
        self.keeper.start(map);
    }
}
