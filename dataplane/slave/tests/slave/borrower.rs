//! A master with one lease: its loan, two queue pairs and a local buffer.

use frame::{Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Time};
use lease::{ConnectKey, Loan, LoanConfig, LoanEvent, Proposal, lock_of};
use records::{Framing, PathEnds, Side};
use std::sync::Arc;
use transport::{
    Access, Completion, Config, Endpoint, Local, Op, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Region,
    Remote, Work,
};
use wire::lease::{Connect, PairEnd, UnitSet};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{Record, Scale};

const BASE: u64 = 0x1000_0000;
const PATH: PathId = PathId(0);

pub(crate) struct Borrower {
    pub(crate) ends: PathEnds,
    pub(crate) loan: Loan,
    pub(crate) endpoint: Endpoint<Vec<u8>>,
    pub(crate) events: Vec<LoanEvent>,
    pub(crate) qpns: [Qpn; 2],
    pub(crate) theirs: [PairEnd; 2],
    pub(crate) rkey: u32,
    pub(crate) done: Vec<Completion>,
    pub(crate) secret: [u8; 16],
    framing: Framing,
    out: Outbox,
    local: u32,
    random: u32,
}

impl Borrower {
    pub(crate) fn new(slave: u32, master: u16, key: Option<ConnectKey>, to: Peer) -> Self {
        let mut endpoint = Endpoint::new(Config { paths: 1, ..Config::default() }, 0).unwrap();
        let region = Region { base: BASE, len: 1 << 16, access: Access::ALL, domain: 0, memory: vec![0; 1 << 16] };
        let local = endpoint.register(0x5151_0000, region).unwrap();
        let pool = PoolConfig { frames: 256, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let mut framing = Framing::new(Side::Master, Scale::default(), 1).unwrap();
        let ends = PathEnds { slave, master };
        framing.set_route(PATH, ends, to, 1280);
        Self {
            ends,
            loan: Loan::new(LoanConfig { slave, master, master_epoch: 77, keys: key.into() }, Arc::default()),
            endpoint,
            events: Vec::new(),
            qpns: [Qpn(0); 2],
            theirs: [PairEnd { qpn: 2, psn: Psn::new(0), read_depth: 0, rnr_timer: RnrTimer::new(0) }; 2],
            rkey: 0,
            done: Vec::new(),
            secret: [master as u8; 16],
            framing,
            out: Outbox::new(Pool::new(pool).unwrap(), 1),
            local,
            random: u32::from(master) << 20 | slave,
        }
    }

    /// Proposes a session with fresh queue pairs.
    pub(crate) fn open(&mut self, now: Time, slave_epoch: u64, want: u32, resume: bool) {
        for qpn in std::mem::replace(&mut self.qpns, [Qpn(0); 2]).into_iter().filter(|qpn| qpn.0 != 0) {
            self.endpoint.destroy(now, qpn).unwrap();
        }
        self.endpoint.set_path(PATH, PeerKind::Own).unwrap();
        let mut pairs = self.theirs;
        for (qpn, pair) in self.qpns.iter_mut().zip(&mut pairs) {
            self.random = self.random.wrapping_mul(0x9E37_79B1).wrapping_add(0x1234_5677);
            *qpn = self.endpoint.create(self.random, 0).unwrap();
            self.endpoint.init(*qpn).unwrap();
            let psn = Psn::new(self.random >> 8);
            *pair = PairEnd { qpn: qpn.0, psn, read_depth: 16, rnr_timer: RnrTimer::new(1) };
        }
        self.theirs = pairs;
        let resume = resume.then_some(self.secret);
        self.secret = self.secret.map(|byte| byte.wrapping_add(1));
        let lock = lock_of(&self.secret);
        let keep = if resume.is_some() { *self.loan.held() } else { UnitSet::EMPTY };
        let proposal = Proposal { slave_epoch, pairs, path_mtu: PathMtu::B1024, lock, resume };
        self.loan.open(now, proposal, keep, want);
    }

    /// Takes a record of the slave.
    pub(crate) fn take(&mut self, now: Time, record: &Record<'_>) {
        if record.header().msg_type() == wire::MsgType::RC {
            if let Some(arrival) = self.framing.accept(Some(PATH), false, record, |_| true) {
                self.endpoint.receive(now, &arrival);
                self.done.extend(std::iter::from_fn(|| self.endpoint.poll()));
            }
            return;
        }
        let (event, _) = self.loan.receive(now, record, &mut [0; 1024]);
        if let Some(LoanEvent::Opened { grant, .. }) = &event {
            let ours = self.theirs;
            for ((&qpn, ours), theirs) in self.qpns.iter().zip(ours).zip(grant.pairs) {
                let receive = ReadyToReceive {
                    path: PATH,
                    peer: Qpn(theirs.qpn),
                    psn: theirs.psn,
                    mtu: grant.path_mtu,
                    read_depth: 16,
                    rnr_timer: RnrTimer::new(1),
                };
                self.endpoint.ready_to_receive(qpn, &receive).unwrap();
                self.endpoint.ready_to_send(qpn, &ReadyToSend::usual(ours.psn, theirs.read_depth)).unwrap();
            }
            (self.theirs, self.rkey) = (grant.pairs, grant.rkey);
        }
        self.events.extend(event);
    }

    /// The datagrams that it sends now.
    pub(crate) fn poll(&mut self, now: Time) -> Vec<Vec<u8>> {
        self.events.extend(self.loan.advance(now));
        let mut sent = Vec::new();
        let mut message = [0; Connect::MAX_LEN];
        while let Some(len) = self.loan.transmit(now, &mut message) {
            sent.push(message[..len].to_vec());
        }
        self.endpoint.advance(now);
        self.framing.transmit(now, &mut self.endpoint, &mut self.out);
        self.done.extend(std::iter::from_fn(|| self.endpoint.poll()));
        let queue = self.out.queue(PortId(0)).unwrap();
        sent.extend(std::iter::from_fn(|| queue.take()).map(|datagram| datagram.frame.data().to_vec()));
        queue.rewind();
        sent
    }

    fn post(&mut self, class: usize, id: u64, at: u64, len: usize, rkey: u32, write: bool) {
        let local = Local { key: self.local, address: BASE, len: len as u32 };
        let remote = Remote { address: at, key: rkey };
        let op = if write { Op::Write(remote) } else { Op::Read(remote) };
        self.endpoint.post(self.qpns[class], Work { id, op, local }).unwrap();
    }

    /// Writes bytes to an address of the lease, on the demand or the bulk queue pair.
    pub(crate) fn write(&mut self, class: usize, id: u64, at: u64, bytes: &[u8]) {
        self.endpoint.memory_mut(self.local).unwrap()[..bytes.len()].copy_from_slice(bytes);
        self.post(class, id, at, bytes.len(), self.rkey, true);
    }

    pub(crate) fn read(&mut self, class: usize, id: u64, at: u64, len: usize) {
        self.read_by(class, id, at, len, self.rkey);
    }

    pub(crate) fn read_by(&mut self, class: usize, id: u64, at: u64, len: usize, rkey: u32) {
        self.endpoint.memory_mut(self.local).unwrap()[..len].fill(0xee);
        self.post(class, id, at, len, rkey, false);
    }

    /// The first bytes of the local buffer.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        self.endpoint.region(self.local).unwrap().memory[..len].to_vec()
    }
}
