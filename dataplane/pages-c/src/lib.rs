//! The library `pages` for programs in C: `libgvm_pages.so` with `include/gvm_pages.h`.
//!
//! Every function of a connection belongs to one thread at a time. Functions return 0 or a count, or a negative
//! [`gvm_pages_result`]; [`gvm_pages_last_error`] has the text. No panic leaves the library.
#![allow(non_camel_case_types)]
#![deny(unsafe_op_in_unsafe_fn)]

mod connection;
mod types;

use pages::{AreaOptions, AreaUse};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::time::Duration;
use types::{Failure, argument};

pub use connection::gvm_pages;
pub use types::{
    gvm_pages_area_use, gvm_pages_buffer, gvm_pages_completion, gvm_pages_lane, gvm_pages_notice, gvm_pages_options,
    gvm_pages_request, gvm_pages_result, gvm_pages_totals, gvm_pages_transfer,
};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

fn remember(text: &str) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    LAST.with(|last| *last.borrow_mut() = text);
}

/// Runs a function of the library: its failure becomes a number, with a text beside it.
fn run(what: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(what));
    let (result, text) = match result {
        Ok(Ok(count)) => return count,
        Ok(Err(Failure { result, text })) => (result, text),
        Err(_) => (gvm_pages_result::Internal, "a fault of libgvm_pages: report it".to_owned()),
    };
    remember(&text);
    result as c_int
}

/// The connection that a program means.
///
/// # Safety
/// It is NULL or was given by `gvm_pages_connect` and not disconnected, and nobody else uses it meanwhile.
unsafe fn connected<'a>(connection: *mut gvm_pages) -> Result<&'a mut gvm_pages, Failure> {
    // SAFETY: as the caller promises.
    unsafe { connection.as_mut() }.ok_or_else(|| argument("the connection is NULL: call gvm_pages_connect first"))
}

/// An array of a program, for reading.
///
/// # Safety
/// So many elements are there, and nobody changes them meanwhile.
unsafe fn elements<'a, T>(array: *const T, count: usize) -> Result<&'a [T], Failure> {
    match array.is_null() {
        true if count == 0 => Ok(&[]),
        true => Err(argument("an array is NULL")),
        // SAFETY: as the caller promises.
        false => Ok(unsafe { std::slice::from_raw_parts(array, count) }),
    }
}

/// A count for the program.
fn count(count: usize) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}

/// Connects to the server that listens at a socket. `options` may be NULL. The connection is stored into `*connection`;
/// end it with gvm_pages_disconnect.
///
/// # Safety
/// `path` and the names are texts that end with a zero byte; the other pointers are valid or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_connect(
    path: *const c_char,
    options: *const gvm_pages_options,
    connection: *mut *mut gvm_pages,
) -> c_int {
    run(|| {
        if path.is_null() || connection.is_null() {
            return Err(argument("the path, or the place for the connection, is NULL"));
        }
        // SAFETY: as the caller promises.
        let path = Path::new(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        let mut wanted = pages::ClientOptions::default();
        // SAFETY: as the caller promises.
        if let Some(options) = unsafe { options.as_ref() } {
            if options.requests != 0 {
                wanted.requests = options.requests;
            }
            if options.buffers != 0 {
                wanted.buffers = options.buffers;
            }
            if options.patience_ms != 0 {
                wanted.patience = Duration::from_millis(options.patience_ms.into());
            }
            if options.spins != 0 {
                wanted.spins = options.spins;
            }
            wanted.extents = options.extents;
            if !options.name.is_null() {
                // SAFETY: as the caller promises.
                let name = unsafe { CStr::from_ptr(options.name) }.to_str();
                wanted.name = name.map_err(|_| argument("the name is no UTF-8"))?.to_owned();
            }
            if !options.area.is_null() {
                // SAFETY: as the caller promises.
                let name = unsafe { CStr::from_ptr(options.area) }.to_str();
                let name = name.map_err(|_| argument("the name of the area is no UTF-8"))?.to_owned();
                let wanted_use = match options.area_use {
                    0 => Some(AreaUse::Any),
                    number => AreaUse::from_number(number),
                };
                let how = wanted_use.ok_or_else(|| argument("the use of an area is 1, 2 or 3, or 0 for the usual"))?;
                wanted.area = Some(AreaOptions { name, wanted: how });
            }
        }
        let made = Box::into_raw(Box::new(gvm_pages::connect(path, &wanted)?));
        // SAFETY: it is not NULL, and as the caller promises.
        unsafe { connection.write(made) };
        Ok(0)
    })
}

/// Ends a connection: its requests and buffers, and its extents unless they are in an area. NULL is ignored.
///
/// # Safety
/// It was given by gvm_pages_connect, and nobody uses it or its buffers any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_disconnect(connection: *mut gvm_pages) {
    run(|| {
        if !connection.is_null() {
            // SAFETY: as the caller promises.
            drop(unsafe { Box::from_raw(connection) });
        }
        Ok(0)
    });
}

