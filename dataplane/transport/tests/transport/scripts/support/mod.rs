//! Packet scripts in the manner of packetdrill: one queue pair. Its peer exists only in the script.
//!
//! A script consists of lines. It lists all sent packets and all completions in order. They must be listed before the
//! next packet comes in and before time passes.
//!
//! | line | |
//! |---|---|
//! | `qp mtu=256 kind=roce depth=4 ...` | the queue pair; must be the first line |
//! | `+20ms` | time passes |
//! | `< OPCODE psn=5 a data=0x10000+256 ...` | a packet comes in |
//! | `> OPCODE psn=5 a data=0x10000+256 ...` | a packet goes out; what is left out of `va rkey dma msn cmp swap` is not compared |
//! | `> ANSWER psn=5 msn=1 data=0x10000+600` | the packets of an answer to a READ go out, one after the other |
//! | `post 1 read va=0x20000 rkey=7 local=0x10000+512` | a work request |
//! | `recv 2 local=0x10000+512` | a posted receive |
//! | `= 1 SUCCESS len=512` | a completion |
//! | `mem 0x10000+512 is 0x20000` | bytes of this end are the pattern of an address |
//! | `word 0x10000 is 7`, `word 0x10000 set 7` | 8 bytes of this end |
//! | `count rc_dropped_icrc 1` | a counter |
//! | `state ERR` | the state of the queue pair |
//! | `break all`, `gone`, `deregister all` | memory fails; the peer is gone; a region vanishes |
//!
//! The byte at address `a`, of either end, is [`pattern`]`(a)` until something is written there.

mod text;

use frame::Time;
use frame::counter::CounterSet;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use std::collections::VecDeque;
use text::{Fields, answer, name_of, number, opcode_of, range};
use transport::{
    Access, Arrival, Completion, CompletionKind, Config, Endpoint, Local, Memory, MemoryError, Op, PathId, PeerKind,
    Qpn, ReadyToReceive, ReadyToSend, Receive, Region, Remote, Room, Sink, State, Work,
};
use wire::rc::packet::{self, header};
use wire::rc::{
    Aeth, AtomicAckEth, AtomicEth, Bth, IcrcSeed, Ieth, ImmDt, NakCode, Opcode, Packet, PathMtu, Psn, Reth, RnrTimer,
    Syndrome,
};

/// The peer's queue pair.
const PEER: u32 = 0x77;
const DOMAIN: u32 = 3;

/// The byte at an address.
pub(crate) fn pattern(address: u64) -> u8 {
    let mixed = address.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8
}

fn pattern_of(address: u64, len: u64) -> Vec<u8> {
    (address..address + len).map(pattern).collect()
}

/// Memory that can be told to fail.
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    broken: bool,
}

impl Memory for Bytes {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        if self.broken { Err(MemoryError) } else { self.bytes.read_at(offset, out) }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        if self.broken { Err(MemoryError) } else { self.bytes.write_at(offset, bytes) }
    }
}

/// Regions of this end: name, base, length, access, domain.
const REGIONS: [(&str, u64, u64, Access, u32); 6] = [
    ("all", 0x10000, 0x10000, Access::ALL, DOMAIN),
    ("readable", 0x30000, 0x1000, Access::REMOTE_READ, DOMAIN),
    ("writable", 0x40000, 0x1000, Access::REMOTE_WRITE.and(Access::LOCAL_WRITE), DOMAIN),
    ("private", 0x50000, 0x1000, Access::LOCAL_WRITE, DOMAIN),
    ("foreign", 0x60000, 0x1000, Access::ALL, DOMAIN + 1),
    ("large", 0x100_0000, 0x20_0000, Access::ALL, DOMAIN),
];

#[derive(Default)]
struct Wire {
    packets: VecDeque<Vec<u8>>,
    open: Vec<u8>,
    path: u32,
    /// Packets that may still be sent.
    room: Option<usize>,
}

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&wire::RecordHeader::new(wire::MsgType::RC, 17, 1 << 48, len as u32))
}

impl Sink for Wire {
    fn open(&mut self, path: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        if self.room == Some(0) {
            return None;
        }
        self.open = vec![0xee; len];
        self.path = path.0;
        Some(Room { bytes: &mut self.open, seed: seed(len) })
    }

