//! Random clients, and extents that fail, against a model of what each sector may have.
//!
//! A sector has 512 bytes; here it has one number. The model keeps all values that a sector has had, with the times
//! from which and to which a READ may bring them. Fresh extents have rubbish, which no READ may bring.
//!
//! [`kept`] does the same with a map that is kept, and with processes that are killed.

mod kept;

use blockmap::*;
use kept::Kept;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

const SECTOR: u64 = 512;
const E: u64 = EXTENT as u64;

/// The disk of the test: two slots, of which only these sectors at the begin of each are used.
const USED: u64 = 24;

/// A value that fresh extents have.
const RUBBISH: u64 = u64::MAX;

/// A value that a sector may have.
#[derive(Clone, Copy, Debug)]
struct Value {
    value: u64,
    began: u64,
    /// When its write ended; `u64::MAX` while it is under way, and for ever when it failed.
    ended: u64,
    /// When another write replaced it for good.
    gone: u64,
}

#[derive(Clone, Debug)]
enum Act {
    Write {
        slot: u64,
        from: u64,
        count: u64,
    },
    Zeros {
        slot: u64,
        from: u64,
        count: u64,
    },
    Trim {
        slot: u64,
        all: bool,
        from: u64,
        count: u64,
    },
    Read {
        slot: u64,
        from: u64,
        count: u64,
    },
    Reserve {
        slot: u64,
    },
    /// Ends one of the requests under way.
    End {
        which: usize,
        fails: bool,
    },
    Allocate {
        refuse: bool,
    },
    Lose {
        which: usize,
        told: bool,
    },
    Recall {
        which: usize,
    },
    Copy {
        fails: u8,
    },
    /// Ends a write of the map.
    EndKeep {
        which: usize,
        ending: u8,
    },
    AllocateKeep {
        refuse: bool,
    },
    /// An extent of the map is lost, or recalled.
    ReplaceKeep {
        which: usize,
        lost: bool,
    },
    /// What could not be kept is tried again.
    TryAgain,
    /// The process is killed. The number says what becomes of what is under way.
    Kill(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let part = || (0u64..2, 0..USED, 1..USED).prop_map(|(slot, from, count)| (slot, from, count.min(USED - from)));
    prop_oneof![
        6 => part().prop_map(|(slot, from, count)| Act::Write { slot, from, count }),
        2 => part().prop_map(|(slot, from, count)| Act::Zeros { slot, from, count }),
        2 => (part(), any::<bool>()).prop_map(|((slot, from, count), all)| Act::Trim { slot, all, from, count }),
        5 => part().prop_map(|(slot, from, count)| Act::Read { slot, from, count }),
        1 => (0u64..2).prop_map(|slot| Act::Reserve { slot }),
        12 => (any::<usize>(), proptest::bool::weighted(0.08)).prop_map(|(which, fails)| Act::End { which, fails }),
        4 => proptest::bool::weighted(0.1).prop_map(|refuse| Act::Allocate { refuse }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, told)| Act::Lose { which, told }),
        1 => any::<usize>().prop_map(|which| Act::Recall { which }),
        4 => (0u8..8).prop_map(|fails| Act::Copy { fails }),
    ]
}

/// A request of the test.
#[derive(Debug)]
enum Request {
    Write { at: u64, values: Vec<u64>, kind: WriteKind, placed: Option<Placed>, began: u64 },
    Read { at: u64, count: u64, extent: u64, offset: u32, began: u64 },
}

struct World {
    /// Slots from the one of the test to the other.
    stride: u64,
    kept: Option<Kept>,
    map: BlockMap,
    /// What the extents have, by sectors; `None` if lost, and not known to the map yet.
    extents: HashMap<u64, Option<Vec<u64>>>,
    values: HashMap<u64, Vec<Value>>,
    requests: HashMap<u64, Request>,
    wants: Vec<Want>,
    next: u64,
    now: u64,
    /// Slots that had a loss.
    losses: [bool; 2],
}

impl World {
    fn new(stride: u64) -> Self {
        Self {
            stride,
            kept: None,
            map: BlockMap::new((stride + 1) * E, Arc::default()),
            extents: HashMap::new(),
            values: HashMap::new(),
            requests: HashMap::new(),
            wants: Vec::new(),
            next: 1,
            now: 1,
            losses: [false; 2],
        }
    }

