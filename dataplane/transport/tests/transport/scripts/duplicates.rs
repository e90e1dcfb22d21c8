//! Requests that come again: answered, never done twice.

use super::support::script;

#[test]
fn a_repeated_send_is_acknowledged_and_takes_no_receive() {
    script(
        "qp
        recv 1 local=0x10000+10
        recv 2 local=0x10010+10
        < SEND_ONLY psn=500 a data=0x20000+10
        = 1 SUCCESS
        > ACK psn=500 syn=ack msn=1
        < SEND_ONLY psn=500 a data=0x20000+10
        > ACK psn=500 syn=ack msn=1
        count duplicates_in 1
        < SEND_ONLY psn=501 a data=0x20010+10
        = 2 SUCCESS
        > ACK psn=501 syn=ack msn=2
        # The newest is acknowledged, whichever comes again.
        < SEND_ONLY psn=500 a data=0x20000+10
        > ACK psn=501 syn=ack msn=2",
    );
}

#[test]
fn a_repeated_write_is_acknowledged_and_writes_nothing() {
    script(
        "qp
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=4 data=0x20000+4
        > ACK psn=500 syn=ack msn=1
        < WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=4 data=0x20010+4
        > ACK psn=501 syn=ack msn=2
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=4 data=0x20000+4
        > ACK psn=501 syn=ack msn=2
        mem 0x10000+4 is 0x20010",
    );
}

#[test]
fn an_ack_for_a_duplicate_does_not_stand_for_an_answer() {
    script(
        "qp mtu=256
        < WRITE_ONLY psn=500 va=0x10000 rkey=all dma=4 data=0x20000+4
        < WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=4 data=0x20010+4
        > ACK psn=501 syn=ack msn=2
        < READ psn=502 a va=0x10100 rkey=all dma=300
        > ANSWER psn=502 msn=3 data=0x10100+300
        # The answer may be lost, and an ACK with the PSN of its end could be taken for it.
        < WRITE_ONLY psn=500 va=0x10000 rkey=all dma=4 data=0x20000+4
        > ACK psn=501 syn=ack msn=2
        word 0x10800 set 5
        < ADD psn=504 a va=0x10800 rkey=all swap=1
        > ATOMIC_ACK psn=504 syn=ack msn=4 orig=5
        < WRITE_ONLY psn=505 a va=0x10000 rkey=all dma=4 data=0x20010+4
        > ACK psn=505 syn=ack msn=5
        < WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=4 data=0x20010+4
        > ACK psn=501 syn=ack msn=2
        < READ psn=502 a va=0x10100 rkey=all dma=300
        > ANSWER psn=502 msn=3 data=0x10100+300
        < ADD psn=504 a va=0x10800 rkey=all swap=1
        > ATOMIC_ACK psn=504 syn=ack msn=4 orig=5
        < WRITE_ONLY psn=505 a va=0x10000 rkey=all dma=4 data=0x20010+4
        > ACK psn=505 syn=ack msn=5",
    );
}

#[test]
fn a_repeated_read_is_read_again_also_in_part() {
    script(
        "qp mtu=256
        < READ psn=500 a va=0x10000 rkey=all dma=1000
        > ANSWER psn=500 msn=1 data=0x10000+1000
        < WRITE_ONLY psn=504 a va=0x12000 rkey=all dma=1 data=0x20000+1
        > ACK psn=504 syn=ack msn=2
        # From its second packet to the end; from its second packet for two; the last one alone.
        < READ psn=501 a va=0x10100 rkey=all dma=744
        > ANSWER psn=501 msn=1 data=0x10100+744
        < READ psn=501 a va=0x10100 rkey=all dma=512
        > ANSWER psn=501 msn=1 data=0x10100+512
        < READ psn=503 a va=0x10300 rkey=all dma=232
        > READ_ONLY psn=503 syn=ack msn=1 data=0x10300+232
        count duplicates_in 3
        # The next request is still the next.
        < WRITE_ONLY psn=505 a va=0x12000 rkey=all dma=1 data=0x20000+1
        > ACK psn=505 syn=ack msn=3",
    );
}

