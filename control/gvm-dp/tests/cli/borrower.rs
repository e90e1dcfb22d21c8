//! A master that leases memory of one slave, without using it.

use crate::harness::until;
use crate::master::Master;
use lease::{ConnectKeys, Loan, LoanConfig, LoanEvent, Proposal, lock_of};
use std::net::SocketAddr;
use std::sync::Arc;
use wire::lease::{Connect, ConnectReply, PairEnd, UnitSet};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{MsgType, Scale, Walk};

pub(crate) struct Borrower {
    master: Master,
    loan: Loan,
    /// The boot of the slave, once it is known.
    epoch: Option<u64>,
    want: u32,
    /// Whether it gives back what is recalled.
    pub gives_back: bool,
}

impl Borrower {
    /// Registers a master at a gateway, and leases so many units of a slave.
    pub(crate) fn new(master: u16, gateway: SocketAddr, slave: u32, want: u32) -> Self {
        let config = LoanConfig { slave, master, master_epoch: 77, keys: ConnectKeys::none() };
        let loan = Loan::new(config, Arc::default());
        let master = Master::register(master, gateway);
        let mut borrower = Self { master, loan, epoch: None, want, gives_back: false };
        borrower.open(1);
        until("the lease", || {
            borrower.poll();
            (borrower.units() == want).then_some(())
        });
        borrower
    }

    /// The units that it has.
    pub(crate) fn units(&self) -> u32 {
        self.loan.held().len()
    }

    /// The units that it must give back.
    pub(crate) fn recalled(&self) -> u32 {
        self.loan.recall().map_or(0, |(units, _)| units)
    }

    /// From now on it wants so many units.
    pub(crate) fn want(&mut self, units: u32) {
        self.want = units;
        self.loan.want(units);
    }

    /// Asks for a session with the slave's boot `epoch`. A wrong one is refused, and the answer has the right one.
    fn open(&mut self, epoch: u64) {
        let pair = |qpn| PairEnd { qpn, psn: Psn::new(qpn), read_depth: 16, rnr_timer: RnrTimer::new(1) };
        let (pairs, lock) = ([pair(0x100), pair(0x101)], lock_of(&[7; 16]));
        let proposal = Proposal { slave_epoch: epoch, pairs, path_mtu: PathMtu::B1024, lock, resume: None };
        self.loan.open(self.master.now(), proposal, UnitSet::EMPTY, self.want);
    }

    /// Takes what came, and sends what is due.
    pub(crate) fn poll(&mut self) {
        self.master.poll();
        let now = self.master.now();
        let mut out = [0; Connect::MAX_LEN];
        for bytes in std::mem::take(&mut self.master.leases) {
            let Some(Ok((_, record))) = Walk::new(&bytes, Scale::default()).next() else { panic!("a record") };
            let reply = (record.header().msg_type() == MsgType::CONNECT_REPLY)
                .then(|| ConnectReply::parse(&record).expect("an answer to CONNECT"));
            let (event, answer) = self.loan.receive(now, &record, &mut out);
            if let Some(len) = answer {
                self.master.send(&out[..len]);
            }
            if let (Some(LoanEvent::Ended(_)), Some(reply), None) = (event, reply, self.epoch) {
                self.epoch = Some(reply.slave_epoch);
                self.open(reply.slave_epoch);
            }
        }
        if self.gives_back && self.recalled() > 0 {
            let back: UnitSet = self.loan.held().iter().take(self.recalled() as usize).collect();
            self.want(self.units() - back.len());
            self.loan.give_back(&back);
        }
        self.loan.advance(now);
        while let Some(len) = self.loan.transmit(now, &mut out) {
            self.master.send(&out[..len]);
        }
    }
}