/// What went wrong last in this thread, and what helps. The text lasts until the thread's next failure.
#[unsafe(no_mangle)]
pub extern "C" fn gvm_pages_last_error() -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}

/// The name of a status: "DONE", "SLAVE_GONE", ...
#[unsafe(no_mangle)]
pub extern "C" fn gvm_pages_status_name(status: u32) -> *const c_char {
    connection::status_name(status).as_ptr()
}

/// The most requests under way. It is what the server gave, and may be less than wanted. 0 for NULL.
///
/// # Safety
/// The connection is valid or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_capacity(connection: *const gvm_pages) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { connection.as_ref() }.map_or(0, gvm_pages::capacity)
}

/// Allocates `count` extents of 2 MiB, all or none, and stores their numbers. With `apart` (not 0) each is in another
/// failure domain.
///
/// # Safety
/// The connection is valid, and `extents` has room for `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_allocate(
    connection: *mut gvm_pages,
    extents: *mut u64,
    count: u32,
    apart: c_int,
) -> c_int {
    run(|| {
        if extents.is_null() {
            return Err(argument("the place for the extents is NULL"));
        }
        // SAFETY: as the caller promises.
        let found = unsafe { connected(connection) }?.allocate(count, apart != 0)?;
        // SAFETY: so many numbers came, and as the caller promises.
        unsafe { ptr::copy_nonoverlapping(found.as_ptr(), extents, found.len()) };
        Ok(0)
    })
}

/// Frees extents. Those that the connection does not have are ignored.
///
/// # Safety
/// The connection is valid, and `extents` has `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_free(connection: *mut gvm_pages, extents: *const u64, count: usize) -> c_int {
    run(|| {
        // SAFETY: as the caller promises.
        let (connection, extents) = unsafe { (connected(connection)?, elements(extents, count)?) };
        connection.free(extents).map(|()| 0)
    })
}

/// Stores the numbers of at most `most` of the extents that the connection's area had when it was made, in the order in
/// which they were allocated, and returns how many there are. 0 without an area.
///
/// # Safety
/// The connection is valid, and `extents` has room for `most` numbers, or is NULL with `most` 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_extents(connection: *mut gvm_pages, extents: *mut u64, most: usize) -> c_int {
    run(|| {
        if extents.is_null() && most > 0 {
            return Err(argument("the place for the extents is NULL"));
        }
        // SAFETY: as the caller promises.
        let found = unsafe { connected(connection) }?.extents();
        for (at, extent) in found.iter().take(most).enumerate() {
            // SAFETY: at most as many as there is room for, and as the caller promises.
            unsafe { extents.add(at).write(extent.number()) };
        }
        Ok(count(found.len()))
    })
}

/// The connection's area is to be none any more: its name is free, and its extents are freed when the connection ends.
///
/// # Safety
/// The connection is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_remove_area(connection: *mut gvm_pages) -> c_int {
    // SAFETY: as the caller promises.
    run(|| unsafe { connected(connection) }?.remove_area().map(|()| 0))
}

/// Asks the server what it has counted for the connection, and stores it.
///
/// # Safety
/// The connection is valid, and `totals` is valid or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_state(connection: *mut gvm_pages, totals: *mut gvm_pages_totals) -> c_int {
    run(|| {
        if totals.is_null() {
            return Err(argument("the place for the totals is NULL"));
        }
        // SAFETY: as the caller promises.
        let found = unsafe { connected(connection) }?.totals()?;
        // SAFETY: it is not NULL, and as the caller promises.
        unsafe { totals.write(found) };
        Ok(0)
    })
}

