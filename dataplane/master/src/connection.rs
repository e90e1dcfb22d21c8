//! What the master has of one slave: its loan, the session, its units, and the requests that wait for it.

use crate::extents::Extents;
use crate::pending::Waiting;
use crate::request::EXTENTS_PER_UNIT;
use crate::units::Units;
use frame::Time;
use frame::time::{FOREVER, SECOND};
use lease::Loan;
use transport::Qpn;
use wire::lease::{PairEnd, SECRET_LEN};
use wire::rc::PathMtu;

/// How long extents wait for a slave before they get another one, in nanoseconds.
const PATIENCE: Time = SECOND;

/// A session that is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenSession {
    pub(crate) rkey: u32,
    pub(crate) path_mtu: PathMtu,
    /// The path MTU that the way allowed when it was proposed; the slave may have allowed less.
    pub(crate) allowed: PathMtu,
}

/// The own ends of the two queue pairs: those of a session, or proposed for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnPairs {
    pub(crate) qpns: [Qpn; 2],
    pub(crate) ends: [PairEnd; 2],
}

/// One slave that the master has connected to. Its number in the list of connections is the number of its path.
pub(crate) struct Connection {
    pub(crate) slave: u32,
    /// The boot of the slave that the loan is of.
    pub(crate) epoch: u64,
    pub(crate) loan: Loan,
    /// The secret whose lock the slave has. While there is one, a new session resumes the lease.
    pub(crate) secret: Option<[u8; SECRET_LEN]>,
    /// The secret of the session that is being opened, and the path MTU that the way allowed then.
    pub(crate) proposed: [u8; SECRET_LEN],
    pub(crate) allowed: PathMtu,
    pub(crate) pairs: Option<OwnPairs>,
    pub(crate) session: Option<OpenSession>,
    /// A queue pair failed, or the path MTU shrank: the session must be opened anew.
    pub(crate) is_broken: bool,
    /// The session failed because the slave did not answer.
    pub(crate) is_silent: bool,
    /// Since when there has been no session.
    pub(crate) without_session: Time,
    /// When the session is opened again after a refusal, or [`FOREVER`].
    pub(crate) retry_at: Time,
    pub(crate) units: Units,
    /// Requests that no queue pair has, by urgency.
    pub(crate) waiting: [Waiting; 2],
    /// Requests that a session that has ended gave back: they go before those that wait.
    pub(crate) again: [Waiting; 2],
    /// Extents that are promised here, and have no place yet.
    pub(crate) promised: Vec<u32>,
    /// Since when there have been such extents.
    pub(crate) promised_at: Time,
    /// Units that the slave may still keep for this master, which has given them up: it looked gone.
    pub(crate) left_behind: u32,
    /// There was a session, so that no lease of an earlier start of the master is left there.
    pub(crate) was_open: bool,
    /// No extent is promised here until then.
    pub(crate) avoid_until: Time,
    /// The gateway that its cargo takes, and the largest IP packet to the slave, in bytes.
    pub(crate) gateway: Option<usize>,
    pub(crate) mtu: u16,
    /// Since when the way has allowed another path MTU than the session was made for, or [`FOREVER`].
    pub(crate) misfit_since: Time,
    /// It is in the list of those to be looked after.
    pub(crate) is_listed: bool,
}

impl Connection {
    pub(crate) fn new(slave: u32, epoch: u64, loan: Loan) -> Self {
        Self {
            slave,
            epoch,
            loan,
            secret: None,
            proposed: [0; SECRET_LEN],
            allowed: PathMtu::B256,
            pairs: None,
            session: None,
            is_broken: false,
            is_silent: false,
            without_session: 0,
            retry_at: FOREVER,
            units: Units::default(),
            waiting: [Waiting::EMPTY; 2],
            again: [Waiting::EMPTY; 2],
            promised: Vec::new(),
            promised_at: 0,
            left_behind: 0,
            was_open: false,
            avoid_until: 0,
            gateway: None,
            mtu: 0,
            misfit_since: FOREVER,
            is_listed: false,
        }
    }

    /// Units that the extents need that are promised here: a unit has extents of one client.
    pub(crate) fn units_wanted(&self, extents: &Extents) -> u32 {
        let mut clients: Vec<u16> =
            self.promised.iter().filter_map(|extent| Some(extents.get(*extent)?.client)).collect();
        clients.sort_unstable();
        // At most as many as there are extents.
        clients.chunk_by(|a, b| a == b).map(|of_one| (of_one.len() as u32).div_ceil(EXTENTS_PER_UNIT)).sum()
    }

    /// Whether the loan wants what the promised extents need.
    pub(crate) fn has_asked(&self, extents: &Extents) -> bool {
        self.loan.wanted() >= self.units.held() + self.units_wanted(extents)
    }

    /// Whether nothing here is needed by anybody.
    pub(crate) fn is_unused(&self) -> bool {
        let waits = self.waiting.iter().chain(&self.again).any(|list| !list.is_empty());
        self.units.used() == 0 && self.promised.is_empty() && !waits
    }

    /// Whether its place can be given to another slave.
    pub(crate) fn is_vacant(&self) -> bool {
        self.is_unused() && self.units.held() == 0 && self.loan.is_closed() && self.pairs.is_none()
    }

    /// An extent is promised here.
    pub(crate) fn promise(&mut self, now: Time, extent: u32) {
        if self.promised.is_empty() {
            self.promised_at = now;
        }
        self.promised.push(extent);
    }

    /// Whether a promise was not kept for too long: the slave does not answer.
    pub(crate) fn is_late(&self, now: Time) -> bool {
        !self.promised.is_empty() && now >= self.promised_at + PATIENCE
    }

    /// When the loan has something to do, or is to be opened again, or a promise is late.
    pub(crate) fn deadline(&self) -> Time {
        let late = if self.promised.is_empty() { FOREVER } else { self.promised_at + PATIENCE };
        self.loan.deadline().unwrap_or(FOREVER).min(self.retry_at).min(late)
    }
}
