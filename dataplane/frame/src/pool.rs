//! The free chunks of an arena: allocation is a pop, return is a push, both by one lcore alone.

use crate::arena::{Arena, ArenaError, Backing, HUGEPAGE, Hugepages, Placement};
use crate::copy;
use crate::frame::Frame;
use crate::stock::{Stock, release};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Bytes before the data of a fresh frame: room for Ethernet, 802.1Q, IPv6 and UDP headers. With it, the data begins on
/// a cache line.
pub const HEADROOM: u16 = 128;

/// Number of different cache lines at which the data of fresh frames starts, chosen by the chunk's index. Chunks are a
/// power of two apart, as UMEM requires; without this offset all headers would fall into the same few sets of the L1
/// cache.
pub const COLOURS: u32 = 4;

/// Where the data of a fresh frame begins in a chunk.
#[inline]
pub const fn fresh_offset(index: u32) -> u16 {
    HEADROOM + ((index % COLOURS) * 64) as u16
}

/// The largest chunk of a pool, in bytes.
pub const LARGEST_CHUNK: u32 = 32_768;

/// The chunk size for chunks of at least `bytes`: 2048, 4096 or a multiple of 4096, as AF_XDP requires; at most
/// [`LARGEST_CHUNK`].
pub const fn chunk_for(bytes: u32) -> u32 {
    match bytes {
        0..=2048 => 2048,
        2049..LARGEST_CHUNK => bytes.next_multiple_of(4096),
        _ => LARGEST_CHUNK,
    }
}

/// The most bytes that stand before the data of a fresh frame.
const MOST_BEFORE: u32 = HEADROOM as u32 + (COLOURS - 1) * 64;

/// Bytes of a chunk in which any fresh frame has room for `data` bytes of data.
pub const fn chunk_for_data(data: u32) -> u32 {
    chunk_for(data.saturating_add(MOST_BEFORE))
}

/// Bytes of data for which any fresh frame in a chunk of this size has room.
pub const fn payload_room(chunk: u32) -> u32 {
    chunk.saturating_sub(MOST_BEFORE)
}

/// Whether the chunk at a place would lie in two hugepages.
///
/// Two neighbouring hugepages of a process need not be neighbours for a device. Some devices (QEMU's e1000e, igb and
/// vmxnet3) cannot send a packet that lies in both.
const fn straddles(slot: u32, chunk: u32) -> bool {
    let start = slot as usize * chunk as usize;
    start / HUGEPAGE != (start + chunk as usize - 1) / HUGEPAGE
}

/// How many places this many chunks need, without the places that would lie in two hugepages.
fn slots_for(frames: u32, chunk: u32) -> u32 {
    let (mut slots, mut left) = (0, frames);
    while left > 0 {
        left -= u32::from(!straddles(slots, chunk));
        slots += 1;
    }
    slots
}

/// Bytes of the arena for this many chunks: the size that its hugepages must have.
pub fn arena_bytes(frames: u32, chunk: u32) -> u64 {
    u64::from(slots_for(frames, chunk)) * u64::from(chunk)
}

/// The parameters of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Number of chunks.
    pub frames: u32,
    /// Bytes of each chunk, 512 to [`LARGEST_CHUNK`], a multiple of 64. For AF_XDP, use a result of [`chunk_for`].
    pub chunk: u32,
    /// Whether to take hugepages.
    pub hugepages: Hugepages,
    /// Chunks that only [`Pool::alloc_reserved`] may take: so link control can leave when cargo has taken all others.
    pub reserve: u32,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { frames: 16_384, chunk: 2048, hugepages: Hugepages::Prefer, reserve: 256 }
    }
}

/// A handle of one lcore's frames. Clones are handles of the same pool; neither handles nor frames leave their thread.
///
/// The memory lives until the last handle and the last frame are gone, in any order.
pub struct Pool {
    shared: NonNull<Stock>,
}

