//! Malformed, stale and forged packets: each is counted by its reason and changes nothing.

use super::support::script;

/// The packet is dropped with this counter while requester and responder are at work.
fn dropped(packet: &str, counter: &str) {
    script(&format!(
        "qp mtu=256
        post 1 send local=0x10000+1
        post 2 read va=0x20000 rkey=5 local=0x10100+300
        > SEND_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a
        < WRITE_ONLY psn=500 a va=0x12000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=ack msn=1
        < {packet}
        count {counter} 1
        state RTS
        mem 0x10000+8192 is 0x10000
        < ACK psn=100
        = 1 SUCCESS
        < READ_FIRST psn=101 data=0x20000+256
        < READ_LAST psn=102 data=0x20100+44
        = 2 SUCCESS
        < WRITE_ONLY psn=501 a va=0x12000 rkey=all dma=1 data=0x20000+1
        > ACK psn=501 syn=ack msn=2"
    ));
}

const WRITE: &str = "WRITE_ONLY psn=501 a va=0x10000 rkey=all dma=4 data=0x20000+4";

#[test]
fn what_is_no_packet_is_dropped() {
    dropped(&format!("{WRITE} cut=11"), "rc_dropped_short");
    dropped(&format!("{WRITE} cut=27"), "rc_dropped_short");
    dropped(&format!("{WRITE} cut=35"), "rc_dropped_pad");
    dropped(&format!("{WRITE} byte1=0x41"), "rc_dropped_version");
    dropped("ACK psn=100 byte1=0x70", "rc_dropped_pad");
    dropped(&format!("{WRITE} pkey=0x1234"), "rc_dropped_pkey");
}

#[test]
fn an_unknown_opcode_is_dropped() {
    // Opcodes of other services, with a right ICRC: unreliable connection, reliable datagram, unreliable datagram,
    // extended, a maker's own, and the neighbours of the congestion notification.
    for number in [0x20, 0x24, 0x44, 0x64, 0x80, 0x82, 0xa4, 0xc0, 0xff] {
        dropped(&format!("SEND_ONLY psn=501 a data=0x20000+4 byte0={number}"), "rc_dropped_opcode");
    }
    // Reserved opcodes of reliable connections, with a PSN that was done before.
    dropped("SEND_ONLY psn=500 a data=0x20000+4 byte0=0x18", "rc_dropped_opcode");
    dropped("SEND_ONLY psn=8389109 a data=0x20000+4 byte0=0x15", "rc_dropped_opcode");
}

#[test]
fn a_reserved_opcode_is_looked_at_like_any_other() {
    // The flipped bit makes the opcode reserved and the ICRC wrong.
    dropped("ADD psn=501 a va=0x10000 rkey=all swap=1 flip=0", "rc_dropped_icrc");
    dropped("SEND_ONLY psn=501 a data=0x20000+4 byte0=0x1c flip=12", "rc_dropped_icrc");
    dropped("SEND_ONLY psn=501 byte0=0x1c cut=15", "rc_dropped_short");
    dropped("SEND_ONLY psn=501 byte0=0x1c byte1=0x41", "rc_dropped_version");
    dropped("SEND_ONLY psn=501 byte0=0x1c pkey=0x1234", "rc_dropped_pkey");
    dropped("SEND_ONLY psn=501 byte0=0x1c qpn=0xabcdef", "rc_dropped_no_qp");
    dropped("SEND_ONLY psn=501 byte0=0x1c path=2", "rc_dropped_wrong_path");
}

#[test]
fn a_limited_member_of_the_partition_is_a_member() {
    script(
        "qp
        < WRITE_ONLY psn=500 a pkey=0x7fff va=0x10000 rkey=all dma=1 data=0x20000+1
        > ACK psn=500 syn=ack msn=1",
    );
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    for at in [1, 2, 8, 11, 12, 19, 20, 24, 28, 31, 32, 35] {
        // Other bits of these bytes are checked before the ICRC.
        let counter = match at {
            1 => "rc_dropped_version",
            2 => "rc_dropped_pkey",
            _ => "rc_dropped_icrc",
        };
        dropped(&format!("{WRITE} flip={at}"), counter);
    }
    dropped("READ_FIRST psn=101 data=0x20000+256 flip=100", "rc_dropped_icrc");
    dropped("ACK psn=102 flip=15", "rc_dropped_icrc");
    dropped("CNP psn=0 flip=20", "rc_dropped_icrc");
}

