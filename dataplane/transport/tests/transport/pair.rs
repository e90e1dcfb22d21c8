//! Two endpoints over a wire that loses, repeats, reorders and marks packets. At the end all bytes are right, and each
//! request completed once.

use frame::Time;
use frame::time::{MICROSECOND, SECOND};
use std::collections::VecDeque;
use transport::{
    Access, Arrival, Completion, Config, Endpoint, Local, Op, PathId, PeerKind, Qpn, ReadyToReceive, ReadyToSend,
    Receive, Region, Remote, Room, Sink, Status, Work,
};
use wire::rc::{IcrcSeed, PathMtu, Psn, RnrTimer};

/// A small generator of numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&wire::RecordHeader::new(wire::MsgType::RC, 17, 1 << 48, len as u32))
}

#[derive(Default)]
struct Packets {
    open: Vec<u8>,
    sent: Vec<Vec<u8>>,
}

impl Sink for Packets {
    fn open(&mut self, _: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        self.open = vec![0xee; len];
        Some(Room { bytes: &mut self.open, seed: seed(len) })
    }

    fn close(&mut self) {
        self.sent.push(std::mem::take(&mut self.open));
    }
}

const SIZE: u64 = 1 << 16;

struct Side {
    endpoint: Endpoint<Vec<u8>>,
    qpn: Qpn,
    key: u32,
    /// The contents that its memory should have at the end.
    model: Vec<u8>,
}

fn side(dice: &mut Dice, fill: u8) -> Side {
    let mut endpoint = Endpoint::new(Config::default(), 0).unwrap();
    let model: Vec<u8> = (0..SIZE).map(|at| fill ^ (at as u8) ^ (at >> 8) as u8).collect();
    let region = Region { base: 0x1000, len: SIZE, access: Access::ALL, domain: 1, memory: model.clone() };
    let key = endpoint.register(dice.roll(1 << 32) as u32, region).unwrap();
    let qpn = endpoint.create(dice.roll(1 << 24) as u32, 1).unwrap();
    endpoint.init(qpn).unwrap();
    Side { endpoint, qpn, key, model }
}

fn connect(side: &mut Side, peer: Qpn, kind: PeerKind, mtu: PathMtu, psns: [u32; 2], depth: u8) {
    let [own, other] = psns.map(Psn::new);
    side.endpoint.set_path(PathId(0), kind).unwrap();
    let rnr_timer = RnrTimer::new(1);
    let attributes = ReadyToReceive { path: PathId(0), peer, psn: other, mtu, read_depth: depth, rnr_timer };
    side.endpoint.ready_to_receive(side.qpn, &attributes).unwrap();
    side.endpoint.ready_to_send(side.qpn, &ReadyToSend { timeout: 8, ..ReadyToSend::usual(own, depth) }).unwrap();
}

/// One run. Of a thousand packets `rate` are lost, and as many each are repeated, delayed and marked.
fn run(number: u64, kind: PeerKind, rate: u64, works: u64) {
    let mut dice = Dice(number);
    let mtu = PathMtu::ALL[dice.roll(5) as usize];
    let depth = 1 + dice.roll(16) as u8;
    let psns = [(1 << 24) - 1 - dice.roll(50) as u32, dice.roll(1 << 24) as u32];
    let (mut a, mut b) = (side(&mut dice, 0x00), side(&mut dice, 0x5a));
    if number % 2 == 1 {
        // Nothing else changes for one queue pair alone.
        a.endpoint.make_urgent(a.qpn).unwrap();
        b.endpoint.make_urgent(b.qpn).unwrap();
    }
    connect(&mut a, b.qpn, kind, mtu, psns, depth);
    connect(&mut b, a.qpn, kind, mtu, [psns[1], psns[0]], depth);

    // Each request has its own slice of both memories, so that the order of requests does not matter.
    let slice = (SIZE / works) & !7;
    let (mut posted, mut sends, mut done) = (0, VecDeque::new(), vec![0; works as usize]);
    // How many receives were posted, and how many of them were filled.
    let (mut ready, mut received) = (0, 0);
    let mut wire: Vec<(Time, u64, bool, bool, Vec<u8>)> = Vec::new();
    let (mut now, mut serial) = (MICROSECOND, 0);
    while done.contains(&0) || received < sends.len() || posted < works {
        assert!(now < 300 * SECOND, "run {number}: {done:?} {received} of {}", sends.len());
        while posted < works && dice.roll(4) == 0 {
            let (at, len) = (posted * slice, dice.roll(slice + 1) & !7);
            let local = Local { key: a.key, address: 0x1000 + at, len: len as u32 };
            let remote = Remote { address: 0x1000 + at, key: b.key };
            let there = at as usize..(at + len) as usize;
            let word = at as usize..at as usize + 8;
            let op = match dice.roll(6) {
                0 => {
                    let receive = Receive { id: posted, local: Local { key: b.key, ..local } };
                    sends.push_back((receive, dice.roll(2) == 0));
                    b.model[there.clone()].copy_from_slice(&a.model[there]);
                    if sends.back().unwrap().1 { Op::SendImm(posted as u32) } else { Op::Send }
                }
                1 | 2 => {
                    b.model[there.clone()].copy_from_slice(&a.model[there]);
                    Op::Write(remote)
                }
                3 if len >= 8 => {
                    let before = u64::from_le_bytes(b.model[word.clone()].try_into().unwrap());
                    a.model[word.clone()].copy_from_slice(&before.to_le_bytes());
                    b.model[word].copy_from_slice(&before.wrapping_add(99).to_le_bytes());
                    Op::FetchAdd { remote, add: 99 }
                }
                _ => {
                    a.model[there.clone()].copy_from_slice(&b.model[there]);
                    Op::Read(remote)
                }
            };
            let local = if matches!(op, Op::FetchAdd { .. }) { Local { len: 8, ..local } } else { local };
            a.endpoint.post(a.qpn, Work { id: posted, op, local }).unwrap();
            posted += 1;
        }
        // Receives are posted late now and then: RNR.
        if let Some(&(receive, _)) = sends.get(ready)
            && dice.roll(8) == 0
        {
            b.endpoint.post_receive(b.qpn, receive).unwrap();
            ready += 1;
        }
        for (side, to_b) in [(&mut a, true), (&mut b, false)] {
            let mut out = Packets::default();
            side.endpoint.transmit(now, &mut out);
            for packet in out.sent {
                let copies = if dice.roll(1000) < rate { 0 } else { 1 + u64::from(dice.roll(1000) < rate) };
                for _ in 0..copies {
                    let late = if dice.roll(1000) < rate { dice.roll(400) } else { 20 };
                    serial += 1;
                    wire.push((now + late * MICROSECOND, serial, to_b, dice.roll(1000) < rate, packet.clone()));
                }
            }
        }
        now += 5 * MICROSECOND;
        wire.sort_by_key(|&(time, serial, ..)| (time, serial));
        while wire.first().is_some_and(|&(time, ..)| time <= now) {
            let (_, _, to_b, ce, bytes) = wire.remove(0);
            let side = if to_b { &mut b } else { &mut a };
            side.endpoint.receive(now, &Arrival { path: PathId(0), ce, seed: seed(bytes.len()), bytes: &bytes });
        }
        a.endpoint.advance(now);
        b.endpoint.advance(now);
        while let Some(Completion { id, status, .. }) = a.endpoint.poll() {
            assert_eq!(status, Status::Success, "run {number}, request {id}");
            done[id as usize] += 1;
        }
        let completed: u64 = done.iter().sum();
        assert_eq!(a.endpoint.outstanding(a.qpn), Some((posted - completed) as u32), "run {number}");
        while let Some(Completion { id, status, imm, len, .. }) = b.endpoint.poll() {
            let (receive, with_imm) = sends[received];
            assert_eq!((id, status), (receive.id, Status::Success), "run {number}");
            assert_eq!((len, imm), (receive.local.len, with_imm.then_some(id as u32)));
            received += 1;
        }
    }
    assert!(done.iter().all(|&times| times == 1), "run {number}: {done:?}");
    for side in [&a, &b] {
        assert!(side.endpoint.region(side.key).unwrap().memory == side.model, "run {number}: the content is wrong");
        assert!(side.endpoint.counters().balance(), "run {number}");
    }
    assert_eq!(a.endpoint.counters().bytes_in_flight.get(), 0, "run {number}");
}

