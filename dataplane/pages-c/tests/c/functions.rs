//! Each function: with what makes no sense, and with a server that dies.

use crate::support::Folder;
use ::gvm_pages::*;
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr::{null, null_mut};

fn text() -> String {
    // SAFETY: the text lasts until the next failure of this thread.
    unsafe { CStr::from_ptr(gvm_pages_last_error()) }.to_str().unwrap().to_owned()
}

fn connect(path: &Path) -> Result<*mut gvm_pages, c_int> {
    let (path, mut connection) = (CString::new(path.to_str().unwrap()).unwrap(), null_mut());
    // SAFETY: all pointers are valid.
    match unsafe { gvm_pages_connect(path.as_ptr(), null(), &mut connection) } {
        0 => Ok(connection),
        failure => Err(failure),
    }
}

const ARGUMENT: c_int = gvm_pages_result::Argument as c_int;
const IN_USE: c_int = gvm_pages_result::BufferInUse as c_int;
const GONE: c_int = gvm_pages_result::ServerGone as c_int;

const NONE: gvm_pages_completion = gvm_pages_completion { tag: 0, status: 99, len: 0, buffer: 0 };

#[test]
fn what_is_null_is_refused_and_crashes_nothing() {
    let folder = Folder::new();
    let _server = folder.serve();
    let connection = connect(&folder.socket()).unwrap();
    let (mut other, mut ended) = (null_mut(), NONE);
    // SAFETY: pointers are valid or NULL, as the functions allow.
    unsafe {
        assert_eq!(gvm_pages_connect(null::<c_char>(), null(), &mut other), ARGUMENT);
        assert_eq!(gvm_pages_connect(c"/x".as_ptr(), null(), null_mut()), ARGUMENT);
        gvm_pages_disconnect(null_mut());
        assert_eq!(gvm_pages_allocate(null_mut(), &mut 0, 1, 0), ARGUMENT);
        assert!(text().contains("gvm_pages_connect"), "{}", text());
        assert_eq!(gvm_pages_allocate(connection, null_mut(), 1, 0), ARGUMENT);
        assert_eq!(gvm_pages_free(connection, null(), 1), ARGUMENT);
        assert_eq!(gvm_pages_free(connection, null(), 0), 0);
        assert_eq!(gvm_pages_take_buffer(connection, 8, null_mut()), ARGUMENT);
        assert_eq!(gvm_pages_post(connection, null(), 1), ARGUMENT);
        assert_eq!(gvm_pages_post(null_mut(), null(), 0), ARGUMENT);
        assert_eq!(gvm_pages_poll(connection, null_mut(), 1), ARGUMENT);
        assert_eq!(gvm_pages_poll(null_mut(), &mut ended, 1), ARGUMENT);
        assert_eq!(gvm_pages_next_notice(connection, null_mut()), ARGUMENT);
        assert_eq!((gvm_pages_descriptor(null_mut()), gvm_pages_arm(null_mut())), (ARGUMENT, ARGUMENT));
        assert_eq!((gvm_pages_capacity(null()), gvm_pages_capacity(connection)), (0, 128));
        assert!(gvm_pages_descriptor(connection) > 2);
        assert_eq!(gvm_pages_poll(connection, &mut ended, 1), 0);
        gvm_pages_disconnect(connection);
    }
    assert_eq!(connect(Path::new("/nowhere/pages.sock")), Err(gvm_pages_result::NoSocket as c_int));
    assert!(text().contains("/nowhere/pages.sock"), "{}", text());
}

