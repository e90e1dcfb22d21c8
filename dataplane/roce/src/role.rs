//! The role: passes datagrams to queue pairs and back, and runs jobs on them.

use crate::bytes::Bytes;
use crate::command::{Answer, Failed, Job, Lent, OpenError, Outcome, QpSpec, RoceCommand};
use crate::counters::RoceCounters;
use crate::path::{Headers, Known, Path, RoceFraming};
use crate::sender::Sender;
use crate::work::{RunningWork, SCRATCH};
use frame::time::{MICROSECOND, MILLISECOND};
use frame::{Burst, Class, Datagram, DatagramView, Frame, Guarded, Outbox, Peer, PortId, Role, Time};
use std::sync::Arc;
use transport::{
    Access, Arrival, Config, Endpoint, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Region, Room, Sink,
    TransportCounters,
};
use wire::rc::{PathMtu, Psn, RnrTimer};

/// Virtual address of the region that is lent.
const LENT_AT: u64 = 0x1_0000_0000;

/// How many datagrams may wait for the port before no more packets are made.
const PORT_BACKLOG: usize = 256;

/// How soon packets that wait for a frame or for the port are tried again, in nanoseconds.
const AGAIN: Time = 50 * MICROSECOND;

/// The protection domain of all queue pairs. Each has one peer, and the region decides what the peer may do.
const DOMAIN: u32 = 0;

/// How long a peer waits when no receive is posted, in nanoseconds. This role posts none, so the wait should be long.
const RNR_WAIT: Time = 10 * MILLISECOND;

/// The longest packet, from the BTH to the ICRC, with the largest path MTU.
const LONGEST: usize = 4096 + wire::rc::packet::OVERHEAD;

/// The configuration of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoceConfig {
    /// Its port.
    pub port: PortId,
    /// Our address, which ICRCs cover.
    pub ip: [u8; 4],
    /// Who processes the headers of received packets.
    pub framing: RoceFraming,
    /// The largest path MTU of the port.
    pub path_mtu: PathMtu,
    /// The random part of the key of the lent region.
    pub rkey: u32,
    /// The random start of the other keys.
    pub seed: u32,
    /// The maximum number of queue pairs.
    pub queue_pairs: u16,
    /// READs and atomics that each answers at the same time.
    pub reads: u16,
}

/// The region that is lent, as peers address it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LentRegion {
    /// Its key.
    pub rkey: u32,
    /// Address of its first byte.
    pub va: u64,
    /// Bytes.
    pub len: u64,
    /// Whether peers may write.
    pub write: bool,
    /// Whether they may COMPARE&SWAP and FETCH&ADD.
    pub atomic: bool,
}

/// One queue pair.
struct Slot {
    qpn: Qpn,
    /// How many work requests of a transfer may be under way.
    depth: u16,
    /// `None` until it is connected.
    path: Option<Path>,
    /// How the other end chooses the header fields that a socket does not show.
    sender: Sender,
    job: Option<Doing>,
}

/// A running job.
struct Doing {
    running: RunningWork,
    /// The key of its memory.
    key: u32,
}

/// See the crate's documentation.
pub struct Roce {
    config: RoceConfig,
    endpoint: Endpoint<Bytes>,
    headers: Headers,
    slots: Vec<Option<Slot>>,
    /// The place of each queue pair, sorted by its number.
    places: Vec<(u32, u32)>,
    /// Places with a job.
    busy: Vec<u32>,
    /// For each connected host, how it chooses those fields; sorted by address.
    hosts: Vec<([u8; 4], Sender)>,
    lent: Option<LentRegion>,
    seed: u32,
    /// When packets that wait for a frame or for the port are tried again.
    again: Option<Time>,
    ended: bool,
    counters: Arc<RoceCounters>,
}

