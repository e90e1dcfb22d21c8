//! The master's end of one lease.

use crate::counters::LoanCounters;
use crate::key::{ConnectKeys, KeyNumber};
use crate::time::{FIRST_REPETITION, LAST_REPETITION, LEASE, RENEWAL};
use frame::Time;
use frame::time::MILLISECOND;
use std::sync::Arc;
use wire::lease::{
    Connect, ConnectAnswer, ConnectReply, Disconnect, Grant, LeaseEnd, LeaseEnds, PairEnd, Recall, Refusal, SECRET_LEN,
    UnitSet,
};
use wire::link::{Cookie, Role};
use wire::rc::PathMtu;
use wire::{MsgType, Record};

/// How often the end of a lease is said when nobody confirms it.
const FAREWELLS: u32 = 5;

/// How often a message is signed with one key before the other one is tried.
const TRIES_OF_A_KEY: u32 = 2;

/// Whose lease, and of whom.
#[derive(Clone, Debug)]
pub struct LoanConfig {
    /// The slave that lends.
    pub slave: u32,
    /// The master.
    pub master: u16,
    /// Differs after each start of the master: random.
    pub master_epoch: u64,
    /// The connect keys; without one nothing is signed or verified.
    pub keys: ConnectKeys,
}

/// A session that the master proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Proposal {
    /// The boot of the slave, as MEMBERS has it.
    pub slave_epoch: u64,
    /// The own ends of the demand and the bulk queue pair. Their numbers and PSNs are random.
    pub pairs: [PairEnd; 2],
    /// The largest path MTU that the own way allows.
    pub path_mtu: PathMtu,
    /// The lock of a new random secret, which was stored before.
    pub lock: [u8; SECRET_LEN],
    /// The secret of a lease that is to be resumed.
    pub resume: Option<[u8; SECRET_LEN]>,
}

/// Why a loan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoanEnd {
    /// The slave refused, other than with HELD.
    Refused(Refusal),
    /// The slave refused, since it has a lease of an earlier start of this master, or of a second master of this id.
    Held {
        /// How long that lease can still last, in nanoseconds.
        lasts: Time,
        /// The lock of that lease; zeros if the slave does not say it.
        lock: [u8; SECRET_LEN],
    },
    /// The slave did not answer for as long as a lease lasts.
    Silence,
    /// The slave ended it.
    Left(LeaseEnd),
    /// The master ended it, and the slave confirmed it or was silent.
    Done,
}

/// What a message or a deadline changed.
// It is on the stack for the time of one message: a box would allocate for each.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoanEvent {
    /// There is a session. All queue pairs and keys of an earlier one are void.
    Opened {
        /// The session.
        grant: Grant,
        /// Units that the master has from now on. Their bytes are zero.
        gained: UnitSet,
        /// Units that the master had, and has no more.
        lost: UnitSet,
    },
    /// Units came or went, or were recalled; see [`Loan::recall`].
    Changed {
        /// Units that the master has from now on. Their bytes are zero.
        gained: UnitSet,
        /// Units that the master had, and has no more.
        lost: UnitSet,
    },
    /// There is no session any more. [`Loan::held`] says which units a later session can still have.
    Ended(LoanEnd),
}

/// Where a loan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Phase {
    Closed,
    Opening {
        proposal: Proposal,
        cookie: Cookie,
    },
    Open {
        proposal: Proposal,
        session: u64,
        /// Of the newest answer.
        reply_seq: u64,
    },
    Closing {
        slave_epoch: u64,
        session: u64,
    },
}

/// The master's end of a lease: one for each slave and start of the master.
///
/// [`receive`](Self::receive) takes the messages of the slave, [`transmit`](Self::transmit) gives what is to be sent,
/// and [`advance`](Self::advance) notices silence; both at [`deadline`](Self::deadline) or later.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Loan {
    config: LoanConfig,
    phase: Phase,
    /// Of the CONNECT sent last.
    seq: u64,
    /// The units that the master uses.
    held: UnitSet,
    /// The units that it has given back since the last CONNECT: that CONNECT kept them, too.
    given_back: UnitSet,
    want: u32,
    /// What the last CONNECT wanted.
    asked: u32,
    recall: Option<(u32, Time)>,
    /// When the last CONNECT was sent first.
    sent: Time,
    /// Whether it is answered.
    answered: bool,
    /// The key that signs what is sent: the one that signed the last answer, until there is none to that.
    signer: KeyNumber,
    /// How often it was sent, and when it is sent next, and how long to wait after that.
    tries: u32,
    next: Time,
    wait: Time,
    /// The lease lasts from here on: when the last CONNECT that was answered was sent.
    alive: Time,
    counters: Arc<LoanCounters>,
}