#[test]
fn a_wire_without_faults() {
    (0..8).for_each(|number| run(number, PeerKind::Own, 0, 40));
}

#[test]
fn own_peers_over_a_bad_wire() {
    (1000..2000).for_each(|number| run(number, PeerKind::Own, 10, 60));
}

#[test]
fn roce_peers_over_a_bad_wire() {
    (2000..3000).for_each(|number| run(number, PeerKind::Roce, 10, 60));
}

#[test]
fn a_wire_that_is_very_bad() {
    (3000..3300).for_each(|number| run(number, PeerKind::Own, 100, 40));
}

/// The packets that are sent at this time.
fn sent(side: &mut Side, now: Time) -> Vec<Vec<u8>> {
    side.endpoint.advance(now);
    let mut out = Packets::default();
    side.endpoint.transmit(now, &mut out);
    out.sent
}

fn receive(side: &mut Side, now: Time, bytes: &[u8]) {
    side.endpoint.receive(now, &Arrival { path: PathId(0), ce: false, seed: seed(bytes.len()), bytes });
}

/// Data is written only after the ICRC was checked: neither a damaged answer nor a damaged WRITE changes any memory.
#[test]
fn a_damaged_packet_changes_no_memory() {
    const LEN: u32 = 4096;
    for read in [true, false] {
        let mut dice = Dice(7);
        let (mut a, mut b) = (side(&mut dice, 0x00), side(&mut dice, 0x5a));
        connect(&mut a, b.qpn, PeerKind::Own, PathMtu::B4096, [5, 6], 1);
        connect(&mut b, a.qpn, PeerKind::Own, PathMtu::B4096, [6, 5], 1);
        let remote = Remote { address: 0x1000, key: b.key };
        let op = if read { Op::Read(remote) } else { Op::Write(remote) };
        a.endpoint.post(a.qpn, Work { id: 1, op, local: Local { key: a.key, address: 0x1000, len: LEN } }).unwrap();

        // The packet with the data, and who receives it.
        let request = sent(&mut a, 1).remove(0);
        let (data, to) = match read {
            true => {
                receive(&mut b, 1, &request);
                (sent(&mut b, 1).remove(0), &mut a)
            }
            false => (request, &mut b),
        };
        assert!(data.len() > LEN as usize && seed(data.len()).verify(&data));
        let end = data.len() - 4;
        let begin = end - LEN as usize;
        for at in (begin..data.len()).step_by(61).chain([begin, end - 1, end, end + 3]) {
            let mut damaged = data.clone();
            damaged[at] ^= 0x10;
            receive(to, 1, &damaged);
            assert!(to.endpoint.region(to.key).unwrap().memory == to.model, "byte {at}");
        }
        to.model[..LEN as usize].copy_from_slice(&data[begin..end]);
        assert!(to.endpoint.region(to.key).unwrap().memory != to.model);
        receive(to, 1, &data);
        assert!(to.endpoint.region(to.key).unwrap().memory == to.model, "the right packet changes it");
        assert!(to.endpoint.counters().rc_dropped_icrc.get() > 60 && to.endpoint.counters().balance());
    }
}
