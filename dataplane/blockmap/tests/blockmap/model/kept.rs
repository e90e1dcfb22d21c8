//! The same with a map that is kept, and processes that are killed at any time: the next one goes on with what the
//! extents have. What was under way is done then, or done in part, or not at all.

use super::*;

/// The map that is kept.
pub(super) struct Kept {
    pub(super) keeper: MapKeeper,
    /// What its extents have; `None` if lost.
    pub(super) extents: HashMap<u64, Option<Vec<u8>>>,
    pub(super) flying: Vec<KeepWrite>,
    pub(super) asked: bool,
    /// Trims and zeros that wait: their sectors, and when they began.
    pub(super) trims: HashMap<u64, (Vec<u64>, u64)>,
    /// What an extent had that was freed: the next one begins with it.
    pub(super) rubbish: Vec<u8>,
    pub(super) has_loss: bool,
    /// Extents that the server was told to free, and has not freed yet.
    pub(super) leaving: Vec<u64>,
}

/// Where a write is torn: behind its checksum and a few bits of its first slot.
const TORN: usize = 50;

/// With a map that is kept.
fn kept_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        40 => act(),
        20 => (any::<usize>(), 0u8..40).prop_map(|(which, ending)| Act::EndKeep { which, ending }),
        3 => proptest::bool::weighted(0.1).prop_map(|refuse| Act::AllocateKeep { refuse }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, lost)| Act::ReplaceKeep { which, lost }),
        1 => Just(Act::TryAgain),
        3 => any::<u64>().prop_map(Act::Kill),
    ]
}

impl World {
    /// The same with a map that is kept.
    fn kept(stride: u64) -> Self {
        let mut this = Self::new(stride);
        let mut keeper = MapKeeper::new(this.map.size());
        keeper.begin();
        this.kept = Some(Kept {
            keeper,
            extents: HashMap::new(),
            flying: Vec::new(),
            asked: false,
            trims: HashMap::new(),
            rubbish: vec![0; EXTENT as usize],
            has_loss: false,
            leaving: Vec::new(),
        });
        this.after();
        this.act(Act::AllocateKeep { refuse: false });
        this.act(Act::EndKeep { which: 0, ending: 9 });
        this
    }

    /// What follows for the map that is kept.
    pub(super) fn keep(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        kept.asked |= !kept.asked && kept.keeper.take_wanted();
        while let Some(write) = kept.keeper.next_write(&self.map) {
            kept.flying.push(write);
        }
        kept.leaving.extend(kept.keeper.take_freed_of_map());
        while let Some(KeepEvent { id, refusal }) = self.kept.as_mut().unwrap().keeper.next_event() {
            match self.kept.as_mut().unwrap().trims.remove(&id) {
                Some((sectors, began)) if refusal.is_none() => {
                    sectors.into_iter().for_each(|sector| self.commit(sector, 0, began));
                }
                Some(_) => (),
                None => self.answered(id, refusal.is_none()),
            }
        }
    }

    /// Stores bytes of a write of the map: all of them, or the first ones.
    fn store(kept: &mut Kept, write: &KeepWrite, len: usize) -> bool {
        let Some(Some(bytes)) = kept.extents.get_mut(&write.extent) else { return false };
        bytes[write.offset as usize..][..len].copy_from_slice(&write.bytes[..len]);
        true
    }

    pub(super) fn end_keep(&mut self, which: usize, ending: u8) {
        let Some(kept) = &mut self.kept else { return };
        if kept.flying.is_empty() {
            return;
        }
        let write = kept.flying.remove(which % kept.flying.len());
        let len = if ending == 0 { TORN } else { write.bytes.len() };
        let ending = match Self::store(kept, &write, len) {
            true if ending == 0 => Ending::Failed,
            true => Ending::Done,
            false => Ending::Lost,
        };
        kept.keeper.wrote(&write, ending);
    }

    pub(super) fn allocate_keep(&mut self, refuse: bool) {
        let extent = self.fresh();
        let Some(kept) = &mut self.kept else { return };
        for extent in std::mem::take(&mut kept.leaving) {
            let content = kept.extents.remove(&extent).expect("it is freed twice");
            kept.rubbish = content.unwrap_or_else(|| kept.rubbish.clone());
        }
        if std::mem::take(&mut kept.asked) {
            if !refuse {
                kept.extents.insert(extent, Some(kept.rubbish.clone()));
            }
            kept.keeper.allocated(if refuse { Err(MapRefusal::NoSpace) } else { Ok(extent) });
        }
    }