/// Takes a buffer of `len` bytes, rounded up to a multiple of 8.
///
/// # Safety
/// The connection is valid, and `buffer` is valid or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_take_buffer(
    connection: *mut gvm_pages,
    len: usize,
    buffer: *mut gvm_pages_buffer,
) -> c_int {
    run(|| {
        if buffer.is_null() {
            return Err(argument("the place for the buffer is NULL"));
        }
        // SAFETY: as the caller promises.
        let taken = unsafe { connected(connection) }?.take_buffer(len)?;
        // SAFETY: it is not NULL, and as the caller promises.
        unsafe { buffer.write(taken) };
        Ok(0)
    })
}

/// Gives a buffer back. It fails while a request has the buffer.
///
/// # Safety
/// The connection is valid, and nobody uses the bytes of the buffer any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_give_buffer(connection: *mut gvm_pages, number: u32) -> c_int {
    // SAFETY: as the caller promises.
    run(|| unsafe { connected(connection) }?.give_buffer(number).map(|()| 0))
}

/// Posts requests from the begin of the array on, as many as can be under way, and returns how many. If one of these
/// makes no sense, none is posted.
///
/// # Safety
/// The connection is valid, and `requests` has `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_post(
    connection: *mut gvm_pages,
    requests: *const gvm_pages_request,
    count: usize,
) -> c_int {
    run(|| {
        // SAFETY: as the caller promises.
        let (connection, requests) = unsafe { (connected(connection)?, elements(requests, count)?) };
        connection.post(requests).map(self::count)
    })
}

/// Stores at most `most` requests that have ended, and returns how many. It does not wait.
///
/// # Safety
/// The connection is valid, and `completions` has room for `most` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_poll(
    connection: *mut gvm_pages,
    completions: *mut gvm_pages_completion,
    most: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { gvm_pages_wait(connection, completions, most, 0) }
}

/// As gvm_pages_poll, but waits until a request has ended or a notice has come, at most `timeout_ms` milliseconds; -1
/// is for ever. It does not wait if no request is under way.
///
/// # Safety
/// The connection is valid, and `completions` has room for `most` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_wait(
    connection: *mut gvm_pages,
    completions: *mut gvm_pages_completion,
    most: usize,
    timeout_ms: c_int,
) -> c_int {
    run(|| {
        if completions.is_null() {
            return Err(argument("the place for the completions is NULL"));
        }
        let time = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        // SAFETY: as the caller promises.
        let ended = unsafe { connected(connection) }?.wait(time, most)?;
        let found = ended.len();
        for (at, one) in ended.enumerate() {
            // SAFETY: at most as many as there is room for, and as the caller promises.
            unsafe { completions.add(at).write(one) };
        }
        Ok(count(found))
    })
}

/// Stores what the server said about an extent, and returns 1; 0 if there is nothing.
///
/// # Safety
/// The connection is valid, and `notice` is valid or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_next_notice(connection: *mut gvm_pages, notice: *mut gvm_pages_notice) -> c_int {
    run(|| {
        if notice.is_null() {
            return Err(argument("the place for the notice is NULL"));
        }
        // SAFETY: as the caller promises.
        let Some(next) = unsafe { connected(connection) }?.next_notice()? else { return Ok(0) };
        // SAFETY: it is not NULL, and as the caller promises.
        unsafe { notice.write(next) };
        Ok(1)
    })
}

/// The descriptor to sleep on in an event loop of the program. It belongs to the connection.
///
/// # Safety
/// The connection is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_descriptor(connection: *mut gvm_pages) -> c_int {
    // SAFETY: as the caller promises.
    run(|| Ok(unsafe { connected(connection) }?.descriptor()))
}

/// Prepares to sleep on the descriptor. If it returns 1, the descriptor becomes readable when a request has ended, a
/// notice has come, or the server is gone; then call gvm_pages_poll. If it returns 0, call that at once.
///
/// # Safety
/// The connection is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gvm_pages_arm(connection: *mut gvm_pages) -> c_int {
    // SAFETY: as the caller promises.
    run(|| unsafe { connected(connection) }?.arm().map(c_int::from))
}
