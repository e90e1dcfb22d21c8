//! The work requests of a job, one after another, and their results.

use crate::command::{Answer, Failed, Job, Load, Outcome, Work};
use crate::latency::Latencies;
use frame::Time;
use frame::time::FOREVER;
use transport::{Completion, Local, Op, Remote, Status};

/// Virtual address of a job's own memory; no peer can reach it.
pub const SCRATCH: u64 = 0x1000;

/// The operation of a job's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    FetchAdd,
}

/// A running job.
pub struct RunningWork {
    rkey: u32,
    kind: Kind,
    /// Where in the peer's region it begins, and the length of the part that it uses repeatedly.
    va: u64,
    span: u64,
    /// Bytes of a request; the last one of a transfer has fewer.
    size: u32,
    /// All requests, and how many of them may be under way at the same time.
    requests: u64,
    depth: u64,
    /// Whether memory is per request under way (a load), or per request (a transfer).
    is_load: bool,
    duration: Time,
    posted: u64,
    complete: u64,
    failed: Option<Failed>,
    /// When each request under way was posted, by its number modulo the depth.
    times: Vec<Time>,
    began: Option<Time>,
    ended: Time,
    latencies: Latencies,
    answer: Answer<Result<Outcome, Failed>>,
}

impl RunningWork {
    /// A job, and the memory that it needs. `depth` is the most that the queue pair may have under way.
    pub fn new(job: Job, depth: u16, answer: Answer<Result<Outcome, Failed>>) -> (Self, Vec<u8>) {
        let rkey = job.rkey;
        let (kind, load, memory) = match job.work {
            Work::Read { va, len, message } => (Kind::Read, transfer(va, len, message, depth), vec![0; len as usize]),
            Work::Write { va, bytes, message } => {
                (Kind::Write, transfer(va, bytes.len() as u32, message, depth), bytes)
            }
            Work::LoadRead(load) => (Kind::Read, (load, true), scratch(&load)),
            Work::LoadWrite(load) => (Kind::Write, (load, true), scratch(&load)),
            Work::LoadFetchAdd(load) => (Kind::FetchAdd, (Load { size: 8, ..load }, true), scratch(&load)),
        };
        let (load, is_load) = load;
        let running = Self {
            rkey,
            kind,
            va: load.va,
            span: load.span,
            size: load.size.max(1),
            requests: load.count,
            depth: u64::from(load.depth.max(1)),
            is_load,
            duration: load.duration,
            posted: 0,
            complete: 0,
            failed: None,
            times: vec![0; usize::from(load.depth.max(1))],
            began: None,
            ended: 0,
            latencies: Latencies::new(),
            answer,
        };
        (running, memory)
    }

    /// The next request, if one may be posted now; `key` is the key of the job's memory.
    pub fn next(&mut self, now: Time, key: u32) -> Option<transport::Work> {
        let began = *self.began.get_or_insert(now);
        let over = self.failed.is_some() || now.saturating_sub(began) >= self.duration;
        if over || self.posted == self.requests || self.posted - self.complete >= self.depth {
            return None;
        }
        let number = self.posted;
        let (at, len) = self.place(number);
        let slot = number % self.depth;
        let scratch = if self.is_load { slot * u64::from(self.size) } else { at };
        let local = Local { key, address: SCRATCH + scratch, len };
        let remote = Remote { address: self.va + at, key: self.rkey };
        let op = match self.kind {
            Kind::Read => Op::Read(remote),
            Kind::Write => Op::Write(remote),
            Kind::FetchAdd => Op::FetchAdd { remote, add: 0 },
        };
        Some(transport::Work { id: number, op, local })
    }

    /// Where in the region a request begins, and its length.
    fn place(&self, number: u64) -> (u64, u32) {
        let size = u64::from(self.size);
        if self.is_load {
            // As many whole places as the region has, one after another.
            return (number % (self.span / size).max(1) * size, self.size);
        }
        let at = number * size;
        (at, (self.span - at).min(size) as u32)
    }

