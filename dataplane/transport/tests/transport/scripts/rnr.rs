//! RNR NAKs: no receive is posted. Timer 14 is 1.28 ms.

use super::support::script;

#[test]
fn a_send_without_a_receive_is_told_to_come_again() {
    script(
        "qp mtu=256 rnr_timer=9
        < SEND_ONLY psn=500 a data=0x20000+1
        > ACK psn=500 syn=rnr:9 msn=0
        # What follows is dropped without a word.
        < WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=1 data=0x20000+1
        count rc_dropped_request_early 1
        < SEND_ONLY psn=500 a data=0x20000+1
        > ACK psn=500 syn=rnr:9 msn=0
        recv 1 local=0x10000+1
        < SEND_FIRST psn=500 data=0x20000+256
        = 1 LOC_LEN_ERR
        > ACK psn=500 syn=invalid
        count naks_rnr_out 2",
    );
}

#[test]
fn what_came_again_before_the_rnr_nak_left_is_acknowledged() {
    script(
        "qp rnr_timer=9
        room 0
        < SEND_ONLY psn=500 a data=0x20000+1
        recv 1 local=0x10000+1
        < SEND_ONLY psn=500 a data=0x20000+1
        = 1 SUCCESS
        room 9
        > ACK psn=500 syn=ack msn=1
        count naks_rnr_out 0",
    );
    // The packet that was dropped behind it is asked for.
    script(
        "qp rnr_timer=9
        room 0
        < SEND_ONLY psn=500 a data=0x20000+1
        < WRITE_ONLY psn=501 a va=0x11000 rkey=all dma=1 data=0x20001+1
        recv 1 local=0x10000+1
        < SEND_ONLY psn=500 a data=0x20000+1
        = 1 SUCCESS
        room 9
        > ACK psn=501 syn=seq msn=1
        count naks_rnr_out 0",
    );
    // One packet is missing and one request found no receive. The peer gets the newer of the two NAKs, once.
    script(
        "qp rnr_timer=9
        room 0
        < WRITE_ONLY psn=501 a va=0x11000 rkey=all dma=1 data=0x20001+1
        < SEND_ONLY psn=500 a data=0x20000+1
        room 9
        > ACK psn=500 syn=rnr:9 msn=0
        count naks_sequence_out 0
        count naks_rnr_out 1
        # After an RNR NAK all comes again, and nothing is missing before that.
        recv 1 local=0x10000+1
        < SEND_ONLY psn=500 a data=0x20000+1
        = 1 SUCCESS
        > ACK psn=500 syn=ack msn=1
        < WRITE_ONLY psn=501 a va=0x11000 rkey=all dma=1 data=0x20001+1
        > ACK psn=501 syn=ack msn=2",
    );
}

#[test]
fn a_write_with_immediate_needs_a_receive_at_its_end() {
    script(
        "qp mtu=256
        < WRITE_FIRST psn=500 va=0x10000 rkey=all dma=300 data=0x20000+256
        < WRITE_LAST_IMM psn=501 a imm=5 data=0x20100+44
        > ACK psn=501 syn=rnr:14 msn=0
        mem 0x10100+44 is 0x10100
        recv 1 local=0x11000+0
        < WRITE_LAST_IMM psn=501 a imm=5 data=0x20100+44
        = 1 SUCCESS len=300 imm=5
        > ACK psn=501 syn=ack msn=1
        mem 0x10000+300 is 0x20000",
    );
}

#[test]
fn the_requester_waits_as_long_as_it_is_told() {
    script(
        "qp kind=roce
        post 1 write va=0 rkey=5 local=0x10000+1
        post 2 send local=0x10000+1
        post 3 send local=0x10000+2
        > WRITE_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        > SEND_ONLY psn=102 a data=0x10000+2
        < ACK psn=101 syn=rnr:14
        = 1 SUCCESS
        +1200us
        # A second one of the same changes nothing.
        < ACK psn=101 syn=rnr:31
        count rc_dropped_response_stale 1
        +100us
        > SEND_ONLY psn=101 a data=0x10000+1
        > SEND_ONLY psn=102 a data=0x10000+2
        < ACK psn=102
        = 2 SUCCESS
        = 3 SUCCESS
        count naks_rnr_in 1",
    );
}

#[test]
fn rnr_retries_are_counted() {
    script(
        "qp kind=roce rnr_retries=1
        post 1 send local=0x10000+1
        post 2 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=100 syn=rnr:1
        +1ms
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=100 syn=rnr:1
        = 1 RNR_RETRY_EXC_ERR
        = 2 WR_FLUSH_ERR
        state ERR",
    );
}

#[test]
fn seven_rnr_retries_are_without_end() {
    let again = "< ACK psn=100 syn=rnr:1\n+1ms\n> SEND_ONLY psn=100 a data=0x10000+1\n".repeat(20);
    script(&format!(
        "qp kind=roce rnr_retries=7
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        {again}
        < ACK psn=100
        = 1 SUCCESS",
    ));
}

#[test]
fn progress_gives_rnr_retries_back() {
    script(
        "qp kind=roce rnr_retries=1
        post 1 send local=0x10000+1
        post 2 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=100 syn=rnr:1
        +1ms
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101 syn=rnr:1
        = 1 SUCCESS
        +1ms
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        = 2 SUCCESS",
    );
}

#[test]
fn a_read_before_it_is_asked_for_first() {
    script(
        "qp kind=roce
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 send local=0x1f000+2
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x1f000+2
        < ACK psn=101 syn=rnr:1
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x1f000+2
        < READ_ONLY psn=100 data=0x20000+1
        = 1 SUCCESS
        < ACK psn=101 syn=rnr:1
        +1ms
        > SEND_ONLY psn=101 a data=0x1f000+2
        < ACK psn=101
        = 2 SUCCESS",
    );
}
