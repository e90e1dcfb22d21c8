//! Requests that are refused for good, and the requester's reaction.

use super::support::script;

/// The packet is answered with this NAK, writes nothing, and fails the queue pair.
fn refused(packet: &str, syndrome: &str) {
    script(&format!(
        "qp mtu=256
        recv 1 local=0x11000+10
        < {packet}
        = 1 WR_FLUSH_ERR
        > ACK psn=500 syn={syndrome} msn=0
        state ERR
        mem 0x10000+65536 is 0x10000
        mem 0x30000+4096 is 0x30000
        mem 0x50000+4096 is 0x50000
        mem 0x60000+4096 is 0x60000
        # It is dead to all that follows.
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        count rc_dropped_state 1",
    ));
}

#[test]
fn wrong_keys_are_access_errors() {
    refused("WRITE_ONLY psn=500 a va=0x10000 rkey=0x1bad dma=1 data=0x20000+1", "access");
    refused("READ psn=500 a va=0x10000 rkey=0x1bad dma=1", "access");
    refused("ADD psn=500 a va=0x10000 rkey=0x1bad swap=1", "access");
    // A key with the right place and a wrong random part.
    refused("READ psn=500 a va=0x10000 rkey=0x9bad000 dma=1", "access");
}

#[test]
fn what_is_out_of_bounds_is_an_access_error() {
    refused("WRITE_ONLY psn=500 a va=0x1ffff rkey=all dma=2 data=0x20000+2", "access");
    refused("WRITE_ONLY psn=500 a va=0xffff rkey=all dma=2 data=0x20000+2", "access");
    refused("READ psn=500 a va=0x1ffff rkey=all dma=2", "access");
    refused("READ psn=500 a va=0xffffffffffffffff rkey=all dma=2", "access");
    refused("ADD psn=500 a va=0x20000 rkey=all swap=1", "access");
    // The whole length is judged by the first packet.
    refused("WRITE_FIRST psn=500 a va=0x10000 rkey=all dma=65537 data=0x20000+256", "access");
}

#[test]
fn what_is_not_permitted_is_an_access_error() {
    refused("WRITE_ONLY psn=500 a va=0x30000 rkey=readable dma=1 data=0x20000+1", "access");
    refused("READ psn=500 a va=0x40000 rkey=writable dma=1", "access");
    refused("WRITE_ONLY psn=500 a va=0x50000 rkey=private dma=1 data=0x20000+1", "access");
    refused("READ psn=500 a va=0x60000 rkey=foreign dma=1", "access");
    refused("WRITE_ONLY psn=500 a va=0x60000 rkey=foreign dma=1 data=0x20000+1", "access");
}

#[test]
fn lengths_that_cannot_be_are_invalid_requests() {
    // First and middle packets must be full, the last one must not be empty, and together they must have the stated
    // length.
    refused("WRITE_FIRST psn=500 a va=0x10000 rkey=all dma=300 data=0x20000+255", "invalid");
    refused("WRITE_FIRST psn=500 a va=0x10000 rkey=all dma=256 data=0x20000+256", "invalid");
    refused("WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=2 data=0x20000+1", "invalid");
    refused("WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+2", "invalid");
    refused("WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=257 data=0x20000+257", "invalid");
    refused("WRITE_FIRST psn=500 a va=0x10000 rkey=all dma=0x80000001 data=0x20000+256", "invalid");
    refused("SEND_FIRST psn=500 a data=0x20000+255", "invalid");
    refused("SEND_ONLY psn=500 a data=0x20000+257", "invalid");
    refused("READ psn=500 a va=0x10000 rkey=all dma=0x80000001", "invalid");
}

#[test]
fn places_that_cannot_be_are_invalid_requests() {
    for name in ["SEND_MIDDLE", "SEND_LAST", "WRITE_MIDDLE", "WRITE_LAST"] {
        refused(&format!("{name} psn=500 a data=0x20000+256"), "invalid");
    }
    for next in [
        "SEND_ONLY psn=501 a data=0x20000+1",
        "SEND_LAST psn=501 a data=0x20000+1",
        "WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=1 data=0x20000+1",
        "READ psn=501 a va=0x10000 rkey=all dma=1",
        "ADD psn=501 a va=0x10000 rkey=all swap=1",
        // More, less, and nothing, where 44 bytes remain.
        "WRITE_LAST psn=501 a data=0x20000+45",
        "WRITE_LAST psn=501 a data=0x20000+43",
        "WRITE_LAST psn=501 a",
        "WRITE_MIDDLE psn=501 a data=0x20000+256",
    ] {
        script(&format!(
            "qp mtu=256
            < WRITE_FIRST psn=500 va=0x11000 rkey=all dma=300 data=0x20000+256
            < {next}
            > ACK psn=501 syn=invalid msn=0
            state ERR
            mem 0x10000+4096 is 0x10000
            mem 0x11100+256 is 0x11100"
        ));
    }
}

#[test]
fn a_send_that_invalidates_is_an_invalid_request() {
    refused("SEND_ONLY_INV psn=500 a rkey=all data=0x20000+1", "invalid");
}

