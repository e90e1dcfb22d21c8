//! The two ends of the READs: one that keeps some of them outstanding, and one that serves them.

use crate::remote::{PAGE, PAGES, fill, is_page, page_of};
use anyhow::Context as _;
use frame::{Burst, Guarded, Hugepages, Outbox, Peer, PortId, Role, Time};
use lcore::{Clock, RxMode};
use master::{ADAPTIVE_QUEUE_TARGET, MasterConfig};
use records::{End, RecordCommand, RecordRole};
use roce::{Answer, Latencies};
use transport::{
    Access, Config, Endpoint, Local, Op, PathId, Qpn, ReadyToReceive, ReadyToSend, Region, Remote, Status, Work,
};
use wire::Scale;
use wire::rc::{PathMtu, Psn, RnrTimer};

/// The ids of the two ends.
pub const MASTER: u16 = 1;
/// See [`MASTER`].
pub const SLAVE: u32 = 17;

/// READs that are outstanding on one queue pair, at most.
const DEPTH: u8 = 128;

/// Where the memory of both ends begins.
const BASE: u64 = 1 << 32;

/// Both queue pairs begin with this PSN.
const FIRST_PSN: Psn = Psn::new(0xff_fff0);

/// The queue pair of requests that somebody waits for.
pub const DEMAND: usize = 0;
/// The queue pair of requests that nobody waits for.
pub const BULK: usize = 1;

/// A lane's numbers in the ids of its work requests.
const LANE_SHIFT: u32 = 48;

/// What the reading end needs to know of the serving one.
#[derive(Clone, Copy, Debug)]
pub struct ServedMemory {
    /// Its queue pairs.
    pub qpns: [Qpn; 2],
    /// The key of its memory.
    pub key: u32,
}

/// READs of one lane.
pub struct PageLoad {
    /// The lane: [`DEMAND`] or [`BULK`].
    pub lane: usize,
    /// READs outstanding; 128 at most.
    pub depth: u32,
    /// READs in all; `None` until [`ReadOrder::Stop`].
    pub count: Option<u64>,
    /// Told when all have ended.
    pub answer: Answer<PageLoadDone>,
}

/// What a lane did.
#[derive(Clone, Debug)]
pub struct PageLoadDone {
    /// READs that gave the right page.
    pub pages: u64,
    /// What went wrong first, if something did.
    pub fault: Option<String>,
    /// How long each took, in nanoseconds; of a lane with more than one outstanding none.
    pub latencies: Latencies,
}

/// Commands for an end.
pub enum ReadOrder {
    /// The other end's queue pairs and memory.
    Connect(ServedMemory, PathMtu),
    /// Read.
    Load(PageLoad),
    /// A lane posts nothing more.
    Stop(usize),
    /// The packets leave to here.
    Route(Peer, u16),
}

/// One lane's state.
#[derive(Default)]
struct ReadLane {
    load: Option<PageLoad>,
    posted: u64,
    done: u64,
    fault: Option<String>,
    latencies: Latencies,
    sent: Time,
    stopped: bool,
}

/// One end.
pub struct PageReader {
    role: RecordRole<Guarded>,
    end: End,
    qpns: [Qpn; 2],
    key: u32,
    /// What the other end serves.
    served: Option<ServedMemory>,
    lanes: [ReadLane; 2],
    clock: Clock,
}