#[test]
fn a_repeated_read_must_be_a_part_of_the_first() {
    script(
        "qp mtu=256
        < READ psn=500 a va=0x10000 rkey=all dma=600
        > ANSWER psn=500 msn=1 data=0x10000+600
        # Another place, another key, too long, a packet that is not full before the end, nothing, and before all.
        < READ psn=501 a va=0x10000 rkey=all dma=344
        < READ psn=501 a va=0x10100 rkey=readable dma=344
        < READ psn=501 a va=0x10100 rkey=all dma=345
        < READ psn=501 a va=0x10100 rkey=all dma=0xffffffff
        < READ psn=500 a va=0x10000 rkey=all dma=300
        < READ psn=500 a va=0x10000 rkey=all dma=0
        < READ psn=499 a va=0x10000 rkey=all dma=1
        count rc_dropped_duplicate_unknown 7
        count duplicates_in 0",
    );
}

#[test]
fn a_repeated_read_whose_answer_is_on_its_way_is_not_begun_anew() {
    script(
        "qp mtu=256
        room 1
        < READ psn=500 a va=0x10000 rkey=all dma=1000
        > READ_FIRST psn=500 syn=ack msn=1 data=0x10000+256
        < READ psn=502 a va=0x10200 rkey=all dma=488
        room 9
        > READ_MIDDLE psn=501 data=0x10100+256
        > READ_MIDDLE psn=502 data=0x10200+256
        > READ_LAST psn=503 syn=ack msn=1 data=0x10300+232",
    );
}

#[test]
fn a_part_that_is_asked_for_again_does_not_end_the_answer_under_way() {
    // The first packet is asked for again while the others are still to be sent.
    script(
        "qp mtu=256
        room 1
        < READ psn=500 a va=0x10000 rkey=all dma=1000
        > READ_FIRST psn=500 syn=ack msn=1 data=0x10000+256
        < READ psn=500 a va=0x10000 rkey=all dma=256
        room 9
        > ANSWER psn=500 msn=1 data=0x10000+1000
        count duplicates_in 1",
    );
    // Nothing was sent yet.
    script(
        "qp mtu=256
        room 0
        < READ psn=500 a va=0x10000 rkey=all dma=600
        < READ psn=501 a va=0x10100 rkey=all dma=256
        < READ psn=502 a va=0x10200 rkey=all dma=88
        room 9
        > ANSWER psn=500 msn=1 data=0x10000+600",
    );
    // The answer under way is itself a part that was asked for again. It becomes longer, and stays in order.
    script(
        "qp mtu=256
        < READ psn=500 a va=0x10000 rkey=all dma=600
        > ANSWER psn=500 msn=1 data=0x10000+600
        room 0
        < READ psn=501 a va=0x10100 rkey=all dma=256
        < READ psn=502 a va=0x10200 rkey=all dma=88
        room 9
        > ANSWER psn=501 msn=1 data=0x10100+344",
    );
}

#[test]
fn a_repeated_read_that_cannot_be_read_any_more_is_dropped() {
    for gone in ["deregister all", "break all"] {
        script(&format!(
            "qp mtu=256
            < READ psn=500 a va=0x10000 rkey=all dma=300
            > ANSWER psn=500 msn=1 data=0x10000+300
            {gone}
            # Its first answer may yet come: the connection lives.
            < READ psn=500 a va=0x10000 rkey=all dma=300
            < READ psn=501 a va=0x10100 rkey=all dma=44
            count duplicates_in 2
            count duplicates_unreadable 2
            count naks_access_out 0
            count naks_operation_out 0
            state RTS
            < READ psn=502 a va=0x30000 rkey=readable dma=4
            > READ_ONLY psn=502 syn=ack msn=2 data=0x30000+4
            # What is behind it is answered.
            room 0
            < READ psn=500 a va=0x10000 rkey=all dma=300
            < READ psn=502 a va=0x30000 rkey=readable dma=4
            room 9
            > READ_ONLY psn=502 syn=ack msn=2 data=0x30000+4"
        ));
    }
}