impl Loan {
    /// A loan that is not open. Loans of one lcore share their counters.
    pub fn new(config: LoanConfig, counters: Arc<LoanCounters>) -> Self {
        Self {
            config,
            phase: Phase::Closed,
            seq: 0,
            held: UnitSet::EMPTY,
            given_back: UnitSet::EMPTY,
            want: 0,
            asked: 0,
            recall: None,
            sent: 0,
            answered: true,
            signer: KeyNumber::default(),
            tries: 0,
            next: 0,
            wait: 0,
            alive: 0,
            counters,
        }
    }

    /// The units that the master has, or could have in a lease that it resumes.
    pub fn held(&self) -> &UnitSet {
        &self.held
    }

    /// Whether there is a session.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether there is neither a session nor anything to be sent.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether there is a session, and the slave has answered all that was asked of it: units that are wanted and not
    /// there are such that it did not have.
    pub fn is_settled(&self) -> bool {
        self.is_open() && self.answered && !self.has_news()
    }

    /// How many units the slave wants back, and until when.
    pub fn recall(&self) -> Option<(u32, Time)> {
        self.recall
    }

    /// Opens a session, in place of one that there may be: at first, and when a queue pair failed. `keep` are the
    /// units that the master has in a lease that it resumes; all others are lost.
    pub fn open(&mut self, now: Time, proposal: Proposal, keep: UnitSet, want: u32) {
        self.held = keep;
        (self.want, self.recall, self.alive, self.wait) = (want, None, now, FIRST_REPETITION);
        self.phase = Phase::Opening { proposal, cookie: Cookie::NONE };
        self.ask(now);
    }

    /// Wants so many units in total. Fewer than it has makes no difference: see [`give_back`](Self::give_back).
    pub fn want(&mut self, units: u32) {
        self.want = units;
    }

    /// How many units it wants in total.
    pub fn wanted(&self) -> u32 {
        self.want
    }

    /// Gives units back. The caller uses them no more, and no request on them is outstanding.
    pub fn give_back(&mut self, units: &UnitSet) {
        let given_back = self.held.and(units);
        self.held = self.held.without(&given_back);
        given_back.iter().for_each(|index| self.given_back.insert(index));
    }

    /// Uses other keys from the next message on: both while the cluster changes its key.
    pub fn set_keys(&mut self, keys: ConnectKeys) {
        self.config.keys = keys;
    }

    /// Ends the lease. All its units are lost.
    pub fn close(&mut self, now: Time) {
        self.forget();
        self.phase = match self.phase {
            Phase::Open { proposal, session, .. } => Phase::Closing { slave_epoch: proposal.slave_epoch, session },
            _ => Phase::Closed,
        };
        (self.tries, self.next, self.wait) = (0, now, FIRST_REPETITION);
    }

    fn forget(&mut self) {
        (self.held, self.given_back, self.recall) = (UnitSet::EMPTY, UnitSet::EMPTY, None);
    }

    /// The next CONNECT says what holds now. It is sent at once.
    fn ask(&mut self, now: Time) {
        (self.asked, self.given_back) = (self.want, UnitSet::EMPTY);
        self.seq += 1;
        (self.sent, self.answered, self.tries, self.next) = (now, false, 0, now);
    }

    /// Whether something changed since the last CONNECT.
    fn has_news(&self) -> bool {
        self.want != self.asked || !self.given_back.is_empty()
    }

    /// Writes what is to be sent now into `out`, which has room for [`Connect::MAX_LEN`].
    pub fn transmit(&mut self, now: Time, out: &mut [u8]) -> Option<usize> {
        if self.is_open() && self.answered && (self.has_news() || now >= self.sent + RENEWAL) {
            self.wait = FIRST_REPETITION;
            self.ask(now);
        }
        let (proposal, session, cookie) = match self.phase {
            Phase::Closing { slave_epoch, session } if now >= self.next => {
                self.repeat_later(now);
                let farewell = Disconnect {
                    ends: self.ends(),
                    from: Role::Master,
                    answer: false,
                    reason: LeaseEnd::Done,
                    slave_epoch,
                    master_epoch: self.config.master_epoch,
                    session,
                };
                return farewell.emit(self.key(), out);
            }
            Phase::Opening { proposal, cookie } => (proposal, 0, cookie),
            Phase::Open { proposal, session, .. } => (proposal, session, Cookie::NONE),
            Phase::Closed | Phase::Closing { .. } => return None,
        };
        if self.answered || now < self.next {
            return None;
        }
        self.counters.connects_out.add(1);
        if self.tries > 0 {
            self.counters.connects_out_again.add(1);
        }
        self.repeat_later(now);
        let connect = Connect {
            ends: self.ends(),
            slave_epoch: proposal.slave_epoch,
            master_epoch: self.config.master_epoch,
            seq: self.seq,
            session,
            cookie,
            lock: proposal.lock,
            resume: proposal.resume.filter(|_| session == 0),
            pairs: proposal.pairs,
            path_mtu: proposal.path_mtu,
            want: self.asked,
            keep: self.held.or(&self.given_back),
        };
        connect.emit(self.key(), out)
    }