#[test]
fn reserved_opcodes_are_invalid_requests() {
    // 0x1c and 0x1d are FLUSH and ATOMIC WRITE in later releases.
    for number in [0x15, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f] {
        refused(&format!("SEND_ONLY psn=500 a data=0x20000+4 byte0={number}"), "invalid");
        refused(&format!("SEND_ONLY psn=500 byte0={number}"), "invalid");
    }
    // The NAK is not sent before the turn of its request.
    script(
        "qp
        < SEND_ONLY psn=501 a data=0x20000+4 byte0=0x1c
        > ACK psn=500 syn=seq msn=0
        count rc_dropped_request_early 1
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=ack msn=1
        < SEND_ONLY psn=501 a data=0x20000+4 byte0=0x1c
        > ACK psn=501 syn=invalid msn=1
        state ERR
        count naks_invalid_out 1",
    );
    // A queue pair that has failed takes no packets.
    script(
        "qp
        < SEND_ONLY psn=500 byte0=0x1c
        > ACK psn=500 syn=invalid msn=0
        < SEND_ONLY psn=500 byte0=0x1c
        count rc_dropped_state 1",
    );
}

#[test]
fn a_send_longer_than_its_receive_fails_both_sides() {
    script(
        "qp mtu=256
        recv 1 local=0x10000+300
        recv 2 local=0x11000+300
        < SEND_FIRST psn=500 data=0x20000+256
        < SEND_LAST psn=501 a data=0x20100+45
        = 1 LOC_LEN_ERR
        = 2 WR_FLUSH_ERR
        > ACK psn=501 syn=invalid msn=0
        state ERR
        mem 0x10100+200 is 0x10100",
    );
}

#[test]
fn memory_that_fails_is_an_operational_error() {
    script(
        "qp
        break all
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=operation
        state ERR",
    );
    script(
        "qp
        recv 1 local=0x10000+300
        break all
        < SEND_ONLY psn=500 a data=0x20000+1
        = 1 LOC_PROT_ERR
        > ACK psn=500 syn=operation
        state ERR",
    );
}

#[test]
fn more_reads_than_negotiated_are_an_invalid_request() {
    script(
        "qp serves=2
        room 0
        < READ psn=500 a va=0x10000 rkey=all dma=1
        < READ psn=501 a va=0x10000 rkey=all dma=1
        < READ psn=502 a va=0x10000 rkey=all dma=1
        room 9
        > READ_ONLY psn=500 syn=ack msn=1 data=0x10000+1
        > READ_ONLY psn=501 syn=ack msn=2 data=0x10000+1
        > ACK psn=502 syn=invalid msn=2
        state ERR",
    );
    refused_without_depth("READ psn=500 a va=0x10000 rkey=all dma=1");
    refused_without_depth("ADD psn=500 a va=0x10000 rkey=all swap=1");
}

fn refused_without_depth(packet: &str) {
    script(&format!("qp serves=0\n< {packet}\n> ACK psn=500 syn=invalid msn=0\nstate ERR\nmem 0x10000+8 is 0x10000"));
}

#[test]
fn what_was_asked_before_is_answered_before_the_nak() {
    script(
        "qp mtu=256
        room 0
        < READ psn=500 a va=0x10000 rkey=all dma=300
        < WRITE_ONLY psn=502 a va=0 rkey=all dma=1 data=0x20000+1
        room 9
        > READ_FIRST psn=500 syn=ack msn=1 data=0x10000+256
        > READ_LAST psn=501 syn=ack msn=1 data=0x10100+44
        > ACK psn=502 syn=access msn=1",
    );
}

#[test]
fn a_nak_ends_its_request_and_flushes_the_rest() {
    for (syndrome, status) in
        [("invalid", "REM_INV_REQ_ERR"), ("access", "REM_ACCESS_ERR"), ("operation", "REM_OP_ERR")]
    {
        script(&format!(
            "qp mtu=256
            recv 9 local=0x10000+1
            post 1 send local=0x10000+1
            post 2 write va=0 rkey=5 local=0x10000+300
            post 3 read va=0 rkey=5 local=0x10000+1
            > SEND_ONLY psn=100 a data=0x10000+1
            > WRITE_FIRST psn=101 data=0x10000+256
            > WRITE_LAST psn=102 a data=0x10100+44
            > READ psn=103 a
            < ACK psn=101 syn={syndrome} msn=1
            = 1 SUCCESS
            = 2 {status}
            = 3 WR_FLUSH_ERR
            = 9 WR_FLUSH_ERR
            state ERR
            count bytes_in_flight 0"
        ));
    }
}

#[test]
fn a_nak_after_a_missing_read_asks_for_the_read_first() {
    script(
        "qp
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 write va=0 rkey=5 local=0x10000+1
        > READ psn=100 a
        > WRITE_ONLY psn=101 a data=0x10000+1
        < ACK psn=101 syn=access
        > READ psn=100 a
        > WRITE_ONLY psn=101 a data=0x10000+1
        < READ_ONLY psn=100 data=0x20000+1
        = 1 SUCCESS
        < ACK psn=101 syn=access
        = 2 REM_ACCESS_ERR",
    );
}

#[test]
fn a_read_that_is_refused_completes_in_error_and_writes_nothing() {
    script(
        "qp mtu=256
        post 1 read va=0x20000 rkey=5 local=0x10000+600
        > READ psn=100 a
        < READ_FIRST psn=100 data=0x20000+256
        < ACK psn=101 syn=operation
        = 1 REM_OP_ERR
        mem 0x10100+344 is 0x10100",
    );
}