#[test]
fn an_area_keeps_its_extents_and_the_totals_are_the_servers() {
    let folder = Folder::new();
    let _server = folder.serve();
    let path = CString::new(folder.socket().to_str().unwrap()).unwrap();
    let connect = |area: *const c_char, area_use: u32| {
        let (name, mut connection) = (null(), null_mut());
        let options =
            gvm_pages_options { requests: 0, extents: 0, buffers: 0, patience_ms: 0, spins: 0, name, area, area_use };
        // SAFETY: all pointers are valid.
        match unsafe { gvm_pages_connect(path.as_ptr(), &options, &mut connection) } {
            0 => Ok(connection),
            failure => Err(failure),
        }
    };
    const REFUSED: c_int = gvm_pages_result::Refused as c_int;
    let existing = gvm_pages_area_use::Existing as u32;
    assert_eq!(connect(c"a".as_ptr(), existing), Err(REFUSED));
    assert!(text().contains("no area of this name"), "{}", text());
    assert_eq!((connect(c"a".as_ptr(), 9), connect(c"a b".as_ptr(), 0)), (Err(ARGUMENT), Err(REFUSED)));
    let connection = connect(c"a".as_ptr(), 0).unwrap();
    let (mut extents, mut found) = ([0; 3], [7; 3]);
    let mut totals = gvm_pages_totals::default();
    // SAFETY: all pointers are valid, or NULL where that is refused.
    unsafe {
        assert_eq!(gvm_pages_extents(connection, null_mut(), 0), 0);
        assert_eq!(gvm_pages_allocate(connection, extents.as_mut_ptr(), 3, 0), 0);
        assert_eq!(gvm_pages_state(connection, &mut totals), 0);
        assert_eq!((totals.quota, totals.extents, totals.requests), (64, 3, 0));
        assert_eq!(
            (gvm_pages_state(connection, null_mut()), gvm_pages_state(null_mut(), &mut totals)),
            (ARGUMENT, ARGUMENT)
        );
        assert_eq!(gvm_pages_extents(connection, null_mut(), 1), ARGUMENT);
        gvm_pages_disconnect(connection);
    }
    let connection = loop {
        // The server may need a moment to see that the connection has ended.
        match connect(c"a".as_ptr(), existing) {
            Err(REFUSED) if text().contains("another process has this area") => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!((gvm_pages_extents(connection, found.as_mut_ptr(), 2), found), (3, [extents[0], extents[1], 7]));
        assert_eq!((gvm_pages_remove_area(connection), gvm_pages_remove_area(connection)), (0, REFUSED));
        gvm_pages_disconnect(connection);
    }
}

#[test]
fn a_buffer_belongs_to_one_request_at_a_time() {
    let folder = Folder::new();
    let server = folder.serve();
    let connection = connect(&folder.socket()).unwrap();
    let mut extent = 0;
    let mut buffer = gvm_pages_buffer { data: null_mut(), len: 0, number: 99 };
    let mut ended = [NONE; 4];
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(gvm_pages_allocate(connection, &mut extent, 1, 0), 0);
        assert_eq!(gvm_pages_take_buffer(connection, 60, &mut buffer), 0);
        assert_eq!((buffer.len, buffer.number, buffer.data.cast::<u64>().is_aligned()), (64, 0, true));
        let good = gvm_pages_request { tag: 77, extent, offset: 0, len: 64, buffer: 0, transfer: 2, lane: 1 };
        let post = |requests: &[gvm_pages_request]| gvm_pages_post(connection, requests.as_ptr(), requests.len());
        // Whatever is wrong with one, none is posted.
        for (wrong, expected) in [
            (gvm_pages_request { transfer: 3, ..good }, ARGUMENT),
            (gvm_pages_request { lane: 0, ..good }, ARGUMENT),
            (gvm_pages_request { len: 72, ..good }, ARGUMENT),
            (gvm_pages_request { buffer: 1, ..good }, IN_USE),
        ] {
            assert_eq!(post(&[wrong]), expected);
        }
        assert_eq!(post(&[good, good]), IN_USE);
        server.hold(true);
        assert_eq!(post(&[good]), 1);
        assert_eq!((post(&[good]), gvm_pages_give_buffer(connection, 0)), (IN_USE, IN_USE));
        assert!(text().contains("buffer 0"), "{}", text());
        server.hold(false);
        assert_eq!(gvm_pages_wait(connection, ended.as_mut_ptr(), 4, -1), 1);
        assert_eq!(ended[0], gvm_pages_completion { tag: 77, status: 0, len: 64, buffer: 0 });
        assert_eq!((gvm_pages_give_buffer(connection, 0), gvm_pages_give_buffer(connection, 0)), (0, IN_USE));
        gvm_pages_disconnect(connection);
    }
}

#[test]
fn notices_come_one_by_one_and_the_end_of_the_server_ends_all() {
    let folder = Folder::new();
    let server = folder.serve();
    let connection = connect(&folder.socket()).unwrap();
    let (mut extents, mut notice) = ([0; 2], gvm_pages_notice { extent: 0, status: 0, within_ms: 0 });
    let mut buffer = gvm_pages_buffer { data: null_mut(), len: 0, number: 99 };
    let mut ended = [NONE; 4];
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(gvm_pages_allocate(connection, extents.as_mut_ptr(), 2, 1), 0);
        server.lose(pages::Extent::from_number(extents[1]), pages::Status::SLAVE_GONE);
        let mut found = 0;
        while found == 0 {
            found = gvm_pages_next_notice(connection, &mut notice);
        }
        assert_eq!((found, notice.extent, notice.status), (1, extents[1], 1));
        assert_eq!(gvm_pages_take_buffer(connection, 8, &mut buffer), 0);
        server.die_after(0);
        let request =
            gvm_pages_request { tag: 5, extent: extents[0], offset: 0, len: 8, buffer: 0, transfer: 1, lane: 2 };
        assert_eq!(gvm_pages_post(connection, &request, 1), 1);
        assert_eq!(gvm_pages_wait(connection, ended.as_mut_ptr(), 4, -1), 1);
        assert_eq!((ended[0].tag, ended[0].status), (5, pages::Status::SERVER_GONE.number()));
        assert_eq!(gvm_pages_post(connection, &request, 1), GONE);
        // The buffer is the program's again.
        assert_eq!(gvm_pages_give_buffer(connection, 0), 0);
        assert_eq!(gvm_pages_arm(connection), GONE);
        gvm_pages_disconnect(connection);
    }
}
