//! SEND and WRITE, with and without immediate data, in one packet and in many, on both sides.

use super::support::script;

#[test]
fn a_send_is_one_packet_and_an_ack_ends_it() {
    script(
        "qp
        post 1 send local=0x10000+100
        > SEND_ONLY psn=100 a data=0x10000+100
        < ACK psn=100 msn=1
        = 1 SUCCESS len=100",
    );
}

#[test]
fn messages_are_cut_at_the_path_mtu() {
    script(
        "qp mtu=256
        post 1 send imm=7 local=0x10000+513
        > SEND_FIRST psn=100 data=0x10000+256
        > SEND_MIDDLE psn=101 data=0x10100+256
        > SEND_LAST_IMM psn=102 a imm=7 data=0x10200+1
        post 2 write va=0x9000 rkey=5 local=0x10000+512
        > WRITE_FIRST psn=103 va=0x9000 rkey=5 dma=512 data=0x10000+256
        > WRITE_LAST psn=104 a data=0x10100+256
        post 3 write imm=9 va=0x9000 rkey=5 local=0x10000+3
        > WRITE_ONLY_IMM psn=105 a va=0x9000 rkey=5 dma=3 imm=9 data=0x10000+3
        post 4 write imm=10 va=0x9000 rkey=5 local=0x10000+300
        > WRITE_FIRST psn=106 dma=300 data=0x10000+256
        > WRITE_LAST_IMM psn=107 a imm=10 data=0x10100+44
        < ACK psn=107 msn=4
        = 1 SUCCESS len=513
        = 2 SUCCESS len=512
        = 3 SUCCESS
        = 4 SUCCESS",
    );
}

#[test]
fn every_path_mtu_is_used_whole() {
    for mtu in [256, 512, 1024, 2048, 4096] {
        script(&format!(
            "qp mtu={mtu}
            post 1 write va=0 rkey=5 local=0x10000+{}
            > WRITE_FIRST psn=100 dma={} data=0x10000+{mtu}
            > WRITE_LAST psn=101 a data={}+1
            < ACK psn=101
            = 1 SUCCESS",
            mtu + 1,
            mtu + 1,
            0x10000 + mtu,
        ));
    }
}

#[test]
fn empty_messages_are_messages_too() {
    script(
        "qp
        post 1 send local=0x10000+0
        > SEND_ONLY psn=100 a
        post 2 write va=0 rkey=0 local=0x10000+0
        > WRITE_ONLY psn=101 a dma=0
        post 3 read va=0 rkey=0 local=0x10000+0
        > READ psn=102 a dma=0
        < READ_ONLY psn=102 msn=3
        = 1 SUCCESS len=0
        = 2 SUCCESS len=0
        = 3 SUCCESS len=0
        recv 4 local=0x10000+0
        < SEND_ONLY psn=500 a
        = 4 SUCCESS len=0
        > ACK psn=500 syn=ack msn=1
        # No key is looked at for no bytes.
        < WRITE_ONLY psn=501 a va=0 rkey=0 dma=0
        > ACK psn=501 syn=ack msn=2
        < READ psn=502 a va=0 rkey=0 dma=0
        > READ_ONLY psn=502 syn=ack msn=3",
    );
}

#[test]
fn long_messages_ask_for_acks_on_the_way() {
    let mut text = "qp mtu=256\npost 1 write va=0 rkey=5 local=0x10000+5120\n".to_owned();
    for packet in 0..20 {
        let (name, ask) = match packet {
            0 => ("WRITE_FIRST", ""),
            19 => ("WRITE_LAST", "a"),
            15 => ("WRITE_MIDDLE", "a"),
            _ => ("WRITE_MIDDLE", ""),
        };
        text += &format!("> {name} psn={} {ask} data={}+256\n", 100 + packet, 0x10000 + 256 * packet);
    }
    script(&(text + "< ACK psn=115\n< ACK psn=119\n= 1 SUCCESS"));
}

#[test]
fn one_ack_ends_all_before_it() {
    script(
        "qp
        post 1 send local=0x10000+1
        post 2 write va=0 rkey=5 local=0x10000+300
        post 3 send local=0x10000+2
        > SEND_ONLY psn=100 a data=0x10000+1
        > WRITE_FIRST psn=101 data=0x10000+256
        > WRITE_LAST psn=102 a data=0x10100+44
        > SEND_ONLY psn=103 a data=0x10000+2
        # An ACK in the middle of a message ends only what is whole.
        < ACK psn=101
        = 1 SUCCESS
        < ACK psn=103
        = 2 SUCCESS
        = 3 SUCCESS",
    );
}

