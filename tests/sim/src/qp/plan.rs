//! The plan of a seed: the two ends, the requests, and the faults on the way.

use crate::rng::Rng;
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use transport::{Config, PeerKind};
use wire::rc::{PathMtu, Psn};

/// How bad the wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing is lost; packets overtake each other now and then.
    Clean,
    /// 1 % loss, reordering, duplication: everything completes.
    Mild,
    /// Much of every fault. Requests between our own peers complete. With RoCE peers the count of retries may run out.
    Rough,
}

/// Faults of packets in one direction: probabilities in millionths, and times.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Gone.
    pub loss: u32,
    /// Arrives twice.
    pub duplicate: u32,
    /// Waits for up to [`Faults::late`] longer than others.
    pub reorder: u32,
    /// Has other bits, or ends early.
    pub corrupt: u32,
    /// Carries a congestion mark.
    pub mark: u32,
    /// The shortest time on the way.
    pub base: Time,
    /// The random part that is added to it.
    pub jitter: Time,
    /// What is added to those that are late.
    pub late: Time,
    /// Times from and to which everything is lost.
    pub cuts: Vec<(Time, Time)>,
}

/// One end stops for good.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Which end: 0 or 1.
    pub side: usize,
    /// When.
    pub at: Time,
    /// When the other end is told; if `None`, it finds out by itself.
    pub told: Option<Time>,
}

