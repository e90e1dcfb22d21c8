//! The connection to a master: extents are asked for and freed without waiting.

use crate::store::MapStore;
use blockmap::{BlockMap, DiskCounters, MapRefusal, Want};
use frame::Time;
use frame::time::SECOND;
use pages::{Client, Extent, PagesError, Question, RefusedFor};
use std::collections::VecDeque;
use std::sync::Arc;

/// The most extents of one question.
const AT_ONCE: usize = 16;

/// The most questions that wait for their answers.
const QUESTIONS: usize = 4;

/// Between two lines of the log about extents that cannot be had, in nanoseconds.
const SAID_EVERY: Time = 10 * SECOND;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct MasterLink {
    client: Option<Client>,
    asked: Vec<(Question, Vec<Want>)>,
    /// What could not be had together is asked for one by one.
    alone: VecDeque<Want>,
    counters: Arc<DiskCounters>,
    said: Option<Time>,
}

impl MasterLink {
    pub(crate) fn new(counters: Arc<DiskCounters>) -> Self {
        Self { client: None, asked: Vec::new(), alone: VecDeque::new(), counters, said: None }
    }

    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    pub(crate) fn client_mut(&mut self) -> Option<&mut Client> {
        self.client.as_mut()
    }

    pub(crate) fn set(&mut self, client: Client) {
        self.client = Some(client);
        self.counters.master_connections.add(1);
        self.counters.master_connected.set(1);
    }

    /// The master is gone.
    pub(crate) fn lost(&mut self, map: &mut BlockMap) {
        self.client = None;
        self.counters.master_connected.set(0);
        let asked = std::mem::take(&mut self.asked).into_iter().flat_map(|(_, wants)| wants);
        for want in asked.chain(std::mem::take(&mut self.alone)) {
            map.allocated(want, Err(MapRefusal::NoServer));
        }
    }

    /// Takes answers to the map, and asks what it wants.
    pub(crate) fn manage(&mut self, map: &mut BlockMap, store: Option<&mut MapStore>, now: Time) {
        if !self.asked.is_empty() {
            self.take_answers(map, now);
        }
        while map.wants() || !self.alone.is_empty() {
            let Some(client) = &mut self.client else {
                let wants = map.take_wanted(usize::MAX);
                wants.into_iter().for_each(|want| map.allocated(want, Err(MapRefusal::NoServer)));
                break;
            };
            if self.asked.len() >= QUESTIONS {
                break;
            }
            let wants = self.alone.pop_front().map_or_else(|| map.take_wanted(AT_ONCE), |want| vec![want]);
            match client.ask_allocate(wants.len() as u32, false) {
                Ok(question) => self.asked.push((question, wants)),
                Err(_) => wants.into_iter().for_each(|want| map.allocated(want, Err(MapRefusal::NoServer))),
            }
        }
        let freed = match store {
            Some(store) => store.take_freed(map),
            None => map.take_freed(),
        };
        if let Some(client) = &mut self.client
            && !freed.is_empty()
        {
            let freed: Vec<Extent> = freed.into_iter().map(Extent::from_number).collect();
            // A master that is gone has freed them.
            let _ = client.ask_free(&freed);
        }
    }

    fn take_answers(&mut self, map: &mut BlockMap, now: Time) {
        let Some(client) = &mut self.client else { return };
        for answer in client.answers() {
            let Some(place) = self.asked.iter().position(|(question, _)| *question == answer.question) else {
                continue;
            };
            let (_, wants) = self.asked.swap_remove(place);
            match answer.extents {
                Ok(extents) if extents.len() == wants.len() => {
                    wants.into_iter().zip(extents).for_each(|(want, extent)| map.allocated(want, Ok(extent.number())));
                }
                Err(PagesError::Refused { .. }) if wants.len() > 1 => self.alone.extend(wants),
                other => {
                    let refusal = match &other {
                        Err(PagesError::Refused { reason, .. }) if *reason != RefusedFor::LEAVING => {
                            MapRefusal::NoSpace
                        }
                        _ => MapRefusal::NoServer,
                    };
                    if let Err(error) = other
                        && self.said.is_none_or(|said| now >= said + SAID_EVERY)
                    {
                        self.said = Some(now);
                        tracing::warn!("no extent for the disk, so a write fails: {error}");
                    }
                    wants.into_iter().for_each(|want| map.allocated(want, Err(refusal)));
                }
            }
        }
    }
}
