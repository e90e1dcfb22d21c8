//! The body of the fuzz target on random input, and what a peer with a wrong rkey can learn.

use proptest::prelude::*;
use transport::{Access, Arrival, Config, Endpoint, PathId, Qpn, ReadyToReceive, Region, Room, Sink};
use wire::rc::packet::header;
use wire::rc::{AtomicEth, Bth, IcrcSeed, Opcode, PathMtu, Psn, Reth, RnrTimer};
use wire::{MsgType, RecordHeader};

#[path = "../../fuzz/bodies.rs"]
#[allow(unreachable_pub)] // The fuzz targets use it as a crate.
mod bodies;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_packets_pass(input in proptest::collection::vec(any::<u8>(), 0..600)) {
        bodies::packets(&input);
    }

    #[test]
    fn packets_that_are_nearly_right_pass(
        own in any::<u8>(),
        packets in proptest::collection::vec(
            (any::<u8>(), any::<[u8; 4]>(), proptest::collection::vec(any::<u8>(), 0..28)),
            1..60,
        ),
    ) {
        let mut input = vec![own];
        for (mode, fields, headers) in packets {
            // The packets come from the peer, whole and with a right ICRC. Time passes and answers leave now and then.
            input.push(mode & !0x0f);
            input.extend(fields);
            input.extend(headers);
        }
        bodies::packets(&input);
    }
}

/// The answers to one request.
fn answer(address: u64, key: u32, len: u32, opcode: Opcode) -> Vec<Vec<u8>> {
    let mut endpoint = Endpoint::new(Config { regions: 4, ..Config::default() }, 0).unwrap();
    for (random, domain) in [(0x1234_5670, 1), (0x4321_0000, 2)] {
        let memory: Vec<u8> = (0..4096).map(|at| (at % 251) as u8).collect();
        let region = Region { base: 0x1_0000, len: 4096, access: Access::ALL, domain, memory };
        endpoint.register(random, region).unwrap();
    }
    let qpn = endpoint.create(0x00ab_cd00, 1).unwrap();
    endpoint.init(qpn).unwrap();
    let (path, peer, psn, rnr_timer) = (PathId(1), Qpn(7), Psn::new(5), RnrTimer::new(1));
    let receive = ReadyToReceive { path, peer, psn, mtu: PathMtu::B256, read_depth: 4, rnr_timer };
    endpoint.ready_to_receive(qpn, &receive).unwrap();
    let (reth, atomic) = (Reth::new(address, key, len), AtomicEth::new(address, key, 1, 2));
    let head = if opcode.has_reth() { header(&reth) } else { header(&atomic) };
    let payload = if opcode.has_payload() { len as usize } else { 0 };
    let mut bytes = vec![0; wire::rc::wire_len(opcode, payload)];
    wire::rc::open(Bth::new(opcode, qpn.0, psn).with_ack_request(true), [head, &[]], payload, &mut bytes).unwrap();
    let seed = |len| IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, 1 << 48, len));
    seed(bytes.len() as u32).seal(&mut bytes);
    endpoint.receive(1, &Arrival { path, ce: false, seed: seed(bytes.len() as u32), bytes: &bytes });
    let mut sent = Sent::default();
    endpoint.transmit(1, &mut sent);
    sent.packets
}

#[derive(Default)]
struct Sent {
    open: Vec<u8>,
    packets: Vec<Vec<u8>>,
}

impl Sink for Sent {
    fn open(&mut self, _: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        self.open = vec![0; len];
        let seed = IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, 1 << 48, len as u32));
        Some(Room { bytes: &mut self.open, seed })
    }

    fn close(&mut self) {
        self.packets.push(std::mem::take(&mut self.open));
    }
}

proptest! {
    /// The answer is the same to the last bit whether there is a region with nearly this key, one of another domain, or
    /// none. The address in the region does not matter either.
    #[test]
    fn a_wrong_rkey_learns_nothing(key in any::<u32>(), place in 0u32..4, inside in 0u64..4000,
        outside in any::<u64>()) {
        for opcode in [Opcode::READ_REQUEST, Opcode::WRITE_ONLY, Opcode::FETCH_ADD, Opcode::COMPARE_SWAP] {
            let inside = 0x1_0000 + inside / 8 * 8;
            // The keys are 0x12345670 and 0x43210001: the place in the table, and the random bits of the other.
            let wrong = [key & !3 | place, 0x1234_5674 & !3 | place, 0x4321_0001, 0x4321_0000 | place & 2, 0];
            let answers: Vec<_> =
                wrong.iter().flat_map(|&key| [answer(inside, key, 64, opcode), answer(outside & !7, key, 64,
                    opcode)]).collect();
            prop_assert_eq!(answers[0].len(), 1);
            prop_assert!(answers.iter().all(|other| *other == answers[0]));
            prop_assert_ne!(&answer(inside, 0x1234_5670, 64, opcode), &answers[0]);
        }
    }
}