    /// Which slot of the test has this byte.
    fn which(&self, at: u64) -> usize {
        (at / E / self.stride) as usize
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn history(&mut self, sector: u64) -> &mut Vec<Value> {
        let first = Value { value: 0, began: 0, ended: 0, gone: u64::MAX };
        self.values.entry(sector).or_insert_with(|| vec![first])
    }

    /// A write of a value began.
    fn begin(&mut self, sector: u64, value: u64) {
        let began = self.now;
        self.history(sector).push(Value { value, began, ended: u64::MAX, gone: u64::MAX });
    }

    /// The write of a value that began then has ended well: what had ended before it began is gone.
    fn commit(&mut self, sector: u64, value: u64, began: u64) {
        let now = self.now;
        for old in self.history(sector) {
            if (old.value, old.began) == (value, began) {
                old.ended = now;
            } else if old.ended < began {
                old.gone = old.gone.min(now);
            }
        }
    }

    /// A READ of the sector that began then brings this value now.
    fn check(&mut self, sector: u64, value: u64, began: u64) {
        let (now, all) = (self.now, self.history(sector).clone());
        let fits = |one: &Value| one.value == value && one.began <= now && one.gone > began;
        assert!(all.iter().any(fits), "sector {sector} has {value} at {began} to {now}: {all:?}");
    }

    fn started(&mut self, id: u64, start: WriteStart) {
        match start {
            WriteStart::Waits => (),
            WriteStart::Go(placed) => {
                let Some(Request::Write { placed: place, .. }) = self.requests.get_mut(&id) else { panic!("{id}") };
                *place = Some(placed);
            }
            WriteStart::Done => self.wrote(id, true),
            WriteStart::Refused(refusal) => {
                let Some(Request::Write { at, .. }) = self.requests.get(&id) else { panic!("{id}") };
                assert!(refusal != MapRefusal::Lost || self.losses[self.which(*at)]);
                self.wrote(id, false);
            }
        }
    }

    /// A write has ended. Its client hears of it when its change is kept.
    fn wrote(&mut self, id: u64, done: bool) {
        let Some(Request::Write { at, .. }) = self.requests.get(&id) else { panic!("{id}") };
        let slot = BlockMap::slot_of(*at);
        if !done || !self.is_to_be_kept(slot, id) {
            self.answered(id, done);
        }
    }

    fn is_to_be_kept(&mut self, slot: u32, id: u64) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        self.map.take_changed().into_iter().for_each(|slot| kept.keeper.note(slot));
        kept.keeper.waits(slot, id)
    }

    /// A write has ended for its client.
    fn answered(&mut self, id: u64, done: bool) {
        let Some(Request::Write { at, values, began, kind, .. }) = self.requests.remove(&id) else { panic!("{id}") };
        if done && kind != WriteKind::Reserve {
            for (sector, value) in (at / SECTOR..).zip(values) {
                self.commit(sector, value, began);
            }
        }
    }

    fn write(&mut self, kind: WriteKind, sector: u64, count: u64) {
        let id = self.fresh();
        let values: Vec<u64> = (0..count).map(|_| if kind == WriteKind::Data { self.fresh() } else { 0 }).collect();
        if kind != WriteKind::Reserve {
            (sector..).zip(&values).for_each(|(sector, value)| self.begin(sector, *value));
        }
        let at = sector * SECTOR;
        self.requests.insert(id, Request::Write { at, values, kind, placed: None, began: self.now });
        let start = self.map.write(id, kind, at, (count * SECTOR) as u32);
        self.started(id, start);
    }

    /// Blocks that lie in the sectors completely become zeros at once; parts of blocks are written.
    fn zeros(&mut self, sector: u64, count: u64, writes: bool) {
        let (first, end) = (sector.next_multiple_of(8), (sector + count) / 8 * 8);
        for whole in first..end {
            self.begin(whole, 0);
        }
        let began = self.now;
        self.map.clear(sector * SECTOR, (count * SECTOR) as u32, false);
        self.cleared((first..end).collect(), began);
        if !writes {
            return;
        }
        if first > end {
            return self.write(WriteKind::Zeros, sector, count);
        }
        for (from, to) in [(sector, first.min(sector + count)), (end.max(sector), sector + count)] {
            if from < to {
                self.write(WriteKind::Zeros, from, to - from);
            }
        }
    }

    /// Sectors that are zeros now, which is acknowledged when it is kept.
    fn cleared(&mut self, sectors: Vec<u64>, began: u64) {
        let id = self.fresh();
        let Some(first) = sectors.first() else { return };
        if self.is_to_be_kept(BlockMap::slot_of(first * SECTOR), id) {
            let kept = self.kept.as_mut().unwrap();
            kept.trims.insert(id, (sectors, began));
        } else {
            sectors.into_iter().for_each(|sector| self.commit(sector, 0, began));
        }
    }