impl Pool {
    /// Maps an arena and cuts it into chunks.
    ///
    /// # Errors
    /// The error is [`ArenaError::Shape`] when there is no frame, or `chunk` is no multiple of 64 from 512 to 32768. It
    /// is [`ArenaError::Map`] when the kernel has no memory for the arena.
    pub fn new(config: PoolConfig) -> Result<Self, ArenaError> {
        Self::placed(config, Placement::default())
    }

    /// The same, with memory at a chosen place: see [`Arena::placed`].
    ///
    /// # Errors
    /// The error is [`ArenaError::Shape`] when there is no frame, or `chunk` is no multiple of 64 from 512 to 32768.
    /// Else it fails as [`Arena::placed`] does.
    pub fn placed(config: PoolConfig, placement: Placement) -> Result<Self, ArenaError> {
        let PoolConfig { frames, chunk, hugepages, reserve } = config;
        if frames == 0 || !(512..=LARGEST_CHUNK).contains(&chunk) || !chunk.is_multiple_of(64) {
            return Err(ArenaError::Shape { frames, chunk });
        }
        let most = slots_for(frames, chunk);
        let arena = Arena::placed(most as usize * chunk as usize, hugepages, placement)?;
        // On ordinary pages most chunks lie in two of them in any case.
        let whole = arena.backing() == Backing::Hugepages;
        let slots = if whole { most } else { frames };
        tracing::debug!("{frames} frames of {chunk} bytes in an arena of {} bytes on {}", arena.len(), arena.backing());
        let shared = Box::new(Stock {
            base: arena.base(),
            chunk,
            reserve: reserve.min(frames / 4),
            capacity: frames,
            slots,
            handles: Cell::new(1),
            free: (0..slots).filter(|slot| !(whole && straddles(*slot, chunk))).rev().map(Cell::new).collect(),
            top: Cell::new(frames),
            low_water: Cell::new(frames),
            arena,
        });
        Ok(Self { shared: NonNull::from(Box::leak(shared)) })
    }

    #[inline]
    fn shared(&self) -> &Stock {
        // SAFETY: this handle is counted in `handles`, so the box is alive.
        unsafe { self.shared.as_ref() }
    }

    /// A fresh, empty frame for cargo, or `None` when only the reserve is left.
    #[inline]
    pub fn alloc(&self) -> Option<Frame> {
        self.pop(self.shared().reserve)
    }

    /// A fresh, empty frame for link control, or `None` when no chunk at all is left.
    #[inline]
    pub fn alloc_reserved(&self) -> Option<Frame> {
        self.pop(0)
    }

    #[inline]
    fn pop(&self, keep: u32) -> Option<Frame> {
        let shared = self.shared();
        let top = shared.top.get();
        if top <= keep {
            return None;
        }
        let left = top - 1;
        let index = shared.free.get(left as usize)?.get();
        shared.top.set(left);
        // The next chunk to go out: a device had it for a long time, so it is not in the cache.
        if let Some(next) = shared.free.get((left as usize).wrapping_sub(1)) {
            copy::prefetch_lines(self.chunks().address(next.get(), fresh_offset(next.get())), 2);
        }
        if left < shared.low_water.get() {
            shared.low_water.set(left);
        }
        // SAFETY: the index was free, so no other frame owns the chunk; the offset is inside any chunk (512 or more).
        Some(unsafe { self.chunks().frame(index, fresh_offset(index), 0) })
    }

    /// Takes free chunks for a device: as many as there are, and as many as `into` has places for. It takes them in
    /// ascending order of the stack, so that chunks that came back in order go out in order. Returns how many.
    ///
    /// The device now owns them, as after [`Frame::into_index`]: [`Pool::from_index`] takes them back.
    #[inline]
    pub fn take_free(&self, into: &mut [u32]) -> usize {
        let shared = self.shared();
        let top = shared.top.get() as usize;
        let left = top.saturating_sub(into.len());
        let free = shared.free.get(left..top).unwrap_or(&[]);
        for (place, chunk) in into.iter_mut().zip(free) {
            *place = chunk.get();
        }
        shared.top.set(left as u32);
        shared.low_water.set(shared.low_water.get().min(left as u32));
        free.len()
    }

