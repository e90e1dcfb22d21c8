//! Own peers: retries end after a time instead of a count, and requests end when the peer is gone.

use super::support::script;

#[test]
fn timeouts_grow_and_end_after_five_heartbeats() {
    let mut script = script(
        "qp retries=0 timeout=0
        post 1 read va=0 rkey=5 local=0x10000+1
        > READ psn=100 a",
    );
    // The timeout doubles each time. So there are few packets in five seconds, and none later.
    let mut sent = 0;
    for _ in 0..6_000 {
        script.step_lenient("+1ms");
        sent += script.take_sent();
    }
    assert!((8..=20).contains(&sent), "{sent} times");
    script.step("= 1 RETRY_EXC_ERR");
    script.step("state ERR");
    assert_eq!(script.count("timeouts"), sent as u64);
}

#[test]
fn counts_of_retries_do_not_apply() {
    script(
        "qp retries=0 rnr_retries=0
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=rnr:1
        +1ms
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=seq
        > SEND_ONLY psn=100 a data=0x10000+1
        +3ms
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=seq
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100
        = 1 SUCCESS",
    );
}

#[test]
fn not_ready_for_five_heartbeats_is_the_end() {
    let again = "< ACK psn=100 syn=rnr:31\n+492ms\n> SEND_ONLY psn=100 a data=0x10000+1\n".repeat(11);
    script(&format!(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        {again}
        < ACK psn=100 syn=rnr:31
        = 1 RNR_RETRY_EXC_ERR"
    ));
}

#[test]
fn a_peer_that_is_gone_ends_all_at_once() {
    script(
        "qp
        recv 3 local=0x10000+1
        post 1 send local=0x10000+1
        post 2 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        gone
        = 1 RETRY_EXC_ERR
        = 2 WR_FLUSH_ERR
        = 3 WR_FLUSH_ERR
        state ERR
        gone",
    );
}

/// Karn's algorithm (RFC 6298): the answer may belong to either of the two packets.
#[test]
fn a_packet_that_was_sent_twice_measures_no_round_trip() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        +500us
        < ACK psn=100
        = 1 SUCCESS
        # 500 us, 4 times half of that, and 4 holds.
        post 2 send local=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        +1800us
        > SEND_ONLY psn=101 a data=0x10000+1
        +500us
        < ACK psn=101
        = 2 SUCCESS
        # The timeout is the same.
        post 3 send local=0x10000+1
        > SEND_ONLY psn=102 a data=0x10000+1
        +1800us
        > SEND_ONLY psn=102 a data=0x10000+1",
    );
}

#[test]
fn a_way_that_is_slower_than_the_timeout_is_learnt() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        +1100us
        > SEND_ONLY psn=100 a data=0x10000+1
        +900us
        < ACK psn=100
        = 1 SUCCESS
        # From now on nothing is sent twice.
        post 2 send local=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        +2000us
        < ACK psn=101
        = 2 SUCCESS
        post 3 send local=0x10000+1
        > SEND_ONLY psn=102 a data=0x10000+1
        +2000us
        < ACK psn=102
        = 3 SUCCESS
        count timeouts 1",
    );
}

#[test]
fn a_queue_that_grows_beyond_the_timeout_is_learnt_too() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        +100us
        < ACK psn=100
        = 1 SUCCESS
        post 2 send local=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        +1100us
        > SEND_ONLY psn=101 a data=0x10000+1
        # Too soon for an answer to the repetition.
        +20us
        < ACK psn=101
        = 2 SUCCESS
        post 3 send local=0x10000+1
        > SEND_ONLY psn=102 a data=0x10000+1
        +1500us
        < ACK psn=102
        = 3 SUCCESS
        count timeouts 1",
    );
}

#[test]
fn the_timeout_follows_the_measured_round_trip() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        +900us
        < ACK psn=100
        = 1 SUCCESS
        # 4 holds, 0.9 ms, and four times its deviation: 2.9 ms.
        post 2 send local=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+1
        +2800us
        +300us
        > SEND_ONLY psn=101 a data=0x10000+1
        # Doubled, as nothing came back.
        +5700us
        +400us
        > SEND_ONLY psn=101 a data=0x10000+1
        < ACK psn=101
        = 2 SUCCESS",
    );
}

#[test]
fn not_ready_is_the_reason_also_when_the_last_word_was_lost() {
    let again =
        |code: u8, wait: &str| format!("< ACK psn=100 syn=rnr:{code}\n{wait}\n> SEND_ONLY psn=100 a data=0x10000+1\n");
    let (long, short) = (again(31, "+492ms").repeat(10), again(23, "+31ms").repeat(2));
    let send = "qp\npost 1 send local=0x10000+1\n> SEND_ONLY psn=100 a data=0x10000+1\n";
    let mut lost = script(&format!("{send}{long}{short}"));
    for _ in 0..60 {
        lost.step_lenient("+1ms");
        lost.take_sent();
    }
    lost.step("= 1 RNR_RETRY_EXC_ERR");
    // A peer that sends nothing more for seconds counts as silent.
    let mut silent = script(&format!("{send}{}", again(31, "+492ms")));
    for _ in 0..7000 {
        silent.step_lenient("+1ms");
        silent.take_sent();
    }
    silent.step("= 1 RETRY_EXC_ERR");
}

#[test]
fn a_peer_that_is_not_ready_is_one_that_answers() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        +1100us
        > SEND_ONLY psn=100 a data=0x10000+1
        +2100us
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syn=rnr:1
        +100us
        > SEND_ONLY psn=100 a data=0x10000+1
        # The first timeout again, not the fourth.
        +1100us
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100
        = 1 SUCCESS",
    );
}

#[test]
fn time_in_which_nothing_could_be_sent_is_not_the_peers_silence() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        room 0
        +1100us
        # Behind a full ring, or for want of room in a window.
        +6s
        room 9
        > SEND_ONLY psn=100 a data=0x10000+1
        +2100us
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100
        = 1 SUCCESS",
    );
}