    fn read(&mut self, sector: u64, count: u64) {
        let mut out = Vec::new();
        self.map.look(sector * SECTOR, (count * SECTOR) as u32, &mut out);
        for Stretch { at, len, kind } in out {
            let (sector, count, now) = (at / SECTOR, u64::from(len) / SECTOR, self.now);
            match kind {
                StretchKind::Hole | StretchKind::Zeros => {
                    (sector..sector + count).for_each(|sector| self.check(sector, 0, now));
                }
                StretchKind::Lost => assert!(self.losses[self.which(at)]),
                StretchKind::Data { extent, offset } => {
                    let id = self.fresh();
                    self.map.read_begins(at);
                    self.requests.insert(id, Request::Read { at, count, extent, offset, began: now });
                }
            }
        }
    }

    /// Ends a request that is under way.
    fn end(&mut self, which: usize, fails: bool) {
        let flies = |request: &Request| !matches!(request, Request::Write { placed: None, .. });
        let mut ids: Vec<u64> = self.requests.iter().filter(|(_, one)| flies(one)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let Some(id) = ids.get(which % ids.len().max(1)).copied() else { return };
        match self.requests.get_mut(&id) {
            Some(Request::Write { at, values, placed: place @ Some(_), .. }) => {
                let (placed, at) = (place.take().unwrap(), *at);
                let mut content = vec![0; placed.front as usize / 512];
                content.extend(values.iter());
                content.resize(content.len() + placed.behind as usize / 512, 0);
                let first = placed.offset as usize / 512;
                let ending = match self.extents.get_mut(&placed.extent) {
                    Some(Some(sectors)) => {
                        // A request that fails may be done in part.
                        let count = if fails { content.len() / 2 } else { content.len() };
                        sectors[first..first + count].copy_from_slice(&content[..count]);
                        if fails { Ending::Failed } else { Ending::Done }
                    }
                    // The slave had answered before it was lost.
                    _ if fails => Ending::Done,
                    _ => Ending::Lost,
                };
                match self.map.write_ended(id, at, ending) {
                    WriteEnd::Done => self.wrote(id, true),
                    WriteEnd::Failed => self.wrote(id, false),
                    WriteEnd::Again => (),
                }
            }
            Some(Request::Read { at, count, extent, offset, began }) => {
                let (at, count, extent, offset, began) = (*at, *count, *extent, *offset, *began);
                self.requests.remove(&id);
                let first = offset as usize / 512;
                let content = match self.extents.get(&extent) {
                    Some(Some(sectors)) => Some(sectors[first..first + count as usize].to_vec()),
                    _ => None,
                };
                let lost = content.is_none();
                if let Some(content) = content.filter(|_| !fails) {
                    (at / SECTOR..).zip(content).for_each(|(sector, value)| self.check(sector, value, began));
                }
                let ending = if lost {
                    Ending::Lost
                } else if fails {
                    Ending::Failed
                } else {
                    Ending::Done
                };
                assert!(!lost || self.losses[self.which(at)], "the map freed an extent with a READ under way");
                self.map.read_ended(at, extent, ending);
            }
            _ => panic!("{id} is not under way"),
        }
    }

    fn allocate(&mut self, refuse: bool) {
        self.wants.extend(self.map.take_wanted(9));
        let Some(want) = self.wants.pop() else { return };
        let extent = self.fresh();
        if !refuse {
            self.extents.insert(extent, Some(vec![RUBBISH; USED as usize + 8]));
        }
        self.map.allocated(want, if refuse { Err(MapRefusal::NoSpace) } else { Ok(extent) });
    }

    fn copy(&mut self, fails: u8) {
        self.map.begin_move();
        let Some(step) = self.map.next_copy() else { return };
        let (first, count) = (step.offset as usize / 512, step.len as usize / 512);
        let content = match self.extents.get(&step.from) {
            Some(Some(sectors)) => Some(sectors[first..first + count].to_vec()),
            _ => None,
        };
        let reading = if content.is_none() { Ending::Lost } else { Ending::Done };
        let writing = match (self.extents.get_mut(&step.to), content) {
            (Some(Some(sectors)), Some(content)) if fails != 0 => {
                sectors[first..first + count].copy_from_slice(&content);
                Ending::Done
            }
            (Some(None) | None, Some(_)) => Ending::Lost,
            _ => Ending::Failed,
        };
        self.map.copied(step, reading, writing);
    }

    fn after(&mut self) {
        while let Some(event) = self.map.next_event() {
            self.started(event.write, event.start);
        }
        let freed = match &mut self.kept {
            Some(kept) => {
                self.map.take_changed().into_iter().for_each(|slot| kept.keeper.note(slot));
                for (slot, extent) in self.map.take_freed_of_slots() {
                    kept.keeper.free_later(slot, extent);
                }
                kept.keeper.take_freed()
            }
            None => self.map.take_freed(),
        };
        for extent in freed {
            assert!(self.extents.remove(&extent).is_some(), "extent {extent} is freed twice");
        }
        self.keep();
        self.now += 1;
    }

    fn act(&mut self, act: Act) {
        let stride = self.stride;
        let base = |slot: u64, from: u64| slot * stride * (E / SECTOR) + from;
        match act {
            Act::Write { slot, from, count } => self.write(WriteKind::Data, base(slot, from), count),
            Act::Zeros { slot, from, count } => self.zeros(base(slot, from), count, true),
            Act::Trim { slot, all: true, .. } => {
                let began = self.now;
                (0..USED).for_each(|sector| self.begin(base(slot, sector), 0));
                self.map.clear(slot * stride * E, EXTENT, false);
                self.cleared((0..USED).map(|sector| base(slot, sector)).collect(), began);
            }
            Act::Trim { slot, from, count, .. } => self.zeros(base(slot, from), count, false),
            Act::Read { slot, from, count } => self.read(base(slot, from), count),
            Act::Reserve { slot } => self.write(WriteKind::Reserve, base(slot, 0), USED),
            Act::End { which, fails } => self.end(which, fails),
            Act::Allocate { refuse } => self.allocate(refuse),
            Act::Lose { which, told } => {
                let mut ids: Vec<u64> = self.extents.keys().copied().collect();
                ids.sort_unstable();
                if let Some(id) = ids.get(which % ids.len().max(1)).copied() {
                    self.extents.insert(id, None);
                    // Whose it is the map knows; a target of a move is nobody's yet.
                    self.losses = [true; 2];
                    if told {
                        self.map.lost(id);
                    }
                }
            }
            Act::Recall { which } => {
                let mut ids: Vec<u64> = self.extents.keys().copied().collect();
                ids.sort_unstable();
                if let Some(id) = ids.get(which % ids.len().max(1)) {
                    self.map.recalled(*id);
                }
            }
            Act::Copy { fails } => self.copy(fails),
            Act::EndKeep { which, ending } => self.end_keep(which, ending),
            Act::AllocateKeep { refuse } => self.allocate_keep(refuse),
            Act::ReplaceKeep { which, lost } => self.replace_keep(which, lost),
            Act::TryAgain => self.kept.iter_mut().for_each(|kept| kept.keeper.try_again()),
            Act::Kill(_) => unreachable!("its caller does it"),
        }
        self.after();
    }

    /// All that is under way ends; then all is read, trimmed, and given back.
    fn finish(&mut self) {
        for _ in 0..2000 {
            self.act(Act::Allocate { refuse: false });
            self.act(Act::Copy { fails: 1 });
            self.act(Act::End { which: 0, fails: false });
            self.act(Act::TryAgain);
            self.act(Act::AllocateKeep { refuse: false });
            self.act(Act::EndKeep { which: 0, ending: 9 });
            if self.requests.is_empty()
                && !self.map.wants()
                && self.wants.is_empty()
                && !self.map.moves()
                && !self.is_keeping()
            {
                break;
            }
        }
        assert!(self.requests.is_empty() && !self.map.moves(), "{:?}", self.requests);
        for slot in 0..2 {
            self.act(Act::Read { slot, from: 0, count: USED });
        }
        while !self.requests.is_empty() {
            self.act(Act::End { which: 0, fails: false });
        }
        for slot in 0..2 {
            self.act(Act::Trim { slot, all: true, from: 0, count: 1 });
            let mut out = Vec::new();
            let at = slot * self.stride * E;
            self.map.look(at, EXTENT, &mut out);
            assert_eq!(out, [Stretch { at, len: EXTENT, kind: StretchKind::Hole }]);
        }
        while self.is_keeping() {
            self.act(Act::AllocateKeep { refuse: false });
            self.act(Act::EndKeep { which: 0, ending: 9 });
        }
        assert!(self.extents.is_empty(), "{:?} are not given back", self.extents.keys());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_read_brings_what_was_written_or_fails(acts in proptest::collection::vec(act(), 1..160)) {
        let mut world = World::new(1);
        acts.into_iter().for_each(|act| world.act(act));
        world.finish();
    }
}