/// All of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How bad the wire is.
    pub mood: Mood,
    /// Sizes of both endpoints.
    pub config: Config,
    /// What each end is for the other.
    pub kind: PeerKind,
    /// The path MTU.
    pub mtu: PathMtu,
    /// Connections at a time.
    pub connections: usize,
    /// Paths that they are spread over.
    pub paths: u32,
    /// The first PSN of each direction.
    pub psns: [Psn; 2],
    /// READs and atomic operations that may be outstanding.
    pub read_depth: u8,
    /// RoCE: the exponent of the timeout, retries, RNR retries.
    pub timeout: u8,
    /// See [`Plan::timeout`].
    pub retries: u8,
    /// See [`Plan::timeout`].
    pub rnr_retries: u8,
    /// The code of the RNR timer.
    pub rnr_timer: u8,
    /// Requests of each direction of each connection.
    pub requests: [u32; 2],
    /// Requests that are posted and not complete, at most.
    pub depth: usize,
    /// The longest message.
    pub longest: u32,
    /// Bytes of the area that READs, WRITEs and atomic operations are for.
    pub area: u32,
    /// Bytes of a posted receive.
    pub receive: u32,
    /// Receives that are posted ahead of their use.
    pub ahead: usize,
    /// How long posting one more receive may take.
    pub receive_delay: Time,
    /// One direction never gets a receive.
    pub starved: Option<usize>,
    /// Requests that cannot succeed, in a million.
    pub bad: u32,
    /// Whether the other end is told when a connection fails; otherwise it finds out by itself.
    pub told: bool,
    /// By direction, seen from its sender.
    pub faults: [Faults; 2],
    /// One end stops.
    pub death: Option<Death>,
    /// Packets that one poll may send, at most.
    pub room: u64,
    /// Packets that one poll takes, at most.
    pub burst: u64,
    /// Nanoseconds between polls of one end while it is busy.
    pub poll: Time,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(1);
        let mood = rng.pick(&[Mood::Clean, Mood::Mild, Mood::Mild, Mood::Rough, Mood::Rough]);
        let kind = rng.pick(&[PeerKind::Own, PeerKind::Own, PeerKind::Roce]);
        let mtu = rng.pick(&PathMtu::ALL);
        let large = rng.one_in(16);
        let connections = if large { 1 } else { rng.pick(&[1, 1, 2, 4]) };
        let longest = if large { 1 << 20 } else { rng.pick(&[4 * 1024, 16 * 1024, 40_000]) };
        let requests = if large { 6 } else { rng.between(4, 40) / connections as u64 + 2 } as u32;
        let give_up = if mood == Mood::Rough { 5 * SECOND } else { rng.pick(&[500 * MILLISECOND, 2 * SECOND]) };
        let depth = rng.pick(&[1, 4, 16, 40]);
        let ahead = rng.pick(&[1, 2, 8]);
        let config = Config {
            queue_pairs: 8,
            paths: 4,
            regions: 64,
            work: (depth * connections) as u32,
            receives: 64,
            replays: 4 * 128,
            completions: (connections * (depth + 16)) as u32,
            queue_depth: depth.max(ahead) as u32,
            path_window: rng.pick(&[8 << 10, 64 << 10, 1 << 20]),
            total_window: rng.pick(&[8 << 10, 100 << 10, 16 << 20]),
            queue_target: rng.pick(&[0, 0, 50]) * MICROSECOND,
            queue_least: rng.pick(&[0, 64 << 10]),
            hold: rng.pick(&[0, 50, 500]) * MICROSECOND,
            give_up,
        };
        let near_the_wrap = |rng: &mut Rng| Psn::new(Psn::COUNT - rng.below(200) as u32);
        let psns = [0, 1].map(|_| if rng.one_in(2) { near_the_wrap(&mut rng) } else { Psn::new(rng.bits() as u32) });
        let starved = rng.one_in(24).then(|| rng.below(2) as usize);
        let death = rng.one_in(16).then(|| {
            let at = rng.between(1, 4 * MILLISECOND);
            let told = rng.one_in(2).then(|| at + rng.between(0, 20 * MILLISECOND));
            Death { side: rng.below(2) as usize, at, told }
        });
        let read_depth = rng.pick(&[1, 2, 4, 16, 128]);
        Self {
            mood,
            config,
            kind,
            mtu,
            connections,
            paths: rng.between(1, 2) as u32,
            psns,
            read_depth,
            timeout: rng.pick(&[12, 14]),
            retries: 7,
            rnr_retries: if starved.is_some() { rng.below(4) as u8 } else { 7 },
            rnr_timer: rng.between(1, 14) as u8,
            requests: [requests, if rng.one_in(3) { 0 } else { requests }],
            depth,
            longest,
            area: longest.max(32 << 10) + (16 << 10),
            receive: rng.pick(&[512, 4096, 9000]),
            ahead,
            receive_delay: rng.pick(&[0, 0, 50 * MICROSECOND, 3 * MILLISECOND]),
            starved,
            bad: if rng.one_in(4) { 60_000 } else { 0 },
            told: rng.one_in(2),
            faults: [0, 1].map(|_| Faults::new(mood, &mut rng)),
            death,
            room: rng.pick(&[4, 16, 64]),
            burst: rng.pick(&[4, 16, 64]),
            poll: rng.pick(&[500, 5_000, 20_000]),
        }
    }

    /// Whether a request may end because nobody answered although the other end is well.
    pub fn may_exhaust(&self) -> bool {
        self.kind == PeerKind::Roce && self.mood == Mood::Rough
    }
}

impl Faults {
    fn new(mood: Mood, rng: &mut Rng) -> Self {
        let base = rng.between(1, 40) * MICROSECOND;
        let clean = Self {
            loss: 0,
            duplicate: 0,
            reorder: 0,
            corrupt: 0,
            mark: rng.pick(&[0, 0, 20_000]),
            base,
            jitter: rng.pick(&[0, 2, 20]) * MICROSECOND,
            late: rng.between(10, 400) * MICROSECOND,
            cuts: Vec::new(),
        };
        match mood {
            Mood::Clean => Self { reorder: rng.pick(&[0, 0, 5_000]), ..clean },
            Mood::Mild => Self { loss: 10_000, duplicate: 10_000, reorder: 20_000, ..clean },
            Mood::Rough => {
                let cut = |rng: &mut Rng| {
                    let from = rng.below(20 * MILLISECOND);
                    (from, from + rng.below(100 * MILLISECOND))
                };
                Self {
                    loss: rng.below(80_000) as u32,
                    duplicate: rng.below(80_000) as u32,
                    reorder: rng.below(150_000) as u32,
                    corrupt: rng.below(30_000) as u32,
                    cuts: if rng.one_in(3) { vec![cut(rng)] } else { Vec::new() },
                    late: rng.pick(&[1, 20]) * clean.late,
                    ..clean
                }
            }
        }
    }
}
