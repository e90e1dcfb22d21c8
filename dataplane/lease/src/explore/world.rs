//! Two masters and a slave, the messages between them, and all that can happen to them.

use super::parties::{Master, Memory, RECALL, UNITS, WANT, lender, loan};
use crate::lender::Lender;
use crate::loan::{LoanEnd, LoanEvent};
use crate::time::LEASE;
use frame::Time;
use frame::time::SECOND;
use std::hash::{DefaultHasher, Hash, Hasher};
use wire::Record;
use wire::lease::ConnectReply;

/// How often each event may still happen.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Budget {
    pub(super) losses: u8,
    pub(super) repeats: u8,
    pub(super) overtakes: u8,
    /// Repetitions and renewals.
    pub(super) timeouts: u8,
    /// Restarts of the first master with its secrets.
    pub(super) resumes: u8,
    /// Restarts of the first master without them.
    pub(super) forgetful: u8,
    /// Restarts of the first master, which finds its secrets by their locks, and has forgotten all else.
    pub(super) seeded: u8,
    pub(super) slave_restarts: u8,
    /// Nothing happens for as long as a lease lasts.
    pub(super) expiries: u8,
    pub(super) recalls: u8,
    /// The limit is raised to all units again.
    pub(super) raises: u8,
    pub(super) gifts: u8,
    pub(super) closes: u8,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) lender: Lender,
    pub(super) epoch: u64,
    pub(super) memory: Memory,
    pub(super) masters: [Master; 2],
    /// Messages under way to the slave, and to the masters, by master.
    pub(super) down: [Vec<Vec<u8>>; 2],
    pub(super) up: [Vec<Vec<u8>>; 2],
    pub(super) now: Time,
    /// The second master's wire takes no time, and its messages are sent when it is its turn.
    pub(super) instant: bool,
    pub(super) budget: Budget,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// The second master does what is due, over a wire that takes no time.
    Turn,
    Down(usize, usize),
    Up(usize, usize),
    LoseDown(usize),
    LoseUp(usize),
    RepeatDown(usize),
    RepeatUp(usize),
    Scrub,
    Timeout(usize),
    Resume,
    Forget,
    Seed,
    SlaveRestart,
    Expire,
    Recall,
    Raise,
    Collect,
    Give(usize),
    /// The first master ends its lease, and opens another one.
    Close,
}

impl World {
    pub(super) fn new(budget: Budget, instant: bool) -> Self {
        let mut world = Self {
            lender: lender(1),
            epoch: 1,
            memory: Memory::new(),
            masters: [Master::new(0), Master::new(1)],
            down: Default::default(),
            up: Default::default(),
            now: SECOND,
            instant,
            budget,
        };
        for master in &mut world.masters {
            master.open(world.now, 1, false);
        }
        world.send_all();
        world
    }

