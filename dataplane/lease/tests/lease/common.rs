//! A slave's memory that records which region has which unit, and messages of a master.

use lease::{
    ConnectKeys, Lender, LenderConfig, Loan, LoanConfig, LoanEvent, OpenedSession, Opening, Proposal, Resources,
    lock_of,
};
use std::collections::{BTreeMap, BTreeSet};
use wire::lease::{Connect, ConnectAnswer, ConnectReply, Grant, LeaseEnds, PairEnd, Refusal, UnitSet};
use wire::link::Cookie;
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{Key, Record};

pub(crate) const SLAVE: u32 = 17;
pub(crate) const EPOCH: u64 = 0xe90c;
pub(crate) const START: u64 = 1_000_000_000;

pub(crate) fn pair(qpn: u32) -> PairEnd {
    PairEnd { qpn, psn: Psn::new(7), read_depth: 16, rnr_timer: RnrTimer::new(12) }
}

pub(crate) fn set(indexes: impl IntoIterator<Item = u16>) -> UnitSet {
    indexes.into_iter().collect()
}

/// The calls of a lender to its role.
#[derive(Default)]
pub(crate) struct Memory {
    /// The regions that are open, by place: index and unit.
    pub(crate) regions: BTreeMap<u16, BTreeMap<u16, u32>>,
    /// Units that must be scrubbed.
    pub(crate) dirty: BTreeSet<u32>,
    pub(crate) openings: Vec<Opening>,
    /// There is no free queue pair.
    pub(crate) full: bool,
}

impl Memory {
    /// Asserts that each unit is in one place, and that the lender's counts agree.
    pub(crate) fn check(&self, lender: &Lender) {
        let books = lender.books();
        assert_eq!(books.units, books.free + books.dirty + books.leased);
        assert_eq!(books.recalled, books.leased.saturating_sub(books.limit));
        assert_eq!(books.dirty as usize, self.dirty.len());
        let lent: Vec<u32> = self.regions.values().flat_map(|region| region.values().copied()).collect();
        let once: BTreeSet<u32> = lent.iter().copied().collect();
        assert_eq!(once.len(), lent.len(), "a unit is in two places");
        assert!(once.is_disjoint(&self.dirty), "a dirty unit is lent");
    }

    pub(crate) fn scrub(&mut self, lender: &mut Lender) {
        for unit in std::mem::take(&mut self.dirty) {
            lender.scrubbed(unit);
        }
    }
}

impl Resources for Memory {
    fn open(&mut self, opening: &Opening) -> Option<OpenedSession> {
        if self.full {
            return None;
        }
        assert!(!self.regions.contains_key(&opening.place), "the place is open");
        self.regions.insert(opening.place, BTreeMap::new());
        self.openings.push(*opening);
        Some(OpenedSession { pairs: [pair(0x55), pair(0x56)], rkey: self.openings.len() as u32 })
    }

    fn close(&mut self, place: u16) {
        self.regions.remove(&place);
    }

    fn add(&mut self, place: u16, index: u16, unit: u32) {
        assert!(!self.dirty.contains(&unit), "a dirty unit is lent");
        let region = self.regions.get_mut(&place).expect("the place is open");
        assert_eq!(region.insert(index, unit), None, "the index has a unit");
    }

    fn remove(&mut self, place: u16, index: u16, unit: u32) {
        if let Some(region) = self.regions.get_mut(&place) {
            assert_eq!(region.remove(&index), Some(unit));
        }
        assert!(self.dirty.insert(unit), "the unit is dirty");
    }
}

/// A slave: its lender and memory.
pub(crate) struct Slave {
    pub(crate) lender: Lender,
    pub(crate) memory: Memory,
}

pub(crate) fn config(units: u32, leases: u16) -> LenderConfig {
    LenderConfig {
        slave: SLAVE,
        epoch: EPOCH,
        units,
        leases,
        quota: units,
        path_mtu: PathMtu::B4096,
        keys: ConnectKeys::none(),
    }
}

impl Slave {
    pub(crate) fn new(config: LenderConfig) -> Self {
        Self { lender: Lender::new(config, [9; 32]), memory: Memory::default() }
    }

    pub(crate) fn with(units: u32, leases: u16) -> Self {
        Self::new(config(units, leases))
    }