    /// Number of all chunks.
    pub fn capacity(&self) -> u32 {
        self.shared().capacity
    }

    /// One more than the largest number of a chunk: the length of an array indexed by chunk. It is more than
    /// [`Pool::capacity`] if places are left out because a chunk there would lie in two hugepages.
    pub fn slots(&self) -> u32 {
        self.shared().slots
    }

    /// Chunks that are free now.
    #[inline]
    pub fn free(&self) -> u32 {
        self.shared().top.get()
    }

    /// Chunks that cargo may still take: the free ones above the reserve.
    #[inline]
    pub fn spare(&self) -> u32 {
        self.free().saturating_sub(self.shared().reserve)
    }

    /// Chunks that have an owner now.
    pub fn in_use(&self) -> u32 {
        self.capacity() - self.free()
    }

    /// The most chunks that were in use at once.
    pub fn high_water(&self) -> u32 {
        self.capacity() - self.shared().low_water.get()
    }

    /// Bytes of a chunk.
    pub fn chunk(&self) -> u32 {
        self.shared().chunk
    }

    /// Bytes of data for which any fresh frame has room.
    pub fn payload_room(&self) -> u32 {
        payload_room(self.chunk())
    }

    /// What the memory is made of.
    pub fn backing(&self) -> Backing {
        self.shared().arena.backing()
    }

    /// The NUMA node of its memory, if the kernel reports it.
    pub fn node(&self) -> Option<u32> {
        self.shared().arena.node()
    }

    /// First byte of the arena, for registering it as UMEM.
    pub fn base(&self) -> NonNull<u8> {
        self.shared().base
    }

    /// Bytes from the first byte of the first chunk to the last byte of the last chunk, for registering the arena as
    /// UMEM.
    pub fn len(&self) -> usize {
        self.slots() as usize * self.chunk() as usize
    }

    /// Never true: a pool has at least one chunk.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where the chunks are, for a loop over many of them.
    #[inline]
    pub fn chunks(&self) -> Chunks<'_> {
        let shared = self.shared();
        Chunks { shared: self.shared, base: shared.base, chunk: shared.chunk, pool: PhantomData }
    }

    /// Takes back a frame that [`Frame::into_index`] gave to a device.
    ///
    /// # Panics
    /// If the range does not lie inside a chunk: a device that writes outside its frames has already corrupted memory.
    ///
    /// # Safety
    /// `index` came from `into_index` of a frame of this pool, and the device no longer uses it: nobody else owns it.
    #[inline]
    pub unsafe fn from_index(&self, index: u32, offset: u16, len: u16) -> Frame {
        assert!(index < self.slots() && u32::from(offset) + u32::from(len) <= self.chunk());
        // SAFETY: the caller guarantees ownership; the range was checked.
        unsafe { self.chunks().frame(index, offset, len) }
    }
}

/// Where a pool's chunks are: plain values, which stay in registers through a loop over a ring's descriptors.
#[derive(Clone, Copy)]
pub struct Chunks<'a> {
    shared: NonNull<Stock>,
    base: NonNull<u8>,
    chunk: u32,
    pool: PhantomData<&'a Pool>,
}

