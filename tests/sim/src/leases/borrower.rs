//! A master with one lease, and a model of what its pages must hold.

use crate::rng::Rng;
use frame::time::{MILLISECOND, SECOND};
use frame::{Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Time};
use lease::{ConnectKey, LeaseSecrets, Loan, LoanConfig, LoanEnd, LoanEvent, Proposal, lock_of};
use records::{Framing, PathEnds, Side};
use std::collections::BTreeMap;
use std::sync::Arc;
use transport::{
    Access, Config, Endpoint, Local, Op, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Region, Remote, Status,
    Work,
};
use wire::lease::{Connect, Grant, LeaseEnds, PairEnd, Refusal, UNIT_SHIFT, UnitSet};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{MsgType, Record, Scale};

const PATH: PathId = PathId(0);
/// Bytes of a page, and pages that are used of each unit: at its begin and at its end.
const PAGE: u64 = 4096;
const OFFSETS: [u64; 3] = [0, 5 * PAGE, (1 << UNIT_SHIFT) - PAGE];
/// Requests that are outstanding, at most. Each has a slot of the local buffer.
const SLOTS: usize = 6;

/// A page of a lease: index of its unit, and which of the offsets.
type Page = (u16, usize);

/// What a page must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// What this number gives; 0 gives zeros.
    Known(u64),
    /// A WRITE failed: any mixture of old and new.
    Any,
}

struct Asked {
    page: Page,
    /// The number that is written; `None` for a READ.
    writes: Option<u64>,
    /// What the page must hold, at the moment of asking.
    expected: Content,
    session: u32,
}

/// See the module's documentation.
pub struct Borrower {
    /// The slave and the master.
    pub ends: PathEnds,
    /// The master's end of the lease.
    pub loan: Loan,
    /// Its queue pairs.
    pub endpoint: Endpoint<Vec<u8>>,
    /// Until when it does nothing at all.
    pub silent_until: Time,
    /// It wants nothing more, and ends its lease.
    pub leaves: bool,
    /// How often what happened.
    pub seen: BTreeMap<&'static str, u64>,
    /// Which of the gateways it sends to.
    pub gateway: usize,
    ways: [Peer; 2],
    mtu: u16,
    framing: Framing,
    out: Outbox,
    rng: Rng,
    key: u32,
    qpns: [Qpn; 2],
    ours: [PairEnd; 2],
    rkey: u32,
    /// Counts sessions: completions of earlier ones change nothing.
    session: u32,
    connected: bool,
    /// The secret of the lease, if it has one, and the one that was proposed last.
    secret: Option<[u8; 16]>,
    proposed: [u8; 16],
    secrets: LeaseSecrets,
    /// The boot of the slave that it proposed a session to.
    epoch: u64,
    pages: BTreeMap<Page, Content>,
    asked: [Option<Asked>; SLOTS],
    next_value: u64,
    retry_at: Time,
    wants_two: bool,
    /// Its queue pairs were ended: it resumes before it sends anything else.
    must_resume: bool,
}

/// The bytes that a number gives.
fn bytes_of(value: u64) -> impl Iterator<Item = u8> {
    let mixed = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let byte = move |at: u64| (mixed.rotate_left(at as u32) ^ at.wrapping_mul(value)) as u8;
    (0..PAGE).map(move |at| if value == 0 { 0 } else { byte(at) })
}

