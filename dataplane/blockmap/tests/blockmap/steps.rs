//! One thing at a time.

use blockmap::*;
use std::sync::Arc;

const B: u64 = BLOCK as u64;
const E: u64 = EXTENT as u64;

fn map() -> BlockMap {
    BlockMap::new(3 * E + 8 * B, Arc::default())
}

fn kinds(map: &BlockMap, at: u64, len: u64) -> Vec<(u64, StretchKind)> {
    let mut out = Vec::new();
    map.look(at, len as u32, &mut out);
    assert_eq!(out.iter().map(|stretch| u64::from(stretch.len)).sum::<u64>(), len);
    out.iter().map(|stretch| (stretch.at, stretch.kind)).collect()
}

/// A map whose first slot has extent 7 with blocks 1 and 2.
fn with_blocks() -> BlockMap {
    let mut map = map();
    assert_eq!(map.write(1, WriteKind::Data, B, 2 * B as u32), WriteStart::Waits);
    assert_eq!(map.take_wanted(9), [Want::Slot(0)]);
    map.allocated(Want::Slot(0), Ok(7));
    let placed = Placed { extent: 7, offset: B as u32, front: 0, behind: 0 };
    assert_eq!(map.next_event(), Some(MapEvent { write: 1, start: WriteStart::Go(placed) }));
    // Not before it has ended.
    assert_eq!(kinds(&map, 0, 4 * B), [(0, StretchKind::Zeros)]);
    assert_eq!(map.write_ended(1, B, Ending::Done), WriteEnd::Done);
    map
}

#[test]
fn an_extent_is_there_from_the_first_write_to_the_last_trim() {
    let mut map = with_blocks();
    let data = StretchKind::Data { extent: 7, offset: B as u32 };
    assert_eq!(kinds(&map, 0, E), [(0, StretchKind::Zeros), (B, data), (3 * B, StretchKind::Zeros)]);
    assert_eq!(kinds(&map, E, E), [(E, StretchKind::Hole)]);
    map.clear(B + 512, 2 * B as u32 - 512, false);
    assert_eq!(kinds(&map, 0, 4 * B), [(0, StretchKind::Zeros), (B, data), (2 * B, StretchKind::Zeros)]);
    assert!(map.take_freed().is_empty());
    map.clear(0, EXTENT, false);
    assert_eq!((map.take_freed(), kinds(&map, 0, E)), (vec![7], vec![(0, StretchKind::Hole)]));
}

#[test]
fn a_part_of_an_absent_block_brings_zeros_and_is_alone() {
    let mut map = with_blocks();
    let fill = map.write(2, WriteKind::Data, 5 * B + 512, 512);
    let placed = Placed { extent: 7, offset: 5 * B as u32, front: 512, behind: B as u32 - 1024 };
    assert_eq!(fill, WriteStart::Go(placed));
    // Another write to the block waits, and all writes behind that.
    assert_eq!(map.write(3, WriteKind::Data, 5 * B, B as u32), WriteStart::Waits);
    assert_eq!(map.write(4, WriteKind::Data, 9 * B, B as u32), WriteStart::Waits);
    assert_eq!(map.next_event(), None);
    map.write_ended(2, 5 * B + 512, Ending::Done);
    let started: Vec<u64> = std::iter::from_fn(|| map.next_event()).map(|event| event.write).collect();
    assert_eq!(started, [3, 4]);
    // A part of a present block is written alone.
    let placed = Placed { extent: 7, offset: B as u32 + 512, front: 0, behind: 0 };
    assert_eq!(map.write(5, WriteKind::Data, B + 512, 512), WriteStart::Go(placed));
    // Zeros for a part of an absent block are there already.
    assert_eq!(map.write(6, WriteKind::Zeros, 100 * B + 512, 512), WriteStart::Done);
    assert_eq!(map.write(6, WriteKind::Zeros, E + 512, 512), WriteStart::Done);
}

