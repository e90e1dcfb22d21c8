//! READ on both sides: answers of many packets, what they acknowledge, and how a READ goes on after a loss.

use super::support::script;

#[test]
fn a_read_is_one_request_and_takes_a_psn_for_each_packet_of_its_answer() {
    script(
        "qp mtu=256
        post 1 read va=0x20000 rkey=5 local=0x10000+600
        > READ psn=100 a va=0x20000 rkey=5 dma=600
        post 2 send local=0x10000+1
        > SEND_ONLY psn=103 a data=0x10000+1
        < READ_FIRST psn=100 msn=1 data=0x20000+256
        < READ_MIDDLE psn=101 data=0x20100+256
        < READ_LAST psn=102 msn=1 data=0x20200+88
        = 1 SUCCESS len=600
        mem 0x10000+600 is 0x20000
        < ACK psn=103
        = 2 SUCCESS",
    );
}

#[test]
fn an_answer_acknowledges_what_was_before_its_request() {
    script(
        "qp
        post 1 write va=0 rkey=5 local=0x10000+1
        post 2 send local=0x10000+1
        post 3 read va=0x20000 rkey=5 local=0x11000+10
        > WRITE_ONLY psn=100 a dma=1 data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        > READ psn=102 a dma=10
        < READ_ONLY psn=102 data=0x20000+10
        = 1 SUCCESS
        = 2 SUCCESS
        = 3 SUCCESS
        mem 0x11000+10 is 0x20000",
    );
}

#[test]
fn no_more_reads_are_outstanding_than_was_negotiated() {
    script(
        "qp depth=2
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 read va=0x20001 rkey=5 local=0x10001+1
        post 3 read va=0x20002 rkey=5 local=0x10002+1
        post 4 send local=0x1f000+1
        > READ psn=100 a dma=1
        > READ psn=101 a dma=1
        +10us
        < READ_ONLY psn=100 data=0x20000+1
        = 1 SUCCESS
        > READ psn=102 a dma=1
        > SEND_ONLY psn=103 a data=0x1f000+1
        < READ_ONLY psn=101 data=0x20001+1
        = 2 SUCCESS
        < READ_ONLY psn=102 data=0x20002+1
        = 3 SUCCESS
        < ACK psn=103
        = 4 SUCCESS",
    );
}

#[test]
fn an_ack_with_the_psn_of_a_read_is_not_its_answer() {
    script(
        "qp mtu=256
        post 1 send local=0x10000+1
        post 2 read va=0x20000 rkey=5 local=0x11000+300
        > SEND_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a dma=300
        # Its end; all before is acknowledged.
        < ACK psn=102
        = 1 SUCCESS
        > READ psn=101 a va=0x20000 dma=300
        < READ_FIRST psn=101 data=0x20000+256
        < ACK psn=102
        > READ psn=102 a va=0x20100 dma=44
        < READ_ONLY psn=102 data=0x20100+44
        = 2 SUCCESS len=300
        mem 0x11000+300 is 0x20000",
    );
}

#[test]
fn an_ack_of_something_later_does_not_end_a_read_but_asks_again() {
    script(
        "qp
        post 1 send local=0x10000+1
        post 2 read va=0x20000 rkey=5 local=0x11000+10
        post 3 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a dma=10
        > SEND_ONLY psn=102 a data=0x10000+2
        < ACK psn=102
        = 1 SUCCESS
        # Once, until it comes: a second ACK changes nothing.
        > READ psn=101 a va=0x20000 dma=10
        > SEND_ONLY psn=102 a data=0x10000+2
        < ACK psn=102
        count rc_dropped_response_early 1
        < READ_ONLY psn=101 data=0x20000+10
        = 2 SUCCESS
        < ACK psn=102
        = 3 SUCCESS",
    );
}

#[test]
fn a_read_goes_on_at_its_first_missing_packet() {
    script(
        "qp mtu=256
        post 1 read va=0x20000 rkey=5 local=0x10000+1000
        > READ psn=100 a va=0x20000 dma=1000
        < READ_FIRST psn=100 data=0x20000+256
        # 101 is lost.
        < READ_MIDDLE psn=102 data=0x20200+256
        > READ psn=101 a va=0x20100 dma=744
        < READ_LAST psn=103 data=0x20300+232
        count rc_dropped_response_early 1
        count rewinds 1
        mem 0x10100+744 is 0x10100
        < READ_FIRST psn=101 data=0x20100+256
        < READ_MIDDLE psn=102 data=0x20200+256
        < READ_LAST psn=103 data=0x20300+232
        = 1 SUCCESS len=1000
        mem 0x10000+1000 is 0x20000",
    );
}

#[test]
fn after_a_timeout_a_read_goes_on_at_its_first_missing_packet() {
    script(
        "qp mtu=256 kind=roce timeout=8
        post 1 read va=0x20000 rkey=5 local=0x10000+600
        > READ psn=100 a va=0x20000 dma=600
        < READ_FIRST psn=100 data=0x20000+256
        < READ_MIDDLE psn=101 data=0x20100+256
        +2ms
        > READ psn=102 a va=0x20200 dma=88
        < READ_ONLY psn=102 data=0x20200+88
        = 1 SUCCESS
        mem 0x10000+600 is 0x20000
        count timeouts 1",
    );
}