#[test]
fn what_was_never_answered_is_refused_with_its_own_psn() {
    // Two packets were sent, and both are asked for again; the third was never sent, and cannot be read.
    script(
        "qp mtu=256
        room 2
        < READ psn=500 a va=0x10000 rkey=all dma=600
        > READ_FIRST psn=500 syn=ack msn=1 data=0x10000+256
        > READ_MIDDLE psn=501 data=0x10100+256
        deregister all
        < READ psn=500 a va=0x10000 rkey=all dma=600
        room 9
        > ACK psn=502 syn=access msn=1
        state ERR
        count duplicates_unreadable 1
        count naks_access_out 1",
    );
}

#[test]
fn repeated_reads_are_answered_in_order_before_later_ones() {
    script(
        "qp mtu=256
        < READ psn=500 a va=0x10000 rkey=all dma=1
        > READ_ONLY psn=500 syn=ack msn=1 data=0x10000+1
        < READ psn=501 a va=0x10001 rkey=all dma=1
        > READ_ONLY psn=501 syn=ack msn=2 data=0x10001+1
        room 0
        < READ psn=501 a va=0x10001 rkey=all dma=1
        < READ psn=502 a va=0x10002 rkey=all dma=1
        < READ psn=500 a va=0x10000 rkey=all dma=1
        room 9
        > READ_ONLY psn=500 syn=ack msn=1 data=0x10000+1
        > READ_ONLY psn=501 syn=ack msn=2 data=0x10001+1
        > READ_ONLY psn=502 syn=ack msn=3 data=0x10002+1",
    );
}

#[test]
fn the_cache_keeps_as_many_as_may_be_outstanding() {
    script(
        "qp serves=2
        word 0x10100 set 5
        < READ psn=500 a va=0x10000 rkey=all dma=1
        > READ_ONLY psn=500 syn=ack msn=1 data=0x10000+1
        < ADD psn=501 a va=0x10100 rkey=all swap=0
        > ATOMIC_ACK psn=501 syn=ack msn=2 orig=5
        < READ psn=502 a va=0x10002 rkey=all dma=1
        > READ_ONLY psn=502 syn=ack msn=3 data=0x10002+1
        < READ psn=500 a va=0x10000 rkey=all dma=1
        count rc_dropped_duplicate_unknown 1
        < READ psn=502 a va=0x10002 rkey=all dma=1
        > READ_ONLY psn=502 syn=ack msn=3 data=0x10002+1",
    );
}

#[test]
fn an_answer_that_is_due_again_does_not_count_as_outstanding() {
    // The peer asked again, and then it got the first answer. It may send one more request now, and has no use for the
    // second answer.
    script(
        "qp serves=2
        < READ psn=500 a va=0x10000 rkey=all dma=1
        > READ_ONLY psn=500 syn=ack msn=1 data=0x10000+1
        room 0
        < READ psn=501 a va=0x10001 rkey=all dma=1
        < READ psn=500 a va=0x10000 rkey=all dma=1
        < READ psn=502 a va=0x10002 rkey=all dma=1
        room 9
        > READ_ONLY psn=501 syn=ack msn=2 data=0x10001+1
        > READ_ONLY psn=502 syn=ack msn=3 data=0x10002+1",
    );
}

#[test]
fn an_answer_that_is_due_acknowledges_duplicates_before_it() {
    script(
        "qp mtu=256
        < WRITE_ONLY psn=500 a va=0x12000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=ack msn=1
        room 0
        < READ psn=501 a va=0x10000 rkey=all dma=1
        < WRITE_ONLY psn=500 a va=0x12000 rkey=all dma=1 data=0x20000+1
        room 9
        > READ_ONLY psn=501 syn=ack msn=2 data=0x10000+1
        count duplicates_in 1",
    );
}