    pub(super) fn replace_keep(&mut self, which: usize, lost: bool) {
        let Some(kept) = &mut self.kept else { return };
        let mut ids: Vec<u64> = kept.extents.keys().copied().collect();
        ids.sort_unstable();
        let Some(id) = ids.get(which % ids.len().max(1)) else { return };
        if lost {
            kept.has_loss = true;
            kept.extents.insert(*id, None);
        }
        kept.keeper.replace(*id);
    }

    /// The process is killed, and another one goes on. False if the map is lost with its extent.
    fn kill(&mut self, fates: u64) -> bool {
        let Some(mut kept) = self.kept.take() else { return true };
        let mut turn = 0;
        let mut fate = || {
            turn = (turn + 7) % 64;
            fates.rotate_right(turn) % 3
        };
        let mut requests: Vec<_> = std::mem::take(&mut self.requests).into_iter().collect();
        requests.sort_unstable_by_key(|(id, _)| *id);
        for (_, request) in requests {
            let Request::Write { values, placed: Some(placed), .. } = request else { continue };
            let mut content = vec![0; placed.front as usize / 512];
            content.extend(values);
            content.resize(content.len() + placed.behind as usize / 512, 0);
            let count = [0, content.len() / 2, content.len()][fate() as usize];
            if let Some(Some(sectors)) = self.extents.get_mut(&placed.extent) {
                sectors[placed.offset as usize / 512..][..count].copy_from_slice(&content[..count]);
            }
        }
        for write in std::mem::take(&mut kept.flying) {
            let len = [0, TORN, write.bytes.len()][fate() as usize];
            Self::store(&mut kept, &write, len);
        }
        kept.leaving.clear();
        kept.trims.clear();
        self.wants.clear();
        kept.asked = false;
        let mut reader = MapReader::new(self.map.size());
        for (extent, bytes) in &kept.extents {
            match bytes {
                Some(bytes) => reader.take(*extent, bytes).unwrap(),
                None => reader.take_lost(*extent),
            }
        }
        assert!(!reader.is_empty() || self.extents.is_empty(), "there are extents, and no map");
        let restored = match reader.finish() {
            Ok(restored) => restored,
            Err(no_map) => {
                assert!(no_map == NoMap::Lost && kept.has_loss, "{no_map:?}");
                return false;
            }
        };
        self.map = BlockMap::new(self.map.size(), Arc::default());
        let extents: Vec<u64> = self.extents.keys().copied().collect();
        for unused in restored.fill(&mut self.map, &extents) {
            self.extents.remove(&unused);
        }
        for unused in &restored.unused {
            kept.extents.remove(unused);
        }
        kept.keeper = restored.keeper;
        kept.keeper.begin();
        self.kept = Some(kept);
        let lost = self.extents.iter().filter(|(_, content)| content.is_none()).map(|(id, _)| *id);
        for id in lost.collect::<Vec<_>>() {
            self.map.lost(id);
        }
        true
    }

    /// Acts, as long as there is a map.
    fn all(&mut self, acts: Vec<Act>) -> bool {
        for act in acts {
            match act {
                Act::Kill(fates) if !self.kill(fates) => return false,
                Act::Kill(_) => self.after(),
                act => self.act(act),
            }
        }
        true
    }

    pub(super) fn is_keeping(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.asked || !kept.flying.is_empty() || !kept.trims.is_empty())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// In one page of the map, in two pages, and in two extents of it.
    #[test]
    fn what_was_acknowledged_outlives_its_process(
        acts in proptest::collection::vec(kept_act(), 1..240),
        stride in prop::sample::select(vec![1u64, 28, 7140]), fates in proptest::collection::vec(any::<u64>(), 2)) {
        let mut world = World::kept(stride);
        let read = |slot: u64| Act::Read { slot, from: 0, count: USED };
        let lives = world.all(acts) && world.all(vec![Act::Kill(fates[0]), read(0), read(1)]);
        if lives {
            world.finish();
            prop_assert!(world.kill(fates[1]));
            for slot in 0..2 {
                let mut out = Vec::new();
                let at = slot * stride * E;
                world.map.look(at, EXTENT, &mut out);
                prop_assert_eq!(out, [Stretch { at, len: EXTENT, kind: StretchKind::Hole }]);
            }
        }
    }
}
