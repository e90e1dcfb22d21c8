//! RoCEv2 behind a socket, with a host of another maker. The test makes that host's IPv4 headers, and the kernel does
//! not show them to the server.

use netns::product::{Place, until};
use netns::{End, Namespace, join, real_checksums};
use rustix::net::{AddressFamily, Protocol, RawProtocol, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use rustix::process::Signal;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;
use wire::rc::{IcrcSeed, Ipv4Udp};

const SERVER: [u8; 4] = [10, 94, 1, 1];
const FOREIGN: [u8; 4] = [10, 94, 1, 2];
const ROCE: u16 = 4791;
/// The server's queue pair, and the first PSN of the foreign host.
const QPN: u32 = 0x200;
const PSN: u32 = 7;
/// Bytes of each WRITE.
const LEN: usize = 64;

/// A host that counts its packets and does not set DF, as many do. It sends no UDP checksums, as is usual with RoCEv2.
struct Foreign {
    raw: OwnedFd,
    answers: UdpSocket,
    id: u16,
}

impl Foreign {
    fn new(namespace: &Namespace) -> Self {
        // Protocol 255: the sender writes the IPv4 header.
        let protocol = RawProtocol::new(255).map(Protocol::from_raw);
        namespace.enter(|| {
            let raw = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, protocol);
            let answers = UdpSocket::bind(SocketAddrV4::new(FOREIGN.into(), ROCE)).unwrap();
            // A test that waits longer than this has failed.
            answers.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            Self { raw: raw.expect("root may"), answers, id: 40_000 }
        })
    }

    fn send(&self, packet: &[u8], id: u16) {
        let total = (28 + packet.len()) as u16;
        let mut bytes = vec![0x45, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        // DF is not set. The kernel fills in the header's checksum.
        bytes.extend([0, 0, 64, 17, 0, 0]);
        bytes.extend(FOREIGN);
        bytes.extend(SERVER);
        for word in [ROCE, ROCE, total - 20, 0] {
            bytes.extend(word.to_be_bytes());
        }
        let mut packet = packet.to_vec();
        let fields = Ipv4Udp {
            id,
            fragment: 0,
            source: FOREIGN,
            destination: SERVER,
            source_port: ROCE,
            destination_port: ROCE,
        };
        assert!(IcrcSeed::roce_fields(&fields, packet.len()).unwrap().seal(&mut packet));
        bytes.extend(packet);
        let sent = sendto(&self.raw, &bytes, SendFlags::empty(), &SocketAddrV4::new(SERVER.into(), 0));
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Sends with the next identification.
    fn send_next(&mut self, packet: &[u8]) {
        self.id += 1;
        self.send(packet, self.id);
    }

    /// Waits until everything up to this PSN is acknowledged.
    fn until_acknowledged(&self, psn: u32) {
        let mut bytes = [0; 2048];
        loop {
            let len = self.answers.recv(&mut bytes).unwrap_or_else(|error| panic!("PSN {psn}: {error}"));
            let answer = &bytes[..len];
            // An ACKNOWLEDGE that is not a NAK.
            if answer[0] == 0x11 && answer[12] >> 5 == 0 && answer[9..12] == psn.to_be_bytes()[1..] {
                return;
            }
        }
    }
}

/// RDMA WRITE Only, to be sealed.
fn write(psn: u32, va: u64, rkey: u32, fill: u8) -> Vec<u8> {
    let mut bytes = vec![0x0a, 0x40, 0xff, 0xff];
    bytes.extend(QPN.to_be_bytes());
    bytes.extend((0x8000_0000 | psn).to_be_bytes());
    bytes.extend(va.to_be_bytes());
    bytes.extend(rkey.to_be_bytes());
    bytes.extend((LEN as u32).to_be_bytes());
    bytes.extend([fill; LEN]);
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn a_foreign_host_is_understood_and_damage_is_not() {
    if !netns::available() {
        return;
    }
    let (place, server_at, foreign_at) = (Place::new(), Namespace::new(), Namespace::new());
    let a = End { namespace: &server_at, name: "a", address: "10.94.1.1/24" };
    let b = End { namespace: &foreign_at, name: "b", address: "10.94.1.2/24" };
    join(&a, &b, 1);
    real_checksums(&b);
    let save = place.path("saved");
    let server = place.start(
        &server_at,
        &format!(
            "gvm-dp qp serve --port udp:10.94.1.1 --frames 1024 --memory 4096 --save {} --peer 10.94.1.2 --qpn 0x100 \
             --psn {PSN} \
             --own-qpn {QPN:#x} --own-psn 0",
            save.to_str().unwrap()
        ),
    );
    let line = until("the line of the set-up", || {
        let printed = server.printed();
        printed.lines().find(|line| line.starts_with("GVM-QP 1")).map(str::to_owned)
    });
    let value = |key: &str| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)).expect("it is said");
        let digits = word.strip_prefix("0x");
        digits.map_or_else(|| word.parse().unwrap(), |digits| u64::from_str_radix(digits, 16).unwrap())
    };
    let (va, rkey) = (value("va="), value("rkey=") as u32);
    let mut foreign = Foreign::new(&foreign_at);

    // The server does not know this host yet. It learns from the first packet, which is sent again like a lost one.
    for psn in PSN..PSN + 32 {
        if psn == PSN {
            foreign.send_next(&write(psn, va, rkey, psn as u8));
        }
        foreign.send_next(&write(psn, va, rkey, psn as u8));
        foreign.until_acknowledged(psn);
    }
    // The next WRITE, damaged. Only other identifications explain it, and no two in a row fit together.
    let next = PSN + 32;
    let mut damaged = 0u64;
    for step in 0..4000u16 {
        let id = step.wrapping_mul(9001);
        if id.wrapping_sub(foreign.id) > 2048 && foreign.id.wrapping_sub(id) > 64 {
            foreign.send(&write(next, va, rkey, 0xee), id);
            damaged += 1;
        }
    }
    foreign.send_next(&write(next, va + LEN as u64, rkey, 0x77));
    foreign.until_acknowledged(next);
    server.signal(Signal::TERM);
    let (code, printed, said) = server.wait();
    assert_eq!(code, Some(0), "{printed}\n{said}");
    // The address of the damaged packets has the bytes of the last good packet.
    let saved = std::fs::read(&save).unwrap();
    assert_eq!(saved[..LEN], [(next - 1) as u8; LEN]);
    assert_eq!(saved[LEN..2 * LEN], [0x77; LEN]);
    assert!(
        said.contains(&format!("0 with a wrong ICRC, 0 for no queue pair, {} dropped otherwise", damaged + 1)),
        "{said}"
    );
}
