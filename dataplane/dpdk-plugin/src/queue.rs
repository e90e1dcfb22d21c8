//! Queues: called by the lcore that polls them.

use crate::library::outcome;
use dpdk_sys::{shim_arena, shim_counts, shim_frame, shim_queue};
use port_abi::{Exchange, Frame, Queue, QueueCounts, QueueSetup, Text};
use std::mem::offset_of;

// The host reads what the shim writes.
const _: () = assert!(
    size_of::<Frame>() == size_of::<shim_frame>()
        && offset_of!(Frame, chunk) == offset_of!(shim_frame, chunk)
        && offset_of!(Frame, offset) == offset_of!(shim_frame, offset)
        && offset_of!(Frame, len) == offset_of!(shim_frame, len)
        && offset_of!(Frame, flags) == offset_of!(shim_frame, flags)
        && port_abi::BURST == dpdk_sys::SHIM_BURST as usize
        && port_abi::CHECKSUM_GOOD == dpdk_sys::SHIM_CHECKSUM_GOOD
        && port_abi::CHECKSUM_BAD == dpdk_sys::SHIM_CHECKSUM_BAD
        && port_abi::CHECKSUM_FILL == dpdk_sys::SHIM_CHECKSUM_FILL
        && port_abi::TAGGED == dpdk_sys::SHIM_TAGGED
);

pub(crate) unsafe extern "C" fn open(
    device: u16,
    setup: *const QueueSetup,
    into: *mut *mut Queue,
    text: *mut Text,
) -> i32 {
    // SAFETY: the host's structure.
    let Some(setup) = (unsafe { setup.as_ref() }) else { return -22 };
    let arena =
        shim_arena { base: setup.base, len: setup.len, page: setup.page, chunk: setup.chunk, chunks: setup.chunks };
    let mut error = 0;
    // SAFETY: the host's arena stays mapped as long as the queue has one of its chunks.
    let queue = unsafe {
        dpdk_sys::shim_queue_new(
            device,
            setup.number,
            &raw const arena,
            setup.cache,
            setup.node,
            setup.copies,
            &raw mut error,
        )
    };
    if queue.is_null() {
        // SAFETY: the host's text.
        return unsafe { outcome(-error, "no memory for its buffers", text) };
    }
    // SAFETY: the host's chunks, which are not written to, because nothing is to come back.
    unsafe { dpdk_sys::shim_exchange(queue, setup.given.cast_mut(), setup.given_count, 0, 0) };
    // SAFETY: the queue was made above.
    let result = unsafe { dpdk_sys::shim_queue_setup(queue, setup.rx_descriptors, setup.tx_descriptors, setup.node) };
    // Also after an error: the host takes its chunks back, and closes the queue.
    // SAFETY: the host's pointer.
    unsafe { *into = queue.cast() };
    // SAFETY: the host's text.
    unsafe { outcome(result, "its queue cannot be set up", text) }
}

pub(crate) unsafe extern "C" fn rx_burst(queue: *mut Queue, frames: *mut Frame, room: u16) -> u16 {
    // SAFETY: a queue of `open`; room for so many frames, of the same layout.
    unsafe { dpdk_sys::shim_rx(queue.cast::<shim_queue>(), frames.cast::<shim_frame>(), room) }
}

pub(crate) unsafe extern "C" fn tx_burst(queue: *mut Queue, frames: *const Frame, count: u16) -> u16 {
    // SAFETY: a queue of `open`; so many frames, of the same layout, in chunks that the host has.
    unsafe { dpdk_sys::shim_tx(queue.cast::<shim_queue>(), frames.cast::<shim_frame>(), count) }
}

pub(crate) unsafe extern "C" fn exchange(queue: *mut Queue, exchange: *mut Exchange) -> u32 {
    let queue = queue.cast::<shim_queue>();
    // SAFETY: the host's structure, with room for so many chunks.
    let Some(exchange) = (unsafe { exchange.as_mut() }) else { return 0 };
    // SAFETY: a queue of `open`.
    unsafe {
        let back = dpdk_sys::shim_exchange(queue, exchange.chunks, exchange.given, exchange.room, exchange.keep);
        exchange.level = dpdk_sys::shim_level(queue);
        back
    }
}

pub(crate) unsafe extern "C" fn tidy(queue: *mut Queue) {
    // SAFETY: a queue of `open`.
    unsafe { dpdk_sys::shim_tidy(queue.cast()) }
}

pub(crate) unsafe extern "C" fn flush(queue: *mut Queue, all: u8) {
    // SAFETY: a queue of `open`; for all, nobody else uses it.
    unsafe { dpdk_sys::shim_flush(queue.cast(), all) }
}

pub(crate) unsafe extern "C" fn counts(queue: *const Queue, counts: *mut QueueCounts) {
    let mut of_shim = shim_counts::default();
    // SAFETY: a queue of `open`, and a live structure.
    unsafe { dpdk_sys::shim_queue_counts(queue.cast(), &raw mut of_shim) };
    // SAFETY: the host's structure.
    if let Some(counts) = unsafe { counts.as_mut() } {
        *counts = QueueCounts {
            copied: of_shim.rx_copied,
            too_long: of_shim.rx_too_long,
            no_chunk: of_shim.rx_no_chunk,
            starved: of_shim.rx_starved,
        };
    }
}

pub(crate) unsafe extern "C" fn close(queue: *mut Queue) {
    // SAFETY: a queue of `open` that the host does not use again.
    unsafe { dpdk_sys::shim_queue_free(queue.cast()) }
}

pub(crate) unsafe extern "C" fn rehearse(frames: *mut Frame, count: u16) -> u16 {
    for i in 0..count {
        // SAFETY: the host has room for so many.
        unsafe { frames.add(usize::from(i)).write(Frame { chunk: u32::from(i), offset: 128, len: 64, flags: 0 }) };
    }
    count
}
