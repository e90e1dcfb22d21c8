//! RoCE peers: sequence errors, timeouts, and the number of retries. The timeout is 4.096 us times a power of two.

use super::support::script;

#[test]
fn a_missing_request_is_said_once_until_it_came() {
    script(
        "qp
        < WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=seq msn=0
        < WRITE_ONLY psn=502 a va=0x10000 rkey=all dma=1 data=0x20000+1
        < WRITE_ONLY psn=503 a va=0x10000 rkey=all dma=1 data=0x20000+1
        count rc_dropped_request_early 3
        mem 0x10000+1 is 0x10000
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=ack msn=1
        < WRITE_ONLY psn=502 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=501 syn=seq msn=1
        count naks_sequence_out 2",
    );
}

#[test]
fn a_duplicate_does_not_hide_that_something_is_missing() {
    script(
        "qp
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=ack msn=1
        room 0
        < WRITE_ONLY psn=502 a va=0x10000 rkey=all dma=1 data=0x20000+1
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        room 9
        > ACK psn=501 syn=seq msn=1",
    );
}

#[test]
fn after_a_sequence_error_all_from_there_on_is_sent_again() {
    script(
        "qp mtu=256 kind=roce
        post 1 send local=0x10000+1
        post 2 write va=0x9000 rkey=5 local=0x10000+600
        post 3 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > WRITE_FIRST psn=101 dma=600 data=0x10000+256
        > WRITE_MIDDLE psn=102 data=0x10100+256
        > WRITE_LAST psn=103 a data=0x10200+88
        > SEND_ONLY psn=104 a data=0x10000+2
        # It acknowledges what is before.
        < ACK psn=102 syn=seq
        = 1 SUCCESS
        > WRITE_MIDDLE psn=102 data=0x10100+256
        > WRITE_LAST psn=103 a data=0x10200+88
        > SEND_ONLY psn=104 a data=0x10000+2
        < ACK psn=104
        = 2 SUCCESS
        = 3 SUCCESS
        count rewinds 1
        count naks_sequence_in 1",
    );
}

#[test]
fn a_sequence_error_after_a_missing_read_asks_for_the_read() {
    script(
        "qp kind=roce
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 send local=0x10000+2
        post 3 send local=0x10000+3
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        > SEND_ONLY psn=102 a data=0x10000+3
        < ACK psn=101 syn=seq
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        > SEND_ONLY psn=102 a data=0x10000+3
        < READ_ONLY psn=100 data=0x20000+1
        = 1 SUCCESS
        < ACK psn=102
        = 2 SUCCESS
        = 3 SUCCESS",
    );
}

#[test]
fn a_timeout_sends_all_again() {
    script(
        "qp kind=roce timeout=8
        post 1 send local=0x10000+1
        post 2 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        +1ms
        +100us
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        = 1 SUCCESS
        = 2 SUCCESS
        +10ms
        count timeouts 1",
    );
}

#[test]
fn the_timer_runs_from_the_last_progress() {
    script(
        "qp kind=roce timeout=8
        post 1 send local=0x10000+1
        post 2 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        +1ms
        < ACK psn=100
        = 1 SUCCESS
        +1ms
        +100us
        > SEND_ONLY psn=101 a data=0x10000+2",
    );
}

#[test]
fn retries_are_counted_and_then_it_fails() {
    script(
        "qp kind=roce timeout=8 retries=2
        post 1 send local=0x10000+1
        post 2 read va=0 rkey=5 local=0x10000+2
        recv 3 local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a
        +2ms
        > SEND_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a
        +2ms
        > SEND_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a
        state RTS
        +2ms
        = 1 RETRY_EXC_ERR
        = 2 WR_FLUSH_ERR
        = 3 WR_FLUSH_ERR
        state ERR
        +1s
        count qps_failed 1
        count bytes_in_flight 0",
    );
}

#[test]
fn progress_gives_all_retries_back() {
    script(
        "qp kind=roce timeout=8 retries=1
        post 1 send local=0x10000+1
        post 2 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        +2ms
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=100
        = 1 SUCCESS
        +2ms
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        = 2 SUCCESS",
    );
}

#[test]
fn sequence_errors_without_progress_are_counted_too() {
    script(
        "qp kind=roce timeout=8 retries=2
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=seq
        > SEND_ONLY psn=100 a data=0x10000+1
        +2ms
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=seq
        = 1 RETRY_EXC_ERR
        state ERR",
    );
    script(
        "qp kind=roce retries=0
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=seq
        = 1 RETRY_EXC_ERR
        state ERR",
    );
}