impl Roce {
    /// A role without queue pairs, which lends this memory.
    ///
    /// # Errors
    /// The memory is too large to be lent, or there is none for the queue pairs.
    pub fn new(config: RoceConfig, lent: Option<Lent>) -> Result<Self, transport::Error> {
        let queue_pairs = u32::from(config.queue_pairs.max(1));
        let size = Config {
            queue_pairs,
            paths: queue_pairs,
            // The lent region, and one for each job.
            regions: queue_pairs + 1,
            replays: queue_pairs * u32::from(config.reads.max(1)),
            ..Config::default()
        };
        let mut endpoint = Endpoint::new(size, 0)?;
        let lent = match lent {
            None => None,
            Some(Lent { bytes, write, atomic }) => {
                let len = bytes.len() as u64;
                let mut access = Access::REMOTE_READ;
                for (may, right) in [(write, Access::REMOTE_WRITE), (atomic, Access::REMOTE_ATOMIC)] {
                    access = if may { access.and(right) } else { access };
                }
                let region = Region { base: LENT_AT, len, access, domain: DOMAIN, memory: Bytes::Lent(bytes) };
                let rkey = endpoint.register(config.rkey, region)?;
                Some(LentRegion { rkey, va: LENT_AT, len, write, atomic })
            }
        };
        Ok(Self {
            config,
            endpoint,
            headers: Headers::new(config.framing, config.ip, LONGEST),
            slots: (0..queue_pairs).map(|_| None).collect(),
            places: Vec::with_capacity(queue_pairs as usize),
            busy: Vec::with_capacity(queue_pairs as usize),
            hosts: Vec::with_capacity(queue_pairs as usize),
            lent,
            seed: config.seed,
            again: None,
            ended: false,
            counters: Arc::default(),
        })
    }

    /// The lent region.
    pub fn region(&self) -> Option<LentRegion> {
        self.lent
    }

    /// The role's counters, for others to read.
    pub fn counters(&self) -> &Arc<RoceCounters> {
        &self.counters
    }

    /// The counters of its queue pairs.
    pub fn transport(&self) -> &Arc<TransportCounters> {
        self.endpoint.counters()
    }

    #[inline]
    fn place_of(&self, qpn: u32) -> Option<u32> {
        let at = self.places.binary_search_by_key(&qpn, |(qpn, _)| *qpn).ok()?;
        self.places.get(at).map(|(_, place)| *place)
    }

    fn slot(&mut self, qpn: u32) -> Option<(u32, &mut Slot)> {
        let place = self.place_of(qpn)?;
        Some((place, self.slots.get_mut(place as usize)?.as_mut()?))
    }