#[test]
fn what_is_lost_fails_until_it_is_written_or_trimmed() {
    let mut map = with_blocks();
    assert_eq!(map.lost(99), None);
    assert_eq!(map.lost(7), Some(0));
    assert_eq!(map.take_freed(), [7]);
    let lost = [(0, StretchKind::Hole), (B, StretchKind::Lost), (3 * B, StretchKind::Hole)];
    assert_eq!(kinds(&map, 0, 4 * B), lost);
    assert_eq!(map.write(2, WriteKind::Data, B, 512), WriteStart::Refused(MapRefusal::Lost));
    assert_eq!(map.write(2, WriteKind::Zeros, B, 512), WriteStart::Refused(MapRefusal::Lost));
    assert_eq!(map.write(3, WriteKind::Data, B, B as u32), WriteStart::Waits);
    let want = map_want(&mut map);
    map.allocated(want, Ok(8));
    assert!(map.next_event().is_some());
    // Until the write has ended.
    assert_eq!(kinds(&map, B, B), [(B, StretchKind::Lost)]);
    map.write_ended(3, B, Ending::Done);
    assert!(matches!(kinds(&map, B, B)[..], [(_, StretchKind::Data { extent: 8, .. })]));
    map.clear(2 * B, B as u32, false);
    assert_eq!(kinds(&map, 2 * B, B), [(2 * B, StretchKind::Zeros)]);
}

fn map_want(map: &mut BlockMap) -> Want {
    map.take_wanted(1)[0]
}

#[test]
fn a_write_whose_extent_is_lost_goes_to_another_one() {
    let mut map = with_blocks();
    assert!(matches!(map.write(2, WriteKind::Data, 4 * B, B as u32), WriteStart::Go(_)));
    assert!(matches!(map.write(3, WriteKind::Data, B, 512), WriteStart::Go(_)));
    assert_eq!(map.write_ended(2, 4 * B, Ending::Lost), WriteEnd::Again);
    // Only a part of a block that is lost now: also if the slave said that it was done.
    assert_eq!(map.write_ended(3, B, Ending::Done), WriteEnd::Again);
    let refused = WriteStart::Refused(MapRefusal::Lost);
    assert_eq!(map.next_event(), Some(MapEvent { write: 3, start: refused }));
    let want = map_want(&mut map);
    map.allocated(want, Ok(8));
    assert!(matches!(map.next_event(), Some(MapEvent { write: 2, start: WriteStart::Go(Placed { extent: 8, .. }) })));
    assert_eq!(map.write_ended(2, 4 * B, Ending::Done), WriteEnd::Done);
}

#[test]
fn without_memory_what_waits_is_refused() {
    let mut map = map();
    assert_eq!(map.write(1, WriteKind::Data, 0, 512), WriteStart::Waits);
    assert_eq!(map.write(2, WriteKind::Zeros, 0, 512), WriteStart::Waits);
    assert_eq!(map.write(3, WriteKind::Reserve, 0, EXTENT), WriteStart::Waits);
    assert_eq!(map.take_wanted(9).len(), 1);
    map.allocated(Want::Slot(0), Err(MapRefusal::NoSpace));
    let refused = WriteStart::Refused(MapRefusal::NoSpace);
    let all: Vec<_> = std::iter::from_fn(|| map.next_event()).map(|event| event.start).collect();
    assert_eq!(all, [refused, WriteStart::Done, refused]);
    assert_eq!(kinds(&map, 0, E), [(0, StretchKind::Hole)]);
}

#[test]
fn a_reserved_slot_keeps_its_extent_until_it_is_trimmed() {
    let mut map = with_blocks();
    assert_eq!(map.write(2, WriteKind::Reserve, 0, EXTENT), WriteStart::Done);
    map.clear(0, EXTENT, true);
    assert_eq!((map.take_freed().len(), kinds(&map, 0, E)), (0, vec![(0, StretchKind::Zeros)]));
    map.clear(0, EXTENT, false);
    assert_eq!(map.take_freed(), [7]);
    // The last slot is shorter.
    let end = 3 * E;
    assert_eq!(map.write(3, WriteKind::Reserve, end, 8 * B as u32), WriteStart::Waits);
    let want = map_want(&mut map);
    map.allocated(want, Ok(9));
    map.clear(end, 8 * B as u32, false);
    assert_eq!(map.take_freed(), [9]);
}

#[test]
fn an_extent_with_reads_under_way_stays() {
    let mut map = with_blocks();
    map.read_begins(B);
    map.clear(0, EXTENT, false);
    assert!(map.take_freed().is_empty());
    map.read_ended(B, 7, Ending::Done);
    assert_eq!(map.take_freed(), [7]);
}

