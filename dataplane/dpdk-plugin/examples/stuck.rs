//! A plugin whose devices do not return from a call, for tests of gvm-dp in that case: no real NIC does this on demand.
//! It needs neither DPDK nor privileges.
//!
//! A device is `net_stuck0,at=CALL`, where CALL is `receive`, `link`, `count` or `close`. It carries no packet; sent
//! packets are taken and returned. With `at=count` the call returns once the file that GVM_STUCK_UNTIL names exists.
//! With `at=vlan` no call blocks, and the device refuses the first VLAN that it shall take.
#![deny(unsafe_op_in_unsafe_fn)]

use port_abi::{Device, DeviceCounts, Exchange, Frame, Plugin, Queue, QueueCounts, QueueSetup, Setup, Start, Text};
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// The call in which the one device blocks: an index of [`CALLS`].
static STUCK: AtomicU8 = AtomicU8::new(u8::MAX);

/// The calls in which it can block.
const CALLS: [&str; 5] = ["receive", "link", "count", "close", "vlan"];

/// Whether the device blocks in this call.
fn is_stuck_in(call: &str) -> bool {
    CALLS.iter().position(|name| *name == call) == Some(STUCK.load(Ordering::Relaxed).into())
}

/// Does not return if the device blocks in this call.
fn stick(call: &str) {
    let until = std::env::var_os("GVM_STUCK_UNTIL").filter(|_| call == "count");
    while is_stuck_in(call) {
        std::thread::sleep(Duration::from_millis(10));
        if until.as_ref().is_some_and(|file| std::path::Path::new(file).exists()) {
            return;
        }
    }
}

/// The chunks that a queue has.
#[derive(Default)]
struct Chunks {
    waiting: Vec<u32>,
}

/// The plugin's exported entry.
#[unsafe(no_mangle)]
pub extern "C" fn gvm_dp_port_plugin() -> *const Plugin {
    &raw const TABLE
}

static TABLE: Plugin = Plugin {
    magic: port_abi::MAGIC,
    version: port_abi::VERSION,
    layout: port_abi::layout(),
    library,
    start,
    register_thread,
    unregister_thread,
    on_library_thread,
    open,
    configure,
    steer_lanes,
    steer_ports,
    device_start,
    take_vlan,
    device_close,
    link,
    device_counts,
    each_counter,
    queue_open,
    rx_burst,
    tx_burst,
    exchange,
    tidy,
    flush,
    queue_counts,
    queue_close,
    rehearse,
};

unsafe extern "C" fn library() -> *const c_char {
    c"no DPDK at all".as_ptr()
}

unsafe extern "C" fn start(_: *const Start, _: *mut Text) -> i32 {
    0
}

unsafe extern "C" fn register_thread() -> i32 {
    0
}

unsafe extern "C" fn unregister_thread() {}

unsafe extern "C" fn on_library_thread(call: extern "C" fn(*mut c_void), context: *mut c_void) -> i32 {
    let context = context as usize;
    drop(std::thread::spawn(move || call(context as *mut c_void)));
    0
}

unsafe extern "C" fn open(devargs: *const c_char, _: *const c_char, device: *mut Device, text: *mut Text) -> i32 {
    // SAFETY: the host's text ends with a zero.
    let devargs = unsafe { CStr::from_ptr(devargs) }.to_string_lossy();
    let asked = devargs.split(',').find_map(|argument| argument.strip_prefix("at="));
    let Some(at) = asked.and_then(|asked| CALLS.iter().position(|call| *call == asked)) else {
        // SAFETY: the host's text.
        if let Some(text) = unsafe { text.as_mut() } {
            text.set("no call to stick in: at=receive, link, count, close or vlan");
        }
        return -22;
    };
    STUCK.store(at as u8, Ordering::Relaxed);
    let mut found = Device { max_rx_queues: 1, max_tx_queues: 1, mtu: 1500, node: -1, ..Device::default() };
    found.mac = [2, 0, 0, 0, 0, 1];
    found.driver.0[..9].copy_from_slice(b"net_stuck");
    // SAFETY: the host's structure.
    unsafe { device.write(found) };
    0
}

unsafe extern "C" fn configure(_: u16, _: *const Setup, _: *mut Text) -> i32 {
    0
}