    /// Makes a queue pair, with this number if one is given.
    fn create(&mut self, wanted: Option<u32>) -> Result<u32, OpenError> {
        let free = self.slots.iter().position(Option::is_none);
        let place = free.ok_or(OpenError::Full(self.slots.len() as u32))?;
        let random = wanted.unwrap_or_else(|| self.next_seed());
        let qpn = self.endpoint.create(random, DOMAIN).map_err(OpenError::Refused)?;
        if let Some(wanted) = wanted
            && wanted != qpn.0
        {
            // It is not in use, so destroying it cannot fail.
            let _ = self.endpoint.destroy(0, qpn);
            return Err(OpenError::Number { wanted, next: qpn.0 });
        }
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Some(Slot { qpn, depth: 1, path: None, sender: Sender::new(), job: None });
        }
        let at = self.places.partition_point(|(other, _)| *other < qpn.0);
        self.places.insert(at, (qpn.0, place as u32));
        Ok(qpn.0)
    }

    /// Connects a queue pair: ready to receive and to send.
    fn connect(&mut self, spec: &QpSpec) -> Result<(), OpenError> {
        let (port, framing, ip) = (self.config.port, self.config.framing, self.config.ip);
        let (place, slot) = self.slot(spec.qpn).ok_or(OpenError::Refused(transport::Error::NoSuchQp))?;
        let (qpn, path) = (slot.qpn, PathId(place));
        let most = |reads: u16| u8::try_from(reads).unwrap_or(u8::MAX);
        slot.depth = spec.remote.reads.min(spec.reads).max(1) * 2;
        slot.path = Some(Path::new(framing, port, ip, spec.remote.ip, [spec.qpn, spec.remote.qpn]));
        slot.sender = Sender::new();
        if let Err(at) = self.hosts.binary_search_by_key(&spec.remote.ip, |(ip, _)| *ip) {
            self.hosts.insert(at, (spec.remote.ip, Sender::new()));
        }
        let receive = ReadyToReceive {
            path,
            peer: Qpn(spec.remote.qpn),
            psn: Psn::new(spec.remote.psn),
            mtu: spec.path_mtu,
            read_depth: most(spec.reads),
            rnr_timer: RnrTimer::at_least(RNR_WAIT),
        };
        let send = ReadyToSend {
            psn: Psn::new(spec.psn),
            read_depth: most(spec.remote.reads.min(spec.reads)),
            timeout: exponent(spec.retry.timeout),
            retries: spec.retry.retries,
            rnr_retries: spec.retry.rnr_retries,
        };
        let endpoint = &mut self.endpoint;
        let connected = endpoint
            .set_path(path, PeerKind::Roce)
            .and_then(|()| endpoint.init(qpn))
            .and_then(|()| endpoint.ready_to_receive(qpn, &receive))
            .and_then(|()| endpoint.ready_to_send(qpn, &send));
        connected.map_err(OpenError::Refused)
    }

    /// Closes a queue pair. If it has a job, the job's requester is told.
    fn close(&mut self, now: Time, qpn: u32) {
        let Some((place, slot)) = self.slot(qpn) else { return };
        let (qpn, job) = (slot.qpn, slot.job.take());
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = None;
        }
        let slots = &self.slots;
        let has = |ip| slots.iter().flatten().filter_map(|slot| slot.path.as_ref()).any(|path| path.remote() == ip);
        self.hosts.retain(|(ip, _)| has(*ip));
        self.places.retain(|(_, other)| *other != place);
        self.busy.retain(|other| *other != place);
        // It exists: the slot said so.
        let _ = self.endpoint.destroy(now, qpn);
        if let Some(Doing { running, key }) = job {
            drop(self.endpoint.deregister(key));
            running.abandon();
        }
    }

    /// Begins a job.
    fn begin(&mut self, job: Job, answer: Answer<Result<Outcome, Failed>>) {
        let random = self.next_seed();
        let Some((place, slot)) = self.slot(job.qpn).filter(|(_, slot)| slot.job.is_none()) else {
            return answer(Err(Failed { status: transport::Status::WrFlushErr, complete: 0 }));
        };
        let (running, memory) = RunningWork::new(job, slot.depth, answer);
        let len = memory.len() as u64;
        let region =
            Region { base: SCRATCH, len, access: Access::LOCAL_WRITE, domain: DOMAIN, memory: Bytes::Own(memory) };
        match self.endpoint.register(random, region) {
            Ok(key) => {
                if let Some(Some(slot)) = self.slots.get_mut(place as usize) {
                    slot.job = Some(Doing { running, key });
                }
                self.busy.push(place);
            }
            Err(_) => running.abandon(),
        }
    }

    fn next_seed(&mut self) -> u32 {
        // Keys and numbers that differ. Their start is random.
        self.seed = self.seed.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        self.seed
    }

    /// Takes one datagram.
    #[inline]
    fn take(&mut self, now: Time, datagram: &DatagramView<'_>) {
        let counters = &self.counters;
        counters.datagrams_in.add(1);
        if !datagram.peer.is_roce() {
            counters.dropped_other_port.add(1);
            return;
        }
        let Some(came) = self.headers.of(datagram) else {
            counters.dropped_headers.add(1);
            return;
        };
        let bytes = datagram.frame.data();
        let place = qpn_of(bytes).and_then(|qpn| self.place_of(qpn));
        let path = place.and_then(|place| self.slots.get(place as usize)?.as_ref()?.path.as_ref());
        if path.is_some_and(|path| path.remote() != came.from || came.to != self.config.ip) {
            counters.dropped_not_peer.add(1);
            return;
        }
        if datagram.ce {
            counters.marked_ce.add(1);
        }
        // For packets from a raw port all headers are known.
        let behind_socket = place.filter(|_| self.config.framing == RoceFraming::Socket);
        let known = behind_socket.and_then(|place| self.slots.get_mut(place as usize)?.as_mut());
        let known = known.filter(|slot| slot.path.is_some()).and_then(|slot| {
            let at = self.hosts.binary_search_by_key(&came.from, |(ip, _)| *ip).ok()?;
            Some(Known { qp: &mut slot.sender, host: &mut self.hosts.get_mut(at)?.1 })
        });
        let Some(covered) = self.headers.covered(now, &came, bytes, known) else {
            counters.dropped_identification.add(1);
            return;
        };
        counters.solved_identification.add(u64::from(covered.solved));
        counters.unpredictable_identification.add(u64::from(covered.unpredictable));
        // If the queue pair does not exist, any path will do: the endpoint counts the packet.
        let arrival = Arrival { path: PathId(place.unwrap_or(0)), ce: datagram.ce, seed: covered.seed, bytes };
        let before = self.taken();
        self.endpoint.receive(now, &arrival);
        // The next hop may change; but only a packet that proves to know the queue pair may change it.
        if self.taken() != before
            && let Some(Some(Slot { path: Some(path), .. })) = self.slots.get_mut(arrival.path.0 as usize)
        {
            path.learn(datagram.peer);
        }
    }

    /// How many packets were right.
    #[inline]
    fn taken(&self) -> u64 {
        let counters = self.endpoint.counters();
        counters.requests_in.get().wrapping_add(counters.responses_in.get())
    }

    /// Advances jobs, and sends what is ready.
    fn progress(&mut self, now: Time, out: &mut Outbox) {
        self.again = None;
        loop {
            while let Some(completion) = self.endpoint.poll() {
                if let Some((_, Slot { job: Some(doing), .. })) = self.slot(completion.qpn.0) {
                    doing.running.completed(now, &completion);
                }
            }
            if !self.busy.is_empty() {
                self.work(now);
            }
            let mut sink = Frames { out, slots: &self.slots, port: self.config.port, open: None, full: false };
            self.endpoint.transmit(now, &mut sink);
            if sink.full {
                self.again = Some(now.saturating_add(AGAIN));
                let waits = out.backlog(self.config.port) >= PORT_BACKLOG;
                if waits { &self.counters.port_full } else { &self.counters.no_frame }.add(1);
                return;
            }
            if self.endpoint.completions() == 0 {
                return;
            }
        }
    }

    /// Posts the requests of jobs, and ends jobs that are over.
    fn work(&mut self, now: Time) {
        let (slots, endpoint) = (&mut self.slots, &mut self.endpoint);
        self.busy.retain(|place| {
            let Some(Some(slot)) = slots.get_mut(*place as usize) else { return false };
            let Some(Doing { running, key }) = &mut slot.job else { return false };
            while let Some(work) = running.next(now, *key) {
                match endpoint.post(slot.qpn, work) {
                    Ok(()) => running.posted(now),
                    // There is room again when some requests have completed.
                    Err(transport::Error::QueueFull | transport::Error::CompletionsFull) => break,
                    Err(_) => running.refused(now),
                }
            }
            if !running.is_over(now) {
                return true;
            }
            if let Some(Doing { running, key }) = slot.job.take() {
                let memory = match endpoint.deregister(key).map(|region| region.memory) {
                    Some(Bytes::Own(memory)) => memory,
                    _ => Vec::new(),
                };
                running.finish(memory);
            }
            false
        });
    }

    /// When a job must be checked, if nothing happens until then.
    fn job_deadline(&self) -> Option<Time> {
        let job = |place: &u32| self.slots.get(*place as usize)?.as_ref()?.job.as_ref()?.running.deadline();
        self.busy.iter().filter_map(job).min()
    }

    /// Returns the lent memory; nothing is served any more.
    fn end(&mut self, now: Time) -> Option<Guarded> {
        while let Some((qpn, _)) = self.places.last().copied() {
            self.close(now, qpn);
        }
        self.ended = true;
        let lent = self.lent.take()?;
        match self.endpoint.deregister(lent.rkey)?.memory {
            Bytes::Lent(memory) => Some(memory),
            Bytes::Own(_) => None,
        }
    }
}

