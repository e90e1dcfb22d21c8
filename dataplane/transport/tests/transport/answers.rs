//! Answers of a responder to requests that come in order, too early, too often, and while it cannot send. It never asks
//! again for a request that was done, it refuses nothing, and in the end the peer has an answer to everything.

use proptest::prelude::*;
use std::collections::VecDeque;
use transport::{
    Access, Arrival, Config, Endpoint, Local, PathId, PeerKind, Qpn, ReadyToReceive, Receive, Region, Room, Sink, State,
};
use wire::rc::packet::header;
use wire::rc::{AtomicEth, Bth, IcrcSeed, Kind, NakCode, Opcode, Packet, PathMtu, Psn, Reth, RnrTimer, Syndrome};
use wire::{MsgType, RecordHeader};

/// Bytes of a packet, and packets of the longest READ.
const MTU: u32 = 256;
const MOST: u32 = 4;
const BASE: u64 = 0x1_0000;
const SIZE: u32 = 4096;
/// The addresses that READs read, that WRITEs and SENDs write, and the word of the atomic operations.
const READ_AT: u64 = BASE;
const WRITE_AT: u64 = BASE + 2048;
const WORD_AT: u64 = BASE + 3072;

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, 1 << 48, len as u32))
}

fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Takes this many packets.
#[derive(Default)]
struct Wire {
    open: Vec<u8>,
    sent: VecDeque<Vec<u8>>,
    room: usize,
}

impl Sink for Wire {
    fn open(&mut self, _: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        if self.room == 0 {
            return None;
        }
        self.open = vec![0xee; len];
        Some(Room { bytes: &mut self.open, seed: seed(len) })
    }

    fn close(&mut self) {
        self.room -= 1;
        self.sent.push_back(std::mem::take(&mut self.open));
    }
}

/// A request of the peer.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Send,
    Write,
    /// The number of the region, and the number of packets.
    Read(usize, u32),
    Add(u64),
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Act {
    New(Ask),
    /// A request comes whose PSN is beyond the expected one.
    Early(u32),
    /// A request that was done comes again. A READ may begin at a later packet and end earlier.
    Again(usize, u32, u32),
    Transmit(usize),
    PostReceive,
    /// All packets leave. Then a region vanishes from which READs were answered.
    Vanish,
}

/// The peer, and its knowledge about the responder.
struct Peer {
    endpoint: Endpoint<Vec<u8>>,
    qpn: Qpn,
    keys: [u32; 2],
    wire: Wire,
    vanished: bool,
    /// The requests that were done, with their PSNs. For an atomic operation the last field is the word before it.
    done: Vec<(Psn, Ask, u64)>,
    word: u64,
    epsn: Psn,
    receives: u32,
    /// The last PSN that was dropped after the responder's last NAK.
    beyond: Option<Psn>,
    /// The responder has sent a NAK for the expected PSN.
    told: bool,
    /// The expected request found no receive, and no RNR NAK was sent yet.
    not_ready: bool,
    /// All PSNs before this one were acknowledged.
    heard: Psn,
}

impl Peer {
    fn new() -> Self {
        let config = Config { queue_pairs: 1, paths: 1, regions: 4, replays: 128, ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0).unwrap();
        let keys = [0, 1].map(|_| {
            let mut memory: Vec<u8> = (BASE..BASE + u64::from(SIZE)).map(pattern).collect();
            memory[(WORD_AT - BASE) as usize..][..8].fill(0);
            let region = Region { base: BASE, len: SIZE.into(), access: Access::ALL, domain: 1, memory };
            endpoint.register(0x1234_5670, region).expect("there is room for two regions")
        });
        endpoint.set_path(PathId(0), PeerKind::Roce).expect("a path that exists");
        let qpn = endpoint.create(0x00ab_cd00, 1).expect("there is room for a queue pair");
        endpoint.init(qpn).expect("it is in RESET");
        let (psn, rnr_timer) = (Psn::new(0xff_fff0), RnrTimer::new(1));
        // The depth is larger than the number of acts, so that all answers stay in the response cache.
        let (path, peer, mtu, read_depth) = (PathId(0), Qpn(7), PathMtu::B256, 128);
        let receive = ReadyToReceive { path, peer, psn, mtu, read_depth, rnr_timer };
        endpoint.ready_to_receive(qpn, &receive).expect("it is in INIT");
        let (wire, done) = (Wire::default(), Vec::new());
        let (vanished, word, receives, beyond, told, not_ready) = (false, 0, 0, None, false, false);
        Self {
            endpoint,
            qpn,
            keys,
            wire,
            vanished,
            done,
            word,
            epsn: psn,
            receives,
            beyond,
            told,
            not_ready,
            heard: psn,
        }
    }