#[test]
fn credits_of_an_ack_are_read_over() {
    script(
        "qp
        post 1 send local=0x10000+1
        > SEND_ONLY psn=100 a data=0x10000+1
        < ACK psn=100 syndrome=0
        = 1 SUCCESS",
    );
}

#[test]
fn a_send_fills_the_oldest_receive() {
    script(
        "qp mtu=256
        recv 1 local=0x10000+1000
        recv 2 local=0x11000+256
        < SEND_FIRST psn=500 data=0x20000+256
        < SEND_MIDDLE psn=501 data=0x20100+256
        < SEND_LAST_IMM psn=502 a imm=77 data=0x20200+10
        = 1 SUCCESS len=522 imm=77 kind=receive
        > ACK psn=502 syn=ack msn=1
        mem 0x10000+522 is 0x20000
        mem 0x1020a+100 is 0x1020a
        < SEND_ONLY psn=503 a data=0x20000+256
        = 2 SUCCESS len=256 kind=receive
        > ACK psn=503 syn=ack msn=2
        mem 0x11000+256 is 0x20000",
    );
}

#[test]
fn a_write_goes_where_it_says_and_needs_no_receive() {
    script(
        "qp mtu=256
        < WRITE_FIRST psn=500 va=0x10010 rkey=all dma=600 data=0x20000+256
        < WRITE_MIDDLE psn=501 a data=0x20100+256
        > ACK psn=501 syn=ack msn=0
        < WRITE_LAST psn=502 a data=0x20200+88
        > ACK psn=502 syn=ack msn=1
        mem 0x10000+16 is 0x10000
        mem 0x10010+600 is 0x20000
        mem 0x10268+100 is 0x10268",
    );
}

#[test]
fn a_write_with_immediate_completes_a_receive_and_leaves_its_buffer() {
    script(
        "qp mtu=256
        recv 1 local=0x11000+10
        recv 2 local=0x11000+10
        < WRITE_FIRST psn=500 va=0x10000 rkey=all dma=300 data=0x20000+256
        < WRITE_LAST_IMM psn=501 a imm=5 data=0x20100+44
        = 1 SUCCESS len=300 imm=5 kind=write-imm
        > ACK psn=501 syn=ack msn=1
        < WRITE_ONLY_IMM psn=502 a va=0x10000 rkey=all dma=0 imm=6
        = 2 SUCCESS len=0 imm=6 kind=write-imm
        > ACK psn=502 syn=ack msn=2
        mem 0x10000+300 is 0x20000
        mem 0x11000+10 is 0x11000",
    );
}

#[test]
fn one_ack_answers_all_that_came_since_the_last() {
    script(
        "qp
        < WRITE_ONLY psn=500 va=0x10000 rkey=all dma=1 data=0x20000+1
        < WRITE_ONLY psn=501 va=0x10001 rkey=all dma=1 data=0x20001+1
        count requests_in 2
        < WRITE_ONLY psn=502 a va=0x10002 rkey=all dma=1 data=0x20002+1
        > ACK psn=502 syn=ack msn=3",
    );
}

#[test]
fn acks_are_merged_while_they_cannot_leave() {
    script(
        "qp
        room 0
        < WRITE_ONLY psn=500 a va=0x10000 rkey=all dma=1 data=0x20000+1
        < WRITE_ONLY psn=501 a va=0x10001 rkey=all dma=1 data=0x20001+1
        room 9
        > ACK psn=501 syn=ack msn=2",
    );
}

#[test]
fn a_full_sink_loses_nothing() {
    script(
        "qp mtu=256
        room 2
        post 1 send local=0x10000+600
        > SEND_FIRST psn=100 data=0x10000+256
        > SEND_MIDDLE psn=101 data=0x10100+256
        +10us
        room 0
        < WRITE_ONLY psn=500 a va=0x12000 rkey=all dma=1 data=0x20000+1
        room 1
        # Answers go first.
        > ACK psn=500 syn=ack msn=1
        room 1
        > SEND_LAST psn=102 a data=0x10200+88
        < ACK psn=102
        = 1 SUCCESS",
    );
}
