//! The queue pairs and regions of all leases of a farm.

use super::memory::LeaseMemory;
use frame::{Peer, Time, UnitMemory};
use lease::{Numbers, OpenedSession, Opening, Resources};
use records::{Framing, PathEnds};
use std::sync::Arc;
use transport::{Access, Endpoint, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Region};
use wire::lease::PairEnd;
use wire::rc::{PathMtu, Psn, RnrTimer};

/// No master.
const NOBODY: u32 = u32::MAX;

/// A peer that sends without a receive is told to wait this long: about 0.6 ms. Masters READ and WRITE only.
const RNR_TIMER: RnrTimer = RnrTimer::new(12);

/// Takes the number of each unit that must be scrubbed. It must not block.
pub type ScrubSink = Box<dyn FnMut(u32) + Send>;

/// An open session of a lease.
#[derive(Clone, Copy)]
struct Session {
    qpns: [Qpn; 2],
    rkey: u32,
}

/// All sessions, by path. The path of a lease is the number of its slave, times the leases of each slave, plus the
/// place of the lease.
pub(crate) struct Sessions {
    pub(super) endpoint: Endpoint<LeaseMemory>,
    pub(super) framing: Framing,
    pub(super) memory: Arc<UnitMemory>,
    pub(super) numbers: Numbers,
    pub(super) scrub: ScrubSink,
    pub(super) leases: u16,
    pub(super) units_per_slave: u32,
    /// READs and atomic operations of each queue pair that are kept for repetition.
    pub(super) read_depth: u8,
    /// The master of each path that has a session, or [`NOBODY`].
    masters: Box<[u32]>,
    open: Box<[Option<Session>]>,
}

impl Sessions {
    pub(super) fn new(
        endpoint: Endpoint<LeaseMemory>,
        framing: Framing,
        memory: Arc<UnitMemory>,
        numbers: Numbers,
        scrub: ScrubSink,
        size: (u32, u16, u32, u8),
    ) -> Self {
        let (slaves, leases, units_per_slave, read_depth) = size;
        let paths = slaves as usize * usize::from(leases);
        Self {
            endpoint,
            framing,
            memory,
            numbers,
            scrub,
            leases,
            units_per_slave,
            read_depth,
            masters: vec![NOBODY; paths].into(),
            open: vec![None; paths].into(),
        }
    }

    fn path(&self, slave: u32, place: u16) -> PathId {
        PathId(slave * u32::from(self.leases) + u32::from(place))
    }

    /// The path to a master that has a session of the slave with this number.
    #[inline]
    pub(super) fn path_to(&self, slave: u32, master: u16) -> Option<PathId> {
        let first = self.path(slave, 0).0;
        let all = self.masters.get(first as usize..(first + u32::from(self.leases)) as usize)?;
        let place = all.iter().position(|&other| other == u32::from(master))?;
        Some(PathId(first + place as u32))
    }

    /// What a lender of a slave needs while it handles something.
    pub(super) fn of(&mut self, now: Time, index: u32, slave: u32, way: Option<(Peer, u16)>) -> SlaveSessions<'_> {
        SlaveSessions { all: self, now, index, slave, way }
    }

    /// Makes two queue pairs that are ready, the demand and the bulk one.
    fn connect(&mut self, now: Time, path: PathId, opening: &Opening) -> Option<[(Qpn, PairEnd); 2]> {
        // What was measured belongs to the last master of this place.
        self.endpoint.set_path(path, PeerKind::Own).ok()?;
        let [demand, bulk] = opening.pairs;
        let demand = self.pair(now, path, &demand, opening.path_mtu, true)?;
        match self.pair(now, path, &bulk, opening.path_mtu, false) {
            Some(bulk) => Some([demand, bulk]),
            None => {
                self.destroy(now, demand.0);
                None
            }
        }
    }

    /// Makes a queue pair that is ready, towards the other end of it.
    fn pair(
        &mut self,
        now: Time,
        path: PathId,
        theirs: &PairEnd,
        mtu: PathMtu,
        is_urgent: bool,
    ) -> Option<(Qpn, PairEnd)> {
        let Self { endpoint, numbers, read_depth, .. } = self;
        let qpn = endpoint.create(numbers.next_u32(), path.0).ok()?;
        let psn = Psn::new(numbers.next_u32());
        let ours = PairEnd { qpn: qpn.0, psn, read_depth: *read_depth, rnr_timer: RNR_TIMER };
        let receive = ReadyToReceive {
            path,
            peer: Qpn(theirs.qpn),
            psn: theirs.psn,
            mtu,
            read_depth: *read_depth,
            rnr_timer: RNR_TIMER,
        };
        let ready = endpoint
            .init(qpn)
            .and_then(|()| if is_urgent { endpoint.make_urgent(qpn) } else { Ok(()) })
            .and_then(|()| endpoint.ready_to_receive(qpn, &receive))
            .and_then(|()| endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, theirs.read_depth)));
        if ready.is_err() {
            self.destroy(now, qpn);
            return None;
        }
        Some((qpn, ours))
    }

    fn destroy(&mut self, now: Time, qpn: Qpn) {
        if self.endpoint.destroy(now, qpn).is_err() {
            frame::never!("a session has a queue pair that does not exist");
        }
    }
}