#[test]
fn answers_to_the_first_request_are_welcome_after_the_second() {
    // The timeout was too short: both answers come.
    script(
        "qp mtu=256 kind=roce timeout=8
        post 1 read va=0x20000 rkey=5 local=0x10000+512
        > READ psn=100 a va=0x20000 dma=512
        post 2 read va=0x20000 rkey=5 local=0x11000+512
        > READ psn=102 a va=0x20000 dma=512
        room 0
        +2ms
        < READ_FIRST psn=100 data=0x20000+256
        < READ_LAST psn=101 data=0x20100+256
        = 1 SUCCESS
        < READ_FIRST psn=102 data=0x20000+256
        room 9
        > READ psn=103 a va=0x20100 dma=256
        < READ_LAST psn=103 data=0x20100+256
        = 2 SUCCESS
        < READ_ONLY psn=103 data=0x20100+256
        count rc_dropped_response_stale 1
        mem 0x10000+512 is 0x20000
        mem 0x11000+512 is 0x20000",
    );
}

#[test]
fn a_long_read_asks_in_pieces() {
    // A single READ never asks for more than an eighth of the window at once.
    script(
        "qp mtu=256 window=8192 depth=16
        post 1 read va=0x20000 rkey=5 local=0x10000+2100
        > READ psn=100 a va=0x20000 dma=1024
        > READ psn=104 a va=0x20400 dma=1024
        > READ psn=108 a va=0x20800 dma=52
        < READ_FIRST psn=100 data=0x20000+256
        < READ_MIDDLE psn=101 data=0x20100+256
        < READ_MIDDLE psn=102 data=0x20200+256
        < READ_LAST psn=103 data=0x20300+256
        < READ_FIRST psn=104 data=0x20400+256
        < READ_MIDDLE psn=106 data=0x20600+256
        > READ psn=105 a va=0x20500 dma=768
        > READ psn=108 a va=0x20800 dma=52
        < READ_FIRST psn=105 data=0x20500+256
        < READ_MIDDLE psn=106 data=0x20600+256
        < READ_LAST psn=107 data=0x20700+256
        < READ_ONLY psn=108 data=0x20800+52
        = 1 SUCCESS len=2100
        mem 0x10000+2100 is 0x20000",
    );
}

#[test]
fn a_read_is_answered_with_the_bytes_of_the_region() {
    script(
        "qp mtu=256
        < READ psn=500 a va=0x30010 rkey=readable dma=600
        > READ_FIRST psn=500 syn=ack msn=1 data=0x30010+256
        > READ_MIDDLE psn=501 data=0x30110+256
        > READ_LAST psn=502 syn=ack msn=1 data=0x30210+88
        < READ psn=503 a va=0x10000 rkey=all dma=256
        > READ_ONLY psn=503 syn=ack msn=2 data=0x10000+256",
    );
}

#[test]
fn answers_leave_in_the_order_of_the_requests() {
    script(
        "qp mtu=256
        room 0
        < WRITE_ONLY psn=500 a va=0x12000 rkey=all dma=1 data=0x20000+1
        < READ psn=501 a va=0x10000 rkey=all dma=300
        < WRITE_ONLY psn=503 a va=0x12001 rkey=all dma=1 data=0x20001+1
        < READ psn=504 a va=0x10000 rkey=all dma=1
        < WRITE_ONLY psn=505 a va=0x12002 rkey=all dma=1 data=0x20002+1
        room 9
        # The answer of a READ acknowledges what was before it.
        > READ_FIRST psn=501 syn=ack msn=2 data=0x10000+256
        > READ_LAST psn=502 syn=ack msn=2 data=0x10100+44
        > READ_ONLY psn=504 syn=ack msn=4 data=0x10000+1
        > ACK psn=505 syn=ack msn=5",
    );
}

#[test]
fn bytes_that_cannot_be_read_are_not_sent() {
    script(
        "qp mtu=256
        room 1
        < READ psn=500 a va=0x10000 rkey=all dma=600
        > READ_FIRST psn=500 syn=ack msn=1 data=0x10000+256
        break all
        room 9
        > ACK psn=501 syn=operation msn=1
        state ERR
        count naks_operation_out 1",
    );
}

#[test]
fn a_region_that_vanished_is_not_read() {
    script(
        "qp mtu=256
        room 1
        < READ psn=500 a va=0x10000 rkey=all dma=600
        > READ_FIRST psn=500 syn=ack msn=1 data=0x10000+256
        deregister all
        room 9
        > ACK psn=501 syn=access msn=1
        state ERR",
    );
}

#[test]
fn an_answer_that_does_not_fit_changes_nothing() {
    script(
        "qp mtu=256
        post 1 read va=0x20000 rkey=5 local=0x10000+300
        post 2 send local=0x10000+1
        > READ psn=100 a dma=300
        > SEND_ONLY psn=102 a data=0x10000+1
        # Short, long, the wrong end, an atomic answer, and a NAK where an ACK belongs.
        < READ_FIRST psn=100 data=0x20000+255
        < READ_LAST psn=100 data=0x20000+256
        < READ_ONLY psn=100 data=0x20000+256
        < ATOMIC_ACK psn=100 orig=1
        < READ_FIRST psn=100 syn=seq data=0x20000+256
        count rc_dropped_response_unfit 5
        mem 0x10000+300 is 0x10000
        < READ_FIRST psn=100 data=0x20000+256
        < READ_MIDDLE psn=101 data=0x20100+44
        < READ_LAST psn=101 data=0x20100+45
        count rc_dropped_response_unfit 7
        < READ_LAST psn=101 data=0x20100+44
        = 1 SUCCESS
        # A SEND is not answered with data.
        < READ_ONLY psn=102 data=0x20000+1
        count rc_dropped_response_unfit 8
        < ACK psn=102
        = 2 SUCCESS
        mem 0x10000+300 is 0x20000",
    );
}