    /// Notes that the request of [`RunningWork::next`] was posted.
    pub fn posted(&mut self, now: Time) {
        let slot = (self.posted % self.depth) as usize;
        if let Some(time) = self.times.get_mut(slot) {
            *time = now;
        }
        self.posted += 1;
    }

    /// Notes that a request could not be posted at all.
    pub fn refused(&mut self, now: Time) {
        self.fail(now, Status::LocProtErr);
    }

    /// Notes the end of a request.
    pub fn completed(&mut self, now: Time, completion: &Completion) {
        if completion.status == Status::Success {
            let slot = (completion.id % self.depth) as usize;
            let posted = self.times.get(slot).copied().unwrap_or(now);
            self.latencies.record(now.saturating_sub(posted));
        } else {
            self.fail(now, completion.status);
        }
        self.complete += 1;
        self.ended = now;
    }

    fn fail(&mut self, now: Time, status: Status) {
        // A flushed request does not show the cause.
        if self.failed.is_none_or(|failed| failed.status == Status::WrFlushErr) {
            self.failed = Some(Failed { status, complete: self.latencies.count() });
        }
        self.ended = now;
    }

    /// Whether nothing is under way and nothing more will be posted.
    pub fn is_over(&self, now: Time) -> bool {
        let timed_out = self.began.is_some_and(|began| now.saturating_sub(began) >= self.duration);
        let all = self.failed.is_some() || timed_out || self.posted == self.requests;
        all && self.posted == self.complete
    }

    /// When it must be checked, if nothing happens until then.
    pub fn deadline(&self) -> Option<Time> {
        match self.began {
            Some(began) if self.duration != FOREVER => Some(began.saturating_add(self.duration)),
            _ => None,
        }
    }

    /// Sends the answer; `bytes` is the job's memory.
    pub fn finish(self, bytes: Vec<u8>) {
        let bytes = if self.is_load { Vec::new() } else { bytes };
        let elapsed = self.ended.saturating_sub(self.began.unwrap_or(self.ended));
        (self.answer)(match self.failed {
            Some(failed) => Err(failed),
            None => Ok(Outcome { bytes, latencies: self.latencies, elapsed }),
        });
    }

    /// Ends the job, because its queue pair is gone.
    pub fn abandon(mut self) {
        self.fail(0, Status::WrFlushErr);
        self.finish(Vec::new());
    }
}

/// Expresses a transfer of this many bytes as a load that ends.
fn transfer(va: u64, len: u32, message: u32, depth: u16) -> (Load, bool) {
    let message = message.max(1);
    let count = u64::from(len.div_ceil(message));
    (Load { va, span: u64::from(len), size: message, depth, count, duration: FOREVER }, false)
}