    fn close(&mut self) {
        assert_eq!(self.path, 1, "to the peer's path");
        assert!(seed(self.open.len()).verify(&self.open), "every packet has its ICRC");
        if let Some(room) = &mut self.room {
            *room -= 1;
        }
        self.packets.push_back(std::mem::take(&mut self.open));
    }
}

/// One queue pair under test.
pub(crate) struct Script {
    pub endpoint: Endpoint<Bytes>,
    pub qpn: Qpn,
    now: Time,
    wire: Wire,
    keys: Vec<(&'static str, u32)>,
    line: String,
}

/// Runs a script; a failure names its line.
pub(crate) fn script(text: &str) -> Script {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut script = Script::new(&Fields::parse(lines.next().expect("a first line")));
    lines.for_each(|line| script.step(line));
    script.step("end");
    assert!(script.endpoint.counters().balance(), "every packet is accounted for");
    script
}

impl Script {
    fn new(fields: &Fields) -> Self {
        assert_eq!(fields.word(0), "qp", "the first line makes the queue pair");
        let config = Config {
            path_window: fields.number("window").unwrap_or(1 << 20) as u32,
            total_window: fields.number("total").unwrap_or(16 << 20),
            ..Config::default()
        };
        let now = SECOND;
        let mut endpoint = Endpoint::new(config, now).unwrap();
        let keys: Vec<_> = REGIONS
            .iter()
            .map(|&(name, base, len, access, domain)| {
                let memory = Bytes { bytes: pattern_of(base, len), broken: false };
                let region = Region { base, len, access, domain, memory };
                (name, endpoint.register(0x1bad_ca00, region).unwrap())
            })
            .collect();
        let roce = fields.text("kind") == Some("roce");
        endpoint.set_path(PathId(1), if roce { PeerKind::Roce } else { PeerKind::Own }).unwrap();
        let qpn = endpoint.create(0x00ab_cd00, DOMAIN).unwrap();
        endpoint.init(qpn).unwrap();
        let get = |name, default| fields.number(name).unwrap_or(default);
        let receive = ReadyToReceive {
            path: PathId(1),
            peer: Qpn(PEER),
            psn: Psn::new(get("epsn", 500) as u32),
            mtu: PathMtu::exactly(get("mtu", 256) as u32).unwrap(),
            read_depth: get("serves", 4) as u8,
            rnr_timer: RnrTimer::new(get("rnr_timer", 14) as u8),
        };
        endpoint.ready_to_receive(qpn, &receive).unwrap();
        let send = ReadyToSend {
            psn: Psn::new(get("psn", 100) as u32),
            read_depth: get("depth", 4) as u8,
            timeout: get("timeout", 14) as u8,
            retries: get("retries", 7) as u8,
            rnr_retries: get("rnr_retries", 7) as u8,
        };
        endpoint.ready_to_send(qpn, &send).unwrap();
        Self { endpoint, qpn, now, wire: Wire::default(), keys, line: String::new() }
    }

    fn key(&self, name: &str) -> u32 {
        match self.keys.iter().find(|(known, _)| *known == name) {
            Some(&(_, key)) => key,
            None => number(name) as u32,
        }
    }

