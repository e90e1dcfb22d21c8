//! 24-bit PSNs: they wrap, in requests, answers, ACKs and duplicates.

use super::support::script;

#[test]
fn requests_wrap() {
    script(
        "qp mtu=256 psn=0xfffffe
        post 1 write va=0 rkey=5 local=0x10000+700
        post 2 send local=0x10000+1
        > WRITE_FIRST psn=0xfffffe data=0x10000+256
        > WRITE_MIDDLE psn=0xffffff data=0x10100+256
        > WRITE_LAST psn=0 a data=0x10200+188
        > SEND_ONLY psn=1 a data=0x10000+1
        < ACK psn=0xffffff
        < ACK psn=0
        = 1 SUCCESS
        # An old one is old also across the wrap.
        < ACK psn=0xffffff
        count rc_dropped_response_stale 1
        < ACK psn=1
        = 2 SUCCESS",
    );
}

#[test]
fn answers_of_a_read_wrap() {
    script(
        "qp mtu=256 psn=0xffffff
        post 1 read va=0x20000 rkey=5 local=0x10000+600
        > READ psn=0xffffff a dma=600
        < READ_FIRST psn=0xffffff data=0x20000+256
        < READ_LAST psn=1 data=0x20200+88
        > READ psn=0 a va=0x20100 dma=344
        < READ_FIRST psn=0 data=0x20100+256
        < READ_LAST psn=1 data=0x20200+88
        = 1 SUCCESS
        mem 0x10000+600 is 0x20000",
    );
}

#[test]
fn the_responder_wraps() {
    script(
        "qp mtu=256 epsn=0xffffff
        < READ psn=0xffffff a va=0x10000 rkey=all dma=600
        > READ_FIRST psn=0xffffff syn=ack msn=1 data=0x10000+256
        > READ_MIDDLE psn=0 data=0x10100+256
        > READ_LAST psn=1 syn=ack msn=1 data=0x10200+88
        < READ psn=0 a va=0x10100 rkey=all dma=344
        > READ_FIRST psn=0 syn=ack msn=1 data=0x10100+256
        > READ_LAST psn=1 syn=ack msn=1 data=0x10200+88
        < WRITE_ONLY psn=3 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=2 syn=seq msn=1
        < WRITE_ONLY psn=2 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=2 syn=ack msn=2",
    );
}

#[test]
fn half_of_all_psns_are_old_and_half_are_new() {
    script(
        "qp epsn=0
        # 2^23 - 1 ahead is new, 2^23 ahead is old.
        < WRITE_ONLY psn=0x7fffff a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=0 syn=seq msn=0
        count rc_dropped_request_early 1
        < WRITE_ONLY psn=0x800000 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=0xffffff syn=ack msn=0
        count duplicates_in 1",
    );
}

#[test]
fn only_the_low_24_bits_of_a_psn_count() {
    script(
        "qp psn=0x1000005
        post 1 send local=0x10000+1
        > SEND_ONLY psn=5 a data=0x10000+1
        < ACK psn=5
        = 1 SUCCESS",
    );
}
