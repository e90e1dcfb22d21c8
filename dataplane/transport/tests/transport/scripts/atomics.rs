//! COMPARE&SWAP and FETCH&ADD on both sides.

use super::support::script;

#[test]
fn the_word_before_lands_in_the_local_buffer() {
    script(
        "qp
        post 1 cas va=0x9000 rkey=5 cmp=3 swap=4 local=0x10000+8
        > CAS psn=100 a va=0x9000 rkey=5 cmp=3 swap=4
        post 2 add va=0x9008 rkey=5 swap=10 local=0x10008+8
        > ADD psn=101 a va=0x9008 rkey=5 swap=10 cmp=0
        < ATOMIC_ACK psn=100 msn=1 orig=33
        = 1 SUCCESS len=8
        < ATOMIC_ACK psn=101 msn=2 orig=44
        = 2 SUCCESS len=8
        word 0x10000 is 33
        word 0x10008 is 44",
    );
}

#[test]
fn atomics_count_as_reads_towards_the_depth() {
    script(
        "qp depth=1
        post 1 read va=0x20000 rkey=5 local=0x10000+1
        post 2 add va=0x9008 rkey=5 swap=10 local=0x10008+8
        > READ psn=100 a dma=1
        < READ_ONLY psn=100 data=0x20000+1
        = 1 SUCCESS
        > ADD psn=101 a swap=10
        < ATOMIC_ACK psn=101 orig=44
        = 2 SUCCESS",
    );
}

#[test]
fn the_word_is_changed_once_and_the_answer_says_what_it_was() {
    script(
        "qp
        word 0x10000 set 5
        < ADD psn=500 a va=0x10000 rkey=all swap=7
        > ATOMIC_ACK psn=500 syn=ack msn=1 orig=5
        word 0x10000 is 12
        < CAS psn=501 a va=0x10000 rkey=all cmp=11 swap=1
        > ATOMIC_ACK psn=501 syn=ack msn=2 orig=12
        word 0x10000 is 12
        < CAS psn=502 a va=0x10000 rkey=all cmp=12 swap=1
        > ATOMIC_ACK psn=502 syn=ack msn=3 orig=12
        word 0x10000 is 1
        < ADD psn=503 a va=0x10000 rkey=all swap=0xffffffffffffffff
        > ATOMIC_ACK psn=503 syn=ack msn=4 orig=1
        word 0x10000 is 0",
    );
}

#[test]
fn a_repeated_atomic_is_answered_from_the_cache() {
    script(
        "qp
        word 0x10000 set 5
        < ADD psn=500 a va=0x10000 rkey=all swap=7
        > ATOMIC_ACK psn=500 syn=ack msn=1 orig=5
        < ADD psn=501 a va=0x10000 rkey=all swap=1
        > ATOMIC_ACK psn=501 syn=ack msn=2 orig=12
        < ADD psn=500 a va=0x10000 rkey=all swap=7
        > ATOMIC_ACK psn=500 syn=ack msn=1 orig=5
        word 0x10000 is 13
        count duplicates_in 1
        # At another place it is none that was done.
        < ADD psn=501 a va=0x10008 rkey=all swap=1
        < CAS psn=499 a va=0x10000 rkey=all swap=1
        count rc_dropped_duplicate_unknown 2",
    );
}

#[test]
fn a_repeated_atomic_with_other_operands_is_none_that_was_done() {
    script(
        "qp
        word 0x10000 set 5
        < ADD psn=500 a va=0x10000 rkey=all swap=7
        > ATOMIC_ACK psn=500 syn=ack msn=1 orig=5
        < CAS psn=501 a va=0x10000 rkey=all cmp=12 swap=3
        > ATOMIC_ACK psn=501 syn=ack msn=2 orig=12
        # Another addend, another operation, another key; another value to swap in, and another one to compare.
        < ADD psn=500 a va=0x10000 rkey=all swap=8
        < CAS psn=500 a va=0x10000 rkey=all swap=7
        < ADD psn=500 a va=0x10000 rkey=readable swap=7
        < CAS psn=501 a va=0x10000 rkey=all cmp=12 swap=4
        < CAS psn=501 a va=0x10000 rkey=all cmp=13 swap=3
        < ADD psn=501 a va=0x10000 rkey=all cmp=12 swap=3
        count rc_dropped_duplicate_unknown 6
        count duplicates_in 0
        word 0x10000 is 3
        # What a FETCH&ADD has where COMPARE&SWAP compares means nothing.
        < ADD psn=500 a va=0x10000 rkey=all swap=7 cmp=99
        > ATOMIC_ACK psn=500 syn=ack msn=1 orig=5
        < CAS psn=501 a va=0x10000 rkey=all cmp=12 swap=3
        > ATOMIC_ACK psn=501 syn=ack msn=2 orig=12
        word 0x10000 is 3
        state RTS",
    );
}

#[test]
fn a_word_that_is_not_aligned_is_an_invalid_request() {
    script(
        "qp
        < ADD psn=500 a va=0x10004 rkey=all swap=7
        > ACK psn=500 syn=invalid
        state ERR",
    );
}

#[test]
fn a_region_must_permit_atomics() {
    script(
        "qp
        < ADD psn=500 a va=0x40000 rkey=writable swap=7
        > ACK psn=500 syn=access
        state ERR
        mem 0x40000+8 is 0x40000",
    );
}

#[test]
fn a_word_that_cannot_be_changed_is_an_operational_error() {
    script(
        "qp
        break all
        < ADD psn=500 a va=0x10000 rkey=all swap=7
        > ACK psn=500 syn=operation
        state ERR",
    );
}