    fn receive(&mut self, opcode: Opcode, psn: Psn, head: &[u8], payload: usize) {
        let bth = Bth::new(opcode, self.qpn.0, psn).with_ack_request(true);
        let mut bytes = vec![0; wire::rc::wire_len(opcode, payload)];
        wire::rc::open(bth, [head, &[]], payload, &mut bytes).expect("a packet").payload.fill(0x5a);
        let seed = seed(bytes.len());
        seed.seal(&mut bytes);
        self.endpoint.receive(1, &Arrival { path: PathId(0), ce: false, seed, bytes: &bytes });
        while self.endpoint.poll().is_some() {}
    }

    /// One request. A READ is asked for from packet `from` to before `until`.
    fn ask(&mut self, psn: Psn, ask: Ask, from: u32, until: u32) {
        match ask {
            Ask::Send => self.receive(Opcode::SEND_ONLY, psn, &[], 10),
            Ask::Write => {
                let reth = Reth::new(WRITE_AT, self.keys[0], 10);
                self.receive(Opcode::WRITE_ONLY, psn, header(&reth), 10);
            }
            Ask::Read(key, packets) => {
                // The last packet is not full.
                let len = (until - from) * MTU - if until == packets { 5 } else { 0 };
                let reth = Reth::new(READ_AT + u64::from(from * MTU), self.keys[key], len);
                self.receive(Opcode::READ_REQUEST, psn.plus(from), header(&reth), 0);
            }
            Ask::Add(add) => {
                let atomic = AtomicEth::new(WORD_AT, self.keys[0], add, 0);
                self.receive(Opcode::FETCH_ADD, psn, header(&atomic), 0);
            }
        }
    }

    fn packets(ask: Ask) -> u32 {
        if let Ask::Read(_, packets) = ask { packets } else { 1 }
    }

