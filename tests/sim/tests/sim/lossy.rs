//! Losses without end, by strangers and by the wire. Membership still follows the nodes that live and die.

use sim::lossy::{self, Lossy};

#[test]
fn who_dies_while_packets_are_lost_is_gone_and_who_starts_again_is_back() {
    let runs = (0..40).map(|seed| lossy::run(seed * 7).unwrap_or_else(|failure| panic!("{failure}")));
    let (signed, unsigned): (Vec<Lossy>, Vec<Lossy>) = runs.partition(|run| run.signed);
    assert!(!signed.is_empty() && !unsigned.is_empty(), "both kinds of clusters are tried");
    assert!(signed.iter().chain(&unsigned).all(|run| run.died > 0));
}
