//! Our end: an [`Endpoint`] of `transport` with one queue pair, and RoCEv2 around its packets.

use super::pair::{DEPTH, MEMORY, Op, Patience, Request};
use guest::roce::PORT;
use guest::verbs::Completion;
use guest::world::Host;
use guest::{GUEST, GUEST_MAC, HOST, HOST_MAC};
use std::cell::RefCell;
use std::rc::Rc;
use transport::{
    Access, Arrival, CompletionKind, Config, Endpoint, Local, Memory, MemoryError, PathId, PeerKind, Qpn,
    ReadyToReceive, ReadyToSend, Receive, Region, Remote, Room, Sink, Status, TransportCounters, Work,
};
use wire::net::{UdpSpec, emit_udp4, parse_udp4};
use wire::rc::{IcrcSeed, Ipv4Udp, PathMtu, Psn, RnrTimer};

/// Bytes of Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;
/// The offset of the IPv4 header.
const ETHERNET: usize = 14;
/// The virtual address of our memory.
const BASE: u64 = 0x6b00_0000_1000;
/// The UDP port that we send from.
const SOURCE: u16 = 0xc0de;
/// The only peer.
const PATH: PathId = PathId(3);
/// The only protection domain.
const DOMAIN: u32 = 1;

/// Memory that two regions share. The second region begins at an offset of the first one.
struct Part {
    memory: Rc<RefCell<Vec<u8>>>,
    at: u64,
    len: u64,
}

impl Memory for Part {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.borrow().read_at(self.at + offset, out)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.borrow_mut().write_at(self.at + offset, bytes)
    }
}

/// Frames that wait to be sent.
#[derive(Default)]
struct Frames {
    open: Vec<u8>,
    closed: Vec<Vec<u8>>,
}

impl Sink for Frames {
    fn open(&mut self, path: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        assert_eq!(path, PATH);
        let fields = Ipv4Udp {
            id: 0,
            fragment: 0x4000,
            source: HOST,
            destination: GUEST,
            source_port: SOURCE,
            destination_port: PORT,
        };
        let seed = IcrcSeed::roce_fields(&fields, len)?;
        // Old contents must not matter.
        self.open = vec![0xee; HEADERS + len];
        Some(Room { bytes: &mut self.open[HEADERS..], seed })
    }

    fn close(&mut self) {
        let mut frame = std::mem::take(&mut self.open);
        let spec = UdpSpec {
            vlan: None,
            src_mac: HOST_MAC,
            dst_mac: GUEST_MAC,
            src_ip: HOST,
            dst_ip: GUEST,
            src_port: SOURCE,
            dst_port: PORT,
            ecn: 0,
            checksum: 0,
        };
        let payload = frame.len() - HEADERS;
        assert_eq!(emit_udp4(&spec, payload, &mut frame[..HEADERS]), Some(HEADERS));
        self.closed.push(frame);
    }
}

/// One queue pair of ours.
pub(crate) struct Ours {
    endpoint: Endpoint<Part>,
    memory: Rc<RefCell<Vec<u8>>>,
    qpn: Qpn,
    rkey: u32,
    frames: Frames,
    done: Vec<Completion>,
}

impl Ours {
    /// A queue pair that is connected with `peer`: our first request has `psn`, the peer's first one `peer_psn`.
    pub(crate) fn new(mtu: u32, patience: Patience, peer: u32, psn: u32, peer_psn: u32) -> Self {
        let mut endpoint = Endpoint::new(Config::default(), 0).unwrap();
        let memory = Rc::new(RefCell::new(vec![0; MEMORY as usize]));
        let part = Part { memory: Rc::clone(&memory), at: 0, len: MEMORY };
        let region = Region { base: BASE, len: MEMORY, access: Access::ALL, domain: DOMAIN, memory: part };
        let rkey = endpoint.register(0x5eed_1234, region).expect("the first region");
        endpoint.set_path(PATH, PeerKind::Roce).expect("a path that nobody uses");
        let qpn = endpoint.create(0x0012_3450, DOMAIN).expect("the first queue pair");
        endpoint.init(qpn).expect("it is new");
        let receive = ReadyToReceive {
            path: PATH,
            peer: Qpn(peer),
            psn: Psn::new(peer_psn),
            mtu: PathMtu::exactly(mtu).expect("a path MTU"),
            read_depth: DEPTH,
            rnr_timer: RnrTimer::new(patience.rnr_timer),
        };
        endpoint.ready_to_receive(qpn, &receive).expect("it is in INIT");
        let Patience { timeout, retries, rnr_retries, .. } = patience;
        let send = ReadyToSend { psn: Psn::new(psn), read_depth: DEPTH, timeout, retries, rnr_retries };
        endpoint.ready_to_send(qpn, &send).expect("it is in RTR");
        Self { endpoint, memory, qpn, rkey, frames: Frames::default(), done: Vec::new() }
    }

