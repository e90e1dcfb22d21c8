//! Packets made by hand. The guest's answers show that the harness works on the packets of the wire.

use guest::content;
use guest::roce::{self, Packet};
use guest::verbs::Path;
use guest::world::{Listener, Way, World};

/// Operations, as the InfiniBand specification numbers them for reliable connections.
mod opcode {
    pub(super) const SEND_ONLY: u8 = 0x04;
    pub(super) const WRITE_ONLY: u8 = 0x0a;
    pub(super) const READ_REQUEST: u8 = 0x0c;
    pub(super) const READ_FIRST: u8 = 0x0d;
    pub(super) const READ_MIDDLE: u8 = 0x0e;
    pub(super) const READ_LAST: u8 = 0x0f;
    pub(super) const READ_ONLY: u8 = 0x10;
    pub(super) const ACKNOWLEDGE: u8 = 0x11;
    pub(super) const ATOMIC_ACKNOWLEDGE: u8 = 0x12;
    pub(super) const FETCH_ADD: u8 = 0x14;
}

/// Our queue pair.
const QPN: u32 = 0x0055;
/// Our first PSN: with the second request the PSN wraps.
const PSN: u32 = 0xff_ffff;
/// The guest's first PSN.
const GUEST_PSN: u32 = 0x200;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The answer of the guest to a packet.
fn ask(world: &mut World, host: &mut Listener, frame: Vec<u8>) -> Vec<u8> {
    host.heard.clear();
    host.say.push(frame);
    world.until("an answer", host, |host| host.heard.pop())
}

fn read(frame: &[u8]) -> Packet<'_> {
    let packet = roce::read(frame).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(packet.qpn, QPN);
    packet
}

/// READ, WRITE, FETCH&ADD, a wrong key, a wrong ICRC, and a SEND of the guest.
pub(crate) fn the_guest_speaks_and_checks(world: &mut World) {
    let mut host = Listener::default();
    world.ask(&mut host, "mtu 9000");
    let guest = world.open(&mut host);
    let path = Path {
        mtu: 4096,
        qpn: QPN,
        psn: PSN,
        own_psn: GUEST_PSN,
        timeout: 14,
        retries: 3,
        rnr_retries: 3,
        rnr_timer: 12,
        depth: 16,
    };
    world.connect(&mut host, &path);
    world.ask(&mut host, "fill 0 65536 77");
    let memory = content::bytes(77, 65_536);
    let reth = |at: u64, rkey: u32, len: u32| {
        let mut bytes = (guest.address + at).to_be_bytes().to_vec();
        bytes.extend_from_slice(&rkey.to_be_bytes());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes
    };

    // A READ of two packets and a bit, at an odd place.
    host.say.push(roce::make(opcode::READ_REQUEST, guest.qpn, PSN, true, &reth(4097, guest.rkey, 8193)));
    world.until("three packets", &mut host, |host| (host.heard.len() == 3).then_some(()));
    let mut got = Vec::new();
    for (at, frame) in host.heard.iter().enumerate() {
        let packet = read(frame);
        let expected = [opcode::READ_FIRST, opcode::READ_MIDDLE, opcode::READ_LAST][at];
        assert_eq!((packet.opcode, packet.psn), (expected, (PSN + at as u32) & 0xff_ffff));
        let from = if at == 1 { 0 } else { 4 };
        got.extend_from_slice(&packet.rest[from..packet.rest.len() - usize::from(packet.pad)]);
    }
    assert!(got == memory[4097..4097 + 8193], "the content of a READ");

    // A WRITE that needs padding.
    let write = [reth(100, guest.rkey, 5), b"hello".to_vec()].concat();
    let answer = ask(world, &mut host, roce::make(opcode::WRITE_ONLY, guest.qpn, 2, true, &write));
    let packet = read(&answer);
    assert_eq!((packet.opcode, packet.psn, packet.rest[0] >> 5), (opcode::ACKNOWLEDGE, 2, 0), "{packet:02x?}");
    let mut expected = memory.clone();
    expected[100..105].copy_from_slice(b"hello");
    assert_eq!(world.ask(&mut host, "hash 0 65536"), [content::hash(&expected)]);

    // FETCH&ADD works in the machine's own byte order.
    let mut atomic = reth(8, guest.rkey, 0)[..12].to_vec();
    atomic.extend_from_slice(&5_u64.to_be_bytes());
    atomic.extend_from_slice(&[0; 8]);
    let answer = ask(world, &mut host, roce::make(opcode::FETCH_ADD, guest.qpn, 3, true, &atomic));
    let packet = read(&answer);
    let before = u64::from_le_bytes(memory[8..16].try_into().expect("eight bytes"));
    assert_eq!((packet.opcode, u64_at(packet.rest, 4)), (opcode::ATOMIC_ACKNOWLEDGE, before));
    expected[8..16].copy_from_slice(&before.wrapping_add(5).to_le_bytes());

    // A packet with a wrong ICRC gets no answer and changes nothing. The next packet with this PSN is accepted.
    host.heard.clear();
    let mut broken = roce::make(opcode::READ_REQUEST, guest.qpn, 4, true, &reth(0, guest.rkey, 64));
    let last = broken.len() - 1;
    broken[last] ^= 1;
    host.say.push(broken);
    world.run_for(&mut host, 50_000_000);
    assert!(host.heard.is_empty(), "an answer to a broken packet: {:02x?}", host.heard);
    world.forgive_wrong_packet();
    let answer = ask(world, &mut host, roce::make(opcode::READ_REQUEST, guest.qpn, 4, true, &reth(0, guest.rkey, 64)));
    assert_eq!((read(&answer).opcode, &read(&answer).rest[4..]), (opcode::READ_ONLY, &expected[..64]));

    // A SEND of the guest, acknowledged by hand.
    host.heard.clear();
    world.ask(&mut host, "send 41 4096 6 0 0 0 0");
    let frame = world.until("a SEND", &mut host, |host| host.heard.pop());
    let packet = read(&frame);
    assert_eq!((packet.opcode, packet.psn, packet.pad), (opcode::SEND_ONLY, GUEST_PSN, 2));
    assert_eq!(packet.rest[..6], memory[4096..4102]);
    // The AETH: all credits, one message.
    host.say.push(roce::make(opcode::ACKNOWLEDGE, guest.qpn, GUEST_PSN, false, &[0x1f, 0, 0, 1]));
    let done = world.poll(&mut host, 1, 5000);
    assert_eq!(done.len(), 1);
    assert_eq!((done[0].id, &*done[0].kind, &*done[0].status), (41, "SEND", "SUCCESS"));

    // A wrong key: "remote access error".
    let wrong = reth(0, guest.rkey ^ 1, 64);
    let answer = ask(world, &mut host, roce::make(opcode::READ_REQUEST, guest.qpn, 5, true, &wrong));
    assert_eq!((read(&answer).opcode, read(&answer).rest[0]), (opcode::ACKNOWLEDGE, 0x62));
    assert!(world.seen(Way::ToGuest, opcode::READ_REQUEST) == 3 && world.seen(Way::ToHost, opcode::READ_ONLY) == 1);
    world.ask(&mut host, "close");
}