#[test]
fn a_nak_that_comes_twice_is_one() {
    // The wire repeated the NAK. A responder itself sends one NAK for a missing request, until that request comes.
    for kind in ["kind=roce retries=1", "kind=own"] {
        script(&format!(
            "qp {kind}
            post 1 send local=0x10000+1
            post 2 send local=0x10000+2
            > SEND_ONLY psn=100 a data=0x10000+1
            > SEND_ONLY psn=101 a data=0x10000+2
            < ACK psn=100 syn=seq
            > SEND_ONLY psn=100 a data=0x10000+1
            > SEND_ONLY psn=101 a data=0x10000+2
            < ACK psn=100 syn=seq
            count rc_dropped_response_stale 1
            count naks_sequence_in 1
            count rewinds 1
            < ACK psn=100
            = 1 SUCCESS
            # What comes after progress is another one.
            < ACK psn=101 syn=seq
            > SEND_ONLY psn=101 a data=0x10000+2
            < ACK psn=101
            = 2 SUCCESS
            count naks_sequence_in 2"
        ));
    }
}

#[test]
fn missing_answers_are_counted_as_retries() {
    script(
        "qp kind=roce retries=0
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 send local=0x10000+2
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        = 1 RETRY_EXC_ERR
        = 2 WR_FLUSH_ERR
        state ERR
        count rewinds 0",
    );
    // A NAK for a later request, and the second packet of the answer, show the same.
    for beyond in ["ACK psn=102 syn=seq", "ACK psn=102 syn=rnr:1", "READ_LAST psn=101 data=0x20100+44"] {
        script(&format!(
            "qp mtu=256 kind=roce retries=0
            post 1 read va=0x20000 rkey=5 local=0x10000+300
            post 2 send local=0x10000+2
            > READ psn=100 a
            > SEND_ONLY psn=102 a data=0x10000+2
            < {beyond}
            = 1 RETRY_EXC_ERR
            = 2 WR_FLUSH_ERR"
        ));
    }
    // With one retry it is asked for once more. A timeout is the next retry.
    script(
        "qp kind=roce retries=1 timeout=8
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 send local=0x10000+2
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        count rc_dropped_response_early 1
        +2ms
        = 1 RETRY_EXC_ERR
        = 2 WR_FLUSH_ERR",
    );
}

#[test]
fn an_answer_beyond_what_is_to_be_sent_again_anyway_is_no_retry() {
    script(
        "qp kind=roce retries=1 timeout=8
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 send local=0x10000+2
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        room 0
        +2ms
        < ACK psn=101
        count rc_dropped_response_early 1
        room 9
        > READ psn=100 a
        > SEND_ONLY psn=101 a data=0x10000+2
        < READ_ONLY psn=100 data=0x20000+1
        = 1 SUCCESS
        < ACK psn=101
        = 2 SUCCESS
        count rewinds 1",
    );
}

#[test]
fn what_came_before_the_nak_left_is_acknowledged() {
    // Two packets change places and come in one burst. The first one is done. The second was dropped, so it is asked
    // for.
    script(
        "qp
        room 0
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        room 9
        > ACK psn=501 syn=seq msn=1
        count naks_sequence_out 1
        # It was said: what is beyond is dropped until it comes.
        < WRITE_ONLY psn=502 a va=0x10002 rkey=all dma=1 data=0x20002+1
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        > ACK psn=501 syn=ack msn=2
        < WRITE_ONLY psn=502 a va=0x10002 rkey=all dma=1 data=0x20002+1
        > ACK psn=502 syn=ack msn=3
        mem 0x10000+3 is 0x20000
        count naks_sequence_out 1",
    );
    // All later packets came again as well, so that nothing is asked for.
    script(
        "qp
        room 0
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        room 9
        > ACK psn=501 syn=ack msn=2
        count naks_sequence_out 0
        < WRITE_ONLY psn=503 a va=0x10001 rkey=all dma=1 data=0x20001+1
        > ACK psn=502 syn=seq msn=2",
    );
    // The farthest packet counts, in any order of arrival.
    script(
        "qp
        room 0
        < WRITE_ONLY psn=502 a va=0x10002 rkey=all dma=1 data=0x20002+1
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        room 9
        > ACK psn=502 syn=seq msn=2",
    );
    // The answer to a READ leaves before the NAK, and does not replace it.
    script(
        "qp
        room 0
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        < READ psn=500 a va=0x12000 rkey=all dma=1
        room 9
        > READ_ONLY psn=500 syn=ack msn=1 data=0x12000+1
        > ACK psn=501 syn=seq msn=1",
    );
}

#[test]
fn timeout_zero_waits_for_ever() {
    script(
        "qp kind=roce timeout=0
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        +1000s
        < ACK psn=100
        = 1 SUCCESS",
    );
}

#[test]
fn an_ack_that_comes_after_the_timeout_saves_sending_again() {
    script(
        "qp kind=roce timeout=8
        post 1 send local=0x10000+1
        post 2 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        room 0
        +2ms
        < ACK psn=100
        = 1 SUCCESS
        room 9
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        = 2 SUCCESS",
    );
}