    /// Our queue pair's number.
    pub(crate) fn qpn(&self) -> u32 {
        self.qpn.0
    }

    /// Address and key of all our memory.
    pub(crate) fn region(&self) -> (u64, u32) {
        (BASE, self.rkey)
    }

    /// The counters of the endpoint.
    pub(crate) fn counters(&self) -> &TransportCounters {
        self.endpoint.counters()
    }

    /// The key of a region that may only be read.
    pub(crate) fn read_only(&mut self, offset: u64, len: u64) -> u32 {
        let memory = Part { memory: Rc::clone(&self.memory), at: offset, len };
        let region = Region { base: BASE + offset, len, access: Access::REMOTE_READ, domain: DOMAIN, memory };
        self.endpoint.register(0x0bad_4321, region).expect("a second region")
    }

    /// Changes our memory.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.memory.borrow_mut()[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// A copy of a piece of our memory.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        self.memory.borrow()[offset as usize..(offset + len) as usize].to_vec()
    }

    fn local(&self, offset: u64, len: u64) -> Local {
        Local { key: self.rkey, address: BASE + offset, len: len as u32 }
    }

    /// Posts a request with the peer's address and key.
    pub(crate) fn post(&mut self, request: &Request) {
        let remote = Remote { address: request.remote, key: request.rkey.expect("the peer's key") };
        let op = match request.op {
            Op::Read => transport::Op::Read(remote),
            Op::Write => transport::Op::Write(remote),
            Op::WriteImm => transport::Op::WriteImm(remote, request.a as u32),
            Op::Send => transport::Op::Send,
            Op::SendImm => transport::Op::SendImm(request.a as u32),
            Op::FetchAdd => transport::Op::FetchAdd { remote, add: request.a },
            Op::CmpSwap => transport::Op::CompareSwap { remote, compare: request.a, swap: request.b },
        };
        let work = Work { id: request.id, op, local: self.local(request.local, request.len) };
        self.endpoint.post(self.qpn, work).unwrap_or_else(|error| panic!("{request:?}: {error}"));
    }

    /// Posts a receive.
    pub(crate) fn post_receive(&mut self, id: u64, offset: u64, len: u64) {
        let receive = Receive { id, local: self.local(offset, len) };
        self.endpoint.post_receive(self.qpn, receive).expect("room for a receive");
    }

    /// The next `count` completions, when there are that many.
    pub(crate) fn done(&mut self, count: usize) -> Option<Vec<Completion>> {
        while let Some(done) = self.endpoint.poll() {
            assert_eq!(done.qpn, self.qpn);
            let kind = match done.kind {
                _ if done.status != Status::Success => "-",
                CompletionKind::Send => "SEND",
                CompletionKind::Write => "WRITE",
                CompletionKind::Read => "READ",
                CompletionKind::CompareSwap => "CMP_SWAP",
                CompletionKind::FetchAdd => "FETCH_ADD",
                CompletionKind::Receive => "RECV",
                CompletionKind::ReceiveWriteImm => "RECV_WRITE_IMM",
            };
            self.done.push(Completion {
                id: done.id,
                kind: kind.to_owned(),
                status: done.status.name().to_owned(),
                len: done.len,
                immediate: done.imm.unwrap_or(0),
            });
        }
        (self.done.len() >= count).then(|| self.done.drain(..count).collect())
    }
}

impl Host for Ours {
    fn receive(&mut self, now: u64, frame: &[u8]) {
        let headers = parse_udp4(frame).expect("the wire checked it");
        let before: &[u8; 28] = frame[ETHERNET..].first_chunk().expect("the wire checked it");
        let seed = IcrcSeed::roce(before);
        let ce = headers.ecn == wire::net::ipv4::ECN_CE;
        self.endpoint.receive(now, &Arrival { path: PATH, ce, seed, bytes: &frame[headers.payload] });
    }

    fn advance(&mut self, now: u64, send: &mut dyn FnMut(&[u8])) {
        self.endpoint.advance(now);
        self.endpoint.transmit(now, &mut self.frames);
        for frame in self.frames.closed.drain(..) {
            send(&frame);
        }
    }

    fn deadline(&self) -> Option<u64> {
        if self.endpoint.has_output() { Some(0) } else { self.endpoint.deadline() }
    }
}