    /// One more line.
    pub(crate) fn step(&mut self, line: &str) {
        self.line = line.to_owned();
        let fields = Fields::parse(line);
        let word = fields.word(0);
        if !matches!(word, "post" | "recv") {
            self.endpoint.transmit(self.now, &mut self.wire);
        }
        if matches!(word, "<" | "end" | "gone") || word.starts_with('+') {
            if let Some(packet) = self.wire.packets.front() {
                panic!("before `{line}` there was sent: {}", describe(packet));
            }
            if let Some(completion) = self.endpoint.poll() {
                panic!("before `{line}` there was completed: {completion:?}");
            }
        }
        match word {
            "end" => {}
            ">" if fields.word(1) == "ANSWER" => answer(&fields).iter().for_each(|line| self.step(line)),
            ">" => self.expect_packet(&fields),
            "<" => self.packet_in(&fields),
            "=" => self.expect_completion(&fields),
            "post" => self.post(&fields).unwrap_or_else(|error| panic!("`{line}`: {error}")),
            "recv" => {
                let receive = Receive { id: number(fields.word(1)), local: self.local(&fields) };
                self.endpoint.post_receive(self.qpn, receive).unwrap_or_else(|error| panic!("`{line}`: {error}"));
            }
            "mem" => {
                let (address, len) = range(fields.word(1));
                let is = number(fields.word(3));
                assert_eq!(self.bytes(address, len), pattern_of(is, len), "`{line}`");
            }
            "word" => self.word(&fields),
            "count" => assert_eq!(self.count(fields.word(1)), number(fields.word(2)), "`{line}`"),
            "state" => {
                assert_eq!(self.endpoint.state(self.qpn).map(State::name), Some(fields.word(1)), "`{line}`");
            }
            "break" => self.endpoint.memory_mut(self.key(fields.word(1))).unwrap().broken = true,
            "deregister" => drop(self.endpoint.deregister(self.key(fields.word(1))).unwrap()),
            "gone" => self.endpoint.peer_gone(self.now, PathId(1)),
            "room" => self.wire.room = fields.word(1).parse().ok(),
            time if time.starts_with('+') => {
                self.now += duration(&time[1..]);
                self.endpoint.advance(self.now);
            }
            _ => panic!("`{line}` is not a step"),
        }
    }

    fn local(&self, fields: &Fields) -> Local {
        let (address, len) = range(fields.text("local").unwrap_or("0x10000+0"));
        let at = |region: &&(&str, u64, u64, Access, u32)| address >= region.1 && address - region.1 < region.2;
        let name = REGIONS.iter().find(at).map_or("all", |region| region.0);
        Local { key: fields.text("lkey").map_or(self.key(name), |key| self.key(key)), address, len: len as u32 }
    }

    /// Posts what a line says.
    pub(crate) fn post(&mut self, fields: &Fields) -> Result<(), transport::Error> {
        let get = |name| fields.number(name).unwrap_or(0);
        let remote = Remote { address: get("va"), key: get("rkey") as u32 };
        let imm = fields.number("imm").map(|imm| imm as u32);
        let op = match (fields.word(2), imm) {
            ("send", None) => Op::Send,
            ("send", Some(imm)) => Op::SendImm(imm),
            ("write", None) => Op::Write(remote),
            ("write", Some(imm)) => Op::WriteImm(remote, imm),
            ("read", _) => Op::Read(remote),
            ("cas", _) => Op::CompareSwap { remote, compare: get("cmp"), swap: get("swap") },
            ("add", _) => Op::FetchAdd { remote, add: get("swap") },
            (other, _) => panic!("{other} is not an operation"),
        };
        self.endpoint.post(self.qpn, Work { id: number(fields.word(1)), op, local: self.local(fields) })
    }

    /// Posts what a line says, and returns the endpoint's result.
    pub(crate) fn try_post(&mut self, line: &str) -> Result<(), transport::Error> {
        self.post(&Fields::parse(line))
    }