    fn new_request(&mut self, ask: Ask) {
        let ask = if let (Ask::Read(_, packets), true) = (ask, self.vanished) { Ask::Read(0, packets) } else { ask };
        self.ask(self.epsn, ask, 0, Self::packets(ask));
        if matches!(ask, Ask::Send) && self.receives == 0 {
            // The responder will send an RNR NAK for this attempt, too.
            (self.not_ready, self.told) = (true, false);
            return;
        }
        self.receives -= u32::from(matches!(ask, Ask::Send));
        self.done.push((self.epsn, ask, self.word));
        if let Ask::Add(add) = ask {
            self.word += add;
        }
        self.epsn = self.epsn.plus(Self::packets(ask));
        self.beyond = self.beyond.filter(|beyond| !beyond.is_before(self.epsn));
        (self.told, self.not_ready) = (false, false);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::New(ask) => self.new_request(ask),
            Act::Early(far) => {
                let psn = self.epsn.plus(1 + far);
                self.ask(psn, Ask::Write, 0, 1);
                if !self.told && self.beyond.is_none_or(|beyond| beyond.is_before(psn)) {
                    self.beyond = Some(psn);
                }
            }
            Act::Again(which, from, count) if !self.done.is_empty() => {
                let (psn, ask, _) = self.done[which % self.done.len()];
                let from = from % Self::packets(ask);
                let until = (from + 1 + count).min(Self::packets(ask));
                self.ask(psn, ask, from, until);
            }
            Act::Again(..) => {}
            Act::Transmit(room) => self.transmit(room),
            Act::PostReceive => {
                let local = Local { key: self.keys[0], address: WRITE_AT, len: 10 };
                self.endpoint.post_receive(self.qpn, Receive { id: 1, local }).expect("there is room for receives");
                self.receives += 1;
            }
            Act::Vanish => {
                self.transmit(usize::MAX);
                if !std::mem::replace(&mut self.vanished, true) {
                    self.endpoint.deregister(self.keys[1]).expect("it is there");
                }
            }
        }
    }

    fn transmit(&mut self, room: usize) {
        self.wire.room = room;
        self.endpoint.transmit(1, &mut self.wire);
        while let Some(bytes) = self.wire.sent.pop_front() {
            let packet = Packet::parse(&bytes).expect("what is sent is a packet");
            let psn = packet.bth().psn();
            let heard = match (packet.opcode().kind(), packet.aeth().and_then(|aeth| aeth.syndrome())) {
                (Kind::Acknowledge, Some(Syndrome::Ack { .. })) => psn.next(),
                (Kind::Acknowledge, Some(Syndrome::Nak(NakCode::SequenceError))) => {
                    assert_eq!(psn, self.epsn, "the NAK names the expected request");
                    assert!(self.beyond.take().is_some(), "a later request was dropped, and no NAK was sent for that");
                    self.told = true;
                    psn
                }
                (Kind::Acknowledge, Some(Syndrome::RnrNak(_))) => {
                    assert_eq!(psn, self.epsn, "the RNR NAK names the expected request");
                    assert!(self.not_ready, "it found no receive");
                    // The peer sends all of them again after that.
                    (self.told, self.not_ready, self.beyond) = (true, false, None);
                    psn
                }
                (Kind::AtomicAcknowledge, _) => {
                    let original = packet.atomic_ack().expect("it has one").original();
                    let done = self.done.iter().find(|(done, ..)| *done == psn).expect("it was done");
                    assert!(matches!(done.1, Ask::Add(_)) && done.2 == original, "{done:?} was answered {original}");
                    psn.next()
                }
                (Kind::ReadResponse, _) => {
                    let of = |(first, ask, _): &&(Psn, Ask, u64)| psn.distance(*first) < Self::packets(*ask);
                    let &(first, ask, _) = self.done.iter().find(of).expect("it was asked for");
                    assert!(matches!(ask, Ask::Read(..)), "{ask:?} is not answered with bytes");
                    let at = READ_AT + u64::from(psn.distance(first) * MTU);
                    let expected = (at..).map(pattern).take(packet.payload().len());
                    assert!(packet.payload().iter().copied().eq(expected), "the bytes of its address");
                    psn.next()
                }
                (kind, syndrome) => panic!("{kind:?} {syndrome:?}: nothing here is refused"),
            };
            assert!(!self.epsn.is_before(heard), "a request was acknowledged before it was done");
            if self.heard.is_before(heard) {
                self.heard = heard;
            }
        }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Send),
        Just(Ask::Write),
        (0usize..2, 1..=MOST).prop_map(|(key, packets)| Ask::Read(key, packets)),
        (1u64..100).prop_map(Ask::Add),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => ask().prop_map(Act::New),
        3 => (0u32..3).prop_map(Act::Early),
        5 => (any::<usize>(), 0..MOST, 0..MOST).prop_map(|(which, from, count)| Act::Again(which, from, count)),
        4 => (0usize..4).prop_map(Act::Transmit),
        3 => Just(Act::PostReceive),
        1 => Just(Act::Vanish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_that_was_done_is_told_to_come_again(acts in proptest::collection::vec(act(), 1..60)) {
        let mut peer = Peer::new();
        acts.into_iter().for_each(|act| peer.act(act));
        peer.transmit(usize::MAX);
        assert_eq!(peer.heard, peer.epsn, "an ACK was hidden");
        assert_eq!(peer.endpoint.state(peer.qpn), Some(State::Rtr));
        assert!(peer.endpoint.counters().balance());
        assert!(!peer.not_ready && peer.beyond.is_none(), "a NAK is missing");
    }
}
