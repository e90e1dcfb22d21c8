//! The bodies of the fuzz targets, run on random bytes and on valid packets with some bytes changed.

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../../fuzz/bodies.rs"]
#[allow(unreachable_pub)] // The fuzz targets use it as a crate.
mod bodies;

const BODIES: [fn(&[u8]); 6] = [bodies::walk, bodies::link, bodies::lease, bodies::part, bodies::rc, bodies::net];

#[test]
fn the_documented_packets_pass() {
    for (_, bytes) in crate::blocks::read() {
        BODIES.iter().for_each(|body| body(&bytes));
    }
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8)>> {
    proptest::collection::vec((any::<Index>(), any::<u8>()), 0..5)
}

proptest! {
    #[test]
    fn random_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        BODIES.iter().for_each(|body| body(&bytes));
    }

    #[test]
    fn changed_packets_pass(which in any::<Index>(), changes in changes(), cut in any::<Index>(),
        payload in any::<bool>()) {
        let packets = crate::blocks::read();
        let mut bytes = packets[which.index(packets.len())].1.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // The bodies of link and lease take payloads too; the others only see more random bytes.
        let from = if payload { wire::HEADER_LEN } else { 0 };
        let to = from + cut.index(bytes.len() - from + 1);
        for body in BODIES {
            body(&bytes);
            body(&bytes[from..]);
            body(&bytes[from..to]);
        }
    }

    #[test]
    fn changed_parts_pass(
        records in proptest::collection::vec((0u32..3, 0u64..2, 0u8..4, 0u32..40, 0u32..60, 0usize..20), 0..40),
    ) {
        let mut datagram = Vec::new();
        for (slave, req, flags, offset, total, len) in records {
            let payload = [&offset.to_le_bytes()[..], &total.to_le_bytes(), &[9; 20][..len]].concat();
            let header = wire::RecordHeader::new(wire::MsgType::PATTERN, slave, req, payload.len() as u32);
            let mut record = vec![0; wire::HEADER_LEN + payload.len()];
            wire::record::emit(&header.with_frag(flags), &payload, &mut record).unwrap();
            datagram.extend_from_slice(&record);
        }
        bodies::part(&datagram);
        bodies::walk(&datagram);
    }
}
