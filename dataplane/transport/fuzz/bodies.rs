//! The checks of the fuzz target on arbitrary packets. The crate's own tests run the same function with proptest.
//!
//! A queue pair has work of every kind outstanding and a receive posted. The input decides what comes: its raw bytes,
//! or packets whose opcode, PSN, headers and payload it chooses. They have a right or a wrong ICRC, and come from the
//! peer or from a stranger.

use frame::Time;
use frame::time::{MICROSECOND, SECOND};
use std::collections::BTreeSet;
use transport::{
    Access, Arrival, Config, Endpoint, Local, Op, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend, Receive, Region,
    Remote, Room, Sink, Work,
};
use wire::rc::{Bth, IcrcSeed, Opcode, Packet, PathMtu, Psn, RnrTimer, Syndrome};
use wire::{MsgType, RecordHeader};

const BASE: u64 = 0x1_0000;
const SIZE: usize = 4096;
const PEER: Qpn = Qpn(0x77);
/// The first PSN in both directions. It wraps soon.
const PSN: u32 = 0xff_fffa;

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, 1 << 48, len as u32))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Takes all packets and checks them.
struct Packets {
    open: Vec<u8>,
    sent: usize,
    /// The peer got an acknowledgement of all PSNs before this one.
    heard: Psn,
}

impl Sink for Packets {
    fn open(&mut self, path: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        assert_eq!(path, PathId(1), "only the peer is answered");
        self.open = vec![0xee; len];
        Some(Room { bytes: &mut self.open, seed: seed(len) })
    }

    fn close(&mut self) {
        let packet = Packet::parse(&self.open).expect("what is sent is a packet");
        assert_eq!(packet.bth().destination(), PEER.0);
        assert!(seed(self.open.len()).verify(&self.open), "what is sent has its ICRC");
        let psn = packet.bth().psn();
        let heard = match packet.aeth().and_then(|aeth| aeth.syndrome()) {
            Some(Syndrome::Ack { .. }) => psn.next(),
            Some(_) => {
                assert!(!psn.is_before(self.heard), "an acknowledged PSN is asked for again");
                psn
            }
            None => self.heard,
        };
        if self.heard.is_before(heard) {
            self.heard = heard;
        }
        self.sent += 1;
    }
}

struct Target {
    endpoint: Endpoint<Vec<u8>>,
    qpn: Qpn,
    /// The keys of a region that the peer may use in every way, and of one in another domain.
    keys: [u32; 2],
    outstanding: BTreeSet<u64>,
    heard: Psn,
    now: Time,
}

impl Target {
    fn new(own: bool) -> Self {
        let config = Config { queue_pairs: 4, paths: 4, regions: 4, ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0).expect("memory for a few queue pairs");
        let keys = [1, 2].map(|domain| {
            let memory = (0..SIZE).map(|at| at as u8 ^ domain as u8).collect();
            let region = Region { base: BASE, len: SIZE as u64, access: Access::ALL, domain, memory };
            endpoint.register(0x1234_5670, region).expect("there is room for two regions")
        });
        endpoint.set_path(PathId(1), if own { PeerKind::Own } else { PeerKind::Roce }).expect("a path that exists");
        let qpn = endpoint.create(0x00ab_cd00, 1).expect("there is room for a queue pair");
        endpoint.init(qpn).expect("it is in RESET");
        let (path, psn, rnr_timer) = (PathId(1), Psn::new(PSN), RnrTimer::new(1));
        let receive = ReadyToReceive { path, peer: PEER, psn, mtu: PathMtu::B256, read_depth: 4, rnr_timer };
        endpoint.ready_to_receive(qpn, &receive).expect("it is in INIT");
        endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, 4)).expect("it is in RTR");
        let mut target = Self { endpoint, qpn, keys, outstanding: BTreeSet::new(), heard: psn, now: SECOND };
        let remote = Remote { address: 8, key: 9 };
        let ops = [
            (Op::Write(remote), 300),
            (Op::Read(remote), 600),
            (Op::FetchAdd { remote, add: 1 }, 8),
            (Op::SendImm(7), 10),
            (Op::Read(remote), 0),
            (Op::CompareSwap { remote, compare: 1, swap: 2 }, 8),
        ];
        for (id, (op, len)) in (1..).zip(ops) {
            let local = target.local(len);
            target.endpoint.post(qpn, Work { id, op, local }).expect("there is room for some requests");
            target.outstanding.insert(id);
        }
        target.post_receive(100);
        target
    }

    fn local(&self, len: u32) -> Local {
        Local { key: self.keys[0], address: BASE + 2048, len }
    }

    fn post_receive(&mut self, id: u64) {
        let local = self.local(400);
        if !self.outstanding.contains(&id) && self.endpoint.post_receive(self.qpn, Receive { id, local }).is_ok() {
            self.outstanding.insert(id);
        }
    }

    fn memory(&self, which: usize) -> &[u8] {
        &self.endpoint.region(self.keys[which]).expect("regions stay").memory
    }

    fn receive(&mut self, path: PathId, ce: bool, seed: IcrcSeed, bytes: &[u8]) {
        let dropped = self.endpoint.counters().dropped();
        let (memory, foreign) = (self.memory(0).to_vec(), self.memory(1).to_vec());
        let state = self.endpoint.state(self.qpn);
        self.endpoint.receive(self.now, &Arrival { path, ce, seed, bytes });
        assert!(self.endpoint.counters().balance(), "every packet is in one counter");
        assert_eq!(self.memory(1), foreign, "another domain's region is out of reach");
        if self.endpoint.counters().dropped() > dropped {
            assert_eq!(self.memory(0), memory, "what was dropped has changed nothing");
            assert_eq!((self.endpoint.state(self.qpn), self.endpoint.completions()), (state, 0));
        }
        self.complete();
    }

    fn complete(&mut self) {
        while let Some(done) = self.endpoint.poll() {
            assert!(self.outstanding.remove(&done.id), "{done:?} was not outstanding");
        }
    }

    fn transmit(&mut self) {
        let mut packets = Packets { open: Vec::new(), sent: 0, heard: self.heard };
        self.endpoint.transmit(self.now, &mut packets);
        self.heard = packets.heard;
        // At most the answers to four READs of the whole region, and our own few requests.
        assert!(packets.sent <= 4 * (SIZE / 256 + 1) + 16, "{} packets at once", packets.sent);
        self.complete();
    }
}