impl Chunks<'_> {
    /// The address of a chunk's bytes from `offset` on; meaningless for a chunk that does not exist.
    #[inline]
    pub fn address(&self, index: u32, offset: u16) -> *mut u8 {
        self.base.as_ptr().wrapping_add(index as usize * self.chunk as usize + usize::from(offset))
    }

    /// Takes back a frame that [`Frame::into_index`] gave to a device: [`Pool::from_index`] without its check.
    ///
    /// # Safety
    /// `index` came from `into_index` of a frame of this pool, and the device no longer uses it: nobody else owns it.
    /// `offset + len` is inside a chunk.
    #[inline]
    pub unsafe fn frame(&self, index: u32, offset: u16, len: u16) -> Frame {
        debug_assert!(u32::from(offset) + u32::from(len) <= self.chunk);
        // SAFETY: the chunk is inside the arena, and the offset inside the chunk.
        let data = unsafe { self.base.add(index as usize * self.chunk as usize + usize::from(offset)) };
        // A chunk has at most 32,768 bytes.
        let tailroom = (self.chunk as u16).wrapping_sub(offset).wrapping_sub(len);
        // SAFETY: the caller guarantees ownership and range.
        unsafe { Frame::from_parts(self.shared, index, data, len, tailroom) }
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        let handles = &self.shared().handles;
        handles.set(handles.get() + 1);
        Self { shared: self.shared }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let shared = self.shared();
        shared.handles.set(shared.handles.get() - 1);
        // SAFETY: this handle is no longer counted and is not used again.
        unsafe { release(self.shared) };
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("capacity", &self.capacity()).field("free", &self.free()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(frames: u32) -> Pool {
        Pool::new(PoolConfig { frames, hugepages: Hugepages::Never, reserve: 1, ..PoolConfig::default() }).unwrap()
    }

    #[test]
    fn the_most_that_was_in_use_is_remembered() {
        let pool = pool(8);
        let held: Vec<_> = (0..3).filter_map(|_| pool.alloc()).collect();
        drop(held);
        let one = pool.alloc();
        assert_eq!((pool.high_water(), pool.in_use(), one.is_some()), (3, 1, true));
    }

    #[test]
    fn any_fresh_frame_has_the_room_that_its_chunk_promises() {
        let pool = pool(8);
        assert_eq!((payload_room(2048), pool.payload_room(), payload_room(100)), (1728, 1728, 0));
        let frames: Vec<_> = std::iter::from_fn(|| pool.alloc_reserved()).collect();
        let least = frames.iter().map(Frame::tailroom).min();
        assert_eq!(least, Some(1728), "the frame whose data begins last");
        assert_eq!((chunk_for_data(1728), chunk_for_data(1729)), (2048, 4096));
    }

    #[test]
    fn cargo_leaves_the_reserve_to_link_control() {
        let pool = pool(4);
        let held: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
        assert_eq!((held.len(), pool.free(), pool.spare()), (3, 1, 0));
        let link = pool.alloc_reserved().unwrap();
        assert!(pool.alloc_reserved().is_none());
        drop((held, link));
        assert_eq!((pool.free(), pool.in_use(), pool.high_water()), (4, 0, 4));
    }

    #[test]
    fn chunks_taken_for_a_device_come_back() {
        let pool = pool(8);
        let frames: Vec<_> = std::iter::from_fn(|| pool.alloc_reserved()).collect();
        let order: Vec<_> = frames.iter().map(Frame::index).collect();
        drop(frames);
        let mut into = [u32::MAX; 3];
        assert_eq!((pool.take_free(&mut into), &into[..], pool.free()), (3, &order[5..], 5));
        let mut rest = [u32::MAX; 8];
        assert_eq!((pool.take_free(&mut rest), &rest[..5], rest[5]), (5, &order[..5], u32::MAX));
        assert_eq!((pool.free(), pool.high_water(), pool.take_free(&mut rest)), (0, 8, 0));
        for index in order {
            // SAFETY: the chunk was taken above, and nobody else has it.
            drop(unsafe { pool.from_index(index, 0, 0) });
        }
        assert_eq!(pool.free(), 8);
    }

    #[test]
    fn no_chunk_lies_in_two_hugepages_and_none_is_missing() {
        for chunk in [512, 2048, 2176, 4096, 9344, 12_288, 32_768] {
            for frames in [1, 963, 964, 965, 16_384] {
                let slots = slots_for(frames, chunk);
                let whole: Vec<u32> = (0..slots).filter(|slot| !straddles(*slot, chunk)).collect();
                assert_eq!((whole.len() as u32, whole.last()), (frames, Some(&(slots - 1))), "{frames} of {chunk}");
                let within = |slot: &u32| (*slot as usize * chunk as usize) % HUGEPAGE + chunk as usize <= HUGEPAGE;
                assert!(whole.iter().all(within));
                assert_eq!(slots == frames, whole.iter().copied().eq(0..frames));
            }
        }
        assert_eq!([(2048, 2000), (2176, 2000), (4096, 600)].map(|(chunk, n)| slots_for(n, chunk)), [2000, 2002, 600]);
    }

    /// Every chunk is handed out once and comes back, also when places at hugepage borders are left out.
    #[test]
    fn chunks_beside_a_gap_are_ordinary_chunks() {
        let config = PoolConfig { frames: 2000, chunk: 2176, reserve: 0, ..PoolConfig::default() };
        let pool = Pool::new(config).unwrap();
        let gaps = if pool.backing() == Backing::Hugepages { 2 } else { 0 };
        assert_eq!((pool.slots(), pool.capacity(), pool.free()), (2000 + gaps, 2000, 2000));
        assert_eq!(pool.len(), (2000 + gaps as usize) * 2176);
        let frames: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
        let mut numbers: Vec<u32> = frames.iter().map(Frame::index).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((numbers.len(), numbers.last()), (2000, Some(&(pool.slots() - 1))));
        drop(frames);
        assert_eq!(pool.free(), 2000);
    }

    #[test]
    fn frames_of_several_pools_go_back_together() {
        let (one, two) = (pool(8), pool(8));
        let mut burst = crate::Burst::new();
        let peer = crate::Peer::ipv4(crate::PortId(0), [1; 4], 1, crate::Vlan::UNTAGGED, [0; 6]);
        for from in [&one, &one, &two, &one, &two, &two] {
            let frame = from.alloc().unwrap();
            burst.push(crate::Datagram::new(frame, peer, crate::Class::Down, 1)).unwrap();
        }
        let taken = burst.take(3);
        drop(two);
        burst.clear();
        assert_eq!((one.in_use(), burst.len()), (1, 0));
        drop(taken);
        assert_eq!(one.in_use(), 0);
        let frames: Vec<_> = std::iter::from_fn(|| one.alloc_reserved()).collect();
        let chunks: std::collections::HashSet<_> = frames.iter().map(Frame::index).collect();
        assert_eq!((frames.len(), chunks.len()), (8, 8));
    }

    #[test]
    fn frames_outlive_the_last_handle() {
        let pool = pool(8);
        let mut frame = pool.alloc().unwrap();
        drop(pool);
        assert!(frame.append(b"still here"));
        assert_eq!(frame.data(), b"still here");
    }

    #[test]
    fn chunks_are_as_large_as_the_largest_datagram_needs() {
        let sizes = [0, 2048, 2049, 4096, 4097, 9292, 32_768, u32::MAX].map(chunk_for);
        assert_eq!(sizes, [2048, 2048, 4096, 4096, 8192, 12_288, 32_768, 32_768]);
        // The data of an Ethernet packet, and of a jumbo packet.
        assert_eq!([1472, 8972].map(chunk_for_data), [2048, 12_288]);
        // The largest datagram that fits, and the first that does not. The headroom and the largest shift of fresh
        // frames take 320 bytes together.
        assert_eq!([2048 - 320, 2049 - 320].map(chunk_for_data), [2048, 4096]);
        for data in [1472, 2048 - 320, 2049 - 320, 3776, 8972, 31_972] {
            let chunk = chunk_for_data(data);
            let pool =
                Pool::new(PoolConfig { frames: COLOURS, chunk, hugepages: Hugepages::Never, reserve: 0 }).unwrap();
            let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
            assert!(all.iter().all(|frame| frame.tailroom() >= data as usize), "{data}");
        }
    }

    #[test]
    fn a_shape_that_cannot_be_is_refused() {
        assert!(Pool::new(PoolConfig { frames: 0, ..PoolConfig::default() }).is_err());
        assert!(Pool::new(PoolConfig { chunk: 100, ..PoolConfig::default() }).is_err());
    }
}