    /// Of the numbers of answers only the order counts, so it is all that is part of the fingerprint.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut replies = Vec::new();
        self.lender.hash(&mut hasher);
        (self.epoch, &self.memory, &self.down, self.now, self.budget).hash(&mut hasher);
        for master in &self.masters {
            replies.push(master.loan.hash(&mut hasher));
            (master.epoch, master.secrets, master.rkey, &master.wrote, master.waits).hash(&mut hasher);
            master.is_seeded.hash(&mut hasher);
        }
        for bytes in self.up.iter().flatten() {
            let record = Record::first(bytes).expect("what is sent is a record");
            (record.header().msg_type(), record.header().master_id()).hash(&mut hasher);
            match ConnectReply::parse(&record) {
                Ok(reply) => {
                    replies.push(reply.reply_seq);
                    format!("{:?}", ConnectReply { reply_seq: 0, ..reply }).hash(&mut hasher);
                }
                Err(_) => bytes.hash(&mut hasher),
            }
        }
        let rank = |reply: &u64| replies.iter().filter(|other| *other < reply).count();
        replies.iter().map(rank).collect::<Vec<_>>().hash(&mut hasher);
        hasher.finish()
    }

    /// What can happen. Acts that need no budget come first, the ones that bring the world to rest in their order.
    pub(super) fn acts(&self) -> Vec<Act> {
        let (budget, mut acts) = (self.budget, Vec::new());
        for at in 0..2 {
            let reach = |wire: &Vec<Vec<u8>>| if budget.overtakes > 0 { wire.len() } else { wire.len().min(1) };
            acts.extend((0..reach(&self.down[at])).map(|message| Act::Down(at, message)));
            acts.extend((0..reach(&self.up[at])).map(|message| Act::Up(at, message)));
        }
        if self.instant && self.is_due(1) {
            acts.push(Act::Turn);
        }
        if !self.memory.dirty.is_empty() {
            acts.push(Act::Scrub);
        }
        if self.lender.books().recalled > 0 {
            acts.push(Act::Collect);
        }
        for at in 0..2 {
            for (is_there, lose, repeat) in [
                (!self.down[at].is_empty(), Act::LoseDown(at), Act::RepeatDown(at)),
                (!self.up[at].is_empty(), Act::LoseUp(at), Act::RepeatUp(at)),
            ] {
                acts.extend((is_there && budget.losses > 0).then_some(lose));
                acts.extend((is_there && budget.repeats > 0).then_some(repeat));
            }
            // A master without a wire of its own does everything in time.
            let waits = at == 0 && self.masters[at].loan.deadline().is_some();
            acts.extend((budget.timeouts > 0 && waits).then_some(Act::Timeout(at)));
            let can_give = self.masters[at].loan.is_open() && !self.masters[at].wrote.is_empty();
            acts.extend((budget.gifts > 0 && can_give).then_some(Act::Give(at)));
        }
        acts.extend((budget.closes > 0 && self.masters[0].loan.is_open()).then_some(Act::Close));
        acts.extend((budget.resumes > 0).then_some(Act::Resume));
        acts.extend((budget.forgetful > 0).then_some(Act::Forget));
        acts.extend((budget.seeded > 0).then_some(Act::Seed));
        acts.extend((budget.slave_restarts > 0).then_some(Act::SlaveRestart));
        acts.extend((budget.expiries > 0).then_some(Act::Expire));
        acts.extend((budget.recalls > 0 && self.lender.books().leased > 1).then_some(Act::Recall));
        acts.extend((budget.raises > 0 && self.lender.books().limit < UNITS).then_some(Act::Raise));
        acts
    }

    /// Whether a master has something to send.
    fn is_due(&self, at: usize) -> bool {
        self.masters[at].loan.clone().transmit(self.now, &mut [0; 800]).is_some()
    }

    pub(super) fn act(&self, act: Act) -> World {
        let mut next = self.clone();
        next.apply(act);
        next
    }

    fn apply(&mut self, act: Act) {
        match act {
            Act::Down(at, message) => {
                let bytes = self.down[at].remove(message);
                self.budget.overtakes -= u8::from(message > 0);
                self.arrive_down(&bytes);
            }
            Act::Up(at, message) => {
                let bytes = self.up[at].remove(message);
                self.budget.overtakes -= u8::from(message > 0);
                self.arrive_up(at, &bytes);
            }
            Act::Turn => self.send(1),
            Act::LoseDown(at) => drop(self.down[at].remove(0)),
            Act::LoseUp(at) => drop(self.up[at].remove(0)),
            Act::RepeatDown(at) => {
                let copy = self.down[at][0].clone();
                self.down[at].push(copy);
            }
            Act::RepeatUp(at) => {
                let copy = self.up[at][0].clone();
                self.up[at].push(copy);
            }
            Act::Scrub => {
                let unit = self.memory.dirty.remove(0);
                self.memory.words[unit as usize] = 0;
                self.lender.scrubbed(unit);
            }
            Act::Timeout(at) => {
                let deadline = self.masters[at].loan.deadline().expect("it waits");
                self.pass(deadline);
            }
            Act::Resume => {
                let master = &mut self.masters[0];
                master.epoch += 1;
                master.loan = loan(0, master.epoch);
                master.open(self.now, self.epoch, true);
            }
            Act::Forget | Act::Seed => {
                let master = &mut self.masters[0];
                master.epoch += 1;
                (master.loan, master.wrote) = (loan(0, master.epoch), Vec::new());
                master.is_seeded = matches!(act, Act::Seed);
                master.open(self.now, self.epoch, false);
            }
            Act::SlaveRestart => {
                self.epoch += 1;
                (self.lender, self.memory) = (lender(self.epoch), Memory::new());
            }
            Act::Expire => self.pass(self.now + LEASE),
            Act::Recall => {
                let leased = self.lender.books().leased;
                self.lender.set_limit(self.now, leased - 1, RECALL);
            }
            Act::Raise => self.lender.set_limit(self.now, UNITS, RECALL),
            Act::Collect => self.pass(self.now + RECALL),
            Act::Give(at) => self.give(at),
            Act::Close => {
                let master = &mut self.masters[0];
                (master.rkey, master.wrote) = (None, Vec::new());
                master.loan.close(self.now);
            }
        }
        match act {
            Act::LoseDown(_) | Act::LoseUp(_) => self.budget.losses -= 1,
            Act::RepeatDown(_) | Act::RepeatUp(_) => self.budget.repeats -= 1,
            Act::Timeout(_) => self.budget.timeouts -= 1,
            Act::Resume => self.budget.resumes -= 1,
            Act::Forget => self.budget.forgetful -= 1,
            Act::Seed => self.budget.seeded -= 1,
            Act::SlaveRestart => self.budget.slave_restarts -= 1,
            Act::Expire => self.budget.expiries -= 1,
            Act::Recall => self.budget.recalls -= 1,
            Act::Raise => self.budget.raises -= 1,
            Act::Give(_) => self.budget.gifts -= 1,
            Act::Close => self.budget.closes -= 1,
            _ => {}
        }
        self.send_all();
    }

    /// Everybody sends at once what is due: the wire may delay it as long as it likes.
    fn send_all(&mut self) {
        let mut out = [0; 800];
        self.send(0);
        if !self.instant {
            self.send(1);
        }
        while let Some(len) = self.lender.transmit(self.now, &mut out) {
            self.answer(&out[..len]);
        }
        // The wire of the second master may be one that takes no time.
        while self.instant && !(self.down[1].is_empty() && self.up[1].is_empty()) {
            if let Some(bytes) = self.down[1].pop() {
                self.arrive_down(&bytes);
            }
            if let Some(bytes) = self.up[1].pop() {
                self.arrive_up(1, &bytes);
                self.send(1);
            }
        }
    }

    fn send(&mut self, at: usize) {
        let mut out = [0; 800];
        while let Some(len) = self.masters[at].loan.transmit(self.now, &mut out) {
            self.down[at].push(out[..len].to_vec());
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        let master = Record::first(bytes).expect("what is sent is a record").header().master_id();
        self.up[usize::from(master)].push(bytes.to_vec());
    }

    fn arrive_down(&mut self, bytes: &[u8]) {
        let mut out = [0; 800];
        let record = Record::first(bytes).expect("what is sent is a record");
        let before = self.lender.newest();
        if let Some(len) = self.lender.receive(self.now, &record, &mut self.memory, &mut out) {
            self.answer(&out[..len]);
        }
        // What is issued from now on is newer than what was renewed or ended.
        self.now += Time::from(self.lender.newest() != before);
    }

    fn arrive_up(&mut self, at: usize, bytes: &[u8]) {
        let mut out = [0; 800];
        let record = Record::first(bytes).expect("what is sent is a record");
        let (event, answer) = self.masters[at].loan.receive(self.now, &record, &mut out);
        if let Some(len) = answer {
            self.down[at].push(out[..len].to_vec());
        }
        self.happened(at, event);
    }

    /// Time goes on until then, if it is later.
    fn pass(&mut self, until: Time) {
        self.now = self.now.max(until);
        self.lender.advance(self.now, &mut self.memory);
        for at in 0..2 {
            let event = self.masters[at].loan.advance(self.now);
            self.happened(at, event);
        }
    }

    /// A master gives its highest unit back.
    fn give(&mut self, at: usize) {
        let master = &mut self.masters[at];
        if let Some((index, _)) = master.wrote.pop() {
            master.loan.give_back(&[index].into_iter().collect());
        }
    }

    fn happened(&mut self, at: usize, event: Option<LoanEvent>) {
        let (gained, lost) = match event {
            None => return,
            Some(LoanEvent::Opened { grant, gained, lost }) => {
                self.masters[at].rkey = Some(grant.rkey);
                (gained, lost)
            }
            Some(LoanEvent::Changed { gained, lost }) => (gained, lost),
            Some(LoanEvent::Ended(end)) => {
                self.ended(at, end);
                return;
            }
        };
        self.masters[at].wrote.retain(|(index, _)| !lost.contains(*index));
        let rkey = self.masters[at].rkey.expect("there is a session");
        for index in gained.iter() {
            // It may be gone again: then the write fails, and there is nothing to be read.
            if let Some(word) = self.memory.reach(rkey, index) {
                assert_eq!(*word, 0, "a unit that is lent is zero");
                *word = 0x100 * (at as u32 + 1) + u32::from(index);
                let wrote = (index, *word);
                self.masters[at].wrote.push(wrote);
            }
        }
        self.masters[at].wrote.sort_unstable();
    }

    fn ended(&mut self, at: usize, end: LoanEnd) {
        let (now, epoch) = (self.now, self.epoch);
        let master = &mut self.masters[at];
        master.rkey = None;
        if let LoanEnd::Held { lasts, lock } = end {
            match master.find(&lock) {
                Some(secret) => master.take_over(now, epoch, secret),
                None => master.waits = Some(now + lasts + SECOND),
            }
        } else {
            assert!(master.loan.held().is_empty(), "{end:?}");
            master.wrote.clear();
            master.open(now, epoch, false);
        }
    }

    /// What holds in every state.
    pub(super) fn check(&mut self) {
        let books = self.lender.books();
        assert_eq!(books.units, books.free + books.dirty + books.leased);
        assert_eq!(books.recalled, books.leased.saturating_sub(books.limit));
        assert_eq!(books.dirty as usize, self.memory.dirty.len());
        let regions = self.memory.regions.iter().flatten();
        assert_eq!(books.leased as usize, regions.map(|region| region.units.len()).sum::<usize>());
        for at in 0..2 {
            let Some(rkey) = self.masters[at].rkey else { continue };
            if !self.masters[at].loan.is_open() {
                continue;
            }
            for (index, stamp) in self.masters[at].wrote.clone() {
                assert!(self.masters[at].loan.held().contains(index));
                // An error is no harm.
                if let Some(word) = self.memory.reach(rkey, index) {
                    assert_eq!(*word, stamp, "master {at} reads unit {index}");
                }
            }
        }
    }

    /// Whether nothing is under way, and both ends agree.
    pub(super) fn is_at_rest(&self) -> bool {
        let quiet = self.down.iter().chain(&self.up).all(Vec::is_empty) && self.memory.dirty.is_empty();
        let agreed = self
            .masters
            .iter()
            .all(|master| master.loan.is_open() && self.lender.units_of(master.number) == Some(*master.loan.held()));
        let books = self.lender.books();
        let all = books.limit.min(UNITS).min(2 * WANT);
        quiet && agreed && books.recalled == 0 && books.leased == all
    }

    /// The next thing that happens when nothing goes wrong any more.
    fn calm(&self) -> Act {
        let mut quiet = self.clone();
        quiet.budget = Budget::default();
        match quiet.acts().first() {
            Some(act) => *act,
            None => Act::Timeout(0),
        }
    }

    /// Something happens in a world in which nothing goes wrong any more.
    pub(super) fn step_calmly(&mut self) {
        match self.calm() {
            Act::Timeout(_) => {
                let (now, epoch) = (self.now, self.epoch);
                for master in &mut self.masters {
                    if master.waits.is_some_and(|until| until <= now) {
                        master.open(now, epoch, false);
                    }
                }
                let times = self.masters.iter().map(|master| master.loan.deadline().or(master.waits));
                let next = times.chain([self.lender.deadline()]).flatten().min().expect("somebody waits");
                self.pass(next.max(now + 1));
                self.send_all();
            }
            act => self.apply(act),
        }
    }
}
