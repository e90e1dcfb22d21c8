//! A connection of a program in C: the client, and its buffers by number.

use crate::types::{
    Failure, argument, gvm_pages_buffer, gvm_pages_completion, gvm_pages_notice, gvm_pages_request, gvm_pages_result,
    gvm_pages_totals,
};
use pages::{Buffer, Client, ClientOptions, ClientState, Ended, Extent, ExtentNotice, Lane, Status, Work};
use std::collections::VecDeque;
use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::Duration;

/// A buffer that the program has taken.
enum Place {
    /// Nobody has this number.
    Free,
    /// The program has it.
    Taken(Buffer),
    /// A request has it.
    UnderWay,
}

/// A connection to a server of pages.
pub struct gvm_pages {
    client: Client,
    buffers: Vec<Place>,
    /// Requests that have ended, and that the program has not seen yet: a tag of ours has the buffer's number.
    ended: VecDeque<gvm_pages_completion>,
    notices: VecDeque<gvm_pages_notice>,
    /// The tags of the program, by the number of the buffer that the request has.
    tags: Vec<u64>,
    scratch: Vec<Ended>,
    batch: Vec<Work>,
}

impl gvm_pages {
    pub(crate) fn connect(path: &Path, options: &ClientOptions) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::connect(path, options)?,
            buffers: Vec::new(),
            ended: VecDeque::new(),
            notices: VecDeque::new(),
            tags: Vec::new(),
            scratch: Vec::new(),
            batch: Vec::new(),
        })
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.client.capacity()
    }

    pub(crate) fn allocate(&mut self, count: u32, apart: bool) -> Result<Vec<u64>, Failure> {
        let extents = self.client.allocate(count, apart)?;
        Ok(extents.into_iter().map(Extent::number).collect())
    }

    pub(crate) fn free(&mut self, extents: &[u64]) -> Result<(), Failure> {
        let extents: Vec<_> = extents.iter().map(|number| Extent::from_number(*number)).collect();
        Ok(self.client.free(&extents)?)
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        self.client.extents()
    }

    pub(crate) fn remove_area(&mut self) -> Result<(), Failure> {
        Ok(self.client.remove_area()?)
    }

    pub(crate) fn totals(&mut self) -> Result<gvm_pages_totals, Failure> {
        let ClientState { quota, extents, requests, failures, bytes_read, bytes_written } = self.client.state()?;
        Ok(gvm_pages_totals { quota, extents, requests, failures, bytes_read, bytes_written })
    }

    pub(crate) fn take_buffer(&mut self, len: usize) -> Result<gvm_pages_buffer, Failure> {
        let buffer = self.client.buffer(len)?;
        // Whoever reads or writes there is the program or the server; this library only hands out the address.
        let (data, len) = (buffer.words().as_ptr().cast_mut().cast(), buffer.len());
        let place = self.buffers.iter().position(|place| matches!(place, Place::Free));
        let place = place.unwrap_or_else(|| {
            self.buffers.push(Place::Free);
            self.tags.push(0);
            self.buffers.len() - 1
        });
        self.buffers[place] = Place::Taken(buffer);
        Ok(gvm_pages_buffer { data, len, number: place as u32 })
    }

    fn no_buffer(number: u32) -> Failure {
        let text = format!("buffer {number} does not exist, or a request has it: wait for its completion");
        Failure { result: gvm_pages_result::BufferInUse, text }
    }

    pub(crate) fn give_buffer(&mut self, number: u32) -> Result<(), Failure> {
        match self.buffers.get_mut(number as usize) {
            Some(place @ Place::Taken(_)) => {
                *place = Place::Free;
                Ok(())
            }
            _ => Err(Self::no_buffer(number)),
        }
    }

    pub(crate) fn post(&mut self, requests: &[gvm_pages_request]) -> Result<usize, Failure> {
        let room = self.client.capacity() as usize - self.client.under_way();
        let requests = &requests[..requests.len().min(room)];
        let mut failure = None;
        for request in requests {
            let (transfer, lane) = (request.transfer, request.lane);
            let place = self.buffers.get_mut(request.buffer as usize);
            let lane = match lane {
                1 => Lane::Demand,
                2 => Lane::Bulk,
                _ => {
                    failure = Some(argument("a request has no lane: 1 or 2"));
                    break;
                }
            };
            let make = match transfer {
                1 => Work::read,
                2 => Work::write,
                _ => {
                    failure = Some(argument("a request is neither a read (1) nor a write (2)"));
                    break;
                }
            };
            let Some(place @ Place::Taken(_)) = place else {
                failure = Some(Self::no_buffer(request.buffer));
                break;
            };
            let Place::Taken(buffer) = std::mem::replace(place, Place::UnderWay) else { break };
            if request.len as usize > buffer.len() {
                failure = Some(argument("a request is longer than its buffer"));
                *place = Place::Taken(buffer);
                break;
            }
            let work = make(Extent::from_number(request.extent), request.offset, buffer);
            // Completions come with our tag, the number of the buffer; the program's is kept beside it.
            self.batch.push(work.with_len(request.len).in_lane(lane).tagged(request.buffer.into()));
            if let Some(tag) = self.tags.get_mut(request.buffer as usize) {
                *tag = request.tag;
            }
        }
        let posted = match failure {
            None => self.client.post(&mut self.batch).map_err(Failure::from),
            Some(failure) => Err(failure),
        };
        // What was not posted is the program's again.
        let numbers = requests.iter().map(|request| request.buffer).skip(posted.as_ref().map_or(0, |count| *count));
        for (work, number) in self.batch.drain(..).zip(numbers) {
            if let Some(place) = self.buffers.get_mut(number as usize) {
                *place = Place::Taken(work.into_buffer());
            }
        }
        posted
    }

    /// Requests that have ended, at most so many, after a wait if there are none.
    pub(crate) fn wait(
        &mut self,
        time: Option<Duration>,
        most: usize,
    ) -> Result<impl ExactSizeIterator<Item = gvm_pages_completion> + '_, Failure> {
        if self.ended.is_empty() {
            match time {
                Some(Duration::ZERO) => self.client.poll(&mut self.scratch)?,
                time => self.client.wait(&mut self.scratch, time)?,
            };
            for Ended { tag, status, len, buffer, .. } in self.scratch.drain(..) {
                let place = tag as usize;
                let tag = self.tags.get(place).copied().unwrap_or_default();
                self.ended.push_back(gvm_pages_completion { tag, status: status.number(), len, buffer: place as u32 });
                if let Some(place) = self.buffers.get_mut(place) {
                    *place = Place::Taken(buffer);
                }
            }
        }
        let count = self.ended.len().min(most);
        Ok(self.ended.drain(..count))
    }

    pub(crate) fn next_notice(&mut self) -> Result<Option<gvm_pages_notice>, Failure> {
        if self.notices.is_empty() {
            for notice in self.client.notices()? {
                let (extents, status, within_ms) = match notice {
                    ExtentNotice::Lost { status, extents } => (extents, status.number(), 0),
                    ExtentNotice::Recalled { within, extents } => {
                        (extents, 0, within.as_millis().try_into().unwrap_or(u32::MAX))
                    }
                };
                let each = |extent: Extent| gvm_pages_notice { extent: extent.number(), status, within_ms };
                self.notices.extend(extents.into_iter().map(each));
            }
        }
        Ok(self.notices.pop_front())
    }

    pub(crate) fn descriptor(&self) -> c_int {
        self.client.as_fd().as_raw_fd()
    }

    pub(crate) fn arm(&mut self) -> Result<bool, Failure> {
        Ok(self.ended.is_empty() && self.client.arm()?)
    }
}

/// The name of a status.
pub(crate) fn status_name(status: u32) -> &'static CStr {
    const NAMES: [&CStr; 15] = [
        c"DONE",
        c"SLAVE_GONE",
        c"SLAVE_RESTARTED",
        c"RECALLED",
        c"LEASE_ENDED",
        c"REFUSED",
        c"NO_ANSWER",
        c"FLUSHED",
        c"NO_SUCH_EXTENT",
        c"OUT_OF_RANGE",
        c"BAD_BUFFER",
        c"QUOTA",
        c"NO_SUCH_CLIENT",
        c"MALFORMED",
        c"SERVER_GONE",
    ];
    const { assert!(NAMES.len() == Status::ALL.len()) };
    NAMES.get(status as usize).copied().unwrap_or(c"UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_name_that_it_has_in_rust() {
        for status in Status::ALL {
            assert_eq!(status_name(status.number()).to_str(), Ok(status.name()));
        }
        assert_eq!(status_name(99), c"UNKNOWN");
    }
}