impl Borrower {
    /// A master without a lease, which sends to one of two gateways.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(
        ends: PathEnds,
        key: Option<ConnectKey>,
        secrets: LeaseSecrets,
        ways: [Peer; 2],
        mtu: u16,
        mut rng: Rng,
    ) -> Result<Self, String> {
        let config = Config { queue_pairs: 2, paths: 1, regions: 1, ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0).map_err(|error| error.to_string())?;
        let len = SLOTS as u64 * PAGE;
        let region = Region { base: 0, len, access: Access::ALL, domain: 0, memory: vec![0; len as usize] };
        let local = endpoint.register(rng.bits() as u32, region).map_err(|error| error.to_string())?;
        let mut framing = Framing::new(Side::Master, Scale::default(), 1).map_err(|error| error.to_string())?;
        let gateway = rng.below(2) as usize;
        framing.set_route(PATH, ends, ways[gateway], mtu);
        let chunk = frame::pool::chunk_for_data(u32::from(mtu));
        let pool = Pool::new(PoolConfig { frames: 128, chunk, hugepages: Hugepages::Never, reserve: 0 })
            .map_err(|error| error.to_string())?;
        let blank = PairEnd { qpn: 2, psn: Psn::new(0), read_depth: 0, rnr_timer: RnrTimer::new(1) };
        let config = LoanConfig { slave: ends.slave, master: ends.master, master_epoch: rng.bits(), keys: key.into() };
        Ok(Self {
            ends,
            loan: Loan::new(config, Arc::default()),
            endpoint,
            silent_until: 0,
            leaves: false,
            seen: BTreeMap::new(),
            gateway,
            ways,
            mtu,
            framing,
            out: Outbox::new(pool, 1),
            rng,
            key: local,
            qpns: [Qpn(0); 2],
            ours: [blank; 2],
            rkey: 0,
            session: 0,
            connected: false,
            secret: None,
            proposed: [0; 16],
            secrets,
            epoch: 0,
            pages: BTreeMap::new(),
            asked: [const { None }; SLOTS],
            next_value: 1,
            retry_at: 0,
            wants_two: false,
            must_resume: false,
        })
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Opens or resumes a session, with fresh queue pairs.
    fn open(&mut self, now: Time, slave_epoch: u64, path_mtu: PathMtu) -> Result<(), String> {
        self.close_pairs(now)?;
        self.endpoint.set_path(PATH, PeerKind::Own).map_err(|error| error.to_string())?;
        for at in 0..2 {
            let qpn = self.endpoint.create(self.rng.bits() as u32, 0).map_err(|error| error.to_string())?;
            if at == 0 {
                self.endpoint.make_urgent(qpn).map_err(|error| error.to_string())?;
            }
            self.endpoint.init(qpn).map_err(|error| error.to_string())?;
            let psn = Psn::new(self.rng.bits() as u32);
            self.qpns[at] = qpn;
            self.ours[at] = PairEnd { qpn: qpn.0, psn, read_depth: 0, rnr_timer: RnrTimer::new(1) };
        }
        let resume = self.secret;
        let keep = if resume.is_some() { *self.loan.held() } else { UnitSet::EMPTY };
        if resume.is_none() {
            self.pages.clear();
        }
        self.proposed = self.secrets.next(self.lease_ends(), slave_epoch);
        self.epoch = slave_epoch;
        let lock = lock_of(&self.proposed);
        let want = keep.len().max(1 + self.rng.below(3) as u32);
        let proposal = Proposal { slave_epoch, pairs: self.ours, path_mtu, lock, resume };
        self.loan.open(now, proposal, keep, want);
        self.saw(if resume.is_some() { "resume" } else { "open" });
        Ok(())
    }

    fn lease_ends(&self) -> LeaseEnds {
        LeaseEnds { slave: self.ends.slave, master: self.ends.master }
    }

    /// Sends to the other gateway from now on.
    fn change_way(&mut self) {
        self.saw("another gateway");
        self.gateway = 1 - self.gateway;
        self.framing.set_route(PATH, self.ends, self.ways[self.gateway], self.mtu);
    }

    /// Ends the queue pairs: what was asked completes no more.
    fn close_pairs(&mut self, now: Time) -> Result<(), String> {
        for qpn in std::mem::replace(&mut self.qpns, [Qpn(0); 2]) {
            if qpn.0 != 0 {
                self.endpoint.destroy(now, qpn).map_err(|error| error.to_string())?;
            }
        }
        for asked in &mut self.asked {
            if let Some(Asked { page, writes: Some(_), .. }) = asked.take() {
                self.pages.entry(page).and_modify(|content| *content = Content::Any);
            }
        }
        (self.session, self.connected) = (self.session + 1, false);
        if self.endpoint.counters().bytes_in_flight.get() != 0 {
            return Err("bytes are in flight without queue pairs".into());
        }
        Ok(())
    }

    fn connect(&mut self, grant: &Grant) -> Result<(), String> {
        self.rkey = grant.rkey;
        for (at, theirs) in grant.pairs.iter().enumerate() {
            let (peer, psn, rnr_timer) = (Qpn(theirs.qpn), theirs.psn, RnrTimer::new(1));
            let receive = ReadyToReceive { path: PATH, peer, psn, mtu: grant.path_mtu, read_depth: 0, rnr_timer };
            let send = ReadyToSend::usual(self.ours[at].psn, theirs.read_depth);
            let ready = self.endpoint.ready_to_receive(self.qpns[at], &receive);
            ready
                .and_then(|()| self.endpoint.ready_to_send(self.qpns[at], &send))
                .map_err(|error| format!("not connected: {error}"))?;
        }
        self.connected = true;
        Ok(())
    }

    fn event(&mut self, now: Time, event: LoanEvent) -> Result<(), String> {
        let (gained, lost) = match event {
            LoanEvent::Opened { grant, gained, lost } => {
                self.secret = Some(self.proposed);
                self.connect(&grant)?;
                self.saw("opened");
                (gained, lost)
            }
            LoanEvent::Changed { gained, lost } => (gained, lost),
            LoanEvent::Ended(end) => {
                self.saw(match end {
                    LoanEnd::Refused(Refusal::Epoch) => "ended: EPOCH",
                    LoanEnd::Refused(Refusal::Session) => "ended: SESSION",
                    LoanEnd::Held { .. } => "ended: HELD",
                    LoanEnd::Refused(_) => "ended: other refusal",
                    LoanEnd::Silence => "ended: silence",
                    LoanEnd::Left(_) => "ended: left",
                    LoanEnd::Done => "ended: done",
                });
                self.close_pairs(now)?;
                self.retry_at = now + self.rng.between(1, 50) * MILLISECOND;
                if let LoanEnd::Held { lock, .. } = end
                    && let Some(secret) = self.secrets.find(self.lease_ends(), self.epoch, &lock)
                {
                    // A lease of an earlier start: it is resumed, and nothing of it kept.
                    self.saw("found");
                    self.pages.clear();
                    self.secret = Some(secret);
                    return Ok(());
                }
                // Refusals that are not about the lease leave it as it was.
                let keeps = matches!(end, LoanEnd::Held { .. } | LoanEnd::Refused(Refusal::NoRoom | Refusal::Leaving));
                if !keeps {
                    self.pages.clear();
                    self.secret = None;
                }
                return Ok(());
            }
        };
        if !lost.is_empty() {
            self.saw("lost");
        }
        // A request on a lost unit must not reach a unit that comes to the same index later: both queue pairs end
        // before the next CONNECT, and the lease is resumed.
        let outstanding = self.asked.iter().flatten().any(|asked| lost.contains(asked.page.0));
        self.pages.retain(|(index, _), _| !lost.contains(*index));
        if outstanding {
            self.saw("lost under way");
            self.close_pairs(now)?;
            self.must_resume = true;
        }
        for index in gained.iter() {
            self.pages.extend((0..OFFSETS.len()).map(|at| ((index, at), Content::Known(0))));
        }
        Ok(())
    }

    /// Takes a record of the slave.
    ///
    /// # Errors
    /// A READ gave wrong bytes, or a book is wrong.
    pub fn take(&mut self, now: Time, ce: bool, record: &Record<'_>) -> Result<(), String> {
        if now < self.silent_until {
            return Ok(());
        }
        if record.header().msg_type() == MsgType::RC {
            if let Some(arrival) = self.framing.accept(Some(PATH), ce, record, |_| true) {
                self.endpoint.receive(now, &arrival);
            }
            return self.complete();
        }
        let (event, _) = self.loan.receive(now, record, &mut [0; 1024]);
        event.map_or(Ok(()), |event| self.event(now, event))
    }

    fn complete(&mut self) -> Result<(), String> {
        while let Some(done) = self.endpoint.poll() {
            let (session, slot) = ((done.id >> 8) as u32, (done.id & 0xff) as usize);
            if session != self.session {
                continue;
            }
            let Some(asked) = self.asked[slot].take() else { return Err(format!("{done:?} came twice")) };
            if asked.session != self.session {
                continue;
            }
            let holds = self.pages.contains_key(&asked.page);
            match (done.status, asked.writes) {
                (Status::Success, Some(value)) => {
                    self.saw("written");
                    self.pages.entry(asked.page).and_modify(|content| *content = Content::Known(value));
                }
                (Status::Success, None) if holds => {
                    self.saw("read");
                    let memory = &self.endpoint.region(self.key).ok_or("the local region is gone")?.memory;
                    let start = slot * PAGE as usize;
                    if let Content::Known(value) = asked.expected
                        && !memory[start..start + PAGE as usize].iter().copied().eq(bytes_of(value))
                    {
                        return Err(format!("page {:?} of {:?} is not what was written", asked.page, self.ends));
                    }
                }
                (Status::Success, None) => {}
                (_, writes) => {
                    self.saw("failed");
                    if writes.is_some() {
                        self.pages.entry(asked.page).and_modify(|content| *content = Content::Any);
                    }
                }
            }
        }
        Ok(())
    }

    /// Posts some requests for pages without one.
    fn ask(&mut self) -> Result<(), String> {
        for slot in 0..SLOTS {
            if self.asked[slot].is_some() || self.pages.is_empty() || self.rng.one_in(3) {
                continue;
            }
            let at = self.rng.below(self.pages.len() as u64) as usize;
            let Some((&page, &expected)) = self.pages.iter().nth(at) else { continue };
            let busy = self.asked.iter().flatten().any(|asked| asked.page == page);
            if busy || !self.loan.held().contains(page.0) {
                continue;
            }
            let local = Local { key: self.key, address: slot as u64 * PAGE, len: PAGE as u32 };
            let remote = Remote { address: u64::from(page.0) << UNIT_SHIFT | OFFSETS[page.1], key: self.rkey };
            let writes = self.rng.one_in(2).then_some(self.next_value);
            let memory = self.endpoint.memory_mut(self.key).ok_or("the local region is gone")?;
            let start = slot * PAGE as usize;
            let op = match writes {
                Some(value) => {
                    self.next_value += 1;
                    memory[start..start + PAGE as usize]
                        .iter_mut()
                        .zip(bytes_of(value))
                        .for_each(|(to, from)| *to = from);
                    Op::Write(remote)
                }
                None => {
                    memory[start..start + PAGE as usize].fill(0xee);
                    Op::Read(remote)
                }
            };
            let id = u64::from(self.session) << 8 | slot as u64;
            let qpn = self.qpns[self.rng.below(2) as usize];
            if self.endpoint.post(qpn, Work { id, op, local }).is_ok() {
                self.asked[slot] = Some(Asked { page, writes, expected, session: self.session });
            }
        }
        Ok(())
    }

    /// Where it is, for a message.
    pub fn state(&self) -> String {
        let held = self.loan.held().len();
        let asked = self.asked.iter().flatten().count();
        let pairs = self.qpns.map(|qpn| self.endpoint.state(qpn));
        format!(
            "connected {}, open {}, leaves {}, units {held}, requests {asked}, queue pairs {pairs:?}",
            self.connected,
            self.loan.is_open(),
            self.leaves
        )
    }

    /// Whether it has a lease with a unit, and nothing is outstanding but what it may ask again.
    pub fn is_well(&self) -> bool {
        self.loan.is_open() && self.connected && !self.pages.is_empty()
    }

    /// Asks at once for a unit if it has none: a renewal would come seconds later.
    fn want_more(&mut self, now: Time) {
        if self.loan.is_open() && self.loan.held().is_empty() && now >= self.retry_at {
            self.wants_two = !self.wants_two;
            self.loan.want(1 + u32::from(self.wants_two));
            self.retry_at = now + 50 * MILLISECOND;
        }
    }

    /// Gives units back that are recalled, or at times any, once nothing is outstanding on them.
    fn give_back(&mut self) {
        let recalled = self.loan.recall().map_or(0, |(units, _)| units);
        let all = if self.leaves { u32::MAX } else { recalled };
        if all == 0 && !self.rng.one_in(2_000) {
            return;
        }
        let busy: UnitSet = self.asked.iter().flatten().map(|asked| asked.page.0).collect();
        let held: Vec<u16> = self.loan.held().iter().collect();
        let free = held.into_iter().rev().filter(|index| !busy.contains(*index));
        let given: UnitSet = free.take(all.max(1) as usize).collect();
        if given.is_empty() {
            return;
        }
        self.saw("given_back");
        self.pages.retain(|(index, _), _| !given.contains(*index));
        self.loan.give_back(&given);
        let want = if self.leaves { 0 } else { self.loan.held().len().max(1) };
        self.loan.want(want);
    }

    /// The datagrams that it sends now. `epoch` is that of the slave's present start.
    ///
    /// # Errors
    /// A READ gave wrong bytes, or a book is wrong.
    pub fn poll(&mut self, now: Time, epoch: u64, path_mtu: PathMtu) -> Result<Vec<Vec<u8>>, String> {
        if now < self.silent_until {
            return Ok(Vec::new());
        }
        if self.rng.one_in(400) {
            self.change_way();
        }
        if let Some(event) = self.loan.advance(now) {
            self.event(now, event)?;
        }
        self.endpoint.advance(now);
        self.complete()?;
        let failed =
            self.connected && self.qpns.iter().any(|&qpn| self.endpoint.state(qpn) == Some(transport::State::Error));
        let deadline = self.loan.deadline();
        if !self.leaves && (self.must_resume || now >= self.retry_at && (failed || deadline.is_none())) {
            self.must_resume = false;
            self.open(now, epoch, path_mtu)?;
            self.retry_at = now + SECOND / 5;
        } else if self.leaves && failed {
            self.close_pairs(now)?;
        }
        // A master that leaves gives its units back without queue pairs, too: nothing is outstanding then.
        if self.connected || self.leaves {
            if !self.leaves {
                self.ask()?;
                self.want_more(now);
            }
            self.give_back();
            if self.leaves && self.loan.is_open() && self.loan.held().is_empty() {
                self.loan.close(now);
            }
        }
        let mut sent = Vec::new();
        let mut message = [0; Connect::MAX_LEN];
        while let Some(len) = self.loan.transmit(now, &mut message) {
            sent.push(message[..len].to_vec());
        }
        self.framing.transmit(now, &mut self.endpoint, &mut self.out);
        let queue = self.out.queue(PortId(0)).ok_or("no port")?;
        sent.extend(std::iter::from_fn(|| queue.take()).map(|datagram| datagram.frame.data().to_vec()));
        queue.rewind();
        if self.out.pool().in_use() != 0 {
            return Err("a master holds frames".into());
        }
        Ok(sent)
    }
}
