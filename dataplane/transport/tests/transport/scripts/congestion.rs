//! Bytes in flight, CE marks and congestion notifications.

use super::support::script;

#[test]
fn bytes_in_flight_to_one_peer_are_bounded() {
    // 8392 bytes: each packet costs its payload and 100 bytes.
    script(
        "qp mtu=4096 window=8192
        post 1 write va=0 rkey=5 local=0x10000+12288
        > WRITE_FIRST psn=100 data=0x10000+4096
        > WRITE_MIDDLE psn=101 a data=0x11000+4096
        count window_waits 1
        count bytes_in_flight 8392
        < ACK psn=100
        > WRITE_LAST psn=102 a data=0x12000+4096
        < ACK psn=102
        = 1 SUCCESS
        count bytes_in_flight 0",
    );
}

#[test]
fn bytes_that_a_read_asks_for_are_in_flight() {
    script(
        "qp mtu=1024 window=8392
        post 1 read va=0x20000 rkey=5 local=0x10000+8192
        > READ psn=100 a dma=1024
        > READ psn=101 a va=0x20400 dma=1024
        > READ psn=102 a va=0x20800 dma=1024
        > READ psn=103 a va=0x20c00 dma=1024
        count bytes_in_flight 4496
        < READ_ONLY psn=100 data=0x20000+1024
        > READ psn=104 a va=0x21000 dma=1024
        < READ_ONLY psn=101 data=0x20400+1024
        > READ psn=105 a va=0x21400 dma=1024",
    );
}

#[test]
fn bytes_in_flight_to_all_peers_are_bounded() {
    script(
        "qp mtu=4096 total=8392
        post 1 write va=0 rkey=5 local=0x10000+12288
        > WRITE_FIRST psn=100 data=0x10000+4096
        > WRITE_MIDDLE psn=101 a data=0x11000+4096
        count bytes_in_flight 8392
        < ACK psn=101
        > WRITE_LAST psn=102 a data=0x12000+4096",
    );
}

#[test]
fn answers_are_sent_also_while_requests_wait_for_room() {
    script(
        "qp mtu=4096 window=8192
        post 1 write va=0 rkey=5 local=0x10000+12288
        > WRITE_FIRST psn=100 data=0x10000+4096
        > WRITE_MIDDLE psn=101 a data=0x11000+4096
        < READ psn=500 a va=0x10000 rkey=all dma=1
        > READ_ONLY psn=500 syn=ack msn=1 data=0x10000+1",
    );
}

#[test]
fn a_mark_on_a_request_is_answered_with_a_notification() {
    script(
        "qp kind=roce
        < WRITE_ONLY psn=500 a ce va=0x10000 rkey=all dma=1 data=0x20000+1
        > CNP psn=0
        > ACK psn=500 syn=ack msn=1
        # At most one in 50 us.
        < WRITE_ONLY psn=501 a ce va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=501 syn=ack msn=2
        +50us
        < WRITE_ONLY psn=502 a ce va=0x10000 rkey=all dma=1 data=0x20000+1
        > CNP psn=0
        > ACK psn=502 syn=ack msn=3
        count cnps_out 2",
    );
}

/// Fills the window of 131,072 bytes after the steps `before`. Returns how many packets that took.
fn packets_in_window(before: &str) -> usize {
    let mut script = script(&format!("qp mtu=4096 depth=200\n{before}"));
    for id in 0..100 {
        script.try_post(&format!("post {id} read va=0x20000 rkey=5 local=0x10000+4096")).unwrap();
    }
    script.step_lenient("+1us");
    script.take_sent()
}

#[test]
fn notifications_marks_and_losses_make_the_window_smaller() {
    let whole = packets_in_window("");
    assert_eq!(whole, 131_072 / 4196);
    assert_eq!(packets_in_window("< CNP psn=0\ncount cnps_in 1"), 131_072 / 4 * 3 / 4196);
    let answer = "post 200 read va=0x20000 rkey=5 local=0x10000+1\n> READ psn=100 a\n";
    let marked = format!("{answer}< READ_ONLY psn=100 ce data=0x20000+1\n= 200 SUCCESS\n> CNP psn=0");
    assert_eq!(packets_in_window(&marked), (131_072 + 101) / 4 * 3 / 4196);
    let lost = format!("{answer}+2ms\n> READ psn=100 a\n< READ_ONLY psn=100 data=0x20000+1\n= 200 SUCCESS");
    assert_eq!(packets_in_window(&lost), 131_072 / 2 / 4196);
}

#[test]
fn a_burst_of_notifications_counts_once_in_a_round_trip() {
    let answer = "post 200 read va=0x20000 rkey=5 local=0x10000+1\n> READ psn=100 a\n+500us\n";
    let text =
        format!("{answer}< READ_ONLY psn=100 data=0x20000+1\n= 200 SUCCESS\n< CNP psn=0\n< CNP psn=0\n< CNP psn=0");
    assert_eq!(packets_in_window(&text), (131_072 + 101) / 4 * 3 / 4196);
}
