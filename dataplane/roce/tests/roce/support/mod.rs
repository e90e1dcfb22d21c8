//! Two roles over a wire of sockets.
#![allow(dead_code, reason = "each test uses a part of it")]

use frame::time::{MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Guarded, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time};
use roce::{
    Answer, Failed, Job, Lent, Outcome, QpSpec, Remote, Retry, Roce, RoceCommand, RoceConfig, RoceFraming, Work,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use wire::rc::{IcrcSeed, Ipv4Udp, PathMtu};

pub(crate) const PORT: PortId = PortId(0);

/// One end of the wire.
pub(crate) struct End {
    pub role: Roce,
    pub out: Outbox,
    pub ip: [u8; 4],
}

impl End {
    pub(crate) fn new(last: u8, lent: Option<Lent>) -> Self {
        let config = PoolConfig { frames: 512, chunk: 8192, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let ip = [192, 0, 2, last];
        let role = RoceConfig {
            port: PORT,
            ip,
            framing: RoceFraming::Socket,
            path_mtu: PathMtu::B1024,
            rkey: 0x1234_5678,
            seed: u32::from(last),
            queue_pairs: 4,
            reads: 8,
        };
        let out = Outbox::new(Pool::new(config).unwrap(), 1);
        Self { role: Roce::new(role, lent).unwrap(), out, ip }
    }

    pub(crate) fn command<T: Send + 'static>(
        &mut self,
        now: Time,
        command: impl FnOnce(Answer<T>) -> RoceCommand,
    ) -> mpsc::Receiver<T> {
        let (tell, told) = mpsc::channel();
        let command = command(Box::new(move |value| drop(tell.send(value))));
        self.role.command(now, command, &mut self.out);
        told
    }

    pub(crate) fn deliver(&mut self, now: Time, from: Peer, bytes: &[u8]) {
        let mut frame = self.out.alloc().unwrap();
        assert!(frame.append(bytes));
        let mut burst = Burst::new();
        burst.push(Datagram::new(frame, from, Class::Link, 0)).unwrap();
        self.role.receive(now, PORT, &mut burst, &mut self.out);
    }
}

pub(crate) fn peer(ip: [u8; 4]) -> Peer {
    let mut peer = Peer::socket(PORT, SocketAddr::from((Ipv4Addr::from(ip), 4791)));
    peer.local = Peer::ROCE;
    peer
}

/// The fields that another maker's host writes into the IPv4 header of each packet: identification, and flags with
/// fragment offset.
pub(crate) type Habit = Box<dyn FnMut(Time) -> (u16, u16)>;

/// Gives a packet the ICRC that it would have behind such a header.
pub(crate) fn seal(packet: &mut [u8], from: [u8; 4], to: [u8; 4], (id, fragment): (u16, u16)) {
    let fields = Ipv4Udp { id, fragment, source: from, destination: to, source_port: 4791, destination_port: 4791 };
    assert!(IcrcSeed::roce_fields(&fields, packet.len()).unwrap().seal(packet));
}

/// Two ends with a connected queue pair, and what happens to packets between them.
pub(crate) struct Wire {
    pub ends: [End; 2],
    pub qpns: [u32; 2],
    pub now: Time,
    /// One of this many packets is lost; 0: none.
    pub loss: u32,
    pub random: u32,
    pub cut: bool,
    /// The habits of the ends that are another maker's; `None` for our own.
    pub habits: [Option<Habit>; 2],
}

impl Wire {
    pub(crate) fn new(lent: Lent) -> Self {
        let mut ends = [End::new(1, None), End::new(2, Some(lent))];
        let qpns = [0, 1].map(|end| {
            let end: &mut End = &mut ends[end];
            end.command(0, |answer| RoceCommand::Create(None, answer)).recv().unwrap().unwrap()
        });
        for (end, other) in [(0, 1), (1, 0)] {
            let remote = Remote { ip: ends[other].ip, qpn: qpns[other], psn: qpns[other], reads: 8 };
            let retry = Retry { timeout: MILLISECOND, ..Retry::default() };
            let (qpn, path_mtu) = (qpns[end], PathMtu::B1024);
            let spec = QpSpec { qpn, psn: qpn, reads: 8, path_mtu, remote, retry };
            ends[end].command(0, |answer| RoceCommand::Connect(spec, answer)).recv().unwrap().unwrap();
        }
        Self { ends, qpns, now: 0, loss: 0, random: 1, cut: false, habits: [None, None] }
    }

    pub(crate) fn is_lost(&mut self) -> bool {
        self.random = self.random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        self.cut || (self.loss > 0 && (self.random >> 16).is_multiple_of(self.loss))
    }

    /// Carries packets and lets time pass until `done` returns a value.
    pub(crate) fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        while self.now < 100 * SECOND {
            for from in 0..2 {
                while let Some(sent) = self.ends[from].out.queue(PORT).unwrap().take() {
                    let to = 1 - from;
                    assert_eq!(sent.peer.ipv4_octets(), Some(self.ends[to].ip));
                    assert_eq!((sent.peer.udp_port, sent.peer.is_roce()), (4791, true));
                    let chosen = self.habits[from].as_mut().map(|habit| habit(self.now));
                    if !self.is_lost() {
                        let (now, source) = (self.now, peer(self.ends[from].ip));
                        let mut packet = sent.frame.data().to_vec();
                        if let Some(chosen) = chosen {
                            seal(&mut packet, self.ends[from].ip, self.ends[to].ip, chosen);
                        }
                        self.ends[to].deliver(now, source, &packet);
                    }
                }
            }
            if let Some(done) = done(self) {
                return done;
            }
            let waits = self.ends.iter().any(|end| !end.out.is_empty());
            let deadlines = self.ends.iter().filter_map(|end| end.role.deadline()).min();
            self.now += if waits { 1000 } else { deadlines.unwrap_or(0).saturating_sub(self.now).clamp(1000, SECOND) };
            for end in &mut self.ends {
                end.role.advance(self.now, &mut end.out);
            }
        }
        panic!("it never ends");
    }

    pub(crate) fn work(&mut self, rkey: u32, work: Work) -> Result<Outcome, Failed> {
        let (now, qpn) = (self.now, self.qpns[0]);
        let told = self.ends[0].command(now, |answer| RoceCommand::Work(Job { qpn, rkey, work }, answer));
        self.until(|_| told.try_recv().ok())
    }

    pub(crate) fn lent(&self) -> roce::LentRegion {
        self.ends[1].role.region().unwrap()
    }
}

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 7) ^ (at >> 8)) as u8).collect()
}

pub(crate) fn lent(len: usize) -> Lent {
    let mut bytes = Guarded::new(len, Hugepages::Never).unwrap();
    bytes.copy_from_slice(&pattern(len));
    Lent { bytes, write: true, atomic: true }
}