impl PageReader {
    /// An end without a connection, for an lcore that waits like this. The serving one has [`PAGES`] pages, the reading
    /// one a place for each READ that may be outstanding.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(end: End, mode: RxMode, clock: Clock) -> anyhow::Result<Self> {
        // As a master with 10 Gbit/s has them, which is what a veth says of itself.
        let master = MasterConfig { speed_mbit: 10_000, ..MasterConfig::new(MASTER, Vec::new()) };
        let queue_target = match mode {
            RxMode::Polling => master.queue_target,
            RxMode::Adaptive => ADAPTIVE_QUEUE_TARGET,
        };
        let config = Config { paths: 64, queue_target, queue_least: master.queue_least(), ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0)?;
        let pages = match end {
            End::Master(_) => 2 * u32::from(DEPTH),
            End::Slave(_) => PAGES,
        };
        let mut memory = Guarded::new((pages * PAGE) as usize, Hugepages::Prefer)?;
        if matches!(end, End::Slave(_)) {
            fill(&mut memory);
        }
        let len = u64::from(pages * PAGE);
        let key = endpoint.register(0x1234_5600, Region { base: BASE, len, access: Access::ALL, domain: 1, memory })?;
        let mut make = |random: u32| -> anyhow::Result<Qpn> {
            let qpn = endpoint.create(random, 1)?;
            endpoint.init(qpn)?;
            Ok(qpn)
        };
        let qpns = [make(0x00ab_cd00)?, make(0x00ef_1200)?];
        endpoint.make_urgent(qpns[DEMAND])?;
        let role = RecordRole::new(endpoint, end, Scale::default(), config.paths)?;
        Ok(Self { role, end, qpns, key, served: None, lanes: Default::default(), clock })
    }

    /// What the other end needs to know.
    pub fn served(&self) -> ServedMemory {
        ServedMemory { qpns: self.qpns, key: self.key }
    }

    fn path(&self) -> PathId {
        match self.end {
            End::Master(_) => PathId(SLAVE),
            End::Slave(_) => PathId(MASTER.into()),
        }
    }

    fn connect(&mut self, served: ServedMemory, mtu: PathMtu) -> anyhow::Result<()> {
        let path = self.path();
        for (own, peer) in self.qpns.into_iter().zip(served.qpns) {
            let rnr_timer = RnrTimer::new(1);
            let receive = ReadyToReceive { path, peer, psn: FIRST_PSN, mtu, read_depth: DEPTH, rnr_timer };
            self.role.endpoint().ready_to_receive(own, &receive)?;
            self.role.endpoint().ready_to_send(own, &ReadyToSend::usual(FIRST_PSN, DEPTH))?;
        }
        self.served = Some(served);
        Ok(())
    }

    /// Takes what has ended.
    fn collect(&mut self) {
        while let Some(completion) = self.role.endpoint().poll() {
            let lane = (completion.id >> LANE_SHIFT) as usize & 1;
            let number = completion.id & ((1 << LANE_SHIFT) - 1);
            let place = place_of(lane, number) as usize;
            let memory = self.role.endpoint().region(self.key).map(|region| &region.memory);
            let is_right = completion.status == Status::Success
                && memory.and_then(|memory| memory.get(place..place + PAGE as usize)).is_some_and(|bytes| {
                    // A page that was never written is no page either.
                    is_page(bytes, page_of(number))
                });
            let state = &mut self.lanes[lane];
            state.done += 1;
            if !is_right && state.fault.is_none() {
                state.fault = Some(format!("READ {number} ended with {:?}, or gave another page", completion.status));
            }
            if state.load.as_ref().is_some_and(|load| load.depth == 1) {
                state.latencies.record(self.clock.now().saturating_sub(state.sent));
            }
        }
    }

    /// Posts what may be posted.
    fn post(&mut self) -> anyhow::Result<()> {
        for lane in [DEMAND, BULK] {
            let state = &mut self.lanes[lane];
            let Some(load) = &state.load else { continue };
            let all = if state.stopped { state.posted } else { load.count.unwrap_or(u64::MAX) };
            let room = u64::from(load.depth).saturating_sub(state.posted - state.done).min(all - state.posted);
            if load.depth == 1 && room == 1 {
                state.sent = self.clock.now();
            }
            let served = self.served.context("READs before the ends are connected")?;
            for number in state.posted..state.posted + room {
                let remote = Remote { address: BASE + u64::from(page_of(number) * PAGE), key: served.key };
                let local = Local { key: self.key, address: BASE + place_of(lane, number), len: PAGE };
                let id = (lane as u64) << LANE_SHIFT | number;
                self.role.endpoint().post(self.qpns[lane], Work { id, op: Op::Read(remote), local })?;
            }
            let state = &mut self.lanes[lane];
            state.posted += room;
            if state.done == all {
                let state = std::mem::take(state);
                if let Some(load) = state.load {
                    let ReadLane { done, fault, latencies, .. } = state;
                    (load.answer)(PageLoadDone { pages: done, fault, latencies });
                }
            }
        }
        Ok(())
    }

    fn order(&mut self, now: Time, order: ReadOrder, out: &mut Outbox) -> anyhow::Result<()> {
        match order {
            ReadOrder::Connect(served, mtu) => self.connect(served, mtu)?,
            ReadOrder::Load(load) => {
                let lane = load.lane & 1;
                self.lanes[lane] = ReadLane { load: Some(load), ..ReadLane::default() };
            }
            ReadOrder::Stop(lane) => self.lanes[lane & 1].stopped = true,
            ReadOrder::Route(peer, mtu) => {
                let path = self.path();
                self.role.command(now, RecordCommand::Route { path, peer, mtu }, out);
            }
        }
        Ok(())
    }
}

/// Where a lane's READ is put, from the beginning of the memory on.
const fn place_of(lane: usize, number: u64) -> u64 {
    (lane as u64 * DEPTH as u64 + number % DEPTH as u64) * PAGE as u64
}

impl Role for PageReader {
    type Command = ReadOrder;

    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox) {
        self.role.receive(now, port, burst, out);
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        self.collect();
        if let Err(error) = self.post() {
            for state in &mut self.lanes {
                state.fault.get_or_insert_with(|| format!("{error:#}"));
                state.stopped = true;
            }
        }
        self.role.advance(now, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.role.deadline()
    }

    fn command(&mut self, now: Time, order: ReadOrder, out: &mut Outbox) {
        if let Err(error) = self.order(now, order, out) {
            self.lanes[DEMAND].fault = Some(format!("{error:#}"));
        }
    }

    fn is_drained(&self) -> bool {
        self.role.is_drained()
    }

    fn frames_held(&self) -> usize {
        self.role.frames_held()
    }
}