/// Memory for the requests of a load that are under way. Its bytes are not all equal.
fn scratch(load: &Load) -> Vec<u8> {
    let len = load.size.max(8) as usize * usize::from(load.depth.max(1));
    (0..len).map(|at| (at ^ (at >> 8)) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use transport::{CompletionKind, Qpn};

    type Ended = mpsc::Receiver<Result<Outcome, Failed>>;

    fn running(work: Work, depth: u16) -> (RunningWork, Vec<u8>, Ended) {
        let (tell, told) = mpsc::channel();
        let answer = Box::new(move |outcome| tell.send(outcome).unwrap());
        let (running, memory) = RunningWork::new(Job { qpn: 17, rkey: 5, work }, depth, answer);
        (running, memory, told)
    }

    fn completion(id: u64, status: Status) -> Completion {
        Completion { id, qpn: Qpn(17), kind: CompletionKind::Read, status, len: 0, imm: None }
    }

    fn post(running: &mut RunningWork, now: Time) -> Option<(u64, u64, u32)> {
        let work = running.next(now, 9)?;
        running.posted(now);
        let Op::Read(remote) = work.op else { panic!("{work:?}") };
        assert_eq!((remote.key, work.local.key), (5, 9));
        Some((remote.address, work.local.address - SCRATCH, work.local.len))
    }

    #[test]
    fn a_transfer_is_cut_into_requests_and_the_last_is_shorter() {
        let (mut running, memory, told) = running(Work::Read { va: 100, len: 25, message: 10 }, 2);
        assert_eq!(memory.len(), 25);
        assert_eq!([post(&mut running, 1), post(&mut running, 1)], [Some((100, 0, 10)), Some((110, 10, 10))]);
        assert_eq!((post(&mut running, 1), running.is_over(1)), (None, false));
        running.completed(6, &completion(0, Status::Success));
        assert_eq!((post(&mut running, 6), post(&mut running, 6)), (Some((120, 20, 5)), None));
        running.completed(8, &completion(1, Status::Success));
        running.completed(9, &completion(2, Status::Success));
        assert!(running.is_over(9));
        running.finish(memory);
        let outcome = told.recv().unwrap().unwrap();
        assert_eq!((outcome.bytes.len(), outcome.elapsed, outcome.latencies.count()), (25, 8, 3));
        assert_eq!((outcome.latencies.at(0.0), outcome.latencies.at(1.0)), (3, 7));
    }

    #[test]
    fn nothing_is_over_at_once() {
        let (mut running, memory, told) = running(Work::Read { va: 0, len: 0, message: 10 }, 2);
        assert_eq!(post(&mut running, 5), None);
        assert!(running.is_over(5));
        running.finish(memory);
        assert!(told.recv().unwrap().unwrap().bytes.is_empty());
    }

    #[test]
    fn the_first_failure_is_told_once_all_have_come_back() {
        let (mut running, memory, told) = running(Work::Read { va: 0, len: 100, message: 10 }, 3);
        while post(&mut running, 1).is_some() {}
        running.completed(2, &completion(0, Status::Success));
        running.completed(2, &completion(1, Status::RemAccessErr));
        assert_eq!((post(&mut running, 2), running.is_over(2)), (None, false));
        running.completed(2, &completion(2, Status::WrFlushErr));
        assert!(running.is_over(2));
        running.finish(memory);
        let failed = told.recv().unwrap().unwrap_err();
        assert_eq!(failed, Failed { status: Status::RemAccessErr, complete: 1 });
        assert_eq!(failed.to_string(), "REM_ACCESS_ERR after 1 requests");
    }

    #[test]
    fn a_load_goes_round_its_region_until_its_time_is_over() {
        let load = Load { va: 0x100, span: 25, size: 10, depth: 2, count: u64::MAX, duration: 50 };
        let (mut running, memory, told) = running(Work::LoadRead(load), 16);
        assert_eq!(memory.len(), 20);
        let mut places = Vec::new();
        for round in 0..5 {
            places.extend(post(&mut running, round * 10));
            running.completed(round * 10 + 4, &completion(round, Status::Success));
        }
        assert_eq!(places[..3], [(0x100, 0, 10), (0x10a, 10, 10), (0x100, 0, 10)]);
        assert_eq!((running.deadline(), running.is_over(49)), (Some(50), false));
        assert_eq!((post(&mut running, 50), running.is_over(50)), (None, true));
        running.finish(memory);
        let outcome = told.recv().unwrap().unwrap();
        assert_eq!((outcome.latencies.count(), outcome.elapsed, outcome.bytes.len()), (5, 44, 0));
    }

    #[test]
    fn who_asked_hears_that_the_queue_pair_is_gone() {
        let (running, _, told) = running(Work::Read { va: 0, len: 1, message: 1 }, 1);
        running.abandon();
        assert_eq!(told.recv().unwrap().unwrap_err().status, Status::WrFlushErr);
    }
}
