//! WRITE_ZEROES: zeros take no memory, and no request to a slave, unless they are a part of a block.

use super::{Engine, Progress};
use crate::request::Trouble;
use blockmap::{BLOCK, EXTENT, StretchKind, WriteKind};

/// Slots of one request that wait for extents at once.
const MOST_RESERVED: u32 = 64;

impl Engine {
    /// WRITE_ZEROES: whole blocks become absent, parts of blocks are written.
    pub(super) fn write_zeros(&mut self, id: u64, from: u64, no_hole: bool, fast: bool) -> (u64, Progress) {
        let Some(request) = self.requests.get_mut(id) else { return (from, Progress::Begun) };
        let (offset, end, block) = (request.offset, request.end(), u64::from(BLOCK));
        if from == offset {
            let (first, last) = (offset.next_multiple_of(block), end / block * block);
            let edges =
                if first > last { [(offset, end), (end, end)] } else { [(offset, first), (last.max(offset), end)] };
            if fast && first >= last && edges.iter().any(|edge| self.has_data(*edge)) {
                self.fail(id, Trouble::NOT_FASTER);
                return (end, Progress::Begun);
            }
            if !self.write_edges(id, edges) {
                return (from, Progress::NoBuffers);
            }
            Self::slots(offset, end, |at, len| {
                let keeps = no_hole && self.map.is_reserved(at);
                self.map.clear(at, len, keeps);
            });
            self.keep_slots(id, offset, end);
        }
        if !no_hole {
            return (end, Progress::Begun);
        }
        let mut at = from;
        while at < end {
            if self.requests.get_mut(id).is_none_or(|request| request.left > MOST_RESERVED) {
                return (at, Progress::Later);
            }
            let next = end.min((at / u64::from(EXTENT) + 1) * u64::from(EXTENT));
            self.write_piece(id, WriteKind::Reserve, at, (next - at) as u32, None);
            at = next;
        }
        (end, Progress::Begun)
    }

    pub(super) fn has_data(&mut self, (from, to): (u64, u64)) -> bool {
        if from == to {
            return false;
        }
        let stretches = self.look(from, to);
        let has = stretches.iter().any(|stretch| matches!(stretch.kind, StretchKind::Data { .. } | StretchKind::Lost));
        self.stretches = stretches;
        has
    }

    /// Writes zeros to parts of blocks that are not absent. False if there are no buffers.
    pub(super) fn write_edges(&mut self, id: u64, edges: [(u64, u64); 2]) -> bool {
        let needed: Vec<(u64, u64)> = edges.into_iter().filter(|edge| self.has_data(*edge)).collect();
        if !needed.is_empty() && self.master.client().is_none() {
            self.fail(id, Trouble::LOST);
            return true;
        }
        let mut buffers = Vec::with_capacity(needed.len());
        while buffers.len() < needed.len() {
            let Some(mut pooled) = self.pool.take(self.master.client(), BLOCK as usize) else {
                buffers.into_iter().for_each(|buffer| self.pool.give(buffer));
                return false;
            };
            let _ = pooled.buffer.write_zeros(0, BLOCK as usize);
            buffers.push(pooled);
        }
        for ((from, to), pooled) in needed.into_iter().zip(buffers) {
            self.write_piece(id, WriteKind::Zeros, from, (to - from) as u32, Some(pooled));
        }
        true
    }
}