    /// Takes a message and returns the bytes of the answer.
    pub(crate) fn take(&mut self, now: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; ConnectReply::MAX_LEN];
        let record = Record::first(bytes).expect("a record");
        let len = self.lender.receive(now, &record, &mut self.memory, &mut out);
        self.memory.check(&self.lender);
        len.map(|len| out[..len].to_vec())
    }

    pub(crate) fn connect(&mut self, now: u64, connect: &Connect) -> Option<ConnectReply> {
        let answer = self.take(now, &bytes_of(connect, None))?;
        Some(ConnectReply::parse(&Record::first(&answer).expect("a record")).expect("an answer"))
    }

    /// Opens a lease: asks for a cookie, and uses it. `seq` is that of the second CONNECT.
    pub(crate) fn open(&mut self, now: u64, connect: &Connect) -> ConnectReply {
        let first = Connect { seq: connect.seq - 1, cookie: Cookie::NONE, ..*connect };
        let cookie = self.connect(now, &first).expect("an answer");
        assert_eq!(refusal(&cookie), Some(Refusal::Cookie));
        self.connect(now, &Connect { cookie: cookie.cookie, ..*connect }).expect("an answer")
    }

    pub(crate) fn advance(&mut self, now: u64) {
        self.lender.advance(now, &mut self.memory);
        self.memory.check(&self.lender);
    }

    /// All messages that it sends unasked.
    pub(crate) fn unasked(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut out = vec![0; ConnectReply::MAX_LEN];
        while let Some(len) = self.lender.transmit(now, &mut out) {
            all.push(out[..len].to_vec());
        }
        all
    }
}

pub(crate) fn bytes_of(connect: &Connect, key: Option<&Key>) -> Vec<u8> {
    let mut out = vec![0; Connect::MAX_LEN];
    let len = connect.emit(key, &mut out).expect("there is room");
    out[..len].to_vec()
}

/// A CONNECT that opens a lease of this master.
pub(crate) fn connect(master: u16, want: u32) -> Connect {
    Connect {
        ends: LeaseEnds { slave: SLAVE, master },
        slave_epoch: EPOCH,
        master_epoch: 0x1000 + u64::from(master),
        seq: 2,
        session: 0,
        cookie: Cookie::NONE,
        lock: lock_of(&[master as u8; 16]),
        resume: None,
        pairs: [pair(0x77), pair(0x78)],
        path_mtu: PathMtu::B1024,
        want,
        keep: UnitSet::EMPTY,
    }
}

pub(crate) fn grant(reply: &ConnectReply) -> Grant {
    match reply.answer {
        ConnectAnswer::Granted(grant) => grant,
        ConnectAnswer::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

pub(crate) fn refusal(reply: &ConnectReply) -> Option<Refusal> {
    match reply.answer {
        ConnectAnswer::Granted(_) => None,
        ConnectAnswer::Refused(refusal) => Some(refusal),
    }
}

/// The next CONNECT of a lease that was granted.
pub(crate) fn next(connect: &Connect, reply: &ConnectReply) -> Connect {
    let grant = grant(reply);
    Connect { seq: connect.seq + 1, session: grant.session, keep: grant.units, ..*connect }
}

pub(crate) fn loan(key: Option<lease::ConnectKey>) -> Loan {
    Loan::new(LoanConfig { slave: SLAVE, master: 1, master_epoch: 0x1001, keys: key.into() }, Default::default())
}

pub(crate) fn proposal() -> Proposal {
    Proposal {
        slave_epoch: EPOCH,
        pairs: [pair(0x77), pair(0x78)],
        path_mtu: PathMtu::B1024,
        lock: lock_of(&[1; 16]),
        resume: None,
    }
}

/// The message that a loan sends now.
pub(crate) fn sent(loan: &mut Loan, now: u64) -> Option<Vec<u8>> {
    let mut out = vec![0; Connect::MAX_LEN];
    let len = loan.transmit(now, &mut out)?;
    Some(out[..len].to_vec())
}

/// Gives a message to a loan. Returns the event and the answer.
pub(crate) fn told(loan: &mut Loan, now: u64, bytes: &[u8]) -> (Option<LoanEvent>, Option<Vec<u8>>) {
    let mut out = vec![0; Connect::MAX_LEN];
    let (event, len) = loan.receive(now, &Record::first(bytes).expect("a record"), &mut out);
    (event, len.map(|len| out[..len].to_vec()))
}

/// Carries messages both ways until neither side sends any more. Returns the events of the loan.
pub(crate) fn talk(loan: &mut Loan, slave: &mut Slave, now: u64) -> Vec<LoanEvent> {
    let mut events = Vec::new();
    for _ in 0..10 {
        let mut up = slave.unasked(now);
        while let Some(bytes) = sent(loan, now) {
            up.extend(slave.take(now, &bytes));
        }
        if up.is_empty() {
            return events;
        }
        for bytes in up {
            let (event, answer) = told(loan, now, &bytes);
            events.extend(event);
            if let Some(answer) = answer {
                assert_eq!(slave.take(now, &answer), None, "an answer is answered");
            }
        }
    }
    panic!("the two sides never stop sending");
}