#[test]
fn other_queue_pairs_and_other_peers_reach_nothing() {
    dropped(&format!("{WRITE} qpn=0"), "rc_dropped_no_qp");
    dropped(&format!("{WRITE} qpn=0xabcdef"), "rc_dropped_no_qp");
    dropped(&format!("{WRITE} path=2"), "rc_dropped_wrong_path");
    dropped("ACK psn=100 path=2", "rc_dropped_wrong_path");
    dropped("CNP psn=0 path=2", "rc_dropped_wrong_path");
}

#[test]
fn answers_out_of_the_window_are_dropped() {
    dropped("ACK psn=99", "rc_dropped_response_stale");
    dropped("ACK psn=103", "rc_dropped_response_window");
    dropped("ACK psn=99 syn=access", "rc_dropped_response_stale");
    dropped("ACK psn=103 syn=access", "rc_dropped_response_window");
    dropped("ACK psn=8388710", "rc_dropped_response_window");
    dropped("ACK psn=8388711", "rc_dropped_response_stale");
    dropped("READ_FIRST psn=103 data=0x20000+256", "rc_dropped_response_window");
    dropped("READ_FIRST psn=99 data=0x20000+256", "rc_dropped_response_stale");
    dropped("ATOMIC_ACK psn=103 orig=1", "rc_dropped_response_window");
}

#[test]
fn reserved_syndromes_are_dropped() {
    dropped("ACK psn=100 syndrome=0x40", "rc_dropped_response_unfit");
    dropped("ACK psn=100 syndrome=0x65", "rc_dropped_response_unfit");
    dropped("ACK psn=100 syndrome=0xff", "rc_dropped_response_unfit");
}

#[test]
fn a_mark_on_rubbish_is_no_mark() {
    dropped(&format!("{WRITE} flip=30 ce"), "rc_dropped_icrc");
}

#[test]
fn an_idle_queue_pair_takes_no_answers() {
    script(
        "qp
        < ACK psn=100
        count rc_dropped_response_window 1
        < ACK psn=99 syn=operation
        count rc_dropped_response_stale 1
        < READ_ONLY psn=100 data=0x20000+1
        count rc_dropped_response_window 2
        state RTS",
    );
}

#[test]
fn an_answer_that_does_not_fit_acknowledges_nothing() {
    script(
        "qp mtu=256
        post 1 write va=0 rkey=5 local=0x10000+1
        post 2 read va=0 rkey=5 local=0x11000+10
        > WRITE_ONLY psn=100 a data=0x10000+1
        > READ psn=101 a
        < READ_ONLY psn=101 data=0x20000+9
        < ATOMIC_ACK psn=101 orig=7
        < READ_FIRST psn=100 data=0x20000+256
        count rc_dropped_response_unfit 3
        mem 0x11000+10 is 0x11000
        < READ_ONLY psn=101 data=0x20000+10
        = 1 SUCCESS
        = 2 SUCCESS
        mem 0x11000+10 is 0x20000",
    );
}

#[test]
fn what_a_late_nak_acknowledges_is_counted_as_an_answer() {
    script(
        "qp
        post 1 write va=0 rkey=5 local=0x10000+1
        post 2 send local=0x10000+2
        > WRITE_ONLY psn=100 a data=0x10000+1
        > SEND_ONLY psn=101 a data=0x10000+2
        room 0
        +1100us
        # Asked again, and not yet sent again.
        < ACK psn=101 syn=rnr:5
        = 1 SUCCESS
        count responses_in 1
        room 9
        > SEND_ONLY psn=101 a data=0x10000+2
        < ACK psn=101
        = 2 SUCCESS",
    );
}