    fn packet_in(&mut self, fields: &Fields) {
        let opcode = opcode_of(fields.word(1));
        let get = |name| fields.number(name).unwrap_or(0);
        let qpn = fields.number("qpn").map_or(self.qpn.0, |qpn| qpn as u32);
        let bth = Bth::new(opcode, qpn, Psn::new(get("psn") as u32)).with_ack_request(fields.has("a"));
        let rkey = fields.text("rkey").map_or(0, |key| self.key(key));
        let syndrome = fields.text("syn").map_or(Syndrome::ACK, syndrome);
        let reth = Reth::new(get("va"), rkey, get("dma") as u32);
        let atomic = AtomicEth::new(get("va"), rkey, get("swap"), get("cmp"));
        let aeth = Aeth::new(syndrome, get("msn") as u32);
        let (original, imm, ieth) = (AtomicAckEth::new(get("orig")), ImmDt::new(get("imm") as u32), Ieth::new(rkey));
        let mut headers = Vec::new();
        let pieces: [(bool, &[u8]); 7] = [
            (opcode.has_reth(), header(&reth)),
            (opcode.has_atomic(), header(&atomic)),
            (opcode.has_aeth(), header(&aeth)),
            (opcode.has_atomic_ack(), header(&original)),
            (opcode.has_imm(), header(&imm)),
            (opcode.has_ieth(), header(&ieth)),
            (opcode == Opcode::CNP, &[0; 16]),
        ];
        pieces.iter().filter(|(there, _)| *there).for_each(|(_, bytes)| headers.extend_from_slice(bytes));
        let (address, len) = fields.text("data").map_or((0, 0), range);
        let mut bytes = vec![0; packet::wire_len(opcode, len as usize)];
        let opened = packet::open(bth, [&headers, &[]], len as usize, &mut bytes).expect("room for the packet");
        opened.payload.copy_from_slice(&pattern_of(address, len));
        if let Some(pkey) = fields.number("pkey") {
            bytes[2..4].copy_from_slice(&(pkey as u16).to_be_bytes());
        }
        if let Some(raw) = fields.number("byte0") {
            bytes[0] = raw as u8;
        }
        if let Some(raw) = fields.number("byte1") {
            bytes[1] = raw as u8;
        }
        if let Some(raw) = fields.number("syndrome") {
            bytes[12] = raw as u8;
        }
        bytes.truncate(fields.number("cut").map_or(bytes.len(), |cut| cut as usize));
        seed(bytes.len()).seal(&mut bytes);
        if let Some(at) = fields.number("flip") {
            bytes[at as usize] ^= 1;
        }
        let path = PathId(fields.number("path").unwrap_or(1) as u32);
        let arrival = Arrival { path, ce: fields.has("ce"), seed: seed(bytes.len()), bytes: &bytes };
        self.endpoint.receive(self.now, &arrival);
    }

    fn expect_packet(&mut self, fields: &Fields) {
        let Some(bytes) = self.wire.packets.pop_front() else { panic!("`{}` was not sent", self.line) };
        let packet = Packet::parse(&bytes).expect("a whole packet");
        let sent = describe(&bytes);
        assert_eq!(packet.bth().destination(), PEER, "{sent}");
        let found = Fields::parse(&sent);
        assert_eq!(fields.word(1), found.word(0), "`{}`, but it was: {sent}", self.line);
        assert_eq!(fields.has("a"), packet.bth().is_ack_request(), "`{}`, but it was: {sent}", self.line);
        for name in ["psn", "va", "dma", "msn", "cmp", "swap", "orig", "imm", "syn", "rkey", "data"] {
            let may_be_left_out = ["va", "rkey", "dma", "msn", "cmp", "swap", "data"].contains(&name);
            let (expected, actual) = (fields.text(name), found.text(name));
            let same = match (expected, actual) {
                (None, Some(_)) => may_be_left_out,
                (Some(expected), Some(actual)) if name != "syn" && name != "data" => number(expected) == number(actual),
                (Some(_), _) if name == "data" => true,
                (expected, actual) => expected == actual,
            };
            assert!(same, "`{}`, but it was: {sent}", self.line);
        }
        let (address, len) = fields.text("data").map_or((0, 0), range);
        assert_eq!(packet.payload(), pattern_of(address, len), "`{}`, but it was: {sent}", self.line);
    }

    fn expect_completion(&mut self, fields: &Fields) {
        let Some(completion) = self.endpoint.poll() else { panic!("`{}` was not completed", self.line) };
        let Completion { id, qpn, status, len, imm, kind } = completion;
        assert_eq!((id, status.name(), qpn), (number(fields.word(1)), fields.word(2), self.qpn), "`{}`", self.line);
        if let Some(expected) = fields.number("len") {
            assert_eq!(u64::from(len), expected, "`{}`", self.line);
        }
        assert_eq!(imm.map(u64::from), fields.number("imm"), "`{}`", self.line);
        let as_said = |name| match name {
            "receive" => kind == CompletionKind::Receive,
            "write-imm" => kind == CompletionKind::ReceiveWriteImm,
            other => panic!("{other} is not a kind"),
        };
        assert!(fields.text("kind").is_none_or(as_said), "`{}`: {kind:?}", self.line);
    }