/// Whatever comes, nothing panics and every packet is counted. Only memory that may be changed is changed, and all work
/// ends once.
pub fn packets(input: &[u8]) {
    let mut input = Input(input);
    let mut target = Target::new(input.byte().is_some_and(|byte| byte & 1 == 0));
    target.transmit();
    while let Some(mode) = input.byte() {
        let path = PathId(if mode & 1 == 0 { 1 } else { u32::from(mode >> 6) });
        let ce = mode & 2 != 0;
        if mode & 0x0c == 0x0c {
            let len = usize::from(input.byte().unwrap_or(0));
            let bytes = input.take(len);
            target.receive(path, ce, seed(bytes.len()), bytes);
        } else {
            let packet = packet(&mut input, target.qpn, target.keys, mode & 4 != 0);
            target.receive(path, ce, seed(packet.len()), &packet);
        }
        if mode & 0x10 != 0 {
            target.now += MICROSECOND << input.byte().map_or(0, |byte| byte & 15);
            target.endpoint.advance(target.now);
            target.complete();
        }
        if mode & 0x20 != 0 {
            target.post_receive(101);
            target.transmit();
        }
    }
    target.transmit();
    target.endpoint.peer_gone(target.now, PathId(1));
    target.complete();
    assert!(target.outstanding.is_empty(), "{:?} never ended", target.outstanding);
    assert_eq!(target.endpoint.counters().bytes_in_flight.get(), 0);
    assert_eq!(target.endpoint.free_work(), Config::default().work);
}

/// A packet that the input describes: opcode, PSN, flags, bytes of the headers, and length of the payload.
fn packet(input: &mut Input<'_>, qpn: Qpn, keys: [u32; 2], broken: bool) -> Vec<u8> {
    let mut next = || input.byte().unwrap_or(0);
    let (number, psn, flags, payload) = (next(), next(), next(), next());
    let opcode = Opcode::new(number % 0x18).unwrap_or(Opcode::CNP);
    // Most PSNs are near the expected one. Some are half of all PSNs away.
    let far = if flags & 2 != 0 { 1 << 23 } else { 0 };
    let psn = Psn::new(PSN).plus(u32::from(psn & 0x1f)).minus(4).plus(far);
    let bth = Bth::new(opcode, qpn.0, psn).with_ack_request(flags & 1 != 0);
    let payload = match (opcode.has_payload(), flags & 0x0c) {
        (false, _) => 0,
        (true, 0) => 256,
        (true, _) => usize::from(payload) + usize::from(flags & 4) * 32,
    };
    let mut bytes = vec![0x5a; wire::rc::wire_len(opcode, payload)];
    let extension = input.take(opcode.extension_len());
    let mut header = vec![0; opcode.extension_len()];
    header[..extension.len()].copy_from_slice(extension);
    if opcode.has_reth() || opcode.has_atomic() {
        // Addresses near the region's ends, and keys that exist.
        let near = u64::from(u16::from_le_bytes([header[6], header[7]]) & 0x1fff);
        header[..8].copy_from_slice(&(BASE + near).wrapping_sub(0x800).to_be_bytes());
        if flags & 0x30 != 0x30 {
            header[8..12].copy_from_slice(&keys[usize::from(flags & 0x30 == 0x20)].to_be_bytes());
        }
        if opcode.has_reth() {
            header[12] = 0;
            header[13] = 0;
        }
    }
    if let Some(opened) = wire::rc::open(bth, [&header, &[]], payload, &mut bytes) {
        opened.payload.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    }
    // An opcode that is reserved, or of another service.
    if flags & 0xc0 == 0xc0 {
        bytes[0] = if number & 0x80 == 0 { 0x18 | number & 7 } else { number };
    }
    seed(bytes.len()).seal(&mut bytes);
    if broken {
        let at = usize::from(flags) * 7 % bytes.len();
        bytes[at] ^= 1 << (flags & 7);
    }
    bytes
}