/// The queue pair that a packet is for.
#[inline]
fn qpn_of(packet: &[u8]) -> Option<u32> {
    let &[_, a, b, c] = packet.get(4..)?.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The standard's timeout that is at least this long: 4.096 us times 2 to this power.
fn exponent(timeout: Time) -> u8 {
    (1..=31).find(|power| 4096u64 << power >= timeout).unwrap_or(31)
}

/// Writes packets into frames, and puts frames into the outbox.
struct Frames<'a> {
    out: &'a mut Outbox,
    slots: &'a [Option<Slot>],
    port: PortId,
    /// The frame that is being written, and its destination.
    open: Option<(Frame, Peer)>,
    /// There was no frame, or no room at the port.
    full: bool,
}

impl Sink for Frames<'_> {
    #[inline]
    fn open(&mut self, path: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        let path = self.slots.get(path.0 as usize)?.as_ref()?.path.as_ref()?;
        let seed = path.seed(len)?;
        self.full = self.out.backlog(self.port) >= PORT_BACKLOG;
        if self.full {
            return None;
        }
        // A frame that was opened and not closed is not sent, so it can be used.
        let frame = self.open.take().map(|(frame, _)| frame).or_else(|| self.out.alloc());
        self.full = frame.is_none();
        let mut frame = frame?;
        let at = frame.headroom();
        if !frame.set_range(at, len) {
            return None;
        }
        let (frame, _) = self.open.insert((frame, path.peer));
        Some(Room { bytes: frame.data_mut(), seed })
    }

    #[inline]
    fn close(&mut self) {
        if let Some((frame, peer)) = self.open.take() {
            self.out.send(Datagram::new(frame, peer, Class::Up, 1));
        }
    }
}