    /// Bytes of this end.
    pub(crate) fn bytes(&self, address: u64, len: u64) -> Vec<u8> {
        let at = |region: &&(&str, u64, u64, Access, u32)| address >= region.1 && address - region.1 < region.2;
        let &(name, base, ..) = REGIONS.iter().find(at).expect("an address of this end");
        let memory = &self.endpoint.region(self.key(name)).expect("a region").memory.bytes;
        memory[(address - base) as usize..][..len as usize].to_vec()
    }

    fn word(&mut self, fields: &Fields) {
        let (address, value) = (number(fields.word(1)), number(fields.word(3)));
        if fields.word(2) == "set" {
            let memory = self.endpoint.memory_mut(self.key("all")).unwrap();
            memory.write_at(address - 0x10000, &value.to_le_bytes()).unwrap();
        } else {
            assert_eq!(self.bytes(address, 8), value.to_le_bytes(), "`{}`", self.line);
        }
    }

    /// Time passes, whatever is sent.
    pub(crate) fn step_lenient(&mut self, time: &str) {
        self.now += duration(&time[1..]);
        self.endpoint.advance(self.now);
        self.endpoint.transmit(self.now, &mut self.wire);
    }

    /// Discards the sent packets and returns their number.
    pub(crate) fn take_sent(&mut self) -> usize {
        self.wire.packets.drain(..).count()
    }

    /// A counter by its name.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let mut found = None;
        self.endpoint.counters().visit(&mut |counter, _, value| {
            if counter == name {
                found = Some(value);
            }
        });
        found.unwrap_or_else(|| panic!("{name} is not a counter"))
    }
}

/// A sent packet, written as a line of a script.
fn describe(bytes: &[u8]) -> String {
    let packet = Packet::parse(bytes).expect("a whole packet");
    let mut text = format!("{} psn={}", name_of(packet.opcode()), packet.bth().psn().get());
    if packet.bth().is_ack_request() {
        text += " a";
    }
    if let Some(reth) = packet.reth() {
        text += &format!(" va={:#x} rkey={:#x} dma={}", reth.address(), reth.rkey(), reth.len());
    }
    if let Some(atomic) = packet.atomic() {
        text += &format!(" va={:#x} rkey={:#x}", atomic.address(), atomic.rkey());
        text += &format!(" swap={} cmp={}", atomic.swap_add(), atomic.compare());
    }
    if let Some(aeth) = packet.aeth() {
        text += &format!(" syn={} msn={}", syndrome_name(aeth.syndrome().expect("a known syndrome")), aeth.msn());
    }
    if let Some(original) = packet.atomic_ack() {
        text += &format!(" orig={}", original.original());
    }
    if let Some(imm) = packet.imm() {
        text += &format!(" imm={}", imm.value());
    }
    if !packet.payload().is_empty() {
        text += &format!(" data=?+{}", packet.payload().len());
    }
    text
}

fn syndrome(name: &str) -> Syndrome {
    match name {
        "ack" => Syndrome::ACK,
        "seq" => Syndrome::Nak(NakCode::SequenceError),
        "invalid" => Syndrome::Nak(NakCode::InvalidRequest),
        "access" => Syndrome::Nak(NakCode::RemoteAccess),
        "operation" => Syndrome::Nak(NakCode::RemoteOperation),
        rnr => Syndrome::RnrNak(RnrTimer::new(number(rnr.strip_prefix("rnr:").expect("a syndrome")) as u8)),
    }
}

fn syndrome_name(syndrome: Syndrome) -> String {
    match syndrome {
        Syndrome::Ack { .. } => "ack".to_owned(),
        Syndrome::Nak(NakCode::SequenceError) => "seq".to_owned(),
        Syndrome::Nak(NakCode::InvalidRequest | NakCode::InvalidRdRequest) => "invalid".to_owned(),
        Syndrome::Nak(NakCode::RemoteAccess) => "access".to_owned(),
        Syndrome::Nak(NakCode::RemoteOperation) => "operation".to_owned(),
        Syndrome::RnrNak(timer) => format!("rnr:{}", timer.code()),
    }
}

fn duration(text: &str) -> Time {
    let units = [("us", MICROSECOND), ("ms", MILLISECOND), ("ns", 1), ("s", SECOND)];
    let (count, unit) = units.iter().find_map(|&(name, unit)| Some((text.strip_suffix(name)?, unit))).expect("a time");
    number(count) * unit
}