    /// Something is sent now, and again later. When it was not answered twice, the slave may have the other key.
    fn repeat_later(&mut self, now: Time) {
        if self.tries > 0 && self.tries.is_multiple_of(TRIES_OF_A_KEY) {
            self.signer = self.config.keys.other(self.signer);
        }
        self.tries += 1;
        self.next = now + self.wait;
        self.wait = LAST_REPETITION.min(2 * self.wait);
    }

    /// Notices that the slave was silent for too long.
    pub fn advance(&mut self, now: Time) -> Option<LoanEvent> {
        match self.phase {
            Phase::Opening { .. } | Phase::Open { .. } if now >= self.alive + LEASE => {
                Some(self.end(LoanEnd::Silence, true))
            }
            Phase::Closing { .. } if self.tries >= FAREWELLS && now >= self.next => Some(self.end(LoanEnd::Done, true)),
            _ => None,
        }
    }

    /// When [`advance`](Self::advance) or [`transmit`](Self::transmit) has something to do.
    pub fn deadline(&self) -> Option<Time> {
        let lost = self.alive + LEASE;
        match self.phase {
            Phase::Closed => None,
            Phase::Closing { .. } => Some(self.next),
            Phase::Open { .. } if self.answered && self.has_news() => Some(0),
            Phase::Open { .. } if self.answered => Some(lost.min(self.sent + RENEWAL)),
            Phase::Opening { .. } | Phase::Open { .. } => Some(lost.min(self.next)),
        }
    }

    /// Takes a message of the slave. An answer to it, if there is one, is written into `out`; it has room for
    /// [`Disconnect::LEN`].
    pub fn receive(&mut self, now: Time, record: &Record<'_>, out: &mut [u8]) -> (Option<LoanEvent>, Option<usize>) {
        match record.header().msg_type() {
            MsgType::CONNECT_REPLY => match ConnectReply::parse(record) {
                Ok(reply) => (self.reply(now, record, &reply), None),
                Err(_) => (self.malformed(), None),
            },
            MsgType::DISCONNECT => match Disconnect::parse(record) {
                Ok(disconnect) => self.disconnect(record, &disconnect, out),
                Err(_) => (self.malformed(), None),
            },
            _ => (self.malformed(), None),
        }
    }

    fn malformed(&self) -> Option<LoanEvent> {
        self.counters.replies_dropped_malformed.add(1);
        None
    }

    fn reply(&mut self, now: Time, record: &Record<'_>, reply: &ConnectReply) -> Option<LoanEvent> {
        let ours = reply.ends == self.ends() && reply.master_epoch == self.config.master_epoch;
        let fits = match (self.phase, &reply.answer) {
            (Phase::Opening { proposal, .. }, ConnectAnswer::Granted(_)) => reply.slave_epoch == proposal.slave_epoch,
            (Phase::Open { session, reply_seq, .. }, ConnectAnswer::Granted(grant)) => {
                grant.session == session && reply.reply_seq > reply_seq
            }
            // A refusal is believed only while an answer is expected.
            (Phase::Opening { .. } | Phase::Open { .. }, ConnectAnswer::Refused(_)) => !self.answered,
            (Phase::Closed | Phase::Closing { .. }, _) => false,
        };
        if !ours || reply.seq != self.seq || !fits {
            self.counters.replies_dropped_stale.add(1);
            return None;
        }
        let Some(signer) = self.config.keys.signer(record.bytes()) else {
            self.counters.replies_dropped_forged.add(1);
            return None;
        };
        self.signer = signer;
        self.counters.replies_accepted.add(1);
        match reply.answer {
            ConnectAnswer::Granted(grant) => self.granted(now, reply.reply_seq, grant),
            ConnectAnswer::Refused(Refusal::Cookie) => {
                self.challenged(now, reply.cookie);
                None
            }
            ConnectAnswer::Refused(Refusal::Held) => {
                let lasts = Time::from(reply.lease_ms) * MILLISECOND;
                Some(self.end(LoanEnd::Held { lasts, lock: reply.cookie.0 }, false))
            }
            ConnectAnswer::Refused(refusal) => {
                let is_lost = matches!(refusal, Refusal::Epoch | Refusal::Session | Refusal::Secret);
                Some(self.end(LoanEnd::Refused(refusal), is_lost))
            }
        }
    }