impl Role for Roce {
    type Command = RoceCommand;

    fn receive(&mut self, now: Time, _: PortId, burst: &mut Burst, out: &mut Outbox) {
        for (number, datagram) in burst.iter() {
            if let Some(next) = burst.get(number + 1) {
                next.frame.prefetch_head();
            }
            self.take(now, &datagram);
        }
        burst.clear();
        self.progress(now, out);
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        let timers = due(self.endpoint.deadline());
        if timers {
            self.endpoint.advance(now);
        }
        if timers || due(self.again) || due(self.job_deadline()) {
            self.progress(now, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        [self.endpoint.deadline(), self.again, self.job_deadline()].into_iter().flatten().min()
    }

    fn command(&mut self, now: Time, command: RoceCommand, out: &mut Outbox) {
        match command {
            RoceCommand::Create(wanted, answer) => answer(self.create(wanted)),
            RoceCommand::Connect(spec, answer) => answer(self.connect(&spec)),
            RoceCommand::Close(qpn, answer) => {
                self.close(now, qpn);
                answer(());
            }
            RoceCommand::Work(job, answer) => {
                self.begin(job, answer);
                self.progress(now, out);
            }
            RoceCommand::End(answer) => answer(self.end(now)),
        }
    }

    fn is_drained(&self) -> bool {
        self.ended
    }

    fn frames_held(&self) -> usize {
        0
    }
}