#[test]
fn a_recalled_extent_is_moved_while_its_writes_wait() {
    let mut map = with_blocks();
    assert!(matches!(map.write(2, WriteKind::Data, 300 * B, 3 * B as u32), WriteStart::Go(_)));
    map.read_begins(B);
    assert_eq!((map.recalled(99), map.recalled(7)), (None, Some(0)));
    let want = map_want(&mut map);
    assert_eq!(want, Want::Move(0));
    map.allocated(want, Ok(8));
    assert_eq!(map.next_copy(), None, "a write is under way");
    assert_eq!(map.write(3, WriteKind::Data, 0, B as u32), WriteStart::Waits);
    map.write_ended(2, 300 * B, Ending::Done);
    let step = |offset: u64, len: u64| CopyStep { from: 7, to: 8, offset: (offset * B) as u32, len: (len * B) as u32 };
    assert_eq!((map.next_copy(), map.next_copy()), (Some(step(1, 2)), None));
    map.copied(step(1, 2), Ending::Done, Ending::Failed);
    assert_eq!(map.next_copy(), Some(step(1, 2)), "again");
    map.copied(step(1, 2), Ending::Done, Ending::Done);
    assert_eq!(map.next_copy(), Some(step(300, 3)));
    assert!(map.is_current(step(300, 3)) && !map.is_current(step(1, 2)));
    // What is trimmed meanwhile stays trimmed.
    map.clear(301 * B, B as u32, false);
    map.copied(step(300, 3), Ending::Done, Ending::Done);
    assert_eq!(map.next_copy(), None);
    assert!(matches!(kinds(&map, B, B)[..], [(_, StretchKind::Data { extent: 8, .. })]));
    assert_eq!(kinds(&map, 301 * B, B), [(301 * B, StretchKind::Zeros)]);
    assert!(matches!(map.next_event(), Some(MapEvent { write: 3, start: WriteStart::Go(Placed { extent: 8, .. }) })));
    assert!(map.take_freed().is_empty(), "a READ is under way");
    map.read_ended(B, 7, Ending::Done);
    assert_eq!((map.take_freed(), map.moves()), (vec![7], false));
}

#[test]
fn an_extent_that_is_lost_while_it_is_moved_is_lost() {
    let mut map = with_blocks();
    map.recalled(7);
    let want = map_want(&mut map);
    map.allocated(want, Ok(8));
    let step = map.next_copy().unwrap();
    map.lost(7);
    assert!(!map.is_current(step) && !map.moves());
    map.copied(step, Ending::Done, Ending::Done);
    let mut freed = map.take_freed();
    freed.sort_unstable();
    assert_eq!((freed, kinds(&map, B, B)), (vec![7, 8], vec![(B, StretchKind::Lost)]));
}

#[test]
fn a_target_that_is_lost_or_missing_is_replaced() {
    let mut map = with_blocks();
    map.recalled(7);
    let want = map_want(&mut map);
    map.allocated(want, Err(MapRefusal::NoSpace));
    assert!(map.moves() && !map.wants());
    map.begin_move();
    let want = map_want(&mut map);
    map.allocated(want, Ok(8));
    let step = map.next_copy().unwrap();
    map.copied(step, Ending::Done, Ending::Lost);
    assert_eq!(map.take_freed(), [8]);
    map.begin_move();
    let want = map_want(&mut map);
    map.allocated(want, Ok(9));
    let step = map.next_copy().unwrap();
    map.copied(step, Ending::Done, Ending::Done);
    assert_eq!((map.next_copy(), map.take_freed()), (None, vec![7]));
    assert!(matches!(kinds(&map, B, B)[..], [(_, StretchKind::Data { extent: 9, .. })]));
}

#[test]
fn without_a_server_all_is_lost_and_what_waits_is_refused() {
    let mut map = with_blocks();
    assert!(matches!(map.write(2, WriteKind::Data, 4 * B, B as u32), WriteStart::Go(_)));
    assert_eq!(map.write(3, WriteKind::Data, E, B as u32), WriteStart::Waits);
    assert_eq!(map.lost_all(), 1);
    assert!(map.take_freed().is_empty());
    let refused = WriteStart::Refused(MapRefusal::NoServer);
    assert_eq!(map.next_event(), Some(MapEvent { write: 3, start: refused }));
    assert_eq!(map.write_ended(2, 4 * B, Ending::Lost), WriteEnd::Again);
    let want = map_want(&mut map);
    map.allocated(want, Err(MapRefusal::NoServer));
    assert_eq!(map.next_event(), Some(MapEvent { write: 2, start: refused }));
    assert_eq!(kinds(&map, 0, 3 * B), [(0, StretchKind::Hole), (B, StretchKind::Lost)]);
}