unsafe extern "C" fn steer_ports(_: u16, _: u16, _: u16, _: *mut Text) -> i32 {
    -95
}

unsafe extern "C" fn steer_lanes(_: u16, _: u16, _: u16, _: u16, _: *mut Text) -> i32 {
    -95
}

unsafe extern "C" fn device_start(_: u16, _: *mut Text) -> i32 {
    0
}

unsafe extern "C" fn take_vlan(_: u16, vlan: u16, text: *mut Text) -> i32 {
    if !is_stuck_in("vlan") {
        return 0;
    }
    // SAFETY: the host's text.
    if let Some(text) = unsafe { text.as_mut() } {
        text.set(&format!("VLAN {vlan} is refused"));
    }
    -22
}

unsafe extern "C" fn device_close(_: u16, _: *mut Text) -> i32 {
    stick("close");
    0
}

unsafe extern "C" fn link(_: u16, mbits: *mut u32) -> i32 {
    stick("link");
    // SAFETY: the host's number.
    unsafe { mbits.write(1) };
    1
}

unsafe extern "C" fn device_counts(_: u16, _: *mut DeviceCounts) -> i32 {
    0
}

unsafe extern "C" fn each_counter(
    _: u16,
    visit: extern "C" fn(*mut c_void, *const c_char, u64),
    context: *mut c_void,
) -> i32 {
    stick("count");
    visit(context, c"asked".as_ptr(), 1);
    0
}

unsafe extern "C" fn queue_open(_: u16, setup: *const QueueSetup, into: *mut *mut Queue, _: *mut Text) -> i32 {
    // SAFETY: the host's structure.
    let Some(setup) = (unsafe { setup.as_ref() }) else { return -22 };
    // SAFETY: so many chunks.
    let given = unsafe { std::slice::from_raw_parts(setup.given, setup.given_count as usize) };
    let chunks = Box::new(Chunks { waiting: given.to_vec() });
    // SAFETY: the host's pointer.
    unsafe { into.write(Box::into_raw(chunks).cast()) };
    0
}

/// # Safety
/// A queue of `queue_open` that only the caller uses.
unsafe fn chunks<'a>(queue: *mut Queue) -> &'a mut Chunks {
    // SAFETY: the caller guarantees it.
    unsafe { &mut *queue.cast::<Chunks>() }
}

unsafe extern "C" fn rx_burst(_: *mut Queue, _: *mut Frame, _: u16) -> u16 {
    stick("receive");
    0
}

unsafe extern "C" fn tx_burst(queue: *mut Queue, frames: *const Frame, count: u16) -> u16 {
    // SAFETY: so many frames.
    let frames = unsafe { std::slice::from_raw_parts(frames, usize::from(count)) };
    // SAFETY: polled by one thread.
    unsafe { chunks(queue) }.waiting.extend(frames.iter().map(|frame| frame.chunk));
    count
}

unsafe extern "C" fn exchange(queue: *mut Queue, exchange: *mut Exchange) -> u32 {
    // SAFETY: polled by one thread; the host's structure, with room for so many chunks.
    let (chunks, exchange) = unsafe { (chunks(queue), &mut *exchange) };
    // SAFETY: as above.
    let room = unsafe { std::slice::from_raw_parts_mut(exchange.chunks, exchange.room.max(exchange.given) as usize) };
    chunks.waiting.extend(&room[..exchange.given as usize]);
    let surplus = chunks.waiting.len().saturating_sub(exchange.keep as usize);
    let back = surplus.min(exchange.room as usize);
    for place in &mut room[..back] {
        *place = chunks.waiting.pop().unwrap_or_default();
    }
    exchange.level = chunks.waiting.len() as u32;
    back as u32
}

unsafe extern "C" fn tidy(_: *mut Queue) {}

unsafe extern "C" fn flush(_: *mut Queue, _: u8) {}

unsafe extern "C" fn queue_counts(_: *const Queue, counts: *mut QueueCounts) {
    // SAFETY: the host's structure.
    unsafe { counts.write(QueueCounts::default()) };
}

unsafe extern "C" fn queue_close(queue: *mut Queue) {
    // SAFETY: made by `queue_open`, and not used again.
    drop(unsafe { Box::from_raw(queue.cast::<Chunks>()) });
}

unsafe extern "C" fn rehearse(_: *mut Frame, count: u16) -> u16 {
    count
}