    /// The slave wants a cookie: the first one is used at once, later ones as repetitions are sent.
    fn challenged(&mut self, now: Time, fresh: Cookie) {
        let (next, wait) = (self.next, self.wait);
        if let Phase::Opening { cookie, .. } = &mut self.phase {
            let is_first = cookie.is_none();
            *cookie = fresh;
            self.ask(now);
            if !is_first {
                (self.next, self.wait) = (next.max(now), wait);
            }
        }
    }

    fn granted(&mut self, now: Time, reply_seq: u64, grant: Grant) -> Option<LoanEvent> {
        let is_new = match &mut self.phase {
            Phase::Opening { proposal, .. } => {
                self.phase = Phase::Open { proposal: *proposal, session: grant.session, reply_seq };
                true
            }
            Phase::Open { reply_seq: newest, .. } => {
                *newest = reply_seq;
                false
            }
            Phase::Closed | Phase::Closing { .. } => return None,
        };
        if !self.answered {
            (self.answered, self.alive) = (true, self.sent);
        }
        let has = grant.units.without(&self.given_back);
        let (gained, lost) = (has.without(&self.held), self.held.without(&has));
        self.counters.units_lost.add(lost.len().into());
        self.held = has;
        let Recall { units, within_ms } = grant.recall;
        let recall = (units > 0).then(|| (units, now + Time::from(within_ms) * MILLISECOND));
        let is_other_recall = recall.map(|(units, _)| units) != self.recall.map(|(units, _)| units);
        self.recall = recall;
        if is_new {
            Some(LoanEvent::Opened { grant, gained, lost })
        } else if is_other_recall || !gained.is_empty() || !lost.is_empty() {
            Some(LoanEvent::Changed { gained, lost })
        } else {
            None
        }
    }

    fn disconnect(
        &mut self,
        record: &Record<'_>,
        disconnect: &Disconnect,
        out: &mut [u8],
    ) -> (Option<LoanEvent>, Option<usize>) {
        let ours = disconnect.ends == self.ends()
            && disconnect.master_epoch == self.config.master_epoch
            && disconnect.from == Role::Slave;
        if !ours {
            self.counters.replies_dropped_stale.add(1);
            return (None, None);
        }
        let Some(signer) = self.config.keys.signer(record.bytes()) else {
            self.counters.replies_dropped_forged.add(1);
            return (None, None);
        };
        self.signer = signer;
        let event = match self.phase {
            Phase::Open { session, .. } if session == disconnect.session && !disconnect.answer => {
                Some(self.end(LoanEnd::Left(disconnect.reason), true))
            }
            Phase::Closing { session, .. } if session == disconnect.session => Some(self.end(LoanEnd::Done, true)),
            _ => None,
        };
        if disconnect.answer {
            return (event, None);
        }
        let answer = Disconnect { from: Role::Master, answer: true, ..*disconnect };
        (event, answer.emit(self.key(), out))
    }

    fn end(&mut self, end: LoanEnd, is_lost: bool) -> LoanEvent {
        self.phase = Phase::Closed;
        if is_lost {
            self.counters.units_lost.add(self.held.len().into());
            self.forget();
        }
        LoanEvent::Ended(end)
    }

    /// All that decides what it will do, for tests that visit states; other than the number of the newest answer,
    /// which is returned.
    #[cfg(test)]
    pub(crate) fn hash(&self, hasher: &mut impl std::hash::Hasher) -> u64 {
        use std::hash::Hash;
        let (mut phase, mut newest) = (self.phase, 0);
        if let Phase::Open { reply_seq, .. } = &mut phase {
            newest = std::mem::take(reply_seq);
        }
        (self.config.master_epoch, phase, self.seq, self.held, self.given_back, self.want, self.asked).hash(hasher);
        (self.recall, self.sent, self.answered, self.tries, self.next, self.wait, self.alive).hash(hasher);
        self.signer.hash(hasher);
        newest
    }

    fn ends(&self) -> LeaseEnds {
        LeaseEnds { slave: self.config.slave, master: self.config.master }
    }

    fn key(&self) -> Option<&wire::Key> {
        self.config.keys.get(self.signer)
    }
}
