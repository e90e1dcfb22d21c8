//! States, posting, and how work ends when a queue pair ends.

use super::support::{Script, script};
use transport::Error;

#[test]
fn a_failed_queue_pair_flushes_what_is_posted() {
    script(
        "qp
        gone
        state ERR
        post 1 send local=0x10000+1
        = 1 WR_FLUSH_ERR
        recv 2 local=0x10000+1
        = 2 WR_FLUSH_ERR",
    );
}

#[test]
fn what_cannot_be_is_not_posted() {
    let mut script: Script = script("qp");
    let post = |script: &mut Script, what: &str| script.try_post(&format!("post 1 {what}"));
    assert_eq!(post(&mut script, "send lkey=0x1234 local=0x10000+1"), Err(Error::LocalAccess));
    assert_eq!(post(&mut script, "send local=0x1ffff+2"), Err(Error::LocalAccess));
    assert_eq!(post(&mut script, "send lkey=foreign local=0x60000+1"), Err(Error::LocalAccess));
    assert_eq!(post(&mut script, "read va=0 rkey=5 local=0x30000+1"), Err(Error::LocalAccess));
    assert_eq!(post(&mut script, "add va=0 rkey=5 local=0x10000+4"), Err(Error::Length));
    assert_eq!(post(&mut script, "send local=0x10000+0x80000001"), Err(Error::Length));
    script.step("post 1 send local=0x30000+1");
    script.step("> SEND_ONLY psn=100 a data=0x30000+1");
}

#[test]
fn a_read_needs_a_depth() {
    let mut script = script("qp depth=0");
    assert_eq!(script.try_post("post 1 read va=0 rkey=5 local=0x10000+1"), Err(Error::NoReadDepth));
    assert_eq!(script.try_post("post 1 add va=0 rkey=5 local=0x10000+8"), Err(Error::NoReadDepth));
}

#[test]
fn a_queue_has_an_end() {
    let mut script = script("qp depth=1");
    let mut posted = 0;
    let error = loop {
        match script.try_post("post 1 read va=0 rkey=5 local=0x10000+1") {
            Ok(()) => posted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((posted, error), (1024, Error::QueueFull));
}

#[test]
fn a_local_buffer_that_vanished_fails_its_own_request() {
    script(
        "qp
        post 1 send local=0x30000+1
        post 2 send local=0x10000+1
        post 3 send local=0x30000+1
        > SEND_ONLY psn=100 a data=0x30000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        > SEND_ONLY psn=102 a data=0x30000+1
        deregister all
        post 4 send local=0x30000+1
        > SEND_ONLY psn=103 a data=0x30000+1
        < ACK psn=100 syn=seq
        > SEND_ONLY psn=100 a data=0x30000+1
        = 1 WR_FLUSH_ERR
        = 2 LOC_PROT_ERR
        = 3 WR_FLUSH_ERR
        = 4 WR_FLUSH_ERR
        state ERR",
    );
}

#[test]
fn an_answer_that_cannot_be_written_is_a_local_error() {
    script(
        "qp
        post 1 read va=0 rkey=5 local=0x10000+1
        post 2 read va=0 rkey=5 local=0x10001+1
        > READ psn=100 a
        > READ psn=101 a
        break all
        < READ_ONLY psn=100 data=0x20000+1
        = 1 LOC_PROT_ERR
        = 2 WR_FLUSH_ERR
        state ERR",
    );
}