/// The sessions of one slave, as [`Resources`] of its lender.
pub(crate) struct SlaveSessions<'a> {
    all: &'a mut Sessions,
    now: Time,
    /// The number and the id of the slave.
    index: u32,
    slave: u32,
    /// Where the packets of a session that is opened go: the gateway that its CONNECT came through, and the MTU.
    way: Option<(Peer, u16)>,
}

impl SlaveSessions<'_> {
    /// The number of a unit among those of the farm.
    fn unit(&self, unit: u32) -> u32 {
        self.index * self.all.units_per_slave + unit
    }

    fn session(&self, place: u16) -> Option<Session> {
        self.all.open.get(self.all.path(self.index, place).0 as usize).copied().flatten()
    }
}

impl Resources for SlaveSessions<'_> {
    fn open(&mut self, opening: &Opening) -> Option<OpenedSession> {
        let (peer, mtu) = self.way?;
        let path = self.all.path(self.index, opening.place);
        let made = self.all.connect(self.now, path, opening)?;
        let (qpns, pairs) = (made.map(|(qpn, _)| qpn), made.map(|(_, end)| end));
        let indexes = (self.all.units_per_slave as usize).min(wire::lease::MAX_UNITS);
        let memory = LeaseMemory::new(Arc::clone(&self.all.memory), indexes);
        let access = Access::REMOTE_READ.and(Access::REMOTE_WRITE).and(Access::REMOTE_ATOMIC);
        let len = transport::Memory::len(&memory);
        let region = Region { base: 0, len, access, domain: path.0, memory };
        let random = self.all.numbers.next_u32();
        let Ok(rkey) = self.all.endpoint.register(random, region) else {
            qpns.iter().for_each(|&qpn| self.all.destroy(self.now, qpn));
            return None;
        };
        let ends = PathEnds { slave: self.slave, master: opening.master };
        self.all.framing.set_route(path, ends, peer, mtu);
        if let (Some(master), Some(open)) =
            (self.all.masters.get_mut(path.0 as usize), self.all.open.get_mut(path.0 as usize))
        {
            *master = opening.master.into();
            *open = Some(Session { qpns, rkey });
        }
        Some(OpenedSession { pairs, rkey })
    }

    fn close(&mut self, place: u16) {
        let Some(Session { qpns, rkey }) = self.session(place) else { return };
        let path = self.all.path(self.index, place);
        qpns.iter().for_each(|&qpn| self.all.destroy(self.now, qpn));
        self.all.endpoint.deregister(rkey);
        self.all.framing.clear_route(path);
        if let (Some(master), Some(open)) =
            (self.all.masters.get_mut(path.0 as usize), self.all.open.get_mut(path.0 as usize))
        {
            (*master, *open) = (NOBODY, None);
        }
    }

    fn add(&mut self, place: u16, index: u16, unit: u32) {
        let unit = self.unit(unit);
        let Some(session) = self.session(place) else { return };
        if let Some(memory) = self.all.endpoint.memory_mut(session.rkey) {
            memory.set(index, Some(unit));
        }
    }

    fn remove(&mut self, place: u16, index: u16, unit: u32) {
        let unit = self.unit(unit);
        if let Some(session) = self.session(place)
            && let Some(memory) = self.all.endpoint.memory_mut(session.rkey)
        {
            memory.set(index, None);
        }
        (self.all.scrub)(unit);
    }
}
