//! DPDK as a whole: its start, its log, its threads.

use port_abi::{Start, Text};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;

/// The receiver of log lines.
static LOG: OnceLock<extern "C" fn(u32, *const c_char, usize)> = OnceLock::new();

unsafe extern "C" fn log(level: u32, text: *const c_char, len: usize) {
    if let Some(sink) = LOG.get() {
        sink(level, text, len);
    }
}

/// DPDK's text for an error.
pub(crate) fn reason(error: i32) -> String {
    // SAFETY: the shim returns a text that ends with a zero, valid until this thread's next call.
    unsafe { CStr::from_ptr(dpdk_sys::shim_error(error)) }.to_string_lossy().into_owned()
}

/// Zero, or the error together with what failed.
///
/// # Safety
/// `text` is null or points to a text of the host's.
pub(crate) unsafe fn outcome(result: i32, what: &str, text: *mut Text) -> i32 {
    // SAFETY: the caller guarantees it.
    if let (true, Some(text)) = (result != 0, unsafe { text.as_mut() }) {
        text.set(&format!("{what}: {}", reason(result)));
    }
    result
}

pub(crate) unsafe extern "C" fn version() -> *const c_char {
    // SAFETY: takes nothing.
    unsafe { dpdk_sys::shim_version() }
}

pub(crate) unsafe extern "C" fn start(start: *const Start, text: *mut Text) -> i32 {
    // SAFETY: the host hands over a live structure.
    let Some(start) = (unsafe { start.as_ref() }) else { return -22 };
    let _ = LOG.set(start.log);
    // SAFETY: the host's arguments are so many texts that end with a zero.
    let given = unsafe { std::slice::from_raw_parts(start.arguments, start.count as usize) };
    // SAFETY: as above. EAL keeps the pointers and writes to the list, so it gets copies that stay allocated.
    let copies: Vec<*mut c_char> =
        given.iter().map(|&argument| CString::from(unsafe { CStr::from_ptr(argument) }).into_raw()).collect();
    let arguments = Vec::leak(copies);
    // SAFETY: `log` stays as long as the plugin, which is never unloaded.
    let logged = unsafe { dpdk_sys::shim_log_to(Some(log)) };
    if logged != 0 {
        // SAFETY: the host's text.
        return unsafe { outcome(logged, "its log cannot be taken over", text) };
    }
    // SAFETY: a list of so many texts that stay.
    let result = unsafe { dpdk_sys::shim_init(arguments.len() as i32, arguments.as_mut_ptr()) };
    // SAFETY: the host's text.
    unsafe { outcome(result, "EAL does not start", text) }
}

pub(crate) unsafe extern "C" fn register_thread() -> i32 {
    // SAFETY: takes nothing.
    unsafe { dpdk_sys::shim_thread_register() }
}

pub(crate) unsafe extern "C" fn unregister_thread() {
    // SAFETY: takes nothing.
    unsafe { dpdk_sys::shim_thread_unregister() }
}

pub(crate) unsafe extern "C" fn on_library_thread(call: extern "C" fn(*mut c_void), context: *mut c_void) -> i32 {
    // SAFETY: the host keeps the context until it was called.
    unsafe { dpdk_sys::shim_on_interrupt_thread(Some(call), context) }
}
